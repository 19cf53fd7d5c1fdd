"""Block-coordinate descent: the transform g of B that lies closest to A, one closed-form solve per space.

What is compared is a list of *pieces*: pairs of blocks, of weights or of activation covariances, whose axes are named
by the spec. On the balanced form what is left of the group is compact, ‖gB‖ does not depend on g, and minimising
‖A − gB‖² means maximising Σ ⟨A, gB⟩ (arXiv 2209.04836, there for permutations). Each space in turn gets its optimum
with all others held: an assignment for permutations (with the best head-internal maps inside every candidate pair),
orthogonal Procrustes for rotations, a phase for rotary planes. So the objective never falls.

Only the residual stream is seen by all pieces. Under a given rotation the others fall into *parts* that share no space,
such as the feed-forward layer of one block, so that a sweep needs the pieces of one part at a time: it moves them,
solves the part's own spaces, adds what they say about the rotation to a [d, d] matrix, and forgets them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import torch
from torch import Tensor

from lmc.symmetries import (
    SCALE,
    SIGN,
    STREAM,
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
INNER_SWEEPS = 2  # of the small problem inside a candidate pair; later outer sweeps refine what these leave
# Shares of the bound. Where the objective is this close to it, the distance between A and gB is measured as well; a
# squared distance below the second share (1.4e-5 of their size) counts as equality.
CLOSE, EXACT = 1e-5, 1e-10
TRUSTS = (1e-6, 1e-1)  # one start for each, see `solve`


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


def solve(spec: ModelSpec, parts: Sequence[Part], sweeps: int = 100, tolerance: float = 1e-7) -> Solution:
    """The best of a few deterministic starts, each descended to convergence (relative gain per sweep < tolerance).

    The starts differ in how far the residual rotation that the free-axis tensors alone suggest (embeddings, head,
    positions) is trusted: its weak directions are noise where both models were trained, and exact where one is the
    other rewritten. The identity is returned where nothing better is found.
    """
    found: list[Solution] = []
    for trust in TRUSTS:
        descent = _Descent(spec, parts)
        found.append(descent.run(trust, sweeps, tolerance))
        if descent.exact:  # no other start can do better
            break
    best = max(found, key=lambda solution: solution.objective[-1])
    if best.objective[-1] - descent.before <= tolerance * best.bound:
        return Solution(Transform.identity(spec), (descent.before,), best.bound)
    return best


class _Descent:
    """One start, descended: the elements found so far."""

    def __init__(self, spec: ModelSpec, parts: Sequence[Part]) -> None:
        self.spec, self.parts = spec, parts
        self.stream, self.signs = spec.space(STREAM), spec.inner(STREAM)
        self.elements = dict(Transform.identity(spec).elements)
        self.moved: set[str] = set()  # spaces whose element is not the identity any more
        self.before = self.bound = 0.0  # the objective of the identity, and its largest possible value
        self.exact = False

    def run(self, trust: float, sweeps: int, tolerance: float) -> Solution:
        """Descend from a start until a sweep gains less than the tolerance."""
        objective = [self._start(trust)]
        if self.bound - objective[0] <= CLOSE * self.bound:
            self.exact = self._distance() <= EXACT * self.bound
        converged = self.exact
        while not converged and len(objective) <= sweeps:
            objective.append(self._sweep())
            converged = objective[-1] - objective[-2] <= tolerance * self.bound
        return Solution(Transform(self.spec, self.elements), tuple(objective), self.bound, converged)

    def _start(self, trust: float) -> float:
        """Guess the rotation from the tensors whose other axes no group moves, match everything else under it, then
        solve the rotation from all tensors."""
        anchored: dict[str, Tensor] = {}
        for part in self.parts:
            if not part.spaces:
                _add(anchored, evidence(self.stream, self.signs, _seeing(self.stream, part.read())))
        if not anchored:
            return self._sweep(first=True)
        if self.stream.group.discrete:
            self._take(settle(self.stream, self.signs, anchored)[0])
            return self._sweep(first=True)
        left, values, right = torch.linalg.svd(anchored[STREAM])
        trusted = values / (values + trust * values[0])
        return self._sweep(left @ (trusted[:, None] * right), first=True)

    def _sweep(self, guess: Tensor | None = None, first: bool = False) -> float:
        """Every part's own spaces, then the stream's; returns the objective.

        A guess of the rotation, which need not be in the group, serves for the parts' own spaces alone.
        """
        rotation = self.elements if guess is None else self.elements | {STREAM: guess}
        total: dict[str, Tensor] = {}
        rest = 0.0
        for part in self.parts:
            pieces = part.read()
            if first:
                self.before += _agreement(pieces)
                self.bound += sum(math.sqrt(_inner(p.a, p.a) * _inner(p.b, p.b)) for p in pieces)
            if part.spaces:
                problem = _Problem(self.spec, self._move(pieces, rotation, guess is not None))
                for space in problem.outer:
                    problem.improve(space)
                self._take(problem.elements)
                moved = problem.pieces if guess is None else self._move(pieces, self.elements)
                del problem
            else:
                moved = self._move(pieces, self.elements)
            _add(total, evidence(self.stream, self.signs, _seeing(self.stream, moved)))
            rest += _agreement(piece for piece in moved if STREAM not in piece.block.names)
        if not total:
            return rest
        step, value = settle(self.stream, self.signs, total)
        self._take(step)
        return rest + value

    def _distance(self) -> float:
        """By how much the objective falls short of its bound, without the cancellation in their difference."""
        moved = (piece for part in self.parts for piece in self._move(part.read(), self.elements))
        return sum(float((piece.a - piece.b).square().sum(dtype=torch.float64)) / 2 for piece in moved)

    def _move(self, pieces: Sequence[Piece], elements: Mapping[str, Tensor], guessed: bool = False) -> list[Piece]:
        """The pieces as read, with B under the elements that are known."""
        known = {name: elements[name] for name in self.moved | ({STREAM} if guessed else set())}
        # Guesses and compact elements serve as their own duals: the inverse transpose of a rotation is itself.
        return [Piece(p.block, p.a, act(p.b, p.block, self.spec, known, known)) for p in pieces]

    def _take(self, step: Mapping[str, Tensor]) -> None:
        self.elements = compose(self.spec, step, self.elements)
        self.moved |= {name for name in step if isinstance(self.spec.space(name).group, COMPACT)}


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

    def objective(self) -> float:
        """⟨A, gB⟩ over the pieces."""
        return _agreement(self.pieces)

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

        How much a candidate pair is worth is then a smaller problem of the same kind, solved for every pair. For the
        pairs that are matched now it is also solved from their present elements, so that the objective cannot fall.
        """
        without = [replace(s, over=tuple(name for name in s.over if name != space.name)) for s in inner]
        spec = replace(self.spec, spaces=tuple(without), rules={})

        def solve_pair(i: int, j: int, guess: bool) -> _Problem:
            chosen = []
            for piece in pieces:
                dim = piece.block.dim(space.name)
                axes = tuple(axis for axis in piece.block.axes if axis.name != space.name)
                chosen.append(Piece(Block(axes, (), ()), piece.a.select(dim, i), piece.b.select(dim, j)))
            problem = _Problem(spec, chosen)
            if guess:
                problem.guess()
            for _ in range(INNER_SWEEPS):
                for outer in problem.outer:
                    problem.improve(outer)
            return problem

        size = space.group.n
        worth = torch.zeros(size, size, dtype=torch.float64)
        inside: dict[tuple[int, int], dict[str, Tensor]] = {}
        for i, j in product(range(size), range(size)):
            tries = [solve_pair(i, j, guess=True)] + ([solve_pair(i, j, guess=False)] if i == j else [])
            best = max(tries, key=_Problem.objective)
            worth[i, j], inside[i, j] = best.objective(), best.elements
        assigned = space.group.nearest(worth)
        step = {space.name: assigned}
        for each in inner:
            chosen = torch.stack([inside[i, int(assigned[i])][each.name] for i in range(size)])
            step[each.name] = chosen.movedim(0, each.over.index(space.name))
        return step

    def guess(self) -> None:
        """A first element for every space, from the pieces that show no other space that is still open."""
        settled: set[str] = set()
        for space in sorted(self.outer, key=lambda s: isinstance(s.group, Permutation)):
            settled.add(space.name)
            self.improve(space, [p for p in _seeing(space, self.pieces) if _among(self.outer, p) <= settled])


def evidence(space: Space, inner: Sequence[Space], pieces: Sequence[Piece]) -> dict[str, Tensor]:
    """What pieces say about a space and the spaces inside it: sums over pieces, from which `settle` finds the optimum.

    The cross-Gram matrix [*B, n, n] of the space; and of every space inside a permuted one, for all candidate pairs.
    """
    found: dict[str, Tensor] = {}
    for piece in pieces:
        a, b, names = piece.a, piece.b, piece.block.names
        shown = [inside for inside in inner if inside.name in names]
        if not shown:
            _add(found, {space.name: gram(a, b, names, space).double().cpu()})
        for inside in shown:
            _add(found, {inside.name: pair_gram(a, b, names, inside, space.name).double().cpu()})
    return found


def settle(space: Space, inner: Sequence[Space], found: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
    """The best elements by the evidence of all pieces that show the space, and the objective they reach on these.

    In a permutation every candidate pair (i, j) is worth what the best maps inside it achieve.
    """
    if not isinstance(space.group, Permutation):
        element = space.group.nearest(found[space.name])
        return {space.name: element}, _inner(found[space.name], element)
    size = space.group.n
    worth = found.get(space.name, torch.zeros(size, size, dtype=torch.float64))
    settled = [inside for inside in inner if inside.name in found]
    for inside in settled:
        worth = worth + inside.group.support(found[inside.name]).reshape(size, size, -1).sum(-1)
    chosen = space.group.nearest(worth)
    rows = torch.arange(size)
    step = {space.name: chosen}
    for inside in settled:
        pairs = found[inside.name][rows, chosen]
        step[inside.name] = inside.group.nearest(pairs.movedim(0, inside.over.index(space.name)))
    return step, float(worth[rows, chosen].sum())


def _add(total: dict[str, Tensor], more: dict[str, Tensor]) -> None:
    for name, tensor in more.items():
        total[name] = total[name] + tensor if name in total else tensor


def _inner(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum(dtype=torch.float64))


def _agreement(pieces: Iterable[Piece]) -> float:
    return sum(_inner(piece.a, piece.b) for piece in pieces)
