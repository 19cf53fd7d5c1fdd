"""Finished pieces of long work, a file for each, so that work which was interrupted goes on where it was.

>>> keep = KeptRuns(Path("unfinished"), {"steps": 300})
>>> keep.piece("dual", partial(dict, barrier=0.1))        # a function that would take minutes
{'barrier': 0.1}
>>> keep.piece("dual", partial(dict, barrier=0.2))        # the second time, what was kept is read and nothing is run
{'barrier': 0.1}
>>> keep.clear()

A file says what was made, when and how long that took, and has a digest of the settings that the folder's pieces were
made with. A file that was made with other settings is refused; one that is damaged is made again.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from lmc.checkpoints import provenance
from lmc.errors import CheckpointError
from lmc.files import read_json, write_whole
from lmc.reproduce import places, reach


@dataclass(frozen=True)
class KeptRuns:
    """A folder of finished pieces. `settings`: what they depend on besides their names, as plain JSON values."""

    folder: Path
    settings: Any = None

    @classmethod
    def of(cls, id: str, profile: str) -> "KeptRuns":
        """Those of the results `id`, beside where these will be."""
        return cls(places.fresh_folder(profile) / "unfinished" / id)

    def piece(self, name: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """What `make` returns (plain JSON values), made now or kept from before. Raises CheckpointError."""
        if (kept := self.get(name)) is not None:
            return kept
        began = time.time()
        made = make()
        found = {"made": made, "of": _digest(self.settings), "began": began, "seconds": time.time() - began}
        write_whole(self.folder / f"{name}.json", json.dumps(found))
        return dict(json.loads(json.dumps(made)))  # as it will be read

    def get(self, name: str) -> dict[str, Any] | None:
        """A piece, if it is made. Raises CheckpointError where it was made with other settings."""
        file = self.folder / f"{name}.json"
        kept = _read(file)
        if kept is not None and kept["of"] != _digest(self.settings):
            raise CheckpointError(f"{file}: was made with other settings; remove it, or choose another folder")
        return None if kept is None else dict(kept["made"])

    def all(self) -> dict[str, dict[str, Any]]:
        """Every piece that is made, by its name."""
        found = {file.stem: self.get(file.stem) for file in sorted(self.folder.glob("*.json"))}
        return {name: made for name, made in found.items() if made is not None}

    def run(self, what: Any, make: partial[dict[str, Any]]) -> dict[str, Any]:
        """A piece without a name: it is found by `what`, the code that `make` reaches, and the stack's versions.

        >>> KeptRuns(Path("unfinished")).run(["dual", "vit-digits-0", 0.01], partial(dict, barrier=0.1))
        {'barrier': 0.1}
        """
        named = replace(self, settings=[what, _code(make), provenance.versions()])
        return named.piece(_digest(named.settings), make)

    def seconds(self, before: float = math.inf) -> float:
        """How long those took that were begun before a time (`time.time()`)."""
        found = [_read(file) for file in sorted(self.folder.glob("*.json"))]
        return sum(run["seconds"] for run in found if run is not None and run["began"] < before)

    def clear(self) -> None:
        """Forget them all."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(file: Path) -> dict[str, Any] | None:
    """A finished piece, if it is there and whole."""
    try:
        kept = read_json(file)
    except CheckpointError:
        return None
    whole = {"made": dict, "of": str, "began": float, "seconds": float}
    return kept if all(isinstance(kept.get(key), kind) for key, kind in whole.items()) else None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _code(make: partial[Any]) -> str:
    """A digest of what a function can reach: of everything, if it is not from this package."""
    home = str(make.func.__module__)
    return _reached(f"import {home}" if home.startswith("lmc.") else reach.EVERYTHING)


@cache  # a process runs what it has imported, whatever becomes of the files meanwhile
def _reached(text: str) -> str:
    return reach.code_digest(text, Path(__file__).parents[1])
