"""From a name in figures.yml to a drawn figure, and from that to files.

>>> save(draw("barrier_bars", results.read("vit-digits", "laptop").numbers), Path("build/figures/vit-digits"))
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmc.errors import ArgumentError, DataError
from lmc.evaluation import pyplot
from lmc.reproduce import charts, figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def drawings() -> dict[str, Callable[[dict[str, Any]], "Figure"]]:
    """Every function that figures.yml may name."""
    return {function.__name__: function for function in (*figures.DRAWN, *charts.DRAWN)}


def draw(name: str, numbers: dict[str, Any]) -> "Figure":
    """Draw with the function that figures.yml names.

    >>> draw("barrier_bars", numbers)
    """
    known = drawings()
    if name not in known:
        raise ArgumentError(f"no figure function {name!r}; choose from {', '.join(known)}")
    try:
        return known[name](numbers)
    except KeyError as error:
        raise DataError(f"{name}: the results lack {error}") from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{name}: the results are not what it draws ({error})") from error


def save(figure: "Figure", path: Path) -> None:
    """Write `path`.svg and `path`.png, each whole or not at all.

    >>> save(figure, Path("build/figures/laptop/vit-digits"))
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        aside = path.with_name(f".{path.name}.{os.getpid()}.{kind}")
        figure.savefig(aside, format=kind, metadata=metadata)
        os.replace(aside, path.with_name(f"{path.name}.{kind}"))
    pyplot().close(figure)
