"""An alignment is values: merge is a stock model on the line, save and load give the same one back."""

import json

import pico
import pytest
import torch

import lmc
from lmc.models import state


@pytest.fixture(params=["neox", "vit"])
def alignment(request):
    make = getattr(pico, request.param)
    a, b = make(seed=0, dtype=torch.float32), make(seed=1, dtype=torch.float32)
    inputs = pico.inputs(a, n=8)
    data = inputs if inputs.dtype == torch.int64 else (inputs, torch.arange(8))
    return lmc.match(a, b, method="dual", data=data, steps=2, batch=4)


def same(x, y):
    return all(torch.equal(t, state(y)[n]) for n, t in state(x).items())


def test_ends_of_the_line_are_the_endpoints(alignment):
    inputs = pico.inputs(alignment.parents[0])
    for at, parent in zip((0, 1), alignment.parents, strict=True):
        expected = pico.logits(parent, inputs)
        assert (pico.logits(alignment.merge(at), inputs) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_merge_is_the_weighted_average(alignment):
    merged, (a, b) = state(alignment.merge(0.25)), map(state, alignment.models)
    for name, tensor in merged.items():
        assert torch.allclose(tensor, 0.75 * a[name] + 0.25 * b[name], atol=1e-6), name


def test_naive_averages_raw_weights():
    a, b = pico.neox(seed=0, dtype=torch.float32), pico.neox(seed=1, dtype=torch.float32)
    merged = state(lmc.match(a, b, method="naive").merge(0.5))
    for name, tensor in merged.items():
        assert torch.allclose(tensor, (state(a)[name] + state(b)[name]) / 2, atol=1e-6), name


def test_merge_carries_the_parents_epsilon_whatever_the_scales():
    """With scales s_A ≠ s_B on the line, the merge is scaled back to the parents' ε and keeps its function."""
    a, b = (pico.neox(seed=k, layer_norm_eps=1e-2) for k in (0, 1))
    spec = lmc.spec(a)
    scaled = [lmc.Transform.random(spec, k).only("scale") for k in (0, 1)]
    assert scaled[0].scale != pytest.approx(scaled[1].scale, rel=0.1)
    merged = lmc.Alignment("dual", (a, b), tuple(scaled), {}).merge(0.5)
    assert merged.config.layer_norm_eps == 1e-2
    assert merged.gpt_neox.final_layer_norm.eps == 1e-2
    # By hand: writers averaged as they stand, √ε too.
    canonical = [lmc.canonicalize(m) for m in (a, b)]
    moved = [t.apply(m) for t, m in zip(scaled, canonical, strict=True)]
    raw = lmc.Alignment("naive", tuple(moved), tuple(lmc.Transform.identity(spec) for _ in moved), {}).merge(0.5)
    root = sum(m.config.layer_norm_eps**0.5 for m in moved) / 2
    for module in raw.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = root**2
    inputs = pico.inputs(a)
    expected = pico.logits(raw, inputs)
    assert (pico.logits(merged, inputs) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("at", [1.5, -0.1, [0.5, 0.6], [1.2, -0.2], [0.2, 0.3, 0.5], float("nan")])
def test_points_off_the_line_are_refused(alignment, at):
    with pytest.raises(lmc.ArgumentError, match="at: expected"):
        alignment.merge(at)


def test_save_and_load(alignment, tmp_path):
    alignment.save(tmp_path / "aligned")
    loaded = lmc.Alignment.load(tmp_path / "aligned")
    assert (loaded.method, loaded.record, loaded.log) == (alignment.method, alignment.record, alignment.log)
    assert same(loaded.merge(0.5), alignment.merge(0.5))
    with pytest.raises(lmc.CheckpointError, match="not empty"):
        alignment.save(tmp_path / "aligned")
    assert str(tmp_path) not in (tmp_path / "aligned/alignment.json").read_text()


def test_load_refuses_what_is_no_alignment(alignment, tmp_path):
    with pytest.raises(lmc.CheckpointError, match="not found"):
        lmc.Alignment.load(tmp_path / "nothing")
    alignment.save(tmp_path / "aligned")
    described = json.loads((tmp_path / "aligned/alignment.json").read_text())
    del described["method"]
    (tmp_path / "aligned/alignment.json").write_text(json.dumps(described))
    with pytest.raises(lmc.CheckpointError, match=r"alignment\.json"):
        lmc.Alignment.load(tmp_path / "aligned")


def test_a_parent_that_changed_is_noticed(alignment, tmp_path):
    for side, model in zip("ab", alignment.parents, strict=True):
        lmc.save(model, tmp_path / side)
    parents = [lmc.load(tmp_path / side) for side in "ab"]
    lmc.match(*parents, method="weights").save(tmp_path / "aligned")
    assert lmc.Alignment.load(tmp_path / "aligned").method == "weights"
    lmc.save(alignment.parents[1], tmp_path / "other")
    (tmp_path / "other/model.safetensors").replace(tmp_path / "a/model.safetensors")
    with pytest.raises(lmc.CheckpointError, match=r"model\.safetensors"):
        lmc.Alignment.load(tmp_path / "aligned")


def test_export_writes_stock_checkpoints(alignment, tmp_path):
    alignment.export(tmp_path / "merged", at=0.5)
    assert same(lmc.load(tmp_path / "merged"), alignment.merge(0.5))
    assert "method: dual" in (tmp_path / "merged/README.md").read_text()
    alignment.export(tmp_path / "both")
    for k, model in enumerate(alignment.models):
        assert same(lmc.load(tmp_path / f"both/endpoint-{k}"), model)
