"""What the book's chapters show of the campaign: what was run, at which rates, and what a GPU has measured.

>>> print(settings_table({"gpt2-shakespeare": setting(3, "gpt2-shakespeare", "laptop")}).text)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from lmc.errors import ArgumentError
from lmc.reproduce import charts, figures, results
from lmc.reproduce.runs import Comparison, Run, by_effort
from lmc.reproduce.training import shapes
from lmc.reproduce.training.settings import SIZE, Setting, work

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def setting(item: int, id: str, profile: str) -> Setting:
    """A setting by the id of its results. Raises ArgumentError."""
    found = [w for w in work(item, SIZE[profile]) if w.id == id and isinstance(w, Setting)]
    if not found:
        raise ArgumentError(f"item {item} at profile {profile}: no setting {id!r}")
    return found[0]


def settings_table(settings: Mapping[str, Setting]) -> figures.Markdown:
    """Every choice of some settings, side by side: shape, recipe, matching and evaluation."""
    columns = {
        name: {
            **vars(s.shape),
            "trained on": s.corpus,
            **{f"training, {key}": value for key, value in vars(s.recipe).items() if key in ("steps", "batch", "lr")},
            "matching, steps": s.matching.steps,
            "matching, batch": s.matching.batch,
            "pairs": len(s.seeds),
            "evaluated on": ", ".join(s.evaluated_on),
            "windows or images": s.scored,
        }
        for name, s in settings.items()
    }
    rows = dict.fromkeys(row for column in columns.values() for row in column)
    return charts.table({row: {name: column.get(row, "") for name, column in columns.items()} for row in rows})


def rates_table(found: Mapping[str, results.Results]) -> figures.Markdown:
    """The barrier after a short probe, by learning rate: what the rates of the learned methods were chosen from.

    The lowest is bold. At an end of a grid, a better one may lie beyond it, and the table says so. A rate at which
    learning diverged has no barrier.
    """
    rows = {
        f"{name}, {method}": {f"{rate:g}": barrier for rate, barrier in zip(grid.rates, grid.means, strict=True)}
        for name, one in found.items()
        for method, grid in one.grids.items()
    }
    rates = sorted({rate for row in rows.values() for rate in row}, key=float)
    shown, at_an_end = {}, []
    for name, row in rows.items():
        best = min(row, key=lambda rate: row[rate])
        shown[name] = {r: f"**{row[r]:.4f}**" if r == best else row.get(r, "") for r in rates}
        shown[name] |= {r: "diverged" for r, barrier in row.items() if barrier == math.inf}
        at_an_end += [name] if best in (min(row, key=float), max(row, key=float)) else []
    beyond = f"\n\nThe lowest is at an end of the grid, so that a better rate may lie beyond: {', '.join(at_an_end)}."
    return figures.Markdown(charts.table(shown, digits=4).text + (beyond if at_an_end else ""))


def measured_on_gpu(ids: Sequence[str]) -> figures.Markdown:
    """The mean barriers of every method, a row for each of these settings that was measured at profile `gpu`."""
    there = [results.read(id, "gpu") for id in ids if results.exist(id, "gpu")]
    absent = [id for id in ids if not results.exist(id, "gpu")]
    rows = {
        found.id: {name: row.barrier for name, row in by_effort(found.comparison.summary).items()}
        for found in there
        if found.comparison.summary
    }
    text = [charts.table(rows).text, *(f"- {found.id}: {found.provenance}" for found in there)] if there else []
    if absent:
        commands = "; ".join(f"`lmc reproduce --profile gpu --figure {id}`" for id in absent)
        text.append(f"Not measured yet, for want of a GPU: {commands}.")
    return figures.Markdown("\n\n".join(text))


def by_size(small: str, large: Sequence[str]) -> "Figure | None":
    """Barrier over the number of parameters: a setting for two cores, and those of `large` that a GPU measured.

    >>> by_size("pythia-wikipedia", ["pythia-410m"])        # None as long as there is nothing to compare with

    Corpora, vocabularies and the length of training differ from point to point, so it shows sizes and is no law.
    """
    there = [results.read(id, "gpu") for id in large if results.exist(id, "gpu")]
    found = [one.comparison for one in (results.read(small, "laptop"), *there)]
    if not there:
        return None
    common = set.intersection(*(set(one.methods) for one in found))
    runs: list[Run] = []
    parameters: dict[str, float] = {}
    for place, one in enumerate(found):
        described = one.rest["setting"]
        with torch.device("meta"):
            model = getattr(shapes, described["model"])(**described["shape"]).build()
        mine = [replace(run, pair=f"{place}, {run.pair}") for run in one.runs if run.method in common]
        parameters |= {run.pair: sum(p.numel() for p in model.parameters()) / 1e6 for run in mine}
        runs += mine
    return charts.scaling_figure(Comparison(tuple(runs), found[0].unit, parameters=parameters))
