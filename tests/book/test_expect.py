"""What the book tells people to expect of their own checkpoints is what was measured."""

import json
import re
from pathlib import Path

import pytest
from expect import TRAINED, aligned, expect_table

from lmc.matching import LEARNED, Recipe, default_rate


def test_barriers_are_the_committed_ones(tmp_path: Path, root: Path) -> None:
    expect_table(tmp_path)
    lines = (tmp_path / "expect-barrier.md").read_text(encoding="utf-8").splitlines()
    heading, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    for id, row in zip(TRAINED, rows, strict=True):
        assert len(row) == len(heading)
        found = json.loads((root / f"data/results/laptop/{id}.json").read_text(encoding="utf-8"))
        dual = found["summary"]["dual"]
        assert row[2] == aligned(TRAINED[id][1]) and row[2].startswith("stream, ")
        assert row[4] == f"{dual['barrier']:.3f}" and row[6] == f"{dual['gap']:+.3f}"
        assert float(row[5].rstrip("%")) / 100 == pytest.approx(dual["ratio"], abs=1e-3)
        assert row[1] == f"{found['setting']['shape']['layers']} × {found['setting']['shape']['width']}"


def test_defaults_are_those_of_the_recipe(root: Path) -> None:
    page = (root / "book/own_checkpoints.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `--(steps|lr|lambdas)` \| ([^|]+) \|", page, re.M))
    assert rows["steps"] == str(Recipe.steps) and rows["lambdas"] == f"`{Recipe.lambdas[0]},{Recipe.lambdas[1]}`"
    assert all(f"{default_rate(method, 128):g} for `{method}`" in rows["lr"] for method in LEARNED)
    assert "on text beyond 128 channels (half at 256), on pictures beyond 64 (half at 128)" in rows["lr"]
    assert all(default_rate(method, 256) == default_rate(method, 128) / 2 for method in LEARNED)
    assert all(
        default_rate(method, 128, images=True) == default_rate(method, 64, images=True) / 2 for method in LEARNED
    )
