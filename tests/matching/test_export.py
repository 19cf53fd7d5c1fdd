"""What is exported is stock: it loads where lmc cannot be imported, in the type asked for, and its card is true."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pico
import pytest
import stock
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaForCausalLM

import lmc
from lmc import corpora
from lmc.cli import main
from lmc.errors import CheckpointError
from lmc.evaluation import rounding
from lmc.matching import merge_folder


def parents(folder: Path, make: Any, **config: Any) -> list[Any]:
    """Two models that were saved and loaded again, with tokenizers where they read text."""
    for k, name in enumerate("ab"):
        lmc.save(make(k, torch.float32, **config), folder / name)
        if make is not pico.vit:
            pico.tokenizer(folder / name)
    return [lmc.load(folder / name) for name in "ab"]


@pytest.mark.parametrize("make", [pico.neox, pico.vit])
def test_merged_and_aligned_models_load_without_lmc(make: Any, tmp_path: Path) -> None:
    alignment = lmc.match(*parents(tmp_path, make), method="weights")
    alignment.export(tmp_path / "merged", at=0.25, dtype=torch.bfloat16)
    alignment.export(tmp_path / "aligned")
    if make is pico.neox:
        assert AutoTokenizer.from_pretrained(tmp_path / "merged")("w3 w1").input_ids == [3, 1]
        assert (tmp_path / "merged" / "generation_config.json").exists()
    assert {t.dtype for t in load_file(tmp_path / "merged" / "model.safetensors").values()} == {torch.bfloat16}
    inputs = pico.inputs(alignment.parents[0])
    rounded = alignment.merge(0.25).to(torch.bfloat16).float()
    names = ("merged", "aligned/endpoint-0", "aligned/endpoint-1")
    exported = dict(zip(names, (rounded, *alignment.parents), strict=True))
    for name, expected in exported.items():
        found, logits = stock.logits(tmp_path / name, inputs), pico.logits(expected, inputs)
        assert (found - logits).abs().max() <= 1e-4 * logits.abs().max(), name


@pytest.mark.parametrize("make", [pico.neox, pico.gpt2, pico.llama, pico.qwen2, pico.olmo, pico.hf_vit])
def test_streamed_export_is_the_model_in_memory(make: Any, tmp_path: Path) -> None:
    a, b = (make(k, torch.float32) for k in (0, 1))
    alignment = lmc.match(a, b, method="weights")
    alignment.export(tmp_path / "merged", at=0.3)
    alignment.export(tmp_path / "aligned")
    exported = [
        (alignment.merge(0.3), "merged"),
        *((m, f"aligned/endpoint-{k}") for k, m in enumerate(alignment.models)),
    ]
    for model, name in exported:
        again = lmc.load(tmp_path / name).state_dict()
        assert again.keys() == model.state_dict().keys()
        assert all(torch.equal(t, again[n]) for n, t in model.state_dict().items())


@pytest.mark.parametrize("make", [pico.llama, pico.qwen2])
@pytest.mark.parametrize("method", ["canonical", "weights"])
def test_an_endpoint_of_another_epsilon_keeps_its_function(make: Any, method: str, tmp_path: Path) -> None:
    """The residual scale moves the embedding and not the head: also where the final norm leaves them one tensor."""
    pair = [make(k, torch.float32, tie_word_embeddings=True, rms_norm_eps=10.0 ** -(5 + k)) for k in (0, 1)]
    for model in pair:
        for name, tensor in model.named_parameters():
            if "norm" in name:
                tensor.data.fill_(1.0)
    lmc.match(*pair, method=method).export(tmp_path / "aligned")
    for k, parent in enumerate(pair):
        inputs = pico.inputs(parent)
        found, logits = stock.logits(tmp_path / f"aligned/endpoint-{k}", inputs), pico.logits(parent, inputs)
        assert (found - logits).abs().max() <= 1e-4 * logits.abs().max(), k


def test_a_head_that_is_not_the_embedding_is_not_dropped(tmp_path: Path) -> None:
    model = pico.llama(0, torch.float32, tie_word_embeddings=True)
    tensors = {name: t + float(name == "lm_head.weight") for name, t in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"lm_head\.weight: tied to model\.\S+, but another tensor"):
        lmc.save(model, tmp_path / "a", tensors=tensors.items())
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("method", ["canonical", "weights"])
def test_generation_settings_are_carried_over(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Also those that the stock way would refuse to save: a temperature without sampling is only warned of."""
    monkeypatch.chdir(tmp_path)
    parents(tmp_path, pico.llama)
    chosen = {"do_sample": False, "temperature": 0.6, "eos_token_id": [1, 2], "max_new_tokens": 7}
    for name in "ab":
        Path(name, "generation_config.json").write_text(json.dumps(chosen))
    assert main(["match", "a", "b", "--method", method, "--export", "--out", "aligned"]) == 0
    assert main(["merge", "aligned", "--out", "merged"]) == 0
    for name in ("aligned/models/endpoint-0", "aligned/models/endpoint-1", "merged"):
        found = json.loads(Path(name, "generation_config.json").read_text())
        assert {"temperature": 0.6, "eos_token_id": [1, 2], "max_new_tokens": 7}.items() <= found.items()
        assert not found.get("do_sample")  # the default is not written


def test_merged_models_carry_the_parents_epsilon(tmp_path: Path) -> None:
    a, b = pico.llama(0, torch.float32, rms_norm_eps=1e-2), pico.llama(1, torch.float32, rms_norm_eps=1e-6)
    alignment = lmc.match(a, b, method="canonical")
    alignment.export(tmp_path / "merged", at=0.5)
    merged = lmc.load(tmp_path / "merged")
    assert merged.config.rms_norm_eps == 1e-2
    inputs = pico.inputs(a)
    expected = pico.logits(alignment.merge(0.5), inputs)
    assert (pico.logits(merged, inputs) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(("make", "untied"), [(pico.llama, True), (pico.olmo, False)])
def test_a_head_is_untied_only_where_the_norm_forces_it(make: Any, untied: bool, tmp_path: Path) -> None:
    """Llama's final norm has a gain, OLMo's has none; the size is said, in the card too."""
    a, b = parents(tmp_path, make, tie_word_embeddings=True)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        alignment = lmc.match(a, b, method="canonical")
        (card,) = alignment.export(tmp_path / "merged", at=0.5)
    size = f"{40 * 16:,} more parameters"
    assert sum(size in str(w.message) for w in said) == int(untied)  # once, for all parents and uses
    assert (size in card) == untied
    tensors = load_file(tmp_path / "merged" / "model.safetensors")
    assert ("lm_head.weight" in tensors) == untied
    assert lmc.load(tmp_path / "merged").config.tie_word_embeddings != untied


def test_the_change_by_rounding_is_measured(tmp_path: Path) -> None:
    model = pico.neox(dtype=torch.float32)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    ids = pico.inputs(model, n=6)
    coarse = pico.neox(dtype=torch.float32).to(torch.bfloat16).float()
    with torch.no_grad():
        losses = [float(m(ids, labels=ids).loss) for m in (model, coarse)]
    said = rounding.change(model, torch.bfloat16, ids)
    assert said.startswith("rounding the weights to bfloat16 changes the loss by ")
    assert float(said.split(" by ")[1].split()[0]) == pytest.approx(losses[1] - losses[0], abs=2e-5)
    said = rounding.change(model, torch.bfloat16)
    assert "on random input" in said
    assert 1e-4 < float(said.split("at most ")[1].split()[0]) < 1e-1
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert not rounding.is_lower(torch.float32, torch.float32)
    assert rounding.is_lower(torch.float16, torch.float32)


def test_weights_too_large_for_the_type_are_named(tmp_path: Path) -> None:
    a, b = (pico.llama(k, torch.float32) for k in (0, 1))
    for model in (a, b):
        model.lm_head.weight.data.mul_(1e6)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight: expected finite values, .* as float16; not saved"):
        lmc.match(a, b, method="naive").export(tmp_path / "merged", at=0.5, dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []
    for k, model in enumerate((a, b)):
        lmc.save(model, tmp_path / str(k))
    lmc.match(*(lmc.load(tmp_path / str(k)) for k in range(2)), method="naive").save(tmp_path / "aligned")
    with pytest.raises(
        CheckpointError, match=r"^tensor lm_head\.weight: .*; not saved: choose a type that holds larger"
    ):
        merge_folder(tmp_path / "aligned", tmp_path / "merged", [0.5, 0.5], torch.float16)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "aligned"}


def test_a_card_says_what_is_known(tmp_path: Path) -> None:
    a, b = parents(tmp_path, pico.neox)
    alignment = lmc.match(a, b, method="weights", seed=3)
    ids = pico.inputs(a, n=6)
    result = lmc.path(alignment, ids, grid=3)
    (card,) = alignment.export(tmp_path / "merged", at=0.5, measured=result)
    loss = lmc.path(alignment, ids, grid=3).losses
    low, high = result.interval
    checksums = [lmc.checkpoints.reference(m)["sha256"]["model.safetensors"][:12] for m in (a, b)]
    for known in (
        f"Merged at λ = 0.5 from {tmp_path.name}/a and {tmp_path.name}/b.",
        "- method: weights",
        "- seed: 3",
        f"- parent 0: {tmp_path.name}/a (model.safetensors sha256 {checksums[0]})",
        f"- parent 1: {tmp_path.name}/b (model.safetensors sha256 {checksums[1]})",
        f"- loss: {loss[1]:.5f} nats per token (6 samples)",
        f"- loss of endpoint 1: {loss[2]:.5f} nats per token",
        f"- barrier of the path: {result.barrier:.5f} nats per token at 3 points, 95 %: {low:.5f} to {high:.5f} (6 ",
        "- weights: float32",
        f"lmc {lmc.__version__}, ",
    ):
        assert known in card, known
    assert card in (tmp_path / "merged" / "README.md").read_text()
    (elsewhere,) = alignment.export(tmp_path / "third", at=0.3, measured=result)
    assert "- loss: " not in elsewhere  # λ = 0.3 was not measured
    (rounded,) = alignment.export(tmp_path / "rounded", at=0.5, dtype=torch.bfloat16, measured=result)
    assert "- loss: " not in rounded and "- loss before rounding: " in rounded  # it was measured unrounded
    (unmeasured,) = alignment.export(tmp_path / "fourth", at=0.5)
    assert "loss" not in unmeasured
    assert str(tmp_path) not in card
    (of_one,) = alignment.export(tmp_path / "fifth", at=0.5, measured=lmc.path(alignment, ids[:1], grid=3))
    assert "nats per token at 3 points, one sample has no interval (1 samples)" in of_one


def test_the_command_line_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("ab"):
        lmc.save(pico.neox(k, torch.float32, vocab_size=256), name)
        corpora.byte_tokenizer().save_pretrained(name)
    Path("text.txt").write_text("".join(f"Line {i} of a text that is long enough.\n" for i in range(2000)))
    assert main(["match", "a", "b", "--method", "canonical", "--out", "aligned", "--export", "--dtype", "float32"]) == 0
    assert main(["path", "aligned", "--data", "text.txt", "--limit", "4", "--seed", "7", "--grid", "3"]) == 0
    capsys.readouterr()
    assert main(["merge", "aligned", "--at", "0.5", "--out", "m", "--dtype", "bfloat16", "--data", "text.txt"]) == 0
    out = capsys.readouterr().out
    assert "\nmeasuring what rounding to bfloat16 costs on text.txt\n" in out
    (loss,) = re.findall(r"- loss before rounding: (\S+) nats per token \(4 samples of text.txt\)", out)
    # The windows that `lmc path` was given: a card quotes one loss of a model.
    assert re.search(rf"- rounding the weights to bfloat16 changes the loss by .* \({loss} to \S+, 4 samples\)\n", out)
    assert main(["merge", "aligned", "--at", "0.5", "--out", "n", "--dtype", "float16"]) == 0
    assert "changes a logit by at most" in capsys.readouterr().out
    assert main(["merge", "aligned", "--at", "0.5", "--out", "o", "--dtype", "float8"]) == 2
    assert capsys.readouterr().err.startswith("error: --dtype: expected one of float64")
    assert not Path("o").exists()


@pytest.mark.parametrize("how", ["compiled", "around a layer"])
def test_merged_models_compute_what_their_class_does(how: str) -> None:
    """Not with what was put in the place of a parent's `forward`, which holds that parent's weights."""
    a, b = (pico.llama(seed, torch.float32) for seed in (0, 1))
    inputs = pico.inputs(a)
    expected = [pico.logits(model, inputs) for model in (a, b)]
    layer = a.model.layers[0].mlp
    if how == "compiled":
        a.forward = torch.compile(a.forward, backend="eager")
    else:
        layer.forward = torch.inference_mode()(layer.forward)
    for method in ("naive", "weights"):
        alignment = lmc.match(a, b, method=method)
        for at, logits in enumerate(expected):
            assert (pico.logits(alignment.merge(float(at)), inputs) - logits).abs().max() < 1e-4


@pytest.mark.parametrize("make", [pico.llama, pico.vit])
def test_a_module_that_stands_in_two_places_is_refused(make: Any) -> None:
    a, b = (make(seed, torch.float32) for seed in (0, 1))
    layers = a.model.layers if make is pico.llama else a.blocks
    layers[1].mlp = layers[0].mlp
    message = r"expected a module for each place, found one for .*0\.mlp\.\w+ and .*1\.mlp\.\w+; give each its own"
    for work in (lambda: lmc.match(a, b, method="naive"), lambda: lmc.canonicalize(a), lambda: lmc.check(a)):
        with pytest.raises(lmc.LmcError, match=message):
            work()


def test_a_card_says_an_epsilon_that_no_parent_has(tmp_path: Path) -> None:
    a, b = (pico.llama(k, torch.float32, rms_norm_eps=eps) for k, eps in enumerate((1e-5, 1e-6)))
    cards = [lmc.match(a, b, method=m).export(tmp_path / m, at=0.5)[0] for m in ("naive", "weights")]
    assert "- rms_norm_eps: 4.33e-06, of parents with 1e-05 and 1e-06\n" in cards[0]
    assert "rms_norm_eps" not in cards[1]


def test_of_models_that_the_library_read_it_is_said_that_little_is_known(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        lmc.save(pico.llama(seed, torch.float32), tmp_path / name)
    a, b = LlamaForCausalLM.from_pretrained(tmp_path / "a").eval(), lmc.load(tmp_path / "b")
    with pytest.warns(UserWarning, match=r"model 1: not read by lmc\.load, so its tokens are not compared, .*: read /"):
        lmc.match(a, b, method="weights")
    lmc.match(lmc.load(tmp_path / "a"), b, method="weights")
