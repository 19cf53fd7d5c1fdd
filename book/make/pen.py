"""A pen for the book's drawn pictures: a few marks, one look, SVG text. Units are pixels of a page 400 wide."""

import re
from collections.abc import Iterable
from xml.sax.saxutils import escape

WIDTH = 400
# Colours are named by what they mean; the page names the same ones (book/_static/pictures.css) and follows its theme.
LIGHT = {"ink": "#1f2328", "soft": "#59636e", "faint": "#d1d9e0", "paper": "#ffffff"}
LIGHT |= {"blue": "#0065a3", "orange": "#a64300", "green": "#00704f", "purple": "#9c3d76"}
DARK = {"ink": "#e6e9ee", "soft": "#a9b1ba", "faint": "#3d444d", "paper": "#121212"}
DARK |= {"blue": "#6cbcf0", "orange": "#ff9d5c", "green": "#4fd0a4", "purple": "#ea9fcb"}
LOOK = """
.picture { font: 13px system-ui, "DejaVu Sans", sans-serif; }
.picture text { fill: var(--ink); }
.picture .small { font-size: 12px; }
.picture .title { font-weight: 600; }
.picture .edge { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.picture .thin { fill: none; stroke: var(--soft); stroke-width: 1; }
.picture .grid { fill: none; stroke: var(--faint); stroke-width: 1; }
.picture .dashed { stroke-dasharray: 4 3; }
.picture .box { fill: var(--paper); stroke: var(--soft); stroke-width: 1; }
.picture .filled { fill: var(--faint); stroke: none; }
.picture .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
.picture .fine { stroke-width: 1; }
.picture .thick { stroke-width: 2.5; }
.picture .mono { font: 12.5px ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre; }
"""
for _hue in ("ink", "soft", "blue", "orange", "green", "purple"):
    LOOK += f".picture text.{_hue}, .picture tspan.{_hue}, .picture .head.{_hue} {{ fill: var(--{_hue}); }}\n"
    LOOK += f".picture .edge.{_hue} {{ stroke: var(--{_hue}); }}\n"
    LOOK += f".picture .tint.{_hue} {{ fill: var(--{_hue}); fill-opacity: 0.14; stroke: var(--{_hue}); }}\n"


def drawing(title: str, height: float, marks: Iterable[str], width: float = WIDTH) -> str:
    """A whole file. Standing alone it follows the reader's system; in the book, the page."""
    colours = [" ".join(f"--{name}: {value};" for name, value in theme.items()) for theme in (LIGHT, DARK)]
    style = f":root.picture {{ {colours[0]} background: var(--paper); }}\n"
    style += f"@media (prefers-color-scheme: dark) {{ :root.picture {{ {colours[1]} }} }}{LOOK}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="picture" viewBox="0 0 {width:g} {height:g}" '
        f'role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">\n<style>\n{style}</style>\n'
        + "\n".join(marks)
        + "\n</svg>\n"
    )


def page_style() -> str:
    """The same look for pictures in the book's pages, where the theme's switch decides."""
    light, dark = (" ".join(f"--{name}: {value};" for name, value in theme.items()) for theme in (LIGHT, DARK))
    return f'html {{ {light} }}\nhtml[data-theme="dark"] {{ {dark} }}\n{LOOK}'


def tag(name: str, inside: str = "", **attributes: object) -> str:
    given = {key.rstrip("_").replace("_", "-"): _plain(value) for key, value in attributes.items() if value != ""}
    head = name + "".join(f' {key}="{value}"' for key, value in given.items())
    return f"<{head}>{inside}</{name}>" if inside else f"<{head}/>"


def text(x: float, y: float, words: str, look: str = "", anchor: str = "middle") -> str:
    """Words; `W_q` and `W_{in}` set a subscript, `B^{−T}` a superscript."""
    parts = re.split(r"([_^])(?:\{([^}]*)\}|(\w))", words)
    inside = escape(parts[0])
    for kind, long, short, rest in zip(parts[1::4], parts[2::4], parts[3::4], parts[4::4], strict=True):
        shift = 3 if kind == "_" else -5
        inside += tag("tspan", escape(long or short), dy=shift, font_size="0.75em")
        inside += tag("tspan", escape(rest) or "\u200b", dy=-shift)
    return tag("text", inside, x=x, y=y, class_=look, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, look: str = "edge", width: float | str = "") -> str:
    style = f"stroke-width:{width:.3g}" if isinstance(width, float | int) else ""
    return tag("path", d=f"M{_plain(x1)} {_plain(y1)}L{_plain(x2)} {_plain(y2)}", class_=look, style=style)


def curve(points: Iterable[tuple[float, float]], look: str = "edge", closed: bool = False) -> str:
    steps = "L".join(f"{_plain(x)} {_plain(y)}" for x, y in points)
    return tag("path", d=f"M{steps}{'Z' if closed else ''}", class_=look)


def arrow(points: list[tuple[float, float]], hue: str = "ink", look: str = "", size: float = 7) -> str:
    """A line through points with a head at its end."""
    (x1, y1), (x2, y2) = points[-2:]
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    along, across = ((x2 - x1) / length, (y2 - y1) / length), (-(y2 - y1) / length, (x2 - x1) / length)
    back = [x2 - size * along[0], y2 - size * along[1]]
    wings = [(back[0] + side * size / 2 * across[0], back[1] + side * size / 2 * across[1]) for side in (1, -1)]
    shaft = [*points[:-1], (back[0] + along[0], back[1] + along[1])]
    return curve(shaft, f"edge {hue} {look}".strip()) + curve([(x2, y2), *wings], f"head {hue}", closed=True)


def box(x: float, y: float, width: float, height: float, look: str = "box", round_: float = 4) -> str:
    return tag("rect", x=x, y=y, width=width, height=height, rx=round_, class_=look)


def disc(x: float, y: float, radius: float, look: str = "box") -> str:
    return tag("circle", cx=x, cy=y, r=radius, class_=look)


def shade(x: float, y: float, size: float, value: float, largest: float) -> str:
    """A cell of a heatmap: blue above zero, orange below, the stronger the further."""
    hue, strength = ("blue" if value >= 0 else "orange"), min(1.0, abs(value) / largest)
    return tag("rect", x=x, y=y, width=size, height=size, style=f"fill:var(--{hue});fill-opacity:{strength:.2f}")


def number(value: float) -> str:
    """3, −0.4: a real minus sign, no zeros that say nothing."""
    return f"{round(value, 2) + 0:g}".replace("-", "−")


def _plain(value: object) -> str:
    return f"{round(value, 1) + 0:g}" if isinstance(value, float | int) else str(value)
