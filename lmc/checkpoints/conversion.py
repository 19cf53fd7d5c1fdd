"""Checkpoints in another layout, made stock: the only place that opens pickled weights.

>>> convert("old", "new")

Unpickling is restricted to tensors (`weights_only`); no other code is run, and nothing grows beyond the file. Converted
are: pickled weights of a stock class, shards without their index, weights whose names training code has wrapped, OLMo
checkpoints in their original layout (`olmo_layout`), pickled or not, DeiT's bare state dicts (`deit_layout`), and
adapters with their base (`adapters`).
"""

import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lmc.checkpoints import (
    adapters,
    architecture,
    belongings,
    blueprint,
    deit_layout,
    foreign,
    headers,
    hub,
    licence,
    olmo_layout,
    transformers_layout,
)
from lmc.checkpoints.blueprint import Blueprint
from lmc.checkpoints.checkpoint import save
from lmc.checkpoints.headers import Entry
from lmc.checkpoints.hub import Source
from lmc.errors import CheckpointError, LmcError, inert, is_out_of_memory
from lmc.files import read_json, refuse_occupied, refuse_pointer, safetensors_of, scratch_folder
from lmc.symmetries import timm_model
from lmc.symmetries.families import family_of

_SAVE = "save it again with torch.save(model.state_dict(), …)"


def convert(source: str | Path, directory: str | Path) -> None:
    """A copy of a checkpoint in the stock layout, with safetensors of the stored type.

    Raises CheckpointError, or UnsupportedModelError naming the class or the field that no stock class has.
    """
    refuse_occupied(directory)
    found = hub.locate(source)
    if foreign.is_adapter(found):
        return _join(found, source, directory)
    path = foreign.settings(found)
    config = read_json(path)
    original = config.get("architectures") == [architecture.OLMO]
    model: Any = None
    if original:
        stock, fields = olmo_layout.stock_config(config, path)
        with blueprint.buildable(path):
            model = transformers_layout.build(stock, fields)
        if belongings.GENERATION in belongings.of(found.folder):
            model.generation_config = transformers_layout.generation(found.folder)
    elif config:
        _, model = blueprint.empty(found)
    tensors: dict[str, Tensor] = {}
    files: dict[str, str] = {}
    for file in _files(found, source):
        for wrapped, tensor in _read(found.folder / file):
            name = headers.unwrapped(wrapped)
            if name in tensors:
                raise CheckpointError(
                    f"{found.folder}: tensor {name} is in both {files[name]} and {file}; keep one of the two"
                )
            tensors[name], files[name] = tensor, file
    where = next(iter(files.values()), "")
    if original:
        tensors = dict(olmo_layout.stock_tensors(tensors, model.config))
    elif not config:
        name, arguments = deit_layout.stock_arguments(tensors, found.folder / where)
        with blueprint.buildable(found.folder / where):
            model = timm_model(name, **arguments)
        tensors = dict(deit_layout.stock_tensors(tensors))
    family = family_of(model)
    blueprint.require_inputs(found, family, model)
    entries = {name: Entry(files.get(name, where), tuple(t.shape), t.dtype) for name, t in tensors.items()}
    stored = Blueprint(found, model, family, blueprint.cover(found, family, model, entries))
    loaded = blueprint.STOCK[family.library].read(found.folder, model, stored.dtype, tensors)
    foreign.warn_of_rest(found.folder)
    others = (name for name in foreign.pickled(hub.names(found)) if not name.startswith("pytorch_model"))
    if rest := sorted(set(others) - set(files.values())):
        warnings.warn(f"{found.folder}: {', '.join(rest)[:80]} is no part of the model and stays behind", stacklevel=1)
    if left := licence.left_behind(found):
        what = f"{', '.join(map(inert, left))} {'stays' if len(left) == 1 else 'stay'} behind"
        warnings.warn(f"{found.folder / 'README.md'}: {what}; copy what still holds", stacklevel=1)
    kinds = {kind: found.folder for kind in (*belongings.of(found.folder), belongings.LICENCE)}
    metadata = licence.of_a_copy(licence.of(found))
    text = f"{inert(found.name)} in the layout and the file format of the stock library.\n" if metadata else None
    save(loaded, directory, kinds, text, metadata=metadata)


def _join(found: Source, given: str | Path, directory: str | Path) -> None:
    """An adapter and its base as one model; its tensors may be pickled."""
    there = hub.names(found)
    if adapters.WEIGHTS in there or adapters.PICKLED not in there:
        return adapters.write(adapters.inspect(given), directory)
    hub.fetch(found, (adapters.PICKLED,))
    with scratch_folder("lmc-") as aside:
        tensors = _unpickle(found.folder / adapters.PICKLED)
        save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, aside / adapters.WEIGHTS)
        adapters.write(adapters.inspect(given, aside / adapters.WEIGHTS), directory)


def _files(source: Source, given: str | Path) -> tuple[str, ...]:
    """The weights files, here now. Raises CheckpointError where there are none, and where nothing is to be done."""
    there = hub.names(source)
    files = _single(headers.SAFE, source, there)
    if files and _is_stock(given):
        raise CheckpointError(
            f"{source.folder}: nothing to convert: it is a stock checkpoint already ({files[0]}); use it as it is"
        )
    files = files or _single(headers.PICKLED, source, there) or foreign.shards(there)  # as the stock library reads them
    if not files and len(pickled := foreign.pickled(there)) == 1:
        files = pickled
    if not files:
        raise foreign.no_weights(source.folder, there, given)
    hub.fetch(source, files)
    for file in files:
        if not (source.folder / file).exists():
            raise CheckpointError(f"{source.folder / file}: {headers.ABSENT}")
    return tuple(files)


def _single(name: str, source: Source, there: Sequence[str]) -> Sequence[str]:
    """The file of that name, or those that its index names."""
    return foreign.single_or_shards(source, name) or ((name,) if name in there else ())


def _is_stock(given: str | Path) -> bool:
    """Whether a checkpoint needs no converting."""
    try:
        blueprint.inspect(given)
    except LmcError:
        return False
    return True


def _read(path: Path) -> Iterator[tuple[str, Tensor]]:
    return safetensors_of(path) if path.suffix == ".safetensors" else iter(_unpickle(path).items())


def _unpickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickled state dict, also where it is one entry of a larger record."""
    try:
        _require_stored(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found; download it again") from None
    except CheckpointError:
        raise
    except Exception as error:  # damage shows in many ways; what the library advises may run code, and is not passed on
        if isinstance(error, OSError):
            raise
        refuse_pointer(path)
        asked = re.search(r"(?:GLOBAL|function|class) ([\w.]+)", str(error))
        found = f"code ({asked[1]}), which is never run" if asked else "something else: it is damaged, or no such file"
        found = "more than memory holds" if is_out_of_memory(error) else found
        raise CheckpointError(
            f"{path}: expected pickled tensors alone, found {found}; download it again, or ask for safetensors"
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            _require_one(path, content, key)
            content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(t, Tensor) for name, t in content.items()
    ):
        raise CheckpointError(f"{path}: expected a state dict of tensors, found {type(content).__name__}; {_SAVE}")
    for name, tensor in content.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            kind = "quantised" if tensor.is_quantized else "hollow" if tensor.is_meta else "sparse"
            raise CheckpointError(f"{path}: tensor {name}: expected plain numbers, found a {kind} tensor; {_SAVE}")
        if tensor.nbytes > min(tensor.untyped_storage().nbytes(), path.stat().st_size):
            raise CheckpointError(
                f"{path}: tensor {name}: expected {tensor.nbytes:,} bytes of it in the file, found fewer; {_SAVE}"
            )
    return content


def _require_one(path: Path, record: dict[str, Any], chosen: str) -> None:
    """Raise CheckpointError for a record with two sets of weights, as with an average of them (EMA) beside."""
    names = _names(record[chosen])
    found = []
    for key, value in record.items():
        own = set() if str(key).startswith("optim") else _names(value)  # whose moments may be called as the weights are
        if own and (str(key).startswith(("state_dict", "model")) or own & names):
            found.append(str(key)[:40])
    if len(found) > 1:
        raise CheckpointError(
            f"{path}: expected one set of weights, found {' and '.join(found)}; save the one that you mean in a file"
        )


def _names(record: Any) -> set[str]:
    """What the tensors of a record are called, at whatever depth, without what training code puts around them."""
    found: set[str] = set()
    waiting = [record]
    while waiting:  # not by recursion: a file may be deep
        if isinstance(each := waiting.pop(), dict):
            found |= {headers.unwrapped(str(name)) for name, value in each.items() if isinstance(value, Tensor)}
            waiting += each.values()
    return found


def _require_stored(path: Path) -> None:
    """Raise CheckpointError for an archive that is larger inside than outside; torch compresses none."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            return
        with zipfile.ZipFile(file) as archive:
            inside, size = sum(entry.file_size for entry in archive.infolist()), path.stat().st_size
    if inside > size:
        raise CheckpointError(
            f"{path}: expected at most its own {size:,} bytes inside, found {inside:,}: compressed, as no weights "
            "are; download it again"
        )
