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
from lmc.symmetries.families.classes import TIMM, TRANSFORMERS, not_covered
from lmc.symmetries.families.common import Family, Images, Tokens, tokens
from lmc.symmetries.families.settings import settings
from lmc.symmetries.spec import ModelSpec
from lmc.symmetries.stock_model import require_own_modules


def _of_transformers(
    name: str,
    spec: Callable[[Any], ModelSpec],
    settings: Callable[[Any], dict[str, object]] = settings,
    inputs: Callable[[Any], Tokens | Images] = tokens,
    unread: tuple[str, ...] = (),
) -> Family:
    return Family(name, "transformers", TRANSFORMERS[name], spec, settings, inputs, unread=unread)


FAMILIES = (
    _of_transformers("gpt_neox", gpt_neox.spec),
    _of_transformers("gpt2", gpt2.spec),
    _of_transformers("llama", llama.spec),
    _of_transformers("stablelm", stablelm.spec),
    _of_transformers("starcoder2", starcoder2.spec),
    _of_transformers("opt", opt.spec),
    _of_transformers("gemma", gemma.spec),
    _of_transformers("qwen3", qwen3.spec),
    _of_transformers("olmo", olmo.spec),
    _of_transformers("olmo2", olmo2.spec),
    _of_transformers("olmoe", olmoe.spec),
    _of_transformers("bert", bert.spec, bert.settings, bert.tokens, unread=bert.OTHER_HEADS),
    Family("vit", "timm", TIMM["vit"], vit.spec, vit.settings, vit.images, vit_forms.alike),
    _of_transformers("hf_vit", hf_vit.spec, inputs=hf_vit.images),
    _of_transformers("clip_text", clip.text, clip.text_settings, clip.tokens),
    _of_transformers("clip_vision", clip.vision, inputs=clip.images),
)


def families() -> dict[str, tuple[str, ...]]:
    """The supported families and the stock model classes each covers."""
    return {f.name: tuple(f"{f.library}.{c}" for c in f.classes) for f in FAMILIES}


def find(class_name: str, library: str) -> Family:
    """The family that covers a stock class. Raises UnsupportedModelError, naming the class and the closest covered."""
    for family in FAMILIES:
        if family.library == library and class_name in family.classes:
            return family
    raise not_covered(class_name, library, {f.name: f.classes for f in FAMILIES if f.library == library})


def family_of(model: nn.Module) -> Family:
    """The family of a model. Raises UnsupportedModelError."""
    for inner in ("_orig_mod", "module"):  # of torch.compile, and of what shares a model among processes
        if _is_wrapper(model) and inner in dict(model.named_children()):
            what = f"{type(model).__name__}: expected a stock model, found one around it; give MODEL.{inner}"
            raise UnsupportedModelError(what)
    return find(type(model).__name__, type(model).__module__.split(".")[0])


_AROUND = ("torch._dynamo", "torch.nn.parallel", "torch.distributed", "torch.optim.swa_utils")


def _is_wrapper(model: nn.Module) -> bool:
    """Whether a module is one of torch's around another one."""
    return type(model).__module__.startswith(_AROUND)


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
