"""Means over pairs: a pair that was matched more often weighs no more."""

import math

import pytest

from lmc.reproduce.pair_means import deviation, mean

RUNS = ["a", "b", "a", "a", "c"]


def test_every_pair_counts_the_same() -> None:
    assert mean([1.0, 4.0, 2.0, 3.0, 6.0], RUNS) == pytest.approx((2.0 + 4.0 + 6.0) / 3)
    assert mean([2.0, 4.0, 6.0], RUNS) == 4.0  # one value a pair
    assert mean([2.0, 4.0, 6.0]) == 4.0
    assert mean([1.0, 3.0], ["a", "a"]) == 2.0
    with pytest.raises(ValueError, match="expected values for 3 pairs or 5 runs, found 4"):
        mean([1.0, 2.0, 3.0, 4.0], RUNS)


def test_the_deviation_of_a_mean_is_that_of_independent_runs() -> None:
    assert deviation([1.0, 2.0, 3.0]) == pytest.approx(1 / math.sqrt(3))
    assert deviation([1.0, 2.0, 3.0], ["a", "b", "c"]) == pytest.approx(1 / math.sqrt(3))
    values = [0.1, 0.12, 0.08, 0.11, 0.09]
    spread = math.sqrt(sum((x - 0.1) ** 2 for x in values) / 4)
    assert deviation(values, RUNS) == pytest.approx(spread * math.sqrt(3 / 81 + 2 / 9))
    assert deviation(values, ["a"] * 5) == pytest.approx(spread / math.sqrt(5))
