"""Data-free matching: compare the weights themselves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lmc.matching.problem import GLOBAL, Piece
from lmc.matching.solver import MOST_SWEEPS, Part, Solution, solve
from lmc.symmetries import ModelSpec, Moved, Transform, connected, extreme_numbers, rescale


def match_weights(
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    spec: ModelSpec,
    frequencies: Tensor | None = None,
    sweeps: int = MOST_SWEEPS,
) -> Solution:
    """The transform g of B that brings its weights closest to A's: min ‖θ_A − g·θ_B‖² over the compact group.

    `a`, `b`: state dicts in canonical, balanced form. They may be mappings that read files on demand: only the tensors
    of one part of the model, such as a feed-forward layer, are used at a time. `frequencies` says how often each token
    occurs [V]: a row of the embedding then counts in proportion to its token, and all rows together as much as before.
    `sweeps`: at most so many.
    """
    return solve(spec, weight_parts(a, b, spec, frequencies), sweeps)


def match_all(
    states: Sequence[Mapping[str, Tensor]],
    spec: ModelSpec,
    epsilons: Sequence[float],
    frequencies: Tensor | None = None,
    sweeps: int = MOST_SWEEPS,
) -> tuple[tuple[Transform, ...], dict[str, Any]]:
    """Every model matched to the first: the transforms, and how the solver fared.

    `states`, `frequencies`, `sweeps` as for `match_weights`; `epsilons`: the ε of each, where it moves with the scale.
    """
    gauges = same_epsilon(spec, epsilons)
    first = Moved(gauges[0], states[0])
    others = (Moved(g, s) for g, s in zip(gauges[1:], states[1:], strict=True))
    with extreme_numbers(*states):
        solutions = [match_weights(first, other, spec, frequencies, sweeps) for other in others]
        fared = report(solutions)
    transforms = (gauges[0], *(s.transform @ g for s, g in zip(solutions, gauges[1:], strict=True)))
    counted = {} if frequencies is None else {"tokens counted": int(frequencies.sum())}
    return transforms, fared | counted


def same_epsilon(spec: ModelSpec, epsilons: Sequence[float]) -> tuple[Transform, ...]:
    """The residual scale for each model that gives its norms the first one's ε."""
    if spec.epsilon is None:
        return tuple(Transform.identity(spec) for _ in epsilons)
    return tuple(rescale(spec, math.sqrt(epsilons[0] / e)) for e in epsilons)


def report(solutions: Sequence[Solution]) -> dict[str, Any]:
    """How the solver fared with each model but the first: sweeps, and the cosine of A and gB after each."""
    return {
        "sweeps": [len(s.objective) - 1 for s in solutions],
        "converged": all(s.converged for s in solutions),
        "cosines": [[round(value / s.bound, 9) for value in s.objective] for s in solutions],
    }


def weight_parts(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], spec: ModelSpec, frequencies: Tensor | None = None
) -> list[Part]:
    """All tensors in parts: two that share a space other than the stream's are in one part."""
    local = spec.space_names - GLOBAL
    shown = {name: {axis for block in spec.blocks(name) for axis in block.names} & local for name in spec.rules}

    def part(names: list[str]) -> Part:
        return Part(
            frozenset().union(*(shown[name] for name in names)), lambda: weight_pieces(a, b, spec, names, frequencies)
        )

    return [part(names) for names in connected(shown)]


def weight_pieces(
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    spec: ModelSpec,
    names: Iterable[str] | None = None,
    frequencies: Tensor | None = None,
) -> list[Piece]:
    """Every block of every tensor (of `names`), in at least single precision.

    Of the output head the mean of all rows is left out: adding a vector to every row changes no probability.
    """
    pieces = []
    for name in spec.rules if names is None else names:
        x, y = a[name], b[name]
        kind = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
        x, y = x.to(kind), y.to(kind)
        if name in spec.logits:
            x, y = x - x.mean(0), y - y.mean(0)
        if frequencies is not None and spec.looked_up(name):
            root = (frequencies * (len(frequencies) / frequencies.sum())).sqrt()[:, None].to(x)
            x, y = root * x, root * y
        pieces += [Piece(block, block.of(x), block.of(y)) for block in spec.blocks(name)]
    return pieces
