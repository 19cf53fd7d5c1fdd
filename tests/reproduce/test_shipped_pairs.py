"""Pairs: training is a function of recipe and seed; what is shipped is what its record says."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from lmc import corpora
from lmc.errors import ArgumentError, CheckpointError
from lmc.matching import independence
from lmc.reproduce.training import shipped_pairs
from lmc.reproduce.training.tasks import Digits, Docstrings
from lmc.reproduce.training.trainer import TrainingRecipe, train

TINY = TrainingRecipe(steps=12, batch=4, lr=3e-3, warmup=3)
needs_pairs = pytest.mark.skipif(
    not shipped_pairs.SHIPPED.is_dir(), reason="data/pairs is in a clone of the repository only"
)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("task", "recipe"),
    [(Docstrings(), TINY), (Digits(), replace(TINY, steps=150, batch=32, warmup=20))],
    ids=["neox", "vit"],
)
def test_the_seed_decides_the_weights_and_the_loss_falls(task, recipe):
    state = torch.random.get_rng_state()
    first, curve = train(task, recipe, seed=0, progress=False)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's random numbers are touched
    again, _ = train(task, recipe, seed=0, progress=False)
    other, _ = train(task, recipe, seed=1, progress=False)
    assert torch.equal(weights(first), weights(again))
    assert abs(independence(first, other)) < 0.05 < independence(first, again)
    assert curve[-1][0] == recipe.steps
    assert curve[-1][1] < curve[0][1] - 0.2


def test_seeds_change_the_first_weights_and_the_order_of_the_data():
    still = replace(TINY, steps=1, lr=0.0)
    models = [train(Digits(), still, seed, progress=False)[0] for seed in (0, 1)]
    assert abs(independence(*models)) < 0.05
    first, again, other = (Digits().draw(4, torch.Generator().manual_seed(seed)).inputs for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_rate_warms_up_and_falls_to_nothing():
    rates = [TrainingRecipe(steps=100, batch=1, lr=2.0, warmup=10).rate(step) for step in range(100)]
    assert rates[0] == 0.2 and rates[9] == rates[10] == max(rates) == 2.0
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0 < rates[-1] < 0.002


def test_a_pair_appears_whole_and_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(shipped_pairs.KINDS, "vit-digits", (Digits(), TINY))
    trained = []

    def interrupted(task, recipe, seed):
        trained.append(seed)
        if seed == 1 and trained.count(1) == 1:
            raise KeyboardInterrupt
        return train(task, recipe, seed, progress=False)

    monkeypatch.setattr(shipped_pairs, "train_endpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shipped_pairs.train("vit-digits-0", tmp_path)
    assert not (tmp_path / "vit-digits-0").exists()
    monkeypatch.setitem(shipped_pairs.KINDS, "vit-digits", (Digits(), replace(TINY, lr=1e-3)))
    with pytest.raises(CheckpointError, match="run with other settings"):
        shipped_pairs.train("vit-digits-0", tmp_path)
    monkeypatch.setitem(shipped_pairs.KINDS, "vit-digits", (Digits(), TINY))
    folder = shipped_pairs.train("vit-digits-0", tmp_path)
    assert trained == [0, 1, 1]  # the finished endpoint was kept
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b", "record.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["vit-digits-0"]
    record = json.loads((folder / "record.json").read_text())
    assert record["recipe"]["steps"] == record["endpoints"]["a"]["curve"][-1][0] == 12
    with pytest.raises(CheckpointError, match="not empty"):
        shipped_pairs.train("vit-digits-0", tmp_path)


def test_the_command_refuses_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lmc.pairs", "vit-digit-0", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "unknown pair 'vit-digit-0'; expected one of neox-docstrings-0" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not list(tmp_path.iterdir())


def test_what_is_not_shipped_is_said_clearly(tmp_path, monkeypatch):
    with pytest.raises(ArgumentError, match="unknown pair 'x'; expected one of neox-docstrings-0"):
        shipped_pairs.shipped("x")
    monkeypatch.setattr(shipped_pairs, "SHIPPED", tmp_path / "data" / "pairs")
    for ask in (shipped_pairs.shipped, shipped_pairs.record):
        with pytest.raises(
            CheckpointError, match="installed packages hold code only; use a clone of the repository, or"
        ):
            ask("vit-digits-0")


# What is shipped


def load_stock(name, side):
    """As anyone would, with no code of ours."""
    folder = shipped_pairs.shipped(name)["ab".index(side)]
    if name.startswith("vit"):
        import timm

        return timm.create_model(f"local-dir:{folder}", pretrained=True).float().eval()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoTokenizer.from_pretrained(folder)("bytes").input_ids == list(b"bytes")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@needs_pairs
@pytest.mark.parametrize("name", shipped_pairs.names())
def test_a_shipped_pair_is_what_its_record_says(name):
    record = shipped_pairs.record(name)
    task, recipe = shipped_pairs.KINDS[name.rpartition("-")[0]]
    folder = shipped_pairs.shipped(name)[0].parent
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 4e6
    models = {side: load_stock(name, side) for side in "ab"}
    same_corpus = record["corpus"] == [corpora.describe(task.corpus, split) for split in ("train", "eval")]
    if task.corpus == "digits":
        assert same_corpus
    for side, model in models.items():
        run = record["endpoints"][side]
        assert run["curve"][-1][0] == record["recipe"]["steps"] == recipe.steps  # the last step of the recorded run
        measured = shipped_pairs.measure(task, model)
        for measure in measured:
            assert measured[measure] == pytest.approx(run[measure], rel=1e-3 if same_corpus else 0.05)
    assert independence(*models.values()) == pytest.approx(record["cosine"], abs=1e-6)
    assert abs(record["cosine"]) < 0.05
    assert record["naive_gap"] >= 0.5


@needs_pairs
@pytest.mark.parametrize("name", shipped_pairs.names())
def test_shipped_endpoints_have_learned_something(name):
    record = shipped_pairs.record(name)
    for run in record["endpoints"].values():
        if "accuracy" in run:
            assert run["accuracy"] >= 0.95
        else:
            assert run["loss"] <= record["baselines"]["bigram"] - 0.3


@needs_pairs
@pytest.mark.parametrize("kind", shipped_pairs.KINDS)
def test_no_endpoint_serves_twice(kind):
    names = [name for name in shipped_pairs.names() if name.startswith(kind)]
    seeds = [run["seed"] for name in names for run in shipped_pairs.record(name)["endpoints"].values()]
    assert len(set(seeds)) == len(seeds) == 2 * len(names) == 6
    models = [load_stock(name, side) for name in names for side in "ab"]
    assert max(independence(p, q) for i, p in enumerate(models) for q in models[:i]) < 0.2  # a copy has 1


@needs_pairs
def test_all_pairs_together_stay_small():
    assert sum(path.stat().st_size for path in shipped_pairs.SHIPPED.rglob("*") if path.is_file()) <= 16e6
