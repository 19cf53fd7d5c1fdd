"""Beyond the paper: two sizes, fine-tunes that move, neighbours' methods, runs of one start, on small networks.

    python -m lmc.reproduce.experiments.beyond two-sizes vit-digits --folder build/beyond    # all pairs; may be stopped
    python -m lmc.reproduce.experiments.beyond two-sizes vit-digits-0 --folder build/beyond  # one pair

A pair makes a piece, kept in a file of its own; one that is there is not made again. A kind makes the pieces of all its
pairs, one after the other, and writes the results of what is there (with `--write`: only that).
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lmc.errors import ArgumentError, DataError
from lmc.reproduce import results
from lmc.reproduce.experiments import fine_tunes, neighbours, shared_starts, three_networks, two_sizes, two_tasks
from lmc.reproduce.experiments.analyses import GRID
from lmc.reproduce.experiments.comparison import load_pairs
from lmc.reproduce.experiments.samples import Samples
from lmc.reproduce.experiments.shared_starts import LOW, METHODS
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.runs import Comparison, Headline, Run, Sweep
from lmc.reproduce.training.budget import command
from lmc.reproduce.training.shipped_pairs import KINDS, names

STEPS = 100  # of learned matching, and of a curve's training
SCORED = 128  # held-out windows of text
PAIRS = 3
MODULE = "python -m lmc.reproduce.experiments.beyond"
EXPERIMENTS = {
    "neighbours": neighbours.side_by_side,
    "fine-tunes": fine_tunes.every_shift,
    "two-sizes": two_sizes.every_size,
    "shared-starts": shared_starts.every_start,
    "three-networks": three_networks.every_method,
    "two-tasks": two_tasks.both,
}
SETTINGS: dict[str, Sequence[Any]] = {
    "fine-tunes": fine_tunes.SETTINGS,
    "shared-starts": shared_starts.SETTINGS,
    "two-tasks": two_tasks.SETTINGS,
}


def kept(experiment: str, kind: str, folder: Path) -> KeptRuns:
    """The pieces of an experiment on pairs of a kind that are made."""
    return KeptRuns(folder / experiment / kind, [experiment, STEPS, SCORED, GRID, *SETTINGS.get(experiment, [])])


def piece(experiment: str, name: str, folder: Path) -> None:
    """Make one piece, if it is not there."""
    kept(experiment, name.rpartition("-")[0], folder).piece(name, partial(_made, experiment, name))


def _made(experiment: str, name: str) -> dict[str, Any]:
    kind, _, number = name.rpartition("-")
    if name not in names():
        raise ArgumentError(f"of: expected one of {', '.join((*KINDS, *names()))}, found {name!r}")
    pair = load_pairs(kind, int(number) + 1)[name]
    samples = Samples.of(name, pair[0])
    samples = replace(samples, eval=samples.eval if kind == "vit-digits" else samples.eval[slice(SCORED)])
    return EXPERIMENTS[experiment](name, pair, samples, STEPS)


def write(experiment: str, kind: str, folder: Path) -> str:
    """The results file of an experiment on the pairs of a kind that are measured. Raises DataError for none."""
    keep = kept(experiment, kind, folder)
    pieces = keep.all()
    if not pieces:
        raise DataError(f"{experiment}: expected a measured pair of {kind}, found none; leave out --write")
    id, unit = f"{experiment}-{kind}", "nats per image" if kind == "vit-digits" else "nats per byte"
    numbers = SUMMARIES[experiment](pieces) | {"unit": unit, "count": len(pieces)}
    seeds = [int(piece.rpartition("-")[2]) for piece in pieces] if experiment == "shared-starts" else [0]
    run = {
        "seeds": seeds,
        "duration_s": keep.seconds(),
        "command": f"{MODULE} {experiment} {kind} --folder build/beyond",
    }
    results.write(id, "laptop", numbers, run)
    return id


def together(pieces: Sequence[Any]) -> Any:
    """The same tree with a list in the place of every number: one value for each piece that has it.

    >>> together([{"a": [1, 2]}, {"a": [3, 4], "b": 5}])
    {'a': [[1, 3], [2, 4]], 'b': [5]}
    """
    first = pieces[0]
    if isinstance(first, dict):
        keys = dict.fromkeys(key for piece in pieces for key in piece)
        return {key: together([piece[key] for piece in pieces if key in piece]) for key in keys}
    if isinstance(first, list):
        return [together([piece[i] for piece in pieces]) for i in range(len(first))]
    return list(pieces)


def neighbours_numbers(pieces: Mapping[str, Any]) -> dict[str, Any]:
    """Barriers as a comparison of methods, and beside them what `together` makes of the rest."""
    runs = tuple(
        Run(row, found["barrier"], pair) for pair, piece in pieces.items() for row, found in piece["rows"].items()
    )
    compared, rest = Comparison(runs), together(list(pieces.values()))
    known = {f"{row} barrier": compared.barriers(row) for row in ("naive", "canonical", "weights", "dual")}
    headline = Headline.of(known, list(pieces), [f"{row} barrier" for row in ("naive", "canonical", "weights")])
    return compared.to_json() | rest | headline.to_json()


def fine_tunes_numbers(pieces: Mapping[str, Any]) -> dict[str, Any]:
    """Losses on the new data as `grouped_figure` draws them, and beside them what `together` makes of all."""
    rest = together(list(pieces.values()))
    texts = {
        shift: {row: found["new"] for row, found in rows.items() if row in SHOWN}
        for shift, rows in rest["shifts"].items()
    }
    return {"what": "loss on the new data", "order": list(SHOWN), "texts": texts} | rest


def two_sizes_numbers(pieces: Mapping[str, Any]) -> dict[str, Any]:
    """Barriers as `grouped_figure` draws them, and beside them what `together` makes of all.

    `better`: in how many cases the midpoint after `dual` had a lower loss than a parent, or any place on its line had
    a lower one than both.
    """
    rest = together(list(pieces.values()))
    texts = {
        size: {method: rows[method]["barrier"] for method in two_sizes.METHODS} for size, rows in rest["sizes"].items()
    }
    cases = [(rows["losses"], rows["dual"]) for piece in pieces.values() for rows in piece["sizes"].values()]
    better = {
        "than the small": sum(dual["middle"] < losses[0] for losses, dual in cases),
        "than the large": sum(dual["middle"] < losses[1] for losses, dual in cases),
        "somewhere than both": sum(min(dual["losses"]) < min(losses) for losses, dual in cases),
        "cases": len(cases),
    }
    return {"texts": texts, "better": better} | rest


def shared_starts_numbers(pieces: Mapping[str, Any]) -> dict[str, Any]:
    """Barriers over the number of shared steps, as a sweep, and from which on two runs are joined, by method.

    A run that never is has the number of all its steps there.
    """
    points = list(next(iter(pieces.values()))["starts"])
    compared, since = [], {method: [joined(piece, method) for piece in pieces.values()] for method in METHODS}
    for shared in points:
        at = {seed: piece["starts"][shared] for seed, piece in pieces.items()}
        runs = [
            Run(method, row[method]["barrier"], seed, interval=tuple(row[method]["interval"]))
            for method in METHODS
            for seed, row in at.items()
        ]
        compared.append(Comparison(tuple(runs)))
    swept = Sweep("shared steps of training", tuple(map(float, points)), tuple(compared), METHODS)
    return swept.to_json() | {"since": since} | together(list(pieces.values()))


def joined(piece: Mapping[str, Any], method: str) -> float:
    """The number of shared steps from which on a barrier is low (`LOW`), and stays so."""
    bound = LOW * piece["starts"]["0"]["naive"]["barrier"]
    since = piece["steps"]
    for shared, row in reversed(piece["starts"].items()):
        if row[method]["barrier"] > bound:
            break
        since = int(shared)
    return float(since)


def three_networks_numbers(pieces: Mapping[str, Any]) -> dict[str, Any]:
    """Barriers over the simplex as a comparison of methods, and beside them what `together` makes of the rest."""
    runs = tuple(
        Run(row, found["barrier"], pair, interval=tuple(found["interval"]))
        for pair, piece in pieces.items()
        for row, found in piece["rows"].items()
    )
    return Comparison(runs).to_json() | together(list(pieces.values()))


def two_tasks_numbers(pieces: Mapping[str, Any]) -> dict[str, Any]:
    """Losses of what was added up as `grouped_figure` draws them, and beside them what `together` makes of all."""
    rest = together(list(pieces.values()))
    order = [row for row in next(iter(rest["losses"].values())) if row == "base" or row.startswith("both")]
    texts = {what: {row: rows[row] for row in order} for what, rows in rest["losses"].items()}
    return {"what": "loss", "order": order, "texts": texts} | rest


SHOWN = ("base", "unmoved", "carried, weights", "carried, dual", "tuned itself")
SUMMARIES = {
    "neighbours": neighbours_numbers,
    "fine-tunes": fine_tunes_numbers,
    "two-sizes": two_sizes_numbers,
    "shared-starts": shared_starts_numbers,
    "three-networks": three_networks_numbers,
    "two-tasks": two_tasks_numbers,
}


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Make one piece, or put them together."""
    parser = argparse.ArgumentParser(
        prog="python -m lmc.reproduce.experiments.beyond", description=__doc__.split("\n")[0]
    )
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("of", help="a kind of shipped pairs (neox-docstrings, vit-digits), or one pair of it")
    parser.add_argument("--write", action="store_true", help="only write the results of what is there")
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pairs = [f"{given.of}-{number}" for number in range(PAIRS)] if given.of in KINDS else [given.of]
    for pair in () if given.write else pairs:
        piece(given.experiment, pair, given.folder)
    if given.of in KINDS:
        print(f"written: {write(given.experiment, given.of, given.folder)}")


if __name__ == "__main__":
    sys.exit(main())
