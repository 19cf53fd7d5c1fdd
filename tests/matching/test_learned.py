"""Learned matching: its gradients, the identity that makes dual and single one problem, determinism and resuming."""

import copy
import gc
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pico
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lmc
from lmc.errors import ArgumentError
from lmc.evaluation.loss import Data, evaluate, losses
from lmc.matching import descent, learned, methods
from lmc.matching.learned import Learner
from lmc.matching.recipe import Recipe, default_rate
from lmc.symmetries.stock_model import recompute_activations
from lmc.symmetries.transform import Transform, compose, moved_by

LAYERS = ("GPTNeoXLayer", "GPT2Block", "LlamaDecoderLayer", "Block", "ViTLayer")
OTHERS = ("gpt2", "llama", "gemma2", "opt", "mixtral", "hf_vit", "dinov2")  # whose tables have other patterns
KINDS = {"neox": ("stream", "scale", "value", "plane", "pass"), "vit": ("stream", "value", "qk")}


def data_for(model, n=8):
    inputs = pico.inputs(model, n=n, seed=3)
    if inputs.dtype == torch.int64:
        return Data(inputs)
    return Data(inputs, torch.arange(n) % (model.config.num_labels if hasattr(model, "config") else model.num_classes))


def learner(family, dtype=torch.float64, count=2, **recipe):
    """A learner half way between random transforms, ε large enough to matter."""
    make = getattr(pico, family)
    extra = {"layer_norm_eps": 1e-2} if family == "neox" else {}
    models = [lmc.canonicalize(make(seed=k, dtype=dtype, **extra)) for k in range(count)]
    spec = lmc.spec(models[0])
    start = [Transform.random(spec, seed=k) for k in range(count)]
    chosen = Recipe(kinds=KINDS.get(family), **recipe)
    return Learner.of(models, start, range(count), chosen, seed=0, dtype=dtype), data_for(models[0])


@pytest.mark.parametrize("family", [*KINDS, *OTHERS])
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
    recipe = Recipe(steps=100, lr=0.1, warmup=10)
    rates = [recipe.rate(step) for step in range(1, 101)]
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
    frame = made.materialise(w, data)
    (b,) = made.pull_back(w, frame)
    for space in made.spaces:
        a = torch.zeros_like(b[space.name])
        for name, parameter in made.parameters.items():
            a += made.contract(space, name, parameter.grad, float(w[0]) * made.states[0][name])
            if space.name == "scale":
                a -= (
                    float(w[0]) * frame.roots[0] / frame.root(w) * made.contract(space, name, parameter.grad, parameter)
                )
        one, other = space.group.tangent(a), space.group.tangent(b[space.name])
        assert (one + other).norm() <= 1e-10 * one.norm(), space.name


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


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_learning_inside_a_block_without_gradients_is_the_same(around):
    models = [pico.neox(seed) for seed in (0, 1)]
    data = torch.randint(32, (8, 8), generator=torch.Generator().manual_seed(0))
    expected = lmc.match(models, method="dual", data=data, steps=3)
    with around():
        found = lmc.match(models, method="dual", data=data, steps=3)
        assert torch.is_inference_mode_enabled() == (around is torch.inference_mode)
        assert not torch.is_grad_enabled()
    for one, other in zip(expected.transforms, found.transforms, strict=True):
        assert all(torch.equal(element, other.elements[name]) for name, element in one.elements.items())
    assert lmc.path(found, data, grid=3).losses == lmc.path(expected, data, grid=3).losses


def test_an_interrupted_run_continues_bit_for_bit(tmp_path, monkeypatch):
    a, b = (pico.neox(seed=k, dtype=torch.float32) for k in (0, 1))
    tokens = pico.inputs(a, n=16)
    monkeypatch.setattr(descent, "EVERY", 4)
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


def test_a_start_may_be_of_another_type() -> None:
    """The models are the same where they hold the same numbers."""
    models = [pico.neox(k, torch.float32) for k in range(2)]
    start = lmc.match(*models, method="weights")
    wide = [copy.deepcopy(model).double() for model in models]
    given = {"method": "dual", "data": pico.inputs(wide[0], n=8), "steps": 1, "batch": 4}
    assert lmc.match(*wide, start=start, **given).record["start"] == "weights"
    with torch.no_grad():
        next(wide[1].parameters()).view(-1)[0] += 1e-9
    with pytest.raises(ArgumentError, match="start: expected an alignment of the same 2 models, found one of others"):
        lmc.match(*wide, start=start, **given)


def test_choices_may_be_numbers_of_other_libraries(tmp_path: Path) -> None:
    """Data may come one batch after the other, too, and serves for every endpoint that is written."""
    a, b = (pico.neox(k, torch.float32) for k in range(2))
    given = {name: np.int64(value) for name, value in (("steps", 2), ("batch", 4), ("accumulate", 2), ("seed", 3))}
    found = lmc.match(a, b, data=pico.inputs(a, n=16), lr=torch.tensor(0.01), patience=np.int32(9), **given)
    found.save(tmp_path / "aligned")
    record = lmc.Alignment.load(tmp_path / "aligned").record
    assert {name: record[name] for name in given} == {"steps": 2, "batch": 4, "accumulate": 2, "seed": 3}
    held_out = (batch for batch in pico.inputs(a, n=8, seed=1).split(4))
    assert len(found.export(tmp_path / "models", dtype=torch.bfloat16, data=held_out)) == 2


@pytest.mark.parametrize("start", ["weights", "better"])
def test_the_start_of_an_interrupted_run_is_not_found_again(start, tmp_path, monkeypatch):
    """With another number of threads its last bits would be others, and the run would be taken for another one."""
    a, b = (pico.neox(seed=k, dtype=torch.float32) for k in (0, 1))
    given = {"method": "dual", "data": pico.inputs(a, n=16), "steps": 4, "batch": 4, "start": start}
    whole = lmc.match(a, b, **given)

    def stop(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Learner, "advance", stop)
        lmc.match(a, b, **given, resume=tmp_path / "run")
    monkeypatch.setattr(methods.Endpoints, "solve", stop)
    resumed = lmc.match(a, b, **given, resume=tmp_path / "run")
    assert resumed.record == whole.record and resumed.log == whole.log
    with pytest.raises(lmc.CheckpointError, match=r"run with other settings \(start\)"):
        lmc.match(a, b, **given | {"start": "canonical"}, resume=tmp_path / "run")


SPOILED = {
    "a map tripled": lambda tensors: {name: 3 * t if "elements" in name else t for name, t in tensors.items()},
    "moments negated": lambda tensors: {name: -t if "second" in name else t for name, t in tensors.items()},
    "no losses": lambda tensors: {name: t for name, t in tensors.items() if name != "losses"},
    "fewer losses": lambda tensors: tensors | {"losses": tensors["losses"][:-1]},
    "another file": lambda tensors: {"x": torch.zeros(2)},
}


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """A run that was interrupted after its first check, and what it was begun with."""
    models = [pico.neox(seed=k, dtype=torch.float32) for k in (0, 1)]
    choices = {"method": "dual", "data": pico.inputs(models[0], n=8), "steps": 4, "batch": 2, "start": "canonical"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(descent, "EVERY", 2)
        save = Learner.save

        def stop(self, path):
            save(self, path)
            raise KeyboardInterrupt

        patch.setattr(Learner, "save", stop)
        folder = tmp_path_factory.mktemp("unfinished") / "run"
        with pytest.raises(KeyboardInterrupt):
            lmc.match(*models, **choices, resume=folder)
    return models, choices, folder


@pytest.mark.parametrize("how", SPOILED)
def test_a_state_that_has_changed_is_not_continued(unfinished, how, tmp_path):
    models, choices, folder = unfinished
    shutil.copytree(folder, run := tmp_path / "run")
    with safe_open(run / "state.safetensors", "pt") as file:
        before = file.metadata()
    save_file(SPOILED[how](load_file(run / "state.safetensors")), run / "state.safetensors", metadata=before)
    with pytest.raises(
        lmc.CheckpointError, match=r"state\.safetensors: expected the state as this run wrote it, found"
    ):
        lmc.match(*models, **choices, resume=run)


def test_a_state_of_another_run_is_not_continued(unfinished, tmp_path):
    models, choices, folder = unfinished
    shutil.copytree(folder, run := tmp_path / "run")
    plain = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(plain | {"seed": 1}))
    with pytest.raises(lmc.CheckpointError, match="expected the state as this run wrote it"):
        lmc.match(*models, **choices, resume=run, seed=1)
    with pytest.raises(
        lmc.CheckpointError, match=r"run with other settings \(data, recipe\.batch, seed\); continue it with"
    ):
        lmc.match(*models, **choices | {"batch": 1, "data": choices["data"][1:]}, resume=folder, seed=2)


def test_a_run_whose_parents_compute_something_else_now_is_not_continued(unfinished):
    """The same weights at other angles of their positions."""
    models, choices, folder = unfinished
    others = []
    for model in models:
        config = copy.deepcopy(model.config)
        config.rope_parameters["rope_theta"] = 99.0
        others.append(type(model)(config).to(model.dtype).eval())
        others[-1].load_state_dict(model.state_dict())
    with pytest.raises(lmc.CheckpointError, match=r"run with other settings \(functions\)"):
        lmc.match(*others, **choices, resume=folder)


def test_a_loss_that_is_not_finite_stops_the_run():
    made, data = learner("vit", lr=0.25)
    made.advance(data)
    with pytest.raises(lmc.DivergedError, match=r"loss is nan at step 1: lower the learning rate \(0\.25\)"):
        made.advance(Data(torch.full_like(data.inputs, float("nan")), data.labels))


def test_parts_of_a_batch_add_up_to_the_batch():
    """`accumulate` changes what is held at once, not what is learned: gradients agree up to rounding."""
    made, data = learner("vit")
    with lmc.float64():
        whole, together = made.gradients(data)
        made.recipe = replace(made.recipe, accumulate=3)  # 8 images: parts of 3, 3 and 2
        parts, found = made.gradients(data)
    assert parts == pytest.approx(whole, rel=1e-12)
    for one, other in zip(together, found, strict=True):
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [pico.neox, pico.gpt2, pico.llama, pico.vit, pico.hf_vit], ids=lambda m: m.__name__)
def test_checkpointing_recomputes_activations_and_nothing_else(make):
    """The stock mechanism is really on (every layer runs twice), dropout stays off, gradients are the same."""
    model = make(dtype=torch.float64)
    data = data_for(model) if make is not pico.hf_vit else Data(pico.inputs(model, n=4), torch.arange(4))
    calls = []
    layers = [m for m in model.modules() if type(m).__name__ in LAYERS]
    for layer in layers:
        next(iter(layer.children())).register_forward_hook(lambda *_: calls.append(1))
    found = []
    for _ in range(2):
        model.zero_grad()
        calls.clear()
        losses(model, data).mean().backward()
        found.append((len(calls), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
        recompute_activations(model)
    (once, plain), (twice, recomputed) = found
    assert (once, twice) == (len(layers), 2 * len(layers))
    for name in plain:
        torch.testing.assert_close(recomputed[name], plain[name], rtol=1e-12, atol=1e-14)


def test_a_stream_that_no_rotation_turns_lowers_no_rate() -> None:
    """BERT's norms stand on the stream, and tie it to its axes."""
    wide = {"hidden_size": 256, "intermediate_size": 16, "num_attention_heads": 8}
    assert learned.turned(lmc.spec(pico.bert(**wide))) == 1
    assert learned.turned(lmc.spec(pico.neox(**wide))) == 256


def test_a_layer_that_drops_by_itself_drops_nothing_while_activations_are_computed_again() -> None:
    pair = [pico.opt(seed, torch.float32, dropout=0.3, attention_dropout=0.3) for seed in range(2)]
    data = pico.inputs(pair[0], n=8, seed=1)
    options = {"data": data, "start": "canonical", "steps": 3, "batch": 4}
    plain, again = (lmc.match(*pair, method="dual", checkpointing=c, **options) for c in (False, True))
    for one, other in zip(plain.log, again.log, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-6)


def test_learning_in_bfloat16_keeps_maps_and_endpoints_in_single_precision():
    a, b = (pico.neox(seed=k, dtype=torch.float32) for k in (0, 1))
    tokens = pico.inputs(a, n=64, seed=1) % 7
    start = lmc.match(a, b, method="weights")
    options = {"data": tokens, "steps": 40, "lr": 2e-2, "start": start}
    full, half = (lmc.match(a, b, precision=p, **options) for p in ("float32", "bfloat16"))
    data = Data(tokens)
    before, single, low = (float(evaluate(x.merge(0.5), data)[0].mean()) for x in (start, full, half))
    assert low != single
    assert abs(low - single) < 0.1 * (before - single)  # learns what single precision learns
    for parent, aligned in zip((a, b), half.models, strict=True):
        expected = pico.logits(parent, pico.inputs(a))
        assert (pico.logits(aligned, pico.inputs(a)) - expected).abs().max() <= 1e-4 * expected.abs().max()
    q = half.transforms[1].elements["stream"]
    assert (q @ q.mT - torch.eye(len(q))).abs().max() <= 1e-12


def test_a_tied_head_learns_as_a_tensor_of_its_own():
    """OLMo's norms hold nothing that would untie it, yet its gradient through the head is pulled back as the head's."""
    a, b = (pico.olmo(seed=k, dtype=torch.float32, tie_word_embeddings=True) for k in (0, 1))
    tokens = pico.inputs(a, n=32, seed=1) % 7
    start = lmc.match(a, b, method="weights")
    learned = lmc.match(a, b, method="dual", data=tokens, steps=40, lr=2e-2, start=start)
    before, after = (float(evaluate(x.merge(0.5), Data(tokens))[0].mean()) for x in (start, learned))
    assert after < before - 0.02
    assert learned.models[0].lm_head.weight is learned.models[0].model.embed_tokens.weight


def test_only_the_rows_a_batch_reads_are_moved():
    """Rows of the embedding that no token of the batch asks for are left as they were, and nothing is missed."""
    made, data = learner("neox")
    few = Data(data.inputs % 5)
    with lmc.float64():
        loss, _ = made.gradients(few)
        made.materialise(made.weights(), Data(torch.cat([few.inputs, torch.arange(36).view(3, 12)])))
        assert float(losses(made.model, few).detach().mean()) == pytest.approx(loss, rel=1e-12)
    embedding = made.parameters["gpt_neox.embed_in.weight"].detach().clone()
    made.elements[1] = dict(made.elements[0])
    made.materialise(made.weights(), few)
    changed = (made.parameters["gpt_neox.embed_in.weight"] != embedding).any(1)
    assert changed[:5].all() and not changed[5:].any()


@pytest.mark.parametrize("count", [2, 3])
def test_a_vocabulary_is_worked_on_some_rows_at_a_time(count, monkeypatch):
    """It makes no difference, and no matrix of all its rows is made on the way."""
    made, data = learner("neox", count=count)
    with lmc.float64():
        loss, gradients = made.gradients(data)
    monkeypatch.setattr("lmc.symmetries.spec.ROWS", 7)
    monkeypatch.setattr(learned, "ROWS", 3)
    seen = []
    monkeypatch.setattr(learned, "moved_by", lambda *a: (seen.append((a[1], len(a[2]))), moved_by(*a))[1])
    with lmc.float64():
        again, others = made.gradients(data)
    assert again == pytest.approx(loss, rel=1e-13)
    for one, other in zip(gradients, others, strict=True):
        for name in one:
            assert torch.allclose(one[name], other[name], rtol=1e-10, atol=1e-13)
    head = made.spec.logits[0]
    assert {n for name, n in seen if name == head} == {7, 40 % 7}
    assert max(n for name, n in seen if "embed_in" in name) <= 3


def test_early_stopping_returns_the_best_state_by_data_kept_aside(monkeypatch):
    a, b = (pico.vit(seed=k, dtype=torch.float32) for k in (0, 1))
    data = data_for(a, n=40)
    monkeypatch.setattr(descent, "EVERY", 2)
    values = iter([3.0, 1.0, 2.0, 2.0, 2.0, 0.0])
    states, seen = [], set()

    def midpoint_loss(self, aside):
        states.append([dict(e) for e in self.elements])
        assert len(aside) == 4
        return next(values)

    draw = Data.draw
    monkeypatch.setattr(Learner, "midpoint_loss", midpoint_loss)
    monkeypatch.setattr(Data, "draw", lambda self, *args: seen.add(len(self)) or draw(self, *args))
    start = lmc.match(a, b, method="weights")
    options = {"data": (data.inputs, data.labels), "start": start, "steps": 20, "batch": 8}
    found = lmc.match(a, b, patience=3, **options)
    assert len(found.log) == 10  # the best was check 2 (step 4); three more checks without a better one
    assert found.record["stopped"] == "no better midpoint since step 4"
    assert all(torch.equal(found.transforms[1].elements[n], states[1][1][n]) for n in states[1][1])
    assert seen == {36}  # drawn from what is not kept aside
    with pytest.raises(lmc.ArgumentError, match="patience: expected at least 10 samples, found 9"):
        lmc.match(a, b, patience=1, **options | {"data": (data.inputs[:9], data.labels[:9])})


def test_a_run_that_had_lost_patience_does_not_go_on_when_resumed(tmp_path, monkeypatch):
    """A full disk, or a kill, after the last look: what is resumed ends where the first run ended."""
    a, b = (pico.vit(seed=k, dtype=torch.float32) for k in (0, 1))
    data = data_for(a, n=40)
    monkeypatch.setattr(descent, "EVERY", 2)
    values = [1.0, 2.0, 0.0, 0.0, 0.0]  # the next look would find a better midpoint
    monkeypatch.setattr(Learner, "midpoint_loss", lambda self, aside: values[self.step // 2 - 1])
    start = lmc.match(a, b, method="weights")
    options = {"data": (data.inputs, data.labels), "start": start, "steps": 10, "batch": 8, "patience": 1}
    first, again = (lmc.match(a, b, resume=tmp_path / "run", **options) for _ in range(2))
    assert first.record == again.record and first.record["stopped"] == "no better midpoint since step 2"
    assert first.log == again.log and len(again.log) == 4
    for one, other in zip(first.transforms, again.transforms, strict=True):
        assert all(torch.equal(one.elements[name], other.elements[name]) for name in one.elements)


@pytest.mark.parametrize("family", KINDS)
def test_midpoint_loss_is_that_of_the_merged_model(family):
    made, data = learner(family)
    extra = {"layer_norm_eps": 1e-2} if family == "neox" else {}
    parents = tuple(lmc.canonicalize(getattr(pico, family)(seed=k, **extra)) for k in (0, 1))
    alignment = lmc.Alignment("dual", parents, made.transforms(made.elements), {})
    with lmc.float64():
        expected = float(evaluate(alignment.merge(0.5), data)[0].mean())
        assert made.midpoint_loss(data) == pytest.approx(expected, rel=1e-9)


def test_a_rising_loss_stops_with_the_last_good_alignment(monkeypatch):
    a, b = (pico.vit(seed=k, dtype=torch.float32) for k in (0, 1))
    data = data_for(a, n=32)
    start = lmc.match(a, b, method="weights")
    monkeypatch.setattr(descent, "EVERY", 4)
    gradients = Learner.gradients
    pretended = [2.0] * 4 + [1.5] * 4 + [3.5] * 4

    def rising(self, batch):
        return pretended[self.step], gradients(self, batch)[1]

    monkeypatch.setattr(Learner, "gradients", rising)
    options = {"data": (data.inputs, data.labels), "start": start, "batch": 8}
    with pytest.raises(
        lmc.DivergedError, match=r"loss rose from 2 to 3.5 by step 12: lower the learning rate"
    ) as error:
        lmc.match(a, b, steps=12, **options)
    kept = error.value.alignment
    monkeypatch.setattr(Learner, "gradients", gradients)
    until = lmc.match(a, b, steps=12, **options)  # the same walk, without the pretended losses
    assert len(kept.log) == 12
    assert not torch.equal(kept.transforms[1].elements["stream"], until.transforms[1].elements["stream"])
    assert torch.isfinite(evaluate(kept.merge(0.5), data)[0]).all()


@pytest.mark.parametrize(
    "trouble",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried to allocate 1 TB"
        ),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    ],
    ids=["python", "cpu", "cuda"],
)
def test_out_of_memory_says_what_to_lower(trouble, monkeypatch):
    a, b = (pico.vit(seed=k, dtype=torch.float32) for k in (0, 1))
    data = data_for(a, n=32)

    def fail(self, batch):
        raise trouble

    monkeypatch.setattr(Learner, "gradients", fail)
    start = lmc.match(a, b, method="weights")
    with pytest.raises(lmc.OutOfMemoryError) as error:
        lmc.match(a, b, data=(data.inputs, data.labels), start=start, batch=16, accumulate=2, checkpointing=True)
    expected = "out of memory at step 0: lower batch or raise accumulate (8 samples at a time now)"
    assert str(error.value) == expected + ", or set precision to bfloat16"


def test_another_runtime_error_is_not_called_a_lack_of_memory(monkeypatch):
    a, b = (pico.vit(seed=k, dtype=torch.float32) for k in (0, 1))

    def fail(self, batch):
        raise RuntimeError("shapes do not agree")

    monkeypatch.setattr(Learner, "gradients", fail)
    data = data_for(a)
    with pytest.raises(RuntimeError, match="shapes do not agree"):
        lmc.match(a, b, data=(data.inputs, data.labels), start=lmc.match(a, b, method="weights"))


def test_the_state_of_another_version_is_called_so(tmp_path: Path) -> None:
    pair = [pico.neox(seed, torch.float32) for seed in range(2)]
    again = partial(
        lmc.match, *pair, data=pico.inputs(pair[0], n=8), start="canonical", steps=2, resume=tmp_path / "state"
    )
    again()
    record = tmp_path / "state" / "run.json"
    kept = json.loads(record.read_text())
    del kept["types"]
    record.write_text(json.dumps(kept))
    with pytest.raises(lmc.CheckpointError, match="a run that another version of lmc began; continue it with that"):
        again()


@pytest.mark.parametrize(("method", "narrow"), [("single", 0.02), ("dual", 0.01)])
def test_wide_models_take_a_lower_rate_by_default(method: str, narrow: float) -> None:
    rates = [default_rate(method, width) for width in (16, 128, 512, 2048)]
    assert rates == pytest.approx([narrow, narrow, narrow / 4, narrow / 16])
    assert [default_rate(method, width, images=True) for width in (64, 256)] == pytest.approx([narrow, narrow / 4])
    wide = {"hidden_size": 512, "intermediate_size": 16, "num_attention_heads": 8, "vocab_size": 32}
    pair = [pico.neox(seed, torch.float32, **wide) for seed in range(2)]
    data = torch.arange(16)[None]
    for given, found in ((None, narrow / 4), (narrow, narrow)):
        alignment = lmc.match(*pair, method=method, data=data, start="canonical", steps=1, lr=given)
        assert alignment.record["lr"] == pytest.approx(found)


def test_canonical_copies_are_gone_while_matching_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What learns has its own: beside it and the parents nothing as large as a model is held."""
    a, b = (pico.neox(seed, torch.float32) for seed in (0, 1))
    alive, descend = [], methods.descend

    def counting(*given: Any) -> Any:
        gc.collect()
        alive.append(sum(type(held) is type(a) for held in gc.get_objects()))
        return descend(*given)

    gc.collect()
    before = sum(type(held) is type(a) for held in gc.get_objects())
    monkeypatch.setattr(methods, "descend", counting)
    lmc.match(a, b, method="dual", data=pico.inputs(a, n=4), steps=2, batch=2)
    assert alive == [before + 1]  # the model that holds the merged weights
