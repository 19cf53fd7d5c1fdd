"""Experiments side by side: the barrier of every method in each, from results that are there.

>>> found = {"ViT, digits": results.read("vit-digits", "laptop").comparison}
>>> side_by_side(found)["ViT, digits"].ratio
0.0011994714
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lmc.reproduce.runs import Comparison, Numbers, Sweep, filled


@dataclass(frozen=True)
class Experiment:
    """The mean barrier of every method, and the ratio dual ÷ naive.

    Of all but sweeps also the mean `gap` of dual to the better parent, and the number of `pairs`.
    """

    unit: str | None
    barriers: Mapping[str, float]
    ratio: float
    gap: float | None = None
    pairs: int | None = None

    @classmethod
    def of(cls, compared: Comparison) -> Self:
        """An experiment that has a summary."""
        dual, pairs = compared.summary["dual"], compared.headline.pairs if compared.headline else ()
        barriers = {method: row.barrier for method, row in compared.summary.items()}
        return cls(compared.unit, barriers, dual.ratio, dual.gap, len(set(pairs)))

    @classmethod
    def at_a_point(cls, compared: Comparison) -> Self:
        """A point of a sweep, where nothing but barriers is known."""
        barriers = {method: compared.mean(method) for method in compared.methods}
        return cls(compared.unit, barriers, barriers["dual"] / barriers["naive"] if barriers["naive"] else 1.0)


def side_by_side(found: Mapping[str, Comparison | Sweep]) -> dict[str, Experiment]:
    """By title, in their order; every point of a sweep is an experiment of its own. What has no summary is left out."""
    experiments: dict[str, Experiment] = {}
    for title, measured in found.items():
        if isinstance(measured, Sweep):
            at = zip(measured.points, measured.compared, strict=True)
            experiments |= {f"{title}, {measured.varied} {x:g}": Experiment.at_a_point(point) for x, point in at}
        elif measured.summary:
            experiments[title] = Experiment.of(measured)
    return experiments


def to_json(experiments: Mapping[str, Experiment]) -> Numbers:
    """As a results file has them."""
    rows = {title: filled(vars(experiment)) for title, experiment in experiments.items()}
    return {"experiments": rows, "order": list(experiments)}


def from_json(numbers: Mapping[str, Any]) -> dict[str, Experiment]:
    """Those of a results file."""
    return {title: Experiment(**numbers["experiments"][title]) for title in numbers["order"]}
