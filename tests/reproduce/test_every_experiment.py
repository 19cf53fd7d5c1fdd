"""Experiments side by side: what is taken from each, in which order, and what the table says of it."""

import json

import pytest

from lmc.evaluation.plot import pyplot
from lmc.reproduce import charts, every_experiment, results
from lmc.reproduce.runs import Comparison, Parents, Run, Sweep

MEASURED = {"interval": (0.0, 1.0), "endpoint_change": 0.0}
COMPARED = Comparison(
    (
        *(Run("dual", b, p, gap=g, **MEASURED) for b, p, g in ((0.1, "a", -0.1), (0.6, "b", 0.0), (0.3, "a", 0.5))),
        *(Run("naive", b, p, gap=1.0, **MEASURED) for b, p in ((1.0, "a"), (3.0, "b"))),
    ),
    "nats per image",
    endpoints={pair: Parents((0.5, 0.5), (1.0, 1.0), 0.0) for pair in "ab"},
).summarised(guess=2.5)
SWEPT = {
    "unit": "nats per token",
    "varied": "width",
    "points": [8, 16],
    "pairs": ["a", "b", "a"],
    "methods": {"naive": {"barrier": [[5.0, 3.0], [0.0, 0.0]]}, "dual": {"barrier": [[1.0, 0.5, 2.0], [0.0] * 3]}},
}


def test_experiments_keep_their_order_and_every_point_of_a_sweep_is_one():
    found = every_experiment.side_by_side({"text": Sweep.from_json(SWEPT), "pictures": COMPARED})
    assert list(found) == ["text, width 8", "text, width 16", "pictures"]
    assert [one.ratio for one in found.values()] == [0.25, 1.0, pytest.approx(0.2)]  # nothing to lose, nothing lost
    assert (found["pictures"].pairs, found["pictures"].gap) == (2, pytest.approx(0.1))
    assert every_experiment.from_json(every_experiment.to_json(found)) == found
    shown = charts.overview_table(found).text
    assert "| | naive | dual | ratio | gap |" in shown and "| pictures | 2.000 | 0.400 | 20.0% | +0.100 |" in shown
    axes = charts.overview_figure(found).axes[0]
    marks = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines}
    assert marks == {
        "naive": [(4.0, 0), (0.0, 1), (2.0, 2)],
        "dual": [(1.0, 0), (0.0, 1), (pytest.approx(0.4), 2)],
    }
    pyplot().close("all")


def test_the_committed_overview_is_that_of_the_committed_experiments(root, tmp_path, monkeypatch):
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path))
    folder = root / "data/results/laptop"
    ids = json.loads((folder / "every-experiment.run.json").read_text())["drawn_from"]
    now = every_experiment.side_by_side({id: results.read(id, "laptop").experiment for id in ids})
    committed = every_experiment.from_json(json.loads((folder / "every-experiment.json").read_text()))
    assert len(committed) == len(now) >= 11
    for ours, kept in zip(now.values(), committed.values(), strict=True):
        assert (kept.unit, kept.pairs) == (ours.unit, ours.pairs)
        assert kept.barriers == pytest.approx(ours.barriers, rel=1e-6) and kept.ratio == pytest.approx(ours.ratio)
