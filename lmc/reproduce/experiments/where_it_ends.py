"""Where the barrier ends: long matchings of the shipped pairs, and what they have to be told apart from.

    alias ends="python -m lmc.reproduce.experiments.where_it_ends --folder build/ends"
    ends neox-docstrings-0 start
    ends neox-docstrings-0 match --steps 1000 --drawn adaptive
    ends neox-docstrings-0 tune --of a --steps 1000 --lr 1e-3
    ends neox-docstrings-0 after --of dual-adaptive-train-16x1000-0.02-s0 --steps 300
    ends neox-docstrings write

A command makes one piece (`long_matches` says which there are), kept in a file of its own; one that is there is not
made again, and a match that was cut off goes on. `write` puts the pieces of all pairs of a kind together; `evidence`
makes all that the book shows.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lmc import corpora
from lmc.errors import DataError
from lmc.reproduce import results
from lmc.reproduce.experiments import long_matches
from lmc.reproduce.experiments.long_matches import DRAWN, ORDERS, READ, LongMatch, Study
from lmc.reproduce.experiments.samples import RATES
from lmc.reproduce.pair_means import mean
from lmc.reproduce.runs import Comparison, Headline, Run, Sweep
from lmc.reproduce.training.budget import command

Pieces = Mapping[str, Mapping[str, Any]]  # of every pair its pieces, by name
SEEN = "dual, on what it read"
BOUND = "lower bound, "  # before the names of what matching on the evaluation samples gave


def write(kind: str, folder: Path) -> str:
    """The results file of all pairs of a kind: what is there of every piece, and the curve over matching steps."""
    kept = {path.name: long_matches.pieces(path.name, folder) for path in sorted(folder.glob(f"{kind}-*"))}
    pieces = {pair: found for pair, keep in kept.items() if "start" in (found := keep.all())}
    if not pieces:
        raise DataError(f"{kind}: expected pieces of its pairs, found none")
    pairs = list(pieces)
    id, first = f"where-it-ends-{kind}", pieces[pairs[0]]["start"]["methods"]["naive"]["path"]
    ended = ends(pieces)
    known = {"barrier": "barrier of the longest match", BOUND + "barrier": "barrier, matched on the evaluation samples"}
    values = {name: [row[key] for row in ended.values() if key in row] for key, name in known.items()}
    headline = Headline({name: mean(found) for name, found in values.items() if found})
    numbers = {"unit": first["metric"], "samples": first["samples"], "pieces": pieces, "ends": ended}
    numbers["losses"], numbers["orders"] = told_apart(pieces), orders(pieces)
    numbers["agreement"] = agreement(pieces)
    numbers |= over_steps(pieces).to_json() | headline.to_json()
    seconds = sum(kept[pair].seconds() for pair in pairs)
    seeds = sorted({piece.get("seed", 0) for found in pieces.values() for piece in found.values()})
    corpus = "embedded" if kind == "neox-docstrings" else "digits"
    run = {"seeds": seeds, "duration_s": seconds, "corpus": corpora.describe(corpus, "eval")}
    command = f"python -m lmc.reproduce.experiments.evidence {kind} --folder build/ends"
    results.write(id, "laptop", numbers, run | {"command": command})
    return id


def over_steps(pieces: Pieces) -> Sweep:
    """Barrier over matching steps, by where λ is drawn.

    Only dual matches on all of the training data, with the first seed and the best rate of the grids, count; a point
    counts where every way of drawing has a run.
    """
    rows: dict[str, dict[int, dict[str, Run]]] = {}
    for pair, found in pieces.items():
        best = RATES[pair.rpartition("-")[0]]
        for piece in found.values():
            if _is_plain(piece) and piece["read"] == "train" and piece["seed"] == 0 and piece["lr"] == best:
                name, to_better = f"λ: {piece['drawn']}", tuple(piece["to_better"])
                run = replace(run_of(name, pair, piece), to_better=to_better)
                rows.setdefault(name, {}).setdefault(piece["steps"], {})[pair] = run
    return _swept("matching steps", rows)


def _is_plain(piece: Mapping[str, Any]) -> bool:
    """Whether a piece is a dual match on all of what it reads, to the end, its hidden units as the start has them."""
    dual = piece.get("method") == "dual" and "drawn" in piece
    return dual and not any(piece.get(key) for key in ("windows", "patience", "order"))


def run_of(name: str, pair: str, piece: Mapping[str, Any]) -> Run:
    """The run that a piece with a path holds."""
    return Run(name, piece["path"]["barrier"], pair, interval=tuple(piece["path"]["interval"]))


def _swept(varied: str, rows: Mapping[str, Mapping[int, Mapping[str, Run]]]) -> Sweep:
    """The runs (of every method, at every point, of every pair) at the points where all methods have one."""
    points = sorted(set.intersection(*(set(of) for of in rows.values()))) if rows else []
    at = (Comparison(tuple(run for of in rows.values() for run in of[x].values())) for x in points)
    return Sweep(varied, tuple(points), tuple(at), tuple(rows), named=True)


def ends(pieces: Pieces) -> dict[str, dict[str, Any]]:
    """Per pair where the longest match ended, beside what it has to be told apart from.

    `tuned`: the loss of a parent trained on for as many steps (of the rates tried the one that is best on other text),
    `lower bound`: the barrier after matching on the evaluation samples themselves, `after`: what training the midpoint
    on still gains, and the share of |A − B| that it moves for that.
    """
    found: dict[str, dict[str, Any]] = {}
    for pair, kept in pieces.items():
        row: dict[str, Any] = {"losses": kept["start"]["losses"]}
        plain = [piece for piece in kept.values() if _is_plain(piece)]
        for read, name in (("train", ""), ("eval", BOUND)):
            runs = [p for p in plain if p["read"] == read]
            if runs:
                last = max(runs, key=lambda p: (p["steps"], -p["path"]["barrier"]))
                row |= {f"{name}{key}": last[key] for key in ("steps", "drawn", "midpoint", "to_better")}
                row |= {f"{name}{key}": last["path"][key] for key in ("barrier", "interval")}
        tuned = [p for name, p in kept.items() if name.startswith("tuned-")]
        by_steps: dict[int, dict[str, Any]] = {}
        for piece in sorted(tuned, key=lambda p: -p["chosen_by"]):
            by_steps[piece["steps"]] = {key: piece[key] for key in ("of", "lr", "loss")}
        row["tuned"] = [{"steps": steps} | best for steps, best in sorted(by_steps.items())]
        after = [p for name, p in kept.items() if name.startswith("after-")]
        row["after"] = [{key: p[key] for key in ("of", "steps", "before", "loss", "share")} for p in after]
        found[pair] = row
    return found


def told_apart(pieces: Pieces) -> dict[str, dict[str, Any]]:
    """Held-out losses of what a merge must be compared with: of each pair that has it, and their mean.

    The midpoints are those of the longest match of each way to draw λ.
    """
    rows: dict[str, dict[str, float]] = {}
    for pair, kept in pieces.items():
        losses, found = kept["start"]["losses"], dict[str, float]()
        found["better parent"], found["ensemble"] = min(losses["a"], losses["b"]), losses["ensemble"]
        for piece in sorted((p for p in kept.values() if _is_plain(p)), key=lambda p: p["steps"]):
            where = "on these samples" if piece["read"] == "eval" else f"λ: {piece['drawn']}"
            found[f"midpoint, {where}"] = piece["midpoint"]  # the longest is the last
        for name, piece in kept.items():
            if name.startswith("tuned-a"):
                found["first parent"] = piece["before"]
                found[f"first parent, trained on for {piece['steps']:,} steps"] = piece["loss"]
            elif name.startswith("after-"):
                found["midpoint, trained on"] = piece["loss"]
        for name, loss in found.items():
            rows.setdefault(name, {})[pair] = loss
    return {name: {"mean": mean(list(row.values())), "pairs": row} for name, row in rows.items()}


def orders(pieces: Pieces) -> dict[str, dict[str, Any]]:
    """What permuting hidden units while learning gains: matches that do, and those of as many steps that do not.

    Of each the mean barrier of the pairs that have such matches, and of the share of units that found another partner.
    """
    rows: dict[str, dict[str, Any]] = {}
    for kept in pieces.values():
        lengths = {piece["steps"] for piece in kept.values() if piece.get("order")}
        for piece in kept.values():
            alike = piece.get("steps") in lengths and piece.get("drawn") == "middle" and piece.get("read") == "train"
            if alike and not piece.get("windows"):
                row = rows.setdefault(f"{piece['method']}, {piece.get('order') or 'order as it is'}", {"barrier": []})
                row["barrier"].append(piece["path"]["barrier"])
                if piece.get("order"):
                    row.setdefault("share of units moved", []).append(piece["reordered"])
    return {
        name: {"pairs": len(row["barrier"])} | {k: mean(v) for k, v in row.items()}
        for name, row in sorted(rows.items())
    }


def agreement(pieces: Pieces) -> dict[str, dict[str, float]]:
    """The correlation of matched units, by layer and by steps of adaptive matching: means over the pairs."""
    found: dict[str, dict[str, list[float]]] = {}
    of = [p for kept in pieces.values() for p in kept.values() if _is_plain(p) and p["read"] == "train"]
    for piece in sorted((p for p in of if p["drawn"] == "adaptive"), key=lambda p: p["steps"]):
        for layer, value in piece["agreement"].items():
            found.setdefault(layer, {}).setdefault(f"{piece['steps']} steps", []).append(value)
    return {layer: {steps: mean(values) for steps, values in row.items()} for layer, row in found.items()}


def over_data(pieces: Pieces) -> Sweep:
    """Barrier over how much matching reads: learned, stopped early, and activations.

    `SEEN`: learned, scored on what it has read. `enough`: the fewest samples from which on learning is below activation
    matching on every pair (None: not yet).
    """
    rows: dict[str, dict[int, dict[str, Run]]] = {}
    for pair, found in pieces.items():
        for piece in found.values():
            if piece.get("windows") and piece.get("seed") == 0:
                name = f"{piece['method']}, stopped early" if piece.get("patience") else piece["method"]
                rows.setdefault(name, {}).setdefault(piece["windows"], {})[pair] = run_of(name, pair, piece)
                if "seen" in piece and not piece.get("patience"):
                    seen = run_of(SEEN, pair, {"path": piece["seen"]})
                    rows.setdefault(SEEN, {}).setdefault(piece["windows"], {})[pair] = seen
    swept = _swept("samples that matching reads", rows)
    learned, closed = rows.get("dual", {}), rows.get("activations", {})
    both = [int(x) for x in swept.points if learned.get(int(x), {}).keys() & closed.get(int(x), {}).keys()]
    better = [all(learned[x][p].barrier < run.barrier for p, run in closed[x].items() if p in learned[x]) for x in both]
    first = next((i for i in range(len(both)) if all(better[i:])), None)
    return replace(swept, rest={"enough": None if first is None else both[first]})


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Make one piece."""
    given = _parser().parse_args(arguments)
    torch.set_num_threads(given.threads)
    if given.piece == "write":
        print(f"written: {write(given.pair, given.folder)}")
        return
    study = Study(given.pair, given.folder)
    if given.piece == "start":
        study.start()
    elif given.piece == "match":
        chosen = (given.steps, given.drawn, given.read, given.batch, given.lr, given.method, given.seed)
        study.match(LongMatch(*chosen, windows=given.windows, patience=given.patience, order=given.order))
    elif given.piece == "closed":
        study.closed(given.windows, given.seed)
    elif given.piece == "tune":
        study.tune(given.of, given.steps, given.lr, given.batch, given.read)
    else:
        study.after(given.of, given.steps, given.lr, given.batch, given.read)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lmc.reproduce.experiments.where_it_ends", description="Where the barrier ends."
    )
    parser.add_argument("pair", metavar="PAIR", help="a shipped pair, as neox-docstrings-0; to write, its kind")
    parser.add_argument("piece", choices=("start", "match", "closed", "tune", "after", "write"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--drawn", choices=DRAWN, default="middle", help="where λ is drawn: %(default)s")
    parser.add_argument("--read", choices=READ, default="train", help="what is matched on: %(default)s")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-2)
    parser.add_argument("--method", choices=("single", "dual"), default="dual")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--windows", type=int, help="samples of what is read: all")
    parser.add_argument("--order", choices=ORDERS, help="permute hidden units while learning")
    parser.add_argument("--patience", type=int, help="early stopping, in looks of 50 steps")
    parser.add_argument("--of", default="a", help="a, b, or the name of a match")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
