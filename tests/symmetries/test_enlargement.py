"""A smaller network in the shapes of a larger one: the same function, in every family where that can be."""

from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from torch import nn

import lmc
from lmc.checkpoints import inspect, reload
from lmc.errors import IncompatibleModelsError, UnsupportedModelError
from lmc.symmetries import require_room
from lmc.symmetries.exactness import EXACT, TOLERANCE, relative_change

DEEP = {"num_hidden_layers": 3, "vocab_size": 50}
HEADS = {"num_attention_heads": 9, "num_key_value_heads": 3}  # three groups of three queries instead of two of two
DECODER = {**DEEP, **HEADS, "hidden_size": 36, "intermediate_size": 20, "max_position_embeddings": 40}
FREE = {"head_dim": 4, **DECODER, "hidden_size": 27}  # where a head's width is a number of its own
PLAIN = {**DEEP, "num_attention_heads": 3, "hidden_size": 30, "intermediate_size": 30}  # heads of 10 instead of 8
VIT = {"embed_dim": 30, "depth": 3, "num_heads": 3, "mlp_ratio": 2.0}
HF = {key: value for key, value in PLAIN.items() if key != "vocab_size"}
SAME = {**DEEP, "num_attention_heads": 3, "hidden_size": 24}  # heads of 8: what rotary positions ask for
EXPERTS = {**FREE, "moe_intermediate_size": 6}
STREAM_STAYS = {"intermediate_size": 20, "vocab_size": 50, "max_position_embeddings": 40}

LARGER: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "neox": (pico.neox, {}, {**SAME, "intermediate_size": 30}),
    "neox, sequential, no biases": (pico.neox, {"use_parallel_residual": False, "attention_bias": False}, SAME),
    "neox, no positions": (pico.neox, {"rotary_fraction": 0.0}, PLAIN),
    "neox, tied": (pico.neox, {"tie_word_embeddings": True}, SAME),
    "gpt2": (pico.gpt2, {}, {**PLAIN, "n_inner": 30, "max_position_embeddings": 40}),
    "opt": (pico.opt, {}, {**DEEP, "hidden_size": 30, "num_attention_heads": 3, "ffn_dim": 30}),
    "llama": (pico.llama, {"attention_bias": True, "mlp_bias": True}, DECODER),
    "llama, groups of one": (pico.llama, {"num_key_value_heads": 4, "head_dim": 4}, {"num_attention_heads": 8}),
    "llama, labels": (pico.builder("LlamaForTokenClassification"), {"num_labels": 3}, DECODER),
    "mistral": (pico.mistral, {}, FREE),
    "qwen2": (pico.qwen2, {}, DECODER),
    "qwen3": (pico.qwen3, {}, FREE),
    "phi3": (pico.phi3, {}, DECODER),
    "granite": (pico.granite, {}, DECODER),
    "stablelm": (pico.stablelm, {"use_qkv_bias": True}, DECODER),
    "starcoder2": (pico.starcoder2, {}, DECODER),
    "gemma": (pico.gemma, {}, FREE),
    "gemma2": (pico.gemma2, {}, FREE),
    "gemma3": (pico.gemma3, {}, FREE),
    "olmo": (pico.olmo, {}, DECODER),
    "olmo, tied and clipped": (pico.olmo, {"tie_word_embeddings": True, "clip_qkv": 0.5}, DECODER),
    "olmo2": (pico.olmo2, {"attention_bias": True}, DECODER),
    **({"olmo3": (pico.olmo3, {}, DECODER)} if pico.known("Olmo3ForCausalLM") else {}),
    "olmoe": (pico.olmoe, {}, {**DECODER, "intermediate_size": 6}),
    "mixtral": (pico.mixtral, {}, {**FREE, "intermediate_size": 6}),
    "qwen2_moe": (pico.qwen2_moe, {}, {**DECODER, "moe_intermediate_size": 6, "shared_expert_intermediate_size": 8}),
    "qwen3_moe": (pico.qwen3_moe, {}, EXPERTS),
    "bert": (pico.bert, {}, STREAM_STAYS),
    "roberta": (pico.roberta, {}, STREAM_STAYS),
    "vit": (pico.vit, {}, VIT),
    "vit, gains in one": (pico.vit, {"init_values": 0.1, "qkv_bias": False}, {**VIT, "init_values": None}),
    "vit, no heads added": (pico.vit, {"class_token": False, "global_pool": "avg"}, {**VIT, "num_heads": 2}),
    "hf_vit": (pico.hf_vit, {}, HF),
    "dinov2": (pico.dinov2, {}, {key: value for key, value in HF.items() if key != "intermediate_size"}),
    "dinov2, registers": (pico.dinov2_registers, {}, {"hidden_size": 24, "num_hidden_layers": 3}),
    "clip_text": (pico.clip_text, {}, PLAIN),
    "clip_vision": (pico.clip_vision, {}, {"num_hidden_layers": 3, "intermediate_size": 30}),
    "a stream that is the output": (pico.builder("ViTModel"), {}, {"num_hidden_layers": 3, "intermediate_size": 30}),
}


def grown(name: str, dtype: torch.dtype = torch.float64) -> tuple[Any, Any, Any]:
    build, config, more = LARGER[name]
    small, large = build(seed=0, dtype=dtype, **config), build(seed=1, dtype=dtype, **(config | more))
    return small, large, lmc.enlarge(small, like=large)


def changes(small: nn.Module, new: nn.Module) -> float:
    """The largest relative change of a logit that the smaller model has."""
    inputs = pico.inputs(small)
    before = pico.logits(small, inputs)
    return relative_change(before, pico.logits(new, inputs)[..., : before.shape[-1]])


@pytest.mark.parametrize("name", LARGER)
def test_the_function_stays(name: str) -> None:
    small, large, new = grown(name)
    with lmc.float64():
        assert changes(small, new) <= EXACT
    shapes = {n: t.shape for n, t in large.state_dict().items()}
    assert {n: t.shape for n, t in new.state_dict().items()} == shapes
    assert any(shapes[n] != t.shape for n, t in small.state_dict().items() if n in shapes)


@pytest.mark.parametrize("name", ["neox", "olmo, tied and clipped", "vit", "llama"])
def test_the_stock_library_alone_reads_it(name: str, tmp_path: Path) -> None:
    small, _, new = grown(name, torch.float32)
    lmc.save(new, tmp_path / "grown")
    again: Any = reload(inspect(tmp_path / "grown"))
    assert changes(small, again.float()) <= TOLERANCE[torch.float32]


def test_the_large_one_gives_its_shapes_and_nothing_else() -> None:
    small = pico.neox(layer_norm_eps=1e-3, max_position_embeddings=20)
    large = pico.neox(1, num_hidden_layers=3)
    before = [t.clone() for t in large.state_dict().values()]
    new: Any = lmc.enlarge(small, like=large)
    assert new.config.layer_norm_eps == 1e-3 and new.config.max_position_embeddings == 20
    assert all(torch.equal(a, b) for a, b in zip(before, large.state_dict().values(), strict=True))
    assert not any(t.any() for n, t in new.state_dict().items() if "layers.2." in n and "layernorm" not in n)


def test_the_small_one_gives_the_names_of_its_classes_and_of_its_tokens() -> None:
    kind = {"kind": "ForSequenceClassification", "num_labels": 2}
    labels = {"id2label": {0: "neg", 1: "pos"}, "label2id": {"neg": 0, "pos": 1}}
    small = pico.bert(0, **kind, **labels, problem_type="single_label_classification", eos_token_id=3, pad_token_id=4)
    large = pico.bert(1, **kind, intermediate_size=48, problem_type="regression", eos_token_id=2)
    small.config.tokenizer_class = "BertweetTokenizer"
    config = lmc.enlarge(small, large).config
    assert config.tokenizer_class == "BertweetTokenizer" and not hasattr(large.config, "tokenizer_class")
    assert (config.id2label, config.label2id) == (small.config.id2label, small.config.label2id)
    assert (config.problem_type, config.eos_token_id, config.pad_token_id) == ("single_label_classification", 3, 4)
    assert large.config.problem_type == "regression" and large.config.label2id == {"LABEL_0": 0, "LABEL_1": 1}


@pytest.mark.parametrize("make", [pico.mixtral, pico.qwen2_moe, pico.qwen3_moe, pico.olmoe])
def test_experts_of_a_layer_that_is_added_can_be_matched(make: Any) -> None:
    small, large = make(0, torch.float32), make(1, torch.float32, num_hidden_layers=3)
    alignment = lmc.match(lmc.enlarge(small, large), large, method="weights")
    inputs = pico.inputs(small)
    expected = pico.logits(small, inputs)
    assert (pico.logits(alignment.models[0], inputs) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_network_is_enlarged_under_autocast_as_without() -> None:
    small, large = pico.llama(0, torch.float32), pico.llama(1, torch.float32, num_hidden_layers=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = lmc.enlarge(small, large)
    expected = lmc.enlarge(small, large).state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in under.state_dict().items())


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "class": (pico.neox, pico.llama, "class: expected LlamaForCausalLM"),
    "setting": (pico.neox, lambda: pico.neox(hidden_act="relu"), "hidden_act: expected relu .* more than a size"),
    "smaller": (pico.neox, lambda: pico.neox(intermediate_size=20), r"hidden\.0: expected at most 20 .* cut off"),
    "fewer layers": (pico.neox, lambda: pico.neox(num_hidden_layers=1), r"head\.1: expected none .* found 2"),
    "rotary": (pico.neox, lambda: pico.neox(hidden_size=32), "freq: expected 4 .* depend on a head's width"),
    "groups": (
        pico.llama,
        lambda: pico.llama(num_key_value_heads=4),
        r"query\.0: expected none .* found 2: nothing is cut off",
    ),
    "classes": (pico.vit, lambda: pico.vit(num_classes=11), "class: expected 11 .* reads or says"),
    "registers": (pico.vit, lambda: pico.vit(reg_tokens=2), "register: expected 2 .* reads or says"),
    "pictures": (pico.vit, lambda: pico.vit(img_size=12), "img_size: .* more than a size"),
    "experts": (pico.mixtral, lambda: pico.mixtral(num_local_experts=4), r"expert\.0: .* a router would pick"),
    "a mean": (pico.bert, lambda: pico.bert(hidden_size=20), "(predict|stream): .* sees the mean"),
    "a norm on the stream": (pico.bert, lambda: pico.bert(num_hidden_layers=3), "LayerNorm: expected no more layers"),
    "pictures through a norm": (pico.clip_vision, lambda: pico.clip_vision(hidden_size=24), "stream: .* sees the mean"),
    "states": (
        pico.builder("ViTModel"),
        lambda: pico.builder("ViTModel")(hidden_size=24),
        "(pool|stream): .* (reads or says|is the output)",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_room_is_refused_in_a_line(what: str) -> None:
    small, large, message = REFUSED[what]
    with pytest.raises(IncompatibleModelsError, match=message) as caught:
        require_room(small(), large())
    assert "\n" not in str(caught.value)


def test_what_no_table_says_of_a_size_is_found() -> None:
    """Without its factor, attention is no function of the width of its heads: as if a table had forgotten one."""
    small, large = pico.gpt2(scale_attn_weights=False), pico.gpt2(scale_attn_weights=False, hidden_size=24)
    with pytest.raises(UnsupportedModelError, match="does something with a size that the gpt2 table does not say"):
        lmc.enlarge(small, like=large)


@pytest.mark.parametrize("name", ["neox", "llama", "vit", "olmo2"])
def test_a_planted_symmetry_of_the_larger_group_is_recovered(name: str) -> None:
    """Channels, heads and units that hold nothing may go anywhere: the weights are found, though not the element."""
    _, _, a = grown(name)
    b = lmc.Transform.random(lmc.spec(a), seed=1).apply(a)
    first, second = (m.state_dict() for m in lmc.match(a, b, method="weights").models)
    distance = sum(float((first[n] - second[n]).square().sum()) for n in first) ** 0.5
    assert distance <= 1e-4 * sum(float(t.square().sum()) for t in first.values()) ** 0.5
