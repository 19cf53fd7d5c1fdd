"""Files that appear whole or not at all, and safetensors read with errors that say what is wrong."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lmc.errors import CheckpointError


def refuse_occupied(directory: str | Path) -> Path:
    """The path, if nothing is there but at most an empty folder, and one can be made. Raises CheckpointError."""
    directory = Path(os.path.normpath(directory))  # a/b/.. is a, whether or not a/b is there
    if not directory.name or directory.name == "..":
        raise CheckpointError(f"{directory}: expected the name of a new folder")
    if directory.exists() and not directory.is_dir():
        raise CheckpointError(f"{directory}: is a file, expected a new or empty folder")
    if directory.is_dir() and any(directory.iterdir()):
        raise CheckpointError(f"{directory}: output folder is not empty")
    return refuse_no_place(directory)


def refuse_no_place(path: Path) -> Path:
    """The path, if a file or folder can be made there. Raises CheckpointError naming what is in the way."""
    above = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        os.rmdir(tempfile.mkdtemp(prefix=f".{path.name}-", dir=above))  # permissions alone do not say it
    except OSError as error:
        found = f"not writable ({error.strerror})" if above.is_dir() else "a file"
        raise CheckpointError(f"{path}: expected a place to write, found that {above} is {found}") from None
    return path


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


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A file to write, of the same suffix; it takes its name once it is written. Raises CheckpointError."""
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder, expected a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file aside and rename it, so that a reader never sees half of it."""
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf8")


def read_json(path: Path) -> dict:
    """A JSON object from a file. Raises CheckpointError naming the file."""
    return _objects(path, lambda text: [text])[0]


def read_json_lines(path: Path) -> list[dict]:
    """The JSON objects of a file, one a line. Raises CheckpointError naming the file."""
    return _objects(path, str.splitlines)


def _objects(path: Path, split: Callable[[str], list[str]]) -> list[dict]:
    try:
        values = [json.loads(part) for part in split(path.read_text(encoding="utf8"))]
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from None
    for value in values:
        if not isinstance(value, dict):
            raise CheckpointError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return values


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises CheckpointError if it is missing or damaged."""
    return dict(safetensors_of(path))


def safetensors_of(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a safetensors file one by one, each read when it is asked for. Raises as `read_safetensors`."""
    with open_safetensors(path) as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            yield name, file.get_tensor(name)


@contextmanager
def open_safetensors(path: Path, absent: str = "not found") -> Iterator[Any]:
    """A safetensors file, open. Raises CheckpointError if it is missing (`absent` says so) or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"{path}: {absent}") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file, truncated or damaged ({error})") from None


def require_finite(what: str, tensor: Tensor, hint: str = "") -> None:
    """Refuse a tensor with values that are no numbers. Raises CheckpointError, which begins with `what` it is."""
    bad = tensor.numel() - int(torch.isfinite(tensor).sum())
    if bad:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{what}: expected finite values, found {bad:,} of {tensor.numel():,} NaN or infinite as {dtype}{hint}"
        )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of named tensors, in hex."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
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
