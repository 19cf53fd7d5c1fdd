"""Image corpora: handwritten digits, CIFAR-10, ImageNet, a folder of classes, a folder of archives."""

import hashlib
import io
import lzma
import os
import tarfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from lmc.corpora.parts import two_parts
from lmc.corpora.unpacked import Unpacked
from lmc.errors import DataError, one_line

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # as torchvision has them
UNREAD = (".gif", ".heic", ".heif", ".avif", ".jp2", ".jfif")  # pictures, too
KINDS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")  # of what a file says it is; some other kinds start programs
DEEP = ("I", "F")  # how Pillow's names for more than 8 bits begin; it would cut them off at 255, and make all white
LARGEST = 2**26  # pixels; the cameras of most telephones make fewer
ARCHIVES = (".tar", ".tar.xz", ".tar.gz", ".tgz")
UNREAD_ARCHIVES = (".zip", ".7z", ".rar", ".tar.bz2", ".tbz2", ".tar.zst")
# Which part of a folder serves a split: the first of these names that is there.
PARTS = {"train": ("train",), "match": ("match", "train"), "eval": ("eval", "test", "val")}
PART_NAMES = {name for names in PARTS.values() for name in names}
DIGITS_HELD_OUT = 450
HELD_OUT = 0.1  # of a folder that comes in one piece


@dataclass(frozen=True)
class Pictures:
    """A labelled collection that is opened only where asked, in ascending order.

    >>> pictures = read("digits", "eval")
    >>> first = next(pictures.open([0]))           # a PIL image; its label is pictures.labels[0]
    >>> first.size
    (8, 8)
    """

    name: str
    classes: list[str]
    labels: np.ndarray  # (n,) int64, indices into `classes`
    open: Callable[[Sequence[int]], Iterator[Image.Image]]


def read(corpus: str, split: str) -> Pictures:
    """One split of an image corpus. Labels follow the sorted names of its classes."""
    if corpus == "digits":
        return _digits(split)
    if corpus == "cifar10":
        return _hub(corpus, "uoft-cs/cifar10", image="img", split="test" if split == "eval" else "train")
    if corpus == "imagenet":  # gated: needs a token; only the shards that are used are fetched
        part, shards = ("validation", "data/validation-*") if split == "eval" else ("train", "data/train-0000*")
        return _hub(corpus, "ILSVRC/imagenet-1k", image="image", split=part, data_files={part: shards})
    folder = Path(corpus)
    tars = archives(folder)
    if tars and (classes := sorted(path.name for path in folder.iterdir() if _holds_pictures(path))):
        found = f"{tars[0].name} beside pictures in {classes[0]}"
        raise DataError(f"corpus '{folder}': expected archives or folders of pictures, found {found}; move one away")
    return _archives(folder, tars, split) if tars else _classes(folder, split)


def archives(folder: Path) -> list[Path]:
    """A folder's archives, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.name.lower().endswith(ARCHIVES))


def any_below(folder: Path) -> bool:
    """Whether there is a picture in a folder below this one, of whatever kind."""
    return any(file.name.lower().endswith((*SUFFIXES, *UNREAD)) for file in folder.glob("*/**/*"))


def in_parts(folder: Path) -> bool:
    """Whether a folder holds pictures in folders that are called as the parts of a corpus are, whatever lies beside."""
    return any(_holds_pictures(folder / part) for part in PART_NAMES)


def _seen(root: Path) -> list[Path]:
    """Everything below a folder that is not hidden. Raises DataError for a folder that cannot be looked into."""

    def refuse(error: OSError) -> None:
        raise DataError(f"corpus '{error.filename}': cannot be read ({error.strerror}); get the right to read it")

    there: list[Path] = []
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        there += [Path(folder, name) for name in (*folders, *files) if not name.startswith(".")]
    return sorted(there)


def _pictures(there: Iterable[Path]) -> list[Path]:
    return [path for path in there if path.name.lower().endswith(SUFFIXES)]


def _digits(split: str) -> Pictures:
    """scikit-learn's handwritten digits: `DIGITS_HELD_OUT` for evaluation, the others for training and for matching."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("corpus 'digits' needs scikit-learn: pip install -e \".[data]\"") from error
    pixels, labels = load_digits(return_X_y=True)
    held_out, rest = _deal(len(labels), DIGITS_HELD_OUT)
    chosen = held_out if split == "eval" else rest
    grey = np.round(pixels[chosen].reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)  # stored as 0 to 16
    return Pictures(
        name="digits",
        classes=[str(digit) for digit in range(10)],
        labels=labels[chosen].astype(np.int64),
        open=lambda indices: (Image.fromarray(grey[i]) for i in indices),
    )


def _hub(corpus: str, name: str, image: str, split: str, **options: Any) -> Pictures:
    from lmc.corpora.downloads import dataset

    rows = dataset(corpus, name, split=split, **options)
    return Pictures(
        name=corpus,
        classes=rows.features["label"].names,
        labels=np.asarray(rows["label"], dtype=np.int64),
        open=lambda indices: (rows[int(i)][image] for i in indices),
    )


def _classes(folder: Path, split: str) -> Pictures:
    """`folder/PART/CLASS/...` or `folder/CLASS/...`."""
    parts = [path.name for path in folder.iterdir() if path.is_dir() and path.name in PART_NAMES]
    root = folder / _part(folder, parts, split) if parts else folder
    there = _seen(root)
    _warn_of_unread(folder, there)
    if parts:
        _warn_of_those_beside(folder)
    paths = _pictures(there)
    _require_one_order(folder, {part: _classes_below(folder / part) for part in parts})
    return _collection(
        folder,
        split,
        [path.relative_to(root).parts for path in paths],
        lambda indices: (_open(paths[i], paths[i].name) for i in indices),
        whole=not parts,
    )


def _warn_of_unread(folder: Path, there: Sequence[Path]) -> None:
    """Say which pictures of a folder are not read: of other kinds, behind a link to a folder, in other archives."""
    others = [path for path in there if path.name.lower().endswith(UNREAD)]
    packed = [path for path in there if path.name.lower().endswith(UNREAD_ARCHIVES)]
    links = [path for path in there if path.is_symlink() and path.is_dir()]
    for found, what in (
        (others, "of a kind that is not read; save it as .png"),
        (links, "a link to a folder, which is not followed; copy it"),
        (packed, "an archive that is not read; pack it as .tar, or unpack it"),
    ):
        if found:
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            warnings.warn(f"corpus '{folder}': {found[0].relative_to(folder)}{more}: {what}", stacklevel=1)


def _warn_of_those_beside(folder: Path) -> None:
    """Say which folders of pictures lie beside those that are called as parts are: they are read for none."""
    if others := sorted(
        path.name for path in folder.iterdir() if path.name not in PART_NAMES and _holds_pictures(path)
    ):
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        what = f"{others[0]}{more} beside folders that are called as parts of a corpus is not read"
        warnings.warn(f"corpus '{folder}': {what}; move it into one of them", stacklevel=1)


def _classes_below(part: Path) -> set[str]:
    return {_named(path.relative_to(part).parts) for path in _pictures(_seen(part))}


def _require_one_order(folder: Path, named: Mapping[str, set[str]]) -> None:
    """Refuse parts with as many classes, but others: a class's number would mean another thing in each."""
    first = next(iter(named), "")
    for part, classes in named.items():
        if len(classes) == len(named[first]) and (others := sorted(classes ^ named[first])):
            what = f"the same classes in {first} and {part}, found {others[0]} in only one of them"
            raise DataError(f"corpus '{folder}': expected {what}; leave that class out, or give every part some of it")


def _holds_pictures(path: Path) -> bool:
    """Whether that is a folder of a class: with pictures, and not hidden."""
    if not path.is_dir() or path.name.startswith("."):
        return False
    return any(file.name.lower().endswith(SUFFIXES) for file in path.rglob("*"))


def _archives(folder: Path, tars: list[Path], split: str) -> Pictures:
    """Archives named after their part (`train_000-099.tar.xz`) or not; their members lie as in a folder of classes."""
    parts = [name for name in sorted(PART_NAMES) if any(path.name.startswith(name) for path in tars)]
    _warn_of_unread(folder, sorted(folder.iterdir()))
    listed = {path: _listed(path) for path in tars}
    _require_parts_named(folder, parts, listed)
    held = {part: [path for path in tars if path.name.startswith(part)] for part in parts}
    if others := [path.name for path in tars if parts and not path.name.startswith(tuple(parts))]:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        what = f"{held[parts[0]][0].name} is called as a part of a corpus, so {others[0]}{more} is not read"
        warnings.warn(f"corpus '{folder}': {what}; if it should be, rename one of them", stacklevel=1)
    _require_one_order(
        folder, {part: {_named(_inside(m)) for path in own for m in listed[path]} for part, own in held.items()}
    )
    if parts:
        tars = held[_part(folder, parts, split)]
    _require_once(folder, {path: listed[path] for path in tars})
    members = [(path, name) for path in tars for name in listed[path]]

    def open_members(indices: Sequence[int]) -> Iterator[Image.Image]:
        wanted = {members[i] for i in indices}
        for path in tars:  # in one pass, as compressed archives allow no other
            for name, file in _members(path):
                if (path, name) in wanted:
                    yield _open(file, f"{path.name}:{name}")

    return _collection(folder, split, [_inside(name) for _, name in members], open_members, whole=not parts)


def _require_parts_named(folder: Path, parts: Sequence[str], listed: Mapping[Path, Sequence[str]]) -> None:
    """Refuse archives that hold, or are called by, several parts, where no name begins with one: all would be one."""
    inner = {_parts(names[0])[0]: path.name for path, names in listed.items() if names}
    two = [f"{part} in {name}" for part, name in sorted(inner.items()) if part in PART_NAMES]
    if not parts and (found := two if len(two) > 1 else two_parts(path.name for path in listed)):
        what = "expected archives whose names begin with train, and with eval, test or val"
        raise DataError(f"corpus '{folder}': {what}, found {' and '.join(found)}; rename them")


def _require_once(folder: Path, listed: Mapping[Path, Sequence[str]]) -> None:
    """Refuse archives of which one holds a picture of another: it could be held out and matched on."""
    counts = Counter(name for names in listed.values() for name in map(_inside, names))
    seen: dict[tuple[tuple[str, ...], str], str] = {}
    for path, names in listed.items():
        if not any(counts[_inside(name)] > 1 for name in names):
            continue
        for name, file in _members(path):
            if file is not None and counts[_inside(name)] > 1:
                key = (_inside(name), hashlib.sha256(file.read()).hexdigest())
                if key in seen:
                    what = f"found {name} in {seen[key]} and {path.name}; keep it in one"
                    raise DataError(f"corpus '{folder}': expected each picture once, {what}")
                seen[key] = path.name


def _listed(path: Path) -> list[str]:
    """The pictures of an archive. Raises DataError where one is there twice, or where it holds several parts."""
    found = [(name, file is not None) for name, file in _members(path)]
    names = [name for name, read in found if read]
    if others := [name for name, read in found if not read]:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        kind = "of a kind that is not read; save it as .png"
        link = "a link, which is not read; pack with tar --dereference --hard-dereference"
        what = kind if others[0].lower().endswith(UNREAD) else link
        warnings.warn(f"corpus '{path}': {others[0]}{more}: {what}", stacklevel=1)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"corpus '{path}': expected each picture once, found {twice[0]} twice; pack it again")
    inner = {part for name in names if (part := _parts(name)[0]) in PART_NAMES}
    if inner and (others := [name for name in names if _parts(name)[0] not in PART_NAMES]):
        what = f"either parts or classes, found the part {min(inner)} beside {others[0]}"
        raise DataError(f"corpus '{path}': expected {what}; a class that is called as a part is needs another name")
    if len(inner) > 1:
        what = f"expected one part, found {' and '.join(sorted(inner))}"
        raise DataError(f"corpus '{path}': {what}; unpack it, or pack each as an archive of its own (train.tar)")
    return names


class _Member(tarfile.TarInfo):
    """One behind which nothing is left out: tarfile takes a damaged header for the end, and a file that is cut off."""

    @classmethod
    def fromtarfile(cls, tarfile_: Any) -> "_Member":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            what = "no mark of the end" if type(error).__name__ == "EmptyHeaderError" else str(error)
            if type(error).__name__ == "EOFHeaderError":  # which a block of zeros marks
                if all(not piece.strip(b"\0") for piece in iter(lambda: tarfile_.fileobj.read(2**20), b"")):
                    raise
                what = "more behind the end"
            raise tarfile.ReadError(f"{what} at byte {tarfile_.offset:,}") from error


def _members(path: Path) -> Iterator[tuple[str, Any]]:
    """The pictures of an archive, by name; None in the place of one that is only linked, or of a kind not read."""
    xz = path.name.lower().endswith(".xz")
    try:
        with (
            io.BufferedReader(Unpacked(path)) if xz else path.open("rb") as file,
            tarfile.open(fileobj=file, mode="r|" if xz else "r", tarinfo=_Member) as tar,
        ):
            for member in tar:
                hidden = any(part.startswith(".") and part != "." for part in member.name.split("/"))
                if not member.name.lower().endswith((*SUFFIXES, *UNREAD)) or hidden or member.isdir():
                    continue
                read = member.isfile() and member.name.lower().endswith(SUFFIXES)
                yield member.name, tar.extractfile(member) if read else None
    except (OSError, EOFError, lzma.LZMAError, tarfile.TarError) as error:
        raise DataError(f"corpus '{path}': the archive cannot be read ({error})") from error


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split("/") if part != ".")


def _inside(name: str) -> tuple[str, ...]:
    parts = _parts(name)
    return parts[1:] if parts[0] in PART_NAMES else parts


def _named(path: tuple[str, ...]) -> str:
    """The class of a picture: its first folder, or its name up to the first underscore, as ImageNet has them."""
    return path[0] if len(path) > 1 else path[0].partition("_")[0]


def _part(folder: Path, found: Iterable[str], split: str) -> str:
    for name in PARTS[split]:
        if name in found:
            return name
    what = f"expected {' or '.join(PARTS[split])}; found {', '.join(sorted(found))}"
    raise DataError(f"corpus '{folder}' ({split}): {what} (a class that is called so needs another name)")


def _collection(
    folder: Path,
    split: str,
    paths: list[tuple[str, ...]],
    opener: Callable[[Sequence[int]], Iterator[Image.Image]],
    whole: bool,
) -> Pictures:
    """Labels from paths."""
    names = [_named(path) for path in paths]
    classes = sorted(set(names))
    if whole and (meant := [name for name in classes if name.lower() in PART_NAMES]):
        raise DataError(f"corpus '{folder}': expected classes, found the part {meant[0]}; call it {meant[0].lower()}")
    if whole and (two := two_parts(classes)):
        raise DataError(f"corpus '{folder}': expected classes, found {' and '.join(two)}; call them train and val")
    if whole and (below := sorted({path[1] for path in paths if len(path) > 2} & PART_NAMES)):
        found = f"{paths[0][0]}/{below[0]}"
        raise DataError(f"corpus '{folder}': expected classes, found the part {found}; name the folder that holds it")
    index = {name: i for i, name in enumerate(classes)}
    labels = np.array([index[name] for name in names], dtype=np.int64)
    if not whole:
        return Pictures(folder.resolve().name, classes, labels, opener)
    held_out, rest = _deal(len(labels), int(len(labels) * HELD_OUT))
    chosen = held_out if split == "eval" else rest
    return Pictures(
        folder.resolve().name, classes, labels[chosen], lambda indices: opener([int(chosen[i]) for i in indices])
    )


def _deal(count: int, held_out: int) -> tuple[np.ndarray, np.ndarray]:
    """A fixed random division, each side ascending. RandomState's stream is frozen, unlike newer generators'."""
    order = np.random.RandomState(0).permutation(count)
    return np.sort(order[:held_out]), np.sort(order[held_out:])


def _open(source: Any, name: str) -> Image.Image:
    """One picture, once its header says that it is of a usual kind and size."""
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"image '{name}' cannot be read: expected a file, found a pipe, a device or nothing")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(source, formats=KINDS)
        if (pixels := image.width * image.height) > LARGEST:
            image.close()
            raise DataError(f"image '{name}' cannot be read: expected at most {LARGEST:,} pixels, found {pixels:,}")
        if image.mode.startswith(DEEP):
            image.close()
            raise DataError(f"image '{name}': expected 8 bits a channel, found {image.mode}; save it with 8 bits")
        image.load()
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise DataError(
            f"image '{name}' cannot be read: expected {', '.join(KINDS)}, found none; save it as .png"
        ) from None
    except Exception as error:  # damage shows in many ways
        raise DataError(f"image '{name}' cannot be read ({one_line(error)})") from error
    return image
