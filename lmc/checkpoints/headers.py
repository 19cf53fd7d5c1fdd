"""The weights files of a checkpoint, known by their headers: which there are, and what each tensor's shape and type is.

>>> layout(Path("run-1"))
('model.safetensors',)
>>> headers(Path("run-1"), layout(Path("run-1")))["gpt_neox.embed_in.weight"].shape
(40, 16)

Nothing here reads a weight.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmc.errors import CheckpointError
from lmc.files import open_safetensors, read_json

if TYPE_CHECKING:  # a folder that is none is told before torch is imported
    import torch

SAFE = "model.safetensors"
PICKLED = "pytorch_model.bin"
_AGAIN = "download it again"
ABSENT = f"not found, but the index names it; {_AGAIN}"

TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # in files, and in torch


Where = tuple[int, slice]  # which expert of a fused tensor [E, n, m], and which of its n rows


@dataclass(frozen=True)
class Entry:
    """One tensor of a weights file, and its `name` there. `dtype` is what the file calls it where torch has none.

    `parts`: of a tensor that files hold in pieces, each piece and where it belongs.
    """

    file: str
    shape: tuple[int, ...]
    dtype: "torch.dtype | str"
    name: str = ""
    parts: "tuple[tuple[Entry, Where], ...]" = ()


def layout(folder: Path, single: str = SAFE) -> tuple[str, ...]:
    """The weights files: the single one, or those that its index names; none if there is neither.

    Raises CheckpointError for an index that is damaged or names a file elsewhere.
    """
    if (folder / single).exists():
        return (single,)
    index = folder / f"{single}.index.json"
    if not index.exists():
        return ()
    plain = read_json(index)
    places = plain.get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(f, str) for f in places.values()):
        raise CheckpointError(f"{index}: expected a weight_map from tensors to files; {_AGAIN}")
    files = tuple(sorted(set(places.values())))
    for file in files:
        if Path(file).name != file:
            raise CheckpointError(f"{index}: expected names of files beside it, found {file!r}; {_AGAIN}")
    if not isinstance(plain.get("metadata"), dict):
        what = "expected an object, which may be empty but which the stock library reads"
        raise CheckpointError(f"{index}: metadata: {what}, found none; {_AGAIN}, or write it there")
    return files


def headers(folder: Path, files: Iterable[str]) -> dict[str, Entry]:
    """Every tensor of the safetensors files, from their headers. Raises CheckpointError naming the file."""
    found: dict[str, Entry] = {}
    for file in files:
        for name, entry in _header(folder, file).items():
            if name in found:
                raise CheckpointError(f"{folder}: tensor {name} is in both {found[name].file} and {file}; {_AGAIN}")
            found[name] = entry
    index = folder / f"{SAFE}.index.json"
    if found and tuple(files) != (SAFE,) and index.exists():
        for name, file in read_json(index)["weight_map"].items():
            where = found[name].file if name in found else file  # in no file: a head that is tied, which needs none
            if where != file:
                raise CheckpointError(f"{index}: tensor {name}: expected in {file}, found in {where}; {_AGAIN}")
    return found


def require_readable(folder: Path, files: Iterable[str]) -> None:
    """Raise CheckpointError for a file that is absent, cut short or damaged. Needs no torch.

    >>> require_readable(Path("run-1"), layout(Path("run-1")))
    """
    for file in files:
        with open_safetensors(folder / file, ABSENT, "numpy"):
            pass


def _header(folder: Path, file: str) -> dict[str, Entry]:
    with open_safetensors(folder / file, absent=ABSENT) as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
        return {name: entry(file, s.get_shape(), s.get_dtype()) for name, s in slices.items()}


def entry(file: str, shape: Iterable[int], dtype: str) -> Entry:
    """An entry from the strings and lists of a safetensors header."""
    import torch

    return Entry(file, tuple(shape), getattr(torch, TYPES[dtype]) if dtype in TYPES else dtype)


def cover(
    found: Mapping[str, Entry],
    names: Mapping[str, str | None],
    expected: Mapping[str, tuple[int, ...]],
    twins: Mapping[str, str],
    where: str,
) -> dict[str, Entry]:
    """The entries by the model's own tensor names, each there exactly once and of the right shape.

    `names` says what the stock class calls each tensor of the files, None where it ignores it; `twins` are pairs of
    tensors that share memory, of which a file may hold only one. Raises CheckpointError, naming the tensor, what was
    expected and what was found.
    """
    matched: dict[str, Entry] = {}
    source: dict[str, str] = {}
    for name, found_entry in found.items():
        own = names[name]
        if own is None:
            continue
        file = f"{where}/{found_entry.file}"
        if own not in expected:
            what = f"found {list(found_entry.shape)}{_advice(name, where)}"
            raise CheckpointError(f"{file}: tensor {name}: not one of the model's, {what}")
        if own in matched:
            raise CheckpointError(
                f"{file}: tensor {name}: expected {own} once, found it also as {source[own]}; remove one"
            )
        if found_entry.shape != expected[own]:
            what = f"expected shape {list(expected[own])}, found {list(found_entry.shape)}"
            advice = _SLICES if 0 in found_entry.shape else _OTHERS
            raise CheckpointError(f"{file}: tensor {name}: {what}{advice}")
        kind = str(found_entry.dtype).removeprefix("torch.")
        if kind not in TYPES.values():
            raise CheckpointError(
                f"{file}: tensor {name}: expected float64, float32, float16 or bfloat16, found {kind}; "
                "use the checkpoint that it was quantised from"
            )
        matched[own], source[own] = replace(found_entry, name=name), name
    for name, shape in expected.items():
        if name not in matched:
            twin = matched.get(twins.get(name, name))
            if twin is None:
                what = f"tensor {name}: expected shape {list(shape)}, found in no weights file"
                module = name.partition(".")[0] + "."
                advice = "get the files that are missing"
                if not any(own.startswith(module) for own in matched):
                    advice += f", or where {module}* was never saved, name the class without it in config.json"
                raise CheckpointError(f"{where}: {what}; {advice}")
            matched[name] = twin
    return matched


def joined(matched: Mapping[str, Entry], fused: Mapping[str, Mapping[str, Where]]) -> dict[str, Entry]:
    """The entries by the model's own names, where `fused` says which pieces make a tensor and where each belongs."""
    pieces = {piece: name for name, parts in fused.items() for piece in parts}
    found = {name: entry for name, entry in matched.items() if name not in pieces}
    for name in dict.fromkeys(pieces[piece] for piece in matched if piece in pieces):
        parts = tuple((matched[piece], where) for piece, where in fused[name].items())
        first = parts[0][0]
        experts = max(where[0] for _, where in parts) + 1
        rows = max(where[1].stop for _, where in parts)
        found[name] = Entry(first.file, (experts, rows, *first.shape[1:]), first.dtype, name, parts)
    return found


_SLICES = "; DeepSpeed's slices were not gathered: do so with zero_to_fp32"
_OTHERS = "; put the config.json there that belongs to these weights"
# What training code puts around a model, as its files then name it: torch.compile, FSDP, Fabric, checkpointing.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module")


def unwrapped(name: str) -> str:
    """The name of a tensor without what training code puts around a model.

    >>> unwrapped("module._orig_mod.lm_head.weight")
    'lm_head.weight'
    """
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    while len(parts) > 1 and parts[0] == "module":  # DistributedDataParallel's: the first, and one may hold another
        parts = parts[1:]
    return ".".join(parts)


def _advice(name: str, folder: str) -> str:
    """What to do about a name that is not the model's: most often it is only wrapped."""
    if unwrapped(name) == name:
        return _OTHERS
    return f"; training code wrapped its name: make a stock copy with: lmc convert {folder} NEW"
