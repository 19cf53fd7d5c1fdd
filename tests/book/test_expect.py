"""What the book tells people to expect of their own checkpoints is what was measured."""

import json
from pathlib import Path

import pytest
from expect import STEPS, TRAINED, aligned, expect_tables

from lmc.matching import Recipe


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    folder = tmp_path_factory.mktemp("made")
    expect_tables(folder)
    texts = {part: (folder / f"expect-{part}.md").read_text(encoding="utf-8") for part in ("barrier", "cost")}
    return {
        part: [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
        for part, text in texts.items()
    }


def test_barriers_are_the_committed_ones(tables: dict[str, list[list[str]]], root: Path) -> None:
    heading, _, *rows = tables["barrier"]
    for id, row in zip(TRAINED, rows, strict=True):
        assert len(row) == len(heading)
        found = json.loads((root / f"data/results/laptop/{id}.json").read_text(encoding="utf-8"))
        dual = found["summary"]["dual"]
        assert row[2] == aligned(TRAINED[id][1]) and row[2].startswith("stream, ")
        assert row[4] == f"{dual['barrier']:.3f}" and row[6] == f"{dual['gap']:+.3f}"
        assert float(row[5].rstrip("%")) / 100 == pytest.approx(
            dual["barrier"] / found["summary"]["naive"]["barrier"], abs=1e-3
        )
        assert row[1] == f"{found['setting']['shape']['layers']} × {found['setting']['shape']['width']}"


def test_costs_are_those_of_the_bench_and_what_was_not_measured_is_a_dash(
    tables: dict[str, list[list[str]]], root: Path
) -> None:
    assert Recipe.steps == STEPS, "the page speaks of the steps that `lmc match` takes by default"
    rows = {row[0]: row for row in tables["cost"][2:]}
    weights, step = (
        json.loads((root / f"data/results/bench/{part}.json").read_text(encoding="utf-8"))
        for part in ("weights", "step")
    )
    assert list(rows) == sorted(weights, key=lambda shape: weights[shape]["parameters"])
    for shape, row in rows.items():
        assert row[2] == f"{weights[shape]['seconds']:.0f} s"
        learned = [found for name, found in step["steps"].items() if name == f"{shape}, 1024 tokens"]
        assert row[4] == (f"{learned[0]['dual seconds'] * STEPS / 60:.0f} min" if learned else "–")
