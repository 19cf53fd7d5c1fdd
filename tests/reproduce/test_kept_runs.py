"""Pieces that were kept before an interruption are found again while what they depend on stays the same."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lmc.errors import CheckpointError
from lmc.reproduce.kept_runs import KeptRuns
from tests.conftest import ROOT

RUN = """\
import sys
from functools import partial
from pathlib import Path
from lmc.reproduce.experiments.measured import measure
from lmc.reproduce.kept_runs import KeptRuns
print(KeptRuns(Path(sys.argv[1])).run(["dual", 0.1], partial(measure))["x"])
"""
MEASURED = '''"""Measures."""


def measure():
    """Measure."""
    from lmc.reproduce.pair_means import mean

    print("measured", end=" ")
    return {"x": mean([1.0])}
'''


def test_a_piece_is_made_once_and_only_for_its_settings(tmp_path: Path) -> None:
    made = []

    def make() -> dict[str, object]:
        made.append(len(made))
        return {"x": (1, 2), "times": len(made)}

    keep = KeptRuns(tmp_path / "kept", {"steps": 3})
    first = {"x": [1, 2], "times": 1}  # as JSON has it, also the first time
    assert keep.get("a") is None and keep.piece("a", make) == keep.piece("a", make) == keep.get("a") == first
    assert keep.all() == {"a": first} and keep.seconds() >= 0 == keep.seconds(before=0.0)
    with pytest.raises(CheckpointError, match=r"a\.json: was made with other settings; remove it, or choose"):
        KeptRuns(tmp_path / "kept", {"steps": 4}).piece("a", make)
    (tmp_path / "kept/a.json").write_text("{")  # damaged
    assert keep.all() == {} and keep.piece("a", make)["times"] == 2
    with pytest.raises(ZeroDivisionError):
        keep.piece("b", lambda: {"x": 1 / 0})
    assert keep.all().keys() == {"a"}


def test_a_kept_run_is_made_again_when_the_code_it_reaches_changes(tmp_path: Path) -> None:
    package = shutil.copytree(ROOT / "lmc", tmp_path / "lmc", ignore=shutil.ignore_patterns("__pycache__"))
    measured, reached = package / "reproduce/experiments/measured.py", package / "reproduce/pair_means.py"
    measured.write_text(MEASURED)

    def said() -> str:
        command = [sys.executable, "-c", RUN, str(tmp_path / "kept")]
        done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert said() == "measured 1.0\n"
    measured.write_text(MEASURED.replace('"""Measure."""', '"""Measure once."""  # and keep it'))
    (package / "cli.py").write_text("print()\n")  # which measuring does not reach
    assert said() == "1.0\n"
    reached.write_text(reached.read_text() + "\nANOTHER = 1\n")
    assert said() == "measured 1.0\n"
