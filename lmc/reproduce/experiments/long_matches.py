"""Long matchings of the shipped pairs, and what they have to be told apart from: each piece measured once and kept.

>>> study = Study("vit-digits-0", Path("build/ends"))
>>> wanted = LongMatch(steps=300, drawn="adaptive", lr=1e-2, batch=64)
>>> wanted.name
'dual-adaptive-train-64x300-0.01-s0'

`study.match(wanted)` then measures this match, in minutes, and keeps it under that name.

A piece is a file in the pair's folder (`kept_runs`), and one that is there is not made again. *Start*: the endpoints,
their ensemble, and the alignments that need no learning. *Match*: one learned match. *Tune*: a parent trained on with
the batches that a match of as many steps reads, so that merging is not mistaken for training. *After*: the midpoint of
a match trained on: where it goes, and how far that is. `where_it_ends` puts the pieces together.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmc.errors import ArgumentError
from lmc.evaluation import RESAMPLES, Data, evaluate, path
from lmc.matching import CLOSED_FORM, HIGHEST, Alignment, Endpoints, Learner, Recipe, independence, match
from lmc.matching import READ as SKETCH
from lmc.reproduce.experiments.comparison import best_start, load_pairs
from lmc.reproduce.experiments.controls import Ensemble, finetune
from lmc.reproduce.experiments.permuting import Soft, StraightThrough
from lmc.reproduce.experiments.samples import SCORED, Samples
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.runs import Pair
from lmc.symmetries import logits, state

DRAWN = {"middle": (0.3, 0.7), "wide": (0.1, 0.9), "whole": (0.0, 1.0), "adaptive": HIGHEST}
READ = ("train", "match", "eval")  # training text, other text, and the evaluation samples themselves: a lower bound
GRID = 25  # points on the line
SEEN, SEEN_GRID = 128, 9  # samples that matching has read, and points on the line over them
ORDERS = {"straight-through": StraightThrough, "soft": Soft}
AGREEMENT = 64  # samples over which the correlation of matched units is taken


def told(alignment: Alignment) -> dict[str, Any]:
    """The record of an alignment, but for the sketch of its samples, which takes more room than all results."""
    return {name: value for name, value in alignment.record.items() if name != SKETCH}


@dataclass(frozen=True)
class LongMatch:
    """One learned match: how many steps, where λ is drawn, what is read, at which rate.

    `order`: hidden units are permuted while learning too, straight-through or softly (`permuting`).
    `windows`: so many samples of what is read, drawn by the seed (None: all). `patience`: early stopping on a tenth of
    them, as `lmc.match` has it.
    """

    steps: int
    drawn: str = "middle"
    read: str = "train"
    batch: int = 16
    lr: float = 2e-2
    method: str = "dual"
    seed: int = 0
    windows: int | None = None
    patience: int | None = None
    order: str | None = None

    @property
    def name(self) -> str:
        """The name of its piece."""
        few = f"-of{self.windows}" if self.windows else ""
        early = (f"-p{self.patience}" if self.patience else "") + (f"-{self.order}" if self.order else "")
        plain = f"{self.method}-{self.drawn}-{self.read}-{self.batch}x{self.steps}-{self.lr:g}-s{self.seed}"
        return plain + few + early

    @property
    def recipe(self) -> Recipe:
        """How it learns."""
        lambdas = DRAWN[self.drawn]
        chosen = {"steps": self.steps, "lr": self.lr, "batch": self.batch, "patience": self.patience}
        return Recipe.of(self.method, lambdas=lambdas, **chosen)

    @property
    def learner(self) -> type[Learner]:
        """What learns."""
        return ORDERS[self.order] if self.order else Learner

    def data(self, samples: Samples) -> Data:
        """What it reads."""
        whole: Data = getattr(samples, self.read)
        return whole if self.windows is None else whole[subset(len(whole), self.windows, self.seed)]


def pieces(pair: str, folder: Path) -> KeptRuns:
    """The pieces of one shipped pair that are made."""
    return KeptRuns(folder / pair, [pair, SCORED, GRID, SEEN, SEEN_GRID, AGREEMENT])


class Study:
    """The pieces of one shipped pair, in a folder."""

    def __init__(self, pair: str, folder: Path) -> None:
        self.name, self.folder = pair, folder / pair
        self.pieces = pieces(pair, folder)
        kind, _, index = pair.rpartition("-")
        if not re.fullmatch("[0-9]+", index):
            raise ArgumentError(f"pair: expected a shipped pair, as neox-docstrings-0, found {pair!r}")
        self.pair: Pair = load_pairs(kind, int(index) + 1)[pair]
        self.samples = Samples.of(pair, self.pair[0])

    def start(self) -> None:
        """The endpoints and what needs no learning."""
        self.piece("start", self._start)

    def _start(self) -> dict[str, Any]:
        held_out = self.samples.eval
        scores = {"a": self.pair[0], "b": self.pair[1], "ensemble": Ensemble(self.pair)}
        found: dict[str, Any] = {"cosine": independence(*self.pair), "samples": len(held_out)}
        found["losses"], found["accuracies"] = {}, {}
        for name, model in scores.items():
            loss, right = evaluate(model, held_out)
            found["losses"][name], found["accuracies"][name] = float(loss.mean()), float(right.mean())
        found["methods"] = {}
        for method in ("naive", "canonical", *CLOSED_FORM):
            began = time.monotonic()
            alignment = match(*self.pair, method=method, data=self.samples.train)
            seconds = time.monotonic() - began
            found["methods"][method] = self.walk(alignment) | {"seconds": seconds}
            if method in CLOSED_FORM and not (self.folder / method).is_dir():
                alignment.save(self.folder / method)
        return found

    def match(self, wanted: LongMatch) -> None:
        """One learned match from the better closed form, its paths, and how alike the matched units are."""
        self.piece(wanted.name, partial(self._match, wanted))

    def _match(self, wanted: LongMatch) -> dict[str, Any]:
        folder, extra, data = self.folder / wanted.name, {}, wanted.data(self.samples)
        if not folder.is_dir() or wanted.order:  # a finished one is taken up from its state, for the line it saw
            learner = self._learn(wanted, data, folder)
            if isinstance(learner, StraightThrough):
                line = learner.line(self.samples.eval, [i / (GRID - 1) for i in range(GRID)])
                extra = {"line": line, "reordered": learner.reordered()}
        alignment = Alignment.load(folder)
        seen = data.draw(SEEN, wanted.seed, step=-1)
        found = asdict(wanted) | {"record": told(alignment)} | self.walk(alignment)
        found |= {"seen": asdict(path(alignment, seen, SEEN_GRID)), "agreement": self._agreement(alignment)}
        return found | extra

    def _learn(self, wanted: LongMatch, data: Data, folder: Path) -> Learner:
        """Learn, or go on, and save the alignment, whose record has the seconds it took; returns what has learned."""
        began = time.monotonic()
        learners: list[Learner] = []

        def learner_of(*given: Any) -> Learner:
            learners.append(wanted.learner.of(*given))
            return learners[0]

        kept = CLOSED_FORM if wanted.windows is None else ("weights",)  # activations read what learning reads
        start = best_start(self.pair, data, [Alignment.load(self.folder / method) for method in kept])
        recipe, partial = wanted.recipe, self.folder / f"{wanted.name}.partial"
        endpoints = Endpoints.of(self.pair, None)
        state = endpoints.claim(start, data, recipe, wanted.seed, partial)
        found = endpoints.learn(start.transforms, data, recipe, wanted.seed, state, learner_of)
        record = {"seed": wanted.seed, "start": start.method, "drawn": wanted.drawn, **recipe.to_json()}
        record |= {"stopped": found.stopped} if found.stopped else {}
        record |= {"seconds": time.monotonic() - began}
        if not folder.is_dir():
            Alignment(wanted.method, self.pair, found.transforms, record, found.log).save(folder)
        return learners[0]

    def closed(self, windows: int, seed: int = 0) -> None:
        """Activation matching on so many windows of the training text, to compare with learning on as many."""

        def make() -> dict[str, Any]:
            data = LongMatch(1, windows=windows, seed=seed).data(self.samples)
            found = match(*self.pair, method="activations", data=data, seed=seed)
            return {"windows": windows, "seed": seed, "method": "activations"} | self.walk(found)

        self.piece(f"activations-train-s{seed}-of{windows}", make)

    def tune(self, of: str, steps: int, lr: float, batch: int = 16, read: str = "train") -> None:
        """A parent, trained on with the batches that a match of as many steps reads."""
        if of not in ("a", "b"):
            raise ArgumentError(f"of: expected a or b, the parent that is trained on, found {of!r}")
        parent = self.pair["ab".index(of)]
        make = partial(self._tuned, of, parent, steps, lr, batch, read)
        self.piece(f"tuned-{of}-{read}-{batch}x{steps}-{lr:g}", make)

    def after(self, of: str, steps: int, lr: float, batch: int = 16, read: str = "train") -> None:
        """The midpoint of a match, trained on: how much it gains, and how far it goes, in units of |A − B|."""

        def make() -> dict[str, Any]:
            alignment = Alignment.load(self.folder / of)
            found = self._tuned(of, alignment.merge(0.5), steps, lr, batch, read)
            apart = distance(*(state(model) for model in alignment.models))
            return found | {"apart": apart, "share": found["moved"] / apart}

        self.piece(f"after-{of}-{read}-{batch}x{steps}-{lr:g}", make)

    def _tuned(self, of: str, model: nn.Module, steps: int, lr: float, batch: int, read: str) -> dict[str, Any]:
        tuned, _ = finetune(model, getattr(self.samples, read), steps, lr, batch)
        scores = {
            split: [evaluate(each, data)[0].mean().item() for each in (model, tuned)]
            for split, data in {"eval": self.samples.eval, "match": self.samples.match.draw(SCORED, 0, -1)}.items()
        }
        return {
            "of": of,
            "steps": steps,
            "lr": lr,
            "batch": batch,
            "read": read,
            "before": scores["eval"][0],
            "loss": scores["eval"][1],
            "chosen_by": scores["match"][1],  # rates are compared on text that is neither trained on nor evaluated on
            "moved": distance(state(model), state(tuned)),
        }

    def walk(self, alignment: Alignment) -> dict[str, Any]:
        """`walked`, on the evaluation samples."""
        return walked(alignment, self.samples.eval, GRID)

    @torch.no_grad()
    def _agreement(self, alignment: Alignment) -> dict[str, float]:
        """The mean correlation between matched units of the two networks, by layer, over held-out samples."""
        probe = self.samples.eval.draw(AGREEMENT, 0, step=0)
        first, second = (_outputs(model, probe.inputs) for model in alignment.models)
        return {name: float(_correlation(x, second[name]).nanmean()) for name, x in first.items()}

    def piece(self, name: str, make: Callable[[], dict[str, Any]]) -> None:
        """Make a piece, unless it is there, and say what it holds."""
        found = self.pieces.piece(name, make)
        print(self.name, name, json.dumps({k: v for k, v in found.items() if isinstance(v, float | int | list)}))


def walked(alignment: Alignment, held_out: Data, grid: int) -> dict[str, Any]:
    """The path, and the midpoint against the better parent and the mean of both, with intervals."""
    middle, *ends = (evaluate(alignment.merge(at), held_out)[0] for at in (0.5, 0.0, 1.0))
    better = min(ends, key=lambda losses: float(losses.mean()))
    return {
        "path": asdict(path(alignment, held_out, grid)),
        "midpoint": float(middle.mean()),
        "to_better": _interval(middle - better),
        "to_mean": _interval(middle - sum(ends) / 2),
    }


def subset(total: int, count: int, seed: int) -> Tensor:
    """Indices of samples drawn once for a seed; fewer are a part of more."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count]


def _interval(differences: Tensor) -> list[float]:
    """A mean difference, and its 95 % bootstrap interval over samples."""
    draw = torch.Generator().manual_seed(0)
    means = torch.stack(
        [
            differences[torch.randint(len(differences), (len(differences),), generator=draw)].mean()
            for _ in range(RESAMPLES)
        ]
    )
    return [float(differences.mean()), *torch.quantile(means, torch.tensor([0.025, 0.975]).to(means)).tolist()]


def distance(x: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> float:
    """How far two networks' weights are apart."""
    return float(sum((x[name].double() - y[name].double()).square().sum() for name in x).sqrt())  # type: ignore[union-attr]


def _outputs(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """The outputs of every linear layer, [places, units], by its name."""
    found: dict[str, Tensor] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):

            def hook(_: object, __: object, output: Tensor, name: str = name) -> None:
                found[name] = output.detach().double().flatten(0, -2)

            handles.append(module.register_forward_hook(hook))
    logits(model, inputs)
    for handle in handles:
        handle.remove()
    return found


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """The correlation of every column of x with that of y."""
    x, y = (t - t.mean(0) for t in (x, y))
    return (x * y).sum(0) / (x.square().sum(0) * y.square().sum(0)).sqrt()
