"""What reads the last norm of a BERT or RoBERTa: predictions, labels of tokens or texts, a pooler, nobody."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lmc.symmetries.families.common import norm, reader
from lmc.symmetries.groups import Orthogonal, Permutation
from lmc.symmetries.spec import Dead, Norm, Space

PREDICTIONS = {
    "cls.predictions.": ("transform.dense", "transform.LayerNorm"),  # BERT's
    "lm_head.": ("dense", "layer_norm"),  # RoBERTa's
}


@dataclass(frozen=True)
class Top:
    """What a table says of a head. `keeps`: the stream itself is an output, so nothing may move it."""

    rules: Mapping[str, str]
    norms: tuple[Norm, ...]
    spaces: tuple[Space, ...] = ()
    dead: tuple[Dead, ...] = ()
    logits: tuple[str, ...] = ()
    keeps: bool = False


def top(size: int, last: str, base: str, present: set[str]) -> Top:
    """The head of a model `size` wide, by its tensors; `last`: the stream's last norm, `base`: the stack's prefix."""
    for place, (dense, layer_norm) in PREDICTIONS.items():
        if place + "decoder.weight" in present:
            return _predictions(size, last, place, place + dense, place + layer_norm, present)
    pooled = {base + "pooler.dense": "classifier", "classifier.dense": "classifier.out_proj"}
    pooler = next((name for name in pooled if name + ".weight" in present), None)
    if not base:
        return bare(last, pooler, present)
    if pooler is None:
        rules = {"classifier.weight": "class stream?", "classifier.bias": "class"}
        return Top(rules, (norm(last, present, "classifier"),))
    # A tanh is odd: each of its units may change its sign.
    spaces = (Space("pooled", Permutation(size)), Space("flip", Orthogonal(1), over=("pooled",)))
    rules = {
        pooler + ".weight": "(pooled flip) stream?",
        pooler + ".bias": "(pooled flip)",
        pooled[pooler] + ".weight": "class (pooled flip)",
        pooled[pooler] + ".bias": "class",
    }
    return Top(rules, (norm(last, present, pooler),), spaces)


def bare(last: str, dense: str | None, present: set[str]) -> Top:
    """No head: the last norm's output, and what a pooler may make of it, are the outputs."""
    rules = {last + ".weight": "stream", last + ".bias": "stream"}
    if dense is not None:
        rules |= {dense + ".weight": "pool stream?", dense + ".bias": "pool"}
    readers = () if dense is None else (reader(dense, present),)
    return Top(rules, (Norm(last, None, None, readers, onward=last + ".bias"),), keeps=True)


def _predictions(size: int, last: str, place: str, dense: str, layer_norm: str, present: set[str]) -> Top:
    """A layer with a norm of its own, and the decoder."""
    decoder = place + "decoder"
    return Top(
        rules={
            dense + ".weight": "predict stream?",
            dense + ".bias": "predict",
            decoder + ".weight": "vocab predict",
            decoder + ".bias": "vocab",
            place + "bias": "vocab",
        },
        norms=(norm(last, present, dense), replace(norm(layer_norm, present, decoder), axis="predict")),
        spaces=(Space("predict", Permutation(size)),),
        # The head's bias is the decoder's own; a model that is not tied keeps a second one that nothing reads.
        dead=(Dead(place + "bias", "vocab"),),
        logits=(decoder + ".weight", decoder + ".bias"),
    )
