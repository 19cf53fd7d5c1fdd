"""Llama, Mistral and Qwen2: RMSNorm, grouped queries, rotary positions on whole heads, SwiGLU; biases or not."""

from typing import Any

from lmc.symmetries.families.decoder import decoder, pre_norms
from lmc.symmetries.groups import Orthogonal, Scale
from lmc.symmetries.spec import Epsilon, ModelSpec, Space


def spec(model: Any) -> ModelSpec:
    """The table of a `LlamaForCausalLM`, `MistralForCausalLM` or `Qwen2ForCausalLM`."""
    return decoder(
        model,
        "llama",
        stream=(Space("stream", Orthogonal(model.config.hidden_size)), Space("scale", Scale())),
        norms=pre_norms(model),
        epsilon=Epsilon("rms_norm_eps", "variance_epsilon"),
    )
