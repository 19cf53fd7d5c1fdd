"""The plane shows each network where it lies, and the loss that it has."""

import copy
import json
import warnings
from typing import Any

import pico
import pytest
import torch

import lmc
from lmc.errors import ArgumentError, DataError
from lmc.evaluation.landscape import affine_weights, coordinates, plane
from lmc.evaluation.loss import Data, evaluate
from lmc.reproduce.experiments.planes import planes
from lmc.reproduce.runs import Plane
from lmc.symmetries.stock_model import state


@pytest.fixture(scope="module")
def models():
    return [pico.vit(seed=seed, dtype=torch.float32) for seed in range(3)]


@pytest.fixture(scope="module")
def data(models):
    return pico.inputs(models[0], n=8), torch.arange(8) % 10


def flat(model):
    return torch.cat([t.double().flatten() for t in state(model).values()])


def test_distances_in_the_plane_are_distances_in_weight_space(models):
    corners = coordinates([state(m) for m in models])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (corners[i] - corners[j]).norm() == pytest.approx(float((flat(models[i]) - flat(models[j])).norm()))
    assert corners[0].tolist() == [0, 0] and corners[1, 1] == 0 and corners[2, 1] > 0


def test_weights_of_a_point(models):
    corners = coordinates([state(m) for m in models])
    for w in ([1.0, 0, 0], [0.2, 0.3, 0.5], [1.5, 0.5, -1.0]):
        weights = torch.tensor(w, dtype=torch.float64)
        assert torch.allclose(affine_weights(corners, corners.T @ weights), weights)


def test_the_grid_holds_the_losses_of_merged_models(models, data):
    found = plane(models, data, grid=3, margin=0.0)
    assert found["unit"] == "nats per image" and [len(row) for row in found["losses"]] == [3, 3, 3]
    corners = torch.tensor([found["points"][name] for name in ("first", "second", "third")], dtype=torch.float64)
    for row, column in ((0, 0), (2, 1), (1, 2)):
        point = torch.tensor([found["x"][column], found["y"][row]], dtype=torch.float64)
        mixed = copy.deepcopy(models[0])
        weights = affine_weights(corners, point)
        with torch.no_grad():
            for name, tensor in mixed.state_dict().items():
                tensor.copy_(sum(float(w) * state(m)[name].double() for w, m in zip(weights, models, strict=True)))
        expected = float(evaluate(mixed, lmc.evaluation.as_data(data, mixed))[0].mean())
        assert found["losses"][row][column] == pytest.approx(expected, rel=1e-5)


def test_models_that_read_pictures_in_their_own_ways_lie_in_no_plane(models, data):
    other = copy.deepcopy(models[1])
    other.pretrained_cfg = {**lmc.symmetries.families.timm_record(other), "std": [0.25]}
    with pytest.raises(ArgumentError, match=r"model 1 and model 2 differ in std: expected .*, found 0.25; only"):
        plane([models[0], other, models[2]], data, grid=3)
    aligned = lmc.match(models[0], other, method="weights")
    assert plane([*aligned.models, models[2]], data, grid=2)["unit"] == "nats per image"


def test_single_and_dual_planes_are_the_same_landscape(models, data):
    """The dual plane is the single plane of g = gA⁻¹gB moved by gA, which changes no function."""
    dual = lmc.match(*models[:2], method="dual", data=data, steps=3)
    identity = lmc.Transform.identity(dual.transforms[0].spec)
    folded = dual.transforms[0].inverse() @ dual.transforms[1]
    single = lmc.Alignment("single", dual.parents, (identity, folded), {})
    found = planes(single, dual, data, grid=3)
    for (name, plane_), names in zip(
        found.items(), (["$A$", "$B$", r"$g\,B$"], ["$g_A A$", "$g_A B$", "$g_B B$"]), strict=True
    ):
        assert list(plane_.points) == names, name
        assert plane_.lines == {"direct": (names[0], names[1]), "matched": (names[0], names[2])}
        assert Plane.from_json(json.loads(json.dumps(plane_.to_json(), sort_keys=True))) == plane_
    inside = found["single"].losses[1][1], found["dual"].losses[1][1]
    assert inside[0] == pytest.approx(inside[1], rel=0.05)  # the grids differ where gA is not orthogonal (values)


def test_what_spans_no_plane_is_refused(models, data):
    with pytest.raises(ArgumentError, match="expected three models, found 2"):
        plane(models[:2], data)
    with pytest.raises(ArgumentError, match="not on one line"):
        plane([*models[:2], lmc.match(*models[:2], method="naive").merge(0.5)], data)
    with pytest.raises(ArgumentError, match="second equal to the first"):
        plane([models[0], models[0], models[1]], data)
    with pytest.raises(ArgumentError, match="at least 2 points"):
        plane(models, data, grid=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}}, "rope_parameters"),
        ({"hidden_act": "gelu"}, "hidden_act: expected silu, found gelu"),
        ({"intermediate_size": 48}, "intermediate_size: expected 12, found 48"),
    ],
)
def test_models_that_differ_in_more_than_weights_span_no_plane(change: dict[str, Any], said: str) -> None:
    first, second = (pico.llama(seed, torch.float32) for seed in range(2))
    other = pico.llama(2, torch.float32, **change)
    for models, which in (([first, second, other], 3), ([first, other, second], 2)):
        with pytest.raises(ArgumentError, match=f"plane: model 1 and model {which} differ in .*{said}"):
            plane(models, pico.inputs(first))


def test_a_plane_needs_models_of_one_class_that_has_a_loss() -> None:
    masked = [pico.bert(seed, torch.float32) for seed in range(3)]
    with pytest.raises(DataError, match="it has no loss here"):
        plane(masked, pico.inputs(masked[0]))
    with pytest.raises(ArgumentError, match="differ in class: expected LlamaForCausalLM, found GPT2LMHeadModel"):
        plane(
            [*(pico.llama(seed, torch.float32) for seed in range(2)), pico.gpt2(0, torch.float32)],
            pico.inputs(masked[0]),
        )


def test_a_head_that_is_tied_in_one_model_and_not_in_another_keeps_its_own_numbers() -> None:
    a, b = (pico.gpt2(seed, torch.float32, tie_word_embeddings=True) for seed in range(2))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* was tied to ")
        third = lmc.match(a, b, method="weights").models[1]
    text = pico.inputs(a, n=4, seed=2)
    found = plane([a, b, third], text, grid=2, margin=0.0)
    corners = torch.tensor([found["points"][name] for name in ("first", "second", "third")], dtype=torch.float64)
    weights = affine_weights(corners, torch.tensor([found["x"][0], found["y"][1]], dtype=torch.float64))
    states = [model.state_dict() for model in (a, b, third)]
    own = copy.deepcopy(third)
    own.load_state_dict({n: sum(w * s[n] for w, s in zip(weights, states, strict=True)) for n in states[0]})
    assert found["losses"][1][0] == pytest.approx(float(evaluate(own, Data(text))[0].mean()), rel=1e-6)
