"""The best permutation of a space whose entries hold several maps of their own, as groups of queries do.

How much a candidate pair (i, j) of entries is worth is a small problem of its own: a few sweeps over the maps inside.
All that a piece says about these maps is one small array, the products of its two sides summed over everything else.
It is made once for all pairs; then the sweeps of all pairs run at the same time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import torch
from torch import Tensor

from lmc.symmetries import Block, Permutation, Space

SWEEPS = 2  # inside a candidate pair; later sweeps over the whole model refine what these leave
PAIR = "."  # the axis of candidate pairs


@dataclass(frozen=True)
class Cross:
    """What a piece says: Σ a·b, with axes for the pair, what both sides share, the maps on the side of a, and of b.

    `shown`: the spaces inside an entry that it speaks of. Under their maps g the piece contributes ⟨values, ⊗g⟩.
    """

    shown: tuple[Space, ...]
    shared: tuple[str, ...]
    values: Tensor

    @classmethod
    def of(cls, block: Block, a: Tensor, b: Tensor, outer: Space, inner: Sequence[Space]) -> "Cross":
        """The products of two sides of a block, for all pairs of entries of `outer`."""
        shown = tuple(space for space in inner if space.name in block.names)
        own = {outer.name, *(space.name for space in shown)}
        shared = tuple(n for n in block.names if n not in own and any(n in space.over for space in shown))
        left = dict(zip(block.names, ascii_lowercase, strict=False))
        right = {n: letter.upper() if n in own else letter for n, letter in left.items()}
        out = [left[outer.name], right[outer.name], *(left[n] for n in shared)]
        out += [side[space.name] for side in (left, right) for space in shown]
        text = f"{''.join(left.values())},{''.join(right.values())}->{''.join(out)}"
        return cls(shown, shared, torch.einsum(text, a, b).flatten(0, 1).double().cpu())

    def gram(self, space: Space | None, outer: Space, elements: Mapping[str, Tensor]) -> Tensor:
        """What is left when all maps but that of a space (or none) are put in: [P, *over, n, n], or [P]."""
        letters = dict(zip((PAIR, *self.shared, *(s.name for s in self.shown)), ascii_lowercase, strict=False))

        def axes(s: Space) -> str:
            over = (letters[name] for name in s.over if name != outer.name)
            return "".join((letters[PAIR], *over, letters[s.name], letters[s.name].upper()))

        whole = "".join(letters.values()) + "".join(letters[s.name].upper() for s in self.shown)
        others = [s for s in self.shown if s is not space]
        text = ",".join((whole, *map(axes, others))) + "->" + (letters[PAIR] if space is None else axes(space))
        return torch.einsum(text, self.values, *(elements[s.name] for s in others))


def assign(
    outer: Space, inner: Sequence[Space], crosses: Sequence[Cross], sizes: Mapping[str, int]
) -> dict[str, Tensor]:
    """The permutation of `outer` and the maps inside its entries, by these sums. `sizes`: of the axes maps are over.

    The pairs that are matched now (i, i) are also solved from their present maps, so that the objective cannot fall.
    """
    n = outer.group.n
    present = torch.arange(n) * (n + 1)
    afresh = _Pairs(outer, inner, crosses, sizes)
    afresh.guess()
    kept = _Pairs(outer, inner, [Cross(c.shown, c.shared, c.values[present]) for c in crosses], sizes)
    worth, better = afresh.solve(), kept.solve()
    keep = better > worth[present]
    worth[present] = torch.where(keep, better, worth[present])
    for name, found in afresh.elements.items():
        found[present[keep]] = kept.elements[name][keep]
    chosen = outer.group.nearest(worth.view(n, n))
    step = {outer.name: chosen}
    for space in inner:
        maps = afresh.elements[space.name][torch.arange(n) * n + chosen]
        maps = maps.argmax(-1) if isinstance(space.group, Permutation) else maps
        step[space.name] = maps.movedim(0, space.over.index(outer.name))
    return step


class _Pairs:
    """Many candidate pairs, and the maps inside each: matrices [P, *over, n, n], those of permutations too."""

    def __init__(
        self, outer: Space, inner: Sequence[Space], crosses: Sequence[Cross], sizes: Mapping[str, int]
    ) -> None:
        self.outer, self.crosses = outer, crosses
        self.inner = sorted(inner, key=lambda s: isinstance(s.group, Permutation))
        self.elements = {}
        for s in inner:
            batch = (len(crosses[0].values), *(sizes[name] for name in s.over if name != outer.name))
            self.elements[s.name] = torch.eye(s.group.n, dtype=torch.float64).repeat(*batch, 1, 1)

    def guess(self) -> None:
        """A first map for every space, by what shows no other space that is still open; permutations last."""
        settled: set[str] = set()
        for space in self.inner:
            settled.add(space.name)
            self._improve(space, [c for c in self.crosses if {s.name for s in c.shown} <= settled])

    def solve(self) -> Tensor:
        """A few sweeps; returns what each pair is worth [P]."""
        for _ in range(SWEEPS):
            for space in self.inner:
                self._improve(space, self.crosses)
        return torch.stack([c.gram(None, self.outer, self.elements) for c in self.crosses]).sum(0)

    def _improve(self, space: Space, crosses: Sequence[Cross]) -> None:
        grams = [c.gram(space, self.outer, self.elements) for c in crosses if space in c.shown]
        if grams:
            found = space.group.nearest(torch.stack(grams).sum(0))
            if isinstance(space.group, Permutation):
                found = torch.nn.functional.one_hot(found, space.group.n).double()
            self.elements[space.name] = found
