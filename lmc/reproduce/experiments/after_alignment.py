"""Does an alignment survive continued training? Both endpoints are trained on, and the old transforms are used again.

    python -m lmc.reproduce.experiments.after_alignment neox-docstrings-0 --folder build/ends \\
        --of dual-middle-train-16x1000-0.02-s0 --steps 150 --read match

`--of` names a match of `where_it_ends` in the same folder. Training goes on for so many steps, each endpoint with
batches of its own, on the data it was trained on (`--read train`) or on other (`--read match`). Measured are: the
endpoints before and after, the barrier between the trained ones under the transforms found before, without alignment,
and after a short matching that starts from the old transforms or from nothing.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lmc.evaluation import evaluate
from lmc.matching import Alignment, match
from lmc.reproduce.experiments.controls import finetune
from lmc.reproduce.experiments.long_matches import READ, Study, distance
from lmc.reproduce.experiments.samples import RATES
from lmc.reproduce.training.budget import command
from lmc.symmetries import state

AGAIN = 100  # steps of the short matching
SEEDS = (11, 12)  # for the batches of the two endpoints


def survive(study: Study, of: str, steps: int, lr: float, read: str, batch: int) -> None:
    """One piece: what is left of a match after so many steps of further training."""
    make = partial(_survived, study, of, steps, lr, read, batch)
    study.piece(f"survived-{of}-{read}-{batch}x{steps}-{lr:g}", make)


def _survived(study: Study, of: str, steps: int, lr: float, read: str, batch: int) -> dict[str, Any]:
    old = Alignment.load(study.folder / of)
    data, held_out = getattr(study.samples, read), study.samples.eval
    trained = tuple(
        finetune(model, data, steps, lr, batch, seed)[0] for model, seed in zip(study.pair, SEEDS, strict=True)
    )
    found: dict[str, Any] = {"of": of, "steps": steps, "lr": lr, "read": read, "batch": batch, "seeds": SEEDS}
    for when, models in (("before", study.pair), ("after", trained)):
        found[when] = [float(evaluate(model, held_out)[0].mean()) for model in models]
    found["moved"] = [
        distance(state(x), state(y)) / distance(state(x), dict.fromkeys(state(x), torch.zeros(())))
        for x, y in zip(study.pair, trained, strict=True)
    ]
    kept = Alignment(old.method, trained, old.transforms, old.record)
    rate = RATES[study.name.rpartition("-")[0]]
    again: dict[str, Any] = {"steps": AGAIN, "lr": rate, "batch": batch, "method": old.method}
    lines = {
        "old transforms, old endpoints": old,
        "old transforms": kept,
        "naive": match(*trained, method="naive"),
        f"{AGAIN} steps from the old transforms": match(*trained, data=study.samples.train, start=kept, **again),
        f"{AGAIN} steps from nothing": match(*trained, data=study.samples.train, start="better", **again),
    }
    return found | {"lines": {label: study.walk(alignment) for label, alignment in lines.items()}}


@command
def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    torch.set_num_threads(given.threads)
    survive(Study(given.pair, given.folder), given.of, given.steps, given.lr, given.read, given.batch)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lmc.reproduce.experiments.after_alignment")
    parser.add_argument("pair", metavar="PAIR", help="a shipped pair, as neox-docstrings-0")
    parser.add_argument("--of", required=True, help="the name of a match")
    parser.add_argument("--steps", type=int, required=True, help="of further training")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--read", choices=READ[:2], default=READ[0], help="what is trained on: %(default)s")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
