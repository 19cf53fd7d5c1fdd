"""The planes of single and of dual matching of one pair."""

from lmc.evaluation import plane
from lmc.matching import Alignment
from lmc.reproduce.runs import Plane
from lmc.symmetries import Transform, canonicalize


def planes(single: Alignment, dual: Alignment, data: object, grid: int = 31) -> dict[str, Plane]:
    """The planes of single and of dual matching of one pair, each through one rewriting of A and two of B.

    >>> planes(single, dual, held_out, grid=3)["dual"].lines["matched"]
    ('$g_A A$', '$g_B B$')

    In both, the first line is the one between endpoints that were not matched to each other: A and B in their canonical
    forms, or both rewritten by the same transform, which has the same losses. The second line is the matched one.
    """
    a, moved = single.models
    b = Transform.identity(single.transforms[1].spec).apply(canonicalize(single.parents[1]))
    rewritten_a, rewritten_b = dual.models
    along = dual.transforms[0].apply(canonicalize(dual.parents[1]))
    shown = {
        "single": {"$A$": a, "$B$": b, "$g\\,B$": moved},
        "dual": {"$g_A A$": rewritten_a, "$g_A B$": along, "$g_B B$": rewritten_b},
    }
    return {title: Plane.of(plane(list(models.values()), data, grid), list(models)) for title, models in shown.items()}
