"""Data-free matching: compare the weights themselves."""

from collections.abc import Mapping

from torch import Tensor

from lmc.matching.solver import Piece, Solution, solve
from lmc.modelspec import ModelSpec


def match_weights(a: Mapping[str, Tensor], b: Mapping[str, Tensor], spec: ModelSpec) -> Solution:
    """The transform g of B that brings its weights closest to A's: min ‖θ_A − g·θ_B‖² over the compact group.

    `a`, `b`: state dicts in canonical, balanced form.
    """
    return solve(spec, weight_pieces(a, b, spec))


def weight_pieces(a: Mapping[str, Tensor], b: Mapping[str, Tensor], spec: ModelSpec) -> list[Piece]:
    """Every block of every tensor. The output head counts up to a vector common to all its rows: softmax removes it."""
    pieces = []
    for name in spec.rules:
        x, y = a[name].double(), b[name].double()
        if name in spec.logits:
            x, y = x - x.mean(0), y - y.mean(0)
        pieces += [Piece(block, block.of(x), block.of(y)) for block in spec.blocks(name)]
    return pieces
