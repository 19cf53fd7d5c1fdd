"""Train, match, evaluate: a setting from nothing to its results, in pieces that resume.

Every piece (an endpoint, a match, a walk along the line) is kept in the setting's folder once it is finished. `publish`
is called after each and writes the results so far, so a run that is cut off keeps what it has.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock

from lmc import checkpoints
from lmc.errors import ArgumentError, DivergedError
from lmc.evaluation import Data, evaluate, losses, lowest_midpoint, path
from lmc.matching import CLOSED_FORM, LEARNED, Alignment, independence, match
from lmc.reproduce import places
from lmc.reproduce.experiments import report
from lmc.reproduce.experiments.rates import best_rates, probe
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.runs import Comparison, Pair
from lmc.reproduce.training.budget import Budget
from lmc.reproduce.training.endpoints import compiled_losses, train_endpoints
from lmc.reproduce.training.settings import Match, Setting, endpoint_folder
from lmc.reproduce.training.tasks import Task, task_of

STAGES = ("train", "match", "evaluate")
T = TypeVar("T")


def options(module: str, says: str) -> argparse.ArgumentParser:
    """The options of a command that works on settings, pair by pair, on processor cores."""
    parser = argparse.ArgumentParser(prog=f"python -m lmc.reproduce.experiments.{module}", description=says)
    parser.add_argument("--pair", type=int, help="one pair only, by its number")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop cleanly after these: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="processor threads: %(default)s")
    parser.add_argument("--folder", type=Path, required=True, help="endpoints and matches")
    inputs = places.checkout() / "build" / "inputs"
    parser.add_argument("--inputs", type=Path, default=inputs, help="prepared corpora: build/inputs of the clone")
    return parser


class Campaign:
    """One setting at one size.

    >>> campaign = Campaign(setting, Path("campaign"), Path("inputs"), torch.device("cpu"), Budget(540))
    >>> campaign.run(("train",), only=0)
    """

    def __init__(
        self,
        setting: Setting,
        folder: Path,
        inputs: Path,
        device: torch.device,
        budget: Budget,
        publish: Callable[[], None] = lambda: None,
        compiled: bool = False,
    ) -> None:
        """`folder`: where endpoints and everything made from them is kept. `publish`: called after every piece."""
        self.setting, self.device, self.budget, self.compiled = setting, device, budget, compiled
        self.folder, self.endpoints = folder, endpoint_folder(setting, folder)
        self._publish = publish
        self.task: Task = task_of(setting.shape, setting.corpus, inputs, device)

    def run(self, stages: tuple[str, ...] = STAGES, only: int | None = None) -> None:
        """The stages pair by pair, or of one pair only; last, other seeds of the first.

        Raises BudgetSpent, to be run again, and ArgumentError, DataError, DivergedError.
        """
        if unknown := set(stages) - set(STAGES):
            raise ArgumentError(f"stage: expected {', '.join(STAGES)} or all, found {', '.join(sorted(unknown))}")
        for index, seeds in enumerate(self.setting.seeds):
            if only not in (None, index):
                continue
            if "train" in stages:
                self._train(seeds)
            if "match" in stages or "evaluate" in stages:
                self._pair(index, self.setting.matches(index)[: len(self.setting.matching.methods)], stages)
        if only in (None, 0) and ("match" in stages or "evaluate" in stages):
            self._pair(0, self.setting.matches(0), stages)

    def compared(self) -> Comparison:
        """The results so far."""
        return report.compared(self.setting, self.folder)

    def _train(self, seeds: Sequence[int]) -> None:
        self.endpoints.parent.mkdir(parents=True, exist_ok=True)
        losses_of = compiled_losses() if self.compiled else losses
        with FileLock(f"{self.endpoints}.lock"):  # settings may share endpoints: who comes second finds them trained
            if all((self.endpoints / f"seed-{seed}").is_dir() for seed in seeds):
                return
            train_endpoints(self.setting, seeds, self.endpoints, self.task, self.device, self.budget, losses_of)
        self._publish()

    def _pair(self, index: int, matches: list[Match], stages: tuple[str, ...]) -> None:
        keep, seeds = report.pieces(self.setting, self.folder, index), self.setting.seeds[index]
        if {"endpoints", *(match.name for match in matches)} <= keep.all().keys():
            return
        missing = [str(seed) for seed in seeds if not (self.endpoints / f"seed-{seed}").is_dir()]
        if missing:
            raise ArgumentError(f"{self.setting.id}: expected trained endpoints, seeds {', '.join(missing)} are not")
        pair: Pair = tuple(checkpoints.load(self.endpoints / f"seed-{seed}") for seed in seeds)  # type: ignore[assignment]
        self._piece(keep, "endpoints", partial(self._measure, pair))
        for each in matches:
            if "match" in stages and not (keep.folder / each.name).is_dir():
                self._match(keep.folder, pair, each)
            if "evaluate" in stages:
                self._piece(keep, each.name, partial(self._walk, keep.folder / each.name))

    def _piece(self, keep: KeptRuns, name: str, make: Callable[[], dict[str, Any]]) -> None:
        """Make a piece within the time, unless it is there."""
        if keep.get(name) is None:
            keep.piece(name, partial(self._in_time, make))
            self._publish()

    def _in_time(self, make: Callable[[], T]) -> T:
        with self.budget.interrupting():
            return make()

    def _measure(self, pair: Pair) -> dict[str, Any]:
        """The endpoints' own losses, the loss of guessing, and how similar the endpoints' weights are."""
        found: dict[str, Any] = {"cosine": independence(*pair)}
        for corpus in self.setting.evaluated_on:
            held_out = self.task.held_out(corpus, self.setting.scored)
            scores = [evaluate(model.to(self.device), held_out) for model in pair]
            found[corpus] = {
                "losses": [float(loss.mean()) for loss, _ in scores],
                "accuracies": [float(right.mean()) for _, right in scores],
                "guess": self.task.guess(held_out),
            }
        for model in pair:
            model.cpu()
        return found

    def _match(self, folder: Path, pair: Pair, wanted: Match) -> None:
        """One match, kept as an alignment folder; the learned ones at the best of their rates."""
        settings = self.setting.matching
        seen = self.task.samples(settings.samples)
        options: dict[str, Any] = {}
        if wanted.method in LEARNED:
            start = self._in_time(partial(self._start, folder, pair, seen))
            rates = self.rates(pair, start, seen)
            options = self._options(start, settings.steps, rates[wanted.method])
            options |= {"seed": wanted.seed, "resume": folder / f"{wanted.name}.partial"}
        with self.budget.interrupting():
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            began = time.monotonic()
            found = match(*pair, method=wanted.method, data=seen, device=self.device, **options)
            cost = {"seconds": time.monotonic() - began}
            if self.device.type == "cuda":
                cost["peak_bytes"] = torch.cuda.max_memory_allocated(self.device)
            replace(found, record=found.record | cost).save(folder / wanted.name)

    def _start(self, folder: Path, pair: Pair, seen: Data) -> Alignment:
        """The better of the setting's closed forms, found before or now."""
        names = [name for name in CLOSED_FORM if name in self.setting.matching.methods]
        kept = {name: Alignment.load(folder / name) for name in names if (folder / name).is_dir()}
        made = (kept.get(name) or match(*pair, method=name, data=seen, device=self.device) for name in names)
        return lowest_midpoint(made, seen.draw(256, 0, step=0).to(self.device))

    def _options(self, start: Alignment, steps: int, rate: float) -> dict[str, Any]:
        precision = "bfloat16" if self.setting.bf16 else "float32"
        batch = self.setting.matching.batch
        return {"start": start, "steps": steps, "lr": rate, "batch": batch, "precision": precision}

    def rates(self, pair: Pair, start: Alignment, seen: Data) -> dict[str, float]:
        """The best learning rate of each learned method, found once, on the first pair, and used for all.

        It is scored on an eighth of the matching data that the probes do not see; evaluation data plays no part. A rate
        at which learning diverges has no barrier. Where every grid has one rate there is nothing to find.
        """
        settings, keep = self.setting.matching, report.pieces(self.setting, self.folder)
        if all(len(rates) == 1 for rates in settings.rates.values()):
            return {method: rate for method, (rate,) in settings.rates.items()}
        matched, scored = seen.apart(len(seen) // 8)  # at random: pictures come class by class
        for method in (m for m in LEARNED if m in settings.methods):
            for rate in settings.rates[method]:
                options = self._options(start, settings.probe, rate)
                tried = partial(probe, partial(self._found, pair, method, matched, options), scored)
                self._piece(keep, report.rate_piece(method, rate), lambda tried=tried: {"barrier": tried()})  # type: ignore[misc]
        try:
            return best_rates(report.rate_grids(self.setting, self.folder))
        except DivergedError as error:
            raise DivergedError(f"{self.setting.id}: {error}") from None

    def _walk(self, folder: Path) -> dict[str, Any]:
        """The loss along the line on every held-out corpus."""
        if not folder.is_dir():
            raise ArgumentError(f"{self.setting.id}: expected a match to evaluate, {folder.name} is not there")
        alignment = self._there(Alignment.load(folder))
        walks = {}
        for corpus in self.setting.evaluated_on:
            walked = path(alignment, self.task.held_out(corpus, self.setting.scored), self.setting.grid)
            walks[corpus] = asdict(walked)
        return walks

    def _found(self, pair: Pair, method: str, data: Data, options: dict[str, Any]) -> Alignment:
        return self._there(match(*pair, method=method, data=data, device=self.device, **options))

    def _there(self, alignment: Alignment) -> Alignment:
        """The same alignment, whose models are merged and evaluated on the device."""
        for model in alignment.models:
            model.to(self.device)
        return alignment
