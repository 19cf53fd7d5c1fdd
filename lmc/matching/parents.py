"""Parents that cannot be matched as they are, made ready: stock checkpoints of the same function beside the alignment.

>>> prepare(["run-1", "run-2"], Path("aligned.parents"), None)
['run-1', 'run-2']

These are adapters, which are joined with their base, models whose vocabularies differ, which are given one, models that
are smaller than another, which are written in its shapes, and models with more learned positions, which are cut.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lmc.checkpoints import (
    adapters,
    belongings,
    foreign,
    hub,
    inspect,
    licence,
    load,
    refer,
    require_written,
    same_tokens,
    save,
    tokens,
    vocabulary,
)
from lmc.checkpoints import source as place_of
from lmc.errors import CheckpointError
from lmc.files import read_json, require_digests, sha256, whole_folder
from lmc.matching.inheritance import MADE_OF, origin
from lmc.matching.pairing import require_pairable, to_cut, to_enlarge
from lmc.symmetries import enlarge, shorten
from lmc.symmetries.families import Tokens, contexts

WRITTEN = "written"  # in that file: the SHA-256 of the record of each
LIKE = "like"  # there, where sizes differed: the number of the model whose shapes all have


def prepare(names: Sequence[str], place: Path, choice: str | None) -> list[str]:
    """The names of parents that can be matched, those that need it written into the new folder `place`.

    An adapter is joined with its base. `choice`: one of `tokens.CHOICES`, the vocabulary that all are brought to.
    What an earlier run has written there from the very same is used. All is checked before a weight is read. Raises
    IncompatibleModelsError, CheckpointError.
    """
    where = [hub.locate(name) for name in names]
    for source in where:
        foreign.warn_of_rest(source.folder)
    if choice is not None:
        return _shared(names, place, choice)
    joined = {k: adapters.inspect(names[k]) for k, source in enumerate(where) if foreign.is_adapter(source)}
    if not joined:
        settings = [source.folder / "config.json" for source in where]
        same = all(file.is_file() and file.read_bytes() == settings[0].read_bytes() for file in settings)
        return list(names) if same else _of_one_size(names, place)
    ready = [str(place / _target(k, source)) if k in joined else names[k] for k, source in enumerate(where)]
    made_of = [adapters.refer(joined[k]) if k in joined else None for k in range(len(names))]
    words = {
        _target(k, one.source): f"{one.source.name}, a LoRA adapter, joined with its base {one.base.source.name}"
        for k, one in joined.items()
    }

    def write(folder: Path) -> None:
        for k, adapter in joined.items():
            adapters.write(adapter, folder / _target(k, adapter.source))

    sources = [*where, *(one.base.source for one in joined.values())]
    _fill(place, sources, {"parents": made_of, "words": words}, write)
    return ready


def in_their_shapes(name: str, parents: Sequence[nn.Module], place: Path) -> str:
    """The name of a fine-tune as its base was matched: written in the parents' shapes where it has others.

    >>> in_their_shapes("run-1", (a, b), Path("tuned"))
    'run-1'

    What that takes is written into the new folder `place`. Only a parent that was resized itself has fine-tunes of
    other shapes; whether it is one is asked elsewhere.
    """
    blueprint, like = inspect(name), parents[0]
    if not any(map(_was_resized, parents)):
        return name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they speak of models 1 and 2
        rows, longer = to_cut([like, blueprint.model])
        outline = shorten(blueprint.model, rows) if longer == [1] else blueprint.model
        smaller = to_enlarge([like, outline]) == (0, [1])
    if not smaller and longer != [1]:
        return name
    target, changes = _target(0, blueprint.source), _changes(longer == [1], outline, "its base" if smaller else "")
    warnings.warn(f"{blueprint.source.name}: {changes} first, as that was", stacklevel=1)

    def write(folder: Path) -> None:
        own = load(blueprint)
        own = shorten(own, rows) if longer == [1] else own
        kept = _kept(blueprint.source.folder)
        metadata = licence.of_a_copy(licence.of(blueprint.source))
        save(enlarge(own, like) if smaller else own, folder / target, kept, metadata=metadata)

    words = {target: f"{origin(blueprint.source.folder) or blueprint.source.name}, {changes}"}
    _fill(place, [blueprint.source], {"words": words}, write)
    return str(place / target)


def _kept(folder: Path) -> dict[str, Path]:
    """What goes along with a model that is only written in another shape."""
    return dict.fromkeys((*belongings.of(folder), belongings.LICENCE), folder)


def _was_resized(parent: nn.Module) -> bool:
    """Whether a parent was written in the shapes of another one before it was matched."""
    place = place_of(parent)
    made = None if place is None else hub.locate(place).folder.parent / MADE_OF
    return made is not None and made.is_file() and LIKE in read_json(made)


def _changes(cut: bool, outline: nn.Module, like: str) -> str:
    """What is done to a model of other sizes, in words."""
    changes = [f"cut to texts of {contexts([outline])[0]:,} tokens"] if cut else []
    return " and ".join([*changes, *([f"written in the shapes of {like}"] if like else [])])


def _fill(place: Path, sources: Sequence[hub.Source], made_of: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Let `write` fill the folder, unless an earlier run has filled it from the very same. Raises CheckpointError."""
    made_of = {**made_of, "licences": [[stated.told, stated.digest] for stated in map(licence.of, sources)]}
    made_of["notices"] = [{f.name: sha256(f) for f in belongings.notices(source.folder)} for source in sources]
    if place.is_dir() and any(place.iterdir()):
        before = read_json(place / MADE_OF) if (place / MADE_OF).is_file() else {}
        written = before.pop(WRITTEN, None)
        if before != json.loads(json.dumps(made_of)) or not isinstance(written, dict):
            raise CheckpointError(
                f"{place}: expected what these models become, found it made of others or for another vocabulary; "
                "delete it, or choose another name for the output"
            )
        require_digests(place, written, f"delete {place}, and it is made anew")
        for file in written:
            require_written((place / file).parent)
        return
    with whole_folder(place) as folder:
        write(folder)
        written = {str(file.relative_to(folder)): sha256(file) for file in sorted(folder.glob("*/lmc.json"))}
        (folder / MADE_OF).write_text(json.dumps({**made_of, WRITTEN: written}, indent=1) + "\n")


def _target(k: int, source: hub.Source) -> str:
    return f"{k}-{Path(source.name.split('@')[0]).name}"


def _of_one_size(names: Sequence[str], place: Path) -> list[str]:
    """The names of parents with as few learned positions as the shortest, and as large as the largest."""
    blueprints = [inspect(name) for name in names]
    rows, longer = to_cut([b.model for b in blueprints])
    outlines = [shorten(b.model, rows) if k in longer else b.model for k, b in enumerate(blueprints)]
    largest, smaller = to_enlarge(outlines)
    if not smaller and not longer:
        return list(names)
    folders = [b.source.folder for b in blueprints]
    for k in range(len(names)):
        same_tokens.require_same(folders[largest], folders[k], f"model {largest + 1} and model {k + 1}")
    for blueprint in blueprints:
        hub.fetch(blueprint.source, blueprint.files)
    targets = {k: _target(k, blueprints[k].source) for k in sorted({*smaller, *longer})}

    def cut(k: int) -> Any:
        model = load(blueprints[k])
        return shorten(model, rows) if k in longer else model

    def write(folder: Path) -> None:
        like = cut(largest)
        for k, target in targets.items():
            kept = _kept(folders[k])
            metadata = licence.of_a_copy(licence.of(blueprints[k].source))
            own = like if k == largest else cut(k)
            save(enlarge(own, like) if k in smaller else own, folder / target, kept, metadata=metadata)

    made_of = [{**refer(b, b.dtype), "folder": None} for b in blueprints]  # wherever they are now
    like_name = blueprints[largest].source.name
    words = {}
    for k, target in targets.items():
        changes = _changes(k in longer, outlines[largest], like_name if k in smaller else "")
        words[target] = f"{blueprints[k].source.name}, {changes}"
    _fill(place, [b.source for b in blueprints], {LIKE: largest, "parents": made_of, "words": words}, write)
    return [str(place / targets[k]) if k in targets else name for k, name in enumerate(names)]


def _shared(names: Sequence[str], place: Path, choice: str) -> list[str]:
    """The names of parents with one vocabulary."""
    for name in names:
        if foreign.is_adapter(hub.locate(name)):
            what = "expected models where one vocabulary is asked for, found an adapter"
            raise CheckpointError(f"{name}: {what}; join it with its base first: lmc convert {name} NEW")
    blueprints = [inspect(name) for name in names]
    found = tokens.require_tokens(blueprints)
    sizes = [read.vocabulary for b in blueprints if isinstance(read := b.family.inputs(b.model), Tokens)]
    shared = tokens.plan(choice, sizes, [v.ids for v in found], frozenset().union(*(v.added for v in found)))
    require_pairable([tokens.outline(b, shared, k) for k, b in enumerate(blueprints)])
    cuts = [same_tokens.differing_cuts(found[shared.owner], own) for own in found]
    for k, parts in enumerate(cuts):
        if parts:
            what = f"model {k + 1} cuts text differently than model {shared.owner + 1}, whose tokenizer is kept"
            share = same_tokens.overlap(found[shared.owner], found[k])
            warnings.warn(f"{what} ({', '.join(parts)}; {share}): its tokens may mean other text", stacklevel=1)
    alike = [own.ids == found[shared.owner].ids and not parts for own, parts in zip(found, cuts, strict=True)]
    stays = [alike[k] and shared.stays(k) and len(shared.rows[k]) == size for k, size in enumerate(sizes)]
    for k, same in enumerate(stays):  # those that keep their tokenizer are compared when they are paired
        if not same and (part := same_tokens.differing_around(found[shared.owner], found[k])):
            what = (
                f"model {k + 1} has other tokens around a text than model {shared.owner + 1}, whose tokenizer is kept"
            )
            warnings.warn(f"{what} ({part}): it reads what it did not learn", stacklevel=1)
    targets = [_target(k, b.source) for k, b in enumerate(blueprints)]
    ready = [name if same else str(place / to) for name, same, to in zip(names, stays, targets, strict=True)]
    if all(stays):
        return ready
    for blueprint in blueprints:
        hub.fetch(blueprint.source, blueprint.files)

    def write(folder: Path) -> None:
        for k, target in enumerate(targets):
            if not stays[k]:
                tokens.write(blueprints, shared, k, folder / target)

    made_of = [{**refer(b, b.dtype), "folder": None} for b in blueprints]  # wherever they are now
    words = {
        target: f"{blueprints[k].source.name}, {_brought(choice, shared, found, k, bool(cuts[k]))}"
        for k, target in enumerate(targets)
        if not stays[k]
    }
    _fill(place, [b.source for b in blueprints], {"vocabulary": choice, "parents": made_of, "words": words}, write)
    return ready


def _brought(choice: str, shared: tokens.Plan, found: Sequence[vocabulary.Vocabulary], k: int, cut: bool) -> str:
    """What became of the vocabulary of the parent of number `k`, in words for a card."""
    own = [] if k == shared.owner else [same_tokens.overlap(found[shared.owner], found[k])]
    own += ["it learned from text that was cut differently"] if cut else []
    return f"brought to a vocabulary of {len(shared.rows[k]):,} rows ({'; '.join([choice, *own])})"
