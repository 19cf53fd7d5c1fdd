"""What a better objective of data-free matching buys: cosine and barrier after some sweeps, on every shipped pair.

    make bench ITEM=sweeps              # or: python -m lmc.reproduce.experiments.bench_sweeps neox-docstrings-0

The barrier is measured on held-out data. The results go to data/results/bench/sweeps.json, one entry a pair; other
entries stay.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lmc.evaluation import path
from lmc.matching import Alignment, Endpoints, match, match_all
from lmc.reproduce.experiments.bench_weights import entry
from lmc.reproduce.experiments.comparison import load_pairs
from lmc.reproduce.training.shipped_pairs import KINDS, names
from lmc.symmetries import epsilon, state

SWEEPS = (0, 1, 2, 4, 6, 100)  # at most; the last ends by itself
HELD_OUT = 256  # windows or images


def main(given: list[str]) -> None:
    """Measure each pair and write what was found down at once."""
    torch.set_num_threads(1)
    for name in given or names():
        command = f"python -m lmc.reproduce.experiments.bench_sweeps {name}"
        entry("sweeps", name, command, partial(measure, name), threads=1, seeds=[0])


def measure(name: str, folder: Path) -> dict[str, Any]:
    """The cosine and the barrier of one pair after so many sweeps, and the barrier of averaging as it is."""
    kind, _, index = name.rpartition("-")
    task = KINDS[kind][0]
    pair, unseen = load_pairs(kind, int(index) + 1)[name], task.held_out(task.corpus, HELD_OUT)
    ends = Endpoints.of(pair, None)
    states = [state(model) for model in ends.models]
    epsilons = [epsilon(m, ends.spec) if ends.spec.epsilon else 0.0 for m in ends.models]
    rows = []
    for sweeps in SWEEPS:
        transforms, record = match_all(states, ends.spec, epsilons, sweeps=sweeps)
        barrier = path(Alignment("weights", ends.parents, transforms, record), unseen, grid=9).barrier
        rows.append({"sweeps": record["sweeps"][0], "cosine": record["cosines"][0][-1], "barrier": barrier})
    print(name, *(f"{row['sweeps']}: {row['cosine']:.4f} {row['barrier']:.4f}" for row in rows), flush=True)
    naive = path(match(*pair, method="naive"), unseen, grid=9).barrier
    return {"after": rows, "naive": naive, "unit": unseen.unit}


if __name__ == "__main__":
    main(sys.argv[1:])
