"""More than two models: matched together, or each to the first alone, and merged anywhere on the simplex.

>>> numbers = several(models, match_on, held_out, counts=(3, 5), steps=300)
>>> numbers["several"]["5"]["together"]["barrier"]
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from lmc.evaluation import as_data, evaluate, path
from lmc.matching import Alignment, match


def several(
    models: Sequence[nn.Module],
    match_on: object,
    held_out: object,
    counts: Sequence[int],
    steps: int,
    seed: int = 0,
    grid: int = 5,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """For the first K models, every K of `counts`: the barrier over the simplex, matched in three ways.

    `together`: dual matching of all K in one run of `steps`. `one by one`: every model to the first by single matching,
    `steps` each, which draws no point that mixes three. `naive`: the raw weights. Returns `several`, per K and way the
    `barrier` over the simplex (`grid` points on an edge) with its `interval`, the largest barrier on an `edges`, the
    `middle` loss of the uniform merge with its `accuracy`, and the `steps` taken in all; and the `unit`.
    """
    seen, unseen = as_data(match_on, models[0]), as_data(held_out, models[0])
    found: dict[str, Any] = {}
    for count in counts:
        chosen = list(models[:count])
        together = match(chosen, method="dual", data=seen, steps=steps, seed=seed)
        alone = [match(chosen[0], m, method="single", data=seen, steps=steps, seed=seed) for m in chosen[1:]]
        star = (alone[0].transforms[0], *(a.transforms[1] for a in alone))  # the first never moves
        ways = {
            "together": (together, steps),
            "one by one": (Alignment("single", tuple(chosen), star, {"seed": seed}), steps * (count - 1)),
            "naive": (match(chosen, method="naive"), 0),
        }
        rows: dict[str, Any] = {}
        for way, (alignment, taken) in ways.items():
            walked = path(alignment, unseen, grid)
            points = list(zip(walked.lambdas, walked.losses, walked.accuracies, strict=True))
            corners = {at.index(1): loss for at, loss, _ in points if max(at) == 1}
            above = {at: loss - sum(w * corners[k] for k, w in enumerate(at)) for at, loss, _ in points}
            middle = alignment.merge([1 / count] * count)
            loss, correct = evaluate(middle, unseen)
            rows[way] = {
                "barrier": walked.barrier,
                "interval": walked.interval,
                "edges": max(0.0, *(b for at, b in above.items() if sum(w > 0 for w in at) == 2)),
                "middle": float(loss.mean()),
                "accuracy": float(correct.mean()),
                "steps": taken,
            }
            say(f"K = {count}  {way:<12} barrier {walked.barrier:.4f}  edges {rows[way]['edges']:.4f}")
        found[str(count)] = rows
    return {"several": found, "unit": walked.metric, "samples": walked.samples, "grid": grid}
