"""Photograph the rendered book in headless Chromium: every page, light, dark and as wide as a phone."""

import sys
from pathlib import Path
from typing import Any

from browser import Browser, chromium

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "book/_build/html"
VIEWS: dict[str, dict[str, Any]] = {"light": {}, "dark": {"dark": True}, "phone": {"width": 420}}
SETTLED = "new Promise(done => setTimeout(done, 1500))"  # formulas are set by then


def main() -> int:
    if not chromium() or not HTML.is_dir():
        print("error: needs chromium on the path and a rendered book (make book)", file=sys.stderr)
        return 2
    out = ROOT / "build/screenshots"
    out.mkdir(parents=True, exist_ok=True)
    chapters = sorted(f"notebooks/{page.stem}" for page in HTML.glob("notebooks/*.html"))
    with Browser() as browser:
        for page in sys.argv[1:] or ["intro", "figures", *chapters]:
            for view, options in VIEWS.items():
                target = out / f"{page.replace('/', '-')}-{view}.png"
                opened = browser.open(HTML / f"{page}.html", **options)
                opened.evaluate(SETTLED)
                opened.photograph(target)
                print(target.relative_to(ROOT), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
