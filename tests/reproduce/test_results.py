import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lmc.errors import ArgumentError, DataError
from lmc.reproduce import ledger, places, results

RUN = {"seeds": [0, 1], "duration_s": 3.0}


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path / "fresh"))
    monkeypatch.setattr(places, "checkout", lambda: tmp_path)
    return tmp_path / "fresh"


def test_equal_numbers_give_equal_bytes(fresh: Path) -> None:
    results.write("a", "laptop", {"b": 0.1 + 0.2, "a": [np.float32(1.5), np.int64(3), (True, None)]}, RUN)
    first = (fresh / "laptop/a.json").read_bytes()
    results.write("a", "laptop", {"a": [np.array(1.5), 3, [True, None]], "b": 0.3}, RUN)
    assert (fresh / "laptop/a.json").read_bytes() == first
    assert json.loads(first) == {"a": [1.5, 3, [True, None]], "b": 0.3}


def test_provenance_says_what_how_and_when_but_not_who(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: pytest.fail("the machine's name was asked for"))
    found = results.write("a", "laptop", {}, {**RUN, "corpus": "abc"})
    assert found.run.keys() == {"command", "corpus", "date", "duration_s", "hardware", "seeds", "versions"}
    assert {"python", "torch", "numpy"} <= found.run["versions"].keys()
    line = found.provenance
    assert "seeds 0, 1" in line and "lmc reproduce --profile laptop" in line and found.run["date"] in line
    monkeypatch.setattr(results, "figures", lambda: {"b": SimpleNamespace(results="a", minutes={"laptop": 25})})
    # The command runs all of it.
    assert ". To make it again (its whole chapter takes about 25 min where nothing else runs): `" in found.provenance


def test_the_minutes_of_a_chapter_are_those_its_results_took(root: Path) -> None:
    """But for what a command of hours made, piece by piece beside other work."""
    spent: dict[tuple[str, str], float] = {}
    stated = {}
    for figure in ledger.figures(root / "figures.yml").values():
        record = root / f"data/results/laptop/{figure.results}.run.json"
        if "laptop" in figure.minutes and record.is_file() and not figure.command:
            assert stated.setdefault(figure.notebook, figure.minutes["laptop"]) == figure.minutes["laptop"], figure.id
            spent[figure.notebook, figure.results] = json.loads(record.read_text())["duration_s"] / 60
    for name, minutes in stated.items():
        took = sum(x for (notebook, _), x in spent.items() if notebook == name)
        assert took / 1.5 - 1 <= minutes <= 1.5 * took + 2, f"{name}: {took:.1f} min"


def test_fresh_results_come_before_committed_ones(fresh: Path) -> None:
    results.write("a", "laptop", {"x": 1.0}, RUN)
    [written] = results.promote("laptop")
    assert written == fresh.parent / "data/results/laptop/a.json"
    results.write("a", "laptop", {"x": 2.0}, RUN)
    assert (results.read("a", "laptop").numbers, results.read("a", "laptop").source) == ({"x": 2.0}, "fresh")
    (fresh / "laptop/a.json").unlink()
    found = results.read("a", "laptop")
    assert (found.numbers, found.source, found.run["seeds"]) == ({"x": 1.0}, "committed", [0, 1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), object(), {1, 2}])
def test_refuses_what_a_figure_cannot_be_drawn_from(fresh: Path, bad: object) -> None:
    with pytest.raises(ArgumentError, match="results 'a', loss"):
        results.write("a", "laptop", {"loss": [bad]}, RUN)
    assert not list(fresh.rglob("*a.json"))


def test_bad_names_are_refused(fresh: Path) -> None:
    with pytest.raises(ArgumentError, match=r"unknown profile 'desk'; choose from smoke, laptop, gpu, paper"):
        results.write("a", "desk", {}, RUN)
    with pytest.raises(ArgumentError, match="expected lower-case words"):
        results.write("../a", "laptop", {}, RUN)
    with pytest.raises(ArgumentError, match="lacks duration_s, seeds"):
        results.write("a", "laptop", {}, {})
    with pytest.raises(DataError, match="lmc reproduce --profile laptop"):
        results.read("absent", "laptop")


def test_committed_results_are_complete(root: Path) -> None:
    for path in (root / "data/results").glob("*/*.json"):
        if path.name.endswith(".run.json"):
            assert path.with_name(path.name.replace(".run.json", ".json")).is_file()
        else:
            run = json.loads(path.with_suffix(".run.json").read_text())
            for each in [run] if "command" in run else run.values():  # of a benchmark, one for every size
                assert {"command", "seeds", "versions", "hardware", "duration_s", "date"} <= each.keys(), path.name
