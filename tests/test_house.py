"""The house: which room a file is in, which rooms it may use, and that no two files need each other.

Read from the sources alone. Imports inside functions count; imports for type checkers do not. A name imported from a
room (`from lmc.matching import Alignment`) is an arrow to the file that the room's face takes it from.
"""

import ast
import itertools
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("symmetries", "checkpoints", "evaluation", "corpora", "matching", "reproduce")
FLOOR = {  # a file may use its own room and those on lower floors; checkpoints and evaluation do not know each other
    "ground": 0,
    "symmetries": 1,
    "checkpoints": 2,
    "evaluation": 2,
    "corpora": 3,
    "matching": 4,
    "reproduce": 5,
    "cli": 6,
}
DOORS = {"lmc.cli": "lmc.reproduce", "lmc.pairs": "lmc.reproduce"}  # who may enter the wing
LONGEST_FUNCTION = 60  # lines
LONGEST_CHAIN = 17  # files that import one another in a row; it was 20 when the package lay flat

Arrow = tuple[str, str]


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package by name."""
    found = {}
    for file in sorted((root / "lmc").rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that runs; name is empty for `import module`.

    What could hide from a reader of sources is refused or counted: a relative import is an error, and a module of ours
    that is imported by a text counts as any other.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and is_for_types(node):
            for other in node.orelse:  # runs, whatever stands above it
                yield from imports(ast.Module([other], []))
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            texts = [a.value for a in ast.walk(node) if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            yield from ((text, "") for text in texts if text.split(".")[0] == "lmc")
        yield from imports(node)


def faces(found: dict[str, Path]) -> dict[str, dict[str, str]]:
    """Of every package, the names that its face offers, and the file each comes from (or is)."""
    offered: dict[str, dict[str, str]] = {}
    for package, file in found.items():
        if file.name != "__init__.py":
            continue
        blocks = [node for node in ast.parse(file.read_text()).body if is_for_types(node)]
        rows = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]  # type: ignore[attr-defined]
        offered[package] = {
            alias.name: f"{node.module}.{alias.name}" if node.module == package else str(node.module)
            for node in rows
            for alias in node.names
        }
    return offered


def arrows(root: Path) -> dict[str, set[str]]:
    """Of every module, the modules it imports."""
    found = modules(root)
    offered = faces(found)

    def home(module: str, name: str) -> str | None:
        if f"{module}.{name}" in found:
            return f"{module}.{name}"
        if name in offered.get(module, {}):
            return home(offered[module][name], name) or offered[module][name]
        return module if module in found else None

    table: dict[str, set[str]] = {}
    for module, file in found.items():
        ends = {home(other, name) for other, name in imports(ast.parse(file.read_text()))}
        table[module] = {end for end in ends if end is not None and end not in (module, "lmc")}
    return table


def room(module: str) -> str:
    first = module.split(".")[1] if "." in module else ""
    if first in ROOMS:
        return first
    return "cli" if first in ("cli", "pairs", "__main__") else "ground"


def against(table: dict[str, set[str]]) -> list[str]:
    """Arrows that run up, or between rooms of one floor."""
    wrong = []
    for start, ends in table.items():
        for end in ends:
            here, there = room(start), room(end)
            if here != there and FLOOR[there] >= FLOOR[here]:
                wrong.append(f"{start} imports {end}: {here} may not use {there}")
    return sorted(wrong)


def circles(table: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(table).prepare()
    except CycleError as error:
        return [" -> ".join(reversed(error.args[1]))]
    return []


def chain(table: dict[str, set[str]]) -> list[str]:
    """The longest row of files that import one another."""
    longest: dict[str, list[str]] = {}
    for module in TopologicalSorter(table).static_order():
        longest[module] = [module, *max((longest[end] for end in table.get(module, ())), key=len, default=[])]
    return max(longest.values(), key=len)


def test_no_arrow_runs_against_the_direction() -> None:
    assert against(arrows(ROOT)) == []


def test_no_file_needs_itself() -> None:
    assert circles(arrows(ROOT)) == []


def test_the_core_never_enters_the_wing() -> None:
    table = arrows(ROOT)
    into = {start for start, ends in table.items() if room(start) != "reproduce" and any(map(in_wing, ends))}
    assert into <= DOORS.keys(), f"{into - DOORS.keys()} import the wing"
    body = ast.parse((ROOT / "lmc/cli/__init__.py").read_text()).body
    doors = [n.name for n in body if isinstance(n, ast.FunctionDef) for m, _ in imports(n) if m.startswith("lmc.rep")]
    assert doors == ["reproduce"], "of the command line, only `lmc reproduce` may open the wing"


def in_wing(module: str) -> bool:
    return room(module) == "reproduce"


def test_other_rooms_take_only_what_a_face_offers() -> None:
    """In the package, the notebooks and what makes the book; a room's own files and its tests may reach inside."""
    found = modules(ROOT)
    offered = faces(found)
    core = {package for package in offered if room(package) in ROOMS[:-1]}
    outside = [*found.values(), *ROOT.glob("notebooks/*.py"), *ROOT.glob("book/**/*.py")]
    wrong = []
    for file in outside:
        inside = file.relative_to(ROOT).parts[:2]
        for module, name in imports(ast.parse(file.read_text())):
            if not module.startswith("lmc.") or inside == tuple(module.split(".")[:2]):
                continue
            if room(module) in ROOMS[:-1] and (module not in core or name not in offered[module]):
                wrong.append(f"{file.relative_to(ROOT)}: {module}.{name}")
    assert wrong == []


def test_every_file_that_is_imported_is_there() -> None:
    """Type checkers are told to look over libraries that are missing, and so look over files of ours that are gone."""
    found = modules(ROOT)
    sources = [*found.values(), *ROOT.glob("notebooks/*.py"), *ROOT.glob("book/**/*.py"), *ROOT.glob("tests/**/*.py")]
    wanted = {module for file in sources for module, _ in imports(ast.parse(file.read_text()))}
    assert {module for module in wanted if module.split(".")[0] == "lmc"} <= found.keys()


def test_a_face_offers_each_name_once_and_no_file_hides_one() -> None:
    found = modules(ROOT)
    for package, names in faces(found).items():
        for name, home in names.items():
            hidden = f"{package}.{name}" in found and home != f"{package}.{name}"
            assert not hidden, f"{package} offers {name} from {home}, and has a file of that name"
            assert home in found, f"{package} offers {name} from {home}, which is not there"


def test_the_door_has_a_dozen_entries_at_most() -> None:
    entries = [p.name for p in (ROOT / "lmc").iterdir() if p.name not in ("__pycache__", "py.typed")]
    assert len(entries) <= 12, entries


@pytest.mark.parametrize("package", ["lmc", *(f"lmc.{name}" for name in ROOMS)])
def test_a_room_says_what_lives_there_and_where_to_begin(package: str) -> None:
    text = ast.get_docstring(ast.parse(modules(ROOT)[package].read_text())) or ""
    assert len(text.split()) > 20 and ("Begin with" in text or package == "lmc")


def test_functions_fit_a_page() -> None:
    long = []
    for module, file in modules(ROOT).items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    long.append(f"{module}.{node.name}: {length} lines")
    assert long == []


def test_chains_are_short() -> None:
    found = chain(arrows(ROOT))
    assert len(found) <= LONGEST_CHAIN, " -> ".join(found)


def private(tree: ast.AST) -> Iterator[str]:
    """Private names that a text imports, looks up on anything but itself, or replaces by a text."""

    def hidden(name: str) -> bool:
        return any(re.fullmatch(r"_\w*[^_]", part) for part in name.split("."))  # Python's own end in _, too

    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "lmc":
            yield from (alias.name for alias in node.names if hidden(f"{node.module}.{alias.name}"))
        elif isinstance(node, ast.Attribute) and hidden(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "os")):  # os._exit has that name
                yield node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            texts = [a.value for a in node.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            yield from (t for t in texts if hidden(t) and ("." not in t or t.startswith("lmc.")))


def test_tests_use_public_names() -> None:
    """What a test asserts has to survive a change inside a room."""
    wrong = [
        f"{file.name}: {name}" for file in ROOT.glob("tests/**/*.py") for name in private(ast.parse(file.read_text()))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "from lmc.matching.solver import _x",
        "solver._x()",
        "monkeypatch.setattr(solver, '_x', 1)",
        "monkeypatch.setattr('lmc.matching.solver._x', 1)",
    ],
)
def test_a_private_name_is_seen(text: str) -> None:
    assert list(private(ast.parse(text)))


def test_the_package_is_never_imported_as_one_name_inside_it() -> None:
    """`import lmc` and then `lmc.match` would be an arrow that no test sees."""
    found = [module for module, file in modules(ROOT).items() if ("lmc", "") in imports(ast.parse(file.read_text()))]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "from ..matching.one import y\n",
        "import importlib\nimportlib.import_module('lmc.matching.one')\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    from lmc.matching.one import y\n",
        "def f():\n    import lmc.matching.one\n",
    ],
    ids=["relative", "by a text", "beside the types", "in a function"],
)
def test_no_way_of_importing_hides(text: str, tmp_path: Path) -> None:
    for name, content in (("symmetries/two.py", text), ("matching/one.py", "y = 1\n"), ("matching/__init__.py", "")):
        file = tmp_path / "lmc" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    if ".." in text:
        with pytest.raises(AssertionError, match="a relative import"):
            arrows(tmp_path)
    else:
        assert against(arrows(tmp_path)) == [
            "lmc.symmetries.two imports lmc.matching.one: symmetries may not use matching"
        ]


def test_the_checks_see_a_planted_fault(tmp_path: Path) -> None:
    """Each of the checks above can fail: an arrow that runs up, a circle in a function, one for types that is none."""

    def write(name: str, text: str) -> None:
        file = tmp_path / "lmc" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    for package in ("", "symmetries/", "matching/"):
        write(f"{package}__init__.py", '"""A room."""\n')
    write("matching/one.py", "from lmc.symmetries.two import x\n")
    write("symmetries/two.py", "def f():\n    from lmc.matching.one import y\n")
    table = arrows(tmp_path)
    assert against(table) == ["lmc.symmetries.two imports lmc.matching.one: symmetries may not use matching"]
    assert circles(table) != []
    write(
        "symmetries/two.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lmc.matching.one import y\n",
    )
    assert against(arrows(tmp_path)) == circles(arrows(tmp_path)) == []
    face = "if TYPE_CHECKING:\n    from lmc.matching.one import y as y\n"
    write("matching/__init__.py", face)
    write("symmetries/two.py", "from lmc.matching import y\n")
    assert arrows(tmp_path)["lmc.symmetries.two"] == {"lmc.matching.one"}
    assert list(itertools.chain(against(arrows(tmp_path)))) != []
