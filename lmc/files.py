"""Files that appear whole or not at all, and safetensors read with errors that say what is wrong."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lmc.errors import CheckpointError


def refuse_occupied(directory: str | Path) -> Path:
    """The path, if nothing is there but at most an empty folder. Raises CheckpointError."""
    directory = Path(directory)
    if directory.is_file():
        raise CheckpointError(f"{directory}: is a file, expected a new or empty folder")
    if directory.is_dir() and any(directory.iterdir()):
        raise CheckpointError(f"{directory}: output folder is not empty")
    return directory


@contextmanager
def whole_folder(directory: str | Path) -> Iterator[Path]:
    """A folder to write into; it takes its name once everything is written. Raises CheckpointError if occupied."""
    directory = refuse_occupied(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        yield aside
        os.chmod(aside, 0o777 & ~_umask())  # mkdtemp makes it private
        if directory.exists():
            directory.rmdir()
        aside.rename(directory)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_whole(path: Path, text: str) -> None:
    """Write a text file aside and rename it, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf8")
    aside.replace(path)


def read_json(path: Path) -> dict:
    """A JSON object from a file. Raises CheckpointError naming the file."""
    try:
        value = json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises CheckpointError if it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as f:
            return {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file, truncated or damaged ({error})") from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of named tensors, in hex."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def refuse_other_run(directory: Path, run: dict) -> Path:
    """The folder of a resumable run, made if new. Raises CheckpointError if it belongs to a run with other settings."""
    described = json.loads(json.dumps(run))
    file = directory / "run.json"
    if file.exists():
        if read_json(file) != described:
            raise CheckpointError(f"{directory}: holds the state of a run with other settings; choose another folder")
    else:
        refuse_occupied(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(described, indent=1, sort_keys=True) + "\n")
    return directory
