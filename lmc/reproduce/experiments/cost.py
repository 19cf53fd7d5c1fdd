"""What learned matching costs at a shape: its step against a training step of the same model, in time and memory.

The pair is a model with random weights and the same model rewritten by a random symmetry. This shows what matching
costs, and that data-free matching finds the symmetry again; it says nothing about connectivity.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from lmc.evaluation import Data, losses
from lmc.matching import LEARNED, Endpoints, Learner, Recipe, match
from lmc.reproduce.training.budget import Budget
from lmc.reproduce.training.endpoints import autocast
from lmc.reproduce.training.settings import Cost
from lmc.reproduce.training.trainer import Trainer, TrainingRecipe
from lmc.symmetries import Transform, canonicalize, rebuild, state
from lmc.symmetries.families import spec as spec_of

WARM = 2  # steps before the clock runs
Publish = Callable[[dict[str, Any]], None]


def measure(work: Cost, device: torch.device, budget: Budget, found: dict[str, Any], publish: Publish) -> None:
    """Measure what `found` does not hold yet, and hand over the numbers so far after each part.

    >>> found, cost = {}, Cost("tiny", setting.shape, tokens=(64,), steps=1)
    >>> measure(cost, torch.device("cpu"), Budget(540), found, publish=lambda so_far: None)
    >>> list(found)
    ['setting', 'parameters', 'weights', 'steps', 'data_free']
    """
    torch.manual_seed(0)
    a = canonicalize(work.shape.build())
    found |= {
        "setting": {"model": type(work.shape).__name__} | asdict(work.shape),
        "parameters": sum(p.numel() for p in a.parameters()),
        "weights": "random; the second model is the first one rewritten by a random symmetry: cost, not connectivity",
    }
    with budget.interrupting():
        b = Transform.random(spec_of(a), seed=1).apply(a)
        for tokens in work.tokens:
            ids = torch.randint(work.shape.vocabulary, (max(tokens // work.shape.context, 1), work.shape.context))
            rows = found.setdefault("steps", {}).setdefault(str(tokens), {})
            for kind in ("plain", *LEARNED):
                if kind not in rows:
                    make = _plain if kind == "plain" else _learned
                    rows[kind] = _timed(make(a, b, kind, Data(ids.to(device))), work.steps, device)
                    publish(found)
            rows["ratio"] = {kind: rows[kind]["seconds"] / rows["plain"]["seconds"] for kind in LEARNED}
            rows["roofline"] = 1 + 2 * work.shape.width / (3 * tokens)  # one pull-back, O(d·|θ|), beside 6·|θ|·T
            publish(found)
        if "data_free" not in found:
            found["data_free"] = _data_free(a, b, device)
            publish(found)


Step = Callable[[int], None]


def _plain(a: nn.Module, b: nn.Module, kind: str, data: Data) -> Step:
    """A step of ordinary training: forward, backward, AdamW."""
    device = data.inputs.device
    spec = spec_of(a)
    model = rebuild(a, spec, state(a)).to(device).requires_grad_(True)
    trainer = Trainer(model, TrainingRecipe(steps=10**6, batch=len(data), lr=1e-5))

    def step(index: int) -> None:
        with autocast(device, bf16=True):
            loss = losses(model, data).mean()
        trainer.descend(loss)

    return step


def _learned(a: nn.Module, b: nn.Module, kind: str, data: Data) -> Step:
    """A step of learned matching on the same batch."""
    endpoints = Endpoints.of((a, b), data.inputs.device)
    learning = learner(endpoints, kind, Recipe.of(kind, batch=len(data), precision="bfloat16"))
    return lambda index: [learning.advance(data)].clear()


def learner(endpoints: Endpoints, kind: str, recipe: Recipe) -> Learner:
    """A learner that starts from the endpoints as they are, on their device.

    >>> endpoints = Endpoints.of((a, b), torch.device("cpu"))
    >>> loss = learner(endpoints, "dual", Recipe(batch=8)).advance(Data(match_on))
    """
    moving = range(kind == "single", len(endpoints.models))
    return Learner.of(endpoints.models, endpoints.gauge, moving, recipe, seed=0, device=endpoints.device)


def _timed(step: Step, steps: int, device: torch.device) -> dict[str, float]:
    """Median seconds of a step, and the peak of memory on a GPU."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for index in range(WARM + steps):
        if on_gpu:
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        step(index)
        if on_gpu:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    found = {"seconds": statistics.median(seconds[WARM:])}
    return found | ({"peak_bytes": torch.cuda.max_memory_allocated(device)} if on_gpu else {})


def _data_free(a: nn.Module, b: nn.Module, device: torch.device) -> dict[str, float]:
    """Seconds of data-free matching, and ‖θ_A − gθ_B‖ / ‖θ_A‖ afterwards."""
    began = time.perf_counter()
    alignment = match(a, b, method="weights", device=device)
    seconds = time.perf_counter() - began
    first, second = (state(model) for model in alignment.models)
    apart = sum(float((first[n] - second[n]).double().square().sum()) for n in first)
    return {"seconds": seconds, "apart": (apart / sum(float(t.double().square().sum()) for t in first.values())) ** 0.5}
