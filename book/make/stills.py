"""The stills of the interactive pictures: what each draws before anything is moved, as a file. Needs Chromium.

And the card that links to the book show, as the PNG that other sites ask for.

`make widgets` ends with it; a test compares. So one script draws a picture, whether the reader can move it or not.
"""

import re
import sys
import tempfile
from pathlib import Path

import pen
import pictures
import yaml
from browser import Browser

WIDGETS = Path(__file__).resolve().parents[2] / "book/_static/widgets"
READY = "document.querySelector('.widget-stage svg').outerHTML"


def main() -> int:
    for name, drawn in stills().items():
        (WIDGETS / f"{name}.svg").write_text(drawn, encoding="utf-8")
    photograph_card(pictures.STATIC / "card.png")
    return 0


def photograph_card(target: Path) -> None:
    """The card, light, 1,200 by 630 pixels."""
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        page = Path(folder, "card.html")
        look = f"<style>{pen.page_style()} body {{ margin: 0 }}</style>"
        page.write_text(f'<!doctype html><meta charset="utf-8">{look}{pictures.card()}', "utf-8")
        browser.open(page, width=1200, height=630).photograph(target)


def stills() -> dict[str, str]:
    """Each widget's first drawing, by name."""
    words = yaml.safe_load((WIDGETS / "words.yml").read_text(encoding="utf-8"))
    found = {}
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        for name, said in words.items():
            page = Path(folder, f"{name}.html")
            scripts = "".join(f"<script>{(WIDGETS / f'{each}.js').read_text()}</script>" for each in (name, "widgets"))
            numbers = f'<script type="application/json" data-widget="{name}">{(WIDGETS / f"{name}.json").read_text()}'
            page.write_text(f'<meta charset="utf-8"><figure><img alt="">{numbers}</script></figure>{scripts}', "utf-8")
            svg = str(browser.open(page).evaluate(READY))
            parts = re.fullmatch(r'<svg [^>]*viewBox="0 0 400 (\d+)"[^>]*>(.*)</svg>', svg, re.DOTALL)
            assert parts is not None, svg[:200]
            found[name] = pen.drawing(said["alt"], int(parts[1]), [parts[2].replace("><", ">\n<")])
    return found


if __name__ == "__main__":
    sys.exit(main())
