"""The experiment behind every figure: match pairs by several methods, walk the line, write the numbers down.

>>> began, pairs = time.monotonic(), {"pair-0": (a, b)}
>>> methods = plan(list(pairs), seeds=[0, 1], steps=2, rates={"single": 0.02, "dual": 0.02})
>>> compared = compare(pairs, match_on, held_out, methods, grid=3).summarised(guess=3.7)
>>> record("first-trial", "smoke", compared.to_json(), [0, 1], began).source
'fresh'

What is found are values of `lmc.reproduce.runs`; figures take these.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from torch import nn

from lmc.checkpoints import load
from lmc.evaluation import Data, PathResult, as_data, evaluate, lowest_midpoint, path
from lmc.files import tensor_digest
from lmc.matching import CLOSED_FORM, LEARNED, METHODS, Alignment, independence, match
from lmc.reproduce import results
from lmc.reproduce.experiments.rates import best_rates, probe
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.runs import Comparison, Numbers, Pair, Parents, RateGrid, Run
from lmc.reproduce.training.shipped_pairs import SEEDS, shipped
from lmc.symmetries import state


def load_pairs(kind: str, count: int) -> dict[str, Pair]:
    """The first `count` shipped pairs of a kind, by name.

    >>> list(load_pairs("vit-digits", 2))
    ['vit-digits-0', 'vit-digits-1']
    """
    folders = {f"{kind}-{i}": shipped(f"{kind}-{i}") for i in range(count)}
    return {name: (load(a), load(b)) for name, (a, b) in folders.items()}


def third(name: str) -> nn.Module:
    """A network beside the two of a shipped pair: the first one of the next pair of its kind.

    >>> type(third("vit-digits-2")).__name__                                    # of vit-digits-0
    'VisionTransformer'
    """
    kind, _, number = name.rpartition("-")
    count = len(SEEDS[kind])
    return load_pairs(kind, count)[f"{kind}-{(int(number) + 1) % count}"][0]


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
    keep: KeptRuns | None = None,
) -> Comparison:
    """Every method of `plan` on every pair, each with each of its settings (arguments of `lmc.match`).

    A setting may name `pairs` to run on; otherwise it runs on all. It may name its `method`; otherwise that is its key
    in the plan. Learned methods start from the best closed form. Runs that `keep` has are not made again.
    """
    first = next(iter(pairs.values()))[0]
    seen, unseen = as_data(match_on, first), as_data(held_out, first)
    parents = {name: alone(pair, unseen) for name, pair in pairs.items()}
    weights = {name: [tensor_digest(state(model)) for model in pair] for name, pair in pairs.items()} if keep else {}
    data = [
        tensor_digest({"inputs": d.inputs} | ({} if d.labels is None else {"labels": d.labels})) for d in (seen, unseen)
    ]
    starts: dict[str, list[Alignment]] = {name: [] for name in pairs}
    runs = []
    for label, settings in plan.items():
        for setting in settings:
            method = setting.get("method", label)
            options = {key: value for key, value in setting.items() if key not in ("pairs", "method")}
            for name in setting.get("pairs", pairs):
                make = partial(_walk, pairs[name], method, options, seen, unseen, grid, starts[name])
                made = make() if keep is None else keep.run([name, method, options, grid, *data, weights[name]], make)
                run = Run.along(label, name, PathResult.of(made["path"]), parents[name], made["settings"])
                runs.append(run)
                took = f"({made['seconds']:.0f} s)  {made['settings']}"
                print(f"{name}  {label:<12} barrier {run.barrier:.4f}  {took}")
    return Comparison(tuple(runs), unseen.unit, len(unseen), parents)


def _walk(
    pair: Pair,
    method: str,
    options: dict[str, Any],
    seen: Data,
    unseen: Data,
    grid: int,
    starts: list[Alignment],
) -> dict[str, Any]:
    """One match and its path, as plain values; a closed form is added to `starts`, learning begins with the best."""
    chosen = dict(options)
    if method in LEARNED:
        chosen["start"] = best_start(pair, seen, starts)
    began = time.monotonic()
    alignment = match(*pair, method=method, data=seen, **chosen)
    seconds = time.monotonic() - began
    if method in CLOSED_FORM:
        starts.append(alignment)
    settings = {key: value.method if key == "start" else value for key, value in chosen.items()}
    return {"path": asdict(path(alignment, unseen, grid)), "settings": settings, "seconds": seconds}


def best_start(pair: Pair, data: Data, found: list[Alignment]) -> Alignment:
    """The closed-form alignment whose midpoint has the lowest loss on the matching data; `found` gains missing ones."""
    missing = set(CLOSED_FORM) - {alignment.method for alignment in found}
    found += [match(*pair, method=method, data=data) for method in CLOSED_FORM if method in missing]
    return lowest_midpoint(found, data.draw(256, 0, step=0))


def learning_rates(
    pairs: Mapping[str, Pair], data: object, rates: Mapping[str, Sequence[float]], steps: int, score: int
) -> Numbers:
    """The barrier of learned methods, each over its grid of learning rates, blind to evaluation data.

    >>> rates = {"single": [0.01, 0.02], "dual": [0.005, 0.01]}
    >>> numbers = learning_rates({"pair-0": (a, b)}, match_on, rates, steps=2, score=16)
    pair-0  single ...
    >>> list(numbers["headline"]), numbers["samples"]
    (['best rate, single', 'best rate, dual'], {'matched': 48, 'scored': 16})

    `score` samples of the matching `data` are kept from matching, and the barrier is measured on them. Returns `grids`,
    the best rates as `headline`, `unit`, `steps`, and how many `samples` were `matched` and `scored`. Raises
    ArgumentError, and DivergedError where a method diverged at every rate.
    """
    matched, scored = as_data(data, next(iter(pairs.values()))[0]).apart(score)
    starts = {name: best_start(pair, matched, []) for name, pair in pairs.items()}
    grids = {}
    for method, tried in rates.items():
        rows: list[tuple[float | None, ...]] = []
        for rate in tried:
            row = []
            for name, pair in pairs.items():
                options: dict[str, Any] = {"method": method, "start": starts[name], "lr": rate, "steps": steps}
                row.append(probe(partial(match, *pair, data=matched, **options), scored))
                print(f"{name}  {method:<12} rate {rate:g}  barrier {row[-1]}")
            rows.append(tuple(row))
        grids[method] = RateGrid(tuple(tried), tuple(rows))
    return {
        "grids": {method: grid.to_json() for method, grid in grids.items()},
        "headline": {f"best rate, {method}": rate for method, rate in best_rates(grids).items()},
        "unit": scored.unit,
        "steps": steps,
        "samples": {"matched": len(matched), "scored": len(scored)},
    }


def record(id: str, profile: str, numbers: Numbers, seeds: Sequence[int], began: float, **run: Any) -> results.Results:
    """Write results with how they came about: the seeds, the time since `began`, the command, and `run`.

    Runs kept under this id from before an interruption (`kept_runs`) add their time, and are then forgotten.

    >>> numbers = {"headline": {"dual barrier": 0.03}}
    >>> record("second-trial", "smoke", numbers, [0, 1], time.monotonic(), corpus="digits").run["corpus"]
    'digits'

    `began` is by the clock of `time.monotonic`.
    """
    command = f"lmc reproduce --profile {profile} --figure {id}"
    seconds, keep = time.monotonic() - began, KeptRuns.of(id, profile)
    spent = seconds + keep.seconds(before=time.time() - seconds)
    written = results.write(id, profile, numbers, {"seeds": list(seeds), "duration_s": spent, "command": command} | run)
    keep.clear()
    return written


def alone(pair: Pair, held_out: Data) -> Parents:
    """What the models of a pair are by themselves."""
    scores = [evaluate(model, held_out) for model in pair]
    return Parents(
        losses=tuple(float(loss.mean()) for loss, _ in scores),
        accuracies=tuple(float(correct.mean()) for _, correct in scores),
        cosine=independence(*pair),
    )
