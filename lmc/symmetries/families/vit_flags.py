"""Which VisionTransformers of timm the vit table describes; every other flag of the constructor is refused by name."""

from collections.abc import Callable
from typing import Any

from torch import nn

from lmc.errors import UnsupportedModelError


def refuse_variants(model: Any) -> None:
    """Raise UnsupportedModelError, naming the constructor flag, for every variant this table does not describe."""
    block = model.blocks[0]

    def final() -> str:
        norms = [m for m in (model.norm, model.fc_norm) if isinstance(m, nn.LayerNorm)]
        return "LayerNorm" if norms else _part(model, "norm")

    # A flag, what is described, and what the model has. In order: each looks at what is only there if those before fit.
    flags: tuple[tuple[str, tuple[object, ...], Callable[[], object]], ...] = (
        ("embed_layer", ("PatchEmbed",), lambda: _kind(model.patch_embed)),
        ("block_fn", ("Block",), lambda: next((k for b in model.blocks if (k := _kind(b)) != "Block"), "Block")),
        ("attn_layer", ("Attention",), lambda: _kind(block.attn)),
        ("mlp_layer", ("Mlp",), lambda: _kind(block.mlp)),
        ("global_pool", ("token", "avg"), lambda: model.global_pool if model.attn_pool is None else "map"),
        ("pool_include_prefix", (False,), lambda: getattr(model, "pool_include_prefix", False)),  # newer timm only
        ("pos_embed", ("learn",), lambda: "none" if model.pos_embed is None else "learn"),
        ("pre_norm", ("none",), lambda: _part(model, "norm_pre")),
        ("embed_norm_layer", ("none",), lambda: _part(model.patch_embed, "norm")),
        ("dynamic_img_size", (False,), lambda: model.dynamic_img_size),
        ("num_classes", ("a head",), lambda: "a head" if isinstance(model.head, nn.Linear) else model.num_classes),
        # A head that was put there later has a number of its own.
        ("num_classes", (getattr(model.head, "out_features", 0),), lambda: model.num_classes),
        ("dynamic_img_pad", (False,), lambda: model.patch_embed.dynamic_img_pad),
        ("norm_layer", ("LayerNorm",), lambda: _kind(block.norm1)),  # timm's, or torch's
        ("final_norm", ("LayerNorm",), final),
        ("qk_norm", ("none",), lambda: _part(block.attn, "q_norm")),
        ("scale_attn_norm", ("none",), lambda: _part(block.attn, "norm", "gate")),
        ("scale_mlp_norm", ("none",), lambda: _part(block.mlp, "norm")),
    )
    for flag, described, look in flags:
        if (found := look()) not in described:
            expected = " or ".join(map(str, described))
            raise UnsupportedModelError(f"VisionTransformer: {flag}: expected {expected}, found {found}")


def _kind(module: Any) -> str:
    return type(module).__name__


def _part(module: Any, *names: str) -> str:
    """What a module has as one of these parts; none also for what does nothing, and for what older timm has not."""
    parts = (getattr(module, name, None) for name in names)
    return next((_kind(part) for part in parts if not isinstance(part, nn.Identity | nn.Dropout | None)), "none")
