"""Whether the tokenizers of two folders mean the same by their tokens, and cut text into the same ones.

>>> require_same(Path("run-1"), Path("run-2"), "model 1 and model 2")

What counts is the tokenizer that the stock class builds from a folder, where it builds one: some classes take only
tokens and merges from a file, so what two versions of the library wrote differently may be one tokenizer.
"""

import json
import warnings
from collections.abc import Mapping, Sequence, Set
from itertools import combinations
from pathlib import Path
from typing import Any

from lmc.checkpoints import vocabulary
from lmc.checkpoints.vocabulary import Vocabulary
from lmc.errors import IncompatibleModelsError
from lmc.files import read_text, sha256

CHOOSE = "choose a common vocabulary with lmc match --vocabulary first, second, union or common"
# Of tokenizer_config.json, what no token of a text depends on.
IDLE = {"chat_template", "name_or_path", "_name_or_path", "model_max_length", "processor_class"}
IDLE |= {"padding_side", "truncation_side", "model_input_names", "clean_up_tokenization_spaces", "backend", "is_local"}
MENTIONED = 3


def require_same(a: Path, b: Path, which: str, advice: str = CHOOSE, more: bool = False) -> None:
    """A token must mean the same to both folders' models, and text must fall into the same tokens.

    `more`: the second may have tokens that the first lacks. Raises IncompatibleModelsError, which ends with `advice`.
    Where a folder has no vocabulary that is read here, nothing is compared.
    """
    first, second = vocabulary.read(a), vocabulary.read(b)
    if first is None or second is None:
        return
    file, apart = first.file.name, _settings_apart(a, b)
    token = _other_id(first.ids, second.ids, more)
    here, there = _both_built(first, second, token is not None or bool(apart))
    if here and there and token is None:  # the file's tokens are the same: what the settings beside it add may not be
        if (token := _in_conflict(here.ids, there.ids)) is not None:
            first, second, file = here, there, f"{file}, as {' and '.join(apart)} has it"
    elif here and there and _other_id(here.ids, there.ids, more) is None:
        token = None
    if token is not None:
        ids = [each.ids.get(token, "none") for each in (first, second)]
        what = f"{file}, id of token {token!r}: expected {ids[0]}, found {ids[1]}; {overlap(first, second)}"
        raise IncompatibleModelsError(f"{which} differ in {what}; {advice}")
    for part in differing_cuts(first, second):
        what = f"{file}, {part}: text becomes other tokens"
        raise IncompatibleModelsError(f"{which} differ in {what}; {advice}, if you mean to")


def _other_id(first: Mapping[str, int], second: Mapping[str, int], more: bool) -> str | None:
    """The first token that has another id in the second vocabulary, or is in one alone; with `more`, in the first."""
    tokens = sorted(first.keys() | (() if more else second.keys()))
    return next((token for token in tokens if first.get(token) != second.get(token)), None)


def _in_conflict(first: Mapping[str, int], second: Mapping[str, int]) -> str | None:
    """The first token whose id is another token's in the second vocabulary, or whose own is another there."""
    tokens = {i: token for token, i in second.items()}
    return next((t for t, i in sorted(first.items()) if tokens.get(i, t) != t or second.get(t, i) != i), None)


def _alone(first: Vocabulary, second: Vocabulary) -> str | None:
    """A token that settings give to one of two vocabularies whose files have the same ones."""
    apart = bool(_settings_apart(first.file.parent, second.file.parent))
    here, there = _both_built(first, second, apart)
    return min(here.ids.keys() ^ there.ids.keys(), default=None) if here and there else None


def first_read(folders: Sequence[Path]) -> int:
    """The number of the first folder with a vocabulary that is read here; 0 where none has.

    >>> first_read([Path("run-1"), Path("run-2")])
    0
    """
    return next((k for k, folder in enumerate(folders) if vocabulary.read(folder) is not None), 0)


def pairs(folders: Sequence[Path]) -> list[tuple[int, int]]:
    """The numbers of the models to compare: each with the first that has a vocabulary that is read here.

    >>> pairs([Path("run-1"), Path("run-2")])
    [(0, 1)]

    Those whose settings beside the file differ from that one's are compared with each other, too: what they add to it
    may be at odds.
    """
    known = first_read(folders)
    read = [k for k, folder in enumerate(folders) if vocabulary.read(folder) is not None]
    apart = [k for k in read if k != known and _settings_apart(folders[known], folders[k])]
    return [(min(k, known), max(k, known)) for k in range(len(folders)) if k != known] + list(combinations(apart, 2))


def warn_of_differences(a: Path, b: Path, which: str) -> None:
    """Say where two folders put other tokens around a text, and where only one has a vocabulary that is read here.

    Two that passed `require_same` may still be written differently, which other libraries, and older versions, may
    read differently. Where neither has any, as models saved without one, there is nothing to say.
    """
    first, second = vocabulary.read(a), vocabulary.read(b)
    if first is None or second is None:
        raw = [path if path is None else sha256(path) for path in map(vocabulary.unread, (a, b))]
        if first is not second or raw[0] != raw[1]:
            folder = a if first is None else b
            warnings.warn(f"{which}: {_uncompared(folder, str(folder))}", stacklevel=1)
    elif part := differing_around(first, second):
        warnings.warn(f"{which} differ in {part}: which tokens stand around a text", stacklevel=1)
    elif alone := _alone(first, second):
        what = f"{which} differ in token {alone!r}, which the settings beside its tokenizer give one of them alone"
        warnings.warn(f"{what}: the other cuts its text into more tokens, and learned no row for it", stacklevel=1)
    elif written := _differing(first.cuts, second.cuts, first.ids.keys() & second.ids.keys()):
        what = f"{which} differ in {first.file.name}, {', '.join(written)}"
        warnings.warn(f"{what}: the stock library builds the same tokenizer from both, others may not", stacklevel=1)


def differing_cuts(first: Vocabulary, second: Vocabulary) -> list[str]:
    """The parts of two tokenizers that cut text differently, apart from tokens that only one of them has."""
    common = first.ids.keys() & second.ids.keys()
    written = _differing(first.cuts, second.cuts, common)
    apart = _settings_apart(a := first.file.parent, b := second.file.parent)
    here, there = _both_built(first, second, bool(written or apart))
    if here and there:
        found = _differing(here.cuts, there.cuts, common)
        as_set = [f"as {' and '.join(apart)} {'has' if len(apart) == 1 else 'have'} it"] if apart else written
        return ([part for part in written if part in found] or as_set) if found else []
    if apart and not written:
        what = "so whether the settings beside it change how text is cut was not compared"
        warnings.warn(f"{a if here is None else b}: its tokenizer cannot be built here, {what}", stacklevel=1)
    return written


def _both_built(first: Vocabulary, second: Vocabulary, differ: bool) -> tuple[Vocabulary | None, Vocabulary | None]:
    """What the stock classes build of both, where their files or settings differ: it may be one tokenizer."""
    if not differ:
        return None, None
    return vocabulary.as_built(first.file.parent), vocabulary.as_built(second.file.parent)


def _differing(first: Mapping[str, Any], second: Mapping[str, Any], common: Set[str]) -> list[str]:
    """The parts in which two ways to cut text differ; of merges, scores and added tokens those of common tokens."""

    def part(cuts: Mapping[str, Any], name: str) -> Any:
        if name == vocabulary.ADDED:
            return {token: how for token, how in cuts[name].items() if token in common}
        if name == vocabulary.SCORES:
            return {token: score for token, score in cuts[name].items() if token in common}
        return vocabulary.merges_of(cuts[name], common) if name == "merges" else cuts[name]

    return sorted(name for name in first.keys() & second.keys() if part(first, name) != part(second, name))


def _settings_apart(a: Path, b: Path) -> list[str]:
    """What stands beside two tokenizers and differs, by which a stock class may change what their files say."""
    here, there = (vocabulary.beside(folder) for folder in (a, b))
    names = [name for name in sorted((here.keys() | there.keys()) - IDLE) if here.get(name) != there.get(name)]
    files = [file for file in vocabulary.BESIDE if len({_content(folder / file) for folder in (a, b)}) > 1]
    kinds = [found.file.name for folder in (a, b) if (found := vocabulary.read(folder)) is not None]
    files += [f"{kinds[1]} in the place of {kinds[0]}"] if len(set(kinds)) > 1 else []
    return [*(f"{name} of tokenizer_config.json" for name in names), *files][:MENTIONED]


def _content(file: Path) -> str:
    return read_text(file) if file.exists() else ""


def differing_around(first: Vocabulary, second: Vocabulary) -> str:
    """The part of two tokenizers by which they put other tokens around a text; empty where they put the same ones."""
    written = first.file.name == second.file.name and _around(first) != _around(second)
    apart = _settings_apart(first.file.parent, second.file.parent)
    here, there = _both_built(first, second, bool(written or apart))
    if (_around(here) != _around(there)) if here and there else written:
        return f"{first.file.name}, post_processor" if written else " and ".join(apart)
    return ""


def _around(tokens: Vocabulary) -> Any:
    """What stands around a text by the names of tokens, without their ids, which may differ; None for nothing."""

    def named(found: dict[str, Any]) -> dict[str, Any]:  # a pair in a list: a token and its id
        return {
            key: value[0] if isinstance(value, list) and key in ("cls", "sep") else value
            for key, value in found.items()
            if key != "ids"
        }

    return _putting(json.loads(json.dumps(tokens.around), object_hook=named))


def _putting(processor: Any) -> Any:
    """A post-processor without the parts that put no token anywhere."""
    match processor:
        case {"type": "Sequence", "processors": list(parts)}:
            kept = [part for part in map(_putting, parts) if part is not None]
            return kept[0] if len(kept) == 1 else kept or None
        case {"type": "ByteLevel"}:  # it moves offsets
            return None
        case {"type": "TemplateProcessing", "special_tokens": dict(named)} if not named:
            return None
    return processor


def overlap(first: Vocabulary, second: Vocabulary) -> str:
    """How many tokens two vocabularies have, how many in common, and how many of these under other ids."""
    common = first.ids.keys() & second.ids.keys()
    moved = sum(first.ids[token] != second.ids[token] for token in common)
    sizes = f"{len(first.ids):,} and {len(second.ids):,} tokens"
    return f"{sizes}, {len(common):,} in common" + (f", {moved:,} of them with other ids" if moved else "")


def warn_if_unread(folder: Path, like: Path, called: str) -> None:
    """Say of a folder without a vocabulary that is read here, where another has one, that tokens were not compared.

    >>> warn_if_unread(Path("run-1"), Path("run-2"), "run-1")
    """
    if vocabulary.read(folder) is None and vocabulary.read(like) is not None:
        warnings.warn(_uncompared(folder, called), stacklevel=1)


def _uncompared(folder: Path, called: str) -> str:
    """That a folder has no vocabulary that is read here, and what to do."""
    raw = vocabulary.unread(folder)
    found = "no tokenizer" if raw is None else f"{raw.name} alone, which is not read"
    advice = "save it as tokenizer.json with transformers" if raw else "put the one it was trained with there"
    return f"{called} has {found}, so whether tokens mean the same was not compared; {advice}"
