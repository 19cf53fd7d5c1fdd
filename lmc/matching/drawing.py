"""Where between the endpoints a step of learning looks: by chance within a range, or where the line is highest.

The barrier is a maximum, and the place of the maximum moves: once the middle is low, what is left lies off centre. So
with `lambdas="highest"` the merged loss is measured from time to time at `KNOTS` points, on a few samples of the
matching data. Until the next look every step draws λ around one of these points. A point is drawn more often, the
higher the loss there lies above the chord between the endpoints. Nothing about it is kept in a saved state: a look
depends on the transforms, the seed and the step alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor

KNOTS = 9  # points looked at, evenly spaced inside (0, 1)
PROBE = 32  # samples a look reads
SHARPNESS = 3.0  # e to this is how much likelier the highest point is drawn than the lowest


def within(lambdas: tuple[float, float], count: int, seed: int, step: int) -> Tensor:
    """One weight for each of `count` endpoints, from a range; it depends on seed and step alone.

    >>> within((0.5, 0.5), 2, seed=0, step=7)
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    low, high = lambdas
    corner = torch.rand(count, generator=_generator(seed, step), dtype=torch.float64)
    corner = torch.distributions.utils.clamp_probs(corner)
    if count == 2:
        return _line(low + (high - low) * corner[0])
    simplex = -corner.log()  # exponential variables, normalised: uniform on the simplex
    return (1 - (high - low)) / count + (high - low) * simplex / simplex.sum()


def near(chances: Tensor, seed: int, step: int) -> Tensor:
    """The weights of two endpoints at a knot drawn by its chance, and a place at random around it.

    >>> float(near(torch.tensor([0.0, 1.0, 0.0]), seed=0, step=7)[1]) - 0.5 <= 0.125    # half the way to a neighbour
    True
    """
    generator = _generator(seed, step)
    knot = int(torch.multinomial(chances, 1, generator=generator))
    shift = torch.rand((), generator=generator, dtype=torch.float64) - 0.5
    return _line((knot + 1 + shift) / (len(chances) + 1))


def look(loss_at: Callable[[Tensor], float]) -> Tensor:
    """How likely each knot is drawn after a look at the line; `loss_at` takes the weights of the two endpoints.

    >>> look(lambda weights: float(weights[0] * weights[1])).argmax()
    tensor(4)
    """
    lambdas = torch.arange(KNOTS + 2, dtype=torch.float64) / (KNOTS + 1)
    line = torch.tensor([loss_at(_line(lam)) for lam in lambdas], dtype=torch.float64)
    return chances((line - (1 - lambdas) * line[0] - lambdas * line[-1])[1:-1])


def chances(excess: Tensor) -> Tensor:
    """How likely each knot is drawn: exponential in its excess over the chord, in units of the spread of all of them.

    >>> chances(torch.zeros(3))
    tensor([0.3333, 0.3333, 0.3333])

    All alike where a loss is not finite: that is for the step to find.
    """
    if not excess.isfinite().all():
        return torch.full_like(excess, 1 / len(excess))
    spread = excess.max() - excess.min()
    return torch.softmax(SHARPNESS * (excess - excess.max()) / spread.clamp_min(torch.finfo(excess.dtype).tiny), 0)


def _line(lam: Tensor) -> Tensor:
    return torch.stack([1 - lam, lam])


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(2**40 + seed * 1_000_003 + step)  # batches use other seeds
