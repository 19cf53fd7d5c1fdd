"""Numbers in prose, taken from committed results when a page is made: none is typed, so none grows old.

A chapter writes `{{vit-digits: dual}}` for the mean barrier of a method in `data/results/laptop/vit-digits.json`, or
the name of a number of its headline. `A / B` is a ratio in per cent (where each pair has one: the mean of these, as in
tables), `A - B` a difference, `% A` a share in per cent, `exp A` the exponential (nats as a factor of perplexity). A
path with dots leads to any other number of the file; of a list with a number for each run it is the mean over pairs.
"""

import json
import math
import re
from functools import cache
from typing import Any

from lmc.errors import DataError
from lmc.reproduce import places
from lmc.reproduce.pair_means import mean
from lmc.reproduce.runs import Comparison

QUOTE = re.compile(r"\{\{([\w-]+):\s*([^}]+?)\s*\}\}")


def quoted(text: str) -> str:
    """The text with its quotations replaced by numbers.

    >>> quoted("from {{vit-digits: naive}} to {{vit-digits: dual}} nats, {{vit-digits: dual / naive}} of it")
    'from 5.69 to 0.00573 nats, 0.12 % of it'
    >>> size = "sizes.half the width"                     # the mean of 2.2, 3.9 and 6.6 %; the means have 4.3 %
    >>> quoted(f"{{{{two-sizes-vit-digits: {size}.dual.barrier / {size}.naive.barrier}}}}")
    '4.2 %'
    >>> quoted("after {{cifar10-128: setting.recipe.steps}} steps")
    'after 4,000 steps'

    Raises DataError where results have no such number.
    """
    return QUOTE.sub(lambda match: _said(match[1], match[2]), text)


def _said(id: str, what: str) -> str:
    if " / " in what:
        said = f"{100 * _ratio(id, *what.split(' / ', 1)):.2g} %"
    elif " - " in what:
        one, other = (_value(id, part) for part in what.split(" - ", 1))
        said = f"{one - other:.3g}"
    elif what.startswith("exp "):
        said = f"{math.exp(_value(id, what.removeprefix('exp '))):.3g}"
    elif what.startswith("% "):
        said = f"{100 * _value(id, what.removeprefix('% ')):.2g} %"
    else:
        value = _value(id, what)
        said = f"{value:,.0f}" if value.is_integer() else f"{value:.3g}"  # a number of things is not rounded
    return said.replace("-", "−")


def _ratio(id: str, above: str, below: str) -> float:
    methods = _numbers(id).get("methods", {})
    if above in methods and below == "naive" in methods:
        return Comparison.from_json(_numbers(id)).summary[above].ratio
    lists = [found for part in (above, below) if "." in part and isinstance(found := _found(id, part), list)]
    if len(lists) == 2:
        return mean([a / b for a, b in zip(*lists, strict=True)], _numbers(id).get("pairs", ()))
    return _value(id, above) / _value(id, below)


def _value(id: str, what: str) -> float:
    numbers = _numbers(id)
    if what in numbers.get("headline", {}):
        return float(numbers["headline"][what])
    if what in numbers.get("methods", {}):
        return Comparison.from_json(numbers).mean(what)
    found = _found(id, what)
    if isinstance(found, list) and all(isinstance(value, int | float) for value in found):
        return mean(found, numbers.get("pairs", ()))
    if not isinstance(found, int | float):
        raise DataError(f"{id}: quoted in the book as '{what}', which is no number")
    return float(found)


def _found(id: str, what: str) -> Any:
    """What a path with dots leads to."""
    found: Any = _numbers(id)
    for step in what.split("."):
        try:
            found = found[int(step)] if isinstance(found, list) else found[step]
        except (KeyError, IndexError, ValueError, TypeError):
            raise DataError(f"{id}: quoted in the book as '{what}', but its results hold no '{step}'") from None
    return found


@cache
def _numbers(id: str) -> dict[str, Any]:
    """Committed ones: the twin of a chapter, which is committed too, says the same as the book."""
    file = places.committed_folder("laptop") / f"{id}.json"
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"{id}: quoted in the book, but there are no committed results {file.name}") from None
    return found
