"""What releases of transformers call the parts of a layer of a ViT or a DINOv2."""

from dataclasses import dataclass


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
