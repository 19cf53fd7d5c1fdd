"""Tiny random models of every family, for all tests: real stock classes in which no parameter is at a special value.

    model = pico.neox(seed=0, rotary_fraction=0.5, use_parallel_residual=False)
    before = pico.logits(model, pico.inputs(model))

Norm gains and biases, LayerScale and every other parameter are random, so nothing can be right by being 0 or 1.
"""

from pathlib import Path
from typing import Any

import timm
import torch
import transformers
from torch import Tensor, nn

from lmc.symmetries.families.common import Tokens
from lmc.symmetries.families.family import family_of


def neox(
    seed: int = 0, dtype: torch.dtype = torch.float64, rotary_fraction: float = 0.5, **config: Any
) -> transformers.GPTNeoXForCausalLM:
    """A GPT-NeoX in evaluation mode; `config` overrides fields of GPTNeoXConfig."""
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
    model = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**(fields | config)))
    return randomize(model, seed).to(dtype).eval()


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


def _language(name: str, fields: dict[str, Any], seed: int, dtype: torch.dtype, config: dict[str, Any]) -> Any:
    """A stock language model of transformers, by the name its configuration and its class share."""
    stock = {"GPT2": "GPT2LMHeadModel"}.get(name, f"{name}ForCausalLM")
    model = getattr(transformers, stock)(getattr(transformers, f"{name}Config")(**(fields | config)))
    return randomize(model, seed).to(dtype).eval()


def head(model: Any) -> str:
    """What GPT-NeoX's head is called: `lm_head`, before transformers 5.14 `embed_out`."""
    return "lm_head" if hasattr(model, "lm_head") else "embed_out"


def llama(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> transformers.LlamaForCausalLM:
    """A Llama in evaluation mode; `config` overrides fields of LlamaConfig."""
    return _language("Llama", GROUPED, seed, dtype, config)


def mistral(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> transformers.MistralForCausalLM:
    """A Mistral in evaluation mode; `config` overrides fields of MistralConfig."""
    return _language("Mistral", GROUPED | {"sliding_window": None}, seed, dtype, config)


def qwen2(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> transformers.Qwen2ForCausalLM:
    """A Qwen2 in evaluation mode; `config` overrides fields of Qwen2Config."""
    return _language("Qwen2", GROUPED, seed, dtype, config)


def qwen3(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> transformers.Qwen3ForCausalLM:
    """A Qwen3 in evaluation mode; `config` overrides fields of Qwen3Config."""
    return _language("Qwen3", GROUPED | {"head_dim": 4}, seed, dtype, config)


def olmo(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> transformers.OlmoForCausalLM:
    """An OLMo in evaluation mode; `config` overrides fields of OlmoConfig."""
    return _language("Olmo", GROUPED, seed, dtype, config)


def olmo2(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> transformers.Olmo2ForCausalLM:
    """An OLMo-2 in evaluation mode; `config` overrides fields of Olmo2Config."""
    return _language("Olmo2", GROUPED, seed, dtype, config)


def gpt2(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> transformers.GPT2LMHeadModel:
    """A GPT-2 in evaluation mode; `config` overrides fields of GPT2Config."""
    fields = {name: value for name, value in TEXT.items() if name != "intermediate_size"}
    return _language("GPT2", fields | {"n_inner": 24, "num_attention_heads": 2}, seed, dtype, config)


def bert(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> transformers.BertForMaskedLM:
    """A BERT in evaluation mode; `config` overrides fields of BertConfig."""
    fields = {**TEXT, "num_attention_heads": 2, "type_vocab_size": 2}
    model = transformers.BertForMaskedLM(transformers.BertConfig(**(fields | config)))
    return randomize(model, seed).to(dtype).eval()


def hf_vit(seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any) -> transformers.ViTForImageClassification:
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
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**(fields | config)))
    return randomize(model, seed).to(dtype).eval()


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


def randomize(model: nn.Module, seed: int) -> Any:
    """Give every parameter a random value of usual size, in place: gains around 1, the rest around 0."""
    generator = torch.Generator().manual_seed(seed)
    norms = (m for m in model.modules() if type(m).__name__.endswith("Norm"))
    gains = {id(m.weight) for m in norms if getattr(m, "weight", None) is not None}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if id(parameter) in gains or name.endswith(".gamma"):
                parameter.copy_(1 + 0.3 * noise)
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
    """The model's output: [n, T, vocab] or [n, classes]."""
    out = model(inputs)
    return out if isinstance(out, Tensor) else out.logits


def tokenizer(folder: Path, words: int = 40) -> None:
    """Write a stock word-level tokenizer of that many entries into a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    stock = Tokenizer(models.WordLevel({f"w{i}": i for i in range(words)}, unk_token="w0"))
    stock.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=stock, unk_token="w0").save_pretrained(folder)
