"""Whose fine-tune is a model? That of the parent from which its weights are the smallest change.

>>> base_of(a, (a, b)).number, base_of(a, (b, a)).number
(0, 1)
"""

import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from torch import nn

from lmc.errors import ArgumentError, CheckpointError
from lmc.matching.likeness import size_of_change
from lmc.symmetries import canonicalize, epsilon, require_stock
from lmc.symmetries.families import spec as spec_of

# Share of its base that a change may have to be a fine-tune's. Those made here change it by 0.11 to 0.27, training that
# is as long again by 0.22; the midpoint of two networks is 0.7 from each, and another network 1.36 to 1.47.
TUNED = 0.5
ALIKE = 0.999  # two forms of a parent may be one; then their distances differ by rounding
AS_IT_IS, CANONICAL, ALIGNED = "as it is", "in canonical form", "as it was aligned"  # forms of a parent


class Base(NamedTuple):
    """Of which parent a model is a fine-tune, the size of its change, and the form of that parent which it changed."""

    number: int
    size: float
    form: str = AS_IT_IS


def base_of(
    tuned: nn.Module, parents: Sequence[nn.Module], rewritten: Iterable[tuple[int, str, nn.Module]] = ()
) -> Base:
    """Which of two parents a model was fine-tuned from, by `size_of_change`.

    >>> base_of(a, (a, b))
    Base(number=0, size=0.0, form='as it is')

    `rewritten`: other forms of them, each with the parent's number and a name: what `transport` and an export make is a
    parent rewritten, and that is no change. `tuned` has the shape of the parents (`require_tunable`). Raises
    ArgumentError for a model of neither, and UnsupportedModelError for one that computes something else than its
    settings say.
    """
    require_stock(tuned)
    as_they_are = [Base(k, size_of_change(parent, tuned)) for k, parent in enumerate(parents)]
    found, model = min(zip(as_they_are, parents, strict=True), key=lambda both: both[0].size)
    if found.size:
        with suppress(CheckpointError):  # a parent without a canonical form has no fine-tunes of it
            for k, form, other in rewritten:
                size = size_of_change(other, tuned)
                found, model = (Base(k, size, form), other) if size < ALIKE * found.size else (found, model)
    if found.size >= TUNED:
        sizes = " and ".join(f"{base.size:.2f}" for base in as_they_are)
        raise ArgumentError(
            "tuned: expected a model fine-tuned from one of the two parents, whose weights changed by less than "
            f"{TUNED} of their size, found changes of {sizes}; match its own base with the model that should get it"
        )
    spec = spec_of(tuned)
    if spec.epsilon and (own := epsilon(tuned, spec)) != (expected := epsilon(model, spec)):
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
