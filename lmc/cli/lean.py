"""A command's start without what its libraries import for others: that takes twice as long as torch itself.

Beside any model class, transformers imports torch's compiler, sharding over machines, and what finds boxes in pictures.
A command compiles nothing and, but under torchrun, shards nothing. (What timm imports, torchvision, uses the compiler.)
`start` is for a process that runs one command, before torch is imported there.

transformers asks itself what is installed, and is told that a few things are not; what its files offer is looked up
once. The compiler is loaded when more is asked of it than to leave a function alone.
"""

import functools
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
ALONE = f"{COMPILER}._trace_wrapped_higher_order_op"  # the part of it that needs none of its other parts
MARKS = ("allow_in_graph", "assume_constant_result", "disable")  # decorators that change nothing until one compiles
QUESTIONS = "transformers.utils.import_utils"
NOT_HERE = tuple(f"is_{name}_available" for name in ("scipy", "torch_distributed", "torch_flex_attn", "torchvision"))


def start() -> None:
    """Have this process import less."""
    sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.startswith(f"{COMPILER}.") and name != ALONE:
            _load(sys.modules[COMPILER])
        loaders = {COMPILER: _Deferred, QUESTIONS: _Denied}
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name in loaders else None
        if spec is not None and spec.loader is not None:
            spec.loader = loaders[name](spec.loader)
        return spec


class _Around(importlib.abc.Loader):
    def __init__(self, loader: Any) -> None:
        self.loader = loader


class _Denied(_Around):
    """Loads the module in which transformers asks what is installed, and answers for it."""

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        for name in NOT_HERE:
            if hasattr(module, name):
                setattr(module, name, lambda: False)
        _scan_once(module)


def _scan_once(module: Any) -> None:
    """Have transformers look through its 1,600 files for what they offer once, not twice, and only at their ends.

    It keeps what it found of 128 folders and has over 500, and names the same folder by two paths. Where another
    version does it otherwise, nothing is changed.
    """
    names = ("create_import_structure_from_path", "fetch__all__")
    whole, listed = (getattr(module, name, None) for name in names)  # type: Any, Any
    if not hasattr(whole, "__wrapped__") or listed is None:
        return
    scan = functools.cache(whole.__wrapped__)

    def once(path: Any) -> Any:
        return scan(os.path.dirname(path) if os.path.isfile(path) else str(path))

    module.create_import_structure_from_path = once
    module.fetch__all__ = lambda content: listed(content[content.rfind("\n__all__") + 1 :])


class _Deferred(_Around):
    """Loads the compiler when it is needed."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Compiler(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Compiler(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in MARKS:
            return _marked
        _load(self)
        return getattr(self, name)


def _load(module: Any) -> None:
    """Run the module's own code, unless that was done."""
    if isinstance(module, _Compiler):
        loader: Any = module.__loader__
        module.__class__ = ModuleType  # type: ignore[assignment]
        loader.loader.exec_module(module)


def _marked(function: Callable[..., Any] | None = None, *_: object, **__: object) -> Any:
    return function if function is not None else _marked
