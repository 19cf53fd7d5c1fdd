"""`make book`: run the notebooks, then render the book, and say how long each step took.

The book is put together in a folder aside (prose, executed notebooks, made pages, configuration) and rendered there;
what was rendered before is replaced at the end, whole. So nothing in `book/` is ever touched.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pages
import yaml
from costs import cost_tables
from expect import expect_table

from lmc import __version__
from lmc.__main__ import end_cleanly
from lmc.errors import LmcError
from lmc.files import scratch_folder
from lmc.reproduce.command import executed_folder, reproduce
from lmc.reproduce.ledger import figures
from lmc.reproduce.notebook import redraws, repository
from lmc.reproduce.quotes import quoted
from lmc.reproduce.training.budget import command

ROOT = Path(__file__).resolve().parents[2]
COLAB = """\
The repository is {url}. On Colab, open a chapter with the button at its top: the first cell installs the package."""
NO_ADDRESS = """\
This copy of the book has no public address, so its chapters have no button for Colab. Whoever publishes it names the
repository once, in `pyproject.toml`, and runs `make twins`."""
RENDERER = ("jupyter-book", "sphinx", "sphinx-book-theme", "myst-nb", "sphinx-mathjax-offline")


class RenderError(LmcError):
    """The renderer found something wrong: a broken link, an unknown citation, a page outside the contents."""


@command
def main() -> None:
    end_cleanly()
    parser = argparse.ArgumentParser(description="Run the notebooks and render the book.")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--executed", type=Path, help="take these executed notebooks, run none")
    parser.add_argument("--out", type=Path, default=ROOT / "book/_build/html", help="where the pages go")
    arguments = parser.parse_args()
    steps: dict[str, float] = {}
    if arguments.executed is None:
        with _timed("notebooks", steps):
            reproduce(arguments.profile, jobs=arguments.jobs, everything=False)
    with _timed("render", steps):
        render(arguments.executed or executed_folder(arguments.profile), arguments.profile, arguments.out)
    print("; ".join(f"{step}: {seconds:.0f} s" for step, seconds in steps.items()))
    print(f"The book: {arguments.out / 'index.html'}")


def render(executed: Path, profile: str, out: Path) -> None:
    """Put the book together from executed notebooks and replace `out` by its pages."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(".render-", out.parent) as stage:
        assemble(stage, executed, profile)
        key, kept = fingerprint(stage), out / ".key"
        if kept.is_file() and kept.read_text() == key:
            print("unchanged")
            return
        html = stage / "_build/html"
        build = [
            str(Path(sys.executable).with_name("jupyter-book")),
            "build",
            str(stage / "book"),
            "--path-output",
            str(stage),
        ]
        done = subprocess.run([*build, "-W", "-n", "--keep-going"], capture_output=True, text=True)
        if done.returncode != 0 or not (html / "index.html").is_file():
            told = done.stderr.replace(f"{stage}/", "") or done.stdout  # warnings; progress goes to standard output
            raise RenderError(f"the book does not render:\n{told}")
        vendor_mathjax(html / "_static/mathjax")
        (html / ".key").write_text(key)
        _swap(html, out)


def fingerprint(stage: Path) -> str:
    """Everything the pages depend on: what was put together, the source autodoc reads, the renderer's version."""
    digest = hashlib.sha256("".join(metadata.version(name) for name in RENDERER).encode())
    for root in (stage, ROOT / "lmc", ROOT / "book/make"):
        for path in sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def assemble(stage: Path, executed: Path, profile: str) -> None:
    """The renderer's input: `book/` as in the repository, and what is made from it and from results."""
    book = stage / "book"
    shutil.copytree(ROOT / "book", book, ignore=shutil.ignore_patterns("_build", "notebooks", "make", ".*"))
    (book / "notebooks").mkdir()
    for source in chapters():
        notebook = executed / f"{source.stem}.ipynb"
        if not notebook.is_file():
            raise RenderError(f"{source.stem} was not run yet; run: make book")
        text = pages.headed(notebook.read_text(encoding="utf-8"), source.stem, profile)
        (book / "notebooks" / notebook.name).write_text(text, encoding="utf-8")
    pages.api(book / "api")
    pages.figure_pages(book / "made", profile, pages.shown(book))
    pages.claims(book / "made")
    pages.commands(book / "made")
    pages.subjects(book)
    cost_tables(book / "made")
    expect_table(book / "made")
    published(book / "made")
    for page in book.glob("*.md"):
        page.write_text(quoted(page.read_text(encoding="utf-8")), encoding="utf-8")
    (book / "_config.yml").write_text(yaml.safe_dump(configuration()), encoding="utf-8")


def chapters() -> list[Path]:
    """Sources of the chapters: every notebook but those that are long and only feed figures."""
    long = {figure.notebook for figure in figures().values() if figure.on_request}
    sources = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
    return [source for source in sources if source.stem not in long or redraws(source)]


def configuration() -> dict[str, Any]:
    """book/_config.yml with the version, and where the project has an address, with its buttons and its place.

    A chapter's launch button opens its twin `notebooks/NN.ipynb` at the tag of this version.
    """
    written = yaml.safe_load((ROOT / "book/_config.yml").read_text(encoding="utf-8"))
    written["html"]["extra_footer"] = f"<p>lmc {__version__}</p>"
    written["sphinx"]["config"]["html_search_scorer"] = str(ROOT / "book/_static/scorer.js")
    if url := repository(ROOT):
        written["repository"] = {"url": url, "path_to_book": "", "branch": f"v{__version__}"}
        written["launch_buttons"] = {"colab_url": "https://colab.research.google.com"}
        written["html"] |= {"use_repository_button": True, "use_issues_button": True, "baseurl": site(url)}
    return written


def site(url: str) -> str:
    """Where the forge serves the pages of a repository.

    >>> site("https://github.com/someone/lmc")
    'https://someone.github.io/lmc/'
    """
    owner, name = url.rstrip("/").rsplit("/", 2)[1:]
    return f"https://{owner}.github.io/{name}/"


def published(folder: Path) -> None:
    """What pages say of the project's address: how to get there, or that it has none yet."""
    url = repository(ROOT)
    colab = COLAB if url else NO_ADDRESS
    (folder / "address.md").write_text(colab.format(url=url) + "\n", encoding="utf-8")
    about = f"The book of `lmc` {__version__}, under the MIT licence. To cite it: `CITATION.cff` in the repository.\n"
    (folder / "about.md").write_text(about, encoding="utf-8")
    history = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n")[2]
    older = f"The book of an earlier version stays at {site(url)}vVERSION/.\n" if url else ""
    (folder / "changelog.md").write_text(older + history, encoding="utf-8")


def vendor_mathjax(target: Path) -> None:
    """Formulas without a network: the one script the pages load and its fonts, from an installed wheel."""
    wheel = metadata.distribution("sphinx-mathjax-offline")
    source = Path(str(wheel.locate_file("sphinx-mathjax-offline/static/mathjax")))
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "tex-mml-chtml.js", target)
    shutil.copytree(source / "output/chtml/fonts", target / "output/chtml/fonts", dirs_exist_ok=True)


def _swap(html: Path, out: Path) -> None:
    old = html.with_name("old")
    if out.exists():
        os.replace(out, old)
    os.replace(html, out)


@contextmanager
def _timed(step: str, steps: dict[str, float]) -> Iterator[None]:
    print(f"--- {step}", flush=True)
    began = time.monotonic()
    yield
    steps[step] = time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
