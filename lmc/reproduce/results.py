"""Results: small JSON files of numbers, each beside a file that says how they were obtained.

>>> results.write("vit-digits", "smoke", {"headline": {"dual barrier": 0.03}}, {"seeds": [0], "duration_s": 41.0})
>>> found = results.read("vit-digits", "smoke")
>>> found.numbers["headline"], found.source
({'dual barrier': 0.03}, 'fresh')

Fresh results go to the git-ignored `build/results/` (or to `$LMC_RESULTS`); `promote` copies them to the committed
`data/results/`, from which every figure can be redrawn without computing anything.
"""

import json
import math
import numbers as abstract
import re
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lmc.checkpoints import provenance
from lmc.errors import ArgumentError, DataError, LmcError
from lmc.files import write_whole
from lmc.reproduce import places
from lmc.reproduce.ledger import figures
from lmc.reproduce.runs import Comparison, RateGrid, Sweep, rate_grids

DIGITS = 8  # significant digits kept: below fp32 noise, and enough for any plot
# Events of `sys.audit`, by which a test sees that what a chapter reads and writes is declared in figures.yml.
LOOKED_FOR, WRITTEN = "lmc.results.looked_for", "lmc.results.written"


@dataclass(frozen=True)
class Results:
    """Numbers, how they were obtained, and whether this machine made them (`fresh`) or the repository carries them."""

    id: str
    profile: str
    numbers: dict[str, Any] = field(repr=False)
    run: dict[str, Any] = field(repr=False)
    source: Literal["fresh", "committed"]

    @property
    def comparison(self) -> Comparison:
        """The numbers of an experiment that ran methods on pairs.

        >>> read("vit-digits", "laptop").comparison.barriers("naive")
        [4.7757529, 5.2585001, 7.0239703]
        """
        return Comparison.from_json(self.numbers)

    @property
    def sweep(self) -> Sweep:
        """The numbers of an experiment that varied one thing."""
        return Sweep.from_json(self.numbers)

    @property
    def experiment(self) -> Comparison | Sweep:
        """The numbers of either."""
        return self.sweep if "points" in self.numbers else self.comparison

    @property
    def grids(self) -> dict[str, RateGrid]:
        """The grids that learning rates were chosen from, by method."""
        return rate_grids(self.numbers)

    @property
    def provenance(self) -> str:
        """One line for a caption: profile, seeds, hardware, date, duration, and the command that remakes it.

        Where the command runs a whole chapter, of which this was a part, it says how long that takes.
        """
        seeds = ", ".join(str(seed) for seed in self.run["seeds"])
        origin = "computed here" if self.source == "fresh" else "committed results"
        return (
            f"Profile `{self.profile}` ({origin}); seeds {seeds}; {self.run['hardware']}; {self.run['date']}; "
            f"it took {provenance.duration(self.run['duration_s'])}. "
            f"To make it again{self._again}: `{self.run['command']}`"
        )

    @property
    def _again(self) -> str:
        try:
            listed = [
                f.minutes[self.profile]
                for f in figures().values()
                if f.results == self.id and self.profile in f.minutes
            ]
        except LmcError:
            return ""
        return f" (its whole chapter takes about {listed[0]:g} min where nothing else runs)" if listed else ""

    def _repr_markdown_(self) -> str:  # a notebook cell that ends in results shows where they come from
        return self.provenance


def write(id: str, profile: str, numbers: dict[str, Any], run: dict[str, Any]) -> Results:
    """Write fresh results and return them as `read` would.

    >>> write("vit-digits", "smoke", {"barrier": [0.031, 0.029]}, {"seeds": [0, 1], "duration_s": 41.0})

    `run` must hold `seeds` and `duration_s`; command, versions, hardware and date are filled in, and anything else
    in it (revisions, a corpus hash) is kept. The same numbers always give the same bytes.
    """
    if missing := {"seeds", "duration_s"} - run.keys():
        raise ArgumentError(f"results {id!r}: `run` lacks {', '.join(sorted(missing))}")
    record = {
        "command": f"lmc reproduce --profile {profile}",
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": provenance.hardware(),
        "versions": provenance.versions(),
        **run,
    }
    sys.audit(WRITTEN, id, profile)
    path = places.fresh_folder(profile) / f"{_checked(id)}.json"
    text, record_text = _dump(numbers, f"results {id!r}"), _dump(record, f"run of {id!r}")
    write_whole(path.with_suffix(".run.json"), record_text)  # first: a numbers file never stands without its provenance
    write_whole(path, text)
    return read(id, profile)


def read(id: str, profile: str) -> Results:
    """Read fresh results where they exist and the committed ones otherwise; `.source` says which.

    >>> read("vit-digits", "laptop").provenance
    """
    sys.audit(LOOKED_FOR, id, profile)
    for source, folder in (("fresh", places.fresh_folder(profile)), ("committed", places.committed_folder(profile))):
        path = folder / f"{_checked(id)}.json"
        if path.is_file():
            numbers, run = (_load(file, profile) for file in (path, path.with_suffix(".run.json")))
            if missing := {"seeds", "hardware", "date", "duration_s", "command"} - run.keys():
                raise DataError(f"{_shown(path)}: its .run.json lacks {', '.join(sorted(missing))}")
            return Results(id, profile, numbers, run, source)  # type: ignore[arg-type]
    raise DataError(f"results {id!r} at profile {profile!r}: none here; run `lmc reproduce --profile {profile}`")


def _load(path: Path, profile: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = "not there" if isinstance(error, FileNotFoundError) else f"not readable ({error})"
        again = f"delete it and run `lmc reproduce --profile {profile}`, or restore it with git"
        raise DataError(f"{_shown(path)}: {reason}; {again}") from None
    if not isinstance(found, dict):
        raise DataError(f"{_shown(path)}: expected a JSON object, found {type(found).__name__}")
    return found


def _shown(path: Path) -> str:
    root = places.checkout()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def exist(id: str, profile: str) -> bool:
    """Whether `read` would find results.

    >>> exist("vit-digits", "laptop")
    True
    """
    sys.audit(LOOKED_FOR, id, profile)
    return any(
        (folder(profile) / f"{_checked(id)}.json").is_file()
        for folder in (places.fresh_folder, places.committed_folder)
    )


def promote(profile: str) -> list[Path]:
    """Copy every fresh result of a profile to `data/results/`, to be committed; returns the numbers files written."""
    written = []
    for path in sorted(places.fresh_folder(profile).glob("*.json")):
        target = places.committed_folder(profile) / path.name
        write_whole(target, path.read_text())
        if not path.name.endswith(".run.json"):
            written.append(target)
    return written


def _checked(id: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id):
        raise ArgumentError(f"results id {id!r}: expected lower-case words joined by hyphens")
    return id


def _dump(value: dict[str, Any], where: str) -> str:
    return json.dumps(_plain(value, where), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any, where: str) -> Any:
    """Plain JSON values with rounded floats, so that equal results are equal bytes."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{where}, {key}") for key, item in value.items()}
    if isinstance(value, np.ndarray | np.bool_):
        return _plain(value.tolist(), where)
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, abstract.Integral):
        return int(value)
    if isinstance(value, abstract.Real):
        if not math.isfinite(value):
            raise ArgumentError(f"{where}: expected a finite number, found {value}")
        return float(f"{float(value):.{DIGITS}g}")
    raise ArgumentError(f"{where}: expected numbers, text, lists or dicts, found {type(value).__name__}")
