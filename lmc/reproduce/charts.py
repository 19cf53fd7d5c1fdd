"""Figures of more than a line: planes, sweeps, bars with a reference, tables. In the style of `lmc.reproduce.figures`.

>>> figure = landscape_figure(results.read("landscape-vit", "laptop").numbers)
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lmc.evaluation import COLOURS, MARKERS, pyplot, use_style
from lmc.reproduce.figures import Markdown, by_effort, whiskers
from lmc.reproduce.pair_means import mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure


COARSE = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)  # ticks of a logarithmic scale
FINE = (0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.5, 2, 2.5, 3, 4, 6, 8, 10, 15, 20)  # and of one that spans little


def landscape_figure(numbers: dict[str, Any]) -> "Figure":
    """The loss over planes through three models, side by side, in one colour scale; lines join the endpoints.

    `planes`: title -> what `evaluation.plane` returned, with `names` of its three models and `lines` between them.
    """
    use_style()
    planes = by_effort(numbers["planes"])
    figure, axes = pyplot().subplots(1, len(planes), figsize=(5.2 * len(planes), 4.6), squeeze=False)
    values = [loss for plane in planes.values() for row in plane["losses"] for loss in row]
    low, high = math.log(min(values)), math.log(max(values))
    levels = [math.exp(low + (high - low) * i / 24) for i in range(25)]
    from matplotlib.colors import LogNorm

    for place, (title, plane) in zip(axes[0], planes.items(), strict=True):
        norm = LogNorm(levels[0], levels[-1])
        filled = place.contourf(
            plane["x"], plane["y"], plane["losses"], levels, norm=norm, cmap="cividis_r", extend="both"
        )
        place.contour(plane["x"], plane["y"], plane["losses"], levels[::3], colors="white", linewidths=0.5, alpha=0.6)
        points = dict(zip(plane["names"], (plane["points"][key] for key in ("first", "second", "third")), strict=True))
        for (start, end), style in zip(plane["lines"].values(), ("--", "-"), strict=False):
            across, up = zip(points[start], points[end], strict=True)
            place.plot(across, up, style, color="white", linewidth=4.5, solid_capstyle="round")
            place.plot(across, up, style, color="black", linewidth=2)
        for name, (across, up) in points.items():
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
    shown = figure.colorbar(filled, ax=list(axes[0]), label=f"held-out loss [{numbers['unit']}]", shrink=0.9)
    inside = [[t for t in ticks if levels[0] <= t <= levels[-1]] for ticks in (COARSE, FINE)]
    ticks = inside[0] if len(inside[0]) >= 3 else inside[1]
    shown.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    shown.ax.minorticks_off()
    return figure


def sweep_figure(numbers: dict[str, Any]) -> "Figure":
    """Barrier over what `dependence.sweep` varied, one line per method: the mean over pairs, and each run as a point.

    A thin line through a point is its 95 % interval over held-out samples.

    >>> sweep_figure({"varied": "width", "points": [16, 32], "methods": {"dual": {"barrier": [[0.3], [0.1]]}}})
    """
    use_style()
    figure, axes = pyplot().subplots()
    for place, (name, method) in enumerate(by_effort(numbers["methods"]).items()):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        for i, (x, barriers) in enumerate(zip(numbers["points"], method["barrier"], strict=True)):
            axes.plot([x] * len(barriers), barriers, marker, color=colour, alpha=0.35, markersize=4)
            for low, high in method.get("interval", {i: ()})[i]:
                axes.plot([x, x], [low, high], color=colour, alpha=0.35, linewidth=0.8)
        means = [mean(row, numbers.get("pairs", ())) for row in method["barrier"]]
        axes.plot(numbers["points"], means, color=colour, marker=marker, label=name)
    axes.set_xscale("log")
    axes.set_xticks(numbers["points"], [f"{x:,g}" for x in numbers["points"]])
    axes.minorticks_off()
    axes.set_xlabel(numbers["varied"])
    axes.set_ylabel(f"barrier [{numbers.get('unit', 'nats')}]")
    axes.set_yscale("symlog", linthresh=0.01)
    highest = max(barrier for method in numbers["methods"].values() for row in method["barrier"] for barrier in row)
    axes.set_ylim(0, max(1.5 * highest, 0.01))
    axes.legend()
    return figure


def ablation_figure(numbers: dict[str, Any]) -> "Figure":
    """One horizontal bar per variant in the order tried, as long as its mean barrier over pairs.

    A point for each run, with its 95 % interval over held-out samples.

    >>> ablation_figure({"methods": {"only values": {"barrier": [0.9]}, "all": {"barrier": [0.1]}}})
    """
    use_style()
    methods = numbers["methods"]
    order = sorted(methods, key=_variant)
    figure, axes = pyplot().subplots(figsize=(6.4, 0.32 * len(order) + 1))
    for place, name in enumerate(order):
        barriers = methods[name]["barrier"]
        length = mean(barriers, numbers.get("pairs", ()))
        axes.barh(place, length, height=0.65, color=COLOURS[_variant(name)[0] % len(COLOURS)])
        reach = whiskers(axes, [place] * len(barriers), barriers, methods[name].get("interval"), sideways=True)
        axes.annotate(f"{length:.3f}", (reach, place), (6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(order)), order)
    axes.invert_yaxis()
    axes.set_xlabel(f"barrier [{numbers.get('unit', 'nats')}]")
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.grid(False, axis="y")
    return figure


def _variant(name: str) -> tuple[int, str]:
    """None first, then single kinds, then all but one, then all."""
    kinds = ("none", "only ", "without ", "all")
    return next((i for i, start in enumerate(kinds) if name.startswith(start)), len(kinds)), name


def control_figure(numbers: dict[str, Any]) -> "Figure":
    """Held-out loss of one model per row, its mean over pairs and a point for each run; dashed: the parents' mean.

    >>> control_figure({"unit": "nats", "models": {"parents": {"loss": [0.1]}, "dual": {"loss": [0.1]}}})
    """
    use_style()
    models = numbers["models"]
    order = numbers.get("order") or list(models)
    figure, axes = pyplot().subplots(figsize=(6.4, 0.32 * len(order) + 1))
    for place, name in enumerate(order):
        losses = models[name]["loss"]
        middle = mean(losses, numbers.get("pairs", ()))
        axes.plot(losses, [place] * len(losses), "o", color="black", markersize=3.5, alpha=0.6)
        axes.plot(middle, place, "D", color=COLOURS[0], markersize=7)
        axes.annotate(
            f"{middle:.3f}", (max(losses), place), (8, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.axvline(
        mean(models["parents"]["loss"], numbers.get("pairs", ())), color=COLOURS[1], linestyle="--", linewidth=1
    )
    axes.set_yticks(range(len(order)), order)
    axes.invert_yaxis()
    every = [loss for model in models.values() for loss in model["loss"]]
    if max(every) > 10 * min(every):
        axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.set_xlabel(f"held-out loss [{numbers['unit']}]")
    axes.grid(False, axis="y")
    return figure


def grouped_figure(numbers: dict[str, Any]) -> "Figure":
    """Barrier by method, a group of bars for every text: means over pairs, and each run as a point.

    >>> grouped_figure({"unit": "nats", "texts": {"one": {"parents": [1.9], "naive": [1.4], "dual": [0.1]}}})
    """
    use_style()
    texts = numbers["texts"]
    methods = list(by_effort({name: 0 for name in next(iter(texts.values())) if name != "parents"}))
    figure, axes = pyplot().subplots()
    width = 0.8 / len(methods)
    for place, method in enumerate(methods):
        across = [i + (place - (len(methods) - 1) / 2) * width for i in range(len(texts))]
        heights = [mean(row[method], numbers.get("pairs", ())) for row in texts.values()]
        axes.bar(across, heights, width, color=COLOURS[place], label=method)
        for x, height, row in zip(across, heights, texts.values(), strict=True):
            axes.plot([x] * len(row[method]), row[method], "o", color="black", markersize=3)
            top = max(row[method])
            axes.annotate(f"{height:.2f}", (x, top), (0, 4), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xticks(range(len(texts)), list(texts))
    axes.set_ylabel(f"barrier [{numbers['unit']}]")
    axes.grid(False, axis="x")
    axes.legend()
    return figure


def overview_figure(numbers: dict[str, Any]) -> "Figure":
    """What `side_by_side` returned: a row for every experiment, a mark for every method's mean barrier.

    >>> overview_figure(side_by_side({"ViT, digits": results.read("vit-digits", "laptop").numbers}))
    """
    use_style()
    order, experiments = numbers["order"], numbers["experiments"]
    methods = by_effort({method: 0 for title in order for method in experiments[title]["barriers"]})
    figure, axes = pyplot().subplots(figsize=(7.2, 0.34 * len(order) + 1.4))
    for place, method in enumerate(methods):
        at = [(i, experiments[title]["barriers"].get(method)) for i, title in enumerate(order)]
        marks = [(barrier, i) for i, barrier in at if barrier is not None]
        look = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        axes.plot(*zip(*marks, strict=True), **look, linestyle="none", markersize=6, label=method)
    axes.set_yticks(range(len(order)), order)
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=0.001)
    highest = max(barrier for row in experiments.values() for barrier in row["barriers"].values())
    axes.set_xlim(-0.0002, 2 * highest + 0.001)
    axes.set_xlabel("barrier [nats per image or token], linear below 0.001")
    figure.legend(loc="outside upper center", ncols=len(methods), fontsize=9)
    return figure


def simplex_figure(numbers: dict[str, Any]) -> "Figure":
    """The loss over the triangle between the first three models, one triangle per method, in one colour scale.

    `triangles`: method -> per set of three models `weights` [points][3] and `losses` [points].
    """
    use_style()
    from matplotlib.colors import LogNorm

    triangles = {name: sets[0] for name, sets in by_effort(numbers["triangles"]).items()}
    figure, axes = pyplot().subplots(1, len(triangles), figsize=(3.4 * len(triangles), 3.2), squeeze=False)
    losses = [loss for triangle in triangles.values() for loss in triangle["losses"]]
    low, high = min(losses), max(max(losses), 1.001 * min(losses))
    norm = LogNorm(low, high)
    levels = [low * (high / low) ** (i / 24) for i in range(25)]  # a count alone would give powers of ten
    for place, (name, triangle) in zip(axes[0], triangles.items(), strict=True):
        across = [b + c / 2 for _, b, c in triangle["weights"]]
        up = [c * math.sqrt(0.75) for _, _, c in triangle["weights"]]
        shown = place.tricontourf(across, up, triangle["losses"], levels, norm=norm, cmap="cividis_r", extend="both")
        shown = place.scatter(across, up, c=triangle["losses"], norm=norm, cmap="cividis_r", s=28, edgecolors="white")
        for corner, (x, y, va) in zip("ABC", ((0, -0.04, "top"), (1, -0.04, "top"), (0.5, 0.9, "bottom")), strict=True):
            place.text(x, y, corner, ha="center", va=va)
        place.set_title(name, fontsize=10, pad=22)
        place.set_aspect("equal")
        place.set_axis_off()
    figure.colorbar(shown, ax=list(axes[0]), label=f"held-out loss [{numbers['unit']}]", shrink=0.9)
    return figure


def count_figure(numbers: dict[str, Any]) -> "Figure":
    """Loss of the uniform merge of K models over K, a line per way of merging: means over sets, and a dot for each.

    >>> count_figure({"unit": "nats", "counts": [2], "merges": {"naive": {"K = 2": [2.3, 2.4]}}})
    """
    use_style()
    figure, axes = pyplot().subplots()
    for place, (name, losses) in enumerate(by_effort(numbers["merges"]).items()):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        sets = [losses[f"K = {count}"] for count in numbers["counts"]]
        axes.plot(numbers["counts"], [mean(row) for row in sets], color=colour, marker=marker, label=name)
        each = [(count, loss) for count, row in zip(numbers["counts"], sets, strict=True) for loss in row]
        axes.scatter(*zip(*each, strict=True), color=colour, s=12, alpha=0.5)
    axes.set_xticks(numbers["counts"])
    axes.set_yscale("log")
    axes.set_xlabel("number of models merged, K")
    axes.set_ylabel(f"held-out loss [{numbers['unit']}]")
    axes.legend()
    return figure


def table(rows: dict[str, dict[str, Any]], digits: int = 3, pairs: Sequence[str] = ()) -> Markdown:
    """Rows of numbers as a table for a notebook; numbers with `digits` decimals, lists as their mean and range.

    The mean is over pairs, where `pairs` names those of the values. What a row does not have stays empty.

    >>> table({"naive": {"loss": [5.1, 5.7], "accuracy": 0.1}})
    """

    def cell(value: Any) -> str:
        if isinstance(value, list | tuple):
            return f"{mean(value, pairs):.{digits}f}" + (
                f" ({min(value):.{digits}f}–{max(value):.{digits}f})" if len(value) > 1 else ""
            )
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [f"| | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
    lines += [f"| {name} | {' | '.join(cell(row.get(c, '')) for c in columns)} |" for name, row in rows.items()]
    return Markdown("\n".join(lines))


def sweep_table(numbers: dict[str, Any]) -> Markdown:
    """What `dependence.sweep` found: a row for every point, with the endpoints' quality and the mean barriers.

    >>> sweep_table(results.read("barrier-by-width", "laptop").numbers)
    """
    methods = by_effort(numbers["methods"])
    rows = {}
    for i, x in enumerate(numbers["points"]):
        quality = {key: float(numbers[key][i]) for key in ("loss", "accuracy")}
        barriers = {f"barrier, {name}": [float(b) for b in row["barrier"][i]] for name, row in methods.items()}
        rows[f"{x:,g}"] = {"parameters": f"{numbers['parameters'][i]:,}", **quality, **barriers}
    return table(rows, pairs=numbers.get("pairs", ()))


def sayings_table(numbers: dict[str, Any]) -> Markdown:
    """What merged models said along the line: a row for each method and λ, `said` of `compare_controls.sayings`.

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


def scaling_figure(numbers: dict[str, Any]) -> "Figure":
    """Barrier over the number of parameters, one line a method and one point a pair.

    >>> scaling_figure(results.read("pythia-wikitext", "paper").numbers)
    """
    use_style()
    figure, axes = pyplot().subplots()
    for place, (name, table) in enumerate(by_effort(numbers["methods"]).items()):
        runs = zip(table["runs"], table["barrier"], strict=True)
        sizes, barriers = zip(*sorted((numbers["parameters"][run["pair"]], b) for run, b in runs), strict=True)
        axes.plot(sizes, barriers, marker=MARKERS[place % 7], color=COLOURS[place % 7], label=name)
    axes.set_xscale("log")
    axes.set_xlabel("parameters [millions]")
    axes.set_ylabel(f"barrier [{numbers['unit']}]")
    axes.legend()
    return figure


DRAWN = (
    landscape_figure,
    sweep_figure,
    ablation_figure,
    control_figure,
    grouped_figure,
    simplex_figure,
    count_figure,
    scaling_figure,
    overview_figure,
)
