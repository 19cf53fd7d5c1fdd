"""All that the chapter on where matching ends rests on: every piece of every pair, made one after the other.

    python -m lmc.reproduce.experiments.evidence neox-docstrings --folder build/ends    # hours; may be stopped

A piece that is there is not made again (`long_matches`), so the same command goes on after it was stopped. In the end
three results are written: `where-it-ends-KIND` (barrier over matching steps), and for text `few-samples-KIND` (over how
much matching reads) and `lasting-KIND` (over how long the endpoints are trained on after they were aligned).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lmc.reproduce import results
from lmc.reproduce.experiments import after_alignment, where_it_ends
from lmc.reproduce.experiments.long_matches import ORDERS, LongMatch, Study
from lmc.reproduce.experiments.samples import RATES
from lmc.reproduce.runs import Comparison, Headline, Run, Sweep
from lmc.reproduce.training.budget import command

PAIRS = 3
STEPS = (100, 300, 1000, 3000, 10_000)  # of matching
DRAWN = ("middle", "adaptive")  # where λ is drawn
BATCH = {"neox-docstrings": 16, "vit-digits": 64}
WINDOWS = (16, 64, 256, 1024)  # of text that matching reads, for as many steps as FEW
FEW, ALIGNED = 300, 1000  # steps of these matches, and of the one that has to last
PATIENCE = 2  # looks of early stopping, of which a match of FEW steps has six
LASTS = ((50, "train"), (150, "train"), (500, "train"), (150, "match"))  # steps of further training, and on what
TUNED = 1e-3  # the rate at which endpoints and midpoints are trained on
OLD = "old transforms"
LINES = {  # as `after_alignment` names them
    "naive": "naive",
    OLD: "old transforms",
    f"{OLD}, then {after_alignment.AGAIN} steps": f"{after_alignment.AGAIN} steps from the old transforms",
    f"{after_alignment.AGAIN} steps from nothing": f"{after_alignment.AGAIN} steps from nothing",
}


def make(kind: str, folder: Path) -> None:
    """Every piece of the pairs of a kind."""
    for index in range(PAIRS):
        study = Study(f"{kind}-{index}", folder)
        study.start()
        given: dict[str, Any] = {"batch": BATCH[kind], "lr": RATES[kind]}
        for steps in STEPS:
            for drawn in DRAWN:
                study.match(LongMatch(steps, drawn, **given))
        if kind != "neox-docstrings":
            continue
        study.match(LongMatch(ALIGNED, "adaptive", "eval", **given))
        for method, rate in (("dual", RATES[kind]), ("single", 2 * RATES[kind])):
            for order in (None, *ORDERS):
                study.match(LongMatch(FEW, batch=BATCH[kind], lr=rate, method=method, order=order))
        for windows in WINDOWS:
            study.match(LongMatch(FEW, windows=windows, **given))
            study.match(LongMatch(FEW, windows=windows, patience=PATIENCE, **given))
            study.closed(windows)
        aligned = LongMatch(ALIGNED, "adaptive", **given).name
        for steps, read in LASTS:
            after_alignment.survive(study, aligned, steps, TUNED, read, BATCH[kind])
        for steps in (ALIGNED, STEPS[-1]):
            study.tune("a", steps, TUNED, BATCH[kind])
        study.after(aligned, FEW, TUNED, BATCH[kind])


def write(kind: str, folder: Path) -> list[str]:
    """The results of what is there, by their ids."""
    written = [where_it_ends.write(kind, folder)]
    found = results.read(written[0], "laptop")
    pieces, run = found.numbers["pieces"], {k: found.run[k] for k in ("seeds", "duration_s", "corpus", "command")}
    shared = {key: found.numbers[key] for key in ("samples", "unit")}
    for name, swept in {"few-samples": where_it_ends.over_data(pieces), "lasting": lasting(pieces)}.items():
        if swept.points:
            results.write(f"{name}-{kind}", "laptop", shared | swept.to_json(), run)
            written.append(f"{name}-{kind}")
    return written


def lasting(pieces: where_it_ends.Pieces) -> Sweep:
    """The barrier over how many steps both endpoints are trained on, under transforms from before and without any.

    0 steps: before. On the data that they were trained on; `other data` has what training on other text gave.
    """
    rows: dict[int, list[Run]] = {}
    other: dict[str, dict[str, float]] = {}
    for pair, found in pieces.items():
        for piece in (piece for name, piece in found.items() if name.startswith("survived-")):
            runs = [where_it_ends.run_of(shown, pair, piece["lines"][label]) for shown, label in LINES.items()]
            if piece["read"] == "train":
                rows.setdefault(piece["steps"], []).extend(runs)
            else:
                other[pair] = {run.method: run.barrier for run in runs} | {"steps": piece["steps"]}
        if pair in {run.pair for runs in rows.values() for run in runs}:
            before = next(p for name, p in found.items() if name.startswith("survived-"))["lines"]
            naive = where_it_ends.run_of("naive", pair, found["start"]["methods"]["naive"])
            rows.setdefault(0, []).extend(
                [naive, where_it_ends.run_of(OLD, pair, before["old transforms, old endpoints"])]
            )
    steps = sorted(rows)
    swept = Sweep(
        "steps of further training",
        tuple(float(x) for x in steps if x),
        tuple(Comparison(tuple(rows[x]), "nats per token") for x in steps if x),
        tuple(LINES),
        rest={"before": {m: [r.barrier for r in rows.get(0, []) if r.method == m] for m in ("naive", OLD)}}
        | {"other data": other},
        named=True,
    )
    if not swept.compared:
        return swept
    last = swept.compared[-1]
    return replace(swept, headline=Headline({f"{OLD}, {steps[-1]} steps": last.mean(OLD)}, pairs=last.pairs))


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, and write the results."""
    parser = argparse.ArgumentParser(
        prog="python -m lmc.reproduce.experiments.evidence", description="Where matching ends: every piece."
    )
    parser.add_argument("kind", choices=sorted(BATCH), help="of shipped pairs")
    parser.add_argument("--write", action="store_true", help="only write the results of what is there")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    if not given.write:
        make(given.kind, given.folder)
    print("written:", ", ".join(write(given.kind, given.folder)))


if __name__ == "__main__":
    sys.exit(main())
