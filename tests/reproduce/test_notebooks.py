import ast
import gc
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import twins

import lmc
from lmc.reproduce import notebook
from lmc.reproduce.execute import execute, kernel_environment
from lmc.reproduce.ledger import Figure, environment, figures, made_by, reads
from lmc.reproduce.reach import reached
from tests.conftest import recorded, recording, reproduce_smoke

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


def test_twins_show_no_markup_of_the_book(root: Path) -> None:
    for twin in (root / "notebooks").glob("*.ipynb"):
        for cell in json.loads(twin.read_text(encoding="utf-8"))["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                assert not re.search(r"(?m)\{[\w:]+\}`|^(?:>\s*)*(?:`{3}|:{3})\{|\{\{", text), f"{twin.stem}: {text}"


def test_first_cell_clones_this_version_on_colab_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, root = "https://github.com/somebody/lmc", tmp_path
    (root / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{url}"\n')
    ran: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: ran.append(command))
    monkeypatch.setattr("os.chdir", lambda path: ran.append(["cd", path]))
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(notebook.bootstrap(root), {})
    assert ran == []
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    exec(notebook.bootstrap(root), {})
    clone, install, enter = ran
    assert url in clone and f"v{lmc.__version__}" in clone
    assert install[-1] == "/content/lmc[data,plot]" and not re.search(r"[<=]\d", " ".join(install))
    assert enter == ["cd", "/content/lmc/notebooks"] and sys.path[0] == "/content/lmc"
    (root / "pyproject.toml").write_text('[project.urls]\nRepository = "https://github.com/OWNER/lmc"\n')
    with pytest.raises(SystemExit, match=r"pyproject\.toml"):
        exec(notebook.bootstrap(root), {})


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
    assert 0 < node["metadata"]["lmc"]["peak_gib"] < 16 and "ru_maxrss" not in text
    for private in (str(root), str(Path.home()), str(smoke), sys.prefix):
        assert f"{private}/" not in text
    assert PRIVATE.search(text) is None


def _only_shows(read: set[tuple[str, str]], ledger: dict[str, Figure]) -> str:
    """The notebook that makes nothing, and reads this; "" where there is none: such a one may read nothing."""
    chapters = {source.stem for source in SOURCES}  # pages of the book run nothing
    idle = {f.notebook for f in ledger.values() if not made_by(f.notebook, "smoke", ledger)} & chapters
    return next((name for name in sorted(idle) if reads(name, "smoke", ledger) == read), "")


def undeclared(folder: Path, ledger: dict[str, Figure]) -> dict[str, set[tuple[str, str]]]:
    """Of every notebook whose kernel noted in a folder what it did: results read or written that figures.yml lacks."""
    found = {}
    for kernel in recorded(folder):
        mine = {f.notebook: profile for f in ledger.values() for id, profile in kernel["written"] if f.results == id}
        assert len(mine) < 2, f"{mine} write results of one name"
        name, profile = next(iter(mine.items()), (_only_shows(kernel["looked for"], ledger), "smoke"))
        own = {(figure.results, profile) for figure in made_by(name, profile, ledger)}
        lost = own ^ kernel["written"] | (kernel["looked for"] - reads(name, profile, ledger) - own)
        found[name] = lost | found.get(name, set())
    return found


def test_what_chapters_read_and_write_is_declared(smoke: Path, root: Path) -> None:
    ledger = figures(root / "figures.yml")
    found = undeclared(smoke / "record", ledger)
    ran = {figure.notebook for figure in ledger.values() if "smoke" in figure.profiles or figure.command}
    assert found.keys() - {""} == ran & {source.stem for source in SOURCES}
    assert {name: lost for name, lost in found.items() if lost} == {}


def test_what_chapters_import_is_reached(smoke: Path, root: Path) -> None:
    """What the cache takes for the code behind a chapter, against what its kernel imported."""
    within = {source: reached(source.read_text(encoding="utf-8"), root / "lmc") for source in SOURCES}
    ledger = figures(root / "figures.yml")
    for kernel in recorded(smoke / "record"):
        ids = {id for id, _ in kernel["written"]}
        able = [s for s in SOURCES if ids == {f.results for f in made_by(s.stem, "smoke", ledger)}]
        assert any(kernel["imported"] <= within[source] for source in able), [source.stem for source in able]


def test_an_input_that_is_not_declared_is_seen(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, quick_kernels: dict[str, str]
) -> None:
    """Also one that is not there yet, which `exist` is asked for."""
    header = (root / "notebooks/04_reordering.py").read_text(encoding="utf-8").partition("# %%")[0]
    code = """
# %% tags=["parameters"]
profile: str = "laptop"
# %%
from lmc.reproduce import results
results.write("own", profile, {}, {"seeds": [], "duration_s": 0.0})
results.read("own", profile)
results.exist("other", profile) or results.exist("large", "gpu")
"""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/01_own.py").write_text(header + code, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text((root / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr("lmc.reproduce.places.checkout", lambda: tmp_path)
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path / "results"))
    for name, value in (quick_kernels | recording(tmp_path / "record")).items():
        monkeypatch.setenv(name, value)
    entry = Figure("own", "t", "01_own", ("smoke",), "own", "curves")
    with kernel_environment():
        execute("01_own", "smoke", tmp_path / "out", {}, {"own": entry})
    [kernel] = recorded(tmp_path / "record")
    assert "lmc.reproduce.results" in kernel["imported"] and kernel["written"] == {("own", "smoke")}

    def lost(**declared: Any) -> set[tuple[str, str]]:
        return undeclared(tmp_path / "record", {"own": replace(entry, **declared)})["01_own"]

    assert lost() == {("other", "smoke"), ("large", "gpu")}
    assert lost(inputs=("other",)) == {("large", "gpu")}
    assert lost(inputs=("other",), inputs_at={"gpu": ("large",)}) == set()
    assert undeclared(tmp_path / "record", {})[""] > {("own", "smoke")}


def asked(text: str) -> list[str]:
    """The environment variables that a text asks for by name; an empty one for any other use of the environment."""
    nodes = list(ast.walk(ast.parse(text)))
    uses = [
        n for n in nodes if isinstance(n, ast.Attribute | ast.Name) and ast.unparse(n) in ("os.environ", "os.getenv")
    ]
    calls = [
        n.args[0] for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) in ("os.environ.get", "os.getenv")
    ]
    calls += [n.slice for n in nodes if isinstance(n, ast.Subscript) and ast.unparse(n.value) == "os.environ"]
    names = [str(argument.value) for argument in calls if isinstance(argument, ast.Constant)]
    return sorted({*names, *([""] if len(uses) > len(names) else [])})


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_the_environment_that_a_chapter_reads_is_declared(source: Path, root: Path) -> None:
    assert asked(source.read_text(encoding="utf-8")) == environment(source.stem, figures(root / "figures.yml"))


def test_every_use_of_the_environment_is_seen() -> None:
    assert asked('os.environ["B"]; os.environ.get("A", ""); os.getenv("C")') == ["A", "B", "C"]
    assert asked('os.environ.get("A"); dict(os.environ)') == ["", "A"]


# Every engine: learned matching, planes, ablations, published checkpoints and the campaign, many models, training.
@pytest.mark.parametrize(
    "name", ["08_matching", "03_landscape", "12_which_symmetry", "17_pythia_small", "14_k_models", "15_what_limits_it"]
)
def test_the_same_numbers_come_out_byte_for_byte(
    name: str, smoke: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_kernels: dict[str, str]
) -> None:
    for variable, value in {"LMC_RESULTS": str(tmp_path), **quick_kernels}.items():
        monkeypatch.setenv(variable, value)
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
