"""The best elements of some spaces, by pieces of two models: each space in its turn has an optimum in closed form.

>>> table = lmc.spec(a)
>>> (block,) = table.blocks("gpt_neox.embed_in.weight")
>>> shown = Piece(block, *(block.of(model.gpt_neox.embed_in.weight.detach()) for model in (a, b)))
>>> step, objective = settle(table.space("stream"), (), evidence(table.space("stream"), (), [shown]))
>>> step["stream"].shape                          # the rotation that brings B's embedding closest to A's
torch.Size([16, 16])

An assignment for permutations (with the best head-internal maps inside every candidate pair), orthogonal Procrustes for
rotations, a phase for rotary planes. What pieces say about a space is a sum over them (`evidence`), so it can be
gathered from parts of a model one by one before it is settled (`settle`).
"""

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lmc.symmetries import (
    SCALE,
    SIGN,
    STREAM,
    Axis,
    Block,
    Invertible,
    ModelSpec,
    Orthogonal,
    Permutation,
    RotaryCommutant,
    Space,
    Transform,
    act,
    compose,
    gram,
    pair_gram,
)

COMPACT = (Permutation, Orthogonal, Invertible, RotaryCommutant)
GLOBAL = frozenset((STREAM, SCALE, SIGN))  # seen by all parts
INNER_SWEEPS = 2  # of the small problem inside a candidate pair; later outer sweeps refine what these leave


@dataclass
class Piece:
    """One block of A and the same block of B, as moved so far."""

    block: Block
    a: Tensor
    b: Tensor


def seeing(space: Space, pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces that show a space."""
    return [piece for piece in pieces if space.name in piece.block.names]


def _among(spaces: Sequence[Space], piece: Piece) -> set[str]:
    """The names of those spaces that the piece shows."""
    return {space.name for space in spaces}.intersection(piece.block.names)


class Problem:
    """Pieces of one part, with B moved by the elements found so far."""

    def __init__(self, spec: ModelSpec, pieces: list[Piece]) -> None:
        shown = {name for p in pieces for name in p.block.names} - GLOBAL
        self.spec = replace(spec, spaces=tuple(s for s in spec.spaces if s.name in shown), rules={})
        self.pieces = pieces
        self.elements = dict(Transform.identity(self.spec).elements)
        # A space whose elements sit inside a permutation is solved together with it.
        spaces = [s for s in self.spec.spaces if isinstance(s.group, COMPACT)]
        permutations = {s.name for s in spaces if isinstance(s.group, Permutation)}
        self.outer = [s for s in spaces if not permutations.intersection(s.over)]

    def worth(self, axes: Sequence[str]) -> Tensor:
        """⟨A, gB⟩ over the pieces, for every index of these axes, which all of them have."""
        total = torch.zeros([self.spec.sizes[name] for name in axes], dtype=torch.float64)
        for piece in self.pieces:
            kept = [piece.block.dim(name) for name in axes]
            products = (piece.a * piece.b).movedim(kept, [*range(len(kept))]).flatten(len(kept))
            total += products.sum(-1, dtype=torch.float64).cpu()
        return total

    def improve(self, space: Space, pieces: Sequence[Piece] | None = None) -> None:
        """Give one outer space, and everything inside it, its optimum: by these pieces, or by all that show it."""
        pieces = seeing(space, self.pieces) if pieces is None else pieces
        inner = [s for s in self.spec.inner(space.name) if isinstance(s.group, COMPACT)]
        if isinstance(space.group, Permutation) and any(len(_among(inner, p)) > 1 for p in pieces):
            self.move(self._assign_nested(space, inner, pieces))
        elif pieces:
            self.move(settle(space, inner, evidence(space, inner, pieces))[0])

    def move(self, step: dict[str, Tensor]) -> None:
        """B ← step · B."""
        self.elements = compose(self.spec, step, self.elements)
        for piece in self.pieces:
            if step.keys() & set(piece.block.names):
                piece.b = act(piece.b, piece.block, self.spec, step, step)

    def _assign_nested(self, space: Space, inner: Sequence[Space], pieces: Sequence[Piece]) -> dict[str, Tensor]:
        """Like `improve`, for a permutation whose entries hold several maps of their own, as groups of queries do.

        How much a candidate pair (i, j) is worth is then a smaller problem of the same kind. All pairs of one i are
        solved at the same time: every j has its own maps inside, so to these the axis is one that no group moves. The
        pairs that are matched now are also solved from their present maps, so that the objective cannot fall.
        """
        spec = replace(self.spec, free={**self.spec.free, space.name: space.group.n}, spaces=tuple(inner), rules={})
        axes = (*space.over, space.name)
        kept_axes = {*axes, *(name for each in inner for name in (each.name, *each.over))}
        rows, own = [], []
        for i in range(space.group.n):
            against = [_against(piece, space.name, i, kept_axes) for piece in pieces]
            own.append([_entry(piece, space.name, i) for piece in against])
            row = Problem(spec, against)
            row.guess()
            row.sweep()
            rows.append((row.worth(axes), row.elements))
        present = Problem(spec, [_joined(entries, space.name) for entries in zip(*own, strict=True)])
        present.sweep()
        worth, kept = torch.stack([found for found, _ in rows], -2), present.worth(axes)
        matched = worth.diagonal(0, -2, -1)
        better = kept > matched
        matched.copy_(torch.where(better, kept, matched))
        chosen = space.group.nearest(worth)
        better &= chosen == torch.arange(space.group.n)
        step = {space.name: chosen}
        for each in inner:
            dim, ndim = each.over.index(space.name), present.elements[each.name].ndim
            found = [
                elements[each.name].take_along_dim(_beside(chosen[..., i], space.over, spec, each, ndim), dim)
                for i, (_, elements) in enumerate(rows)
            ]
            keep = _beside(better, axes, spec, each, ndim)
            step[each.name] = torch.where(keep, present.elements[each.name], torch.cat(found, dim))
        return step

    def sweep(self) -> None:
        """A few rounds over all spaces."""
        for _ in range(INNER_SWEEPS):
            for space in self.outer:
                self.improve(space)

    def guess(self) -> None:
        """A first element for every space, from the pieces that show no other space that is still open."""
        settled: set[str] = set()
        for space in sorted(self.outer, key=lambda s: isinstance(s.group, Permutation)):
            settled.add(space.name)
            self.improve(space, [p for p in seeing(space, self.pieces) if _among(self.outer, p) <= settled])


def evidence(space: Space, inner: Sequence[Space], pieces: Sequence[Piece]) -> dict[str, Tensor]:
    """What pieces say about a space and the spaces inside it: sums over pieces, from which `settle` finds the optimum.

    The cross-Gram matrix [*B, n, n] of the space; and of every space inside a permuted one, for all candidate pairs. In
    double precision, but for what is one number for each candidate pair, of which there are many: it keeps its type.
    """
    plain = isinstance(space.group, Permutation) and space.name != STREAM
    found: dict[str, Tensor] = {}
    for piece in pieces:
        a, b, names = piece.a, piece.b, piece.block.names
        shown = [inside for inside in inner if inside.name in names]
        if not shown:
            similar = gram(a, b, names, space)
            add(found, {space.name: (similar if plain else similar.double()).cpu()})
        for inside in shown:
            similar = pair_gram(a, b, names, inside, space.name)
            add(found, {inside.name: (similar if inside.group.n == 1 else similar.double()).cpu()})
    return found


def settle(space: Space, inner: Sequence[Space], found: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
    """The best elements by the evidence of all pieces that show the space, and the objective they reach on these.

    In a permutation every candidate pair (i, j) is worth what the best maps inside it achieve.
    """
    if not isinstance(space.group, Permutation):
        element = space.group.nearest(found[space.name])
        return {space.name: element}, _inner(found[space.name], element)
    size, batch = space.group.n, len(space.over)
    settled = [inside for inside in inner if inside.name in found]
    worth = found.get(space.name)
    for inside in settled:
        support = _batch_first(inside.group.support(found[inside.name]), space, inside)
        if support.ndim > batch + 2:  # several maps in each candidate pair
            support = support.flatten(batch + 2).sum(-1, dtype=torch.float64)
        worth = support if worth is None else worth + support
    if worth is None:
        worth = torch.zeros(size, size, dtype=torch.float64)
    chosen = space.group.nearest(worth)
    index = chosen[..., None]
    step = {space.name: chosen}
    for inside in settled:
        pairs = _batch_first(found[inside.name], space, inside)
        pairs = pairs.take_along_dim(index.reshape(*index.shape, *[1] * (pairs.ndim - index.ndim)), batch + 1)
        names = [*space.over, space.name, *(n for n in inside.over if n not in (*space.over, space.name))]
        order = [names.index(name) for name in inside.over]
        step[inside.name] = inside.group.nearest(pairs.squeeze(batch + 1).permute(*order, -2, -1).double())
    return step, float(worth.gather(-1, index).sum(dtype=torch.float64))


def _batch_first(pairs: Tensor, space: Space, inside: Space) -> Tensor:
    """Candidate pairs [i, j, *what `inside` is over, …] as [*what `space` is over, i, j, …]."""
    rest = [name for name in inside.over if name != space.name]
    return pairs.movedim([2 + rest.index(name) for name in space.over], [*range(len(space.over))])


def _beside(index: Tensor, axes: Sequence[str], spec: ModelSpec, inside: Space, ndim: int) -> Tensor:
    """An index [*axes] laid beside the elements of a space, which have `ndim` axes: of size 1 along all others."""
    shape = [spec.sizes[name] if name in axes else 1 for name in inside.over]
    return index.reshape([*shape, *[1] * (ndim - len(shape))])


def _against(piece: Piece, axis: str, i: int, kept: Container[str]) -> Piece:
    """Entry i of A along an axis, beside every entry of B.

    Only products of A and B count, and A has few rows here: where they are fewer than what the axes that are not kept
    hold, B is taken in their coordinates, and A becomes the unit matrix.
    """
    names = piece.block.names
    a = piece.a.narrow(names.index(axis), i, 1)
    own = [dim for dim, name in enumerate(names) if name in kept]
    rest = [dim for dim in range(len(names)) if dim not in own]
    rows = [a.shape[dim] for dim in own]
    size = math.prod(rows)
    if not rest or size >= a.numel() // size:
        return Piece(piece.block, a.expand_as(piece.b), piece.b)
    flat = a.permute(*own, *rest).reshape(size, -1)
    b = piece.b.permute(*own, *rest).flatten(len(own)) @ flat.mT
    unit = torch.eye(size, dtype=b.dtype, device=b.device).view(*rows, size)
    return Piece(Block((*(piece.block.axes[dim] for dim in own), Axis("row")), (), ()), unit.expand_as(b), b)


def _entry(piece: Piece, axis: str, i: int) -> Piece:
    """One entry along an axis, of which the others need not be kept."""
    dim = piece.block.dim(axis)
    return Piece(piece.block, piece.a.narrow(dim, i, 1), piece.b.narrow(dim, i, 1).clone())


def _joined(pieces: Sequence[Piece], axis: str) -> Piece:
    """Entries along an axis as one piece again."""
    block = pieces[0].block
    a, b = (torch.cat([getattr(piece, side) for piece in pieces], block.dim(axis)) for side in "ab")
    return Piece(block, a, b)


def add(total: dict[str, Tensor], more: dict[str, Tensor]) -> None:
    """Add up what pieces say, name by name, in place."""
    for name, tensor in more.items():
        total[name] = total[name].add_(tensor) if name in total else tensor


def _inner(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum(dtype=torch.float64))


def bound_of(piece: Piece) -> float:
    """The largest ⟨A, gB⟩ of any g: what it is where B is A rewritten."""
    return math.sqrt(_inner(piece.a, piece.a) * _inner(piece.b, piece.b))


def agreement(pieces: Iterable[Piece]) -> float:
    """Σ ⟨A, B⟩ over the pieces."""
    return sum(_inner(piece.a, piece.b) for piece in pieces)
