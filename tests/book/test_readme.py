"""The README's commands exist and its links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from zygote import Zygote

from lmc.reproduce import results
from lmc.reproduce.experiments.claims import collected

PAGES = ("README.md", "CONTRIBUTING.md")


def test_make_targets_exist(root: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.M))
    for page in PAGES:
        named = re.findall(r"(?:^|`)make ([a-z-]+)", (root / page).read_text(encoding="utf-8"), re.M)
        assert named and set(named) <= targets, page


def test_paths_exist(root: Path) -> None:
    made = {"book/_build/html/index.html", "data/results/", "notebooks/NN_name.py"}
    for page in PAGES:
        text = (root / page).read_text(encoding="utf-8")
        links = re.findall(r"\]\((?!https?:)([^)]+)\)", text)
        paths = re.findall(r"`((?:[\w.]+/)+[\w.]*|[\w]+\.(?:yml|txt|toml|bib|cff))`", text)
        for path in {*links, *paths} - made:
            assert (root / path).exists() or (root / "book" / path).exists(), f"{page}: {path}"


def test_it_stays_short(root: Path) -> None:
    assert len((root / "README.md").read_text(encoding="utf-8").split()) < 700


def test_numbers_of_the_readme_are_those_of_the_claims(root: Path) -> None:
    (table,) = re.findall(r"\| the paper says.*?\n(.*?\n)\n", (root / "README.md").read_text(encoding="utf-8"), re.S)
    said = re.findall(r"\d+\.\d+%?", table)
    known, tested = (" ".join(row[column] for row in collected()["rows"]) for column in ("number", "tested"))
    assert len(said) == 7 and all(number in known for number in said)
    counted = results.read("one-or-two", "laptop").numbers
    home, there = counted["together"]["text"]["best"], counted["other text"]["there"]
    assert f"text, {home['pairs']} pairs" in tested and f"dual leaves less on {home['lower']} pairs" in known
    assert f"lower on {home['lower']} pairs of {home['pairs']}, by little" in table
    assert f"on WikiText-2 on {there['lower']} of {there['pairs']}" in table


def test_the_quickstart_has_the_commands_of_the_readme(root: Path) -> None:
    """So these run, in the test of the README."""
    quick = lmc_commands(root / "book/quickstart.md")
    assert quick == [strip_comment(command) for command in lmc_commands(root / "README.md")[:5]]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, as a newcomer would paste them."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


@pytest.fixture(scope="module")
def zygote(root: Path) -> Iterator[Zygote]:
    """A process that has imported what the commands need."""
    with Zygote([f"check data/pairs/{pair}-0/a" for pair in ("vit-digits", "neox-docstrings")], root) as zygote:
        yield zygote


def run_in_order(commands: list[str], zygote: Zygote, root: Path, folder: Path) -> None:
    """Run lmc commands in an empty folder that sees the shipped pairs, as the page says from a clone."""
    (folder / "data").symlink_to(root / "data")
    for command in commands:
        assert shlex.split(command) == command.split(), "has quotes"
        done = zygote.lmc(command.removeprefix("lmc "), folder)
        assert done.code == 0, f"{command}\n{done.err}"


def lmc_commands(page: Path) -> list[str]:
    return [line for block in blocks(page, "bash") for line in block.splitlines() if line.startswith("lmc ")]


def test_readme_commands_run(zygote: Zygote, root: Path, tmp_path: Path) -> None:
    commands = lmc_commands(root / "README.md")
    assert [c.split()[1] for c in commands] == ["check", "check", "match", "path", "merge", *["reproduce"] * 3]
    short = [c + " --steps 3" if " match " in c else c for c in map(strip_comment, commands)]
    run_in_order(short, zygote, root, tmp_path)
    import timm

    timm.create_model(f"local-dir:{tmp_path / 'merged'}", pretrained=True)


def test_own_checkpoints_commands_run(zygote: Zygote, root: Path, tmp_path: Path) -> None:
    commands = lmc_commands(root / "book/own_checkpoints.md")
    assert [c.split()[1] for c in commands] == ["check", "check", "match", "path", "merge", "verify"]
    further = lmc_commands(root / "book/special_cases.md")  # which go on in the same folder
    assert [c.split()[1] for c in further] == ["verify", "match", "merge", "transport"]
    commands += further
    short = [c + " --steps 2 --batch 2 --limit 32" if " dual " in c else c for c in map(strip_comment, commands)]
    run_in_order([c + " --limit 8 --grid 3" if " path " in c else c for c in short], zygote, root, tmp_path)
    assert (tmp_path / "path.svg").stat().st_size > 1000


def strip_comment(command: str) -> str:
    return command.split("  #")[0].rstrip()


def test_readme_python_runs(root: Path, tmp_path: Path) -> None:
    (code,) = blocks(root / "README.md", "python")
    assert "steps=300" in code
    (tmp_path / "data").symlink_to(root / "data")
    done = subprocess.run(
        [sys.executable, "-c", code.replace("steps=300", "steps=3")],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0
