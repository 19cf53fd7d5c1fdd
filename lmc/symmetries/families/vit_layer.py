"""A layer of a ViT, a DINOv2 or a CLIP of transformers: what releases call its parts, its rules and its norms."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.attention import plain_heads
from lmc.symmetries.families.common import norm
from lmc.symmetries.families.feed_forward import hidden_units
from lmc.symmetries.spec import Norm, Space, both


@dataclass(frozen=True)
class Names:
    """The parts of a layer, by their full names; `gate` and `scales` are there in some models only."""

    before: str
    after: str
    query: str
    key: str
    value: str
    out: str
    up: str
    down: str
    gate: str
    scales: tuple[str, str]

    def at(self, layer: int) -> "Names":
        """The names in one layer."""
        first, second = self.scales
        plain = {k: v.format(l=layer) for k, v in vars(self).items() if k != "scales"}
        return Names(**plain, scales=(first.format(l=layer), second.format(l=layer)))


def names(base: str, present: set[str]) -> Names:
    """The names that a model with these tensors uses; `base`: the prefix of its stack. In newer releases they are
    shorter."""
    norms = ("layernorm_before", "layernorm_after")
    layer = base + "layers.{l}."
    if not any(name.startswith(base + "layers.") for name in present):
        layer = base + "encoder.layer.{l}."
    if layer.format(l=0) + "norm1.weight" in present:
        norms = ("norm1", "norm2")
    short = layer.format(l=0) + "attention.q_proj.weight" in present
    attention = [layer + f"attention.{part}_proj" for part in "qkvo"]
    if not short:
        attention = [layer + f"attention.attention.{part}" for part in ("query", "key", "value")]
        attention.append(layer + "attention.output.dense")
    feed_forward = ("mlp.fc1", "mlp.fc2")
    if layer.format(l=0) + "mlp.gate_proj.weight" in present:
        feed_forward = ("mlp.up_proj", "mlp.down_proj")
    elif layer.format(l=0) + "mlp.fc1.weight" not in present:
        feed_forward = ("intermediate.dense", "output.dense")
    parts = [*(layer + name for name in norms), *attention, *(layer + name for name in feed_forward)]
    before, after, query, key, value, out, up, down = parts
    scales = (layer + "layer_scale1.lambda1", layer + "layer_scale2.lambda1")
    return Names(before, after, query, key, value, out, up, down, layer + "mlp.gate_proj", scales)


def layer(model: Any, parts: Names) -> tuple[tuple[Space, ...], dict[str, str]]:
    """The spaces and the rules of one layer; query, key and value need not have biases."""
    heads, shapes = model.config.num_attention_heads, {n: t.shape for n, t in model.state_dict().items()}
    here = parts.at(0)
    gated = here.gate + ".weight" in shapes
    if here.up + ".weight" not in shapes:  # before transformers 5.20 or so, gate and gated were one layer
        raise UnsupportedModelError(f"{type(model).__name__}: use_swiglu_ffn: expected a newer release of transformers")
    count = shapes[here.up + ".weight"][0]
    units, written, read = hidden_units(count, "" if gated else model.config.hidden_act, gated)
    return (*plain_heads(heads, shapes[here.query + ".weight"][0] // heads), *units), {
        **both(parts.query, "(head qk)", "stream?"),
        **both(parts.key, "(head qk*)", "stream?"),
        **both(parts.value, "(head value)", "stream?"),
        **both(parts.out, "stream!", "(head value*)"),
        **both(parts.gate, "hidden", "stream?"),
        **both(parts.up, written, "stream?"),
        **both(parts.down, "stream!", read),
    }


def norms(layers: range, parts: Names, present: set[str]) -> Iterator[Norm]:
    """The norms before attention and before the feed-forward layer."""
    for here in map(parts.at, layers):
        yield norm(here.before, present, here.query, here.key, here.value)
        yield norm(here.after, present, here.gate, here.up)
