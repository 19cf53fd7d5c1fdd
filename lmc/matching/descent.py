"""The loop around a learner: progress, checks, saved states, and an end that says why."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from lmc.errors import ArgumentError, DivergedError, OutOfMemoryError, is_out_of_memory
from lmc.evaluation import Data
from lmc.files import progress
from lmc.matching import workers
from lmc.matching.learned import Learner
from lmc.matching.recipe import EVERY
from lmc.symmetries import Transform

ASIDE = 0.1  # the share of the data that early stopping keeps aside, for its checks alone
MOST_ASIDE = 256  # the most samples it keeps aside
DIVERGED = 1.0  # nats: learning has diverged once the mean loss between two checks lies this far above the first step's


@dataclass(frozen=True)
class Descent:
    """Where learning ended: transforms, the loss of every step, and, if it was cut short, why."""

    transforms: tuple[Transform, ...]
    log: tuple[dict[str, float], ...]
    stopped: str | None = None
    diverged: bool = False


def descend(learner: Learner, samples: Data, state: Path | None) -> Descent:
    """Take the recipe's steps, or fewer: `stopped` then says why, and the transforms are the best ones passed.

    With `patience` part of the samples is kept aside, and a check is the midpoint's loss on it; without, it is the
    mean loss of the steps since the check before. `state`: a file to continue from if it is there, and to write at
    every check. Raises OutOfMemoryError, ArgumentError.
    """
    recipe = learner.recipe
    aside: Data | None = None
    if recipe.patience is not None:
        samples, aside = _apart(samples, learner.seed)
    if state is not None and state.exists():
        learner.restore(state)
    bar = tqdm(total=recipe.steps, initial=learner.step, desc="learning", disable=None if workers.first() else True)
    began = told = time.monotonic()
    first = learner.step
    with bar, _memory(learner):
        while learner.step < recipe.steps and not _in_vain(learner):
            try:
                loss = learner.advance(samples)
            except DivergedError as error:
                return _end(learner, str(error), diverged=True)
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            if learner.step % EVERY and learner.step < recipe.steps:
                continue
            recent = learner.losses[(learner.step - 1) // EVERY * EVERY :]
            mean = sum(recent) / len(recent)
            if mean > learner.losses[0] + DIVERGED:
                why = f"loss rose from {learner.losses[0]:.3g} to {mean:.3g} by step {learner.step}"
                return _end(learner, f"{why}: lower the learning rate ({recipe.lr:g})", diverged=True)
            learner.keep(mean if aside is None else learner.midpoint_loss(aside))
            if (now := time.monotonic()) - told > progress.SILENCE:
                left = (now - began) / (learner.step - first) * (recipe.steps - learner.step)
                workers.tell(f"learning: step {learner.step} of {recipe.steps}, loss {mean:.4f}, {left:.0f} s left")
                told = now
            if state is not None and workers.first():
                learner.save(state)
    if _in_vain(learner):
        return _end(learner, f"no better midpoint since step {learner.best_step}")
    return _end(learner, None, last=recipe.patience is None)


def _in_vain(learner: Learner) -> bool:
    """Whether patience is at its end; asked of the state alone, so that one read from a file ends there too."""
    patience = learner.recipe.patience
    return patience is not None and learner.step - learner.best_step >= patience * EVERY


def _end(learner: Learner, why: str | None, last: bool = False, diverged: bool = False) -> Descent:
    elements = learner.elements if last else learner.best
    log = tuple({"step": i, "loss": loss} for i, loss in enumerate(learner.losses))
    return Descent(learner.transforms(elements), log, why, diverged)


def _apart(samples: Data, seed: int) -> tuple[Data, Data]:
    """The samples to learn from, and those kept aside for the checks, which learning never sees."""
    sharing = workers.count()
    count = min(MOST_ASIDE, int(ASIDE * len(samples))) // sharing * sharing  # the same number for each process
    if count < 1:
        raise ArgumentError(f"patience: expected at least {sharing / ASIDE:.0f} samples, found {len(samples)}")
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))
    return samples[order[count:]], samples[order[:count]]


@contextmanager
def _memory(learner: Learner) -> Iterator[None]:
    """Turns every way of running out of memory into one line that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        recipe = learner.recipe
        each = math.ceil(recipe.per_step / recipe.accumulate / workers.count())
        tips = [f"lower batch or raise accumulate ({each} samples at a time now)"]
        tips += ["set precision to bfloat16"] if recipe.precision == "float32" else []
        tips += [] if recipe.checkpointing else ["turn checkpointing on"]
        raise OutOfMemoryError(f"out of memory at step {learner.step}: {', or '.join(tips)}") from None
