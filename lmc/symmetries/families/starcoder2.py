"""StarCoder2: LayerNorm, biases, rotary positions on whole heads, feed-forward layers without a gate."""

from typing import Any

from lmc.symmetries.families.decoder import decoder, pre_norms
from lmc.symmetries.groups import Orthogonal, Scale
from lmc.symmetries.spec import Epsilon, ModelSpec, Space


def spec(model: Any) -> ModelSpec:
    """The table of a StarCoder2 with any head."""
    return decoder(
        model,
        "starcoder2",
        stream=(Space("stream", Orthogonal(model.config.hidden_size, fixes_ones=True)), Space("scale", Scale())),
        norms=pre_norms(model),
        stream_norm="layernorm",
        epsilon=Epsilon("norm_epsilon", "eps"),
    )
