"""What people ask before they use a family: what is aligned in it, what is lost, and which published checkpoints fit.

>>> aligned(lmc.spec(model))[0]
'stream: rotations that fix the mean'

What is aligned is read off the table; the rest stands here, a line for each family.
"""

from dataclasses import dataclass
from typing import Any

from lmc.symmetries.families.family import Family
from lmc.symmetries.groups import Fixed, Group, Invertible, Orthogonal, Permutation, RotaryCommutant, Scale
from lmc.symmetries.spec import ModelSpec
from lmc.symmetries.stock_libraries import timm, transformers
from lmc.symmetries.stock_model import without_weights


@dataclass(frozen=True)
class Facts:
    """`lost`: what other families can and this one cannot; `fits`: names on the hub whose layout this is."""

    lost: str
    fits: str


_GELU = "factors of hidden units, as a GELU is not homogeneous"
_AFTER = "rotations of the stream, where sublayers write it through norms"
_BETWEEN = "of a rotary plane all but the sign, and the residual scale, where a norm stands over queries and keys"

FACTS = {
    "gpt_neox": Facts(_GELU, "EleutherAI/pythia-*, EleutherAI/gpt-neox-20b"),
    "gpt2": Facts(
        f"{_GELU}; calls with token_type_ids, for which it does not hold",
        "openai-community/gpt2*, stanford-crfm/*-gpt2-*",
    ),
    "llama": Facts(
        "nothing",
        "meta-llama/Llama-2-*-hf, meta-llama/Meta-Llama-3*, meta-llama/Llama-3.2-1B*, meta-llama/Llama-3.2-3B*, "
        "mistralai/Mistral-7B-*, mistralai/Mixtral-*, Qwen/Qwen1.5-*, Qwen/Qwen2-[0-9]*, Qwen/Qwen2.5-[0-9]*, "
        "microsoft/Phi-3-mini-*, microsoft/Phi-3-medium-*, microsoft/phi-4, ibm-granite/granite-3.*-2b-*, "
        "ibm-granite/granite-3.*-8b-*",
    ),
    "stablelm": Facts("nothing", "stabilityai/stablelm-2-1_6b, stabilityai/stablelm-3b-4e1t"),
    "starcoder2": Facts(_GELU, "bigcode/starcoder2-*"),
    "opt": Facts("the residual scale, as ε is a number in the code", "facebook/opt-* but for opt-350m"),
    "gemma": Facts(
        f"from Gemma 2 on {_AFTER}; in Gemma 3 {_BETWEEN}",
        "google/gemma-2b*, google/gemma-7b*, google/gemma-2-*, google/gemma-3-270m*, google/gemma-3-1b*",
    ),
    "qwen3": Facts(_BETWEEN, "Qwen/Qwen3-[0-9]*"),
    "olmo": Facts("the residual scale, as ε is a number in the code; with clip_qkv more", "allenai/OLMo-*-hf"),
    "olmo2": Facts(f"{_AFTER}; {_BETWEEN}", "allenai/OLMo-2-*, allenai/Olmo-3-*"),
    "olmoe": Facts(_BETWEEN, "allenai/OLMoE-*"),
    "bert": Facts(
        f"{_AFTER}; {_GELU}; learned matching and paths, as what they predict has no loss here",
        "google-bert/bert-*, google/multiberts-seed_*, FacebookAI/roberta-*, FacebookAI/xlm-roberta-*",
    ),
    "vit": Facts(
        f"{_GELU}; the residual scale, as timm does not save ε",
        "timm/vit_*_patch*.augreg*, timm/deit_*_patch16_224.*, timm/deit3_*",
    ),
    "clip_text": Facts(
        f"{_GELU}; without a projection all of the stream; learned matching and paths, as one tower alone has no loss",
        "openai/clip-vit-*, laion/CLIP-ViT-*, the text_encoder of stable-diffusion-v1-*",
    ),
    "clip_vision": Facts(
        f"{_GELU}; rotations of the stream, which a norm begins, without a projection all of it; learned matching and "
        "paths, as one tower alone has no loss",
        "openai/clip-vit-*, laion/CLIP-ViT-*",
    ),
    "hf_vit": Facts(
        f"{_GELU}; without a classifier all of the stream; files of models with use_swiglu_ffn, which match in memory",
        "google/vit-base-*, google/vit-large-*, google/vit-huge-*, facebook/dinov2-small*, facebook/dinov2-base*, "
        "facebook/dinov2-large*, facebook/dinov2-with-registers-*",
    ),
}


def aligned(spec: ModelSpec) -> list[str]:
    """What may be moved, a line for each kind of space."""
    groups = {spec.kind(space.name): space.group for space in spec.spaces}
    return [f"{kind}: {_words(group)}" for kind, group in groups.items()]


def kinds(family: Family) -> dict[tuple[str, ...], list[str]]:
    """What is aligned in a family, each with the classes of which it is true at the library's default settings.

    Of classes that the installed release has: some are younger than the oldest that is supported.
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for name in family.classes:
        if family.library == "transformers" and not hasattr(transformers(), name):
            continue
        found.setdefault(tuple(aligned(family.spec(_smallest(family, name)))), []).append(name)
    return found


def _smallest(family: Family, name: str) -> Any:
    """A model of a class at the library's default width, with one layer, on the meta device."""
    if family.library == "timm":
        create = timm().create_model  # imported before the device is chosen: torch 2.6 computes while it is imported
        with without_weights():
            return create("vit_base_patch16_224", pretrained=False, depth=1)
    stock = getattr(transformers(), name)
    with without_weights():
        return stock(stock.config_class(num_hidden_layers=1, bos_token_id=None, eos_token_id=None))


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
