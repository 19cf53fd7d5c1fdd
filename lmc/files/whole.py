"""Files and folders that appear whole or not at all, and what processes that were killed have left of them."""

import contextlib
import errno
import glob
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from lmc.errors import CheckpointError
from lmc.files.checks import require_utf8

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

DEEPEST = 400  # folders one in another; Python makes and removes them by recursion
UNFINISHED = ".unfinished"  # how the name of a folder ends that is being written


def refuse_occupied(directory: str | Path) -> Path:
    """The path, if nothing is there but at most an empty folder, and one can be made. Raises CheckpointError.

    What killed processes began to write for this place is removed; one that is alive is waited for by nobody.
    """
    directory = Path(os.path.normpath(directory))  # a/b/.. is a, whether or not a/b is there
    if not directory.name or directory.name == "..":
        raise CheckpointError(f"{directory}: expected the name of a new folder; choose one")
    if os.path.exists(directory) and not directory.is_dir():  # which does not mind a name that is too long
        raise CheckpointError(f"{directory}: is a file, expected a new or empty folder; choose another name")
    if os.path.islink(directory) or os.path.ismount(directory):
        raise CheckpointError(
            f"{directory}: is a link or a mounted disk, whose place no new folder can take; name one inside it"
        )
    if os.path.isdir(directory) and any(directory.iterdir()):
        raise CheckpointError(f"{directory}: output folder is not empty; choose another name")
    _clear_leftovers(directory)
    return refuse_no_place(directory)


def refuse_no_place(path: Path) -> Path:
    """The path, if a file or folder can be made there. Raises CheckpointError naming what is in the way."""
    require_utf8(path)
    if len(path.absolute().parents) > DEEPEST:
        raise CheckpointError(
            f"{path}: expected at most {DEEPEST} folders one in another, found more; choose a shorter way"
        )
    above = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    try:  # permissions alone do not say it; a name as long as that of the folder that will be written aside
        os.rmdir(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=UNFINISHED, dir=above))
    except OSError as error:
        found = f"not writable ({error.strerror})" if above.is_dir() else "a file"
        raise CheckpointError(
            f"{_place_of(path)}: expected a place to write, found that {above} is {found}; choose another"
        ) from None
    return path


def refuse_no_file(path: Path) -> Path:
    """The path, if there is at most a file. What is written takes its place, and no device or pipe may lose it so.

    >>> refuse_no_file(Path("figure.png")).name
    'figure.png'

    Raises CheckpointError.
    """
    if os.path.exists(path) and not path.is_file():
        found = "a folder" if path.is_dir() else "a pipe or a device"
        raise CheckpointError(f"{path}: is {found}, expected a file or nothing; choose another name")
    return path


@contextmanager
def whole_folder(directory: str | Path) -> Iterator[Path]:
    """A folder to write into; it takes its name once everything is written.

    >>> with whole_folder("finished") as folder:
    ...     (folder / "config.json").write_text("{}")

    Until then it has a name of its own beside that place, and is removed where the block does not end: by an error, by
    a signal, and what a killed process left by the next one that writes there. Raises CheckpointError if the place is
    occupied, if another process writes there now, and where the disk is full. A folder within such a block that this
    made itself is written into as it is: it is whole when that block ends, and stays marked as written until then.
    """
    directory = refuse_occupied(directory)
    if directory.name.endswith(UNFINISHED) and directory.is_dir():
        yield directory
        return
    _make_way(directory)
    aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", suffix=UNFINISHED, dir=directory.parent))
    with _unfinished(aside, directory):
        held = _hold(aside)
        yield aside
        _open_up(aside)
        if directory.exists():
            directory.rmdir()
        aside.rename(directory)
    if held is not None:
        os.close(held)


def _hold(path: Path) -> int | None:
    """Keep a file or folder marked as one that a living process writes; None where it is, or where no marks can be."""
    if fcntl is None:
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _clear_leftovers(directory: Path) -> None:
    """Remove what killed processes began to write for this place. Raises CheckpointError where one is still alive."""
    if fcntl is None:  # who is alive cannot be known
        return
    for old in directory.parent.glob(f".{glob.escape(directory.name)}-????????{UNFINISHED}"):
        held = _hold(old) if old.is_dir() and not old.is_symlink() else None
        if held is None and old.is_dir() and not old.is_symlink():
            raise CheckpointError(
                f"{directory}: another process is writing this folder now, as {old.name}; wait for it or choose "
                "another name, or delete that one where no process runs any more"
            )
        if held is not None:
            shutil.rmtree(old, ignore_errors=True)
            os.close(held)


@contextmanager
def _unfinished(aside: Path, place: Path) -> Iterator[None]:
    """What is written aside is removed unless the block ends. A full disk is said in one line that names the place."""
    _aside[aside] = place
    try:
        yield
    except BaseException as error:
        free = shutil.disk_usage(aside).free if aside.exists() else 0  # before what was written makes room
        _remove(aside)
        if (why := _no_room(error)) is None:
            where = error.filename if isinstance(error, OSError) else None
            if not isinstance(error, OSError) or not isinstance(where, str) or not Path(where).is_relative_to(aside):
                raise
            raise CheckpointError(
                f"{_place_of(Path(where))}: cannot be written: {error.strerror}; nothing was left behind"
            ) from None
        raise CheckpointError(
            f"{_place_of(place)}: cannot be written: {why} ({free:,} bytes were free there); "
            "make room or choose another place; nothing was left behind"
        ) from None
    finally:
        _aside.pop(aside, None)


_aside: dict[Path, Path] = {}  # what this process is writing now, and the name it will have
_made: set[Path] = set()  # folders that were made on the way to these
_last_words: list[Callable[[], str]] = []  # what to say where it is interrupted


def _place_of(path: Path) -> Path:
    """The name that a path will have when everything is finished: it may lie in a folder that is written aside."""
    for aside, place in _aside.items():
        if aside in (path, *path.parents):
            return _place_of(place / path.relative_to(aside)) if place != aside else path
    return path


def _make_way(path: Path) -> None:
    """Make the folders that a path lies in."""
    _made.update(parent for parent in path.absolute().parents if not parent.exists())
    path.parent.mkdir(parents=True, exist_ok=True)


def _remove(path: Path) -> None:
    """Remove what is unfinished, and the folders that were made for it alone."""
    if path.is_dir() and not path.is_symlink():
        with contextlib.suppress(OSError):
            path.chmod(0o700)  # a umask may have left no rights
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # where others have put something there meanwhile
        for parent in itertools.takewhile(_made.__contains__, path.absolute().parents):
            parent.rmdir()


def abandon() -> str:
    """Remove unfinished files and folders before the process exits. Returns how its work can be continued."""
    for path in list(_aside):
        _remove(path)
    return "; ".join(text for words in _last_words if (text := words()))


@contextmanager
def if_interrupted(words: Callable[[], str]) -> Iterator[None]:
    """What to say about going on where the process is interrupted inside the block."""
    _last_words.append(words)
    try:
        yield
    finally:
        _last_words.remove(words)


@contextmanager
def scratch_folder(prefix: str, beside: Path | None = None, serves: Path | None = None) -> Iterator[Path]:
    """A folder for what is only needed inside the block; removed at its end, also where that is a signal.

    `serves`: what is made with its help, which an error names.

    What a killed process left by the same prefix is removed by the next one.

    >>> with scratch_folder("lmc-") as folder:
    ...     folder.is_dir()
    True

    Raises CheckpointError where the disk is full.
    """
    if beside is not None:
        _make_way(beside / prefix)
    new = Path(tempfile.mkdtemp(prefix=prefix, dir=beside))
    for old in new.parent.glob(f"{glob.escape(prefix)}????????{UNFINISHED}"):
        if (held := _hold(old)) is not None:  # its process is dead
            shutil.rmtree(old, ignore_errors=True)
            os.close(held)
    held = _hold(new)  # before it has a name that others look for
    aside = new.rename(f"{new}{UNFINISHED}")
    try:
        with _unfinished(aside, serves or new):
            yield aside
    finally:
        _remove(aside)
        if held is not None:
            os.close(held)


# How systems and the writer of safetensors say that a file cannot grow.
_FULL = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "a file may not be so large (ulimit -f)",
}


def _no_room(error: BaseException) -> str | None:
    """Why a file cannot grow, if that is what an error says."""
    if isinstance(error, OSError):
        return _FULL.get(error.errno or 0)
    if isinstance(error, SafetensorError):
        return next((why for number, why in _FULL.items() if f"os error {number}" in str(error)), None)
    return None


def _open_up(path: Path) -> None:
    """Give a file, or a folder and all in it, the rights of the user's umask: some writers make theirs private."""
    mask = os.umask(0)
    os.umask(mask)
    for each in (path, *path.rglob("*")):
        os.chmod(each, (0o777 if each.is_dir() else 0o666) & ~mask)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A file to write, of the same suffix; it takes its name once it is written. Raises CheckpointError."""
    path = refuse_no_file(Path(path))
    _make_way(path)
    for old in path.parent.glob(f".{'[0-9a-f]' * 8}-{glob.escape(path.name)}"):
        if (held := _hold(old)) is not None:  # its writer is dead
            old.unlink(missing_ok=True)
            os.close(held)
    aside = path.with_name(f".{os.urandom(4).hex()}-{path.name}")  # threads may write one file, too
    with _unfinished(aside, path):
        aside.touch()
        held = _hold(aside)
        yield aside
        _open_up(aside)
        aside.replace(path)
    if held is not None:
        os.close(held)


def write_whole(path: Path, text: str) -> None:
    """Write a text file aside and rename it, so that a reader never sees half of it."""
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf8")
