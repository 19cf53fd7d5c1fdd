"""The layout that Llama, Mistral, Qwen, OLMo, Phi-3 and others share: rotary attention, then a feed-forward layer.

What differs between them, each says in its own file: the norms, the stream's group, and how much of a rotary plane's
freedom is left.
"""

from typing import Any

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.attention import ATTENTION, attention, dead, moves, rotary
from lmc.symmetries.families.common import norm
from lmc.symmetries.families.feed_forward import MLP, READERS, SHARED, feed_forward, routers
from lmc.symmetries.families.heads import head
from lmc.symmetries.groups import Group, Invertible
from lmc.symmetries.spec import ModelSpec, Norm, Space, layered

LAYER = "model.layers.{l}."


def decoder(
    model: Any,
    family: str,
    stream: tuple[Space, ...],
    phases: bool = True,
    partly: bool = False,
    value: type[Group] = Invertible,
    norms: tuple[Norm, ...] = (),
    own: tuple[Space, ...] = (),
    more: dict[str, str] | None = None,
    **table: Any,
) -> ModelSpec:
    """The table of a decoder.

    `stream`: the residual stream's spaces. `phases`: whether a rotary plane may be multiplied by any complex number, or
    by −1 only. `partly`: whether the stock class can turn a part of each head. `value`: the group inside a value head.
    `own`, `more`: spaces and patterns that others do not have, for one layer.
    """
    config, top = model.config, head(model, "model.embed_tokens.weight")
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    layers, width, turns = config.num_hidden_layers, model.model.layers[0].self_attn.head_dim, rotary(model)
    if turns != width and not partly:
        raise UnsupportedModelError(f"{type(model).__name__}: expected rotary positions on all {width} dims of a head")
    heads, around = attention(config, width, turns, phases, value)
    units, within = feed_forward(shapes, getattr(config, "hidden_act", ""))
    one = around | within | (more or {})
    one = {name: pattern for name, pattern in one.items() if name.format(l=0) in shapes}
    spaces, rules = layered(layers, (*heads, *own, *units), one)
    free = {"vocab": config.vocab_size, "freq": turns // 2, "plane": 2, "one": 1, **top.classes}
    return ModelSpec(
        family=family,
        free={name: size for name, size in free.items() if name != "plane" or not phases},
        spaces=(*stream, *spaces),
        rules={"model.embed_tokens.weight": "vocab stream!", **rules, **top.rules},
        norms=(*norms, norm("model.norm", set(shapes), top.name)),
        means=routers(layers, shapes, type(model).__name__),
        moves=tuple(moves(layers, shapes)) if value is Invertible else (),
        dead=tuple(dead(layers, shapes)) if turns < width else (),
        logits=top.logits,
        tied=top.tied,
        **table,
    )


def pre_norms(model: Any) -> tuple[Norm, ...]:
    """The norms before every attention and every feed-forward layer; one for both where they run side by side."""
    present = set(model.state_dict())
    norms = []
    for layer in range(model.config.num_hidden_layers):
        here, around, within = (name.format(l=layer) for name in (LAYER, ATTENTION, MLP))
        first = [around + part for part in ("q_proj", "k_proj", "v_proj", "qkv_proj")]
        second = [within + part for part in (*READERS, *SHARED)]
        between = "pre_feedforward_layernorm" if here + "pre_feedforward_layernorm.weight" in present else None
        if getattr(model.config, "use_parallel_residual", False):
            norms.append(norm(here + "input_layernorm", present, *first, *second))
        else:
            norms.append(norm(here + "input_layernorm", present, *first))
            norms.append(norm(here + (between or "post_attention_layernorm"), present, *second))
    return tuple(norms)
