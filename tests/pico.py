"""Tiny random models of every family, for all tests: real stock classes in which no parameter is at a special value.

    model = pico.neox(seed=0, rotary_fraction=0.5, use_parallel_residual=False)
    before = pico.logits(model, pico.inputs(model))

Norm gains and biases, LayerScale and every other parameter are random, so nothing can be right by being 0 or 1.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import transformers
from torch import Tensor, nn

from lmc.symmetries import stock_model
from lmc.symmetries.families.common import Tokens
from lmc.symmetries.families.family import family_of


def neox(seed: int = 0, dtype: torch.dtype = torch.float64, rotary_fraction: float = 0.5, **config: Any) -> Any:
    """A GPT-NeoX in evaluation mode; `config` overrides fields of GPTNeoXConfig, `kind` its head."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": rotary_fraction}
    fields = {
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 32,
        "rope_parameters": rope,
        "use_parallel_residual": True,
        "attention_bias": True,
        "tie_word_embeddings": False,
        "attn_implementation": "eager",
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return _stock("GPTNeoX", fields, seed, dtype, config)


TEXT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 12,
    "max_position_embeddings": 32,
    "tie_word_embeddings": False,
    "attn_implementation": "eager",
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,  # the stock embedding would hide this token's gradient
}
GROUPED = TEXT | {"num_key_value_heads": 2}


def _stock(name: str, fields: dict[str, Any], seed: int, dtype: torch.dtype, config: dict[str, Any]) -> Any:
    """A stock model of transformers, by the name its configuration and its class share.

    `kind`, among the fields of `config`, is the rest of the class's name: what its head does.
    """
    chosen = {"kind": "ForCausalLM", **fields, **config}
    stock = getattr(transformers, name + chosen.pop("kind"))
    settings = getattr(transformers, chosen.pop("config", f"{name}Config"))
    model = stock(settings(**chosen))
    return stock_model.in_type(randomize(model, seed), dtype).eval()


def head(model: Any) -> str:
    """What GPT-NeoX's head is called: `lm_head`, before transformers 5.14 `embed_out`."""
    return "lm_head" if hasattr(model, "lm_head") else "embed_out"


def llama(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A Llama in evaluation mode; `config` overrides fields of LlamaConfig."""
    return _stock("Llama", GROUPED, seed, dtype, config)


def mistral(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A Mistral in evaluation mode; `config` overrides fields of MistralConfig."""
    return _stock("Mistral", GROUPED | {"sliding_window": None}, seed, dtype, config)


def qwen2(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A Qwen2 in evaluation mode; `config` overrides fields of Qwen2Config."""
    return _stock("Qwen2", GROUPED, seed, dtype, config)


def qwen3(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A Qwen3 in evaluation mode; `config` overrides fields of Qwen3Config."""
    return _stock("Qwen3", GROUPED | {"head_dim": 4}, seed, dtype, config)


def olmo(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """An OLMo in evaluation mode; `config` overrides fields of OlmoConfig."""
    return _stock("Olmo", GROUPED, seed, dtype, config)


def olmo2(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """An OLMo-2 in evaluation mode; `config` overrides fields of Olmo2Config."""
    return _stock("Olmo2", GROUPED, seed, dtype, config)


def olmo3(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """An OLMo-3 in evaluation mode, every second layer without a window; `config` overrides fields of Olmo3Config."""
    layers = config.get("num_hidden_layers", 2)
    kinds = [("sliding_attention", "full_attention")[i % 2] for i in range(layers)]
    return _stock("Olmo3", GROUPED | {"sliding_window": 4, "layer_types": kinds}, seed, dtype, config)


def phi3(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A Phi-3 in evaluation mode; `config` overrides fields of Phi3Config."""
    return _stock("Phi3", GROUPED, seed, dtype, config)


def long_rope(width: int, trained: int) -> dict[str, Any]:
    """Phi-3's angles for texts longer than the `trained` ones, as fields for heads of a width."""
    short, long = ([start + step * i for i in range(width // 2)] for start, step in ((1.0, 0.1), (2.0, 1.5)))
    rope = {"rope_type": "longrope", "rope_theta": 100.0, "short_factor": short, "long_factor": long}
    return {"rope_parameters": rope | {"factor": 2.0}, "original_max_position_embeddings": trained}


def granite(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A Granite in evaluation mode, with multipliers; `config` overrides fields of GraniteConfig."""
    multipliers = {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.7}
    return _stock("Granite", GROUPED | multipliers | {"logits_scaling": 2.0}, seed, dtype, config)


def gemma(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A Gemma in evaluation mode; `config` overrides fields of GemmaConfig."""
    return _stock("Gemma", GROUPED | {"head_dim": 4}, seed, dtype, config)


def gemma2(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A Gemma 2 in evaluation mode; `config` overrides fields of Gemma2Config."""
    caps = {"attn_logit_softcapping": 1.0, "final_logit_softcapping": 2.0}
    return _stock("Gemma2", GROUPED | {"head_dim": 4, "query_pre_attn_scalar": 8} | caps, seed, dtype, config)


def gemma3(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A Gemma 3 in evaluation mode; `config` overrides fields of Gemma3TextConfig."""
    fields = {"config": "Gemma3TextConfig", "head_dim": 4, "query_pre_attn_scalar": 8, "sliding_window": 4}
    return _stock("Gemma3", GROUPED | fields, seed, dtype, config)


EXPERTS = {"num_experts_per_tok": 2, "experts_implementation": "eager"}


def mixtral(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A Mixtral in evaluation mode; `config` overrides fields of MixtralConfig."""
    return _stock(
        "Mixtral",
        GROUPED | EXPERTS | {"num_local_experts": 3, "intermediate_size": 4, "sliding_window": None},
        seed,
        dtype,
        config,
    )


def qwen2_moe(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A Qwen2-MoE in evaluation mode, with a shared expert; `config` overrides fields of Qwen2MoeConfig."""
    fields = {"num_experts": 3, "moe_intermediate_size": 4, "shared_expert_intermediate_size": 6}
    return _stock("Qwen2Moe", GROUPED | EXPERTS | fields, seed, dtype, config)


def qwen3_moe(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A Qwen3-MoE in evaluation mode; `config` overrides fields of Qwen3MoeConfig."""
    fields = {"num_experts": 3, "moe_intermediate_size": 4, "head_dim": 4}
    return _stock("Qwen3Moe", GROUPED | EXPERTS | fields, seed, dtype, config)


def olmoe(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """An OLMoE in evaluation mode; `config` overrides fields of OlmoeConfig."""
    return _stock("Olmoe", GROUPED | EXPERTS | {"num_experts": 3, "intermediate_size": 4}, seed, dtype, config)


def stablelm(seed: int = 0, dtype: torch.dtype = torch.float64, rotary_fraction: float = 0.5, **config: Any) -> Any:
    """A StableLM in evaluation mode; `config` overrides fields of StableLmConfig."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": rotary_fraction}
    return _stock("StableLm", GROUPED | {"rope_parameters": rope}, seed, dtype, config)


def starcoder2(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A StarCoder2 in evaluation mode; `config` overrides fields of Starcoder2Config."""
    return _stock("Starcoder2", GROUPED, seed, dtype, config)


def opt(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """An OPT in evaluation mode; `config` overrides fields of OPTConfig."""
    fields = {name: value for name, value in TEXT.items() if name != "intermediate_size"}
    fields |= {"ffn_dim": 12, "num_attention_heads": 2, "word_embed_proj_dim": config.get("hidden_size", 16)}
    return _stock("OPT", fields, seed, dtype, config)


def gpt2(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A GPT-2 in evaluation mode; `config` overrides fields of GPT2Config."""
    fields = {name: value for name, value in TEXT.items() if name != "intermediate_size"}
    return _stock(
        "GPT2", fields | {"kind": "LMHeadModel", "n_inner": 24, "num_attention_heads": 2}, seed, dtype, config
    )


def bert(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A BERT in evaluation mode; `config` overrides fields of BertConfig."""
    fields = {**TEXT, "num_attention_heads": 2, "type_vocab_size": 2}
    return _stock("Bert", {"kind": "ForMaskedLM", **fields}, seed, dtype, config)


def roberta(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A RoBERTa in evaluation mode; `config` overrides fields of RobertaConfig."""
    fields = {**TEXT, "num_attention_heads": 2, "type_vocab_size": 1, "pad_token_id": 1}
    return _stock("Roberta", {"kind": "ForMaskedLM", **fields}, seed, dtype, config)


def xlm_roberta(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """An XLM-RoBERTa in evaluation mode; `config` overrides fields of XLMRobertaConfig."""
    fields = {**TEXT, "num_attention_heads": 2, "type_vocab_size": 1, "pad_token_id": 1}
    return _stock("XLMRoberta", {"kind": "ForMaskedLM", **fields}, seed, dtype, config)


def hf_vit(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A ViT of transformers in evaluation mode; `config` overrides fields of ViTConfig."""
    fields = {
        "image_size": 8,
        "patch_size": 4,
        "num_channels": 1,
        "num_labels": 10,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "layer_norm_eps": 1e-6,
        "attn_implementation": "eager",
    }
    return _stock("ViT", {"kind": "ForImageClassification", **fields}, seed, dtype, config)


DINOV2 = {
    "kind": "ForImageClassification",
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 1,
    "num_labels": 10,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_ratio": 1,
    "layer_norm_eps": 1e-6,
    "use_mask_token": False,
    "attn_implementation": "eager",
}


def dinov2(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """A DINOv2 in evaluation mode; `config` overrides fields of Dinov2Config."""
    return _stock("Dinov2", DINOV2, seed, dtype, config)


def dinov2_registers(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """The same with registers; `config` overrides fields of Dinov2WithRegistersConfig."""
    fields = {key: value for key, value in DINOV2.items() if key != "use_mask_token"}
    return _stock("Dinov2WithRegisters", {**fields, "num_register_tokens": 3}, seed, dtype, config)


def clip_text(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """CLIP's tower of texts in evaluation mode; `config` overrides fields of CLIPTextConfig."""
    # With this token for the end, as published ones have it, a text is pooled at its highest token.
    fields = {**TEXT, "num_attention_heads": 2, "projection_dim": 20, "eos_token_id": 2, "hidden_act": "quick_gelu"}
    return _stock(
        "CLIPTextModel", {"kind": "WithProjection", "config": "CLIPTextConfig", **fields}, seed, dtype, config
    )


def clip_vision(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> Any:
    """CLIP's tower of pictures in evaluation mode; `config` overrides fields of CLIPVisionConfig."""
    fields = {
        "image_size": 8,
        "patch_size": 4,
        "num_channels": 1,
        "projection_dim": 20,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "hidden_act": "quick_gelu",
        "attn_implementation": "eager",
    }
    named = {"kind": "WithProjection", "config": "CLIPVisionConfig"}
    return _stock("CLIPVisionModel", {**named, **fields}, seed, dtype, config)


def gated_dinov2() -> bool:
    """Whether the installed release holds the gate of a DINOv2's feed-forward layer apart from what it gates."""
    return any("gate_proj" in name for name in dinov2(use_swiglu_ffn=True).state_dict())


def vit(seed: int = 0, dtype: torch.dtype = torch.float64, **args: Any) -> timm.models.VisionTransformer:
    """A timm VisionTransformer in evaluation mode; `args` override arguments of its constructor."""
    fields = {
        "img_size": 8,
        "patch_size": 4,
        "in_chans": 1,
        "num_classes": 10,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 1.5,
    }
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, **(fields | args))
    return randomize(model, seed).to(dtype).eval()


STEMS = {
    "GPTNeoX": neox,
    "GPT2": gpt2,
    "Llama": llama,
    "Mistral": mistral,
    "Qwen2": qwen2,
    "Qwen3": qwen3,
    "Phi3": phi3,
    "Granite": granite,
    "Gemma": gemma,
    "Gemma2": gemma2,
    "Gemma3": gemma3,
    "Mixtral": mixtral,
    "Qwen2Moe": qwen2_moe,
    "Qwen3Moe": qwen3_moe,
    "Olmoe": olmoe,
    "StableLm": stablelm,
    "Starcoder2": starcoder2,
    "OPT": opt,
    "Olmo": olmo,
    "Olmo2": olmo2,
    "Olmo3": olmo3,
    "Bert": bert,
    "Roberta": roberta,
    "XLMRoberta": xlm_roberta,
    "ViT": hf_vit,
    "Dinov2": dinov2,
    "Dinov2WithRegisters": dinov2_registers,
    "CLIPTextModel": clip_text,
    "CLIPVisionModel": clip_vision,
    "VisionTransformer": vit,
}


def builder(name: str) -> Callable[..., Any]:
    """What builds a tiny model of a stock class."""
    kind = name.removeprefix(stem(name))
    return STEMS[stem(name)] if name == "VisionTransformer" else partial(STEMS[stem(name)], kind=kind)


def known(name: str) -> bool:
    """Whether the installed release has a class: some are younger than the oldest that is supported."""
    return name == "VisionTransformer" or hasattr(transformers, name)


def stem(name: str) -> str:
    """A stock class's architecture: its name without what its head does."""
    return max((s for s in STEMS if name.startswith(s)), key=len)


def randomize(model: nn.Module, seed: int) -> Any:
    """Give every parameter a random value of usual size, in place: gains around 1, the rest around 0."""
    generator = torch.Generator().manual_seed(seed)
    norms = (m for m in model.modules() if type(m).__name__.endswith("Norm"))
    gains = {  # Gemma's norms add one themselves
        id(m.weight): 0.0 if type(m).__name__.startswith("Gemma") else 1.0
        for m in norms
        if getattr(m, "weight", None) is not None
    }
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if id(parameter) in gains or name.endswith((".gamma", ".lambda1")):
                parameter.copy_(gains.get(id(parameter), 1.0) + 0.3 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
    return model


def inputs(model: nn.Module, n: int = 3, seed: int = 0) -> Tensor:
    """Random inputs of the model's own shape and type: token ids [n, T], or images [n, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    read = family_of(model).inputs(model)
    if isinstance(read, Tokens):
        return torch.randint(read.vocabulary, (n, min(12, read.context)), generator=generator)
    images = torch.randn(n, *read.shape, generator=generator, dtype=torch.float64)
    return images.to(next(model.parameters()).dtype)


@torch.no_grad()
def logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """The model's output: [n, T, vocab], [n, labels] and so on."""
    return stock_model.logits(model, inputs)


def tokenizer(folder: Path, words: int = 40) -> None:
    """Write a stock word-level tokenizer of that many entries into a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    stock = Tokenizer(models.WordLevel({f"w{i}": i for i in range(words)}, unk_token="w0"))
    stock.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=stock, unk_token="w0").save_pretrained(folder)
