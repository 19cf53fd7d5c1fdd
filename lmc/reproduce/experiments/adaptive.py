"""Learned matching that draws λ where the line is highest, instead of uniformly from a fixed range.

The barrier is a maximum, and the place of the maximum moves: once the middle is low, what is left lies off centre. So
from time to time the merged loss is measured at `KNOTS` points, on a few samples of the matching data. Until the next
look every step draws λ around one of these points. A point is drawn more often, the higher the loss there lies above
the chord between the endpoints. Nothing about it is kept in a saved state: a look depends on the transforms, the seed
and the step alone.
"""

import torch
from torch import Tensor

from lmc.evaluation import Data, losses
from lmc.matching import EVERY, Learner

KNOTS = 9  # points looked at, evenly spaced inside (0, 1)
PROBE = 32  # samples a look reads
SHARPNESS = 3.0  # e to this is how much likelier the highest point is drawn than the lowest


class AdaptiveLearner(Learner):
    """A learner of two endpoints whose draws of λ follow the line. The range of the recipe plays no part."""

    chances: Tensor = torch.full((KNOTS,), 1 / KNOTS, dtype=torch.float64)

    def weights(self) -> Tensor:
        """The point of the line for this step: a knot by its chance, and a place at random around it."""
        generator = torch.Generator().manual_seed(2**40 + self.seed * 1_000_003 + self.step)
        knot = int(torch.multinomial(self.chances, 1, generator=generator))
        shift = float(torch.rand((), generator=generator, dtype=torch.float64)) - 0.5
        lam = (knot + 1 + shift) / (KNOTS + 1)
        return torch.tensor([1 - lam, lam], dtype=torch.float64)

    def advance(self, data: Data) -> float:
        """One step; before every so many of them a look at the line."""
        if self.step % EVERY == 0:
            self.chances = chances(self.excess(data.draw(PROBE, self.seed, self.step).to(self.device)))
        return super().advance(data)

    @torch.no_grad()
    def excess(self, probe: Data) -> Tensor:
        """How far the merged loss lies above the chord between the endpoints at every knot, [KNOTS]."""
        lambdas = torch.arange(KNOTS + 2, dtype=torch.float64) / (KNOTS + 1)
        found = []
        for lam in lambdas.tolist():
            self.materialise(torch.tensor([1 - lam, lam], dtype=torch.float64), probe)
            found.append(float(losses(self.model, probe).mean()))
        line = torch.tensor(found, dtype=torch.float64)
        return (line - (1 - lambdas) * line[0] - lambdas * line[-1])[1:-1]


def chances(excess: Tensor) -> Tensor:
    """How likely each knot is drawn: exponential in its excess, over the spread of all of them.

    >>> chances(torch.zeros(3))
    tensor([0.3333, 0.3333, 0.3333])
    """
    spread = excess.max() - excess.min()
    return torch.softmax(SHARPNESS * (excess - excess.max()) / spread.clamp_min(torch.finfo(excess.dtype).tiny), 0)
