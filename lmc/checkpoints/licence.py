"""What the cards of parents say of their licence and of the models they come from, and what a merged model's may say.

>>> of_all([Stated("mit", ("org/base",)), Stated("mit", ("org/base",))])
({'license': 'mit', 'base_model': ['org/base']}, [])

A licence is passed on where every parent states the same one. Otherwise none is, and a line says what was found: which
of them hold for a mixture is not for a program to say. A model of two parts, as a base and its adapter, states both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmc.checkpoints import belongings
from lmc.checkpoints.hub import Source
from lmc.errors import CheckpointError, inert
from lmc.files import read_json

LARGEST_CARD = 2**20  # bytes
LINE = "licence: parent 0: "  # how the line of a card begins that names those of several parents
_KNOWN = {"license", "license_name", "license_link", "base_model", "library_name"}


@dataclass(frozen=True)
class Stated:
    """What one parent's card says: its licence in words, and the repositories that the model comes from.

    `head` is what says so at the head of a card: a licence of no list there stands as `other`, with its name. `file`
    lies beside a card that says nothing.
    """

    licence: str | None
    bases: tuple[str, ...]
    head: Mapping[str, Any] = field(default_factory=dict, compare=False)
    file: str | None = None

    @property
    def words(self) -> str:
        """What is known of the licence."""
        return self.licence or (f"that of its file {self.file}" if self.file else "not stated")


def of(source: Source) -> Stated:
    """What the card in a folder says, or timm's record; a repository of the hub is its own base."""
    found = {**_of_record(source), **_metadata(source)}
    bases = found.get("base_model")
    listed = bases if isinstance(bases, list) else [bases]
    named = (source.repository,) if source.repository else tuple(b for b in listed if isinstance(b, str))
    match found:
        case {"license": "other", "license_name": str(name)}:
            link = str(found.get("license_link"))
            there = {"license_link": link} if link.startswith("https://") else {}  # one within the folder stays behind
            return Stated(name, named, {"license": "other", "license_name": name} | there)
        case {"license": str(name)}:
            return Stated(name, named, {"license": name})
        case {"license": [*names]} if names and all(isinstance(name, str) for name in names):
            return Stated(", ".join(names), named, {"license": names})
    files = [path.name for path in belongings.licences(source.folder)]
    files += ["README.md"] if _of_several(source) else []  # a merged model's card says it in its text
    return Stated(None, named, file=files[0] if files else None)


def others(source: Source) -> list[str]:
    """What else a card's head says, by its names."""
    return sorted({str(name)[:40] for name in _metadata(source)} - _KNOWN)


def joined(parts: Mapping[str, Stated]) -> dict[str, Any]:
    """The metadata of a model that several parts make together, by what each part is.

    >>> joined({"adapter": Stated("mit", ()), "base": Stated("cc-by-nc-4.0", ("org/base",))})["license_name"]
    'mit (adapter) and cc-by-nc-4.0 (base)'
    """
    bases = list(dict.fromkeys(base for part in parts.values() for base in part.bases))
    first, *others = parts.values()
    metadata: dict[str, Any] = {"base_model": bases} if bases else {}
    if not any(part.licence or part.file for part in parts.values()):
        return metadata
    if first.licence and all(other.licence == first.licence for other in others):
        return {**_head(first), **metadata}
    words = " and ".join(f"{part.words} ({what})" for what, part in parts.items())
    return {"license": "other", "license_name": words} | metadata


def of_all(parents: Sequence[Stated]) -> tuple[dict[str, Any], list[str]]:
    """The metadata of a merged model's card, and what is to be said in its text."""
    bases = list(dict.fromkeys(base for parent in parents for base in parent.bases))
    metadata: dict[str, Any] = {"base_model": bases} if bases else {}
    licences = [parent.licence for parent in parents]
    if licences[0] is not None and len(set(licences)) == 1:
        return {**_head(parents[0]), **metadata}, []
    if not any(parent.licence or parent.file for parent in parents):
        return metadata, []
    first, *more = (inert(parent.words) for parent in parents)
    found = "; ".join([first, *(f"parent {k}: {words}" for k, words in enumerate(more, start=1))])
    return metadata, [f"{LINE}{found}; look which of them hold for the mixture before you publish it"]


def _head(stated: Stated) -> Mapping[str, Any]:
    return stated.head or {"license": stated.licence}


def _of_record(source: Source) -> dict[str, Any]:
    """What timm writes beside a model's settings, or among them as it once did; its cards often say no more."""
    try:
        config = read_json(source.folder / "config.json")
        record = config.get("pretrained_cfg", config if "architecture" in config else None)
    except (CheckpointError, OSError):
        return {}
    named = record.get("license") if isinstance(record, dict) else None
    return {"license": named} if isinstance(named, str) and named else {}


def _of_several(source: Source) -> bool:
    """Whether a card's text says whose licences were found, as that of a merged model does where they differ."""
    card = source.folder / "README.md"
    small = card.is_file() and card.stat().st_size <= LARGEST_CARD
    return small and f"\n- {LINE}" in card.read_text(encoding="utf8", errors="replace")


def _metadata(source: Source) -> dict[str, Any]:
    """The head of a model card; nothing where there is none that can be read."""
    from huggingface_hub.repocard import metadata_load
    from yaml import YAMLError  # the hub's library brings it

    card = source.folder / "README.md"
    if not card.is_file() or card.stat().st_size > LARGEST_CARD:
        return {}
    try:
        return metadata_load(card) or {}
    except (YAMLError, ValueError, OSError, RecursionError):
        return {}
