"""Jupyter Book loads Thebe on every page, twice, which is an error in the console; no cell of this book runs live."""

from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", drop, priority=900)
    return {"parallel_read_safe": True}


def drop(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    def is_thebe(script: Any) -> bool:
        return (
            "thebe" in f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {}).get('body')}".lower()
        )

    context["script_files"] = [script for script in context.get("script_files", []) if not is_thebe(script)]
