"""The list of all model families, and which of them covers a model."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families import (
    bert,
    clip,
    gemma,
    gpt2,
    gpt_neox,
    hf_vit,
    llama,
    olmo,
    olmo2,
    olmoe,
    opt,
    qwen3,
    stablelm,
    starcoder2,
    vit,
    vit_forms,
)
from lmc.symmetries.families.closest import advice
from lmc.symmetries.families.common import Family, Tokens, tokens
from lmc.symmetries.families.heads import LABELS, TEXTS, named
from lmc.symmetries.families.settings import settings
from lmc.symmetries.spec import ModelSpec
from lmc.symmetries.stock_model import require_own_modules


def _decoder(name: str, spec: Callable[[Any], ModelSpec], *classes: str) -> Family:
    return Family(name, "transformers", classes, spec, settings, tokens)


ENCODERS = tuple(s + kind for s in ("Bert", "Roberta", "XLMRoberta") for kind in ("ForMaskedLM", *LABELS, "Model"))
PICTURES = ("ViTForImageClassification", "ViTModel", "Dinov2ForImageClassification", "Dinov2Model")
LLAMAS = tuple(name for s in ("Llama", "Mistral", "Qwen2", "Phi3", "Mixtral", "Qwen2Moe") for name in named(s))
GEMMA3 = ("Gemma3ForCausalLM", "Gemma3TextForSequenceClassification")
FAMILIES = (
    _decoder("gpt_neox", gpt_neox.spec, *named("GPTNeoX")),
    _decoder("gpt2", gpt2.spec, "GPT2LMHeadModel", *named("GPT2", *LABELS)),
    _decoder("llama", llama.spec, *LLAMAS, "GraniteForCausalLM"),
    _decoder("stablelm", stablelm.spec, *named("StableLm")),
    _decoder("starcoder2", starcoder2.spec, *named("Starcoder2")),
    _decoder("opt", opt.spec, *named("OPT", *TEXTS)),
    _decoder("gemma", gemma.spec, *named("Gemma"), *named("Gemma2"), *GEMMA3),
    _decoder("qwen3", qwen3.spec, *named("Qwen3"), *named("Qwen3Moe")),
    _decoder("olmo", olmo.spec, *named("Olmo", *TEXTS)),
    _decoder("olmo2", olmo2.spec, *named("Olmo2", *TEXTS)),
    _decoder("olmoe", olmoe.spec, "OlmoeForCausalLM"),
    Family(
        "bert", "transformers", ENCODERS, bert.spec, bert.settings, bert.tokens, None, bert.PUBLISHED, bert.OTHER_HEADS
    ),
    Family("vit", "timm", ("VisionTransformer",), vit.spec, vit.settings, vit.images, vit_forms.alike),
    Family("hf_vit", "transformers", PICTURES, hf_vit.spec, settings, hf_vit.images),
    Family("clip_text", "transformers", clip.TEXTS, clip.text, clip.text_settings, clip.tokens),
    Family("clip_vision", "transformers", clip.PICTURES, clip.vision, settings, clip.images),
)


def families() -> dict[str, tuple[str, ...]]:
    """The supported families and the stock model classes each covers."""
    return {f.name: tuple(f"{f.library}.{c}" for c in f.classes) for f in FAMILIES}


def find(class_name: str, library: str) -> Family:
    """The family that covers a stock class. Raises UnsupportedModelError, naming the class and the closest covered."""
    for family in FAMILIES:
        if family.library == library and class_name in family.classes:
            return family
    hint = advice(class_name, library, FAMILIES)
    raise UnsupportedModelError(f"{library}.{class_name}: no family covers this model class; {hint}")


def covered(class_name: str) -> str:
    """The covered class that reads the files of a class: mostly that class itself.

    >>> covered("BertForPreTraining")
    'BertForMaskedLM'
    """
    return next((family.classes[0] for family in FAMILIES if class_name in family.published), class_name)


def family_of(model: nn.Module) -> Family:
    """The family of a model. Raises UnsupportedModelError."""
    return find(type(model).__name__, type(model).__module__.split(".")[0])


def spec(model: nn.Module) -> ModelSpec:
    """The table of a stock model: its tensors, spaces and groups.

    >>> lmc.spec(model).family
    'gpt_neox'

    Depends on the configuration and the shapes only, so it is the same for a model and its canonical form.
    Raises UnsupportedModelError (class not covered, or a setting the family does not support).
    """
    family = family_of(model)
    require_own_modules(model)
    stock: Any = model
    layers = len(stock.blocks) if family.library == "timm" else stock.config.num_hidden_layers
    if layers < 1:
        raise UnsupportedModelError(f"{type(model).__name__}: number of layers: expected at least 1, found {layers}")
    table = family.spec(model)
    if table.epsilon is not None:
        value = getattr(stock.config, table.epsilon.field)
        if not 0 < value < math.inf:
            name = f"{type(model).__name__}: {table.epsilon.field}"
            raise UnsupportedModelError(f"{name}: expected a positive number, found {value}")
    read = family.inputs(model)
    if isinstance(read, Tokens) and read.context < 1:
        raise UnsupportedModelError(f"{type(model).__name__}: context: expected at least 1 token, found {read.context}")
    missing = set(model.state_dict()) - set(table.rules) - table.constants()
    if missing:
        raise UnsupportedModelError(f"{type(model).__name__}: tensor {min(missing)} is not in the {table.family} table")
    return table
