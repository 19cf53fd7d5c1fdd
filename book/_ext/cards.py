"""What other programs read of a page: its title, first sentences and picture for whoever links to it, and a sitemap.

The picture and the sitemap need absolute addresses: they are left out until the project has one (`html.baseurl`).
"""

from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

CARD = "_static/card.png"
LENGTH = 200  # characters of a description
SCHEMA = "http://www.sitemaps.org/schemas/sitemap/0.9"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", describe)
    app.connect("build-finished", sitemap)
    return {"parallel_read_safe": True}


def describe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Meta tags of the Open Graph protocol, which chats and social networks read."""
    if doctree is None:  # search, index
        return
    first = next((p for p in doctree.findall(nodes.paragraph) if _is_prose(p)), None)
    words = " ".join(first.astext().split()) if first is not None else context["title"]
    said = words if len(words) <= LENGTH else words[:LENGTH].rsplit(" ", 1)[0] + " …"
    tags = {"og:type": "article", "og:title": context["title"], "og:description": said}
    if base := app.config.html_baseurl:
        tags |= {"og:url": f"{base}{page}.html", "og:image": base + CARD, "twitter:card": "summary_large_image"}
    lines = [f'<meta name="description" content="{escape(said)}" />']
    lines += [f'<meta property="{name}" content="{escape(value)}" />' for name, value in tags.items()]
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def sitemap(app: Sphinx, error: Exception | None) -> None:
    """Every page that a reader may land on, for search engines."""
    if error is None and app.builder.name == "html" and (base := app.config.html_baseurl):
        places = "".join(f"<url><loc>{base}{page}.html</loc></url>\n" for page in sorted(app.env.found_docs))
        whole = f'<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="{SCHEMA}">\n{places}</urlset>\n'
        Path(app.outdir, "sitemap.xml").write_text(whole, encoding="utf-8")


def _is_prose(paragraph: nodes.paragraph) -> bool:
    """Whether it stands in the text itself: not in a box, a list or a caption."""
    return isinstance(paragraph.parent, nodes.section)
