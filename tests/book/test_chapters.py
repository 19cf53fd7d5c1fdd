"""What every chapter holds, read from its source: that its cells run is asked in tests/reproduce/test_notebooks.py."""

import re
from pathlib import Path
from typing import Any

import pytest

from lmc.reproduce.ledger import figures
from lmc.reproduce.notebook import notebook

ROOT = Path(__file__).resolve().parents[2]
LISTED = re.findall(r"file: (notebooks/\S+)", (ROOT / "book/_toc.yml").read_text(encoding="utf-8"))
CHAPTERS = [ROOT / f"{chapter}.py" for chapter in LISTED]


def captioned(chapter: Path) -> list[Any]:
    """Its cells that draw a figure with a caption."""
    return [cell for cell in notebook(chapter).cells if "figure" in cell.metadata.get("mystnb", {})]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_three_exercises_each_with_a_solution_that_is_checked(chapter: Path) -> None:
    text = chapter.read_text(encoding="utf-8")
    asked = re.findall(r"^# ```\{exercise\}\n# :label: (\S+)", text, re.M)
    solved = re.findall(r"^# ```\{solution-start\} (\S+)\n(.*?)^# ```\{solution-end\}", text, re.M | re.S)
    assert len(asked) == 3 and asked == [label for label, _ in solved]
    for label, solution in solved:
        assert ":class: dropdown" in solution, f"{label} can be read at once"
        assert re.search(r"^ *assert |^check_", solution, re.M), f"{label} is not checked"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_it_begins_with_a_question_and_ends_with_findings_and_the_next_question(chapter: Path) -> None:
    text = chapter.read_text(encoding="utf-8")
    parts = [
        "- **Question.**",
        "- **Afterwards you can**",
        "- **You need**",
        "- **Time.**",
        "What we found",
        "**Next question.**",
    ]
    places = [text.find(part) for part in parts]
    assert -1 not in places and places == sorted(places)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_its_figures_are_described_and_referred_to_by_number(chapter: Path) -> None:
    text = chapter.read_text(encoding="utf-8")
    for cell in captioned(chapter):
        about = cell.metadata["mystnb"]
        name = about["figure"]["name"]
        assert len(about["image"]["alt"]) > 60 and about["image"]["alt"] != about["figure"]["caption"], name
        drawn_here = not re.search(r"if published|by_size", cell.source)  # the others are not there at profile laptop
        assert (f"{{numref}}`{name}`" in text) == drawn_here, name


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_the_time_it_says_is_that_of_the_figures(chapter: Path) -> None:
    said = re.search(
        r"\*\*Time\.\*\* .*?(?:computing it took|to read,) (\d+)(?: to run)?\.", chapter.read_text(encoding="utf-8")
    )
    own = [figure for figure in figures().values() if figure.notebook == chapter.stem and not figure.command]
    if said:
        assert int(said[1]) == max(figure.minutes.get("laptop", 0) for figure in own)
