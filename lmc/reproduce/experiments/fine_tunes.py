"""Does a fine-tune move? What one network was taught is carried to another through their alignment.

>>> from lmc.reproduce.experiments.controls import finetune
>>> tuned, _ = finetune(lmc.canonicalize(a), match_on, steps=2, lr=1e-3)
>>> moved = carried(lmc.match(a, b, method="weights"), learned(lmc.canonicalize(a), tuned))

The change is that of the canonical form. What fine-tuning does to the gains and biases of norms is given to the layers
that read them, as in any canonical form; nothing is balanced, so that heads stay in the frame of the base. The change
then moves as weights do, linearly, and keeps the rank it has.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from lmc.matching import Alignment
from lmc.symmetries import canonicalize, rebuild, state
from lmc.symmetries.families import spec as spec_of

Change = Mapping[str, Tensor]


def learned(base: nn.Module, tuned: nn.Module) -> Change:
    """The change from a base in canonical form to what was fine-tuned from it, tensor by tensor.

    >>> change = learned(lmc.canonicalize(a), lmc.canonicalize(a))
    >>> max(float(tensor.abs().max()) for tensor in change.values()) < 1e-5
    True
    """
    before, after = state(base), state(canonicalize(tuned, balance=False))
    return {name: after[name] - before[name] for name in before}


def unmoved(base: nn.Module, change: Change, factor: float = 1.0) -> nn.Module:
    """Another base in canonical form with the change as it is: task arithmetic (2212.04089) across bases."""
    tensors = {name: tensor + factor * change[name] for name, tensor in state(base).items()}
    return rebuild(base, spec_of(base), tensors)


def carried(alignment: Alignment, change: Change, factor: float = 1.0) -> nn.Module:
    """The second model of an alignment with the change of the first, as the transforms carry it.

    It is the second as it is aligned; its own frame is one inverse away, which changes no loss.
    """
    first = alignment.transforms[0]
    moved = {name: first.moved(name, tensor.double()).to(tensor.dtype) for name, tensor in change.items()}
    return unmoved(alignment.models[1], moved, factor)
