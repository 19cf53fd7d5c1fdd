"""Linear mode connectivity of transformers: symmetries, matching and merging, exactly.

>>> import lmc
>>> a, b = lmc.load("run-1"), lmc.load("run-2")
>>> alignment = lmc.match(a, b, method="dual", data=tokens, steps=20)
>>> merged = alignment.merge(0.5)                                   # a stock model
>>> lmc.path(alignment, data=held_out).barrier                      # nats per token

Five rooms hold the package, each may use those before it: `symmetries`, `checkpoints` and `evaluation`, `corpora`,
`matching`. The wing `reproduce` holds what reproduces the paper; no room imports it. ARCHITECTURE.md is the map.
"""

import importlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"  # the one place: the package, the tag, the citation and the twins follow


def face(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that offers the names it imports for type checkers.

    >>> get, names = face("lmc.matching")
    >>> get("match") is lmc.match
    True

    The list of names is the block `if TYPE_CHECKING:` of its `__init__`, one for readers, tools and this function; the
    block `else:` holds `__getattr__, __dir__ = face(__name__)`.

    Each name is imported when it is first used: torch and the model libraries are loaded by whoever needs them, and a
    mistake on the command line is told before they are.
    """

    @cache
    def offered() -> dict[str, tuple[str, str]]:
        import ast

        source = Path(str(sys.modules[package].__file__)).read_text(encoding="utf8")
        block = next(node for node in ast.parse(source).body if isinstance(node, ast.If))
        imports = [node for node in block.body if isinstance(node, ast.ImportFrom) and node.module]
        return {alias.name: (str(node.module), alias.name) for node in imports for alias in node.names}

    def get(name: str) -> Any:
        if name == "__all__":
            return sorted(offered())
        if name.startswith("__") or name not in offered():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, own = offered()[name]
        submodule = home == package
        found = importlib.import_module(f"{home}.{own}") if submodule else getattr(importlib.import_module(home), own)
        setattr(sys.modules[package], name, found)
        return found

    return get, lambda: sorted(offered())


if TYPE_CHECKING:
    from lmc.checkpoints import load as load
    from lmc.checkpoints import save as save
    from lmc.errors import ArgumentError as ArgumentError
    from lmc.errors import CheckpointError as CheckpointError
    from lmc.errors import DataError as DataError
    from lmc.errors import DivergedError as DivergedError
    from lmc.errors import IncompatibleModelsError as IncompatibleModelsError
    from lmc.errors import LmcError as LmcError
    from lmc.errors import NotCanonicalError as NotCanonicalError
    from lmc.errors import OutOfMemoryError as OutOfMemoryError
    from lmc.errors import UnsupportedModelError as UnsupportedModelError
    from lmc.evaluation import PathResult as PathResult
    from lmc.evaluation import path as path
    from lmc.matching import Alignment as Alignment
    from lmc.matching import match as match
    from lmc.symmetries import ModelSpec as ModelSpec
    from lmc.symmetries import Transform as Transform
    from lmc.symmetries import canonicalize as canonicalize
    from lmc.symmetries import check as check
    from lmc.symmetries import enlarge as enlarge
    from lmc.symmetries import float64 as float64
    from lmc.symmetries.families import families as families
    from lmc.symmetries.families import spec as spec
else:
    __getattr__, __dir__ = face(__name__)
