"""The book renders, strictly, from notebooks run at smoke."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from browser import Browser, chromium

from book import chapters, configuration
from lmc.reproduce.ledger import figures


@pytest.fixture(scope="module")
def book(smoke: Path, root: Path) -> Path:
    before = tree(root / "book")
    done = render(smoke, root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(smoke.with_name("html") / "index.html") in done.stdout
    assert tree(root / "book") == before, "rendering changed the book's sources"
    return smoke.with_name("html")


def render(smoke: Path, root: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(root / "book/make/book.py"), "--profile", "smoke"]
    command += ["--executed", str(smoke / "executed"), "--out", str(smoke.with_name("html"))]
    environment = {**os.environ, "LMC_RESULTS": str(smoke / "results")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def tree(folder: Path) -> dict[Path, bytes]:
    made = ("_build", "notebooks", "__pycache__")
    files = [path for path in folder.rglob("*") if path.is_file() and not set(made) & set(path.parts)]
    return {path: path.read_bytes() for path in files}


def test_every_page_and_chapter_is_in_the_contents(root: Path) -> None:
    contents = yaml.safe_load((root / "book/_toc.yml").read_text(encoding="utf-8"))
    listed = {contents["root"], *re.findall(r"file: (\S+)", (root / "book/_toc.yml").read_text(encoding="utf-8"))}
    pages = {path.stem for path in (root / "book").glob("*.md")}
    assert listed == pages | {f"notebooks/{source.stem}" for source in chapters()} | {"api/lmc"}


def test_every_public_module_has_a_page_that_documents_it(book: Path, root: Path) -> None:
    for path in (root / "lmc").rglob("*.py"):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if "._" not in name:
            assert f'id="module-{name}"' in (book / "api" / f"{name}.html").read_text(encoding="utf-8"), name


def test_the_first_page_shows_the_headline_as_measured(book: Path, smoke: Path, root: Path) -> None:
    text = (book / "intro.html").read_text(encoding="utf-8")
    headline = [figure for figure in figures(root / "figures.yml").values() if figure.headline]
    assert headline
    for figure in headline:
        numbers = json.loads((smoke / "results/smoke" / f"{figure.results}.json").read_text())
        assert f"_images/{figure.id}.svg" in text
        for name, value in numbers["headline"].items():
            assert name in text and f"{value:.4g}" in text


def test_the_page_of_figures_lists_them_all(book: Path, root: Path) -> None:
    pages = "".join(
        main_part(book / f"{page}.html") for page in ("figures", "more_figures", "further_figures", "unmeasured")
    )
    text = re.sub(r"<[^>]+>", "", pages).replace("’", "'")  # Sphinx sets real apostrophes
    for figure in figures(root / "figures.yml").values():
        assert figure.title in text and f"--figure {figure.id}" in text


def test_the_page_of_experiments_holds_them_all_as_measured(book: Path, smoke: Path) -> None:
    page = (book / "notebooks/20_every_experiment.html").read_text(encoding="utf-8").replace("’", "'")
    numbers = json.loads((smoke / "results/smoke/every-experiment.json").read_text(encoding="utf-8"))
    rows = re.findall(r"<tr[^>]*>.*?</tr>", page, re.DOTALL)
    for title in numbers["order"]:
        (row,) = [row for row in rows if f"<p>{title}</p>" in row]
        for barrier in numbers["experiments"][title]["barriers"].values():
            assert f"<p>{barrier:.3f}</p>" in row, title
    assert len(numbers["order"]) >= 7  # of two small settings, averaging costs nothing at smoke


def test_commands_and_subjects_have_their_pages(book: Path) -> None:
    commands, subjects = main_part(book / "commands.html"), main_part(book / "subjects.html")
    assert all(f"lmc {name} [OPTIONS]" in commands for name in ("check", "match", "merge", "transport", "reproduce"))
    terms = re.findall(r'href="glossary.html#(term-[^"]+)"', subjects)
    assert len(terms) > 30 and 'href="notebooks/05_rotating.html"' in subjects


def test_the_page_on_cost_shows_what_was_measured(book: Path, root: Path) -> None:
    text = main_part(book / "cost.html")
    assert text.count("<table") == 11 and "Not measured yet" not in text
    rates = json.loads((root / "data/results/bench/rates.json").read_text())["width-512-0"]["tried"]
    assert all(f"<p>{tried['runs'][-1]['barrier']:.4f}</p>" in text for tried in rates)
    found = json.loads((root / "data/results/bench/weights.json").read_text())["1B"]
    assert f"<p>{found['seconds']:,.0f}</p>" in text and f"<p>{found['peak_gib']:.1f}</p>" in text


def test_a_chapter_says_at_its_top_how_it_was_made(book: Path) -> None:
    for page in (book / "notebooks").glob("*.html"):
        head = re.sub(r"<[^>]+>", "", main_part(page).partition("admonition-title")[2].partition("</p>")[0])
        assert "Profile smoke, " in head and "CPU cores" in head and "GiB of memory" in head, page


def test_tables_that_a_chapter_computes_are_tables(book: Path) -> None:
    text = main_part(book / "notebooks/10_vision.html")
    assert "<table" in text and not re.search(r"\|\s*-{3}", text)


def test_no_page_has_a_button_that_leads_nowhere(book: Path, root: Path) -> None:
    """A chapter's button opens its committed twin at this version's tag; without an address there is none."""
    place = configuration().get("repository")
    for page in book.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        urls = re.findall(r'href="(https://colab[^"]+)"', text)
        assert "/OWNER/" not in text.partition("<article")[0] and bool(urls) == bool(
            place and page.parent.name == "notebooks"
        )
        for url in urls:
            owner = place["url"].removeprefix("https://github.com/")
            assert url.endswith(f"/github/{owner}/blob/{place['branch']}/notebooks/{page.stem}.ipynb")
            assert (root / "notebooks" / f"{page.stem}.ipynb").is_file()


def test_pages_say_what_they_are_to_whoever_links_to_them(book: Path) -> None:
    said = re.findall(
        r'<meta property="og:description" content="([^"]+)"', (book / "intro.html").read_text(encoding="utf-8")
    )
    assert said and said[0].startswith("Train the same transformer twice")
    assert (book / "_static/favicon.svg").is_file() and 'href="_static/favicon.svg"' in (
        book / "intro.html"
    ).read_text()


def test_every_number_that_a_page_quotes_is_there(book: Path) -> None:
    for page in (*book.glob("*.html"), *book.glob("notebooks/*.html")):
        assert "{{" not in page.read_text(encoding="utf-8"), page.name


def test_no_page_is_heavy(book: Path) -> None:
    """A megabyte and a half of a page's own: its text and its pictures, without what all pages share."""
    for page in [*book.glob("*.html"), *book.glob("notebooks/*.html")]:
        text = page.read_text(encoding="utf-8")
        shown = {(page.parent / place).resolve() for place in re.findall(r'<img[^>]+src="([^":]+)"', text)}
        assert len(text) + sum(path.stat().st_size for path in shown) <= 1_500_000, page.name


@pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")
def test_panels_side_by_side_scroll_on_a_phone(book: Path) -> None:
    with Browser() as browser:
        page = browser.open(book / "notebooks/03_landscape.html", width=420)
        width, box, whole = page.evaluate(
            "(image => [image.width, image.closest('.wide').clientWidth, document.documentElement.scrollWidth])"
            "(document.querySelector('#fig-landscape-vit img'))"
        )
        assert width >= 700 and box <= 420 and whole <= 420
        for name in ("claims", "figures", "own_checkpoints"):  # these have the longest code and the widest pictures
            page = browser.open(book / f"{name}.html", width=420)
            assert page.evaluate("document.documentElement.scrollWidth") <= 420, name


def test_it_reads_without_a_network(book: Path) -> None:
    for page in book.rglob("*.html"):
        loaded = re.findall(r'<(?:script|link)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text(encoding="utf-8"))
        assert not loaded, page
    assert (book / "_static/mathjax/tex-mml-chtml.js").is_file()
    assert list((book / "_static/mathjax/output/chtml/fonts").rglob("*.woff"))


FIRST = "document.querySelector('#search-results li > a')?.getAttribute('href')"
FOUND = f"new Promise(done => {{ const look = () => {FIRST} ? done({FIRST}) : setTimeout(look, 50); look(); }})"


@pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")
def test_search_finds_chapters_first(book: Path) -> None:
    chapters = {"barrier": "01_one_line", "perplexity": "01_one_line", "rotation": "05_rotating"}
    with Browser() as browser:
        for word, chapter in chapters.items():
            page = browser.open((book / "search.html").resolve().as_uri() + f"?q={word}")
            assert page.evaluate(FOUND).startswith(f"notebooks/{chapter}.html"), word


# The least contrast of any words with the ground they stand on, and these words.
PALEST = """(() => {
  const rgb = said => { const v = said.match(/[\\d.]+/g).map(Number); return [...v.slice(0, 3), v[3] ?? 1]; };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const ground = e => {
    const own = rgb(getComputedStyle(e).backgroundColor);
    return own[3] === 1 ? own : over(own, e.parentElement ? ground(e.parentElement) : [255, 255, 255]);
  };
  const luminance = c => {
    const [r, g, b] = c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [light, dark] = [a, b].map(luminance).sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  };
  let found = [21, ''], walker = document.createTreeWalker(document.querySelector('article'), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const words = walker.currentNode, e = words.parentElement, style = getComputedStyle(e);
    if (!words.data.trim() || !e.getBoundingClientRect().width || e.closest('script, style, .headerlink')) continue;
    const below = ground(e), least = contrast(over(rgb(e.closest('svg') ? style.fill : style.color), below), below);
    if (least < found[0]) found = [least, words.data.trim()];
  }
  return found;
})()"""


@pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")
def test_words_can_be_read_on_every_ground(book: Path) -> None:
    """WCAG's contrast of 4.5: in boxes, tables and code, light and dark."""
    with Browser() as browser:
        for page in ("intro", "figures", "claims", "notebooks/01_one_line", "notebooks/07_proof", "prf-prf"):
            for dark in (False, True):
                least, words = browser.open(book / f"{page}.html", dark=dark).evaluate(PALEST)
                assert least >= 4.5, (page, "dark" if dark else "light", words)


def test_rendering_again_without_a_change_does_nothing(book: Path, smoke: Path, root: Path) -> None:
    assert "unchanged" in render(smoke, root).stdout


FAULTS = {
    "{cite:p}`nobody2099nothing`": "could not find bibtex key",
    "{term}`no such term`": "term not in glossary",
    "{func}`lmc.no_such`": "reference target not found",
    "{doc}`nowhere`": "unknown document",
    "![](nothing.svg)": "image file not readable",
}


@pytest.mark.parametrize("faults", [{}, FAULTS], ids=["none", "planted"])
def test_planted_faults_fail_the_build(faults: dict[str, str], tmp_path: Path, root: Path) -> None:
    shutil.copytree(root / "book/_ext", tmp_path / "book/_ext")
    shutil.copytree(
        root / "book/_static", tmp_path / "book/_static", ignore=shutil.ignore_patterns("mathjax", "widgets")
    )
    shutil.copy(root / "book/references.bib", tmp_path / "book")
    (tmp_path / "book/_config.yml").write_text(yaml.safe_dump(configuration()))
    (tmp_path / "book/_toc.yml").write_text("format: jb-book\nroot: intro\n")
    (tmp_path / "book/intro.md").write_text("\n\n".join(["# Title", *faults]))
    program = str(Path(sys.executable).with_name("jupyter-book"))
    command = [program, "build", str(tmp_path / "book"), "-W", "-n", "--keep-going"]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert (done.returncode == 0) == (not faults), said
    for fault, complaint in faults.items():
        assert complaint in said, f"{fault}: {said}"


def main_part(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0]
