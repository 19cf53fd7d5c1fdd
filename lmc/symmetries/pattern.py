"""The pattern language: which space each axis of a tensor belongs to, in one line of text.

>>> up, = parse("hidden stream?", {"hidden": 6, "stream": 4})
>>> up.axes
(Axis(name='hidden', dual=False), Axis(name='stream', dual=True))

It is like that of einops. A tensor's axes are separated by blanks:

- `hidden`: an axis named after a space, or a free axis (`vocab`, `class`) that no group moves;
- `value*`: the axis takes the *dual* action (inverse transpose), e.g. the columns that read what `value` rows wrote;
- `stream!` writes the residual stream, `stream?` reads it (through a norm, before which the scale is lost);
- `(head value)`: one axis that is a product, outermost factor first;
- `[query | key | value]`: one axis that is a concatenation of products, which may be concatenations again.

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


# What a pattern is made of: marked names, brackets, and anything else, which is a mistake.
_WORD = re.compile(r"[\w.]+[*!?]?|\S")

Part = Axis | tuple[tuple["Part", ...], ...]  # a name, or the alternatives of a concatenation
Cut = tuple[int, int, int, tuple[int, ...]]


def parse(pattern: str, sizes: Mapping[str, int]) -> Iterator[Block]:
    """The blocks a pattern describes, given the size of every named axis.

    >>> [block.axes[0].name for block in parse("[query | key] stream?", {"query": 2, "key": 2, "stream": 4})]
    ['query', 'key']

    Raises UnsupportedModelError for a pattern that does not parse, names an axis without a size, or repeats one.
    """
    # A product axis needs no care of its own: in the tensor's memory its factors are just consecutive dimensions.
    axes_of_tensor = (a[1:-1] if a[0] + a[-1] == "()" else a for a in split_axes(pattern))
    words = [word for axis in axes_of_tensor for word in _WORD.findall(axis)]
    parts = _product(words, pattern, sizes)
    if words or not parts:
        raise UnsupportedModelError(f"pattern {pattern!r}: unreadable")

    def width(parts: Iterable[Part]) -> int:
        return math.prod(sizes[p.name] if isinstance(p, Axis) else sum(map(width, p)) for p in parts)

    def choices(parts: tuple[Part, ...], first: int) -> Iterator[tuple[tuple[Axis, ...], tuple[Cut, ...]]]:
        """One alternative of every bracket, in every combination; `first`: the dimension of the first part."""
        options: list[list[tuple[tuple[Axis, ...], tuple[Cut, ...]]]] = []
        for dim, part in enumerate(parts, first):
            options.append([((part,), ())] if isinstance(part, Axis) else [])
            start = 0
            for alternative in () if isinstance(part, Axis) else part:
                cut = (dim, start, width(alternative), tuple(width((p,)) for p in alternative))
                options[-1] += [(axes, (cut, *cuts)) for axes, cuts in choices(alternative, dim)]
                start += width(alternative)
        for chosen in itertools.product(*options):
            axes = tuple(axis for found, _ in chosen for axis in found)
            yield axes, tuple(cut for _, cuts in reversed(chosen) for cut in cuts)

    shape = tuple(width((part,)) for part in parts)
    for axes, cuts in choices(parts, 0):
        if len({axis.name for axis in axes}) < len(axes):
            raise UnsupportedModelError(f"pattern {pattern!r}: an axis appears twice in one block")
        if width(axes):  # a model without registers has a part of no length
            yield Block(axes, shape, cuts)


def _product(words: list[str], pattern: str, sizes: Mapping[str, int]) -> tuple[Part, ...]:
    """The parts that stand side by side, up to the end of an alternative; takes their words."""
    parts: list[Part] = []
    while words and words[0] not in "|]":
        if words[0] != "[":
            parts += _axes(words.pop(0), pattern, sizes)
            continue
        alternatives = []
        while words and words[0] in "[|":
            words.pop(0)
            alternatives.append(_product(words, pattern, sizes))
        if not all(alternatives) or not words or words.pop(0) != "]":
            raise UnsupportedModelError(f"pattern {pattern!r}: unreadable")
        parts.append(tuple(alternatives))
    return tuple(parts)


def _axes(marked: str, pattern: str, sizes: Mapping[str, int]) -> list[Axis]:
    """The axis that a marked name stands for, with the scale and the sign that go with the residual stream."""
    name, mark = marked.rstrip("*!?"), marked[-1]
    if not re.fullmatch(r"[\w.]+", name):
        raise UnsupportedModelError(f"pattern {pattern!r}: unreadable")
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
    axes, depth = [""], 0
    for letter in pattern:
        depth += (letter in "([") - (letter in ")]")
        if letter == " " and not depth:
            axes.append("")
        else:
            axes[-1] += letter
    return [axis for axis in axes if axis]
