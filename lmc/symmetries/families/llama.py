"""Llama, Mistral, Mixtral, Qwen2 with experts or not, Granite, Phi-3: RMSNorm, rotary positions, SwiGLU; biases or not.

Granite's multipliers are numbers that no map of weights touches. Phi-3 fuses queries, keys and values, and the gate
with what it gates, and may turn a part of each head only.
"""

from typing import Any

from lmc.symmetries.families.decoder import decoder, pre_norms
from lmc.symmetries.groups import Orthogonal, Scale
from lmc.symmetries.spec import Epsilon, ModelSpec, Space


def spec(model: Any) -> ModelSpec:
    """The table of any of them, with any head."""
    return decoder(
        model,
        "llama",
        stream=(Space("stream", Orthogonal(model.config.hidden_size)), Space("scale", Scale())),
        partly=model.config.model_type == "phi3",
        norms=pre_norms(model),
        epsilon=Epsilon("rms_norm_eps", "variance_epsilon"),
    )
