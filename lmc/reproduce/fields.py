"""From the plain values of a file to a dataclass, each checked against the annotation of its field.

>>> from lmc.reproduce.ledger import Expected
>>> filled(Expected, {"value": 1.0, "tolerance": "some", "runs": 2}, "figures.yml, one, expected")
Traceback (most recent call last):
    ...
lmc.errors.ArgumentError: figures.yml, one, expected, tolerance: expected a number..., found 'some'
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from lmc.errors import ArgumentError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)

WORDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple: "a list",
    dict: "a mapping",
}


@dataclass(frozen=True)
class Only:
    """Narrows an annotation: `Annotated[int, Only("a digit", range(10).__contains__)]`."""

    words: str
    holds: Callable[[Any], bool]


Amount = Annotated[float, Only("a number ≥ 0", lambda value: value >= 0)]


def filled(kind: "type[T]", entry: object, where: str, **given: Any) -> "T":
    """A dataclass of `given` fields and an entry's. Raises ArgumentError: where, the field, expected and found."""
    if not isinstance(entry, dict):
        raise ArgumentError(f"{where}: expected fields, found {entry!r}")
    kinds = {name: hint for name, hint in get_type_hints(kind, include_extras=True).items() if name not in given}
    if unknown := entry.keys() - kinds.keys():
        raise ArgumentError(f"{where}: unknown {_list(unknown)}; known: {_list(kinds)}")
    needed = {each.name for each in fields(kind) if each.default is each.default_factory is MISSING}
    if missing := needed - given.keys() - entry.keys():
        raise ArgumentError(f"{where}: lacks {_list(missing)}")
    return kind(**given, **{name: _checked(kinds[name], value, f"{where}, {name}") for name, value in entry.items()})


def _checked(kind: Any, value: object, where: str) -> Any:
    kind, *limits = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    parts, kind = get_args(kind), get_origin(kind) or kind
    if isinstance(kind, type) and is_dataclass(kind):
        return filled(kind, value, where)
    if kind is tuple and isinstance(value, list):
        return tuple(_checked(parts[0], each, where) for each in value)
    if kind is dict and isinstance(value, dict):
        items = {_checked(parts[0], key, where): (f"{where}, {key}", each) for key, each in value.items()}
        return {key: _checked(parts[1], each, place) for key, (place, each) in items.items()}
    good = isinstance(value, int | float) and math.isfinite(value) if kind is float else isinstance(value, kind)
    if not good or isinstance(value, bool) != (kind is bool) or not all(limit.holds(value) for limit in limits):
        raise ArgumentError(f"{where}: expected {limits[0].words if limits else WORDS[kind]}, found {value!r}")
    return value


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names)))
