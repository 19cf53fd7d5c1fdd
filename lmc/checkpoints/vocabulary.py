"""What a folder's tokenizer files say about its tokens, and whether two models mean the same by them.

>>> read(Path("run-1")).ids["w7"]
7
>>> require_same(Path("run-1"), Path("run-2"), "model 1 and model 2")

Vocabularies in a format of their own (a folder with tokenizer.model or tekken.json alone) are not read: all that is
seen is whether two files are the same.
"""

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lmc.errors import CheckpointError, IncompatibleModelsError, one_line
from lmc.files import read_json, read_text, sha256
from lmc.symmetries import transformers

CHOOSE = "choose a common vocabulary with lmc match --vocabulary first, second, union or common"
UNREAD = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json")
# Of tokenizer_config.json, what no token of a text depends on.
IDLE = {"chat_template", "name_or_path", "_name_or_path", "model_max_length", "processor_class"}
IDLE |= {"padding_side", "truncation_side", "model_input_names", "clean_up_tokenization_spaces", "backend", "is_local"}
_FIRST = ("<s>", "<pad>", "</s>", "<unk>")  # of a vocabulary with counts, whose file does not name them
ADDED, SCORES, MENTIONED = "added_tokens", "scores", 3
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
        known = path.stat()
        return _fast(path, known.st_mtime_ns, known.st_size)
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
    named = _beside(folder).get("fast_tokenizer_files") or []
    for name in named if isinstance(named, list) else []:
        if name != "tokenizer.json" and (folder / str(name)).exists():
            what = f"fast_tokenizer_files: expected one tokenizer.json, found {str(name)[:40]!r} too"
            advice = "name the one that you mean tokenizer.json, and take this entry out"
            raise CheckpointError(f"{folder / 'tokenizer_config.json'}: {what}; {advice}")


def require_fit(folder: Path, vocabulary: int) -> None:
    """Refuse a tokenizer with more tokens than the model has rows; tokens added later do not count, if never used."""
    found = read(folder)
    if found is not None and found.size > vocabulary:
        what = f"expected at most vocab_size = {vocabulary:,} tokens, found {found.size:,}"
        raise CheckpointError(f"{found.file}: {what}; put the model's own tokenizer there")


def require_same(a: Path, b: Path, which: str, advice: str = CHOOSE, more: bool = False) -> None:
    """A token must mean the same to both folders' models, and text must fall into the same tokens.

    `more`: the second may have tokens that the first lacks. Raises IncompatibleModelsError, which ends with `advice`.
    Where a folder has no vocabulary that is read here, nothing is compared.
    """
    first, second = read(a), read(b)
    if first is None or second is None:
        return
    file = first.file.name
    for token in sorted(first.ids.keys() | (() if more else second.ids.keys())):
        if first.ids.get(token) != second.ids.get(token):
            here, there = first.ids.get(token, "none"), second.ids.get(token, "none")
            what = f"{file}, id of token {token!r}: expected {here}, found {there}; {overlap(first, second)}"
            raise IncompatibleModelsError(f"{which} differ in {what}; {advice}")
    for part in differing_cuts(first, second):
        what = f"{file}, {part}: text becomes other tokens"
        raise IncompatibleModelsError(f"{which} differ in {what}; {advice}, if you mean to")


def pairs(folders: Sequence[Path]) -> list[tuple[int, int]]:
    """The numbers of the models to compare: each with the first that has a vocabulary that is read here.

    >>> pairs([Path("run-1"), Path("run-2")])
    [(0, 1)]
    """
    known = next((k for k, folder in enumerate(folders) if read(folder) is not None), 0)
    return [(min(k, known), max(k, known)) for k in range(len(folders)) if k != known]


def warn_of_differences(a: Path, b: Path, which: str) -> None:
    """Say where two folders put other tokens around a text, and where only one has a vocabulary that is read here.

    Two that passed `require_same` may still be written differently, which other libraries, and older versions, may
    read differently. Where neither has any, as models saved without one, there is nothing to say.
    """
    first, second = read(a), read(b)
    if first is None or second is None:
        raw = [path if path is None else sha256(path) for path in map(_unread, (a, b))]
        if first is not second or raw[0] != raw[1]:
            warnings.warn(f"{which}: {_uncompared(a, b)}", stacklevel=1)
    elif part := differing_around(first, second):
        warnings.warn(f"{which} differ in {part}: which tokens stand around a text", stacklevel=1)
    elif written := _differing(first.cuts, second.cuts, first.ids.keys() & second.ids.keys()):
        what = f"{which} differ in {first.file.name}, {', '.join(written)}"
        warnings.warn(f"{what}: the stock library builds the same tokenizer from both, others may not", stacklevel=1)


def differing_around(first: Vocabulary, second: Vocabulary) -> str:
    """The part of two tokenizers by which they put other tokens around a text; empty where they put the same ones."""
    written = first.file.name == second.file.name and _around(first) != _around(second)
    apart = _settings_apart(a := first.file.parent, b := second.file.parent)
    here, there = (_as_built(folder) if written or apart else None for folder in (a, b))
    if (_around(here) != _around(there)) if here and there else written:
        return f"{first.file.name}, post_processor" if written else " and ".join(apart)
    return ""


def _around(vocabulary: Vocabulary) -> Any:
    """What stands around a text by the names of tokens, without their ids, which may differ."""

    def named(found: dict[str, Any]) -> dict[str, Any]:  # a pair in a list: a token and its id
        return {
            key: value[0] if isinstance(value, list) and key in ("cls", "sep") else value
            for key, value in found.items()
            if key != "ids"
        }

    return json.loads(json.dumps(vocabulary.around), object_hook=named)


def overlap(first: Vocabulary, second: Vocabulary) -> str:
    """How many tokens two vocabularies have, how many in common, and how many of these under other ids."""
    common = first.ids.keys() & second.ids.keys()
    moved = sum(first.ids[token] != second.ids[token] for token in common)
    sizes = f"{len(first.ids):,} and {len(second.ids):,} tokens"
    return f"{sizes}, {len(common):,} in common" + (f", {moved:,} of them with other ids" if moved else "")


def differing_cuts(first: Vocabulary, second: Vocabulary) -> list[str]:
    """The parts of two tokenizers that cut text differently, apart from tokens that only one of them has.

    What counts is the tokenizer that the stock class builds, where it builds one: some classes take only tokens and
    merges from a file, so what one version of the library wrote and what another did may be one tokenizer.
    """
    common = first.ids.keys() & second.ids.keys()
    written = _differing(first.cuts, second.cuts, common)
    apart = _settings_apart(a := first.file.parent, b := second.file.parent)
    here, there = (_as_built(folder) if written or apart else None for folder in (a, b))
    if here and there:
        found = _differing(here.cuts, there.cuts, common)
        as_set = [f"as {' and '.join(apart)} {'has' if len(apart) == 1 else 'have'} it"] if apart else written
        return ([part for part in written if part in found] or as_set) if found else []
    if apart and not written:
        what = "so whether the settings beside it change how text is cut was not compared"
        warnings.warn(f"{a if here is None else b}: its tokenizer cannot be built here, {what}", stacklevel=1)
    return written


def _differing(first: Mapping[str, Any], second: Mapping[str, Any], common: Set[str]) -> list[str]:
    """The parts in which two ways to cut text differ; of merges, scores and added tokens those of common tokens."""

    def part(cuts: Mapping[str, Any], name: str) -> Any:
        if name == ADDED:
            return {token: how for token, how in cuts[name].items() if token in common}
        if name == SCORES:
            return {token: score for token, score in cuts[name].items() if token in common}
        return merges_of(cuts[name], common) if name == "merges" else cuts[name]

    return sorted(name for name in first.keys() & second.keys() if part(first, name) != part(second, name))


def _settings_apart(a: Path, b: Path) -> list[str]:
    """What stands beside two tokenizers and differs, by which a stock class may change what their files say."""
    here, there = (_beside(folder) for folder in (a, b))
    names = [name for name in sorted((here.keys() | there.keys()) - IDLE) if here.get(name) != there.get(name)]
    files = [file for file in BESIDE if len({_content(folder / file) for folder in (a, b)}) > 1]
    return [*(f"{name} of tokenizer_config.json" for name in names), *files][:MENTIONED]


def _content(file: Path) -> str:
    return read_text(file) if file.exists() else ""


def _beside(folder: Path) -> dict[str, Any]:
    own, model = (
        read_json(f) if f.exists() else {} for f in (folder / "tokenizer_config.json", folder / "config.json")
    )
    kind = model.get("tokenizer_class")  # which counts where the tokenizer's settings name none
    return own if kind is None else {"tokenizer_class": kind} | own


def _as_built(folder: Path) -> Vocabulary | None:
    """The vocabulary of the tokenizer that the stock class builds from a folder, with its settings; None: it cannot."""
    files = ("tokenizer.json", "tokenizer_config.json", "config.json", *BESIDE)
    there = (file.stat() for name in files if (file := folder / name).exists())
    return _built(folder, tuple((each.st_mtime_ns, each.st_size) for each in there))


@lru_cache(maxsize=8)
def _built(folder: Path, changed: tuple[tuple[int, int], ...]) -> Vocabulary | None:
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
    except Exception:  # a wrong value is found in many ways; what is wrong with a file is said where it is read
        return None
    return built


def merges_of(merges: Iterable[str | Sequence[str]], tokens: Set[str]) -> list[list[str]]:
    """Of the merges in a tokenizer's file, as texts or as pairs, those that make one of these tokens of two others.

    >>> merges_of(["a b", "b c"], {"a", "b", "ab"})
    [['a', 'b']]
    """
    pairs = (merge.split(" ") if isinstance(merge, str) else list(merge) for merge in merges)
    return [pair for pair in pairs if {*pair, "".join(pair)} <= tokens]


def _unread(folder: Path) -> Path | None:
    """A vocabulary in a format of its own: sentencepiece's, or Mistral's."""
    return next((path for name in UNREAD if (path := folder / name).exists()), None)


def _uncompared(a: Path, b: Path) -> str:
    """Which of two folders has no vocabulary that is read here, and what to do."""
    folder = a if read(a) is None else b
    raw = _unread(folder)
    found = "no tokenizer" if raw is None else f"{raw.name} alone, which is not read"
    advice = "save it as tokenizer.json with transformers" if raw else "put the one it was trained with there"
    return f"{folder} has {found}, so whether tokens mean the same was not compared; {advice}"


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
    cuts |= {part: today[part] for part in ("normalizer", "pre_tokenizer")}
    matter = ("single_word", "lstrip", "rstrip", *(("normalized",) if today["normalizer"] else ()))
    cuts[ADDED] = {token["content"]: [token[how] for how in matter] for token in today[ADDED]}
    return Vocabulary(path, ids, size, cuts, today["post_processor"], frozenset(cuts[ADDED]))


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
    return plain | {name: value for name, value in _beside(folder).items() if name in plain}


def _lines(path: Path) -> list[str]:
    return read_text(path).rstrip("\n").split("\n")
