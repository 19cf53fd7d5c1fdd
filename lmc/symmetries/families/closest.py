"""What to say of a class that no family covers: the closest one, by its settings, and where adding one is explained."""

import inspect
import re
from collections.abc import Iterable

from lmc.symmetries.families.common import Family
from lmc.symmetries.stock_libraries import transformers

ALIKE = 0.6  # the share of settings in common from which on a table is worth copying


def advice(class_name: str, library: str, families: Iterable[Family]) -> str:
    """A clause for the error, from the families there are.

    >>> from lmc.symmetries.families import FAMILIES
    >>> advice("DeiTForImageClassification", "transformers", FAMILIES)
    'the closest covered is ViTForImageClassification (family hf_vit); book/add_a_family.md shows how to add a class'
    """
    how = "book/add_a_family.md shows how to add a class"
    covered = [(name, family.name) for family in families if family.library == library for name in family.classes]
    towers = [name for name, _ in covered if re.match(_stem(class_name) + "(Text|Vision)Model", name)]
    if towers and class_name == _stem(class_name) + "Model":
        return (
            f"it holds a model of texts and one of pictures; save each as a model of its own ({', '.join(towers)}: "
            "CLASS.from_pretrained(FOLDER).save_pretrained(NEW)), and use those"
        )
    if library == "timm":
        return f"the one covered is {covered[0][0]} (family {covered[0][1]}); {how}"
    asked = _settings(class_name)
    likeness = {}
    for name, family in covered:
        found = _settings(name)
        share = len(asked & found) / max(1, len(asked | found))
        likeness[name, family] = (share, _stem(name) == _stem(class_name), _head(name) == _head(class_name))
    if not likeness or max(likeness.values())[0] < ALIKE:
        return f"none that is covered has settings like it; {how}"
    name, family = max(likeness, key=likeness.__getitem__)
    return f"the closest covered is {name} (family {family}); {how}"


def _stem(class_name: str) -> str:
    return re.sub(r"(For[A-Z]\w*|LMHeadModel|Model)$", "", class_name)


def _head(class_name: str) -> str:
    return class_name.removeprefix(_stem(class_name))


def _settings(class_name: str) -> set[str]:
    """The fields of a class's configuration; none for one that the library does not know."""
    library, stem = transformers(), _stem(class_name)
    config = getattr(library, f"{stem}TextConfig", None) or getattr(library, f"{stem}Config", None)
    return set() if config is None else set(inspect.signature(config).parameters)
