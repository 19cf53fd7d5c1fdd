import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import twins

from lmc import _notebooks
from lmc.reproduce import execute
from tests.conftest import reproduce_smoke

pytestmark = pytest.mark.filterwarnings("ignore")  # of the notebook stack, not ours

SOURCES = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("[0-9]*.py"))


def test_twins_are_in_sync(root: Path) -> None:
    assert {path.stem for path in (root / "notebooks").glob("*.ipynb")} == {source.stem for source in SOURCES}
    for source in SOURCES:
        message = f"{source.stem}: run `make twins`"
        assert source.with_suffix(".ipynb").read_text(encoding="utf-8") == twins.text(source), message


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_twin_is_free_of_outputs_and_takes_the_parameters(source: Path) -> None:
    node = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in node["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in node["cells"]}) == len(node["cells"])
    assert "profile" in _notebooks.parameters(_notebooks.notebook(source), source.stem)
    assert 'profile: str = "laptop"' in source.read_text(encoding="utf-8")


def test_first_cell_clones_this_version_on_colab_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    ran: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: ran.append(command))
    monkeypatch.setattr("os.chdir", lambda path: ran.append(["cd", path]))
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(_notebooks.bootstrap(root), {})
    assert ran == []
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    exec(_notebooks.bootstrap(root), {})
    clone, install, enter = ran
    assert project["urls"]["Repository"] in clone and f"v{project['version']}" in clone
    assert install[-1] == "/content/lmc[data,plot]" and not re.search(r"[<=]\d", " ".join(install))
    assert enter == ["cd", "/content/lmc/notebooks"] and sys.path[0] == "/content/lmc"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_unknown_parameters_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(_notebooks.ArgumentError, match=r"unknown parameter profil; it has .*profile"):
        execute(source.stem, "smoke", tmp_path, {"profil": 1}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_runs_at_smoke_and_names_no_machine(source: Path, smoke: Path, root: Path) -> None:
    text = (smoke / "executed" / source.with_suffix(".ipynb").name).read_text(encoding="utf-8")
    node = json.loads(text)
    code = [cell for cell in node["cells"] if cell["cell_type"] == "code" and cell["source"]]
    assert all(cell["execution_count"] for cell in code)
    assert not any(output["output_type"] == "error" for cell in code for output in cell["outputs"])
    assert node["metadata"]["lmc"]["parameters"] == {"profile": "smoke"}
    for private in (str(root), str(Path.home()), str(smoke), sys.prefix):
        assert f"{private}/" not in text


def test_second_smoke_run_takes_everything_from_the_cache(smoke: Path) -> None:
    before = {path: path.read_bytes() for path in smoke.rglob("*.*") if path.is_file()}
    done = reproduce_smoke(smoke)
    assert done.returncode == 0
    assert done.stdout.count(": unchanged") == len(list((smoke / "executed").glob("*.ipynb")))
    assert {path: path.read_bytes() for path in smoke.rglob("*.*") if path.is_file()} == before
