"""The controls: models that a merged one has to beat, and the cheap repairs that compete with matching.

>>> both = Ensemble([a, b])                                                     # at twice the cost of a merge
>>> tuned, losses = finetune(naive.merge(0.5), match_on, steps=2, lr=1e-3)      # steps spent on training instead
>>> repaired = repair(alignment.merge(0.5), alignment.models, [0.5, 0.5], match_on)
>>> cooled = temperature(alignment.merge(0.5), match_on)

`repair` and `finetune` give stock models; the other two are reference lines and exist only here.
"""

import copy
import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from lmc.errors import ArgumentError, DivergedError
from lmc.evaluation import Data, as_data, evaluate, score
from lmc.symmetries import logits
from lmc.symmetries.families import spec as spec_of

CALIBRATION = 256  # windows or images that statistics and temperatures are taken from


class Ensemble(nn.Module):
    """The mean of several models' logits: what averaging their functions gives, at the cost of running them all.

    >>> losses, correct = evaluate(Ensemble([a, b]), as_data(held_out, a))
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, inputs: Tensor) -> Tensor:
        """[n, T, vocabulary] or [n, classes]."""
        return torch.stack([logits(model, inputs) for model in self.models]).mean(0)


class Tempered(nn.Module):
    """A model whose logits are divided by a temperature."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, inputs: Tensor) -> Tensor:
        """[n, T, vocabulary] or [n, classes]."""
        return logits(self.model, inputs) / self.temperature


def temperature(model: nn.Module, data: object, seed: int = 0) -> float:
    """The softmax temperature under which the model's loss on `data` is lowest, between 1/8 and 8.

    >>> losses, correct = evaluate(Tempered(merged, temperature(merged, match_on)), as_data(held_out, a))

    One number can undo too much or too little confidence, and nothing else: the top class stays what it was.
    """
    probe = as_data(data, model).draw(CALIBRATION, seed, step=0)

    def loss(log: float) -> float:
        return float(evaluate(Tempered(model, math.exp(log)), probe)[0].mean())

    within = (-math.log(8), math.log(8))
    return math.exp(minimize_scalar(loss, bounds=within, method="bounded", options={"xatol": 1e-3}).x)


def finetune(
    model: nn.Module, data: object, steps: int, lr: float, batch: int | None = None, seed: int = 0
) -> tuple[nn.Module, list[float]]:
    """A copy of the model after ordinary training, and its losses: AdamW, a tenth of warm-up, then a cosine to zero.

    >>> tuned, losses = finetune(naive.merge(0.5), match_on, steps=2, lr=1e-3)
    >>> len(losses)
    2

    Batches are those that learned matching draws with the same seed. Raises ArgumentError, DataError, DivergedError.
    """
    if steps < 1 or not lr > 0:
        raise ArgumentError(f"steps, lr: expected at least 1 and a positive rate, found {steps} and {lr}")
    samples = as_data(data, model)
    batch = batch or (16 if samples.labels is None else 64)
    tuned = copy.deepcopy(model).requires_grad_(True).train()
    optimizer = torch.optim.AdamW(tuned.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    losses = []
    for step in range(steps):
        warm = min(1.0, (step + 1) / max(1, steps // 10))
        for group in optimizer.param_groups:
            group["lr"] = lr * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = score(tuned, samples.draw(batch, seed, step))[0].mean()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise DivergedError(f"loss is {losses[-1]} at step {step}: lower the learning rate ({lr:g})")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return tuned.requires_grad_(False).eval(), losses


@torch.no_grad()
def repair(
    merged: nn.Module, endpoints: Sequence[nn.Module], at: Sequence[float], data: object, seed: int = 0
) -> nn.Module:
    """A stock model whose units have the mean and the spread that the endpoints' units have, on average.

    >>> repaired = repair(alignment.merge(0.5), alignment.models, [0.5, 0.5], match_on)

    REPAIR (Jordan et al., arXiv 2211.08403) for transformers. Averaging cancels part of what two networks compute, so a
    merged network's activations vary less than its parents'. Here every output unit gets the mean and the standard
    deviation over `data` that the units of the endpoints have, averaged with the weights `at`: its row is scaled and
    its bias shifted. The units are those of all linear layers with a bias but the one that makes logits. `endpoints`
    are the aligned ones, whose units correspond. Layers are taken in the order in which they compute, each seeing its
    repaired inputs.
    """
    samples = as_data(data, merged).draw(CALIBRATION, seed, step=0)
    targets = [unit_statistics(model, samples, repairable(model)) for model in endpoints]
    new = copy.deepcopy(merged)
    layers = repairable(new)

    def reset(name: str, layer: Any, output: Tensor) -> Tensor:
        mean, std = _moments(output)
        wanted_mean, wanted_std = (sum(w * t[name][i] for w, t in zip(at, targets, strict=True)) for i in (0, 1))
        scale = torch.where(std > 1e-6, wanted_std / std.clamp_min(1e-6), torch.ones_like(std))
        shift = wanted_mean - scale * mean
        units = scale[:, None] if isinstance(layer, nn.Linear) else scale  # GPT-2's Conv1D has its units as columns
        layer.weight.mul_(units.to(layer.weight))
        layer.bias.mul_(scale.to(layer.bias)).add_(shift.to(layer.bias))
        return (output * scale.to(output) + shift.to(output)).to(output.dtype)

    with ExitStack() as hooks:
        for name, layer in layers.items():

            def hook(layer: nn.Module, _: object, output: Tensor, name: str = name) -> Tensor:
                return reset(name, layer, output)

            hooks.callback(layer.register_forward_hook(hook).remove)
        logits(new, samples.inputs)
    return new


def repairable(model: nn.Module) -> dict[str, Any]:
    """The linear layers with a bias, as modules by name; what makes the logits is left alone."""
    last = {name.rpartition(".")[0] for name in spec_of(model).logits}
    linear = {n: m for n, m in model.named_modules() if type(m).__name__ in ("Linear", "Conv1D") and n not in last}
    return {name: layer for name, layer in linear.items() if layer.bias is not None}


@torch.no_grad()
def unit_statistics(model: nn.Module, samples: Data, layers: dict[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation of every unit of these layers, by the layer's name."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    with ExitStack() as hooks:
        for name, layer in layers.items():

            def hook(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
                found[name] = _moments(output)

            hooks.callback(layer.register_forward_hook(hook).remove)
        logits(model, samples.inputs)
    return found


def _moments(output: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every unit, over samples and positions."""
    flat = output.double().flatten(0, -2)
    return flat.mean(0), flat.std(0, correction=0)


@torch.no_grad()
def continuations(
    model: nn.Module, prompts: Tensor, length: int, temperature: float = 0.0, seed: int = 0, context: int = 128
) -> Tensor:
    """What a language model says after `prompts` [n, T]: [n, length] token ids; at temperature 0 the likeliest ones.

    >>> prompts = held_out[:2, :4]
    >>> continuations(alignment.merge(0.5), prompts, length=8, temperature=0.7, seed=0).shape
    torch.Size([2, 8])
    """
    generator = torch.Generator().manual_seed(seed)
    ids = prompts
    for _ in range(length):
        last = logits(model, ids[:, -context:])[:, -1].double()
        if temperature == 0:
            new = last.argmax(-1, keepdim=True)
        else:
            new = torch.multinomial((last / temperature).softmax(-1), 1, generator=generator)
        ids = torch.cat([ids, new], 1)
    return ids[:, prompts.shape[1] :]
