"""More than two models: matched together, or each to the first alone, and merged anywhere on the simplex.

>>> numbers = several([a, b, c], match_on, held_out, counts=[3], steps=2, grid=3)
>>> {way: row["steps"] for way, row in numbers["several"]["3"].items()}
{'together': 2, 'one by one': 4, 'naive': 0}
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from lmc.evaluation import Data, as_data, evaluate, path
from lmc.matching import Alignment, match


@dataclass(frozen=True)
class Merge:
    """One way of merging K models: the barrier over their simplex, and the highest one on an edge of it.

    `middle`: the loss of the uniform merge, with its `accuracy`. `steps`: taken in all.
    """

    barrier: float
    interval: tuple[float, float]
    edges: float
    middle: float
    accuracy: float
    steps: int


def several(
    models: Sequence[nn.Module],
    match_on: object,
    held_out: object,
    counts: Sequence[int],
    steps: int,
    seed: int = 0,
    grid: int = 5,
) -> dict[str, Any]:
    """For the first K models, every K of `counts`: the barrier over the simplex, matched in three ways.

    `together`: dual matching of all K in one run of `steps`. `one by one`: every model to the first by single matching,
    `steps` each, which draws no point that mixes three. `naive`: the raw weights. Returns `several`, per K and way the
    values of a `Merge`, measured with `grid` points on an edge; and the `unit`.
    """
    seen, unseen = as_data(match_on, models[0]), as_data(held_out, models[0])
    found: dict[str, Any] = {}
    for count in counts:
        chosen = list(models[:count])
        together = match(chosen, method="dual", data=seen, start="better", steps=steps, seed=seed)
        how: Any = {"method": "single", "data": seen, "start": "better", "steps": steps, "seed": seed}
        alone = [match(chosen[0], m, **how) for m in chosen[1:]]
        star = (alone[0].transforms[0], *(a.transforms[1] for a in alone))  # the first never moves
        ways = {
            "together": (together, steps),
            "one by one": (Alignment("single", tuple(chosen), star, {"seed": seed}), steps * (count - 1)),
            "naive": (match(chosen, method="naive"), 0),
        }
        merged = {way: measured(alignment, unseen, taken, grid) for way, (alignment, taken) in ways.items()}
        for way, row in merged.items():
            print(f"K = {count}  {way:<12} barrier {row.barrier:.4f}  edges {row.edges:.4f}")
        found[str(count)] = {way: asdict(row) for way, row in merged.items()}
    return {"several": found, "unit": unseen.unit, "samples": len(unseen), "grid": grid}


def measured(alignment: Alignment, unseen: Data, steps: int, grid: int) -> Merge:
    """What an alignment of several leaves over their simplex, with `grid` points on an edge."""
    walked = path(alignment, unseen, grid)
    losses: dict[tuple[float, ...], float] = dict(zip(walked.lambdas, walked.losses, strict=True))
    corners = {at.index(1): loss for at, loss in losses.items() if max(at) == 1}
    above = {at: loss - sum(w * corners[k] for k, w in enumerate(at)) for at, loss in losses.items()}
    count = len(alignment.parents)
    loss, correct = evaluate(alignment.merge([1 / count] * count), unseen)
    return Merge(
        walked.barrier,
        walked.interval,
        edges=max(0.0, *(rise for at, rise in above.items() if sum(w > 0 for w in at) == 2)),
        middle=float(loss.mean()),
        accuracy=float(correct.mean()),
        steps=steps,
    )
