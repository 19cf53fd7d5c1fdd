"""Real English that every user already has: the documentation inside installed Python packages.

>>> text = read("eval")           # scikit-learn's prose; the first call takes half a minute  # doctest: +SKIP

The splits are made *by package*, since docstrings are copied freely within a package: after a random split of them,
training and evaluation would share many a sentence. A paragraph belongs to the first split that holds it, so no
evaluation paragraph was ever trained on.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from lmc.errors import DataError
from lmc.files import write_whole

# In order: earlier splits keep a paragraph that several hold. The values are (distribution, import name).
SPLITS: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (("numpy", "numpy"), ("scipy", "scipy"), ("torch", "torch")),  # and the topics of Python's own help()
    "match": (("pandas", "pandas"), ("matplotlib", "matplotlib")),
    "eval": (("scikit-learn", "sklearn"),),
}
# Copies of other people's packages, which would carry one package's prose into another's split, and test helpers.
SKIPPED_FOLDERS = {"tests", "test", "testing", "externals", "_vendor", "_vendored_packages"}
DOCUMENTING_CALLS = {"add_newdoc", "add_docstr"}  # how numpy and torch document what is written in C
SHORTEST = 40  # characters in a paragraph
PROSE = 0.8  # least share of letters and spaces in a paragraph: drops tables, formulas and code


def read(split: str) -> str:
    """The text of one split, paragraphs separated by blank lines.

    Built from the installed packages at the first call (about half a minute) and kept in the user's cache folder under
    the packages' versions, so an upgrade builds it anew.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmc" / _key()
    if not all((folder / f"{name}.txt").is_file() for name in SPLITS):
        for name, text in build().items():
            write_whole(folder / f"{name}.txt", text)
    return (folder / f"{split}.txt").read_text(encoding="utf-8")


def build() -> dict[str, str]:
    """Every split's text, from nothing: `{"train": ..., "match": ..., "eval": ...}`."""
    seen: set[str] = set()
    splits: dict[str, str] = {}
    for split, packages in SPLITS.items():
        docs = list(_topics()) if split == "train" else []
        for _, package in packages:
            docs.extend(_package(package))
        fresh = dict.fromkeys(p for doc in docs for p in paragraphs(doc) if p not in seen)
        seen.update(fresh)
        splits[split] = "\n\n".join(fresh) + "\n"
    return splits


def paragraphs(doc: str) -> Iterator[str]:
    """The paragraphs of English in one docstring, each on one line.

    >>> list(paragraphs("Return the sum of all the elements of the array.\\n\\nx = f(1)"))
    ['Return the sum of all the elements of the array.']

    A paragraph is kept when it has at least `SHORTEST` characters, of which a share of `PROSE` are letters or spaces,
    and no interpreter session; the rules under headings are dropped.
    """
    for block in re.split(r"\n\s*\n", doc):
        lines = (line for line in block.splitlines() if not re.fullmatch(r"\s*([-=~^*\"'`])\1+\s*", line))
        text = " ".join(" ".join(lines).split())
        letters = sum(c.isalpha() or c == " " for c in text)
        if len(text) >= SHORTEST and letters >= PROSE * len(text) and ">>>" not in text:
            yield text


def _topics() -> Iterator[str]:
    from pydoc_data import topics

    for name in sorted(topics.topics):
        yield topics.topics[name]


def _package(name: str) -> Iterator[str]:
    """Every docstring of an installed package, in the order of its files' paths, without importing it."""
    root = _root(name)
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        if SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts):
            yield from _docstrings(path)


def _docstrings(path: Path) -> Iterator[str]:
    with warnings.catch_warnings():  # invalid escapes and the like in other people's code
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:  # a template, or written for another Python
            return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node)
            if doc:
                yield doc
        elif isinstance(node, ast.Call) and _called(node) in DOCUMENTING_CALLS:
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and "\n" in part.value:
                    yield inspect.cleandoc(part.value)


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        needed = ", ".join(distribution for packages in SPLITS.values() for distribution, _ in packages)
        raise DataError(f"corpus 'embedded': package '{package}' is not installed; its text is built from {needed}")
    return Path(spec.submodule_search_locations[0])


def _key() -> str:
    """Names the cached text by what it depends on: the versions of packages and Python, the rules of this file."""
    for packages in SPLITS.values():
        for _, package in packages:
            _root(package)  # a clear error for a missing one
    versions = {d: importlib.metadata.version(d).split("+")[0] for packages in SPLITS.values() for d, _ in packages}
    rules = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    state = json.dumps([versions, list(map(str, sys.version_info[:3])), rules], sort_keys=True)
    return "docstrings-" + hashlib.sha256(state.encode()).hexdigest()[:16]
