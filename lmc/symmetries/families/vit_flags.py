"""Which VisionTransformers of timm the vit table describes; every other flag of the constructor is refused by name."""

from collections.abc import Callable
from typing import Any

from torch import nn

from lmc.errors import UnsupportedModelError


def refuse_variants(model: Any) -> None:
    """Raise UnsupportedModelError, naming the constructor flag, for every variant this table does not describe."""
    block, plain = model.blocks[0], (nn.Identity, nn.Dropout)

    def absent(module: Any, part: str) -> bool:
        """Whether a module has no such part, or one that does nothing: what older timm has not, it does not do."""
        return isinstance(getattr(module, part, None), (*plain, type(None)))

    # In order: what a flag looks at is only there if those before it are plain.
    flags: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("embed_layer", lambda: type(model.patch_embed).__name__ == "PatchEmbed"),
        ("block_fn", lambda: all(type(b).__name__ == "Block" for b in model.blocks)),
        ("attn_layer", lambda: type(block.attn).__name__ == "Attention"),
        ("mlp_layer", lambda: type(block.mlp).__name__ == "Mlp"),
        ("global_pool", lambda: model.attn_pool is None and model.global_pool in ("token", "avg")),
        ("pool_include_prefix", lambda: not getattr(model, "pool_include_prefix", False)),  # newer timm only
        ("pos_embed", lambda: model.pos_embed is not None),
        ("pre_norm", lambda: absent(model, "norm_pre")),
        ("embed_norm_layer", lambda: absent(model.patch_embed, "norm")),
        ("dynamic_img_size", lambda: not model.dynamic_img_size),
        ("num_classes", lambda: isinstance(model.head, nn.Linear)),
        ("dynamic_img_pad", lambda: not model.patch_embed.dynamic_img_pad),
        ("norm_layer", lambda: type(block.norm1).__name__ == "LayerNorm"),  # timm's, or torch's
        ("final_norm", lambda: isinstance(model.norm, nn.LayerNorm) or isinstance(model.fc_norm, nn.LayerNorm)),
        ("qk_norm", lambda: absent(block.attn, "q_norm")),
        ("scale_attn_norm", lambda: absent(block.attn, "norm") and absent(block.attn, "gate")),
        ("scale_mlp_norm", lambda: absent(block.mlp, "norm")),
    )
    for flag, supported in flags:
        if not supported():
            raise UnsupportedModelError(f"VisionTransformer: this value of {flag} is not supported by the vit table")
