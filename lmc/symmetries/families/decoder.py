"""The layout that Llama, Mistral, Qwen and OLMo share: rotary attention, grouped queries, a gated feed-forward layer.

What differs between them, each says in its own file: the norms, the stream's group, and how much of a rotary plane's
freedom is left.
"""

from collections.abc import Iterator
from typing import Any

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.common import hidden_units, move_values, norm
from lmc.symmetries.families.heads import head
from lmc.symmetries.groups import Group, Invertible, Orthogonal, Permutation, RotaryCommutant
from lmc.symmetries.spec import ModelSpec, Move, Norm, Space, layered

LAYER = "model.layers.{l}."
ATTENTION, MLP = LAYER + "self_attn.", LAYER + "mlp."


def decoder(
    model: Any,
    family: str,
    stream: tuple[Space, ...],
    phases: bool = True,
    value: type[Group] = Invertible,
    norms: tuple[Norm, ...] = (),
    own: tuple[Space, ...] = (),
    more: dict[str, str] | None = None,
    **table: Any,
) -> ModelSpec:
    """The table of a decoder.

    `stream`: the residual stream's spaces. `phases`: whether a rotary plane may be multiplied by any complex number, or
    by −1 only. `value`: the group inside a value head. `own`, `more`: spaces and patterns that others do not have, for
    one layer.
    """
    config, present, top = model.config, set(model.state_dict()), head(model, "model.embed_tokens.weight")
    width = model.model.layers[0].self_attn.head_dim
    if 2 * model.model.rotary_emb.inv_freq.shape[0] != width:
        raise UnsupportedModelError(f"{type(model).__name__}: expected rotary positions on all {width} dims of a head")
    heads, attention = _attention(config, width, phases, value)
    units, feed_forward = _feed_forward(config)
    one = attention | feed_forward | (more or {})
    one = {name: pattern for name, pattern in one.items() if name.format(l=0) in present}
    spaces, rules = layered(config.num_hidden_layers, (*heads, *own, *units), one)
    return ModelSpec(
        family=family,
        free={"vocab": config.vocab_size, "freq": width // 2, **top.classes} | ({} if phases else {"plane": 2}),
        spaces=(*stream, *spaces),
        rules={"model.embed_tokens.weight": "vocab stream!", **rules, **top.rules},
        norms=(*norms, norm("model.norm", present, top.name)),
        moves=tuple(_moves(config.num_hidden_layers, present)) if value is Invertible else (),
        logits=top.logits,
        tied=top.tied,
        **table,
    )


def _attention(config: Any, width: int, phases: bool, value: type[Group]) -> tuple[list[Space], dict[str, str]]:
    """The spaces and the rules of one layer's attention. A group of query heads may share one key and value head."""
    groups, shared = config.num_key_value_heads, config.num_attention_heads // config.num_key_value_heads
    spaces = [Space("head", Permutation(groups)), Space("value", value(width), over=("head",))]
    query = "head"
    if shared > 1:
        spaces.append(Space("query", Permutation(shared), over=("head",)))
        query = "head query"
    # The rotary module turns the pairs (i, i + r/2), so a pair is the outer factor and its frequency the inner one.
    if phases:
        spaces.append(Space("plane", RotaryCommutant(), over=("head", "freq")))
        turned, against = "plane freq", "plane* freq"
    else:
        spaces.append(Space("flip", Orthogonal(1), over=("head", "freq")))
        turned = against = "plane flip freq"
    return spaces, {
        ATTENTION + "q_proj.weight": f"({query} {turned}) stream?",
        ATTENTION + "q_proj.bias": f"({query} {turned})",
        ATTENTION + "k_proj.weight": f"(head {against}) stream?",
        ATTENTION + "k_proj.bias": f"(head {against})",
        ATTENTION + "v_proj.weight": "(head value) stream?",
        ATTENTION + "v_proj.bias": "(head value)",
        ATTENTION + "o_proj.weight": f"stream! ({query} value*)",
        ATTENTION + "o_proj.bias": "stream!",
    }


def _feed_forward(config: Any) -> tuple[tuple[Space, ...], dict[str, str]]:
    """The spaces and the rules of one layer's feed-forward part."""
    units, written, read = hidden_units(config.intermediate_size, gated=True)
    return units, {
        MLP + "gate_proj.weight": "hidden stream?",
        MLP + "gate_proj.bias": "hidden",
        MLP + "up_proj.weight": f"{written} stream?",
        MLP + "up_proj.bias": written,
        MLP + "down_proj.weight": f"stream! {read}",
        MLP + "down_proj.bias": "stream!",
    }


def _moves(layers: int, present: set[str]) -> Iterator[Move]:
    for layer in range(layers):
        here = ATTENTION.format(l=layer)
        if {here + "v_proj.bias", here + "o_proj.bias"} <= present:
            yield move_values(here + "v_proj.bias", here + "o_proj", layer)


def pre_norms(model: Any) -> tuple[Norm, ...]:
    """The norms before every attention and every feed-forward layer."""
    present = set(model.state_dict())
    norms = []
    for layer in range(model.config.num_hidden_layers):
        here, attention, mlp = (name.format(l=layer) for name in (LAYER, ATTENTION, MLP))
        norms.append(norm(here + "input_layernorm", present, *(attention + f"{part}_proj" for part in "qkv")))
        norms.append(norm(here + "post_attention_layernorm", present, mlp + "gate_proj", mlp + "up_proj"))
    return tuple(norms)
