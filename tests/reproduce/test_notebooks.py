import gc
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import twins

from lmc.reproduce import notebook
from lmc.reproduce.execute import execute, kernel_environment, made_by
from lmc.reproduce.ledger import figures
from tests.conftest import reproduce_smoke

pytestmark = pytest.mark.filterwarnings("ignore")  # of the notebook stack, not ours

SOURCES = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("[0-9]*.py"))


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """What the notebook stack leaves open is closed here, so that no other test is told of it."""
    yield
    gc.collect()


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
    assert "profile" in notebook.parameters(notebook.notebook(source), source.stem)
    text = source.read_text(encoding="utf-8")
    assert 'profile: str = "laptop"' in text
    assert not re.search(r"(?m)^#\s*%\s", text), "a broken cell marker"


def test_first_cell_clones_this_version_on_colab_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    ran: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: ran.append(command))
    monkeypatch.setattr("os.chdir", lambda path: ran.append(["cd", path]))
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(notebook.bootstrap(root), {})
    assert ran == []
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    exec(notebook.bootstrap(root), {})
    clone, install, enter = ran
    assert project["urls"]["Repository"] in clone and f"v{project['version']}" in clone
    assert install[-1] == "/content/lmc[data,plot]" and not re.search(r"[<=]\d", " ".join(install))
    assert enter == ["cd", "/content/lmc/notebooks"] and sys.path[0] == "/content/lmc"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_unknown_parameters_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(notebook.ArgumentError, match=r"unknown parameter profil; it has .*profile"):
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
    assert PRIVATE.search(text) is None


# Every engine: learned matching, planes, ablations, published checkpoints and the campaign, many models, training.
@pytest.mark.parametrize(
    "name", ["03_matching", "07_landscape", "08_ablation", "11_pythia_wikitext", "13_k_models", "14_what_it_depends_on"]
)
def test_the_same_numbers_come_out_byte_for_byte(
    name: str, smoke: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path))
    ledger = figures(root / "figures.yml")
    with kernel_environment():
        assert not execute(name, "smoke", tmp_path / "executed", {}, ledger).cached
    mine = made_by(name, "smoke", ledger)
    assert mine
    for figure in mine:
        path = f"smoke/{figure.results}.json"
        assert (tmp_path / path).read_bytes() == (smoke / "results" / path).read_bytes(), figure.id


# Not what a name looks like here, but what no file may hold: a token of a hub or a forge, a home, a temporary folder.
PRIVATE = re.compile(r"hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|[/\\]Users[/\\]\w+|/(?:root/|(?:home|tmp)/\w+)")


def test_no_committed_notebook_or_result_names_a_person_a_place_or_a_token(root: Path) -> None:
    files = [
        *(root / "notebooks").iterdir(),
        *(root / "data/results").rglob("*.json"),
        *(root / "data/pairs").rglob("*.json"),
    ]
    assert len(files) > 20
    for path in (path for path in files if path.is_file()):
        found = PRIVATE.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path.relative_to(root)}: {found}"


def test_second_smoke_run_takes_everything_from_the_cache(smoke: Path) -> None:
    before = {path: path.read_bytes() for path in smoke.rglob("*.*") if path.is_file()}
    done = reproduce_smoke(smoke)
    assert done.returncode in (0, 1)
    assert done.stdout.count(": unchanged") == len(list((smoke / "executed").glob("*.ipynb")))
    assert {path: path.read_bytes() for path in smoke.rglob("*.*") if path.is_file()} == before
