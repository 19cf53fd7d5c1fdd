"""One thing varied, everything else held: the size of the models, how long they trained, how much data matching sees.

>>> points = {count: Point({"pair-0": (a, b)}, match_on[:count]) for count in (16, 64)}
>>> found = sweep(points, held_out, {"naive": [{}], "dual": [{"steps": 2}]}, "windows to match on", grid=3)
windows to match on 16 ...
>>> found.points
(16, 64)
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lmc.reproduce.experiments.comparison import compare
from lmc.reproduce.pair_means import mean
from lmc.reproduce.runs import Pair, Parents, Sweep
from lmc.reproduce.training.tasks import Task
from lmc.reproduce.training.trainer import TrainingRecipe, train


class Point(NamedTuple):
    """What is compared at one value of what is varied: pairs by name, and the data that matching reads."""

    pairs: Mapping[str, Pair]
    match_on: object


def train_pairs(task: Task, recipe: TrainingRecipe, seeds: Iterable[tuple[int, int]]) -> dict[str, Pair]:
    """Pairs trained here and now, by name; nothing is written.

    >>> list(train_pairs(Digits(width=16, depth=1), TrainingRecipe(steps=2, batch=8, lr=2e-3, warmup=1), [(0, 1)]))
    ['seeds 0 and 1']
    """
    return {
        f"seeds {a} and {b}": (train(task, recipe, a, progress=False)[0], train(task, recipe, b, progress=False)[0])
        for a, b in seeds
    }


def sweep(
    points: Mapping[float, Point],
    held_out: object,
    plan: Mapping[str, Sequence[Mapping[str, Any]]],
    varied: str,
    grid: int = 11,
) -> Sweep:
    """`lmc.reproduce.experiments.comparison.compare` at every point."""
    found = {}
    for x, point in points.items():
        print(f"{varied} {x:g}")
        found[x] = compare(point.pairs, point.match_on, held_out, plan, grid)
    parents: list[list[Parents]] = [list((compared.endpoints or {}).values()) for compared in found.values()]
    first = [next(iter(point.pairs.values()))[0] for point in points.values()]
    return Sweep(
        varied,
        tuple(points),
        tuple(found.values()),
        tuple(plan),
        parameters=tuple(sum(p.numel() for p in model.parameters()) for model in first),
        loss=tuple(mean([x for pair in pairs for x in pair.losses]) for pairs in parents),
        accuracy=tuple(mean([x for pair in pairs for x in pair.accuracies]) for pairs in parents),
    )
