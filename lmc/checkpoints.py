"""Stock checkpoints in and out: checked before a weight is read, written whole or not at all.

>>> model = lmc.load("EleutherAI/pythia-14m-seed1@step143000")      # or a folder; a stock model in evaluation mode
>>> lmc.save(model, "copy", tokenizer_from="EleutherAI/pythia-14m-seed1@step143000")

A checkpoint is a folder or a hub repository in the layout of its own library. It is refused with one line that names
the file and the tensor or field, what was expected and what was found. Code that comes with a checkpoint is never run,
and pickled weights are opened by `lmc.conversion` alone.
"""

import json
import os
import shutil
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lmc import checkpoints_olmo_layout, hub, preprocessing, stock_timm, stock_transformers, vocabulary, weights
from lmc.errors import CheckpointError, DataError, LmcError, UnsupportedModelError, one_line
from lmc.files import digest, read_json, sha256, whole_folder
from lmc.hub import Source
from lmc.stock_transformers import PREPROCESSOR
from lmc.stored import stored
from lmc.symmetries.families.common import Tokens
from lmc.symmetries.families.family import Family, family_of, find
from lmc.symmetries.families.family import spec as spec_of
from lmc.symmetries.stock_libraries import ensure_torchvision
from lmc.weights import Entry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DTYPES = {name: getattr(torch, name) for name in ("float64", "float32", "bfloat16", "float16")}
STOCK: dict[str, ModuleType] = {"transformers": stock_transformers, "timm": stock_timm}
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.json",
    "spiece.model",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "chat_template.jinja",
)
_VOCABULARY = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model")  # a tokenizer has one of these

# How a model was loaded, and what it was then: beside the models, never on them, and gone with them.
_references: weakref.WeakKeyDictionary[nn.Module, dict[str, Any]] = weakref.WeakKeyDictionary()
_fingerprints: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Blueprint:
    """A checkpoint that was checked but not read: its empty model (on the meta device) and the tensors in its files."""

    source: Source
    model: nn.Module
    family: Family
    tensors: Mapping[str, Entry]

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
    if isinstance(reads := family.inputs(model), Tokens):
        vocabulary.require_fit(source.folder, reads.vocabulary)
    else:
        try:
            preprocessing.of(model)
        except DataError as error:
            file = PREPROCESSOR if family.library == "transformers" else "config.json"
            raise CheckpointError(f"{source.folder / file}: {error}") from error
    files = weights.layout(source.folder)
    if not files:
        there = hub.names(source)
        if weights.SAFE not in there and (pickled := weights.pickled(there)):
            raise CheckpointError(
                f"{source.folder}: expected {weights.SAFE}, found pickled weights ({pickled[0]}); "
                f"make a safe copy with: lmc convert {name} NEW"
            )
        if weights.SAFE not in there:
            raise CheckpointError(f"{source.folder / weights.SAFE}: not found")
        files = (weights.SAFE,)
    here = all((source.folder / file).exists() for file in files) or source.repository is None
    found = weights.headers(source.folder, files) if here else hub.remote_headers(source, files)
    return Blueprint(source, model, family, match(source, family, model, found))


def load(name: str | Path, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> nn.Module:
    """A stock model in evaluation mode, from a folder or a hub repository (`name` or `name@revision`).

    >>> model = lmc.load("run-1")

    Without `dtype` weights are as stored, but at least float32: matching and merging want it. Everything is checked
    before a weight is read: the model's class, every setting, and each tensor's name and shape. Raises CheckpointError
    or UnsupportedModelError.
    """
    blueprint = inspect(name)
    source = blueprint.source
    files = sorted({e.file for e in blueprint.tensors.values()})
    hub.fetch(source, files)
    dtype = dtype or torch.promote_types(blueprint.dtype, torch.float32)
    model = STOCK[blueprint.family.library].read(source.folder, blueprint.model, dtype)
    for tensor_name, tensor in model.state_dict().items():
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        if bad:
            file = blueprint.tensors[tensor_name].file if tensor_name in blueprint.tensors else files[0]
            raise CheckpointError(
                f"{source.folder / file}: tensor {tensor_name}: expected finite values, "
                f"found {bad:,} of {tensor.numel():,} NaN or infinite as {str(dtype).removeprefix('torch.')}"
            )
    if device is not None:
        model.to(device)
    reference = refer(source, blueprint.tensors, dtype)
    _references[model], _fingerprints[model] = reference, _fingerprint(model)
    return model


def save(
    model: nn.Module,
    directory: str | Path,
    tokenizer_from: str | Path | None = None,
    card: str | None = None,
    dtype: torch.dtype | None = None,
    tensors: Iterable[tuple[str, Tensor]] | None = None,
) -> None:
    """Write a stock checkpoint into a new folder: configuration, safetensors, tokenizer and a short model card.

    >>> lmc.save(merged, "merged", tokenizer_from="run-1")

    The stock library alone reads it: `from_pretrained(directory)`, or `timm.create_model("local-dir:" + directory,
    pretrained=True)`. Weights are cast to `dtype`, if one is given; `card` is the model card's text. `tensors` are the
    weights one by one, by the names of the model's state dict, where they are not in the model (which may then lie on
    the meta device): each is written before the next is asked for, so that they need never be held together.

    Raises CheckpointError, also for weights that are not finite and where the stock library would rebuild another
    model than this one; then nothing is written.
    """
    family = family_of(model)
    own = model.state_dict()
    plan = {name: torch.empty_like(t, device="meta", dtype=dtype) for name, t in own.items()}
    with whole_folder(directory) as folder:
        STOCK[family.library].write(model, folder, plan, own.items() if tensors is None else tensors)
        _refuse_loss(family, model, folder)
        if tokenizer_from is not None:
            _copy_tokenizer(hub.locate(tokenizer_from).folder, folder)
        text = card or f"A checkpoint of the stock class `{type(model).__name__}`.\n"
        (folder / "README.md").write_text(f"---\nlibrary_name: {family.library}\n---\n\n{text}", encoding="utf8")


def refer(source: Source, tensors: Mapping[str, Entry], dtype: torch.dtype) -> dict[str, Any]:
    """How a checkpoint can be found again, see `reference`; it must be on disk."""
    found: dict[str, Any] = {
        "name": source.name,
        "dtype": str(dtype).removeprefix("torch."),
        "sha256": {file: sha256(source.folder / file) for file in sorted({e.file for e in tensors.values()})},
    }
    return found | ({"folder": str(source.folder)} if source.repository is None else {})


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


def tokenizer(name: str | Path) -> "PreTrainedTokenizerBase":
    """The stock tokenizer of a folder or hub repository. Raises CheckpointError where it has none, or a damaged one."""
    ensure_torchvision()
    from transformers import AutoTokenizer

    folder = hub.locate(name).folder
    if not any((folder / file).exists() for file in _VOCABULARY):
        raise _no_tokenizer(folder)
    vocabulary.read(folder)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # it finds a wrong value in many ways, all of them the files' fault
        raise CheckpointError(f"{folder}: no tokenizer can be built from it ({one_line(error)})") from error


def resolve(reference: object, beside: Path) -> nn.Module:
    """The model that a reference describes, as `Alignment.save` writes it into the folder `beside`.

    `{"inside": name}` is a folder in `beside`, in the type it was saved in; any other folder counts from `beside`.
    Raises CheckpointError where it is no reference, the model is gone, or its weights are not those of the reference.
    """
    match reference:
        case {"inside": str(inside)}:
            return load(beside / inside, dtype=inspect(beside / inside).dtype)
        case {"name": str(name), "dtype": str(dtype), "sha256": dict(digests)} if dtype in DTYPES:
            where = name
            if isinstance(reference, dict) and "folder" in reference:
                where = os.path.normpath(beside.resolve() / str(reference["folder"]))
        case _:
            raise CheckpointError(
                f"{beside}: expected a parent's name, dtype and sha256, found {' '.join(str(reference).split())[:80]}"
            )
    try:
        model = load(where, dtype=DTYPES[dtype])
    except LmcError as error:
        counted = isinstance(reference, dict) and "folder" in reference
        where = " (a place that counts from the alignment's folder)" if counted else ""
        raise CheckpointError(f"{beside}: its parent {name} cannot be loaded again: {error}{where}") from error
    for file, found in _references[model]["sha256"].items():
        if digests.get(file) != found:
            expected = str(digests.get(file))[:12]
            raise CheckpointError(f"{where}/{file}: expected sha256 {expected}…, found {found[:12]}…")
    return model


def _fingerprint(model: nn.Module) -> str:
    """Everything the function of a model depends on."""
    return f"{digest(model.state_dict())} {family_of(model).settings(model)}"


def empty(source: Source) -> tuple[Family, nn.Module]:
    """The family of a checkpoint and its stock model on the meta device, both from config.json alone."""
    path = source.folder / "config.json"
    config = read_json(path)
    library = "timm" if "architecture" in config else "transformers"
    if library == "transformers":  # a class we do not know is not even built
        architectures = config.get("architectures")
        if not isinstance(architectures, list) or len(architectures) != 1:
            hint = "" if config else f"; a DeiT state dict is made a stock copy with: lmc convert {source.name} NEW"
            raise CheckpointError(
                f"{path}: architectures: expected the name of one model class, found {architectures}{hint}"
            )
        if architectures[0] == checkpoints_olmo_layout.ARCHITECTURE:
            raise UnsupportedModelError(
                f"{path}: architectures: expected a stock class, found {architectures[0]}, whose code comes with the "
                f"checkpoint and is never run; make a stock copy with: lmc convert {source.name} NEW"
            )
        find(architectures[0], library)
    with buildable(path):
        model = STOCK[library].empty(source.folder, config)
    spec_of(model)
    return family_of(model), model


@contextmanager
def buildable(path: Path) -> Iterator[None]:
    """Turns whatever a stock class says of a wrong value into one line that names the file it stands in."""
    try:
        yield
    except LmcError:
        raise
    except Exception as error:  # the libraries find a wrong value in many ways, all of them the file's fault
        raise CheckpointError(f"{path}: no model can be built from it ({one_line(error)})") from error


def _refuse_loss(family: Family, model: nn.Module, folder: Path) -> None:
    """What the stock library would read from the folder must compute the same function: versions have lost settings."""
    _, again = empty(Source(folder.name, folder))
    expected, found = family.settings(model), family.settings(again)
    for name in expected:
        if expected[name] != found[name]:
            raise CheckpointError(
                f"{name}: expected {expected[name]}, but {family.library} would read {found[name]}; not saved"
            )


def match(source: Source, family: Family, model: nn.Module, found: Mapping[str, Entry]) -> dict[str, Entry]:
    stock = STOCK[family.library]
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    names = {
        name: None if own is None or own.startswith(family.unread) else own
        for name, own in stock.names(model, found).items()
    }
    return weights.match(found, names, expected, stock.twins(model), str(source.folder))


def require_tied(blueprint: Blueprint) -> None:
    """Refuse files that hold two different tensors where the configuration says that they are one; reads these two."""
    tensors, places = stored(blueprint), blueprint.tensors
    for one, other in STOCK[blueprint.family.library].twins(blueprint.model).items():
        if places[one].name < places[other].name and not torch.equal(tensors[one], tensors[other]):
            raise CheckpointError(
                f"{blueprint.source.folder}: tie_word_embeddings is set, expected {one} to be {other}, found another"
            )


def _no_tokenizer(folder: Path) -> CheckpointError:
    return CheckpointError(f"{folder}: expected a tokenizer ({_TOKENIZER[0]}), found none")


def tokenizer_files(folder: Path) -> list[str]:
    return [name for name in _TOKENIZER if (folder / name).exists()]


def _copy_tokenizer(source: Path, folder: Path) -> None:
    there = tokenizer_files(source)
    if not there:
        raise _no_tokenizer(source)
    for name in there:
        shutil.copyfile(source / name, folder / name)
    settings = folder / "tokenizer_config.json"
    if settings.exists() and "auto_map" in (plain := read_json(settings)):  # a class whose code stays behind
        del plain["auto_map"]
        settings.write_text(json.dumps(plain | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n")
