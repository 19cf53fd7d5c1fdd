"""Does a fine-tune move? What one network was taught is carried to another through their alignment.

>>> from lmc.reproduce.experiments.controls import finetune
>>> tuned, _ = finetune(lmc.canonicalize(a), match_on, steps=2, lr=1e-3)
>>> moved = carried(lmc.match(a, b, method="weights"), lmc.matching.taught(lmc.canonicalize(a), tuned))

`Alignment.transport` does this for users. Here a part of the change can be carried, or more than all of it.
"""

from torch import nn

from lmc.matching import Alignment, Change, with_change


def carried(alignment: Alignment, change: Change, factor: float = 1.0) -> nn.Module:
    """The second model of an alignment with the change of the first, as the transforms carry it.

    It is the second as it is aligned; its own frame is one inverse away, which changes no loss.
    """
    first = alignment.transforms[0]
    moved = {name: first.moved(name, tensor) for name, tensor in change.items()}
    return with_change(alignment.models[1], moved, factor)
