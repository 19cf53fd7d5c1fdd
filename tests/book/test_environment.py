"""The ways to install, tested as data: they name the same things and the same versions."""

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


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
    assert '-c constraints.txt -e ".[book,test]"' in (root / "Makefile").read_text(encoding="utf-8")


def test_one_repository_address(root: Path, project: dict[str, Any]) -> None:
    url = project["urls"]["Repository"]
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["repository-code"], citation["version"]) == (url, project["version"])
    hosts = [path for path in ("README.md", "CONTRIBUTING.md", "book/_config.yml", "book/intro.md", "Makefile")]
    for path in hosts:
        for found in re.findall(r"https://github\.com/[\w.-]+/[\w.-]+", (root / path).read_text(encoding="utf-8")):
            assert found == url, path


def test_make_help_lists_every_target(root: Path) -> None:
    text = (root / "Makefile").read_text(encoding="utf-8")
    [phony] = re.findall(r"^\.PHONY: (.*)$", text, re.M)
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
