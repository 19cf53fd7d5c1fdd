"""Parents that cannot be matched as they are, made ready: stock checkpoints of the same function beside the alignment.

>>> prepare(["run-1", "run-2"], Path("aligned.parents"), None)
['run-1', 'run-2']

These are adapters, which are joined with their base, models whose vocabularies differ, which are given one, and models
that are smaller than another, which are written in its shapes.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

from lmc.checkpoints import adapters, belongings, hub, inspect, load, save, tokens, vocabulary
from lmc.files import whole_folder
from lmc.matching.pairing import require_pairable, to_enlarge
from lmc.symmetries import enlarge
from lmc.symmetries.families import Tokens


def prepare(names: Sequence[str], place: Path, choice: str | None, again: bool = False) -> list[str]:
    """The names of parents that can be matched, those that need it written into the new folder `place`.

    An adapter is joined with its base. `choice`: one of `tokens.CHOICES`, the vocabulary that all are brought to.
    `again`: what an earlier run has written is used. All is checked before a weight is read. Raises
    IncompatibleModelsError, CheckpointError.
    """
    if choice is not None:
        return _shared(names, place, choice, again)
    where = [hub.locate(name) for name in names]
    joined = {k: adapters.inspect(names[k]) for k, source in enumerate(where) if adapters.is_adapter(source.folder)}
    if not joined:
        settings = [source.folder / "config.json" for source in where]
        same = all(file.is_file() and file.read_bytes() == settings[0].read_bytes() for file in settings)
        return list(names) if same else _of_one_size(names, place, again)
    ready = [str(place / _target(k, source)) if k in joined else names[k] for k, source in enumerate(where)]
    if not (again and place.is_dir()):
        with whole_folder(place) as folder:
            for k, adapter in joined.items():
                adapters.write(adapter, folder / _target(k, adapter.source))
    return ready


def _target(k: int, source: hub.Source) -> str:
    return f"{k}-{Path(source.name.split('@')[0]).name}"


def _of_one_size(names: Sequence[str], place: Path, again: bool) -> list[str]:
    """The names of parents that are as large as the largest."""
    blueprints = [inspect(name) for name in names]
    largest, smaller = to_enlarge([b.model for b in blueprints])
    folders = [b.source.folder for b in blueprints]
    for k in smaller:
        vocabulary.require_same(folders[largest], folders[k], f"model {largest + 1} and model {k + 1}")
    targets = {k: _target(k, blueprints[k].source) for k in smaller}
    if smaller and not (again and place.is_dir()):
        like = load(blueprints[largest])
        with whole_folder(place) as folder:
            for k, target in targets.items():
                kept = {kind: folders[k] for kind in belongings.of(folders[k])}
                save(enlarge(load(blueprints[k]), like), folder / target, kept)
    return [str(place / targets[k]) if k in targets else name for k, name in enumerate(names)]


def _shared(names: Sequence[str], place: Path, choice: str, again: bool) -> list[str]:
    """The names of parents with one vocabulary."""
    blueprints = [inspect(name) for name in names]
    found = tokens.require_tokens(blueprints)
    sizes = [read.vocabulary for b in blueprints if isinstance(read := b.family.inputs(b.model), Tokens)]
    shared = tokens.plan(choice, sizes, [v.ids for v in found], frozenset().union(*(v.added for v in found)))
    require_pairable([tokens.outline(b, shared, k) for k, b in enumerate(blueprints)])
    cuts = [vocabulary.differing_cuts(found[shared.owner], own) for own in found]
    for k, parts in enumerate(cuts):
        if parts:
            what = f"model {k + 1} cuts text differently than model {shared.owner + 1}, whose tokenizer is kept"
            share = vocabulary.overlap(found[shared.owner], found[k])
            warnings.warn(f"{what} ({', '.join(parts)}; {share}): its tokens may mean other text", stacklevel=1)
    stays = [shared.stays(k) and not cuts[k] and len(shared.rows[k]) == size for k, size in enumerate(sizes)]
    targets = [_target(k, b.source) for k, b in enumerate(blueprints)]
    ready = [name if same else str(place / to) for name, same, to in zip(names, stays, targets, strict=True)]
    if all(stays) or (again and place.is_dir()):
        return ready
    with whole_folder(place) as folder:
        for blueprint in blueprints:
            hub.fetch(blueprint.source, blueprint.files)
        for k, target in enumerate(targets):
            if not stays[k]:
                tokens.write(blueprints, shared, k, folder / target)
    return ready
