"""Everything that can be known of a checkpoint before a weight of it is read.

>>> inspect("run-1").family.name
'gpt_neox'
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from lmc.checkpoints import (
    architecture,
    foreign,
    headers,
    hub,
    preprocessing,
    timm_layout,
    transformers_layout,
    vocabulary,
)
from lmc.checkpoints.headers import Entry
from lmc.checkpoints.hub import Source
from lmc.checkpoints.transformers_layout import processor_file
from lmc.errors import CheckpointError, DataError, LmcError, is_out_of_memory, one_line
from lmc.symmetries.families import Family, Tokens, family_of
from lmc.symmetries.families import spec as spec_of

# What a stock class builds one by one, or computes with, before it meets a weight. The deepest published language
# models have fewer than 200 layers, the largest sets of pictures some 20,000 classes.
MOST = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "depth"), 1024),
    **dict.fromkeys(("num_labels", "num_classes", "head_dim"), 10**6),
}
STOCK: dict[str, ModuleType] = {"transformers": transformers_layout, "timm": timm_layout}


@dataclass(frozen=True)
class Blueprint:
    """A checkpoint that was checked but not read: its empty model (on the meta device) and the tensors in its files."""

    source: Source
    model: nn.Module
    family: Family
    tensors: Mapping[str, Entry]

    @property
    def files(self) -> list[str]:
        """The weights files, by name."""
        return sorted({part.file for e in self.tensors.values() for part in (e, *(piece for piece, _ in e.parts))})

    @property
    def dtype(self) -> torch.dtype:
        """The type that holds every stored weight without loss."""
        return reduce(torch.promote_types, (e.dtype for e in self.tensors.values() if isinstance(e.dtype, torch.dtype)))


def inspect(name: str | Path) -> Blueprint:
    """Everything that can be known without reading, or from the hub downloading, a weight.

    Raises CheckpointError, or UnsupportedModelError naming the model's class.
    """
    source = hub.locate(name)
    family, model = empty(source)
    require_inputs(source, family, model)
    files = foreign.weights(source, name)
    here = all((source.folder / file).exists() for file in files) or source.repository is None
    found = headers.headers(source.folder, files) if here else hub.remote_headers(source, files)
    return Blueprint(source, model, family, cover(source, family, model, found))


def require_tokens_fit(folder: Path, family: Family, model: nn.Module) -> None:
    """Raise CheckpointError where a folder's tokenizer has more tokens than the model has rows."""
    if isinstance(reads := family.inputs(model), Tokens):
        vocabulary.require_fit(folder, reads.vocabulary)


def require_inputs(source: Source, family: Family, model: nn.Module) -> None:
    """Raise CheckpointError unless a checkpoint's tokenizer, or its preprocessing of pictures, fits its model."""
    if isinstance(family.inputs(model), Tokens):
        return require_tokens_fit(source.folder, family, model)
    try:
        preprocessing.of(model)
    except DataError as error:
        file = processor_file(source.folder) if family.library == "transformers" else None
        raise CheckpointError(f"{file or source.folder / 'config.json'}: {error}") from error


def empty(source: Source) -> tuple[Family, nn.Module]:
    """The family of a checkpoint and its stock model on the meta device, both from config.json alone."""
    path, stock = source.folder / "config.json", architecture.of(source)
    _require_buildable(path, {**stock.fields, **(stock.fields.get("model_args") or {})})
    with buildable(path):
        model = STOCK[stock.library].empty(source.folder, stock.fields)
    with architecture.naming(path):
        spec = spec_of(model)
    for space in spec.spaces:
        if min((space.group.n, *spec.batch(space))) < 1:
            raise CheckpointError(
                f"{path}: expected sizes and numbers of heads above 0, found none for {space.name}{_RIGHT}"
            )
    return family_of(model), model


_RIGHT = "; use the file that came with the weights"


def _require_buildable(path: Path, fields: Mapping[str, Any]) -> None:
    """Raise CheckpointError for numbers with which building the empty model alone would take all memory."""
    for name, most in MOST.items():
        value = fields.get(name)
        if isinstance(value, int | float) and not 0 <= value <= most:
            raise CheckpointError(f"{path}: {name}: expected at most {most:,}, found {str(value)[:20]}{_RIGHT}")


@contextmanager
def buildable(path: Path) -> Iterator[None]:
    """Turns whatever a stock class says of a wrong value into one line that names the file it stands in."""
    before = logging.root.manager.disable
    logging.disable()  # what they tell of a setting comes as it is, on many lines; what is wrong is said below
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except LmcError:
        raise
    except Exception as error:  # the libraries find a wrong value in many ways, all of them the file's fault
        if is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"{path}: no model can be built from it ({one_line(error)}); correct that, or restore the file"
        ) from error
    finally:
        logging.disable(before)


def cover(source: Source, family: Family, model: nn.Module, found: Mapping[str, Entry]) -> dict[str, Entry]:
    stock = STOCK[family.library]
    fused = {name: parts for name, parts in stock.fused(model).items() if name not in found}
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, parts in fused.items():
        shape = expected.pop(name)
        expected |= {piece: (where[1].stop - where[1].start, *shape[2:]) for piece, where in parts.items()}
    names = stock.names(model, found)
    others = [name for name, own in names.items() if own and own not in expected and own.startswith(family.unread)]
    if others:
        more = f" (and others, {len(others)} in all)" if len(others) > 1 else ""
        what = f"{others[0]}{more}: left out, as {type(model).__name__} has no such part"
        warnings.warn(f"{source.folder}: {what}", stacklevel=1)
    names |= dict.fromkeys(others)
    names |= {piece: piece for parts in fused.values() for piece in parts if piece in found}
    return headers.joined(headers.cover(found, names, expected, stock.twins(model), str(source.folder)), fused)
