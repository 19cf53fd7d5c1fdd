"""The layout that Llama, Mistral, Qwen and OLMo share: rotary attention, grouped queries, a gated feed-forward layer.

What differs between them, each says in its own file: the norms, the stream's group, and how much of a rotary plane's
freedom is left.
"""

from typing import Any

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.common import hidden_units, reader
from lmc.symmetries.groups import Group, Invertible, Orthogonal, Permutation, RotaryCommutant
from lmc.symmetries.spec import ModelSpec, Move, Norm, Space, layered


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
    config, present = model.config, set(model.state_dict())
    attention = model.model.layers[0].self_attn
    heads, groups, width = config.num_attention_heads, config.num_key_value_heads, attention.head_dim
    # The rotary module turns the pairs (i, i + r/2), so a pair is the outer factor and its frequency the inner one.
    if 2 * model.model.rotary_emb.inv_freq.shape[0] != width:
        raise UnsupportedModelError(f"{type(model).__name__}: expected rotary positions on all {width} dims of a head")
    spaces = [Space("head", Permutation(groups)), Space("value", value(width), over=("head",))]
    query = "head"
    if heads > groups:  # a group of query heads shares one key and value head
        spaces.append(Space("query", Permutation(heads // groups), over=("head",)))
        query = "head query"
    if phases:
        spaces.append(Space("plane", RotaryCommutant(), over=("head", "freq")))
        turned, against = "plane freq", "plane* freq"
    else:
        spaces.append(Space("flip", Orthogonal(1), over=("head", "freq")))
        turned = against = "plane flip freq"
    units, written, read = hidden_units(config.intermediate_size, gated=True)

    here = "model.layers.{l}."
    attn, mlp = here + "self_attn.", here + "mlp."
    rules = {
        attn + "q_proj.weight": f"({query} {turned}) stream?",
        attn + "q_proj.bias": f"({query} {turned})",
        attn + "k_proj.weight": f"(head {against}) stream?",
        attn + "k_proj.bias": f"(head {against})",
        attn + "v_proj.weight": "(head value) stream?",
        attn + "v_proj.bias": "(head value)",
        attn + "o_proj.weight": f"stream! ({query} value*)",
        attn + "o_proj.bias": "stream!",
        mlp + "gate_proj.weight": "hidden stream?",
        mlp + "gate_proj.bias": "hidden",
        mlp + "up_proj.weight": f"{written} stream?",
        mlp + "up_proj.bias": written,
        mlp + "down_proj.weight": f"stream! {read}",
        mlp + "down_proj.bias": "stream!",
        **(more or {}),
    }
    rules = {name: pattern for name, pattern in rules.items() if name.format(l=0) in present}
    all_spaces, all_rules = layered(config.num_hidden_layers, (*spaces, *own, *units), rules)

    moves = []
    if attn.format(l=0) + "v_proj.bias" in present and attn.format(l=0) + "o_proj.bias" in present:
        for layer in range(config.num_hidden_layers if value is Invertible else 0):
            v, o = (attn.format(l=layer) + part for part in ("v_proj.bias", "o_proj"))
            moves.append(Move(v, o + ".bias", f"value.{layer}", through=o + ".weight"))
    return ModelSpec(
        family=family,
        free={"vocab": config.vocab_size, "freq": width // 2} | ({} if phases else {"plane": 2}),
        spaces=(*stream, *all_spaces),
        rules={"model.embed_tokens.weight": "vocab stream!", **all_rules, "lm_head.weight": "vocab stream?"},
        norms=(*norms, norm("model.norm", present, "lm_head")),
        moves=tuple(moves),
        logits=("lm_head.weight",),
        tied=("lm_head.weight", "model.embed_tokens.weight"),
        **table,
    )


def norm(module: str, present: set[str], *readers: str) -> Norm:
    """A norm without a bias, with or without a gain, and the layers that read it."""
    weight = module + ".weight" if module + ".weight" in present else None
    return Norm(module, weight, None, tuple(reader(name, present) for name in readers))


def pre_norms(model: Any) -> tuple[Norm, ...]:
    """The norms before every attention and every feed-forward layer."""
    present = set(model.state_dict())
    norms = []
    for layer in range(model.config.num_hidden_layers):
        here = f"model.layers.{layer}."
        attention = (here + f"self_attn.{part}_proj" for part in "qkv")
        norms.append(norm(here + "input_layernorm", present, *attention))
        norms.append(norm(here + "post_attention_layernorm", present, here + "mlp.gate_proj", here + "mlp.up_proj"))
    return tuple(norms)
