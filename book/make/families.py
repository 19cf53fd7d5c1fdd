"""How many directions of weight space each family's symmetries span: the table of `book/families.md`.

    python book/make/families.py        # rewrites it

Counted from the specs of the stock configurations' own default shapes, without a weight. The counts of tiny models
are confirmed by rank (`tests/symmetries/test_completeness.py`).
"""

from pathlib import Path
from typing import Any

import torch

import lmc
from lmc.symmetries import dimensions, timm, transformers
from lmc.symmetries.families import FAMILIES, Family

PAGE = Path(__file__).resolve().parents[2] / "book/families.md"
BEGIN, END = "<!-- counted by book/make/families.py -->", "<!-- end -->"
COLUMNS = {
    "stream": ("stream",),
    "values": ("value",),
    "queries and keys": ("qk", "plane", "pass", "gain"),
    "hidden factors": ("unit",),
}
HEAD = ("family", "stock defaults of", "parameters", *COLUMNS, "gauges", "all", "share")


def model(family: Family) -> Any:
    """The family's first class at the library's default shape, on the meta device."""
    name = family.classes[0]
    with torch.device("meta"):
        if family.library == "timm":
            return timm().create_model("vit_base_patch16_224", pretrained=False)
        stock = getattr(transformers(), name)
        return stock(stock.config_class())


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


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
