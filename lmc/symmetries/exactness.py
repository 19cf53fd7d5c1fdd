"""Does the declared group really leave this model's function alone? Measured, one kind of space at a time.

>>> report = lmc.check(model, seed=0)
>>> report.ok
True
>>> print(report)                               # a row for each kind of space, with its degrees of freedom

Each row applies a random element of one kind of space and compares the logits with those before it: in float64
throughout (`lmc.float64`), where only a wrong symmetry is visible, and in the model's own type, where rounding is.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lmc.files import meter
from lmc.symmetries.canonical import make_canonical
from lmc.symmetries.degrees_of_freedom import dimensions
from lmc.symmetries.families import Tokens, family_of
from lmc.symmetries.families import spec as spec_of
from lmc.symmetries.pattern import SCALE
from lmc.symmetries.precision import float64
from lmc.symmetries.spec import ModelSpec
from lmc.symmetries.stock_model import epsilon, hold, hollow, in_evaluation, logits, set_epsilon, state
from lmc.symmetries.stock_twin import require_stock
from lmc.symmetries.transform import Transform, kinds, moved_by

CANONICAL, WHOLE = "canonical form", "whole group"

# The largest relative change of the logits that rounding explains: the tolerances of the whole package stand here. For
# bfloat16 and float16: three times the worst seen on the shipped pairs and on random models of up to twelve layers.
EXACT = 1e-9  # in float64 throughout; 1e-13 is usual
TOLERANCE = {
    torch.float64: 5e-6,  # outside lmc.float64(): stock norms and softmaxes pass through float32
    torch.float32: 1e-4,
    torch.bfloat16: 1e-1,
    torch.float16: 1e-2,
}


def tolerance(dtype: torch.dtype) -> float:
    """The largest relative change of the logits that rounding explains, in a model's own type.

    >>> tolerance(torch.float32)
    0.0001
    """
    return TOLERANCE[dtype]


# What a verdict other than "exact" means, and what to do; and what to think of a model whose output is always the same.
_MEANING = {
    "ROUNDING": "the symmetries are exact; the weights' own type is too coarse for such values (outliers); "
    "match as usual, that is in float32, and keep the merged model in float32",
    "WRONG": "the change is too large even in float64: the model computes something else than its class says; "
    "do not match it, and report it with its config.json",
    "NOT FINITE": "the model's own output holds NaN or infinity; look at its weights",
}
_CONSTANT = "the output is the same for every input, as that of a head that was never trained: this says little"


@dataclass(frozen=True)
class Row:
    """What one kind of space did to the logits: relative changes, in float64 and in the model's own type."""

    space: str
    group: str
    dimension: int
    share: float  # of the parameters
    exact: float
    native: float
    ok: bool

    @property
    def verdict(self) -> str:
        """What to think of it, in a word or two."""
        if self.ok:
            return "exact"
        if not math.isfinite(self.exact + self.native):
            return "NOT FINITE"
        return "WRONG" if self.exact > EXACT else "ROUNDING"  # too large a change in the model's own type alone


@dataclass(frozen=True)
class Report:
    """The rows of a check. `str(report)` is a table."""

    model: str
    family: str
    dtype: torch.dtype
    rows: tuple[Row, ...]
    constant: bool = False  # whether the output does not depend on the input

    @property
    def ok(self) -> bool:
        """Whether every change is one that rounding explains."""
        return all(row.ok for row in self.rows)

    @property
    def max_error(self) -> float:
        """The largest relative change of the logits in float64."""
        return max(row.exact for row in self.rows)

    def __str__(self) -> str:
        own = "stock " + str(self.dtype).removeprefix("torch.")
        head = ("space", "group", "dimension", "of all", "float64", own, "verdict")
        body = [
            (r.space, r.group, f"{r.dimension:,}", f"{r.share:.2%}", f"{r.exact:.1e}", f"{r.native:.1e}", r.verdict)
            for r in self.rows
        ]
        widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in (head, *body)]
        limits = f"limits: {EXACT:.0e} in float64, {TOLERANCE[self.dtype]:.0e} in {own}"
        title = f"{self.model} ({self.family}): largest relative change of the logits"
        verdicts = {row.verdict for row in self.rows}
        notes = [f"{verdict}: {meaning}" for verdict, meaning in _MEANING.items() if verdict in verdicts]
        notes += [_CONSTANT] if self.constant else []
        return "\n".join(line.rstrip() for line in (title, *lines, limits, *notes))


def check(model: nn.Module, seed: int = 0) -> Report:
    """Apply random elements of each kind of space, and of the whole group, and compare the logits.

    The first row is the canonical form alone, the last the whole group. Besides the model, memory holds one copy of it
    in float64. Raises UnsupportedModelError.
    """
    require_stock(model)
    return check_copies(lambda: copy.deepcopy(model), seed)


def check_copies(fresh: Callable[[], nn.Module], seed: int = 0) -> Report:
    """`check`, for a model that `fresh` makes anew at every call: only one copy of it is in memory at a time.

    >>> check_copies(lambda: lmc.load("run-1"), seed=0).ok
    True
    """
    model = fresh()
    spec = spec_of(model)
    dtype = next(model.parameters()).dtype
    inputs = example_inputs(model, seed=seed)
    whole = Transform.random(spec, seed)
    parameters = sum(p.numel() for p in model.parameters())
    stock = evaluated(model, inputs)

    shell, tensors = hollow(model), _taken(model)
    del model
    with float64():
        exact = _exact_changes(shell, tensors, inputs, whole)
    tensors.clear()
    tensors |= _taken(fresh())
    native = _native_changes(shell, tensors, inputs, whole, stock)
    rows = []
    for name in exact:
        group, dimension = _describe(spec, name)
        ok = exact[name] <= EXACT and native[name] <= TOLERANCE[dtype]
        rows.append(Row(name, group, dimension, dimension / parameters, exact[name], native[name], ok))
    outputs = stock.flatten(0, -2)  # (n or n T, classes)
    return Report(type(shell).__name__, spec.family, dtype, tuple(rows), bool((outputs == outputs[0]).all()))


def example_inputs(model: Any, seed: int = 0) -> Tensor:
    """Random inputs of the model's own shape: token ids `[2, T]`, T at most 64, or images `[2, C, H, W]`."""
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    read = family_of(model).inputs(model)
    if isinstance(read, Tokens):
        return torch.randint(read.vocabulary, (2, min(64, read.context)), generator=generator).to(device)
    return torch.randn((2, *read.shape), generator=generator).to(device)


def _taken(model: nn.Module) -> dict[str, Tensor]:
    """Copies of a model's tensors, each in memory of its own, so that each can be freed alone.

    Tensors read from one file share that file's memory, which is freed only with the last of them.
    """
    return {name: tensor.clone() for name, tensor in state(model).items()}


def _to_double(tensors: dict[str, Tensor]) -> None:
    """Turn every tensor into float64, in place of what it was, which is freed before the next one is turned."""
    for name in tensors:
        tensors[name] = tensors[name].to(torch.float64, copy=True)


@torch.no_grad()
def _exact_changes(shell: nn.Module, tensors: dict[str, Tensor], inputs: Tensor, whole: Transform) -> dict[str, float]:
    """The relative change of the logits in float64: one model whose tensors are moved where they lie.

    Every kind is applied on top of those before it, and compared with what they left; all of them are the whole group.
    """
    spec, moving = whole.spec, list(kinds(whole.spec))
    with meter(2 + len(moving), "in float64") as advance:
        _to_double(tensors)
        first = evaluated(hold(shell, spec, tensors), inputs)
        advance(1)
        make_canonical(tensors, spec)
        work = hold(shell, spec, tensors, untie=True)  # tied, a tensor would be moved twice
        before = evaluated(work, inputs)
        errors = {CANONICAL: relative_change(first, before)}
        advance(1)
        for kind in moving:
            _move(tensors, whole, kind)
            _rescale(work, whole, kind)
            after = evaluated(work, inputs)
            errors[kind], before = relative_change(before, after), after
            advance(1)
    return errors | {WHOLE: relative_change(first, before)}


@torch.no_grad()
def _native_changes(
    shell: nn.Module, tensors: dict[str, Tensor], inputs: Tensor, whole: Transform, first: Tensor
) -> dict[str, float]:
    """The changes in the model's own type: every element is applied to the canonical form, rounded once."""
    spec, moving = whole.spec, [*kinds(whole.spec), WHOLE]
    types = {name: t.dtype for name, t in tensors.items()}
    with meter(1 + len(moving), "as stored") as advance:
        _to_double(tensors)
        make_canonical(tensors, spec)
        for name, dtype in types.items():  # one by one, so that both types are never held whole
            tensors[name] = tensors[name].to(dtype)
        canonical = hold(shell, spec, tensors)
        errors = {CANONICAL: relative_change(first, evaluated(canonical, inputs))}
        advance(1)
        for kind in moving:
            work = hold(canonical, spec, tensors | dict(_moved(tensors, whole, kind)))
            _rescale(work, whole, kind)
            errors[kind] = relative_change(first, evaluated(work, inputs))
            del work
            advance(1)
    return errors


def _moved(tensors: Mapping[str, Tensor], whole: Transform, kind: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors that one kind of space moves, moved, one by one, each in its own type."""
    spec = whole.spec
    spaces = [s.name for s in spec.spaces if kind in (spec.kind(s.name), WHOLE)]
    elements, duals = ({s: held[s] for s in spaces} for held in (whole.elements, whole.duals))
    for name in dict.fromkeys(name for s in spaces for name, _ in spec.uses(s)):
        moved = torch.empty_like(tensors[name])
        for rows in spec.parts(name, len(moved)):
            moved[rows] = moved_by(spec, name, tensors[name][rows].double(), elements, duals)
        yield name, moved


def _move(tensors: Mapping[str, Tensor], whole: Transform, kind: str) -> None:
    """Move the tensors of one kind of space in place."""
    for name, moved in _moved(tensors, whole, kind):
        tensors[name].copy_(moved)


def _rescale(work: nn.Module, whole: Transform, kind: str) -> None:
    """The residual scale moves ε as well."""
    if kind in (SCALE, WHOLE) and whole.scale != 1:
        set_epsilon(work, whole.spec, epsilon(work, whole.spec) * whole.scale**2)


def relative_change(before: Tensor, after: Tensor) -> float:
    """The largest change of a logit, as a share of the largest logit.

    >>> relative_change(torch.tensor([1.0, -2.0]), torch.tensor([1.0, -2.5]))
    0.25

    Logits that are all zero, as those of a head that was never trained, have not changed while they stay so.
    """
    change, largest = float((after - before).abs().max()), float(before.abs().max())
    if largest == 0:
        return 0.0 if change == 0 else math.inf
    return change / largest


@torch.no_grad()
def evaluated(model: nn.Module, inputs: Tensor) -> Tensor:
    """The model's logits in evaluation mode, in float64; its training mode stays what it was."""
    with in_evaluation(model):
        return logits(model, inputs).double()


def _describe(spec: ModelSpec, kind: str) -> tuple[str, int]:
    """The group of a kind of space, with how often it occurs, and its continuous degrees of freedom in all.

    Of the canonical form: the gauges that it fixes.
    """
    if kind == CANONICAL:
        return "gauges", sum(dimensions(spec).gauges.values())
    spaces = [s for s in spec.spaces if kind in (spec.kind(s.name), WHOLE)]
    dimension = sum(spec.group_dimension(s) for s in spaces)
    if kind == WHOLE:
        return "", dimension
    group = spaces[0].group
    count = sum(max(1, torch.Size(spec.batch(s)).numel()) for s in spaces)
    return f"{count} × {type(group).__name__}({group.n})", dimension
