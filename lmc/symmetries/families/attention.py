"""Attention: the spaces of its heads; the rules of the rotary one with grouped queries, and what its biases leave."""

from collections.abc import Container, Iterator
from typing import Any

from lmc.errors import UnsupportedModelError
from lmc.symmetries.groups import Group, Invertible, Orthogonal, Permutation, RotaryCommutant
from lmc.symmetries.spec import Dead, Move, Root, Space, both

ATTENTION = "model.layers.{l}.self_attn."


def plain_heads(count: int, width: int) -> tuple[Space, ...]:
    """The spaces of attention whose positions are elsewhere: of queries against keys, and of values, every basis."""
    return (
        Space("head", Permutation(count)),
        Space("qk", Invertible(width), over=("head",)),
        Space("value", Invertible(width), over=("head",)),
    )


def move_values(bias: str, out: str, layer: int) -> Move:
    """The bias of a layer's values. Attention averages values, which leaves a constant alone, so `out` can carry it."""
    return Move(bias, out + ".bias", f"value.{layer}", through=out + ".weight")


def rotary(model: Any) -> int:
    """How many dimensions of a head the positions turn, by the table of angles: not a fraction rounded again."""
    frequencies = (b for name, b in model.model.rotary_emb.named_buffers() if name.endswith("inv_freq"))
    return 2 * next(frequencies).shape[0]


def attention(
    config: Any, width: int, turns: int, phases: bool, value: type[Group]
) -> tuple[list[Space], dict[str, str]]:
    """The spaces and the rules of one layer's attention. A group of query heads may share one key and value head."""
    groups, (shared, rest) = config.num_key_value_heads, divmod(config.num_attention_heads, config.num_key_value_heads)
    if rest or not shared:  # no stock class computes with such numbers, but it can be built
        what = f"a divisor of num_attention_heads, {config.num_attention_heads}, found {groups}"
        raise UnsupportedModelError(f"num_key_value_heads: expected {what}; look into config.json")
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
    if turns < width:
        spaces.append(Space("pass", Invertible(width - turns), over=("head",)))
        turned, against = f"[{turned} | pass]", f"[{against} | pass*]"
    fused = f"[{query} {turned} | head {against} | head value]"
    return spaces, {
        **both(ATTENTION + "q_proj", f"({query} {turned})", "stream?"),
        **both(ATTENTION + "k_proj", f"(head {against})", "stream?"),
        **both(ATTENTION + "v_proj", "(head value)", "stream?"),
        ATTENTION + "qkv_proj.weight": f"{fused} stream?",
        **both(ATTENTION + "o_proj", "stream!", f"({query} value*)"),
    }


def moves(layers: int, present: Container[str]) -> Iterator[Move]:
    for layer in range(layers):
        here = ATTENTION.format(l=layer)
        if here + "v_proj.bias" in present and here + "o_proj.bias" in present:
            yield move_values(here + "v_proj.bias", here + "o_proj", layer)


def dead(layers: int, present: Container[str]) -> Iterator[Dead]:
    """Of keys that positions do not turn, softmax removes a constant: a bias, or what a norm's has left in a weight."""
    for layer in range(layers):
        keys, norm = (ATTENTION + "k_proj.").format(l=layer), f"model.layers.{layer}.input_layernorm.bias"
        if keys + "bias" in present or norm in present:
            yield Dead(keys + ("bias" if keys + "bias" in present else "weight"), f"pass.{layer}*")


def whole_norms(config: Any, present: Container[str]) -> Iterator[Root]:
    """Norms over the queries of all heads, and over the keys of all: more heads are more channels to them."""
    for layer in range(config.num_hidden_layers):
        shared = (f"query.{layer}",) if config.num_attention_heads > config.num_key_value_heads else ()
        for part, axes in (("q", (f"head.{layer}", *shared)), ("k", (f"head.{layer}",))):
            here = ATTENTION.format(l=layer) + part
            yield Root(here + "_norm.weight", axes, 1)
            yield from (
                Root(here + f"_proj.{n}", axes, -1) for n in ("weight", "bias") if here + f"_proj.{n}" in present
            )
