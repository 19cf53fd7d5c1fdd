"""OLMoE: Llama's layout with experts, and a norm over the whole query and key as in OLMo-2, here before clamping.

The stream is read through norms and written as it is, so its rotations are left; the residual scale is lost, since one
field holds the ε of all norms. With `clip_qkv` the factor that the gains of queries and keys share is lost too, and of
the maps of values permutations are left.
"""

from typing import Any

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.attention import ATTENTION, whole_norms
from lmc.symmetries.families.decoder import decoder, pre_norms
from lmc.symmetries.groups import Invertible, Orthogonal, Permutation
from lmc.symmetries.spec import ModelSpec, Space


def spec(model: Any) -> ModelSpec:
    """The table of an OLMoE with any head."""
    config, clipped = model.config, model.config.clip_qkv is not None
    size, fits = getattr(config, "head_dim", None), config.hidden_size // config.num_attention_heads
    if size not in (None, fits):  # the norms of queries and keys are of the other size
        name = f"{type(model).__name__}: head_dim"
        raise UnsupportedModelError(f"{name}: expected hidden_size / num_attention_heads = {fits}, found {size}")
    query = "head query" if config.num_attention_heads > config.num_key_value_heads else "head"
    gain, against = ("", "") if clipped else ("gain", "gain*")
    return decoder(
        model,
        "olmoe",
        stream=(Space("stream", Orthogonal(config.hidden_size)),),
        phases=False,
        roots=tuple(whole_norms(config, set(model.state_dict()))),
        value=Permutation if clipped else Invertible,
        norms=pre_norms(model),
        own=() if clipped else (Space("gain", Invertible(1), over=("head", "freq")),),
        more={
            ATTENTION + "q_norm.weight": f"({query} plane {gain} freq)",
            ATTENTION + "k_norm.weight": f"(head plane {against} freq)",
        },
    )
