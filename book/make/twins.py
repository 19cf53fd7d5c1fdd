"""`make twins`: write the output-free .ipynb twin of every notebook source, since Colab opens nothing else.

CITATION.cff gets the version and the address that the twins have.
"""

import re
from pathlib import Path

import nbformat
from plain import plain

from lmc import __version__
from lmc.reproduce.notebook import notebook, repository

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS, CITATION = ROOT / "notebooks", ROOT / "CITATION.cff"


def main() -> None:
    sources = sorted(NOTEBOOKS.glob("[0-9]*.py"))
    for twin in set(NOTEBOOKS.glob("*.ipynb")) - {source.with_suffix(".ipynb") for source in sources}:
        twin.unlink()  # its source was renamed or removed
    for source in sources:
        source.with_suffix(".ipynb").write_text(text(source), encoding="utf-8")
    CITATION.write_text(citation(CITATION.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{len(sources)} twins written")


def text(source: Path) -> str:
    """The bytes the twin must have."""
    node = notebook(source)
    for cell in node.cells:
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source)
    return nbformat.writes(node) + "\n"


def citation(before: str) -> str:
    """The citation with this version, and with the project's address if it has one."""
    url = repository(ROOT)
    rest = re.sub(r"^(version|repository-code): .*\n", "", before, flags=re.M)
    lines = f"version: {__version__}\n" + (f"repository-code: {url}\n" if url else "")
    return rest.replace("type: software\n", f"type: software\n{lines}")


if __name__ == "__main__":
    main()
