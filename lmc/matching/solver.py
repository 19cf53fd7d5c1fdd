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

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lmc.files import progress, watched
from lmc.matching import workers
from lmc.matching.problem import (
    COMPACT,
    GLOBAL,
    Piece,
    Problem,
    add,
    agreement,
    bound_of,
    evidence,
    seeing,
    settle,
)
from lmc.symmetries import (
    STREAM,
    ModelSpec,
    Space,
    Transform,
    act,
    compose,
    connected,
)

MOST_SWEEPS = 100
# Shares of the bound. Where the objective is this close to it, the distance between A and gB is measured as well; a
# squared distance below the second share (1.4e-5 of their size) counts as equality.
CLOSE, EXACT = 1e-5, 1e-10
TRUSTS = (1e-6, 1e-1)  # one start for each, see `solve`
SIDE_BY_SIDE = 2  # parts
# Multiply-adds of rotating weights, about a fifth of all. A descent may spend the first number on gains of any size;
# then a sweep that gains less than the share of the bound is the last: on trained pairs the barrier moved by less than
# 1 % after it. Where a sweep takes more than the second, there is one start.
CHEAP, ONE_START, VISIBLE = 2e11, 1e11, 2e-4


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
        descents.append(_Descent(spec, parts, guess, len(descents) + 1))
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
                pieces = seeing(found.stream, part.read())
                add(found.evidence, evidence(found.stream, found.signs, pieces))
                bound += sum(bound_of(piece) for piece in pieces)
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

    def __init__(self, spec: ModelSpec, parts: Sequence[Part], guess: Mapping[str, Tensor], number: int) -> None:
        self.spec, self.parts, self.number = spec, parts, number
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
            add(total, found.evidence)
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
            workers.tell(f"matching: {self._called} took {took:.0f} s{cosine}")
        return rest + value

    @property
    def _called(self) -> str:
        """The sweep that is made, in words."""
        return f"start {self.number}, sweep {len(self.objective)}"

    def _watched(self, work: Callable[[Part], _Found]) -> Iterator[_Found]:
        """What work finds of each part, and how far the sweep is."""
        cosine = f", cosine {self.objective[-1] / self.bound:.4f}" if self.bound else ""
        text = f"matching: {self._called}{cosine}"
        return watched(_side_by_side(work, self.parts), len(self.parts), text, hidden=not workers.first())

    def _solved(self, part: Part, known: Mapping[str, Tensor], guessed: bool) -> _Found:
        """One part in a sweep, B under the elements that are known."""
        pieces = moved = part.read()
        sums = (0, 0.0, 0.0)
        if not self.objective:
            sums = sum(p.b.numel() for p in pieces), agreement(pieces), sum(map(bound_of, pieces))
        step: Mapping[str, Tensor] = {}
        if part.spaces:
            problem = Problem(self.spec, self._move(pieces, known))
            for space in problem.outer:
                problem.improve(space)
            step = problem.elements
            moved = self._move(pieces, _compact(self.spec, step)) if guessed else problem.pieces
        elif not guessed:
            moved = self._move(pieces, known)
        shown = evidence(self.stream, self.signs, seeing(self.stream, moved))
        return _Found(step, shown, agreement(p for p in moved if STREAM not in p.block.names), sums)

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
