"""The experiment behind every figure: match pairs by several methods, walk the line, write the numbers down.

>>> numbers = compare({"vit-digits-0": (a, b)}, match_on, held_out, {"naive": [{}], "dual": [{"seed": 0}, {"seed": 1}]})
>>> numbers["methods"]["dual"]["barrier"]
[0.021, 0.023]

What it returns is plain numbers in the layout that `lmc.figures` draws and `lmc.results` writes.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from lmc.alignment import Alignment
from lmc.line import path
from lmc.matching import CLOSED_FORM, LEARNED, match
from lmc.objective import Data, as_data, evaluate
from lmc.pairing import independence

Pair = tuple[nn.Module, nn.Module]


def compare(
    pairs: Mapping[str, Pair],
    match_on: object,
    held_out: object,
    plan: Mapping[str, Sequence[Mapping[str, Any]]],
    grid: int = 25,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Every method of `plan` on every pair, each with each of its settings (arguments of `lmc.match`).

    A setting may name `pairs` to run on; otherwise it runs on all. Learned methods start from the best closed form.
    Returns `unit`, `endpoints` (losses, accuracies and cosine per pair) and `methods`: per method one entry per run of
    `losses` and `accuracies` along `lambdas`, `barrier`, `interval`, `gap`, `endpoint_change` (by how much alignment
    moved the endpoints' losses) and the `runs` themselves.
    """
    first = next(iter(pairs.values()))[0]
    seen, unseen = as_data(match_on, first), as_data(held_out, first)
    endpoints = {name: _endpoints(pair, unseen) for name, pair in pairs.items()}
    starts: dict[str, list[Alignment]] = {name: [] for name in pairs}
    methods: dict[str, Any] = {}
    for method, settings in plan.items():
        table: dict[str, list[Any]] = {}
        for setting in settings:
            for name in setting.get("pairs", pairs):
                options = {key: value for key, value in setting.items() if key != "pairs"}
                if method in LEARNED:
                    options["start"] = best_start(pairs[name], seen, starts[name])
                began = time.monotonic()
                alignment = match(*pairs[name], method=method, data=seen, **options)
                seconds = time.monotonic() - began
                if method in CLOSED_FORM:
                    starts[name].append(alignment)
                walked = path(alignment, unseen, grid)
                ends = (walked.losses[0], walked.losses[-1])
                row = {
                    "losses": walked.losses,
                    "accuracies": walked.accuracies,
                    "barrier": walked.barrier,
                    "interval": walked.interval,
                    "gap": walked.gap,
                    "endpoint_change": max(abs(x - y) for x, y in zip(ends, endpoints[name]["losses"], strict=True)),
                    "runs": {"pair": name} | {k: v for k, v in options.items() if k != "start"},
                }
                for key, value in row.items():
                    table.setdefault(key, []).append(value)
                table["lambdas"] = list(walked.lambdas)
                say(f"{name}  {method:<12} barrier {walked.barrier:.4f}  ({seconds:.0f} s)  {row['runs']}")
        methods[method] = table
    return {"unit": walked.metric, "samples": walked.samples, "endpoints": endpoints, "methods": methods}


def best_start(pair: Pair, data: Data, found: list[Alignment]) -> Alignment:
    """The closed-form alignment whose midpoint has the lowest loss on the matching data; `found` gains missing ones."""
    missing = set(CLOSED_FORM) - {alignment.method for alignment in found}
    found += [match(*pair, method=method, data=data) for method in CLOSED_FORM if method in missing]
    probe = data.draw(256, 0, step=0)
    return min(found, key=lambda alignment: float(evaluate(alignment.merge(0.5), probe)[0].mean()))


def learning_rates(
    pairs: Mapping[str, Pair], match_on: object, held_out: object, method: str, rates: Iterable[float], **options: Any
) -> dict[str, Any]:
    """The barrier of a learned method over a grid of learning rates: `rates`, and `barrier` [rate][pair]."""
    plan = {method: [{"lr": rate, **options} for rate in rates]}
    found = compare(pairs, match_on, held_out, plan, grid=11)["methods"][method]
    count = len(pairs)
    rows = [found["barrier"][i : i + count] for i in range(0, len(found["barrier"]), count)]
    return {"rates": list(rates), "barrier": rows}


def summary(numbers: Mapping[str, Any], guess: float) -> dict[str, Any]:
    """`summary` per method, and the `headline` of dual matching, from what `compare` returned.

    `guess` is the loss of a model that ignores its input: barrier ÷ (guess − mean endpoint loss) is *normalised*.
    Means are over runs; `ratio` is to the naive barrier of the same pair.
    """
    ends = [loss for pair in numbers["endpoints"].values() for loss in pair["losses"]]
    room = guess - sum(ends) / len(ends)
    naive = {
        run["pair"]: b for run, b in zip(*(numbers["methods"]["naive"][k] for k in ("runs", "barrier")), strict=True)
    }
    rows = {}
    for name, method in numbers["methods"].items():
        barriers = method["barrier"]
        ratios = [b / naive[run["pair"]] for run, b in zip(method["runs"], barriers, strict=True)]
        rows[name] = {
            "runs": len(barriers),
            "barrier": sum(barriers) / len(barriers),
            "range": [min(barriers), max(barriers)],
            "ratio": sum(ratios) / len(ratios),
            "normalised": sum(barriers) / len(barriers) / room,
            "gap": sum(method["gap"]) / len(barriers),
            "endpoint_change": max(method["endpoint_change"]),
        }
    dual = rows["dual"]
    headline = {
        "naive barrier": rows["naive"]["barrier"],
        "dual barrier": dual["barrier"],
        "dual ÷ naive": dual["ratio"],
        "dual, normalised": dual["normalised"],
    }
    return {"summary": rows, "headline": headline}


def _endpoints(pair: Pair, held_out: Data) -> dict[str, Any]:
    scores = [evaluate(model, held_out) for model in pair]
    return {
        "losses": [float(loss.mean()) for loss, _ in scores],
        "accuracies": [float(correct.mean()) for _, correct in scores],
        "cosine": independence(*pair),
    }
