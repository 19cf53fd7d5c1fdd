"""OLMo's original layout becomes a stock checkpoint with the same function; no code of a checkpoint is ever run."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

import lmc
from lmc.checkpoints.conversion import convert
from lmc.errors import CheckpointError, LmcError, UnsupportedModelError

# The fields of an original config.json, with the settings of OLMo-1; the ladder's (DataDecide) differ as LADDER says.
OLMO = {
    "activation_type": "swiglu",
    "alibi": False,
    "architectures": ["OLMoForCausalLM"],
    "attention_layer_norm": False,
    "auto_map": {
        "AutoConfig": "configuration_olmo.OLMoConfig",
        "AutoModelForCausalLM": "modeling_olmo.OLMoForCausalLM",
    },
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "sequential",
    "clip_qkv": None,
    "d_model": 16,
    "embedding_size": 48,
    "eos_token_id": 1,
    "flash_attention": True,
    "include_bias": False,
    "layer_norm_type": "default",
    "layer_norm_with_affine": False,
    "max_sequence_length": 32,
    "mlp_ratio": 8,
    "model_type": "hf_olmo",
    "multi_query_attention": False,
    "n_heads": 4,
    "n_layers": 2,
    "pad_token_id": 1,
    "rope": True,
    "rope_full_precision": True,
    "scale_logits": False,
    "vocab_size": 45,
    "weight_tying": True,
}
LADDER = {"layer_norm_type": "rms", "layer_norm_with_affine": True, "layer_norm_eps": 1e-3, "weight_tying": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "OLMo-1, tied": {},
    "untied, clipped, own hidden size": {"weight_tying": False, "clip_qkv": 0.8, "mlp_hidden_size": 40},
    "the ladder's": LADDER,
    "the ladder's, grouped queries": LADDER | {"n_kv_heads": 2, "rope_theta": 500.0},
    "one key head": {"multi_query_attention": True},
}


def original(folder: Path, pickled: bool = False, **fields: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A tiny checkpoint in the original layout, with the code that would come with it, and what is in it."""
    config = OLMO | fields
    d, layers = config["d_model"], config["n_layers"]
    kv = (
        d // config["n_heads"] * (1 if config["multi_query_attention"] else config.get("n_kv_heads", config["n_heads"]))
    )
    hidden = config.get("mlp_hidden_size") or config["mlp_ratio"] * d
    shapes = {"wte": (config["embedding_size"], d)}
    for k in range(layers):
        shapes |= {f"blocks.{k}.att_proj": (d + 2 * kv, d), f"blocks.{k}.attn_out": (d, d)}
        shapes |= {f"blocks.{k}.ff_proj": (hidden, d), f"blocks.{k}.ff_out": (d, hidden // 2)}
        if config["layer_norm_with_affine"]:
            shapes |= {f"blocks.{k}.attn_norm": (d,), f"blocks.{k}.ff_norm": (d,)}
    if config["layer_norm_with_affine"]:
        shapes["ln_f"] = (d,)
    if not config["weight_tying"]:
        shapes["ff_out"] = (config["embedding_size"], d)
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"model.transformer.{name}.weight": torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("configuration_olmo.py", "modeling_olmo.py"):
        (folder / name).write_text("raise SystemExit('code of a checkpoint was run')\n")
    if pickled:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return config, tensors


def forward(config: dict[str, Any], tensors: dict[str, Tensor], ids: Tensor) -> Tensor:
    """What the original class computes, written down from its definition; (B, T) to (B, T, V)."""

    def weight(name: str) -> Tensor:
        return tensors[f"model.transformer.{name}.weight"]

    def norm(x: Tensor, name: str) -> Tensor:
        if config["layer_norm_type"] == "rms":
            return weight(name) * x / (x.square().mean(-1, keepdim=True) + config["layer_norm_eps"]).sqrt()
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    d, heads = config["d_model"], config["n_heads"]
    size = d // heads
    kv_heads = 1 if config["multi_query_attention"] else config.get("n_kv_heads", heads)
    time = ids.shape[1]
    rate = config.get("rope_theta", 10000.0) ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    turn = torch.polar(torch.ones(time, size // 2, dtype=torch.float64), torch.arange(time)[:, None] * rate)

    def rotate(x: Tensor) -> Tensor:
        """Entry i and entry i + size/2 of a head are one complex number."""
        pair = torch.complex(*x.chunk(2, -1)) * turn
        return torch.cat([pair.real, pair.imag], -1)

    x = weight("wte")[ids]
    for k in range(config["n_layers"]):
        fused = norm(x, f"blocks.{k}.attn_norm") @ weight(f"blocks.{k}.att_proj").T
        if config["clip_qkv"] is not None:
            fused = fused.clamp(-config["clip_qkv"], config["clip_qkv"])
        q, key, v = fused.split([d, kv_heads * size, kv_heads * size], -1)
        q, key, v = (t.unflatten(-1, (-1, size)).transpose(1, 2) for t in (q, key, v))  # (B, heads, T, size)
        q, key = rotate(q), rotate(key).repeat_interleave(heads // kv_heads, 1)
        scores = q @ key.mT / math.sqrt(size)
        scores = scores.masked_fill(torch.ones(time, time, dtype=torch.bool).triu(1), -math.inf)
        mixed = scores.softmax(-1) @ v.repeat_interleave(heads // kv_heads, 1)
        x = x + mixed.transpose(1, 2).flatten(2) @ weight(f"blocks.{k}.attn_out").T
        up, gate = (norm(x, f"blocks.{k}.ff_norm") @ weight(f"blocks.{k}.ff_proj").T).chunk(2, -1)
        x = x + (functional.silu(gate) * up) @ weight(f"blocks.{k}.ff_out").T
    return norm(x, "ln_f") @ weight("wte" if config["weight_tying"] else "ff_out").T


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_converted_model_computes_the_same(variant: str, tmp_path: Path) -> None:
    config, tensors = original(tmp_path / "old", **VARIANTS[variant])
    convert(tmp_path / "old", tmp_path / "new")
    model = lmc.load(tmp_path / "new")
    ids = torch.randint(config["embedding_size"], (3, 20), generator=torch.Generator().manual_seed(1))
    with lmc.float64(), torch.no_grad():
        found = model(ids).logits
    expected = forward(config, tensors, ids)
    # The stock rotary tables are float32 tables, whatever the model's type.
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert [p.suffix for p in (tmp_path / "new").iterdir() if p.suffix == ".py"] == []
    assert "auto_map" not in (tmp_path / "new" / "config.json").read_text()


def test_pickled_weights_in_the_original_layout(tmp_path: Path) -> None:
    _, tensors = original(tmp_path / "old", pickled=True)
    convert(tmp_path / "old", tmp_path / "new")
    again = load_file(tmp_path / "new" / "model.safetensors")
    assert torch.equal(again["model.embed_tokens.weight"], tensors["model.transformer.wte.weight"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alibi": True}, "alibi: expected False, found True"),
        ({"attention_layer_norm": True}, "attention_layer_norm: expected False, found True"),
        ({"block_type": "llama"}, "block_type: expected sequential, found llama"),
        ({"layer_norm_type": "amd_compatible"}, "layer_norm_type: expected default or low_precision or rms, found amd"),
        ({"layer_norm_with_affine": True}, "layer_norm_with_affine: expected False with LayerNorms, found True"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps: expected 1e-05 with LayerNorms, found 1e-06"),
        (LADDER | {"clip_qkv": 8.0}, "clip_qkv: expected None with RMSNorms, found 8.0"),
        ({"d_model": "wide"}, "d_model: expected a positive whole number, found 'wide'"),
        ({"n_heads": 0}, "n_heads: expected a positive whole number, found 0"),
        ({"n_layers": True}, "n_layers: expected a positive whole number, found True"),
        ({"mlp_ratio": "4"}, "mlp_ratio: expected a positive whole number, found '4'"),
        ({"n_kv_heads": 2.0}, "n_kv_heads: expected a positive whole number, found 2.0"),
        ({"rope_theta": "x"}, "rope_theta: expected a positive number, found 'x'"),
        ({"clip_qkv": 0}, "clip_qkv: expected a positive number, found 0"),
        ({"weight_tying": "no"}, "weight_tying: expected true or false, found 'no'"),
        ({"max_sequence_length": 0}, "max_sequence_length: expected a positive whole number, found 0"),
        ({"pad_token_id": 999}, r"config\.json: no model can be built from it"),
        ({"bos_token_id": "a"}, r"config\.json: no model can be built from it"),
        ({"n_layers": 3}, r"model\.layers\.2\.\S+: expected shape .* found in no weights file"),
        ({"embedding_size": 50}, r"embed_tokens\.weight: expected shape \[50, 16\], found \[48, 16\]"),
        ({"weight_tying": False}, r"lm_head\.weight: expected shape .*found in no weights file"),
    ],
)
def test_what_no_stock_class_computes_is_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    original(tmp_path / "old")
    (tmp_path / "old" / "config.json").write_text(json.dumps(OLMO | fields))
    with pytest.raises(LmcError, match=message) as caught:
        convert(tmp_path / "old", tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    _, tensors = original(tmp_path / "old")
    more = tensors | {"model.transformer.blocks.0.q_norm.weight": torch.ones(16)}
    save_file(more, tmp_path / "old" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"tensor model\.transformer\.blocks\.0\.q_norm\.weight: not one of"):
        convert(tmp_path / "old", tmp_path / "new")


def test_the_licence_of_what_is_converted_goes_along(tmp_path: Path) -> None:
    original(tmp_path / "old", pickled=True)
    (tmp_path / "old/README.md").write_text(
        "---\nlicense: cc-by-nc-4.0\nlicense_link: https://own\nbase_model: org/base\nlanguage: en\n---\nHow it came.\n"
    )
    with pytest.warns(UserWarning, match=r"README\.md: its text, language stay behind; copy what still holds"):
        convert(tmp_path / "old", tmp_path / "new")
    head = (tmp_path / "new/README.md").read_text().split("---")[1]
    assert "license: cc-by-nc-4.0\nlicense_link: https://own\n" in head and "base_model" in head and "org/base" in head
    (tmp_path / "old/README.md").unlink()
    (tmp_path / "old/LICENSE.md").write_text("Ask first.")
    more = {"NOTICE": "Made by many.", "MODEL_LICENSE": "As a whole.", "Use_Policy.md": "Not for weapons."}
    more |= {"THIRD_PARTY_NOTICES.txt": "Parts are others'."}
    for name, text in more.items():
        (tmp_path / "old" / name).write_text(text)
    convert(tmp_path / "old", tmp_path / "other")
    assert "license" not in (tmp_path / "other/README.md").read_text()  # as before
    assert (tmp_path / "other/LICENSE.md").read_text() == "Ask first."
    assert {name: (tmp_path / "other" / name).read_text() for name in more} == more
    (tmp_path / "old/modules.json").write_text("[]")
    with pytest.warns(UserWarning, match=r"modules\.json: what follows the transformer \(its pooling, dense layers\)"):
        convert(tmp_path / "old", tmp_path / "third")


def test_loading_points_to_convert(tmp_path: Path) -> None:
    original(tmp_path / "old")
    with pytest.raises(UnsupportedModelError, match=r"OLMoForCausalLM, whose code comes with .* lmc convert old NEW"):
        lmc.load(tmp_path / "old")


def test_no_code_in_a_folder_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a model's nor a tokenizer's, even where the configuration asks for it and the class is a stock one."""
    folder = tmp_path / "a"
    lmc.save(pico.llama(dtype=torch.float32), folder)
    pico.tokenizer(folder)
    mine = {
        "AutoConfig": "mine.Config",
        "AutoModelForCausalLM": "mine.Model",
        "AutoTokenizer": ["mine.Slow", "mine.Fast"],
    }
    for file in ("config.json", "tokenizer_config.json"):
        plain = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(plain | {"auto_map": mine}))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')\n")
    monkeypatch.chdir(folder)
    model = lmc.load(folder)
    lmc.checkpoints.tokenizer(folder)
    lmc.save(model, tmp_path / "b", tokenizer_from=folder)
    assert not (tmp_path / "harm").exists()
    assert not any(name == "mine" or name.endswith(".mine") for name in sys.modules)
    for file in (tmp_path / "b").glob("*.json"):
        assert "mine" not in file.read_text()
    assert lmc.checkpoints.tokenizer(tmp_path / "b")("w3 w1").input_ids == [3, 1]


def test_there_must_be_something_to_convert(tmp_path: Path) -> None:
    lmc.save(pico.vit(), tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"nothing to convert: it is a stock checkpoint already \(model\.safe"):
        convert(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not found; the folder holds"):
        convert(tmp_path / "a", tmp_path / "b")


def deit(folder: Path, **changes: Tensor | None) -> tuple[Any, dict[str, Tensor]]:
    """A DeiT checkpoint as its authors' code writes it, and the timm model that computes the same."""
    import timm

    size = {"depth": 2, "img_size": 32, "num_classes": 10, "mlp_ratio": 1.0}
    model = timm.create_model("deit3_small_patch16_224", pretrained=False, **size).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.1, generator=generator)
    tensors = {
        name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): t
        for name, t in model.state_dict().items()
    }
    for name, tensor in changes.items():
        tensors.pop(name)
        tensors |= {} if tensor is None else {name: tensor}
    folder.mkdir()
    (folder / "config.json").write_text("{}\n")
    torch.save({"model": tensors}, folder / "pytorch_model.bin")
    return model, tensors


@pytest.mark.parametrize(("side", "crop"), [(224, 0.9), (384, 1.0), (96, 0.9)])
def test_pictures_for_a_deit_are_cut_as_timm_does_for_their_size(side: int, crop: float, tmp_path: Path) -> None:
    import timm

    _, tensors = deit(tmp_path / "small")
    tensors["pos_embed"] = torch.zeros(1, (side // 16) ** 2, 384)
    torch.save(tensors, tmp_path / "small/pytorch_model.bin")
    convert(tmp_path / "small", tmp_path / "new")
    found = lmc.load(tmp_path / "new").pretrained_cfg
    assert found["crop_pct"] == crop and tuple(found["input_size"]) == (3, side, side)
    if timm.is_model(name := f"deit3_small_patch16_{side}"):
        assert timm.get_pretrained_cfg(name).crop_pct == crop


def test_generation_settings_stay_beside_a_model_that_changes_its_layout(tmp_path: Path) -> None:
    original(tmp_path / "old")
    settings = {"eos_token_id": [3, 5], "temperature": 0.6, "do_sample": True, "max_new_tokens": 77}
    (tmp_path / "old/generation_config.json").write_text(json.dumps(settings))
    convert(tmp_path / "old", tmp_path / "new")
    found = json.loads((tmp_path / "new/generation_config.json").read_text())
    assert {name: found[name] for name in settings} == settings


def test_a_deit_state_dict_becomes_a_timm_model(tmp_path: Path) -> None:
    from timm.models.vision_transformer import checkpoint_filter_fn

    model, tensors = deit(tmp_path / "deit")
    with pytest.raises(CheckpointError, match=r"architectures: .*lmc convert .*deit NEW"):
        lmc.load(tmp_path / "deit")
    convert(tmp_path / "deit", tmp_path / "new")
    new = lmc.load(tmp_path / "new")
    renamed = checkpoint_filter_fn(dict(tensors), model, adapt_layer_scale=True)  # timm's own reading of such a file
    assert {name: t.shape for name, t in renamed.items()} == {name: t.shape for name, t in new.state_dict().items()}
    assert all(torch.equal(t, new.state_dict()[name]) for name, t in renamed.items())
    folders = f"{str(tmp_path / 'deit')!r}, {str(tmp_path / 'alone')!r}"
    code = f"from lmc.checkpoints.conversion import convert; convert({folders})"
    subprocess.run([sys.executable, "-c", code], check=True)  # where nothing has imported timm yet
    pictures = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(new(pictures), model(pictures))
    assert tuple(new.pretrained_cfg["mean"]) == model.pretrained_cfg["mean"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.to(torch.int8), "expected float64, float32, float16 or bfloat16, found int8"),
        (lambda t: t > 0, "expected float64, float32, float16 or bfloat16, found bool"),
        (lambda t: t.to(torch.float8_e4m3fn), "found float8_e4m3fn"),
        (lambda t: t.to(torch.complex64), "found complex64"),
        (lambda t: t.to_sparse(), "expected plain numbers, found a sparse tensor"),
        (lambda t: t.to("meta"), "expected plain numbers, found a hollow tensor"),
    ],
)
def test_only_plain_numbers_are_weights(spoil: Any, message: str, tmp_path: Path) -> None:
    model = pico.llama(dtype=torch.float32)
    lmc.save(model, tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").unlink()
    name = "model.layers.0.mlp.up_proj.weight"
    torch.save(model.state_dict() | {name: spoil(model.state_dict()[name])}, tmp_path / "a" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=f"tensor {name}: .*{message}"):
        convert(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_tensor_whose_sign_is_a_mark_is_written_with_it(tmp_path: Path) -> None:
    model = pico.llama(dtype=torch.float32)
    lmc.save(model, tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").unlink()
    (tmp_path / "a" / "README.md").unlink()  # its text would be said to stay behind
    tensors = model.state_dict()
    name = "model.layers.0.mlp.up_proj.weight"
    marked = torch.complex(torch.zeros_like(tensors[name]), -tensors[name]).conj().imag
    assert marked.is_neg()
    torch.save(tensors | {name: marked}, tmp_path / "a" / "pytorch_model.bin")
    convert(tmp_path / "a", tmp_path / "b")
    assert torch.equal(lmc.load(tmp_path / "b").state_dict()[name], tensors[name])


@pytest.mark.parametrize("beside", ["state_dict_ema", "model", "ema"])
def test_of_two_sets_of_weights_none_is_chosen(beside: str, tmp_path: Path) -> None:
    model = pico.llama(dtype=torch.float32)
    lmc.save(model, tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").unlink()
    (tmp_path / "a" / "README.md").unlink()  # its text would be said to stay behind
    file, weights = tmp_path / "a" / "pytorch_model.bin", model.state_dict()
    torch.save({"state_dict": weights, beside: weights, "model_args": {"width": 8}}, file)
    with pytest.raises(CheckpointError, match=rf"expected one set of weights, found state_dict and {beside}; save"):
        convert(tmp_path / "a", tmp_path / "b")
    torch.save({"state_dict": weights, beside: {"module": weights}}, file)
    with pytest.raises(CheckpointError, match=rf"expected one set of weights, found state_dict and {beside}; save"):
        convert(tmp_path / "a", tmp_path / "b")
    optimizer = {"exp_avg": weights}  # called as the weights are, and none
    torch.save({"state_dict": weights, "model_args": {"width": 8}, "optimizer": optimizer}, file)
    convert(tmp_path / "a", tmp_path / "b")


def test_a_damaged_pickle_is_one_line(tmp_path: Path) -> None:
    model = pico.llama(dtype=torch.float32)
    lmc.save(model, tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").unlink()
    file = tmp_path / "a" / "pytorch_model.bin"
    torch.save(model.state_dict(), file)
    sound = file.read_bytes()
    for seed in range(20):
        damaged = bytearray(sound)
        for at in torch.randint(len(sound), (40,), generator=torch.Generator().manual_seed(seed)).tolist():
            damaged[at] ^= 0xFF
        file.write_bytes(damaged)
        try:  # where only numbers were hit it is a checkpoint like any other
            convert(tmp_path / "a", tmp_path / f"b-{seed}")
        except LmcError as error:
            assert "\n" not in str(error) and not (tmp_path / f"b-{seed}").exists()


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    deit(tmp_path / "deit")
    torch.save({}, tmp_path / "deit" / "pytorch_model.bin")
    with pytest.raises(LmcError, match="found no cls_token"):
        convert(tmp_path / "deit", tmp_path / "new")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"cls_token": torch.zeros(1, 1, 400)}, "cls_token: expected one of the widths 384, .*, found 400"),
        ({"cls_token": None}, "expected a DeiT state dict, as config.json is empty, found no cls_token"),
        ({"pos_embed": torch.zeros(1, 5, 384)}, "pos_embed: expected a square of patches, found 5 positions"),
        ({"norm.weight": None}, r"tensor norm.weight"),
        ({"norm.bias": torch.zeros(3)}, r"norm.bias.*\[384\].*\[3\]"),
    ],
    ids=["width", "no DeiT", "positions", "missing", "shape"],
)
def test_another_state_dict_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    deit(tmp_path / "deit", **changes)
    with pytest.raises(LmcError, match=complaint):
        convert(tmp_path / "deit", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """What was written would be refused by every command after this one."""
    model = pico.llama(0, torch.float32)
    model.config.save_pretrained(tmp_path / "old")
    config = json.loads((tmp_path / "old/config.json").read_text()) | {"architectures": ["LlamaForCausalLM"]}
    (tmp_path / "old/config.json").write_text(json.dumps(config))
    torch.save(model.state_dict(), tmp_path / "old/pytorch_model.bin")
    pico.tokenizer(tmp_path / "old", 50)
    with pytest.raises(lmc.CheckpointError, match="50"):
        convert(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "new").exists()
