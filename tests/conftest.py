"""What every test runs under, and one smoke run of all notebooks for the tests that look at it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import copies
import pytest
from filelock import FileLock

from lmc.symmetries.stock_libraries import repair

ROOT = Path(__file__).resolve().parents[1]

repair()  # before a test imports timm or transformers

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: a hub name fails at once, not after retries
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTHONPATH"] = str(ROOT)  # commands and kernels that tests start run the same source as the tests


# Files that take a minute or more. They come first: one that came last would leave one of two processes with nothing to
# do. The first makes the smoke run, which others look at.
LONG = "notebooks command degenerate campaign book endings headline readme workers export cli"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = [f"test_{name}.py" for name in LONG.split()]
    items.sort(key=lambda item: names.index(item.path.name) if item.path.name in names else len(names))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def quick_kernels() -> Iterator[dict[str, str]]:
    """Environment variables with which a kernel starts in no time: it is a copy of a process that did the imports."""
    with copies.serving() as variables:
        yield variables


@pytest.fixture(scope="session")
def smoke(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `executed/` and `results/` of every notebook at profile smoke: one for all test processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "smoke"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            folder.mkdir()
            done = reproduce_smoke(folder, request.getfixturevalue("quick_kernels"))
            folder.with_suffix(".log").write_text(done.stdout + done.stderr)
            folder.with_suffix(".code").write_text(str(done.returncode))
    code = folder.with_suffix(".code").read_text()
    assert code in ("0", "1"), folder.with_suffix(".log").read_text()  # 1: test_expected says which number is off
    return folder


def reproduce_smoke(folder: Path, variables: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """The command a user types, with its outputs sent to `folder`, and what its kernels do noted in `folder`/record."""
    command = [sys.executable, "-m", "lmc", "reproduce", "--profile", "smoke", "--out", str(folder / "executed")]
    environment = {**os.environ, "LMC_RESULTS": str(folder / "results")} | recording(folder / "record")
    environment |= variables or {}
    environment.pop("MPLBACKEND", None)  # kernels show their figures in the page, to which its text refers
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2400)


def recording(folder: Path) -> dict[str, str]:
    """Environment variables with which kernels note in a folder what they do; see tests/recording."""
    folder.mkdir(exist_ok=True)
    return {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests/recording"), str(ROOT)]), "RECORD_TO": str(folder)}


def recorded(folder: Path) -> list[dict[str, set[Any]]]:
    """Of every kernel: the results it `looked for` and wrote (`written`), as id and profile, and what it `imported`."""
    found = []
    for file in sorted(folder.iterdir()):
        kernel: dict[str, set[Any]] = {"looked for": set(), "written": set(), "imported": set()}
        for event, what in map(json.loads, file.read_text(encoding="utf8").splitlines()):
            kernel[event].add(what if event == "imported" else tuple(what))
        found.append(kernel)
    return found


@pytest.fixture(autouse=True)
def figures_are_closed() -> Iterator[None]:
    """What a test drew is not counted against the next."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")
