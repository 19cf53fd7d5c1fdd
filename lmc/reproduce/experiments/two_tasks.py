"""Two fine-tunes of two bases, both carried to a third network: do their changes add up there?

>>> new = {"one": (Data(match_on), Data(held_out)), "other": (Data(match_on), Data(held_out))}
>>> sorted(added_up(c, (a, b), new, Data(held_out), tuned=2)["losses"])
['one', 'other', 'the old data']

Task arithmetic (2212.04089) adds the changes of several fine-tunes of *one* base. Here each was taught to a network of
its own and carried to the second network of a shipped pair: the first task from the first network of that pair, the
second from the first network of the next pair.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from torch import nn

from lmc.evaluation import Data
from lmc.matching import Change, match, taught, with_change
from lmc.reproduce.experiments.analyses import loss
from lmc.reproduce.experiments.comparison import third
from lmc.reproduce.experiments.controls import finetune
from lmc.reproduce.experiments.fine_tunes import TUNED, TUNING_RATE, shifts
from lmc.reproduce.experiments.samples import Samples
from lmc.reproduce.runs import Pair
from lmc.symmetries import canonicalize, state

TASKS = {"vit-digits": ("turned", "negatives"), "neox-docstrings": ("source code", "in capitals")}
SETTINGS = [TUNED, TUNING_RATE, TASKS]  # what pieces depend on


def both(name: str, pair: Pair, samples: Samples, steps: int) -> dict[str, Any]:
    """`added_up` for the two tasks of a shipped kind. Nothing is learned in matching, so `steps` says nothing here."""
    kind = name.rpartition("-")[0]
    every = shifts(kind, samples)
    tasks = {task: every[task] for task in TASKS[kind]}
    found = added_up(pair[1], (pair[0], third(name)), tasks, samples.eval, TUNED[kind])
    print(name, {task: {row: round(x, 3) for row, x in rows.items()} for task, rows in found["losses"].items()})
    return found


def added_up(
    target: nn.Module, bases: Sequence[nn.Module], tasks: Mapping[str, tuple[Data, Data]], old: Data, tuned: int
) -> dict[str, Any]:
    """The losses of every model on the held-out data of every task, and on the old data.

    `closed`: of every task, the share of what tuning the target itself on it would gain.
    """
    own = canonicalize(target)
    changes: dict[str, list[Change]] = {"unmoved": [], "carried": [], "tuned itself": []}
    for k, (base, (new, _)) in enumerate(zip(bases, tasks.values(), strict=True)):
        there, here = (finetune(model, new, tuned, TUNING_RATE, seed=k)[0] for model in (base, target))
        for way, method in (("unmoved", "naive"), ("carried", "weights")):
            moved = state(match(base, target, method=method).transport(there))
            changes[way].append({name: moved[name].double() - tensor.double() for name, tensor in state(own).items()})
        changes["tuned itself"].append(taught(target, here))
    models = {"base": own}
    for way, parts in changes.items():
        models |= {f"{task}, {way}": with_change(own, part) for task, part in zip(tasks, parts, strict=True)}
        models[f"both, {way}"] = reduce(with_change, parts, own)
    scored = {task: test for task, (_, test) in tasks.items()} | {"the old data": old}
    losses = {what: {row: loss(model, data) for row, model in models.items()} for what, data in scored.items()}
    closed = {task: _closed(losses[task], f"{task}, tuned itself") for task in tasks}
    return {"losses": losses, "closed": closed, "steps": tuned}


def _closed(losses: Mapping[str, float], best: str) -> dict[str, float]:
    return {row: (losses["base"] - x) / (losses["base"] - losses[best]) for row, x in losses.items()}
