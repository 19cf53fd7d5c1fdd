"""Stock models of given shapes with fresh weights: what a setting trains.

>>> Gpt2(layers=6, width=256, heads=4, context=128, vocabulary=50257).build()     # a GPT2LMHeadModel
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import nn

from lmc.symmetries import timm, transformers

NO_SPECIAL: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


@dataclass(frozen=True)
class Shape(ABC):
    """The sizes of a model; `build` draws its weights from torch's global generator."""

    layers: int
    width: int
    heads: int

    @abstractmethod
    def build(self) -> nn.Module:
        """A stock model in training mode, without dropout."""


@dataclass(frozen=True)
class Language(Shape):
    """A causal language model that reads `context` tokens out of `vocabulary`."""

    context: int
    vocabulary: int


@final
@dataclass(frozen=True)
class Gpt2(Language):
    """GPT-2: LayerNorm, learned positions, tied head."""

    def build(self) -> nn.Module:
        config = transformers().GPT2Config(
            n_layer=self.layers,
            n_embd=self.width,
            n_head=self.heads,
            n_positions=self.context,
            vocab_size=self.vocabulary,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **NO_SPECIAL,
        )
        return transformers().GPT2LMHeadModel(config).train()


@final
@dataclass(frozen=True)
class NeoX(Language):
    """Pythia: parallel residual, rotary on a quarter of each head, untied head."""

    def build(self) -> nn.Module:
        config = transformers().GPTNeoXConfig(
            num_hidden_layers=self.layers,
            hidden_size=self.width,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.width,
            max_position_embeddings=self.context,
            vocab_size=self.vocabulary,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
            attention_dropout=0.0,
            hidden_dropout=0.0,
            use_parallel_residual=True,
            tie_word_embeddings=False,
            **NO_SPECIAL,
        )
        return transformers().GPTNeoXForCausalLM(config).train()


def _pythia(layers: int, width: int, heads: int) -> NeoX:
    return NeoX(layers, width, heads, context=2048, vocabulary=50304)


PYTHIA = {  # of the published suite
    "14M": _pythia(6, 128, 4),
    "31M": _pythia(6, 256, 8),
    "70M": _pythia(6, 512, 8),
    "160M": _pythia(12, 768, 12),
    "410M": _pythia(24, 1024, 16),
    "1B": _pythia(16, 2048, 8),
}


@final
@dataclass(frozen=True)
class Llama(Language):
    """Llama: RMSNorm, rotary positions, queries that share keys and values in `groups`, gated layers, untied head."""

    hidden: int
    groups: int

    def build(self) -> nn.Module:
        config = transformers().LlamaConfig(
            num_hidden_layers=self.layers,
            hidden_size=self.width,
            num_attention_heads=self.heads,
            num_key_value_heads=self.groups,
            intermediate_size=self.hidden,
            max_position_embeddings=self.context,
            vocab_size=self.vocabulary,
            attention_dropout=0.0,
            tie_word_embeddings=False,
            **NO_SPECIAL,
        )
        return transformers().LlamaForCausalLM(config).train()


LLAMA = {  # small ones of our own, and the shapes of TinyLlama and Mistral-7B-v0.1
    "Llama 26M": Llama(12, 384, 12, context=512, vocabulary=8000, hidden=1024, groups=4),
    "Llama 386M": Llama(24, 1024, 16, context=512, vocabulary=32000, hidden=3500, groups=4),
    "Llama 1.1B": Llama(22, 2048, 32, context=2048, vocabulary=32000, hidden=5632, groups=4),
    "Llama 7B": Llama(32, 4096, 32, context=4096, vocabulary=32000, hidden=14336, groups=8),
}


@final
@dataclass(frozen=True)
class Olmo(Language):
    """OLMo-1: LayerNorm without parameters, gated feed-forward layers, rotary positions, tied head as in OLMo-1B."""

    hidden: int

    def build(self) -> nn.Module:
        config = transformers().OlmoConfig(
            num_hidden_layers=self.layers,
            hidden_size=self.width,
            num_attention_heads=self.heads,
            intermediate_size=self.hidden,
            max_position_embeddings=self.context,
            vocab_size=self.vocabulary,
            attention_dropout=0.0,
            tie_word_embeddings=True,
            **NO_SPECIAL,
        )
        return transformers().OlmoForCausalLM(config).train()


@final
@dataclass(frozen=True)
class Olmoe(Language):
    """OLMoE: a router sends each token to `picked` of the `experts`, each with `hidden` units; untied head."""

    hidden: int
    experts: int
    picked: int

    def build(self) -> nn.Module:
        config = transformers().OlmoeConfig(
            num_hidden_layers=self.layers,
            hidden_size=self.width,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            intermediate_size=self.hidden,
            num_experts=self.experts,
            num_experts_per_tok=self.picked,
            max_position_embeddings=self.context,
            vocab_size=self.vocabulary,
            attention_dropout=0.0,
            tie_word_embeddings=False,
            **NO_SPECIAL,
        )
        return transformers().OlmoeForCausalLM(config).train()


@dataclass(frozen=True)
class Vit(Shape):
    """A vision transformer of timm for images of `size`×`size` pixels in three colours."""

    size: int
    patch: int
    classes: int

    channels: ClassVar[int] = 3

    def build(self) -> nn.Module:
        half = (0.5,) * self.channels
        size = (self.channels, self.size, self.size)
        preprocessing = {"input_size": size, "mean": half, "std": half, "crop_pct": 1.0}
        origin = {"tag": "", "url": "", "hf_hub_id": "", "license": ""}  # not those of timm's checkpoint of this name
        model = timm().create_model(
            "vit_tiny_patch16_224",
            img_size=self.size,
            patch_size=self.patch,
            in_chans=self.channels,
            embed_dim=self.width,
            depth=self.layers,
            num_heads=self.heads,
            num_classes=self.classes,
            pretrained_cfg_overlay=preprocessing | origin,
        )
        return model.train()


@final
@dataclass(frozen=True)
class GreyVit(Vit):
    """The same for grey images."""

    channels = 1
