"""Qwen3: Llama's layout with an RMSNorm inside every query and key head, which leaves less to choose there.

The norm's gain is one number per dimension, shared by all heads, so of a rotary plane's complex factor only −1 is
declared, which it commutes with (a quarter turn that swaps two gains is exact too: one more choice of four, not one to
learn). Multiplying the query's gain of a plane and dividing the key's by one number changes nothing. The residual scale
is lost: one field holds the ε of the stream's norms and of the heads' own.
"""

from typing import Any

from lmc.symmetries.families.decoder import decoder, pre_norms
from lmc.symmetries.groups import Invertible, Orthogonal
from lmc.symmetries.spec import ModelSpec, Space


def spec(model: Any) -> ModelSpec:
    """The table of a Qwen3, with experts or not, with any head."""
    attention = "model.layers.{l}.self_attn."
    return decoder(
        model,
        "qwen3",
        stream=(Space("stream", Orthogonal(model.config.hidden_size)),),
        phases=False,
        norms=pre_norms(model),
        own=(Space("gain", Invertible(1), over=("freq",)),),
        more={
            attention + "q_norm.weight": "(plane gain freq)",
            attention + "k_norm.weight": "(plane gain* freq)",
        },
    )
