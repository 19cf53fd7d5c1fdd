"""Expected numbers: computed, never typed; met by what runs here and by what is committed."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmc.reproduce import expected, results
from lmc.reproduce.ledger import Expected, figures

TEXT = """\
# a comment on top
one:
  title: t
  notebook: n
  profiles: [smoke, laptop]
  results: one
  draw: curves
  expected:  # old
    laptop:
      "x": {value: 1.0, tolerance: 0.5, runs: 5}
    smoke:
      "y": {value: 9.0, tolerance: 9.0, runs: 5}
  minutes: {laptop: 3}

# a comment between
two:
  title: t
  notebook: n
  profiles: [smoke]
  results: two
  draw: curves
"""


def test_three_standard_deviations_of_at_least_five_values() -> None:
    found = expected.expect([0.10, 0.12, 0.08, 0.11, 0.09])
    assert found == Expected(0.1, 0.048, 5)  # 3 × 0.0158, rounded up to two digits
    assert expected.expect([2.0] * 6) == Expected(2.0, 0.002, 6)  # a thousandth where nothing is random
    assert expected.expect([0.0] * 5) == Expected(0.0, 1e-4, 5)  # another processor may find a barrier of 1e-6
    with pytest.raises(ValueError, match="at least 5 values, found 4"):
        expected.expect([1.0] * 4)


def test_the_ledger_is_rewritten_in_place(tmp_path: Path) -> None:
    file = tmp_path / "figures.yml"
    file.write_text(TEXT)
    new = {"one": {"y": Expected(2.0, 0.1, 5)}, "two": {"z, ÷": Expected(3.0, 0.2, 6)}}
    text = expected.rewrite(TEXT, "smoke", new, figures(file))
    file.write_text(text)
    found = figures(file)
    assert found["one"].expected == {"laptop": {"x": Expected(1.0, 0.5, 5)}, "smoke": new["one"]}
    assert found["two"].expected == {"smoke": new["two"]}
    assert expected.rewrite(text, "smoke", new, found) == text  # once more changes nothing
    small = {"one": {"y": Expected(0.02, 2e-05, 0)}}  # which YAML 1.1 would read as a text
    assert yaml.safe_load(expected.rewrite(text, "smoke", small, found))["one"]["expected"]["smoke"]["y"] == {
        "value": 0.02,
        "tolerance": 2e-05,
        "runs": 0,
    }
    without = yaml.safe_load(text)
    assert without["one"].pop("expected") and without["two"].pop("expected")
    before = yaml.safe_load(TEXT)
    before["one"].pop("expected")
    assert without == before and text.count("# a comment") == 2
    assert "\n\n# a comment between\ntwo:" in text  # it belongs to what follows


def test_what_results_say_of_their_runs() -> None:
    numbers: dict[str, Any] = {
        "headline": {"a": 0.1, "b": 7.0, "c": 1.0, "d": 2.0},
        "spread": {"a": [0.1, 0.12, 0.08, 0.11, 0.09], "c": [1.0, 2.0]},
        "seedless": ["b"],
    }
    assert expected.of_results(numbers) == {"a": Expected(0.1, 0.022, 5), "b": Expected(7.0, 0.007, 0)}
    numbers["pairs"] = ["p", "q", "r", "p", "p"]  # p: 0.1 on average, q: 0.12, r: 0.08
    assert expected.of_results(numbers)["a"] == Expected(0.1, 0.025, 5)  # 3 × 0.0158 × √(2/9 + 3/81)


def test_every_expectation_has_five_runs_behind_it(root: Path) -> None:
    for figure in figures(root / "figures.yml").values():
        for numbers in figure.expected.values():
            assert all(e.runs == 0 or e.runs >= 5 for e in numbers.values()), figure.id


def test_the_smoke_run_gives_what_is_expected(smoke: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMC_RESULTS", str(smoke / "results"))
    checked = 0
    for figure in figures(root / "figures.yml").values():
        numbers = results.read(figure.results, "smoke").numbers if figure.expected.get("smoke") else {}
        for name, bounds in figure.expected.get("smoke", {}).items():
            value = numbers["headline"][name]
            assert abs(value - bounds.value) <= bounds.tolerance, f"{figure.id}, {name}: {value}, expected {bounds}"
            checked += 1
    assert checked


def test_the_committed_headline_is_what_is_expected_and_what_the_command_writes(root: Path) -> None:
    ledger = figures(root / "figures.yml")
    written = expected.by_runs(ledger, "laptop")
    ours = {id: figure.expected["laptop"] for id, figure in ledger.items() if "laptop" in figure.expected}
    assert written == {id: ours[id] for id in written}
    assert {figure.id for figure in ledger.values() if figure.headline} <= written.keys()
    for id, numbers in ours.items():
        path = root / f"data/results/laptop/{ledger[id].results}.json"
        headline = yaml.safe_load(path.read_text(encoding="utf-8"))["headline"]
        assert all(abs(headline[name] - at.value) <= at.tolerance for name, at in numbers.items()), id
    assert re.search(
        r"  expected:  # written by lmc/reproduce/expected.py\n    laptop:", (root / "figures.yml").read_text()
    )
