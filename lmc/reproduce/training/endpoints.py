"""Endpoints on a device: trained in pieces that a time budget allows, kept as stock checkpoints."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lmc import checkpoints
from lmc.checkpoints import provenance
from lmc.evaluation import Data, losses
from lmc.files import read_json, refuse_other_run, write_whole
from lmc.reproduce.training.budget import Budget, BudgetSpent
from lmc.reproduce.training.settings import Setting, trained_as
from lmc.reproduce.training.tasks import Task
from lmc.reproduce.training.trainer import ORDER_SEED, Trainer

SAVE_EVERY = 60.0  # seconds: what a killed run may lose
Losses = Callable[[nn.Module, Data], Tensor]  # of every sample


def autocast(device: torch.device, bf16: bool) -> Any:
    """The precision of a step: bfloat16 products, or float32."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


@cache  # one for all: models of one shape share what was compiled
def compiled_losses() -> Losses:
    """`losses` through torch.compile: of a large vocabulary the loss then passes over the logits twice, not ten."""
    compiled: Losses = torch.compile(losses, dynamic=False)
    return compiled


def train_endpoints(
    setting: Setting,
    seeds: Sequence[int],
    folder: Path,
    task: Task,
    device: torch.device,
    budget: Budget,
    losses_of: Losses = losses,
) -> list[Path]:
    """The stock checkpoints of endpoints, trained now or before, side by side; each has its record beside it (`.json`).

    >>> text = task_of(setting.shape, setting.corpus, Path("inputs"))
    >>> ends = train_endpoints(setting, (0, 1), Path("endpoints"), text, torch.device("cpu"), Budget(540))
    >>> [end.name for end in ends]
    ['seed-0', 'seed-1']

    They take their steps in turn, so that all have come as far when the time is over. `losses_of`: `losses`, or the
    same compiled. Raises BudgetSpent when the time is over, with everything kept for the next call, and CheckpointError
    where the folder holds endpoints of other settings.
    """
    refuse_other_run(folder, trained_as(setting))
    done = [folder / f"seed-{seed}" for seed in seeds]
    missing = [seed for seed, end in zip(seeds, done, strict=True) if not end.is_dir()]
    if not missing:
        return done
    budget.check()
    runs = [Training(setting, seed, folder, task, device, len(missing)) for seed in missing]
    saved = time.monotonic()
    steps = setting.recipe.steps
    names = ", ".join(map(str, missing))
    with tqdm(total=steps, initial=runs[0].trainer.step, desc=f"{setting.id}, seeds {names}", disable=None) as bar:
        while unfinished := [run for run in runs if run.trainer.step < steps]:
            over = budget.left() <= 0
            if over or time.monotonic() - saved > SAVE_EVERY:
                for run in (run for run in runs if run.trainer.step):
                    run.keep()
                saved = time.monotonic()
            behind = min(unfinished, key=lambda run: run.trainer.step)  # a killed run may leave them apart
            if over:
                done_so_far = f"{behind.trainer.step} of {steps} steps are kept"
                raise BudgetSpent(f"{setting.id}, seeds {names}: {done_so_far}")
            behind.advance(losses_of)
            if behind is runs[0]:
                bar.update()
    for run in runs:
        run.finish()
    return done


class Training:
    """One endpoint on its way: begun from its seed, or taken up where it was kept.

    >>> text = task_of(setting.shape, setting.corpus, Path("inputs"))
    >>> training = Training(setting, 0, Path("endpoints"), text, torch.device("cpu"))
    >>> training.advance(losses)
    >>> training.trainer.step
    1
    """

    def __init__(
        self, setting: Setting, seed: int, folder: Path, task: Task, device: torch.device, beside: int = 1
    ) -> None:
        """`beside`: how many share the device's time, this one included."""
        self.setting, self.seed, self.task, self.device, self.beside = setting, seed, task, device, beside
        self.done, self.state, self.record = (
            folder / f"seed-{seed}{end}" for end in ("", ".state.safetensors", ".json")
        )
        with torch.random.fork_rng(devices=[]):  # stock models draw their first weights from the global generator
            torch.manual_seed(seed)
            model = setting.shape.build().to(device)
        self.trainer = Trainer(model, setting.recipe)
        self.before = 0.0
        if self.state.is_file():
            self.trainer.restore(self.state)
            self.before = read_json(self.record)["seconds"]
        self.began = time.monotonic()

    def advance(self, losses_of: Losses) -> None:
        """One step."""
        batch = self.task.draw(self.setting.recipe.batch, order_of(self.seed, self.trainer.step))
        with autocast(self.device, self.setting.bf16):
            loss = losses_of(self.trainer.model, batch).mean()
        self.trainer.descend(loss)

    def keep(self) -> None:
        """Write all that the rest of the training needs."""
        self.trainer.save(self.state)
        self._say()

    def finish(self) -> None:
        """Write the stock checkpoint, and forget what only the training needed."""
        self._say()
        plain = self.setting.shape.build()  # on the CPU
        plain.load_state_dict({name: tensor.cpu() for name, tensor in self.trainer.model.state_dict().items()})
        checkpoints.save(plain.eval(), self.done)
        self.state.unlink(missing_ok=True)

    def _say(self) -> None:
        seconds = self.before + (time.monotonic() - self.began) / self.beside
        found = {"seed": self.seed, "seconds": round(seconds, 1), "curve": self.trainer.curve}
        write_whole(self.record, json.dumps(found | {"hardware": provenance.hardware()}))


def order_of(seed: int, step: int) -> torch.Generator:
    """What draws the batch of a step: it depends on seed and step alone, so a run taken up again sees the same."""
    return torch.Generator().manual_seed((ORDER_SEED + seed) * 1_000_003 + step)
