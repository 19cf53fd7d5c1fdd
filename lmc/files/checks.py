"""What is looked at before a file is opened: its kind, its size, its name."""

import stat
from pathlib import Path

from lmc.errors import CheckpointError

MEND = "restore the file, or write it again"
RIGHTS = "get the right to read it"
LARGEST = 2**26  # bytes of a file that is read at once; the largest tokenizers of today have half of it


def require_plain(path: Path, largest: int | None = LARGEST) -> None:
    """Raise CheckpointError for a pipe or a device, which may never end, and for a file of more bytes than `largest`.

    >>> require_plain(Path("run-1/config.json"))

    A path where nothing is raises FileNotFoundError; folders are left to whoever opens them.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise CheckpointError(f"{path}: expected a file, found a pipe or a device; remove it")
    if largest is not None and found.st_size > largest:
        raise CheckpointError(
            f"{path}: expected at most {largest:,} bytes of text, found {found.st_size:,}; is it the right file?"
        )


def require_utf8(path: Path) -> None:
    """Raise CheckpointError for a path that the library of weights cannot open: one with bytes that are no UTF-8.

    >>> require_utf8(Path("run-1"))
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"{path}: expected names in UTF-8 on the way to weights; rename it") from None


def refuse_pointer(path: Path) -> None:
    """Raise CheckpointError for the few lines that git leaves in the place of a large file that was not fetched."""
    if path.is_file() and path.stat().st_size < 1024 and path.read_bytes().startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path}: expected the file itself, found a pointer to it (Git LFS); fetch it with: git lfs pull"
        )
