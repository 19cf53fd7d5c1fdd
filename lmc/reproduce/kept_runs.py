"""Runs of an experiment that was interrupted: each is kept when it is done, until the results are written.

>>> keep = KeptRuns.of("vit-digits", "smoke")
>>> run = ["dual", "vit-digits-0", 0.01]
>>> keep.run(run, partial(dict, barrier=0.1))             # a function that would take minutes
{'barrier': 0.1}
>>> keep.run(run, partial(dict, barrier=0.2))             # the second time, what was kept is read and nothing is run
{'barrier': 0.1}
>>> keep.clear()

A run is found again by all it depends on: what the caller names, the code that the measuring function reaches, and the
versions of the stack.
"""

import hashlib
import json
import shutil
import time
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from lmc.checkpoints import provenance
from lmc.errors import CheckpointError
from lmc.files import read_json, write_whole
from lmc.reproduce import places, reach


@dataclass(frozen=True)
class KeptRuns:
    """A folder of finished runs, a file each."""

    folder: Path

    @classmethod
    def of(cls, id: str, profile: str) -> "KeptRuns":
        """Those of the results `id`, beside where these will be."""
        return cls(places.fresh_folder(profile) / "unfinished" / id)

    def run(self, what: Any, make: partial[dict[str, Any]]) -> dict[str, Any]:
        """What `make` returns (plain JSON values), made now or kept from before. `what` says all it depends on."""
        text = json.dumps([what, _code(make), provenance.versions()], sort_keys=True)
        file = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
        if (kept := _read(file)) is None:
            began = time.time()
            made = make()
            write_whole(file, json.dumps({"made": made, "began": began, "seconds": time.time() - began}))
            kept = read_json(file)
        return dict(kept["made"])

    def seconds(self, before: float) -> float:
        """How long those took that were begun before a time (`time.time()`)."""
        found = [_read(file) for file in sorted(self.folder.glob("*.json"))]
        return sum(run["seconds"] for run in found if run is not None and run["began"] < before)

    def clear(self) -> None:
        """Forget them all."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(file: Path) -> dict[str, Any] | None:
    """A finished run, if it is there and whole; a damaged one is made again."""
    try:
        kept = read_json(file)
    except CheckpointError:
        return None
    whole = {"made": dict, "began": float, "seconds": float}
    return kept if all(isinstance(kept.get(key), kind) for key, kind in whole.items()) else None


def _code(make: partial[Any]) -> str:
    """A digest of what a function can reach: of everything, if it is not from this package."""
    home = str(make.func.__module__)
    return _digest(f"import {home}" if home.startswith("lmc.") else reach.EVERYTHING)


@cache  # a process runs what it has imported, whatever becomes of the files meanwhile
def _digest(text: str) -> str:
    return reach.code_digest(text, Path(__file__).parents[1])
