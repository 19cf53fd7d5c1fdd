"""The tables of the book's page on cost, from what `make bench` measured."""

import json
from pathlib import Path
from typing import Any

from lmc.reproduce.training.shapes import PYTHIA

BENCH = Path(__file__).resolve().parents[2] / "data/results/bench"


def cost_tables(folder: Path) -> None:
    """`cost-step.md` and its like in the folder, one for each part."""
    for part, table in {"step": _step, "memory": _memory, "weights": _weights, "growth": _growth}.items():
        if not (BENCH / f"{part}.json").is_file():
            (folder / f"cost-{part}.md").write_text(f"Not measured yet: `make bench ITEM={part}`.\n", encoding="utf-8")
            continue
        numbers, run = (json.loads((BENCH / f"{part}{suffix}.json").read_text()) for suffix in ("", ".run"))
        text = "\n".join(table(numbers)) + f"\n\n{_made(part, run)}\n"
        (folder / f"cost-{part}.md").write_text(text, encoding="utf-8")


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
    rows = ["| shape | one model, MB | single | dual |", "|---|---|---|---|"]
    for shape, row in numbers["memory"].items():
        single, dual = (row[f"{method}, without activations"] for method in ("single", "dual"))
        rows.append(f"| {shape} | {row['bytes of one model'] / 1e6:,.0f} | {single:.2f} | {dual:.2f} |")
    return rows


def _weights(numbers: dict[str, Any]) -> list[str]:
    rows = [
        "| shape | parameters | seconds | processor seconds | peak memory, GiB | sweeps | A to aligned B, relative |"
    ]
    rows += ["|---|---|---|---|---|---|---|"]
    for shape, row in sorted(numbers.items(), key=lambda item: item[1]["parameters"]):
        times = f"{row['seconds']:,.0f} | {row['cpu_seconds']:,.0f} | {row['peak_gib']:.1f}"
        apart = f"{row['distance']:.0e}" if "distance" in row else "–"
        rows.append(f"| {shape} | {row['parameters']:,} | {times} | {row['sweeps']} | {apart} |")
    return rows


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
    threads = f"{runs[0]['threads']} thread{'s' if runs[0]['threads'] > 1 else ''}"
    return f"{runs[0]['hardware']}, {threads}; {when}. To measure it again: `make bench ITEM={part}`"
