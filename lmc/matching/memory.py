"""What memory matching needs, where it reads a part of a model at a time, and what this machine has."""

import math
import os

from torch import nn

LIBRARIES = 2**29  # bytes that a process needs before it has read a weight
COPIES = {"naive": 3, "weights": 11}  # of the largest tensor in float32: as measured, see the test and `make bench`


def process_memory(model: nn.Module, method: str) -> int:
    """About the bytes that the whole process of `naive` or `weights` needs, which read a part at a time.

    >>> process_memory(a, "naive") < process_memory(a, "weights")
    True

    The model may lie on the meta device. An estimate: within a factor of two of what was measured.
    """
    return LIBRARIES + COPIES[method] * 4 * max(p.numel() for p in model.parameters())


def installed() -> float:
    """Bytes of memory that this machine has; without end where the system does not say.

    >>> installed() > 0
    True
    """
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return math.inf
