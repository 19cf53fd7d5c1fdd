"""How to learn: every choice of a learned matching, and the schedule of its learning rate."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

METHODS = ("naive", "canonical", "weights", "activations", "single", "dual")
CLOSED_FORM = ("weights", "activations")
LEARNED = ("single", "dual")
WINDOWS, IMAGES = 16, 64  # default batch of learned matching
LARGEST_RATE = 0.3  # beyond it a step's Cayley map is badly conditioned, and the endpoints' functions drift
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Recipe:
    """The choices of a learned matching. The default rates lie in the flat part of the measured grids, see the log.

    >>> Recipe.default("dual", steps=100).lr
    0.01

    `lambdas`: endpoints' weights are drawn uniformly from this range (K = 2), or from the simplex shrunk to its width.
    `kinds`: the kinds of spaces that learn (None: every continuous one but the residual scale). `accumulate`: parts a
    batch is cut into, one forward and backward each. `precision`: of matrix products; weights, maps and moments stay in
    single precision or better. `checkpointing`: activations are computed again in the backward pass, not kept.
    `patience`: checks without a better midpoint after which learning stops (None: all steps are taken). `shard`: every
    process keeps a slice of each weight, not all of it.
    """

    steps: int = 300
    lr: float = 2e-2
    batch: int = 16  # windows, or images
    lambdas: tuple[float, float] = (0.3, 0.7)
    warmup: int = 10
    betas: tuple[float, float] = (0.9, 0.99)
    kinds: tuple[str, ...] | None = None
    accumulate: int = 1
    precision: str = "float32"
    checkpointing: bool = False
    patience: int | None = None
    shard: bool = False

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1: linear warm-up, then a cosine to zero."""
        warm = min(1.0, step / max(1, self.warmup))
        return self.lr * warm * 0.5 * (1 + math.cos(math.pi * step / (self.steps + 1)))

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def default(cls, method: str, **chosen: Any) -> "Recipe":
        """The measured default of `single` or `dual`, with what was chosen (not None) in its place.

        Two endpoints that step by η apart from each other separate by 2η: dual takes half of single's learning rate.
        """
        recipe = cls() if method == "single" else replace(cls(), lr=cls.lr / 2)
        return replace(recipe, **{name: value for name, value in chosen.items() if value is not None})
