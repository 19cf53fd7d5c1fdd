"""Charts show the numbers they are given."""

import matplotlib
import pytest

matplotlib.use("agg")

from lmc.reproduce import charts
from lmc.reproduce.draw import drawings
from lmc.reproduce.ledger import figures
from lmc.reproduce.runs import Comparison, Run, Sweep

PLANE = {
    "unit": "nats",
    "x": [0.0, 1.0, 2.0],
    "y": [0.0, 1.0, 2.0],
    "losses": [[0.1, 5.0, 0.1], [0.5, 2.0, 1.0], [0.1, 0.2, 3.0]],
    "points": {"first": [0.0, 0.0], "second": [2.0, 0.0], "third": [0.5, 2.0]},
    "names": ["A", "B", "g·B"],
    "lines": {"direct": ["A", "B"], "matched": ["A", "g·B"]},
}


def test_planes_name_their_points_and_join_them():
    figure = charts.landscape_figure({"unit": "nats", "planes": {"dual": PLANE, "single": PLANE}})
    assert [axes.get_title() for axes in figure.axes[:2]] == ["single", "dual"]  # as results files sort by name
    first = figure.axes[0]
    assert {text.get_text() for text in first.texts} == {"A", "B", "g·B"}
    drawn = [line.get_xydata().tolist() for line in first.lines]
    assert [[0.0, 0.0], [2.0, 0.0]] in drawn and [[0.0, 0.0], [0.5, 2.0]] in drawn


def test_sweeps_draw_means_and_runs():
    at_16 = (Run("dual", 0.2, "a"), Run("dual", 0.4, "b"), Run("naive", 5.0, "a"), Run("naive", 5.0, "b"))
    at_32 = (Run("dual", 0.1, "a"), Run("dual", 0.1, "b"), Run("naive", 6.0, "a"), Run("naive", 6.0, "b"))
    swept = Sweep(
        "width",
        (16, 32),
        (Comparison(at_16), Comparison(at_32)),
        ("dual", "naive"),
        parameters=(1000, 4000),
        loss=(0.2, 0.1),
        accuracy=(0.9, 1.0),
    )
    axes = charts.sweep_figure(swept).axes[0]
    means = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert means["dual"] == pytest.approx([0.3, 0.1]) and means["naive"] == [5.0, 6.0]
    assert axes.get_xlabel() == "width"
    text = charts.sweep_table(swept)._repr_markdown_()
    assert "| 16 | 1,000 | 0.200 | 0.900 | 5.000 (5.000–5.000) | 0.300 (0.200–0.400) |" in text


def test_ablations_go_from_nothing_to_everything():
    names = ("all", "without values", "only values", "none")
    runs = tuple(Run(name, barrier, pair) for name in names for pair, barrier in (("a", 1.0), ("b", 2.0)))
    axes = charts.ablation_figure(Comparison(runs)).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["none", "only values", "without values", "all"]
    assert [bar.get_width() for bar in axes.patches] == [1.5] * 4


def test_controls_and_groups():
    models = {"parents": {"loss": [0.1, 0.3]}, "naive": {"loss": [5.0, 7.0]}}
    axes = charts.control_figure({"unit": "nats", "models": models, "order": ["parents", "naive"]}).axes[0]
    assert {text.get_text() for text in axes.texts} == {"0.200", "6.000"}
    first = {"parents": [1.0, 1.0], "dual": [0.1, 0.3], "naive": [2.0, 4.0]}
    texts = {"one": first, "two": {"parents": [1.0, 1.0], "dual": [0.2, 0.2], "naive": [3.0, 3.0]}}
    axes = charts.grouped_figure({"unit": "nats", "texts": texts}).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [3.0, 3.0, 0.2, 0.2]  # naive first
    assert [list(points.get_ydata()) for points in axes.lines] == [[2.0, 4.0], [3.0, 3.0], [0.1, 0.3], [0.2, 0.2]]


def test_triangles_and_counts():
    triangle = {"weights": [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.3, 0.3, 0.4]], "losses": [0.1, 0.2, 0.1, 4.0]}
    numbers = {"unit": "nats", "triangles": {"dual": [triangle], "naive": [triangle]}}
    assert [axes.get_title() for axes in charts.simplex_figure(numbers).axes[:2]] == ["naive", "dual"]
    merges = {"dual": {"K = 2": [0.1, 0.3], "K = 3": [0.2]}, "naive": {"K = 2": [2.0, 2.0], "K = 3": [3.0]}}
    axes = charts.count_figure({"unit": "nats", "counts": [2, 3], "merges": merges}).axes[0]
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert drawn == {"naive": [2.0, 3.0], "dual": [0.2, 0.2]}
    dots = [[tuple(dot) for dot in dots.get_offsets().tolist()] for dots in axes.collections]
    assert dots == [[(2, 2.0), (2, 2.0), (3, 3.0)], [(2, 0.1), (2, 0.3), (3, 0.2)]]


def test_tables_and_texts():
    assert "| naive | 6.000 (5.000–7.000) | 3 |" in charts.table({"naive": {"loss": [5.0, 7.0], "n": 3}}).text
    said = {"dual": {"0.5": {"greedy": "a|b\n", "sampled": "`\x00"}}}
    assert "| dual | 0.5 | `a¦b⏎` | `ˋ·` |" in charts.sayings_table({"said": said}).text


def test_everything_the_ledger_names_can_be_drawn(root):
    assert {figure.draw for figure in figures(root / "figures.yml").values()} <= drawings().keys()
