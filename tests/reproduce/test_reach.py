"""What a text reaches in a package, and that its digest changes with code it reaches and with nothing else."""

import re
import shutil
from pathlib import Path

import pytest

from lmc.reproduce.reach import EVERYTHING, code_digest, reached
from tests import test_house as house

NOTEBOOKS = sorted((house.ROOT / "notebooks").glob("[0-9]*.py"))
FACE = '''"""A room."""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from lmc.room.one import first as first
    from lmc.room import two as two
else:
    __getattr__ = print
'''
ONE = '''"""One."""
import lmc.ground


def first():
    """Find the first."""
    from lmc.other import far  # when it is needed
    return far
'''
FILES = {
    "__init__.py": '"""All."""\n',
    "ground.py": "G = 1\n",
    "room/__init__.py": FACE,
    "room/one.py": ONE,
    "room/two.py": "def second(): return 2\n",
    "other/__init__.py": FACE.replace("room.one import first", "other.deep import far")
    .replace("first", "far")
    .replace("    from lmc.room import two as two\n", ""),
    "other/deep.py": "def far(): return 3\n",
    "other/alone.py": "A = 4\n",
}
CHAPTER = "from lmc.room import first\nfirst()\n"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A room whose face offers a function, which imports from another room's face when it is called."""
    for name, text in FILES.items():
        (tmp_path / "lmc" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lmc" / name).write_text(text)
    return tmp_path / "lmc"


def test_what_is_reached(package: Path) -> None:
    far = {"lmc", "lmc.room", "lmc.room.one", "lmc.ground", "lmc.other", "lmc.other.deep"}
    assert reached(CHAPTER, package) == far
    assert reached("import lmc.room as r\nr.first()", package) == far
    assert reached("import lmc\nlmc.room.first()", package) == far
    assert reached("from lmc import room\nroom.two.second()", package) == {"lmc", "lmc.room", "lmc.room.two"}
    assert reached("from lmc import room\nprint(room)", package) == far | {"lmc.room.two"}  # it may ask for anything
    assert reached("from lmc.room import *", package) == far | {"lmc.room.two"}
    assert reached("import os, lmcx\nos.lmc", package) == set()
    assert reached("%matplotlib inline", package) == reached(EVERYTHING, package) == set(house.modules(package.parent))


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("room/one.py", '"""Find the first."""', '"""Find it."""', False),
        ("room/one.py", '"""One."""', "", False),
        ("room/one.py", "  # when it is needed", "", False),
        ("room/one.py", "import lmc.ground\n", "import lmc.ground\n\n# Nothing.\n", False),
        ("room/one.py", "return far", "return far()", True),
        ("ground.py", "1", "2", True),
        ("other/deep.py", "3", "4", True),  # by an import in a function, through a face
        ("other/alone.py", "4", "5", False),
        ("room/two.py", "2", "5", False),  # offered by the same face
        ("room/__init__.py", "print", "repr", True),
        ("room/__init__.py", "    from lmc.room import two as two\n", "", False),  # another name of the face
        ("room/__init__.py", "lmc.room.one import first", "lmc.room.two import first", True),
        ("room/one.py", "import lmc.ground", "from typing import TYPE_CHECKING", True),
    ],
)
def test_a_digest_changes_with_the_code_that_is_reached(
    package: Path, file: str, old: str, new: str, changes: bool
) -> None:
    before = code_digest(CHAPTER, package)
    assert code_digest(CHAPTER, package) == before
    text = (package / file).read_text()
    assert text.count(old) == 1
    (package / file).write_text(text.replace(old, new))
    assert (code_digest(CHAPTER, package) != before) == changes


def test_imports_for_type_checkers_are_none(package: Path) -> None:
    ground = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lmc.other import alone\n"
    (package / "ground.py").write_text(ground)
    assert "lmc.other.alone" not in reached(CHAPTER, package)
    before = code_digest(CHAPTER, package)
    (package / "ground.py").write_text(ground + "    from lmc.room import two\n")
    assert code_digest(CHAPTER, package) == before


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package as it is, to be changed."""
    return shutil.copytree(house.ROOT / "lmc", tmp_path / "lmc", ignore=shutil.ignore_patterns("__pycache__"))


def of_chapters(package: Path) -> dict[str, str]:
    return {file.stem: code_digest(file.read_text(encoding="utf8"), package) for file in NOTEBOOKS}


def test_the_chapters_that_a_changed_line_reaches(copy: Path) -> None:
    before = of_chapters(copy)
    for file in copy.rglob("*.py"):  # a docstring and a comment, everywhere
        text = file.read_text(encoding="utf8")
        file.write_text(text.replace('"""', '"""Changed. ', 1) + "\n# changed\n", encoding="utf8")
    assert of_chapters(copy) == before

    def changed(name: str) -> set[str]:
        text = (copy / name).read_text(encoding="utf8")
        (copy / name).write_text(text + "\nCHANGED = 1\n", encoding="utf8")
        after = of_chapters(copy)
        (copy / name).write_text(text, encoding="utf8")
        return {stem for stem in after if after[stem] != before[stem]}

    texts = {file.stem: file.read_text(encoding="utf8") for file in NOTEBOOKS}
    assert changed("cli/__init__.py") == changed("reproduce/command.py") == set()
    published = {stem for stem, text in texts.items() if "from lmc.reproduce.experiments.published import" in text}
    assert published and changed("reproduce/experiments/published.py") == published
    matching = changed("matching/solver.py")  # by `import lmc` and `lmc.match`, or by an experiment
    assert {stem for stem, text in texts.items() if "lmc.match(" in text or "compare(" in text} <= matching < set(texts)
    assert changed("__init__.py") == {stem for stem, text in texts.items() if re.search("import lmc|from lmc", text)}


def test_all_that_the_test_of_the_house_sees_is_reached() -> None:
    """Two resolvers of imports, written apart: this one counts attributes of packages too, and never sees less."""
    table = house.arrows(house.ROOT)
    for module, ends in table.items():
        assert {module, *ends} <= reached(f"import {module}", house.ROOT / "lmc"), module
