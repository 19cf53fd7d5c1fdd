"""Which checkpoint a model came from, and whether it still is what was read.

>>> reference(lmc.load("run-1"))["sha256"]
{'model.safetensors': '...'}
"""

import hashlib
import json
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lmc.checkpoints import belongings, preprocessing
from lmc.checkpoints.beside import sha256_all
from lmc.checkpoints.blueprint import Blueprint, inspect
from lmc.checkpoints.lazy import sha256_and_finite
from lmc.errors import CheckpointError
from lmc.files import sha256, tensor_digest
from lmc.symmetries.families import class_names, family_of, timm_record

CONFIGURATION = "configuration"  # beside the kinds of `belongings`: the whole config.json

# How each model was loaded, and a fingerprint of what it was then. Nothing is written onto the models themselves, and
# an entry goes when its model does.
_references: weakref.WeakKeyDictionary[nn.Module, dict[str, Any]] = weakref.WeakKeyDictionary()
_fingerprints: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
_mapped: weakref.WeakKeyDictionary[nn.Module, dict[Path, tuple[int, ...]]] = weakref.WeakKeyDictionary()


_hashed: dict[Path, tuple[int, ...]] = {}  # what the system said of a weights file before it was hashed


def digests(blueprints: Iterable[Blueprint]) -> dict[Path, str]:
    """The SHA-256 of every weights file of checkpoints that are on disk."""
    files = [blueprint.source.folder / file for blueprint in blueprints for file in blueprint.files]
    _hashed.update((file, _state(file)) for file in files)
    return sha256_all(files)


def digests_and_finite(blueprints: Iterable[Blueprint]) -> tuple[dict[Path, str], bool]:
    """The same, and whether every weight is finite as stored: each file is read once for both.

    >>> digests_and_finite([lmc.checkpoints.inspect("run-1")])[1]
    True
    """
    wanted: dict[Path, set[str]] = {}
    for blueprint in blueprints:
        for entry in blueprint.tensors.values():
            for part in [piece for piece, _ in entry.parts] or [entry]:
                wanted.setdefault(blueprint.source.folder / part.file, set()).add(part.name)
    _hashed.update((file, _state(file)) for file in wanted)
    finite: list[bool] = []

    def read(file: Path, advance: Callable[[int], None]) -> str:
        digest, fine = sha256_and_finite(file, wanted[file], advance)
        finite.append(fine)
        return digest

    return sha256_all(wanted, read), all(finite)


def require_still(blueprints: Iterable[Blueprint]) -> None:
    """Raise CheckpointError where a weights file was changed or replaced since it was hashed: what was read is unknown.

    >>> require_still([lmc.checkpoints.inspect("run-1")])
    """
    for file in [blueprint.source.folder / file for blueprint in blueprints for file in blueprint.files]:
        if file in _hashed and _hashed[file] != _state(file):
            what = "expected it to stay as it was while it was read, found it changed"
            raise CheckpointError(f"{file}: {what}; begin again")


def require_unwritten(models: Iterable[nn.Module]) -> None:
    """Raise CheckpointError where a file was written into after a model was loaded that maps it: the model changed.

    >>> require_unwritten([lmc.load("run-1")])

    One that was replaced by another of its name, as `save_pretrained` does, is still there for those that map it.
    """
    for model in models:
        for file, before in _mapped.get(model, {}).items():
            now = _state(file)
            if before == now or before[:2] != now[:2] or sha256(file) == _references[model]["sha256"][file.name]:
                continue
            if _fingerprints[model] != _fingerprint(model):
                what = "expected it as it was when a model was loaded from it, found it overwritten in place"
                raise CheckpointError(f"{file}: {what}, and the model with it; load it again, and begin again")


def _state(file: Path) -> tuple[int, ...]:
    """What tells one state of a file from another without reading it; nothing where there is none."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def refer(blueprint: Blueprint, dtype: torch.dtype, sums: Mapping[Path, str] | None = None) -> dict[str, Any]:
    """How a checkpoint can be found again, and everything that must not have changed by then; it must be on disk.

    `sha256`: of each weights file. `settings`: of what else the function depends on, how pictures become input
    included. `belongings`: of each kind that stands beside the weights, and of the whole configuration. `rounded_from`:
    the type the weights are stored in, where `dtype` does not hold them without loss. `sums`: `digests`, if known.
    """
    source = blueprint.source
    sums = digests([blueprint]) if sums is None else sums
    settings = blueprint.family.settings(blueprint.model) | {"pictures": preprocessing.of(blueprint.model)}
    found: dict[str, Any] = {
        "name": source.name,
        "dtype": str(dtype).removeprefix("torch."),
        "sha256": {file: sums[source.folder / file] for file in blueprint.files},
        "settings": _sha256(settings),
        "belongings": belongings.of(source.folder) | {CONFIGURATION: sha256(source.folder / "config.json")},
    }
    if torch.promote_types(dtype, blueprint.dtype) != dtype:
        found["rounded_from"] = str(blueprint.dtype).removeprefix("torch.")
    return found | ({"folder": str(source.folder)} if source.repository is None else {})


def refer_inside(folder: Path, inside: str) -> dict[str, Any]:
    """The reference of a checkpoint that lies in an alignment's folder, under the name `inside`."""
    blueprint = inspect(folder / inside)
    found = refer(blueprint, blueprint.dtype)
    return {key: value for key, value in found.items() if key not in ("name", "folder")} | {"inside": inside}


def require_unchanged(
    expected: Mapping[str, Any], blueprint: Blueprint, dtype: torch.dtype, sums: Mapping[Path, str]
) -> dict[str, Any]:
    """The reference to a checkpoint as it is now. Raises CheckpointError, naming what differs, if it is another one."""
    found, folder = refer(blueprint, dtype, sums), blueprint.source.folder
    for file, digest_ in found["sha256"].items():
        before = str(expected["sha256"].get(file, ""))
        if before != digest_:
            was = f"sha256 {before[:12]}…" if before else "no such file"
            raise CheckpointError(
                f"{folder / file}: expected {was}, found sha256 {digest_[:12]}…: the weights have changed "
                "since the models were matched; restore them, or match again"
            )
    if expected.get("settings") != found["settings"]:
        raise CheckpointError(
            f"{folder}: expected the settings that the models were matched with, found others in config.json (or in "
            "how pictures become input); restore them, or match again"
        )
    _compare(expected.get("belongings"), found["belongings"], folder)
    return found


def _compare(before: Any, now: Mapping[str, str], folder: Path) -> None:
    """Refuse another tokenizer, with which the model reads and writes other text; say what else is another one.

    Chat templates, stop tokens and what is no part of the function may be changed on purpose: what was measured stays
    true, and who merges gets them as they are now.
    """
    if not isinstance(before, dict) or before.get(belongings.TOKENIZER) != now.get(belongings.TOKENIZER):
        raise CheckpointError(
            f"{folder}: expected the tokenizer that the models were matched with, found another in its files; "
            "restore them, or match again"
        )
    if changed := sorted(kind for kind in before.keys() | now.keys() if before.get(kind) != now.get(kind)):
        what = f"{', '.join(changed)}: not as when the models were matched; what is merged takes them as they are now"
        warnings.warn(f"{folder}: {what}", stacklevel=1)


def _sha256(value: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def reference(model: nn.Module) -> dict[str, Any] | None:
    """How a model that `load` made can be found again: its name, its folder, the sha256 of each weights file.

    A hub model's name is `repository@commit`. None for a model made in any other way, and for one that has changed in
    memory since: its weights, their type, a setting, or what else it carries.
    """
    known = _references.get(model)
    return known if known is not None and _fingerprints[model] == _fingerprint(model) else None


def origin(model: nn.Module) -> str | None:
    """The folder or hub name that `load` read a model from, which may have changed since; None if it was not loaded."""
    known = _references.get(model)
    return None if known is None else known.get("folder", known["name"])


def source(model: nn.Module) -> str | None:
    """The folder or hub name that holds what belongs to a model that `load` made; None where there is none any more."""
    where = origin(model)
    return None if where is None or (Path(where).is_absolute() and not Path(where).exists()) else where


def remember(model: nn.Module, reference: dict[str, Any]) -> None:
    """Keep where a model was read from, and what it was then."""
    _references[model], _fingerprints[model] = reference, _fingerprint(model)
    files = [Path(reference["folder"]) / name for name in reference["sha256"]] if "folder" in reference else []
    _mapped[model] = {file: _hashed[file] for file in files if file in _hashed}


def _fingerprint(model: nn.Module) -> str:
    """Everything that is written of a model."""
    return f"{tensor_digest(model.state_dict())} {family_of(model).settings(model)} {carried(model)}"


def carried(model: nn.Module) -> str:
    """What a model carries beside its weights and settings: how its pictures are made, names of classes, generation.

    >>> carried(model) == carried(lmc.canonicalize(model))
    True
    """
    config, generation = getattr(model, "config", None), getattr(model, "generation_config", None)
    ends = {name: getattr(config, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    pictures = [timm_record(model), getattr(model, "preprocessor_config", None)]
    kept = [ends, class_names(model), None if generation is None else generation.to_dict(), *pictures]
    return json.dumps(kept, sort_keys=True, default=str)
