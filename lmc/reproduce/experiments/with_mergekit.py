"""Merges of another tool, mergekit: of parents as they are, and of the aligned endpoints of `lmc match --export`.

    LMC_MERGEKIT=FOLDER/bin/python python -m lmc.reproduce.experiments.with_mergekit --folder build/mergekit

mergekit wants versions of its own, so it has an environment of its own, and the variable names the Python there. What
it is given are the configurations of the export, in the middle or, for methods that have a line, at other places of it.
The pairs are GPT-2: of Pythia's architecture mergekit 0.1.5 expects buffers that transformers no longer writes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from lmc import corpora
from lmc.checkpoints import load, save
from lmc.errors import CheckpointError, MissingExtraError
from lmc.evaluation import Data, evaluate
from lmc.matching import Alignment, match
from lmc.reproduce import results
from lmc.reproduce.experiments.comparison import record
from lmc.reproduce.experiments.rates import best_rates
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.runs import Headline, Numbers, Pair
from lmc.reproduce.training.budget import command
from lmc.reproduce.training.shapes import Gpt2
from lmc.reproduce.training.tasks import Docstrings
from lmc.reproduce.training.trainer import TrainingRecipe, train

LINES = ("linear", "slerp")  # methods that merge at any place between two models
ONCE = ("ties", "dare_ties")  # and those that only merge
PLACES = (0.25, 0.5, 0.75)
TASK = Docstrings(Gpt2(2, 64, heads=4, context=64, vocabulary=256))
RECIPE = TrainingRecipe(700, 16, 4e-3)
BEFORE, AFTER = "as they are", "aligned"
INSTALL = "install mergekit into an environment of its own, and let LMC_MERGEKIT name the Python there"
MERGE = """
import sys, yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
for name in sys.argv[1:]:
    plan = MergeConfiguration.model_validate(yaml.safe_load(open(name + ".yml")))
    run_merge(plan, name, MergeOptions(copy_tokenizer=False, quiet=True, random_seed=0))
"""
Plan = tuple[str, float]  # a method, and where between the first model and the second


def python(named: str) -> Path:
    """The Python of mergekit's environment. Raises MissingExtraError.

    >>> python("")
    Traceback (most recent call last):
    lmc.errors.MissingExtraError: LMC_MERGEKIT: expected mergekit's Python, found ''; install mergekit into an ...
    """
    found = shutil.which(named) if named else None
    if found is None:
        raise MissingExtraError(f"LMC_MERGEKIT: expected mergekit's Python, found {named!r}; {INSTALL}")
    return Path(found)


def endpoints(folder: Path, count: int) -> dict[str, Pair]:
    """So many disjoint pairs, trained into the folder in about a minute each, or read from there."""
    for seed in range(2 * count):
        if not (place := folder / f"seed-{seed}").is_dir():
            save(train(TASK, RECIPE, seed)[0], place)
    return {f"pair-{k}": (load(folder / f"seed-{2 * k}"), load(folder / f"seed-{2 * k + 1}")) for k in range(count)}


def version(mergekit: Path) -> str:
    """The version of the mergekit in that Python's environment. Raises CheckpointError."""
    return _run(mergekit, ["-c", "from importlib.metadata import version; print(version('mergekit'))"], Path())


def merged(mergekit: Path, folder: Path, plans: Iterable[Plan]) -> list[nn.Module]:
    """What mergekit makes of the endpoints in an exported folder, with its configurations there.

    Beside them are written, in one run of mergekit, configurations and models `METHOD-PLACE`. Raises CheckpointError.
    """
    names = []
    for method, at in plans:
        chosen = yaml.safe_load((folder / f"mergekit-{method}.yml").read_text(encoding="utf-8"))
        if method == "slerp":
            chosen["parameters"]["t"] = at
        elif method == "linear":
            for model, weight in zip(chosen["models"], (1 - at, at), strict=True):
                model["parameters"]["weight"] = weight
        names.append(f"{method}-{at}")
        (folder / f"{names[-1]}.yml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    _run(mergekit, ["-c", MERGE, *names], folder)
    return [load(folder / name) for name in names]


def _run(program: Path, arguments: Sequence[str], folder: Path) -> str:
    """What a program in another environment prints."""
    done = subprocess.run([str(program), *arguments], cwd=folder, env=alone(), capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise CheckpointError(f"{program}: mergekit failed ({said}); {INSTALL}")
    return done.stdout.strip()


def alone() -> dict[str, str]:
    """The variables of a process in another Python's environment, which asks no hub."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | {"HF_HUB_OFFLINE": "1"}


def merges(mergekit: Path, alignment: Alignment, held_out: Data) -> dict[str, dict[str, float]]:
    """Per method the held-out loss of its merge in the middle; for those with a line also the barrier on it."""

    def loss(model: nn.Module) -> float:
        return float(evaluate(model, held_out)[0].mean())

    ends = [loss(model) for model in alignment.models]
    found: dict[str, dict[str, float]] = {"parents": {"loss": sum(ends) / 2}}
    plans = [*((method, at) for method in LINES for at in PLACES), *((method, 0.5) for method in ONCE)]
    with tempfile.TemporaryDirectory(prefix="lmc-") as aside:
        folder = Path(aside) / "models"
        alignment.export(folder)
        losses = dict(zip(plans, map(loss, merged(mergekit, folder, plans)), strict=True))
    for method in (*LINES, *ONCE):
        found[method] = {"loss": losses[method, 0.5]}
    for method in LINES:
        above = [losses[method, at] - (1 - at) * ends[0] - at * ends[1] for at in PLACES]
        found[method]["barrier"] = max(0.0, *above)
    return found


def study(
    mergekit: Path, pairs: Mapping[str, Pair], samples: int, scored: int, steps: int, rate: float, keep: KeptRuns
) -> Numbers:
    """All merges of every pair, as it is and after dual matching. Pieces that `keep` has are not made again."""
    held_out = TASK.held_out(TASK.corpus, scored)

    def made(name: str, **how: Any) -> dict[str, dict[str, float]]:
        return merges(mergekit, match(*pairs[name], **how), held_out)

    dual: dict[str, Any] = {
        "method": "dual",
        "data": TASK.samples(samples),
        "start": "better",
        "steps": steps,
        "lr": rate,
    }
    ways: dict[str, dict[str, Any]] = {BEFORE: {"method": "naive"}, AFTER: dual}
    found = {
        when: [keep.piece(f"{name}-{when.replace(' ', '-')}", partial(made, name, **how)) for name in pairs]
        for when, how in ways.items()
    }
    models: dict[str, Any] = {"parents": {"loss": [row["parents"]["loss"] for row in found[BEFORE]]}}
    for method in (*LINES, *ONCE):
        for when, rows in found.items():
            models[f"{method}, {when}"] = {key: [row[method][key] for row in rows] for key in rows[0][method]}
    known = {f"{name}, {key}": values for name, row in models.items() for key, values in row.items()}
    fixed = [name for name in known if AFTER not in name and "dare" not in name]  # DARE draws what it drops
    headline = Headline.of(known, list(pairs), seedless=fixed).to_json()
    return {"unit": held_out.unit, "steps": steps, "models": models, "order": list(models), **headline}


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, and write the results. Raises MissingExtraError before anything starts."""
    parser = argparse.ArgumentParser(
        prog="python -m lmc.reproduce.experiments.with_mergekit", description="Merges of mergekit, before and after."
    )
    parser.add_argument("--folder", type=Path, required=True, help="for endpoints")
    folder = parser.parse_args(arguments).folder
    mergekit, began = python(os.environ.get("LMC_MERGEKIT", "")), time.monotonic()
    used, rate = version(mergekit), best_rates(results.read("neox-docstrings-rates", "laptop").grids)["dual"]
    pairs, keep = endpoints(folder, count=3), KeptRuns.of("mergekit", "laptop")
    numbers = study(mergekit, pairs, samples=4096, scored=256, steps=300, rate=rate, keep=keep)
    text = corpora.describe(TASK.corpus, "eval")
    again = "LMC_MERGEKIT=FOLDER/bin/python lmc reproduce --figure mergekit"
    record("mergekit", "laptop", numbers, [0], began, mergekit=used, corpus=text, command=again)


if __name__ == "__main__":
    sys.exit(main())
