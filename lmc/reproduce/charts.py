"""The other figures, and tables: planes, sweeps, methods in rows, merges of K. In the style of `figures`.

>>> figure = landscape_figure(results.read("landscape-vit", "laptop").numbers)
>>> len(figure.axes)                                       # two planes and their colour scale
3

What only one experiment finds (planes, controls, texts, merges of K) has no type of its own: it is drawn from the
numbers as that experiment wrote them, and the docstring of its figure says which.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lmc.evaluation import COLOURS, frame, look, row_of_frames
from lmc.reproduce.every_experiment import Experiment
from lmc.reproduce.figures import Markdown, logarithmic, unit, whiskers
from lmc.reproduce.pair_means import mean
from lmc.reproduce.runs import Comparison, Plane, Sweep, by_effort

if TYPE_CHECKING:
    from matplotlib.figure import Figure


COARSE = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)  # ticks of a logarithmic scale
FINE = (0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.5, 2, 2.5, 3, 4, 6, 8, 10, 15, 20)  # and of one that spans little


def landscape_figure(numbers: Mapping[str, Any]) -> "Figure":
    """The loss over planes through three models, side by side, in one colour scale; lines join the endpoints.

    `planes`: title -> a `Plane`, as a results file holds it.
    """
    planes = {title: Plane.from_json(plain) for title, plain in by_effort(numbers["planes"]).items()}
    figure, axes = row_of_frames(len(planes), width=5.2, height=4.6)
    values = [loss for plane in planes.values() for row in plane.losses for loss in row]
    low, high = math.log(min(values)), math.log(max(values))
    levels = [math.exp(low + (high - low) * i / 24) for i in range(25)]
    from matplotlib.colors import LogNorm

    for place, (title, plane) in zip(axes, planes.items(), strict=True):
        norm = LogNorm(levels[0], levels[-1])
        filled = place.contourf(plane.x, plane.y, plane.losses, levels, norm=norm, cmap="cividis_r", extend="both")
        place.contour(plane.x, plane.y, plane.losses, levels[::3], colors="white", linewidths=0.5, alpha=0.6)
        for (start, end), style in zip(plane.lines.values(), ("--", "-"), strict=True):
            ends = list(zip(plane.points[start], plane.points[end], strict=True))
            place.plot(*ends, style, color="white", linewidth=4.5, solid_capstyle="round")
            place.plot(*ends, style, color="black", linewidth=2)
        for name, (across, up) in plane.points.items():
            place.plot(across, up, "o", color="white", markeredgecolor="black", markersize=8)
            box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
            side = -16 if up == 0 else 12
            place.annotate(
                name, (across, up), (0, side), textcoords="offset points", ha="center", va="center", bbox=box
            )
        place.set_title(title, fontsize=10)
        place.set_aspect("equal")
        place.grid(False)
        place.set_xlabel("distance in weight space")
    shown = figure.colorbar(filled, ax=axes, label=f"held-out loss [{numbers['unit']}]", shrink=0.9)
    inside = [[t for t in ticks if levels[0] <= t <= levels[-1]] for ticks in (COARSE, FINE)]
    ticks = inside[0] if len(inside[0]) >= 3 else inside[1]
    shown.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    shown.ax.minorticks_off()
    return figure


def sweep_figure(swept: Sweep) -> "Figure":
    """Barrier over what was varied, one line per method: the mean over pairs, and each run as a point.

    A thin line through a point is its 95 % interval over held-out samples.

    >>> sweep_figure(results.read("barrier-by-width", "laptop").sweep)
    """
    figure, axes = frame(swept.varied, f"barrier [{swept.unit or 'nats'}]")
    methods = list(by_effort(dict.fromkeys(swept.methods)))
    for place, name in enumerate(methods):
        colour, marker = look(place)["color"], look(place)["marker"]
        means = []
        for x, compared in zip(swept.points, swept.compared, strict=True):
            runs = compared.methods[name]
            axes.plot([x] * len(runs), compared.barriers(name), marker, color=colour, alpha=0.35, markersize=4)
            for run in runs:
                if run.interval:
                    axes.plot([x, x], run.interval, color=colour, alpha=0.35, linewidth=0.8)
            means.append(compared.mean(name))
        axes.plot(swept.points, means, color=colour, marker=marker, label=name)
    logarithmic(axes, swept.points, [f"{x:,g}" for x in swept.points])
    axes.set_yscale("symlog", linthresh=0.01)
    highest = max(run.barrier for compared in swept.compared for run in compared.runs)
    axes.set_ylim(0, max(1.5 * highest, 0.01))
    figure.legend(loc="outside upper center", ncols=min(len(methods), 6), fontsize=9)  # lines fill the frame
    return figure


def ablation_figure(compared: Comparison) -> "Figure":
    """One horizontal bar per variant in the order tried, as long as its mean barrier; other methods: the lowest last.

    A point for each run, with its 95 % interval over held-out samples.

    >>> ablation_figure(results.read("ablation-vit", "laptop").comparison)
    """
    methods = compared.methods
    order = sorted(sorted(methods, key=lambda name: -compared.mean(name)), key=_variant)
    figure, axes = frame(f"barrier [{unit(compared)}]", "", figsize=(6.4, 0.32 * len(order) + 1))
    for place, name in enumerate(order):
        length = compared.mean(name)
        axes.barh(place, length, height=0.65, color=COLOURS[_variant(name)[0] % len(COLOURS)])
        reach = whiskers(axes, place, methods[name], sideways=True)
        axes.annotate(f"{length:.3f}", (reach, place), (6, 0), textcoords="offset points", va="center", fontsize=9)
    _name_rows(axes, order)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.grid(False, axis="y")
    return figure


def _name_rows(axes: Any, names: Sequence[str]) -> None:
    """Names at the left, the first one on top."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()


def _variant(name: str) -> tuple[int, str]:
    """None first, then single kinds, then all but one, then all, each by name; whatever else, as it comes."""
    kinds = ("none", "only ", "without ", "all")
    return next(((i, name) for i, start in enumerate(kinds) if name.startswith(start)), (len(kinds), ""))


def control_figure(numbers: Mapping[str, Any]) -> "Figure":
    """Held-out loss of one model per row, its mean over pairs and a point for each run; dashed: the parents' mean.

    >>> control_figure({"unit": "nats", "models": {"parents": {"loss": [0.1]}, "dual": {"loss": [0.1]}}})
    """
    losses = {name: model["loss"] for name, model in numbers["models"].items()}
    pairs, order = numbers.get("pairs", ()), numbers.get("order") or list(losses)
    figure, axes = frame(f"held-out loss [{numbers['unit']}]", "", figsize=(6.4, 0.32 * len(order) + 1))
    for place, name in enumerate(order):
        middle, above = mean(losses[name], pairs), (max(losses[name]), place)
        axes.plot(losses[name], [place] * len(losses[name]), "o", color="black", markersize=3.5, alpha=0.6)
        axes.plot(middle, place, "D", color=COLOURS[0], markersize=7)
        axes.annotate(f"{middle:.3f}", above, (8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.axvline(mean(losses["parents"], pairs), color=COLOURS[1], linestyle="--", linewidth=1)
    _name_rows(axes, order)
    every = [loss for row in losses.values() for loss in row]
    if max(every) > 10 * min(every):
        axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.grid(False, axis="y")
    return figure


def grouped_figure(numbers: Mapping[str, Any]) -> "Figure":
    """Barrier (or `what`) by method, a group of bars for every text: means over pairs, and each run as a point.

    >>> grouped_figure({"unit": "nats", "texts": {"one": {"parents": [1.9], "naive": [1.4], "dual": [0.1]}}})
    """
    figure, axes = frame("", f"{numbers.get('what', 'barrier')} [{numbers['unit']}]")
    texts = numbers["texts"]
    methods = list(by_effort({name: 0 for name in next(iter(texts.values())) if name != "parents"}))
    methods = numbers.get("order") or methods
    width, size = 0.8 / len(methods), 8 if len(methods) * len(texts) < 16 else 6
    for place, method in enumerate(methods):
        across = [i + (place - (len(methods) - 1) / 2) * width for i in range(len(texts))]
        heights = [mean(row[method], numbers.get("pairs", ())) for row in texts.values()]
        axes.bar(across, heights, width, color=COLOURS[place], label=method)
        for x, height, row in zip(across, heights, texts.values(), strict=True):
            axes.plot([x] * len(row[method]), row[method], "o", color="black", markersize=3)
            top = max(row[method])
            axes.annotate(f"{height:.2f}", (x, top), (0, 4), textcoords="offset points", ha="center", fontsize=size)
    axes.set_xticks(range(len(texts)), list(texts))
    axes.grid(False, axis="x")
    figure.legend(loc="outside upper center", ncols=len(methods), fontsize=9)
    return figure


def paired_figure(numbers: Mapping[str, Any]) -> "Figure":
    """What dual matching leaves less than single, or more: a row for every experiment, a point for each of its pairs.

    >>> paired_figure(results.read("one-or-two", "laptop").numbers)

    A share is a difference of barriers in naive barriers of the pair, below zero where dual leaves less.
    """
    experiments = numbers["experiments"]
    figure, axes = frame("dual − single [% of the naive barrier]", "", figsize=(7.2, 0.34 * len(experiments) + 1.2))
    for i, (name, pairs) in enumerate(experiments.items()):
        shares = [100 * row["share"] for row in pairs.values()]
        axes.plot(shares, [i] * len(shares), "o", color=COLOURS[numbers["kinds"][name] == "vision"], markersize=5)
        axes.plot([sum(shares) / len(shares)], [i], "|", color="black", markersize=12)
    axes.axvline(0, color="0.5", linewidth=1)
    _name_rows(axes, list(experiments))
    return figure


def overview_figure(experiments: Mapping[str, Experiment]) -> "Figure":
    """A row for every experiment, a mark for every method's mean barrier.

    >>> from lmc.reproduce.every_experiment import side_by_side
    >>> overview_figure(side_by_side({"ViT, digits": results.read("vit-digits", "laptop").comparison}))
    """
    methods = by_effort({method: 0 for experiment in experiments.values() for method in experiment.barriers})
    label = "barrier [nats per image or token], linear below 0.001"
    figure, axes = frame(label, "", figsize=(7.2, 0.34 * len(experiments) + 1.4))
    for place, method in enumerate(methods):
        at = [(experiment.barriers.get(method), i) for i, experiment in enumerate(experiments.values())]
        marks = [(barrier, i) for barrier, i in at if barrier is not None]
        axes.plot(*zip(*marks, strict=True), **look(place), linestyle="none", markersize=6, label=method)
    _name_rows(axes, list(experiments))
    axes.set_xscale("symlog", linthresh=0.001)
    highest = max(barrier for experiment in experiments.values() for barrier in experiment.barriers.values())
    axes.set_xlim(-0.0002, 2 * highest + 0.001)
    figure.legend(loc="outside upper center", ncols=len(methods), fontsize=9)
    return figure


def overview_table(experiments: Mapping[str, Experiment]) -> "Markdown":
    """A row for every experiment: mean barriers by method, dual ÷ naive, and the gap to the better parent."""
    rows: dict[str, dict[str, float | str]] = {}
    for title, one in experiments.items():
        rows[title] = {method: float(barrier) for method, barrier in one.barriers.items()}
        rows[title] |= {"ratio": f"{one.ratio:.1%}"} | ({} if one.gap is None else {"gap": f"{one.gap:+.3f}"})
    columns = by_effort(dict.fromkeys(column for row in rows.values() for column in row))
    return table({title: {column: row.get(column, "") for column in columns} for title, row in rows.items()})


def simplex_figure(numbers: Mapping[str, Any]) -> "Figure":
    """The loss over the triangle between the first three models, one triangle per method, in one colour scale.

    `triangles`: method -> per set of three models `weights` [points][3] and `losses` [points].
    """
    triangles = {name: sets[0] for name, sets in by_effort(numbers["triangles"]).items()}
    figure, axes = row_of_frames(len(triangles), width=3.4, height=3.2)
    from matplotlib.colors import LogNorm

    losses = [loss for triangle in triangles.values() for loss in triangle["losses"]]
    low, high = min(losses), max(max(losses), 1.001 * min(losses))
    norm = LogNorm(low, high)
    levels = [low * (high / low) ** (i / 24) for i in range(25)]  # a count alone would give powers of ten
    for place, (name, triangle) in zip(axes, triangles.items(), strict=True):
        across = [b + c / 2 for _, b, c in triangle["weights"]]
        up = [c * math.sqrt(0.75) for _, _, c in triangle["weights"]]
        shown = place.tricontourf(across, up, triangle["losses"], levels, norm=norm, cmap="cividis_r", extend="both")
        shown = place.scatter(across, up, c=triangle["losses"], norm=norm, cmap="cividis_r", s=28, edgecolors="white")
        for corner, (x, y, va) in zip("ABC", ((0, -0.04, "top"), (1, -0.04, "top"), (0.5, 0.9, "bottom")), strict=True):
            place.text(x, y, corner, ha="center", va=va)
        place.set_title(name, fontsize=10, pad=22)
        place.set_aspect("equal")
        place.set_axis_off()
    figure.colorbar(shown, ax=axes, label=f"held-out loss [{numbers['unit']}]", shrink=0.9)
    return figure


def count_figure(numbers: Mapping[str, Any]) -> "Figure":
    """Loss of the uniform merge of K models over K, a line per way of merging: means over sets, and a dot for each.

    >>> count_figure({"unit": "nats", "counts": [2], "merges": {"naive": {"K = 2": [2.3, 2.4]}}})
    """
    figure, axes = frame("number of models merged, K", f"held-out loss [{numbers['unit']}]")
    for place, (name, losses) in enumerate(by_effort(numbers["merges"]).items()):
        sets = [losses[f"K = {count}"] for count in numbers["counts"]]
        axes.plot(numbers["counts"], [mean(row) for row in sets], **look(place), label=name)
        each = [(count, loss) for count, row in zip(numbers["counts"], sets, strict=True) for loss in row]
        axes.scatter(*zip(*each, strict=True), color=look(place)["color"], s=12, alpha=0.5)
    axes.set_xticks(numbers["counts"])
    axes.set_yscale("log")
    axes.legend()
    return figure


def table(rows: dict[str, dict[str, Any]], digits: int = 3, pairs: Sequence[str] = ()) -> Markdown:
    """Rows of numbers as a table for a notebook; numbers with `digits` decimals, lists as their mean and range.

    The mean is over pairs, where `pairs` names those of the values. What a row does not have stays empty.

    >>> print(table({"naive": {"loss": [5.1, 5.7], "accuracy": 0.1}}).text)
    """

    def cell(value: Any) -> str:
        if isinstance(value, list | tuple):
            return _spread(value, mean(value, pairs), digits)
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [f"| | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
    lines += [f"| {name} | {' | '.join(cell(row.get(c, '')) for c in columns)} |" for name, row in rows.items()]
    return Markdown("\n".join(lines))


def _spread(values: Sequence[float], middle: float, digits: int = 3) -> str:
    """A mean and, of more than one value, the range."""
    if len(values) < 2:
        return f"{middle:.{digits}f}"
    dash = "–" if min(values) >= 0 else " to "
    return f"{middle:.{digits}f} ({min(values):.{digits}f}{dash}{max(values):.{digits}f})"


def sweep_table(swept: Sweep) -> Markdown:
    """A row for every point of a sweep, with what is known of the endpoints, and the mean barriers and their range.

    >>> sweep_table(results.read("barrier-by-width", "laptop").sweep)
    """
    described = {"parameters": swept.parameters, "loss": swept.loss, "accuracy": swept.accuracy}
    rows: dict[str, dict[str, Any]] = {}
    for place, (x, compared) in enumerate(zip(swept.points, swept.compared, strict=True)):
        known = {name: values[place] for name, values in described.items() if values}
        said: dict[str, Any] = {
            name: f"{value:,}" if name == "parameters" else float(value) for name, value in known.items()
        }
        for name in compared.methods:  # a point may have more pairs than another
            said[f"barrier, {name}"] = _spread(compared.barriers(name), compared.mean(name))
        rows[f"{x:,g}"] = said
    return table(rows)


def sayings_table(numbers: Mapping[str, Any]) -> Markdown:
    """What merged models said along the line: a row for each method and λ, `said` of `controls_table.sayings`.

    >>> sayings_table({"said": {"dual": {"0.5": {"greedy": "number of", "sampled": "values to"}}}})
    """

    def quoted(text: str) -> str:
        shown = "".join(c if c.isprintable() else "⏎" if c == "\n" else "·" for c in text)
        return "`" + shown.replace("`", "ˋ").replace("|", "¦") + "`"

    lines = ["| line | λ | greedy | sampled |", "|---|---|---|---|"]
    for method, places in by_effort(numbers["said"]).items():
        for at, texts in sorted(places.items(), key=lambda item: float(item[0])):
            lines.append(f"| {method} | {at} | {quoted(texts['greedy'])} | {quoted(texts['sampled'])} |")
    return Markdown("\n".join(lines))


def scaling_figure(compared: Comparison) -> "Figure":
    """Barrier over the number of parameters, one line a method and one point a pair.

    >>> runs = Run("dual", 0.2, "14M"), Run("dual", 0.1, "70M")
    >>> found = Comparison(runs, "nats", parameters={"14M": 14, "70M": 70})
    >>> scaling_figure(found)
    """
    figure, axes = frame("parameters [millions]", f"barrier [{unit(compared)}]")
    parameters = compared.parameters or {}
    for place, (name, runs) in enumerate(compared.methods.items()):
        sizes, barriers = zip(*sorted((parameters[run.pair], run.barrier) for run in runs), strict=True)
        axes.plot(sizes, barriers, **look(place), label=name)
    axes.set_xscale("log")
    axes.legend()
    return figure
