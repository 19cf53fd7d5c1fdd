"""Photograph the rendered book in headless Chromium: every page, light, dark and as wide as a phone."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "book/_build/html"
VIEWS = {
    "light": ["--window-size=1280,1600"],
    "dark": ["--window-size=1280,1600", "--blink-settings=preferredColorScheme=0"],
    "phone": ["--window-size=420,1600"],
}


def main() -> int:
    browser = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    if not browser or not HTML.is_dir():
        print("error: needs chromium on the path and a rendered book (make book)", file=sys.stderr)
        return 2
    out = ROOT / "build/screenshots"
    out.mkdir(parents=True, exist_ok=True)
    chapters = sorted(f"notebooks/{page.stem}" for page in HTML.glob("notebooks/*.html"))
    for page in sys.argv[1:] or ["intro", "figures", *chapters]:
        for view, options in VIEWS.items():
            target = out / f"{page.replace('/', '-')}-{view}.png"
            photograph(browser, HTML / f"{page}.html", target, options)
            print(target.relative_to(ROOT), flush=True)
    return 0


def photograph(browser: str, page: Path, target: Path, options: list[str]) -> None:
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", "--virtual-time-budget=8000", "--hide-scrollbars"]
    with tempfile.TemporaryDirectory() as profile:
        where = [f"--user-data-dir={profile}", f"--screenshot={target}", page.as_uri()]
        subprocess.run([browser, *quiet, *options, *where], check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    sys.exit(main())
