"""The pictures that explain: drawn by their script, true to what was measured, alive in a browser."""

import json
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pen
import pictures
import pytest
import stills
import yaml
from browser import Browser, Page, chromium

from book import configuration
from lmc.evaluation import COLOURS

STATIC = Path(pictures.STATIC)
WORDS: dict[str, dict[str, str]] = yaml.safe_load((STATIC / "widgets/words.yml").read_text(encoding="utf-8"))
needs_chromium = pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")


def numbers(name: str) -> Any:
    return json.loads((STATIC / f"widgets/{name}.json").read_text(encoding="utf-8"))


def test_every_widget_stands_on_a_page(root: Path) -> None:
    pages = [*(root / "book").glob("*.md"), *(root / "notebooks").glob("*.py")]
    shown = {name for page in pages for name in re.findall(r"```\{widget\} (\S+)", page.read_text(encoding="utf-8"))}
    assert shown == set(WORDS)


def results(root: Path, name: str) -> Any:
    return json.loads((root / f"data/results/laptop/{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_is_what_its_script_draws(name: str) -> None:
    drawn = (STATIC / f"pictures/{name}.svg").read_text(encoding="utf-8")
    assert drawn == pictures.PICTURES[name]()
    assert ElementTree.fromstring(drawn).get("aria-label")


def test_the_sign_and_the_card_of_the_book_are_drawn_and_as_large_as_asked() -> None:
    assert (STATIC / "favicon.svg").read_text(encoding="utf-8") == pictures.favicon()
    width, height = struct.unpack(">II", (STATIC / "card.png").read_bytes()[16:24])
    assert (width, height) == (1200, 630) and ElementTree.fromstring(pictures.card()).get("aria-label")


def test_the_pages_have_the_colours_of_the_pictures() -> None:
    assert (STATIC / "pictures.css").read_text(encoding="utf-8") == pen.page_style()


def test_the_reordered_network_is_the_nearest_order() -> None:
    """The picture's claim: no swap of two units brings B nearer to A, and it was far before."""
    found = json.loads((STATIC / "pictures/weights-before-after.json").read_text(encoding="utf-8"))
    a, b = (np.concatenate([np.array(found[side]["in"]), np.array(found[side]["out"]).T], 1) for side in "ab")

    def distance(order: list[int]) -> float:
        return float(np.linalg.norm(a - b[order]))

    best = found["order"]
    assert sorted(best) == list(range(6)) and distance(best) < 0.2 * distance(list(range(6)))
    for i in range(6):
        for j in range(i):
            other = [*best]
            other[i], other[j] = best[j], best[i]
            assert distance(other) > distance(best)


@pytest.mark.parametrize("name", WORDS)
def test_numbers_of_a_widget_are_few_and_all_is_said_about_it(name: str) -> None:
    assert (STATIC / f"widgets/{name}.json").stat().st_size <= 60_000
    still = ElementTree.fromstring((STATIC / f"widgets/{name}.svg").read_text(encoding="utf-8"))
    assert still.get("aria-label") == WORDS[name]["alt"]
    assert set(WORDS[name]) == {"caption", "alt", "text"} and len(WORDS[name]["alt"]) > 60


def test_the_slider_shows_the_losses_that_the_chapters_measured(root: Path) -> None:
    shown = numbers("lambda-slider")
    for page, chapter, unlike in (("digits", "naive-vit", 0), ("text", "neox-docstrings", 0)):
        measured = results(root, chapter)["methods"]["naive"]
        naive, dual = shown[page]["naive"], shown[page]["dual"]
        assert naive["loss"] == pytest.approx(measured["losses"][unlike], rel=1e-3)
        assert naive["accuracy"] == pytest.approx(measured["accuracies"][unlike], rel=1e-3, abs=2e-3)
        for end in (0, -1):  # aligning changes no end, and what the two say there is the same
            assert dual["loss"][end] == pytest.approx(naive["loss"][end], rel=1e-3)
            assert dual["says"][end] == naive["says"][end]
        assert dual["barrier"] < 0.1 * naive["barrier"]


def test_the_landscape_and_the_real_runs_are_the_committed_results(root: Path) -> None:
    plane, shown = results(root, "landscape-vit")["planes"]["single"], numbers("landscape")
    assert np.array(shown["losses"]) == pytest.approx(np.array(plane["losses"]), rel=1e-3)
    assert shown["points"]["third"] == pytest.approx(plane["points"]["third"], rel=1e-3)
    for name, curve in results(root, "dual-single")["curves"].items():
        assert numbers("dual-eta")["measured"]["curves"][name] == pytest.approx(curve, rel=1e-3)


def luminance(colour: np.ndarray) -> float:
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def parts(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def test_curves_stand_out_from_the_white_they_are_drawn_on() -> None:
    """WCAG's contrast of 3 for graphics."""
    assert min(contrast(parts(colour), parts("#ffffff")) for colour in COLOURS) >= 3


@pytest.mark.parametrize("theme", [pen.LIGHT, pen.DARK], ids=["light", "dark"])
def test_words_can_be_read_on_paper_and_on_tints(theme: dict[str, str]) -> None:
    """WCAG's contrast of 4.5 for every colour of words, on the page and in a box of its own tint."""
    rgb = {name: parts(value) for name, value in theme.items()}
    for hue in set(theme) - {"faint", "paper"}:
        for ground in (rgb["paper"], 0.14 * rgb[hue] + 0.86 * rgb["paper"]):
            assert contrast(rgb[hue], ground) >= 4.5, hue


SOMEWHERE = "https://somebody.github.io/lmc/"


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of one page that holds every picture and every widget, rendered as strictly as the book, at an address."""
    book = tmp_path_factory.mktemp("pictures") / "book"
    shutil.copytree(root / "book/_ext", book / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(STATIC, book / "_static", ignore=shutil.ignore_patterns("mathjax"))
    shutil.copy(root / "book/references.bib", book)
    published = configuration()
    published["html"]["baseurl"] = SOMEWHERE
    (book / "_config.yml").write_text(yaml.safe_dump(published))
    (book / "_toc.yml").write_text("format: jb-book\nroot: intro\n")
    parts = ["# Title", "As {numref}`widget-landscape` shows."]
    parts += [f"```{{widget}} {name}\n```" for name in WORDS]
    parts += [
        f"```{{figure}} /_static/pictures/{name}.svg\n:alt: What & how\n\nSaid.\n```" for name in pictures.PICTURES
    ]
    (book / "intro.md").write_text("\n\n".join(parts))
    program = str(Path(sys.executable).with_name("jupyter-book"))
    done = subprocess.run(
        [program, "build", str(book), "--path-output", str(book.parent), "-W", "-n", "--keep-going"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return book.parent / "_build/html"


def test_a_book_with_an_address_has_a_sitemap_and_a_card(site: Path) -> None:
    listed = ElementTree.parse(site / "sitemap.xml").getroot()
    assert f"{SOMEWHERE}intro.html" in [place.text for place in listed.iter() if place.text]
    page = (site / "intro.html").read_text(encoding="utf-8")
    assert f'<meta property="og:image" content="{SOMEWHERE}_static/card.png"' in page
    assert (site / "_static/card.png").is_file()


def test_without_scripts_a_widget_is_a_figure_with_its_still(site: Path) -> None:
    page = (site / "intro.html").read_text(encoding="utf-8")
    assert "thebe" not in "".join(re.findall(r"<script[^>]*>.*?</script>", page, re.DOTALL)[:10]).lower()
    for name, said in WORDS.items():
        [figure] = re.findall(rf'<figure[^>]*id="widget-{name}".*?</figure>', page, re.DOTALL)
        assert f'aria-label="{said["alt"]}"' in figure and figure.count("<svg") == figure.count("<figcaption") == 1
        assert said["caption"][:30] in figure and "Fig. " in figure and 'class="legend"' in figure
    assert page.count('aria-label="What &amp; how"') == len(pictures.PICTURES)
    assert page.count("<style>") == 0 or "picture" not in "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Page:
    return browser.open(address + "intro.html", width=420)


@needs_chromium
def test_stills_are_what_the_widgets_draw_first() -> None:
    for name, drawn in stills.stills().items():
        assert (STATIC / f"widgets/{name}.svg").read_text(encoding="utf-8") == drawn, f"{name}: make widgets"


@needs_chromium
def test_the_page_is_quiet_and_asks_nobody_else(page: Page, address: str) -> None:
    assert page.complaints() == []
    assert page.requests() and all(url.startswith((address, "data:")) for url in page.requests())
    assert page.evaluate("document.querySelectorAll('.widget-stage').length") == len(WORDS)


@needs_chromium
def test_on_a_phone_words_are_large_enough_and_inside(page: Page) -> None:
    found = page.evaluate(
        "[...document.querySelectorAll('.picture text')].map(t => { const b = t.getBoundingClientRect();"
        " const s = t.closest('svg'); return [t.textContent, b.left, b.right,"
        " parseFloat(getComputedStyle(t).fontSize) * s.getBoundingClientRect().width / s.viewBox.baseVal.width]; })"
    )
    assert len(found) > 300
    for words, left, right, size in found:
        assert left >= 12 and right <= 408 and size >= 11, (words, left, right, size)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420


@needs_chromium
def test_the_page_has_the_paper_that_contrast_was_measured_on(browser: Browser, address: str) -> None:
    for dark, theme in ((False, pen.LIGHT), (True, pen.DARK)):
        page = browser.open(address + "intro.html", dark=dark)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == f"rgb({', '.join(str(int(theme['paper'][i : i + 2], 16)) for i in (1, 3, 5))})"
        ink = page.evaluate("getComputedStyle(document.querySelector('.widget .picture text.title:not(.orange)')).fill")
        assert ink == f"rgb({', '.join(str(int(theme['ink'][i : i + 2], 16)) for i in (1, 3, 5))})"


def said(page: Page, name: str) -> str:
    return str(page.evaluate(f"document.querySelector('#widget-{name} [role=status]').innerText"))


def focus(page: Page, name: str, selector: str, place: int = 0) -> None:
    page.evaluate(f"document.querySelectorAll('#widget-{name} {selector}')[{place}].focus()")


@needs_chromium
def test_the_slider_walks_the_line_by_keyboard(page: Page) -> None:
    shown = numbers("lambda-slider")
    focus(page, "lambda-slider", "input[type=range]")
    page.press("ArrowRight", 3)
    told = said(page, "lambda-slider")
    for way in ("naive", "dual"):
        assert f"{shown['digits'][way]['loss'][15]:.2f} nats" in told
        assert f"{round(100 * shown['digits'][way]['accuracy'][15])} % right" in told
    focus(page, "lambda-slider", "input[type=radio]")
    page.press("ArrowDown")
    for way in ("naive", "dual"):
        loss = shown["text"][way]["loss"][15]
        assert f"{loss:.2f} nats, perplexity {np.exp(loss):.1f}" in said(page, "lambda-slider")
    drawn = page.evaluate("document.querySelector('#widget-lambda-slider svg').textContent").replace(" ", "")
    assert shown["text"]["dual"]["says"][15].replace(" ", "").replace("\n", "↵") in drawn


@needs_chromium
def test_swapping_changes_the_weights_and_not_the_output(page: Page) -> None:
    name = "swap-two-units"
    before = page.evaluate(f"document.querySelector('#widget-{name} svg').textContent")
    focus(page, name, "button", 1)  # units 1 and 3
    page.press("Enter")
    assert "Order of units: 3, 2, 1. Output (2, 5), the same;" in said(page, name)
    assert page.evaluate(f"document.querySelector('#widget-{name} svg').textContent") != before
    net = {key: np.array(value) for key, value in numbers(name).items()}
    order = [2, 1, 0]
    into, out = (net["in"] + net["in"][order]) / 2, (net["out"] + net["out"][:, order]) / 2
    middle = out @ np.maximum(into @ net["x"], 0)
    assert f"of the average ({', '.join(pen.number(v) for v in middle)})." in said(page, name)
    focus(page, name, "input[type=checkbox]")
    page.press(" ")  # forgets the outgoing weights
    wrong = net["out"] @ np.maximum(net["in"][order] @ net["x"], 0)
    assert f"Output ({', '.join(pen.number(v) for v in wrong)}), another one" in said(page, name)


@needs_chromium
def test_turning_the_axes_keeps_the_inner_product(page: Page) -> None:
    name = "turn-the-stream"
    focus(page, name, "input[type=range]")
    page.press("ArrowRight", 5)  # 35° + 5 × 5°
    angle = np.radians(60)
    q = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    x, r = q @ [2, 1], q @ [1, 2]
    assert f"x is ({x[0]:.2f}, {x[1]:.2f})".replace("-", "−") in said(page, name)
    assert "inner product is 4.00, as before" in said(page, name) and r @ x == pytest.approx(4)
    focus(page, name, "input[type=checkbox]")
    page.press(" ")
    assert f"inner product is {x @ [1, 2]:.2f}, it was 4.00".replace("-", "−") in said(page, name)


@needs_chromium
def test_the_endpoint_moves_over_the_landscape(page: Page, root: Path) -> None:
    def barrier() -> float:
        return float(re.findall(r"barrier ([\d.]+)", said(page, "landscape"))[0])

    matched = barrier()
    focus(page, "landscape", "button")
    page.press("Enter")  # to B
    assert barrier() > 3 > 0.5 > matched
    measured = results(root, "landscape-vit")["spread"]
    assert barrier() == pytest.approx(measured["direct barrier"][0], rel=0.05)  # interpolated between 19 × 19 points
    direct = said(page, "landscape")
    box = page.evaluate(
        "(svg => { svg.scrollIntoView({block: 'center', behavior: 'instant'});"
        " return svg.getBoundingClientRect().toJSON(); })(document.querySelector('#widget-landscape svg'))"
    )
    pressed = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 20, "button": "left", "buttons": 1, "clickCount": 1}
    page.call("Input.dispatchMouseEvent", type="mousePressed", **pressed)  # up on the ridge
    page.call("Input.dispatchMouseEvent", type="mouseReleased", **pressed)
    assert float(re.findall(r"endpoint ([\d.]+)", said(page, "landscape"))[0]) > 2
    focus(page, "landscape", "button")
    page.press("Enter")
    assert said(page, "landscape") == direct
    focus(page, "landscape", "input[type=range]", 1)
    page.press("ArrowUp", 5)
    assert said(page, "landscape") != direct


def learned(dual: bool, rate: float) -> list[float]:
    """The small problem of the widget, solved here: the midpoint's loss over 60 steps."""
    found = numbers("dual-eta")
    ends, inputs = [np.array(found[side]) for side in "ab"], found["inputs"]

    def product(theta: np.ndarray) -> np.ndarray:
        return np.asarray(theta[:, inputs:].T @ theta[:, :inputs])

    wanted, losses = product(ends[0]), []
    for _ in range(61):
        losses.append(float(((product(sum(ends) / 2) - wanted) ** 2).sum() / 2))
        slopes = [np.zeros_like(end) for end in ends]
        for at in (0.3, 0.5, 0.7):
            theta = (1 - at) * ends[0] + at * ends[1]
            error = product(theta) - wanted
            gradient = np.concatenate([theta[:, inputs:] @ error, theta[:, :inputs] @ error.T], 1)
            slopes = [slope + share / 3 * gradient for slope, share in zip(slopes, (1 - at, at), strict=True)]
        for side in (0, 1) if dual else (1,):
            skew = rate * (slopes[side] @ ends[side].T - ends[side] @ slopes[side].T)
            ends[side] = np.linalg.solve(np.eye(3) + skew / 2, (np.eye(3) - skew / 2) @ ends[side])
    return losses


@needs_chromium
def test_dual_at_a_small_rate_is_single_at_twice_the_rate(page: Page) -> None:
    """The widget's own solution of its small problem agrees with one in numpy, at a small rate and at a large one."""
    focus(page, "dual-eta", "input[type=range]")
    page.press("ArrowLeft", 7)
    assert "Dual at η = 0.020 and single at 2η = 0.040 differ by less than 0.0001." in said(page, "dual-eta")
    page.press("ArrowRight", 24)
    rate = 0.02 * 10 ** (24 / 11)
    apart = max(abs(p - q) for p, q in zip(learned(True, rate), learned(False, 2 * rate), strict=True))
    assert said(page, "dual-eta").endswith(f"differ by at most {apart:.2g}.") and apart > 0.01
    assert max(abs(p - q) for p, q in zip(learned(True, 0.02), learned(False, 0.04), strict=True)) < 1e-4
    assert max(abs(p - q) for p, q in zip(learned(True, 0.02), learned(False, 0.02), strict=True)) > 0.01
