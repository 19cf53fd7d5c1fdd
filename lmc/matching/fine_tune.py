"""Whose fine-tune is a model? That of the parent from which its weights are the smallest change.

>>> base_of(a, (a, b)).number, base_of(a, (b, a)).number
(0, 1)
"""

import warnings
from contextlib import suppress
from typing import NamedTuple

from torch import nn

from lmc import checkpoints
from lmc.errors import ArgumentError, CheckpointError, IncompatibleModelsError
from lmc.matching.pairing import require_pairable, size_of_change
from lmc.symmetries import canonicalize, epsilon, require_stock
from lmc.symmetries.families import spec as spec_of

# Share of its base that a change may have to be a fine-tune's. Those made here change it by 0.11 to 0.27, training that
# is as long again by 0.22; the midpoint of two networks is 0.7 from each, and another network 1.36 to 1.47.
TUNED = 0.5
ALIKE = 0.999  # of a parent that is in canonical form the two distances differ by rounding


class Base(NamedTuple):
    """Of which parent a model is a fine-tune, the size of its change, and whether that is one of the canonical form.

    What `transport` and an exported endpoint are made of is a parent in canonical form, which computes the same.
    """

    number: int
    size: float
    canonical: bool


def base_of(tuned: nn.Module, parents: tuple[nn.Module, ...]) -> Base:
    """Which of two parents a model was fine-tuned from, as it is or in canonical form, by `size_of_change`.

    >>> base_of(a, (a, b))
    Base(number=0, size=0.0, canonical=False)

    Raises ArgumentError for a model of neither, and for more parents than two, and UnsupportedModelError for one that
    computes something else than its settings say.
    """
    require_tunable(tuned, parents)
    require_stock(tuned)
    as_they_are = [Base(k, size_of_change(parent, tuned), False) for k, parent in enumerate(parents)]
    found = min(as_they_are, key=lambda base: base.size)
    if found.size:
        with suppress(CheckpointError):  # a parent without a canonical form has no fine-tunes of it
            rewritten = [Base(k, size_of_change(canonical_form(p), tuned), True) for k, p in enumerate(parents)]
            nearest = min(rewritten, key=lambda base: base.size)
            found = nearest if nearest.size < ALIKE * found.size else found
    if found.size >= TUNED:
        sizes = " and ".join(f"{base.size:.2f}" for base in as_they_are)
        raise ArgumentError(
            "tuned: expected a model fine-tuned from one of the two parents, whose weights changed by less than "
            f"{TUNED} of their size, found changes of {sizes}; match its own base with the model that should get it"
        )
    spec = spec_of(tuned)
    if spec.epsilon and (own := epsilon(tuned, spec)) != (expected := epsilon(parents[found.number], spec)):
        what = f"the {spec.epsilon.field} of its base, {expected:g}, found {own:g}"
        raise ArgumentError(f"tuned: expected {what}, which is no change of weights; set it to that")
    return found


def canonical_form(parent: nn.Module) -> nn.Module:
    """The canonical form; that a head is untied was said when the parents were matched, and the card says it again.

    >>> canonical_form(a) is a
    False
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* was tied to ")
        return canonicalize(parent)


def require_tunable(tuned: nn.Module, parents: tuple[nn.Module, ...]) -> None:
    """Raise ArgumentError unless a model could be a fine-tune of one of two parents; it may lie on the meta device.

    >>> require_tunable(a, (a, b))
    """
    if len(parents) != 2:
        raise ArgumentError(f"alignment: a change is carried between two models, found {len(parents)}")
    pair, both = "model 1 and model 2", "the parents and it"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            require_pairable((parents[0], tuned))
        except IncompatibleModelsError as error:
            what = str(error).replace(pair, both, 1)
            raise ArgumentError(
                f"tuned: expected a fine-tune of one of the two parents; {what}; {tune_advice(parents)}"
            ) from None
    for warning in said:  # what is not known of its pictures is its base's (`preprocessing.of_its_base`)
        if "differ in input normalisation" not in (words := str(warning.message)):
            warnings.warn(words.replace(pair, both, 1), warning.category, stacklevel=2)


def tune_advice(parents: tuple[nn.Module, ...]) -> str:
    """What to fine-tune instead. Parents that were enlarged, or brought to one vocabulary, are not what they were.

    >>> tune_advice((a, b)).partition(" (")[0]
    'fine-tune one of the two models that were matched'
    """
    places = [place for place in map(checkpoints.source, parents) if place is not None]
    where = f" ({', '.join(places)})" if places else ""
    return f"fine-tune one of the two models that were matched{where}"
