"""Three networks at once: permutations learned straight-through for many, beside what the package does with several.

>>> found = side_by_side((a, b, c), Data(match_on), Data(held_out), steps=2, lr=1e-2)
>>> sorted(found["rows"]["dual"])
['accuracy', 'barrier', 'edges', 'interval', 'middle', 'seconds', 'steps']

The third network is the first one of the next pair of its kind, so every first network serves in two of the threes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from torch import nn

from lmc.evaluation import Data
from lmc.matching import match
from lmc.reproduce.experiments.analyses import loss
from lmc.reproduce.experiments.comparison import third
from lmc.reproduce.experiments.k_models import measured
from lmc.reproduce.experiments.neighbours import narrowed, straight_through
from lmc.reproduce.experiments.samples import RATES, Samples
from lmc.reproduce.runs import Pair

EDGE = 5  # points on an edge of the simplex


def every_method(name: str, pair: Pair, samples: Samples, steps: int) -> dict[str, Any]:
    """`side_by_side` on a shipped pair and the `third` network."""
    found = side_by_side((*pair, third(name)), samples.train, samples.eval, steps, RATES[name.rpartition("-")[0]])
    print(name, {row: round(values["barrier"], 4) for row, values in found["rows"].items()}, flush=True)
    return found


def side_by_side(models: Sequence[nn.Module], data: Data, held_out: Data, steps: int, lr: float) -> dict[str, Any]:
    """Every method on the same networks: the values of a `Merge`, and the seconds that it took."""
    ways: dict[str, Callable[[], Any]] = {
        "naive": partial(match, models, method="naive"),
        "permutations, by weights": partial(narrowed, models, "permutations, by weights"),
        "permutations, straight-through": partial(straight_through, models, data, steps),
        "weights": partial(match, models, method="weights"),
        "dual": partial(match, models, method="dual", data=data, steps=steps, lr=lr),
    }
    rows = {}
    for row, make in ways.items():
        began = time.monotonic()
        alignment, seconds = make(), time.monotonic() - began
        taken = steps if row in ("dual", "permutations, straight-through") else 0
        rows[row] = asdict(measured(alignment, held_out, taken, EDGE)) | {"seconds": seconds}
    return {"rows": rows, "losses": [loss(model, held_out) for model in models]}
