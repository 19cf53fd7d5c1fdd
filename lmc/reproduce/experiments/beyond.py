"""Beyond the paper: networks of two sizes, fine-tunes that move, and the neighbours' methods, on shipped pairs.

    python -m lmc.reproduce.experiments.beyond two-sizes vit-digits-0 --folder build/beyond
    python -m lmc.reproduce.experiments.beyond fine-tunes write --folder build/beyond

A command makes one piece, kept in a file of its own; one that is there is not made again. `write` puts all pieces of an
experiment together.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lmc.corpora import prepared
from lmc.evaluation import Data, evaluate, path
from lmc.matching import match, taught, with_change
from lmc.reproduce import results
from lmc.reproduce.experiments.analyses import features_of_the_middle, layer_by_layer, layers, similarity
from lmc.reproduce.experiments.comparison import load_pairs
from lmc.reproduce.experiments.controls import finetune
from lmc.reproduce.experiments.fine_tunes import carried
from lmc.reproduce.experiments.long_matches import RATES, Samples
from lmc.reproduce.experiments.neighbours import ROWS, curved, narrowed, straight_through, transported
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.pair_means import mean
from lmc.reproduce.runs import Pair
from lmc.reproduce.training.budget import command
from lmc.reproduce.training.shipped_pairs import KINDS
from lmc.reproduce.training.tasks import Digits, Docstrings, Task
from lmc.reproduce.training.trainer import train
from lmc.symmetries import canonicalize

STEPS = 100  # of learned matching, and of a curve's training
SCORED, GRID = 128, 11  # held-out samples, and points on a line
TUNED = {"vit-digits": 300, "neox-docstrings": 150}  # steps of fine-tuning
FEW = (0.01, 0.05, 0.1)  # shares of these, spent after carrying
FACTORS = {"half of it": 0.5, "one and a half of it": 1.5}  # of the change
TUNING_RATE = 1e-3
ONCE = ("in capitals", "moved by a pixel")  # shifts that are measured on the first pair alone
SMALL_SEED = 20  # of the first small network; no shipped one has it


def loss(model: nn.Module, data: Data) -> float:
    """The mean loss of a model, in nats."""
    return float(evaluate(model, data)[0].mean())


def neighbours(name: str, pair: Pair, samples: Samples, steps: int = STEPS) -> dict[str, Any]:
    """Every method on one pair: the barrier, the seconds it took, and how far its end is from the second network.

    >>> samples = Samples(Data(match_on), Data(match_on), Data(held_out))
    >>> found = neighbours("neox-docstrings-0", (a, b), samples, steps=2)
    >>> sorted(found["rows"]["dual"])
    ['barrier', 'end', 'middle', 'seconds']
    """
    lr, held_out, data = RATES[name.rpartition("-")[0]], samples.eval, samples.train
    lines: dict[str, Callable[[], Any]] = {m: partial(match, *pair, method=m) for m in ("naive", "canonical")}
    lines |= {row: partial(narrowed, pair, row, data) for row in ROWS}
    lines["permutations, straight-through"] = partial(straight_through, pair, data, steps)
    lines |= {m: partial(match, *pair, method=m, data=data) for m in ("weights", "activations")}
    lines["dual"] = partial(match, *pair, method="dual", data=data, steps=steps, lr=lr)
    if find_spec("ot"):  # POT, which is not among the dependencies
        lines["optimal transport"] = lambda: transported(made["permutations, by weights"])
    lines["curve between the raw networks"] = lambda: curved(made["naive"], data, steps)
    lines["curve between matched networks"] = lambda: curved(made["weights"], data, steps)
    made: dict[str, Any] = {}
    rows = {}
    parent = loss(pair[1], held_out)
    for row, make in lines.items():
        began = time.monotonic()
        made[row] = make()
        seconds = time.monotonic() - began
        walked = path(made[row], held_out, GRID)
        middle = walked.losses[GRID // 2]
        rows[row] = {
            "barrier": walked.barrier,
            "seconds": seconds,
            "end": abs(walked.losses[-1] - parent),
            "middle": middle,
        }
        print(f"{name} {row:<32} barrier {walked.barrier:.4f}  {seconds:.1f} s", flush=True)
    found: dict[str, Any] = {"rows": rows, "losses": [loss(model, held_out) for model in pair]}
    for row in ("naive", "weights", "dual"):
        found |= {
            f"layers, {row}": layer_by_layer(made[row], held_out),
            f"features, {row}": features_of_the_middle(made[row], held_out),
        }
        found[f"similarity, {row}"] = similarity(made[row].models, held_out)
    return found


def fine_tunes(name: str, pair: Pair, samples: Samples) -> dict[str, Any]:
    """`fine_tunes_of` a shipped pair, for every shift of its kind."""
    kind, _, number = name.rpartition("-")
    new = {shift: data for shift, data in shifts(kind, samples).items() if number == "0" or shift not in ONCE}
    return fine_tunes_of(kind, pair, samples, new, STEPS, TUNED[kind])


def fine_tunes_of(
    kind: str, pair: Pair, samples: Samples, new_data: Mapping[str, tuple[Data, Data]], steps: int, tuned: int
) -> dict[str, Any]:
    """One network is taught something new; the change is carried to the other. Losses on the new and the old data.

    `closed`: the share of what training the other network itself would gain on the new data.
    """
    alignments = {
        "weights": match(*pair, method="weights"),
        "dual": match(*pair, method="dual", data=samples.train, steps=steps, lr=RATES[kind]),
    }
    bases = tuple(canonicalize(model) for model in pair)
    found: dict[str, Any] = {}
    for shift, (new, test) in new_data.items():
        first, second = (finetune(base, new, tuned, TUNING_RATE, seed=k)[0] for k, base in enumerate(bases))
        change = taught(bases[0], first)
        models = {"base": bases[1], "tuned itself": second, "unmoved": with_change(bases[1], change)}
        models |= {f"carried, {way}": carried(alignment, change) for way, alignment in alignments.items()}
        for word, factor in FACTORS.items():
            models[f"carried, weights, {word}"] = carried(alignments["weights"], change, factor)
        for layer, names in layers(change).items():
            alone = {name: tensor if name in names else torch.zeros_like(tensor) for name, tensor in change.items()}
            models[f"carried, weights, {layer} alone"] = carried(alignments["weights"], alone)
        for share in FEW:
            few = max(1, round(share * tuned))
            for start in ("base", "unmoved", *(f"carried, {way}" for way in alignments)):
                models[f"{start}, then {share:.0%}"] = finetune(models[start], new, few, TUNING_RATE, seed=7)[0]
        rows = {row: {"new": loss(model, test), "old": loss(model, samples.eval)} for row, model in models.items()}
        gap = rows["base"]["new"] - rows["tuned itself"]["new"]
        for row in rows.values():
            row["closed"] = (rows["base"]["new"] - row["new"]) / gap
        found[shift] = rows
        print(shift, {row: round(values["closed"], 3) for row, values in rows.items()}, flush=True)
    return {"shifts": found, "steps": tuned}


def shifts(kind: str, samples: Samples) -> dict[str, tuple[Data, Data]]:
    """What is new, to learn and to be measured on: small shifts first."""
    if kind == "vit-digits":
        ways: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "moved by a pixel": lambda x: torch.roll(x, 1, -1),
            "negatives": lambda x: -x,
            "turned": lambda x: x.rot90(1, (-2, -1)),
        }
        parts = (samples.train, samples.eval)
        found = {way: tuple(replace(p, inputs=change(p.inputs)) for p in parts) for way, change in ways.items()}
        found["other labels"] = tuple(replace(p, labels=9 - p.labels) for p in parts if p.labels is not None)
        return found  # type: ignore[return-value]
    capitals = torch.arange(256)
    capitals[ord("a") : ord("z") + 1] -= 32
    code = prepared.windows(_code(), samples.eval.inputs.shape[1]).long()
    order = torch.randperm(len(code), generator=torch.Generator().manual_seed(0))
    return {
        "in capitals": tuple(Data(capitals[part.inputs]) for part in (samples.train, samples.eval)),  # type: ignore[dict-item]
        "source code": (Data(code[order[SCORED : SCORED + 4096]]), Data(code[order[:SCORED]])),
    }


def _code() -> torch.Tensor:
    """The source of Python's standard library, as bytes."""
    files = sorted(Path(os.__file__).parent.glob("*.py"))
    return torch.from_numpy(np.frombuffer(b"".join(file.read_bytes() for file in files), dtype=np.uint8).copy())


def two_sizes(name: str, pair: Pair, samples: Samples, steps: int = STEPS, trained: int = 1000) -> dict[str, Any]:
    """Smaller networks, trained from nothing, matched with the first network of a pair in its shapes."""
    kind, _, number = name.rpartition("-")
    large, rows = pair[0], {}
    for size, task in smaller(kind).items():
        recipe = replace(KINDS[kind][1], steps=min(trained, KINDS[kind][1].steps), warmup=min(200, trained // 5))
        small, _ = train(task, recipe, SMALL_SEED + int(number), progress=False)
        parents = [loss(model, samples.eval) for model in (small, large)]
        rows[size] = {"losses": parents, "parameters": sum(p.numel() for p in small.parameters())}
        for method in ("naive", "weights", "activations", "single", "dual"):
            learned_ = {"steps": steps, "lr": RATES[kind]} if method in ("single", "dual") else {}
            walked = path(match(small, large, method=method, data=samples.train, **learned_), samples.eval, GRID)  # type: ignore[arg-type]
            rows[size][method] = {
                "barrier": walked.barrier,
                "middle": walked.losses[GRID // 2],
                "losses": walked.losses,
            }
            print(f"{name} {size:<12} {method:<12} barrier {walked.barrier:.4f}", flush=True)
    return {"sizes": rows}


def smaller(kind: str) -> dict[str, Task]:
    """The tasks of a shipped kind, for smaller networks."""
    if kind == "vit-digits":
        return {"half the width": Digits(32, 4), "a quarter": Digits(16, 4), "half the depth": Digits(64, 2)}
    found: dict[str, Task] = {}
    for size, change in {
        "half the width": {"width": 64, "heads": 2},
        "a quarter": {"width": 32, "heads": 1},
        "half the depth": {"layers": 1},
    }.items():
        task = Docstrings()
        task.shape = replace(task.shape, **change)
        found[size] = task
    return found


EXPERIMENTS = {"neighbours": neighbours, "fine-tunes": fine_tunes, "two-sizes": two_sizes}


def kept(experiment: str, folder: Path) -> KeptRuns:
    """The pieces of an experiment that are made."""
    tuning = [TUNED, FEW, FACTORS, TUNING_RATE] if experiment == "fine-tunes" else []
    return KeptRuns(folder / experiment, [experiment, STEPS, SCORED, GRID, *tuning])


def piece(experiment: str, name: str, folder: Path) -> None:
    """Make one piece, if it is not there."""
    kept(experiment, folder).piece(name, partial(_made, experiment, name))


def _made(experiment: str, name: str) -> dict[str, Any]:
    kind = name.rpartition("-")[0]
    pair = load_pairs(kind, int(name[-1]) + 1)[name]
    samples = Samples.of(name, pair[0])
    samples = replace(samples, eval=samples.eval if kind == "vit-digits" else samples.eval[slice(SCORED)])
    return EXPERIMENTS[experiment](name, pair, samples)


def write(experiment: str, folder: Path) -> str:
    """The results file of an experiment: every piece, and the means over the pairs of each kind."""
    keep = kept(experiment, folder)
    pieces = keep.all()
    kinds = sorted({name.rpartition("-")[0] for name in pieces})
    means = {k: _means([p for name, p in pieces.items() if name.startswith(k)]) for k in kinds}
    run = {"seeds": [0], "duration_s": keep.seconds()}
    run["command"] = f"python -m lmc.reproduce.experiments.beyond {experiment} PAIR, for every pair, then write"
    results.write(experiment, "laptop", {"pairs": sorted(pieces), "pieces": pieces, "means": means}, run)
    return experiment


def _means(pieces: Sequence[Any]) -> Any:
    """The same tree with means in the place of numbers."""
    first = pieces[0]
    if isinstance(first, dict):  # what only some pairs have is the mean of these
        keys = dict.fromkeys(key for p in pieces for key in p)
        return {key: _means([p[key] for p in pieces if key in p]) for key in keys}
    if isinstance(first, list):
        return [_means([p[i] for p in pieces]) for i in range(len(first))]
    return mean(list(pieces))


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Make one piece, or put them together."""
    parser = argparse.ArgumentParser(
        prog="python -m lmc.reproduce.experiments.beyond", description=__doc__.split("\n")[0]
    )
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("pair", metavar="PAIR", help="a shipped pair, as neox-docstrings-0; or write")
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if given.pair == "write":
        print(f"written: {write(given.experiment, given.folder)}")
        return
    piece(given.experiment, given.pair, given.folder)


if __name__ == "__main__":
    sys.exit(main())
