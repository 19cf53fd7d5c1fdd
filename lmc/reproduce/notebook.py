"""From a py:percent source in `notebooks/` to the notebook everybody sees: on Colab, executed, in the book.

The three are one text: the source, preceded by a generated first cell that installs the package on Colab and does
nothing elsewhere, with cell ids that depend on nothing but the file's name and the cell's place.
"""

import ast
import io
import tokenize
import tomllib
from pathlib import Path
from typing import Any

from lmc import __version__
from lmc.errors import ArgumentError, MissingExtraError
from lmc.reproduce.quotes import quoted

BOOTSTRAP = """\
# On Colab only: fetch the version of the project this page belongs to. Elsewhere this cell does nothing.
import os
import subprocess
import sys

if "google.colab" in sys.modules:
    if not os.path.isdir("/content/lmc"):
        clone = ["git", "clone", "--quiet", "--depth", "1", "--branch", "{tag}", "{url}", "/content/lmc"]
        subprocess.run(clone, check=True)
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--editable", "/content/lmc[data,plot]"]
        subprocess.run(install, check=True)
    sys.path.insert(0, "/content/lmc")
    os.chdir("/content/lmc/notebooks")"""
NO_ADDRESS = """\
# On Colab only: say what is missing. Elsewhere this cell does nothing.
import sys

if "google.colab" in sys.modules:
    raise SystemExit("no repository to install from: name it in pyproject.toml, then run `make twins`")"""


def notebook(source: Path) -> Any:
    """The output-free notebook of a source, as an nbformat node.

    >>> notebook(Path("notebooks/01_one_line.py")).cells[0].id
    '01_one_line-00'
    """
    try:
        import jupytext
        from nbformat.v4 import new_code_cell
    except ImportError as error:
        raise MissingExtraError(f'{error.name} is missing; run: pip install -e ".[book]"') from error
    node = jupytext.read(source, fmt="py:percent")
    if "kernelspec" not in node.metadata:
        raise ArgumentError(f"{source.name}: no kernelspec in the header; copy the header of another notebook")
    node.metadata = {"kernelspec": node.metadata.kernelspec, "language_info": {"name": "python"}}
    for cell in node.cells:
        if cell.cell_type == "markdown":
            cell.source = quoted(cell.source)
        elif shown := cell.metadata.get("mystnb"):
            for part, words in (("image", "alt"), ("figure", "caption")):
                shown[part][words] = quoted(shown[part][words])
    node.cells.insert(0, new_code_cell(bootstrap(source.parents[1]), metadata={"tags": ["colab", "remove-cell"]}))
    return settle_ids(node, source.stem)


def settle_ids(node: Any, stem: str) -> Any:
    """Number the cells: random ids would make every conversion a change."""
    for place, cell in enumerate(node.cells):
        cell["id"] = f"{stem}-{place:02d}"
    node.nbformat, node.nbformat_minor = 4, 5
    return node


def repository(root: Path) -> str | None:
    """The project's address, from pyproject.toml, the one place that names it; None while it names no owner."""
    url = str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"])
    return None if "/OWNER/" in url else url


def bootstrap(root: Path) -> str:
    """The first cell: it fetches this version from the project's address."""
    url = repository(root)
    return BOOTSTRAP.format(tag=f"v{__version__}", url=url) if url else NO_ADDRESS


def without_comments(code: str) -> list[str]:
    """The tokens of a cell, where a changed comment is no change; the cell as it is where it is not plain Python.

    >>> without_comments("x = 1  # one")
    ['x', '=', '1', '', '']
    """
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, SyntaxError):
        return [code]
    return [token.string for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL)]


def with_outputs(node: Any, executed: Any) -> Any:
    """A notebook as it is written today, with the outputs of a run of the same code.

    What differs between two equal runs or names this machine is left out, and standard error too: it carries progress,
    for the terminal.
    """
    cells, ran = [], iter(cell for cell in executed.cells if cell.cell_type == "code")
    for cell in node.cells:
        cells.append(cell)
        if cell.cell_type == "code":
            done = next(ran)
            cell.execution_count = done.execution_count
            cell.outputs = [output for output in done.outputs if output.get("name") != "stderr"]
        if "parameters" in cell.metadata.get("tags", []):  # Papermill's own follows; the chapter shows the author's
            given = next(ran)
            given.metadata = {"tags": ["injected-parameters", "remove-cell"]}
            cells.append(given)
    node.cells = cells
    node.metadata.language_info = executed.metadata.language_info  # as the kernel says, for whoever colours the code
    return node


def parameters(node: Any, name: str) -> set[str]:
    """Names assigned in the cell tagged `parameters`."""
    cells = [cell for cell in node.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ArgumentError(f"{name}: expected one cell tagged `parameters`, found {len(cells)}")
    targets: set[str] = set()
    for statement in ast.parse(cells[0].source).body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            targets.add(statement.target.id)
        elif isinstance(statement, ast.Assign):
            targets.update(target.id for target in statement.targets if isinstance(target, ast.Name))
    return targets


def redraws(source: Path) -> bool:
    """Whether a notebook has the parameter `recompute`: without computing, it draws what the results already say.

    >>> redraws(Path("notebooks/12_which_symmetry.py"))
    True
    """
    return "recompute" in parameters(notebook(source), source.stem)
