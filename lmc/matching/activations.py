"""Activation matching: the same solver, on cross-covariances of what the two models compute on the same inputs.

A linear layer's input and output live on the axes its weight's pattern names, so the taps follow from the spec. Of two
models' activations X_A, X_B [samples, units] the solver needs only C = X_Aᵀ X_B: comparing the identity matrix with C
gives the same similarities as comparing the activations, in memory that does not grow with the number of samples.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from lmc.evaluation import Data, at_once
from lmc.matching.problem import Piece
from lmc.matching.solver import Solution, parts_of, solve
from lmc.symmetries import SCALE, Block, ModelSpec, logits, parse, split_axes, state

SAMPLE = "sample"


def match_activations(a: nn.Module, b: nn.Module, spec: ModelSpec, data: Data) -> Solution:
    """The transform g of B under which its activations on `data` correlate most with A's.

    `a`, `b`: canonical models. Each tap counts by its correlation, so that no layer dominates by its scale.
    """
    return solve(spec, parts_of(spec, activation_pieces(a, b, spec, data)))


@torch.no_grad()
def activation_pieces(a: nn.Module, b: nn.Module, spec: ModelSpec, data: Data) -> list[Piece]:
    """One piece per block of every tap: the identity for A, the normalised cross-covariance for B."""
    statistics: dict[str, CrossCovariance] = {}
    device = next(a.parameters()).device
    with ExitStack() as hooks:
        seen_a, seen_b = _record(a, spec, hooks), _record(b, spec, hooks)
        batch = at_once(a, data)
        for i in range(0, len(data), batch):
            inputs = data[slice(i, i + batch)].inputs.to(device)
            logits(a, inputs)
            logits(b, inputs)
            for tap, x in seen_a.items():
                statistics.setdefault(tap, CrossCovariance(x.shape[-1])).add(x, seen_b[tap])
    pieces = []
    for tap, pattern in taps(a, spec).items():
        covariance = statistics[tap].normalised()
        eye = torch.eye(len(covariance), dtype=torch.float64)
        for block in _blocks(pattern, spec, len(covariance)):
            pieces.append(Piece(block, block.of(eye), block.of(covariance)))
    return pieces + _unheard(a, b, spec, pieces)


def _unheard(a: nn.Module, b: nn.Module, spec: ModelSpec, pieces: list[Piece]) -> list[Piece]:
    """Pieces made of weights, for spaces that no tap shows, such as the gain of a norm inside attention."""
    heard = {name for piece in pieces for name in piece.block.names}
    mine, theirs = state(a), state(b)
    found = []
    for name in spec.rules:
        for block in spec.blocks(name):
            if (spec.space_names & set(block.names)) - heard - {SCALE}:
                x, y = (block.of(s[name]).double().cpu() for s in (mine, theirs))
                found.append(Piece(block, _of_unit_norm(x), _of_unit_norm(y)))
    return found


def _of_unit_norm(x: Tensor) -> Tensor:
    """Zeros stay zeros: so are the weights of a layer that was added to a smaller model."""
    return x / x.norm().clamp_min(torch.finfo(x.dtype).tiny)


def taps(model: nn.Module, spec: ModelSpec) -> dict[str, str]:
    """The taps: `module:in` and `module:out` of every linear layer, each with the pattern of its axis."""
    found = {}
    for name, pattern in spec.rules.items():
        module_name, _, kind = name.rpartition(".")
        axes = split_axes(pattern)
        if kind == "weight" and len(axes) == 2 and not isinstance(model.get_submodule(module_name), nn.Embedding):
            # Some libraries hold the transpose: what reads the stream is the input, what writes it the output.
            transposed = axes[0].endswith("?") or axes[1].endswith("!")
            out_axis, in_axis = reversed(axes) if transposed else axes
            found[module_name + ":in"] = in_axis
            if name not in spec.logits:
                found[module_name + ":out"] = out_axis
    return found


def _blocks(pattern: str, spec: ModelSpec, samples: int) -> Iterator[Block]:
    return parse(f"{SAMPLE} {pattern}", {**spec.sizes, SAMPLE: samples})


def _record(model: nn.Module, spec: ModelSpec, hooks: ExitStack) -> dict[str, Tensor]:
    """A dictionary that every forward pass fills with the taps' activations, [samples, units]."""
    seen: dict[str, Tensor] = {}

    def listen(module_name: str) -> None:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
            first = output if isinstance(output, Tensor) else output[0]  # a router also says what it picked
            seen[module_name + ":in"] = args[0].flatten(0, -2)
            seen[module_name + ":out"] = first.flatten(0, -2)

        hooks.callback(model.get_submodule(module_name).register_forward_hook(hook).remove)

    for module_name in dict.fromkeys(tap.rpartition(":")[0] for tap in taps(model, spec)):
        listen(module_name)
    return seen


class CrossCovariance:
    """Running sums for cov(x, y) and the two variances, in float64."""

    def __init__(self, units: int) -> None:
        self.count = 0
        self.products = torch.zeros(units, units, dtype=torch.float64)
        self.sums, self.squares = torch.zeros(2, units, dtype=torch.float64), torch.zeros(2, units, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        self.count += len(x)
        kind = torch.promote_types(x.dtype, y.dtype)
        self.products += (x.mT.to(kind) @ y.to(kind)).double().cpu()
        self.sums += torch.stack([x.sum(0), y.sum(0)]).double().cpu()
        self.squares += torch.stack([x.square().sum(0), y.square().sum(0)]).double().cpu()

    def normalised(self) -> Tensor:
        """cov(x_i, y_j) over the geometric mean of the two total variances."""
        mean = self.sums / self.count
        variance = (self.squares / self.count - mean.square()).clamp_min(0).sum(1)
        covariance = self.products / self.count - torch.outer(mean[0], mean[1])
        return covariance / variance.prod().sqrt().clamp_min(torch.finfo(torch.float64).tiny)
