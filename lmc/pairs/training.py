"""One endpoint from nothing: every choice that decides its weights is in a `Recipe` and a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from tqdm import tqdm

from lmc.pairs.tasks import Task

CURVE_POINTS = 50
ORDER_SEED = 1_000_003  # added to an endpoint's seed for its data, so that no stream of random numbers is used twice


@dataclass(frozen=True)
class Recipe:
    """AdamW with linear warm-up and half a cosine down to zero; weight decay on matrices only."""

    steps: int
    batch: int
    lr: float
    warmup: int = 200
    weight_decay: float = 0.1
    beta2: float = 0.95
    clip: float = 1.0  # of the gradient's norm

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / (self.steps - self.warmup)))


def train(task: Task, recipe: Recipe, seed: int, progress: bool = True) -> tuple[nn.Module, list[tuple[int, float]]]:
    """The model after the last step, and its training curve: (step, mean loss since the entry before).

    model, curve = train(Digits(), Recipe(steps=100, batch=64, lr=1e-3, warmup=10), seed=0)
    """
    with torch.random.fork_rng():  # stock models draw their first weights from the global generator
        torch.manual_seed(seed)
        model = task.build().train()
    losses = task.losses(model, recipe.batch, torch.Generator().manual_seed(ORDER_SEED + seed))
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, recipe.beta2))
    curve: list[tuple[int, float]] = []
    recent: list[float] = []
    steps = tqdm(range(recipe.steps), desc=f"{task.model}, seed {seed}", disable=not progress, mininterval=2)
    for step, loss in zip(steps, losses, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        recent.append(loss.item())
        if (step + 1) % max(recipe.steps // CURVE_POINTS, 1) == 0 or step + 1 == recipe.steps:
            curve.append((step + 1, round(sum(recent) / len(recent), 4)))
            recent.clear()
    return model.eval(), curve
