"""What people ask before they use a family: what is aligned in it, what is lost, and which published checkpoints fit.

>>> aligned(lmc.spec(model))[0]
'stream: rotations that fix the mean'

What is aligned is read off the table; the rest stands here, a line for each family.
"""

from dataclasses import dataclass
from typing import Any

import torch

from lmc.symmetries.families.family import Family
from lmc.symmetries.groups import Group, Invertible, Orthogonal, Permutation, RotaryCommutant, Scale
from lmc.symmetries.spec import ModelSpec
from lmc.symmetries.stock_libraries import timm, transformers


@dataclass(frozen=True)
class Facts:
    """`lost`: what other families can and this one cannot; `fits`: names on the hub whose layout this is."""

    lost: str
    fits: str


_GELU = "no factors of hidden units: a GELU is not homogeneous"
_HEAD_NORM = "of a rotary plane only the sign, as a norm stands over queries and keys; no residual scale"

FACTS = {
    "gpt_neox": Facts(_GELU, "EleutherAI/pythia-*, EleutherAI/gpt-neox-20b"),
    "gpt2": Facts(_GELU, "openai-community/gpt2*, stanford-crfm/*-gpt2-*"),
    "llama": Facts("nothing", "meta-llama/Llama-*, mistralai/Mistral-7B-*, Qwen/Qwen2-*, Qwen/Qwen2.5-*"),
    "qwen3": Facts(_HEAD_NORM, "Qwen/Qwen3-* without experts"),
    "olmo": Facts("no residual scale: ε is a number in the code; with clip_qkv signs only", "allenai/OLMo-*-hf"),
    "olmo2": Facts(
        "rotations of the stream: sublayers write it through norms; of a rotary plane only the sign", "allenai/OLMo-2-*"
    ),
    "bert": Facts(
        "rotations of the stream: norms stand in it; no loss for masked words, so no learned matching and no path",
        "google-bert/bert-*, google/multiberts-seed_*",
    ),
    "vit": Facts(f"{_GELU}; no residual scale: timm does not save ε", "timm/vit_*, timm/deit_*, timm/deit3_*"),
    "hf_vit": Facts(_GELU, "google/vit-*"),
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
        return stock(stock.config_class(num_hidden_layers=1))


def _words(group: Group) -> str:
    match group:
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
