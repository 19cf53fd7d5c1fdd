"""The planes of single and of dual matching of one pair."""

from typing import Any

from lmc.evaluation import plane
from lmc.matching import Alignment
from lmc.symmetries import Transform, canonicalize


def planes(single: Alignment, dual: Alignment, data: object, grid: int = 31) -> dict[str, dict[str, Any]]:
    """The planes of single and of dual matching of one pair, each through one rewriting of A and two of B.

    >>> planes(single, dual, held_out, grid=3)["dual"]["names"]
    ['$g_A A$', '$g_A B$', '$g_B B$']

    In both, the first line is the one between endpoints that were not matched to each other: A and B in their canonical
    forms, or both rewritten by the same transform, which has the same losses. The second line is the matched one.
    """
    a, moved = single.models
    b = Transform.identity(single.transforms[1].spec).apply(canonicalize(single.parents[1]))
    rewritten_a, rewritten_b = dual.models
    along = dual.transforms[0].apply(canonicalize(dual.parents[1]))
    found = {
        "single": plane([a, b, moved], data, grid) | {"names": ["$A$", "$B$", "$g\\,B$"]},
        "dual": plane([rewritten_a, along, rewritten_b], data, grid) | {"names": ["$g_A A$", "$g_A B$", "$g_B B$"]},
    }
    for entry in found.values():
        first, second, third = entry["names"]
        entry["lines"] = {"direct": [first, second], "matched": [first, third]}
    return found
