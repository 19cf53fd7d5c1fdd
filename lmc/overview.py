"""Experiments side by side: the barrier of every method in each, from results that are there.

>>> found = {"ViT, digits": results.read("vit-digits", "laptop").numbers}
>>> overview_table(side_by_side(found))
"""

from collections.abc import Mapping
from typing import Any

from lmc.charts import table
from lmc.figures import Markdown, by_effort


def side_by_side(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What `lmc.experiment` with its `summary`, or `lmc.sweeps.sweep`, said of experiments, by title, as one table.

    Every point of a sweep is an experiment of its own. Returns `experiments`: per title the `unit`, per method its
    `barriers` over runs, and the `ratio` dual ÷ naive, for all but sweeps with the mean `gap` of dual to the better
    parent and the number of `pairs`; their `order`; and headline and spread of the ratios that are means over pairs.
    """
    experiments: dict[str, dict[str, Any]] = {}
    spread: dict[str, list[float]] = {}
    for title, numbers in found.items():
        methods, unit = numbers["methods"], numbers["unit"]
        for i, x in enumerate(numbers.get("points", ())):
            barriers = {method: row["barrier"][i] for method, row in methods.items()}
            naive, dual = _mean(barriers["naive"]), _mean(barriers["dual"])
            ratio = dual / naive if naive else 1.0
            experiments[f"{title}, {numbers['varied']} {x:g}"] = {"unit": unit, "barriers": barriers, "ratio": ratio}
        if "summary" in numbers:
            experiments[title] = {
                "unit": unit,
                "barriers": {method: row["barrier"] for method, row in methods.items()},
                "ratio": numbers["summary"]["dual"]["ratio"],
                "gap": numbers["summary"]["dual"]["gap"],
                "pairs": len({run["pair"] for run in methods["dual"]["runs"]}),
            }
            spread[f"{title}, dual ÷ naive"] = numbers["spread"]["dual ÷ naive"]
    headline = {name: _mean(ratios) for name, ratios in spread.items()}
    return {"headline": headline, "spread": spread, "experiments": experiments, "order": list(experiments)}


def overview_table(numbers: Mapping[str, Any]) -> Markdown:
    """A row for every experiment: mean barriers by method, dual ÷ naive, and the gap to the better parent.

    >>> overview_table(side_by_side(found))
    """
    rows: dict[str, dict[str, float | str]] = {}
    for title in numbers["order"]:
        row = numbers["experiments"][title]
        rows[title] = {method: float(_mean(barriers)) for method, barriers in row["barriers"].items()}
        rows[title] |= {"ratio": f"{row['ratio']:.1%}"} | ({"gap": f"{row['gap']:+.3f}"} if "gap" in row else {})
    columns = by_effort(dict.fromkeys(column for row in rows.values() for column in row))
    return table({title: {column: row.get(column, "") for column in columns} for title, row in rows.items()})


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
