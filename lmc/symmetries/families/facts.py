"""What people ask before they use a family: what is aligned in it, what is lost, and which published checkpoints fit.

>>> aligned(lmc.spec(model))[0]
'stream: rotations that fix the mean'

What is aligned is read off the table; the rest stands here, a line for each family.
"""

from dataclasses import dataclass
from typing import Any

import torch

from lmc.symmetries.families.family import Family
from lmc.symmetries.groups import Fixed, Group, Invertible, Orthogonal, Permutation, RotaryCommutant, Scale
from lmc.symmetries.spec import ModelSpec
from lmc.symmetries.stock_libraries import timm, transformers


@dataclass(frozen=True)
class Facts:
    """`lost`: what other families can and this one cannot; `fits`: names on the hub whose layout this is."""

    lost: str
    fits: str


WORDS = {"bos_token_id": 0, "eos_token_id": 0}  # some defaults lie beyond their vocabulary, of which the library warns
_GELU = "no factors of hidden units: a GELU is not homogeneous"
_HEAD_NORM = "of a rotary plane only the sign, as a norm stands over queries and keys; no residual scale"

FACTS = {
    "gpt_neox": Facts(_GELU, "EleutherAI/pythia-*, EleutherAI/gpt-neox-20b"),
    "gpt2": Facts(_GELU, "openai-community/gpt2*, stanford-crfm/*-gpt2-*"),
    "llama": Facts(
        "nothing",
        "meta-llama/Llama-*, mistralai/Mistral-7B-*, mistralai/Mixtral-*, Qwen/Qwen2-*, Qwen/Qwen2.5-*, "
        "Qwen/Qwen1.5-MoE-*, microsoft/Phi-3-*, microsoft/phi-4, ibm-granite/granite-3*",
    ),
    "stablelm": Facts("of values, the constant that they hand on stays", "stabilityai/stablelm-*"),
    "starcoder2": Facts(_GELU, "bigcode/starcoder2-*"),
    "opt": Facts("no residual scale: ε is a number in the code", "facebook/opt-* but opt-350m"),
    "gemma": Facts(
        "of Gemma 2 and 3 rotations of the stream, which norms write; of Gemma 3 all of a rotary plane but the sign",
        "google/gemma-*, google/gemma-2-*, google/gemma-3-270m*, google/gemma-3-1b*",
    ),
    "qwen3": Facts(_HEAD_NORM, "Qwen/Qwen3-*"),
    "olmo": Facts("no residual scale: ε is a number in the code; with clip_qkv signs only", "allenai/OLMo-*-hf"),
    "olmo2": Facts(
        "rotations of the stream: sublayers write it through norms; of a rotary plane only the sign", "allenai/OLMo-2-*"
    ),
    "olmoe": Facts(_HEAD_NORM, "allenai/OLMoE-*"),
    "bert": Facts(
        "rotations of the stream: norms stand in it; no loss for masked words, so no learned matching and no path; "
        "without a head the stream is the output, and stays",
        "google-bert/bert-*, google/multiberts-seed_*, FacebookAI/roberta-*, FacebookAI/xlm-roberta-*",
    ),
    "vit": Facts(f"{_GELU}; no residual scale: timm does not save ε", "timm/vit_*, timm/deit_*, timm/deit3_*"),
    "hf_vit": Facts(f"{_GELU}; without a head the stream is the output, and stays", "google/vit-*, facebook/dinov2-*"),
}


def aligned(spec: ModelSpec) -> list[str]:
    """What may be moved, a line for each kind of space."""
    groups = {spec.kind(space.name): space.group for space in spec.spaces}
    return [f"{kind}: {_words(group)}" for kind, group in groups.items()]


def smallest(family: Family, name: str = "") -> Any:
    """A model of a family's class (its first, if none is named) at the library's default width, with one layer."""
    with torch.device("meta"):
        if family.library == "timm":
            return timm().create_model("vit_base_patch16_224", pretrained=False, depth=1)
        stock = getattr(transformers(), name or family.classes[0])
        return stock(stock.config_class(num_hidden_layers=1, **WORDS))


def _words(group: Group) -> str:
    match group:
        case Fixed():
            return "nothing, as it is the output"
        case Orthogonal(n=1):
            return "signs"
        case Orthogonal(fixes_ones=True):
            return "rotations that fix the mean"
        case Orthogonal():
            return "rotations"
        case Permutation():
            return "permutations"
        case Scale() | Invertible(n=1):
            return "factors"
        case RotaryCommutant():
            return "complex numbers, one for each rotary pair"
        case Invertible():
            return "invertible maps"
    raise AssertionError(f"{type(group).__name__} has no words")
