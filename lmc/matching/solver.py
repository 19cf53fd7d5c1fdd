"""Block-coordinate descent: the transform g of B that lies closest to A, one closed-form solve per space.

What is compared is a list of *pieces*: pairs of blocks, of weights or of activation covariances, whose axes are named
by the spec. On the balanced form what is left of the group is compact, ‖gB‖ does not depend on g, and minimising
‖A − gB‖² means maximising Σ ⟨A, gB⟩ (arXiv 2209.04836, there for permutations). Each space in turn gets its optimum
with all others held: an assignment for permutations (with the best head-internal maps inside every candidate pair),
orthogonal Procrustes for rotations, a phase for rotary planes. So the objective never falls.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import torch
from torch import Tensor

from lmc.blocks import act, gram, pair_gram
from lmc.groups import Invertible, Orthogonal, Permutation, RotaryCommutant
from lmc.modelspec import SCALE, SIGN, STREAM, Block, ModelSpec, Space
from lmc.transform import Transform, compose

COMPACT = (Permutation, Orthogonal, Invertible, RotaryCommutant)
INNER_SWEEPS = 2  # of the small problem inside a candidate pair: the outer sweeps go on from there


@dataclass
class Piece:
    """One block of A and the same block of B, as moved so far."""

    block: Block
    a: Tensor
    b: Tensor


def _among(spaces: Sequence[Space], piece: Piece) -> set[str]:
    """The names of those spaces that the piece shows."""
    return {s.name for s in spaces}.intersection(piece.block.names)


@dataclass(frozen=True)
class Solution:
    """The best transform found, and its objective ⟨A, gB⟩ after every sweep (non-decreasing)."""

    transform: Transform
    objective: tuple[float, ...]
    converged: bool = field(default=True)


def solve(spec: ModelSpec, pieces: Sequence[Piece], sweeps: int = 100, tolerance: float = 1e-7) -> Solution:
    """The best of a few deterministic starts, each descended to convergence (relative gain per sweep < tolerance).

    The starts differ in how far the residual rotation that the free-axis tensors alone suggest (embeddings, head,
    positions) is trusted: their small singular directions are noise in trained pairs and exact in planted ones.
    """
    solutions = [_descend(spec, pieces, trust, sweeps, tolerance) for trust in (1e-6, 1e-1)]
    return max(solutions, key=lambda s: s.objective[-1])


def _descend(spec: ModelSpec, pieces: Sequence[Piece], trust: float, sweeps: int, tolerance: float) -> Solution:
    problem = _Problem(spec, [Piece(p.block, p.a, p.b.clone()) for p in pieces])
    problem.start(trust)
    objective = [problem.objective()]
    for _ in range(sweeps):
        for space in problem.outer:
            problem.improve(space)
        objective.append(problem.objective())
        if objective[-1] - objective[-2] <= tolerance * abs(objective[-1]):
            return Solution(Transform(spec, problem.elements), tuple(objective))
    return Solution(Transform(spec, problem.elements), tuple(objective), converged=False)


class _Problem:
    """The pieces with B moved by the elements found so far."""

    def __init__(self, spec: ModelSpec, pieces: list[Piece]) -> None:
        self.spec = spec
        self.pieces = pieces
        self.elements = dict(Transform.identity(spec).elements)
        self.of = {s.name: [p for p in pieces if s.name in p.block.names] for s in spec.spaces}
        # A space whose elements sit inside a permutation is solved together with it.
        permutations = {s.name for s in spec.spaces if isinstance(s.group, Permutation)}
        self.outer = [
            s
            for s in spec.spaces
            if isinstance(s.group, COMPACT) and self.of[s.name] and not permutations.intersection(s.over)
        ]

    def objective(self) -> float:
        return sum(float((p.a * p.b).sum()) for p in self.pieces)

    def improve(self, space: Space, pieces: Sequence[Piece] | None = None) -> None:
        """Give one outer space, and everything inside it, its optimum: by these pieces, or by all that show it."""
        pieces = self.of[space.name] if pieces is None else pieces
        inner = [s for s in self.spec.inner(space.name) if self.of[s.name]]
        if not isinstance(space.group, Permutation):
            grams = [gram(p.a, p.b, p.block.names, space) for p in pieces]
            step = {space.name: space.group.nearest(torch.stack(grams).sum(0))}
        elif any(len(_among(inner, p)) > 1 for p in pieces):
            step = self._assign_nested(space, inner, pieces)
        else:
            step = self._assign(space, inner, pieces)
        self.move(step)

    def move(self, step: dict[str, Tensor]) -> None:
        """B ← step · B."""
        self.elements = compose(self.spec, step, self.elements)
        for piece in {id(p): p for name in step for p in self.of[name]}.values():
            piece.b = act(piece.b, piece.block, self.spec, step, step)  # compact elements are their own duals

    def _assign(self, space: Space, inner: Sequence[Space], pieces: Sequence[Piece]) -> dict[str, Tensor]:
        """The best permutation, when every candidate pair (i, j) is worth what the best maps inside it achieve."""
        cost = torch.zeros(space.group.n, space.group.n, dtype=torch.float64)
        for piece in pieces:
            if not _among(inner, piece):
                cost = cost + gram(piece.a, piece.b, piece.block.names, space).cpu()
        inside: dict[str, Tensor] = {}
        for s in inner:
            shown = [p for p in pieces if s.name in p.block.names]
            pairs = [pair_gram(p.a, p.b, p.block.names, s, space.name) for p in shown]
            inside[s.name] = torch.stack(pairs).sum(0)  # (i, j, *B', n, n)
            cost += s.group.support(inside[s.name]).reshape(*cost.shape, -1).sum(-1).cpu()
        found = space.group.nearest(cost)
        step = {space.name: found}
        for s in inner:
            chosen = inside[s.name][torch.arange(space.group.n), found]
            step[s.name] = s.group.nearest(chosen.movedim(0, s.over.index(space.name)))
        return step

    def _assign_nested(self, space: Space, inner: Sequence[Space], pieces: Sequence[Piece]) -> dict[str, Tensor]:
        """The same where one block holds several of the inner spaces (grouped queries: a permutation and maps).

        What a candidate pair is worth is a smaller problem of the same kind. On the diagonal it also starts from what
        is there now, so that the objective cannot fall.
        """
        spaces = tuple(Space(s.name, s.group, tuple(o for o in s.over if o != space.name)) for s in inner)
        spec = replace(self.spec, spaces=spaces, rules={})

        def solve_pair(i: int, j: int, guess: bool) -> _Problem:
            chosen = []
            for p in pieces:
                dim = p.block.dim(space.name)
                axes = tuple(a for a in p.block.axes if a.name != space.name)
                chosen.append(Piece(Block(axes, (), ()), p.a.select(dim, i), p.b.select(dim, j)))
            problem = _Problem(spec, chosen)
            if guess:
                problem.guess()
            for _ in range(INNER_SWEEPS):
                for s in problem.outer:
                    problem.improve(s)
            return problem

        n = space.group.n
        cost = torch.zeros(n, n, dtype=torch.float64)
        inside: dict[tuple[int, int], dict[str, Tensor]] = {}
        for i, j in product(range(n), range(n)):
            tries = [solve_pair(i, j, guess=True)] + ([solve_pair(i, j, guess=False)] if i == j else [])
            best = max(tries, key=_Problem.objective)
            cost[i, j], inside[i, j] = best.objective(), best.elements
        found = space.group.nearest(cost)
        step = {space.name: found}
        for s in inner:
            chosen = torch.stack([inside[i, int(found[i])][s.name] for i in range(n)])
            step[s.name] = chosen.movedim(0, s.over.index(space.name))
        return step

    def guess(self) -> None:
        """A first element for every space, from the pieces that show it alone or beside what is settled already."""
        settled: set[str] = set()
        for space in sorted(self.outer, key=lambda s: isinstance(s.group, Permutation)):
            settled.add(space.name)
            self.improve(space, [p for p in self.of[space.name] if _among(self.outer, p) <= settled])

    def start(self, trust: float) -> None:
        """Guess the rotation from the tensors whose other axes no group moves, match everything else under it, then
        solve the rotation again from all tensors."""
        stream = self.spec.space(STREAM)
        anchored = [
            p for p in self.of[STREAM] if not (set(p.block.names) - {STREAM}) & self.spec.space_names - {SCALE, SIGN}
        ]
        if stream not in self.outer or not anchored:
            return
        if stream.group.discrete:
            self.improve(stream, anchored)
            return
        u, s, vh = torch.linalg.svd(sum(gram(p.a, p.b, p.block.names, stream) for p in anchored))
        partial = u @ ((s / (s + trust * s[0]))[:, None] * vh)
        original = [p.b for p in self.pieces]
        for p in self.of[STREAM]:
            p.b = act(p.b, p.block, self.spec, {STREAM: partial}, {STREAM: partial})
        for space in self.outer:
            if space is not stream:
                self.improve(space)
        for p, b in zip(self.pieces, original, strict=True):
            p.b = act(b, p.block, self.spec, self.elements, self.elements)
        self.improve(stream)
