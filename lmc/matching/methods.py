"""`lmc.match`: from models to an alignment, by any of the six methods.

>>> lmc.match(a, b, method="weights").method
'weights'
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from lmc import checkpoints, corpora
from lmc.checkpoints import preprocessing
from lmc.errors import ArgumentError, DivergedError
from lmc.evaluation import Data, as_data, lowest_midpoint, require_loss
from lmc.files import read_state, refuse_other_run, require_finite, tensor_digest, write_state
from lmc.matching import workers
from lmc.matching.activations import match_activations
from lmc.matching.alignment import Alignment
from lmc.matching.descent import Descent, descend
from lmc.matching.folder import READ
from lmc.matching.learned import Learner, turned
from lmc.matching.pairing import (
    require_pairable,
    require_same_tokens,
    to_cut,
    to_enlarge,
    warn_of_epsilon,
    warn_of_unknown,
)
from lmc.matching.recipe import BETTER, CLOSED_FORM, HIGHEST, START, STARTS, Choices, Recipe, refuse_start
from lmc.matching.weights import match_all, report, same_epsilon
from lmc.symmetries import (
    ModelSpec,
    Transform,
    canonicalize,
    enlarge,
    epsilon,
    extreme_numbers,
    require_stock,
    shorten,
    state,
    warn_of_hooks,
)
from lmc.symmetries.families import Tokens, family_of, narrowest
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
    start: Alignment | str | None = None,
    frequencies: Tensor | None = None,
    **choices: Unpack[Choices],
) -> Alignment:
    """Find the transforms under which the models' weights can be averaged.

    >>> alignment = lmc.match(a, b, method="dual", data=tokens, steps=10)
    >>> alignment = lmc.match([a, b, c], method="dual", data=tokens, steps=10)

    Models smaller than the largest are first written in its shapes (`lmc.enlarge`), and a warning says so.
    `method`: `naive` (average the raw weights), `canonical` (norms absorbed, balanced), `weights` (data-free),
    `activations` (closed form on cross-covariances), `single` and `dual` (learned, arXiv 2506.22712 and 2606.23607).
    `data`: token ids [n, T], or (images [n, C, H, W], labels [n]), or an iterable of such batches.
    `frequencies`: how often each token occurs [vocabulary]; `weights` then counts each row of the embedding by it.
    `start`: where learning begins, instead of at `weights`: `canonical`, `activations`, `better` (of `weights` and
    `activations`, by the loss half way), or an alignment of the same models. `resume`: a folder that keeps the state
    of a learned run and continues it.

    `steps`, `lr`, `batch` and the rarer `choices` are those of `Recipe`: `lambdas`, `kinds` (`stream`, `value`, …),
    what needs less memory (`accumulate`, `precision="bfloat16"`, `checkpointing`), `patience` (keep a tenth of the data
    aside, look every 50 steps at the midpoint's loss on it, stop after that many looks without a better one, and return
    the best) and `shard`. None takes the measured default. Under `torchrun`, with `torch.distributed` initialised,
    every process takes its share of each batch and all return the same; with `shard` each holds a slice of the weights.

    Raises UnsupportedModelError, IncompatibleModelsError, DataError, ArgumentError, OutOfMemoryError, DivergedError
    (whose `alignment` is the last good one).
    """
    recipe, parents = Recipe.of(method, steps=steps, lr=lr, batch=batch, **choices), _parents(models)
    warn_of_unknown(parents)
    require_same_tokens(parents)
    return align(parents, recipe, data, device, seed, resume, start, frequencies)


@torch.inference_mode(False)  # learning needs gradients, and maps double precision, wherever this is called
@torch.enable_grad()
@torch.autocast("cpu", enabled=False)
@torch.autocast("cuda", enabled=False)
def align(
    parents: tuple[nn.Module, ...],
    recipe: Recipe,
    data: object = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    resume: str | Path | None = None,
    start: Alignment | str | None = None,
    frequencies: Tensor | None = None,
) -> Alignment:
    """`lmc.match`, for choices that were made and checked already.

    >>> align((a, b), Recipe.of("weights")).method
    'weights'
    """
    if recipe.reads_data and data is None:
        raise ArgumentError(f"data: the method {recipe.method} needs some, found none")
    if not isinstance(seed, Integral) or not 0 <= seed < 2**32:
        raise ArgumentError(f"seed: expected a whole number in [0, 2³²), found {seed!r}")
    seed = int(seed)
    device = usable_device(device)
    for parent in parents:
        require_stock(parent)
        warn_of_hooks(parent)
    rows, longer = to_cut(parents)
    parents = tuple(shorten(m, rows) if k in longer else m for k, m in enumerate(parents))
    largest, smaller = to_enlarge(parents)
    parents = tuple(enlarge(m, parents[largest]) if k in smaller else m for k, m in enumerate(parents))
    require_pairable(parents)
    if recipe.method != "naive":
        warn_of_epsilon(parents)
    require_fit(recipe, parents[0], len(parents), frequencies)
    if start is not None and start not in STARTS:
        _require_same(start, parents)
    if recipe.method == "naive":  # an average of the weights as they are: nothing is computed here
        for k, parent in enumerate(parents):
            for name, tensor in state(parent).items():
                require_finite(f"model {k + 1}: tensor {name}", tensor)
        still = Transform.identity(spec_of(parents[0]))
        return Alignment("naive", parents, tuple(still for _ in parents), {"seed": seed})
    endpoints = Endpoints.of(parents, device)
    if _identical(parents) and endpoints.one_function:  # nothing to find, and learning would only lead away from it
        return Alignment(recipe.method, parents, endpoints.gauge, {"seed": seed, "identical": True})
    samples = Data(torch.empty(0)) if data is None else as_data(data, narrowest(parents)).to(endpoints.device)
    recipe = recipe.fitted(turned(endpoints.spec), images=samples.labels is not None)
    read = {READ: _sketch(samples, start)} if recipe.reads_data else {}
    if recipe.learned:
        found = _learned(endpoints, start or START, samples, recipe, seed, resume, read)
    else:
        found = _closed_form(endpoints, recipe.method, samples, seed, frequencies)
    checkpoints.require_unwritten(parents)
    return replace(found, record=found.record | read)


def _sketch(samples: Data, start: Alignment | str | None) -> str:
    """What is kept of the samples that matching reads, and of those that were read for the alignment it begins from."""
    seen = samples.to("cpu")
    before = [start.record[READ]] if isinstance(start, Alignment) and READ in start.record else []
    return corpora.sketch(seen.inputs if seen.labels is None else (seen.inputs, seen.labels), *before)


def usable_device(name: str | torch.device | None) -> torch.device | None:
    """The device of a name, if this machine has it; None for None. Raises ArgumentError.

    >>> usable_device("cpu")
    device(type='cpu')
    """
    if name is None:
        return None
    try:
        torch.zeros(1, device=name).item()
        return torch.device(name)
    # No such name, not in this machine, a library of its own that is missing, or `meta`, which holds nothing.
    except (RuntimeError, AssertionError, ImportError) as error:
        why = str(error).splitlines()[0].partition(". ")[0]  # torch goes on for a kilobyte
        raise ArgumentError(f"device: {str(name)!r} cannot be used here ({why})") from None


def _closed_form(
    endpoints: "Endpoints", method: str, samples: Data, seed: int, frequencies: Tensor | None = None
) -> Alignment:
    """What needs no learning; `canonical` compares nothing at all."""
    record: dict[str, Any] = {"seed": seed}
    if method == "canonical":
        transforms = endpoints.gauge
    else:
        transforms, found = endpoints.solve(method, samples, seed, frequencies)
        record |= found
    return Alignment(method, endpoints.parents, transforms, record)


def _better(endpoints: "Endpoints", samples: Data, seed: int) -> Alignment:
    """The better of the closed forms, judged on a few samples."""
    return lowest_midpoint(
        (_closed_form(endpoints, name, samples, seed) for name in CLOSED_FORM), samples.draw(256, seed, step=0)
    )


def _learned(
    endpoints: "Endpoints",
    start: Alignment | str,
    samples: Data,
    recipe: Recipe,
    seed: int,
    resume: str | Path | None,
    read: Mapping[str, str],
) -> Alignment:
    """Learned matching from an alignment or a start by its name. Raises DivergedError, with the best one so far.

    `read`: what the record says of the samples.
    """
    batch = min(recipe.per_step, len(samples))
    if recipe.shard and batch % (workers.count() * recipe.accumulate):
        # Sharded weights travel in every forward pass: all processes must make equally many.
        what = f"batch {batch}, {workers.count()} processes, accumulate {recipe.accumulate}"
        raise ArgumentError(f"shard: expected a batch that falls into equal parts, found {what}")
    state = endpoints.claim(start, samples, recipe, seed, resume)
    begun = start if isinstance(start, Alignment) else _found_once(endpoints, start, samples, seed, state)
    learner = endpoints.learner(begun.transforms, recipe, seed)
    endpoints.models.clear()  # it has its own, and these are as large as the parents
    found = descend(learner, samples, state)
    record = {"seed": seed, "start": begun.method, **recipe.to_json(), **read}
    record |= {"stopped": found.stopped} if found.stopped else {}
    alignment = Alignment(recipe.method, endpoints.parents, found.transforms, record, found.log)
    if found.diverged:
        raise DivergedError(str(found.stopped), alignment)
    return alignment


def _found_once(endpoints: "Endpoints", start: str, samples: Data, seed: int, state: Path | None) -> Alignment:
    """A start by its name; kept with a run's state, since its last bits depend on the number of threads."""
    spec, files = endpoints.spec, {}
    if state is not None:
        files = {name: state.with_name(f"start-{name}.safetensors") for name in STARTS}
    for name, file in files.items():
        if file.is_file():
            kept = read_state(file)
            each = [{s.name: kept[f"{k}/{s.name}"] for s in spec.spaces} for k in range(len(endpoints.models))]
            return Alignment(name, endpoints.parents, tuple(Transform(spec, e) for e in each), {"seed": seed})
    better = start == BETTER
    found = _better(endpoints, samples, seed) if better else _closed_form(endpoints, start, samples, seed)
    if files and workers.first():
        parts = [(f"{k}/{name}", e) for k, t in enumerate(found.transforms) for name, e in t.elements.items()]
        write_state(files[found.method], {name: e.clone() for name, e in parts})
    return found


def _identical(parents: Sequence[nn.Module]) -> bool:
    """Whether all models hold the same weights; looks at no more tensors than until the first difference."""
    first, *others = (state(parent) for parent in parents)
    return all(torch.equal(first[name], other[name].to(first[name].device)) for other in others for name in first)


def _parents(models: Sequence[Any]) -> tuple[nn.Module, ...]:
    """The models, given one by one or as a list."""
    parents = tuple(m for entry in models for m in (entry if isinstance(entry, list | tuple) else [entry]))
    for model in parents:
        if not isinstance(model, nn.Module):
            raise ArgumentError(f"models: expected stock models, found {type(model).__name__} (see lmc.load)")
    if len(parents) < 2:
        raise ArgumentError(f"models: expected at least two, found {len(parents)}")
    return parents


def require_fit(recipe: Recipe, model: nn.Module, count: int, frequencies: Tensor | None = None) -> None:
    """Raise where a recipe asks for what so many models like this, or the processes that run, do not have.

    The model may lie on the meta device: this is asked before weights are read, too.
    """
    if recipe.lambdas == HIGHEST and count != 2:
        raise ArgumentError(f"lambdas: {HIGHEST!r} looks along the line of two models, found {count}; give a range")
    if recipe.shard and not workers.running():
        raise ArgumentError("shard: expected processes of torchrun to share the weights, found one alone")
    if recipe.learned:
        require_loss(model)
    spec = spec_of(model)
    known = {spec.kind(space.name) for space in spec.spaces if space.group.dimension}
    if recipe.kinds is not None and not set(recipe.kinds) <= known:
        raise ArgumentError(f"kinds: expected some of {', '.join(sorted(known))}, found {list(recipe.kinds)}")
    if frequencies is None:
        return
    read = family_of(model).inputs(model)
    if recipe.method != "weights" or not isinstance(read, Tokens):
        raise ArgumentError("frequencies: expected the method weights and models that read tokens, found others")
    if not isinstance(frequencies, Tensor):
        raise ArgumentError(f"frequencies: expected a tensor, found {type(frequencies).__name__}")
    if frequencies.shape != (read.vocabulary,):
        raise ArgumentError(f"frequencies: expected shape [{read.vocabulary}], found {list(frequencies.shape)}")
    if not (frequencies >= 0).all() or not 0 < float(frequencies.sum()) < math.inf:
        raise ArgumentError("frequencies: expected counts ≥ 0, not all of them 0, found others")


def _require_same(start: Alignment | str, parents: Sequence[nn.Module]) -> None:
    """Raise ArgumentError unless a start is an alignment of these models: the same objects, or the same weights."""
    if not isinstance(start, Alignment):
        raise ArgumentError(f"start: expected an alignment or one of {', '.join(STARTS)}, found {start!r}")
    refuse_start(start.method)
    alike = len(start.parents) == len(parents) and all(map(_same_numbers, parents, start.parents))
    if not alike:
        raise ArgumentError(f"start: expected an alignment of the same {len(parents)} models, found one of others")


def _same_numbers(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models hold the same numbers, of whatever type."""
    if one is other:
        return True
    mine, theirs = state(one), state(other)

    def equal(name: str) -> bool:  # they may lie on two devices
        return torch.equal(mine[name].cpu().double(), theirs[name].cpu().double())

    return mine.keys() == theirs.keys() and all(map(equal, mine))


@dataclass(frozen=True)
class Endpoints:
    """The canonical endpoints of one match, on its device, and the transforms that give all the first one's ε."""

    spec: ModelSpec
    parents: tuple[nn.Module, ...]
    models: list[nn.Module]
    gauge: tuple[Transform, ...]
    device: torch.device

    @classmethod
    def of(cls, parents: Sequence[nn.Module], device: str | torch.device | None) -> "Endpoints":
        """Canonicalise the parents, with the input normalisation of the first."""
        spec = spec_of(parents[0])
        models = [canonicalize(p) for p in preprocessing.common(parents)]
        gauge = same_epsilon(spec, [epsilon(m, spec) if spec.epsilon else 0.0 for m in models])
        return cls(spec, tuple(parents), models, gauge, torch.device(device or next(parents[0].parameters()).device))

    @property
    def one_function(self) -> bool:
        """Whether parents of the same weights compute the same: with one ε, and pictures normalised alike."""
        epsilons = {epsilon(parent, self.spec) for parent in self.parents} if self.spec.epsilon else set()
        return len(epsilons) <= 1 and _identical(self.models)

    def solve(
        self, method: str, samples: Data, seed: int, frequencies: Tensor | None = None
    ) -> tuple[tuple[Transform, ...], dict[str, Any]]:
        """Match every endpoint to the first in closed form; returns the transforms and how the solver fared."""
        if method == "weights":
            states = [{n: t.to(self.device) for n, t in state(m).items()} for m in self.models]
            epsilons = [epsilon(m, self.spec) if self.spec.epsilon else 0.0 for m in self.models]
            return match_all(states, self.spec, epsilons, frequencies)
        many = len(samples) > ACTIVATION_SAMPLES
        samples = samples.draw(ACTIVATION_SAMPLES, seed, 0) if many else samples
        first, *others = [t.apply(m).to(self.device) for t, m in zip(self.gauge, self.models, strict=True)]
        with extreme_numbers(*(state(model) for model in (first, *others))):
            solutions = [match_activations(first, other, self.spec, samples) for other in others]
            fared = report(solutions) | ({"samples": ACTIVATION_SAMPLES} if many else {})
        moved = (s.transform @ g for s, g in zip(solutions, self.gauge[1:], strict=True))
        return (self.gauge[0], *moved), fared

    def claim(
        self, start: Alignment | str, samples: Data, recipe: Recipe, seed: int, resume: str | Path | None
    ) -> Path | None:
        """Where in a folder a run keeps its state; None without a folder. Raises CheckpointError if it is another's."""
        if resume is None:
            return None
        run = {"recipe": recipe.to_json(), "dual": recipe.method == "dual", "seed": seed}
        run["types"] = [str(next(p.parameters()).dtype) for p in self.parents]
        run["endpoints"] = [tensor_digest({name: t.float() for name, t in state(p).items()}) for p in self.parents]
        functions = (family_of(p).settings(p) | {"pictures": preprocessing.of(p)} for p in self.parents)
        run["functions"] = [{name: str(value) for name, value in found.items()} for found in functions]
        run["data"] = [tensor_digest({"": t}) for t in (samples.inputs, samples.labels) if t is not None]
        run["start"] = start if isinstance(start, str) else [tensor_digest(t.elements) for t in start.transforms]
        if workers.first():
            refuse_other_run(Path(resume), run)
        workers.wait()
        return Path(resume) / "state.safetensors"

    def learn(
        self,
        start: Sequence[Transform],
        samples: Data,
        recipe: Recipe,
        seed: int,
        state: Path | None,
        learner_of: Callable[..., Learner] = Learner.of,
    ) -> Descent:
        """Learned matching from `start`. `state`: what `claim` returned."""
        return descend(self.learner(start, recipe, seed, learner_of), samples, state)

    def learner(
        self,
        start: Sequence[Transform],
        recipe: Recipe,
        seed: int,
        learner_of: Callable[..., Learner] = Learner.of,
    ) -> Learner:
        """What learns from `start`, on copies of the endpoints; `single` leaves the first one where it is.

        `learner_of` makes it from what `Learner.of` takes; an experiment may bring one that learns otherwise.
        """
        moving = range(recipe.method != "dual", len(self.models))
        return learner_of(self.models, start, moving, recipe, seed, self.device)
