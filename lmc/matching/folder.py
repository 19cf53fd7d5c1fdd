"""An alignment on disk: what its folder holds, and that it still is what was written.

>>> describe("aligned")["method"]
'dual'

`alignment.json` names the method, the parents and the record, and holds the SHA-256 of every other file and of what it
says itself. So one number, that of `alignment.json`, stands for all of it: `fingerprint`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmc import __version__
from lmc.checkpoints import provenance
from lmc.errors import ArgumentError, CheckpointError
from lmc.files import read_json, require_digests, seal, sha256
from lmc.matching.recipe import METHODS

if TYPE_CHECKING:  # a folder that is none is told before torch is imported
    from lmc import symmetries

DESCRIPTION, LOG = "alignment.json", "log.jsonl"
LAST_PATH = "path.json"  # the last path that was measured
READ = "read"  # in a record: a sketch of the samples that matching read, which no card shows
AGAIN = "restore the folder, or match the models again"


def write(
    folder: Path,
    method: str,
    parents: Sequence[Mapping[str, Any]],
    transforms: Sequence["symmetries.Transform"],
    record: Mapping[str, Any],
    log: Sequence[Mapping[str, float]] = (),
) -> None:
    """Write an alignment's files into a folder; `parents` are references as `checkpoints.reference` makes them."""
    for k, transform in enumerate(transforms):
        transform.write(folder / elements(k))
    (folder / LOG).write_text("".join(json.dumps(entry) + "\n" for entry in log))
    here = [
        {**p, "folder": os.path.relpath(p["folder"], folder.resolve())} if "folder" in p else dict(p) for p in parents
    ]
    described = {
        "method": method,
        "parents": here,
        "record": record,
        "versions": {"lmc": __version__, **provenance.versions()},
        "files": {name: sha256(folder / name) for name in files(len(parents))},
    }
    text = json.dumps(signed(json.loads(json.dumps(described))), indent=1, sort_keys=True)
    (folder / DESCRIPTION).write_text(text + "\n")


def signed(described: Mapping[str, Any]) -> dict[str, Any]:
    """A description with its own SHA-256, which leaves out where parents are and what they are called.

    >>> found = describe("aligned")
    >>> signed(found) == found
    True

    So the order of parents and the method are bound, of which the ends of the path tell nothing; a parent that was
    moved may be given its new place by hand, as its weights are bound by digests of their own.
    """
    parents = [{key: value for key, value in p.items() if key not in ("name", "folder")} for p in described["parents"]]
    return {**described, "sha256": seal({**described, "parents": parents})}


def elements(k: int) -> str:
    """The file of the transform of that number; a description of its spaces lies beside it."""
    return f"transform-{k}.safetensors"


def files(count: int) -> list[str]:
    """Every file of an alignment of so many models, but for its description."""
    return [name for k in range(count) for name in (elements(k), f"transform-{k}.json")] + [LOG]


def describe(directory: str | Path) -> dict[str, Any]:
    """What the `alignment.json` of an alignment folder says; no other file is looked at. Raises CheckpointError.

    >>> describe("aligned")["method"]
    'dual'
    """
    folder = Path(directory)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "not found"
        raise CheckpointError(f"{folder}: {what}, expected an alignment folder; make one with lmc match")
    file = folder / DESCRIPTION
    if not file.exists():
        raise CheckpointError(f"{file}: not found, expected an alignment folder (made by lmc match); name that one")
    found = read_json(file)
    method, parents, record, digests = (found.get(key) for key in ("method", "parents", "record", "files"))
    if method not in METHODS:
        raise CheckpointError(
            f"{file}: method: expected one of {', '.join(METHODS)}, found {str(method)[:40]!r}; {AGAIN}"
        )
    if not isinstance(parents, list) or len(parents) < 2 or not all(isinstance(p, dict) for p in parents):
        raise CheckpointError(
            f"{file}: parents: expected a list of at least two objects, found {str(parents)[:40]!r}; {AGAIN}"
        )
    if not isinstance(record, dict):
        raise CheckpointError(f"{file}: record: expected an object, found {str(record)[:40]!r}; {AGAIN}")
    if not isinstance(digests, dict) or sorted(digests) != sorted(files(len(parents))):
        raise CheckpointError(f"{file}: files: expected the SHA-256 of {len(files(len(parents)))} files; {AGAIN}")
    if signed(found) != found:
        raise CheckpointError(f"{file}: sha256: expected that of its other fields: one was changed by hand; {AGAIN}")
    return found


def parent_folders(directory: str | Path) -> list[Path | None]:
    """Where each of the aligned models was read from; None for one of the hub.

    >>> parent_folders("aligned")[0].name
    'run-1'
    """
    folder = Path(directory).resolve()
    places = [parent.get("folder", parent.get("inside")) for parent in describe(directory)["parents"]]
    return [None if place is None else Path(os.path.normpath(folder / str(place))) for place in places]


def refuse_own(directory: str | Path, file: Path) -> None:
    """Raise ArgumentError for a file to be written that is one of an alignment's own, or lies in a parent's folder.

    >>> refuse_own("aligned", Path("figure.png"))
    """
    folder, parents = Path(directory), parent_folders(directory)
    place = Path(os.path.realpath(file))  # links that go round in a circle are told by whoever opens them
    if str(place) in [os.path.realpath(folder / name) for name in (DESCRIPTION, *files(len(parents)))]:
        raise ArgumentError(f"{file}: is a file of the alignment itself; choose another name")
    if any(parent is not None and Path(os.path.realpath(parent)) in place.parents for parent in parents):
        raise ArgumentError(f"{file}: lies in the folder of a parent; choose another place")


def refuse_among_models(directory: str | Path, out: Path) -> None:
    """Raise ArgumentError for a folder to be written where an alignment has, or would have, its aligned models.

    >>> refuse_among_models("aligned", Path("merged"))
    """
    models = (Path(directory) / "models").resolve()
    if models in (out.resolve(), *out.resolve().parents):
        raise ArgumentError(f"{out}: is where the alignment has its aligned models; choose another place")


def require_whole(folder: Path, described: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless every file is the one that was written."""
    require_digests(folder, described["files"], AGAIN)


def require_of(folder: Path, transforms: Sequence["symmetries.Transform"], spec: "symmetries.ModelSpec") -> None:
    """Raise CheckpointError unless the transforms are of models of this table."""
    for k, transform in enumerate(transforms):
        if transform.spec != spec:
            raise CheckpointError(
                f"{folder / elements(k)}: expected a transform of these parents, found another; {AGAIN}"
            )


def fingerprint(directory: str | Path) -> str:
    """One number for all that an alignment folder holds.

    >>> len(fingerprint("aligned"))
    64
    """
    return sha256(Path(directory) / DESCRIPTION)
