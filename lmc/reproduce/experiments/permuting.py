"""Learned matching whose order of hidden units learns too: by a straight-through estimate, or softly.

The predecessor (arXiv 2506.22712) learns permutations through matrices of scores Z. *Straight-through*: the merged
model is made with the assignment that Z asks for, and the gradient of the permutation matrix is taken for that of Z.
Every iterate is an exact symmetry; the gradient is not one of the loss. *Soft*: Z is made doubly stochastic by
Sinkhorn's iteration and the gradient is exact, but a mixture of units is no symmetry: the ends of the line are no
longer the endpoints, and what is returned is the nearest permutation, whose line is another one.

With these two maps single and dual matching may differ by more than their rates. That is why they are tried here.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from lmc.evaluation import Data, losses
from lmc.matching import Learner
from lmc.symmetries import Permutation, Space, gram, moved_by, unfold, unfold_into

if TYPE_CHECKING:
    from lmc.matching.learned import Elements, Frame

# Of Adam on the scores, which begin as the identity matrix; with the schedule of everything else. At a tenth of it no
# unit finds another partner in 300 steps.
RATE = 1e-1
TEMPERATURE = 0.1  # of soft permutations
SINKHORN = 20  # its iterations


class StraightThrough(Learner):
    """A learner of two endpoints that also learns the order of hidden units, exactly permuted at every step."""

    soft: ClassVar[bool] = False

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        outer = {name for space in self.spec.spaces for name in space.over}
        self.permuted = [
            s for s in self.spec.spaces if isinstance(s.group, Permutation) and not s.over and s.name not in outer
        ]
        self.first_order = [{s.name: elements[s.name].clone() for s in self.permuted} for elements in self.elements]
        self.base = [dict(state) for state in self.states]  # in the order that the start asks for
        self.wanted: list[dict[str, Tensor]] = []
        self.dtype = next(iter(self.states[0].values())).dtype
        self.scores, self.mean, self.square = (
            [{s.name: size * torch.eye(s.group.n, dtype=self.dtype) for s in self.permuted} for _ in self.states]
            for size in (1, 0, 0)
        )

    def _parts(self) -> Iterator[tuple[str, "Elements"]]:
        yield from super()._parts()
        for k in range(len(self.states)):
            yield from ((f"scores/{k}", self.scores[k]), (f"mean/{k}", self.mean[k]), (f"square/{k}", self.square[k]))

    def restore(self, path: Path) -> None:
        """Continue from a saved state."""
        super().restore(path)
        self.arrange()

    def advance(self, data: Data) -> float:
        """One step of everything, the scores included."""
        loss = super().advance(data)
        self._step()
        self.arrange()
        return loss

    def pull_back(self, weights: Tensor, frame: "Frame") -> list["Elements"]:
        """The same, and ∂L/∂P of every endpoint's permutations, kept as `wanted`."""
        self.wanted = [self._along_permutations(k, float(weights[k]), frame) for k in range(len(self.states))]
        return super().pull_back(weights, frame)

    @torch.no_grad()
    def _along_permutations(self, k: int, share: float, frame: "Frame") -> dict[str, Tensor]:
        """∂L/∂P of one endpoint: G, contracted with the weights as they are before the units are put in order."""
        found = {s.name: torch.zeros(s.group.n, s.group.n, dtype=self.dtype) for s in self.permuted}
        if k not in self.moving:
            return found
        for name, parameter in self.parameters.items():
            for block in self.spec.blocks(name):
                for space in self.permuted:
                    if space.name in block.names and parameter.grad is not None:
                        base = self.base[k][name]
                        moved = base if k == 0 else moved_by(self.spec, name, base, *frame.maps[k])
                        found[space.name] += share * gram(block.of(parameter.grad), block.of(moved), block.names, space)
        return found

    def matrix(self, k: int, space: Space, gradient: bool = False) -> Tensor:
        """The map of an endpoint's units [n, n]: a permutation, or a doubly stochastic matrix."""
        scores = self.scores[k][space.name]
        if self.soft:
            return sinkhorn(scores.requires_grad_(gradient) / TEMPERATURE)
        return torch.eye(space.group.n, dtype=self.dtype)[self.order(k, space)]

    def order(self, k: int, space: Space) -> Tensor:
        """The permutation that the scores of an endpoint ask for."""
        return space.group.nearest(self.scores[k][space.name].double())

    @torch.no_grad()
    def arrange(self) -> None:
        """Put the units of every moving endpoint into the order that its scores ask for."""
        for k in self.moving:
            for space in self.permuted:
                matrix = self.matrix(k, space)
                self.elements[k][space.name] = self.first_order[k][space.name][self.order(k, space)]
                for name in self.parameters:
                    blocks = [block for block in self.spec.blocks(name) if space.name in block.names]
                    if blocks:
                        moved = self.base[k][name].clone()
                        for block in blocks:
                            view = block.of(moved)
                            unfold_into(view, block.names, space, matrix @ unfold(view, block.names, space))
                        self.states[k][name] = moved

    def _step(self) -> None:
        """Adam on the scores."""
        rate, (one, two) = RATE * self.recipe.schedule(self.step), self.recipe.betas
        for k in self.moving:
            for space in self.permuted:
                gradient = self.through(k, space, self.wanted[k][space.name])
                mean, square = self.mean[k][space.name], self.square[k][space.name]
                mean.mul_(one).add_(gradient, alpha=1 - one)
                square.mul_(two).addcmul_(gradient, gradient, value=1 - two)
                unbiased, spread = mean / (1 - one**self.step), (square / (1 - two**self.step)).sqrt()
                self.scores[k][space.name] = self.scores[k][space.name].detach() - rate * unbiased / (spread + 1e-8)

    def through(self, k: int, space: Space, gradient: Tensor) -> Tensor:
        """The gradient of the scores, from that of the map which they ask for."""
        if not self.soft:
            return gradient
        matrix = self.matrix(k, space, gradient=True)
        return torch.autograd.grad(matrix, self.scores[k][space.name], gradient)[0]

    @torch.no_grad()
    def line(self, data: Data, lambdas: Sequence[float], batch: int = 64) -> list[float]:
        """The loss along the line with the maps as they are in learning, soft ones included."""
        found = []
        for lam in lambdas:
            self.materialise(torch.tensor([1 - lam, lam], dtype=torch.float64), data)
            parts = [losses(self.model, data[i : i + batch]) for i in range(0, len(data), batch)]
            found.append(float(torch.cat(parts).double().mean()))
        return found

    def reordered(self) -> float:
        """The share of hidden units that have another partner than at the start."""
        changed = total = 0
        for k in self.moving:
            for space in self.permuted:
                order = self.order(k, space)
                changed += int((order != torch.arange(len(order))).sum())
                total += len(order)
        return changed / total


class Soft(StraightThrough):
    """The same with doubly stochastic matrices instead of permutations."""

    soft = True


def sinkhorn(scores: Tensor) -> Tensor:
    """A doubly stochastic matrix near the permutation that the scores ask for.

    >>> sinkhorn(100 * torch.eye(3)).round()
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    log = scores
    for _ in range(SINKHORN):
        log = log - log.logsumexp(1, keepdim=True)
        log = log - log.logsumexp(0, keepdim=True)
    return log.exp()
