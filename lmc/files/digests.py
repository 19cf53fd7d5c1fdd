"""The SHA-256 of files, of tensors and of what JSON says."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmc.errors import CheckpointError
from lmc.files.checks import LARGEST, require_plain
from lmc.files.progress import meter
from lmc.files.reading import open_safetensors

if TYPE_CHECKING:
    from torch import Tensor

PIECE = 2**20  # bytes that are read at a time


def sha256(path: Path, advance: Callable[[int], None] = lambda amount: None) -> str:
    """The SHA-256 of a file, in hex; `advance` is told of every byte that was read."""
    found, buffer = hashlib.sha256(), memoryview(bytearray(PIECE))
    with path.open("rb") as opened:
        while count := opened.readinto(buffer):
            found.update(buffer[:count])
            advance(count)
    return found.hexdigest()


def seal(plain: Mapping[str, Any]) -> str:
    """The SHA-256 of what a JSON object says, in hex, but for its field `sha256`, which is to hold it.

    >>> seal({"a": 1, "sha256": "of this object"}) == seal({"a": 1})
    True
    """
    rest = {key: value for key, value in plain.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def require_digests(folder: Path, expected: Mapping[str, Any], hint: str) -> None:
    """Raise CheckpointError, which ends with the hint, unless the folder holds these files with these SHA-256."""
    files = {folder / name: before for name, before in expected.items()}
    for file in files:
        if file.is_symlink() or not file.is_file():
            raise CheckpointError(f"{file}: expected a file of the folder, found none; {hint}")
        if file.stat().st_size > LARGEST:  # a hole of a terabyte takes no disk, and an hour
            require_plain(file, None if file.suffix == ".safetensors" else LARGEST)
            if file.suffix == ".safetensors":
                with open_safetensors(file):  # whose header says how long it is
                    pass
    with meter(sum(file.stat().st_size for file in files), "comparing digests", "B") as advance:
        for file, before in files.items():
            if (found := sha256(file, advance)) != before:
                raise CheckpointError(f"{file}: expected sha256 {str(before)[:12]}…, found {found[:12]}…; {hint}")


def tensor_digest(tensors: Mapping[str, "Tensor"]) -> str:
    """The SHA-256 of named tensors, in hex."""
    import torch  # here: commands that read no tensor do not wait for it

    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
