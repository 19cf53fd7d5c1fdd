"""Adam (arXiv 1412.6980) in the coordinates of a Lie algebra; every step is taken inside the group."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lmc.symmetries.groups import Group
from lmc.symmetries.spec import Space


class LieAdam:
    """The moments of one endpoint's gradients, one pair for every learning space.

    >>> adam = LieAdam(spaces, shapes, betas=(0.9, 0.99), device="cpu")
    >>> elements = adam.steps(gradients, step=1, rate=1e-2)      # group elements to compose with, near the identity
    """

    def __init__(
        self,
        spaces: Sequence[Space],
        shapes: Mapping[str, Sequence[int]],
        betas: tuple[float, float],
        device: torch.device | str,
    ) -> None:
        """`shapes`: of the elements, [*batch, n, n]."""
        self.groups: dict[str, Group] = {s.name: s.group for s in spaces}
        self.betas = betas
        self.first, self.second = (
            {n: torch.zeros(*shape, dtype=torch.float64, device=device) for n, shape in shapes.items()}
            for _ in range(2)
        )

    def steps(self, gradients: Mapping[str, Tensor], step: int, rate: float) -> dict[str, Tensor]:
        """For every space the element exp(−rate · direction); `step` counts from 1."""
        return {name: self._step(name, gradient, step, rate) for name, gradient in gradients.items()}

    def _step(self, name: str, gradient: Tensor, step: int, rate: float) -> Tensor:
        beta1, beta2 = self.betas
        first, second = self.first[name], self.second[name]
        first.lerp_(gradient, 1 - beta1)
        second.lerp_(gradient.square(), 1 - beta2)
        scale = (second / (1 - beta2**step)).sqrt() + 1e-12
        group = self.groups[name]
        return group.exp(group.tangent(-rate * first / (1 - beta1**step) / scale))
