"""The four things algorithms do with a block: unfold it along a space, act on it, and contract two of them.

Shapes: `B` is the batch of a space (the axes it is `over`), `n` its size, `R` everything else.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from lmc.symmetries.groups import Permutation
from lmc.symmetries.pattern import Block
from lmc.symmetries.spec import ModelSpec, Space

Elements = Mapping[str, Tensor]
K = TypeVar("K", bound=Hashable)


def connected(labels: Mapping[K, Iterable[Hashable]]) -> list[list[K]]:
    """The keys, grouped so that keys with a common label are together; in order of appearance.

    >>> connected({"up": {"hidden"}, "embed": {}, "down": {"hidden"}})
    [['up', 'down'], ['embed']]
    """
    groups: list[tuple[list[K], set[Hashable]]] = []
    for key, own in labels.items():
        keys, known = [key], set(own)
        for group in [g for g in groups if known & g[1]]:
            groups.remove(group)
            keys, known = group[0] + keys, group[1] | known
        groups.append((keys, known))
    order = {key: i for i, key in enumerate(labels)}
    return sorted((sorted(keys, key=order.__getitem__) for keys, _ in groups), key=lambda keys: order[keys[0]])


def unfold(view: Tensor, names: Sequence[str], space: Space) -> Tensor:
    """The block as [*B, n, R]: the axes the space is over, its own axis, and the rest flattened."""
    front = [names.index(name) for name in (*space.over, space.name)]
    rest = [i for i in range(view.ndim) if i not in front]
    return view.permute(*front, *rest).flatten(len(front)) if rest else view.permute(*front)[..., None]


def unfold_into(view: Tensor, names: Sequence[str], space: Space, unfolded: Tensor) -> None:
    """Write [*B, n, R] back into a block laid out as `names`: the inverse of `unfold`."""
    front = [names.index(name) for name in (*space.over, space.name)]
    order = [*front, *(i for i in range(view.ndim) if i not in front)]
    target = view.permute(order)
    target.copy_(unfolded.reshape(target.shape))


def gram(x: Tensor, y: Tensor, names: Sequence[str], space: Space) -> Tensor:
    """Σ_R x y, the cross-Gram matrix [*B, n, n] of two blocks along a space."""
    return unfold(x, names, space) @ unfold(y, names, space).mT


def pair_gram(x: Tensor, y: Tensor, names: Sequence[str], space: Space, outer: str) -> Tensor:
    """Like `gram`, for every pair of indices i of x and j of y of the axis `outer`: [i, j, *B without it, n, n]."""
    position = space.over.index(outer)
    a = unfold(x, names, space).movedim(position, 0)
    b = unfold(y, names, space).movedim(position, 0)
    return torch.einsum("i...ar,j...br->ij...ab", a, b)


def permute(view: Tensor, names: Sequence[str], spec: ModelSpec, elements: Elements) -> Tensor:
    """Move the indices of every permuted axis in `names` (the leading axes of `view`), outermost first."""
    for dim, name in enumerate(names):
        if name not in elements or not isinstance(spec.space(name).group, Permutation):
            continue
        index = elements[name].to(view.device)
        over = spec.space(name).over
        if not over and dim < view.ndim - 1:
            view = view.index_select(dim, index)  # of the last axis seven times slower than what follows
            continue
        # One permutation per index of the outer axes, which stand before it in the block: broadcast over the rest.
        lead = [1] * view.ndim
        for n, size in zip((*over, name), index.shape, strict=True):
            lead[list(names).index(n)] = size
        index = index.reshape(lead)
        view = view.take_along_dim(index, dim)
    return view


def act(view: Tensor, block: Block, spec: ModelSpec, elements: Elements, duals: Elements) -> Tensor:
    """g · block. Permutations first, then each axis takes its matrix (`duals` holds the inverse transposes)."""
    names = block.names
    view = permute(view, names, spec, elements)
    for axis in block.axes:
        if axis.name in elements and not isinstance(spec.space(axis.name).group, Permutation):
            space = spec.space(axis.name)
            matrix = (duals if axis.dual else elements)[axis.name].to(view)
            moved = torch.empty_like(view)
            unfold_into(moved, names, space, matrix @ unfold(view, names, space))
            view = moved
    return view
