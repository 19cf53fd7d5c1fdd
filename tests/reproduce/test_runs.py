"""Results as values: what a results file holds goes in and comes out again, and a summary is arithmetic."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from lmc.reproduce.runs import Comparison, Headline, Parents, Run, Sweep, rate_grids

FOLDER = Path(__file__).resolve().parents[2] / "data/results/laptop"
COMMITTED = {
    file.stem: json.loads(file.read_text(encoding="utf-8"))
    for file in sorted(FOLDER.glob("*.json"))
    if not file.name.endswith(".run.json")
}
COMPARED = [id for id, numbers in COMMITTED.items() if "methods" in numbers]
MEASURED = {"interval": (0.0, 1.0), "gap": 0.0, "endpoint_change": 1e-6}
ENDPOINTS = {"p": Parents((1.0, 1.0), (1.0, 1.0), 0.0), "q": Parents((2.0, 2.0), (1.0, 1.0), 0.0)}


def test_most_results_are_comparisons() -> None:
    assert len(COMPARED) >= 15


@pytest.mark.parametrize("id", COMPARED)
def test_what_is_read_from_a_results_file_is_written_as_it_was(id: str) -> None:
    numbers = COMMITTED[id]
    kind = Sweep if "points" in numbers else Comparison
    assert kind.from_json(numbers).to_json() == numbers


@pytest.mark.parametrize("id", [id for id, numbers in COMMITTED.items() if "grids" in numbers])
def test_grids_too(id: str) -> None:
    grids = rate_grids(COMMITTED[id])
    assert {method: grid.to_json() for method, grid in grids.items()} == COMMITTED[id]["grids"]


@pytest.mark.parametrize("id", [id for id, numbers in COMMITTED.items() if "headline" in numbers])
def test_headlines_too(id: str) -> None:
    headline = Headline.from_json(COMMITTED[id])
    assert headline is not None and headline.to_json().items() <= COMMITTED[id].items()


def compared() -> Comparison:
    naive, dual = (
        [Run(method, b, p, **MEASURED) for p, b in zip("pq", barriers, strict=True)]
        for method, barriers in (
            ("naive", (4.0, 2.0)),
            ("dual", (0.4, 0.1)),
        )
    )
    dual[1] = replace(dual[1], interval=(0.5, 2.0), endpoint_change=2e-6)
    return Comparison((*naive, *dual), "nats per image", endpoints=ENDPOINTS)


def test_summary_is_arithmetic() -> None:
    found = compared().summarised(guess=3.5)
    dual = found.summary["dual"]
    assert dual.barrier == pytest.approx(0.25) and dual.interval == pytest.approx([0.25, 1.5])
    assert dual.range == (0.1, 0.4) and dual.endpoint_change == 2e-6
    assert dual.ratio == pytest.approx((0.1 + 0.05) / 2)  # each to the naive barrier of its own pair
    assert dual.normalised == pytest.approx(0.25 / (3.5 - 1.5))
    assert found.headline is not None and found.headline.values["dual ÷ naive"] == dual.ratio


def test_a_pair_that_was_matched_again_counts_once() -> None:
    again = Run("dual", 0.2, "p", **MEASURED)
    found = replace(compared(), runs=(*compared().runs, again)).summarised(guess=3.5)
    assert found.headline is not None and list(found.headline.pairs) == found.pairs == ["p", "q", "p"]
    assert found.summary["dual"].barrier == pytest.approx((0.3 + 0.1) / 2) == found.headline.values["dual barrier"]


def test_where_there_is_nothing_to_gain_nothing_was_lost() -> None:
    runs = [Run(m, b, p, **MEASURED) for m, p, b in (("naive", "p", 0.0), ("naive", "q", 0.0), ("dual", "p", 0.0))]
    found = Comparison((*runs, Run("dual", 0.1, "q", **MEASURED)), endpoints=ENDPOINTS).summarised(guess=3.5)
    assert found.summary["naive"].ratio == 1 and found.summary["dual"].ratio == math.inf


def test_runs_of_other_pairs_than_named_are_refused() -> None:
    numbers = {"methods": {"dual": {"barrier": [1.0, 2.0, 3.0]}}, "pairs": ["a", "b", "a", "b"]}
    with pytest.raises(ValueError, match="expected values for 2 pairs or 4 runs, found 3"):
        Comparison.from_json(numbers)
    once = Comparison.from_json(numbers | {"methods": {"naive": {"barrier": [1.0, 2.0]}}})
    assert [run.pair for run in once.runs] == ["a", "b"]  # a method without a seed ran once on each


def test_points_of_a_sweep_may_have_other_pairs() -> None:
    """Without names a point with fewer runs has the first pairs; with names each point has its own."""
    methods = {"dual": {"barrier": [[3, 4], [5]]}}
    unnamed = {"varied": "width", "points": [1, 2], "pairs": ["p", "q"], "methods": methods}
    found = Sweep.from_json(unnamed)
    assert [[run.pair for run in point.runs] for point in found.compared] == [["p", "q"], ["p"]]
    assert found.to_json() == unnamed
    growing = unnamed | {"methods": {"dual": {"barrier": [[5], [3, 4]]}}}  # also where the first point has fewer
    assert Sweep.from_json(growing).to_json() == growing
    table = {"barrier": [[3], [4, 5]], "runs": [["q"], ["p", "q"]]}
    named = {"varied": "steps", "points": [1, 2], "methods": {"dual": table}}
    assert [[run.pair for run in point.runs] for point in Sweep.from_json(named).compared] == table["runs"]
    assert Sweep.from_json(named).to_json() == named
