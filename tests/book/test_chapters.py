"""What every chapter holds, read from its source: that the cells of notebooks run is asked in test_notebooks.py."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import lmc.symmetries.families.family
from lmc.reproduce.ledger import figures
from lmc.reproduce.notebook import notebook

ROOT = Path(__file__).resolve().parents[2]
PARTS = yaml.safe_load((ROOT / "book/_toc.yml").read_text(encoding="utf-8"))["parts"]
LISTED = [chapter["file"] for part in PARTS if part.get("numbered") for chapter in part["chapters"]]
NOTEBOOKS = [ROOT / f"{name}.py" for name in LISTED if name.startswith("notebooks/")]
LOOKED_UP = "special_cases"  # and not read from beginning to end: it has no exercises
PAGES = [  # of part V: prose
    ROOT / f"book/{name}.md" for name in LISTED if not name.startswith("notebooks/") and name != LOOKED_UP
]
CHAPTERS = [*NOTEBOOKS, *PAGES]

SOLUTION = re.compile(r"^```\{solution-start\} (\S+)\n(.*?)^```\{solution-end\}", re.M | re.S)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
LINES, COLUMNS = 10, 78  # of code that a reader sees unasked


def text_of(chapter: Path) -> str:
    """Its source; of a notebook's prose without the comment signs."""
    text = chapter.read_text(encoding="utf-8")
    return re.sub(r"^# ?", "", text, flags=re.M) if chapter.suffix == ".py" else text


def captioned(chapter: Path) -> list[Any]:
    """Its cells that draw a figure with a caption."""
    return [cell for cell in notebook(chapter).cells if "figure" in cell.metadata.get("mystnb", {})]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_three_exercises_each_with_a_solution_that_is_checked(chapter: Path) -> None:
    text = text_of(chapter)
    asked, solved = re.findall(r"^```\{exercise\}\n:label: (\S+)", text, re.M), SOLUTION.findall(text)
    assert len(asked) == 3 and asked == [label for label, _ in solved]
    for label, solution in solved:
        assert ":class: dropdown" in solution, f"{label} can be read at once"
        assert re.search(r"^ *assert |^check_", solution, re.M), f"{label} is not checked"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs_and_its_solutions_hold(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each solution after what the page shows before the exercises, and without the other solutions."""
    monkeypatch.setattr(lmc.symmetries.families.family, "FAMILIES", lmc.symmetries.families.family.FAMILIES)
    monkeypatch.chdir(ROOT)
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for code in PYTHON.findall(SOLUTION.sub("", text)):
        exec(compile(code, page.name, "exec"), names)
    for label, solution in SOLUTION.findall(text):
        (code,) = PYTHON.findall(solution)
        exec(compile(code, label, "exec"), dict(names))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_code_that_is_shown_is_short(chapter: Path) -> None:
    """Plumbing is folded; solutions, which are folded too, may be half as long again."""
    if chapter.suffix == ".md":
        text = chapter.read_text(encoding="utf-8")
        found = [(code, False) for code in PYTHON.findall(SOLUTION.sub("", text))]
        found += [(code, True) for _, solution in SOLUTION.findall(text) for code in PYTHON.findall(solution)]
    else:
        found, solving = [], False
        for cell in notebook(chapter).cells:
            if cell.cell_type == "markdown":
                marks = re.findall(r"\{solution-(start|end)\}", cell.source)
                solving = marks[-1] == "start" if marks else solving
            elif not {"hide-input", "hide-cell", "remove-input", "remove-cell"} & set(cell.metadata.get("tags", [])):
                found.append((cell.source, solving))
    for code, solving in found:
        lines = [line for line in code.splitlines() if line.strip()]
        assert len(lines) <= (3 * LINES // 2 if solving else LINES) and max(map(len, lines)) <= COLUMNS, code


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_it_begins_with_a_question_and_ends_with_findings_and_the_next_question(chapter: Path) -> None:
    text = text_of(chapter)
    parts = ["- **Question.**", "- **Afterwards you can**", "- **You need**", "- **Time.**"]
    places = [text.find(part) for part in [*parts, "{exercise}", "**Next question.**"]]
    assert -1 not in places and places == sorted(places)
    assert places[3] < text.find("{admonition} What we found") < places[5]


@pytest.mark.parametrize("chapter", NOTEBOOKS, ids=lambda chapter: chapter.stem)
def test_its_figures_are_described_and_referred_to_by_number(chapter: Path) -> None:
    text = chapter.read_text(encoding="utf-8")
    for cell in captioned(chapter):
        about = cell.metadata["mystnb"]
        name = about["figure"]["name"]
        assert len(about["image"]["alt"]) > 60 and about["image"]["alt"] != about["figure"]["caption"], name
        drawn_here = not re.search(r"if published|by_size", cell.source)  # the others are not there at profile laptop
        assert (f"{{numref}}`{name}`" in text) == drawn_here, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_figures_of_a_page_are_described_and_referred_to_by_number(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name, options in re.findall(r"^:name: (fig-\S+)\n((?::[^\n]*\n)*)", text, re.M):
        assert len(re.findall(r"^:alt: (.{60,})$", options, re.M)) == 1 and f"{{numref}}`{name}`" in text, name


@pytest.mark.parametrize("chapter", NOTEBOOKS, ids=lambda chapter: chapter.stem)
def test_the_time_it_says_is_that_of_the_figures(chapter: Path) -> None:
    said = re.search(
        r"\*\*Time\.\*\* .*?(?:computing it took|to read,) (\d+)(?: to run)?\.", chapter.read_text(encoding="utf-8")
    )
    own = [figure for figure in figures().values() if figure.notebook == chapter.stem and not figure.command]
    if said:
        assert int(said[1]) == max(figure.minutes.get("laptop", 0) for figure in own)
