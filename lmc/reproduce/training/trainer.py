"""One endpoint from nothing: every choice that decides its weights is in a `TrainingRecipe` and a seed."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lmc.errors import DivergedError
from lmc.evaluation import Data
from lmc.files import read_state, write_state
from lmc.reproduce.training.tasks import Task
from lmc.symmetries import logits
from lmc.symmetries.families import spec as spec_of

CURVE_POINTS = 50
MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")  # of AdamW, and of Muon
ORDER_SEED = 1_000_003  # added to an endpoint's seed for its data, so that no stream of random numbers is used twice


@dataclass(frozen=True)
class TrainingRecipe:
    """AdamW with linear warm-up and half a cosine down to zero; weight decay on matrices only."""

    steps: int
    batch: int
    lr: float
    warmup: int = 200
    weight_decay: float = 0.1
    beta2: float = 0.95
    clip: float = 1.0  # of the gradient's norm

    def optimizers(self, model: nn.Module) -> list[torch.optim.Optimizer]:
        """What takes the steps; every parameter belongs to one of them."""
        return [self._adamw(model.parameters())]

    def _adamw(self, given: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        parameters = list(given)
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, betas=(0.9, self.beta2), fused=parameters[0].is_cuda or None)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / (self.steps - self.warmup)))


@dataclass(frozen=True)
class MuonRecipe(TrainingRecipe):
    """Muon (K. Jordan et al., 2024) for the matrices between hidden units, and AdamW for everything else.

    Its steps are as large as those of AdamW at the same rate (arXiv 2502.16982). It needs torch 2.9.
    """

    momentum: float = 0.95

    def optimizers(self, model: nn.Module) -> list[torch.optim.Optimizer]:
        spec = spec_of(model)
        named = dict(model.named_parameters())
        between = [name for name in spec.rules if name not in spec.logits and not spec.looked_up(name)]
        hidden = [named.pop(name) for name in between if name in named and named[name].ndim == 2]
        muon = torch.optim.Muon(
            hidden, weight_decay=self.weight_decay, momentum=self.momentum, adjust_lr_fn="match_rms_adamw"
        )
        return [muon, self._adamw(named.values())]


class Trainer:
    """A model in training: it takes one loss after another, and can be written down and taken up again.

    >>> task = Digits(width=16, depth=1)
    >>> from lmc.evaluation import losses
    >>> trainer = Trainer(task.shape.build(), TrainingRecipe(steps=2, batch=8, lr=1e-3, warmup=1))
    >>> for _ in range(2):
    ...     trainer.descend(losses(trainer.model, task.draw(8, torch.Generator())).mean())
    """

    def __init__(self, model: nn.Module, recipe: TrainingRecipe) -> None:
        self.model, self.recipe, self.step = model, recipe, 0
        self.optimizers = recipe.optimizers(model)
        self.curve: list[tuple[int, float]] = []  # (step, mean loss since the entry before)
        self._recent: list[Tensor] = []  # on the device: reading a loss at every step would make the device wait

    def descend(self, loss: Tensor) -> None:
        """One step down this loss. Raises DivergedError, at the next point of the curve, if it is not finite."""
        self.model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.rate(self.step)
            optimizer.step()
        self._recent.append(loss.detach())
        self.step += 1
        if self.step % max(self.recipe.steps // CURVE_POINTS, 1) == 0 or self.step == self.recipe.steps:
            mean = float(torch.stack(self._recent).double().mean())
            if not math.isfinite(mean):
                raise DivergedError(f"training loss is {mean} at step {self.step}: lower the rate ({self.recipe.lr:g})")
            self.curve.append((self.step, round(mean, 4)))
            self._recent.clear()

    def save(self, file: Path) -> None:
        """Write model, optimisers and curve to a safetensors file, which appears whole or not at all."""
        tensors = {f"model/{name}": p.detach().contiguous() for name, p in self.model.named_parameters()}
        moments = {p: found for optimizer in self.optimizers for p, found in optimizer.state.items()}
        for name, p in self.model.named_parameters():
            tensors |= {f"{part}/{name}": moments[p][part].contiguous() for part in MOMENTS if part in moments[p]}
        tensors["curve"] = torch.tensor(self.curve, dtype=torch.float64).view(-1, 2)
        tensors["recent"] = torch.stack(self._recent).float() if self._recent else torch.empty(0)
        tensors["step"] = torch.tensor(self.step)
        write_state(file, tensors)

    @torch.no_grad()
    def restore(self, file: Path) -> None:
        """Go on from what `save` wrote: the rest is what it would have been."""
        tensors = read_state(file)
        self.step = int(tensors["step"])
        self.curve = [(int(step), loss) for step, loss in tensors["curve"].tolist()]
        device = next(self.model.parameters()).device
        self._recent = list(tensors["recent"].to(device))
        for name, p in self.model.named_parameters():
            p.copy_(tensors[f"model/{name}"])
            at = torch.tensor(float(self.step), device=device if p.is_cuda else "cpu")
            moments = {part: tensors[key].to(p) for part in MOMENTS if (key := f"{part}/{name}") in tensors}
            (owner,) = (o for o in self.optimizers if any(p is q for g in o.param_groups for q in g["params"]))
            owner.state[p] = moments if "momentum_buffer" in moments else {"step": at} | moments


def train(
    task: Task, recipe: TrainingRecipe, seed: int, progress: bool = True
) -> tuple[nn.Module, list[tuple[int, float]]]:
    """The model after the last step, and its training curve: (step, mean loss since the entry before).

    >>> model, curve = train(Digits(width=16, depth=1), TrainingRecipe(steps=2, batch=8, lr=1e-3, warmup=1), seed=0)
    >>> [step for step, loss in curve]
    [1, 2]
    """
    trainer, order = begun(task, recipe, seed)
    steps = tqdm(
        range(recipe.steps), desc=f"{type(trainer.model).__name__}, seed {seed}", disable=not progress, mininterval=2
    )
    for step in steps:
        until(step + 1, trainer, task, order)
    return trainer.model.eval(), trainer.curve


def begun(task: Task, recipe: TrainingRecipe, seed: int) -> tuple[Trainer, torch.Generator]:
    """What `train` starts from: a model before its first step, and the order of its data."""
    with torch.random.fork_rng():  # stock models draw their first weights from the global generator
        torch.manual_seed(seed)
        model = task.shape.build()
    return Trainer(model, recipe), torch.Generator().manual_seed(ORDER_SEED + seed)


def until(step: int, trainer: Trainer, task: Task, order: torch.Generator) -> None:
    """Train on up to this step, on batches of this order."""
    while trainer.step < step:
        trainer.descend(_mean_loss(trainer.model, task.draw(trainer.recipe.batch, order)))


def _mean_loss(model: nn.Module, batch: Data) -> Tensor:
    """The mean over all that is predicted, in one sum: summed sample by sample, its last bits would be others."""
    out = logits(model, batch.inputs)
    if batch.labels is not None:
        return F.cross_entropy(out, batch.labels)
    return F.cross_entropy(out[:, :-1].flatten(0, 1), batch.inputs[:, 1:].flatten())
