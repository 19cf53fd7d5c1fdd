"""What a folder's tokenizer files say about its tokens.

>>> read(Path("run-1")).ids["w7"]
7

Vocabularies in a format of their own (a folder with tokenizer.model or tekken.json alone) are not read: all that is
seen is whether two files are the same.
"""

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lmc.errors import CheckpointError, one_line
from lmc.files import read_json, read_text
from lmc.symmetries import transformers

UNREAD = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json")
_FIRST = ("<s>", "<pad>", "</s>", "<unk>")  # of a vocabulary with counts, whose file does not name them
ADDED, SCORES = "added_tokens", "scores"
BESIDE = ("special_tokens_map.json", "added_tokens.json")
MOST = 2**24  # no id is as large; the library of tokenizers counts up to the largest


@dataclass(frozen=True)
class Vocabulary:
    """`ids`: token to id; `size`: how many, without those added later; `cuts`: how text falls into tokens.

    `around` says which tokens are put before and after a text; `added`: the tokens that were added later.
    """

    file: Path
    ids: Mapping[str, int]
    size: int
    cuts: Mapping[str, Any] = field(default_factory=dict)
    around: Any = None
    added: frozenset[str] = frozenset()


def read(folder: Path) -> Vocabulary | None:
    """The vocabulary in the first of `tokenizer.json`, `vocab.json` and `vocab.txt` that is there; None without any.

    A `vocab.txt` beside `bpe.codes` has the counts of its tokens, and is read as PhoBERT reads it.

    Raises CheckpointError for a file from which no tokenizer can be built.
    """
    _require_one_file(folder)
    if (path := folder / "tokenizer.json").exists():
        return _at(path)
    if (path := folder / "vocab.json").exists():
        ids = read_json(path)
        _require_ids(path, ids)
        cuts = {}
        if (merges := folder / "merges.txt").exists():
            cuts = {"type": "BPE", "merges": [x for x in _lines(merges) if not x.startswith("#version")]}
        return Vocabulary(path, ids | _added(folder), max(ids.values(), default=-1) + 1, cuts)
    if (path := folder / "vocab.txt").exists() and (codes := folder / "bpe.codes").exists():  # PhoBERT's, BERTweet's
        words = [*_FIRST, *(line.rsplit(" ", 1)[0] for line in _lines(path))]  # a token and how often it was seen
        ids = {token: i for i, token in enumerate(dict.fromkeys(words))} | _added(folder)
        return Vocabulary(
            path, ids, len(ids), {"type": "BPE", "codes": [" ".join(line.split()[:2]) for line in _lines(codes)]}
        )
    if path.exists():
        ids = {token: i for i, token in enumerate(_lines(path))}
        return Vocabulary(path, ids | _added(folder), len(ids), {"type": "WordPiece", "settings": _settings(folder)})
    return None


def _require_one_file(folder: Path) -> None:
    """Refuse tokenizer files by version, of which the library picks one by its own."""
    named = beside(folder).get("fast_tokenizer_files") or []
    for name in named if isinstance(named, list) else []:
        if name != "tokenizer.json" and (folder / str(name)).exists():
            what = f"fast_tokenizer_files: expected one tokenizer.json, found {str(name)[:40]!r} too"
            advice = "name the one that you mean tokenizer.json, and take this entry out"
            raise CheckpointError(f"{folder / 'tokenizer_config.json'}: {what}; {advice}")


def whole(folder: Path) -> Vocabulary | None:
    """The same, with the tokens that only the settings beside a tokenizer.json name: the stock class adds them."""
    found = read(folder)
    if found is None or not (more := added_beside(folder)):
        return found
    ids = {token["content"]: token["id"] for token in more}
    return replace(found, ids={**found.ids, **ids}, added=found.added | ids.keys())


def added_beside(folder: Path) -> list[dict[str, Any]]:
    """The tokens that only the settings beside a tokenizer.json name, as such a file would hold them.

    >>> added_beside(Path("run-1"))
    []
    """
    file = folder / "tokenizer.json"
    special = folder / BESIDE[0]
    named = _named(beside(folder)) | _named(read_json(special) if special.exists() else {}) | _added(folder).keys()
    if not file.exists() or not (named := named - _at(file).ids.keys()) or (built := stock(folder)) is None:
        return []
    return [token for token in json.loads(built.backend_tokenizer.to_str())[ADDED] if token["content"] in named]


def _named(settings: Mapping[str, Any]) -> set[str]:
    """The tokens that settings name: special ones, alone or in lists, and those that were added, with their ids."""
    found: set[str] = set()
    waiting = [value for key, value in settings.items() if key.endswith(("_token", "_tokens", "_tokens_decoder"))]
    while waiting:
        match waiting.pop():
            case str(token) | {"content": str(token)}:
                found.add(token)
            case list(parts):
                waiting += parts
            case dict(parts):
                waiting += parts.values()
    return found


def require_fit(folder: Path, vocabulary: int) -> None:
    """Refuse a tokenizer with more tokens than the model has rows; tokens added later do not count, if never used."""
    found = read(folder)
    if found is not None and found.size > vocabulary:
        what = f"expected at most vocab_size = {vocabulary:,} tokens, found {found.size:,}"
        raise CheckpointError(f"{found.file}: {what}; put the model's own tokenizer there")


def beside(folder: Path) -> dict[str, Any]:
    own, model = (
        read_json(f) if f.exists() else {} for f in (folder / "tokenizer_config.json", folder / "config.json")
    )
    kind = model.get("tokenizer_class")  # which counts where the tokenizer's settings name none
    return own if kind is None else {"tokenizer_class": kind} | own


def as_built(folder: Path) -> Vocabulary | None:
    """The vocabulary of the tokenizer that the stock class builds from a folder, with its settings.

    >>> as_built(Path("run-1")).ids["w7"]
    7

    None where it cannot build one, or builds one of other tokens than the file that is read here has.
    """
    files = ("tokenizer.json", "tokenizer_config.json", "config.json", "vocab.json", "vocab.txt", "merges.txt")
    there = {name: file.stat() for name in (*files, "bpe.codes", *UNREAD, *BESIDE) if (file := folder / name).exists()}
    built = _built(folder, tuple((name, each.st_mtime_ns, each.st_size) for name, each in there.items()))
    own = read(folder)
    known = built is not None and own is not None and own.ids.items() <= built.ids.items()
    return built if known else None


@lru_cache(maxsize=8)
def _built(folder: Path, changed: tuple[tuple[str, int, int], ...]) -> Vocabulary | None:
    if (built := stock(folder)) is None:
        return None
    found = _parts(folder / "tokenizer.json", built.backend_tokenizer)
    return replace(found, cuts={**found.cuts, "split_special_tokens": built.split_special_tokens})


def stock(folder: Path) -> Any:
    """The tokenizer that the stock class builds from a folder; None where it cannot: a library may not be here.

    >>> stock(Path("run-1")).get_vocab()["w7"]
    7
    """
    try:
        built = transformers().AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        built.backend_tokenizer.get_vocab_size()
    except BaseException as error:  # a wrong value is found in many ways; it is said where a file is read
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":  # of the library of tokenizers
            return None
        raise
    return built


def merges_of(merges: Iterable[str | Sequence[str]], tokens: Set[str]) -> list[list[str]]:
    """Of the merges in a tokenizer's file, as texts or as pairs, those that make one of these tokens of two others.

    >>> merges_of(["a b", "b c"], {"a", "b", "ab"})
    [['a', 'b']]
    """
    pairs = (merge.split(" ") if isinstance(merge, str) else list(merge) for merge in merges)
    return [pair for pair in pairs if {*pair, "".join(pair)} <= tokens]


def unread(folder: Path) -> Path | None:
    """A vocabulary in a format of its own: sentencepiece's, or Mistral's."""
    return next((path for name in UNREAD if (path := folder / name).exists()), None)


def _at(path: Path) -> Vocabulary:
    known = path.stat()
    return _fast(path, known.st_mtime_ns, known.st_size)


@lru_cache(maxsize=8)
def _fast(path: Path, changed: int, length: int) -> Vocabulary:
    """The vocabulary of a tokenizer.json, built once while the file is the same: a large one takes a second."""
    from tokenizers import Tokenizer

    plain = read_json(path)
    if isinstance(model := plain.get("model"), dict) and isinstance(vocab := model.get("vocab"), dict):
        _require_ids(path, vocab)
    try:
        return _parts(path, Tokenizer.from_str(path.read_text(encoding="utf8")))  # a path may hold any bytes
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(
            f"{path}: no tokenizer can be built from it ({one_line(error)}); save it again"
        ) from error


def _parts(path: Path, tokenizer: Any) -> Vocabulary:
    """What a tokenizer says, as it would be written today, however old its file is."""
    size, today = tokenizer.get_vocab_size(with_added_tokens=False), json.loads(tokenizer.to_str())
    ids = tokenizer.get_vocab()
    cuts = {name: value for name, value in today["model"].items() if name not in ("vocab", "unk_id")}
    for marks in {"continuing_subword_prefix", "end_of_word_suffix"} & cuts.keys():
        cuts[marks] = cuts[marks] or None  # an empty one marks nothing
    if today["model"]["type"] == "Unigram":  # of all ways to cut a text it takes the one with the highest score
        cuts[SCORES] = dict(today["model"]["vocab"])
    cuts |= {part: _of_tokens(today[part]) for part in ("normalizer", "pre_tokenizer")}
    matter = ("single_word", "lstrip", "rstrip", *(("normalized",) if today["normalizer"] else ()))
    cuts[ADDED] = {token["content"]: [token[how] for how in matter] for token in today[ADDED]}
    return Vocabulary(path, ids, size, cuts, _of_tokens(today["post_processor"]), frozenset(cuts[ADDED]))


def _of_tokens(part: Any) -> Any:
    """A part of a tokenizer without what only says where in the text a token stood."""
    if isinstance(part, dict):
        return {name: _of_tokens(value) for name, value in part.items() if name != "trim_offsets"}
    return [_of_tokens(value) for value in part] if isinstance(part, list) else part


def _require_ids(path: Path, ids: Mapping[str, Any]) -> None:
    for token, number in ids.items():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < MOST:
            what = f"expected a number below {MOST:,} for every token, found {number!r} for {token!r}"
            raise CheckpointError(f"{path}: {what}; restore the file")


def _added(folder: Path) -> dict[str, int]:
    """Tokens that were added later, beside a vocabulary without a tokenizer.json."""
    file = folder / "added_tokens.json"
    return read_json(file) if file.exists() else {}


def _settings(folder: Path) -> dict[str, Any]:
    """How a tokenizer without a tokenizer.json changes text before it cuts it."""
    plain = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
    return plain | {name: value for name, value in beside(folder).items() if name in plain}


def _lines(path: Path) -> list[str]:
    return read_text(path).rstrip("\n").split("\n")
