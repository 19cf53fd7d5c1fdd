"""`make print`: the whole book as one PDF, build/lmc-book.pdf, by headless Chromium.

The rendered pages are put one after the other, in the order of the contents, into one page of their own, whose links
lead from chapter to chapter inside it. Nothing is rendered again.
"""

import base64
import re
import sys
from pathlib import Path, PurePosixPath
from posixpath import normpath

import yaml
from browser import Browser, Page, chromium

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "book/_build/html"
WHOLE = "whole.html"  # beside the pages, so that pictures and styles are found
SETTLED = """(async () => {
  await MathJax.startup.promise;
  document.querySelectorAll('details').forEach(one => { one.open = true; });
  document.querySelectorAll('.toggle-hidden').forEach(one => one.classList.remove('toggle-hidden'));
})()"""
# A4 less its margins is 680 pixels wide; what is folded on the screen is open on paper.
LOOK = """<style>
  body, .bd-main, .bd-main .bd-content, .leaf { display: block !important; margin: 0; max-width: none;
    padding: 0 !important; width: 100%; }
  section.leaf { break-before: page; }
  pre, code, code span { overflow-wrap: anywhere; white-space: pre-wrap !important; }
  .bd-content table { display: table; table-layout: auto; width: 100%; }
  .bd-content table :is(td, th) { font-size: 0.7rem; overflow-wrap: anywhere; padding: 0.15rem 0.3rem; }
  .bd-content img { max-width: 100%; }
  .headerlink, .copybtn, .toggle-details__summary, .toggle-button { display: none; }
  .toggle-hidden.admonition { height: auto; }
  .toggle-hidden > * { opacity: 1; visibility: visible; }
  @page { size: A4; margin: 15mm; }
</style>"""


def main() -> int:
    if not chromium() or not (HTML / "index.html").is_file():
        print("error: needs chromium on the path and a rendered book (make book)", file=sys.stderr)
        return 2
    target = ROOT / "build/lmc-book.pdf"
    target.parent.mkdir(exist_ok=True)
    (HTML / WHOLE).write_text(whole(HTML, contents(HTML)), encoding="utf-8")
    try:
        with Browser(patience=600) as browser:
            target.write_bytes(pdf(opened(browser, HTML / WHOLE)))
    finally:
        (HTML / WHOLE).unlink()
    print(f"The printed book: {target.relative_to(ROOT)}")
    return 0


def contents(html: Path) -> list[str]:
    """Every page in the order of book/_toc.yml, without its ending."""
    text = (ROOT / "book/_toc.yml").read_text(encoding="utf-8")
    listed = [yaml.safe_load(text)["root"], *re.findall(r"(?:file|glob): (\S+)", text)]
    found = [sorted(path.relative_to(html) for path in html.glob(f"{name}.html")) for name in listed]
    return list(dict.fromkeys(path.with_suffix("").as_posix() for paths in found for path in paths))


def whole(html: Path, pages: list[str]) -> str:
    """One page that holds the articles of all; an anchor `#a` of page `p` becomes `#p--a`."""
    first = (html / f"{pages[0]}.html").read_text(encoding="utf-8")
    head = first.partition("</head>")[0] + LOOK + "</head>"
    leaves = [f'<section class="leaf" id="{_anchor(page)}">{_leaf(html, page, set(pages))}</section>' for page in pages]
    scripts = re.findall(r"<script[^>]*mathjax[^>]*>.*?</script>|<script>window.MathJax.*?</script>", first, re.S)
    body = f'<body><main class="bd-main"><div class="bd-content">{"".join(leaves)}</div></main></body></html>'
    # Scripts of the theme look for its menus; formulas are all that is needed here.
    return re.sub(r"<script.*?</script>", "", head, flags=re.S) + "".join(scripts) + body


def _leaf(html: Path, page: str, pages: set[str]) -> str:
    text = (html / f"{page}.html").read_text(encoding="utf-8")
    text = text.partition('<article class="bd-article">')[2].partition("</article>")[0]
    text = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    here = PurePosixPath(page).parent

    def led(found: re.Match[str]) -> str:
        kind, place = found.groups()
        if re.match(r"[a-z]+:", place):
            return found[0]
        path, _, anchor = place.partition("#")
        path = normpath(str(here / path)) if path else f"{page}.html"
        known = path.removesuffix(".html")
        target = f"#{_anchor(known, anchor)}" if path.endswith(".html") and known in pages else path
        return f'{kind}="{target}"'

    text = re.sub(r'(?<= )(id)="([^"]+)"', lambda found: f'id="{_anchor(page, found[2])}"', text)
    return re.sub(r'(?<= )(href|src)="([^"]+)"', led, text)


def _anchor(page: str, anchor: str = "") -> str:
    return page.replace("/", "-") + (f"--{anchor}" if anchor else "")


def opened(browser: Browser, page: Path) -> Page:
    """The page as it goes to paper: as wide, light, formulas set, nothing folded."""
    found = browser.open(page, width=680)
    found.call("Emulation.setEmulatedMedia", media="print")
    found.evaluate(SETTLED)
    return found


def pdf(page: Page) -> bytes:
    options = {"printBackground": True, "preferCSSPageSize": True, "generateDocumentOutline": True}
    return base64.b64decode(page.call("Page.printToPDF", **options)["data"])


if __name__ == "__main__":
    sys.exit(main())
