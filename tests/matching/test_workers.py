"""Several processes learn what one learns: the command line under torchrun, with two processes on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pico
import pytest
import torch
from safetensors.torch import load_file

import lmc

TOLERANCE = 1e-6  # of transforms after five steps: sums over a batch are taken in another order, in single precision


def run(folder: Path, out: str, processes: int, *options: str) -> "subprocess.CompletedProcess[str]":
    """`lmc match` on the folder's models, under torchrun where there are several processes."""
    command = ["-m", "lmc", "match", "a", "b", "--data", "text.txt", "--steps", "5", "--batch", "6", "--limit", "12"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    line = [sys.executable, *(launcher if processes > 1 else []), *command, "--out", out, *options]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(Path(lmc.__file__).parents[1]),
    }
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def match(folder: Path, out: str, processes: int, *options: str) -> str:
    """The same, which must succeed; what it says."""
    done = run(folder, out, processes, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    for seed, name in enumerate("ab"):
        lmc.save(pico.neox(seed=seed, dtype=torch.float32), folder / name)
        pico.tokenizer(folder / name)
    words = torch.randint(40, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    (folder / "text.txt").write_text(" ".join(f"w{i}" for i in words))
    match(folder, "one", 1)
    return folder


def furthest(folder: Path, out: str) -> float:
    """The largest difference of any entry of the transforms from those of one process."""
    files = [f"transform-{k}.safetensors" for k in (0, 1)]
    pairs = [(load_file(folder / "one" / f), load_file(folder / out / f)) for f in files]
    return max(float((one[n] - other[n]).abs().max()) for one, other in pairs for n in one)


OLD = torch.__version__.startswith("2.6.")
SHARD = pytest.param(["--shard"], marks=pytest.mark.skipif(OLD, reason="torch 2.6 cannot shard on the CPU"), id="shard")


@pytest.mark.parametrize("options", [[], SHARD, ["--accumulate", "2", "--checkpointing"]], ids=" ".join)
def test_two_processes_give_the_transforms_of_one(folder: Path, options: list[str]) -> None:
    out = "two" + "".join(options)
    said = match(folder, out, 2, *options)
    assert said.count(f"wrote {out}") == 1  # one process speaks and writes
    assert furthest(folder, out) <= TOLERANCE
    start = lmc.match(*(lmc.load(folder / n) for n in "ab"), method="weights")
    moved = load_file(folder / "one" / "transform-1.safetensors")["stream"] - start.transforms[1].elements["stream"]
    assert moved.abs().max() > 1e3 * TOLERANCE  # learning moved them by far more than that


@pytest.mark.parametrize("options", [["--batch", "5"], ["--batch", "6", "--accumulate", "2"]], ids=" ".join)
def test_unequal_shares_of_sharded_models_are_refused(folder: Path, options: list[str]) -> None:
    """Each process would make another number of forward passes, and wait for the others for ever."""
    done = run(folder, "uneven", 2, "--shard", *options)
    assert done.returncode != 0 and not (folder / "uneven").exists()
    assert "error: --shard: expected a batch that falls into equal parts, found batch" in done.stderr


@pytest.mark.skipif(OLD, reason="torch 2.6 cannot shard on the CPU")
def test_early_stopping_of_sharded_models_comes_to_an_end(folder: Path) -> None:
    """Three samples kept aside would be two forward passes of one process and one of the other."""
    match(folder, "patient", 2, "--shard", "--patience", "1", "--limit", "30", "--batch", "2", "--steps", "51")


@pytest.mark.skipif(OLD, reason="torch 2.6 cannot shard on the CPU")
def test_a_look_of_sharded_models_comes_to_an_end(folder: Path) -> None:
    """What is looked at falls into 11, 11 and 10 samples, and a step reads two: that would be six passes, and five."""
    match(folder, "looked", 3, "--shard", "--lambdas", "highest", "--batch", "6", "--steps", "1")
