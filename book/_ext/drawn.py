"""Drawn pictures become part of the page, so that they follow its light and its dark, and their words can be found.

A figure of several panels side by side stands in a box called `wide`. On a phone it scrolls there: its words would
shrink with it.
"""

import re
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

WIDE = 2  # times as wide as high
DRAWN = ("_static/pictures/", "_static/widgets/")  # what book/make/pictures.py and book/make/stills.py write


class Inline(SphinxPostTransform):
    default_priority = 5
    formats = ("html",)

    def run(self, **_: object) -> None:
        for image in list(self.document.findall(nodes.image)):
            file = Path(self.app.srcdir, image["uri"])
            if image["uri"].startswith(DRAWN) and file.is_file():
                svg = re.sub(r"<style>.*?</style>\n?", "", file.read_text(encoding="utf-8"), count=1, flags=re.DOTALL)
                if alt := image.get("alt"):
                    before, _, after = svg.partition('aria-label="')
                    svg = f'{before}aria-label="{escape(alt)}"{after.partition(chr(34))[2]}'
                image.replace_self(nodes.raw("", svg, format="html"))
            elif file.suffix == ".svg" and file.is_file() and _is_wide(file.read_text(encoding="utf-8")):
                image.replace_self(box := nodes.container(classes=["wide"]))
                box += image


def _is_wide(svg: str) -> bool:
    found = re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', svg)
    return found is not None and float(found[1]) > WIDE * float(found[2])


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(Inline)
    return {"parallel_read_safe": True}
