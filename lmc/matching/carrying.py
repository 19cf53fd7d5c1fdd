"""A fine-tune moves: what one parent was taught is carried to another through their alignment.

>>> change = taught(a, tuned)                                        # of a fine-tuned from it, tensor by tensor
>>> again = with_change(lmc.canonicalize(a), change)                  # the tuned model, in canonical form

The change is that of the canonical form. What fine-tuning does to the gains and biases of norms is given to the layers
that read them, as in any canonical form, and heads stay in the frame in which the base is balanced. The change then
moves as weights do, linearly, and keeps the rank it has.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from lmc.errors import ArgumentError
from lmc.matching.forms import ALIGNED, AS_IT_IS, CANONICAL, Base, Form
from lmc.symmetries import Canonical, Moved, Transform, balancing, canonicalize, epsilon, rebuild, state
from lmc.symmetries.families import spec as spec_of

NO_CHANGE = "tuned: expected a change to carry, found the weights of its base; name its fine-tune"

Change = Mapping[str, Tensor]


def rewritten(endpoints: Sequence[nn.Module], transforms: Sequence[Transform]) -> Iterator[Form]:
    """The other forms of two parents: in canonical form, as `carried` makes it, and as they were aligned.

    >>> [form.name for form in rewritten(alignment.endpoints, alignment.transforms)]
    ['in canonical form', 'as it was aligned', 'in canonical form', 'as it was aligned']
    """
    for k, (parent, transform) in enumerate(zip(endpoints, transforms, strict=True)):
        canonical, own = Canonical(transform.spec, state(parent)), epsilon(parent, transform.spec)
        yield Form(k, CANONICAL, canonical, own)
        if transform.moving:
            yield Form(k, ALIGNED, Moved(transform, canonical), own * transform.scale**2)


def canonical_form(parent: nn.Module) -> nn.Module:
    """The canonical form; that a head is untied was said when the parents were matched, and the card says it again.

    >>> canonical_form(a) is a
    False
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* was tied to ")
        return canonicalize(parent)


def carried(endpoints: Sequence[nn.Module], transforms: Sequence[Transform], tuned: nn.Module, base: Base) -> nn.Module:
    """The other endpoint, in canonical form, with what `tuned` was taught, moved as its weights would move.

    >>> model = carried(alignment.endpoints, alignment.transforms, tuned, alignment.base_of(tuned))

    Raises ArgumentError where it was taught nothing.
    """
    k, own, onward = base.number, endpoints[base.number], transforms[1 - base.number].inverse()
    if base.form == ALIGNED:
        change = difference(transforms[k].apply(canonical_form(own)), tuned)
    else:
        change = taught(canonical_form(own) if base.form == CANONICAL else own, tuned)
        onward = onward @ transforms[k]
    _require(change)
    return with_change(
        canonical_form(endpoints[1 - k]), {name: onward.moved(name, delta) for name, delta in change.items()}
    )


def added(endpoints: Sequence[nn.Module], tuned: nn.Module, base: Base) -> nn.Module:
    """The other endpoint, as it is, with the change of weights to `tuned`, as it is.

    >>> model = added((a, b), tuned, lmc.matching.base_of(tuned, (a, b)))

    Raises ArgumentError where there is none, or the change is one of a parent rewritten.
    """
    if base.form != AS_IT_IS:
        what = f"expected a change of a parent as it is, which naive adds as it is, found one of it {base.form}"
        raise ArgumentError(f"tuned: {what}; match by --method weights, which knows it")
    before, after = state(endpoints[base.number]), state(tuned)
    change = {name: after[name].double() - tensor.double() for name, tensor in before.items()}
    _require(change)
    return with_change(endpoints[1 - base.number], change)


def _require(change: Change) -> None:
    if not any(bool(tensor.any()) for tensor in change.values()):
        raise ArgumentError(NO_CHANGE)


def taught(base: nn.Module, tuned: nn.Module) -> Change:
    """The change from a base to what was fine-tuned from it, in canonical form and float64, tensor by tensor.

    >>> max(float(tensor.abs().max()) for tensor in taught(a, a).values())
    0.0

    Raises CheckpointError where the base has a head that was never trained.
    """
    frame = balancing(base)
    return {name: frame.moved(name, change) for name, change in difference(base, tuned).items()}


def difference(base: nn.Module, tuned: nn.Module) -> Change:
    """The same where the heads of the base, which is in canonical form, stay as they are.

    >>> aligned = alignment.models[0]
    >>> max(float(tensor.abs().max()) for tensor in difference(aligned, aligned).values())
    0.0
    """
    before, after = (
        Canonical(spec_of(base), {n: t.double() for n, t in state(model).items()}, balance=False)
        for model in (base, tuned)
    )
    return {name: after[name] - before[name] for name in before}


def with_change(model: nn.Module, change: Change, factor: float = 1.0) -> nn.Module:
    """A model with a change added; between two bases, this is task arithmetic (2212.04089)."""
    tensors = {n: (t.double() + factor * change[n]).to(t.dtype) for n, t in state(model).items()}
    return rebuild(model, spec_of(model), tensors)
