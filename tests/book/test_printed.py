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


def answers(code: int | None) -> Callable[..., None]:
    def urlopen(request: urllib.request.Request, timeout: float) -> None:
        if code is None:
            raise OSError("no route")
        raise urllib.error.HTTPError(request.full_url, code, "", Message(), None)

    return urlopen


@pytest.mark.parametrize(
    ("code", "why"), [(404, "answers 404"), (410, "answers 410"), (403, ""), (None, "does not answer (no route)")]
)
def test_an_address_is_dead_where_nobody_is_there(code: int | None, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", answers(code))
    assert links.dead(["https://a.org/x"], tries=2, pause=0) == ({"https://a.org/x": why} if why else {})
