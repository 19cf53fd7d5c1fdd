"""What learned matching costs, in ratios to a plain training step of the same model, measured in one run.

    make bench                       # every part; ITEM=step (or another of PARTS) runs one

`make bench ITEM=step` is `python -m lmc.reproduce.experiments.bench step`. Each part writes
data/results/bench/<part>.json with the facts of the machine. Times are processor seconds of one thread, so that other
work on the machine counts little; what is compared alternates. No test asserts a time.
"""

import argparse
import ctypes
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lmc.checkpoints import headers
from lmc.errors import MissingExtraError
from lmc.evaluation import Data, losses
from lmc.files import write_whole
from lmc.matching import Endpoints, Learner, Recipe
from lmc.reproduce import places
from lmc.reproduce.experiments import (
    bench_choices,
    bench_eigenbasis,
    bench_merge,
    bench_rates,
    bench_sweeps,
    bench_weights,
)
from lmc.reproduce.experiments.cost import learner
from lmc.reproduce.training.shapes import PYTHIA, NeoX
from lmc.reproduce.training.shipped_pairs import names

SHAPES = {name: PYTHIA[name] for name in ("14M", "31M", "70M")}
WINDOWS = {1024: (2, 512), 4096: (4, 1024)}  # tokens: windows, and tokens in each
ROUNDS = {"14M": 4, "31M": 3, "70M": 2}
STARTS = 5
PARTS = ("step", "memory", "growth", "startup", "weights", "sweeps", "merge", "choices", "rates", "eigenbasis")


def build(shape: NeoX, seed: int = 0) -> Any:
    """A GPT-NeoX of that shape with random weights, which keeps no keys and values for a next token."""
    torch.manual_seed(seed)
    model: Any = shape.build().eval()
    model.config.use_cache = False
    return model


def between(shape: NeoX, method: str, count: int = 2) -> Learner:
    """A learner between random models, which for the cost are as good as trained ones."""
    endpoints = Endpoints.of([build(shape, seed=k) for k in range(count)], "cpu")
    return learner(endpoints, method, Recipe(batch=10**6))


def tokens(windows: int, length: int, vocabulary: int = 50304) -> Data:
    """Random tokens. Real text repeats tokens, and an embedding row that no token asks for costs nothing."""
    return Data(torch.randint(vocabulary, (windows, length), generator=torch.Generator().manual_seed(0)))


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def step(shapes: list[str]) -> dict[str, Any]:
    """Learned steps and plain forward + backward + AdamW steps of the same model on the same batch, alternating."""
    table: dict[str, Any] = {}
    for name in shapes:
        plain = build(SHAPES[name])
        optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-4)
        learners = {method: between(SHAPES[name], method) for method in ("single", "dual")}
        for count, window in WINDOWS.items():
            batch = tokens(*window)

            def train(plain: Any = plain, optimizer: Any = optimizer, batch: Data = batch) -> None:
                optimizer.zero_grad(set_to_none=True)
                losses(plain, batch).mean().backward()  # as learned steps compute it: sooner than the library's
                optimizer.step()

            calls: dict[str, Callable[[], object]] = {"plain": train}
            calls |= {method: partial(x.advance, batch) for method, x in learners.items()}
            for call in calls.values():
                call()  # first calls allocate
            rounds = [{key: seconds(call) for key, call in calls.items()} for _ in range(ROUNDS[name])]
            row: dict[str, Any] = {f"{k} seconds": statistics.median(r[k] for r in rounds) for k in calls}
            row |= {f"{m} ÷ plain": statistics.median(r[m] / r["plain"] for r in rounds) for m in learners}
            table[f"{name}, {count} tokens"] = row | {"rounds": len(rounds)}
            print(f"{name}, {count} tokens", row, flush=True)
        table[f"{name}, {count} tokens"]["drift"] = max(drift(x) for x in learners.values())
    return {"steps": table, "unit": "processor seconds, one thread, float32"}


def drift(learner: Learner) -> float:
    """The largest entry of QᵀQ − 1 of the residual rotations."""
    eye = torch.eye(learner.spec.space("stream").group.n, dtype=torch.float64)
    return max(float((e["stream"].mT @ e["stream"] - eye).abs().max()) for e in learner.elements)


def memory(shapes: list[str]) -> dict[str, Any]:
    """The largest resident memory of a learned step over that of forward and backward alone, in a process of its own.

    A forward and backward holds the weights, their gradient and the activations: 2 and the activations. What a learned
    step holds more, in units of one model's weights, is added to that 2. Measured twice: where what is freed goes back
    to the system at once, and as a process is by default, in which the C library keeps some of it for later.
    """
    table = {}
    at_once = {"MALLOC_MMAP_THRESHOLD_": str(2**16), "MALLOC_TRIM_THRESHOLD_": str(2**16)}
    for name in shapes:
        row: dict[str, Any] = {}
        for kept, settings in (("", at_once), (" as kept", {})):
            peak = {}
            for kind in ("plain", "single", "dual"):
                line = [sys.executable, "-m", "lmc.reproduce.experiments.bench", "--peak", name, kind]
                done = subprocess.run(line, capture_output=True, text=True, check=True, env=os.environ | settings)
                peak[kind], weights = map(int, done.stdout.split()[-2:])
            extra = {m: 2 + (peak[m] - peak["plain"]) / weights for m in ("single", "dual")}
            row |= {f"{m}, without activations{kept}": held for m, held in extra.items()}
            row |= {"bytes of one model": weights, f"peak bytes{kept}": peak}
        table[name] = row
        print(name, row, flush=True)
    return {"memory": table, "tokens": 1024}


def peak(name: str, kind: str) -> None:
    """Print the largest resident memory over two steps, after everything is built, and the bytes of one model."""
    batch = tokens(*WINDOWS[1024])
    if kind == "plain":
        model = build(SHAPES[name])

        def work() -> None:
            model.zero_grad(set_to_none=True)
            losses(model, batch).mean().backward()
    else:
        learning = between(SHAPES[name], kind)
        model = learning.model

        def work() -> None:
            learning.advance(batch)

    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what building needed is not what a step needs
    Path("/proc/self/clear_refs").write_text("5")
    work()
    work()
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM")]
    print(int(line.split()[1]) * 1024, sum(p.numel() * p.element_size() for p in model.parameters()))


def growth() -> dict[str, Any]:
    """How what a learned step adds to forward and backward grows; a line through the logarithms gives the exponent."""
    plain = {"width": 256, "layers": 4, "tokens": 512, "models": 2}
    ranges = {"width": (256, 512, 1024), "layers": (2, 4, 8), "tokens": (256, 512, 1024), "models": (2, 3, 5)}
    # Expected: O(d · |θ|), |θ| ∝ layers · d². Models: each but the first is moved once, each but the last again.
    theory = {"width": 3.0, "layers": 1.0, "tokens": 0.0, "models": None}
    found: dict[str, Any] = {}
    for axis, values in ranges.items():
        times = []
        for value in values:
            at = plain | {axis: value}
            shape = NeoX(at["layers"], at["width"], heads=8, context=2048, vocabulary=256)
            made = between(shape, "dual", count=at["models"])
            batch = tokens(at["tokens"] // 128, 128, 256)
            _, gradients = made.gradients(batch)
            w = made.weights()

            def added(made: Learner = made, batch: Data = batch, w: Any = w, gradients: Any = gradients) -> None:
                made.common_frame(made.pull_back(w, made.materialise(w, batch)))
                for k in made.moving:
                    made.adams[k].steps(gradients[k], 1, 1e-3)

            added()
            times.append(statistics.median(seconds(added) for _ in range(3)))
        logs = torch.tensor([*values], dtype=torch.float64).log(), torch.tensor(times, dtype=torch.float64).log()
        x, y = (t - t.mean() for t in logs)
        found[axis] = {"at": values, "seconds": times, "exponent": float((x @ y) / (x @ x)), "theory": theory[axis]}
        print(axis, found[axis], flush=True)
    return {"growth": found, "otherwise": plain}


def startup() -> dict[str, Any]:
    """Starting Python, importing torch, and commands on a small shipped pair, in turn.

    The first round is not counted: in it Python compiles every module, and keeps that for later starts.
    """
    a, b = (str(places.checkout() / f"data/pairs/neox-docstrings-0/{name}") for name in "ab")
    lines = {"python": ["-c", "pass"], "import torch": ["-c", "import torch"], "import lmc": ["-c", "import lmc"]}
    commands = ["--help", "check nowhere", "check unknown", "check A lost", "check lost", "check A B"]
    for command in (*commands, "match A B --method naive --out aligned", "merge aligned --out merged"):
        given = [{"A": a, "B": b}.get(word, word) for word in command.split()]
        lines[f"lmc {command}"] = ["-m", "lmc", *given]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}
    compiled = tempfile.TemporaryDirectory(prefix="bench-")
    environment = os.environ | {"PYTHONPATH": str(places.checkout()), "HF_HUB_OFFLINE": "1"}
    environment |= {"PYTHONPYCACHEPREFIX": compiled.name, "PYTHONDONTWRITEBYTECODE": ""}
    for turn in range(1 + STARTS):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            Path(folder, "unknown").mkdir()
            Path(folder, "unknown/config.json").write_text('{"architectures": ["FalconForCausalLM"]}')
            _without_a_tensor(Path(b), Path(folder, "lost"))
            for name, line in lines.items():
                used, began = _children(), time.monotonic()
                done = subprocess.run([sys.executable, *line], cwd=folder, env=environment, capture_output=True)
                if done.returncode != 2 * name.endswith(("nowhere", "unknown", "lost")):
                    raise SystemExit(f"{name}: exit code {done.returncode}")
                if turn:
                    times[name].append((time.monotonic() - began, _children() - used))
    compiled.cleanup()
    rows = {
        name: dict(
            zip(("wall seconds", "processor seconds"), map(statistics.median, zip(*t, strict=True)), strict=True)
        )
        for name, t in times.items()
    }
    print(rows)
    return {"startup": rows}


def _without_a_tensor(model: Path, copy: Path) -> None:
    """A checkpoint that lacks a tensor of its last layer, as after a download that missed a file."""
    shutil.copytree(model, copy)
    tensors = load_file(model / headers.SAFE)
    del tensors[max(name for name in tensors if ".dense.weight" in name)]
    save_file(tensors, copy / headers.SAFE, metadata={"format": "pt"})


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the parts asked for and write what each found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "item",
        nargs="?",
        default="all",
        choices=["all", *PARTS],
    )
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        peak(*given.peak)
        return
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "step": lambda: step(given.shapes),
        "memory": lambda: memory(given.shapes),
        "growth": growth,
        "startup": startup,
    }
    for name, part in parts.items():
        if given.item in ("all", name):
            began, load = time.monotonic(), os.getloadavg()[0]
            found = part()
            run = bench_weights.facts(began, load, command=f"make bench ITEM={name}", threads=1, seeds=[0])
            for suffix, content in ((".run.json", run), (".json", found)):
                text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False)
                write_whole(places.checkout() / "data/results/bench" / f"{name}{suffix}", text + "\n")
    by_entry: dict[str, Callable[[], None]] = {
        "weights": lambda: bench_weights.main([]),
        "sweeps": lambda: bench_sweeps.main([]),
        "choices": lambda: bench_choices.main([]),
        "eigenbasis": lambda: bench_eigenbasis.main([]),
        "rates": lambda: bench_rates.measured(names()),
    }
    for name, measured in by_entry.items():
        if given.item in ("all", name):
            measured()
    if given.item in ("all", "merge"):
        try:
            bench_merge.main([])
        except MissingExtraError as error:
            print(f"merge: not measured. {error}")


if __name__ == "__main__":
    main()
