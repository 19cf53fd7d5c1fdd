"""Where between models a merged one lies: one weight ≥ 0 for each, which sum to 1.

>>> barycentric(0.25, 2)
[0.75, 0.25]
"""

import math
from collections.abc import Sequence
from typing import Any, SupportsFloat

from lmc.errors import ArgumentError

Mixture = SupportsFloat | Sequence[SupportsFloat]  # λ between two endpoints, or one weight for each of K


def barycentric(at: Mixture, count: int) -> list[float]:
    """One weight for each of `count` models, from λ or from the weights themselves.

    >>> barycentric(0.25, 2)
    [0.75, 0.25]

    Raises ArgumentError outside the simplex.
    """
    plain: Any = at.tolist() if hasattr(at, "tolist") else at  # tensors, and numpy's numbers and arrays
    if isinstance(plain, SupportsFloat):
        second = _number(plain) + 0.0  # no −0
        if count != 2:
            raise ArgumentError(f"at: expected {count} weights for {count} models, found the number {second}")
        if not 0 <= second <= 1:
            raise ArgumentError(f"at: expected λ between 0 and 1, found {second}")
        return [1 - second, second]
    if not isinstance(plain, Sequence) or not all(isinstance(w, SupportsFloat) for w in plain):
        raise ArgumentError(f"at: expected a number, or {count} of them, found {at!r}")
    weights = [_number(w) for w in plain]
    if len(weights) != count or min(weights) < 0 or not math.isclose(sum(weights), 1, abs_tol=1e-6):
        raise ArgumentError(f"at: expected {count} weights ≥ 0 that sum to 1, found {weights}")
    return weights


def _number(value: SupportsFloat) -> float:
    """The value as a float; infinity for one that no float holds."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
