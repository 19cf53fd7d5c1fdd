"""`{widget} NAME`: a picture that the reader can move.

Without scripts it is a drawn figure like any other: its still, its caption, a text. A script (book/_static/widgets)
takes the numbers from the page and puts the living picture in the still's place. What is said about it is in words.yml;
content of the directive takes the caption's place. `{numref}` finds it as widget-NAME.
"""

from pathlib import Path

import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Widget(SphinxDirective):
    required_arguments = 1
    has_content = True
    option_spec = {"name": directives.unchanged, "alt": directives.unchanged}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        folder, name = Path(self.env.srcdir, "_static/widgets"), self.arguments[0]
        words = yaml.safe_load((folder / "words.yml").read_text(encoding="utf-8"))
        if name not in words:
            raise self.error(f"no widget '{name}'; there are {', '.join(words)}")
        self.env.note_dependency(str(folder / "words.yml"))
        self.env.note_dependency(str(folder / f"{name}.json"))
        numbers = (folder / f"{name}.json").read_text(encoding="utf-8").strip().replace("</", "<\\/")
        script = f'<script type="application/json" data-widget="{name}">{numbers}</script>'
        figure = nodes.figure(classes=["widget"])
        figure += nodes.image(uri=f"/_static/widgets/{name}.svg", alt=self.options.get("alt", words[name]["alt"]))
        said, messages = self.state.inline_text("\n".join(self.content) or words[name]["caption"], self.lineno)
        figure += nodes.caption("", "", *said)
        figure += (legend := nodes.legend())
        self.state.nested_parse(StringList(words[name]["text"].splitlines()), self.content_offset, legend)
        legend += nodes.raw("", script, format="html")
        self.options.setdefault("name", f"widget-{name}")
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure, *messages]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("widget", Widget)
    return {"parallel_read_safe": True}
