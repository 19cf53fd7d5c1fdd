"""Figures show the numbers they are given."""

import matplotlib
import pytest

matplotlib.use("agg")

from lmc.errors import ArgumentError, DataError
from lmc.reproduce import figures
from lmc.reproduce.draw import draw
from lmc.reproduce.runs import Comparison, RateGrid, Run, Summary

AT = (0, 0.5, 1)
RUNS = (
    Run("naive", 3, "a", AT, losses=(1, 4, 1), accuracies=(1, 0, 1)),
    Run("naive", 4, "b", AT, losses=(1, 6, 3), accuracies=(1, 0, 1)),
    Run("dual", 0.1, "a", AT, losses=(1, 1.1, 1), accuracies=(1, 0.9, 1)),
)
COMPARED = Comparison(RUNS, unit="nats per image")


def lines(figure):
    return {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}


def test_paths_are_means_over_runs():
    drawn = lines(figures.path_figure(COMPARED))
    assert drawn["naive"] == [1, 5, 2]
    assert drawn["dual"] == [1, 1.1, 1]
    assert lines(figures.accuracy_figure(COMPARED))["dual"] == [1, 0.9, 1]


def test_bars_are_as_high_as_the_mean_barrier():
    axes = figures.barrier_bars(COMPARED).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [3.5, 0.1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["naive", "dual"]


def test_rates_and_curves():
    figure = figures.rate_figure({"single": RateGrid((0.01, 0.02), ((0.2, 0.4), (0.1, 0.1)))})
    assert lines(figure)["single"] == pytest.approx([0.3, 0.1])
    assert figure.axes[0].get_xscale() == "log"
    assert lines(figures.curves({"curves": {"dual": [2.0, 1.0]}}))["dual"] == [2.0, 1.0]


def test_table_has_a_row_for_every_method():
    row = Summary(
        runs=1,
        barrier=1.5,
        range=(1.4, 1.6),
        interval=(1.3, 1.7),
        ratio=0.5,
        normalised=0.7,
        gap=-0.1,
        endpoint_change=1e-6,
    )
    text = figures.method_table(Comparison((), summary={"naive": row})).text
    assert "| naive | 1 | 1.500 | 1.300 to 1.700 | 1.400 to 1.600 | 50.0% | 0.700 | -0.100 | 1e-06 |" in text


def test_the_interval_of_a_run_is_drawn_beside_its_point():
    runs = (Run("dual", 1.0, "a", interval=(0.5, 1.5)), Run("dual", 2.0, "a", interval=(1.5, 2.75)))
    axes = figures.barrier_bars(Comparison(runs)).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [1.5]
    (points,) = axes.containers[1:]
    (lines,) = points.lines[2]
    ends = [[y for _, y in segment] for segment in lines.get_segments()]
    assert ends == [pytest.approx([0.5, 1.5]), pytest.approx([1.5, 2.75])]
    figures.pyplot().close("all")


def test_unknown_figure_and_missing_numbers():
    with pytest.raises(ArgumentError, match="pie"):
        draw("pie", COMPARED.to_json())
    with pytest.raises(DataError, match="barrier_bars: the results are not what it draws"):
        draw("barrier_bars", {"methods": 3})
    with pytest.raises(DataError, match="methods"):
        draw("path_figure", {})
    with pytest.raises(DataError, match="path_figure: the results are not what it draws"):
        draw("path_figure", {"methods": {"dual": {"barrier": [1.0]}}})  # no losses along the path


def test_a_mistake_in_a_drawing_is_not_blamed_on_the_results(monkeypatch):
    monkeypatch.setattr(figures, "barrier_bars", Mistaken())
    with pytest.raises(TypeError, match="at least 1 argument"):
        draw("barrier_bars", Comparison((Run("dual", 1.0),)).to_json())


class Mistaken:
    __name__ = "barrier_bars"

    def __call__(self, compared):
        return max()
