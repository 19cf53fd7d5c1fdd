"""What the cards of parents say of their licence and of the models they come from, and what a merged model's may say.

>>> of_all([Stated("mit", ("org/base",)), Stated("mit", ("org/base",))])
({'license': 'mit', 'base_model': ['org/base']}, [])

A licence is passed on where every parent states the same one. Otherwise none is, and a line says what was found: which
of them hold for a mixture is not for a program to say. A model of two parts, as a base and its adapter, states both.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lmc.checkpoints import belongings
from lmc.checkpoints.hub import Source
from lmc.errors import CheckpointError, inert
from lmc.files import read_json, sha256

LARGEST_CARD = 2**20  # bytes
_CARD = "README.md"
_WORD = re.compile(r"\blicen[cs]e", re.IGNORECASE)
_KNOWN = {"license", "license_name", "license_link", "base_model", "library_name"}


@dataclass(frozen=True)
class Stated:
    """What one parent's card says: its licence in words, and the repositories that the model comes from.

    `head` is what says so at the head of a card: a licence of no list there stands as `other`, with its name. `file`
    lies beside a card that says nothing, or `other`; `digest` is that of its text, and `place` the model's name.
    """

    licence: str | None
    bases: tuple[str, ...]
    head: Mapping[str, Any] = field(default_factory=dict, compare=False)
    file: str | None = None
    digest: str | None = None
    place: str = ""

    @property
    def words(self) -> str:
        """What is known of the licence, for a reader who knows which model is meant."""
        if self.file is None:
            return self.licence or "not stated"
        return f"{self.licence}, in its file {self.file}" if self.licence else f"that of its file {self.file}"

    @property
    def told(self) -> str:
        """The same for a card that may be read elsewhere, where another file of that name may lie."""
        return self.words + (f" of {inert(self.place)}" if self.file else "")


def of(source: Source) -> Stated:
    """What the card in a folder says, or timm's record; a repository of the hub is its own base."""
    found = {**_of_record(source), **_metadata(source)}
    bases = found.get("base_model")
    listed = bases if isinstance(bases, list) else [bases]
    named = (source.repository,) if source.repository else tuple(b for b in listed if isinstance(b, str))
    files = [path.name for path in belongings.licences(source.folder)]
    text = (files[0], sha256(source.folder / files[0]), source.name) if files else ()
    link = str(found.get("license_link"))
    there = (
        {"license_link": link} if link.startswith(("https://", "http://")) else {}
    )  # one within the folder stays behind
    match found:
        case {"license": "other", "license_name": str(name)}:
            return Stated(name, named, {"license": "other", "license_name": name} | there, *text)
        case {"license": "other"}:
            return Stated(f"other ({link})" if there else "other", named, {"license": "other"} | there, *text)
        case {"license": str(name)}:
            return Stated(name, named, {"license": name} | there)
        case {"license": [*names]} if names and all(isinstance(name, str) for name in names):
            return Stated(", ".join(names), named, {"license": names})
    if not text and _speaks_of_it(source):
        text = (_CARD, sha256(source.folder / _CARD), source.name)
    return Stated(None, named, {}, *text)


def left_behind(source: Source) -> list[str]:
    """What of a card a new one does not repeat: its text, and what else its head says, by its names."""
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    card = source.folder / _CARD
    if not card.is_file():
        return []
    text = card.read_text(encoding="utf8", errors="replace") if card.stat().st_size <= LARGEST_CARD else "long"
    spoken = ["its text"] if REGEX_YAML_BLOCK.sub("", text, count=1).strip() else []
    return spoken + sorted({str(name)[:40] for name in _metadata(source)} - _KNOWN)


def of_a_copy(stated: Stated) -> dict[str, Any]:
    """The metadata of a model that is only written in another way: where the text goes along, the head says no more.

    >>> of_a_copy(Stated(None, (), file="LICENSE"))
    {}
    """
    goes_along = stated.file != _CARD  # a new card is written
    return joined({"model": replace(stated, file=None) if goes_along else stated})


def joined(parts: Mapping[str, Stated]) -> dict[str, Any]:
    """The metadata of a model that several parts make together, by what each part is.

    >>> joined({"adapter": Stated("mit", ()), "base": Stated("cc-by-nc-4.0", ("org/base",))})["license_name"]
    'mit (adapter) and cc-by-nc-4.0 (base)'
    """
    bases = list(dict.fromkeys(base for part in parts.values() for base in part.bases))
    metadata: dict[str, Any] = {"base_model": bases} if bases else {}
    if not any(part.licence or part.file for part in parts.values()):
        return metadata
    every = list(parts.values())
    if _one(every) and not any(part.file for part in every):
        return {**_head(every), **metadata}
    words = " and ".join(f"{part.told} ({what})" for what, part in parts.items())
    return {"license": "other", "license_name": words} | metadata


def of_all(parents: Sequence[Stated]) -> tuple[dict[str, Any], list[str]]:
    """The metadata of a merged model's card, and what is to be said in its text; of one parent all is metadata."""
    if len(parents) == 1:
        return of_a_copy(parents[0]), []
    bases = list(dict.fromkeys(base for parent in parents for base in parent.bases))
    metadata: dict[str, Any] = {"base_model": bases} if bases else {}
    if _one(parents):
        return {**_head(parents), **metadata}, []
    if not any(parent.licence or parent.file for parent in parents):
        return metadata, []
    first, *more = (inert(parent.words) for parent in parents)
    found = "; ".join([first, *(f"parent {k}: {words}" for k, words in enumerate(more, start=1))])
    return metadata, [f"licence: parent 0: {found}; look which of them hold for the mixture before you publish it"]


def _one(parts: Sequence[Stated]) -> bool:
    """Whether all state the same licence, and do not mean other texts by it."""
    return parts[0].licence is not None and (
        len({part.licence for part in parts}) == 1 and len({part.digest for part in parts if part.digest}) < 2
    )


def _head(parts: Sequence[Stated]) -> dict[str, Any]:
    """What says so at the head of a card, and where it can be read, if all say the same."""
    head = dict(parts[0].head or {"license": parts[0].licence})
    if len({part.head.get("license_link") for part in parts}) > 1:  # repositories often name their own copy
        head.pop("license_link", None)
    return head


def _of_record(source: Source) -> dict[str, Any]:
    """What timm writes beside a model's settings, or among them as it once did; its cards often say no more."""
    try:
        config = read_json(source.folder / "config.json")
        record = config.get("pretrained_cfg", config if "architecture" in config else None)
    except (CheckpointError, OSError):
        return {}
    named = record.get("license") if isinstance(record, dict) else None
    return {"license": named} if isinstance(named, str) and named else {}


def _speaks_of_it(source: Source) -> bool:
    """Whether a card's text speaks of a licence: as people write it, or as that of a merged model names several."""
    card = source.folder / _CARD
    small = card.is_file() and card.stat().st_size <= LARGEST_CARD
    return small and bool(_WORD.search(card.read_text(encoding="utf8", errors="replace")))


def _metadata(source: Source) -> dict[str, Any]:
    """The head of a model card; nothing where there is none that can be read."""
    from huggingface_hub.repocard import metadata_load
    from yaml import YAMLError  # the hub's library brings it

    card = source.folder / _CARD
    if not card.is_file() or card.stat().st_size > LARGEST_CARD:
        return {}
    try:
        return metadata_load(card) or {}
    except (YAMLError, ValueError, OSError, RecursionError):
        return {}
