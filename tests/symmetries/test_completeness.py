"""Completeness by rank: the directions in weight space that leave the logits alone are the ones the table counts.

The property test (test_symmetries) finds symmetries that are wrong; this one finds those that are missing.
"""

import dataclasses
import warnings
from functools import partial
from typing import Any

import pico
import pytest
import torch
from torch import nn

import lmc
from lmc.symmetries import stock_model
from lmc.symmetries.degrees_of_freedom import dimensions
from lmc.symmetries.groups import Orthogonal
from lmc.symmetries.spec import Space

# Two layers; more tokens or classes than the stream is wide; ε so large that the residual scale, which would need to
# move it as well, is no flat direction of the weights alone.
NEOX = {
    "hidden_size": 8,
    "intermediate_size": 4,
    "vocab_size": 20,
    "attn_implementation": "sdpa",
}
VIT = {"embed_dim": 6, "mlp_ratio": 0.667, "num_classes": 10, "img_size": 6, "patch_size": 3, "seed": 1}
HF = {"hidden_size": 6, "intermediate_size": 4, "image_size": 6, "patch_size": 3, "seed": 2}

CASES: list[Any] = [
    pytest.param(pico.neox, {**NEOX, **config}, id=f"neox, {name}")
    for name, config in {
        "parallel, half rotary": {},
        "sequential": {"use_parallel_residual": False},
        "rotary 1": {"rotary_fraction": 1.0},
        "rotary 0": {"rotary_fraction": 0.0},
        "no attention bias": {"attention_bias": False},
        "no attention bias, sequential": {"attention_bias": False, "use_parallel_residual": False},
    }.items()
]
TINY = {"hidden_size": 8, "vocab_size": 12, "attn_implementation": "sdpa", "max_position_embeddings": 12}
DECODER = {**TINY, "intermediate_size": 4}
ONE = {**DECODER, "num_hidden_layers": 1}  # where two layers were counted in a sister class already
STABLE = {**ONE, "vocab_size": 30, "num_attention_heads": 2, "num_key_value_heads": 2}  # tokens for a shared norm
HALF = {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}
BERT = {**TINY, "intermediate_size": 6, "type_vocab_size": 1}  # a second type of tokens would never be seen
FEW = {"vocab_size": 20, "num_hidden_layers": 1}
GPT = {**TINY, "n_inner": 6, "num_hidden_layers": 1}
ROBERTA = pico.builder("RobertaForSequenceClassification")
TOWER = {**TINY, **FEW, "intermediate_size": 6}
DINO = {"hidden_size": 6, "image_size": 6, "patch_size": 3, "num_labels": 14, "num_hidden_layers": 1}
CASES += [
    pytest.param(build, {**base, **config}, id=f"{name}" if isinstance(build, partial) else f"{build.__name__}, {name}")
    for build, base, name, config in (
        (pico.llama, DECODER, "grouped queries", {}),
        (
            pico.llama,
            DECODER,
            "all heads, biases",
            {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True},
        ),
        (pico.llama, ONE, "heads wider than d/heads", {"head_dim": 6}),
        (pico.qwen2, ONE, "biases of queries, keys, values", {}),
        (pico.qwen3, DECODER, "norms inside attention", {}),
        (pico.olmo, DECODER, "untied", {}),
        (pico.olmo, DECODER, "tied", {"tie_word_embeddings": True}),
        (pico.olmo2, DECODER, "norms after the sublayers", {}),
        *([(pico.olmo3, DECODER, "a layer with a window", {})] if pico.known("Olmo3ForCausalLM") else []),
        (pico.gpt2, TINY, "GELU", {"n_inner": 6}),
        (
            pico.gpt2,
            TINY,
            "ReLU",
            {"n_inner": 6, "activation_function": "relu", "vocab_size": 20},
        ),  # none of its units is always off
        (pico.builder("LlamaForTokenClassification"), ONE, "LlamaForTokenClassification", {"num_labels": 12}),
        (pico.builder("GPT2ForSequenceClassification"), GPT, "GPT2ForSequenceClassification", {"num_labels": 12}),
        (pico.builder("LlamaForSequenceClassification"), ONE, "LlamaForSequenceClassification", {"num_labels": 12}),
        (pico.phi3, ONE, "all fused", {}),
        (pico.phi3, ONE, "partly turned", {"head_dim": 4, "rope_parameters": HALF}),
        (pico.granite, ONE, "multipliers", {}),
        (pico.stablelm, STABLE, "no biases, grouped queries", {"num_key_value_heads": 1}),
        (pico.stablelm, STABLE, "biases, parallel", {"use_qkv_bias": True, "use_parallel_residual": True}),
        (pico.gemma, {**ONE, "head_dim": 2}, "gains less one", {}),
        (pico.gemma2, {**ONE, "head_dim": 2}, "caps", {"attn_implementation": "eager"}),
        (pico.gemma3, ONE, "norms inside attention too", {}),
        (pico.mixtral, ONE, "experts", {}),
        (pico.qwen2_moe, ONE, "a shared expert", {}),
        (pico.qwen3_moe, {**ONE, "head_dim": 2}, "experts", {}),
        (pico.olmoe, ONE, "experts", {"num_key_value_heads": 4}),
        (pico.starcoder2, {**ONE, "vocab_size": 20}, "biases", {}),
        (pico.opt, {**ONE, "vocab_size": 20, "ffn_dim": 6}, "ReLU", {}),
        (pico.bert, BERT, "norms after the sublayers", {}),
        (pico.builder("BertModel"), {**BERT, **FEW}, "BertModel", {}),
        (pico.roberta, {**BERT, **FEW}, "padding among the texts", {"pad_token_id": 0}),
        (pico.builder("BertForTokenClassification"), {**BERT, **FEW}, "BertForTokenClassification", {"num_labels": 12}),
        (pico.builder("BertForSequenceClassification"), {**BERT, **FEW}, "a pooler", {"num_labels": 12}),
        (ROBERTA, {**BERT, **FEW}, "a head", {"num_labels": 12, "pad_token_id": 0}),
        (pico.builder("ViTModel"), {**HF, "num_hidden_layers": 1}, "ViTModel", {}),
        (pico.dinov2, DINO, "class token and patches", {}),
        *([(pico.dinov2, DINO, "gated", {"use_swiglu_ffn": True})] if pico.gated_dinov2() else []),
        (pico.dinov2_registers, DINO, "registers", {}),
        (pico.hf_vit, {}, "qkv bias", {**HF}),
        (pico.clip_text, TOWER, "projected", {"projection_dim": 7}),
        (pico.builder("CLIPTextModel"), TOWER, "CLIPTextModel", {}),
        (pico.clip_vision, HF, "projected", {"projection_dim": 5}),
        (pico.builder("CLIPVisionModel"), {**HF, "num_hidden_layers": 1}, "CLIPVisionModel", {}),
    )
]
CASES += [
    pytest.param(pico.vit, {**VIT, **config}, id=f"vit, {name}")
    for name, config in {
        "plain": {},
        "LayerScale": {"init_values": 0.1},
        "no_embed_class, registers": {"no_embed_class": True, "reg_tokens": 2},
        "registers": {"reg_tokens": 2},
        "average pooling": {"global_pool": "avg", "class_token": False},
        "no qkv bias": {"qkv_bias": False},
        "no projection bias": {"proj_bias": False},
    }.items()
]


# Of OPT's first two positions, which are never read, the whole vector is flat, where the table knows of its mean. In
# RoBERTa the padding token and its position always meet: what one gives to the other is not seen. In Gemma 3 the gains
# of queries and keys share a factor for each frequency, which is not linear in what is stored. The norm with which the
# stream of CLIP's pictures begins has d gains γ, but Cγ without its means, between the embeddings and the stream, only
# d − 1 singular values: gains with the same ones are reached by rotating both, along a curve. Where no patch is masked,
# nothing reads the mask's token, and the patches' bias can go into their positions; of both the table knows the mean.
UNDECLARED = {pico.opt: 2 * (8 - 1), pico.roberta: 8 - 1, ROBERTA: 8 - 1, pico.gemma3: 2, pico.clip_vision: 1}
UNDECLARED |= {pico.dinov2_registers: 2 * (6 - 1)}


def test_every_architecture_is_counted() -> None:
    counted = {getattr(build, "func", build) for build, _ in (case.values for case in CASES)}
    sisters = {pico.mistral, pico.xlm_roberta}  # the code of Llama and of RoBERTa
    assert counted | sisters == set(pico.STEMS.values())


def canonical(build: Any, config: dict[str, Any], epsilon: float = 0.1) -> nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".* was tied to")
        model = lmc.canonicalize(build(**config))
    for module in model.modules():
        if type(module).__name__.endswith("Norm") and type(module).__name__ != "OlmoLayerNorm":  # its ε is a literal
            setattr(module, "eps" if hasattr(module, "eps") else "variance_epsilon", epsilon)
        elif isinstance(module, nn.Embedding):
            module.padding_idx = None  # it would hide the gradient of a row that is read
    return model


def flat_directions(model: nn.Module) -> tuple[int, float, float]:
    """Dimension of the null space of ∂logits/∂θ, and the relative singular values on both sides of its edge."""
    parameters = list(model.parameters())
    count = sum(p.numel() for p in parameters)
    each = pico.logits(model, pico.inputs(model, n=1)).numel()
    x = pico.inputs(model, n=max(16, 4 * count // (3 * each)))
    with lmc.float64():
        logits = stock_model.logits(model, x).flatten()
    assert logits.numel() > count
    # As many random combinations of the logits as there are parameters, and a few more, have the same null space.
    generator = torch.Generator().manual_seed(1)
    rows = []
    for _ in range(count // 128 + 1):
        mix = torch.randn(128, logits.numel(), generator=generator, dtype=torch.float64)
        gradients = torch.autograd.grad(
            logits, parameters, mix, retain_graph=True, is_grads_batched=True, allow_unused=True
        )
        unused = (
            torch.zeros(128, p.numel(), dtype=torch.float64) for p in parameters
        )  # an untied BERT has such a bias
        rows.append(torch.cat([z if g is None else g.flatten(1) for g, z in zip(gradients, unused, strict=True)], 1))
    values = torch.linalg.svdvals(torch.cat(rows))
    values = values / values[0]
    rank = int((values > 1e-10).sum())
    return count - rank, float(values[rank - 1]), float(values[rank])


@pytest.mark.parametrize(("build", "config"), CASES)
def test_the_table_counts_every_flat_direction(build: Any, config: dict[str, Any]) -> None:
    model = canonical(build, config)
    tied = hasattr(model, pico.head(model)) and model.config.tie_word_embeddings
    counted = dimensions(lmc.spec(model), tied)
    measured, above, below = flat_directions(model)
    assert above > 1e-8 and below < 1e-13, "no clear gap: the rank is not decided"
    assert measured == counted.total + UNDECLARED.get(build, 0), counted


@pytest.mark.parametrize(
    ("build", "config", "more"),
    [
        (
            pico.neox,
            {**NEOX, "layer_norm_eps": 0.1, "num_hidden_layers": 1},
            {"hidden_size": 12, "num_attention_heads": 3},
        ),
        (pico.llama, {**ONE, "rms_norm_eps": 0.1}, {"num_hidden_layers": 2, "intermediate_size": 6}),
        (
            pico.hf_vit,
            {**HF, "layer_norm_eps": 0.1},
            {"hidden_size": 8, "intermediate_size": 6},
        ),
    ],
)
def test_what_an_enlarged_network_holds_more_of_is_flat(
    build: Any, config: dict[str, Any], more: dict[str, Any]
) -> None:
    """No weight that was added changes the function to first order, and those that were there do what they did."""
    small = build(**config)
    large = lmc.enlarge(small, like=build(**(config | more)))
    measured, above, below = flat_directions(large)
    assert above > 1e-8 and below < 1e-13, "no clear gap: the rank is not decided"
    added = sum(p.numel() for p in large.parameters()) - sum(p.numel() for p in small.parameters())
    assert measured == dimensions(lmc.spec(small)).total + added


def test_without_epsilon_the_residual_scale_is_one_more() -> None:
    model = canonical(pico.neox, NEOX, epsilon=0.0)
    counted = dimensions(lmc.spec(model))
    measured, above, below = flat_directions(model)
    assert above > 1e-8 and below < 1e-13
    assert measured == counted.total + counted.group["scale"] == counted.total + 1


def test_a_missing_and_a_wrong_symmetry_would_show() -> None:
    spec = lmc.spec(pico.neox(**NEOX))
    right = dimensions(spec).total

    def with_space(space: Space) -> int:
        spaces = tuple(space if s.name == space.name else s for s in spec.spaces)
        return dimensions(dataclasses.replace(spec, spaces=spaces)).total

    assert with_space(Space("value.0", Orthogonal(4), over=("head.0",))) == right - 2 * (16 - 6)
    assert with_space(Space("stream", Orthogonal(8))) == right + 7
    # Units of a ReLU can be rescaled, those of a GELU cannot.
    assert dimensions(lmc.spec(pico.neox(**NEOX, hidden_act="relu"))).total == right + 2 * 4


def test_counts_by_kind() -> None:
    counted = dimensions(lmc.spec(pico.neox()))  # d 16, 2 layers, 2 heads of 8 (4 rotary), 24 units, vocabulary 40
    assert counted.group == {
        "stream": 15 * 14 // 2,
        "scale": 1,
        "head": 0,
        "value": 2 * 2 * 64,
        "hidden": 0,
        "plane": 2 * 2 * 2 * 2,
        "pass": 2 * 2 * 16,
    }
    assert counted.gauges == {
        "norm": 5 * 2 * 16,
        "input mean": 2 * (48 + 24),  # the head has no bias: its mean direction is in use
        "output mean": 40 + 2 * (16 + 1 + 24 + 1),
        "shared mean": 0,
        "gain": 0,
        "moved bias": 2 * (16 + 15),
        "dead bias": 2 * 2 * 4,
        "silent bias": 0,
    }
    assert counted.total == sum(counted.group.values()) - 1 + sum(counted.gauges.values())
    # LayerScale adds its own weights and nothing else.
    plain, scaled = (dimensions(lmc.spec(pico.vit(**c))) for c in ({}, {"init_values": 0.1}))
    assert scaled.gauges == {**plain.gauges, "gain": 4 * 16} and scaled.group == plain.group
