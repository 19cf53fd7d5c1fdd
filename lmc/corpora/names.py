"""What a corpus may be called, and what it then holds; a name that is none is told before torch is imported.

>>> kind("digits")
'images'
"""

import os
import warnings
from pathlib import Path

from lmc.corpora import pictures, texts
from lmc.errors import DataError

NAMES = {
    "embedded": "text",
    "wikitext": "text",
    "fineweb": "text",
    "digits": "images",
    "cifar10": "images",
    "imagenet": "images",
}


def kind(corpus: str) -> str:
    """Whether a corpus holds "text" or "images".

    >>> kind("digits")
    'images'
    """
    if corpus in NAMES:
        if Path(corpus).is_dir():
            warnings.warn(f"corpus '{corpus}': the one of that name, not the folder; that is ./{corpus}", stacklevel=1)
        return NAMES[corpus]
    path = Path(corpus)
    if not corpus.strip():
        raise DataError(f"corpus: expected {', '.join(NAMES)}, a text file or a folder, found an empty name")
    if path.is_file():
        if path.name.lower().endswith(texts.SUFFIXES):
            return "text"
        raise DataError(f"corpus '{corpus}': expected a {' or '.join(texts.SUFFIXES)} file or a folder")
    if not path.is_dir():
        raise DataError(f"unknown corpus '{corpus}'; expected {', '.join(NAMES)}, a text file or a folder")
    found = texts.files(path)
    about = pictures.in_parts(path) or (all(map(_is_about, found)) and pictures.any_below(path))
    if any(file.name.startswith(texts.NAMES) for file in found) or (found and not about):
        return "text"
    if pictures.archives(path) or pictures.any_below(path):
        return "images"
    below = next(path.rglob("*.txt"), None)
    hint = "" if below is None else f"; its texts lie in folders below it ({below.relative_to(path)}): name one of them"
    raise DataError(f"corpus '{corpus}': the folder holds no .txt files, no class folders and no archives{hint}")


def _is_about(file: Path) -> bool:
    """Whether a text is about the pictures that lie beside it: which classes there are, and whose the pictures are."""
    return file.name.lower().startswith((*texts.ABOUT, "class", "label", "words", "wnid", "synset", "credit", "about"))


def require_kind(corpus: str, expected: str, reader: str) -> None:
    """Raise DataError unless a corpus holds what a reader reads: "text" or "images".

    >>> require_kind("digits", "images", "the model")
    """
    if (found := kind(corpus)) != expected:
        options = ", ".join(name for name, content in NAMES.items() if content == expected)
        raise DataError(f"corpus '{corpus}' holds {found}, but {reader} reads {expected}: {options}, or a folder")


def would_read(corpus: str, file: Path) -> bool:
    """Whether a file is a corpus, or would be read as a part of it if it were there.

    >>> would_read("digits", Path("digits/1.png")), would_read("text.txt", Path("./text.txt"))
    (False, True)
    """
    if corpus in NAMES:
        return False
    here, source = (Path(os.path.realpath(place)) for place in (file, corpus))
    if here == source or (here.exists() and any(link.samefile(here) for link in _links(source))):
        return True
    if source not in here.parents:
        return False
    if kind(corpus) == "text":
        return here.parent == source and here.name.lower().endswith(texts.SUFFIXES)
    return here.name.lower().endswith((*pictures.SUFFIXES, *pictures.ARCHIVES))


def _links(folder: Path) -> list[Path]:
    """The links to files below a folder."""
    return [path for path in folder.rglob("*") if path.is_symlink() and path.is_file()]
