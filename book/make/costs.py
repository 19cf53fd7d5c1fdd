"""The tables of the book's page on cost, from what `make bench` measured."""

import json
import statistics
from collections.abc import Mapping, Sequence
from math import exp, log
from pathlib import Path
from typing import Any

from lmc.matching import default_rate
from lmc.reproduce.experiments import bench_eigenbasis, scaling, vision
from lmc.reproduce.experiments.bench_choices import BOTH, DEFAULT, time_to
from lmc.reproduce.experiments.bench_weights import UNRELATED
from lmc.reproduce.training.shapes import PYTHIA
from lmc.reproduce.training.shipped_pairs import KINDS as SHIPPED

BENCH = Path(__file__).resolve().parents[2] / "data/results/bench"


PARAMETERS = {"14M": 14.1e6, "70M": 70.4e6, "160M": 162e6, "410M": 405e6, "1B": 1.01e9, "7B": 7.24e9}
KINDS = {"text": "neox-docstrings", "digits": "vit-digits"}  # of shipped pairs
PREDICTED = "predicted_cpu_seconds"
FAR = 4  # times the default's time: beyond it a line through three runs says nothing
NEAR = 0.1  # a size that differs by no more from one that was measured is that one


def cost_tables(folder: Path) -> None:
    """`cost-step.md` and its like in the folder, one for each part, and `cost-sizes.md` from all of them."""
    tables = {"step": _step, "memory": _memory, "weights": _weights, "growth": _growth, "merge": _merge}
    tables |= {"startup": _startup, "choices": _choices, "sweeps": _sweeps, "rates": _rates, "eigenbasis": _eigenbasis}
    for part, table in tables.items():
        if not (BENCH / f"{part}.json").is_file():
            (folder / f"cost-{part}.md").write_text(f"Not measured yet: `make bench ITEM={part}`.\n", encoding="utf-8")
            continue
        numbers, run = (json.loads((BENCH / f"{part}{suffix}.json").read_text()) for suffix in ("", ".run"))
        text = "\n".join(table(numbers)) + f"\n\n{_made(part, run)}\n"
        (folder / f"cost-{part}.md").write_text(text, encoding="utf-8")
    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in BENCH.glob("*.json")}
    whole = {"weights", "merge", "step", "memory", "choices"} <= found.keys()
    text = "\n".join(_sizes(found)) if whole else "Not measured yet: `make bench`."
    (folder / "cost-sizes.md").write_text(text + "\n", encoding="utf-8")
    text = "\n".join(_found(found)) if whole else "- Nothing was measured yet: `make bench`."
    (folder / "cost-found.md").write_text(text + "\n", encoding="utf-8")


def _found(found: Mapping[str, Any]) -> list[str]:
    """What the tables say, in sentences."""
    ratios = [row["dual ÷ plain"] for row in found["step"]["steps"].values()]
    held = [row["dual, without activations"] for row in found["memory"]["memory"].values()]
    kept = [row["dual, without activations as kept"] for row in found["memory"]["memory"].values()]
    apart = {name: row for name, row in found["weights"].items() if UNRELATED in name}
    planted = [row for name, row in found["weights"].items() if "," not in name]
    largest = max(planted, key=lambda row: float(row["parameters"]))
    name, hardest = max(apart.items(), key=lambda item: float(item[1]["cpu_seconds"]))
    averaged = max(found["merge"].values(), key=lambda row: float(row["parameters"]))
    choices = next(iter(found["choices"].values()))["runs"]
    medians = {choice: statistics.median(_taken(found["choices"], KINDS["text"], choice)) for choice in choices}
    sooner, others = medians.pop(DEFAULT), min(value for name, value in medians.items() if name != BOTH)
    both = (averaged["match"]["cpu_seconds"] + averaged["merge"]["cpu_seconds"]) / 60
    own = max(averaged[part]["own_gib"] for part in ("match", "merge"))
    return [
        f"- A step of dual matching took {min(ratios):.2f} to {max(ratios):.2f} times as long as a training step of "
        "the same model on the same batch.",
        f"- Without activations it held {min(held):.1f} to {max(held):.1f} times the weights of one model, and as a "
        f"process is by default {min(kept):.1f} to {max(kept):.1f} times.",
        f"- Data-free matching of a planted pair of {largest['parameters'] / 1e9:.1f} billion parameters took "
        f"{largest['cpu_seconds'] / 60:.0f} minutes of processor time and {largest['peak_gib']:.1f} GiB, of two "
        f"unrelated models ({name.partition(', ')[0]}) {hardest['cpu_seconds'] / 60:.0f} minutes.",
        "- On text, learning that begins at `weights` comes as far as from the better of both closed forms in "
        f"{sooner:.2f} of the time. No other choice of start, batch or λ that was tried takes less than {others:.2f}.",
        f"- Averaging a pair of {averaged['parameters'] / 1e9:.0f} billion parameters as they are took {both:.0f} "
        f"minutes of processor time and {own:.1f} GiB.",
    ]


def _step(numbers: dict[str, Any]) -> list[str]:
    rows = ["| shape | tokens | single ÷ plain | dual ÷ plain | 1 + 2d/(3T) |", "|---|---|---|---|---|"]
    for name, row in numbers["steps"].items():
        shape, tokens = name.removesuffix(" tokens").split(", ")
        width = PYTHIA[shape].width
        line = 1 + 2 * width / (3 * int(tokens))
        rows.append(
            f"| {shape} | {int(tokens):,} | {row['single ÷ plain']:.2f} | {row['dual ÷ plain']:.2f} | {line:.2f} |"
        )
    return rows


def _memory(numbers: dict[str, Any]) -> list[str]:
    rows = ["| shape | one model, MB | single | dual | dual, by default |", "|---|---|---|---|---|"]
    for shape, row in numbers["memory"].items():
        single, dual = (row[f"{method}, without activations"] for method in ("single", "dual"))
        kept = row["dual, without activations as kept"]
        size = f"{row['bytes of one model'] / 1e6:,.0f}"
        rows.append(f"| {shape} | {size} | {single:.2f} | {dual:.2f} | {kept:.2f} |")
    return rows


def _weights(numbers: dict[str, Any]) -> list[str]:
    rows = [
        "| shape | parameters | seconds | processor seconds | as predicted | peak memory, GiB | of its own | sweeps "
        "| A to aligned B |"
    ]
    rows += ["|---" * 9 + "|"]
    for shape, row in sorted(numbers.items(), key=lambda item: item[1]["parameters"]):
        own = f"{row['own_gib']:.1f}" if "own_gib" in row else "–"
        said = row.get(PREDICTED if "," in shape else f"{PREDICTED}, one rewritten")
        predicted = f"{said:,.0f}" if said else "–"
        times = f"{row['seconds']:,.0f} | {row['cpu_seconds']:,.0f} | {predicted} | {row['peak_gib']:.1f} | {own}"
        apart = f"{row['distance']:.0e}" if "distance" in row else "–"
        rows.append(f"| {shape} | {row['parameters']:,} | {times} | {row['sweeps']} | {apart} |")
    return rows


def _eigenbasis(numbers: dict[str, Any]) -> list[str]:
    """By kind of pair and rate, the barrier after each number of steps, and how long the other way takes."""
    first = next(iter(numbers.values()))["tried"]
    heads = [f"{run['steps']} steps" for run in first[0]["runs"]]
    rows = ["| pairs | rate | moments | " + " | ".join(heads) + " | s | time |", "|---" * (5 + len(heads)) + "|"]
    for kind in dict.fromkeys(name.rpartition("-")[0] for name in sorted(numbers)):
        pairs = [row for name, row in sorted(numbers.items()) if name.rpartition("-")[0] == kind]
        many = f", {len(pairs)} pairs" if len(pairs) > 1 else ", one pair"
        for rate, way in sorted({(tried["lr"], tried["way"]) for tried in first}):
            runs = [_tried(row, rate, way) for row in pairs]
            barriers = [f"{statistics.mean(run[at]['barrier'] for run in runs):.4f}" for at in range(len(heads))]
            seconds = statistics.mean(run[-1]["seconds"] for run in runs)
            apart = way == bench_eigenbasis.EIGENBASIS and KINDS["text"] == kind
            time = _ratios([_sooner(row, rate) for row in pairs]) if apart else ""
            rows.append(f"| {kind}{many} | {rate:g} | {way} | " + " | ".join(barriers) + f" | {seconds:.0f} | {time} |")
    return rows


def _tried(row: Mapping[str, Any], rate: float, way: str) -> Sequence[Mapping[str, float]]:
    return next(tried["runs"] for tried in row["tried"] if (tried["lr"], tried["way"]) == (rate, way))


def _sooner(row: Mapping[str, Any], rate: float) -> float:
    """The time that the eigenbasis takes to where Adam ends, over what Adam takes."""
    plain, other = (_tried(row, rate, way) for way in (bench_eigenbasis.ADAM, bench_eigenbasis.EIGENBASIS))
    return time_to(plain[-1]["barrier"], other) / time_to(plain[-1]["barrier"], plain)


def _sweeps(numbers: dict[str, Any]) -> list[str]:
    rows = ["| pair | after one look | 1 sweep | 2 | 4 | 6 | the last | naive |", "|---|---|---|---|---|---|---|---|"]
    for name, row in numbers.items():
        *some, last = (f"{found['cosine']:.4f}, {found['barrier']:.3f}" for found in row["after"])
        cells = [*some, f"{last} ({row['after'][-1]['sweeps']})", f"{row['naive']:.3f}"]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    lower = [row["after"][-1]["barrier"] < row["after"][0]["barrier"] for row in numbers.values()]
    said = f"After the last sweep the barrier is lower than after one look on {sum(lower)} of these {len(lower)} pairs."
    return [*rows, "", said]


def _merge(numbers: dict[str, Any]) -> list[str]:
    rows = ["| shape | `match` | `merge` | mergekit | ratio | of wall times | memory of their own, GiB |"]
    rows += ["|---|---|---|---|---|---|---|"]
    for shape, row in sorted(numbers.items(), key=lambda item: item[1]["parameters"]):
        parts = [row.get(part) for part in ("match", "merge", "mergekit")]
        times = " | ".join("–" if part is None else f"{part['cpu_seconds']:,.0f}" for part in parts)
        ratios = " | ".join(f"{row[key]:.2f}" if key in row else "–" for key in ("ratio of processor seconds", "ratio"))
        own = ", ".join("–" if part is None else f"{part['own_gib']:.2f}" for part in parts)
        rows.append(f"| {shape} | {times} | {ratios} | {own} |")
    return rows


def _startup(numbers: dict[str, Any]) -> list[str]:
    rows = ["| what | processor seconds | times `import torch` |", "|---|---|---|"]
    torch = numbers["startup"]["import torch"]["processor seconds"]
    for name, row in numbers["startup"].items():
        rows.append(f"| `{name}` | {row['processor seconds']:.2f} | {row['processor seconds'] / torch:.1f} |")
    return rows


def _choices(numbers: dict[str, Any]) -> list[str]:
    """Of every choice, by kind of pair: what its start takes, and the barrier after each number of steps."""
    steps = [str(run["steps"]) for run in next(iter(numbers.values()))["runs"][BOTH]]
    heads = [f"{kind}: start, s | after " + " | ".join(steps) for kind in KINDS]
    rows = ["| choice | " + " | ".join(heads) + " | time, text |", "|---" * (4 + 2 * len(steps)) + "|"]
    for choice in (BOTH, *(name for name in next(iter(numbers.values()))["runs"] if name != BOTH)):
        cells = []
        for kind in KINDS.values():
            pairs = [row for name, row in sorted(numbers.items()) if name.startswith(kind)]
            starts = [row["starts"].get(choice, row["starts"][DEFAULT]) for row in pairs]
            runs = [row["runs"][choice] for row in pairs]
            barriers = [statistics.mean(run[at]["barrier"] for run in runs) for at in range(len(steps))]
            cells += [f"{statistics.mean(starts):.1f}", *(f"{barrier:.3f}" for barrier in barriers)]
        rows.append(f"| {choice} | " + " | ".join([*cells, _ratios(_taken(numbers, KINDS["text"], choice))]) + " |")
    return rows


def _rates(numbers: dict[str, Any]) -> list[str]:
    """By kind of pair and batch, the barrier after the longer run at each rate, and its seconds."""
    rates = sorted({tried["lr"] for row in numbers.values() for tried in row["tried"]})
    rows = ["| pairs | channels | default rate | batch | s | " + " | ".join(f"rate {rate:g}" for rate in rates) + " |"]
    rows += ["|---" * (5 + len(rates)) + "|"]
    kinds = dict.fromkeys(name.rpartition("-")[0] for name in sorted(numbers, key=lambda name: (_width(name), name)))
    for kind in kinds:
        pairs = [row for name, row in numbers.items() if name.rpartition("-")[0] == kind]
        width, many = _width(f"{kind}-0"), f", {len(pairs)} pairs" if len(pairs) > 1 else ", one pair"
        for batch in sorted({tried["batch"] for row in pairs for tried in row["tried"]}):
            found = {rate: [_longest(row, rate, batch) for row in pairs] for rate in rates}
            cells = [
                f"{statistics.mean(run['barrier'] for run in runs if run):.4f}" if all(runs) else ""
                for runs in found.values()
            ]
            seconds = statistics.mean(run["seconds"] for runs in found.values() for run in runs if run)
            default = f"{default_rate('dual', width, images='image' in pairs[0]['unit']):.2g}"
            rows.append(f"| {kind}{many} | {width} | {default} | {batch} | {seconds:.0f} | " + " | ".join(cells) + " |")
    return rows


def _longest(row: Mapping[str, Any], rate: float, batch: int) -> Mapping[str, float] | None:
    """The longest run of a pair at a rate and a batch."""
    runs = [t["runs"][-1] for t in row["tried"] if (t["lr"], t["batch"]) == (rate, batch)]
    return runs[0] if runs else None


def _width(name: str) -> int:
    """The channels of a pair of networks, by its name."""
    kind = name.rpartition("-")[0]
    settings: dict[str, Any] = vision.SETTINGS | scaling.settings()
    shape: Any = SHIPPED[kind][0].shape if kind in SHIPPED else settings[kind].shape
    return int(shape.width)


def _taken(numbers: Mapping[str, Any], kind: str, choice: str) -> list[float]:
    """By pair, the time that a choice takes to the barrier of the better closed form, over what that takes."""
    taken = []
    for runs in (row["runs"] for name, row in sorted(numbers.items()) if name.startswith(kind)):
        barrier = runs[BOTH][-1]["barrier"]
        taken.append(time_to(barrier, runs[choice]) / time_to(barrier, runs[BOTH]))
    return taken


def _ratios(values: Sequence[float]) -> str:
    """The median, and the smallest and the largest behind it."""
    least, middle, most = (
        f"{v:.2f}" if v <= FAR else f"over {FAR}" for v in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} ({least} to {most})"


def _sizes(found: Mapping[str, Any]) -> list[str]:
    """By size: what was measured, and between or beyond that a line through it, in italics."""
    weights, merge = found["weights"], found["merge"]
    planted = {row["parameters"]: row for name, row in weights.items() if "," not in name}
    unrelated = {row["parameters"]: row for name, row in weights.items() if UNRELATED in name}
    averaged = {
        row["parameters"]: {
            "cpu_seconds": row["match"]["cpu_seconds"] + row["merge"]["cpu_seconds"],
            "peak_gib": max(row["match"]["own_gib"], row["merge"]["own_gib"]),
        }
        for row in merge.values()
    }
    learned = {}
    for shape, row in found["memory"]["memory"].items():
        seconds = found["step"]["steps"][f"{shape}, 4096 tokens"]["dual seconds"]
        size = row["bytes of one model"] / 4
        learned[size] = {"step": seconds, "gib": row["dual, without activations"] * size * 4 / 2**30}
    rows = [
        "| parameters | naive: processor time | memory, GiB | weights: planted pair | unrelated | memory, GiB "
        "| a learned step of 4,096 tokens | memory, GiB | disk, GB |"
    ]
    rows += ["|---" * 9 + "|"]
    for name, size in PARAMETERS.items():
        cells = [
            _at(averaged, "cpu_seconds", size, _time, straight=True),
            _at(averaged, "peak_gib", size, _gib, straight=True),
            _at(planted, "cpu_seconds", size, _time, growth=4 / 3),
            _at(unrelated, "cpu_seconds", size, _time, growth=4 / 3),
            _at(unrelated, "peak_gib", size, _gib),
            _at(learned, "step", size, _time, growth=1),
            _at(learned, "gib", size, _gib, straight=True),
            f"{size * 12 / 1e9:,.1f}",
        ]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows


def _at(
    measured: Mapping[float, Any], key: str, size: float, shown: Any, straight: bool = False, growth: float = 0.0
) -> str:
    """A cell: the measured value of that size, or in italics (≈) that of a line, straight or through the logarithms.

    `growth`: beyond the largest size that was measured, the power of the size with which its value grows, if known.
    """
    values = {at: row[key] for at, row in measured.items()}
    for at, value in values.items():
        if abs(at / size - 1) < NEAR:
            return str(shown(value))
    if len(values) < 2:
        return "–"
    if growth and size > max(values):
        return f"*≈ {shown(values[max(values)] * (size / max(values)) ** growth)}*"
    if straight:
        slope, start = statistics.linear_regression(list(values), list(values.values()))
        return f"*≈ {shown(start + slope * size)}*"
    slope, start = statistics.linear_regression([log(at) for at in values], [log(value) for value in values.values()])
    return f"*≈ {shown(exp(start + slope * log(size)))}*"


def _time(seconds: float) -> str:
    """Seconds in the unit that people would use."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _gib(value: float) -> str:
    return f"{value:.1f}"


def _growth(numbers: dict[str, Any]) -> list[str]:
    rows = ["| with | from | to | measured exponent | theory |", "|---|---|---|---|---|"]
    for axis, row in numbers["growth"].items():
        theory = "–" if row["theory"] is None else f"{row['theory']:g}"
        rows.append(f"| {axis} | {row['at'][0]} | {row['at'][-1]} | {row['exponent']:.2f} | {theory} |")
    return rows


def _made(part: str, run: dict[str, Any]) -> str:
    """Where and when, and the command that measures it again."""
    runs = [run] if "command" in run else list(run.values())
    dates = sorted({r["date"] for r in runs})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    counts = sorted({str(r["threads"]) for r in runs})
    threads = f"{' or '.join(counts)} thread{'' if counts == ['1'] else 's'}"
    return f"{runs[0]['hardware']}, {threads}; {when}. To measure it again: `make bench ITEM={part}`"
