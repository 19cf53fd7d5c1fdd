"""The experiment runner: every run of the plan once, on the pairs it names, and a summary that is arithmetic."""

import pico
import pytest
import torch

from lmc.experiment import compare, learning_rates, summary


@pytest.fixture(scope="module")
def pairs():
    return {f"pair-{i}": tuple(pico.vit(seed=2 * i + k, dtype=torch.float32) for k in (0, 1)) for i in range(2)}


@pytest.fixture(scope="module")
def data(pairs):
    images = pico.inputs(pairs["pair-0"][0], n=12)
    return images, torch.arange(12) % 10


def test_every_run_of_the_plan(pairs, data):
    plan = {
        "naive": [{}],
        "dual": [{"seed": 0, "steps": 2}, {"seed": 1, "steps": 2, "pairs": ["pair-1"]}],
    }
    numbers = compare(pairs, data, data, plan, grid=3, say=lambda line: None)
    assert [run["pair"] for run in numbers["methods"]["naive"]["runs"]] == ["pair-0", "pair-1"]
    dual = numbers["methods"]["dual"]
    assert [(run["pair"], run["seed"]) for run in dual["runs"]] == [("pair-0", 0), ("pair-1", 0), ("pair-1", 1)]
    assert all(len(dual[key]) == 3 for key in ("losses", "accuracies", "barrier", "interval", "gap"))
    assert dual["losses"][1] != dual["losses"][2]  # the seed matters
    for losses, run in zip(dual["losses"], dual["runs"], strict=True):  # rewriting does not move the endpoints
        assert losses[0] == pytest.approx(numbers["endpoints"][run["pair"]]["losses"][0], rel=1e-4)
    assert max(dual["endpoint_change"]) < 1e-3


def test_summary_is_arithmetic():
    method = {"gap": [0.0, 0.0], "endpoint_change": [1e-6, 2e-6], "runs": [{"pair": "p"}, {"pair": "q"}]}
    numbers = {
        "endpoints": {"p": {"losses": [1.0, 1.0]}, "q": {"losses": [2.0, 2.0]}},
        "methods": {
            "naive": {**method, "barrier": [4.0, 2.0]},
            "dual": {**method, "barrier": [0.4, 0.1]},
        },
    }
    found = summary(numbers, guess=3.5)
    dual = found["summary"]["dual"]
    assert dual["barrier"] == pytest.approx(0.25)
    assert dual["ratio"] == pytest.approx((0.1 + 0.05) / 2)  # each to the naive barrier of its own pair
    assert dual["normalised"] == pytest.approx(0.25 / (3.5 - 1.5))
    assert found["headline"]["dual ÷ naive"] == dual["ratio"]


def test_learning_rate_grid_has_a_row_per_rate_and_a_column_per_pair(pairs, data):
    grid = learning_rates(pairs, data, data, "single", [1e-3, 1e-2], steps=1)
    assert grid["rates"] == [1e-3, 1e-2]
    assert [len(row) for row in grid["barrier"]] == [2, 2]
