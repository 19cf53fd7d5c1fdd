"""Experiments side by side: what is taken from each, in which order, and what the table says of it."""

import json

import pytest

from lmc.evaluation.plot import pyplot
from lmc.reproduce import charts, every_experiment
from lmc.reproduce.experiments.comparison import summary

RUNS = [{"pair": "a"}, {"pair": "b"}, {"pair": "a"}]
COMPARED = {
    "unit": "nats per image",
    "endpoints": {"a": {"losses": [0.5, 0.5]}, "b": {"losses": [0.5, 0.5]}},
    "methods": {
        "dual": {"barrier": [0.1, 0.6, 0.3], "gap": [-0.1, 0.0, 0.5], "runs": RUNS},
        "naive": {"barrier": [1.0, 3.0], "gap": [1.0, 1.0], "runs": RUNS[:2]},
    },
}
for table in COMPARED["methods"].values():
    table |= {"endpoint_change": [0.0], "interval": [[0.0, 1.0]] * len(table["runs"])}
COMPARED |= summary(COMPARED, guess=2.5)
SWEPT = {
    "unit": "nats per token",
    "varied": "width",
    "points": [8, 16],
    "pairs": ["a", "b", "a"],
    "methods": {"naive": {"barrier": [[5.0, 3.0], [0.0, 0.0]]}, "dual": {"barrier": [[1.0, 0.5, 2.0], [0.0] * 3]}},
}


def test_experiments_keep_their_order_and_every_point_of_a_sweep_is_one():
    numbers = every_experiment.side_by_side({"text": SWEPT, "pictures": COMPARED})
    assert numbers["order"] == ["text, width 8", "text, width 16", "pictures"]
    ratios = [numbers["experiments"][title]["ratio"] for title in numbers["order"]]
    assert ratios == [0.25, 1.0, pytest.approx(0.2)]  # where there is nothing to lose, nothing was lost
    assert numbers["experiments"]["pictures"]["pairs"] == 2
    assert numbers["experiments"]["pictures"]["gap"] == pytest.approx(0.1)
    shown = every_experiment.overview_table(numbers).text
    assert "| | naive | dual | ratio | gap |" in shown and "| pictures | 2.000 | 0.400 | 20.0% | +0.100 |" in shown
    axes = charts.overview_figure(numbers).axes[0]
    marks = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines}
    assert marks == {
        "naive": [(4.0, 0), (0.0, 1), (2.0, 2)],
        "dual": [(1.0, 0), (0.0, 1), (pytest.approx(0.4), 2)],
    }
    pyplot().close("all")


def test_the_committed_overview_is_that_of_the_committed_experiments(root):
    folder = root / "data/results/laptop"
    ids = json.loads((folder / "every-experiment.run.json").read_text())["drawn_from"]
    now = every_experiment.side_by_side({id: json.loads((folder / f"{id}.json").read_text()) for id in ids})
    committed = json.loads((folder / "every-experiment.json").read_text())
    assert len(committed["order"]) == len(now["order"]) >= 11
    for ours, title in zip(now["order"], committed["order"], strict=True):
        row, kept = now["experiments"][ours], committed["experiments"][title]
        assert row.keys() == kept.keys() and kept["unit"] == row["unit"] and kept.get("pairs") == row.get("pairs")
        assert kept["barriers"] == pytest.approx(row["barriers"], rel=1e-6) and kept["ratio"] == pytest.approx(
            row["ratio"]
        )
