"""What every test runs under, and one smoke run of all notebooks for the tests that look at it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: a hub name fails at once, not after retries
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTHONPATH"] = str(ROOT)  # commands and kernels that tests start run the same source as the tests


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks at the one smoke run shares a process, and starts first, since it takes longest."""
    for item in items:
        if "smoke" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("smoke"))
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `executed/` and `results/` of every notebook at profile smoke."""
    folder = tmp_path_factory.mktemp("smoke")
    done = reproduce_smoke(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def reproduce_smoke(folder: Path) -> "subprocess.CompletedProcess[str]":
    """The command a user types, with its outputs sent to `folder`."""
    command = [sys.executable, "-m", "lmc.reproduce", "--profile", "smoke", "--out", str(folder / "executed")]
    environment = {**os.environ, "LMC_RESULTS": str(folder / "results")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
