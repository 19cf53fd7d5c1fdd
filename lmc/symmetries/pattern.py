"""The pattern language: which space each axis of a tensor belongs to, in one line of text.

>>> up, = parse("hidden stream?", {"hidden": 6, "stream": 4})
>>> up.axes
(Axis(name='hidden', dual=False), Axis(name='stream', dual=True))

It is like that of einops. A tensor's axes are separated by blanks:

- `hidden`: an axis named after a space, or a free axis (`vocab`, `class`) that no group moves;
- `value*`: the axis takes the *dual* action (inverse transpose), e.g. the columns that read what `value` rows wrote;
- `stream!` writes the residual stream, `stream?` reads it (through a norm, before which the scale is lost);
- `(head value)`: one axis that is a product, outermost factor first;
- `[query | key | value]`: one axis that is a concatenation of products.

A pattern splits a tensor into *blocks*: views whose every axis is one factor. `x.view(...).narrow(...)` are views of
the original memory, so writing into a block writes into the tensor. Everything else in the package (transforms,
matching costs, gradients, dimension counts) is written once, over blocks.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from lmc.errors import UnsupportedModelError

STREAM, SCALE, SIGN = "stream", "scale", "sign"


@dataclass(frozen=True)
class Axis:
    """One factor of a tensor axis; `dual` axes take the inverse transpose."""

    name: str
    dual: bool = False


@dataclass(frozen=True)
class Block:
    """A rectangular part of a tensor whose axes are all named: how to cut it out, as a view."""

    axes: tuple[Axis, ...]
    shape: tuple[int, ...]  # the tensor with every product axis split, concatenations still whole
    cuts: tuple[tuple[int, int, int, tuple[int, ...]], ...]  # (dim, start, length, split into), last dim first

    def of(self, tensor: Tensor) -> Tensor:
        """The block as a view of `tensor`; where its first axis stands alone, also of some of the tensor's rows."""
        view = tensor.view(-1, *self.shape[1:])
        for dim, start, length, split in self.cuts:
            view = view.narrow(dim, start, length)
            view = view.unflatten(dim, split) if len(split) != 1 else view
        return view

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    def dim(self, name: str) -> int:
        """Position of the axis called `name`."""
        return self.names.index(name)


# The grammar, from the inside out: a name with its mark; names side by side; a factor; an axis; a whole pattern.
_NAME = r"[\w.]+[*!?]?"
_PRODUCT = rf"{_NAME}(\s+{_NAME})*"
_FACTOR = rf"({_NAME}|\[{_PRODUCT}(\s*\|\s*{_PRODUCT})*\])"
_AXIS = rf"({_FACTOR}|\({_FACTOR}(\s+{_FACTOR})*\))"
_PATTERN = re.compile(rf"{_AXIS}(\s+{_AXIS})*")
# What is left to tell apart once a pattern is known to be well formed: names, and brackets of alternatives.
_PART = re.compile(rf"{_NAME}|\[[^\]]*\]")

Factor = list[list[Axis]]  # its alternatives, each a product of axes: one alternative, unless it is a concatenation


def parse(pattern: str, sizes: Mapping[str, int]) -> Iterator[Block]:
    """The blocks a pattern describes, given the size of every named axis.

    >>> [block.axes[0].name for block in parse("[query | key] stream?", {"query": 2, "key": 2, "stream": 4})]
    ['query', 'key']

    Raises UnsupportedModelError for a pattern that does not parse, names an axis without a size, or repeats one.
    """
    if not _PATTERN.fullmatch(pattern):
        raise UnsupportedModelError(f"pattern {pattern!r}: unreadable")
    # A product axis needs no care of its own: in the tensor's memory its factors are just consecutive dimensions.
    factors = [_factor(part, pattern, sizes) for part in _PART.findall(pattern)]

    def width(axes: Iterable[Axis]) -> int:
        return math.prod(sizes[axis.name] for axis in axes)

    shape = tuple(sum(map(width, factor)) for factor in factors)
    for choice in itertools.product(*(range(len(factor)) for factor in factors)):
        cuts = []
        for dim in reversed(range(len(factors))):
            alternatives, taken = factors[dim], choice[dim]
            split = tuple(sizes[axis.name] for axis in alternatives[taken])
            start = sum(map(width, alternatives[:taken]))
            if len(alternatives) > 1 or len(split) > 1:
                cuts.append((dim, start, width(alternatives[taken]), split))
        axes = tuple(axis for factor, taken in zip(factors, choice, strict=True) for axis in factor[taken])
        if len({axis.name for axis in axes}) < len(axes):
            raise UnsupportedModelError(f"pattern {pattern!r}: an axis appears twice in one block")
        if width(axes):  # a model without registers has a part of no length
            yield Block(axes, shape, tuple(cuts))


def _factor(part: str, pattern: str, sizes: Mapping[str, int]) -> Factor:
    """A name, or the alternatives of a concatenation."""
    alternatives = part.strip("[]").split("|")
    return [[axis for name in names.split() for axis in _axes(name, pattern, sizes)] for names in alternatives]


def _axes(marked: str, pattern: str, sizes: Mapping[str, int]) -> list[Axis]:
    """The axis that a marked name stands for, with the scale and the sign that go with the residual stream."""
    name, mark = marked.rstrip("*!?"), marked[-1]
    if name not in sizes:
        raise UnsupportedModelError(f"pattern {pattern!r}: axis {name!r} has no size")
    axes = [Axis(name, dual=mark in "*?")]
    # What writes the stream also carries its scale; what reads it sees a norm's output, which has none. Both carry
    # the signs of a stream that has them; a gain, `stream` without a mark, has none.
    if SCALE in sizes and mark == "!":
        axes.insert(0, Axis(SCALE))
    if SIGN in sizes and mark in "!?":
        axes.append(Axis(SIGN))
    return axes


def split_axes(pattern: str) -> list[str]:
    """The tensor's axes, one string each.

    >>> split_axes("stream! (head value*)")
    ['stream!', '(head value*)']
    """
    return re.findall(r"\([^)]*\)|\[[^\]]*\]|\S+", pattern)
