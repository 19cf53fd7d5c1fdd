"""Controls do what their names say: checked where the answer is known."""

import copy

import pico
import pytest
import torch
from torch import nn

import lmc
from lmc.errors import ArgumentError
from lmc.evaluation import loss
from lmc.evaluation.loss import Data, as_data, evaluate
from lmc.reproduce.experiments.controls import (
    Ensemble,
    Tempered,
    continuations,
    finetune,
    repair,
    repairable,
    temperature,
    unit_statistics,
)


@torch.no_grad()
def logits(model, inputs):
    return loss.logits(model, inputs)


@pytest.fixture(scope="module")
def pair():
    return tuple(pico.vit(seed=seed, dtype=torch.float32) for seed in (0, 1))


@pytest.fixture(scope="module")
def data(pair):
    return pico.inputs(pair[0], n=24), torch.arange(24) % 10


def test_an_ensemble_averages_logits(pair, data):
    expected = (logits(pair[0], data[0]) + logits(pair[1], data[0])) / 2
    assert torch.allclose(Ensemble(pair)(data[0]), expected)
    assert torch.allclose(Ensemble([pair[0]] * 3)(data[0]), logits(pair[0], data[0]), atol=1e-6)


class Told(nn.Module):
    """A model whose logits are given."""

    def __init__(self, model, factor):
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, inputs):
        return logits(self.model, inputs) * self.factor


def test_the_temperature_of_a_model_made_too_sure_is_found(pair, data, monkeypatch):
    monkeypatch.setattr("lmc.reproduce.experiments.controls.as_data", lambda data, model: Data(*data))
    images, _ = data
    labels = logits(pair[0], images).argmax(-1)
    labels[::3] = (labels[::3] + 1) % 10  # right two times of three, so that no temperature is best at zero
    honest = temperature(pair[0], (images, labels))
    assert temperature(Told(pair[0], 2.0), (images, labels)) == pytest.approx(2 * honest, rel=0.01)
    scored = Data(images, labels)
    losses = [float(evaluate(Tempered(pair[0], t), scored)[0].mean()) for t in (honest / 1.2, honest, honest * 1.2)]
    assert losses[1] < min(losses[0], losses[2])


def test_fine_tuning_learns_and_leaves_the_model_alone(pair, data):
    before = copy.deepcopy(pair[0].state_dict())
    tuned, losses = finetune(pair[0], data, steps=30, lr=1e-2, batch=24)
    assert losses[-1] < 0.5 * losses[0]
    assert float(evaluate(tuned, Data(*data))[0].mean()) < 0.5 * losses[0]
    assert all(torch.equal(t, before[name]) for name, t in pair[0].state_dict().items())
    assert finetune(pair[0], data, steps=3, lr=1e-2)[1] == finetune(pair[0], data, steps=3, lr=1e-2)[1]
    with pytest.raises(ArgumentError, match="steps, lr"):
        finetune(pair[0], data, steps=0, lr=1e-2)


@pytest.mark.parametrize("build", [pico.vit, pico.neox, pico.gpt2], ids=["vit", "gpt_neox", "gpt2"])
def test_repair_restores_what_averaging_took(build):
    """Rows scaled and biases shifted by hand, in every repairable layer: repair finds the model again."""
    model = build(seed=0, dtype=torch.float32)
    data = pico.inputs(model, n=16)
    data = data if not data.is_floating_point() else (data, torch.arange(16) % 10)
    damaged = copy.deepcopy(model)
    layers = repairable(damaged)
    assert len(layers) == 4 * 2  # qkv, output and two of the feed-forward layer, in each of two layers
    with torch.no_grad():
        for layer in layers.values():
            layer.weight.mul_(0.5)
            layer.bias.add_(0.3)
    inputs = data[0] if isinstance(data, tuple) else data
    expected, broken = logits(model, inputs), logits(damaged, inputs)
    repaired = repair(damaged, [model, model], [0.5, 0.5], data)
    assert (broken - expected).abs().max() > 1e-2 * expected.abs().max()
    assert torch.allclose(logits(repaired, inputs), expected, atol=1e-3 * float(expected.abs().max()))
    assert torch.equal(logits(damaged, inputs), broken)  # what was passed in is not touched


def test_repair_meets_the_interpolated_statistics(pair, data):
    middle = lmc.match(*pair, method="naive").merge(0.5)
    scored = as_data(data, middle).draw(256, 0, step=0)
    repaired = repair(middle, pair, [0.5, 0.5], data)
    found, *wanted = (unit_statistics(model, scored, repairable(model)) for model in (repaired, *pair))
    for name, moments in found.items():
        for i in (0, 1):
            expected = (wanted[0][name][i] + wanted[1][name][i]) / 2
            assert torch.allclose(moments[i], expected, atol=1e-4 * float(expected.abs().max())), name


def test_continuations_are_greedy_or_drawn_by_the_seed():
    model = pico.neox(seed=0, dtype=torch.float32)
    prompt = pico.inputs(model, n=2)[:, :4]
    greedy = continuations(model, prompt, length=5, context=4)
    assert greedy.shape == (2, 5)
    assert torch.equal(greedy[:, 0], logits(model, prompt)[:, -1].argmax(-1))
    drawn = [continuations(model, prompt, 5, temperature=1.0, seed=seed, context=4) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
