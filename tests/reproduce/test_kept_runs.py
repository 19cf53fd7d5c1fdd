"""Runs that were kept before an interruption are found again while what they depend on stays the same."""

import shutil
import subprocess
import sys
from pathlib import Path

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
