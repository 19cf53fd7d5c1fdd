"""The hub's paths, without a network: tiny models and data sets in published layouts, the real client libraries."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pico
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from standin import STRANGER, TOKEN, Client, Hub

import lmc

SEEDS = "EleutherAI/pythia-14m-seed1@step143000", "EleutherAI/pythia-14m-seed2@step143000"
NEOX = {"hidden_size": 16, "num_attention_heads": 2, "vocab_size": 40, "max_position_embeddings": 32}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("standin")


@pytest.fixture(scope="module")
def hub(place: Path) -> Iterator[Hub]:
    with Hub(place / "hub") as hub:
        publish(hub)
        yield hub


@pytest.fixture(scope="module")
def client(hub: Hub, place: Path) -> Iterator[Client]:
    """One process for all tests of this file: it imports the libraries once."""
    with Client(hub, place) as client:
        yield client


@pytest.fixture(autouse=True)
def calm(hub: Hub) -> None:
    """Nothing goes wrong unless a test says so."""
    hub.limited.clear()
    hub.truncated.clear()
    hub.sent.clear()


# What is published


def publish(hub: Hub) -> None:
    for seed in (1, 2):
        _pythia(hub, f"models/EleutherAI/pythia-14m-seed{seed}", seed)
    _olmo(hub.revision("models/allenai/OLMo-1B-hf"), 0)
    _olmo(hub.revision("models/amd/AMD-OLMo-1B"), 1)
    _olmo(hub.revision("models/allenai/OLMo-1B-0724-hf"), 2, clip_qkv=8.0)
    _in_both_forms(hub.revision("models/org/twice"))
    for seed, name in enumerate(("alias-gpt2-small-x21", "battlestar-gpt2-small-x49")):
        _gpt2(hub.revision(f"models/stanford-crfm/{name}"), seed)
    _vit(hub.revision("models/timm/deit3_small_patch16_224.fb_in1k"), "deit3_small_patch16_224", "fb_in1k", 0)
    _vit(hub.revision("models/timm/vit_base_patch16_224.augreg_in1k"), "vit_base_patch16_224", "augreg_in1k", 1)
    _deit(hub.revision("models/naver-ai/deit_small_patch16_LS"))
    _hf_olmo(hub.revision("models/allenai/DataDecide-dolma1_7-1B", "step69369-seed-default"))
    _wikitext(hub.revision("datasets/Salesforce/wikitext"))
    _imagenet(hub.revision("datasets/ILSVRC/imagenet-1k"))
    _fineweb(hub.revision("datasets/HuggingFaceFW/fineweb-edu"))
    _cifar(hub.revision("datasets/uoft-cs/cifar10"))


def _write(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor] | None) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    if tensors is not None:
        save_file({name: t.contiguous().clone() for name, t in tensors.items()}, folder / "model.safetensors")


def _pythia(hub: Hub, repository: str, seed: int) -> None:
    """As PolyPythias: half precision, buffers of old versions, the head's old name, weights in a revision only."""
    (hub.revision(repository) / ".gitattributes").write_text("")
    folder = hub.revision(repository, "step143000")
    model = pico.neox(seed, torch.float32, rotary_fraction=0.25, intermediate_size=24)
    tensors = {name.replace("lm_head", "embed_out"): t.half() for name, t in model.state_dict().items()}
    for layer in range(2):
        attention = f"gpt_neox.layers.{layer}.attention."
        tensors[attention + "bias"] = torch.ones(1, 1, 32, 32, dtype=torch.bool).tril()
        tensors[attention + "masked_bias"] = torch.tensor(-1e9)
        tensors[attention + "rotary_emb.inv_freq"] = 1 / 10000 ** (torch.arange(0, 2, 2) / 2)
    config = {
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        **NEOX,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "hidden_act": "gelu",
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-05,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.25,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.24.0",
        "use_cache": True,
        "use_parallel_residual": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    _write(folder, config, tensors)
    pico.tokenizer(folder)


def _in_both_forms(folder: Path) -> None:
    """One file, and beside it the shards and the index of an older state that nobody deleted."""
    _olmo(folder, 0)
    model = pico.olmo(3, torch.float32, tie_word_embeddings=True, num_key_value_heads=4)
    tensors = {name: t for name, t in model.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors")


def _olmo(folder: Path, seed: int, **other: Any) -> None:
    """As OLMo-1B-hf: tied, the norms without parameters, weights in two shards with an index."""
    model = pico.olmo(seed, torch.float32, tie_word_embeddings=True, num_key_value_heads=4)
    tensors = {name: t for name, t in model.state_dict().items() if name != "lm_head.weight"}
    config = {
        "architectures": ["OlmoForCausalLM"],
        "model_type": "olmo",
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "intermediate_size": 12,
        "max_position_embeddings": 32,
        "attention_bias": False,
        "clip_qkv": None,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "hidden_act": "silu",
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "transformers_version": "4.40.0",
        **other,
    }
    _write(folder, config, None)
    names = sorted(tensors)
    places = {n: f"model-0000{1 + (i >= len(names) // 2)}-of-00002.safetensors" for i, n in enumerate(names)}
    for file in set(places.values()):
        save_file({n: tensors[n] for n in names if places[n] == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    pico.tokenizer(folder)


def _gpt2(folder: Path, seed: int) -> None:
    """As stanford-crfm's: pickled, without the prefix, the causal mask among the weights, extra fields."""
    tensors = pico.gpt2(seed, torch.float32, tie_word_embeddings=True).state_dict()
    bare = {n.removeprefix("transformer."): t for n, t in tensors.items() if n != "lm_head.weight"}
    for layer in range(2):
        bare[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 32, 32, dtype=torch.uint8).tril()
        bare[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": 40,
        "n_embd": 16,
        "n_layer": 2,
        "n_head": 2,
        "n_inner": 24,
        "n_positions": 32,
        "n_ctx": 32,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-05,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": True,
        "reorder_and_upcast_attn": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    _write(folder, config, None)
    torch.save(bare, folder / "pytorch_model.bin")
    pico.tokenizer(folder)


def _vit(folder: Path, architecture: str, tag: str, seed: int) -> None:
    """As `timm/…`: timm's config.json, to which only `model_args` is added that makes the model tiny."""
    size = {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 16, "patch_size": 8, "num_classes": 10}
    extra = {"no_embed_class": True, "init_values": 1e-6} if architecture.startswith("deit3") else {}
    model = pico.vit(seed, torch.float32, in_chans=3, mlp_ratio=4, **(size | extra))
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) if extra else ([0.5] * 3, [0.5] * 3)
    config = {
        "architecture": architecture,
        "num_classes": 10,
        "num_features": 16,
        "global_pool": "token",
        "model_args": size,
        "pretrained_cfg": {
            "tag": tag,
            "custom_load": False,
            "input_size": [3, 16, 16],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "crop_mode": "center",
            "mean": mean,
            "std": std,
            "num_classes": 10,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    _write(folder, config, model.state_dict())
    torch.save(model.state_dict(), folder / "pytorch_model.bin")  # timm's repositories hold both


def _deit(folder: Path) -> None:
    """As `naver-ai/deit_…_LS`: an empty configuration beside the pickled state dict of DeiT's training code."""
    import timm

    model = timm.create_model("deit3_small_patch16_224", pretrained=False, depth=1, img_size=32, mlp_ratio=1.0)
    _write(folder, {}, None)
    torch.save(
        {n.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): t for n, t in model.state_dict().items()},
        folder / "pytorch_model.bin",
    )


def _hf_olmo(folder: Path) -> None:
    """As DataDecide: a class of its own, and code that would say so if it ran."""
    config = {
        "architectures": ["OLMoForCausalLM"],
        "model_type": "hf_olmo",
        "auto_map": {"AutoConfig": "code.OLMoConfig", "AutoModelForCausalLM": "code.OLMoForCausalLM"},
        "d_model": 16,
        "n_heads": 4,
        "n_layers": 2,
        "mlp_hidden_size": 24,
        "vocab_size": 40,
        "embedding_size": 40,
        "max_sequence_length": 32,
        "weight_tying": True,
        "activation_type": "swiglu",
        "layer_norm_type": "default",
        "layer_norm_with_affine": False,
        "rope": True,
        "rope_theta": 10000,
        "include_bias": False,
    }
    model = pico.olmo(5, torch.float32, tie_word_embeddings=True, num_key_value_heads=4).state_dict()
    tensors = {"wte": model["model.embed_tokens.weight"]}
    for layer in range(2):
        here, there = f"model.layers.{layer}.", f"blocks.{layer}."
        tensors[there + "att_proj"] = torch.cat([model[f"{here}self_attn.{x}_proj.weight"] for x in "qkv"])
        tensors[there + "ff_proj"] = torch.cat([model[f"{here}mlp.{x}_proj.weight"] for x in ("up", "gate")])
        tensors[there + "attn_out"] = model[here + "self_attn.o_proj.weight"]
        tensors[there + "ff_out"] = model[here + "mlp.down_proj.weight"]
    _write(folder, config, {f"model.transformer.{name}.weight": tensor for name, tensor in tensors.items()})
    (folder / "code.py").write_text("import pathlib; pathlib.Path('the-code-ran').touch()\n")


def _wikitext(folder: Path) -> None:
    """As Salesforce/wikitext: configurations in the card, parquet files by split, one column."""
    card = (
        "---\nconfigs:\n- config_name: wikitext-103-raw-v1\n  data_files:\n"
        + "".join(f"  - split: {s}\n    path: wikitext-103-raw-v1/{s}-*\n" for s in ("test", "validation", "train"))
        + "dataset_info:\n- config_name: wikitext-103-raw-v1\n  features:\n  - name: text\n    dtype: string\n---\n"
    )
    (folder / "README.md").write_text(card)
    inside = folder / "wikitext-103-raw-v1"
    inside.mkdir()
    for split in ("test", "validation", "train"):
        rows = {"text": ["", f" = {split} = \n", "", *(f" w{i % 40} w{(i * 7) % 40} w3 . \n" for i in range(120))]}
        features = datasets.Features({"text": datasets.Value("string")})
        datasets.Dataset.from_dict(rows, features=features).to_parquet(inside / f"{split}-00000-of-00001.parquet")


def _fineweb(folder: Path) -> None:
    """As HuggingFaceFW/fineweb-edu: samples in folders of numbered shards, the text beside what is known of it."""
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: sample-10BT\n  data_files:\n  - split: train\n    path: sample/10BT/*\n---\n"
    )
    (folder / "sample" / "10BT").mkdir(parents=True)
    for shard in range(2):
        rows = {"text": [f"document {i} of shard {shard}" for i in range(5)], "id": [str(i) for i in range(5)]}
        file = folder / "sample" / "10BT" / f"00{shard}_00000.parquet"
        datasets.Dataset.from_dict(rows | {"score": [3.0] * 5}).to_parquet(file)


def _imagenet(folder: Path) -> None:
    """As ILSVRC/imagenet-1k: pictures as bytes and path, labels of named classes, the parts in numbered shards."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list("0123456789"))})
    (folder / "data").mkdir()
    (folder / "README.md").write_text("---\nextra_gated_prompt: terms\n---\n")
    for part, shards in (("train", 2), ("validation", 1), ("test", 1)):
        for shard in range(shards):
            rows = {"image": [_picture(i) for i in range(12)], "label": [i % 10 for i in range(12)]}
            file = folder / "data" / f"{part}-0000{shard}-of-0000{shards}.parquet"
            datasets.Dataset.from_dict(rows, features=features).to_parquet(file)


def _cifar(folder: Path) -> None:
    """As uoft-cs/cifar10: one configuration, the picture's column called `img`."""
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=list("0123456789"))})
    (folder / "plain_text").mkdir()
    parts = "".join(f"  - split: {s}\n    path: plain_text/{s}-*\n" for s in ("train", "test"))
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: plain_text\n  data_files:\n{parts}  default: true\n---\n"
    )
    for part, labels in (("train", range(10)), ("test", range(9, -1, -1))):
        rows = {"img": [_picture(i) for i in labels], "label": list(labels)}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(
            folder / "plain_text" / f"{part}-00000-of-00001.parquet"
        )


def _picture(seed: int) -> dict[str, Any]:
    pixels = np.random.RandomState(seed).randint(256, size=(20, 24, 3)).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG")
    return {"bytes": data.getvalue(), "path": f"ILSVRC2012_val_{seed:08d}.JPEG"}


def refused(answer: tuple[int, str, str]) -> str:
    """The one line of a refusal."""
    code, _, err = answer
    assert code == 2, err
    assert "Traceback" not in err
    return err.splitlines()[-1]


# Models


def test_polypythias_are_matched_and_merged_on_wikitext(hub: Hub, client: Client, place: Path) -> None:
    code, out, err = client.lmc(f"check {SEEDS[0]} {SEEDS[1]}")
    assert code == 0, err
    assert "these can be paired" in out
    code, _, err = client.lmc(f"match {SEEDS[0]} {SEEDS[1]} --method activations --data wikitext --limit 4 --out poly")
    assert code == 0, err
    described = json.loads((place / "poly" / "alignment.json").read_text())
    commits = [hub.commit(f"models/{name.partition('@')[0]}", "step143000") for name in SEEDS]
    assert [p["name"] for p in described["parents"]] == [
        f"{name.partition('@')[0]}@{commit}" for name, commit in zip(SEEDS, commits, strict=True)
    ]
    assert str(place) not in json.dumps(described)
    assert "wikitext-103-raw-v1/train-00000-of-00001.parquet" in hub.sent
    code, out, err = client.lmc("path poly --data wikitext --grid 3 --limit 4")
    assert code == 0, err
    assert "barrier" in out
    hub.sent.clear()
    code, _, err = client.lmc("merge poly --out poly-merged")
    assert code == 0, err
    assert not [file for file in hub.sent if file.endswith(".safetensors")]  # the copies of before served
    stored = load_file(place / "poly-merged" / "model.safetensors")
    assert not [name for name in stored if "masked_bias" in name or "inv_freq" in name]
    assert {"hf_hub", "datasets"} <= hub.agents


def test_a_branch_without_a_model_says_what_is_missing(client: Client) -> None:
    line = refused(client.lmc("check EleutherAI/pythia-14m-seed1"))
    assert "config.json: not found" in line


def test_the_card_of_an_aligned_endpoint_names_its_own_model(client: Client) -> None:
    assert client.lmc(f"match {SEEDS[0]} {SEEDS[1]} --method weights --export --out al-exported")[0] == 0
    card = (client.folder / "al-exported/models/endpoint-1/README.md").read_text()
    assert f"base_model:\n- {SEEDS[1].partition('@')[0]}\n" in card


def test_a_recorded_model_is_found_where_a_folder_is_called_as_its_owner(client: Client) -> None:
    assert client.lmc(f"match {SEEDS[0]} {SEEDS[1]} --method naive --out al-of-hub")[0] == 0
    (client.folder / "EleutherAI").mkdir()
    try:
        code, _, err = client.lmc("merge al-of-hub --out merged-of-hub")
        assert code == 0, err
        code, _, err = client.lmc("check EleutherAI/pythia-14m")
        assert code == 2 and "no such folder; look how it is spelled" in err
    finally:
        (client.folder / "EleutherAI").rmdir()


def test_olmo_pairs_are_compared_before_their_weights_are_fetched(hub: Hub, client: Client) -> None:
    code, out, err = client.lmc("check allenai/OLMo-1B-hf amd/AMD-OLMo-1B")
    assert code == 0, err
    assert "these can be paired" in out
    hub.sent.clear()
    line = refused(client.lmc("check allenai/OLMo-1B-hf allenai/OLMo-1B-0724-hf"))
    assert "clip_qkv: expected None, found 8.0" in line
    assert not [file for file in hub.sent if file.endswith(".safetensors")]


def test_of_one_file_and_older_shards_the_file_is_read(hub: Hub, client: Client) -> None:
    """As the stock library asks for it first; what has been fetched so far does not decide."""
    hub.sent.clear()
    size = client.python("import lmc; print(lmc.load('org/twice').get_input_embeddings().weight[1, 2].item())")
    expected = pico.olmo(3, torch.float32, tie_word_embeddings=True, num_key_value_heads=4)
    assert float(size) == expected.get_input_embeddings().weight[1, 2].item()
    assert {file.rpartition("/")[2] for file in hub.sent if file.endswith(".safetensors")} == {"model.safetensors"}


def test_pickled_gpt2_is_refused_and_converted(client: Client, place: Path) -> None:
    first = place / "hub" / "models" / "stanford-crfm" / "alias-gpt2-small-x21" / "main"
    beside = {"LICENSE.md": "Ask first.", "bpe.codes": "a b 1\n"}  # what has to come along, too
    for name, text in beside.items():
        (first / name).write_text(text)
    line = refused(client.lmc("check stanford-crfm/alias-gpt2-small-x21"))
    assert "lmc convert stanford-crfm/alias-gpt2-small-x21" in line
    code, _, err = client.lmc("convert stanford-crfm/alias-gpt2-small-x21 alias")
    assert code == 0, err
    assert {name: (place / "alias" / name).read_text() for name in beside} == beside
    same = pico.gpt2(0, torch.float32, tie_word_embeddings=True, scale_attn_by_inverse_layer_idx=True)
    converted = lmc.load(place / "alias")
    assert all(torch.equal(t, same.state_dict()[name]) for name, t in converted.state_dict().items())
    tokens = pico.inputs(same)  # the two compute attention by other kernels
    assert torch.allclose(pico.logits(converted, tokens), pico.logits(same, tokens), atol=1e-5)
    assert (first / "pytorch_model.bin").exists() and not (place / "alias" / "pytorch_model.bin").exists()


def test_timm_names_are_its_repositories(hub: Hub, client: Client) -> None:
    code, out, err = client.lmc("check deit3_small_patch16_224.fb_in1k")
    assert code == 0, err
    assert "exact" in out
    assert "model.safetensors" in hub.sent and "pytorch_model.bin" not in hub.sent
    stock = (
        "from lmc.symmetries import timm\n"
        "model = timm().create_model('hf-hub:timm/deit3_small_patch16_224.fb_in1k', pretrained=True)\n"
        "print(model.no_embed_class, model.blocks[0].ls1.gamma.shape[0], model.pretrained_cfg['crop_pct'])"
    )
    assert client.python(stock) == "True 16 0.9"  # the layout is one that timm itself reads from the hub
    line = refused(client.lmc("check deit3_small_patch16_224.fb_in1k vit_base_patch16_224.augreg_in1k"))
    assert "model 1 and model 2 differ in" in line


def test_datadecide_is_converted_and_its_code_never_runs(client: Client, place: Path) -> None:
    name = "allenai/DataDecide-dolma1_7-1B@step69369-seed-default"
    assert "OLMoForCausalLM, whose code comes with the checkpoint and is never run" in refused(
        client.lmc(f"check {name}")
    )
    code, _, err = client.lmc(f"convert {name} datadecide")
    assert code == 0, err
    same = pico.olmo(5, torch.float32, tie_word_embeddings=True, num_key_value_heads=4)
    converted = lmc.load(place / "datadecide")
    assert all(torch.equal(t, same.state_dict()[name]) for name, t in converted.state_dict().items())
    tokens = pico.inputs(same)  # the two compute attention by other kernels
    assert torch.allclose(pico.logits(converted, tokens), pico.logits(same, tokens), atol=1e-5)
    assert not list(place.rglob("the-code-ran"))


def test_nothing_large_is_fetched_of_a_model_that_is_refused(hub: Hub, client: Client, place: Path) -> None:
    folder = hub.revision("models/us/broken")
    shutil.copytree(hub.revision("models/timm/deit3_small_patch16_224.fb_in1k"), folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["embed_dim"] = 20
    (folder / "config.json").write_text(json.dumps(config))
    assert "expected shape" in refused(client.lmc("check us/broken"))
    assert "config.json" in hub.sent and "model.safetensors" not in hub.sent


def test_the_published_pairs_are_loaded_as_the_paper_profile_does(client: Client, place: Path) -> None:
    ask = (
        "import lmc\n"
        "from lmc.reproduce.experiments.published import PAIRS, Published, load, place\n"
        "for pair in (PAIRS['pythia'][0], PAIRS['olmo'][0], Published('', ("
        "'stanford-crfm/alias-gpt2-small-x21', 'stanford-crfm/battlestar-gpt2-small-x49'), 124)):\n"
        "    print(*(type(model).__name__ for model in load(pair)))\n"
        "a, b = load(Published('', ('deit3_small_patch16_224.fb_in1k', 'vit_base_patch16_224.augreg_in1k'), 22))\n"
        "ones = bool((b.blocks[0].ls1.gamma == 1).all())\n"
        "print(a.no_embed_class, b.no_embed_class, b.pretrained_cfg['mean'][0], ones)\n"
        "print(lmc.load(place('naver-ai/deit_small_patch16_LS')).no_embed_class)"
    )
    lines = client.python(ask).splitlines()
    stock = ["GPTNeoXForCausalLM", "OlmoForCausalLM", "GPT2LMHeadModel"]
    assert lines[:3] == [f"{name} {name}" for name in stock]
    assert lines[3:] == ["True True 0.5 True", "True"]


# What goes wrong


def published(hub: Hub, name: str) -> str:
    """A copy of a good repository, that no test has loaded yet."""
    source = hub.revision("models/timm/deit3_small_patch16_224.fb_in1k")
    shutil.copytree(source, hub.revision(f"models/us/{name}"), dirs_exist_ok=True)
    return f"us/{name}"


def test_names_and_revisions_that_are_not_there(client: Client) -> None:
    assert "us/nothing: not available from the hub: no such repository, or a private one" in refused(
        client.lmc("check us/nothing")
    )
    line = refused(client.lmc("check EleutherAI/pythia-14m-seed1@step9"))
    assert "step9: not available from the hub: it has no such revision" in line


def kind(client: Client, name: str) -> str:
    """The class of error that a program meets which loads a model."""
    code = """
import lmc
from lmc.errors import LmcError
try:
    lmc.load({!r})
except LmcError as error:
    print(type(error).__name__)
"""
    return client.python(code.format(name))


def test_what_may_be_had_another_time_is_told_from_what_is_not_there(hub: Hub, client: Client) -> None:
    assert kind(client, "us/nothing") == kind(client, "EleutherAI/pythia-14m-seed1@step9") == "CheckpointError"
    gated, away = published(hub, "asked-for"), published(hub, "cut-off")
    hub.gated.add(f"models/{gated}")
    hub.truncated["model.safetensors"] = 99
    assert kind(client, gated) == kind(client, away) == "HubError"
    hub.truncated.clear()


def test_a_gated_model_says_whose_terms_and_which_variable(hub: Hub, client: Client) -> None:
    name = published(hub, "gated")
    hub.gated.add(f"models/{name}")
    line = refused(client.lmc(f"check {name}"))
    assert f"{name}: not available from the hub: gated: accept its terms at {hub.endpoint}/{name}" in line
    assert "set HF_TOKEN" in line
    client.token(STRANGER)
    assert "gated, and the token in use has no access" in refused(client.lmc(f"check {name}"))
    client.token(TOKEN)
    code, _, err = client.lmc(f"check {name}")
    client.token(None)
    assert code == 0, err


def test_a_download_that_breaks_off_leaves_nothing_half_written(hub: Hub, client: Client, place: Path) -> None:
    name = published(hub, "broken-off")
    hub.truncated["model.safetensors"] = 99
    line = refused(client.lmc(f"check {name}"))
    assert "the download broke off; run the same command again" in line
    kept = place / "cache" / "hub" / "models--us--broken-off" / "snapshots"
    assert sorted(p.name for p in kept.rglob("*") if not p.is_dir()) == ["README.md", "config.json"]
    hub.truncated.clear()
    code, _, err = client.lmc(f"check {name}")
    assert code == 0, err


def test_a_hub_that_limits_requests_is_waited_for(hub: Hub, client: Client) -> None:
    name = published(hub, "busy")
    hub.limited["config.json"] = 10**6
    line = refused(client.lmc(f"check {name}"))
    assert "the hub limits requests (429): wait some minutes" in line


# Data sets


IMAGENET = (
    "from lmc import corpora\n"
    "x, y = corpora.images('imagenet', 'eval', 16, (0.5,) * 3, (0.5,) * 3, crop=0.9)\n"
    "print(tuple(x.shape), y.tolist())"
)


def test_wikitext_arrives_as_its_rows_joined(client: Client) -> None:
    text = client.python("from lmc import corpora; print(repr(corpora.text('wikitext', 'eval')))")
    assert eval(text).startswith("\n\n = test = \n\n\n\n\n w0 w0 w3 . \n\n\n w1 w7 w3 . \n")


def test_of_a_web_corpus_only_the_first_documents_are_fetched(hub: Hub, client: Client) -> None:
    ask = (
        "from lmc.corpora.downloads import documents\n"
        "found = documents('fineweb', 'HuggingFaceFW/fineweb-edu', 'sample-10BT', characters=60)\n"
        "print(len(found), found[0])"
    )
    assert client.python(ask) == "3 document 0 of shard 0"
    assert not [file for file in hub.sent if "001_" in file]


def test_imagenet_needs_a_token_and_fetches_one_part(hub: Hub, client: Client) -> None:
    hub.gated.add("datasets/ILSVRC/imagenet-1k")
    ask = f"from lmc.errors import DataError\ntry:\n    {IMAGENET.replace(chr(10), chr(10) + '    ')}\n"
    ask += "except DataError as error:\n    print(error)"
    line = client.python(ask)
    assert line.startswith(
        "corpus 'imagenet': ILSVRC/imagenet-1k cannot be loaded from the hub: gated: accept its terms"
    )
    assert f"{hub.endpoint}/datasets/ILSVRC/imagenet-1k, then set HF_TOKEN" in line
    client.token(TOKEN)
    shape, labels = client.python(IMAGENET).split(") ")
    client.token(None)
    assert shape == "(12, 3, 16, 16" and json.loads(labels) == [i % 10 for i in range(12)]
    fetched = {file for file in hub.sent if file.endswith(".parquet")}
    assert fetched == {"data/validation-00000-of-00001.parquet"}


def test_cifar10_comes_through_datasets(hub: Hub, client: Client) -> None:
    ask = IMAGENET.replace('"imagenet"', '"cifar10"').replace("'imagenet'", "'cifar10'")
    assert "cifar10" in ask
    shape, labels = client.python(ask).split(") ")
    assert shape == "(10, 3, 16, 16" and json.loads(labels) == list(range(9, -1, -1))
    assert "plain_text/test-00000-of-00001.parquet" in hub.sent


def test_a_data_set_that_breaks_off_is_one_line(hub: Hub, client: Client) -> None:
    source = hub.revision("datasets/Salesforce/wikitext")
    shutil.copytree(source, hub.revision("datasets/us/text"), dirs_exist_ok=True)
    hub.truncated["wikitext-103-raw-v1/test-00000-of-00001.parquet"] = 10**6
    ask = (
        "from lmc.corpora.downloads import dataset\nfrom lmc.errors import DataError\n"
        "try:\n    dataset('wikitext', 'us/text', 'wikitext-103-raw-v1', split='test')\n"
        "except DataError as error:\n    print(error)"
    )
    line = client.python(ask)
    assert "the download broke off; run the same command again" in line and "\n" not in line


def test_without_a_hub_what_is_here_still_serves(hub: Hub, client: Client) -> None:
    known, unknown = "deit3_small_patch16_224.fb_in1k", "us/never"
    offline = "from huggingface_hub import constants; constants.HF_HUB_OFFLINE = "
    pickled = "stanford-crfm/alias-gpt2-small-x21"
    assert client.lmc(f"convert {pickled} online")[0] == 0
    client.python(offline + "True")
    served, refusal = client.lmc(f"check timm/{known}"), client.lmc(f"check {unknown}")
    converted = client.lmc(f"convert {pickled} offline")
    client.python(offline + "False")
    assert served[0] == converted[0] == 0, served[2] + converted[2]
    assert "HF_HUB_OFFLINE is set and no copy is here" in refused(refusal)


def test_the_texts_of_licences_and_notices_are_fetched_with_the_settings(tmp_path: Path) -> None:
    from huggingface_hub.utils import filter_repo_objects

    for name in ("LICENSE", "licence.md", "TERMS_OF_USE.md", "EULA.pdf", "copying", "use_policy.md", "Notices.html"):
        (tmp_path / name).touch()
    belongings, hub = lmc.checkpoints.belongings, lmc.checkpoints.hub
    found = [path.name for path in (*belongings.licences(tmp_path), *belongings.notices(tmp_path))]
    assert sorted(found) == sorted(path.name for path in tmp_path.iterdir())
    assert sorted(filter_repo_objects([*found, "model.safetensors"], allow_patterns=hub.SMALL)) == sorted(found)
