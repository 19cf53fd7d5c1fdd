"""Results to figures, in one style; never computes anything but a mean.

    >>> figure = path_figure(results.read("vit-digits", "laptop").numbers)
    >>> save(figure, Path("build/figures/vit-digits"))  # .svg and .png

Numbers have the shape `{"methods": {name: {"lambdas": [...], "losses": [[...], ...], "barrier": [...]}}}`, with one
list of losses and one barrier per run; `"unit"` beside `"methods"` names the loss's unit, `"pairs"` the runs' pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmc.evaluation import COLOURS, MARKERS, PATH, frame, look, path_line, pyplot, use_style
from lmc.reproduce.pair_means import mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Markdown",
    "accuracy_figure",
    "barrier_bars",
    "by_effort",
    "curves",
    "method_table",
    "path_figure",
    "pyplot",
    "rate_figure",
    "use_style",
]


def path_figure(numbers: dict[str, Any]) -> "Figure":
    """Loss along the line between the endpoints, one line per method: the mean over pairs, and each run faintly.

    >>> path_figure({"methods": {"naive": {"lambdas": [0, 0.5, 1], "losses": [[1.0, 2.5, 1.1]]}}})
    """
    figure, axes = frame(PATH, f"held-out loss [{numbers.get('unit', 'nats')}]")
    for place, (name, method) in enumerate(by_effort(numbers["methods"]).items()):
        lambdas, losses = method["lambdas"], method["losses"]
        if len(losses) > 1:
            for run in losses:
                axes.plot(lambdas, run, color=look(place)["color"], alpha=0.3, linewidth=0.8)
        middle = [mean(values, numbers.get("pairs", ())) for values in zip(*losses, strict=True)]
        path_line(axes, place, name, lambdas, middle)
    axes.legend()
    return figure


def barrier_bars(numbers: dict[str, Any]) -> "Figure":
    """One bar per method, as high as its mean barrier over pairs, with a point for each run and its 95 % interval.

    >>> barrier_bars({"methods": {"naive": {"barrier": [1.5, 1.6]}, "dual": {"barrier": [0.1, 0.12]}}})
    """
    use_style()
    figure, axes = pyplot().subplots()
    methods = by_effort(numbers["methods"])
    for place, (name, method) in enumerate(methods.items()):
        barriers = method["barrier"]
        height = mean(barriers, numbers.get("pairs", ()))
        axes.bar(place, height, width=0.65, color=COLOURS[place % len(COLOURS)], label=name)
        top = whiskers(axes, [place] * len(barriers), barriers, method.get("interval"))
        above = (place, top)
        axes.annotate(f"{height:.3f}", above, (0, 5), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xticks(range(len(methods)), list(methods))
    axes.set_ylabel(f"barrier [{numbers.get('unit', 'nats')}]")
    axes.margins(y=0.12)
    axes.grid(False, axis="x")
    return figure


def whiskers(
    axes: Any, across: Sequence[float], values: Sequence[float], intervals: Any, sideways: bool = False
) -> float:
    """A point for every run, with its interval over held-out samples where there is one; returns how far they reach.

    Points at one place are set apart a little, so that their intervals can be told from each other.
    """
    apart = [x + 0.12 * (i - (len(values) - 1) / 2) for i, x in enumerate(across)] if intervals else list(across)
    ends = [
        [max(0.0, v - low), max(0.0, high - v)]
        for v, (low, high) in zip(values, intervals or (), strict=bool(intervals))
    ]
    errors = [list(side) for side in zip(*ends, strict=True)] or None
    x, y, at = (values, apart, "xerr") if sideways else (apart, values, "yerr")
    axes.errorbar(x, y, **{at: errors}, fmt="o", color="black", markersize=3.5, elinewidth=0.8, zorder=3)
    return max([*values, *(high for _, high in intervals or ())])


def by_effort(methods: dict[str, Any]) -> dict[str, Any]:
    """From the least to the most that is done to the endpoints (results files sort by name); others as they come."""
    known = ("naive", "canonical", "start", "weights", "activations", "single", "dual")
    return dict(sorted(methods.items(), key=lambda item: known.index(item[0]) if item[0] in known else len(known)))


def accuracy_figure(numbers: dict[str, Any]) -> "Figure":
    """Accuracy along the line between the endpoints, one line per method.

    >>> accuracy_figure({"methods": {"naive": {"lambdas": [0, 0.5, 1], "accuracies": [[0.9, 0.1, 0.9]]}}})
    """
    methods = {name: {**method, "losses": method["accuracies"]} for name, method in numbers["methods"].items()}
    figure = path_figure({**numbers, "methods": methods})
    figure.axes[0].set_ylabel("held-out accuracy")
    return figure


def rate_figure(numbers: dict[str, Any]) -> "Figure":
    """Barrier over the learning rate on logarithmic axes, one line per method; pairs faintly.

    >>> rate_figure({"grids": {"single": {"rates": [0.01, 0.02], "barrier": [[0.2, 0.3], [0.1, 0.2]]}}})
    """
    use_style()
    figure, axes = pyplot().subplots()
    for place, (name, grid) in enumerate(numbers["grids"].items()):
        colour = COLOURS[place % len(COLOURS)]
        for pair in zip(*grid["barrier"], strict=True):
            axes.plot(grid["rates"], pair, color=colour, alpha=0.3, linewidth=0.8)
        means = [mean(row) for row in grid["barrier"]]
        axes.plot(grid["rates"], means, color=colour, marker=MARKERS[place % len(MARKERS)], label=name)
    axes.set_xscale("log")
    rates = sorted({rate for grid in numbers["grids"].values() for rate in grid["rates"]})
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.minorticks_off()
    axes.set_xlabel("learning rate")
    axes.set_ylabel(f"barrier [{numbers.get('unit', 'nats')}]")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def curves(numbers: dict[str, Any]) -> "Figure":
    """Training loss over steps, one line per run.

    >>> curves({"curves": {"dual": [2.0, 1.5], "single": [2.0, 1.6]}})
    """
    use_style()
    figure, axes = pyplot().subplots()
    for place, (name, losses) in enumerate(numbers["curves"].items()):
        style = ("-", "--", ":")[place % 3]
        axes.plot(range(1, len(losses) + 1), losses, style, color=COLOURS[place % len(COLOURS)], label=name)
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss on the line [{numbers.get('unit', 'nats')}]")
    axes.legend()
    return figure


def pairs_table(pairs: Sequence[Any]) -> Any:
    """The published pairs of a chapter (`lmc.reproduce.experiments.published.Published`), as a table for a notebook.

    >>> pairs_table(lmc.reproduce.experiments.published.PAIRS["olmo"])
    """
    rows = ["| pair | parameters each, millions | to know |", "|---|---|---|"]
    for pair in pairs:
        rows.append(f"| {pair.label} | {pair.parameters:g} | {pair.note or 'two seeds of one recipe'} |")
    return Markdown("\n".join(rows))


def method_table(numbers: dict[str, Any]) -> Any:
    """What `lmc.reproduce.experiments.comparison.summary` says of every method, as a table for a notebook.

    `95 %` is the interval of a run by bootstrap over held-out samples, on average; `range` that of all runs;
    `moved` is by how much alignment changed the endpoints' own losses, at most.

    >>> method_table({"summary": {"naive": {"barrier": 1.5, "range": [1.4, 1.6], "ratio": 1.0, ...}}})
    """
    if "summary" not in numbers:  # pairs that have hardly learned, as at smoke
        return Markdown("The naive barrier of a pair is 0: there is nothing to compare methods with.")
    columns = ("method", "runs", "barrier", "95 %", "range", "÷ naive", "normalised", "gap", "moved")
    rows = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for name, row in by_effort(numbers["summary"]).items():
        within, between = (f"{low:.3f} to {high:.3f}" for low, high in (row["interval"], row["range"]))
        rows.append(
            f"| {name} | {row['runs']} | {row['barrier']:.3f} | {within} | {between} | {row['ratio']:.1%} | "
            f"{row['normalised']:.3f} | {row['gap']:+.3f} | {row['endpoint_change']:.0e} |"
        )
    return Markdown("\n".join(rows))


@dataclass(frozen=True)
class Markdown:
    """Text that a notebook shows as Markdown."""

    text: str

    def _repr_markdown_(self) -> str:
        return self.text


DRAWN: tuple[Callable[[dict[str, Any]], "Figure"], ...] = (
    path_figure,
    accuracy_figure,
    barrier_bars,
    rate_figure,
    curves,
)
