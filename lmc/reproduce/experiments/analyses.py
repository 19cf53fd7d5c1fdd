"""What lies between two networks, layer by layer: which layer carries the barrier, whether features average, likeness.

>>> similarity((a, a), Data(held_out))["by channel"][0] > 0.999
True

Layers are found by the numbers in the names of tensors, and the stream by the norms that read it, so any family serves.
"""

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from lmc.evaluation import Data, evaluate
from lmc.matching import Alignment
from lmc.symmetries import logits, rebuild, state
from lmc.symmetries.families import spec as spec_of

GRID = 11  # points on a line


def loss(model: nn.Module, data: Data) -> float:
    """The mean loss of a model, in nats."""
    return float(evaluate(model, data)[0].mean())


def layer_by_layer(alignment: Alignment, data: Data) -> dict[str, float]:
    """By how much the first network's loss rises when one layer alone is moved half-way to the second (2307.06966).

    >>> sorted(layer_by_layer(naive, Data(held_out)))
    ['layer 0', 'layer 1', 'the rest']
    """
    first, second = (state(model) for model in alignment.models)
    before = loss(alignment.models[0], data)
    rises = {}
    for layer, names in layers(first).items():
        moved = first | {name: (first[name] + second[name]) / 2 for name in names}
        model = rebuild(alignment.models[0], spec_of(alignment.models[0]), moved)
        rises[layer] = loss(model, data) - before
    return rises


def layers(names: Iterable[str]) -> dict[str, list[str]]:
    """The names of tensors by the layer that they belong to.

    >>> layers(["h.0.mlp.weight", "h.1.mlp.weight", "wte.weight"])
    {'layer 0': ['h.0.mlp.weight'], 'layer 1': ['h.1.mlp.weight'], 'the rest': ['wte.weight']}
    """
    found: dict[str, list[str]] = {}
    for name in names:
        number = re.search(r"\.(\d+)\.", name)
        found.setdefault(f"layer {number[1]}" if number else "the rest", []).append(name)
    return found


def features_of_the_middle(alignment: Alignment, data: Data) -> list[float]:
    """The cosine between the midpoint's features and the mean of its parents', at every norm (2307.08286).

    >>> len(features_of_the_middle(naive, Data(held_out)))
    5
    """
    middle, first, second = (stream(model, data) for model in (alignment.merge(0.5), *alignment.models))
    pairs = zip(middle, first, second, strict=True)
    return [float(torch.cosine_similarity(m, (x + y) / 2, dim=-1).mean()) for m, x, y in pairs]


def similarity(models: Sequence[nn.Module], data: Data) -> dict[str, list[float]]:
    """How alike the stream of two networks is at every norm: centred kernel alignment, and channel by channel.

    >>> sorted(similarity((a, b), Data(held_out)))
    ['by channel', 'centred kernel alignment']

    The kernel sees no rotation of the stream; the correlation of channels sees nothing else.
    """
    found: dict[str, list[float]] = {"centred kernel alignment": [], "by channel": []}
    for x, y in zip(*(stream(model, data) for model in models), strict=True):
        x, y = (z - z.mean(0) for z in (x, y))
        kernel = (x.mT @ y).square().sum() / ((x.mT @ x).norm() * (y.mT @ y).norm())
        found["centred kernel alignment"].append(float(kernel))
        found["by channel"].append(float((x * y).sum() / (x.norm() * y.norm())))
    return found


@torch.no_grad()
def stream(model: nn.Module, data: Data, samples: int = 32) -> list[Tensor]:
    """What every norm of the stream reads, without the mean over channels, [samples · positions, channels]."""
    seen: list[Tensor] = []

    def hook(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        x = given[0].double().flatten(0, -2)
        seen.append(x - x.mean(-1, keepdim=True))

    hooks = [model.get_submodule(norm.module).register_forward_hook(hook) for norm in spec_of(model).norms]
    logits(model, data.inputs[:samples])
    for held in hooks:
        held.remove()
    return seen
