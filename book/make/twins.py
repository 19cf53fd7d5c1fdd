"""Write the output-free .ipynb twin of every notebook source: `make twins`. Colab opens nothing else."""

from pathlib import Path

import nbformat
from plain import plain

from lmc.reproduce.notebook import notebook

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def main() -> None:
    sources = sorted(NOTEBOOKS.glob("[0-9]*.py"))
    for twin in set(NOTEBOOKS.glob("*.ipynb")) - {source.with_suffix(".ipynb") for source in sources}:
        twin.unlink()  # its source was renamed or removed
    for source in sources:
        source.with_suffix(".ipynb").write_text(text(source), encoding="utf-8")
    print(f"{len(sources)} twins written")


def text(source: Path) -> str:
    """The bytes the twin must have."""
    node = notebook(source)
    for cell in node.cells:
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source)
    return nbformat.writes(node) + "\n"


if __name__ == "__main__":
    main()
