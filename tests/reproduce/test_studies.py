"""Ablation, sweeps and the line-up: what takes part, what is varied and what is compared is what was asked for."""

import pico
import pytest
import torch

import lmc
from lmc.evaluation.loss import Data, evaluate
from lmc.reproduce.experiments.ablation import ablate, restricted, variants
from lmc.reproduce.experiments.controls_table import ORDER, barriers_on, beside_controls, four_alignments, sayings
from lmc.reproduce.experiments.dependence import Point, sweep, train_pairs
from lmc.reproduce.training.tasks import Digits
from lmc.reproduce.training.trainer import TrainingRecipe
from lmc.symmetries.families.family import spec as spec_of
from lmc.symmetries.pattern import SCALE
from lmc.symmetries.transform import Transform


@pytest.fixture(scope="module")
def pair():
    return tuple(pico.vit(seed=seed, dtype=torch.float32) for seed in (0, 1))


@pytest.fixture(scope="module")
def data(pair):
    return pico.inputs(pair[0], n=20), torch.arange(20) % 10


def test_variants_leave_out_exactly_one_kind():
    found = variants(spec_of(pico.neox()))
    everything = {"stream", "head", "plane", "pass", "value", "hidden"}
    assert set(found["all"]) == everything and set(found["all and stream scale"]) == everything | {SCALE}
    assert found["none"] == () and set(found["only queries and keys"]) == {"plane", "pass"}
    without = {name: everything - set(kinds) for name, kinds in found.items() if name.startswith("without ")}
    assert without["without queries and keys"] == {"plane", "pass"} and without["without values"] == {"value"}
    assert sorted(kind for kinds in without.values() for kind in kinds) == sorted(everything)
    assert "only stream scale" in found and "without stream scale" not in found  # it is off by default
    assert not any("scale" in name for name in variants(spec_of(pico.vit())))  # timm has no place for its ε


def test_a_restricted_alignment_keeps_the_chosen_kinds_alone(pair, data):
    found = lmc.match(*pair, method="activations", data=data)
    kept = restricted(found, ["hidden"])
    spec, identity = spec_of(pair[0]), Transform.identity(spec_of(pair[0]))
    for name, element in kept.transforms[1].elements.items():
        source = found.transforms[1] if spec.kind(name) == "hidden" else identity
        assert torch.equal(element, source.elements[name]), name
    assert not torch.equal(found.transforms[1].elements["stream"], identity.elements["stream"])
    ends = [float(evaluate(kept.merge(at), Data(*data))[0].mean()) for at in (0, 1)]
    assert ends == pytest.approx([float(evaluate(m, Data(*data))[0].mean()) for m in pair], rel=1e-4)


def test_ablation_moves_only_what_it_may(pair, data):
    tried = ["none", "only hidden order", "all"]
    found = ablate({"p": pair}, data, data, steps=2, lr=0.02, grid=3, tried=tried)
    assert list(found.methods) == tried and found.unit == "nats per image"
    canonical = lmc.path(lmc.match(*pair, method="canonical"), data, grid=3).barrier
    assert found.barriers("none") == [pytest.approx(canonical, rel=1e-6)]
    (everything,), (hidden,) = found.methods["all"], found.methods["only hidden order"]
    assert everything.gap != hidden.gap and hidden.kinds == ("hidden",)


def test_a_sweep_compares_at_every_point(pair, data):
    trained = train_pairs(Digits(width=8, depth=1), TrainingRecipe(steps=2, batch=8, lr=1e-3, warmup=1), [(0, 1)])
    [(name, (a, b))] = trained.items()
    assert name == "seeds 0 and 1" and a.embed_dim == 8 and len(a.blocks) == 1
    assert not torch.equal(a.head.weight, b.head.weight)
    points = {4: Point({"p": pair}, data), 16: Point({"p": pair}, data)}
    found = sweep(points, data, {"naive": [{}], "activations": [{}]}, "samples", grid=3)
    assert found.points == (4, 16) and found.varied == "samples"
    assert found.parameters == (sum(p.numel() for p in pair[0].parameters()),) * 2
    naive = lmc.path(lmc.match(*pair, method="naive"), data, grid=3).barrier
    assert [compared.barriers("naive") for compared in found.compared] == [[pytest.approx(naive)]] * 2


def test_the_line_up(pair, data):
    alignments = four_alignments(pair, data, steps=2)
    assert list(alignments) == ["naive", "closed form", "single", "dual"]
    rows = beside_controls(pair, alignments, data, data, steps=4, rates=[1e-4, 1e-2])
    assert tuple(rows) == ORDER
    scored = Data(*data)
    parents = [float(evaluate(model, scored)[0].mean()) for model in pair]
    assert rows["parents"]["loss"] == pytest.approx(sum(parents) / 2)
    for name in ("naive", "dual"):
        midpoint = float(evaluate(alignments[name].merge(0.5), scored)[0].mean())
        assert rows[name]["loss"] == pytest.approx(midpoint)
        assert rows[name]["gap"] == pytest.approx(midpoint - min(parents), abs=1e-6)
        assert rows[f"{name}, temperature"]["accuracy"] == rows[name]["accuracy"]  # the top class stays
        assert rows[f"{name}, temperature"]["loss"] <= rows[name]["loss"] + 0.05
        assert rows[f"{name}, fine-tuned"]["rate"] in (1e-4, 1e-2)


def test_other_texts_and_sayings(tmp_path):
    pair = tuple(pico.neox(seed=seed, dtype=torch.float32, vocab_size=256) for seed in (0, 1))
    naive = lmc.match(*pair, method="naive")
    texts = {"one": pico.inputs(pair[0], n=4, seed=0), "two": pico.inputs(pair[0], n=4, seed=1)}
    rows = barriers_on({"naive": naive}, texts, grid=3)
    assert list(rows) == ["one", "two"] and rows["one"]["naive"] == lmc.path(naive, texts["one"], grid=3).barrier
    ends = [float(evaluate(model, Data(texts["one"]))[0].mean()) for model in pair]
    assert rows["one"]["parents"] == pytest.approx(sum(ends) / 2)
    said = sayings({"naive": naive}, "The ", [0, 0.5], length=4)
    assert said == sayings({"naive": naive}, "The ", [0, 0.5], length=4)
    assert list(said["naive"]) == ["0", "0.5"] and set(said["naive"]["0"]) == {"greedy", "sampled"}
