"""Networks of two sizes: smaller ones trained from nothing, and matched with a shipped one in its shapes.

>>> smaller("vit-digits")["half the depth"].shape.layers
2

Each `barrier` has beside it the losses along the line, from the small network to the large one.
"""

from dataclasses import replace
from typing import Any

from lmc.evaluation import path
from lmc.matching import match
from lmc.reproduce.experiments.analyses import GRID, loss
from lmc.reproduce.experiments.samples import RATES, Samples
from lmc.reproduce.runs import Pair
from lmc.reproduce.training.shipped_pairs import KINDS
from lmc.reproduce.training.tasks import Digits, Docstrings, Task
from lmc.reproduce.training.trainer import train

METHODS = ("naive", "weights", "activations", "single", "dual")
TRAINED = 1000  # steps of a small network, at most; the shipped ones have 500 (text) and 3,000 (digits)
SMALL_SEED = 20  # of the first small network; no shipped one has it


def every_size(name: str, pair: Pair, samples: Samples, steps: int, trained: int = TRAINED) -> dict[str, Any]:
    """Smaller networks, trained from nothing, matched with the first network of a pair in its shapes."""
    kind, _, number = name.rpartition("-")
    large, rows = pair[0], {}
    for size, task in smaller(kind).items():
        recipe = replace(KINDS[kind][1], steps=min(trained, KINDS[kind][1].steps), warmup=min(200, trained // 5))
        small, _ = train(task, recipe, SMALL_SEED + int(number), progress=False)
        parents = [loss(model, samples.eval) for model in (small, large)]
        rows[size] = {"losses": parents, "parameters": sum(p.numel() for p in small.parameters())}
        for method in METHODS:
            learned_ = {"start": "better", "steps": steps, "lr": RATES[kind]} if method in ("single", "dual") else {}
            walked = path(match(small, large, method=method, data=samples.train, **learned_), samples.eval, GRID)  # type: ignore[arg-type]
            rows[size][method] = {
                "barrier": walked.barrier,
                "middle": walked.losses[GRID // 2],
                "losses": walked.losses,
            }
            print(f"{name} {size:<12} {method:<12} barrier {walked.barrier:.4f}", flush=True)
    return {"sizes": rows}


def smaller(kind: str) -> dict[str, Task]:
    """The tasks of a shipped kind, for smaller networks.

    >>> list(smaller("vit-digits"))
    ['half the width', 'a quarter of the width', 'half the depth']
    """
    if kind == "vit-digits":
        return {
            "half the width": Digits(32, 4),
            "a quarter of the width": Digits(16, 4),
            "half the depth": Digits(64, 2),
        }
    found: dict[str, Task] = {}
    for size, change in {
        "half the width": {"width": 64, "heads": 2},
        "a quarter of the width": {"width": 32, "heads": 1},
        "half the depth": {"layers": 1},
    }.items():
        task = Docstrings()
        task.shape = replace(task.shape, **change)
        found[size] = task
    return found
