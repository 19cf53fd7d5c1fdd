"""Does the declared group really leave this model's function alone? Measured, one kind of space at a time.

>>> report = lmc.check(model, seed=0)
>>> report.ok
True
>>> print(report)                                              # one row per kind of space, with its degrees of freedom

Each row applies a random element of one kind of space to the canonical form and compares the logits with those of the
model as it came: in float64 throughout (`lmc.float64`), where only a wrong symmetry is visible, and in the model's own
type, where rounding is.
"""

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lmc.canonical import canonicalize
from lmc.family import family_of
from lmc.family import spec as spec_of
from lmc.family.parts import Tokens
from lmc.modelspec import ModelSpec
from lmc.objective import logits
from lmc.precision import float64
from lmc.transform import Transform, kinds

# The largest relative change of the logits that rounding explains. This is the one place that says so. For the half
# types: three times the worst seen on the shipped trained pairs and on random models of up to twelve layers.
EXACT = 1e-9  # in float64 throughout; 1e-13 is usual
TOLERANCE = {
    torch.float64: 5e-6,  # outside lmc.float64(): stock norms and softmaxes pass through float32
    torch.float32: 1e-4,
    torch.bfloat16: 1e-1,
    torch.float16: 1e-2,
}


@dataclass(frozen=True)
class Row:
    """What one kind of space did to the logits: relative changes, in float64 and in the model's own type."""

    space: str
    group: str
    dimension: int
    exact: float
    native: float
    ok: bool


@dataclass(frozen=True)
class Report:
    """The rows of a check. `str(report)` is a table."""

    model: str
    family: str
    dtype: torch.dtype
    rows: tuple[Row, ...]

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
        head = ("space", "group", "dimension", "float64", own, "verdict")
        body = [
            (r.space, r.group, f"{r.dimension:,}", f"{r.exact:.1e}", f"{r.native:.1e}", "exact" if r.ok else "WRONG")
            for r in self.rows
        ]
        widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in (head, *body)]
        limits = f"limits: {EXACT:.0e} in float64, {TOLERANCE[self.dtype]:.0e} in {own}"
        title = f"{self.model} ({self.family}): largest relative change of the logits"
        return "\n".join(line.rstrip() for line in (title, *lines, limits))


def check(model: nn.Module, seed: int = 0) -> Report:
    """Apply random elements of each kind of space, and of the whole group, and compare the logits.

    The first row is the canonical form alone, the last the whole group. Raises UnsupportedModelError.
    """
    spec = spec_of(model)
    dtype = next(model.parameters()).dtype
    inputs = example_inputs(model, seed=seed)
    whole = Transform.random(spec, seed)
    trials = {"canonical form": None, **{kind: _only(whole, kind) for kind in kinds(spec)}, "whole group": whole}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a head is untied matters to no one here
        native = _changes(model, inputs, trials)
        # The caller's model stays as it is; its double lives only until the canonical form is made.
        with float64():
            exact = _changes(copy.deepcopy(model).double(), inputs, trials)
    rows = []
    for name in trials:
        group, dimension = _describe(spec, name)
        ok = exact[name] <= EXACT and native[name] <= TOLERANCE[dtype]
        rows.append(Row(name, group, dimension, exact[name], native[name], ok))
    return Report(type(model).__name__, spec.family, dtype, tuple(rows))


def example_inputs(model: Any, n: int = 2, seed: int = 0) -> Tensor:
    """Random inputs of the model's own shape: token ids `[n, T]`, T at most 64, or images `[n, C, H, W]`."""
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    read = family_of(model).inputs(model)
    if isinstance(read, Tokens):
        return torch.randint(read.vocabulary, (n, min(64, read.context)), generator=generator).to(device)
    return torch.randn((n, *read.shape), generator=generator).to(device)


def _only(whole: Transform, kind: str) -> Transform:
    """The element restricted to the spaces of one kind."""
    spec, identity = whole.spec, Transform.identity(whole.spec).elements
    return Transform(spec, {s: (whole.elements if spec.kind(s) == kind else identity)[s] for s in whole.elements})


def _changes(model: nn.Module, inputs: Tensor, trials: dict[str, Transform | None]) -> dict[str, float]:
    """The relative change of the logits for every trial. One transformed model is alive at a time."""
    before = _logits(model, inputs)
    canonical = canonicalize(model)
    del model
    errors = {}
    for name, transform in trials.items():
        after = _logits(transform.apply(canonical) if transform else canonical, inputs)
        errors[name] = ((after - before).abs().max() / before.abs().max()).item()
    return errors


@torch.no_grad()
def _logits(model: nn.Module, inputs: Tensor) -> Tensor:
    training = [module for module in model.modules() if module.training]  # each to be put back as it was
    try:
        return logits(model.eval(), inputs).double()
    finally:
        for module in training:
            module.training = True


def _describe(spec: ModelSpec, kind: str) -> tuple[str, int]:
    """The group of a kind of space, with how often it occurs, and its continuous degrees of freedom in all."""
    spaces = [s for s in spec.spaces if kind in (spec.kind(s.name), "whole group")]
    dimension = sum(spec.group_dimension(s) for s in spaces)
    if spec.kind(spaces[0].name if spaces else "") != kind:
        return "", dimension
    group = spaces[0].group
    count = sum(max(1, torch.Size(spec.batch(s)).numel()) for s in spaces)
    return f"{count} × {type(group).__name__}({group.n})", dimension
