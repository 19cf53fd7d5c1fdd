"""What is aligned and lost in each family, and how many directions of weight space that spans: `book/families.md`.

    python book/make/families.py        # rewrites its two tables

The first is that of `lmc families`. The second is counted from the specs of the stock configurations' own default
shapes, without a weight. The counts of tiny models are confirmed by rank (`tests/symmetries/test_completeness.py`).
"""

from pathlib import Path
from typing import Any

import torch

import lmc
from lmc.symmetries import dimensions, timm, transformers
from lmc.symmetries.families import FAMILIES, Family, facts

PAGE = Path(__file__).resolve().parents[2] / "book/families.md"
BEGIN, END = "<!-- counted by book/make/families.py -->", "<!-- end -->"
LISTED, LISTED_END = "<!-- listed by book/make/families.py -->", "<!-- end of the list -->"
COLUMNS = {
    "stream": ("stream",),
    "values": ("value",),
    "queries and keys": ("qk", "plane", "pass", "gain"),
    "hidden factors": ("unit", "share"),
}
HEAD = ("family", "stock defaults of", "parameters", *COLUMNS, "gauges", "all", "share")


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
    numbers = (f"{n:,}" for n in (parameters, *parts, gauges, counted.total))
    return (f"`{family.name}`", f"`{family.classes[0]}`", *numbers, f"{counted.total / parameters:.1%}")


def table() -> str:
    """All families, as a table in Markdown."""
    lines = [HEAD, ("---", "---", *["--:"] * (len(HEAD) - 2)), *(row(family) for family in FAMILIES)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def listed() -> str:
    """What is aligned in each family, what is lost, and which published checkpoints fit, as a table in Markdown."""
    lines = [("family", "classes", "aligned", "lost", "published checkpoints of this layout"), ("---",) * 5]
    for family in FAMILIES:
        known = facts.FACTS[family.name]
        published = ", ".join(f"`{name}`" for name in known.fits.split(", "))
        for moved, names in facts.kinds(family).items():
            classes = ", ".join(f"`{name}`" for name in names)
            lines.append((f"`{family.name}`", classes, "<br>".join(moved), known.lost, published))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for begin, end, content in ((LISTED, LISTED_END, listed()), (BEGIN, END, table())):
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{content}\n\n{end}{rest.split(end)[1]}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
