"""The weights of a checkpoint as a mapping that reads each tensor when it is asked for, and keeps none.

>>> tensors = stored(lmc.checkpoints.inspect("run-1"))
>>> tensors["gpt_neox.embed_in.weight"].shape
torch.Size([40, 16])
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lmc.checkpoints.blueprint import Blueprint
from lmc.checkpoints.headers import Entry
from lmc.files import open_safetensors, require_finite


@dataclass(frozen=True)
class Stored(Mapping[str, Tensor]):
    """Tensors in safetensors files: which file, and what it is called there. Raises CheckpointError when read.

    `fused`: of those that files hold in pieces, the shape, and which tensors of these belong where.
    """

    places: Mapping[str, tuple[Path, str]]
    dtype: torch.dtype
    device: torch.device | None = None
    fused: Mapping[str, Entry] = field(default_factory=dict)

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
    return Stored(places, dtype or torch.promote_types(blueprint.dtype, torch.float32), fused=fused)


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
    for i, names in enumerate(groups):
        file = folder / f"{i}.safetensors"
        save_file({name: tensors[name].contiguous() for name in names}, file)
        places |= {name: (file, name) for name in names}
    return Stored(places, dtype, device)
