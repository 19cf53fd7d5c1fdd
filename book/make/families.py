"""What is aligned and lost in each family, and how many directions of weight space that spans: `book/families.md`.

    python book/make/families.py        # rewrites its three tables

The first two are that of `lmc families`. The third is counted from the specs of the stock configurations' own default
shapes, without a weight. The counts of tiny models are confirmed by rank (`tests/symmetries/test_completeness.py`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import lmc
from lmc.symmetries import dimensions, timm, transformers
from lmc.symmetries.families import FAMILIES, Family, facts

PAGE = Path(__file__).resolve().parents[2] / "book/families.md"
BEGIN, END = "<!-- counted by book/make/families.py -->", "<!-- end -->"
FITTING, FITTING_END = "<!-- named by book/make/families.py -->", "<!-- end of the names -->"
LISTED, LISTED_END = "<!-- listed by book/make/families.py -->", "<!-- end of the list -->"
COLUMNS = {
    "stream": ("stream",),
    "values": ("value",),
    "queries and keys": ("qk", "plane", "pass", "gain"),
    "hidden factors": ("unit", "share"),
}
HEAD = ("stock defaults of", "parameters", *COLUMNS, "gauges", "all", "share")


def model(family: Family) -> Any:
    """The family's first class at the library's default shape, on the meta device."""
    name = family.classes[0]
    with torch.device("meta"):
        if family.library == "timm":
            return timm().create_model("vit_base_patch16_224", pretrained=False)
        stock = getattr(transformers(), name)
        return stock(stock.config_class(bos_token_id=0, eos_token_id=0))


def row(family: Family) -> tuple[str, ...]:
    """One family's counts."""
    stock = model(family)
    counted = dimensions(lmc.spec(stock))
    parameters = sum(p.numel() for p in stock.parameters())
    parts = [sum(counted.group.get(kind, 0) for kind in kinds) for kinds in COLUMNS.values()]
    gauges = sum(counted.gauges.values())
    if sum(parts) + gauges != counted.total:
        raise AssertionError(f"{family.name}: a kind of space is in no column of {counted}")
    numbers = (_short(n) for n in (parameters, *parts, gauges, counted.total))
    return (f"`{family.classes[0]}`", *numbers, f"{counted.total / parameters:.1%}")


def _short(count: int) -> str:
    """A count in three digits, so that the table is no wider than a page."""
    if count < 1000:
        return str(count)
    return f"{count / 1e6:.3g} M" if count >= 999_500 else f"{count / 1e3:.3g} k"


def table() -> str:
    """All families, as a table in Markdown."""
    return _markdown([HEAD, ("---", *["--:"] * (len(HEAD) - 1)), *(row(family) for family in FAMILIES)])


def listed() -> str:
    """What may be rewritten in the classes of each family, and what is lost, as a table in Markdown."""
    lines = [("classes", "may be rewritten", "lost"), ("---",) * 3]
    for family in FAMILIES:
        for moved, names in facts.kinds(family).items():
            classes = "<br>".join(f"`{name}`" for name in names)
            lines.append((classes, "<br>".join(moved), facts.FACTS[family.name].lost))
    return _markdown(lines)


def published() -> str:
    """Which published checkpoints have the layout of each family, as a table in Markdown."""
    lines = [("family", "published checkpoints"), ("---",) * 2]
    for family in FAMILIES:
        fits = ", ".join(f"`{name}`" for name in facts.FACTS[family.name].fits.split(", "))
        lines.append((f"`{family.name}`", fits))
    return _markdown(lines)


def _markdown(lines: Sequence[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    tables = (LISTED, LISTED_END, listed()), (FITTING, FITTING_END, published()), (BEGIN, END, table())
    for begin, end, content in tables:
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{content}\n\n{end}{rest.split(end)[1]}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
