"""Gemma 1, 2 and 3: Llama's layout with norms that store γ − 1, and from Gemma 2 on norms after the sublayers as well.

The factor √d of the embedding and the caps on scores and logits are fixed numbers: what keeps scores and logits keeps
these. Under norms after the sublayers the stream keeps signed permutations, as in OLMo-2; Gemma 1 keeps rotations and
its residual scale. Gemma 3 normalises queries and keys, which leaves the sign of a rotary plane. Exact and not
declared: the factor that the gains of queries and keys of one plane share, which is not linear in γ − 1.
"""

from dataclasses import replace
from typing import Any

from lmc.symmetries.families.attention import ATTENTION
from lmc.symmetries.families.decoder import LAYER, decoder, pre_norms
from lmc.symmetries.groups import Orthogonal, Permutation, Scale
from lmc.symmetries.pattern import SIGN, STREAM
from lmc.symmetries.spec import Epsilon, ModelSpec, Root, Space

AFTER = {LAYER + f"post_{part}_layernorm.weight": "stream" for part in ("attention", "feedforward")}


def spec(model: Any) -> ModelSpec:
    """The table of a Gemma of any of the three kinds, with any head."""
    width, first = model.config.hidden_size, model.config.model_type == "gemma"
    turned = (Space(STREAM, Orthogonal(width)), Space("scale", Scale()))
    ordered = (Space(STREAM, Permutation(width)), Space(SIGN, Orthogonal(1), over=(STREAM,)))
    table = decoder(
        model,
        "gemma",
        stream=turned if first else ordered,
        phases=model.config.model_type != "gemma3_text",
        norms=pre_norms(model),
        more={ATTENTION + f"{part}_norm.weight": "(plane freq)" for part in "qk"} | ({} if first else AFTER),
        epsilon=Epsilon("rms_norm_eps", "eps") if first else None,
    )
    norms = tuple(replace(norm, offset=1.0) for norm in table.norms)
    return replace(table, norms=norms, roots=(Root("model.embed_tokens.weight", (STREAM,), 1, single=True),))
