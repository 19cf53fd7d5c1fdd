"""How many directions in weight space leave the function alone: the group and the gauges that the canonical form fixes.

>>> counted = dimensions(lmc.spec(model))               # a Pythia that is 16 wide
>>> counted.group["stream"], counted.total              # rotations of 15 dimensions: 15 · 14 / 2
(105, 947)

Counted from the table alone, for weights in general position (heads narrower than the stream). The number can be
measured: it is the dimension of the null space of ∂logits/∂θ. Were a symmetry missing from the table, that would be
larger; were one wrong or counted twice, smaller.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lmc.symmetries.pattern import SCALE, STREAM, Axis, Block
from lmc.symmetries.spec import ModelSpec, Move


@dataclass(frozen=True)
class Dimensions:
    """Continuous degrees of freedom that the function does not see, by kind."""

    group: Mapping[str, int]  # kind of space → what is left to choose after canonicalization
    gauges: Mapping[str, int]  # what canonicalization chooses

    @property
    def total(self) -> int:
        """Of the weights alone: the residual scale is left out, since it moves ε as well."""
        return sum(n for kind, n in self.group.items() if kind != SCALE) + sum(self.gauges.values())


def dimensions(spec: ModelSpec, tied: bool = False) -> Dimensions:
    """Count what `spec` declares. `tied`: the head is the embedding, in canonical form too (no gain forces them apart).

    Their unseen means are then the same weights.
    """
    group: dict[str, int] = {}
    for space in spec.spaces:
        kind = spec.kind(space.name)
        group[kind] = group.get(kind, 0) + spec.group_dimension(space)
    gauges = {
        "norm": _norms(spec),
        "input mean": _input_means(spec),
        "output mean": _output_means(spec) - (spec.sizes["vocab"] if tied and spec.stream_norm == "layernorm" else 0),
        "shared mean": sum(_shared(spec, mean.source, mean.over) for mean in spec.means),
        "gain": sum(spec.sizes[STREAM] for _ in spec.gains),
        "moved bias": sum(_moved(spec, move) for move in spec.moves),
        "dead bias": sum(_bias(spec, dead.bias, dead.axis) for dead in spec.dead),
        "silent bias": _silent(spec),
    }
    return Dimensions(group, gauges)


def _size(spec: ModelSpec, block: Block, without: tuple[str, ...] = ()) -> int:
    return math.prod(spec.sizes[name] for name in block.names if name not in without)


def _norms(spec: ModelSpec) -> int:
    """Gain and bias of a norm, which its readers can undo."""
    return sum(
        spec.sizes[norm.axis] * sum(name is not None for name in (norm.weight, norm.bias)) for norm in spec.norms
    )


def _input_means(spec: ModelSpec) -> int:
    """A reader never sees the direction 𝟙 of a LayerNorm: one weight per row, where there is a bias."""
    if spec.stream_norm != "layernorm":
        return 0
    return sum(
        _size(spec, block, without=(norm.axis,))
        for norm in spec.norms
        for reader in norm.readers
        if norm.bias is None or reader.bias is not None  # else β = 𝟙 has put it to use
        for block in spec.blocks(reader.weight)
    )


def _output_means(spec: ModelSpec) -> int:
    """No LayerNorm sees the mean of what is written to the stream: one weight per written vector."""
    if spec.stream_norm != "layernorm":
        return 0
    blocks = [block for name in spec.rules if spec.writes(name) for block in spec.blocks(name)]
    return sum(_size(spec, block, without=(STREAM,)) for block in blocks)


def _shared(spec: ModelSpec, source: str, over: str) -> int:
    """What two tensors share. Of a vector of the stream the mean is among the output means already."""
    (block,) = spec.blocks(source)
    return _size(spec, block, without=(over,)) - (spec.stream_norm == "layernorm" and over != STREAM)


def _bias(spec: ModelSpec, name: str, axis: str) -> int:
    """The size of a part of a bias, or of the weight that keeps one in its mean direction."""
    block = spec.block(name, axis)
    return _size(spec, block, without=(STREAM,) if Axis(STREAM, dual=True) in block.axes else ())


def _moved(spec: ModelSpec, move: Move) -> int:
    """A bias that another can carry. One that is a stream vector has its mean among the output means already."""
    size = _bias(spec, move.bias, move.axis)
    if move.through is None and spec.stream_norm == "layernorm":
        return size - size // spec.sizes[STREAM]
    return size


def _silent(spec: ModelSpec) -> int:
    """What an output projection maps to nothing, of a value bias that no other bias can carry."""
    rank = spec.sizes[STREAM] - (spec.stream_norm == "layernorm")
    count = 0
    for name in set(spec.rules) - {move.through for move in spec.moves}:
        for block in spec.blocks(name):
            for axis in block.axes:
                if spec.writes(name) and axis.dual and spec.kind(axis.name) == "value" and _has_bias(spec, axis.name):
                    biases = spec.space(axis.name).group.n * math.prod(spec.batch(spec.space(axis.name)))
                    count += max(0, biases - rank)  # a group of queries reads one value
    return count


def _has_bias(spec: ModelSpec, space: str) -> bool:
    """Whether what writes a space adds a constant: with a bias, or with the mean direction of a weight without one."""
    bare = {reader.weight for norm in spec.norms if norm.bias for reader in norm.readers if reader.bias is None}
    return any(STREAM not in block.names or name in bare for name, block in spec.uses(space))
