"""Numbers as people type them: in digits 0 to 9, within limits, and refused in one line otherwise.

>>> decimal("2e-3"), whole(1, 10)("7")
(0.002, 7)
"""

import math
import re
from collections.abc import Callable
from typing import Any

import typer

from lmc.matching import HIGHEST

WHOLE = re.compile(r"[+-]?[0-9]{1,18}")  # Python itself takes 1_0 and the digits of every script, too
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
LARGEST = 10**18 - 1


def decimal(text: object) -> float:
    """A decimal number. Raises ValueError, also for one that no float holds.

    >>> decimal(".5")
    0.5
    """
    if not DECIMAL.fullmatch(str(text)) or math.isinf(found := float(str(text))):
        raise ValueError(text)
    return found


def real(text: object) -> float:
    """The same for an option of a command. Raises typer.BadParameter.

    >>> real("0.01")
    0.01
    """
    try:
        return decimal(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number, found {str(text)!r}") from None


def places(text: object) -> tuple[float, ...] | str:
    """Where on the line learning looks: two numbers, or a word as it is. Raises typer.BadParameter.

    >>> places("0.3,0.7"), places("highest")
    ((0.3, 0.7), 'highest')
    """
    if str(text) == HIGHEST:
        return HIGHEST
    try:
        low, high = map(decimal, str(text).split(","))
    except ValueError:
        raise typer.BadParameter(f"expected {HIGHEST}, or LOW,HIGH as 0.3,0.7, found {str(text)!r}") from None
    return low, high


def whole(low: int, high: int = LARGEST) -> Callable[[object], int]:
    """Reads whole numbers from `low` to `high`. What it returns raises typer.BadParameter.

    >>> whole(1)("300")
    300
    """

    def read(text: object) -> int:
        if not WHOLE.fullmatch(str(text)) or not low <= int(str(text)) <= high:
            limits = f"at least {low}" if high == LARGEST else f"from {low} to {high}"
            raise typer.BadParameter(f"expected a whole number, {limits}, found {str(text)!r}")
        return int(str(text))

    return read


def count(words: str, low: int = 1, high: int = LARGEST) -> Any:
    """An option that takes a whole number; `words` are its help.

    >>> option = count("Steps of learned matching.")
    """
    return typer.Option(parser=whole(low, high), metavar="INTEGER", help=words)
