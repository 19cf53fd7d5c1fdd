"""Figures of a comparison, in one style. Nothing is computed here but means.

>>> figure = path_figure(results.read("vit-digits", "laptop").comparison)
>>> figure.axes[0].get_ylabel()
'held-out loss [nats per image]'

`lmc.reproduce.runs` says what a comparison is. `charts` draws what is not one, `draw` writes figures to files.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmc.evaluation import COLOURS, PATH, frame, look, path_line, pyplot, use_style
from lmc.reproduce.pair_means import mean
from lmc.reproduce.runs import Comparison, RateGrid, Run, by_effort

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Markdown",
    "accuracy_figure",
    "barrier_bars",
    "curves",
    "method_table",
    "path_figure",
    "pyplot",
    "rate_figure",
    "use_style",
]


def path_figure(compared: Comparison) -> "Figure":
    """Loss along the line between the endpoints, one line per method: the mean over pairs, and each run faintly.

    >>> run = Run("naive", barrier=1.45, lambdas=(0, 0.5, 1), losses=(1.0, 2.5, 1.1))
    >>> path_figure(Comparison((run,), unit="nats per image"))
    """
    return _along(compared, f"held-out loss [{unit(compared)}]", lambda run: run.losses or ())


def accuracy_figure(compared: Comparison) -> "Figure":
    """Accuracy along the line between the endpoints, one line per method."""
    return _along(compared, "held-out accuracy", lambda run: run.accuracies or ())


def _along(compared: Comparison, label: str, quantity: Callable[[Run], Sequence[float]]) -> "Figure":
    figure, axes = frame(PATH, label)
    for place, (name, runs) in enumerate(compared.independent().methods.items()):
        lambdas, paths = runs[0].lambdas or (), [quantity(run) for run in runs]
        if len(runs) > 1:
            for path in paths:
                axes.plot(lambdas, path, color=look(place)["color"], alpha=0.3, linewidth=0.8)
        pairs = [run.pair for run in runs if run.pair]
        path_line(axes, place, name, lambdas, [mean(values, pairs) for values in zip(*paths, strict=True)])
    axes.legend()
    return figure


def barrier_bars(compared: Comparison) -> "Figure":
    """One bar per method, as high as its mean barrier over pairs, with a point for each run and its 95 % interval.

    >>> barrier_bars(Comparison((Run("naive", 1.5), Run("dual", 0.1))))
    """
    figure, axes = frame("", f"barrier [{unit(compared)}]")
    counted = compared.independent()
    methods = counted.methods
    for place, (name, runs) in enumerate(methods.items()):
        height = counted.mean(name)
        axes.bar(place, height, width=0.65, color=look(place)["color"], label=name)
        above = (place, whiskers(axes, place, runs))
        axes.annotate(f"{height:.3f}", above, (0, 5), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xticks(range(len(methods)), list(methods))
    axes.margins(y=0.12)
    axes.grid(False, axis="x")
    return figure


def whiskers(axes: Any, place: float, runs: Sequence[Run], sideways: bool = False) -> float:
    """A point for every run, with its interval over held-out samples where there is one; returns how far they reach.

    Points are set apart a little, so that their intervals can be told from each other.
    """
    barriers, intervals = [run.barrier for run in runs], [run.interval for run in runs if run.interval]
    step = 0.12 if intervals else 0
    apart = [place + step * (i - (len(runs) - 1) / 2) for i in range(len(runs))]
    ends = [
        [max(0.0, barrier - low), max(0.0, high - barrier)]
        for barrier, (low, high) in zip(barriers, intervals, strict=bool(intervals))
    ]
    errors = [list(side) for side in zip(*ends, strict=True)] or None
    x, y, at = (barriers, apart, "xerr") if sideways else (apart, barriers, "yerr")
    axes.errorbar(x, y, **{at: errors}, fmt="o", color="black", markersize=3.5, elinewidth=0.8, zorder=3)
    return max([*barriers, *(high for _, high in intervals)])


def rate_figure(grids: Mapping[str, RateGrid], unit: str = "nats") -> "Figure":
    """Barrier over the learning rate on logarithmic axes, one line per method; pairs faintly.

    >>> rate_figure({"single": RateGrid((0.01, 0.02), ((0.2, 0.3), (0.1, 0.2)))})
    """
    figure, axes = frame("learning rate", f"barrier [{unit}]")
    for place, (name, grid) in enumerate(grids.items()):
        for pair in zip(*grid.barriers, strict=True):
            axes.plot(grid.rates, pair, color=look(place)["color"], alpha=0.3, linewidth=0.8)
        axes.plot(grid.rates, grid.means, **look(place), label=name)
    rates = sorted({rate for grid in grids.values() for rate in grid.rates})
    logarithmic(axes, rates, [f"{rate:g}" for rate in rates])
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def logarithmic(axes: Any, points: Sequence[float], labels: Sequence[str]) -> None:
    """A logarithmic horizontal axis with a tick at each of these points, and at no other; zero has its place too."""
    if min(points) > 0:
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=min(x for x in points if x > 0))
    axes.set_xticks(points, labels)
    axes.minorticks_off()


def curves(numbers: Mapping[str, Any]) -> "Figure":
    """Training loss over steps, one line per run.

    >>> curves({"curves": {"dual": [2.0, 1.5], "single": [2.0, 1.6]}})
    """
    figure, axes = frame("step", f"loss on the line [{numbers.get('unit', 'nats')}]")
    for place, (name, losses) in enumerate(numbers["curves"].items()):
        style = ("-", "--", ":")[place % 3]
        axes.plot(range(1, len(losses) + 1), losses, style, color=COLOURS[place % len(COLOURS)], label=name)
    axes.legend()
    return figure


def unit(compared: Comparison) -> str:
    """That of its losses, for an axis."""
    return compared.unit or "nats"


def pairs_table(pairs: Sequence[Any]) -> "Markdown":
    """The published pairs of a chapter (`lmc.reproduce.experiments.published.Published`), as a table for a notebook.

    >>> from lmc.reproduce.experiments.published import PAIRS
    >>> pairs_table(PAIRS["olmo"])
    """
    rows = ["| pair | parameters each, millions | to know |", "|---|---|---|"]
    for pair in pairs:
        rows.append(f"| {pair.label} | {pair.parameters:g} | {pair.note or 'two seeds of one recipe'} |")
    return Markdown("\n".join(rows))


def method_table(compared: Comparison) -> "Markdown":
    """The summary of every method, as a table for a notebook.

    `95 %` is the interval of a run by bootstrap over held-out samples, on average; `range` that of all runs;
    `moved` is by how much alignment changed the endpoints' own losses, at most.

    >>> method_table(results.read("vit-digits", "laptop").comparison)
    """
    if not compared.summary:  # pairs that have hardly learned, as at smoke
        return Markdown("The naive barrier of a pair is 0: there is nothing to compare methods with.")
    columns = ("method", "runs", "barrier", "95 %", "range", "÷ naive", "normalised", "gap", "moved")
    rows = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for name, row in by_effort(compared.summary).items():
        within, between = (f"{low:.3f} to {high:.3f}" for low, high in (row.interval, row.range))
        rows.append(
            f"| {name} | {row.runs} | {row.barrier:.3f} | {within} | {between} | {row.ratio:.1%} | "
            f"{row.normalised:.3f} | {row.gap:+.3f} | {row.endpoint_change:.0e} |"
        )
    return Markdown("\n".join(rows))


@dataclass(frozen=True)
class Markdown:
    """Text that a notebook shows as Markdown."""

    text: str

    def _repr_markdown_(self) -> str:
        return self.text
