"""`make links`: ask every address outside the book whether it is still there; what the rendered pages link to."""

import http.client
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path

HTML = Path(__file__).resolve().parents[2] / "book/_build/html"
GONE = (404, 410)  # any other answer says that somebody is there: some sites refuse programs
SILENT = "does not answer"
AGENT = {"User-Agent": "Mozilla/5.0 (link check of a book)"}


def main() -> int:
    if not (HTML / "index.html").is_file():
        print("error: there is no rendered book; run: make book", file=sys.stderr)
        return 2
    found = addresses(HTML)
    broken = dead(found)
    if found and all(broken.get(url, "").startswith(SILENT) for url in found):
        print(
            f"error: none of {len(found)} addresses answers; is there a network? Run it where there is", file=sys.stderr
        )
        return 2
    for url, why in sorted(broken.items()):
        print(f"{url}: {why}; linked from {', '.join(found[url][:3])}")
    print(f"{len(found)} addresses, {len(broken)} dead")
    return 1 if broken else 0


def addresses(html: Path) -> dict[str, list[str]]:
    """Every address that the text of a page links to, with those pages."""
    found: dict[str, list[str]] = {}
    for page in sorted(html.rglob("*.html")):
        text = page.read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0]
        for url in sorted(set(re.findall(r'href="(https?://[^"#]+)', text))):
            found.setdefault(unescape(url), []).append(page.relative_to(html).as_posix())
    return found


def dead(urls: Iterable[str], tries: int = 3, pause: float = 5) -> dict[str, str]:
    """Those that do not answer, each with the reason. Who is silent is asked again, unless everybody is."""
    reasons: dict[str, str] = {}
    waiting = list(urls)
    with ThreadPoolExecutor(8) as pool:
        for attempt in range(tries):
            time.sleep(pause * attempt)
            reasons |= zip(waiting, pool.map(_reason, waiting), strict=True)
            waiting = [url for url, why in reasons.items() if why.startswith(SILENT)]
            if not waiting or len(waiting) == len(reasons):
                break
    return {url: why for url, why in reasons.items() if why}


def _reason(url: str) -> str:
    try:
        urllib.request.urlopen(urllib.request.Request(url, headers=AGENT), timeout=30).close()
    except urllib.error.HTTPError as error:
        return f"answers {error.code}" if error.code in GONE else ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{SILENT} ({error})"
    return ""


if __name__ == "__main__":
    sys.exit(main())
