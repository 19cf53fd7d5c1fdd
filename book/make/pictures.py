"""`make pictures`: draw the pictures that explain, book/_static/pictures, and the colours widgets share with them.

Each function is one picture. What it shows is computed where it can be: the numbers of a rotation by rotating, the
swapped network by swapping. `pen` holds the marks and the look.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pen import arrow, box, curve, disc, drawing, line, number, page_style, shade, tag, text

STATIC = Path(__file__).resolve().parents[2] / "book/_static"
RESULTS = STATIC.parents[1] / "data/results/laptop"
HUES = ("blue", "orange", "green", "purple")
Marks = list[str]
Point = tuple[float, float]


def main() -> int:
    (STATIC / "pictures.css").write_text(page_style(), encoding="utf-8")
    for name, draw in PICTURES.items():
        (STATIC / f"pictures/{name}.svg").write_text(draw(), encoding="utf-8")
    (STATIC / "favicon.svg").write_text(favicon(), encoding="utf-8")
    return 0


def units_swapped() -> str:
    """A network of two inputs, three hidden units and two outputs, and the same with units 1 and 2 swapped."""
    net = json.loads((STATIC / "widgets/swap-two-units.json").read_text(encoding="utf-8"))
    into, out, x = (np.array(net[name]) for name in ("in", "out", "x"))
    marks = [text(95, 18, "the network", "title"), text(305, 18, "units 1 and 2 swapped", "title")]
    for left, order in ((0, [0, 1, 2]), (210, [1, 0, 2])):
        marks += _network(left, into[order], out[:, order], x, order)
        marks += _matrix(left + 2, 254, "W_{in}", into[order], [HUES[k] for k in order])
        marks += _matrix(left + 84, 254, "W_{out}", out[:, order], [HUES[k] for k in order], by_column=True)
    marks.append(arrow([(190, 124), (212, 124)], "soft"))
    marks.append(text(200, 356, "Thick: a large weight. Dashed: a negative one.", "small soft"))
    return drawing(
        "A network with two hidden units swapped: edges keep their colours, outputs their values", 366, marks
    )


def _network(left: float, into: np.ndarray, out: np.ndarray, x: np.ndarray, order: list[int]) -> Marks:
    hidden = np.maximum(into @ x, 0)  # ReLU
    columns = (left + 22, left + 92, left + 162)
    places = [[(columns[0], y) for y in (90, 160)], [(columns[1], y) for y in (60, 125, 190)]]
    places.append([(columns[2], y) for y in (90, 160)])
    marks = [text(cx, 226, name, "small soft") for cx, name in zip(columns, ("input", "hidden", "output"), strict=True)]
    for unit, (k, at) in enumerate(zip(order, places[1], strict=True)):
        ends = [(place, into[unit, i]) for i, place in enumerate(places[0])]
        ends += [(place, out[o, unit]) for o, place in enumerate(places[2])]
        for place, weight in ends:
            look = f"edge {HUES[k]}" + (" dashed" if weight < 0 else "")
            marks.append(line(*place, *at, look, width=0.6 + 1.3 * abs(float(weight))))
        marks.append(text(at[0], at[1] - 19, f"unit {k + 1}", f"small halo {HUES[k]}"))
    for values, spots in zip((x, hidden, out @ hidden), places, strict=True):
        for value, (cx, cy) in zip(values, spots, strict=True):
            marks += [disc(cx, cy, 13), text(cx, cy + 4.5, number(value))]
    return marks


def _matrix(x: float, y: float, name: str, values: np.ndarray, hues: list[str], by_column: bool = False) -> Marks:
    """Numbers between brackets; a row, or a column, has the colour of its hidden unit."""
    rows, columns = values.shape
    wide, high = 26 * columns, 19 * rows
    marks = [text(x + wide / 2, y, name)]
    y += 10
    for r in range(rows):
        for c in range(columns):
            hue = hues[c if by_column else r]
            marks.append(text(x + 13 + 26 * c, y + 14 + 19 * r, number(values[r, c]), hue))
    marks.append(curve([(x + 5, y), (x, y), (x, y + high), (x + 5, y + high)], "thin"))
    marks.append(curve([(x + wide - 5, y), (x + wide, y), (x + wide, y + high), (x + wide - 5, y + high)], "thin"))
    return marks


def weights_before_after() -> str:
    """Two tiny networks trained apart: their weights as heatmaps, the second before and after a reordering."""
    found = json.loads((STATIC / "pictures/weights-before-after.json").read_text(encoding="utf-8"))
    (a_in, a_out), (b_in, b_out) = ((np.array(found[side]["in"]), np.array(found[side]["out"])) for side in "ab")
    order = found["order"]
    shown = [("A", a_in, a_out, list(range(len(order)))), ("B, as trained", b_in, b_out, list(range(len(order))))]
    shown.append(("B, reordered", b_in[order], b_out[:, order], order))
    largest = max(float(np.abs(m).max()) for m in (a_in, b_in, a_out, b_out))
    cell, marks = 16, []
    for place, (title, into, out, units) in enumerate(shown):
        left = 26 + 134 * place
        marks.append(text(left + 48, 18, title, "title"))
        for r, k in enumerate(units):
            hue = "soft" if place == 0 else ""
            marks.append(text(left - 6, 46 + cell * r, str(k + 1), f"small {hue}".strip(), anchor="end"))
            marks.append(text(left + cell * (r + 0.5), 160, str(k + 1), f"small {hue}".strip()))
            marks += [shade(left + cell * c, 34 + cell * r, cell - 1, float(v), largest) for c, v in enumerate(into[r])]
            marks += [
                shade(left + cell * r, 166 + cell * o, cell - 1, float(v), largest) for o, v in enumerate(out[:, r])
            ]
        if place:
            apart = float(np.sqrt(((a_in - into) ** 2).sum() + ((a_out - out) ** 2).sum()))
            marks.append(text(left + 48, 240, f"‖A − B‖ = {apart:.2f}"))
    words = "Above: W_{in}, a row for each unit. Below: W_{out}, a column for each."
    marks.append(text(200, 264, words, "small soft"))
    return drawing(
        "Heatmaps of the weights of two small networks, the second before and after its units are reordered", 274, marks
    )


def stream_rotated() -> str:
    """One arrow that is written, one that reads it, in two coordinate systems: other numbers, one inner product."""
    x, r, turn = np.array([2.0, 1.0]), np.array([1.0, 2.0]), math.atan2(3, 4)
    q = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    marks: Marks = []
    for left, rotation, title in ((100, np.eye(2), "the stream"), (305, q, "the axes turned")):
        at = _plane((left - 30, 190), 50.0)
        axes = rotation  # the rows of Q are the new axes, seen in the old coordinates
        marks += [text(left, 18, title, "title")]
        for k, axis in enumerate(axes):
            marks.append(line(*at(-0.6 * axis), *at(2.5 * axis), "thin"))
            marks.append(text(*_beside(at(2.72 * axis)), f"e{'′' if rotation is q else ''}_{k + 1}", "small soft"))
        for vector, hue in ((x, "blue"), (r, "orange")):
            numbers = rotation @ vector
            for k in (0, 1):
                marks.append(line(*at(vector), *at(numbers[k] * axes[k]), f"edge {hue} dashed", width=1))
            marks.append(arrow([at(np.zeros(2)), at(vector)], hue))
        marks.append(text(at(x)[0] + 10, at(x)[1] + 4, "x", "blue title"))
        marks.append(text(at(r)[0] + 3, at(r)[1] - 8, "r", "orange title"))
        prime = "Q" if rotation is q else ""
        for row, (name, vector, hue) in enumerate((("x", x, "blue"), ("r", r, "orange"))):
            pair = ", ".join(number(v) for v in rotation @ vector)
            marks.append(text(left, 262 + 20 * row, f"{prime}{name} = ({pair})", hue))
        product = float((rotation @ r) @ (rotation @ x))
        marks.append(text(left, 302, f"{prime}r · {prime}x = {number(product)}", "title"))
    return drawing(
        "The same two arrows in two coordinate systems: their numbers change, their inner product does not", 314, marks
    )


def _plane(origin: Point, unit: float) -> Callable[[np.ndarray], Point]:
    return lambda v: (origin[0] + unit * float(v[0]), origin[1] - unit * float(v[1]))


def _beside(place: Point) -> Point:
    return place[0], place[1] + 4


def heads_blocks() -> str:
    """Heads are blocks of rows in queries, keys and values, and of columns in the output: they move as a whole."""
    marks: Marks = []
    for left, order, title in ((8, [0, 1, 2, 3], "four heads"), (214, [2, 0, 3, 1], "in another order")):
        marks.append(text(left + 89, 18, title, "title"))
        for column, name in enumerate(("W_q", "W_k", "W_v")):
            x = left + 65 * column
            marks.append(text(x + 24, 44, name))
            for row, head in enumerate(order):
                marks += [box(x, 52 + 25 * row, 48, 23, f"tint {HUES[head]}", 2)]
                marks += [text(x + 24, 68 + 25 * row, str(head + 1), HUES[head])]
        marks.append(text(left + 89, 178, "W_o"))
        for column, head in enumerate(order):
            x = left + 45 * column
            marks += [box(x, 186, 43, 48, f"tint {HUES[head]}", 2), text(x + 21, 215, str(head + 1), HUES[head])]
    marks.append(arrow([(189, 110), (211, 110)], "soft"))
    rows = [
        "A head is a block of rows in W_q, W_k, W_v and a block of",
        "columns in W_o. Blocks move whole, in all four alike.",
    ]
    rows += ["Inside a head, any invertible A may stand between values", "and output: W_v → A W_v, W_o → W_o A^{−1}."]
    marks += [text(8, 258 + 17 * k + 6 * (k > 1), words, "small", "start") for k, words in enumerate(rows)]
    return drawing(
        "Attention heads as blocks of rows and columns, before and after a reordering of whole heads", 326, marks
    )


def rotary_plane() -> str:
    """A rotary plane: positions turn query and key; one complex number may multiply them, and the score stays."""
    theta, positions, c = (
        math.radians(25),
        (2, 1),
        1.35 * complex(math.cos(math.radians(50)), math.sin(math.radians(50))),
    )
    query, key = 1.25 * _unit(5), 1.5 * _unit(75)
    marks: Marks = []
    for left, factor, title in ((98, 1, "as trained"), (304, c, "q → c q,  k → k / c̄")):
        centre = (left, 148)

        def at(z: complex, left: float = left) -> Point:
            return left + 46 * z.real, 148 - 46 * z.imag

        marks += [text(left, 18, title, "title"), disc(*centre, 46, "grid")]
        marks += [line(left - 92, 148, left + 92, 148, "grid"), line(left, 56, left, 240, "grid")]
        turned = []
        for vector, hue, name, position in (
            (query * factor, "blue", "q", positions[0]),
            (key / factor.conjugate(), "orange", "k", positions[1]),
        ):
            after = vector * _unit(math.degrees(theta) * position)
            steps = [vector * 0.72 * _unit(math.degrees(theta) * position * s / 16) for s in range(17)]
            marks += [curve([at(0j), at(vector)], f"edge {hue} dashed"), arrow([at(z) for z in steps], hue, "fine", 5)]
            marks.append(arrow([at(0j), at(after)], hue))
            tip = at(after + 0.22 * after / abs(after))
            marks.append(text(tip[0], tip[1] + 4, name, f"{hue} title"))
            turned.append(after)
        score = (turned[0] * turned[1].conjugate()).real
        apart = math.degrees(abs(np.angle(turned[0] / turned[1])))
        marks.append(text(left, 262, f"|q| = {abs(turned[0]):.2f}, |k| = {abs(turned[1]):.2f}", "small"))
        marks.append(text(left, 280, f"{apart:.0f}° between them", "small"))
        marks.append(text(left, 300, f"score Re(q k̄) = {score:.2f}", "title"))
    marks.append(text(200, 322, "Dashed: before the position (2 for q, 1 for k) turns them.", "small soft"))
    return drawing(
        "A rotary plane: query times c and key divided by the conjugate of c keep the score",
        332,
        marks,
    )


def _unit(degrees: float) -> complex:
    return complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))


def group_map() -> str:
    """Which symmetry acts where in a transformer's stack."""
    stream, marks = 22, []
    marks.append(line(stream, 40, stream, 452, "edge blue", width=4))
    parts = [
        (48, 30, "embedding", [], "writes"),
        (102, 22, "norm", ["gain and bias: into what reads the norm"], "reads"),
        (128, 118, "attention", [], "writes"),
        (270, 22, "norm", ["gain and bias: into what reads the norm"], "reads"),
        (296, 70, "feed-forward", [], "writes"),
        (390, 22, "norm", ["gain and bias: into what reads the norm"], "reads"),
        (416, 30, "head: logits", [], ""),
    ]
    for y, high, name, notes, way in parts:
        marks += [box(52, y, 340, high), text(60, y + 15, name, "title" if name != "norm" else "soft", "start")]
        marks += [text(384, y + 15, note, "small soft", "end") for note in notes]
        middle = y + high / 2
        if way:
            marks.append(
                arrow(
                    [(52, middle), (stream + 3, middle)] if way == "writes" else [(stream + 2, middle), (52, middle)],
                    "soft",
                    size=6,
                )
            )
    rows = [
        (158, "orange", "order of heads", "any permutation"),
        (180, "green", "queries and keys", "any invertible B"),
        (202, "green", "— if positions are rotary", "one complex c a plane"),
        (224, "purple", "values and output", "any invertible A"),
        (326, "orange", "order of hidden units", "any permutation"),
        (348, "purple", "gated or ReLU units", "a scale each"),
    ]
    for y, hue, where, what in rows:
        marks += [box(60, y - 2, 324, 19, f"tint {hue}", 3), text(67, y + 12, where, "small", "start")]
        marks.append(text(377, y + 12, what, f"small {hue}", "end"))
    marks += [text(8, 18, "residual stream: one rotation Q for the whole stack", "blue title", "start")]
    marks += [text(8, 33, "with LayerNorm only those with Q𝟙 = 𝟙", "small blue", "start")]
    marks += [
        text(384, 67, "writes the stream", "small blue", "end"),
        text(384, 435, "reads the stream", "small blue", "end"),
    ]
    marks += [text(200, 472, "What writes the stream becomes Q W, what reads it W Q^T.", "small blue")]
    return drawing("A transformer block as a stack, with the symmetry that acts on each part", 484, marks)


def matching_steps() -> str:
    """What matching does, step by step."""
    steps = [
        ("1  Two networks, trained apart", ["θ_A and θ_B: the same shape, other weights"], "soft", 46),
        (
            "2  Canonical form",
            ["gains, biases and scales to one agreed place:", "what is left to choose is a group element"],
            "green",
            62,
        ),
        (
            "3  Closed form",
            [
                "units, heads: the best assignment",
                "stream, values: the best rotation (Procrustes)",
                "rotary planes: the best complex factor",
                "round and round, until nothing changes",
            ],
            "orange",
            94,
        ),
        (
            "4  Learning",
            [
                "draw λ and a batch; merge:",
                "θ_λ = (1 − λ) g_A θ_A + λ g_B θ_B",
                "one backward pass; g_A, g_B step in the group",
            ],
            "blue",
            78,
        ),
        ("5  Average", ["a stock checkpoint; on the way", "its parents' functions never changed"], "soft", 62),
    ]
    marks, y = [], 8.0
    for place, (title, rows, hue, high) in enumerate(steps):
        marks += [box(20, y, 318, high, f"tint {hue}", 6), text(32, y + 19, title, "title", "start")]
        marks += [text(46, y + 36 + 16 * k, words, "small", "start") for k, words in enumerate(rows)]
        if title[0] in "34":
            loop = [(338.0, y + high - 14), (368.0, y + high - 14), (368.0, y + 18), (340.0, y + 18)]
            marks.append(arrow(loop, hue))
            marks.append(
                f'<g transform="translate(376 {y + high / 2:g}) rotate(90)">{text(0, 0, "repeat", "small soft")}</g>'
            )
        if place < len(steps) - 1:
            marks.append(arrow([(179, y + high + 1), (179, y + high + 17)], "soft", size=6))
        y += high + 18
    return drawing("The steps of matching: canonical form, closed form, learning, average", y - 8, marks)


def dual_and_single() -> str:
    """Where single and dual matching walk, in a plane whose symmetries are rotations, with the loss (|θ|² − 1)²."""
    marks: Marks = []
    a, b, outer, inner, unit = 22.0, 158.0, 1.12, 0.88, 62.0
    for left, share, title in ((98, 0.0, "single"), (304, 0.5, "dual")):
        marks.append(text(left, 18, title, "title"))
        for k in range(29):  # rings of equal loss
            radius = 1.4 - k / 20
            marks.append(
                _ring(left, 122, unit * radius, unit * (radius - 1 / 20), 0.7 * min(1.0, (radius**2 - 1) ** 2))
            )

        def at(angle: float, radius: float, left: float = left) -> Point:
            z = unit * radius * _unit(angle)
            return left + z.real, 122 - z.imag

        ends = a + share * (b - a), a + share * (b - a)
        marks.append(curve([at(a, outer), at(b, inner)], "edge dashed"))
        for start, end, radius, hue in ((a, ends[0], outer, "blue"), (b, ends[1], inner, "orange")):
            if start != end:
                marks.append(arrow([at(start + (end - start) * s / 32, radius) for s in range(33)], hue))
        marks.append(line(*at(ends[0], outer), *at(ends[1], inner), "edge green", width=3.5))
        for angle, radius, hue, name in ((a, outer, "blue", "A"), (b, inner, "orange", "B")):
            marks += [disc(*at(angle, radius), 4.5, f"head {hue}"), text(*at(angle, 1.42), name, f"{hue} title halo")]
        marks.append(text(left, 228, "each walks half of it" if share else "B walks all the way", "small"))
    rows = [
        "Shaded: a high loss. Dashed: the direct line, across the hill.",
        "Each end walks along its orbit, where its function stays.",
    ]
    rows += ["Green: the matched line; a rotation takes one to the other."]
    marks += [text(200, 254 + 17 * k, words, "small soft") for k, words in enumerate(rows)]
    return drawing(
        "In single matching one endpoint walks along its orbit, in dual matching both do, and meet half way", 298, marks
    )


def loss_on_the_line() -> str:
    """Measured: loss between the endpoints of every pair of Pythia's architecture, as they are and matched."""
    found = json.loads((RESULTS / "pythia-wikipedia.json").read_text(encoding="utf-8"))["also"]["wikitext2-2048"]
    lines = {way: _a_seed_of_each_pair(found["methods"][way]) for way in ("naive", "dual")}
    values = [loss for losses in lines.values() for row in losses for loss in row]
    low, high = math.floor(min(values) * 4) / 4, math.ceil(max(values) * 4) / 4

    def height(loss: float) -> float:
        return 190 - 160 * (loss - low) / (high - low)

    marks = [text(8, 16, f"loss on WikiText-2, {found['unit']}", "small", "start")]
    for loss in (low + k / 4 for k in range(round(4 * (high - low)) + 1)):
        marks += [
            line(60, height(loss), 380, height(loss), "grid"),
            text(52, height(loss) + 4, f"{loss:.2f}", "small", "end"),
        ]
    for way, hue in (("naive", "orange"), ("dual", "blue")):
        for row in lines[way]:
            points = [(60 + 320 * k / (len(row) - 1), height(loss)) for k, loss in enumerate(row)]
            marks.append(curve(points, f"edge {hue} thick"))
    means = {way: found["summary"][way]["barrier"] for way in lines}
    marks += [
        text(
            220, height(max(map(max, lines["naive"]))) - 6, f"as they are: barrier {means['naive']:.2f}", "orange halo"
        )
    ]
    marks += [
        text(220, height(max(map(max, lines["dual"]))) - 10, f"matched: barrier {means['dual']:.3f}", "blue halo")
    ]
    marks += [text(60, 208, "network A"), text(220, 208, "their average"), text(380, 208, "network B", anchor="end")]
    title = (
        f"Loss on the line between two networks, for {len(lines['dual'])} pairs: averaged as they are it rises by "
        f"{means['naive']:.2f} nats per token, after dual matching by {means['dual']:.3f}"
    )
    return drawing(title, 216, marks)


def _a_seed_of_each_pair(method: dict[str, Any]) -> list[list[float]]:
    """The losses along the line, of the first run of every pair."""
    first: dict[str, list[float]] = {}
    for run, losses in zip(method["runs"], method["losses"], strict=True):
        first.setdefault(run["pair"], losses)
    return list(first.values())


def _ring(x: float, y: float, outer: float, inner: float, opacity: float) -> str:
    paths = "".join(
        f"M{x + r:.2f} {y}A{r:.2f} {r:.2f} 0 1 0 {x - r:.2f} {y}A{r:.2f} {r:.2f} 0 1 0 {x + r:.2f} {y}Z"
        for r in (outer, max(inner, 0.01))
    )
    return tag("path", d=paths, fill_rule="evenodd", style=f"fill:var(--soft);fill-opacity:{opacity:.3f}")


def favicon() -> str:
    """A barrier, and the line that avoids it."""
    hill = [(2 + 28 * s / 40, 25 - 19 * math.exp(-(((s - 20) / 8) ** 2))) for s in range(41)]
    marks = [curve(hill, "edge orange thick"), line(2, 29, 30, 29, "edge blue thick")]
    return drawing("lmc", 32, marks, width=32)


def card() -> str:
    """What a link to the book shows elsewhere: loss along the line, naive and matched, as measured on digits."""
    shown = json.loads((STATIC / "widgets/lambda-slider.json").read_text(encoding="utf-8"))["digits"]
    top = max(shown["naive"]["loss"])
    marks = [text(200, 36, "Linear mode connectivity", "title"), text(200, 54, "of transformers", "title")]
    for way, hue in (("naive", "orange"), ("dual", "blue")):
        losses = shown[way]["loss"]
        points = [(40 + 320 * k / (len(losses) - 1), 180 - 105 * loss / top) for k, loss in enumerate(losses)]
        marks.append(curve(points, f"edge {hue} thick"))
    marks += [line(40, 180, 360, 180, "thin"), text(40, 196, "A", "title"), text(360, 196, "B", "title")]
    marks += [text(318, 92, "averaged as they are", "small orange halo")]
    marks += [text(200, 196, "rewritten first, same functions", "small blue")]
    return drawing("Loss on the line between two networks: a hill as they are, flat once matched", 210, marks)


PICTURES: dict[str, Callable[[], str]] = {
    "units-swapped": units_swapped,
    "weights-before-after": weights_before_after,
    "stream-rotated": stream_rotated,
    "heads-blocks": heads_blocks,
    "rotary-plane": rotary_plane,
    "group-map": group_map,
    "matching-steps": matching_steps,
    "dual-and-single": dual_and_single,
    "loss-on-the-line": loss_on_the_line,
}

if __name__ == "__main__":
    sys.exit(main())
