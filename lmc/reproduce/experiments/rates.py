"""The search for a learning rate: a short match at every rate of a grid, judged on samples that it has not seen.

>>> def tried(rate): return (probe(lambda: lmc.match(a, b, data=match_on, lr=rate, steps=2), Data(held_out)),)
>>> best_rates({"dual": RateGrid((0.01, 0.02), (tried(0.01), tried(0.02)))})["dual"] in (0.01, 0.02)
True
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lmc.errors import DivergedError
from lmc.evaluation import Data, path
from lmc.reproduce.runs import RateGrid

if TYPE_CHECKING:
    from lmc import matching


def probe(make: "Callable[[], matching.Alignment]", unseen: Data) -> float | None:
    """The barrier of the match that `make` returns, on samples that it has not seen; None where learning diverged.

    >>> probe(lambda: lmc.match(a, b, data=match_on, steps=2), Data(held_out)) >= 0
    True
    """
    try:
        return path(make(), unseen, grid=11).barrier
    except DivergedError:
        return None


def best_rates(grids: Mapping[str, RateGrid]) -> dict[str, float]:
    """Per method the rate with the lowest mean barrier. Raises DivergedError.

    >>> best_rates(results.read("vit-digits-rates", "laptop").grids)
    {'dual': 0.01, 'single': 0.01}
    """
    best = {}
    for method, grid in grids.items():
        try:
            best[method] = grid.best
        except DivergedError as error:
            raise DivergedError(f"{method} {error}") from None
    return best
