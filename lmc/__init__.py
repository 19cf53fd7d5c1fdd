"""Linear mode connectivity of transformers: symmetries, matching and merging, exactly.

>>> import lmc
>>> a, b = lmc.load("run-1"), lmc.load("run-2")
>>> alignment = lmc.match(a, b, method="dual", data=tokens, steps=300)
>>> merged = alignment.merge(0.5)                                   # a stock model
>>> lmc.path(alignment, data=held_out).barrier                      # nats per token
"""

import importlib
from typing import TYPE_CHECKING, Any

# What each public name loads: torch and the model libraries are imported when a name is first used, not before.
_HOME = {
    "families": "lmc.symmetries.families.family",
    "spec": "lmc.symmetries.families.family",
    "ModelSpec": "lmc.symmetries.spec",
    "canonicalize": "lmc.symmetries.canonical",
    "Transform": "lmc.symmetries.transform",
    "float64": "lmc.symmetries.precision",
    "check": "lmc.symmetries.exactness",
    "match": "lmc.matching",
    "Alignment": "lmc.alignment",
    "path": "lmc.line",
    "PathResult": "lmc.line",
    "load": "lmc.checkpoints",
    "save": "lmc.checkpoints",
    **dict.fromkeys(
        (
            "LmcError",
            "UnsupportedModelError",
            "NotCanonicalError",
            "IncompatibleModelsError",
            "CheckpointError",
            "DataError",
            "ArgumentError",
            "DivergedError",
            "OutOfMemoryError",
        ),
        "lmc.errors",
    ),
}

__all__ = sorted(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lmc' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from lmc.alignment import Alignment as Alignment
    from lmc.checkpoints import load as load
    from lmc.checkpoints import save as save
    from lmc.errors import *  # noqa: F403
    from lmc.line import PathResult as PathResult
    from lmc.line import path as path
    from lmc.matching import match as match
    from lmc.symmetries.canonical import canonicalize as canonicalize
    from lmc.symmetries.exactness import check as check
    from lmc.symmetries.families.family import families as families
    from lmc.symmetries.families.family import spec as spec
    from lmc.symmetries.precision import float64 as float64
    from lmc.symmetries.spec import ModelSpec as ModelSpec
    from lmc.symmetries.transform import Transform as Transform
