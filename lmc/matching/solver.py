"""Block-coordinate descent: the transform g of B that lies closest to A, one closed-form solve per space.

What is compared is a list of *pieces*: pairs of blocks, of weights or of activation covariances, whose axes are named
by the spec. On the balanced form what is left of the group is compact, ‖gB‖ does not depend on g, and minimising
‖A − gB‖² means maximising Σ ⟨A, gB⟩ (arXiv 2209.04836, there for permutations). Each space in turn gets its optimum
with all others held: an assignment for permutations (with the best head-internal maps inside every candidate pair),
orthogonal Procrustes for rotations, a phase for rotary planes. So the objective never falls.

Only the residual stream is seen by all pieces. Under a given rotation the others fall into *parts* that share no space,
such as the feed-forward layer of one block, so that a sweep needs the pieces of one part at a time: it moves them,
solves the part's own spaces, adds what they say about the rotation to a [d, d] matrix, and forgets them. Two parts are
worked on at a time: an assignment keeps one processor busy, products as many as there are.
"""

import math
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lmc.files import progress, watched
from lmc.matching import workers
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
    connected,
    gram,
    pair_gram,
)

COMPACT = (Permutation, Orthogonal, Invertible, RotaryCommutant)
GLOBAL = frozenset((STREAM, SCALE, SIGN))  # seen by all parts
MOST_SWEEPS = 100
INNER_SWEEPS = 2  # of the small problem inside a candidate pair; later outer sweeps refine what these leave
# Shares of the bound. Where the objective is this close to it, the distance between A and gB is measured as well; a
# squared distance below the second share (1.4e-5 of their size) counts as equality.
CLOSE, EXACT = 1e-5, 1e-10
TRUSTS = (1e-6, 1e-1)  # one start for each, see `solve`
SIDE_BY_SIDE = 2  # parts
# Multiply-adds of rotating weights, about a fifth of all. A descent may spend the first number on gains of any size;
# then a sweep that gains less than the share of the bound is the last: on trained pairs the barrier moved by less than
# 1 % after it. Where a sweep takes more than the second, there is one start.
CHEAP, ONE_START, VISIBLE = 2e11, 1e11, 2e-4


@dataclass
class Piece:
    """One block of A and the same block of B, as moved so far."""

    block: Block
    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class Part:
    """Pieces that share no space with the others but the stream's: which spaces they show, and how to read them."""

    spaces: frozenset[str]
    read: Callable[[], Sequence[Piece]]


@dataclass(frozen=True)
class _Found:
    """What one part gave: elements of its own spaces, what it says about the stream, the objective of what shows none.

    `sums`: B's numbers, the objective of the identity and its bound, where this is the first look.
    """

    step: Mapping[str, Tensor]
    evidence: dict[str, Tensor]
    rest: float
    sums: tuple[int, float, float]


def _seeing(space: Space, pieces: Sequence[Piece]) -> list[Piece]:
    return [piece for piece in pieces if space.name in piece.block.names]


def _among(spaces: Sequence[Space], piece: Piece) -> set[str]:
    """The names of those spaces that the piece shows."""
    return {space.name for space in spaces}.intersection(piece.block.names)


@dataclass(frozen=True)
class Solution:
    """The best transform found, and its objective ⟨A, gB⟩ after every sweep (non-decreasing).

    `bound` is what the objective would be if B were a transform of A: Σ ‖A‖‖B‖ over the pieces.
    """

    transform: Transform
    objective: tuple[float, ...]
    bound: float
    converged: bool = field(default=True)


def parts_of(spec: ModelSpec, pieces: Sequence[Piece]) -> list[Part]:
    """Pieces that are all in memory, as parts."""
    shown = {place: spec.space_names.intersection(piece.block.names) - GLOBAL for place, piece in enumerate(pieces)}

    def part(group: Sequence[int]) -> Part:
        return Part(frozenset().union(*(shown[place] for place in group)), lambda: [pieces[place] for place in group])

    return [part(group) for group in connected(shown)]


def solve(spec: ModelSpec, parts: Sequence[Part], sweeps: int = MOST_SWEEPS, tolerance: float = 1e-7) -> Solution:
    """The best of two deterministic starts, each descended to convergence (relative gain per sweep < tolerance).

    Where sweeps are dear, as they are for models of hundreds of millions of weights, there is one, and a small gain
    ends it: see `CHEAP`.

    The starts differ in how far the residual rotation that the free-axis tensors alone suggest (embeddings, head,
    positions) is trusted: its weak directions are noise where both models were trained, and exact where one is the
    other rewritten. Whether these tensors agree under it says which is tried first. The identity is returned where
    nothing better is found.
    """
    suggested = _Suggestion.of(spec, parts)
    descents: list[_Descent] = []
    for guess in suggested.guesses():
        descents.append(_Descent(spec, parts, guess))
        if descents[-1].exact:  # no other start can do better
            descents = descents[-1:]
            break
        if descents[-1].cost > ONE_START:
            break
    before = descents[0].before
    best = max([descent.run(sweeps, tolerance) for descent in descents], key=lambda solution: solution.objective[-1])
    if best.objective[-1] - before <= tolerance * best.bound:
        return Solution(Transform.identity(spec), (before,), best.bound)
    return best


@dataclass(frozen=True)
class _Suggestion:
    """What the tensors whose other axes no group moves say about the stream, and the largest objective on them."""

    stream: Space
    signs: Sequence[Space]
    evidence: dict[str, Tensor]
    bound: float

    @classmethod
    def of(cls, spec: ModelSpec, parts: Sequence[Part]) -> "_Suggestion":
        found, bound = cls(spec.space(STREAM), spec.inner(STREAM), {}, 0.0), 0.0
        for part in parts:
            if not part.spaces:
                pieces = _seeing(found.stream, part.read())
                _add(found.evidence, evidence(found.stream, found.signs, pieces))
                bound += sum(_bound(piece) for piece in pieces)
        return replace(found, bound=bound)

    def guesses(self) -> Iterator[dict[str, Tensor]]:
        """Elements of the stream to begin with; rotations need not be in the group."""
        if not self.evidence:
            yield {}
        elif self.stream.group.discrete:
            yield settle(self.stream, self.signs, self.evidence)[0]
        else:
            left, values, right = torch.linalg.svd(self.evidence[STREAM])
            agree = self.bound - float(values.sum()) <= CLOSE * self.bound
            for trust in TRUSTS if agree else reversed(TRUSTS):
                trusted = values / (values + trust * values[0])
                yield {STREAM: left @ (trusted[:, None] * right)}


class _Descent:
    """One start, looked at and then descended: the elements found so far."""

    def __init__(self, spec: ModelSpec, parts: Sequence[Part], guess: Mapping[str, Tensor]) -> None:
        self.spec, self.parts = spec, parts
        self.stream, self.signs = spec.space(STREAM), spec.inner(STREAM)
        self.elements = dict(Transform.identity(spec).elements)
        self.moved: set[str] = set()  # spaces whose element is not the identity any more
        self.before = self.bound = 0.0  # the objective of the identity, and its largest possible value
        self.cost = 0.0  # multiply-adds of rotating all weights once
        self.objective: list[float] = []  # after every sweep
        if self.stream.group.discrete:  # then a guess is an element
            self._take(guess)
            guess = {}
        self.objective.append(self._sweep(guess))
        close = self.bound - self.objective[0] <= CLOSE * self.bound
        self.exact = close and self._distance() <= EXACT * self.bound

    def run(self, sweeps: int, tolerance: float) -> Solution:
        """Descend until a sweep gains less than the tolerance, or where sweeps are dear no more than no loss shows."""
        found, converged, visible = self.objective, self.exact, True
        while not converged and visible and len(found) <= sweeps:
            found.append(self._sweep())
            gain = found[-1] - found[-2]
            converged = gain <= tolerance * self.bound
            visible = gain > VISIBLE * self.bound or self.cost * len(found) <= CHEAP
        return Solution(Transform(self.spec, self.elements), tuple(found), self.bound, converged)

    def _sweep(self, guess: Mapping[str, Tensor] | None = None) -> float:
        """Every part's own spaces, then the stream's; returns the objective.

        A guess of the rotation, which need not be in the group, serves for the parts' own spaces alone.
        """
        began = time.monotonic()
        known = {name: self.elements[name] for name in self.moved} | dict(guess or {})
        total: dict[str, Tensor] = {}
        steps: dict[str, Tensor] = {}
        rest = 0.0
        for found in self._watched(lambda part: self._solved(part, known, guessed=bool(guess))):
            steps |= found.step
            _add(total, found.evidence)
            rest += found.rest
            size, before, bound = found.sums
            self.cost += self.stream.group.n * size
            self.before += before
            self.bound += bound
        value = 0.0
        self._take(steps)
        if total:
            step, value = settle(self.stream, self.signs, total)
            self._take(step)
        if (took := time.monotonic() - began) > progress.SILENCE:
            cosine = f", cosine {(rest + value) / self.bound:.4f}" if self.bound else ""
            workers.tell(f"matching: sweep {len(self.objective)} took {took:.0f} s{cosine}")
        return rest + value

    def _watched(self, work: Callable[[Part], _Found]) -> Iterator[_Found]:
        """What work finds of each part, and how far the sweep is."""
        cosine = f", cosine {self.objective[-1] / self.bound:.4f}" if self.bound else ""
        text = f"matching: sweep {len(self.objective)}{cosine}"
        return watched(_side_by_side(work, self.parts), len(self.parts), text, hidden=not workers.first())

    def _solved(self, part: Part, known: Mapping[str, Tensor], guessed: bool) -> _Found:
        """One part in a sweep, B under the elements that are known."""
        pieces = moved = part.read()
        sums = (0, 0.0, 0.0)
        if not self.objective:
            sums = sum(p.b.numel() for p in pieces), _agreement(pieces), sum(map(_bound, pieces))
        step: Mapping[str, Tensor] = {}
        if part.spaces:
            problem = _Problem(self.spec, self._move(pieces, known))
            for space in problem.outer:
                problem.improve(space)
            step = problem.elements
            moved = self._move(pieces, _compact(self.spec, step)) if guessed else problem.pieces
        elif not guessed:
            moved = self._move(pieces, known)
        shown = evidence(self.stream, self.signs, _seeing(self.stream, moved))
        return _Found(step, shown, _agreement(p for p in moved if STREAM not in p.block.names), sums)

    def _distance(self) -> float:
        """By how much the objective falls short of its bound, without the cancellation in their difference."""
        known = {name: self.elements[name] for name in self.moved}
        moved = (piece for part in self.parts for piece in self._move(part.read(), known))
        return sum(float((piece.a - piece.b).square().sum(dtype=torch.float64)) / 2 for piece in moved)

    def _move(self, pieces: Sequence[Piece], known: Mapping[str, Tensor]) -> list[Piece]:
        """The pieces as read, with B under these elements."""
        # Guesses and compact elements serve as their own duals: the inverse transpose of a rotation is itself.
        return [Piece(p.block, p.a, act(p.b, p.block, self.spec, known, known)) for p in pieces]

    def _take(self, step: Mapping[str, Tensor]) -> None:
        self.elements = compose(self.spec, step, self.elements)
        self.moved |= _compact(self.spec, step).keys()


def _compact(spec: ModelSpec, step: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those elements whose groups matching searches."""
    return {name: element for name, element in step.items() if isinstance(spec.space(name).group, COMPACT)}


def _side_by_side(work: Callable[[Part], _Found], parts: Sequence[Part]) -> Iterator[_Found]:
    """What work finds of each part, in order, computed for two parts at a time where there are processors for it."""
    threads = torch.get_num_threads()
    if threads < SIDE_BY_SIDE:
        yield from map(work, parts)
        return
    try:
        with ThreadPoolExecutor(SIDE_BY_SIDE, "part", torch.set_num_threads, (threads // SIDE_BY_SIDE,)) as pool:
            yield from pool.map(work, parts)
    finally:
        torch.set_num_threads(threads)  # of the process: a thread that sets its own sets that of some libraries too


class _Problem:
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
        pieces = _seeing(space, self.pieces) if pieces is None else pieces
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
            row = _Problem(spec, against)
            row.guess()
            row.sweep()
            rows.append((row.worth(axes), row.elements))
        present = _Problem(spec, [_joined(entries, space.name) for entries in zip(*own, strict=True)])
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
            self.improve(space, [p for p in _seeing(space, self.pieces) if _among(self.outer, p) <= settled])


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
            _add(found, {space.name: (similar if plain else similar.double()).cpu()})
        for inside in shown:
            similar = pair_gram(a, b, names, inside, space.name)
            _add(found, {inside.name: (similar if inside.group.n == 1 else similar.double()).cpu()})
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


def _add(total: dict[str, Tensor], more: dict[str, Tensor]) -> None:
    for name, tensor in more.items():
        total[name] = total[name].add_(tensor) if name in total else tensor


def _inner(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum(dtype=torch.float64))


def _bound(piece: Piece) -> float:
    """The largest ⟨A, gB⟩ of any g: what it is where B is A rewritten."""
    return math.sqrt(_inner(piece.a, piece.a) * _inner(piece.b, piece.b))


def _agreement(pieces: Iterable[Piece]) -> float:
    return sum(_inner(piece.a, piece.b) for piece in pieces)
