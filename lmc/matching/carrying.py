"""A fine-tune moves: what one parent was taught is carried to another through their alignment.

>>> change = taught(a, tuned)                                        # of a fine-tuned from it, tensor by tensor
>>> carried = with_change(lmc.canonicalize(a), change)                # the tuned model again, in canonical form

The change is that of the canonical form. What fine-tuning does to the gains and biases of norms is given to the layers
that read them, as in any canonical form, and heads stay in the frame in which the base is balanced. The change then
moves as weights do, linearly, and keeps the rank it has.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from lmc.symmetries import Canonical, balancing, rebuild, state
from lmc.symmetries.families import spec as spec_of

Change = Mapping[str, Tensor]


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
    """A model in canonical form with a change added; between two bases, this is task arithmetic (2212.04089)."""
    tensors = {n: (t.double() + factor * change[n]).to(t.dtype) for n, t in state(model).items()}
    return rebuild(model, spec_of(model), tensors)
