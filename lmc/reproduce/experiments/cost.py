"""What learned matching costs at a shape: its step against a training step of the same model, in time and memory.

The pair is a model with random weights and the same model rewritten by a random symmetry. This shows what matching
costs, and that data-free matching finds the symmetry again; it says nothing about connectivity.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from lmc.evaluation import Data, losses
from lmc.matching import LEARNED, Endpoints, Learner, Recipe, match
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.training.budget import Budget
from lmc.reproduce.training.endpoints import autocast
from lmc.reproduce.training.settings import Cost
from lmc.reproduce.training.shapes import Language
from lmc.reproduce.training.trainer import Trainer, TrainingRecipe
from lmc.symmetries import Transform, canonicalize, rebuild, state
from lmc.symmetries.families import spec as spec_of

WARM = 2  # steps before the clock runs
KINDS = ("plain", *LEARNED)  # of steps
Step = Callable[[Data], None]


def measure(work: Cost, device: torch.device, budget: Budget, pieces: KeptRuns, publish: Callable[[], None]) -> None:
    """Measure each piece that is missing, and publish what is there after each.

    >>> pieces, cost = KeptRuns(Path("tiny")), Cost("tiny", setting.shape, tokens=(64,), steps=1)
    >>> measure(cost, torch.device("cpu"), Budget(540), pieces, publish=lambda: None)
    >>> list(measured(cost, pieces))
    ['setting', 'parameters', 'weights', 'steps', 'data_free']
    """
    torch.manual_seed(0)
    with device:
        a = canonicalize(work.shape.build())
    pieces.piece("size", lambda: {"parameters": sum(p.numel() for p in a.parameters())})
    with budget.interrupting():
        b = Transform.random(spec_of(a), seed=1).apply(a)
        endpoints = Endpoints.of((a, b), device)
        for model in (*endpoints.parents, *endpoints.models):
            model.cpu()  # where they wait in a real match, too
        for kind in KINDS:
            make = _plain if kind == "plain" else _learned
            step = cache(partial(make, endpoints, kind))  # made once, and only if a piece needs it
            for tokens in work.tokens:
                budget.check()
                pieces.piece(f"{kind}-{tokens}", partial(_timed, work, step, tokens, endpoints.device))
                publish()
        if work.data_free:
            pieces.piece("data_free", partial(_data_free, a, b, device))
            publish()


def measured(work: Cost, pieces: KeptRuns) -> dict[str, Any]:
    """The numbers so far, as a results file has them."""
    there = pieces.all()
    steps: dict[str, Any] = {}
    for tokens in work.tokens:
        if not (row := {kind: there[f"{kind}-{tokens}"] for kind in KINDS if f"{kind}-{tokens}" in there}):
            continue
        for found in row.values():
            if "peak_bytes" in found:
                found["models"] = found["peak_bytes"] / (4 * there["size"]["parameters"])  # in float32
        ratio = {kind: row[kind]["seconds"] / row["plain"]["seconds"] for kind in LEARNED if kind in row}
        roofline = 1 + 2 * work.shape.width / (3 * tokens)  # one pull-back, O(d·|θ|), beside 6·|θ|·T
        steps[str(tokens)] = row | {"ratio": ratio, "roofline": roofline}
    return {
        "setting": {"model": type(work.shape).__name__} | asdict(work.shape),
        **there["size"],
        "weights": "random; the second model is the first one rewritten by a random symmetry: cost, not connectivity",
        "steps": steps,
        **{name: there[name] for name in ("data_free", "unrelated") if name in there},
    }


def _timed(work: Cost, step: Callable[[], Step], tokens: int, device: torch.device) -> dict[str, float]:
    """One kind of step on so many tokens."""
    ids = torch.randint(work.shape.vocabulary, (max(tokens // work.shape.context, 1), work.shape.context))
    return timed(partial(step(), Data(ids.to(device))), work.steps, device)


def _plain(endpoints: Endpoints, kind: str) -> Step:
    """A step of ordinary training: forward, backward, AdamW."""
    a = endpoints.models[0]
    model = rebuild(a, endpoints.spec, state(a)).to(endpoints.device).requires_grad_(True)
    trainer = Trainer(model, TrainingRecipe(steps=10**6, batch=1, lr=1e-5))

    def step(data: Data) -> None:
        with autocast(endpoints.device, bf16=True):
            loss = losses(model, data).mean()
        trainer.descend(loss)

    return step


def _learned(endpoints: Endpoints, kind: str) -> Step:
    """A step of learned matching on the whole of a batch."""
    learning = learner(endpoints, kind, Recipe.of(kind, batch=10**6, precision="bfloat16"))
    return lambda data: [learning.advance(data)].clear()


def learner(endpoints: Endpoints, kind: str, recipe: Recipe) -> Learner:
    """A learner that starts from the endpoints as they are, on their device.

    >>> endpoints = Endpoints.of((a, b), torch.device("cpu"))
    >>> loss = learner(endpoints, "dual", Recipe(batch=8)).advance(Data(match_on))
    """
    moving = range(kind == "single", len(endpoints.models))
    return Learner.of(endpoints.models, endpoints.gauge, moving, recipe, seed=0, device=endpoints.device)


def timed(step: Callable[[], None], steps: int, device: torch.device) -> dict[str, float]:
    """Median seconds of a step, and the peak of memory on a GPU.

    >>> timed(lambda: None, 3, torch.device("cpu"))["seconds"] < 1
    True
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(WARM + steps):
        if on_gpu:
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        step()
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


def unrelated(shape: Language) -> dict[str, float]:
    """Seconds of data-free matching between two models of random weights, on the processor, which does most of it.

    >>> sorted(unrelated(setting.shape))
    ['cosine', 'seconds', 'threads']

    Nothing is planted: assignments take longest where there is nothing to find.
    """
    torch.manual_seed(0)
    pair = shape.build(), shape.build()
    began = time.perf_counter()
    alignment = match(*pair, method="weights")
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "threads": torch.get_num_threads(), "cosine": alignment.record["cosines"][0][-1]}
