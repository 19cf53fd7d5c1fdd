"""OLMo-2 and OLMo-3: norms after attention and feed-forward layers, and over the whole query and key; SwiGLU.

Sublayers read the stream as it is and write it through a norm with a gain per channel. So the stream's rotations are
lost; what is left are its signed permutations, under which the gains move along. The norms of queries and keys leave
the sign of a rotary plane, and a factor that their gains share. Values, heads and units keep all their freedom.
Not declared: quarter turns of planes, and the sign that a gain shares with the row it multiplies.
"""

from typing import Any

from lmc.symmetries.families.attention import whole_norms
from lmc.symmetries.families.decoder import decoder
from lmc.symmetries.groups import Invertible, Orthogonal, Permutation
from lmc.symmetries.pattern import SIGN, STREAM
from lmc.symmetries.spec import ModelSpec, Space


def spec(model: Any) -> ModelSpec:
    """The table of either, with any head."""
    here, config = "model.layers.{l}.", model.config
    query = "head query" if config.num_attention_heads > config.num_key_value_heads else "head"
    return decoder(
        model,
        "olmo2",
        stream=(
            Space(STREAM, Permutation(config.hidden_size)),
            Space(SIGN, Orthogonal(1), over=(STREAM,)),
        ),
        phases=False,
        roots=tuple(whole_norms(config, set(model.state_dict()))),
        own=(Space("gain", Invertible(1), over=("head", "freq")),),
        more={
            here + "self_attn.q_norm.weight": f"({query} plane gain freq)",
            here + "self_attn.k_norm.weight": "(head plane gain* freq)",
            here + "post_attention_layernorm.weight": "stream",
            here + "post_feedforward_layernorm.weight": "stream",
        },
    )
