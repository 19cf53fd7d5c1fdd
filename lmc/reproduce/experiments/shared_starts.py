"""From which step of training on do two runs lie on one line? A trunk, and two branches of it (Frankle, 1912.05671).

>>> task, recipe = Digits(16, 1), TrainingRecipe(steps=3, batch=8, lr=1e-3, warmup=1)
>>> [shared for shared, pair in branches(task, recipe, seed=0, after=(0, 2))]
[0, 2]

One network is trained, and after some steps two copies of it go on, each with batches of its own, to the end of the
same schedule. Between these two the barrier is measured, as they are and after matching.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from lmc.evaluation import path
from lmc.matching import match
from lmc.reproduce.experiments.analyses import GRID, loss
from lmc.reproduce.experiments.samples import RATES, Samples
from lmc.reproduce.experiments.two_sizes import smaller
from lmc.reproduce.runs import Pair
from lmc.reproduce.training.shipped_pairs import KINDS
from lmc.reproduce.training.tasks import Task
from lmc.reproduce.training.trainer import TrainingRecipe, begun, until

TASKS = {kind: smaller(kind)["half the width"] for kind in KINDS}
STEPS = {"vit-digits": 500, "neox-docstrings": 300}  # of training
AFTER = (0, 10, 30, 100, 200, 300)  # shared steps, where there are as many
METHODS = ("naive", "weights", "dual")
BRANCHES = (1_000, 2_000)  # added to the seed of the trunk's data, for the data of each branch
LOW = 0.05  # of the naive barrier of two runs that share nothing but their first weights: below it they count as joined
SETTINGS = [STEPS, AFTER, METHODS, BRANCHES]  # what pieces depend on


def every_start(name: str, pair: Pair, samples: Samples, steps: int) -> dict[str, Any]:
    """The barrier by method after every number of shared steps. The number in the name is the seed; no pair is read."""
    kind, _, seed = name.rpartition("-")
    recipe = replace(KINDS[kind][1], steps=STEPS[kind], warmup=STEPS[kind] // 5)
    rows: dict[str, Any] = {}
    for shared, two in branches(TASKS[kind], recipe, int(seed), [k for k in AFTER if k < recipe.steps]):
        rows[str(shared)] = {"losses": [loss(model, samples.eval) for model in two]}
        for method in METHODS:
            learned = {"start": "better", "steps": steps, "lr": RATES[kind]} if method == "dual" else {}
            walked = path(match(*two, method=method, data=samples.train, **learned), samples.eval, GRID)  # type: ignore[arg-type]
            rows[str(shared)][method] = {"barrier": walked.barrier, "interval": walked.interval}
        print(name, shared, {method: round(rows[str(shared)][method]["barrier"], 4) for method in METHODS}, flush=True)
    return {"starts": rows, "steps": STEPS[kind]}


def branches(task: Task, recipe: TrainingRecipe, seed: int, after: Sequence[int]) -> Iterator[tuple[int, Pair]]:
    """Two runs for every number of steps in `after` (ascending), which have these steps in common."""
    trunk, order = begun(task, recipe, seed)
    for shared in after:
        until(shared, trunk, task, order)
        yield shared, tuple(_branch(trunk, task, order.initial_seed() + more) for more in BRANCHES)  # type: ignore[misc]


def _branch(trunk: Any, task: Task, seed: int) -> Any:
    branch = copy.deepcopy(trunk)
    until(branch.recipe.steps, branch, task, torch.Generator().manual_seed(seed))
    return branch.model.eval()
