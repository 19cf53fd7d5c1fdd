"""One item at one size, within a time budget: every piece of work in order, and a results file for each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from lmc.errors import ArgumentError
from lmc.files import read_json, write_whole
from lmc.reproduce import results
from lmc.reproduce.experiments import cost, report
from lmc.reproduce.experiments.stages import STAGES, Campaign
from lmc.reproduce.training.batches import describe
from lmc.reproduce.training.budget import Budget
from lmc.reproduce.training.settings import SIZES, Cost, Curve, Setting, Work, work


@dataclass(frozen=True)
class Place:
    """Where things lie and what computes: `folder` keeps what is made, `inputs` the prepared corpora."""

    folder: Path
    inputs: Path
    device: torch.device
    compiled: bool = False


def run(
    item: int,
    size: str,
    budget: Budget,
    place: Place,
    stages: tuple[str, ...] = STAGES,
    only: str | None = None,
    wait: bool = False,
) -> list[str]:
    """Do what an item, or `only` one piece of its work, still lacks; returns the ids of its results.

        run(3, "smoke", Budget(540), Place(Path("build/campaign"), Path("build/inputs"), torch.device("cpu")))

    Raises BudgetSpent when the time is over: what was done is kept, and the same call goes on. Raises ArgumentError
    where another process does the same work, unless this one is to `wait` for it.
    """
    chosen = [w for w in work(item, size) if only in (None, w.id)]
    if not chosen:
        raise ArgumentError(f"only: expected one of {', '.join(w.id for w in work(item, size))}, found {only!r}")
    for each in chosen:
        with _alone(place.folder / size / f".{each.id}.lock", wait):
            _Run(item, size, each, budget, place, stages).go()
    return [each.id for each in chosen]


@contextmanager
def _alone(file: Path, wait: bool) -> Iterator[None]:
    """One process at a time: two that write the same pieces would lose each other's. Raises ArgumentError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        where = file.name.strip(".").removesuffix(".lock")
        raise ArgumentError(
            f"{where}: another run does this in {file.parent}; wait, or choose another --folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


class _Run:
    """One piece of work, its clock, which goes on over calls, and its results file."""

    def __init__(self, item: int, size: str, work: Work, budget: Budget, place: Place, stages: tuple[str, ...]) -> None:
        self.item, self.size, self.work, self.budget, self.place, self.stages = item, size, work, budget, place, stages
        self.folder = place.folder / size
        self.clock = self.folder / work.id / "clock.json"
        self.began = time.monotonic()
        self.before = read_json(self.clock)["seconds"] if self.clock.is_file() else 0.0

    def go(self) -> None:
        if isinstance(self.work, Cost):
            self._cost(self.work)
        elif isinstance(self.work, Curve):
            self._curve(self.work)
        else:
            campaign = self._campaign(self.work, lambda: publish())

            def publish() -> None:
                self._write(campaign.numbers(), self._data_of(campaign) | {"costs": campaign.costs()})

            campaign.run(self.stages)
            publish()

    def _cost(self, work: Cost) -> None:
        kept = self.folder / work.id / "found.json"

        def publish(found: dict[str, Any]) -> None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, json.dumps(found))
            self._write(found, {"seeds": [0], "precision": {"steps": _precision(bf16=True)}})

        cost.measure(work, self.place.device, self.budget, read_json(kept) if kept.is_file() else {}, publish)

    def _curve(self, work: Curve) -> None:
        campaigns: list[Campaign] = []

        def publish() -> None:
            points = [campaign.numbers() for campaign in campaigns]
            costs = {campaign.setting.id: campaign.costs() for campaign in campaigns}
            self._write(report.curve(work, points), self._data_of(campaigns[0]) | {"costs": costs})

        campaigns += [self._campaign(setting, publish) for _, setting in work.points]
        for index in range(max(len(setting.seeds) for _, setting in work.points)):  # a whole curve of first pairs first
            for campaign in campaigns:
                campaign.run(self.stages, only=index)
        publish()

    def _campaign(self, setting: Setting, publish: Callable[[], None]) -> Campaign:
        place = self.place
        return Campaign(setting, self.folder, place.inputs, place.device, self.budget, publish, place.compiled)

    def _data_of(self, campaign: Campaign) -> dict[str, Any]:
        setting = campaign.setting
        return {
            "seeds": [seed for pair in setting.seeds for seed in pair],
            "corpus": describe(setting, campaign.data),
            "precision": {"training, learned matching": _precision(setting.bf16), "evaluation": "float32"},
        }

    def _write(self, numbers: dict[str, Any], made: dict[str, Any]) -> None:
        seconds = self.before + time.monotonic() - self.began
        self.clock.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.clock, json.dumps({"seconds": seconds}))
        profile = SIZES[self.size]
        command = f"lmc reproduce --profile {profile} --figure {self.work.id}"
        if isinstance(self.work, Cost):  # no figure
            command = f"make gpu ITEM={self.item}" + ("" if self.size == "full" else f" SIZE={self.size}")
        results.write(self.work.id, profile, numbers, made | {"duration_s": seconds, "command": command})


def _precision(bf16: bool) -> str:
    return "bfloat16 autocast" if bf16 else "float32"
