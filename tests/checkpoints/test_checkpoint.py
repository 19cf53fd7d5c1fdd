"""Checkpoints: round trips through the stock libraries alone, and one clear line for everything that is wrong."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pico
import pytest
import stock
import torch
from safetensors.torch import load_file, save_file

import lmc
from lmc import checkpoints
from lmc.checkpoints import conversion, transformers_layout
from lmc.errors import ArgumentError, CheckpointError, LmcError, UnsupportedModelError

VARIANTS: dict[str, Callable[..., Any]] = {
    "neox": lambda **k: pico.neox(**k),
    "neox-sequential": lambda **k: pico.neox(use_parallel_residual=False, rotary_fraction=1.0, **k),
    "neox-tied": lambda **k: pico.neox(tie_word_embeddings=True, attention_bias=False, **k),
    "vit": lambda **k: pico.vit(**k),
    "vit-average": lambda **k: pico.vit(global_pool="avg", init_values=0.1, **k),
    "vit-registers": lambda **k: pico.vit(no_embed_class=True, reg_tokens=2, qkv_bias=False, in_chans=2, **k),
    "vit-by-hand": lambda **k: by_hand(**k),
}


def by_hand(seed: int = 0, dtype: torch.dtype = torch.float64) -> Any:
    """A model that timm's factory never saw, and that has no pretrained_cfg."""
    from timm.models.vision_transformer import VisionTransformer

    model = VisionTransformer(
        img_size=(8, 12), patch_size=4, in_chans=3, num_classes=5, embed_dim=12, depth=1, num_heads=3, mlp_ratio=1.1
    )
    return pico.randomize(model, seed).to(dtype).eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_round_trip(variant: str, tmp_path: Path) -> None:
    model = VARIANTS[variant](dtype=torch.float32)
    inputs = pico.inputs(model)
    lmc.save(model, tmp_path / "saved")
    again = lmc.load(tmp_path / "saved")
    assert type(again) is type(model)
    assert {n: t.dtype for n, t in again.state_dict().items()} == {n: t.dtype for n, t in model.state_dict().items()}
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in again.state_dict().items())
    torch.testing.assert_close(pico.logits(again, inputs), pico.logits(model, inputs))  # the attention kernel is free
    assert lmc.spec(again) == lmc.spec(model)


@pytest.mark.parametrize("variant", ["neox", "neox-tied", "vit-average", "vit-registers", "vit-by-hand"])
def test_canonical_form_survives_the_stock_library_alone(variant: str, tmp_path: Path) -> None:
    model = VARIANTS[variant](dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*was tied to")
        canonical = lmc.canonicalize(model)
    inputs = pico.inputs(model)
    lmc.save(canonical, tmp_path / "saved")
    found = stock.logits(tmp_path / "saved", inputs)
    torch.testing.assert_close(found, pico.logits(canonical, inputs), rtol=0, atol=1e-6)
    torch.testing.assert_close(found, pico.logits(model, inputs), rtol=0, atol=1e-4)


def test_a_moved_residual_scale_is_written_into_the_configuration(tmp_path: Path) -> None:
    canonical = lmc.canonicalize(pico.neox())
    moved = lmc.Transform.random(lmc.spec(canonical), seed=3).apply(canonical)
    lmc.save(moved, tmp_path / "moved")
    assert lmc.load(tmp_path / "moved").config.layer_norm_eps == moved.config.layer_norm_eps != 1e-5
    inputs = pico.inputs(moved)
    found = pico.logits(lmc.load(tmp_path / "moved"), inputs)
    torch.testing.assert_close(found, pico.logits(moved, inputs), rtol=0, atol=1e-5)


def test_weights_are_loaded_as_stored_but_at_least_in_float32(tmp_path: Path) -> None:
    for stored, loaded in (
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float64),
    ):
        for make in (pico.neox, pico.vit):
            folder = tmp_path / f"{make.__name__}-{stored}"
            lmc.save(make(dtype=stored), folder)
            assert {t.dtype for t in lmc.load(folder).parameters()} == {loaded}
            assert {t.dtype for t in lmc.load(folder, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


@pytest.mark.skipif(not pico.gated_dinov2(), reason="before transformers 5.20 the two are one tensor in the model, too")
def test_tensors_that_files_hold_as_one_are_refused(tmp_path: Path) -> None:
    model = pico.dinov2(dtype=torch.float32, use_swiglu_ffn=True)
    with pytest.raises(UnsupportedModelError, match="as one tensor"):
        lmc.save(model, tmp_path / "a")
    model.save_pretrained(tmp_path / "b")
    with pytest.raises(UnsupportedModelError, match="as one tensor"):
        lmc.load(tmp_path / "b")


def test_a_type_in_the_place_of_the_device_is_refused(tmp_path: Path) -> None:
    lmc.save(pico.neox(), tmp_path / "a")
    for wrong, said in {"dtype": "dtype: expected torch", "device": "device: expected a device such as 'cpu'"}.items():
        with pytest.raises(ArgumentError, match=rf"{said}.*, found '?banana"):
            lmc.load(tmp_path / "a", **{wrong: "banana"})
    with pytest.raises(ArgumentError, match=r"found torch\.bfloat16; name it dtype=torch\.bfloat16"):
        lmc.load(tmp_path / "a", torch.bfloat16)  # type: ignore[arg-type]


# Before transformers 5.14 the head is called as in old checkpoints; later versions rename it while loading.
RENAMED = pico.head(pico.neox()) == "lm_head"


def test_legacy_names_and_buffers_are_those_of_the_stock_class(tmp_path: Path) -> None:
    model = pico.neox(dtype=torch.float32)
    model.save_pretrained(tmp_path / "old")
    tensors = load_file(tmp_path / "old" / "model.safetensors")
    (head,) = {"embed_out.weight", "lm_head.weight"} & set(tensors)
    if RENAMED:
        other = "lm_head.weight" if head == "embed_out.weight" else "embed_out.weight"
        tensors[other] = tensors.pop(head)  # one is the old name, one the new
    for layer in range(2):
        attention = f"gpt_neox.layers.{layer}.attention."
        tensors[attention + "bias"] = torch.ones(1, 1, 32, 32, dtype=torch.bool)
        tensors[attention + "masked_bias"] = torch.tensor(-1e9)
        tensors[attention + "rotary_emb.inv_freq"] = torch.ones(2)
    save_file(tensors, tmp_path / "old" / "model.safetensors", metadata={"format": "pt"})
    again = lmc.load(tmp_path / "old")
    torch.testing.assert_close(pico.logits(again, pico.inputs(model)), pico.logits(model, pico.inputs(model)))


def test_shards(tmp_path: Path) -> None:
    model = pico.neox(dtype=torch.float32)
    model.save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    again = lmc.load(tmp_path / "shards")
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in again.state_dict().items())
    assert len(checkpoints.reference(again)["sha256"]) == len(list((tmp_path / "shards").glob("*.safetensors")))


def test_tokenizer_and_card_travel_along(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = pico.neox(dtype=torch.float32)
    lmc.save(model, tmp_path / "a")
    pico.tokenizer(tmp_path / "a")
    lmc.save(model, tmp_path / "b", tokenizer_from=tmp_path / "a", card="Made of numbers.\n")
    assert AutoTokenizer.from_pretrained(tmp_path / "b")("w3 w1").input_ids == [3, 1]
    assert (tmp_path / "b" / "README.md").read_text().endswith("Made of numbers.\n")
    assert (tmp_path / "b" / "generation_config.json").exists()
    assert checkpoints.source(lmc.load(tmp_path / "b")) == str(tmp_path / "b")
    assert checkpoints.source(model) is None
    with pytest.raises(CheckpointError, match="expected a tokenizer"):
        empty = tmp_path / "empty"
        empty.mkdir()
        lmc.save(model, tmp_path / "c", tokenizer_from=empty)
    assert not (tmp_path / "c").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_reference_finds_the_model_again(tmp_path: Path) -> None:
    model = pico.vit(dtype=torch.float32)
    assert checkpoints.reference(model) is None
    lmc.save(model, tmp_path / "a")
    loaded = lmc.load(tmp_path / "a", dtype=torch.bfloat16)
    reference = json.loads(json.dumps(checkpoints.reference(loaded)))
    with pytest.warns(UserWarning, match="matched in bfloat16, below float32, in which its weights are stored"):
        again = checkpoints.resolve(reference, tmp_path)
    assert torch.equal(again.head.weight, loaded.head.weight)
    model.head.weight.data += 1
    (tmp_path / "a").rename(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="a cannot be loaded again"):
        checkpoints.resolve(reference, tmp_path)
    lmc.save(model, tmp_path / "a")
    with pytest.raises(CheckpointError, match="expected sha256"):
        checkpoints.resolve(reference, tmp_path)


def test_what_timm_would_lose_is_refused(tmp_path: Path) -> None:
    model = pico.vit()
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)):
        norm.eps = 1e-3
    with pytest.raises(CheckpointError, match=r"norm_eps: expected \(0\.001, .*, but timm would read \(1e-06, "):
        lmc.save(model, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_what_transformers_would_lose_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers 5.4 did with the rotary fraction: written from one field, read from another."""
    stock = transformers_layout.write

    def forgetful(model: Any, folder: Path, *weights: Any) -> None:
        stock(model, folder, *weights)
        edit(folder, use_parallel_residual=True)

    monkeypatch.setattr("lmc.checkpoints.transformers_layout.write", forgetful)
    with pytest.raises(CheckpointError, match=r"use_parallel_residual: expected False, .* would read True; not saved"):
        lmc.save(pico.neox(use_parallel_residual=False), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_occupied_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="not empty"):
        lmc.save(pico.vit(), tmp_path / "a")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("make", [pico.neox, pico.vit])
def test_convert_reads_pickled_weights(make: Callable[..., Any], tmp_path: Path) -> None:
    model = make(dtype=torch.float16)
    lmc.save(model, tmp_path / "old")
    pickle_weights(tmp_path / "old")
    with pytest.raises(CheckpointError, match=r"found pickled weights \(pytorch_model.bin\).*lmc convert"):
        lmc.load(tmp_path / "old")
    conversion.convert(tmp_path / "old", tmp_path / "new")
    again = lmc.load(tmp_path / "new", dtype=torch.float16)
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in again.state_dict().items())
    assert checkpoints.inspect(tmp_path / "new").dtype == torch.float16


def pickle_weights(folder: Path) -> None:
    """Turn a safetensors checkpoint into a pickled one."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (folder / "README.md").unlink()  # its text would be said to stay behind


class Harm:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harm-was-done"),))


def test_convert_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lmc.save(pico.vit(), tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    torch.save({"head.weight": Harm()}, tmp_path / "old" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"found code \(.*\), which is never run"):
        conversion.convert(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "harm-was-done").exists()
    assert not (tmp_path / "new").exists()


# Every way to spoil a folder, and the line that must say so.


def edit_pretrained(folder: Path, **fields: Any) -> None:
    """Fields of timm's record of how a model was trained."""
    edit(folder, pretrained_cfg=json.loads((folder / "config.json").read_text())["pretrained_cfg"] | fields)


def edit(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    content = load_file(folder / "model.safetensors")
    change(content)
    save_file(content, folder / "model.safetensors", metadata={"format": "pt"})


def cut(folder: Path, to: int | None = None) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: to if to is not None else len(data) // 2])


def index(folder: Path, places: Any) -> None:
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def poison(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda t: t["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"].view(-1)[7:8].fill_(value)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: not found"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json: not readable as JSON"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "expected a JSON object"),
    "no class": (lambda f: edit(f, architectures=None), "expected the name of one model class"),
    "two classes": (lambda f: edit(f, architectures=["A", "B"]), "expected the name of one model class"),
    "unknown class": (
        lambda f: edit(f, architectures=["MambaForCausalLM"]),
        "transformers.MambaForCausalLM: no family",
    ),
    "code of its own": (
        lambda f: edit(f, architectures=["EvilModel"], auto_map={"AutoModelForCausalLM": "evil.EvilModel"}),
        "transformers.EvilModel: no family",
    ),
    "another model type": (lambda f: edit(f, model_type="llama"), "model_type: expected 'gpt_neox', found 'llama'"),
    "heads do not divide": (lambda f: edit(f, num_attention_heads=3), "config.json: no model can be built"),
    "no context": (lambda f: edit(f, max_position_embeddings=0), "context: expected at least 1 token, found 0"),
    "no ε": (lambda f: edit(f, layer_norm_eps=0.0), "layer_norm_eps: expected a positive number, found 0.0"),
    "a width that is text": (lambda f: edit(f, hidden_size="wide"), "config.json: no model can be built"),
    "quantised": (
        lambda f: edit(f, quantization_config={"quant_method": "gptq"}),
        "quantization_config: expected none",
    ),
    "a type that no weight has": (
        lambda f: edit(f, dtype="int8"),
        "config.json: dtype: expected one of float64, float32, float16, bfloat16, found 'int8'",
    ),
    "another tokenizer": (
        lambda f: pico.tokenizer(f, 41),
        "tokenizer.json: expected at most vocab_size = 40 tokens, found 41",
    ),
    "quantised, in no way": (lambda f: edit(f, quantization_config={}), "quantization_config: expected none"),
    "other weights": (lambda f: edit(f, transformers_weights="x.safetensors"), "transformers_weights: expected none"),
    "too deep": (lambda f: (f / "config.json").write_text("[" * 100_000), "config.json: not readable as JSON"),
    "generation is no JSON": (
        lambda f: (f / "generation_config.json").write_text("{"),
        "generation_config.json: not readable as JSON",
    ),
    "generation": (
        lambda f: (f / "generation_config.json").write_text('{"early_stopping": "xx"}'),
        "generation_config.json: cannot be read",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: not found"),
    "half a file": (cut, "model.safetensors: not a readable safetensors file, truncated or damaged"),
    "empty file": (lambda f: cut(f, 0), "model.safetensors: not a readable safetensors file"),
    "a few bytes": (lambda f: cut(f, 5), "model.safetensors: not a readable safetensors file"),
    "garbage": (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 4096), "not a readable safetensors file"),
    "missing tensor": (
        lambda f: tensors(f, lambda t: t.pop("gpt_neox.layers.1.mlp.dense_h_to_4h.weight")),
        r"gpt_neox.layers.1.mlp.dense_h_to_4h.weight: expected shape \[24, 16\], found in no weights file",
    ),
    "unknown tensor": (
        lambda f: tensors(f, lambda t: t.update({"adapter.weight": torch.ones(2, 3)})),
        r"tensor adapter.weight: not one of the model's, found \[2, 3\]",
    ),
    "wrong shape": (
        lambda f: tensors(f, lambda t: t.update({"gpt_neox.embed_in.weight": torch.ones(41, 16)})),
        r"gpt_neox.embed_in.weight: expected shape \[40, 16\], found \[41, 16\]",
    ),
    "a tensor twice": (
        lambda f: tensors(
            f, lambda t: t.update({n: torch.ones(40, 16) for n in ("lm_head.weight", "embed_out.weight")})
        ),
        "expected lm_head.weight once" if RENAMED else "lm_head.weight: not one of the model's",
    ),
    "integers": (
        lambda f: tensors(f, lambda t: t.update({"gpt_neox.embed_in.weight": torch.ones(40, 16, dtype=torch.int8)})),
        "embed_in.weight: expected float64, float32, float16 or bfloat16, found I8",
    ),
    "NaN": (
        lambda f: tensors(f, poison(float("nan"))),
        "dense_h_to_4h.weight: expected finite values, found 1 of 384 NaN or infinite",
    ),
    "infinity": (
        lambda f: tensors(f, poison(float("inf"))),
        "model.safetensors: tensor gpt_neox.layers.1.*finite values",
    ),
    "index without file": (
        lambda f: index(f, {"gpt_neox.embed_in.weight": "other.safetensors"}),
        "other.safetensors: not found, but the index names it",
    ),
    "index to elsewhere": (lambda f: index(f, {"a": "../part.safetensors"}), "expected names of files beside it"),
    "index without map": (lambda f: index(f, None), "expected a weight_map"),
    "no head": (
        lambda f: tensors(f, lambda t: t.pop("embed_out.weight")),  # as it is called in files
        "get the files that are missing, or where .*was never saved, name the class without it in config.json",
    ),
    "pickled": (pickle_weights, "expected model.safetensors, found pickled weights"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "neox"
    lmc.save(pico.neox(dtype=torch.float32), folder)
    return folder


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_clear_line(damage: str, sound: Path, tmp_path: Path) -> None:
    spoil, message = DAMAGE[damage]
    folder = tmp_path / "neox"
    folder.mkdir()
    for file in sound.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert lmc.load(folder) is not None
    spoil(folder)
    with pytest.raises(LmcError, match=message) as caught:
        lmc.load(folder)
    assert "\n" not in str(caught.value)


def test_an_index_may_name_a_tied_head_that_no_shard_has(tmp_path: Path) -> None:
    """As the converter of the hub once wrote it; the stock loader reads the names of files alone."""
    model = pico.llama(dtype=torch.float32, tie_word_embeddings=True)
    lmc.save(model, tmp_path / "a")
    names = {name: "part.safetensors" for name in model.state_dict()}
    assert "lm_head.weight" in names
    index(tmp_path / "a", names)
    for name, tensor in lmc.load(tmp_path / "a").state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


VIT_DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "other classes": (lambda f: edit(f, num_classes=5), "config.json: num_classes: expected 10, found 5"),
    "labels with an offset": (
        lambda f: edit(
            f, pretrained_cfg=json.loads((f / "config.json").read_text())["pretrained_cfg"] | {"label_offset": 1}
        ),
        "config.json: label_offset: expected none, found 1",
    ),
    "a mean that is text": (
        lambda f: edit(
            f, pretrained_cfg=json.loads((f / "config.json").read_text())["pretrained_cfg"] | {"mean": "x", "std": 1}
        ),
        "config.json: mean: expected a number, found 'x'",
    ),
    "unknown architecture": (lambda f: edit(f, architecture="vit_gigantic"), "config.json: no model can be built"),
    "another class": (
        lambda f: edit(f, architecture="resnet18", model_args={}, pretrained_cfg={}, global_pool="avg"),
        "timm.ResNet: no family covers",
    ),
    "a variant": (
        lambda f: edit(f, model_args=json.loads((f / "config.json").read_text())["model_args"] | {"qk_norm": True}),
        "qk_norm",
    ),
    "classes": (
        lambda f: tensors(f, lambda t: t.update({"head.weight": torch.ones(11, 16)})),
        r"head.weight: expected shape \[10, 16\], found \[11, 16\]",
    ),
    "missing tensor": (lambda f: tensors(f, lambda t: t.pop("cls_token")), "tensor cls_token: expected shape"),
    "NaN": (
        lambda f: tensors(f, lambda t: t["pos_embed"].view(-1)[:3].fill_(float("nan"))),
        "pos_embed: expected finite values, found 3 of",
    ),
}


def test_a_configuration_that_asks_for_tuples_is_read_all_the_same(tmp_path: Path) -> None:
    lmc.save(pico.neox(dtype=torch.float32), tmp_path / "a")
    edit(tmp_path / "a", return_dict=False, output_attentions=True, output_hidden_states=True)
    model = lmc.load(tmp_path / "a")
    assert lmc.check(model).ok
    lmc.save(model, tmp_path / "b")
    assert not lmc.load(tmp_path / "b").config.output_attentions


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tokenizer.json", "{}", "tokenizer.json: no tokenizer can be built from it"),
        ("tokenizer.json", "[]", "tokenizer.json: expected a JSON object"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json: expected a JSON object, found list"),
    ],
)
def test_a_damaged_tokenizer_is_one_clear_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    lmc.save(pico.neox(dtype=torch.float32), tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"expected a tokenizer \(tokenizer.json\), found none"):
        checkpoints.tokenizer(tmp_path / "a")
    pico.tokenizer(tmp_path / "a")
    assert checkpoints.tokenizer(tmp_path / "a")("w3 w1").input_ids == [3, 1]
    (tmp_path / "a" / name).write_text(text)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoints.tokenizer(tmp_path / "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", VIT_DAMAGE)
def test_damage_to_a_vit(damage: str, tmp_path: Path) -> None:
    spoil, message = VIT_DAMAGE[damage]
    lmc.save(pico.vit(dtype=torch.float32), tmp_path / "vit")
    spoil(tmp_path / "vit")
    with pytest.raises(LmcError, match=message) as caught:
        lmc.load(tmp_path / "vit")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["no/such/folder", "./nothing", "/nothing/here", "someone/nothing-of-this-name", "a b"]
)
def test_names_that_lead_nowhere(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"no such folder|not available from the hub") as caught:
        lmc.load(name)
    assert "\n" not in str(caught.value)


def test_an_empty_name_is_not_this_folder() -> None:
    with pytest.raises(CheckpointError, match="found an empty name"):
        lmc.load("")


def test_nothing_is_read_from_a_folder_that_is_refused(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header says enough: with the weights cut off behind it, the first complaint is still the right one."""
    monkeypatch.setattr("lmc.checkpoints.transformers_layout.read", lambda *_: pytest.fail("weights were read"))
    folder = tmp_path / "neox"
    folder.mkdir()
    for file in sound.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors(folder, lambda t: t.update({"gpt_neox.embed_in.weight": torch.ones(3)}))
    with pytest.raises(CheckpointError, match=r"embed_in\.weight"):
        lmc.load(folder)
    edit(folder, architectures=["XLNetLMHeadModel"])
    with pytest.raises(UnsupportedModelError, match="XLNetLMHeadModel"):
        lmc.load(folder)


def test_a_tied_head_that_became_a_tensor_of_its_own_and_stayed_equal_is_written(tmp_path: Path) -> None:
    """As `load_state_dict(…, assign=True)` leaves it."""
    model = pico.gpt2(0, torch.float32, tie_word_embeddings=True)
    model.load_state_dict({name: t.clone() for name, t in model.state_dict().items()}, assign=True)
    assert model.lm_head.weight is not model.transformer.wte.weight
    lmc.save(model, tmp_path / "out")
    again: Any = lmc.load(tmp_path / "out")
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)
    model.lm_head.weight.data.add_(1.0)
    with pytest.raises(lmc.CheckpointError, match="tie_word_embeddings is set"):
        lmc.save(model, tmp_path / "other")
