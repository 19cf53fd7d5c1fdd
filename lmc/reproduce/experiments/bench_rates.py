"""Which rate and batch bring dual matching to a barrier soonest: on the shipped pairs, and on trained ones.

    make bench ITEM=rates               # or: python -m lmc.reproduce.experiments.bench_rates neox-docstrings-0
    python -m lmc.reproduce.experiments.bench_rates width-512-0 --folder build/scaling

Learning begins at `weights`; each number of steps is a run of its own, since the rate falls to zero at the last step.
Seconds are those of one processor thread. The barrier is measured on held-out data that no run reads. The pairs that
are not shipped are those of chapter 15, trained into the folder by `lmc.reproduce.experiments.scaling` and `.vision`.
The results go to data/results/bench/rates.json, one entry a pair; other entries stay.
"""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lmc import checkpoints
from lmc.corpora import prepared
from lmc.errors import ArgumentError
from lmc.matching import match
from lmc.reproduce import places
from lmc.reproduce.experiments import scaling, vision
from lmc.reproduce.experiments.bench_choices import BATCHES, HELD_OUT, SAMPLES, run, timed
from lmc.reproduce.experiments.bench_weights import entry
from lmc.reproduce.experiments.comparison import load_pairs
from lmc.reproduce.runs import Pair
from lmc.reproduce.training.settings import Setting, corpora, endpoint_folder
from lmc.reproduce.training.shipped_pairs import KINDS, names
from lmc.reproduce.training.tasks import CPU, Task, task_of

STEPS = (150, 300)
RATES = (2.5e-3, 5e-3, 1e-2, 2e-2)
SHARES = (0.5, 1.0, 2.0)  # of the default batch


@dataclass(frozen=True)
class Grid:
    """The rates and the shares of the default batch that are tried."""

    rates: tuple[float, ...] = RATES
    shares: tuple[float, ...] = SHARES


LOWER = (2.5e-3, 5e-3, 1e-2)
TRAINED = {  # settings of chapter 15; a wide network is tried at fewer choices, as a step of it is dear
    "depth-2": Grid(),
    "cifar10-128": Grid((1.25e-3, *LOWER)),
    "width-256": Grid((1.25e-3, *LOWER), (1.0,)),
    "width-512": Grid((6.25e-4, 1.25e-3, *LOWER), (1.0,)),
}


def main() -> None:
    """Measure each pair and write what was found down at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", help="such as vit-digits-0 or width-256-1: every shipped pair")
    parser.add_argument("--folder", type=Path, help="trained endpoints: build/scaling or build/vision of the clone")
    parser.add_argument("--inputs", type=Path, default=places.checkout() / "build/inputs", help="prepared corpora")
    given = parser.parse_args()
    measured(given.pairs or names(), given.folder, given.inputs)


def measured(pairs: list[str], folder: Path | None = None, inputs: Path = Path("build/inputs")) -> None:
    """Measure these pairs, and write each down at once."""
    torch.set_num_threads(1)
    for name in pairs:
        kind, _, index = name.rpartition("-")
        pair, task, batch, grid = _shipped(kind, int(index)) if kind in KINDS else _trained(name, folder, inputs)
        where = "" if kind in KINDS else f" --folder build/{'vision' if kind in vision.SETTINGS else 'scaling'}"
        command = f"python -m lmc.reproduce.experiments.bench_rates {name}{where}"
        entry("rates", name, command, partial(measure, name, pair, task, batch, grid), threads=1, seeds=[0])


def _shipped(kind: str, index: int) -> tuple[Pair, Task, int, Grid]:
    return load_pairs(kind, index + 1)[f"{kind}-{index}"], KINDS[kind][0], BATCHES[kind], Grid()


def _trained(name: str, folder: Path | None, inputs: Path) -> tuple[Pair, Task, int, Grid]:
    """A pair of chapter 15. Raises ArgumentError where its endpoints have not been trained."""
    kind, _, index = name.rpartition("-")
    of: dict[str, Setting] = vision.SETTINGS | scaling.settings()
    if kind not in TRAINED:
        raise ArgumentError(f"pair: expected a shipped pair, or one of {', '.join(TRAINED)} and its number: {name}")
    setting, module = of[kind], "vision" if kind in vision.SETTINGS else "scaling"
    folder = folder or places.checkout() / "build" / module
    ends = [endpoint_folder(setting, folder) / f"seed-{seed}" for seed in setting.seeds[int(index)]]
    if not all(end.is_dir() for end in ends):
        train = f"python -m lmc.reproduce.experiments.{module} {kind} --pair {index} --folder {folder}"
        raise ArgumentError(f"{name}: expected trained endpoints in {folder}, found none; run {train}")
    prepared.prepare(corpora([setting]), inputs)
    task = task_of(setting.shape, setting.corpus, inputs, CPU)
    first, second = (checkpoints.load(end) for end in ends)
    return (first, second), task, setting.matching.batch, TRAINED[kind]


def measure(name: str, pair: Pair, task: Task, batch: int, grid: Grid, folder: Path) -> dict[str, Any]:
    """Every choice on one pair: steps, seconds and barrier of each run. `folder`: nothing is kept in it."""
    seen, unseen = task.samples(SAMPLES), task.held_out(task.corpus, HELD_OUT)
    start, spent = timed(lambda: match(*pair, method="weights"))
    runs = []
    for rate in grid.rates:
        for share in grid.shares:
            chosen = {"lr": rate, "batch": round(share * batch)}
            learned = [run(pair, start, steps, chosen, seen, unseen) for steps in STEPS]
            runs.append(chosen | {"runs": [found | {"seconds": found["seconds"] + spent} for found in learned]})
            print(name, rate, share, *(f"{found['barrier']:.4f}" for found in learned), flush=True)
    return {"batch": batch, "start": spent, "tried": runs, "unit": unseen.unit}


if __name__ == "__main__":
    main()
