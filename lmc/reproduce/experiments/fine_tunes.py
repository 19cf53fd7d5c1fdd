"""Does a fine-tune move? What one network was taught is carried to another through their alignment.

>>> from lmc.reproduce.experiments.controls import finetune
>>> tuned, _ = finetune(lmc.canonicalize(a), match_on, steps=2, lr=1e-3)
>>> moved = carried(lmc.match(a, b, method="weights"), lmc.matching.taught(lmc.canonicalize(a), tuned))

`Alignment.transport` does this for users. Here a part of the change can be carried, or more than all of it.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lmc.corpora import prepared
from lmc.evaluation import Data
from lmc.matching import Alignment, Change, match, taught, with_change
from lmc.reproduce.experiments.analyses import layers, loss
from lmc.reproduce.experiments.controls import finetune
from lmc.reproduce.experiments.samples import RATES, Samples
from lmc.reproduce.runs import Pair
from lmc.symmetries import canonicalize

TUNED = {"vit-digits": 300, "neox-docstrings": 150}  # steps of fine-tuning
FEW = (0.01, 0.05, 0.1)  # shares of these, spent after carrying
FACTORS = {"half of it": 0.5, "one and a half of it": 1.5}  # of the change
TUNING_RATE = 1e-3
ONCE = ("in capitals", "moved by a pixel")  # shifts that are measured on the first pair alone
SETTINGS = [TUNED, FEW, FACTORS, TUNING_RATE]  # what pieces depend on


def carried(alignment: Alignment, change: Change, factor: float = 1.0) -> nn.Module:
    """The second model of an alignment with the change of the first, as the transforms carry it.

    The result has the second model's weights as they are aligned. The inverse of its transform would bring them back to
    its own, and changes no loss.
    """
    first = alignment.transforms[0]
    moved = {name: first.moved(name, tensor) for name, tensor in change.items()}
    return with_change(alignment.models[1], moved, factor)


def every_shift(name: str, pair: Pair, samples: Samples, steps: int) -> dict[str, Any]:
    """`tuned_and_carried` on a shipped pair, for every shift of its kind."""
    kind, _, number = name.rpartition("-")
    new = {shift: data for shift, data in shifts(kind, samples).items() if number == "0" or shift not in ONCE}
    return tuned_and_carried(kind, pair, samples, new, steps, TUNED[kind])


def tuned_and_carried(
    kind: str, pair: Pair, samples: Samples, new_data: Mapping[str, tuple[Data, Data]], steps: int, tuned: int
) -> dict[str, Any]:
    """One network is taught something new; the change is carried to the other. Losses on the new and the old data.

    `closed`: the share of what training the other network itself would gain on the new data.
    """
    alignments = {
        "weights": match(*pair, method="weights"),
        "dual": match(*pair, method="dual", data=samples.train, start="better", steps=steps, lr=RATES[kind]),
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
    held = len(samples.eval)  # as many windows to measure on
    order = torch.randperm(len(code), generator=torch.Generator().manual_seed(0))
    return {
        "in capitals": tuple(Data(capitals[part.inputs]) for part in (samples.train, samples.eval)),  # type: ignore[dict-item]
        "source code": (Data(code[order[held : held + 4096]]), Data(code[order[:held]])),
    }


def _code() -> torch.Tensor:
    """The source of Python's standard library, as bytes."""
    files = sorted(Path(os.__file__).parent.glob("*.py"))
    return torch.from_numpy(np.frombuffer(b"".join(file.read_bytes() for file in files), dtype=np.uint8).copy())
