"""Closed-form matching: planted symmetries are found exactly, and the objective never falls."""

import warnings

import pico
import pytest
import torch

import lmc
from lmc.groups import Permutation
from lmc.matching.activations import activation_pieces
from lmc.matching.solver import solve
from lmc.matching.weights import weight_pieces
from lmc.models import state
from lmc.objective import Data

MODELS = {
    "neox": lambda dtype: pico.neox(dtype=dtype),
    "neox sequential": lambda dtype: pico.neox(dtype=dtype, use_parallel_residual=False, num_hidden_layers=3),
    "neox full rotary": lambda dtype: pico.neox(dtype=dtype, rotary_fraction=1.0, num_attention_heads=4),
    "neox no rotary": lambda dtype: pico.neox(dtype=dtype, rotary_fraction=0.0),
    "neox small vocabulary": lambda dtype: pico.neox(dtype=dtype, vocab_size=9, hidden_size=24),
    "neox tied": lambda dtype: pico.neox(dtype=dtype, tie_word_embeddings=True),
    "vit": lambda dtype: pico.vit(dtype=dtype),
    "vit few free axes": lambda dtype: pico.vit(dtype=dtype, embed_dim=32, num_classes=3, num_heads=4),
    "vit pooled": lambda dtype: pico.vit(dtype=dtype, class_token=False, global_pool="avg", init_values=0.1),
}


def canonical(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a tied head becomes its own tensor
        return lmc.canonicalize(model)


def planted(name, seed, dtype=torch.float32):
    a = canonical(MODELS[name](dtype))
    g = lmc.Transform.random(lmc.spec(a), seed)
    return a, g.apply(a), g


def data_for(model, n=32):
    inputs = pico.inputs(model, n=n, seed=5)
    return inputs if inputs.dtype == torch.int64 else (inputs, torch.arange(n) % model.num_classes)


# Few tokens or pixels span few directions: there the activations say nothing about the others, but the weights do.
CASES = [(name, "weights") for name in MODELS] + [(n, "activations") for n in ("neox", "neox sequential", "vit")]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_planted_symmetry_is_recovered(name, method):
    """B = g·A for g over the whole group: weights to 1e-4, midpoint logits to 1e-3, permutations exactly."""
    for seed in (0, 1):
        a, b, g = planted(name, seed)
        alignment = lmc.match(a, b, method=method, data=data_for(a))
        spec, (first, second) = lmc.spec(a), map(state, alignment.models)
        distance = sum(float((first[n] - second[n]).square().sum()) for n in spec.rules) ** 0.5
        size = sum(float(first[n].square().sum()) for n in spec.rules) ** 0.5
        assert distance <= 1e-4 * size
        inputs = pico.inputs(a)
        expected = pico.logits(a, inputs)
        assert (pico.logits(alignment.merge(0.5), inputs) - expected).abs().max() <= 1e-3 * expected.abs().max()
        found = alignment.transforms[1].elements
        for space in spec.spaces:
            if isinstance(space.group, Permutation):
                assert torch.equal(found[space.name], g.inverse().elements[space.name]), space.name


@pytest.mark.parametrize("make", [pico.neox, pico.vit])
def test_objective_never_falls_and_converges(make):
    a, b = canonical(make(seed=0)), canonical(make(seed=1))
    spec = lmc.spec(a)
    inputs = pico.inputs(a, n=32)
    for pieces in (weight_pieces(state(a), state(b), spec), activation_pieces(a, b, spec, Data(inputs))):
        solution = solve(spec, pieces)
        steps = torch.tensor(solution.objective).diff()
        assert (steps >= -1e-9 * abs(solution.objective[-1])).all()
        assert solution.converged
        assert solution.objective[-1] > 1.2 * float(sum((p.a * p.b).sum() for p in pieces))


def test_objective_is_what_the_transform_achieves():
    """The solver's last objective is ⟨θ_A, g·θ_B⟩ recomputed from scratch with its transform."""
    a, b = canonical(pico.neox(seed=0)), canonical(pico.neox(seed=1))
    spec = lmc.spec(a)
    solution = solve(spec, weight_pieces(state(a), state(b), spec))
    again = weight_pieces(state(a), state(solution.transform.apply(b)), spec)
    assert float(sum((p.a * p.b).sum() for p in again)) == pytest.approx(solution.objective[-1], rel=1e-9)


def test_matched_weights_are_a_local_optimum():
    """No small step inside the compact group brings B closer to A."""
    a, b = canonical(pico.neox(seed=0)), canonical(pico.neox(seed=1))
    spec = lmc.spec(a)
    found = solve(spec, weight_pieces(state(a), state(b), spec)).transform

    def objective(t):
        return float(sum((p.a * p.b).sum() for p in weight_pieces(state(a), state(t.apply(b)), spec)))

    best = objective(found)
    generator = torch.Generator().manual_seed(0)
    for space in spec.spaces:
        if not space.group.discrete and space.name != "scale":
            omega = torch.randn(
                *spec.batch(space), space.group.n, space.group.n, generator=generator, dtype=torch.float64
            )
            omega = space.group.tangent(omega - omega.mT)
            step = {**lmc.Transform.identity(spec).elements, space.name: space.group.exp(0.05 * omega)}
            assert objective(lmc.Transform(spec, step) @ found) < best, space.name


def test_three_models_align_to_the_first():
    a, b, _ = planted("neox", 0)
    _, c, _ = planted("neox", 1)
    alignment = lmc.match([a, b, c], method="weights")
    inputs = pico.inputs(a)
    expected = pico.logits(a, inputs)
    merged = pico.logits(alignment.merge([0.2, 0.3, 0.5]), inputs)
    assert (merged - expected).abs().max() <= 1e-3 * expected.abs().max()


def test_endpoints_of_another_scale_meet():
    """A parent whose ε differs by a residual scale is brought to the first one's ε, and the merge carries it."""
    a, b, g = planted("neox", 3)
    assert g.scale != pytest.approx(1, abs=1e-3)
    alignment = lmc.match(a, b, method="weights")
    epsilons = [m.config.layer_norm_eps for m in (*alignment.models, alignment.merge(0.3))]
    assert epsilons == pytest.approx([a.config.layer_norm_eps] * 3, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"method": "procrustes"}, "method: expected one of"),
        ({"method": "dual"}, "data: method dual needs some"),
        ({"method": "activations", "data": "text"}, "data: expected token ids"),
        ({"method": "dual", "data": torch.full((2, 8), 10**6)}, r"token ids in \[0, 40\)"),
        ({"method": "dual", "data": torch.zeros(2, 1, dtype=torch.int64)}, "two tokens"),
        ({"method": "dual", "data": torch.zeros(2, 8)}, "int64"),
    ],
)
def test_bad_arguments_get_one_line(arguments, complaint):
    a, b = pico.neox(seed=0, dtype=torch.float32), pico.neox(seed=1, dtype=torch.float32)
    with pytest.raises(lmc.LmcError, match=complaint) as caught:
        lmc.match(a, b, **arguments)
    assert "\n" not in str(caught.value)


def test_one_model_is_not_enough():
    with pytest.raises(lmc.ArgumentError, match="at least two"):
        lmc.match(pico.neox(), method="weights")


def test_parents_are_not_touched():
    a, b = pico.neox(seed=0, dtype=torch.float32), pico.neox(seed=1, dtype=torch.float32)
    before = [{n: t.clone() for n, t in state(m).items()} for m in (a, b)]
    lmc.match(a, b, method="dual", data=pico.inputs(a, n=8), steps=2).merge(0.5)
    for model, kept in zip((a, b), before, strict=True):
        assert all(torch.equal(t, kept[n]) for n, t in state(model).items())
