"""Matching: from endpoints to an alignment.

`solver` is the closed-form core (block-coordinate descent over the spaces of a spec). `weights` and `activations` only
choose what it compares; `learned` starts from their result and descends the loss on the line itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmc.checkpoints import preprocessing
from lmc.errors import ArgumentError, DivergedError
from lmc.evaluation import Data, as_data, evaluate, require_loss
from lmc.files import digest, refuse_other_run
from lmc.matching import workers
from lmc.matching.activations import match_activations
from lmc.matching.alignment import Alignment
from lmc.matching.descent import Descent, descend
from lmc.matching.learned import Learner
from lmc.matching.pairing import require_pairable
from lmc.matching.recipe import CLOSED_FORM, IMAGES, LARGEST_RATE, LEARNED, METHODS, PRECISIONS, WINDOWS, Recipe
from lmc.matching.weights import match_all, report, same_epsilon
from lmc.symmetries import ModelSpec, Transform, canonicalize, epsilon, rebuild, recompute_activations, state
from lmc.symmetries.families import Tokens, family_of
from lmc.symmetries.families import spec as spec_of

ACTIVATION_SAMPLES = 512  # windows or images: tens of thousands of tokens, against hundreds of units


def match(
    *models: nn.Module | Sequence[nn.Module],
    method: str = "dual",
    data: object = None,
    steps: int = 300,
    lr: float | None = None,
    batch: int | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    resume: str | Path | None = None,
    start: Alignment | None = None,
    lambdas: tuple[float, float] | None = None,
    kinds: Sequence[str] | None = None,
    accumulate: int = 1,
    precision: str = "float32",
    checkpointing: bool = False,
    patience: int | None = None,
    shard: bool = False,
    frequencies: Tensor | None = None,
) -> Alignment:
    """Find the transforms under which the models' weights can be averaged.

    >>> alignment = lmc.match(a, b, method="dual", data=tokens, steps=300)
    >>> alignment = lmc.match([a, b, c], method="dual", data=tokens)

    `method`: `naive` (average the raw weights), `canonical` (norms absorbed, balanced), `weights` (data-free),
    `activations` (closed form on cross-covariances), `single` and `dual` (learned, arXiv 2506.22712 and 2606.23607).
    `data`: token ids [n, T], or (images [n, C, H, W], labels [n]), or an iterable of such batches.
    `frequencies`: how often each token occurs [vocabulary]; `weights` then counts each row of the embedding by it.
    `steps`, `lr`, `batch`, `lambdas`: of learned matching; None takes the measured default. `start`: an alignment of
    the same models to start from, instead of the better of `weights` and `activations`. `kinds`: the kinds of spaces
    that learn (`stream`, `value`, …). `resume`: a folder that keeps the state of a learned run and continues it.

    What needs less memory: `accumulate` cuts a batch into that many parts, `precision="bfloat16"` halves activations
    and speeds up matrix products on a GPU (maps and weights stay in single precision), `checkpointing` computes
    activations again instead of keeping them. `patience`: keep a tenth of the data aside, look every 50 steps at the
    loss of the midpoint on it, stop after that many looks without a better one, and return the best.

    Under `torchrun`, with `torch.distributed` initialised, every process takes its share of each batch and all return
    the same transforms; with `shard` each holds a slice of every weight (FSDP2).

    Raises UnsupportedModelError, IncompatibleModelsError, DataError, ArgumentError, OutOfMemoryError, DivergedError
    (whose `alignment` is the last good one).
    """
    parents: Any = tuple(m for entry in models for m in (entry if isinstance(entry, list | tuple) else [entry]))
    for model in parents:
        if not isinstance(model, nn.Module):
            raise ArgumentError(f"models: expected stock models, found {type(model).__name__} (see lmc.load)")
    if method not in METHODS:
        raise ArgumentError(f"method: expected one of {', '.join(METHODS)}, found {method!r}")
    if len(parents) < 2:
        raise ArgumentError(f"models: expected at least two, found {len(parents)}")
    if method in ("activations", *LEARNED) and data is None:
        raise ArgumentError(f"data: method {method} needs some, found none")
    if steps < 1 or (batch is not None and batch < 1):
        raise ArgumentError(f"steps, batch: expected at least 1, found {steps} and {batch}")
    if accumulate < 1 or (patience is not None and patience < 1):
        raise ArgumentError(f"accumulate, patience: expected at least 1, found {accumulate} and {patience}")
    if shard and not workers.running():
        raise ArgumentError("shard: expected processes of torchrun to share the weights, found one alone")
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
    if lr is not None and not 0 < lr <= LARGEST_RATE:
        raise ArgumentError(f"lr: expected a number in (0, {LARGEST_RATE}], found {lr}")
    if lambdas is not None and not 0 <= lambdas[0] <= lambdas[1] <= 1:
        raise ArgumentError(f"lambdas: expected 0 ≤ low ≤ high ≤ 1, found {lambdas}")
    require_pairable(parents)
    if frequencies is not None:
        _require_counts(frequencies, parents[0], method)
    if method in LEARNED:
        require_loss(parents[0])
    if start is not None and not isinstance(start, Alignment):
        raise ArgumentError(f"start: expected an alignment, found {type(start).__name__}")
    if start is not None and start.parents != parents:  # not the same objects, but perhaps the same weights
        mine, theirs = ([digest(state(m)) for m in models] for models in (parents, start.parents))
        if mine != theirs:
            raise ArgumentError(f"start: expected an alignment of the same {len(mine)} models, found one of others")
    known = {spec_of(parents[0]).kind(s.name) for s in spec_of(parents[0]).spaces if s.group.dimension}
    if kinds is not None and (isinstance(kinds, str) or not set(kinds) <= known):
        raise ArgumentError(f"kinds: expected some of {', '.join(sorted(known))}, found {kinds!r}")
    endpoints = Endpoints.of(parents, device)
    samples = Data(torch.empty(0)) if data is None else as_data(data, parents[0]).to(endpoints.device)
    record: dict[str, Any] = {"seed": seed}

    def closed_form(name: str) -> Alignment:
        transforms, found = endpoints.solve(name, samples, seed, frequencies)
        return Alignment(name, parents, transforms, record | found)

    if method == "naive":
        return Alignment(method, parents, tuple(Transform.identity(endpoints.spec) for _ in parents), record)
    if method == "canonical":
        return Alignment(method, parents, endpoints.gauge, record)
    if method in CLOSED_FORM:
        return closed_form(method)
    if start is None:
        middle = [1 / len(parents)] * len(parents)
        probe = samples.draw(256, seed, step=0)
        start = min(
            (closed_form(name) for name in CLOSED_FORM),
            key=lambda s: float(evaluate(s.merge(middle).to(endpoints.device), probe)[0].mean()),
        )
    batch = batch or (WINDOWS if samples.labels is None else IMAGES)
    if shard and min(batch, len(samples)) % (workers.count() * accumulate):
        # Sharded weights travel in every forward pass: all processes must make equally many.
        what = f"batch {min(batch, len(samples))}, {workers.count()} processes, accumulate {accumulate}"
        raise ArgumentError(f"shard: expected a batch that falls into equal parts, found {what}")
    recipe = Recipe.default(
        method,
        steps=steps,
        lr=lr,
        batch=batch,
        lambdas=lambdas,
        kinds=kinds,
        accumulate=accumulate,
        precision=precision,
        checkpointing=checkpointing,
        patience=patience,
        shard=shard,
    )
    found = endpoints.learn(start.transforms, samples, recipe, method == "dual", seed, resume)
    record |= {"start": start.method, **recipe.to_json()} | ({"stopped": found.stopped} if found.stopped else {})
    alignment = Alignment(method, parents, found.transforms, record, found.log)
    if found.diverged:
        raise DivergedError(str(found.stopped), alignment)
    return alignment


def _require_counts(frequencies: Tensor, model: nn.Module, method: str) -> None:
    """Raise ArgumentError unless there is a count for each token, and a method that looks at them."""
    read = family_of(model).inputs(model)
    if method != "weights" or not isinstance(read, Tokens):
        raise ArgumentError("frequencies: expected the method weights and models that read tokens, found others")
    if frequencies.shape != (read.vocabulary,):
        raise ArgumentError(f"frequencies: expected shape [{read.vocabulary}], found {list(frequencies.shape)}")
    if not (frequencies >= 0).all() or not 0 < float(frequencies.sum()) < math.inf:
        raise ArgumentError("frequencies: expected counts ≥ 0, not all of them 0, found others")


@dataclass(frozen=True)
class Endpoints:
    """The canonical endpoints of one match, on its device, and the transforms that give all the first one's ε."""

    spec: ModelSpec
    models: tuple[nn.Module, ...]
    gauge: tuple[Transform, ...]
    device: torch.device

    @classmethod
    def of(cls, parents: Sequence[nn.Module], device: str | torch.device | None) -> "Endpoints":
        """Canonicalise the parents, with the input normalisation of the first."""
        spec = spec_of(parents[0])
        models = tuple(canonicalize(p) for p in preprocessing.common(parents))
        gauge = same_epsilon(spec, [epsilon(m, spec) if spec.epsilon else 0.0 for m in models])
        return cls(spec, models, gauge, torch.device(device or next(parents[0].parameters()).device))

    def solve(
        self, method: str, samples: Data, seed: int, frequencies: Tensor | None = None
    ) -> tuple[tuple[Transform, ...], dict[str, Any]]:
        """Match every endpoint to the first in closed form; returns the transforms and how the solver fared."""
        if method == "weights":
            states = [{n: t.to(self.device) for n, t in state(m).items()} for m in self.models]
            epsilons = [epsilon(m, self.spec) if self.spec.epsilon else 0.0 for m in self.models]
            return match_all(states, self.spec, epsilons, frequencies)
        samples = samples if len(samples) <= ACTIVATION_SAMPLES else samples.draw(ACTIVATION_SAMPLES, seed, 0)
        first, *others = [t.apply(m).to(self.device) for t, m in zip(self.gauge, self.models, strict=True)]
        solutions = [match_activations(first, other, self.spec, samples) for other in others]
        moved = (s.transform @ g for s, g in zip(solutions, self.gauge[1:], strict=True))
        return (self.gauge[0], *moved), report(solutions)

    def learn(
        self,
        start: Sequence[Transform],
        samples: Data,
        recipe: Recipe,
        dual: bool,
        seed: int,
        resume: str | Path | None,
    ) -> Descent:
        """Learned matching from `start`."""
        states = [{n: t.float() for n, t in state(m).items()} for m in self.models]
        work = rebuild(self.models[0], self.spec, states[0], untie=True).to(self.device).requires_grad_(True)
        if recipe.checkpointing:
            recompute_activations(work)
        roots = [math.sqrt(epsilon(m, self.spec)) if self.spec.epsilon else 0.0 for m in self.models]
        learner = Learner(self.spec, work, states, roots, start, range(not dual, len(states)), recipe, seed)
        if resume is None:
            return descend(learner, samples, None)
        run = {"recipe": recipe.to_json(), "dual": dual, "seed": seed, "endpoints": [digest(s) for s in states]}
        run["data"] = [digest({"": t}) for t in (samples.inputs, samples.labels) if t is not None]
        run["start"] = [digest(t.elements) for t in start]
        folder = Path(resume)
        if workers.first():
            refuse_other_run(folder, run)
        workers.wait()
        return descend(learner, samples, folder / "state.safetensors")
