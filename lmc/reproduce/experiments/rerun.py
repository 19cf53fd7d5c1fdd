"""One mid-size setting again, with other seeds: does it fall where the curve over widths said?

    python -m lmc.reproduce.experiments.rerun --folder build/scaling   # an hour and a half of one core; repeat to go on

Three new pairs of Pythia's architecture with 128 channels go through everything that the first three went through: they
are trained, a grid finds the rates, they are matched and walked. What they leave is compared with the interval in which
the power law through the committed pairs expects a new one. Exit 3: the time given is over.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
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

ID, OF, WIDTH, CURVE = "width-128-again", "width-128", 128.0, "scale-width-tokens"
SEEDS = ((6, 7), (8, 9), (10, 11))  # none of the first pairs'


def setting() -> Setting:
    """The setting, under a name of its own."""
    return replace(scaling.settings()[OF], id=ID, seeds=SEEDS)


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


@command
def main(arguments: Sequence[str] | None = None) -> None:
    given = options("rerun", "One mid-size setting again, with other seeds.").parse_args(arguments)
    torch.set_num_threads(given.threads)
    again = setting()
    prepared.prepare(corpora([again]), given.inputs)
    Campaign(again, given.folder, given.inputs, CPU, Budget(60 * given.minutes)).run(only=given.pair)
    found = report.compared(again, given.folder)
    barriers = {method: found.barriers(method) for method in found.methods}
    numbers = replace(found, rest={**found.rest, "held": held(results.read(CURVE, "laptop").sweep, barriers)}).to_json()
    task = task_of(again.shape, again.corpus, given.inputs, CPU)
    run = report.made([again], given.folder, task, "python -m lmc.reproduce.experiments.rerun --folder build/scaling")
    results.write(ID, "laptop", numbers, run | {"costs": report.costs(again, given.folder)})
    print(f"written: {ID}")


if __name__ == "__main__":
    sys.exit(main())
