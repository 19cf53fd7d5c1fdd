"""StableLM: LayerNorm, SwiGLU, rotary positions on part of each head, the two sublayers in turn or side by side.

No layer that writes the stream has a bias, so the constant that values hand on stays where it is. A norm's bias stays
in the mean direction of the layers that read it and have none.
"""

from typing import Any

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.decoder import decoder, pre_norms
from lmc.symmetries.groups import Orthogonal, Scale
from lmc.symmetries.spec import Epsilon, ModelSpec, Space


def spec(model: Any) -> ModelSpec:
    """The table of a StableLM with any head.

    Raises UnsupportedModelError for one that normalises queries and keys, or turns an odd number of a head's dims.
    """
    config = model.config
    if config.qk_layernorm:
        raise UnsupportedModelError(f"{type(model).__name__}: qk_layernorm is not supported by the stablelm table")
    if (turned := model.model.layers[0].self_attn.rotary_ndims) % 2:  # the library turns pairs, and a single one twice
        what = f"expected positions to turn an even number of a head's dims (partial_rotary_factor), found {turned}"
        raise UnsupportedModelError(f"{type(model).__name__}: {what}")
    return decoder(
        model,
        "stablelm",
        stream=(Space("stream", Orthogonal(config.hidden_size, fixes_ones=True)), Space("scale", Scale())),
        partly=True,
        norms=pre_norms(model),
        stream_norm="layernorm",
        epsilon=Epsilon("layer_norm_eps", "eps"),
    )
