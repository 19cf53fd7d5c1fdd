"""Rows of the neighbours' table written a second time, from the papers alone and with no spec, and the same numbers.

`torch.func` and the networks' own modules take the place of what the package does tensor by tensor.
"""

import copy
from typing import Any

import pico
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

import lmc
from lmc.evaluation import Data
from lmc.reproduce.experiments.analyses import layer_by_layer, similarity
from lmc.reproduce.experiments.neighbours import curved

STEPS, RATE, BATCH = 6, 1e-2, 8


def two() -> tuple[Any, Any, Data]:
    a, b = (pico.vit(seed, torch.float32) for seed in range(2))
    images = pico.inputs(a, n=32)
    return a, b, Data(images, torch.arange(32) % a.num_classes)


def test_a_curve() -> None:
    """Garipov et al., 1802.10026: E over t ~ U(0, 1) of the loss at (1−t)²w₁ + 2t(1−t)θ + t²w₂, θ from the middle."""
    a, b, data = two()
    ends = [{name: p.detach() for name, p in model.named_parameters()} for model in (a, b)]
    theta = {name: ((p + ends[1][name]) / 2).requires_grad_(True) for name, p in ends[0].items()}

    def at(t: float) -> dict[str, Tensor]:
        return {n: (1 - t) ** 2 * ends[0][n] + 2 * t * (1 - t) * theta[n] + t * t * ends[1][n] for n in theta}

    def loss(t: float, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(a, at(t), images), labels)

    adam, uniform = torch.optim.Adam(list(theta.values()), lr=RATE, betas=(0.9, 0.99)), torch.Generator().manual_seed(0)
    for step in range(STEPS):
        adam.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        drawn = data.draw(BATCH, 0, step)
        t = float(torch.rand((), generator=uniform))
        adam.zero_grad()
        loss(t, drawn.inputs, drawn.labels).backward()  # type: ignore[arg-type]
        adam.step()
    points = [i / 4 for i in range(5)]
    with torch.no_grad():
        losses = [float(loss(t, data.inputs, data.labels)) for t in points]  # type: ignore[arg-type]
    barrier = max(own - (1 - t) * losses[0] - t * losses[-1] for t, own in zip(points, losses, strict=True))
    walked = lmc.path(curved(lmc.match(a, b, method="naive"), data, STEPS, RATE, BATCH), data, grid=5)
    assert losses[2] != pytest.approx(
        float(lmc.path(lmc.match(a, b, method="naive"), data, grid=3).losses[1]), rel=1e-3
    )
    assert walked.losses == pytest.approx(losses, rel=1e-5)
    assert walked.barrier == pytest.approx(barrier, abs=1e-5)


@torch.no_grad()
def test_a_layer_alone() -> None:
    """Adilova et al., 2307.06966: one layer of the first network half-way to the second, the others as they are."""
    a, b, data = two()

    def loss(model: Any) -> float:
        return float(F.cross_entropy(model(data.inputs), data.labels))  # type: ignore[arg-type]

    expected = {}
    for k in range(len(a.blocks)):
        moved = copy.deepcopy(a)
        for p, q in zip(moved.blocks[k].parameters(), b.blocks[k].parameters(), strict=True):
            p.lerp_(q, 0.5)
        expected[f"layer {k}"] = loss(moved) - loss(a)
    found = layer_by_layer(lmc.match(a, b, method="naive"), data)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_alignment_of_kernels() -> None:
    """Kornblith et al., 1905.00414: ⟨HKH, HLH⟩ / (‖HKH‖ ‖HLH‖) of the kernels of samples, K = XXᵀ."""
    a, b, data = two()
    a, b = (lmc.canonicalize(model.double()) for model in (a, b))
    images = data.inputs.double()

    def before_the_last_norm(model: Any) -> Tensor:
        seen: list[Tensor] = []
        model.norm.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
        model(images)
        return seen[0].flatten(0, 1)

    kernels = []
    for model in (a, b):
        x = before_the_last_norm(copy.deepcopy(model))
        centre = torch.eye(len(x), dtype=x.dtype) - 1 / len(x)
        kernels.append(centre @ (x @ x.mT) @ centre)
    expected = float((kernels[0] * kernels[1]).sum() / (kernels[0].norm() * kernels[1].norm()))
    found = similarity((a, b), Data(images))["centred kernel alignment"][-1]
    assert expected < 0.99 and found == pytest.approx(expected, abs=1e-9)
