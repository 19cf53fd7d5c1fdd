"""A fine-tune moves: exactly between rewritten copies, with its rank, and what is no fine-tune is refused in a line."""

import copy
import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from safetensors.torch import save_file

import lmc
from lmc.cli import main
from lmc.errors import ArgumentError
from lmc.matching import require_tunable, taught, with_change
from lmc.symmetries.exactness import relative_change


def tuned_from(model: Any, seed: int = 5, size: float = 0.2) -> Any:
    """The model with every weight changed, those of norms too."""
    draw = torch.Generator().manual_seed(seed)
    change = {n: t.std(correction=0) * torch.randn(t.shape, generator=draw) for n, t in model.state_dict().items()}
    tensors = {n: t + size * change[n].to(t) for n, t in model.state_dict().items()}
    other = type(model)(model.config) if hasattr(model, "config") else copy.deepcopy(model)
    other.load_state_dict(tensors)
    return other.to(next(model.parameters()).dtype).eval()


FAMILIES = [pico.neox, pico.llama, pico.gpt2, pico.bert, pico.qwen3, pico.olmo2, pico.mixtral, pico.vit, pico.opt]


@pytest.mark.filterwarnings("ignore:.*name their classes differently", "ignore:.*name no classes but for one")
def test_what_the_tuned_model_is_used_with_goes_along(tmp_path: Path) -> None:
    """Its stop tokens, its way of sampling, the names of its classes."""
    a, b = (pico.llama(k, torch.float32) for k in range(2))
    tuned = tuned_from(a)
    tuned.config.eos_token_id = 7
    tuned.generation_config.update(eos_token_id=[7, 2], do_sample=True, temperature=0.3)
    lmc.match(a, b, method="weights").export_transported(tuned, tmp_path / "carried")
    found = json.loads((tmp_path / "carried/generation_config.json").read_text())
    assert (found["eos_token_id"], found["temperature"]) == ([7, 2], 0.3)
    assert json.loads((tmp_path / "carried/config.json").read_text())["eos_token_id"] == 7
    a, b = (pico.hf_vit(k, torch.float32) for k in range(2))
    tuned = tuned_from(a)
    tuned.config.id2label = dict(enumerate("abcdefghij"))
    lmc.match(a, b, method="weights").export_transported(tuned, tmp_path / "seen")
    assert lmc.load(tmp_path / "seen").config.id2label == tuned.config.id2label
    a.config.id2label, tuned.config.id2label = tuned.config.id2label, b.config.id2label  # which names none
    lmc.match(a, b, method="weights").export_transported(tuned, tmp_path / "unnamed")
    assert lmc.load(tmp_path / "unnamed").config.id2label == a.config.id2label
    a.config.id2label, b.config.id2label = b.config.id2label, a.config.id2label
    lmc.match(a, b, method="weights").export_transported(tuned, tmp_path / "of the new base")
    assert lmc.load(tmp_path / "of the new base").config.id2label == b.config.id2label
    a, b = (pico.vit(k, torch.float32) for k in range(2))
    tuned = tuned_from(a)
    b.pretrained_cfg = {**b.pretrained_cfg, "label_names": list("jihgfedcba"), "label_descriptions": {"j": "of B"}}
    tuned.pretrained_cfg = {**tuned.pretrained_cfg, "label_names": list("abcdefghij")}
    lmc.match(a, b, method="weights").export_transported(tuned, tmp_path / "timm")
    found = json.loads((tmp_path / "timm/config.json").read_text())
    assert found["label_names"] == list("abcdefghij") and "label_descriptions" not in found


def of_relu(build: Callable[..., Any], setting: str) -> Callable[[int], Any]:
    """Its units can be rescaled, and share the residual scale of what they write."""
    return lambda seed: build(seed, **{setting: "relu"})


def test_the_card_says_what_the_new_base_gets_beside_the_change(tmp_path: Path) -> None:
    a = pico.llama(0, torch.float32, tie_word_embeddings=True)
    tuned = tuned_from(a)
    with pytest.warns(UserWarning, match="was tied to"):
        b = lmc.canonicalize(pico.llama(1, torch.float32, tie_word_embeddings=True))
        alignment = lmc.match(a, pico.llama(1, torch.float32, tie_word_embeddings=True), method="canonical")
    card = alignment.export_transported(tuned, tmp_path / "carried")
    assert "- lm_head.weight was tied to model.embed_tokens.weight and is a tensor of its own, as" in card
    assert f"{b.lm_head.weight.numel():,} more parameters\n" in card and "- weights: float32\n" in card


RELU = [of_relu(pico.neox, "hidden_act"), of_relu(pico.gpt2, "activation_function"), of_relu(pico.hf_vit, "hidden_act")]


@pytest.mark.parametrize(
    ("build", "turned"),
    [*((build, False) for build in (*FAMILIES, *RELU)), (pico.neox, True)],
    ids=lambda of: str(of)[:20],
)
def test_a_change_moves_exactly_between_rewritten_copies(build: Any, turned: bool) -> None:
    """What A was taught, carried to B = g·A through the weights alone, makes of B what A has become; and back."""
    a = build(0)
    tuned = tuned_from(a)
    b = lmc.Transform.random(lmc.spec(a), seed=3).apply(lmc.canonicalize(a))
    inputs = pico.inputs(a)
    with lmc.float64():
        alignment = lmc.match(*((b, a) if turned else (a, b)), method="weights")
        carried = alignment.transport(tuned)
        before, expected = pico.logits(a, inputs), pico.logits(tuned, inputs)
        found = pico.logits(carried, inputs)
        as_it_is = pico.logits(with_change(lmc.canonicalize(b), taught(a, tuned)), inputs)
    assert relative_change(before, expected) > 1e-2  # it was taught something
    assert relative_change(expected, found) <= 1e-6
    assert relative_change(expected, as_it_is) > 1e-2


@pytest.mark.parametrize("form", ["in canonical form", "as it was aligned"])
@pytest.mark.parametrize("build", FAMILIES)
def test_a_fine_tune_of_a_rewritten_parent_is_one_of_that_parent(build: Any, form: str, tmp_path: Path) -> None:
    """What was carried is carried on, and an exported endpoint may be tuned: rewriting a parent is no change of it."""
    a = build(0)
    tuned, spec = tuned_from(a), lmc.spec(a)
    b = lmc.Transform.random(spec, seed=3).apply(lmc.canonicalize(a))
    with lmc.float64():
        moved = lmc.Transform.identity(spec) if form == "in canonical form" else lmc.Transform.random(spec, seed=5)
        together = tuple(moved @ transform for transform in lmc.match(a, b, method="weights").transforms)
        alignment = lmc.matching.Alignment("weights", (a, b), together, {})
        change = {name: together[0].moved(name, delta) for name, delta in taught(a, tuned).items()}
        rewritten = with_change(together[0].apply(lmc.canonicalize(a)), change)
        assert alignment.base_of(rewritten).form == form
        carried = alignment.transport(rewritten)
        expected, found = (pico.logits(model, pico.inputs(a)) for model in (tuned, carried))
        with pytest.raises(ArgumentError, match=r"from one of the two|found one of it in canonical"):
            lmc.match(a, b, method="naive").transport(rewritten)
        with pytest.raises(ArgumentError, match="found the weights of its base"):
            alignment.transport(alignment.models[0])
        card = alignment.export_transported(rewritten, tmp_path / "carried")
    assert relative_change(expected, found) <= 1e-6
    assert f"its base is taken {form}" in card


def test_a_fine_tune_of_an_endpoint_that_does_not_say_how_it_sees_sees_as_that_endpoint() -> None:
    """An exported endpoint has the input normalisation of the first model, whichever parent it is of."""
    a, b = pico.vit(0, torch.float32), pico.vit(1, torch.float32)
    for model, mean in ((a, 0.5), (b, 0.4)):
        model.pretrained_cfg = {**model.pretrained_cfg, "mean": (mean,), "std": (mean / 2,)}
    alignment = lmc.match(a, b, method="weights")
    tuned = copy.deepcopy(alignment.models[1])
    with torch.no_grad():
        tuned.blocks[0].mlp.fc1.weight += 0.1 * torch.randn(tuned.blocks[0].mlp.fc1.weight.shape)
    expected = alignment.transport(tuned).state_dict()
    tuned.pretrained_cfg = {k: v for k, v in tuned.pretrained_cfg.items() if k not in ("mean", "std")}
    with pytest.warns(UserWarning, match="is not known"):
        found = alignment.transport(tuned).state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


@pytest.mark.parametrize("build", [pico.neox, pico.gpt2, pico.vit])
def test_of_a_naive_alignment_the_change_is_added_as_it_is(build: Any) -> None:
    a, b = build(0), build(1)
    tuned = tuned_from(a)
    carried = lmc.match(a, b, method="naive").transport(tuned).state_dict()
    for name, tensor in b.state_dict().items():
        assert torch.allclose(carried[name], tensor + tuned.state_dict()[name] - a.state_dict()[name])


def test_a_change_keeps_its_rank_and_size() -> None:
    a, b = pico.neox(0), pico.neox(1)
    name = "gpt_neox.layers.0.mlp.dense_4h_to_h.weight"
    tuned = pico.neox(0)
    low = torch.outer(torch.randn(16).double(), torch.randn(24).double())
    low *= 0.1 * tuned.state_dict()[name].norm() / low.norm()
    low -= low.mean(0)
    tuned.state_dict()[name].add_(low)
    carried = lmc.match(a, b, method="weights").transport(tuned).state_dict()[name]
    moved = carried - lmc.canonicalize(b).state_dict()[name]
    assert int(torch.linalg.matrix_rank(moved, rtol=1e-9)) == 1 and moved.norm() == pytest.approx(low.norm())


def test_a_fine_tune_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    a, b = (pico.llama(seed, torch.float32) for seed in range(2))
    alignment = lmc.match(a, b, method="weights")
    tuned = copy.deepcopy(a)
    tuned.lm_head.weight.data.mul_(1.1)
    tuned.model.layers[0].mlp.act_fn = torch.nn.ReLU()
    for use in (alignment.transport, lambda model: alignment.export_transported(model, tmp_path / "out")):
        with pytest.raises(lmc.UnsupportedModelError, match=r"act_fn: expected .*, as its settings say, found"):
            use(tuned)


def test_what_is_no_fine_tune_of_a_parent_is_refused() -> None:
    a, b = pico.neox(0), pico.neox(1)
    alignment = lmc.match(a, b, method="weights")
    refused = (
        r"fine-tuned from one of the two .* changed by less than 0\.5 .*, found changes of [\d.]+ and [\d.]+; match"
    )
    between = lmc.match(a, b, method="naive").merge(0.5)  # 0.7 of its size away from each
    for other in (pico.neox(2), between, tuned_from(a, size=2)):
        with pytest.raises(lmc.ArgumentError, match=refused):
            alignment.transport(other)
    for parent in (a, b):
        with pytest.raises(lmc.ArgumentError, match="tuned: expected a change to carry, found the weights of its base"):
            alignment.transport(parent)
    with pytest.raises(lmc.ArgumentError, match=r"expected a fine-tune of one of the two parents; .* shape"):
        require_tunable(pico.neox(0, intermediate_size=30), (a, b))
    with pytest.raises(lmc.ArgumentError, match="between two models, found 3"):
        lmc.match(a, b, pico.neox(2), method="weights").transport(a)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parents, their alignment, a fine-tune of the first, an adapter of it, another model, one of another shape."""
    folder = tmp_path_factory.mktemp("carrying")
    pico.tokenizer(folder / "words")
    a, b, other = (pico.neox(seed, torch.float32) for seed in range(3))
    models = {"a": a, "b": b, "other": other, "tuned": tuned_from(a)}
    models["wider"] = pico.neox(0, torch.float32, intermediate_size=30)
    for name, model in models.items():
        lmc.save(model, folder / name, tokenizer_from=folder / "words")
    lmc.match(lmc.load(folder / "a"), lmc.load(folder / "b"), method="weights").save(folder / "aligned")
    for name, base in (("adapter", "a"), ("wide-adapter", "wider"), ("other-adapter", "other")):
        write_adapter(folder / name, base, models[base])
    change(folder, "epsilon", "config.json", lambda plain: plain | {"layer_norm_eps": 0.5})
    change(folder, "words-exchanged", "tokenizer.json", exchanged)
    return folder


def change(folder: Path, name: str, file: str, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The fine-tune under another name, with a file changed."""
    shutil.copytree(folder / "tuned", folder / name)
    (folder / name / file).write_text(json.dumps(edit(json.loads((folder / name / file).read_text()))))


def exchanged(plain: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer in which two words have each other's id."""
    vocab = plain["model"]["vocab"]
    one, other = list(vocab)[:2]
    vocab |= {one: vocab[other], other: vocab[one]}
    return plain


def write_adapter(folder: Path, base: str, model: Any) -> None:
    """A LoRA adapter of rank 2 on one layer."""
    target = "gpt_neox.layers.0.mlp.dense_h_to_4h"
    out, into = model.get_submodule(target).weight.shape
    draw = torch.Generator().manual_seed(0)
    factors = {"A": torch.randn(2, into, generator=draw), "B": 0.01 * torch.randn(out, 2, generator=draw)}
    folder.mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": f"../{base}", "r": 2, "lora_alpha": 2}
    settings |= {"target_modules": ["dense_h_to_4h"], "layers_to_transform": [0]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    tensors = {f"base_model.model.{target}.lora_{part}.weight": tensor for part, tensor in factors.items()}
    save_file(tensors, folder / "adapter_model.safetensors")


def test_a_model_tuned_in_memory_has_the_tokenizer_of_its_base_and_its_own_stop_tokens(folders: Path) -> None:
    alignment = lmc.matching.Alignment.load(folders / "aligned")
    tuned = tuned_from(lmc.load(folders / "a"))
    tuned.name_or_path = ""
    assert lmc.checkpoints.source(tuned) is None
    tuned.generation_config.update(eos_token_id=[7, 2])
    card = alignment.export_transported(tuned, folders / "in-memory")
    assert (folders / "in-memory/tokenizer.json").read_bytes() == (folders / "a/tokenizer.json").read_bytes()
    assert json.loads((folders / "in-memory/generation_config.json").read_text())["eos_token_id"] == [7, 2]
    assert "generation settings" not in card


@pytest.mark.parametrize("name", ["tuned", "adapter"])
def test_the_command_writes_a_stock_model(folders: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = folders / f"{name}-carried"
    assert main(["transport", str(folders / "aligned"), str(folders / name), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "carried by an alignment" in said and f"- tuned: {folders.name}/{name} (" in said
    assert str(folders) not in said.partition("wrote")[0]
    if name == "adapter":
        assert f"- tuned: {folders.name}/{name} (adapter, a LoRA adapter, joined with its base a)" in said
    (size,) = re.findall(r"- size of the change: ([\d.]+)% of the weight matrices of its base", said)
    assert float(size) > 1
    found, b = lmc.load(out), lmc.load(folders / "b")
    inputs = pico.inputs(b)
    assert relative_change(pico.logits(b, inputs), pico.logits(found, inputs)) > 1e-3
    assert not list(folders.glob("*.partial*"))


def test_the_card_states_the_licences_of_the_change_and_of_what_it_was_carried_to(tmp_path: Path) -> None:
    for k, name in enumerate("ab"):
        lmc.save(pico.neox(k, torch.float32), tmp_path / name)
    lmc.save(tuned_from(lmc.load(tmp_path / "a")), tmp_path / "tuned")
    for name, licence in {"b": "cc-by-nc-4.0", "tuned": "mit"}.items():
        (tmp_path / name / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    a, b, tuned = (lmc.load(tmp_path / name) for name in ("a", "b", "tuned"))
    lmc.match(a, b, method="weights").export_transported(tuned, tmp_path / "carried")
    head = (tmp_path / "carried" / "README.md").read_text().split("---")[1]
    assert "license: other\nlicense_name: mit (fine-tune) and cc-by-nc-4.0 (its new base)\n" in head


def test_what_a_fine_tune_lacks_comes_from_its_base(tmp_path: Path) -> None:
    pico.tokenizer(tmp_path / "words")
    for k, name in enumerate("ab"):
        lmc.save(pico.neox(k, torch.float32), tmp_path / name, tokenizer_from=tmp_path / "words")
    lmc.save(tuned_from(lmc.load(tmp_path / "a")), tmp_path / "tuned")
    a, b, tuned = (lmc.load(tmp_path / name) for name in ("a", "b", "tuned"))
    with pytest.warns(UserWarning, match="tuned has no tokenizer, so whether tokens mean the same was not compared"):
        card = lmc.match(a, b, method="naive").export_transported(tuned, tmp_path / "carried")
    assert (tmp_path / "carried/tokenizer.json").read_bytes() == (tmp_path / "a/tokenizer.json").read_bytes()
    assert "- tokenizer: of its base, as the fine-tune has none\n" in card


HOWS = {
    "first": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    "other": {"image_mean": [0.3] * 3, "image_std": [0.2] * 3},
}


@pytest.mark.parametrize("method", ["naive", "weights"])
@pytest.mark.parametrize("unsaid", ["tuned", "base"])
def test_a_fine_tune_reads_pictures_as_its_base_does(method: str, unsaid: str) -> None:
    """Where only one of the two says how: else the difference of two normalisations were carried as if taught."""
    a, b = (pico.hf_vit(k, torch.float32, num_channels=3) for k in range(2))
    tuned = tuned_from(b)
    a.preprocessor_config, tuned.preprocessor_config = ({"do_normalize": True, **HOWS[name]} for name in HOWS)
    b.preprocessor_config = dict(tuned.preprocessor_config)
    if unsaid == "tuned":
        expected = lmc.match(a, b, method=method).transport(tuned)
        tuned.preprocessor_config = None
    else:  # nothing is known of both, so nothing is folded
        b.preprocessor_config = plain = None
        silent = tuned_from(b)
        silent.preprocessor_config = plain
        with pytest.warns(UserWarning, match=r"input normalisation: .* and unknown"):
            expected = lmc.match(a, b, method=method).transport(silent)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*both are given the first one's pictures")
        alignment = lmc.match(a, b, method=method)
    whose = "is not known .* its base's" if unsaid == "tuned" else "of its base is not known .* its own"
    with pytest.warns(UserWarning, match=whose) as said:
        found = alignment.transport(tuned)
    assert not any("model 1" in str(each.message) for each in said)
    for name, tensor in expected.state_dict().items():
        assert torch.allclose(found.state_dict()[name], tensor, atol=1e-6), name


def test_tokens_that_mean_others_are_refused_in_python_too(folders: Path) -> None:
    alignment, tuned = lmc.Alignment.load(folders / "aligned"), lmc.load(folders / "words-exchanged")
    for ask in (alignment.base_of, alignment.transport):
        with pytest.raises(lmc.IncompatibleModelsError, match=r"the parents and it differ in tokenizer\.json, id of"):
            ask(tuned)


REFUSED = {
    "a": "tuned: expected a change to carry, found the weights of its base",
    "other": "tuned: expected a model fine-tuned from one of the two parents",
    "wider": "tuned: expected a fine-tune of one of the two parents; the parents and it differ in shape",
    "wide-adapter": "tuned: expected a fine-tune of one of the two parents; the parents and it differ in shape",
    "other-adapter": "tuned: expected a model fine-tuned from one of the two parents",
    "nowhere": "nowhere",
    "epsilon": "tuned: expected the layer_norm_eps of its base, 1e-05, found 0.5, which is no change of",
    "words-exchanged": "the parents and it differ in tokenizer.json, id of token",
}
AS_MATCHED = {"wider", "wide-adapter", "words-exchanged"}  # a tune of what a parent was before it was matched


@pytest.mark.parametrize(("name", "words"), REFUSED.items(), ids=REFUSED)
def test_the_command_refuses_in_a_line(
    folders: Path, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folders / "refused"
    assert main(["transport", str(folders / "aligned"), str(folders / name), "--out", str(out)]) == 2
    told = capsys.readouterr()
    assert "the ends of the path" not in told.out or name in ("a", "words-exchanged")  # nothing sounds like success
    lines = told.err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error:")]
    assert len(errors) == 1 and words in errors[0] and len(errors[0]) < 1000 and not out.exists()
    advice = f"fine-tune one of the two models that were matched ({folders / 'a'}, {folders / 'b'})"
    assert (advice in errors[0]) == (name in AS_MATCHED)


def test_an_exported_endpoint_has_nothing_to_carry(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the type of its parent, as it was written and is read again."""
    pair = [str(folders / name) for name in "ab"]
    assert main(["match", *pair, "--method", "weights", "--export", "--out", str(tmp_path / "aligned")]) == 0
    for k in (0, 1):
        endpoint = str(tmp_path / f"aligned/models/endpoint-{k}")
        assert main(["transport", str(tmp_path / "aligned"), endpoint, "--out", str(tmp_path / "out")]) == 2
        assert "found the weights of its base; name its fine-tune" in capsys.readouterr().err


def test_the_tokens_of_a_fine_tune_are_compared_with_those_of_the_parent_that_has_a_tokenizer(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        shutil.copytree(folders / name, tmp_path / name)
    for file in (tmp_path / "a").glob("*token*"):
        file.unlink()
    lmc.match(lmc.load(tmp_path / "a"), lmc.load(tmp_path / "b"), method="naive").save(tmp_path / "aligned")
    given = ["transport", str(tmp_path / "aligned"), str(folders / "words-exchanged"), "--out", str(tmp_path / "out")]
    assert main(given) == 2
    assert "the parents and it differ in tokenizer.json, id of token" in capsys.readouterr().err
    assert main([*given[:2], str(folders / "tuned"), *given[3:]]) == 0


def test_parents_that_changed_are_refused(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lmc.match(pico.neox(0, torch.float32), pico.neox(1, torch.float32), method="weights").save(tmp_path / "aligned")
    weights = tmp_path / "aligned" / "parent-0" / "model.safetensors"
    weights.write_bytes((folders / "other" / "model.safetensors").read_bytes())
    given = ["transport", str(tmp_path / "aligned"), str(folders / "tuned"), "--out", str(tmp_path / "out")]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "parent-0" in said and "changed" in said and not (tmp_path / "out").exists()


def test_a_fine_tune_without_a_tokenizer_is_carried_with_a_line(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tokens may be those that a parent had before it was brought to another vocabulary."""
    shutil.copytree(folders / "tuned", tmp_path / "tuned")
    for file in (tmp_path / "tuned").glob("*token*"):
        file.unlink()
    given = ["transport", str(folders / "aligned"), str(tmp_path / "tuned"), "--out", str(tmp_path / "out")]
    assert main(given) == 0
    said = "tuned has no tokenizer, so whether tokens mean the same was not compared"
    assert f"{tmp_path.name}/{said}" in capsys.readouterr().err


LARGER = [
    (pico.neox, {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 30}, {}),
    (pico.llama, {"intermediate_size": 15, "num_hidden_layers": 3}, {}),
    (pico.gpt2, {"hidden_size": 24, "num_attention_heads": 3}, {}),
    (pico.vit, {"embed_dim": 24, "num_heads": 3, "depth": 3}, {}),
    (pico.gpt2, {}, {"max_position_embeddings": 20}),
    (pico.gpt2, {"hidden_size": 24, "num_attention_heads": 3}, {"max_position_embeddings": 20}),
]


@pytest.mark.filterwarnings("ignore:.*(is smaller than model|differ in their context)")
@pytest.mark.parametrize(("build", "large", "short"), LARGER)
@pytest.mark.parametrize("written", [False, True], ids=["in its own shapes", "in those it was matched in"])
def test_a_fine_tune_of_the_smaller_of_two_sizes_is_carried(
    build: Any, large: Any, short: Any, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is a rewritten copy of what the first becomes: what was taught to one, the other then knows exactly.

    Written in those shapes, what was added is tuned, too: heads that wrote nothing.
    """
    monkeypatch.chdir(tmp_path)
    a = build(0, torch.float32)
    grown = lmc.enlarge(a, like=build(1, torch.float32, **large)) if large else a
    if short:
        grown = lmc.symmetries.shorten(grown, 20)
    lmc.save(a, "a")
    lmc.save(lmc.Transform.random(lmc.spec(grown), seed=3).apply(lmc.canonicalize(grown)), "b")
    assert main(["match", "a", "b", "--method", "weights", "--out", "aligned"]) == 0
    tuned = tuned_from(lmc.load("aligned.parents/0-a") if written else a, size=0.05)
    lmc.save(tuned, "tuned")
    assert main(["transport", "aligned", "tuned", "--out", "carried"]) == 0
    inputs = pico.inputs(a)
    before, expected, found = (pico.logits(model, inputs) for model in (a, tuned, lmc.load("carried")))
    assert relative_change(before, expected) > 1e-2
    assert relative_change(expected, found) <= 1e-5
    assert ("/tuned (tuned, " in Path("carried/README.md").read_text()) == (not written)


@pytest.mark.filterwarnings("ignore:.*is smaller than model")
def test_a_change_of_the_smaller_of_two_sizes_keeps_its_place_and_its_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between networks that were not trained together: what is not tuned stays as it is in the other one."""
    monkeypatch.chdir(tmp_path)
    small, large = pico.llama(0, torch.float32), pico.llama(1, torch.float32, intermediate_size=15, num_hidden_layers=3)
    tuned = copy.deepcopy(small)
    names = {"model.layers.0.self_attn.v_proj.weight", "model.layers.1.mlp.up_proj.weight"}
    draw = torch.Generator().manual_seed(3)
    for name in names:
        weight = tuned.get_parameter(name).data
        column, row = (torch.randn(size, generator=draw) for size in weight.shape)
        weight += 0.1 * weight.std() * torch.outer(column, row)
    for name, model in {"small": small, "large": large, "tuned": tuned}.items():
        lmc.save(model, name)
    assert main(["match", "small", "large", "--method", "weights", "--out", "aligned"]) == 0
    assert main(["transport", "aligned", "tuned", "--out", "carried"]) == 0
    before, after = lmc.canonicalize(large).state_dict(), lmc.load("carried").state_dict()
    size = {name: float((after[name] - before[name]).norm() / before[name].norm()) for name in before}
    assert {name for name, moved in size.items() if moved > 1e-5} == names
    for name in names:
        values = torch.linalg.svdvals(after[name] - before[name])
        assert values[1] < 1e-4 * values[0]


@pytest.mark.filterwarnings("ignore:.*is smaller than model")
def test_a_model_without_its_last_layer_is_no_fine_tune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a parent that was written in larger shapes itself has fine-tunes of smaller ones."""
    monkeypatch.chdir(tmp_path)
    a, b = (pico.llama(k, torch.float32, num_hidden_layers=3) for k in range(2))
    shorter = pico.llama(0, torch.float32, num_hidden_layers=2)
    shorter.load_state_dict({name: a.state_dict()[name] for name in shorter.state_dict()})
    for name, model in {"a": a, "b": b, "shorter": shorter}.items():
        lmc.save(model, name)
    assert main(["match", "a", "b", "--method", "weights", "--out", "aligned"]) == 0
    assert main(["transport", "aligned", "shorter", "--out", "carried"]) == 2
    assert "the parents and it differ in shape of" in capsys.readouterr().err


def cut(model: Any, rest: float) -> Any:
    """One direction of the values of a head is written `rest` times as strongly as it was."""
    weight = model.get_parameter("model.layers.0.self_attn.v_proj.weight").data
    head = weight[: model.config.head_dim]
    left, values, right = torch.linalg.svd(head, full_matrices=False)
    values[-1] *= rest
    weight[: len(head)] = left * values @ right
    return model


def test_a_head_that_does_little_in_some_direction_is_said_or_refused() -> None:
    model = cut(pico.llama(), 1e-4)
    with pytest.warns(UserWarning, match=r"space value\.0 .*a change there grows up to \d+ times as much"):
        taught(model, tuned_from(model))
    model = cut(pico.llama(), 1e-9)
    with pytest.raises(lmc.CheckpointError, match=r"space value\.0 .* 1000 times as much as another, found"):
        taught(model, tuned_from(model))


@pytest.mark.parametrize(
    ("name", "space"), [("mlp.down_proj", "unit"), ("self_attn.v_proj", "value"), ("self_attn.k_proj", "plane")]
)
def test_a_unit_or_a_head_of_which_one_side_does_little_is_said(name: str, space: str) -> None:
    model = pico.llama()
    weight = model.get_parameter(f"model.layers.1.{name}.weight").data
    (weight.T[2] if space == "unit" else weight[: model.config.head_dim]).mul_(1e-5)
    with pytest.warns(UserWarning, match=rf"space {space}\.1 .*a change there grows up to \d+ times as much"):
        taught(model, tuned_from(model))


def test_a_unit_of_which_one_side_is_zero_is_said() -> None:
    model = pico.llama()
    model.get_parameter("model.layers.1.mlp.down_proj.weight").data[:, 2] = 0
    with pytest.warns(UserWarning, match=r"space unit\.1 .* of 12 entries 1 are written and not read, or read"):
        taught(model, tuned_from(model))


def test_what_only_one_side_of_a_head_does_leads_nowhere() -> None:
    """A direction that is written and never read is gone from the canonical form, so no change of it can be carried."""
    model = pico.neox()
    with torch.no_grad():
        model.gpt_neox.layers[0].attention.dense.weight[:, :3] = 0
    with pytest.raises(lmc.CheckpointError, match=r"space value\.0 .* was it trained\?"):
        taught(model, tuned_from(model))
