"""What to expect of two checkpoints of one's own, as tables: barriers that were measured, and what matching costs."""

import json
from pathlib import Path
from statistics import mean
from typing import Any

from lmc.reproduce import results

BENCH = Path(__file__).resolve().parents[2] / "data/results/bench"
FAMILIES = Path(__file__).resolve().parents[1] / "families.md"
# Experiments that say of each match how long it took. Names as the reader knows them, not those of the settings, and
# the class of the models.
TRAINED = {
    "pythia-wikipedia": ("Pythia's architecture, Wikipedia", "GPTNeoXForCausalLM"),
    "olmo-wikipedia": ("OLMo's architecture, Wikipedia", "OlmoForCausalLM"),
    "gpt2-shakespeare": ("GPT-2, Tiny Shakespeare", "GPT2LMHeadModel"),
    "vit-cifar10": ("ViT, CIFAR-10", "VisionTransformer"),
    "vit-tiny-imagenet": ("ViT, Tiny ImageNet", "VisionTransformer"),
}
STEPS = 300  # what `lmc match` learns for where nothing else is said


def expect_tables(folder: Path) -> None:
    """`expect-barrier.md` and `expect-cost.md` in the folder."""
    (folder / "expect-barrier.md").write_text("\n".join(_barriers()) + "\n", encoding="utf-8")
    (folder / "expect-cost.md").write_text("\n".join(_costs()) + "\n", encoding="utf-8")


def _barriers() -> list[str]:
    columns = "layers × channels | aligned | naive | dual | left of naive | midpoint − better parent | steps | seconds"
    rows = [f"| model | {columns} |", "|---|---|---|---|---|---|---|---|---|"]
    for id, (name, kind) in TRAINED.items():
        found = results.read(id, "laptop")
        compared = found.comparison
        setting, dual, naive = compared.rest["setting"], compared.summary["dual"], compared.mean("naive")
        shape = f"{setting['shape']['layers']} × {setting['shape']['width']}"
        took = mean(pair["dual"]["seconds"] for pair in found.run["costs"]["matching"].values())
        numbers = f"{naive:.2f} | {dual.barrier:.3f} | {dual.barrier / naive:.1%} | {dual.gap:+.3f}"
        rows.append(f"| {name} | {shape} | {aligned(kind)} | {numbers} | {setting['matching']['steps']} | {took:.0f} |")
    return rows


def aligned(kind: str) -> str:
    """The spaces of a class that matching moves, by the book's table of families.

    >>> aligned("GPT2LMHeadModel")
    'stream, scale, head, qk, value, hidden'
    """
    rows = [line.split(" | ") for line in FAMILIES.read_text(encoding="utf-8").splitlines()]
    moved = next(row[2] for row in rows if len(row) == 5 and f"`{kind}`" in row[1])
    return ", ".join(one.partition(":")[0] for one in moved.split("<br>"))


def _costs() -> list[str]:
    step, memory, weights = (_bench(part) for part in ("step", "memory", "weights"))
    rows = [f"| Pythia's shape | parameters | `weights`: time | memory | `dual`, {STEPS} steps: time | memory |"]
    rows.append("|---|---|---|---|---|---|")
    for shape, row in sorted(weights.items(), key=lambda item: item[1]["parameters"]):
        one = step["steps"].get(f"{shape}, {memory['tokens']} tokens")
        learned = f"{one['dual seconds'] * STEPS / 60:.0f} min" if one else "–"
        peak = memory["memory"].get(shape)
        needs = f"{peak['peak bytes']['dual'] / 2**30:.1f} GiB" if peak else "–"
        closed = f"{row['seconds']:.0f} s | {row['peak_gib']:.1f} GiB"
        rows.append(f"| {shape} | {row['parameters'] / 1e6:,.0f} million | {closed} | {learned} | {needs} |")
    return rows


def _bench(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((BENCH / f"{part}.json").read_text(encoding="utf-8"))
    return found
