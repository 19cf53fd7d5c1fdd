"""What a folder's tokenizer files say about its tokens, and whether two models mean the same by them.

>>> read(Path("run-1")).ids["w7"]
7
>>> require_same(Path("run-1"), Path("run-2"), "model 1 and model 2")

Vocabularies in sentencepiece's own format (a folder with tokenizer.model alone) are not read, and so not compared.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmc.errors import CheckpointError, IncompatibleModelsError, one_line
from lmc.files import read_json

MOST = 2**31  # no id is as large
_CUTS = ("normalizer", "pre_tokenizer", "model")  # what in a tokenizer.json decides which tokens a text becomes


@dataclass(frozen=True)
class Vocabulary:
    """`ids`: token to id; `size`: how many, without those added later; `cuts`: how text falls into tokens.

    `around` says which tokens are put before and after a text.
    """

    file: Path
    ids: Mapping[str, int]
    size: int
    cuts: Mapping[str, Any] = field(default_factory=dict)
    around: Any = None


def read(folder: Path) -> Vocabulary | None:
    """The vocabulary in the first of `tokenizer.json`, `vocab.json` and `vocab.txt` that is there; None without any.

    Raises CheckpointError for a file from which no tokenizer can be built.
    """
    if (path := folder / "tokenizer.json").exists():
        return _fast(path)
    if (path := folder / "vocab.json").exists():
        ids = read_json(path)
        for token, number in ids.items():
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < MOST:
                raise CheckpointError(f"{path}: expected a number for every token, found {number!r} for {token!r}")
        merges = folder / "merges.txt"
        lines = [x for x in _lines(merges) if not x.startswith("#version")] if merges.exists() else []
        return Vocabulary(path, ids | _added(folder), max(ids.values(), default=-1) + 1, {"merges.txt": lines})
    if (path := folder / "vocab.txt").exists():
        ids = {token: i for i, token in enumerate(_lines(path))}
        return Vocabulary(path, ids | _added(folder), len(ids))
    return None


def digest(folder: Path) -> str | None:
    """The SHA-256 of what `read` finds: which id each token has and how text falls into tokens; None without any.

    >>> digest(Path("run-1")) == digest(Path("run-2"))
    True
    """
    found = read(folder)
    if found is None:
        return None
    plain = [sorted(found.ids.items()), found.cuts, found.around]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def require_fit(folder: Path, vocabulary: int) -> None:
    """Refuse a tokenizer with more tokens than the model has rows; tokens added later do not count, if never used."""
    found = read(folder)
    if found is not None and found.size > vocabulary:
        raise CheckpointError(
            f"{found.file}: expected at most vocab_size = {vocabulary:,} tokens, found {found.size:,}"
        )


def require_same(a: Path, b: Path, which: str) -> None:
    """A token must mean the same to both folders' models, and text must fall into the same tokens.

    Raises IncompatibleModelsError; warns where the two put other tokens around a text. Where a folder has no
    vocabulary, as that of a model saved without one, nothing is compared.
    """
    first, second = read(a), read(b)
    if first is None or second is None:
        return
    file = first.file.name
    for token in sorted(first.ids.keys() | second.ids.keys()):
        if first.ids.get(token) != second.ids.get(token):
            here, there = first.ids.get(token, "none"), second.ids.get(token, "none")
            what = f"{file}, id of token {token!r}"
            raise IncompatibleModelsError(f"{which} differ in {what}: expected {here}, found {there}")
    for part in first.cuts.keys() & second.cuts.keys():
        if first.cuts[part] != second.cuts[part]:
            raise IncompatibleModelsError(f"{which} differ in {file}, {part}: text becomes other tokens")
    if file == second.file.name and first.around != second.around:
        warnings.warn(f"{which} differ in {file}, post_processor: which tokens stand around a text", stacklevel=1)


def _fast(path: Path) -> Vocabulary:
    from tokenizers import Tokenizer

    plain = read_json(path)
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf8"))  # a path may hold any bytes, its text not
        size, today = tokenizer.get_vocab_size(with_added_tokens=False), json.loads(tokenizer.to_str())
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"{path}: no tokenizer can be built from it ({one_line(error)})") from error
    listed = plain["model"].get("vocab", {})  # unigram models list their tokens in order of id
    ids = dict(listed) if isinstance(listed, dict) else {entry[0]: i for i, entry in enumerate(listed)}
    ids |= {t["content"]: t["id"] for t in plain.get("added_tokens") or []}
    cuts = {part: today.get(part) for part in _CUTS}  # as it would be written today, however old the file is
    return Vocabulary(path, ids, size, cuts, today.get("post_processor"))


def _added(folder: Path) -> dict[str, int]:
    """Tokens that were added later, beside a vocabulary without a tokenizer.json."""
    file = folder / "added_tokens.json"
    return read_json(file) if file.exists() else {}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not readable as text ({error})") from None
