"""What a merged model takes from its parents beside their weights, and what its card says of that.

>>> inherit((a, b), ("run-1", "run-2"), take_from=1).generation
1
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from lmc import checkpoints
from lmc.checkpoints import belongings, hub, licence
from lmc.errors import ArgumentError, inert
from lmc.files import read_json
from lmc.symmetries.families import Tokens, contexts, family_of

MADE_OF = "made_of.json"  # in the folder of prepared parents (see `parents`): what they were made of


@dataclass(frozen=True)
class Inheritance:
    """`sources`: the folder that each kind of belongings comes from; `generation`: the parent of generation settings.

    `tokenizer`: that of the tokenizer, whose class may stand among its settings. `notes` are lines for the model card,
    `metadata` is what stands at its head.
    """

    sources: Mapping[str, Path]
    generation: int
    tokenizer: int
    notes: tuple[str, ...]
    metadata: Mapping[str, Any]

    def of_endpoint(self, k: int) -> list[str]:
        """The notes of one parent alone for the card of its aligned form, where it has the number `k`: what it was."""
        return [note.replace("parent 0", f"parent {k}", 1) for note in self.notes if note.startswith("parent 0: ")]

    def settle(self, model: Any, parents: Sequence[Any]) -> None:
        """Give a new model the generation settings, and the class of a tokenizer, of their parents, in place."""
        other = parents[self.generation]
        if hasattr(model, "can_generate") and model.can_generate():
            model.generation_config = copy.deepcopy(other.generation_config)
            most = contexts([model])[0]
            if most < contexts([other])[0] and (model.generation_config.max_length or 0) > most:
                model.generation_config.max_length = most
            for name in belongings.STOPS:
                setattr(model.config, name, getattr(other.config, name, None))
        kinds = [getattr(getattr(m, "config", None), "tokenizer_class", None) for m in (model, parents[self.tokenizer])]
        if kinds[0] != kinds[1]:
            model.config.tokenizer_class = kinds[1]


def of_parts(parts: Mapping[str, nn.Module], called: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What stands at the head of the card of a model that several parts make together, by what each part is.

    >>> of_parts({"fine-tune": tuned, "its new base": b})
    {}

    `called`: the name of a part that was read from a place where it does not stay.
    """
    stated = {}
    for what, model in parts.items():
        place = checkpoints.source(model)
        own = _stated(None if place is None else hub.locate(place))
        stated[what] = replace(own, place=(called or {}).get(what, own.place))
    return licence.joined(stated)


def _stated(place: hub.Source | None) -> licence.Stated:
    return licence.Stated(None, ()) if place is None else licence.of(place)


def inherit(parents: Sequence[nn.Module], names: Sequence[str | None], take_from: int = 0) -> Inheritance:
    """What a mixture of these parents takes from whom: all from one of them, and what that one lacks from the next.

    `names`: the folder or hub name that each was read from, None where there is none. Raises ArgumentError where there
    is no parent of that number.
    """
    if not 0 <= take_from < len(parents):
        raise ArgumentError(f"take_from: expected a parent from 0 to {len(parents) - 1}, found {take_from}")
    places = [None if name is None else hub.locate(name) for name in names]
    metadata, notes = licence.of_all([_stated(place) for place in places])
    metadata |= {"tags": ["merge"]} if len(parents) > 1 else {}
    notes += [f"parent {k}: {words}" for k, place in enumerate(places) if place and (words := origin(place.folder))]
    own: dict[str, Path] = {}  # a parent that is only rewritten keeps the texts of its licence
    if len(parents) == 1 and places[0] is not None:
        own = {belongings.LICENCE: places[0].folder}
    else:
        notes += [words for k, place in enumerate(places) if place and (words := noticed(place.folder, f"parent {k}"))]
    if not isinstance(family_of(parents[0]).inputs(parents[0]), Tokens):
        if take_from:
            what = "pictures are prepared, and classes named, as the first model's, whose averages these are"
            warnings.warn(f"take_from: {what}; nothing is taken from another", stacklevel=1)
        return Inheritance(own, 0, 0, tuple(notes), metadata)
    folders = [None if place is None else place.folder for place in places]
    choice = belongings.choose(folders, take_from)
    sources = own | {kind: folder for kind, k in choice.taken.items() if (folder := folders[k]) is not None}
    generation = choice.taken.get(belongings.GENERATION, take_from)
    tokenizer = choice.taken.get(belongings.TOKENIZER, take_from)
    return Inheritance(sources, generation, tokenizer, (*choice.notes, *notes), metadata)


def noticed(folder: Path, whose: str) -> str:
    """That a notice of a parent does not come along, in words; empty where it has none.

    >>> noticed(Path("run-1"), "parent 0")
    ''
    """
    names = ", ".join(inert(file.name) for file in belongings.notices(folder))
    return f"notices: {whose} has {names}, which stays behind; pass on what it asks for" if names else ""


def origin(folder: Path) -> str:
    """What a parent was before it was made ready for matching, in words; empty for one that is as it was found."""
    file = folder.parent / MADE_OF
    words = read_json(file).get("words") if file.is_file() else None
    return inert(words.get(folder.name, ""))[:400] if isinstance(words, dict) else ""
