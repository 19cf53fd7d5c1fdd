"""The model families: one frozen table each. This file only finds the right one for a model.

A family names the exact stock classes it covers (a subclass may compute something else) and builds a `ModelSpec` from
a model's configuration and shapes, never from its weights, so a model on the meta device is enough.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from lmc.errors import UnsupportedModelError
from lmc.family import gpt_neox, vit
from lmc.modelspec import ModelSpec


@dataclass(frozen=True)
class Family:
    """One architecture: its stock classes, its table, and the settings two endpoints must share."""

    name: str
    library: str  # "transformers" or "timm"
    classes: tuple[str, ...]
    task: str  # "language" or "vision"
    spec: Callable[[Any], ModelSpec]
    settings: Callable[[Any], dict[str, object]]


FAMILIES = (
    Family("gpt_neox", "transformers", ("GPTNeoXForCausalLM",), "language", gpt_neox.spec, gpt_neox.settings),
    Family("vit", "timm", ("VisionTransformer",), "vision", vit.spec, vit.settings),
)


def families() -> dict[str, tuple[str, ...]]:
    """The supported families and the stock model classes each covers."""
    return {f.name: tuple(f"{f.library}.{c}" for c in f.classes) for f in FAMILIES}


def find(class_name: str, library: str) -> Family:
    """The family that covers a stock class. Raises UnsupportedModelError, which names the class and what is covered."""
    for family in FAMILIES:
        if family.library == library and class_name in family.classes:
            return family
    known = ", ".join(c for classes in families().values() for c in classes)
    raise UnsupportedModelError(f"{library}.{class_name}: no family covers this model class (covered: {known})")


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
    table = family_of(model).spec(model)
    missing = set(model.state_dict()) - set(table.rules) - table.constants()
    if missing:
        raise UnsupportedModelError(f"{type(model).__name__}: tensor {min(missing)} is not in the {table.family} table")
    return table
