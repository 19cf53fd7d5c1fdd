"""GPT-NeoX (Pythia): LayerNorm, biases, partial rotary attention, parallel or sequential residual."""

from collections.abc import Iterator
from typing import Any

from lmc.symmetries.families.common import norm
from lmc.symmetries.families.feed_forward import hidden_units
from lmc.symmetries.families.heads import head
from lmc.symmetries.groups import Invertible, Orthogonal, Permutation, RotaryCommutant, Scale
from lmc.symmetries.spec import Dead, Epsilon, ModelSpec, Move, Norm, Space, layered

LAYER = "gpt_neox.layers.{l}."
QKV, OUT = LAYER + "attention.query_key_value", LAYER + "attention.dense"
UP, DOWN = LAYER + "mlp.dense_h_to_4h", LAYER + "mlp.dense_4h_to_h"


def spec(model: Any) -> ModelSpec:
    """The table of a GPT-NeoX with any of its heads."""
    config, present, top = model.config, set(model.state_dict()), head(model, "gpt_neox.embed_in.weight")
    # The width of the cos table, which need not be int(fraction · head_dim) when that is odd.
    rotary = 2 * model.gpt_neox.rotary_emb.inv_freq.shape[0]
    rows = {name: pattern for name, pattern in _rules(config, rotary).items() if name.format(l=0) in present}
    spaces, rules = layered(config.num_hidden_layers, _spaces(config, rotary), rows)
    return ModelSpec(
        family="gpt_neox",
        free={"vocab": config.vocab_size, "freq": rotary // 2, **top.classes},
        spaces=(Space("stream", Orthogonal(config.hidden_size, fixes_ones=True)), Space("scale", Scale()), *spaces),
        rules={"gpt_neox.embed_in.weight": "vocab stream!", **rules, **top.rules},
        stream_norm="layernorm",
        norms=(*_norms(config, present), norm("gpt_neox.final_layer_norm", present, top.name)),
        moves=tuple(_moves(config)),
        dead=tuple(_dead(config)) if "pass" in _qkv(config, rotary) else (),
        epsilon=Epsilon("layer_norm_eps", "eps"),
        logits=top.logits,
        tied=top.tied,
    )


def _qkv(config: Any, rotary: int) -> str:
    """Query, key and value of one head: the dimensions that positions turn, and those that pass unturned."""
    # The rotary module turns the pairs (i, i + r/2), so a pair is the outer factor and its frequency the inner one.
    if rotary == 0:
        return "[pass | pass* | value]"
    if rotary == config.hidden_size // config.num_attention_heads:
        return "[plane freq | plane* freq | value]"
    return "[plane freq | pass | plane* freq | pass* | value]"


def _spaces(config: Any, rotary: int) -> tuple[Space, ...]:
    """The spaces of one layer."""
    width, qkv = config.hidden_size // config.num_attention_heads, _qkv(config, rotary)
    units, _, _ = hidden_units(config.intermediate_size, config.hidden_act)
    planes = (Space("plane", RotaryCommutant(), over=("head", "freq")),) if "plane" in qkv else ()
    passing = (Space("pass", Invertible(width - rotary), over=("head",)),) if "pass" in qkv else ()
    return (
        Space("head", Permutation(config.num_attention_heads)),
        Space("value", Invertible(width), over=("head",)),
        *(*units, *planes, *passing),
    )


def _rules(config: Any, rotary: int) -> dict[str, str]:
    """The rules of one layer; attention need not have biases."""
    _, written, read = hidden_units(config.intermediate_size, config.hidden_act)
    return {
        QKV + ".weight": f"(head {_qkv(config, rotary)}) stream?",
        OUT + ".weight": "stream! (head value*)",
        UP + ".weight": f"{written} stream?",
        UP + ".bias": written,
        DOWN + ".weight": f"stream! {read}",
        DOWN + ".bias": "stream!",
        QKV + ".bias": f"(head {_qkv(config, rotary)})",
        OUT + ".bias": "stream!",
    }


def _norms(config: Any, present: set[str]) -> Iterator[Norm]:
    for layer in range(config.num_hidden_layers):
        here, qkv, up = (name.format(l=layer) for name in (LAYER, QKV, UP))
        yield norm(here + "input_layernorm", present, qkv)
        yield norm(here + "post_attention_layernorm", present, up)


def _bias(config: Any) -> str:
    """The bias of query, key and value. Without one, the weight keeps the norm's bias in its mean direction."""
    return QKV + (".bias" if config.attention_bias else ".weight")


def _moves(config: Any) -> Iterator[Move]:
    for layer in range(config.num_hidden_layers):
        bias, out, down = (name.format(l=layer) for name in (_bias(config), OUT, DOWN))
        if config.attention_bias or config.use_parallel_residual:
            into = (out if config.attention_bias else down) + ".bias"
            yield Move(bias, into, f"value.{layer}", through=out + ".weight")
        if config.attention_bias and config.use_parallel_residual:  # both sublayers add to one stream: one is enough
            yield Move(out + ".bias", down + ".bias")


def _dead(config: Any) -> Iterator[Dead]:
    for layer in range(config.num_hidden_layers):
        yield Dead(_bias(config).format(l=layer), f"pass.{layer}*")
