"""Data-free matching by size: time, peak memory, and how exactly a planted symmetry is found again.

    make bench ITEM=weights             # or: python -m lmc.reproduce.experiments.bench_weights 14M "14M, unrelated"

For shapes of the Pythia suite, and of Llamas with grouped queries: a model A of random weights and B = g·A, for a
random element g of the whole group, are written to disk; `lmc match A B --method weights --export` runs in a process
of its own, whose wall time and memory are measured; what it wrote is compared with A. A planted pair is found in one
look. `unrelated` is the pair that takes longest: B is random as well, so that there is little to find. `trained
briefly` are two networks from different seeds after a few steps on text. Aligned models are written (`--export`) of
planted pairs only: of others there is nothing to compare them with. Writing random pairs and comparing need as little
memory as matching. The results go to data/results/bench/weights.json, one entry a shape; other entries stay. Two
threads are used; on a machine that does other work too, the processor seconds say more than the wall time.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmc import checkpoints
from lmc.checkpoints import load, provenance, stored
from lmc.files import write_whole
from lmc.matching import describe, weights_seconds
from lmc.reproduce import places
from lmc.reproduce.training.shapes import LLAMA, PYTHIA, Language
from lmc.reproduce.training.tasks import Docstrings
from lmc.reproduce.training.trainer import TrainingRecipe, train
from lmc.symmetries import Canonical, Moved, Permutation, Transform, epsilon, set_epsilon
from lmc.symmetries.families import spec as spec_of

SHAPES: dict[str, Language] = {name: PYTHIA[name] for name in ("14M", "70M", "160M", "410M", "1B")}
SHAPES |= {name: LLAMA[name] for name in ("Llama 26M", "Llama 386M", "Llama 1.1B")}
UNRELATED, TRAINED = "unrelated", "trained briefly"  # kinds of pairs; without a name: planted
WINDOW = 64  # bytes
THREADS = 2
CHUNK = 1 << 24  # numbers compared at a time


class Lean(TrainingRecipe):
    """Adafactor (arXiv 1804.04235), whose moments are a row and a column of each matrix: a billion parameters fit."""

    def optimizers(self, model: nn.Module) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adafactor(model.parameters(), lr=self.lr, weight_decay=0.0)]


BRIEFLY = Lean(steps=20, batch=4, lr=3e-2, warmup=5)


def main(names: list[str]) -> None:
    """Measure each shape and write what was found down at once."""
    every = [shape + kind for shape in SHAPES for kind in ("", f", {UNRELATED}")]
    for name in names or [*every, *(f"{shape}, {TRAINED}" for shape in ("Llama 386M", "Llama 1.1B", "1B"))]:
        command = f"python -m lmc.reproduce.experiments.bench_weights '{name}'"
        entry("weights", name, command, partial(measure, name))


def entry(part: str, name: str, command: str, work: Callable[[Path], dict[str, Any]], **given: Any) -> None:
    """Do some work in a folder of its own, and write what it found and how into the part's results, under the name."""
    load, began = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        row = work(Path(folder))
    run = facts(began, load, **{"command": command, "threads": THREADS, "seeds": [0, 1]} | given)
    print(name, json.dumps(row), flush=True)
    out = places.checkout() / f"data/results/bench/{part}.json"
    for file, content in ((out, row), (out.with_suffix(".run.json"), run)):
        known = json.loads(file.read_text()) if file.exists() else {}
        write_whole(file, json.dumps(known | {name: content}, indent=1, sort_keys=True) + "\n")


def facts(began: float, load: float, **given: Any) -> dict[str, Any]:
    """What a record says of a measurement that began then, at that load: `given`, and what is the same for all."""
    return given | {
        "duration_s": round(time.monotonic() - began),
        "hardware": provenance.hardware(),
        "load at the start": load,
        "versions": provenance.versions(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Plant, draw or train, match, compare."""
    shape, _, kind = name.partition(", ")
    with torch.device("meta"):
        model: Any = SHAPES[shape].build()
    torch.set_num_threads(THREADS)
    g, losses = None, []
    if kind == TRAINED:
        losses = [briefly_trained(SHAPES[shape], seed, folder / end) for seed, end in enumerate("ab")]
    else:
        checkpoints.save(model, folder / "a", dtype=torch.float32, tensors=random_weights(model))
        if kind == UNRELATED:
            checkpoints.save(model, folder / "b", dtype=torch.float32, tensors=random_weights(model, seed=1))
        else:
            g = plant(folder / "a", folder / "b")
    command = [sys.executable, "-m", "lmc", "match", "a", "b", "--method", "weights", "--out", "aligned"]
    command += ["--export"] if g else []
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": str(places.checkout())}
    least, most = (round(THREADS * seconds) for seconds in weights_seconds(model))  # of processors that are free
    spent = watched(command, folder, environment)
    record = describe(folder / "aligned")["record"]
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        **spent,
        "predicted_cpu_seconds": most,  # where unrelated
        "predicted_cpu_seconds, one rewritten": least,
        **(recovery(folder, g) if g else {}),
        **({"loss before and after training": losses} if losses else {}),
        "sweeps": record["sweeps"][0],
        "cosine": record["cosines"][0][-1],
    }


def briefly_trained(shape: Language, seed: int, out: Path) -> list[float]:
    """Write a network after a few steps on text; its losses in the first of them and in the last."""
    trained, curve = train(Docstrings(replace(shape, context=WINDOW)), BRIEFLY, seed, progress=False)
    checkpoints.save(trained, out)
    return [curve[0][1], curve[-1][1]]


def watched(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """What a process took: seconds, processor seconds, the GiB that were resident at most, and those of its own.

    Pages of mapped files are resident, but not its own: the system takes them back where it needs memory.
    """
    began, own, peak = time.monotonic(), 0, 0
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        status = Path(f"/proc/{process.pid}/status").read_text()
        held = {name: int(size) for name, size in re.findall(r"(RssAnon|VmHWM):\s+(\d+)", status)}
        own, peak = max(own, held.get("RssAnon", 0)), max(peak, held.get("VmHWM", 0))
        time.sleep(0.05)
    _, code, usage = ended
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gib": round(peak / 2**20, 2),  # the usage counts what this process held when it began that one
        "own_gib": round(own / 2**20, 2),
    }


def random_weights(model: nn.Module, seed: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Random weights of usual size one by one: gains around 1, the rest around 0, nothing at a special value."""
    generator = torch.Generator().manual_seed(seed)
    for name, t in model.state_dict().items():
        noise = torch.randn(t.shape, generator=generator)
        if t.ndim == 1:
            yield name, 0.3 * noise + (1.0 if name.endswith("norm.weight") else 0.0)
        else:
            yield name, noise / t.shape[1] ** 0.5


def plant(a: Path, b: Path) -> Transform:
    """Write B = g·A for a random g; returns g."""
    blueprint = checkpoints.inspect(a)
    spec = spec_of(blueprint.model)
    g = Transform.random(spec, seed=1)
    moved = Moved(g, Canonical(spec, stored(blueprint)))
    model: Any = blueprint.model
    set_epsilon(model, spec, epsilon(model, spec) * g.scale**2)
    checkpoints.save(model, b, dtype=torch.float32, tensors=moved.items())
    return g


@torch.no_grad()
def recovery(folder: Path, g: Transform) -> dict[str, Any]:
    """How far the aligned B is from the aligned A, and the logits of their mean from those of A itself."""
    found = Transform.load(folder / "aligned" / "transform-1.safetensors") @ g
    permutations = [s for s in g.spec.spaces if isinstance(s.group, Permutation)]
    first, second = (checkpoints.inspect(folder / "aligned" / "models" / f"endpoint-{k}") for k in range(2))
    x, y = stored(first), stored(second)
    apart = size = 0.0
    for name in g.spec.rules:
        for p, q in zip(x[name].view(-1).split(CHUNK), y[name].view(-1).split(CHUNK), strict=True):
            apart += float((p.double() - q.double()).square().sum())
            size += float(p.double().square().sum())
    mean = ((name, x[name].lerp(y[name], 0.5)) for name in x)
    checkpoints.save(first.model, folder / "middle", dtype=torch.float32, tensors=mean)
    tokens = torch.randint(1000, (2, 16), generator=torch.Generator().manual_seed(2))
    expected, merged = (load(folder / which)(tokens).logits for which in ("a", "middle"))
    return {
        "distance": (apart / size) ** 0.5,
        "permutations_exact": all(
            bool((found.elements[s.name] == torch.arange(s.group.n)).all()) for s in permutations
        ),
        "midpoint_logits": float((merged - expected).abs().max() / expected.abs().max()),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
