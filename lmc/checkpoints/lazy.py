"""The weights of a checkpoint as a mapping that reads each tensor when it is asked for, and keeps none.

>>> tensors = stored(lmc.checkpoints.inspect("run-1"))
>>> tensors["gpt_neox.embed_in.weight"].shape
torch.Size([40, 16])
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lmc.checkpoints.blueprint import Blueprint
from lmc.checkpoints.headers import TYPES, Entry
from lmc.errors import CheckpointError
from lmc.files import open_safetensors, require_finite, watched

PIECE = 2**24  # bytes of a file that are looked at together


@dataclass(frozen=True)
class Stored(Mapping[str, Tensor]):
    """Tensors in safetensors files: which file, and what it is called there. Raises CheckpointError when read.

    `fused`: of those that files hold in pieces, the shape, and which tensors of these belong where. `mapped`: whether
    what is read is what the files hold, so that the system may map it and it takes no memory of the process.
    """

    places: Mapping[str, tuple[Path, str]]
    dtype: torch.dtype
    device: torch.device | None = None
    fused: Mapping[str, Entry] = field(default_factory=dict)
    mapped: bool = True

    def __getitem__(self, name: str) -> Tensor:
        file, there = self.places[name]
        if name in self.fused:
            entry = self.fused[name]
            whole = torch.empty(entry.shape, dtype=self.dtype, device=self.device)
            for piece, where in entry.parts:
                whole[where] = self._read(file.parent / piece.file, piece.name)
            return whole
        return self._read(file, there)

    def _read(self, file: Path, there: str) -> Tensor:
        with open_safetensors(file) as opened:
            tensor = opened.get_tensor(there).to(self.dtype)
        require_finite(f"{file}: tensor {there}", tensor)
        return tensor if self.device is None else tensor.to(self.device)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def stored(blueprint: Blueprint, dtype: torch.dtype | None = None) -> Stored:
    """The weights of a checkpoint by the names of the model's state dict, as stored but at least float32."""
    folder = blueprint.source.folder
    places = {name: (folder / blueprint.tensors[name].file, blueprint.tensors[name].name) for name in blueprint.tensors}
    fused = {name: entry for name, entry in blueprint.tensors.items() if entry.parts}
    kind = dtype or torch.promote_types(blueprint.dtype, torch.float32)
    mapped = not fused and all(entry.dtype == kind for entry in blueprint.tensors.values())
    return Stored(places, kind, fused=fused, mapped=mapped)


def sha256_and_finite(
    file: Path, names: Collection[str], advance: Callable[[int], None] = lambda amount: None
) -> tuple[str, bool]:
    """The SHA-256 of a safetensors file, and whether its tensors of these names are finite; it is read once.

    >>> sha256_and_finite(Path("run-1/model.safetensors"), {"gpt_neox.embed_in.weight"})[1]
    True

    Raises CheckpointError where the file ends before its tensors do, or has become another since it was inspected.
    """
    digest, finite, buffer = hashlib.sha256(), True, bytearray(PIECE)
    with file.open("rb") as opened:
        length = opened.read(8)
        header = opened.read(min(int.from_bytes(length, "little"), file.stat().st_size))
        digest.update(length + header)
        try:
            tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        except ValueError:
            raise CheckpointError(
                f"{file}: expected the header of a safetensors file, found none; begin again"
            ) from None
        for name in sorted(tensors, key=lambda name: tensors[name]["data_offsets"]):
            begin, left = tensors[name]["data_offsets"]
            left -= begin
            dtype = getattr(torch, TYPES.get(tensors[name]["dtype"], "uint8"))
            while left:
                count = opened.readinto(memoryview(buffer)[: min(left, PIECE)])
                if not count:
                    raise CheckpointError(f"{file}: expected {left:,} bytes more of tensor {name}; get the file again")
                digest.update(memoryview(buffer)[:count])
                advance(count)
                left -= count
                if finite and name in names and dtype != torch.uint8:
                    numbers = torch.frombuffer(buffer, dtype=dtype, count=count // dtype.itemsize)
                    finite = bool(numbers.sum().isfinite()) or bool(numbers.isfinite().all())
        while count := opened.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest(), finite


def spill(
    tensors: Mapping[str, Tensor],
    groups: Iterable[Iterable[str]],
    folder: Path,
    dtype: torch.dtype,
    device: torch.device | None = None,
) -> Stored:
    """Write a mapping to a folder, one file for each group of names, and read it from there.

    What is computed on demand is then computed once, and no more than one group of it is in memory. `device` is where
    the tensors go when they are read.
    """
    places: dict[str, tuple[Path, str]] = {}
    parts = list(groups)
    for i, names in enumerate(watched(parts, len(parts), "canonical form")):
        file = folder / f"{i}.safetensors"
        save_file({name: tensors[name].contiguous() for name in names}, file)
        places |= {name: (file, name) for name in names}
    return Stored(places, dtype, device)
