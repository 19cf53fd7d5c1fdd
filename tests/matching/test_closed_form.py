"""Closed-form matching: planted symmetries are found exactly, and the objective never falls."""

import re
import warnings

import pico
import pytest
import torch
from torch import Tensor

import lmc
from lmc import corpora
from lmc.errors import ArgumentError
from lmc.evaluation.loss import Data
from lmc.files import progress
from lmc.matching import descent, solver
from lmc.matching.activations import CrossCovariance, activation_pieces
from lmc.matching.methods import Endpoints
from lmc.matching.recipe import CLOSED_FORM
from lmc.matching.solver import parts_of, solve
from lmc.matching.weights import match_weights, weight_pieces
from lmc.symmetries.groups import Permutation
from lmc.symmetries.stock_model import state
from lmc.symmetries.transform import Transform

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
        solution = solve(spec, parts_of(spec, pieces))
        steps = torch.tensor(solution.objective).diff()
        assert (steps >= -1e-9 * abs(solution.objective[-1])).all()
        assert solution.converged
        assert solution.objective[-1] > 1.2 * float(sum((p.a * p.b).sum() for p in pieces))


def test_the_bound_is_reached_by_a_planted_pair_alone():
    """A transform of A: one start without a sweep, at cosine 1. Another model: below it."""
    a, b, _ = planted("neox", 0)
    record = lmc.match(a, b, method="weights").record
    assert record["sweeps"] == [0]
    assert record["cosines"][0][-1] == pytest.approx(1, abs=1e-6)
    record = lmc.match(a, canonical(pico.neox(seed=1, dtype=torch.float32)), method="weights").record
    (cosines,) = record["cosines"]
    assert len(cosines) == record["sweeps"][0] + 1
    assert cosines == sorted(cosines)
    assert cosines[-1] < 0.95


@pytest.mark.parametrize("make", [pico.neox, pico.vit, pico.olmo2])
def test_an_aligned_pair_is_left_alone(make):
    """Matching A with g·B, where g matched them before, finds the identity, exactly."""
    a, b = canonical(make(seed=0)), canonical(make(seed=1))
    spec = lmc.spec(a)
    once = match_weights(state(a), state(b), spec)
    twice = match_weights(state(a), state(once.transform.apply(b)), spec)
    assert once.converged
    for name, element in lmc.Transform.identity(spec).elements.items():
        assert torch.equal(twice.transform.elements[name], element), name


def test_running_statistics_need_the_same_memory_for_any_number_of_samples():
    """What is kept for a tap of n units is n² + 4n numbers, whatever was seen."""
    running = CrossCovariance(6)
    for samples in (1, 10, 1000):
        running.add(torch.randn(samples, 6), torch.randn(samples, 6))
        kept = sum(t.numel() for t in vars(running).values() if isinstance(t, torch.Tensor))
        assert kept == 6 * 6 + 4 * 6


@pytest.mark.parametrize("make", [pico.neox, pico.llama, pico.mixtral])
def test_objective_is_what_the_transform_achieves(make):
    """The solver's last objective is ⟨θ_A, g·θ_B⟩ recomputed from scratch with its transform, and it never fell."""
    a, b = canonical(make(seed=0)), canonical(make(seed=1))
    spec = lmc.spec(a)
    solution = match_weights(state(a), state(b), spec)
    assert min(torch.tensor(solution.objective, dtype=torch.float64).diff()) >= -1e-9 * solution.objective[-1]
    again = weight_pieces(state(a), state(solution.transform.apply(b)), spec)
    assert float(sum((p.a * p.b).sum() for p in again)) == pytest.approx(solution.objective[-1], rel=1e-9)


@pytest.mark.parametrize("make", [pico.qwen3, pico.olmo2, pico.mixtral])
def test_a_deeper_model_is_matched_by_activations_too(make):
    """What no tap shows is compared by weights; those of a layer that was added are zeros."""
    small, large = make(0, torch.float32), make(1, torch.float32, num_hidden_layers=3)
    data = pico.inputs(large, n=8)
    with pytest.warns(UserWarning, match="is smaller than model 2"):
        alignment = lmc.match(small, large, method="activations", data=data)
    assert alignment.end_error(0) <= 1e-4 and "nan" not in str(alignment.record).lower()
    assert all(e.isfinite().all() for t in alignment.transforms for e in t.elements.values())


def test_dear_sweeps_end_when_a_gain_is_small(monkeypatch):
    """Then one start is descended, as long as a sweep gains what a loss shows; cheap ones go on to the last digit."""
    a, b = (canonical(pico.neox(seed=seed)) for seed in (0, 1))
    full = match_weights(state(a), state(b), lmc.spec(a))
    monkeypatch.setattr(solver, "CHEAP", 0)
    monkeypatch.setattr(solver, "ONE_START", 0)
    short = match_weights(state(a), state(b), lmc.spec(a))
    gains = torch.tensor(short.objective, dtype=torch.float64).diff() / short.bound
    assert len(short.objective) < len(full.objective)
    assert (gains[:-1] > solver.VISIBLE).all() and gains[-1] <= solver.VISIBLE
    assert full.converged and not short.converged


def test_a_log_is_told_how_far_long_work_is(monkeypatch, capsys):
    """A line for every sweep and every check that takes longer than a moment, where no terminal shows a bar."""
    a, b = (pico.neox(seed=seed, dtype=torch.float32) for seed in (0, 1))
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    monkeypatch.setattr(descent, "EVERY", 2)
    lmc.match(a, b, method="dual", data=pico.inputs(a, n=8), steps=4, batch=4)
    told = capsys.readouterr().err.splitlines()
    swept = [
        line for line in told[:-2] if re.fullmatch(r"matching: start [12], sweep \d+ took \d+ s, cosine 0\.\d{4}", line)
    ]
    parts = [
        line
        for line in told
        if re.fullmatch(r"matching: start [12], sweep \d+(, cosine 0\.\d{4})?: \d+%, \d+ s left", line)
    ]
    assert swept and parts and len(swept) + len(parts) == len(told) - 2
    assert re.fullmatch(r"learning: step 2 of 4, loss \d\.\d{4}, \d+ s left", told[-2]) and len(told) > 4
    monkeypatch.setattr(progress, "SILENCE", 60.0)
    lmc.match(a, b, method="dual", data=pico.inputs(a, n=8), steps=4, batch=4)
    assert capsys.readouterr().err == ""


def test_matched_weights_are_a_local_optimum():
    """No small step inside the compact group brings B closer to A."""
    a, b = canonical(pico.neox(seed=0)), canonical(pico.neox(seed=1))
    spec = lmc.spec(a)
    found = match_weights(state(a), state(b), spec).transform

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


@pytest.mark.parametrize("make", [pico.neox, pico.vit])
def test_a_vector_common_to_all_rows_of_the_head_is_not_seen(make):
    """It moves all logits by the same amount, which softmax ignores: the weights to compare are the same."""
    a, b = canonical(make(seed=0)), canonical(make(seed=1))
    spec, shifted = lmc.spec(a), dict(state(b))
    for name in spec.logits:
        shifted[name] = shifted[name] + torch.linspace(-1, 2, shifted[name][0].numel()).view_as(shifted[name][0])
    plain, moved = (match_weights(state(a), b, spec) for b in (state(b), shifted))
    assert moved.objective[-1] == pytest.approx(plain.objective[-1], rel=1e-9)
    for name, element in plain.transform.elements.items():
        assert torch.allclose(moved.transform.elements[name], element, rtol=0, atol=1e-6), name


def test_cross_covariance_leaves_means_out():
    """And is relative to both variances: a constant added to an activation, or its scale, tells nothing of units."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 50, 4, generator=generator, dtype=torch.float64)
    running = CrossCovariance(4)
    for part in (slice(20), slice(20, 50)):
        running.add(3 * x[part] + torch.arange(1, 5), y[part] - 2)
    dx, dy = x - x.mean(0), y - y.mean(0)
    torch.testing.assert_close(running.normalised(), dx.mT @ dy / (dx.norm() * dy.norm()))


@pytest.mark.parametrize("chosen", [None, *CLOSED_FORM])
def test_learning_starts_from_weights_or_where_it_is_told(chosen, monkeypatch):
    """Nothing else is solved."""
    a, b, _ = planted("vit", 0)
    solve_by, solved = Endpoints.solve, []

    def noted(self, method, *others):
        solved.append(method)
        return solve_by(self, method, *others)

    monkeypatch.setattr(Endpoints, "solve", noted)
    inputs = pico.inputs(a, n=32)
    data = (inputs, pico.logits(a, inputs).argmax(-1))
    record = lmc.match(a, b, method="dual", data=data, steps=1, start=chosen).record
    assert [record["start"]] == solved == [chosen or "weights"]


@pytest.mark.parametrize("better", CLOSED_FORM)
def test_the_better_closed_form_may_be_asked_for(better, monkeypatch):
    """Either is exact on a planted pair; when the other one finds nothing, learning starts from the exact one."""
    a, b, _ = planted("vit", 0)
    solve_by = Endpoints.solve

    def only(self, method, samples, seed, frequencies=None):
        return solve_by(self, method, samples, seed, frequencies) if method == better else (self.gauge, {})

    monkeypatch.setattr(Endpoints, "solve", only)
    inputs = pico.inputs(a, n=32)
    data = (inputs, pico.logits(a, inputs).argmax(-1))
    record = lmc.match(a, b, method="dual", data=data, steps=1, start="better").record
    assert record["start"] == better


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
        ({"method": "dual"}, "data: the method dual needs some, found none"),
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


def test_a_start_from_other_models_is_refused():
    a, b, c = (pico.neox(seed=k, dtype=torch.float32) for k in range(3))
    data = pico.inputs(a, n=8)
    again = [pico.neox(seed=k, dtype=torch.float32) for k in range(2)]  # the same weights in other objects
    lmc.match(a, b, method="dual", data=data, steps=1, start=lmc.match(again, method="canonical"))
    for start in (lmc.match(a, c, method="canonical"), lmc.match(a, b, c, method="canonical"), "aligned"):
        with pytest.raises(lmc.ArgumentError, match="start: expected an alignment") as caught:
            lmc.match(a, b, method="dual", data=data, steps=1, start=start)
        assert "\n" not in str(caught.value)


def test_learning_cannot_begin_from_an_average_of_models_as_they_are():
    a, b = (pico.neox(seed=k, dtype=torch.float32) for k in range(2))
    with pytest.raises(lmc.ArgumentError, match=r"start: expected .* learned from, found naive; take canonical"):
        lmc.match(a, b, method="dual", data=pico.inputs(a, n=8), steps=1, start=lmc.match(a, b, method="naive"))


def test_what_was_read_is_kept_whoever_calls():
    a, b = (pico.neox(seed=k, dtype=torch.float32) for k in range(2))
    first, second = pico.inputs(a, n=24).split(12)
    begun = lmc.match(a, b, method="activations", data=first)
    learned = lmc.match(a, b, method="dual", data=[second], steps=1, start=begun)
    known = [alignment.record["read"] for alignment in (begun, learned)]
    assert [corpora.share(first, sketch) for sketch in known] == [1.0, 1.0]
    assert corpora.share(second, known[0]) < 0.5 and corpora.share(second, known[1]) == 1.0
    assert "read" not in lmc.match(a, b, method="weights", data=first).record


def test_one_model_is_not_enough():
    with pytest.raises(lmc.ArgumentError, match="at least two"):
        lmc.match(pico.neox(), method="weights")
    with pytest.raises(lmc.ArgumentError, match="models: expected stock models, found int"):
        lmc.match(pico.neox(), 3, method="weights")


def test_parents_are_not_touched():
    a, b = pico.neox(seed=0, dtype=torch.float32), pico.neox(seed=1, dtype=torch.float32)
    before = [{n: t.clone() for n, t in state(m).items()} for m in (a, b)]
    lmc.match(a, b, method="dual", data=pico.inputs(a, n=8), steps=2).merge(0.5)
    for model, kept in zip((a, b), before, strict=True):
        assert all(torch.equal(t, kept[n]) for n, t in state(model).items())


def test_rows_of_the_embedding_count_by_their_tokens() -> None:
    """A planted symmetry is found as well; rows that no token asks for may be anything."""
    a = lmc.canonicalize(pico.neox(0))
    spec = lmc.spec(a)
    planted = lmc.canonicalize(Transform.random(spec, seed=1).apply(a))
    b = {name: t.clone() for name, t in state(planted).items()}
    unread, generator = slice(30, 40), torch.Generator().manual_seed(0)
    b["gpt_neox.embed_in.weight"][unread] += 10 * torch.randn(10, 16, generator=generator, dtype=torch.float64)
    counts = torch.arange(1.0, 41.0)
    counts[unread] = 0
    found = match_weights(state(a), b, spec, counts)
    assert found.converged and found.objective[-1] == pytest.approx(found.bound, rel=1e-9)
    plain = match_weights(state(a), b, spec)
    assert plain.objective[-1] < 0.999 * plain.bound
    pieces = [weight_pieces(state(a), b, spec, ["gpt_neox.embed_in.weight"], f)[0] for f in (None, torch.ones(40))]
    assert torch.equal(pieces[0].a, pieces[1].a)


@pytest.mark.parametrize(
    ("frequencies", "method", "message"),
    [
        (torch.ones(39), "weights", r"frequencies: expected shape \[40\], found \[39\]"),
        (torch.zeros(40), "weights", "frequencies: expected counts"),
        (-torch.ones(40), "weights", "frequencies: expected counts"),
        (torch.ones(40), "canonical", "frequencies: expected the method weights"),
    ],
)
def test_counts_of_tokens_must_fit(frequencies: Tensor, method: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        lmc.match(pico.neox(0), pico.neox(1), method=method, frequencies=frequencies)


def test_a_long_sweep_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep, the cosine that is reached, and a bar of the parts, which knows the time that is left."""
    shown: list[tuple[int, str]] = []

    def bar(parts, count, text, hidden):
        shown.append((count, text))
        return parts

    monkeypatch.setattr("lmc.matching.solver.watched", bar)
    lmc.match(*(pico.llama(k, torch.float32) for k in range(2)), method="weights")
    parts, texts = (set(column) for column in zip(*shown, strict=True))
    assert len(parts) == 1 and min(parts) > 1
    assert any(re.fullmatch(r"matching: start [12], sweep 2, cosine 0\.\d{4}", text) for text in texts)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": 2**63}, "seed: expected a whole number in"),
        ({"seed": -1}, "seed: expected a whole number in"),
        ({"device": "nonsense"}, "device: 'nonsense' cannot be used here"),
        ({"device": "meta"}, "device: 'meta' cannot be used here"),
        ({"frequencies": [1.0]}, "frequencies: expected a tensor, found list"),
        ({"method": "dual", "steps": 2.5}, "steps: expected a whole number of at least 1, found 2.5"),
        ({"method": "dual", "batch": 2.5}, "batch: expected a whole number of at least 1, found 2.5"),
        ({"method": "dual", "lambdas": (0.5,)}, "lambdas: expected 0 ≤ low ≤ high ≤ 1, or 'highest', found"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(given, message):
    a, b = pico.neox(0), pico.neox(1)
    data = torch.zeros(4, 8, dtype=torch.int64)
    with pytest.raises(lmc.LmcError, match=message):
        lmc.match(a, b, **{"method": "weights", "data": data} | given)


def test_autocast_around_it_changes_nothing():
    a, b = pico.neox(0), pico.neox(1)
    data = torch.randint(32, (8, 8), generator=torch.Generator().manual_seed(0))
    for method in ("weights", "dual"):
        expected = lmc.match(a, b, method=method, data=data, steps=2)
        with torch.autocast("cpu", torch.bfloat16):
            found = lmc.match(a, b, method=method, data=data, steps=2)
        for one, other in zip(expected.transforms, found.transforms, strict=True):
            assert all(torch.equal(element, other.elements[name]) for name, element in one.elements.items())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_averaging_as_they_are_refuses_what_is_not_finite(bad):
    a, b = pico.neox(0), pico.neox(1)
    with torch.no_grad():
        b.get_input_embeddings().weight[3, 2] = bad
    with pytest.raises(lmc.LmcError, match=r"model 2: tensor gpt_neox\.embed_in\.weight: "):
        lmc.match(a, b, method="naive")
