"""Weights files in the layouts that are published: each tensor is covered once, after the stock class's own rules.

Tiny random models, saved by hand under the names (and with the legacy buffers) that the public checkpoints have. The
stock class has the last word: what is loaded equals what `from_pretrained` alone reads.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pico
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

import lmc
from lmc.checkpoints.blueprint import inspect
from lmc.errors import CheckpointError

State = dict[str, Tensor]
MASK = torch.ones(1, 1, 32, 32, dtype=torch.bool).tril()


def pythia(model: Any) -> State:
    """EleutherAI/pythia-*: the head is `embed_out`; masks and rotary frequencies lie beside the weights."""
    tensors = {name.replace("lm_head", "embed_out"): t for name, t in model.state_dict().items()}
    for layer in range(model.config.num_hidden_layers):
        here = f"gpt_neox.layers.{layer}.attention."
        buffers = {"bias": MASK, "masked_bias": torch.tensor(-1e9), "rotary_emb.inv_freq": torch.ones(2)}
        tensors |= {here + name: t for name, t in buffers.items()}
    return tensors


def gpt2(model: Any) -> State:
    """openai-community/gpt2: without the prefix of the base model, without a head, with masks."""
    tensors = {n.removeprefix("transformer."): t for n, t in model.state_dict().items() if n != "lm_head.weight"}
    return tensors | {f"h.{layer}.attn.bias": MASK.float() for layer in range(model.config.n_layer)}


def crfm(model: Any) -> State:
    """stanford-crfm/*-gpt2-*: with the prefix, masks, what stands for masked scores, and the tied head."""
    tensors = dict(model.state_dict())
    for layer in range(model.config.n_layer):
        here = f"transformer.h.{layer}.attn."
        tensors |= {here + "bias": MASK.to(torch.uint8), here + "masked_bias": torch.tensor(-1e4)}
    return tensors


def without_head(model: Any) -> State:
    """Tied Llama, Mistral, Qwen2: no head in the file."""
    return {name: t for name, t in model.state_dict().items() if name != "lm_head.weight"}


def old_llama(model: Any) -> State:
    """Llama-type checkpoints of before: a table of rotary frequencies in every layer."""
    layers = range(model.config.num_hidden_layers)
    return model.state_dict() | {f"model.layers.{k}.self_attn.rotary_emb.inv_freq": torch.ones(2) for k in layers}


def google_vit(model: Any) -> State:
    """google/vit-*: the encoder's long names, whatever the installed version calls them."""
    old = {
        "vit.layers.": "vit.encoder.layer.",
        "attention.q_proj": "attention.attention.query",
        "attention.k_proj": "attention.attention.key",
        "attention.v_proj": "attention.attention.value",
        "attention.o_proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    tensors = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("layers.", "encoder.layer.") if name.startswith("layers.") else name
        for new, published in old.items():
            name = name.replace(new, published)
        tensors[name] = tensor
    return tensors


def google_bert(model: Any) -> State:
    """google-bert/bert-base-*: what pretraining learned beside, positions as a buffer, TensorFlow's names of a norm."""
    d = model.config.hidden_size
    tensors = {name: t for name, t in model.state_dict().items() if name not in model.all_tied_weights_keys}
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for name, t in tensors.items()
    }
    return tensors | {
        "bert.embeddings.position_ids": torch.arange(model.config.max_position_embeddings)[None],
        "bert.pooler.dense.weight": torch.ones(d, d),
        "bert.pooler.dense.bias": torch.ones(d),
        "cls.seq_relationship.weight": torch.ones(2, d),
        "cls.seq_relationship.bias": torch.ones(2),
    }


def facebook_opt(model: Any) -> State:
    """facebook/opt-*: without the prefix of the class, and without the tied head."""
    return {n.removeprefix("model."): t for n, t in model.state_dict().items() if n != "lm_head.weight"}


def facebook_roberta(model: Any) -> State:
    """FacebookAI/roberta-*, xlm-roberta-*: a pooler that the class has not, positions as a buffer, a tied head."""
    d = model.config.hidden_size
    tensors = {name: t for name, t in model.state_dict().items() if name not in model.all_tied_weights_keys}
    return tensors | {
        "roberta.embeddings.position_ids": torch.arange(model.config.max_position_embeddings)[None],
        "roberta.pooler.dense.weight": torch.ones(d, d),
        "roberta.pooler.dense.bias": torch.ones(d),
    }


def facebook_dinov2(model: Any) -> State:
    """facebook/dinov2-*: the encoder's long names."""
    old = {
        "q_proj": "attention.query",
        "k_proj": "attention.key",
        "v_proj": "attention.value",
        "o_proj": "output.dense",
    }
    tensors = {}
    for name, tensor in model.state_dict().items():
        for new, published in old.items():
            name = name.replace(f"attention.{new}", f"attention.{published}")
        tensors[name] = tensor
    return tensors


def tower(name: str) -> Callable[[Any], State]:
    """CLIP: the tower's own prefix, whatever the installed version calls it, and positions as a buffer."""

    def published(model: Any) -> State:
        own = {
            n if n.startswith((name, "text_p", "visual_p")) else f"{name}.{n}": t for n, t in model.state_dict().items()
        }
        count = own[f"{name}.embeddings.position_embedding.weight"].shape[0]
        return own | {f"{name}.embeddings.position_ids": torch.arange(count)[None]}

    return published


def each_expert(model: Any, **names: str) -> State:
    """Experts one by one, as all published mixtures hold them."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        place, _, part = name.rpartition("experts.")
        if part not in ("gate_up_proj", "down_proj"):
            tensors[name] = tensor
            continue
        for k, expert in enumerate(tensor):
            pieces = zip(("gate", "up"), expert.chunk(2), strict=True) if part == "gate_up_proj" else [("down", expert)]
            tensors |= {f"{place}experts.{k}.{names.get(p, p + '_proj')}.weight": t for p, t in pieces}
    return tensors


def mistralai_mixtral(model: Any) -> State:
    """mistralai/Mixtral-*: names of its own."""
    tensors = each_expert(model, gate="w1", up="w3", down="w2")
    return {name.replace(".mlp.", ".block_sparse_moe."): t for name, t in tensors.items()}


LAYOUTS: dict[str, tuple[Callable[..., Any], dict[str, Any], Callable[[Any], State]]] = {
    "pythia": (pico.neox, {}, pythia),
    "gpt2": (pico.gpt2, {"tie_word_embeddings": True}, gpt2),
    "stanford-crfm gpt2": (pico.gpt2, {"tie_word_embeddings": True}, crfm),
    "OLMo-1B-hf": (pico.olmo, {"tie_word_embeddings": True}, without_head),
    "OLMo-1B-hf with a head": (pico.olmo, {"tie_word_embeddings": True}, lambda m: dict(m.state_dict())),
    "llama": (pico.llama, {}, lambda m: dict(m.state_dict())),
    "llama of before": (pico.llama, {}, old_llama),
    "llama, tied": (pico.llama, {"tie_word_embeddings": True}, without_head),
    "mistral, tied": (pico.mistral, {"tie_word_embeddings": True}, without_head),
    "qwen2, tied": (pico.qwen2, {"tie_word_embeddings": True}, without_head),
    "olmo2, tied": (pico.olmo2, {"tie_word_embeddings": True}, without_head),
    **({"olmo3": (pico.olmo3, {}, lambda m: dict(m.state_dict()))} if pico.known("Olmo3ForCausalLM") else {}),
    "qwen3, tied": (pico.qwen3, {"tie_word_embeddings": True}, without_head),
    "gemma, tied": (pico.gemma, {"tie_word_embeddings": True}, without_head),
    "gemma2, tied": (pico.gemma2, {"tie_word_embeddings": True}, without_head),
    "gemma3, tied": (pico.gemma3, {"tie_word_embeddings": True}, without_head),
    "mixtral": (pico.mixtral, {}, mistralai_mixtral),
    "qwen2 with experts": (pico.qwen2_moe, {}, each_expert),
    "qwen3 with experts": (pico.qwen3_moe, {}, each_expert),
    "olmoe": (pico.olmoe, {}, each_expert),
    "olmoe, joined": (pico.olmoe, {}, lambda m: dict(m.state_dict())),
    "phi-3": (pico.phi3, {}, lambda m: dict(m.state_dict())),
    "a reward model": (pico.builder("LlamaForSequenceClassification"), {"num_labels": 1}, old_llama),
    "granite, tied": (pico.granite, {"tie_word_embeddings": True}, without_head),
    "stablelm-2": (pico.stablelm, {"use_qkv_bias": True}, lambda m: dict(m.state_dict())),
    "starcoder2, tied": (pico.starcoder2, {"tie_word_embeddings": True}, without_head),
    "facebook opt": (pico.opt, {"tie_word_embeddings": True}, facebook_opt),
    "google bert": (pico.bert, {"tie_word_embeddings": True}, google_bert),
    "roberta": (pico.roberta, {"tie_word_embeddings": True}, facebook_roberta),
    "xlm-roberta": (pico.xlm_roberta, {"tie_word_embeddings": True}, facebook_roberta),
    "a sentence encoder": (pico.builder("BertModel"), {}, lambda m: dict(m.state_dict())),
    "a text classifier": (pico.builder("RobertaForSequenceClassification"), {}, lambda m: dict(m.state_dict())),
    "facebook dinov2": (pico.builder("Dinov2Model"), {"use_mask_token": True}, facebook_dinov2),
    "facebook dinov2 with registers": (pico.builder("Dinov2WithRegistersModel"), {}, facebook_dinov2),
    "a text encoder of stable diffusion": (pico.builder("CLIPTextModel"), {}, tower("text_model")),
    "laion clip, texts": (pico.clip_text, {}, tower("text_model")),
    "openai clip, pictures": (pico.clip_vision, {}, tower("vision_model")),
    "openai clip, pictures without a projection": (pico.builder("CLIPVisionModel"), {}, tower("vision_model")),
    "google vit without classes": (pico.builder("ViTModel"), {}, google_vit),
    "google vit": (pico.hf_vit, {}, google_vit),
}


def publish(folder: Path, layout: str, dtype: torch.dtype = torch.float32) -> Any:
    """A checkpoint in that layout; returns the model that was saved."""
    make, config, names = LAYOUTS[layout]
    model = make(dtype=dtype, **config)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tensors = {name: t.detach().clone().contiguous() for name, t in names(model).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return model


def test_every_architecture_has_a_published_layout() -> None:
    made = {getattr(make, "func", make) for make, _, _ in LAYOUTS.values()}
    assert made | {pico.vit} == set(pico.STEMS.values())  # timm's: below


@pytest.mark.filterwarnings("ignore:.*left out, as .* has no such part")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_layout_is_read_as_the_stock_class_reads_it(layout: str, tmp_path: Path) -> None:
    model = publish(tmp_path / "a", layout)
    covered = inspect(tmp_path / "a").tensors
    tied = set(model.all_tied_weights_keys) if getattr(model.config, "tie_word_embeddings", False) else set()
    assert model.state_dict().keys() - covered.keys() <= tied
    loaded, stock = lmc.load(tmp_path / "a"), type(model).from_pretrained(tmp_path / "a", dtype=torch.float32)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
        assert torch.equal(stock.state_dict()[name], tensor), name
    lmc.save(loaded, tmp_path / "b")
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in lmc.load(tmp_path / "b").state_dict().items())


@pytest.mark.filterwarnings("ignore:.*left out, as .* has no such part")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tensor_too_many_or_too_few_is_named(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file

    monkeypatch.setattr("lmc.checkpoints.transformers_layout.read", lambda *_: pytest.fail("weights were read"))
    publish(tmp_path / "a", layout)
    file = tmp_path / "a" / "model.safetensors"
    sound = load_file(file)
    save_file(sound | {"unheard.of.weight": torch.ones(3)}, file)
    with pytest.raises(CheckpointError, match=r"tensor unheard\.of\.weight: not one of the model's, found \[3\]"):
        lmc.load(tmp_path / "a")
    feed_forward = (
        "c_fc.weight",
        "up_proj.weight",
        "4h_to_h.weight",
        "output.dense.weight",
        "gate_up_proj.weight",
        "fc1.weight",
        "experts.gate_up_proj",
        "w2.weight",
    )
    needed = next(name for name in sound if name.endswith(feed_forward))
    save_file({name: t for name, t in sound.items() if name != needed}, file)
    with pytest.raises(CheckpointError, match=r"tensor \S+: expected shape .*, found in no weights file"):
        lmc.load(tmp_path / "a")


def test_a_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    """Prefixed and not: the stock class would take either."""
    model = publish(tmp_path / "a", "gpt2")
    tensors = gpt2(model) | {"transformer.wpe.weight": model.transformer.wpe.weight.detach().clone()}
    save_file({name: t.detach().clone() for name, t in tensors.items()}, tmp_path / "a" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"expected transformer\.wpe\.weight once, found it also as"):
        lmc.load(tmp_path / "a")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_cast_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    model = publish(tmp_path / "a", "llama", dtype)
    assert inspect(tmp_path / "a").dtype == dtype
    for name, tensor in lmc.load(tmp_path / "a").state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, model.state_dict()[name].float())


def test_timm_deit3_in_hub_layout(tmp_path: Path) -> None:
    """LayerScale, a class token without position, and a config.json that names the architecture alone."""
    small = {"img_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = timm.create_model("deit3_small_patch16_224.fb_in1k", pretrained=False, num_classes=5, **small)
    pico.randomize(model, 0).eval()
    assert "blocks.0.ls1.gamma" in model.state_dict()
    folder = tmp_path / "a"
    folder.mkdir()
    origin = {k: v for k, v in model.pretrained_cfg.items() if k in ("mean", "std", "crop_pct", "interpolation")}
    described = {
        "architecture": "deit3_small_patch16_224",
        "num_classes": 5,
        "num_features": 32,
        "global_pool": "token",
        "model_args": small,
        "pretrained_cfg": origin | {"input_size": [3, 16, 16], "num_classes": 5, "classifier": "head"},
    }
    (folder / "config.json").write_text(json.dumps(described))
    save_file({n: t.clone() for n, t in model.state_dict().items()}, folder / "model.safetensors", {"format": "pt"})
    inputs = pico.inputs(model)
    assert torch.equal(pico.logits(lmc.load(folder), inputs), pico.logits(model, inputs))
    stock = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert torch.equal(pico.logits(stock, inputs), pico.logits(model, inputs))
