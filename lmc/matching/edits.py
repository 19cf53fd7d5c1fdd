"""Was a model changed since? A fingerprint of its weights and settings, cheap enough to be taken at every use.

>>> before = edits(a)
>>> unlike(before, edits(a))
False
"""

import torch
from torch import nn

from lmc.checkpoints import preprocessing
from lmc.symmetries import state
from lmc.symmetries.families import family_of

LOOKED_AT = 1024  # numbers of a tensor by which a change is noticed that torch does not count

Edits = tuple[list[tuple[str, int, float]], str]


def edits(model: nn.Module) -> Edits:
    """Of each tensor of a model where it is, how often it was changed in place, and some numbers; and the settings.

    torch does not count what is done through `.data`, or in inference mode; so some numbers of each tensor are looked
    at, too.
    """
    tensors = []
    for tensor in state(model).values():
        apart = tensor.numel() // LOOKED_AT | 1  # odd, so that every column of a matrix comes by in its turn
        few = tensor.detach().reshape(-1)[::apart].double().cpu()  # another device adds them up in another order
        some = float((few * torch.arange(1, len(few) + 1)).sum())  # of their order, too
        tensors.append((str(tensor.device), 0 if tensor.is_inference() else tensor._version, some))
    return tensors, f"{family_of(model).settings(model)} {preprocessing.of(model)}"


def unlike(before: Edits, now: Edits) -> bool:
    """Whether a model was edited in between. One that was moved to another device begins to count anew."""
    moved = any(one[0] != other[0] for one, other in zip(before[0], now[0], strict=True))
    first = 2 if moved else 0
    return before[1] != now[1] or [one[first:] for one in before[0]] != [other[first:] for other in now[0]]
