"""Layers hold the same tensors, and so do checkpoints of equal settings: where files do not, headers show it.

>>> lacking({"h.0.attn.weight": (2, 2), "h.0.mlp.weight": (8, 2), "h.1.attn.weight": (2, 2)})
('h.1.mlp.weight', (8, 2))
>>> one = {"h.0.mlp.weight": (8, 2), "h.1.mlp.weight": (8, 2)}
>>> disagreement(one, {"h.0.mlp.weight": (8, 2)})
('h.1.mlp.weight', (8, 2), None)

The stock class would tell the same, and more, once it is imported with torch: here it is said two seconds sooner.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lmc.checkpoints.architecture import Architecture
from lmc.checkpoints.headers import ABSENT
from lmc.errors import CheckpointError
from lmc.files import open_safetensors

Shape = tuple[int, ...]
Local = tuple[Architecture, Path, Iterable[str]]  # a checkpoint that lies here: its class, folder and weights files

_BY_THE_WAY = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")  # settings that no shape depends on
_LAYER = re.compile(r"\.\d+\.")
# Of a module in a layer: what stands before, the number, the rest. Lists in layers may be of several lengths.
_WEIGHT = re.compile(r"(\D*\.)(\d+)\.((?:[^.]*[^.\d][^.]*\.)+weight)")


def require_whole(folder: Path, files: Iterable[str]) -> None:
    """Raise CheckpointError for a weight that a layer lacks and others have."""
    if (found := lacking(_shapes(folder, files))) is not None:
        name, shape = found
        what = f"tensor {name}: expected shape {list(shape)}, found in no weights file; get the files that are missing"
        raise CheckpointError(f"{folder}: {what}")


def lacking(shapes: Mapping[str, Shape]) -> tuple[str, Shape] | None:
    """A weight that one layer lacks, and its shape in another; None where none does.

    Only beside a layer that has all that any layer has: where layers are of several kinds nothing is known.
    """
    layers: dict[str, dict[str, dict[str, Shape]]] = {}
    for name, shape in shapes.items():
        if (parts := _WEIGHT.fullmatch(name)) is not None:
            layers.setdefault(parts[1], {}).setdefault(parts[2], {})[parts[3]] = shape
    own = max(layers.values(), key=lambda found: sum(map(len, found.values())), default={})
    prefix = next((before for before, found in layers.items() if found is own), "")
    every = {rest: shape for found in own.values() for rest, shape in found.items()}
    if not any(found.keys() == every.keys() for found in own.values()):
        return None
    for number, found in sorted(own.items(), key=lambda item: int(item[0])):
        if rest := min(every.keys() - found.keys(), default=None):
            return f"{prefix}{number}.{rest}", every[rest]
    return None


def require_same(first: Local, other: Local) -> None:
    """Raise CheckpointError for a tensor of one layer that one has and the other lacks, or has in another shape.

    Of checkpoints with other settings nothing is said.
    """
    (stock, here, files), (another, there, others) = first, other
    if _settings(stock) != _settings(another):
        return
    found = disagreement(_shapes(here, files), _shapes(there, others))
    if found is None:
        return
    name, expected, instead = found
    if expected is None or instead is None:
        lacking, having = (here, there) if expected is None else (there, here)
        shape = list(expected or instead or ())
        what = f"expected shape {shape}, as in {having} of the same settings, found in no weights file"
        what += "; get the files that are missing, or the settings that belong to each"
        raise CheckpointError(f"{lacking}: tensor {name}: {what}")
    what = f"expected one shape, as the settings are the same, found {list(expected)} and {list(instead)}"
    raise CheckpointError(f"{here} and {there}: tensor {name}: {what}; get both again")


def disagreement(
    mine: Mapping[str, Shape], theirs: Mapping[str, Shape]
) -> tuple[str, Shape | None, Shape | None] | None:
    """A weight of one layer that two models of one form cannot differ in, and its shape in each; None where it is none.

    Only a weight that the model which lacks it has in other layers: a wrapped name, or a tensor that some library
    writes and others do not, is no disagreement.
    """
    kinds = [{_LAYER.sub(".*.", name) for name in shapes} for shapes in (mine, theirs)]
    for name in sorted(mine.keys() | theirs.keys()):
        kind = _LAYER.sub(".*.", name)
        one_layers = kind != name and name.endswith(".weight") and all(kind in own for own in kinds)
        if one_layers and mine.get(name) != theirs.get(name):
            return name, mine.get(name), theirs.get(name)
    return None


def _settings(stock: Architecture) -> dict[str, object]:
    return {name: value for name, value in stock.fields.items() if name not in _BY_THE_WAY}


def _shapes(folder: Path, files: Iterable[str]) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for file in files:
        with open_safetensors(folder / file, ABSENT, "numpy") as opened:
            found |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    return found
