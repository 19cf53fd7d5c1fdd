"""The experiment runner: every run of the plan once, on the pairs it names, and a summary that is arithmetic."""

import math
import time

import pico
import pytest
import torch

import lmc
from lmc.errors import DivergedError
from lmc.evaluation.loss import Data
from lmc.matching.recipe import CLOSED_FORM, LEARNED
from lmc.reproduce import results
from lmc.reproduce.experiments.comparison import (
    best_start,
    compare,
    learning_rates,
    load_pairs,
    plan,
    record,
)
from lmc.reproduce.experiments.rates import best_rates, probe
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.runs import RateGrid


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
    found = compare(pairs, data, data, plan, grid=3)
    assert [run.pair for run in found.methods["naive"]] == ["pair-0", "pair-1"]
    dual = found.methods["dual"]
    assert [(run.pair, run.settings["seed"]) for run in dual] == [("pair-0", 0), ("pair-1", 0), ("pair-1", 1)]
    assert all(None not in vars(run).values() or run.kinds is None for run in dual)
    assert dual[1].losses != dual[2].losses  # the seed matters
    for run in dual:  # rewriting does not move the endpoints
        assert run.losses[0] == pytest.approx(found.endpoints[run.pair].losses[0], rel=1e-4)
        assert run.endpoint_change < 1e-3


def test_an_interrupted_experiment_goes_on_where_it_was(pairs, data, tmp_path, monkeypatch):
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path))
    plan = {"weights": [{}], "dual": [{"seed": 0, "steps": 1}, {"seed": 1, "steps": 1, "pairs": ["pair-1"]}]}
    whole = compare(pairs, data, data, plan, grid=3)
    made = []

    def interrupted(*models, method, **options):
        made.append(method)
        if len(made) == 5:
            raise KeyboardInterrupt
        return lmc.match(*models, method=method, **options)

    monkeypatch.setattr("lmc.reproduce.experiments.comparison.match", interrupted)
    keep = KeptRuns.of("two-pairs", "smoke")
    with pytest.raises(KeyboardInterrupt):
        compare(pairs, data, data, plan, grid=3, keep=keep)
    assert made == ["weights", "weights", "activations", "dual", "activations"]
    again = compare(pairs, data, data, plan, grid=3, keep=keep)
    assert made[5:] == ["weights", "activations", "dual", "dual"]  # the starts of what was missing, and that
    assert again == whole
    spent = keep.seconds(before=math.inf)
    found = record("two-pairs", "smoke", again.to_json(), [0], time.monotonic())
    assert found.run["duration_s"] >= spent > 0 and not keep.folder.exists()
    other = {"weights": [{}]}
    compare(pairs, data, (data[0] + 1, data[1]), other, grid=3, keep=keep)
    assert made[-2:] == ["weights", "weights"]  # other data is another run


def test_single_and_dual_make_the_same_runs_at_their_own_rates():
    """Every method on all pairs; the learned ones with the first seed on all, with the others on the first pair."""
    methods = plan(["p", "q"], seeds=[5, 6], steps=3, rates={"single": 0.02, "dual": 0.01})
    assert list(methods) == ["naive", "canonical", "weights", "activations", "single", "dual"]
    assert all(methods[name] == [{}] for name in ("naive", "canonical", "weights", "activations"))
    for name, rate in (("single", 0.02), ("dual", 0.01)):
        setting = {"steps": 3, "lr": rate}
        assert methods[name] == [{**setting, "seed": 5}, {**setting, "seed": 6, "pairs": ["p"]}]


@pytest.mark.parametrize("better", CLOSED_FORM)
def test_learning_starts_from_the_closed_form_with_the_lower_midpoint(better):
    """B is A rewritten: undone, the midpoint is A itself; left alone, it is neither."""
    a = lmc.canonicalize(pico.vit(dtype=torch.float32))
    g = lmc.Transform.random(lmc.spec(a), seed=0)
    b, stay = g.apply(a), lmc.Transform.identity(lmc.spec(a))
    found = [
        lmc.Alignment(method, (a, b), (stay, g.inverse() if method == better else stay), {}) for method in CLOSED_FORM
    ]
    inputs = pico.inputs(a, n=32)
    assert best_start((a, b), Data(inputs, pico.logits(a, inputs).argmax(-1)), found).method == better


def test_learning_rate_grid_has_a_row_per_rate_and_a_column_per_pair(pairs, data, monkeypatch):
    """And says how it was obtained; what it is scored on was not matched on."""
    seen = {}

    def watch(make, scored):
        seen.update(matched=make.keywords["data"].inputs, scored=scored.inputs)
        return probe(make, scored)

    monkeypatch.setattr("lmc.reproduce.experiments.comparison.probe", watch)
    numbers = learning_rates(pairs, data, {method: [1e-3, 1e-2] for method in LEARNED}, steps=1, score=5)
    assert list(numbers["grids"]) == ["single", "dual"]
    for grid in numbers["grids"].values():
        assert grid["rates"] == [1e-3, 1e-2]
        assert [len(row) for row in grid["barrier"]] == [2, 2]
    assert (numbers["steps"], numbers["samples"]) == (1, {"matched": 7, "scored": 5})
    whole, parts = data[0].flatten(1).tolist(), torch.cat([seen["matched"], seen["scored"]]).flatten(1).tolist()
    assert len(seen["scored"]) == 5 and sorted(parts) == sorted(whole)
    with pytest.raises(lmc.ArgumentError, match="score: expected 1 to 11 of 12 samples, found 12"):
        learning_rates(pairs, data, {method: [1e-3] for method in LEARNED}, steps=1, score=12)


def test_rows_of_the_grid_are_rates_and_columns_pairs(pairs, data, monkeypatch):
    """With barriers that tell which run they are of."""

    def told(make, scored):
        return make.keywords["lr"] + list(pairs.values()).index(make.args)

    monkeypatch.setattr("lmc.reproduce.experiments.comparison.probe", told)
    numbers = learning_rates(pairs, data, {"single": [0.25], "dual": [0.25, 0.5]}, steps=1, score=5)
    assert numbers["grids"]["dual"] == {"rates": [0.25, 0.5], "barrier": [[0.25, 1.25], [0.5, 1.5]]}
    assert numbers["headline"] == {"best rate, single": 0.25, "best rate, dual": 0.25}


def test_best_rate_has_the_lowest_mean_barrier():
    grids = {
        "single": RateGrid((0.1, 0.2, 0.3), ((1.0, 5.0), (2.0, 2.0), (9.0, 0.0))),
        "dual": RateGrid((0.1, 0.2), ((None, 0.0), (2.0, 2.0))),  # diverged on a pair
    }
    assert best_rates(grids) == {"single": 0.2, "dual": 0.2}
    with pytest.raises(DivergedError, match="at every rate"):
        best_rates({"dual": RateGrid((0.1,), ((None,),))})


def test_shipped_pairs_load_by_name():
    loaded = load_pairs("vit-digits", 2)
    assert list(loaded) == ["vit-digits-0", "vit-digits-1"]
    weights = [model.head.weight for pair in loaded.values() for model in pair]
    assert len({tuple(w.flatten().tolist()) for w in weights}) == 4


def test_a_record_says_how_the_numbers_came_about(tmp_path, monkeypatch):
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path))
    monkeypatch.setattr("time.monotonic", lambda: 12.0)
    found = record("vit-digits", "smoke", {"x": 1.0}, (0, 1), began=10.0, corpus={"split": "eval"})
    assert found.numbers == {"x": 1.0} == results.read("vit-digits", "smoke").numbers
    told = {key: found.run[key] for key in ("seeds", "duration_s", "command", "corpus")}
    assert told == {
        "seeds": [0, 1],
        "duration_s": 2.0,
        "command": "lmc reproduce --profile smoke --figure vit-digits",
        "corpus": {"split": "eval"},
    }
