"""One thing varied, everything else held: the size of the models, how long they trained, how much data matching sees.

>>> points = {width: train_pairs(Digits(width=width), Recipe(600, 64, 2e-3), [(0, 1)]) for width in (16, 32, 64)}
>>> numbers = sweep({w: {"pairs": p, "match_on": match_on} for w, p in points.items()}, held_out, plan, "width")
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmc.reproduce.experiments.comparison import Pair, compare
from lmc.reproduce.pair_means import mean
from lmc.reproduce.training.tasks import Task
from lmc.reproduce.training.trainer import Recipe, train


def train_pairs(task: Task, recipe: Recipe, seeds: Iterable[tuple[int, int]]) -> dict[str, Pair]:
    """Pairs trained here and now, by name; nothing is written.

    >>> train_pairs(Digits(width=32), Recipe(steps=600, batch=64, lr=2e-3), [(0, 1)])
    """
    return {
        f"seeds {a} and {b}": (train(task, recipe, a, progress=False)[0], train(task, recipe, b, progress=False)[0])
        for a, b in seeds
    }


def sweep(
    points: Mapping[float, Mapping[str, Any]],
    held_out: object,
    plan: Mapping[str, Sequence[Mapping[str, Any]]],
    varied: str,
    grid: int = 11,
) -> dict[str, Any]:
    """`lmc.reproduce.experiments.comparison.compare` at every point; a point has `pairs` and `match_on`.

    Returns `unit`, what was `varied`, the `points` it took, per point the endpoints' mean `loss` and `accuracy` and the
    number of `parameters`, `methods`: per method `barrier` and `interval` [point][run], and the `pairs` of the runs of
    the method that has most.
    """
    found = {}
    for x, point in points.items():
        print(f"{varied} {x:g}")
        found[x] = compare(point["pairs"], point["match_on"], held_out, plan, grid)
    rows = list(found.values())
    ends = [list(row["endpoints"].values()) for row in rows]
    first = [next(iter(point["pairs"].values()))[0] for point in points.values()]
    return {
        "unit": rows[0]["unit"],
        "varied": varied,
        "points": list(points),
        "parameters": [sum(p.numel() for p in model.parameters()) for model in first],
        "loss": [mean([x for pair in pairs for x in pair["losses"]]) for pairs in ends],
        "accuracy": [mean([x for pair in pairs for x in pair["accuracies"]]) for pairs in ends],
        "pairs": max(([run["pair"] for run in row["runs"]] for row in rows[0]["methods"].values()), key=len),
        "methods": {
            name: {key: [row["methods"][name][key] for row in rows] for key in ("barrier", "interval")} for name in plan
        },
    }
