"""timm's VisionTransformer with plain blocks: LayerNorm, fused qkv, GELU MLP, optional LayerScale and registers."""

from typing import Any

from torch import nn

from lmc.symmetries.families.common import Images, hidden_units, reader
from lmc.symmetries.families.vit_flags import refuse_variants
from lmc.symmetries.groups import Invertible, Orthogonal, Permutation
from lmc.symmetries.spec import Dead, Gain, ModelSpec, Move, Norm, Space, layered


def spec(model: Any) -> ModelSpec:
    """The table of a `timm.models.VisionTransformer`. Raises UnsupportedModelError, naming the flag, for variants."""
    refuse_variants(model)
    d, layers, block = model.embed_dim, len(model.blocks), model.blocks[0]
    heads, head_dim = block.attn.num_heads, block.attn.head_dim
    channels, *patch = model.patch_embed.proj.weight.shape[1:]

    activation = "relu" if isinstance(block.mlp.act, nn.ReLU) else ""
    units, written, read = hidden_units(block.mlp.fc1.out_features, activation)
    layer_spaces = (
        Space("head", Permutation(heads)),
        Space("qk", Invertible(head_dim), over=("head",)),
        Space("value", Invertible(head_dim), over=("head",)),
        *units,
    )
    here = "blocks.{l}."
    qkv = "[head qk | head qk* | head value]"
    layer_rules = {
        here + "attn.qkv.weight": f"{qkv} stream?",
        here + "attn.qkv.bias": qkv,
        here + "attn.proj.weight": "stream! (head value*)",
        here + "attn.proj.bias": "stream!",
        here + "mlp.fc1.weight": f"{written} stream?",
        here + "mlp.fc1.bias": written,
        here + "mlp.fc2.weight": f"stream! {read}",
        here + "mlp.fc2.bias": "stream!",
    }
    present = set(model.state_dict())
    spaces, rules = layered(layers, layer_spaces, layer_rules)
    rules |= {
        "patch_embed.proj.weight": "stream! channel row column",
        "patch_embed.proj.bias": "stream!",
        "pos_embed": "one patch stream!" if model.no_embed_class else "one [cls | register | patch] stream!",
        "cls_token": "one cls stream!",
        "reg_token": "one register stream!",
        "head.weight": "class stream?",
        "head.bias": "class",
    }
    rules = {name: pattern for name, pattern in rules.items() if name in present}

    def norm(module: str, read_by: str) -> Norm:
        affine = module + ".weight" in present
        weight, bias = (module + part if affine else None for part in (".weight", ".bias"))
        return Norm(module, weight, bias, (reader(read_by, present),))

    norms, moves, gains, dead = [], [], [], []
    for layer in range(layers):
        qkv_name, proj, fc2 = (f"blocks.{layer}.{part}" for part in ("attn.qkv", "attn.proj", "mlp.fc2"))
        norms += [norm(f"blocks.{layer}.norm1", qkv_name), norm(f"blocks.{layer}.norm2", f"blocks.{layer}.mlp.fc1")]
        for name, gain in ((proj, f"blocks.{layer}.ls1.gamma"), (fc2, f"blocks.{layer}.ls2.gamma")):
            if gain in present:
                gains.append(Gain(gain, tuple(n for n in (name + ".weight", name + ".bias") if n in present)))
        # Without a bias of its own, qkv keeps its norm's bias in the mean direction of its weight.
        biased = qkv_name + ".bias" in present
        if biased or f"blocks.{layer}.norm1.bias" in present:
            bias = qkv_name + (".bias" if biased else ".weight")
            dead.append(Dead(bias, f"qk.{layer}*"))
            if proj + ".bias" in present:
                moves.append(Move(bias, proj + ".bias", f"value.{layer}", through=proj + ".weight"))
    final = "norm" if isinstance(model.norm, nn.LayerNorm) else "fc_norm"
    norms.append(norm(final, "head"))
    # What is added to every position of a kind, the position embedding can carry.
    moves.append(Move("patch_embed.proj.bias", "pos_embed", rows="patch"))
    if not model.no_embed_class:
        prefix = {"cls_token": "cls", "reg_token": "register"}
        moves += [Move(name, "pos_embed", rows=rows) for name, rows in prefix.items() if name in present]

    return ModelSpec(
        family="vit",
        free={
            "one": 1,
            "cls": int(model.has_class_token),
            "patch": model.patch_embed.num_patches,
            "register": model.num_reg_tokens,
            "channel": channels,
            "row": patch[0],
            "column": patch[1],
            "class": model.num_classes,
        },
        spaces=(Space("stream", Orthogonal(d, fixes_ones=True)), *spaces),
        rules=rules,
        stream_norm="layernorm",
        norms=tuple(norms),
        gains=tuple(gains),
        moves=tuple(moves),
        dead=tuple(dead),
        logits=tuple(name for name in ("head.weight", "head.bias") if name in present),
    )


def settings(model: Any) -> dict[str, object]:
    """Everything that changes the function and is not visible in a shape."""
    block = model.blocks[0]
    return {
        "num_heads": block.attn.num_heads,
        "act_layer": repr(block.mlp.act),
        "global_pool": model.global_pool,
        "no_embed_class": model.no_embed_class,
        "norm_eps": tuple(m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)),
        "img_size": tuple(model.patch_embed.img_size),
    }


def images(model: Any) -> Images:
    """What the model reads."""
    height, width = model.patch_embed.img_size
    return Images((model.patch_embed.proj.in_channels, height, width), model.num_classes)
