"""Tiny random models of every family, for all tests: real stock classes in which no parameter is at a special value.

    model = pico.neox(seed=0, rotary_fraction=0.5, use_parallel_residual=False)
    before = pico.logits(model, pico.inputs(model))

Norm gains and biases, LayerScale and every other parameter are random, so nothing can be right by being 0 or 1.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmc.compat import ensure_torchvision

ensure_torchvision()

import timm  # noqa: E402
import transformers  # noqa: E402


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
        "rotary_pct": rotary_fraction,  # transformers 5.0 reads the fraction here
        "use_parallel_residual": True,
        "attention_bias": True,
        "tie_word_embeddings": False,
        "attn_implementation": "eager",
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    model = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**(fields | config)))
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
    gains = {id(m.weight) for m in model.modules() if isinstance(m, nn.LayerNorm) and m.weight is not None}
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
    if isinstance(model, transformers.PreTrainedModel):
        length = min(12, model.config.max_position_embeddings)
        return torch.randint(model.config.vocab_size, (n, length), generator=generator)
    weight = model.patch_embed.proj.weight
    images = torch.randn(n, weight.shape[1], *model.patch_embed.img_size, generator=generator, dtype=torch.float64)
    return images.to(weight.dtype)


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
