"""The ways to install, tested as data: they name the same things and the same versions."""

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import twins
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import book
import lmc
from lmc.reproduce.notebook import bootstrap, repository


@pytest.fixture
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def pins(root: Path) -> dict[str, str]:
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("==") for line in lines)


def test_constraints_meet_what_the_package_asks_for(project: dict[str, Any], pins: dict[str, str]) -> None:
    extras = project["optional-dependencies"]
    wanted = [Requirement(text) for text in [*project["dependencies"], *(text for e in extras.values() for text in e)]]
    for requirement in wanted:
        if requirement.name != project["name"]:
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_this_run_uses_the_constraints(pins: dict[str, str]) -> None:
    """Figures and expected numbers are stated at these versions."""
    for name in ("torch", "numpy", "scipy", "jupyter-book", "sphinx-book-theme", "papermill"):
        assert metadata.version(name).partition("+")[0] == pins[name], name


def test_the_conda_route_installs_the_same(root: Path, project: dict[str, Any]) -> None:
    environment = yaml.safe_load((root / "environment.yml").read_text(encoding="utf-8"))
    python, pip, pip_section = environment["dependencies"]
    assert python.startswith(f"python{project['requires-python']}") and pip == "pip"
    assert pip_section["pip"] == ["-c constraints.txt", "-e .[book,test]"]
    assert '-c constraints.txt -e ".[book,test]"' in planned(root, "install")
    newest = planned(root, "install", "NEWEST=yes")
    assert '-e ".[book,test]"' in newest and "constraints.txt" not in newest


def planned(root: Path, *arguments: str) -> str:
    """What make would have the shell do, which is checked to be able to read it."""
    make = ["make", "-C", str(root), "--no-print-directory", "--dry-run", "--always-make", *arguments]
    lines = subprocess.run(make, capture_output=True, text=True, check=True).stdout
    subprocess.run(["bash", "-n"], input=lines, text=True, check=True)
    return lines


SOMEWHERE = "https://github.com/somebody/lmc"


@pytest.fixture
def addressed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose owner has set the address."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(re.sub(r"https://github.com/OWNER/lmc", SOMEWHERE, text), encoding="utf-8")
    for path in ("book/_config.yml", "CHANGELOG.md"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text((root / path).read_text(encoding="utf-8"), encoding="utf-8")
    for module in (book, twins):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def test_the_citation_has_the_version_and_the_address_of_the_project(root: Path) -> None:
    text = (root / "CITATION.cff").read_text(encoding="utf-8")
    assert twins.citation(text) == text, "run `make twins`"
    found = yaml.safe_load(text)
    assert found["version"] == lmc.__version__ and found.get("repository-code") == repository(root)


def test_an_address_that_is_set_reaches_citation_twins_and_book(root: Path, addressed: Path) -> None:
    cited = yaml.safe_load(twins.citation((root / "CITATION.cff").read_text(encoding="utf-8")))
    assert cited["repository-code"] == repository(addressed) == SOMEWHERE
    assert SOMEWHERE in bootstrap(addressed)
    found = book.configuration()
    assert found["repository"]["url"] == SOMEWHERE and found["html"]["use_issues_button"]
    assert found["html"]["baseurl"] == "https://somebody.github.io/lmc/"
    (addressed / "made").mkdir()
    book.published(addressed / "made")
    assert SOMEWHERE in (addressed / "made/address.md").read_text(encoding="utf-8")


def test_without_an_address_nothing_leads_to_one(root: Path, addressed: Path) -> None:
    (addressed / "pyproject.toml").write_text((root / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8")
    if repository(addressed) is None:
        found = book.configuration()
        assert "repository" not in found and "launch_buttons" not in found and "baseurl" not in found["html"]
        assert "OWNER" not in bootstrap(addressed) + (root / "CITATION.cff").read_text(encoding="utf-8")
    for path in ("README.md", "CONTRIBUTING.md", "book/_config.yml", "book/intro.md", "Makefile"):
        text = (root / path).read_text(encoding="utf-8")
        assert set(re.findall(r"https://github\.com/[\w.-]+/[\w.-]+", text)) <= {repository(root)}, path


def test_the_changelog_begins_with_this_version(root: Path) -> None:
    versions = re.findall(r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert versions[0] == lmc.__version__ and len(versions) == len(set(versions))
    shown = subprocess.run(["make", "--silent", "version"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == lmc.__version__


def workflows(root: Path) -> dict[str, Any]:
    found = {
        path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in root.glob(".github/workflows/*.yml")
    }
    assert len(found) >= 3
    return found


def test_workflows_call_targets_that_exist(root: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.M))
    called = {
        name: set(re.findall(r"\bmake (?:--silent )?([a-z-]+)", str([job["steps"] for job in flow["jobs"].values()])))
        for name, flow in workflows(root).items()
    }
    assert {"lint", "test", "book"} <= called["check.yml"] and {"links", "test", "book"} <= called["weekly.yml"]
    assert {"book", "wheel", "archive", "site"} <= called["publish.yml"]
    assert set().union(*called.values()) <= targets


def test_workflows_may_do_little_and_run_what_was_pinned(root: Path) -> None:
    for name, flow in workflows(root).items():
        assert flow["permissions"] == {"contents": "read"}, name
        assert "pull_request_target" not in flow[True]  # YAML reads `on` as true
        for job in flow["jobs"].values():
            assert "timeout-minutes" in job
            assert not job.get("permissions") or not any("checkout" in step.get("uses", "") for step in job["steps"])
            for step in job["steps"]:
                assert "uses" not in step or re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"]), step
                assert "checkout" not in step.get("uses", "") or step["with"] == {"persist-credentials": False}


def test_versions_of_earlier_books_stand_beside_the_newest(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make archive` packs a book so that `make site` of a later version can put it beside its own."""
    monkeypatch.setenv("MAKELEVEL", "1")  # as under `make test`: a make inside a make prints the folders it enters
    (tmp_path / "book/_build/html").mkdir(parents=True)
    (tmp_path / "book/_build/html/index.html").write_text("old")
    (tmp_path / "lmc").mkdir()
    for path in ("Makefile", "lmc/__init__.py"):
        (tmp_path / path).write_text((root / path).read_text(encoding="utf-8"), encoding="utf-8")
    for command in (
        ["git", "init", "-q"],
        ["git", "add", "."],
        ["git", "-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "x"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run(["make", "archive"], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "dist", check=True)
    (tmp_path / "build").mkdir()
    (tmp_path / "dist").rename(tmp_path / "build/earlier")
    (tmp_path / "book/_build/html/index.html").write_text("new")
    subprocess.run(["make", "site"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "build/site/index.html").read_text() == "new"
    assert (tmp_path / f"build/site/v{lmc.__version__}/index.html").read_text() == "old"


def test_make_help_lists_every_target(root: Path) -> None:
    text = (root / "Makefile").read_text(encoding="utf-8")
    phony = " ".join(re.findall(r"^\.PHONY: (.*)$", text, re.M))
    shown = subprocess.run(["make", "help"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+) ", shown, re.M)) == set(phony.split())


def test_ci_runs_the_tests_without_standard_input(root: Path) -> None:
    script = root / ".ci/run"
    assert script.stat().st_mode & 0o100 and "make test </dev/null" in script.read_text(encoding="utf-8")


def test_made_files_are_ignored(root: Path) -> None:
    made = [".venv/x", "book/_build/html/index.html", "book/notebooks/00.ipynb", "build/results/laptop/a.json"]
    done = subprocess.run(["git", "check-ignore", *made], cwd=root, capture_output=True, text=True)
    assert done.stdout.splitlines() == made or not (root / ".git").exists()
    assert not Path(root / "book/figures").exists()
