"""Experiments side by side: the barrier of every method in each, from results that are there.

>>> found = {"ViT, digits": results.read("vit-digits", "laptop").numbers}
>>> overview_table(side_by_side(found))
"""

from collections.abc import Mapping
from typing import Any

from lmc.reproduce.charts import table
from lmc.reproduce.figures import Markdown, by_effort
from lmc.reproduce.pair_means import mean


def side_by_side(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What `comparison.compare` and `summary`, or `dependence.sweep`, said of experiments, by title, as one table.

    Every point of a sweep is an experiment of its own. Returns `experiments`: per title the `unit`, the mean
    `barriers` by method, and the `ratio` dual ÷ naive, for all but sweeps with the mean `gap` of dual to the better
    parent and the number of `pairs`; and their `order`.
    """
    experiments: dict[str, dict[str, Any]] = {}
    for title, numbers in found.items():
        methods, unit = numbers["methods"], numbers["unit"]
        for i, x in enumerate(numbers.get("points", ())):
            barriers = {method: mean(row["barrier"][i], numbers["pairs"]) for method, row in methods.items()}
            ratio = barriers["dual"] / barriers["naive"] if barriers["naive"] else 1.0
            experiments[f"{title}, {numbers['varied']} {x:g}"] = {"unit": unit, "barriers": barriers, "ratio": ratio}
        if "summary" in numbers:
            experiments[title] = {
                "unit": unit,
                "barriers": {method: row["barrier"] for method, row in numbers["summary"].items()},
                "ratio": numbers["summary"]["dual"]["ratio"],
                "gap": numbers["summary"]["dual"]["gap"],
                "pairs": len(set(numbers["pairs"])),
            }
    return {"experiments": experiments, "order": list(experiments)}


def overview_table(numbers: Mapping[str, Any]) -> Markdown:
    """A row for every experiment: mean barriers by method, dual ÷ naive, and the gap to the better parent.

    >>> overview_table(side_by_side(found))
    """
    rows: dict[str, dict[str, float | str]] = {}
    for title in numbers["order"]:
        row = numbers["experiments"][title]
        rows[title] = {method: float(barrier) for method, barrier in row["barriers"].items()}
        rows[title] |= {"ratio": f"{row['ratio']:.1%}"} | ({"gap": f"{row['gap']:+.3f}"} if "gap" in row else {})
    columns = by_effort(dict.fromkeys(column for row in rows.values() for column in row))
    return table({title: {column: row.get(column, "") for column in columns} for title, row in rows.items()})
