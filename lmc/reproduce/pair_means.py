"""The mean of several runs, in which every pair counts the same, however often it was matched.

>>> mean([1.0, 3.0, 2.0], ["a", "b", "a"])  # 1.5 for pair a, 3 for pair b
2.25

In results, `pairs` names the pair of every run, where some pair was matched more than once. It goes with every list of
its length; a list of another length has one value for each pair.
"""

import math
from collections import Counter
from collections.abc import Sequence


def mean(values: Sequence[float], pairs: Sequence[str] = ()) -> float:
    """The mean over pairs of the mean over each pair's runs. Raises ValueError where the values are of other pairs."""
    if len(pairs) != len(values):
        if pairs and len(values) != len(set(pairs)):
            raise ValueError(f"expected values for {len(set(pairs))} pairs or {len(pairs)} runs, found {len(values)}")
        return sum(values) / len(values)
    return sum(share * value for share, value in zip(_shares(pairs), values, strict=True))


def deviation(values: Sequence[float], pairs: Sequence[str] = ()) -> float:
    """The standard deviation of their `mean`, were the runs independent: that of a run, times the root of Σ share²."""
    centre = sum(values) / len(values)
    one = math.sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))
    shares = _shares(pairs) if len(pairs) == len(values) else [1 / len(values)] * len(values)
    return one * math.sqrt(sum(share**2 for share in shares))


def _shares(pairs: Sequence[str]) -> list[float]:
    times = Counter(pairs)
    return [1 / (len(times) * times[pair]) for pair in pairs]
