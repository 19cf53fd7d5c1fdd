"""Whose fine-tune is a model? That of the parent from which its weights are the smallest change.

>>> base_of(a, (a, b)).number, base_of(a, (b, a)).number
(0, 1)
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress

from torch import nn

from lmc.checkpoints import preprocessing
from lmc.errors import ArgumentError, CheckpointError
from lmc.matching.forms import Base, Form
from lmc.matching.likeness import size_of_change, squares
from lmc.symmetries import epsilon, require_stock, state
from lmc.symmetries.families import spec as spec_of

# Share of its base that a change may have to be a fine-tune's. Those made here change it by 0.11 to 0.27, training that
# is as long again by 0.22; the midpoint of two networks is 0.7 from each, and another network 1.36 to 1.47.
TUNED = 0.5
ALIKE = 0.999  # two forms of a parent may be one; then their distances differ by rounding


def base_of(tuned: nn.Module, parents: Sequence[nn.Module], forms: Iterable[Form] = ()) -> Base:
    """Which of two parents a model was fine-tuned from, and which form of it: the one that its matrices are nearest to.

    >>> base_of(a, (a, b))
    Base(number=0, size=0.0, form='as it is')

    What `transport` and an export make is a parent rewritten (`forms`, with the input normalisation of the first), and
    that is no change of it. A fine-tune has the shape of the parents (`require_tunable`). Raises ArgumentError for a
    model of neither, and UnsupportedModelError for one that computes something else than its settings say.
    """
    require_stock(tuned)
    spec, sizes = spec_of(tuned), [size_of_change(parent, tuned) for parent in parents]
    number = sizes.index(min(sizes))
    found, expected = Base(number, sizes[number]), epsilon(parents[number], spec)
    if found.size:
        base, same = (_seen_as(parents[0], model, parents[number]) for model in (parents[number], tuned))
        own = {name: p for name, p in same.named_parameters(remove_duplicate=False) if p.ndim > 1}
        nearest = ALIKE * squares(state(base), own, own)[0]
        as_first = _seen_as(parents[0], tuned, parents[0])  # as forms are; it counts where the tuned one does not say
        own = {name: p for name, p in as_first.named_parameters(remove_duplicate=False) if p.ndim > 1}
        tables = {name for name, rule in spec.rules.items() if rule.startswith("vocab")}
        with suppress(CheckpointError):  # a parent without a canonical form has no fine-tunes of it
            for form in forms:
                names = sorted(form.tensors, key=tables.__contains__)  # what takes longest to rewrite comes last
                change, size = squares(form.tensors, own, names, nearest)
                if change < nearest:
                    found, nearest = Base(form.number, (change / size) ** 0.5, form.name), ALIKE * change
                    expected = form.epsilon
    if found.size >= TUNED:
        told = " and ".join(f"{size:.2f}" for size in sizes)
        raise ArgumentError(
            "tuned: expected a model fine-tuned from one of the two parents, whose weights changed by less than "
            f"{TUNED} of their size, found changes of {told}; match its own base with the model that should get it"
        )
    if not math.isclose(has := epsilon(tuned, spec), expected):
        what = f"the {spec.epsilon.field if spec.epsilon else 'ε'} of its base, {expected:g}, found {has:g}"
        raise ArgumentError(f"tuned: expected {what}, which is no change of weights; set it to that")
    return found


def _seen_as(first: nn.Module, model: nn.Module, like: nn.Module) -> nn.Module:
    """A model with the first one's input normalisation; its own is that of `like`, where it does not say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is said when the change is carried
        return preprocessing.common((first, preprocessing.of_its_base(model, like)))[1]
