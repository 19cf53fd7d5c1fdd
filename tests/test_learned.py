"""Learned matching: its gradients, the identity that makes dual and single one problem, determinism and resuming."""

import pico
import pytest
import torch

import lmc
from lmc.matching.learned import Learner, Recipe
from lmc.models import epsilon, rebuild, state
from lmc.objective import Data, evaluate
from lmc.transform import Transform, compose

KINDS = {"neox": ("stream", "scale", "value", "plane", "pass"), "vit": ("stream", "value", "qk")}


def data_for(model, n=8):
    inputs = pico.inputs(model, n=n, seed=3)
    return Data(inputs) if inputs.dtype == torch.int64 else Data(inputs, torch.arange(n) % model.num_classes)


def learner(family, dtype=torch.float64, count=2, **recipe):
    """A learner half way between random transforms, ε large enough to matter."""
    make = getattr(pico, family)
    extra = {"layer_norm_eps": 1e-2} if family == "neox" else {}
    models = [lmc.canonicalize(make(seed=k, dtype=dtype, **extra)) for k in range(count)]
    spec = lmc.spec(models[0])
    start = [Transform.random(spec, seed=k) for k in range(count)]
    states = [{n: t.clone() for n, t in state(m).items()} for m in models]
    roots = [epsilon(m, spec) ** 0.5 if spec.epsilon else 0.0 for m in models]
    work = rebuild(models[0], spec, states[0])
    made = Learner(spec, work, states, roots, start, range(count), Recipe(kinds=KINDS[family], **recipe), seed=0)
    return made, data_for(models[0])


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("count", [2, 3])
def test_gradients_match_finite_differences(family, count):
    made, data = learner(family, count=count)
    before = [dict(e) for e in made.elements]
    with lmc.float64():
        _, gradients = made.gradients(data)
    generator = torch.Generator().manual_seed(0)
    for k in range(count):
        for space in made.spaces:
            omega = torch.randn(gradients[k][space.name].shape, generator=generator, dtype=torch.float64)
            omega = space.group.tangent(omega)

            def loss(t, k=k, space=space, omega=omega):
                made.elements[k] = compose(made.spec, {space.name: space.group.exp(t * omega)}, before[k])
                with lmc.float64():
                    value = made.gradients(data)[0]
                made.elements[k] = dict(before[k])
                return value

            h = 1e-5  # in double precision: the difference is off by h² and by 1e-16 / h, both far below 1e-7
            numeric = (loss(h) - loss(-h)) / (2 * h)
            exact = float((gradients[k][space.name] * omega).sum())
            size = float(gradients[k][space.name].norm() * omega.norm())
            assert abs(numeric - exact) <= 1e-7 * size, (space.name, k, numeric, exact)


def test_rate_warms_up_and_falls_to_zero_as_a_cosine():
    made, _ = learner("vit", steps=100, lr=0.1, warmup=10)
    rates = []
    for made.step in range(1, 101):  # the step that is being taken, counted from one
        rates.append(made._rate())
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert 0.095 < max(rates) < 0.1
    assert rates[49] == pytest.approx(0.05, rel=0.02)  # half way
    assert 0 < rates[-1] < 1e-4


@pytest.mark.parametrize("family", KINDS)
def test_gradients_of_the_endpoints_are_opposite(family):
    """∇_A L = −∇_B L (METHOD §3 corollary), with both pulled back, not one derived from the other."""
    made, data = learner(family)
    w = made.weights()
    with lmc.float64():
        made.gradients(data)
    moved = made._materialise(w)
    a, b = (made._pull_back(k, w, moved[k]) for k in (0, 1))
    for name in a:
        assert (a[name] + b[name]).norm() <= 1e-10 * a[name].norm(), name


@pytest.mark.parametrize("family", KINDS)
def test_two_transforms_reach_no_more_than_one(family):
    """The line between g_A·A and g_B·B has the losses of the line between A and g_A⁻¹g_B·B (METHOD §3 proposition)."""
    a, b = (lmc.canonicalize(getattr(pico, family)(seed=k, dtype=torch.float32)) for k in (0, 1))
    spec = lmc.spec(a)
    g = [Transform.random(spec, seed=k) for k in (0, 1)]
    data = data_for(a, n=32)

    def losses(transforms):
        alignment = lmc.Alignment("dual", (a, b), transforms, {})
        return torch.stack([evaluate(alignment.merge(lam), data)[0].mean() for lam in (0.0, 0.2, 0.5, 0.9, 1.0)])

    both, one = losses(tuple(g)), losses((Transform.identity(spec), g[0].inverse() @ g[1]))
    assert (both - one).abs().max() <= 1e-5 * both.abs().max()
    naive = losses((Transform.identity(spec), Transform.identity(spec)))
    assert (both - naive).abs().max() >= 1e-3  # the transforms do change what lies between


def test_dual_is_single_at_twice_the_rate():
    """To first order in the learning rate, dual at η walks the same losses as single at 2η."""
    a, b = (pico.vit(seed=k, dtype=torch.float32) for k in (0, 1))
    data = data_for(a, n=64)
    pair = (data.inputs, data.labels)
    start = lmc.match(a, b, method="weights")

    def log(method, rate):
        found = lmc.match(a, b, method=method, data=pair, steps=15, lr=rate, batch=32, start=start)
        return torch.tensor([entry["loss"] for entry in found.log])

    dual, single, other = log("dual", 2e-3), log("single", 4e-3), log("single", 2e-3)
    assert (dual - single).abs().max() < 0.1 * (dual - other).abs().max()


def test_learning_lowers_the_loss_and_keeps_the_endpoints():
    a, b = (pico.neox(seed=k, dtype=torch.float32) for k in (0, 1))
    tokens = pico.inputs(a, n=64, seed=1) % 7  # something to learn: few tokens occur
    start = lmc.match(a, b, method="weights")
    learned = lmc.match(a, b, method="dual", data=tokens, steps=60, lr=2e-2, start=start)
    data = Data(tokens)
    before, after = (float(evaluate(x.merge(0.5), data)[0].mean()) for x in (start, learned))
    assert after < before - 0.05
    for parent, aligned in zip((a, b), learned.models, strict=True):
        inputs = pico.inputs(a)
        expected = pico.logits(parent, inputs)
        assert (pico.logits(aligned, inputs) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_same_seed_same_transforms_and_another_seed_not():
    a, b = (pico.vit(seed=k, dtype=torch.float32) for k in (0, 1))
    data = data_for(a, n=16)
    first, again, other = (
        lmc.match(a, b, method="dual", data=(data.inputs, data.labels), steps=3, batch=4, seed=s).transforms[1]
        for s in (0, 0, 1)
    )
    assert all(torch.equal(first.elements[n], again.elements[n]) for n in first.elements)
    assert not torch.equal(first.elements["stream"], other.elements["stream"])


def test_an_interrupted_run_continues_bit_for_bit(tmp_path, monkeypatch):
    a, b = (pico.neox(seed=k, dtype=torch.float32) for k in (0, 1))
    tokens = pico.inputs(a, n=16)
    monkeypatch.setattr("lmc.matching.SAVE_EVERY", 4)
    whole = lmc.match(a, b, method="dual", data=tokens, steps=9, batch=4)

    advance = Learner.advance

    def stop_at_six(self, data):
        if self.step == 6:
            raise KeyboardInterrupt
        return advance(self, data)

    monkeypatch.setattr(Learner, "advance", stop_at_six)
    with pytest.raises(KeyboardInterrupt):
        lmc.match(a, b, method="dual", data=tokens, steps=9, batch=4, resume=tmp_path / "run")
    monkeypatch.setattr(Learner, "advance", advance)
    resumed = lmc.match(a, b, method="dual", data=tokens, steps=9, batch=4, resume=tmp_path / "run")
    assert resumed.log == whole.log
    for mine, theirs in zip(resumed.transforms, whole.transforms, strict=True):
        assert all(torch.equal(mine.elements[n], theirs.elements[n]) for n in mine.elements)
    with pytest.raises(lmc.CheckpointError, match="other settings"):
        lmc.match(a, b, method="dual", data=tokens, steps=10, batch=4, resume=tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_run():
    made, data = learner("vit", lr=0.25)
    made.advance(data)
    with pytest.raises(lmc.DivergedError, match=r"loss is nan at step 1: lower the learning rate \(0\.25\)"):
        made.advance(Data(torch.full_like(data.inputs, float("nan")), data.labels))
