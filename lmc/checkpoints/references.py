"""Which checkpoint a model came from, and whether it still is what was read.

>>> reference(lmc.load("run-1"))["sha256"]
{'model.safetensors': '...'}
"""

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lmc.checkpoints import hub
from lmc.checkpoints.headers import Entry
from lmc.checkpoints.hub import Source
from lmc.checkpoints.tokenizers import tokenizer_files
from lmc.files import digest, sha256
from lmc.symmetries.families import family_of

# How each model was loaded, and a fingerprint of what it was then. Nothing is written onto the models themselves, and
# an entry goes when its model does.
_references: weakref.WeakKeyDictionary[nn.Module, dict[str, Any]] = weakref.WeakKeyDictionary()
_fingerprints: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


def refer(source: Source, tensors: Mapping[str, Entry], dtype: torch.dtype) -> dict[str, Any]:
    """How a checkpoint can be found again, see `reference`; it must be on disk."""
    found: dict[str, Any] = {
        "name": source.name,
        "dtype": str(dtype).removeprefix("torch."),
        "sha256": {file: sha256(source.folder / file) for file in sorted({e.file for e in tensors.values()})},
    }
    return found | ({"folder": str(source.folder)} if source.repository is None else {})


def remember(model: nn.Module, reference: dict[str, Any]) -> None:
    """Note where a model was just loaded from, and what it is now."""
    _references[model], _fingerprints[model] = reference, _fingerprint(model)


def recorded(model: nn.Module) -> dict[str, Any]:
    """What was noted of a model that `load` made, whatever has become of it since."""
    return _references[model]


def reference(model: nn.Module) -> dict[str, Any] | None:
    """How a model that `load` made can be found again: its name, its folder, the sha256 of each weights file.

    A hub model's name is `repository@commit`. None for a model made in any other way, and for one that has changed in
    memory since: its weights, their type, or a setting.
    """
    known = _references.get(model)
    return known if known is not None and _fingerprints[model] == _fingerprint(model) else None


def origin(model: nn.Module) -> str | None:
    """The folder or hub name that `load` read a model from, whatever has become of the two since; None without one."""
    known = _references.get(model)
    return None if known is None else known.get("folder", known["name"])


def source(model: nn.Module) -> str | None:
    """The folder or hub name whose tokenizer belongs to a model that `load` made; None where there is none."""
    where = origin(model)
    if where is None or (Path(where).is_absolute() and not Path(where).exists()):
        return None
    return where if tokenizer_files(hub.locate(where).folder) else None


def _fingerprint(model: nn.Module) -> str:
    """Everything the function of a model depends on."""
    return f"{digest(model.state_dict())} {family_of(model).settings(model)}"
