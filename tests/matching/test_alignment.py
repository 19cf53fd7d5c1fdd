"""An alignment is values: merge is a stock model on the line, save and load give the same one back."""

import copy
import json
import pickle
import platform
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pico
import pytest
import torch
from safetensors.torch import load_file, save_file

import lmc
from lmc.matching import learned
from lmc.symmetries.exactness import relative_change
from lmc.symmetries.stock_model import in_type, set_epsilon, state


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


@pytest.mark.parametrize("stem", ["llama", "neox", "gemma3"])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_angles_keep_their_precision_where_weights_are_stored_in_less(stem: str, kind: torch.dtype) -> None:
    """As the library reads them; in a lower type they are off by so much that long texts notice."""
    pair = [in_type(getattr(pico, stem)(seed, torch.float32), kind) for seed in range(2)]
    buffers = dict(pair[0].named_buffers())
    assert any(name.endswith("inv_freq") and buffer.dtype == torch.float32 for name, buffer in buffers.items())
    for method in ("naive", "weights"):
        alignment = lmc.match(*pair, method=method)
        for model in (alignment.merge(0.5), *alignment.models):
            assert {n: b.dtype for n, b in model.named_buffers()} == {n: b.dtype for n, b in buffers.items()}
            assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())
    text = torch.arange(60)[None] % 7
    assert torch.equal(lmc.match(*pair, method="naive").merge(0.0)(text).logits, pair[0](text).logits)


def test_ends_of_the_naive_line_are_the_parents_exactly_whatever_their_epsilon():
    a, b = pico.neox(seed=0, layer_norm_eps=3e-2), pico.neox(seed=1, layer_norm_eps=7e-5)
    alignment = lmc.match(a, b, method="naive")
    inputs = pico.inputs(a)
    for at, parent in ((0, a), (1, b)):
        merged = alignment.merge(at)
        assert merged.config.layer_norm_eps == parent.config.layer_norm_eps
        assert torch.equal(pico.logits(merged, inputs), pico.logits(parent, inputs))
    middle = alignment.merge(0.5)
    assert middle.config.layer_norm_eps == pytest.approx(((3e-2**0.5 + 7e-5**0.5) / 2) ** 2, rel=1e-12)
    assert {m.eps for m in middle.modules() if isinstance(m, torch.nn.LayerNorm)} == {middle.config.layer_norm_eps}


@pytest.mark.parametrize(
    "at", [torch.tensor(0.25), np.float32(0.25), np.array(0.25), Fraction(1, 4), [np.float64(0.75), 0.25]], ids=repr
)
def test_any_real_number_is_a_place_on_the_line(alignment, at):
    assert same(alignment.merge(at), alignment.merge(0.25))
    assert same(alignment.merge(torch.tensor([0.75, 0.25])), alignment.merge(0.25))
    assert "at λ = 0.25 from" in alignment.card(at)


@pytest.mark.parametrize(
    "at", [1.5, -0.1, [0.5, 0.6], [1.2, -0.2], [0.2, 0.3, 0.5], float("nan"), None, "0.5", 1j, [[0.5], [0.5]]]
)
def test_points_off_the_line_are_refused(alignment, at):
    with pytest.raises(lmc.ArgumentError, match="at: expected"):
        alignment.merge(at)


def test_save_and_load(alignment, tmp_path):
    alignment.save(tmp_path / "aligned")
    versions = json.loads((tmp_path / "aligned/alignment.json").read_text())["versions"]
    assert (versions["lmc"], versions["python"]) == (lmc.__version__, platform.python_version())
    assert {"torch", "transformers", "timm"} <= set(versions)
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


def in_place(model):
    next(model.parameters()).data.mul_(1.5)


def cast(model):
    in_type(model, torch.bfloat16)


def other_epsilon(model):
    model.config.layer_norm_eps = 0.1
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)):
        norm.eps = 0.1


def other_ends(model):
    model.config.eos_token_id = model.generation_config.eos_token_id = 5


def moved_to(model):
    model.to("cpu").requires_grad_(False)  # no change of the function


@pytest.mark.parametrize(
    ("change", "inside"), [(in_place, 1), (cast, 1), (other_epsilon, 1), (other_ends, 1), (moved_to, 0)]
)
def test_a_model_changed_in_memory_is_saved_and_not_referred_to(change, inside, tmp_path):
    for k, side in enumerate("ab"):
        lmc.save(pico.neox(seed=k, dtype=torch.float32), tmp_path / side)
        pico.tokenizer(tmp_path / side)
    a, b = (lmc.load(tmp_path / side) for side in "ab")
    change(b)
    alignment = lmc.match(a, b, method="naive")
    alignment.save(tmp_path / "aligned")
    loaded = lmc.Alignment.load(tmp_path / "aligned")
    for mine, theirs in zip(alignment.parents, loaded.parents, strict=True):
        assert same(mine, theirs)
        assert mine.config.layer_norm_eps == theirs.config.layer_norm_eps
        assert mine.config.eos_token_id == theirs.config.eos_token_id
    assert [p.name for p in (tmp_path / "aligned").glob("parent-*")] == ["parent-1"] * inside
    assert (tmp_path / "aligned/parent-1/tokenizer.json").exists() == bool(inside)
    assert ("a and a model in memory" in alignment.card(0.5)) == bool(inside)


def test_factors_that_are_rounded_to_a_type_are_those_of_the_widest(tmp_path: Path) -> None:
    """Gemma's factor of the embedding is read in the type of the weights."""
    for k, side in enumerate("ab"):
        lmc.save(pico.gemma(seed=k, dtype=torch.float32, hidden_size=20), tmp_path / side)
    pair = [lmc.load(tmp_path / side, dtype=kind) for side, kind in (("a", torch.bfloat16), ("b", torch.float32))]
    scales = [dict(model.named_buffers())["model.embed_tokens.embed_scale"] for model in pair]
    assert scales[0] != scales[1]
    for parents in (pair, pair[::-1]):
        alignment = lmc.match(*parents, method="naive")
        exact = parents.index(pair[1])
        text = torch.arange(30)[None] % 7
        assert torch.equal(alignment.merge(exact)(text).logits, pair[1](text).logits)


def test_parents_shrunk_in_memory_below_their_tokenizer_are_not_written(tmp_path: Path) -> None:
    for k, side in enumerate("ab"):
        lmc.save(pico.llama(seed=k, dtype=torch.float32), tmp_path / side)
        pico.tokenizer(tmp_path / side)
    pair = [lmc.load(tmp_path / side) for side in "ab"]
    for model in pair:
        model.resize_token_embeddings(3, mean_resizing=False)
    alignment = lmc.match(*pair, method="weights")
    for write in (alignment.save, partial(alignment.export, at=0.5)):
        with pytest.raises(lmc.CheckpointError, match=r"[ab]/tokenizer\.json: expected at most vocab_size = 3 tokens"):
            write(tmp_path / "out")
        assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


@pytest.mark.parametrize("stem", ["vit", "hf_vit"])
def test_other_means_of_pictures_set_in_memory_are_saved(stem: str, tmp_path: Path) -> None:
    for k, side in enumerate("ab"):
        model = getattr(pico, stem)(seed=k, dtype=torch.float32)
        if stem != "vit":
            model.preprocessor_config = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5] * 3}
        lmc.save(model, tmp_path / side)
    a, b = (lmc.load(tmp_path / side) for side in "ab")
    if stem == "vit":
        b.pretrained_cfg.update(mean=(0.1,), std=(0.3,))
    else:
        b.preprocessor_config.update(image_mean=[0.1] * 3, image_std=[0.3] * 3)
    alignment = lmc.match(a, b, method="weights")
    alignment.save(tmp_path / "aligned")
    loaded = lmc.Alignment.load(tmp_path / "aligned")
    for at in (0.0, 0.5, 1.0):
        assert same(alignment.merge(at), loaded.merge(at))
    of = (loaded.parents[1].pretrained_cfg["mean"], (0.1,)) if stem == "vit" else None
    assert of is None or tuple(of[0]) == of[1]
    if stem == "vit":
        b.pretrained_cfg.update(mean=(0.2,))
    else:
        b.preprocessor_config.update(image_mean=[0.2] * 3)
    with pytest.raises(lmc.ArgumentError, match="found it changed since"):
        alignment.merge(0.5)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda alignment: pickle.loads(pickle.dumps(alignment))])
def test_copies_of_an_alignment_merge_as_it_does(copied, alignment):
    middle = alignment.merge(0.5)
    again = copied(alignment)
    assert same(again.merge(0.5), middle) and same(copied(again).merge(1.0), alignment.merge(1.0))


def test_the_path_of_other_models_is_not_quoted(tmp_path: Path) -> None:
    models = [pico.llama(seed, torch.float32) for seed in range(3)]
    two, three = lmc.match(*models[:2], method="naive"), lmc.match(models, method="naive")
    text = pico.inputs(models[0], n=8)
    for alignment, other in ((two, three), (three, two)):
        with pytest.raises(lmc.ArgumentError, match="measured: expected a path of this alignment"):
            alignment.export(tmp_path / "out", measured=lmc.path(other, data=text, grid=3))


def test_numbers_that_change_places_are_a_change():
    a, b = (pico.neox(seed=seed, dtype=torch.float32) for seed in range(2))
    alignment = lmc.match(a, b, method="weights")
    alignment.merge(0.5)
    bias = b.gpt_neox.layers[0].mlp.dense_4h_to_h.bias
    bias.data = bias.data.flip(0)
    with pytest.raises(lmc.ArgumentError, match="found it changed since"):
        alignment.merge(0.5)


@pytest.mark.parametrize("change", [lambda m: m.bfloat16(), lambda m: m.get_output_embeddings().weight.data.mul_(2)])
def test_an_aligned_model_that_is_changed_is_no_endpoint(change, tmp_path):
    alignment = lmc.match(*(pico.neox(seed=seed, dtype=torch.float32) for seed in range(2)), method="weights")
    alignment.models[1].train().eval()
    kept = copy.deepcopy(alignment.models[1])
    change(kept)
    alignment.merge(0.5)
    change(alignment.models[1])
    for use in (lambda: alignment.merge(1.0), lambda: alignment.export(tmp_path / "out", 0.5)):
        with pytest.raises(lmc.ArgumentError, match="models: expected parent 1 as it was when its aligned form was"):
            use()


@pytest.mark.parametrize("moment", ["before matching", "while it learns", "before it is saved", "before merging"])
def test_a_file_that_is_overwritten_changes_the_model_that_maps_it(moment, tmp_path, monkeypatch):
    for seed, name in enumerate(("a", "b", "new")):
        lmc.save(pico.neox(seed=seed, dtype=torch.float32), tmp_path / name)
    a, b = (lmc.load(tmp_path / name) for name in "ab")
    text, file = pico.inputs(a), tmp_path / "b/model.safetensors"
    file.touch()
    lmc.match(a, b, method="weights").merge(0.5)  # the same bytes

    def overwrite(*_):
        with file.open("r+b") as opened:
            opened.write((tmp_path / "new/model.safetensors").read_bytes())
        lmc.load(tmp_path / "b")

    if moment == "while it learns":
        advance = learned.Learner.advance
        monkeypatch.setattr(learned.Learner, "advance", lambda self, x: (overwrite(), advance(self, x))[1])
    if moment == "before matching":
        overwrite()
    with pytest.raises(lmc.CheckpointError, match=r"b/model\.safetensors: .*, found it overwritten in place"):
        alignment = lmc.match(a, b, method="single", data=text, steps=2)
        overwrite()
        alignment.save(tmp_path / "aligned") if moment == "before it is saved" else alignment.merge(0.5)
    assert not (tmp_path / "aligned").exists()


def test_a_file_that_is_replaced_is_still_there_for_the_model_that_maps_it(tmp_path):
    models = [pico.neox(seed=seed, dtype=torch.float32) for seed in range(3)]
    for model, name in zip(models, ("a", "b", "new"), strict=True):
        lmc.save(model, tmp_path / name)
    a, b = (lmc.load(tmp_path / name) for name in "ab")
    (tmp_path / "new/model.safetensors").replace(tmp_path / "b/model.safetensors")
    assert same(lmc.match(a, b, method="naive").merge(1.0), models[1])


def test_a_transform_of_other_values_is_refused(alignment, tmp_path):
    alignment.save(tmp_path / "aligned")
    file = tmp_path / "aligned/transform-1.safetensors"
    sound = load_file(file)
    stream, heads = (next(n for n in sound if n.startswith(kind)) for kind in ("stream", "head"))
    for name, value, message in ((stream, float("nan"), "finite numbers"), (heads, 0, "permutations")):
        save_file({**sound, name: torch.full_like(sound[name], value)}, file)
        with pytest.raises(lmc.CheckpointError, match=f"transform-1.safetensors: space {name}: expected {message}"):
            lmc.Transform.load(file)


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


def test_a_parent_that_was_changed_since_is_not_merged_as_it_was() -> None:
    a, b = (pico.neox(seed) for seed in (0, 1))
    alignment = lmc.match(a, b, method="canonical")
    alignment.merge(0.5)
    with torch.no_grad():
        next(a.parameters()).mul_(2)
    with pytest.raises(lmc.ArgumentError, match="expected parent 0 as it was when its aligned form was made"):
        alignment.merge(0.5)


def test_a_change_through_data_is_noticed_too() -> None:
    a, b = pico.neox(0), pico.neox(1)
    alignment = lmc.match(a, b, method="weights")
    alignment.merge(0.5)
    for parameter in b.parameters():
        parameter.data.mul_(1.1)
    with pytest.raises(lmc.ArgumentError, match="expected parent 1 as it was when its aligned form was made"):
        alignment.merge(0.5)


def test_parents_that_were_brought_to_one_normalisation_are_not_changed_by_half() -> None:
    """`naive` mixes the parents themselves, but for one whose pictures were made in another way: that is a copy."""
    a, b = pico.vit(0), pico.vit(1)
    b.pretrained_cfg = {**a.pretrained_cfg, "mean": (0.1,) * 3, "std": (0.3,) * 3}
    alignment = lmc.match(a, b, method="naive")
    alignment.merge(0.5)
    next(a.parameters()).data.mul_(1.1)
    alignment.merge(0.5)
    next(b.parameters()).data[..., 1::2].mul_(1.1)
    for use in (lambda: alignment.merge(0.5), lambda: alignment.end_error(1)):
        with pytest.raises(lmc.ArgumentError, match="expected parent 1 as it was when its aligned form was made"):
            use()


@pytest.mark.parametrize("method", ["naive", "weights"])
@pytest.mark.parametrize("kinds", [(torch.bfloat16, torch.float32), (torch.float32, torch.float64)])
def test_parents_of_two_types_are_mixed_in_the_wider_one(
    kinds: tuple[torch.dtype, ...], method: str, tmp_path: Path
) -> None:
    for k in range(2):
        lmc.save(pico.neox(k, torch.float32), tmp_path / str(k))
    models = [lmc.load(tmp_path / str(k), dtype=dtype) for k, dtype in enumerate(kinds)]
    merged = lmc.match(*models, method=method).merge(1.0)
    assert {p.dtype for p in merged.parameters()} == {kinds[1]}
    inputs = pico.inputs(merged)
    assert relative_change(pico.logits(models[1], inputs), pico.logits(merged, inputs)) <= 1e-5


def test_a_parent_whose_epsilon_was_changed_since_is_not_merged_as_it_was() -> None:
    a, b = (pico.neox(seed) for seed in (0, 1))
    alignment = lmc.match(a, b, method="canonical")
    alignment.merge(0.5)
    set_epsilon(b, alignment.transforms[1].spec, 0.5)
    with pytest.raises(lmc.ArgumentError, match="expected parent 1 as it was when its aligned form was made"):
        alignment.merge(0.5)
