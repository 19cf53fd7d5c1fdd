"""How soon learned matching reaches a barrier, by what it starts from and by what its steps read.

    make bench ITEM=choices             # or: python -m lmc.reproduce.experiments.bench_choices neox-docstrings-0

Every shipped pair is matched by `dual` for several numbers of steps, each a run of its own, since the rate falls to
zero at the last step. One choice at a time is another than the default. Seconds are those of one processor thread, and
what finding the start took is among them. The barrier is measured on held-out data that no run reads. The results go to
data/results/bench/choices.json, one entry a pair; other entries stay.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lmc.evaluation import Data, lowest_midpoint, path
from lmc.matching import CLOSED_FORM, Alignment, Endpoints, match, match_all
from lmc.reproduce.experiments.bench_weights import entry
from lmc.reproduce.experiments.comparison import load_pairs
from lmc.reproduce.runs import Pair
from lmc.reproduce.training.shipped_pairs import KINDS, names
from lmc.symmetries import epsilon, state

STEPS = (75, 150, 300)
SAMPLES, HELD_OUT = 4096, 256  # windows or images: to match on, and to measure on
BATCHES = {"neox-docstrings": 16, "vit-digits": 64}  # of the default recipe: windows, images
DEFAULT = "weights"  # the start from which the other choices are tried
UNIT = "weights, tensors of unit norm"  # the choice of Ainsworth et al. (arXiv 2209.04836): every tensor counts alike
BOTH = "the better closed form"
NONE = 1e-3  # nats: a lower barrier is none


def choices(batch: int) -> dict[str, dict[str, Any]]:
    """What else than the start may be chosen, by name, where the default is this batch. (Rates: `learning_rates`.)"""
    return {
        "λ = 0.5": {"lambdas": (0.5, 0.5)},
        "λ from 0.1 to 0.9": {"lambdas": (0.1, 0.9)},
        "half the batch": {"batch": batch // 2},
        "twice the batch": {"batch": 2 * batch},
    }


def main(given: list[str]) -> None:
    """Measure each pair and write what was found down at once."""
    torch.set_num_threads(1)
    for name in given or names():
        command = f"python -m lmc.reproduce.experiments.bench_choices {name}"
        entry("choices", name, command, partial(measure, name), threads=1, seeds=[0])


def measure(name: str, folder: Path) -> dict[str, Any]:
    """All choices on one pair: what each start took, and every run's steps, seconds and barrier."""
    kind, _, index = name.rpartition("-")
    task = KINDS[kind][0]
    pair = load_pairs(kind, int(index) + 1)[name]
    seen, unseen = task.samples(SAMPLES), task.held_out(task.corpus, HELD_OUT)
    begin: dict[str, Callable[[], Alignment]] = {
        "canonical": lambda: match(*pair, method="canonical"),
        "weights": lambda: match(*pair, method="weights"),
        UNIT: lambda: unit_norms(pair),
        "activations": lambda: match(*pair, method="activations", data=seen),
    }
    starts = {start: timed(make) for start, make in begin.items()}
    better, judged = timed(lambda: lowest_midpoint((starts[s][0] for s in CLOSED_FORM), seen.draw(256, 0, step=0)))
    seconds = {start: spent for start, (_, spent) in starts.items()}
    seconds[BOTH] = judged + sum(seconds[start] for start in CLOSED_FORM)
    tried: dict[str, tuple[str, dict[str, Any]]] = {start: (start, {}) for start in starts}
    batch = BATCHES[kind]
    tried |= {choice: (DEFAULT, options) for choice, options in choices(batch).items()}
    runs = {}
    for choice, (start, options) in tried.items():
        learned = [run(pair, starts[start][0], steps, options, seen, unseen) for steps in STEPS]
        runs[choice] = [found | {"seconds": found["seconds"] + seconds[start]} for found in learned]
        print(name, choice, *(f"{found['barrier']:.4f}" for found in runs[choice]), flush=True)
    chosen = next(start for start in CLOSED_FORM if starts[start][0] is better)
    more = seconds[BOTH] - seconds[chosen]
    runs[BOTH] = [found | {"seconds": found["seconds"] + more} for found in runs[chosen]]
    return {"starts": seconds, "better": chosen, "runs": runs, "unit": unseen.unit}


def run(
    pair: Pair, start: Alignment, steps: int, options: Mapping[str, Any], seen: Data, unseen: Data
) -> dict[str, float]:
    """One learned matching from a start: its steps, processor seconds, and barrier."""
    alignment, spent = timed(lambda: match(*pair, method="dual", data=seen, start=start, steps=steps, **options))
    return {"steps": steps, "seconds": spent, "barrier": path(alignment, unseen, grid=9).barrier}


def unit_norms(pair: Pair) -> Alignment:
    """Data-free matching in which every tensor counts alike, however large its numbers are."""
    endpoints = Endpoints.of(pair, None)
    states = [
        {name: tensor / tensor.norm().clamp_min(torch.finfo(tensor.dtype).tiny) for name, tensor in state(m).items()}
        for m in endpoints.models
    ]
    epsilons = [epsilon(m, endpoints.spec) if endpoints.spec.epsilon else 0.0 for m in endpoints.models]
    transforms, record = match_all(states, endpoints.spec, epsilons)
    return Alignment("weights", endpoints.parents, transforms, record)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its processor seconds."""
    began = time.process_time()
    found = work()
    return found, time.process_time() - began


def time_to(barrier: float, runs: Sequence[Mapping[str, float]]) -> float:
    """The seconds after which runs of several lengths are down at a barrier, on the line through their logarithms.

    >>> round(time_to(0.05, [{"seconds": 10, "barrier": 0.1}, {"seconds": 40, "barrier": 0.025}]))
    20

    Between the first two lengths that enclose it; beyond the last on the line through the last two, and infinite where
    these do not fall. A barrier below `NONE` counts as that.
    """
    barrier, runs = max(barrier, NONE), [{**found, "barrier": max(found["barrier"], NONE)} for found in runs]
    lower = next((i for i, found in enumerate(runs) if i and found["barrier"] <= barrier), len(runs) - 1)
    before, after = runs[lower - 1], runs[lower]
    fall = math.log(before["barrier"] / after["barrier"])
    if fall <= 0:
        return math.inf
    share = math.log(before["barrier"] / barrier) / fall
    return before["seconds"] * (after["seconds"] / before["seconds"]) ** share


if __name__ == "__main__":
    main(sys.argv[1:])
