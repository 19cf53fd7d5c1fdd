"""JSON, texts and safetensors read with errors that say what is wrong."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from lmc.errors import CheckpointError
from lmc.files.checks import MEND, RIGHTS, refuse_pointer, require_plain

if TYPE_CHECKING:
    from torch import Tensor

MANY = 2**22  # values of a JSON file, some 100 bytes each in memory; the largest tokenizers have half of it
HEADER = 2**24  # bytes of a safetensors header, some 100 a tensor


def read_json(path: Path) -> dict:
    """A JSON object from a file. Raises CheckpointError naming the file."""
    return _objects(path, lambda text: [text])[0]


def read_json_lines(path: Path) -> list[dict]:
    """The JSON objects of a file, one a line. Raises CheckpointError naming the file."""
    return _objects(path, str.splitlines)


def _objects(path: Path, split: Callable[[str], list[str]]) -> list[dict]:
    try:
        require_plain(path)
        text = path.read_text(encoding="utf8")
        if sum(map(text.count, ",[{")) > MANY:  # two bytes each here, and some hundred once they are read
            raise CheckpointError(f"{path}: expected at most {MANY:,} values, found more; is it the right file?")
        values = [json.loads(part) for part in split(text)]
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found; put it there, or name another folder") from None
    except (OSError, ValueError, RecursionError) as error:
        hint = RIGHTS if isinstance(error, PermissionError) else MEND
        raise CheckpointError(f"{path}: not readable as JSON ({error}); {hint}") from None
    for value in values:
        if not isinstance(value, dict):
            raise CheckpointError(
                f"{path}: expected a JSON object, found {type(value).__name__}; is it the right file?"
            )
    return values


def read_text(path: Path) -> str:
    """A text from a file in UTF-8. Raises CheckpointError naming the file."""
    try:
        require_plain(path)
        return path.read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError) as error:
        hint = RIGHTS if isinstance(error, PermissionError) else MEND
        raise CheckpointError(f"{path}: not readable as text ({error}); {hint}") from None


def read_safetensors(path: Path) -> dict[str, "Tensor"]:
    """All tensors of a safetensors file. Raises CheckpointError if it is missing or damaged."""
    return dict(safetensors_of(path))


def safetensors_of(path: Path) -> Iterator[tuple[str, "Tensor"]]:
    """The tensors of a safetensors file one by one, each read when it is asked for. Raises as `read_safetensors`."""
    with open_safetensors(path) as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            yield name, file.get_tensor(name)


@contextmanager
def open_safetensors(path: Path, absent: str = "not found; put it there", library: str = "pt") -> Iterator[Any]:
    """A safetensors file, open. Raises CheckpointError if it is missing (`absent` says so) or damaged.

    `library`: whose tensors are read, torch's or "numpy"; it is imported.
    """
    try:
        require_plain(path, largest=None)
        with path.open("rb") as opened:  # without rights the library would say that the file is not there
            length = int.from_bytes(opened.read(8), "little")
        if HEADER < length < path.stat().st_size:
            raise CheckpointError(
                f"{path}: expected a header of at most {HEADER:,} bytes, found {length:,}; is it the right file?"
            )
        with safe_open(path, framework=library) as file:
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"{path}: {absent}") from None
    except PermissionError as error:
        raise CheckpointError(f"{path}: not readable ({error.strerror}); {RIGHTS}") from None
    except (SafetensorError, OSError) as error:
        refuse_pointer(path)
        raise CheckpointError(
            f"{path}: not a readable safetensors file, truncated or damaged ({error}); get it again"
        ) from None


TOO_LARGE = "; not saved: choose a type that holds larger values, such as bfloat16"


def require_finite(what: str, tensor: "Tensor", hint: str = "; was it damaged?") -> None:
    """Refuse a tensor with values that are no numbers. Raises CheckpointError, which begins with `what` it is."""
    if bool(tensor.sum().isfinite()):  # one pass; a sum of finite numbers may be too large, so the rest is counted
        return
    bad = tensor.numel() - int(tensor.isfinite().sum())
    if bad:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{what}: expected finite values, found {bad:,} of {tensor.numel():,} NaN or infinite as {dtype}{hint}"
        )
