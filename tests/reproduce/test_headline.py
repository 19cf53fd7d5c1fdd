"""What the project promises of its own experiments, held against the committed results of the laptop profile."""

import json
from pathlib import Path
from typing import Any

import pytest

from lmc import corpora
from lmc.reproduce.experiments.comparison import compare, load_pairs
from lmc.reproduce.ledger import figures
from lmc.reproduce.training import shipped_pairs

DIGITS = {"size": 8, "mean": (0.5,), "std": (0.5,)}
KINDS = ("vit-digits", "neox-docstrings")
METHODS = {"naive", "canonical", "weights", "activations", "single", "dual"}


def committed(root: Path, id: str) -> dict[str, Any]:
    return json.loads((root / f"data/results/laptop/{id}.json").read_text(encoding="utf-8"))


@pytest.fixture(params=KINDS)
def numbers(request: pytest.FixtureRequest, root: Path) -> dict[str, Any]:
    return committed(root, request.param)


def rise(losses: list[float]) -> float:
    """The barrier, recomputed: how far the path rises above the straight line between its ends."""
    last = len(losses) - 1
    return max(loss - losses[0] - (losses[-1] - losses[0]) * i / last for i, loss in enumerate(losses))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def over_pairs(method: dict[str, Any]) -> float:
    """The mean over pairs of the mean over their runs."""
    found: dict[str, list[float]] = {}
    for run, barrier in zip(method["runs"], method["barrier"], strict=True):
        found.setdefault(run["pair"], []).append(barrier)
    return mean([mean(barriers) for barriers in found.values()])


def test_barriers_are_those_of_the_paths(numbers: dict[str, Any]) -> None:
    assert numbers["methods"].keys() == METHODS
    for name, method in numbers["methods"].items():
        assert method["lambdas"] == pytest.approx([i / 24 for i in range(25)]), name
        assert [len(losses) for losses in method["losses"]] == [25] * len(method["runs"]), name
        assert method["barrier"] == pytest.approx([rise(losses) for losses in method["losses"]], abs=1e-6), name


def test_three_pairs_and_three_seeds(numbers: dict[str, Any]) -> None:
    assert len(numbers["endpoints"]) >= 3
    for name, method in numbers["methods"].items():
        assert {run["pair"] for run in method["runs"]} == set(numbers["endpoints"]), name
    single, dual = ([(run["pair"], run["seed"]) for run in numbers["methods"][m]["runs"]] for m in ("single", "dual"))
    assert single == dual  # or their means are of different things
    assert len({seed for _, seed in dual}) >= 3


def test_dual_matching_removes_the_barrier(numbers: dict[str, Any]) -> None:
    naive, dual = (over_pairs(numbers["methods"][name]) for name in ("naive", "dual"))
    guess = numbers["baselines"].get("class_prior", numbers["baselines"].get("unigram"))
    ends = mean([loss for pair in numbers["endpoints"].values() for loss in pair["losses"]])
    assert naive >= 0.5
    assert dual <= 0.1 * naive
    assert dual <= 0.15
    assert dual <= 0.1 * (guess - ends)
    assert numbers["headline"]["dual barrier"] == pytest.approx(dual, rel=1e-6)
    assert numbers["summary"]["dual"]["normalised"] == pytest.approx(dual / (guess - ends), rel=1e-6)


def test_endpoints_are_good_and_unrelated(root: Path) -> None:
    digits, text = (committed(root, kind) for kind in KINDS)
    for numbers in (digits, text):
        assert all(abs(pair["cosine"]) < 0.05 for pair in numbers["endpoints"].values())
    assert all(min(pair["accuracies"]) >= 0.95 for pair in digits["endpoints"].values())
    bigram = text["baselines"]["bigram"]  # nats per byte
    assert all(max(pair["losses"]) <= bigram - 0.3 for pair in text["endpoints"].values())


@pytest.mark.parametrize("kind", KINDS)
def test_learning_rates_say_how_they_were_compared(kind: str, root: Path) -> None:
    rates = committed(root, f"{kind}-rates")
    assert {"steps", "samples"} <= rates.keys()
    assert rates["steps"] > 0 and min(rates["samples"]["matched"], rates["samples"]["scored"]) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_learning_rate_is_inside_its_grid_and_the_one_used(kind: str, root: Path) -> None:
    """At an end of the grid, a better rate might lie beyond it."""
    rates, found = committed(root, f"{kind}-rates"), committed(root, kind)
    for method in ("single", "dual"):
        grid = rates["grids"][method]
        means = [mean(row) for row in grid["barrier"]]
        best = means.index(min(means))
        assert 0 < best < len(means) - 1, method
        assert grid["rates"][best] == rates["headline"][f"best rate, {method}"]
        assert {run["lr"] for run in found["methods"][method]["runs"]} == {grid["rates"][best]}, method


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_the_headline_made_again_gives_the_committed_number(kind: str, root: Path) -> None:
    """Dual matching of the second pair at full length, as the chapter runs it."""
    numbers, expected = committed(root, kind), figures(root / "figures.yml")[kind].expected["laptop"]
    dual, name = numbers["methods"]["dual"], f"{kind}-1"
    at = [run["pair"] for run in dual["runs"]].index(name)
    options = {key: dual["runs"][at][key] for key in ("steps", "lr", "seed")}
    if kind == "vit-digits":
        match_on, held_out = (corpora.images("digits", split, **DIGITS) for split in ("match", "eval"))
    else:
        if [corpora.describe("embedded", split) for split in ("train", "eval")] != shipped_pairs.record(name)["corpus"]:
            pytest.skip("the installed packages' documentation is another text than the committed numbers are about")
        tokenizer = corpora.byte_tokenizer()
        match_on = corpora.tokens("embedded", "train", tokenizer, 128)
        held_out = corpora.tokens("embedded", "eval", tokenizer, 128, limit=128)
    loaded = {name: load_pairs(kind, 2)[name]}
    (again,) = compare(loaded, match_on, held_out, {"dual": [options]}).runs
    assert {"pair": again.pair, **(again.settings or {})}.items() >= dual["runs"][at].items()
    assert again.barrier == pytest.approx(dual["barrier"][at], abs=expected["dual barrier"].tolerance)
    assert again.losses == pytest.approx(dual["losses"][at], abs=expected["dual barrier"].tolerance)
