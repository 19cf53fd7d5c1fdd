"""OLMo (the first): LayerNorm without parameters, SwiGLU, rotary positions on whole heads; tied or untied.

The norms have nothing to absorb, so a tied head stays tied. Their ε is fixed in the library's code, so a scale of the
residual stream is no symmetry that can be used. With `clip_qkv`, queries, keys and values are clamped entry by entry:
of the maps inside a head, permutations of value dimensions and the signs of rotary planes are declared (signs of values
and quarter turns of planes are exact too).
"""

from typing import Any

from lmc.symmetries.families.decoder import decoder, pre_norms
from lmc.symmetries.groups import Invertible, Orthogonal, Permutation
from lmc.symmetries.spec import ModelSpec, Space


def spec(model: Any) -> ModelSpec:
    """The table of an OLMo, with any head."""
    clipped = model.config.clip_qkv is not None
    return decoder(
        model,
        "olmo",
        stream=(Space("stream", Orthogonal(model.config.hidden_size, fixes_ones=True)),),
        phases=not clipped,
        value=Permutation if clipped else Invertible,
        norms=pre_norms(model),
        stream_norm="layernorm",
    )
