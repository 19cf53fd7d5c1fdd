"""The experiment behind every figure: match pairs by several methods, walk the line, write the numbers down.

>>> loaded = load_pairs("vit-digits", 3)
>>> methods = plan(list(loaded), seeds=[0, 1, 2], steps=300, rates={"single": 0.02, "dual": 0.02})
>>> numbers = compare(loaded, match_on, held_out, methods)
>>> record("vit-digits", "laptop", numbers | summary(numbers, guess=2.3), [0, 1, 2], began)

What `compare` and `learning_rates` return is plain numbers in the layout that `lmc.reproduce.figures` draws.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from lmc.checkpoints import load
from lmc.errors import ArgumentError
from lmc.evaluation import Data, as_data, evaluate, path
from lmc.files import digest
from lmc.matching import CLOSED_FORM, LEARNED, METHODS, Alignment, independence, match
from lmc.reproduce import results
from lmc.reproduce.pair_means import mean
from lmc.reproduce.resume import Kept
from lmc.reproduce.training.shipped_pairs import shipped
from lmc.symmetries import state

Pair = tuple[nn.Module, nn.Module]


def load_pairs(kind: str, count: int) -> dict[str, Pair]:
    """The first `count` shipped pairs of a kind, by name.

    >>> list(load_pairs("vit-digits", 2))
    ['vit-digits-0', 'vit-digits-1']
    """
    folders = {f"{kind}-{i}": shipped(f"{kind}-{i}") for i in range(count)}
    return {name: (load(a), load(b)) for name, (a, b) in folders.items()}


def runs(names: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Which pair is matched with which seed: every pair with the first, and the first pair with the others too.

    >>> runs(["a", "b"], [0, 1, 2])
    [('a', 0), ('b', 0), ('a', 1), ('a', 2)]
    """
    return [(name, seeds[0]) for name in names] + [(names[0], seed) for seed in seeds[1:]]


def plan(
    names: Sequence[str], seeds: Sequence[int], steps: int, rates: Mapping[str, float]
) -> dict[str, list[dict[str, Any]]]:
    """Every method on every pair; the learned ones, at their own `rates`, on the first pair with the other seeds too.

    >>> plan(["vit-digits-0", "vit-digits-1"], [0, 1], steps=300, rates={"single": 0.02, "dual": 0.01})["dual"]
    [{'steps': 300, 'lr': 0.01, 'seed': 0}, {'steps': 300, 'lr': 0.01, 'seed': 1, 'pairs': ['vit-digits-0']}]
    """
    methods: dict[str, list[dict[str, Any]]] = {method: [{}] for method in METHODS}
    for method in LEARNED:
        setting = {"steps": steps, "lr": rates[method]}
        again = [{**setting, "seed": seed, "pairs": list(names[:1])} for seed in seeds[1:]]
        methods[method] = [{**setting, "seed": seeds[0]}, *again]
    return methods


def compare(
    pairs: Mapping[str, Pair],
    match_on: object,
    held_out: object,
    plan: Mapping[str, Sequence[Mapping[str, Any]]],
    grid: int = 25,
    say: Callable[[str], None] = print,
    keep: Kept | None = None,
) -> dict[str, Any]:
    """Every method of `plan` on every pair, each with each of its settings (arguments of `lmc.match`).

    A setting may name `pairs` to run on; otherwise it runs on all. It may name its `method`; otherwise that is its key
    in the plan. Learned methods start from the best closed form. Runs that `keep` has are not made again.
    Returns `unit`, `endpoints` (losses, accuracies and cosine per pair) and `methods`: per method one entry per run of
    `losses` and `accuracies` along `lambdas`, `barrier`, `interval`, `gap`, `endpoint_change` (by how much alignment
    moved the endpoints' losses) and the `runs` themselves.
    """
    first = next(iter(pairs.values()))[0]
    seen, unseen = as_data(match_on, first), as_data(held_out, first)
    endpoints = {name: _endpoints(pair, unseen) for name, pair in pairs.items()}
    weights = {name: [digest(state(model)) for model in pair] for name, pair in pairs.items()} if keep else {}
    data = [digest({"inputs": d.inputs} | ({} if d.labels is None else {"labels": d.labels})) for d in (seen, unseen)]
    starts: dict[str, list[Alignment]] = {name: [] for name in pairs}
    methods: dict[str, Any] = {}
    for label, settings in plan.items():
        table: dict[str, list[Any]] = {}
        for setting in settings:
            method = setting.get("method", label)
            for name in setting.get("pairs", pairs):
                options = {key: value for key, value in setting.items() if key not in ("pairs", "method")}
                run = partial(_run, name, pairs[name], method, options, seen, unseen, grid, starts[name])
                row = run() if keep is None else keep.run([name, method, options, grid, *data, weights[name]], run)
                change = zip((row["losses"][0], row["losses"][-1]), endpoints[name]["losses"], strict=True)
                row["endpoint_change"] = max(abs(x - y) for x, y in change)
                seconds, table["lambdas"] = row.pop("seconds"), row.pop("lambdas")
                unit = {key: row.pop(key) for key in ("unit", "samples")}
                for key, value in row.items():
                    table.setdefault(key, []).append(value)
                say(f"{name}  {label:<12} barrier {row['barrier']:.4f}  ({seconds:.0f} s)  {row['runs']}")
        methods[label] = table
    return unit | {"endpoints": endpoints, "methods": methods}


def _run(
    name: str,
    pair: Pair,
    method: str,
    options: dict[str, Any],
    seen: Data,
    unseen: Data,
    grid: int,
    starts: list[Alignment],
) -> dict[str, Any]:
    """One match and its path; a closed form is added to `starts`, and learning begins with the best of them."""
    chosen = dict(options)
    if method in LEARNED:
        chosen["start"] = best_start(pair, seen, starts)
    began = time.monotonic()
    alignment = match(*pair, method=method, data=seen, **chosen)
    seconds = time.monotonic() - began
    if method in CLOSED_FORM:
        starts.append(alignment)
    walked = path(alignment, unseen, grid)
    return {
        "losses": list(walked.losses),
        "accuracies": list(walked.accuracies),
        "barrier": walked.barrier,
        "interval": list(walked.interval),
        "gap": walked.gap,
        "runs": {"pair": name} | {k: v.method if k == "start" else v for k, v in chosen.items()},
        "lambdas": list(walked.lambdas),
        "seconds": seconds,
        "unit": walked.metric,
        "samples": walked.samples,
    }


def best_start(pair: Pair, data: Data, found: list[Alignment]) -> Alignment:
    """The closed-form alignment whose midpoint has the lowest loss on the matching data; `found` gains missing ones."""
    missing = set(CLOSED_FORM) - {alignment.method for alignment in found}
    found += [match(*pair, method=method, data=data) for method in CLOSED_FORM if method in missing]
    probe = data.draw(256, 0, step=0)
    return min(found, key=lambda alignment: float(evaluate(alignment.merge(0.5), probe)[0].mean()))


def learning_rates(
    pairs: Mapping[str, Pair], data: object, rates: Mapping[str, Sequence[float]], steps: int, score: int
) -> dict[str, Any]:
    """The barrier of learned methods, each over its grid of learning rates, blind to evaluation data.

    >>> rates = {"single": [0.01, 0.02, 0.04], "dual": [0.005, 0.01, 0.02]}
    >>> numbers = learning_rates(pairs, match_on, rates, steps=100, score=128)
    >>> best_rates(numbers)
    {'single': 0.02, 'dual': 0.01}

    `score` samples of the matching `data` are kept from matching, and the barrier is measured on them. Returns `grids`
    (per method `rates` and `barrier` [rate][pair]), the best rates as `headline`, `unit`, `steps`, and how many
    `samples` were `matched` and `scored`. Raises ArgumentError.
    """
    matched, scored = apart(as_data(data, next(iter(pairs.values()))[0]), score)
    plan = {method: [{"lr": rate, "steps": steps} for rate in grid] for method, grid in rates.items()}
    found = compare(pairs, matched, scored, plan, grid=11)
    grids = {}
    for method, table in found["methods"].items():
        rows = [table["barrier"][i * len(pairs) :][: len(pairs)] for i in range(len(rates[method]))]
        grids[method] = {"rates": list(rates[method]), "barrier": rows}
    return {
        "grids": grids,
        "headline": {f"best rate, {method}": rate for method, rate in best_rates({"grids": grids}).items()},
        "unit": found["unit"],
        "steps": steps,
        "samples": {"matched": len(matched), "scored": len(scored)},
    }


def best_rates(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Per method the rate with the lowest mean barrier, from what `learning_rates` returned.

    >>> best_rates({"grids": {"dual": {"rates": [0.01, 0.02], "barrier": [[0.1, 0.3], [0.1, 0.2]]}}})
    {'dual': 0.02}
    """
    return {
        method: min(zip(grid["barrier"], grid["rates"], strict=True), key=lambda row: sum(row[0]))[1]
        for method, grid in numbers["grids"].items()
    }


def apart(data: Data, count: int) -> tuple[Data, Data]:
    """The data without `count` samples drawn at random, always the same ones; and those. Raises ArgumentError.

    >>> matched, scored = apart(data, 128)
    """
    if not 0 < count < len(data):
        raise ArgumentError(f"score: expected 1 to {len(data) - 1} of {len(data)} samples, found {count}")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return data[order[count:]], data[order[:count]]


def summary(numbers: Mapping[str, Any], guess: float) -> dict[str, Any]:
    """`summary` per method, and the `headline` of dual matching, from what `compare` returned.

    `spread` holds what each run adds to a headline number, and `seedless` those that depend on no seed: from these
    `lmc.reproduce.expected` writes what to expect.

    `guess` is the loss of a model that ignores its input: barrier ÷ (guess − mean endpoint loss) is *normalised*.
    Means are over pairs (`pair_means`), and `pairs` names those of the runs of dual matching; `ratio` is to the naive
    barrier of the same pair (1 where both are zero); `interval` is that of a run over held-out samples. Pairs
    that are `shared`, of one initialisation, are left out if there are others.
    """
    numbers = independent(numbers)
    ends = [loss for pair in numbers["endpoints"].values() for loss in pair["losses"]]
    room = guess - sum(ends) / len(ends)
    naive = {
        run["pair"]: b for run, b in zip(*(numbers["methods"]["naive"][k] for k in ("runs", "barrier")), strict=True)
    }
    rows, spread, pairs = {}, {}, []
    for name, method in numbers["methods"].items():
        barriers, of = method["barrier"], [run["pair"] for run in method["runs"]]
        ratios = [_ratio(b, naive[run["pair"]]) for run, b in zip(method["runs"], barriers, strict=True)]
        if name == "dual":
            pairs = of
            spread = {
                "dual barrier": barriers,
                "dual ÷ naive": ratios,
                "dual, normalised": [b / room for b in barriers],
            }
        rows[name] = {
            "runs": len(barriers),
            "barrier": mean(barriers, of),
            "range": [min(barriers), max(barriers)],
            "interval": [mean(ends, of) for ends in zip(*method["interval"], strict=True)],
            "ratio": mean(ratios, of),
            "normalised": mean(barriers, of) / room,
            "gap": mean(method["gap"], of),
            "endpoint_change": max(method["endpoint_change"]),
        }
    dual = rows["dual"]
    headline = {
        "naive barrier": rows["naive"]["barrier"],
        "dual barrier": dual["barrier"],
        "dual ÷ naive": dual["ratio"],
        "dual, normalised": dual["normalised"],
    }
    return {"summary": rows, "headline": headline, "spread": spread, "pairs": pairs, "seedless": ["naive barrier"]}


def independent(numbers: Mapping[str, Any]) -> Mapping[str, Any]:
    """The numbers without the runs of pairs that are `shared`, of one initialisation, unless these are all there is.

    >>> barrier_bars(independent(results.read("pythia-wikitext", "paper").numbers))
    """
    shared = set(numbers.get("shared", ()))
    if not shared or shared >= numbers["endpoints"].keys():
        return numbers
    methods = {}
    for name, table in numbers["methods"].items():
        kept = [i for i, run in enumerate(table["runs"]) if run["pair"] not in shared]
        methods[name] = {
            key: column if key == "lambdas" else [column[i] for i in kept] for key, column in table.items()
        }
    endpoints = {pair: ends for pair, ends in numbers["endpoints"].items() if pair not in shared}
    return {**numbers, "endpoints": endpoints, "methods": methods}


def _ratio(barrier: float, naive: float) -> float:
    return barrier / naive if naive else math.inf if barrier else 1.0


def record(
    id: str, profile: str, numbers: dict[str, Any], seeds: Sequence[int], began: float, **run: Any
) -> results.Results:
    """Write results with how they came about: the seeds, the time since `began`, the command, and `run`.

    Runs kept under this id (`lmc.reproduce.resume`) from before an interruption add their time, and are then forgotten.

    >>> record("vit-digits", "laptop", numbers, [0, 1, 2], began, corpus=corpora.describe("digits", "eval"))

    `began` is by the clock of `time.monotonic`.
    """
    command = f"lmc reproduce --profile {profile} --figure {id}"
    seconds, keep = time.monotonic() - began, Kept.of(id, profile)
    spent = seconds + keep.seconds(before=time.time() - seconds)
    written = results.write(id, profile, numbers, {"seeds": list(seeds), "duration_s": spent, "command": command} | run)
    keep.clear()
    return written


def _endpoints(pair: Pair, held_out: Data) -> dict[str, Any]:
    scores = [evaluate(model, held_out) for model in pair]
    return {
        "losses": [float(loss.mean()) for loss, _ in scores],
        "accuracies": [float(correct.mean()) for _, correct in scores],
        "cosine": independence(*pair),
    }
