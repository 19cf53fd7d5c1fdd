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
from collections.abc import Iterator, Mapping
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


_NAME = r"[\w.]+[*!?]?"


_PRODUCT = rf"{_NAME}(\s+{_NAME})*"


_FACTOR = rf"({_NAME}|\[{_PRODUCT}(\s*\|\s*{_PRODUCT})*\])"


_AXIS = rf"({_FACTOR}|\({_FACTOR}(\s+{_FACTOR})*\))"


_PATTERN = re.compile(rf"{_AXIS}(\s+{_AXIS})*")


_TOKEN = re.compile(rf"[()\[\]|]|{_NAME}")


def parse(pattern: str, sizes: Mapping[str, int]) -> Iterator[Block]:
    """The blocks a pattern describes, given the size of every named axis.

    Raises UnsupportedModelError for a pattern that does not parse, names an axis without a size, or repeats one.
    """
    if not _PATTERN.fullmatch(pattern):
        raise UnsupportedModelError(f"pattern {pattern!r}: unreadable")
    tokens = _TOKEN.findall(pattern)

    def axis(token: str) -> list[Axis]:
        name = token.rstrip("*!?")
        if name not in sizes:
            raise UnsupportedModelError(f"pattern {pattern!r}: axis {name!r} has no size")
        axes = [Axis(name, dual=token[-1] in "*?")]
        # What writes the stream also carries its scale; what reads it sees a norm's output, which has none. Both carry
        # the signs of a stream that has them; a gain, `stream` without a mark, has none.
        if SCALE in sizes and token[-1] == "!":
            axes.insert(0, Axis(SCALE))
        if SIGN in sizes and token[-1] in "!?":
            axes.append(Axis(SIGN))
        return axes

    def factor() -> list[list[Axis]]:
        """One factor, as the list of its alternatives, each a list of axes."""
        token = tokens.pop(0)
        if token != "[":
            return [axis(token)]
        alternatives: list[list[Axis]] = [[]]
        while (token := tokens.pop(0)) != "]":
            if token == "|":
                alternatives.append([])
            else:
                alternatives[-1] += axis(token)
        return alternatives

    factors = []
    while tokens:
        if tokens[0] in "()":
            tokens.pop(0)  # a product axis: in the tensor's memory its factors are just consecutive dimensions
        else:
            factors.append(factor())

    def width(axes: list[Axis]) -> int:
        return math.prod(sizes[a.name] for a in axes)

    shape = tuple(sum(width(alternative) for alternative in f) for f in factors)
    for choice in itertools.product(*(range(len(f)) for f in factors)):
        cuts = []
        for dim in reversed(range(len(factors))):
            alternatives, taken = factors[dim], choice[dim]
            split = tuple(sizes[a.name] for a in alternatives[taken])
            start = sum(width(a) for a in alternatives[:taken])
            if len(alternatives) > 1 or len(split) > 1:
                cuts.append((dim, start, width(alternatives[taken]), split))
        axes = tuple(a for f, taken in zip(factors, choice, strict=True) for a in f[taken])
        if len({a.name for a in axes}) < len(axes):
            raise UnsupportedModelError(f"pattern {pattern!r}: an axis appears twice in one block")
        if width(list(axes)):  # a model without registers has a part of no length
            yield Block(axes, shape, tuple(cuts))


def split_axes(pattern: str) -> list[str]:
    """The tensor's axes, one string each: `stream! (head value*)` -> `["stream!", "(head value*)"]`."""
    return re.findall(r"\([^)]*\)|\[[^\]]*\]|\S+", pattern)
