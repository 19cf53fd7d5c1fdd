"""Stock checkpoints in and out: checked before a weight is read, written whole or not at all.

>>> model = lmc.load("run-1")                     # or of the hub: "EleutherAI/pythia-14m-seed1@step143000"
>>> lmc.save(model, "copy", tokenizer_from="run-1")

A checkpoint is a folder or a hub repository in the layout of its own library. It is refused with one line that names
the file and the tensor or field, what was expected and what was found. Code that comes with a checkpoint is never run,
and pickled weights are opened by `lmc.checkpoints.conversion` alone.
"""

import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmc.checkpoints import belongings, hub, transformers_layout
from lmc.checkpoints.beside import sha256_all
from lmc.checkpoints.blueprint import STOCK, Blueprint, buildable, empty, inspect
from lmc.checkpoints.headers import TYPES
from lmc.checkpoints.hub import Source
from lmc.checkpoints.lazy import stored
from lmc.checkpoints.references import digests, refer, remember, require_still, require_unchanged
from lmc.errors import ArgumentError, CheckpointError, LmcError
from lmc.files import read_json, require_digests, require_finite, whole_folder
from lmc.symmetries import differences, warn_of_hooks
from lmc.symmetries.families import Family, contexts, family_of

WRITTEN = "lmc.json"  # beside a checkpoint that `save` wrote: the SHA-256 of its files
DTYPES = {name: getattr(torch, name) for name in TYPES.values()}


def load(
    name: str | Path | Blueprint, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> nn.Module:
    """A stock model in evaluation mode, from a folder or a hub repository (`name` or `name@revision`).

    >>> model = lmc.load("run-1")

    A `Blueprint` is a checkpoint that was inspected already; it is not inspected again.

    Without `dtype` weights are as stored, but at least float32: matching and merging want it. Everything is checked
    before a weight is read: the model's class, every setting, and each tensor's name and shape. Raises CheckpointError,
    UnsupportedModelError or ArgumentError.
    """
    if isinstance(device, torch.dtype):  # torch would take it, and round more than the weights
        raise ArgumentError(f"device: expected a device such as 'cpu', found {device}; name it dtype={device}")
    if dtype is not None and dtype not in DTYPES.values():
        raise ArgumentError(f"dtype: expected torch.{', torch.'.join(DTYPES)}, found {dtype!r}")
    _require_device(device)
    blueprint = name if isinstance(name, Blueprint) else inspect(name)
    hub.fetch(blueprint.source, blueprint.files)
    dtype = dtype or torch.promote_types(blueprint.dtype, torch.float32)
    model = _read(blueprint, dtype, refer(blueprint, dtype))
    return model if device is None else model.to(device)


def _require_device(device: object) -> None:
    try:
        torch.device(device)  # type: ignore[call-overload]
    except (RuntimeError, TypeError):
        if device is not None:
            raise ArgumentError(f"device: expected a device such as 'cpu', found {str(device)[:40]!r}") from None


def _read(blueprint: Blueprint, dtype: torch.dtype, reference: dict[str, Any]) -> nn.Module:
    """The model of a checkpoint that is on disk. Raises CheckpointError for weights that are not finite."""
    source = blueprint.source
    with buildable(source.folder / "config.json"):
        model = STOCK[blueprint.family.library].read(source.folder, blueprint.model, dtype)
    for tensor_name, tensor in model.state_dict().items():
        file = blueprint.tensors[tensor_name].file if tensor_name in blueprint.tensors else blueprint.files[0]
        require_finite(f"{source.folder / file}: tensor {tensor_name}", tensor)
    require_still([blueprint])
    remember(model, reference)
    return model


def save(
    model: nn.Module,
    directory: str | Path,
    tokenizer_from: str | Path | Mapping[str, Path] | None = None,
    card: str | None = None,
    dtype: torch.dtype | None = None,
    tensors: Iterable[tuple[str, Tensor]] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a stock checkpoint into a new folder: configuration, safetensors, tokenizer and a short model card.

    >>> lmc.save(merged, "half-way", tokenizer_from="run-1")

    The stock library alone reads it: `from_pretrained(directory)`, or `timm.create_model("local-dir:" + directory,
    pretrained=True)`. Weights are cast to `dtype`, if one is given; `card` is the model card's text, `metadata` what
    stands at its head. `tokenizer_from` holds what belongs to the model beside its weights (see `belongings`), or says
    for each kind which folder does. `tensors` are the weights one by one, by the names of the model's state dict, where
    they are not in the model (which may then lie on the meta device): each is written before the next is asked for, so
    that they need never be held together. `lmc.json` holds the SHA-256 of every file but the card, for `lmc verify`.

    Raises CheckpointError, also for weights that are not finite and where the stock library would rebuild another
    model than this one; then nothing is written.
    """
    from huggingface_hub import ModelCardData

    family = family_of(model)
    warn_of_hooks(model)
    own = model.state_dict()
    plan = {name: torch.empty(t.shape, dtype=dtype or t.dtype, device="meta") for name, t in own.items()}
    with whole_folder(directory) as folder:
        STOCK[family.library].write(model, folder, plan, own.items() if tensors is None else tensors)
        _refuse_loss(family, model, folder)
        if isinstance(tokenizer_from, str | Path):
            place = hub.locate(tokenizer_from).folder
            belongings.require_tokenizer(place)
            tokenizer_from = {kind: place for kind in belongings.of(place)}
        belongings.copy(tokenizer_from or {}, folder, next(iter(contexts([model])), None))
        record(folder)
        head = ModelCardData(library_name=family.library, **(metadata or {})).to_yaml()
        text = card or f"A checkpoint of the stock class `{type(model).__name__}`.\n"
        (folder / "README.md").write_bytes(f"---\n{head}\n---\n\n{text}".encode(errors="backslashreplace"))


def record(folder: Path) -> None:
    """Write down the SHA-256 of every file of a checkpoint but its card, for `lmc verify`."""
    found = sha256_all(folder / name for name in _contents(folder))
    sums = {file.relative_to(folder).as_posix(): digest for file, digest in sorted(found.items())}
    (folder / WRITTEN).write_text(json.dumps({"files": sums}, indent=1) + "\n")


def _contents(folder: Path) -> list[str]:
    """Every file of a checkpoint but its card, the record itself and what is hidden, as git keeps its own."""
    paths = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()]
    shown = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    return [path.as_posix() for path in shown if path.name not in (WRITTEN, "README.md")]


def require_written(folder: Path) -> int:
    """How many files `save` wrote into a folder, beside the card, which anyone may edit.

    >>> lmc.save(merged, "written")
    >>> require_written(Path("written"))
    3

    Raises CheckpointError where nothing says what was written, where a file has changed, and where one was added.
    """
    if not (folder / WRITTEN).exists():
        raise CheckpointError(
            f"{folder / WRITTEN}: not found, so nothing proves what this folder holds; lmc writes it beside every model"
        )
    sums = read_json(folder / WRITTEN).get("files")
    if not isinstance(sums, dict) or not sums:
        raise CheckpointError(
            f"{folder / WRITTEN}: files: expected the SHA-256 of each file, found {sums!r}; write the model again"
        )
    if added := [name for name in _contents(folder) if name not in sums]:
        raise CheckpointError(f"{folder / added[0]}: expected only what was written, found this file too; remove it")
    require_digests(folder, sums, "write it again")
    return len(sums)


def reload(blueprint: Blueprint) -> nn.Module:
    """The model as its stock library alone reads it. Raises CheckpointError.

    >>> type(reload(lmc.checkpoints.inspect("run-1"))).__name__
    'GPTNeoXForCausalLM'
    """
    folder = blueprint.source.folder
    with buildable(folder):
        return STOCK[blueprint.family.library].alone(folder, blueprint.model)  # type: ignore[no-any-return]


def resolve(reference: Mapping[str, Any], beside: Path) -> nn.Module:
    """The model that a reference describes, as `Alignment.save` writes it into the folder `beside`.

    `inside` names a folder in `beside`, loaded in the type it was saved in; the path of any other folder is relative to
    `beside`. Raises CheckpointError where it is no reference, the model is gone, or its weights, settings or tokenizer
    are not those of the reference.
    """
    ((blueprint, dtype, found),) = find_all([reference], beside)
    with _named(reference, beside):
        return _read(blueprint, dtype, found)


def find_all(
    references: Sequence[Mapping[str, Any]], beside: Path
) -> list[tuple[Blueprint, torch.dtype, dict[str, Any]]]:
    """Like `resolve`, before weights are read: each checkpoint, the type it was matched in, and its reference."""
    blueprints = []
    for reference in references:
        with _named(reference, beside):
            blueprints.append(inspect(_place(reference, beside)[0]))
            hub.fetch(blueprints[-1].source, blueprints[-1].files)
    sums = digests(blueprints)
    return [_unchanged(r, blueprint, beside, sums) for r, blueprint in zip(references, blueprints, strict=True)]


def _unchanged(
    reference: Mapping[str, Any], blueprint: Blueprint, beside: Path, sums: Mapping[Path, str]
) -> tuple[Blueprint, torch.dtype, dict[str, Any]]:
    """What `find_all` returns of one parent. Raises CheckpointError where it is another one."""
    dtype = DTYPES[reference["dtype"]]
    with _named(reference, beside):
        found = require_unchanged(reference, blueprint, dtype, sums)
    if "rounded_from" in found:
        what = f"matched in {reference['dtype']}, below {found['rounded_from']}, in which its weights are stored"
        name = _place(reference, beside)[1]
        warnings.warn(f"{name}: {what}: what counts as this parent is the rounded one", stacklevel=1)
    return blueprint, dtype, found


@contextmanager
def _named(reference: Mapping[str, Any], beside: Path) -> Iterator[None]:
    """Says which parent an error is about."""
    place, name = _place(reference, beside)
    try:
        yield
    except LmcError as error:
        moved = "; put it back, or write into alignment.json where it is, seen from there"
        hint = moved if "folder" in reference and not os.path.isdir(place) else ""
        raise CheckpointError(f"{beside}: its parent {name} cannot be loaded again: {error}{hint}") from error


def _place(reference: Mapping[str, Any], beside: Path) -> tuple[str | Path, str]:
    """Where the checkpoint of a reference is, and what it is called. Raises CheckpointError for no reference."""
    match reference:
        case {"dtype": str(dtype), "sha256": dict()} if dtype in DTYPES:
            match {key: reference[key] for key in ("inside", "folder", "name") if key in reference}:
                case {"inside": str(inside), **rest} if not rest and re.fullmatch(r"parent-\d+", inside):
                    if not (beside / inside).is_symlink():
                        return beside / inside, inside
                case {"name": str(name), "folder": str(folder), **rest} if not rest:
                    return os.path.normpath(beside.resolve() / folder), name
                case {"name": str(name), **rest} if not rest:
                    return name, name
    raise CheckpointError(
        f"{beside}: expected a parent's name, dtype and sha256, found "
        f"{' '.join(str(reference).split())[:80]}; match the models again"
    )


def _refuse_loss(family: Family, model: nn.Module, folder: Path) -> None:
    """Refuse where the stock library would read another function back: some versions do not save every setting."""
    _, again = empty(Source(folder.name, folder))
    expected, found = family.settings(model), family.settings(again)
    for name in expected:
        if expected[name] != found[name]:
            raise CheckpointError(
                f"{name}: expected {expected[name]}, but {family.library} would read {found[name]}; not saved"
            )
    for where, here, there in differences(model, again):
        raise CheckpointError(
            f"{where}: expected {here}, but {family.library} would rebuild it with {there}; not saved"
        )


def require_tied(blueprint: Blueprint) -> None:
    """Refuse files that hold two different tensors where the configuration says that they are one; reads these two."""
    tensors, places = stored(blueprint), blueprint.tensors
    for one, other in STOCK[blueprint.family.library].twins(blueprint.model).items():
        if places[one].name < places[other].name and not torch.equal(tensors[one], tensors[other]):
            raise transformers_layout.untied(blueprint.source.folder, one, other)
