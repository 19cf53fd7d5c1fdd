"""What to say of a class that no family covers: the closest one, by its settings, and where adding one is explained.

The fields of a configuration are read from the library's source, as importing it would take seconds.
"""

import ast
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ALIKE = 0.5  # the share of settings in common from which on a table is worth copying


def advice(class_name: str, library: str, classes: Mapping[str, tuple[str, ...]]) -> str:
    """A clause for the error; `classes` are those of the library that are covered, by family.

    >>> advice("DeiTForImageClassification", "transformers", {"hf_vit": ("ViTForImageClassification", "ViTModel")})
    'the closest covered is ViTForImageClassification (family hf_vit); book/add_a_family.md shows how to add a class'
    """
    how = "book/add_a_family.md shows how to add a class"
    covered = [(name, family) for family, names in classes.items() for name in names]
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


def _settings(class_name: str) -> frozenset[str]:
    """The fields of a class's configuration; none for one that the library does not know."""
    stem = _stem(class_name)
    return next((_fields(name) for name in (f"{stem}TextConfig", f"{stem}Config") if name in _homes()), frozenset())


@cache
def _homes() -> dict[str, Path]:
    """The file in which the library transformers defines each configuration."""
    library = find_spec("transformers")
    folders = () if library is None else library.submodule_search_locations or ()
    files = [file for folder in folders for file in Path(folder).glob("models/*/configuration_*.py")]
    return {
        name: file
        for file in files
        for name in re.findall(r"^class (\w+)\(", file.read_text(encoding="utf8"), re.MULTILINE)
    }


@cache
def _fields(config: str) -> frozenset[str]:
    """The fields that a configuration declares, itself or by what it derives from."""
    if config not in _homes():
        return frozenset()
    tree = ast.parse(_homes()[config].read_text(encoding="utf8"))
    (made,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == config)
    own = {n.target.id for n in made.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    return frozenset(own).union(*(_fields(base.id) for base in made.bases if isinstance(base, ast.Name)))
