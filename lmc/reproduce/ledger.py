"""figures.yml read and checked: each figure, the notebook and results behind it, and what it should show."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmc.errors import ArgumentError, MissingExtraError
from lmc.reproduce import places
from lmc.reproduce.needs import Needs
from lmc.reproduce.places import PROFILES

KINDS: dict[str, type] = {  # of the plain values in the file
    **dict.fromkeys(("title", "notebook", "results", "draw", "claim"), str),
    **dict.fromkeys(("profiles", "inputs"), list),
    **dict.fromkeys(("expected", "minutes", "needs"), dict),
    **dict.fromkeys(("headline", "on_request"), bool),
    "item": int,
}


@dataclass(frozen=True)
class Expected:
    """A headline number's expected value, how far from it a run may land, and how many runs that is from.

    0 runs: nothing about it is drawn at random, and the tolerance is for the rounding of other processors.
    """

    value: float
    tolerance: float
    runs: int

    def met_by(self, measured: float) -> bool:
        return abs(measured - self.value) <= self.tolerance


@dataclass(frozen=True)
class Figure:
    """One entry of figures.yml; the file's head explains the fields."""

    id: str
    title: str
    notebook: str
    profiles: tuple[str, ...]
    results: str
    draw: str
    inputs: tuple[str, ...] = ()
    headline: bool = False
    on_request: bool = False  # too long for `make book`: redrawn from committed results there
    item: int | None = None  # of the campaign, which makes the results at profile `gpu`, without a notebook
    claim: str = ""
    expected: dict[str, dict[str, Expected]] = field(default_factory=dict)  # profile -> headline name -> Expected
    minutes: dict[str, float] = field(default_factory=dict)  # profile -> minutes on two cores
    needs: dict[str, Needs] = field(default_factory=dict)  # profile -> what its notebook needs beyond a processor

    def by_campaign(self, profile: str) -> bool:
        """Whether the results at a profile come from the campaign rather than from the notebook that shows them."""
        return self.item is not None and profile == "gpu"


def figures(path: Path | None = None) -> dict[str, Figure]:
    """All figures by id.

    >>> figures()["vit-digits"].notebook
    '04_vit'
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError('yaml is missing; run: pip install -e ".[book]"') from error
    path = path or places.checkout() / "figures.yml"
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ArgumentError(f"{path.name}: not readable: {' '.join(str(error).split())}") from None
    if not isinstance(entries, dict):
        raise ArgumentError(f"{path.name}: expected figures by id, found a {type(entries).__name__}")
    return {str(id): _figure(str(id), entry) for id, entry in entries.items()}


def _figure(id: str, entry: Any) -> Figure:
    if not isinstance(entry, dict):
        raise ArgumentError(f"figures.yml, {id}: expected fields, found {entry!r}")
    for name, value in entry.items():
        if name in KINDS and not isinstance(value, KINDS[name]):
            wanted = {str: "text", list: "a list", dict: "a mapping", bool: "true or false", int: "a number"}
            raise ArgumentError(f"figures.yml, {id}, {name}: expected {wanted[KINDS[name]]}, found {value!r}")
    known = set(Figure.__dataclass_fields__) - {"id"}
    if unknown := entry.keys() - known:
        raise ArgumentError(f"figures.yml, {id}: unknown {_list(unknown)}; known: {_list(known)}")
    if missing := {"title", "notebook", "profiles", "results", "draw"} - entry.keys():
        raise ArgumentError(f"figures.yml, {id}: lacks {_list(missing)}")
    names = [*entry["profiles"], *entry.get("inputs", ())]
    minutes = entry.get("minutes", {}).values()
    if not all(isinstance(x, str) for x in names) or not all(isinstance(x, int | float) for x in minutes):
        raise ArgumentError(f"figures.yml, {id}: expected names in profiles and inputs, and numbers in minutes")
    if wrong := set(entry["profiles"]) - set(PROFILES):
        raise ArgumentError(f"figures.yml, {id}: unknown profile {_list(wrong)}; of {_list(PROFILES)}")
    try:
        expected = {
            profile: {name: Expected(**bounds) for name, bounds in numbers.items()}
            for profile, numbers in entry.get("expected", {}).items()
        }
        bounds = [x for numbers in expected.values() for e in numbers.values() for x in (e.value, e.tolerance, e.runs)]
        if not all(math.isfinite(x) for x in bounds):
            raise TypeError
    except (AttributeError, TypeError):
        line = "profile → name → value, tolerance and runs; write them with python -m lmc.reproduce.expected"
        raise ArgumentError(f"figures.yml, {id}, expected: expected {line}") from None
    needs = {profile: Needs.read(n, f"figures.yml, {id}, {profile}") for profile, n in entry.get("needs", {}).items()}
    tuples = {"profiles": tuple(entry["profiles"]), "inputs": tuple(entry.get("inputs", ()))}
    return Figure(**{**entry, **tuples, "expected": expected, "needs": needs, "id": id})


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
