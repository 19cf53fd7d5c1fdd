"""The code that a text reaches through its imports, and a digest of it: what a cached result depends on.

>>> package = Path("lmc")
>>> "lmc.matching.solver" in reached("import lmc; lmc.match", package)
True
>>> "lmc.cli" in reached("import lmc; lmc.match", package)
False

All imports count, also those inside functions, but for those that only type checkers read. A name that a room's face
offers leads to the file the face takes it from. A file counts as a whole, without its docstrings and comments.
"""

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeGuard

Name = tuple[str, ...]  # of a module, or of something in it: ("lmc", "matching", "match")
ALL = "*"  # in place of a last part: whatever a package offers
ANYTHING: Name = (ALL,)  # what a text may use that cannot be read as Python, such as one with magic commands
EVERYTHING = "*"  # such a text: it reaches every file


@dataclass(frozen=True)
class Code:
    """A text of Python: a digest of what runs, the names it uses from elsewhere, the names it offers as a face."""

    runs: str
    uses: frozenset[Name]
    offers: Mapping[str, Name]


def code_digest(text: str, package: Path) -> str:
    """Changes with any line of code that a text reaches in a package's folder, and with nothing else there."""
    known = _modules(package)
    codes = [known[module] for module in sorted(_reached(text, known))]
    leads = [[*name, *_way(name, known)] for code in (read_code(text), *codes) for name in sorted(code.uses)]
    return _hash(json.dumps([[code.runs for code in codes], leads]))


def reached(text: str, package: Path) -> set[str]:
    """The modules that a text imports, directly or through others."""
    return _reached(text, _modules(package))


def _reached(text: str, known: Mapping[str, Code]) -> set[str]:
    found: set[str] = set()
    names = set(read_code(text).uses)
    while names:
        for module in _way(names.pop(), known):
            if module not in found:
                found.add(module)
                names |= known[module].uses
    return found


def _modules(package: Path) -> dict[str, Code]:
    """Every module in a package's folder, by its full name."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = (package.name, *file.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = read_code(file.read_text(encoding="utf-8"))
    return found


@cache
def read_code(text: str) -> Code:
    """Read a text of Python.

    >>> sorted(read_code("from lmc import corpora as texts; texts.tokens").uses)
    [('lmc', 'corpora'), ('lmc', 'corpora', 'tokens', '*')]
    """
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return Code(_hash(text), frozenset({ANYTHING}), {})
    faces = [node for node in tree.body if _is_for_types(node) and node.orelse]  # a face has its functions there
    rows = [row for face in faces for row in face.body if isinstance(row, ast.ImportFrom) and row.module]
    offers = {alias.name: (*str(row.module).split("."), alias.name) for row in rows for alias in row.names}
    tree = _Running().visit(tree)
    return Code(_hash(ast.dump(tree)), frozenset(_uses(tree)), offers)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_for_types(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


class _Running(ast.NodeTransformer):
    """Takes out what never runs: docstrings (comments are not in the tree), and imports for type checkers."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if _is_for_types(node) else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)


def _uses(tree: ast.AST) -> Iterator[Name]:
    """The names that a tree imports, and those it takes as attributes of what it imported.

    A package that is handed on as a value may be asked for anything it offers, hence the last part of the latter.
    """
    nodes = list(ast.walk(tree))
    bound: dict[str, set[Name]] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = tuple(alias.name.split("."))
                bound.setdefault(alias.asname or name[0], set()).add(name if alias.asname else name[:1])
                yield name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = (*node.module.split("."), alias.name)
                bound.setdefault(alias.asname or alias.name, set()).add(name)
                yield name
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in (node for node in nodes if isinstance(node, ast.Name | ast.Attribute) and id(node) not in inner):
        last: ast.expr = node
        attributes: Name = ()
        while isinstance(last, ast.Attribute):
            attributes = (last.attr, *attributes)
            last = last.value
        for name in bound.get(last.id, ()) if isinstance(last, ast.Name) else ():
            yield (*name, *attributes, ALL)


def _way(name: Name, known: Mapping[str, Code]) -> Iterator[str]:
    """The modules that run before a name has its value: its packages from the outermost, and where a face leads."""
    if name == ANYTHING:
        yield from known
    length = 0
    while length < len(name) and (module := ".".join(name[: length + 1])) in known:
        length += 1
        yield module
    if 0 < length < len(name):
        offers, part, rest = known[".".join(name[:length])].offers, name[length], name[length + 1 :]
        for home in offers.values() if part == ALL else [offers[part]] if part in offers else []:
            if home != name[: length + 1]:
                yield from _way((*home, *rest), known)
