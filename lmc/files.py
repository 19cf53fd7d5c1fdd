"""Files that appear whole or not at all, and safetensors read with errors that say what is wrong."""

import contextlib
import errno
import glob
import hashlib
import itertools
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from lmc.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


MANY = 2**22  # values of a JSON file, some 100 bytes each in memory; the largest tokenizers have half of it
HEADER = 2**24  # bytes of a safetensors header, some 100 a tensor
DEEPEST = 400  # folders one in another; Python makes and removes them by recursion
RUN = "run.json"  # in the folder of unfinished work: the settings it was begun with
UNFINISHED = ".unfinished"  # how the name of a folder ends that is being written
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
    occupied, if another process writes there now, and where the disk is full.
    """
    directory = refuse_occupied(directory)
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
        _remove(aside)
        if (why := _no_room(error)) is None:
            where = error.filename if isinstance(error, OSError) else None
            if not isinstance(error, OSError) or not isinstance(where, str) or not Path(where).is_relative_to(aside):
                raise
            raise CheckpointError(
                f"{_place_of(Path(where))}: cannot be written: {error.strerror}; nothing was left behind"
            ) from None
        there = next(above for above in place.absolute().parents if above.exists())  # what was made for it is gone
        free = shutil.disk_usage(there).free
        raise CheckpointError(
            f"{_place_of(place)}: cannot be written: {why} ({free:,} bytes are free there); "
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


def read_safetensors(path: Path) -> dict[str, "Tensor"]:
    """All tensors of a safetensors file. Raises CheckpointError if it is missing or damaged."""
    return dict(safetensors_of(path))


def safetensors_of(path: Path) -> Iterator[tuple[str, "Tensor"]]:
    """The tensors of a safetensors file one by one, each read when it is asked for. Raises as `read_safetensors`."""
    with open_safetensors(path) as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            yield name, file.get_tensor(name)


@contextmanager
def open_safetensors(path: Path, absent: str = "not found; put it there") -> Iterator[Any]:
    """A safetensors file, open. Raises CheckpointError if it is missing (`absent` says so) or damaged."""
    try:
        require_plain(path, largest=None)
        with path.open("rb") as opened:  # without rights the library would say that the file is not there
            length = int.from_bytes(opened.read(8), "little")
        if HEADER < length < path.stat().st_size:
            raise CheckpointError(
                f"{path}: expected a header of at most {HEADER:,} bytes, found {length:,}; is it the right file?"
            )
        with safe_open(path, framework="pt") as file:
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


def refuse_pointer(path: Path) -> None:
    """Raise CheckpointError for the few lines that git leaves in the place of a large file that was not fetched."""
    if path.is_file() and path.stat().st_size < 1024 and path.read_bytes().startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path}: expected the file itself, found a pointer to it (Git LFS); fetch it with: git lfs pull"
        )


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


def read_text(path: Path) -> str:
    """A text from a file in UTF-8. Raises CheckpointError naming the file."""
    try:
        require_plain(path)
        return path.read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError) as error:
        hint = RIGHTS if isinstance(error, PermissionError) else MEND
        raise CheckpointError(f"{path}: not readable as text ({error}); {hint}") from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def seal(plain: Mapping[str, Any]) -> str:
    """The SHA-256 of what a JSON object says, in hex, but for its field `sha256`, which is to hold it.

    >>> seal({"a": 1, "sha256": "of this object"}) == seal({"a": 1})
    True
    """
    rest = {key: value for key, value in plain.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def require_digests(folder: Path, expected: Mapping[str, Any], hint: str) -> None:
    """Raise CheckpointError, which ends with the hint, unless the folder holds these files with these SHA-256."""
    for name, before in expected.items():
        file = folder / name
        if file.is_symlink() or not file.is_file():
            raise CheckpointError(f"{file}: expected a file of the folder, found none; {hint}")
        if file.stat().st_size > LARGEST:  # a hole of a terabyte takes no disk, and an hour
            require_plain(file, None if file.suffix == ".safetensors" else LARGEST)
            if file.suffix == ".safetensors":
                with open_safetensors(file):  # whose header says how long it is
                    pass
        if (found := sha256(file)) != before:
            raise CheckpointError(f"{file}: expected sha256 {str(before)[:12]}…, found {found[:12]}…; {hint}")


def tensor_digest(tensors: Mapping[str, "Tensor"]) -> str:
    """The SHA-256 of named tensors, in hex."""
    import torch  # here: commands that read no tensor do not wait for it

    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def write_state(path: Path, tensors: Mapping[str, "Tensor"]) -> None:
    """Write the tensors of unfinished work, with a digest of them, of the file's name and of the run they belong to."""
    from safetensors.torch import save_file

    with whole_file(path) as aside:
        save_file(dict(tensors), aside, metadata={"sha256": _state_digest(path, tensors)})


def read_state(path: Path) -> dict[str, "Tensor"]:
    """What `write_state` wrote for this run. Raises CheckpointError where it has changed since, or is of another."""
    with open_safetensors(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        said = (file.metadata() or {}).get("sha256")
    if said != _state_digest(path, tensors):
        raise CheckpointError(
            f"{path}: expected the state as this run wrote it, found another; delete {path.parent} and begin anew"
        )
    return tensors


def _state_digest(path: Path, tensors: Mapping[str, "Tensor"]) -> str:
    run = path.with_name(RUN)
    return seal({"file": path.name, "run": sha256(run) if run.is_file() else "", "tensors": tensor_digest(tensors)})


def refuse_other_run(directory: Path, run: dict) -> Path:
    """The folder of a resumable run, made if new. Raises CheckpointError if it belongs to a run with other settings."""
    described = json.loads(json.dumps(run))
    file = directory / RUN
    if file.exists():
        now, then = _flat(described), _flat(read_json(file))
        if differ := sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name)):
            raise CheckpointError(
                f"{directory}: holds the state of a run with other settings ({', '.join(differ)}); continue it with "
                "those it began with, or choose another folder"
            )
    else:
        with whole_folder(directory) as aside:
            (aside / file.name).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n", encoding="utf8")
    return directory


def _flat(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a JSON object, those of its objects as `field.inner`."""
    inner = {f"{key}.{name}": v for key, value in plain.items() if isinstance(value, dict) for name, v in value.items()}
    return {key: value for key, value in plain.items() if not isinstance(value, dict)} | inner
