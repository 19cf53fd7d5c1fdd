"""Checks of the curves over widths: new pairs, a twin in another precision, narrow networks trained for less long.

    python -m lmc.reproduce.experiments.rerun width-128-again --folder build/scaling   # over an hour of one core
    python -m lmc.reproduce.experiments.rerun width-64-short --folder build/scaling    # half an hour; repeat to go on
    python -m lmc.reproduce.experiments.rerun width-256-bfloat16 --folder build/scaling   # an hour

*Again*: two new pairs of Pythia's architecture with 128 channels go through everything that the first three went
through: they are trained, a grid finds the rates, they are matched and walked. What they leave is compared with the
interval in which the power law through the committed pairs expects a new one. *Twin*: the first pair of 256 channels,
from the same seeds in bfloat16, so that rounding makes other networks of it. *Short*: the networks of 64 channels from
the same seeds, trained for the steps after which those of 256 had about their loss: what fewer steps do by themselves.
Exit 3: the time given is over.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from lmc.corpora import prepared
from lmc.reproduce import results
from lmc.reproduce.experiments import report, scaling
from lmc.reproduce.experiments.stages import Campaign, options
from lmc.reproduce.runs import Sweep
from lmc.reproduce.training.budget import Budget, command
from lmc.reproduce.training.settings import Setting, corpora
from lmc.reproduce.training.tasks import CPU, task_of

AGAIN, SHORT, TWIN = "width-128-again", "width-64-short", "width-256-bfloat16"
WIDTH, TWINS, CURVE = 128.0, 256.0, "scale-width-tokens"
SEEDS = ((6, 7), (8, 9))  # none of the first pairs'
STEPS = 1000  # of training


def settings() -> dict[str, Setting]:
    """All settings, under names of their own."""
    of = scaling.settings()
    again = replace(of["width-128"], id=AGAIN, seeds=SEEDS)
    twin = replace(of["width-256"], id=TWIN, seeds=of["width-256"].seeds[:1], bf16=True)
    return {AGAIN: again, SHORT: replace(scaling.of_length(of["width-64"], STEPS), id=SHORT), TWIN: twin}


def expected(sizes: Sequence[int], barriers: Sequence[Sequence[float]], size: int) -> list[float] | None:
    """The 95 % interval for the barrier of one new pair of a size, by the power law through the barriers of others.

    >>> low, high = expected([1, 10, 100], [[1.0, 1.2], [0.1, 0.12], [0.01, 0.012]], 10)
    >>> low < 0.1 < 0.12 < high
    True

    None with fewer than three sizes, or where a barrier is zero (`scaling.power_law`).
    """
    if (law := scaling.power_law(sizes, barriers)) is None:
        return None
    points = [(math.log(s), math.log(b)) for s, row in zip(sizes, barriers, strict=True) for b in row]
    x, y = np.array(points).T
    away, slope = x - x.mean(), law["exponent"]
    centre = y.mean() + slope * (math.log(size) - x.mean())
    rest = y - y.mean() - slope * away
    one = float(rest @ rest) / (len(points) - 2)
    far = 1 + 1 / len(points) + (math.log(size) - x.mean()) ** 2 / float(away @ away)
    reach = float(student.ppf(0.975, len(points) - 2)) * math.sqrt(one * far)
    return [math.exp(centre - reach), math.exp(centre + reach)]


def held(curve: Sweep, barriers: dict[str, list[float]]) -> dict[str, Any]:
    """Of every method the interval for a new pair, what the new pairs left, and how many of them are within."""
    size = (curve.parameters or ())[curve.points.index(WIDTH)]
    found = {}
    for method, new in barriers.items():
        interval = expected(curve.parameters or (), [at.barriers(method) for at in curve.compared], size)
        if interval is not None:
            within = sum(interval[0] <= barrier <= interval[1] for barrier in new)
            first = curve.compared[curve.points.index(WIDTH)].barriers(method)
            found[method] = {"first": first, "expected": interval, "again": new, "within": within}
    return found


def in_place(curve: Sweep, twin: list[float]) -> dict[str, Any] | None:
    """The power law of dual's barriers with the twin in the place of the first pair of its width."""
    barriers = [at.barriers("dual") for at in curve.compared]
    at = curve.points.index(TWINS)
    barriers[at] = [*twin, *barriers[at][1:]]
    return scaling.power_law(curve.parameters or (), barriers)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = options("rerun", "Checks of the curves over widths.")
    parser.add_argument("setting", choices=(AGAIN, SHORT, TWIN))
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    chosen = settings()[given.setting]
    prepared.prepare(corpora([chosen]), given.inputs)
    Campaign(chosen, given.folder, given.inputs, CPU, Budget(60 * given.minutes)).run(only=given.pair)
    write(chosen, given.folder, given.inputs)
    print(f"written: {chosen.id}")


def write(chosen: Setting, folder: Path, inputs: Path) -> None:
    """The results file of what the folder holds of a setting."""
    found = report.compared(chosen, folder)
    if chosen.id == AGAIN:
        barriers = {method: found.barriers(method) for method in found.methods}
        found = replace(found, rest={**found.rest, "held": held(results.read(CURVE, "laptop").sweep, barriers)})
    if chosen.id == TWIN and "dual" in found.methods:
        fit = in_place(results.read(CURVE, "laptop").sweep, found.barriers("dual"))
        found = replace(found, rest={**found.rest, "fit with it": fit})
    task = task_of(chosen.shape, chosen.corpus, inputs, CPU)
    again = f"python -m lmc.reproduce.experiments.rerun {chosen.id} --folder build/scaling"
    run = report.made([chosen], folder, task, again) | {"costs": report.costs(chosen, folder)}
    results.write(chosen.id, "laptop", found.to_json(), run)


if __name__ == "__main__":
    sys.exit(main())
