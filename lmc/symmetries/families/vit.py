"""timm's VisionTransformer with plain blocks: LayerNorm, fused qkv, GELU MLP, optional LayerScale and registers."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from lmc.symmetries.families.attention import move_values, plain_heads
from lmc.symmetries.families.common import Images, norm
from lmc.symmetries.families.feed_forward import hidden_units
from lmc.symmetries.families.vit_flags import refuse_variants
from lmc.symmetries.groups import Orthogonal
from lmc.symmetries.spec import Dead, Gain, ModelSpec, Move, Norm, Space, both, layered

BLOCK = "blocks.{l}."
QKV, OUT, UP, DOWN = (BLOCK + part for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"))


def spec(model: Any) -> ModelSpec:
    """The table of a `timm.models.VisionTransformer`. Raises UnsupportedModelError, naming the flag, for variants."""
    refuse_variants(model)
    present, layers, patch = set(model.state_dict()), range(len(model.blocks)), model.patch_embed.proj.weight.shape
    spaces, rules = layered(len(layers), *_layer(model.blocks[0]))
    rules |= {
        "patch_embed.proj.weight": "stream! channel row column",
        "patch_embed.proj.bias": "stream!",
        "pos_embed": "one patch stream!" if model.no_embed_class else "one [cls | register | patch] stream!",
        "cls_token": "one cls stream!",
        "reg_token": "one register stream!",
        "head.weight": "class stream?",
        "head.bias": "class",
    }
    final = "norm" if isinstance(model.norm, nn.LayerNorm) else "fc_norm"
    return ModelSpec(
        family="vit",
        free={
            "one": 1,
            "cls": int(model.has_class_token),
            "patch": model.patch_embed.num_patches,
            "register": model.num_reg_tokens,
            "channel": patch[1],
            "row": patch[2],
            "column": patch[3],
            "class": model.num_classes,
        },
        spaces=(Space("stream", Orthogonal(model.embed_dim, fixes_ones=True)), *spaces),
        rules={name: pattern for name, pattern in rules.items() if name in present},
        stream_norm="layernorm",
        norms=(*_norms(layers, present), norm(final, present, "head")),
        gains=tuple(_gains(layers, present)),
        moves=tuple(_moves(layers, present, () if model.no_embed_class else ("cls", "register"))),
        dead=tuple(Dead(bias, f"qk.{layer}*") for layer in layers if (bias := _bias(layer, present))),
        logits=tuple(name for name in ("head.weight", "head.bias") if name in present),
    )


def _layer(block: Any) -> tuple[tuple[Space, ...], dict[str, str]]:
    """The spaces and the rules of one layer."""
    activation = "relu" if isinstance(block.mlp.act, nn.ReLU) else ""
    units, written, read = hidden_units(block.mlp.fc1.out_features, activation)
    fused = "[head qk | head qk* | head value]"
    return (*plain_heads(block.attn.num_heads, block.attn.head_dim), *units), {
        **both(QKV, fused, "stream?"),
        **both(OUT, "stream!", "(head value*)"),
        **both(UP, written, "stream?"),
        **both(DOWN, "stream!", read),
    }


def _norms(layers: range, present: set[str]) -> Iterator[Norm]:
    for layer in layers:
        here, qkv, up = (name.format(l=layer) for name in (BLOCK, QKV, UP))
        yield norm(here + "norm1", present, qkv)
        yield norm(here + "norm2", present, up)


def _gains(layers: range, present: set[str]) -> Iterator[Gain]:
    """LayerScale, where it is there: what a sublayer writes can absorb it."""
    for layer in layers:
        for scale, written in (("ls1", OUT), ("ls2", DOWN)):
            gain, into = BLOCK.format(l=layer) + scale + ".gamma", written.format(l=layer)
            if gain in present:
                yield Gain(gain, tuple(name for name in (into + ".weight", into + ".bias") if name in present))


def _bias(layer: int, present: set[str]) -> str | None:
    """The bias of query, key and value. Without one, the weight keeps the norm's bias in its mean direction."""
    here, qkv = BLOCK.format(l=layer), QKV.format(l=layer)
    if qkv + ".bias" in present:
        return qkv + ".bias"
    return qkv + ".weight" if here + "norm1.bias" in present else None


def _moves(layers: range, present: set[str], prefixed: tuple[str, ...]) -> Iterator[Move]:
    """Biases of values go into those of the output; what is added to every position of a kind, into the positions."""
    for layer in layers:
        bias, out = _bias(layer, present), OUT.format(l=layer)
        if bias and out + ".bias" in present:
            yield move_values(bias, out, layer)
    yield Move("patch_embed.proj.bias", "pos_embed", rows="patch")
    for rows, name in (("cls", "cls_token"), ("register", "reg_token")):
        if rows in prefixed and name in present:
            yield Move(name, "pos_embed", rows=rows)


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
