"""What the cards of parents say of their licence and of the models they come from, and what a merged model's may say.

>>> of_all([Stated("mit", ("org/base",)), Stated("mit", ("org/base",))])
({'license': 'mit', 'base_model': ['org/base']}, [])

A licence is passed on where every parent states the same one. Otherwise none is, and a line says what was found: which
of them hold for a mixture is not for a program to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmc.checkpoints.hub import Source
from lmc.errors import inert

LARGEST_CARD = 2**20  # bytes


@dataclass(frozen=True)
class Stated:
    """What one parent's card says: its licence, and the repositories that the model comes from."""

    licence: str | None
    bases: tuple[str, ...]


def of(source: Source) -> Stated:
    """What the card in a folder says; a repository of the hub is its own base."""
    found = _metadata(source)
    licence, bases = found.get("license"), found.get("base_model")
    if licence == "other" and isinstance(found.get("license_name"), str):
        licence = found["license_name"]
    listed = bases if isinstance(bases, list) else [bases]
    named = (source.repository,) if source.repository else tuple(b for b in listed if isinstance(b, str))
    return Stated(licence if isinstance(licence, str) else None, named)


def of_all(parents: Sequence[Stated]) -> tuple[dict[str, Any], list[str]]:
    """The metadata of a merged model's card, and what is to be said in its text."""
    bases = list(dict.fromkeys(base for parent in parents for base in parent.bases))
    metadata: dict[str, Any] = {"base_model": bases} if bases else {}
    licences = [parent.licence for parent in parents]
    if licences[0] is not None and len(set(licences)) == 1:
        return {"license": licences[0]} | metadata, []
    if not any(licences):
        return metadata, []
    found = "; ".join(f"parent {k}: {inert(licence or 'not stated')}" for k, licence in enumerate(licences))
    return metadata, [f"licence: {found}; look which of them hold for both before you publish this"]


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
