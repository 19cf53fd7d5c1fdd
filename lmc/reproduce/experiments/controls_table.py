"""The table of controls: a merged model beside its parents, their ensemble, other midpoints, repaired ones.

>>> aligned = four_alignments((a, b), match_on, steps=2)
>>> rows = beside_controls((a, b), aligned, match_on, held_out, steps=2, rates=[3e-4, 1e-3])
>>> list(rows)[:3], list(rows["naive, fine-tuned"])          # the gap is that to the better parent
(['parents', 'ensemble of the parents', 'naive'], ['loss', 'accuracy', 'gap', 'rate'])
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lmc import corpora
from lmc.evaluation import Data, as_data, evaluate, path
from lmc.matching import Alignment, match
from lmc.reproduce.experiments.comparison import best_start
from lmc.reproduce.experiments.controls import Ensemble, Tempered, continuations, finetune, repair, temperature
from lmc.reproduce.runs import Pair

ORDER = (
    "parents",
    "ensemble of the parents",
    "naive",
    "naive, temperature",
    "naive, REPAIR",
    "naive, fine-tuned",
    "closed form",
    "closed form, REPAIR",
    "single",
    "dual",
    "dual, temperature",
    "dual, REPAIR",
    "dual, fine-tuned",
)
KEPT = 0.2  # of the matching data, kept from fine-tuning to choose its learning rate by


def four_alignments(pair: Pair, match_on: object, steps: int, seed: int = 0) -> dict[str, Alignment]:
    """`naive`, the better `closed form`, and `single` and `dual` from there, at their default rates.

    >>> list(four_alignments((a, b), match_on, steps=2))
    ['naive', 'closed form', 'single', 'dual']
    """
    seen = as_data(match_on, pair[0])
    start = best_start(pair, seen, [])
    learned = {m: match(*pair, method=m, data=seen, steps=steps, start=start, seed=seed) for m in ("single", "dual")}
    return {"naive": match(*pair, method="naive"), "closed form": start, **learned}


def beside_controls(
    pair: Pair,
    alignments: Mapping[str, Alignment],
    match_on: object,
    held_out: object,
    steps: int,
    rates: Sequence[float],
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Held-out `loss`, `accuracy` and signed `gap` to the better parent of every model of `ORDER`.

    Fine-tuning gets the steps and batches that learned matching had, and the best of `rates` on matching data it did
    not see; that rate is in its row. Temperatures and statistics come from matching data too.
    """
    seen, unseen = as_data(match_on, pair[0]), as_data(held_out, pair[0])
    middle = {name: alignment.merge(0.5) for name, alignment in alignments.items()}
    parents = [[float(x.mean()) for x in evaluate(model, unseen)] for model in pair]
    best = min(loss for loss, _ in parents)
    rows: dict[str, dict[str, float]] = {}

    def add(name: str, model: nn.Module, **more: float) -> None:
        loss, accuracy = (float(x.mean()) for x in evaluate(model, unseen))
        rows[name] = {"loss": loss, "accuracy": accuracy, "gap": loss - best, **more}
        print(f"{name:<26} loss {loss:.4f}  accuracy {accuracy:.3f}")

    loss, accuracy = (sum(x) / 2 for x in zip(*parents, strict=True))
    rows["parents"] = {"loss": loss, "accuracy": accuracy, "gap": loss - best}
    add("ensemble of the parents", Ensemble(pair))
    for name, alignment in alignments.items():
        add(name, middle[name])
        if name in ("naive", "dual"):
            t = temperature(middle[name], seen, seed)
            add(f"{name}, temperature", Tempered(middle[name], t), temperature=t)
            tuned, rate = tune(middle[name], seen, steps, rates, seed)
            add(f"{name}, fine-tuned", tuned, rate=rate)
        if name != "single":
            add(f"{name}, REPAIR", repair(middle[name], alignment.models, [0.5, 0.5], seen, seed))
    return {name: rows[name] for name in ORDER if name in rows}


def tune(model: nn.Module, data: Data, steps: int, rates: Sequence[float], seed: int = 0) -> tuple[nn.Module, float]:
    """The model fine-tuned at the best of `rates`, which is returned beside it.

    >>> tuned, rate = tune(naive.merge(0.5), as_data(match_on, a), steps=2, rates=[3e-4, 1e-3])
    """
    shown, kept = data.apart(max(1, int(KEPT * len(data))))
    tries = [(finetune(model, shown, steps, rate, seed=seed)[0], rate) for rate in rates]
    return min(tries, key=lambda found: float(evaluate(found[0], kept)[0].mean()))


def barriers_on(alignments: Mapping[str, Alignment], texts: Mapping[str, Any], grid: int = 11) -> dict[str, Any]:
    """On several held-out sets: name of the set -> the mean loss of the `parents`, and the barrier of every alignment.

    >>> list(barriers_on({"naive": naive, "dual": dual}, {"documentation": held_out}, grid=3)["documentation"])
    ['parents', 'naive', 'dual']

    One of the alignments has to be `naive`: its path ends at the parents.
    """
    rows: dict[str, Any] = {}
    for text, data in texts.items():
        walks = {name: path(alignment, data, grid) for name, alignment in alignments.items()}
        ends = walks["naive"].losses
        rows[text] = {"parents": (ends[0] + ends[-1]) / 2} | {name: w.barrier for name, w in walks.items()}
    return rows


def sayings(
    alignments: Mapping[str, Alignment], prompt: str, lambdas: Sequence[float], length: int, seed: int = 0
) -> dict[str, Any]:
    """What byte-level merged models say after a prompt: method -> λ -> `greedy` and `sampled` (temperature 0.7).

    >>> a, b = load_pairs("neox-docstrings", 1)["neox-docstrings-0"]
    >>> said = sayings({"naive": match(a, b, method="naive")}, "Parameters\\n", [0, 0.5], length=8)
    >>> list(said["naive"]), len(said["naive"]["0"]["greedy"])
    (['0', '0.5'], 8)
    """
    ids = torch.tensor([corpora.byte_tokenizer()(prompt).input_ids])
    said: dict[str, Any] = {}
    for name, alignment in alignments.items():
        said[name] = {}
        for at in lambdas:
            model = alignment.merge(at)
            ways = {"greedy": 0.0, "sampled": 0.7}
            texts = {way: continuations(model, ids, length, t, seed)[0].tolist() for way, t in ways.items()}
            said[name][f"{at:g}"] = {way: bytes(t).decode("utf-8", errors="replace") for way, t in texts.items()}
    return said
