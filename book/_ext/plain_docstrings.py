"""Docstrings are plain text with `code` in backticks: nothing else in them is markup for the API pages."""

import re
from typing import Any

from sphinx.application import Sphinx

CODE = re.compile(r"(`+[^`]+`+)")
MARKUP = re.compile(r"[*|]|(?<=\w)_(?!\w)")  # emphasis, substitutions, link names


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", escape, priority=900)  # after napoleon has read its sections
    return {"parallel_read_safe": True}


def escape(app: Sphinx, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    """Escape markup outside code, in place; examples and napoleon's fields are left alone."""
    example = False
    for place, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if not example and not line.lstrip().startswith((":", "..")):
            parts = CODE.split(line)
            parts[::2] = [MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
            lines[place] = "".join(parts)
