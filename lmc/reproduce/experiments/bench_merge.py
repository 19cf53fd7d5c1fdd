"""What averaging costs beside a tool that does nothing else: `match --method naive` and `merge`, and mergekit's linear.

    LMC_MERGEKIT=FOLDER/bin/python make bench ITEM=merge
    python -m lmc.reproduce.experiments.bench_merge "Llama 26M" "Llama 386M"

Two models of random weights are written to disk. Both tools then average them, in turns, in processes of their own, and
what they wrote is compared. mergekit wants versions of its own, so the variable names the Python of its environment. On
a machine that does other work too, the ratio of processor seconds says more than that of wall times. The results go to
data/results/bench/merge.json, one entry a shape; other entries stay.
"""

import os
import shutil
import statistics
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lmc import checkpoints
from lmc.checkpoints import stored
from lmc.reproduce import places
from lmc.reproduce.experiments.bench_weights import THREADS, entry, random_weights, watched
from lmc.reproduce.experiments.with_mergekit import alone, python, version
from lmc.reproduce.training.shapes import LLAMA

SHAPES = ("Llama 26M", "Llama 386M")
ROUNDS = 3
PLAN = """merge_method: linear
models:
- {model: ./a, parameters: {weight: 0.5}}
- {model: ./b, parameters: {weight: 0.5}}
dtype: float32
"""


def main(names: list[str]) -> None:
    """Measure each shape and write what was found down at once. Raises MissingExtraError."""
    mergekit = python(os.environ.get("LMC_MERGEKIT", ""))
    for name in names or SHAPES:
        command = f"python -m lmc.reproduce.experiments.bench_merge '{name}'"
        entry("merge", name, command, partial(measure, name, mergekit), mergekit=version(mergekit))


def measure(name: str, mergekit: Path, folder: Path) -> dict[str, Any]:
    """Write the pair, average it with both tools in turns, compare."""
    with torch.device("meta"):
        model: Any = LLAMA[name].build()
    for seed, place in enumerate("ab"):
        checkpoints.save(model, folder / place, dtype=torch.float32, tensors=random_weights(model, seed))
    (folder / "linear.yml").write_text(PLAN, encoding="utf-8")
    ours = os.environ | {"OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": str(places.checkout())}
    theirs = alone() | {"OMP_NUM_THREADS": str(THREADS)}
    lmc = [sys.executable, "-m", "lmc"]

    def averaged() -> dict[str, dict[str, float]]:
        for written in ("naive", "merged", "theirs"):
            shutil.rmtree(folder / written, ignore_errors=True)
        match = watched([*lmc, "match", "a", "b", "--method", "naive", "--out", "naive"], folder, ours)
        merge = watched([*lmc, "merge", "naive", "--at", "0.5", "--out", "merged"], folder, ours)
        linear = [str(mergekit.with_name("mergekit-yaml")), "linear.yml", "theirs", "--quiet"]
        return {"match": match, "merge": merge, "mergekit": watched(linear, folder, theirs)}

    averaged()  # the first of each reads libraries from disk
    rounds = [averaged() for _ in range(ROUNDS)]

    def middle(values: Iterable[float]) -> float:
        return round(statistics.median(values), 2)

    found: dict[str, Any] = {
        part: {key: middle(each[part][key] for each in rounds) for key in row} for part, row in rounds[0].items()
    }
    for key, what in (("seconds", "ratio"), ("cpu_seconds", "ratio of processor seconds")):
        found[what] = middle((r["match"][key] + r["merge"][key]) / r["mergekit"][key] for r in rounds)
    found["largest difference"] = difference(folder / "merged", folder / "theirs")
    return found | {"parameters": sum(p.numel() for p in model.parameters()), "rounds": ROUNDS}


def difference(one: Path, other: Path) -> float:
    """Between two checkpoints, over all numbers."""
    x, y = (stored(checkpoints.inspect(folder)) for folder in (one, other))
    return max(float((x[name] - y[name]).abs().max()) for name in x)


if __name__ == "__main__":
    main(sys.argv[1:])
