"""A model family as one frozen table: which space each axis of each tensor belongs to.

>>> ModelSpec(
...     family="toy",
...     free={"vocab": 11},
...     spaces=(Space("stream", groups.Orthogonal(4)), Space("hidden", groups.Permutation(6))),
...     rules={"embed": "vocab stream!", "up": "hidden stream?", "down": "stream! hidden"},
... ).blocks("up")[0].axes
(Axis(name='hidden', dual=False), Axis(name='stream', dual=True))

The text of a rule is explained in `pattern`, the groups in `groups`.
"""

import dataclasses
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from lmc.symmetries import groups
from lmc.symmetries.groups import Group
from lmc.symmetries.pattern import STREAM, Axis, Block, parse, split_axes

ROWS = 4096  # how many rows of a vocabulary's matrix are moved at once


@dataclass(frozen=True)
class Space:
    """A group acting on the axes called `name`; one element for every index of the axes `over`.

    `Space("value.0", Invertible(32), over=("head.0",))` is one GL(32) element per head. When the heads
    may also be reordered, they are reordered first, then each is transformed by its own map (a wreath product).
    """

    name: str
    group: Group
    over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reader:
    """A weight that reads the stream through a norm, and the bias that can take up the norm's bias."""

    weight: str
    bias: str | None


@dataclass(frozen=True)
class Norm:
    """A norm of the residual stream, γ⊙n(x)+β, and everything that reads its output. `module` holds its ε.

    `onward`: where a norm's output is also passed on along the skip connection, its gain γ cannot be folded into the
    next layers and stays a tensor of its own, which a rule moves. Its shift β can be folded: into the bias named here.
    `axis`: the space it normalises. `offset`: what the stock class adds to the stored γ (Gemma's norms store γ − 1).
    """

    module: str
    weight: str | None
    bias: str | None
    readers: tuple[Reader, ...]
    onward: str | None = None
    axis: str = STREAM
    offset: float = 0.0

    @property
    def canonical_gain(self) -> float:
        """The stored γ in canonical form, which multiplies by 1."""
        return 1.0 - self.offset

    @property
    def canonical_bias(self) -> float:
        """β in canonical form: 0, or 𝟙 where a reader has no bias of its own and keeps Wβ in its mean direction."""
        return 1.0 if any(r.bias is None for r in self.readers) else 0.0


@dataclass(frozen=True)
class Gain:
    """A per-channel gain on the stream side of a sublayer's output (LayerScale), absorbed into what it multiplies."""

    weight: str
    into: tuple[str, ...]


@dataclass(frozen=True)
class Move:
    """A bias that another tensor can carry: `into += through · bias`, `bias = 0`.

    `axis` names the part of the bias that moves (`value` inside a fused bias); `through` the weight that maps it. With
    none it is added as it is, to the block of `into` that has the axis `rows` (if one is named), at every index of it.
    Where a reader has no bias, `bias` names its weight: in canonical form its sum over the stream is one (β = 𝟙).
    """

    bias: str
    into: str
    axis: str = STREAM
    through: str | None = None
    rows: str | None = None


@dataclass(frozen=True)
class Mean:
    """The mean of `source` over its axis `over`; every row of `into` can carry it: positions and tokens are added.

    With no `into` nothing needs it: softmax removes what all rows of a router have in common.
    """

    source: str
    over: str
    into: str | None


@dataclass(frozen=True)
class Dead:
    """A part of a bias (or of a weight that keeps one, see Move) that softmax removes from the output: set to zero."""

    bias: str
    axis: str


@dataclass(frozen=True)
class Epsilon:
    """Where the ε of the stream's norms stands: a field of the configuration, and an attribute of every norm module."""

    field: str
    attribute: str


@dataclass(frozen=True)
class Root:
    """What a stock class does with sizes: it multiplies by the root of the number of channels along `axes`.

    Or, with a `power` of −1, divides by it; what it multiplies is what `tensor` holds. That norms do so with what they
    read of the stream goes without saying. `single`: the class holds the root as a number of single precision.
    """

    tensor: str
    axes: tuple[str, ...]
    power: int
    single: bool = False

    def of(self, spec: "ModelSpec") -> float:
        """The root, for the sizes of a table; an axis that it does not have is one channel."""
        exact = math.sqrt(math.prod(spec.sizes.get(axis, 1) for axis in self.axes))
        return struct.unpack("f", struct.pack("f", exact))[0] if self.single else exact


@dataclass(frozen=True)
class ModelSpec:
    """Everything the algorithms know about a model. Built by a family from the model's configuration and shapes."""

    family: str
    free: Mapping[str, int]  # sizes of the axes that no group moves
    spaces: tuple[Space, ...]
    rules: Mapping[str, str]
    stream_norm: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    norms: tuple[Norm, ...] = ()
    gains: tuple[Gain, ...] = ()
    means: tuple[Mean, ...] = ()
    moves: tuple[Move, ...] = ()
    dead: tuple[Dead, ...] = ()
    roots: tuple[Root, ...] = ()
    epsilon: Epsilon | None = None  # where the residual scale may change it
    logits: tuple[str, ...] = ()  # the output head: a vector added to all its rows changes no probability
    tied: tuple[str, str] | None = None  # (head, embedding) that may share storage; canonical models never do
    _blocks: dict[str, tuple[Block, ...]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, pattern in self.rules.items():
            self._blocks[name] = tuple(parse(pattern, self.sizes))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The length of every named axis."""
        return {**self.free, **{space.name: space.group.n for space in self.spaces}}

    def blocks(self, tensor: str) -> tuple[Block, ...]:
        """The blocks of a tensor, by its name in the state dict."""
        return self._blocks[tensor]

    def block(self, tensor: str, axis: str) -> Block:
        """The one block of `tensor` that has the axis `axis` (written as in patterns, `pass*`)."""
        wanted = Axis(axis.rstrip("*"), axis.endswith("*"))
        (found,) = [b for b in self.blocks(tensor) if wanted in b.axes]
        return found

    @cached_property
    def space_names(self) -> frozenset[str]:
        return frozenset(space.name for space in self.spaces)

    def space(self, name: str) -> Space:
        """The space called `name`."""
        return next(space for space in self.spaces if space.name == name)

    def batch(self, space: Space) -> tuple[int, ...]:
        """Shape of the batch of elements of a space: one per index of the axes it is `over`."""
        return tuple(self.sizes[name] for name in space.over)

    def uses(self, space: str) -> Iterator[tuple[str, Block]]:
        """Every (tensor, block) that has an axis of the space."""
        return iter(self._uses[space])

    @cached_property
    def _uses(self) -> dict[str, list[tuple[str, Block]]]:
        table: dict[str, list[tuple[str, Block]]] = {space.name: [] for space in self.spaces}
        for name, blocks in self._blocks.items():
            for block in blocks:
                for axis in block.names:
                    if axis in table:
                        table[axis].append((name, block))
        return table

    def inner(self, space: str) -> tuple[Space, ...]:
        """The spaces that hold one element per index of this one (a permutation's contents)."""
        return tuple(s for s in self.spaces if space in s.over)

    def constants(self) -> frozenset[str]:
        """Tensors without a rule that every canonical model holds at a fixed value: norm gains and biases, gains."""
        names = [n for norm in self.norms for n in (norm.weight, norm.bias)] + [g.weight for g in self.gains]
        return frozenset(n for n in names if n is not None)

    def group_dimension(self, space: Space) -> int:
        """Continuous degrees of freedom of a space, over its whole batch."""
        return space.group.dimension * math.prod(self.batch(space))

    def writes(self, tensor: str) -> bool:
        """Whether the tensor writes the residual stream."""
        return "stream!" in self.rules[tensor]

    def looked_up(self, tensor: str) -> bool:
        """Whether the tensor is an embedding: a batch reads only the rows of its own tokens."""
        return self.rules[tensor] == "vocab stream!"

    def parts(self, tensor: str, count: int) -> list[slice]:
        """The tensor's `count` rows, in slices that can be moved one after the other.

        Where no group moves rows, as in a vocabulary's matrices (most of a small model), a slice has `ROWS` of them, so
        that no second copy of the whole matrix is ever in memory. Elsewhere one slice holds all rows.
        """
        blocks = self.blocks(tensor)  # none where an axis has no entries
        step = ROWS if blocks and self.free.get(blocks[0].names[0]) == count else max(count, 1)
        return [slice(i, i + step) for i in range(0, count, step)]

    def stream_dim(self, tensor: str) -> int | None:
        """Which dimension of the tensor is the whole residual stream; None where none is, or it is only permuted."""
        if self.space(STREAM).group.discrete:
            return None
        tokens = [token.rstrip("!?") for token in split_axes(self.rules[tensor])]
        return tokens.index(STREAM) if STREAM in tokens else None

    def to_json(self) -> dict[str, object]:
        """The table as plain JSON values."""
        plain = dataclasses.asdict(self)
        del plain["_blocks"]
        plain["spaces"] = [
            {"name": s.name, "over": s.over, "group": type(s.group).__name__, **dataclasses.asdict(s.group)}
            for s in self.spaces
        ]
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "ModelSpec":
        """The table written by `to_json`."""

        def space(name: str, over: list[str], group: str, **parameters: Any) -> Space:
            return Space(name, getattr(groups, group)(**parameters), tuple(over))

        def norm(readers: list[dict[str, Any]], **rest: Any) -> Norm:
            return Norm(readers=tuple(Reader(**r) for r in readers), **rest)

        return cls(
            **{
                **plain,
                "spaces": tuple(space(**s) for s in plain["spaces"]),
                "norms": tuple(norm(**n) for n in plain["norms"]),
                "gains": tuple(Gain(g["weight"], tuple(g["into"])) for g in plain["gains"]),
                "means": tuple(Mean(**m) for m in plain["means"]),
                "moves": tuple(Move(**m) for m in plain["moves"]),
                "dead": tuple(Dead(**d) for d in plain["dead"]),
                "roots": tuple(Root(**{**r, "axes": tuple(r["axes"])}) for r in plain["roots"]),
                "logits": tuple(plain["logits"]),
                "tied": plain["tied"] and tuple(plain["tied"]),
                "epsilon": plain["epsilon"] and Epsilon(**plain["epsilon"]),
            }
        )

    def kind(self, space: str) -> str:
        """A space's name without its layer: `value.3` is of kind `value`."""
        return space.split(".")[0]


def both(layer: str, rows: str, columns: str) -> dict[str, str]:
    """The rules of a linear layer: of its weight, and of its bias where it has one.

    >>> both("mlp.up", "hidden", "stream?")
    {'mlp.up.weight': 'hidden stream?', 'mlp.up.bias': 'hidden'}
    """
    return {layer + ".weight": f"{rows} {columns}", layer + ".bias": rows}


def layered(
    layers: int, spaces: tuple[Space, ...], rules: Mapping[str, str]
) -> tuple[tuple[Space, ...], dict[str, str]]:
    """Write a table for one layer once: `{l}` in tensor names becomes the layer, its spaces get the layer's suffix.

    >>> layered(2, (Space("hidden", groups.Permutation(6)),), {"mlp.{l}.up": "hidden stream?"})[1]
    {'mlp.0.up': 'hidden.0 stream?', 'mlp.1.up': 'hidden.1 stream?'}
    """
    local = {space.name for space in spaces}

    def suffix(name: str, layer: int) -> str:
        return f"{name}.{layer}" if name in local else name

    all_spaces = []
    all_rules = {}
    for layer in range(layers):
        for s in spaces:
            all_spaces.append(Space(suffix(s.name, layer), s.group, tuple(suffix(o, layer) for o in s.over)))
        for name, pattern in rules.items():
            words = re.split(r"(\w+)", pattern)
            all_rules[name.format(l=layer)] = "".join(suffix(word, layer) for word in words)
    return tuple(all_spaces), all_rules
