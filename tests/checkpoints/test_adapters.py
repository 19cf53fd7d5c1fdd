"""LoRA adapters as parents: base + s·B·A, joined once; every other kind of adapter is refused by name."""

import json
import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import lmc
from lmc.checkpoints.conversion import convert
from lmc.cli import main
from lmc.errors import LmcError
from lmc.matching import prepare

QUERY, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
PLAIN = {"peft_type": "LORA", "base_model_name_or_path": "../base", "r": 4, "lora_alpha": 6, "bias": "none"}


def adapter(folder: Path, make: Any = pico.llama, layers: tuple[str, ...] = (QUERY, DOWN), **fields: Any) -> Any:
    """A base beside the folder, and in it an adapter as PEFT writes it; returns the base and the adapter's tensors."""
    model = make(0, torch.float32)
    if not (folder.parent / "base").exists():
        lmc.save(model, folder.parent / "base")
        pico.tokenizer(folder.parent / "base")
    generator, tensors = torch.Generator().manual_seed(1), {}
    for layer in layers:
        width = model.get_submodule(layer).weight.shape
        height, width = width if isinstance(model.get_submodule(layer), torch.nn.Linear) else width[::-1]
        tensors[f"base_model.model.{layer}.lora_A.weight"] = torch.randn(4, width, generator=generator)
        tensors[f"base_model.model.{layer}.lora_B.weight"] = torch.randn(height, 4, generator=generator)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(PLAIN | fields))
    return model, tensors


def product(tensors: dict[str, Tensor], layer: str) -> Tensor:
    a, b = (tensors[f"base_model.model.{layer}.lora_{part}.weight"] for part in "AB")
    return b @ a


@pytest.mark.parametrize(
    ("fields", "scales"),
    [
        ({}, {QUERY: 1.5, DOWN: 1.5}),
        ({"use_rslora": True}, {QUERY: 3.0, DOWN: 3.0}),
        ({"alpha_pattern": {"mlp.down_proj": 2}}, {QUERY: 1.5, DOWN: 0.5}),
    ],
)
def test_an_adapter_and_its_base_are_one_model(
    fields: dict[str, Any], scales: dict[str, float], tmp_path: Path
) -> None:
    model, tensors = adapter(tmp_path / "lora", **fields)
    (tmp_path / "base" / "README.md").write_text("---\nbase_model: org/base\nlicense: cc-by-nc-4.0\n---\n")
    (tmp_path / "lora" / "README.md").write_text("---\nlicense: mit\n---\n")
    shutil.copy(tmp_path / "base" / "config.json", tmp_path / "lora")  # as some trainers leave it there
    convert(tmp_path / "lora", tmp_path / "joined")
    head = (tmp_path / "joined" / "README.md").read_text()
    assert "base_model:\n- org/base\n" in head
    assert "license: other\nlicense_name: mit (adapter) and cc-by-nc-4.0 (base)\n" in head
    joined = lmc.load(tmp_path / "joined")
    for name, tensor in model.state_dict().items():
        layer = name.removesuffix(".weight")
        expected = tensor + scales[layer] * product(tensors, layer) if layer in scales else tensor
        assert torch.equal(joined.state_dict()[name], expected), name
    assert (tmp_path / "joined" / "tokenizer.json").exists()


def test_an_adapter_in_names_that_the_class_had_before_changes_what_they_mean(tmp_path: Path) -> None:
    layers = ("vit.layers.0.attention.q_proj", "vit.layers.1.attention.v_proj")
    named = {"target_modules": ["query", "value"], "alpha_pattern": {"attention.attention.query": 2}}
    named |= {"r": 7, "rank_pattern": {"query": 4, "layer.1.*value": 4}}  # by the names of then
    model, tensors = adapter(tmp_path / "lora", pico.hf_vit, layers, **named)
    old = {}
    for name, tensor in tensors.items():
        before = name.replace(".layers.", ".encoder.layer.").replace("n.q_proj", "n.attention.query")
        old[before.replace("n.v_proj", "n.attention.value")] = tensor
    save_file(old, tmp_path / "lora/adapter_model.safetensors")
    convert(tmp_path / "lora", tmp_path / "joined")
    joined = lmc.load(tmp_path / "joined")
    less = {name: tensor for name, tensor in old.items() if ".value." not in name}
    for layer, scale in zip(layers, (0.5, 1.5), strict=True):
        expected = model.get_submodule(layer).weight + scale * product(tensors, layer)
        assert torch.equal(joined.get_submodule(layer).weight, expected), layer
    save_file(less, tmp_path / "lora/adapter_model.safetensors")
    with pytest.raises(lmc.CheckpointError, match="expected changes of layers called value, as target_modules"):
        convert(tmp_path / "lora", tmp_path / "other")


def test_a_pickled_adapter_is_joined_by_convert_alone(tmp_path: Path, capsys: Any) -> None:
    model, tensors = adapter(tmp_path / "lora")
    torch.save(tensors, tmp_path / "lora/adapter_model.bin")
    convert(tmp_path / "lora", tmp_path / "expected")
    (tmp_path / "lora/adapter_model.safetensors").unlink()
    where = [str(tmp_path / name) for name in ("base", "lora", "out")]
    assert main(["match", *where[:2], "--method", "weights", "--out", where[2]]) == 2
    assert f"join what is pickled there with its base: lmc convert {where[1]} NEW" in capsys.readouterr().err
    convert(tmp_path / "lora", tmp_path / "joined")
    for name, tensor in lmc.load(tmp_path / "expected").state_dict().items():
        assert torch.equal(tensor, lmc.load(tmp_path / "joined").state_dict()[name]), name
    torch.save({"weights": model}, tmp_path / "lora/adapter_model.bin")
    with pytest.raises(lmc.CheckpointError, match="expected pickled tensors alone, found code"):
        convert(tmp_path / "lora", tmp_path / "other")


def test_pictures_are_made_as_an_adapter_says(tmp_path: Path) -> None:
    adapter(tmp_path / "lora", pico.hf_vit, ("vit.layers.0.attention.q_proj",))
    own = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.4], "image_std": [0.3]}
    (tmp_path / "base/preprocessor_config.json").write_text(json.dumps(own | {"image_mean": [0.5]}))
    convert(tmp_path / "lora", tmp_path / "joined")
    assert lmc.load(tmp_path / "joined").preprocessor_config["image_mean"] == [0.5]
    (tmp_path / "lora/preprocessor_config.json").write_text(json.dumps(own))
    config = json.loads((tmp_path / "base/config.json").read_text())
    config["id2label"] = dict(enumerate("abcdefghij"))
    (tmp_path / "lora/config.json").write_text(json.dumps(config))
    convert(tmp_path / "lora", tmp_path / "other")
    assert json.loads((tmp_path / "other/preprocessor_config.json").read_text()) == own
    assert lmc.load(tmp_path / "other").config.id2label == dict(enumerate("abcdefghij"))
    (tmp_path / "lora/config.json").write_text(json.dumps({"id2label": dict.fromkeys("abcdefghij", "of no number")}))
    convert(tmp_path / "lora", tmp_path / "third")
    assert lmc.load(tmp_path / "third").config.id2label[0] == "LABEL_0"


def test_layers_that_are_stored_the_other_way_round(tmp_path: Path) -> None:
    """Those of GPT-2 are [in, out]: what changes them is transposed, also where it is square."""
    layers = ("transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_proj")
    model, tensors = adapter(tmp_path / "lora", pico.gpt2, layers, fan_in_fan_out=True)
    convert(tmp_path / "lora", tmp_path / "joined")
    for layer in layers:
        expected = model.get_submodule(layer).weight + 1.5 * product(tensors, layer).T
        assert torch.equal(lmc.load(tmp_path / "joined").get_submodule(layer).weight, expected)


def test_modules_that_were_trained_whole(tmp_path: Path) -> None:
    adapter(tmp_path / "lora", modules_to_save=["lm_head"])
    file = tmp_path / "lora" / "adapter_model.safetensors"
    head = torch.randn(40, 16)
    save_file(load_file(file) | {"base_model.model.lm_head.weight": head}, file)
    convert(tmp_path / "lora", tmp_path / "joined")
    assert torch.equal(lmc.load(tmp_path / "joined").lm_head.weight, head)


def test_an_adapter_has_no_vocabulary_to_change(tmp_path: Path) -> None:
    model, _ = adapter(tmp_path / "lora")
    lmc.save(model, tmp_path / "a")
    names = [str(tmp_path / name) for name in ("a", "lora")]
    with pytest.raises(
        lmc.CheckpointError, match=r"found an adapter; join it with its base first: lmc convert .*lora NEW"
    ):
        prepare(names, tmp_path / "o.parents", "union")


def test_a_tokenizer_that_does_not_fit_the_base_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    adapter(tmp_path / "lora")
    pico.tokenizer(tmp_path / "lora", 50)
    with pytest.raises(lmc.CheckpointError, match=r"lora/tokenizer\.json: expected at most vocab_size = 40 tokens"):
        convert(tmp_path / "lora", tmp_path / "joined")
    (tmp_path / "lora/tokenizer.json").write_text("{")
    with pytest.raises(lmc.CheckpointError, match=r"lora/tokenizer\.json: not readable as JSON"):
        convert(tmp_path / "lora", tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_an_adapter_is_a_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    adapter(tmp_path / "lora")
    other = pico.llama(5, torch.float32)
    lmc.save(other, "other", tokenizer_from="base")
    shutil.copy("base/config.json", "lora")  # as some trainers leave it there
    assert main(["match", "other", "lora", "--method", "weights", "--out", "aligned"]) == 0
    assert "wrote aligned.parents: the parents as they are matched; keep it beside aligned" in capsys.readouterr().out
    assert main(["merge", "aligned", "--at", "1", "--out", "merged"]) == 0
    assert "- parent 1: lora, a LoRA adapter, joined with its base base\n" in Path("merged/README.md").read_text()
    convert("lora", "joined")
    merged, joined = lmc.load("merged"), lmc.load("joined")
    ids = pico.inputs(joined)
    difference = (pico.logits(merged, ids) - pico.logits(joined, ids)).abs().max()
    assert difference <= 1e-4 * pico.logits(joined, ids).abs().max()
    assert sorted(path.name for path in Path("aligned.parents").iterdir()) == ["1-lora", "made_of.json"]
    capsys.readouterr()
    assert main(["check", "lora"]) == 2
    assert "holds an adapter (adapter_config.json); lmc match takes it as it is, else join" in capsys.readouterr().err


def test_licences_and_notices_of_an_adapter_and_its_base_go_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    adapter(Path("lora"))
    lmc.save(pico.llama(5, torch.float32), "other", tokenizer_from="base")
    texts = {"base/NOTICE": "Made by many.", "base/LICENSE": "As a whole.", "lora/LICENSE": "In parts, too."}
    for name, text in texts.items():
        Path(name).write_text(text)
    assert main(["convert", "lora", "joined"]) == 0
    assert main(["match", "other", "lora", "--method", "canonical", "--out", "aligned", "--export"]) == 0
    for folder in (Path("joined"), Path("aligned.parents/1-lora"), Path("aligned/models/endpoint-1")):
        found = {name: (folder / name).read_text() for name in ("NOTICE", "LICENSE", "base-LICENSE")}
        assert found == dict(zip(found, ("Made by many.", "In parts, too.", "As a whole."), strict=True)), folder
    exported = Path("aligned/models/endpoint-1/README.md").read_text()
    assert "- parent 1: lora, a LoRA adapter, joined with its base base\n" in exported
    assert main(["transport", "aligned", "lora", "--out", "carried"]) == 2  # it is a parent itself
    assert main(["merge", "aligned", "--out", "merged"]) == 0
    assert "- notices: parent 1 has NOTICE, which stays behind" in Path("merged/README.md").read_text()


def test_an_adapter_s_own_generation_settings_replace_those_of_its_base(tmp_path: Path) -> None:
    adapter(tmp_path / "lora")
    (tmp_path / "lora/generation_config.json").write_text(json.dumps({"eos_token_id": [3, 5], "temperature": 0.3}))
    convert(tmp_path / "lora", tmp_path / "joined")
    found = json.loads((tmp_path / "joined/generation_config.json").read_text())
    assert (found["eos_token_id"], found["temperature"]) == ([3, 5], 0.3)
    (tmp_path / "lora/generation_config.json").write_text("{")
    with pytest.raises(lmc.CheckpointError, match="generation_config"):
        convert(tmp_path / "lora", tmp_path / "again")


def test_a_tokenizer_s_settings_alone_do_not_replace_the_tokenizer_of_the_base(tmp_path: Path) -> None:
    adapter(tmp_path / "lora")
    shutil.copy(tmp_path / "base/tokenizer_config.json", tmp_path / "lora")
    convert(tmp_path / "lora", tmp_path / "joined")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "joined" / file).read_bytes() == (tmp_path / "base" / file).read_bytes()


def test_a_tokenizer_with_more_tokens_than_the_base_has_rows_is_refused(tmp_path: Path) -> None:
    adapter(tmp_path / "lora")
    tokenizer = json.loads((tmp_path / "base/tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {f"more {k}": 40 + k for k in range(60)}
    (tmp_path / "lora/tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(lmc.CheckpointError, match="token"):
        convert(tmp_path / "lora", tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


CHANGES: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "the base": lambda: shutil.copytree("other", "base", dirs_exist_ok=True),
    "the adapter": lambda: tensor(f"{QUERY}.lora_A.weight", torch.ones(4, 16))(Path("lora")),
    "its factor": lambda: field(lora_alpha=7)(Path("lora")),
    "its names of classes": lambda: Path("lora/config.json").write_text('{"id2label": {"0": "a"}}'),
    "a notice of its base": lambda: Path("base/NOTICE").write_text("Made by many."),
    "its tokenizer": lambda: shutil.copy("base/tokenizer.json", "lora/tokenizer.json"),
    "what was made": lambda: shutil.copy("base/model.safetensors", "aligned.parents/1-lora/model.safetensors"),
    "the record": lambda: Path("aligned.parents/made_of.json").unlink(),
    "the whole of it": lambda: shutil.copytree("other", "aligned.parents/1-lora", dirs_exist_ok=True),
    "its name": lambda: Path("aligned.parents/1-lora").rename("aligned.parents/0-lora"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_prepared_parents_are_used_again_only_for_what_they_were_made_of(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A run that was interrupted after they were written, and is started again once something has changed."""
    monkeypatch.chdir(tmp_path)
    adapter(tmp_path / "lora")
    lmc.save(pico.llama(5, torch.float32), "other", tokenizer_from="base")
    line = ["match", "other", "lora", "--method", "naive", "--out", "aligned"]
    assert main(line) == 0
    shutil.rmtree("aligned")
    CHANGES[what]()
    capsys.readouterr()
    assert main(line) == (0 if what == "nothing" else 2)
    assert Path("aligned").exists() == (what == "nothing")
    if what != "nothing":
        assert "aligned.parents" in capsys.readouterr().err


def tensor(name: str, value: Tensor) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        save_file(load_file(file) | {f"base_model.model.{name}": value}, file)

    return spoil


def field(**fields: Any) -> Callable[[Path], Any]:
    return lambda folder: (folder / "adapter_config.json").write_text(json.dumps(PLAIN | fields))


def untouched(folder: Path) -> None: ...


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "DoRA": (field(use_dora=True), "use_dora: expected none, found True; merge the adapter with peft"),
    "another kind": (field(peft_type="LOHA"), "peft_type: expected LORA, found LOHA; merge the adapter with peft"),
    "PiSSA": (field(init_lora_weights="pissa"), "init_lora_weights: expected True or False or gaussian or eva, found"),
    "biases": (field(bias="all"), "bias: expected none, found all; merge the adapter with peft"),
    "repeated layers": (field(layer_replication=[[0, 2]]), "layer_replication: expected none, found [[0, 2]]"),
    "something new": (field(use_quantum=1), "use_quantum: expected none, found 1; merge the adapter with peft"),
    "no base": (field(base_model_name_or_path=None), "base_model_name_or_path: expected the base model, found None"),
    "a base that is gone": (field(base_model_name_or_path="no/such/base"), "base_model_name_or_path: no/such/base"),
    "no number": (field(lora_alpha="much"), "lora_alpha and alpha_pattern: expected numbers"),
    "a number beyond floats": (field(lora_alpha=10**400), "lora_alpha and alpha_pattern: expected numbers, found 1000"),
    "an infinite number": (field(lora_alpha=math.inf), "lora_alpha and alpha_pattern: expected numbers, found inf"),
    "a truth for a number": (field(lora_alpha=True), "lora_alpha and alpha_pattern: expected numbers, found True"),
    "a number for a word": (field(use_rslora="no"), "use_rslora: expected True or False or None, found no"),
    "a list of patterns": (field(alpha_pattern=[1]), "lora_alpha and alpha_pattern: expected numbers, found [1]"),
    "no pattern": (field(alpha_pattern={"[": 1}), "alpha_pattern: expected names of layers, found '['"),
    "a pattern that never ends": (field(alpha_pattern={"(([a-z_.0-9]+)+)+!": 1}), "alpha_pattern: expected names of"),
    "a pattern that ends late": (field(alpha_pattern={"[a-z.]*" * 9 + "!": 1}), "alpha_pattern: expected names of"),
    "another rank": (field(r=7), "model.layers.0.self_attn.q_proj.weight: expected a rank r of 7, found 4"),
    "no rank": (
        lambda f: [
            tensor(f"{layer}.lora_{p}.weight", torch.ones(s))(f)
            for layer, p, s in ((QUERY, "A", (0, 16)), (QUERY, "B", (16, 0)))
        ],
        "expected a rank r of 4, found 0",
    ),
    "nothing": (
        lambda f: save_file({}, f / "adapter_model.safetensors"),
        "expected tensors that change the base, found",
    ),
    "a base of too long a name": (field(base_model_name_or_path="x" * 5000), "adapter_config.json: base_model_name_"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "not found; save the adapter again with peft"),
    "no pickle": (
        lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
        "adapter_model.bin: expected pickled tensors alone, found something else",
    ),
    "magnitudes": (tensor(f"{QUERY}.lora_magnitude_vector", torch.ones(16)), "not one that changes LlamaForCausalLM"),
    "half a change": (
        tensor("model.layers.0.mlp.up_proj.lora_A.weight", torch.ones(4, 16)),
        "model.layers.0.mlp.up_proj.weight: expected an A and a B of one rank, found A [4, 16]; merge the adapter",
    ),
    "a layer that was not written": (
        field(target_modules=["q_proj", "down_proj"]),
        "expected a change of model.layers.0.mlp.down_proj.weight, as target_modules in adapter_config.json says",
    ),
    "a module that was not written": (
        field(modules_to_save=["lm_head"]),
        "expected a change of lm_head.weight, as modules_to_save in adapter_config.json says",
    ),
    "a norm that was not written": (
        field(modules_to_save=["norm"]),
        "expected a change of model.norm.weight, as modules",
    ),
    "a layer of those chosen that was not written": (
        field(target_modules=["down_proj", "q_proj"], layers_to_transform=[0, 1]),
        "expected a change of model.layers.0.mlp.down_proj.weight, as target_modules in adapter_config.json says",
    ),
    "the one layer chosen was not written": (
        field(target_modules=["down_proj"], layers_to_transform=0),
        "expected a change of model.layers.0.mlp.down_proj.weight, as target_modules",
    ),
    "a layer that was not asked for": (
        field(target_modules=["q_proj", "down_proj"], exclude_modules=["0.mlp.down_proj", "1.self_attn.q_proj", DOWN]),
        f"expected no change of {DOWN}.weight, which target_modules in adapter_config.json does not name",
    ),
    "the rank of another layer": (
        field(r=7, rank_pattern={"down_proj": 4}),
        f"{QUERY}.weight: expected a rank r of 7, found 4",
    ),
    "a rank that is no number": (field(rank_pattern={"down_proj": "4"}), "r and rank_pattern: expected numbers"),
    "another base": (
        tensor(f"{QUERY}.lora_A.weight", torch.ones(4, 8)),
        "found [16, 8]; was it made for another base, or for more tokens?",
    ),
    "another layer": (tensor("model.layers.7.mlp.up_proj.lora_A.weight", torch.ones(4, 16)), "not one that changes"),
    "quantised": (tensor("lm_head.weight", torch.ones(40, 16, dtype=torch.int8)), "not one that changes"),
    "not finite": (tensor(f"{QUERY}.lora_A.weight", torch.full((4, 16), math.nan)), "expected finite values"),
}


def test_only_what_an_adapter_means_has_to_be_there(tmp_path: Path) -> None:
    """Names of modules end as listed ones do, of the layers that are chosen; a pattern is not looked into."""
    fields = {"target_modules": ["0.self_attn.q_proj", "1.mlp.down_proj", "score"], "modules_to_save": ["score"]}
    both = {"target_modules": ["q_proj", "down_proj"]}
    choices: dict[str, dict[str, Any]] = {
        "ends": {},
        "layers": {"target_modules": ["q_proj", "1.mlp.down_proj"], "layers_to_transform": [0, 1]},
        "without": both | {"exclude_modules": ["1.self_attn.q_proj", "layers.0.mlp.down_proj"]},
        "pattern": both | {"layers_to_transform": [0], "layers_pattern": "layers"},
        "words": {"target_modules": ".*"},
    }
    choices["layers"]["exclude_modules"] = ["1.self_attn.q_proj"]
    for name, more in choices.items():
        adapter(tmp_path / name, **fields | more)
        convert(tmp_path / name, tmp_path / f"{name} joined")


def test_a_model_and_an_adapter_in_one_folder_are_refused(tmp_path: Path) -> None:
    """Where PEFT is installed transformers applies the adapter, elsewhere it does not."""
    adapter(tmp_path / "lora")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(tmp_path / "lora" / name, tmp_path / "base")
    with pytest.raises(LmcError, match=r"base: expected a model or an adapter, found both, .*; move the files"):
        lmc.load(tmp_path / "base")


@pytest.mark.parametrize("what", REFUSED)
def test_other_adapters_are_refused_by_name(what: str, tmp_path: Path) -> None:
    adapter(tmp_path / "lora")
    REFUSED[what][0](tmp_path / "lora")
    with pytest.raises(LmcError) as caught:
        convert(tmp_path / "lora", tmp_path / "joined")
    assert REFUSED[what][1] in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "joined").exists()


def test_a_base_with_two_tensors_that_its_settings_tie_is_refused(tmp_path: Path) -> None:
    adapter(tmp_path / "lora", lambda *a: pico.llama(*a, tie_word_embeddings=True))
    (base,) = tmp_path.rglob("model.safetensors")
    tensors = load_file(base)
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}, base, metadata={"format": "pt"})
    with pytest.raises(LmcError, match=r"tie_word_embeddings is set, expected lm_head.weight to be"):
        convert(tmp_path / "lora", tmp_path / "joined")


def test_a_change_of_tied_tensors_is_refused(tmp_path: Path) -> None:
    adapter(tmp_path / "lora", lambda *a: pico.llama(*a, tie_word_embeddings=True), ("lm_head",))
    with pytest.raises(LmcError, match=r"expected no change of lm_head\.weight, which is tied to another tensor"):
        convert(tmp_path / "lora", tmp_path / "joined")


@pytest.mark.parametrize("make", [pico.llama, pico.gpt2, pico.neox, pico.bert])
@pytest.mark.parametrize("rslora", [False, True])
def test_peft_itself_computes_the_same(make: Any, rslora: bool, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = make(0, torch.float32)
    lmc.save(model, tmp_path / "base")
    config = peft.LoraConfig(
        r=3, lora_alpha=5, target_modules="all-linear", use_rslora=rslora, alpha_pattern={"mlp.up_proj": 2, "c_proj": 1}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = peft.get_peft_model(model, config).eval()
        generator = torch.Generator().manual_seed(0)
        for name, parameter in other.named_parameters():
            if "lora_" in name:
                parameter.data.normal_(0, 0.3, generator=generator)
        other.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
        other.save_pretrained(tmp_path / "lora")
    convert(tmp_path / "lora", tmp_path / "joined")
    ids = pico.inputs(lmc.load(tmp_path / "base"))
    expected = pico.logits(other, ids)
    assert (pico.logits(lmc.load(tmp_path / "joined"), ids) - expected).abs().max() <= 1e-5 * expected.abs().max()
