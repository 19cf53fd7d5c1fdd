"""The printed book and the check of its links, on pages of a few lines."""

import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import links
import printed
import pytest
from browser import Browser, chromium

LONG = "word = " + "x" * 400
PAGE = """<html><head><title>{name}</title><style>code span {{white-space: nowrap}}</style><script>let theme</script>
<script>window.MathJax = {{startup: {{promise: Promise.resolve()}}}}</script></head>
<body><nav><a href="menu.html">menu</a></nav><article class="bd-article">{body}</article></body></html>"""


@pytest.fixture
def html(tmp_path: Path) -> Path:
    """Two pages that lead to each other, as the renderer nests them."""
    (tmp_path / "notebooks").mkdir()
    intro = '<h1 id="top">One</h1><a href="notebooks/01_one_line.html#there">on</a><a href="#top">up</a>'
    chapter = (
        f'<h1 id="there">Two</h1><a href="../intro.html">back</a><a href="https://a.org/x#y">out</a><pre>{LONG}</pre>'
    )
    chapter += f'<table><tr><td><code><span class="pre">{LONG}</span></code></td></tr></table>'
    chapter += '<img src="../_images/a.svg"><details><p>solution</p></details><script>let later</script>'
    for name, body in {"intro": intro, "notebooks/01_one_line": chapter}.items():
        (tmp_path / f"{name}.html").write_text(PAGE.format(name=name, body=body), encoding="utf-8")
    return tmp_path


def test_pages_come_in_the_order_of_the_contents(html: Path) -> None:
    (html / "notebooks/00_not_listed.html").touch()
    assert printed.contents(html) == ["intro", "notebooks/01_one_line"]


def test_links_lead_inside_the_one_page(html: Path) -> None:
    page = printed.whole(html, printed.contents(html))
    for anchor in ("intro--top", "notebooks-01_one_line--there", "notebooks-01_one_line", "intro"):
        assert page.count(f' id="{anchor}"') == 1
    assert 'href="#notebooks-01_one_line--there"' in page and 'href="#intro--top"' in page and 'href="#intro"' in page
    assert 'href="https://a.org/x#y"' in page and 'src="_images/a.svg"' in page
    assert "menu" not in page and "let theme" not in page and "let later" not in page


@pytest.mark.skipif(chromium() is None, reason="needs Chromium")
def test_on_paper_code_is_whole_and_nothing_is_folded(html: Path) -> None:
    (html / "whole.html").write_text(printed.whole(html, printed.contents(html)), encoding="utf-8")
    with Browser() as browser:
        page = printed.opened(browser, html / "whole.html")
        widest = (
            "Math.max(...[...document.querySelectorAll('pre, table')].map(e => Math.max(e.scrollWidth, e.clientWidth)))"
        )
        assert 0 < page.evaluate(widest) <= 680
        assert page.evaluate("[...document.querySelectorAll('details')].every(one => one.open)")
        assert printed.pdf(page).startswith(b"%PDF")


def test_only_addresses_in_the_text_are_asked(html: Path) -> None:
    assert links.addresses(html) == {"https://a.org/x": ["notebooks/01_one_line.html"]}


def network(codes: dict[str, int | None], asked: list[str]) -> Callable[..., None]:
    """A network with these addresses, that notes which are asked; None is one that nobody has."""

    def urlopen(request: urllib.request.Request, timeout: float) -> None:
        asked.append(request.full_url)
        code = codes[request.full_url]
        if code is None:
            raise OSError("no route")
        raise urllib.error.HTTPError(request.full_url, code, "", Message(), None)

    return urlopen


def test_an_address_is_dead_where_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: dict[str, int | None] = {"https://a.org": 404, "https://b.org": 410, "https://c.org": 403}
    codes |= {"https://d.org": None}
    asked: list[str] = []
    monkeypatch.setattr(urllib.request, "urlopen", network(codes, asked))
    assert links.dead(codes, tries=2, pause=0) == {
        "https://a.org": "answers 404",
        "https://b.org": "answers 410",
        "https://d.org": "does not answer (no route)",
    }
    assert asked.count("https://d.org") == 2 and asked.count("https://a.org") == 1


def test_without_a_network_it_says_so_in_a_line(
    html: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (html / "intro.html").rename(html / "index.html")
    monkeypatch.setattr(links, "HTML", html)
    asked: list[str] = []
    monkeypatch.setattr(urllib.request, "urlopen", network({"https://a.org/x": None}, asked))
    assert links.main() == 2 and asked == ["https://a.org/x"]
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "is there a network?" in said.err
