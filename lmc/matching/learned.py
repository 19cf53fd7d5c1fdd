"""Learned matching: descend the loss of the merged model over the symmetry group itself.

θ_w = Σ_k w_k g_k·θ_k, for a random point w of the line (or simplex) at every step. *Single* matching moves all
endpoints but the first, *dual* moves every one (Dual Learned Matching, arXiv 2606.23607; here for any number K).

No graph runs through the transforms. The merged weights are materialised, one ordinary forward and backward gives
G = ∂L/∂θ_w, and the gradient of g_k in its Lie algebra is one contraction per space of G with the moved weights
y_k = g_k·θ_k: nudging y to y + Ωy changes the loss by ⟨G, Ωy⟩ = ⟨Ω, Σ G yᵀ⟩. Adam runs on those coordinates, and a
Cayley map takes each step inside the group, so every iterate is an exact symmetry.

θ_w has the same symmetries as its endpoints, so the gradients of all endpoints sum to zero (METHOD: the loss depends
on g_k⁻¹g_j only). One pull-back fewer than there are endpoints is enough.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lmc.blocks import gram
from lmc.errors import DivergedError
from lmc.files import read_safetensors
from lmc.groups import Group
from lmc.models import set_epsilon
from lmc.modelspec import SCALE, STREAM, ModelSpec, Space
from lmc.objective import Data, score
from lmc.transform import Transform, compose, moved_by


@dataclass(frozen=True)
class Recipe:
    """How to learn. The default rates lie in the flat part of the measured grids, see the log.

    `lambdas`: endpoints' weights are drawn uniformly from this range (K = 2), or from the simplex shrunk to its width.
    `kinds`: the kinds of spaces that learn (None: every continuous one but the residual scale).
    """

    steps: int = 300
    lr: float = 2e-2
    batch: int = 16  # windows, or images
    lambdas: tuple[float, float] = (0.3, 0.7)
    warmup: int = 10
    betas: tuple[float, float] = (0.9, 0.99)
    kinds: tuple[str, ...] | None = None

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


class Learner:
    """The state of a learned matching: transforms, Adam's moments, and one model that holds the merged weights."""

    def __init__(
        self,
        spec: ModelSpec,
        model: nn.Module,
        states: Sequence[Mapping[str, Tensor]],
        roots: Sequence[float],
        start: Sequence[Transform],
        moving: Sequence[int],
        recipe: Recipe,
        seed: int,
    ) -> None:
        """`states`: the endpoints' canonical weights; `roots`: √ε of each; `model`: a canonical model to overwrite."""
        self.spec, self.model, self.roots, self.moving = spec, model, tuple(roots), tuple(moving)
        self.recipe, self.seed, self.step = recipe, seed, 0
        self.elements = [dict(t.elements) for t in start]
        self.spaces = [s for s in spec.spaces if self._learns(s)]
        # What does not learn (permutations above all) is applied once: it acts before, or on other axes.
        learning = {s.name for s in self.spaces}
        self.states = []
        for state, t in zip(states, start, strict=True):
            frozen = {name: e for name, e in t.elements.items() if name not in learning}
            duals = {name: e for name, e in t.duals.items() if name not in learning}
            self.states.append(
                {n: moved_by(spec, n, state[n].double(), frozen, duals).to(state[n]) for n in spec.rules}
            )
        zeros = {s.name: torch.zeros(*spec.batch(s), s.group.n, s.group.n, dtype=torch.float64) for s in self.spaces}
        self.first = [{n: z.clone() for n, z in zeros.items()} for _ in states]
        self.second = [{n: z.clone() for n, z in zeros.items()} for _ in states]
        self.parameters = dict(model.named_parameters())
        self.losses: list[float] = []

    def save(self, path: Path) -> None:
        """Write the whole state to a safetensors file, aside and then renamed."""
        tensors = {"losses": torch.tensor(self.losses, dtype=torch.float64)}
        for k in range(len(self.states)):
            parts = {"elements": self.elements[k], "first": self.first[k], "second": self.second[k]}
            tensors |= {f"{part}/{k}/{n}": t.contiguous() for part, named in parts.items() for n, t in named.items()}
        aside = path.with_suffix(".tmp")
        save_file(tensors, aside)
        aside.replace(path)

    def restore(self, path: Path) -> None:
        """Continue from a state written by `save`: the rest of the run is bit for bit what it would have been."""
        for name, tensor in read_safetensors(path).items():
            if name == "losses":
                self.losses, self.step = tensor.tolist(), len(tensor)
            else:
                part, k, space = name.split("/")
                getattr(self, part)[int(k)][space] = tensor

    def _learns(self, space: Space) -> bool:
        kind = self.spec.kind(space.name)
        chosen = kind != SCALE if self.recipe.kinds is None else kind in self.recipe.kinds
        return chosen and space.group.dimension > 0

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """The current transforms."""
        return tuple(Transform(self.spec, dict(e)) for e in self.elements)

    def weights(self) -> Tensor:
        """The point of the simplex for this step, [K]; it depends on seed and step alone."""
        generator = torch.Generator().manual_seed(2**40 + self.seed * 1_000_003 + self.step)  # not the batch's numbers
        low, high = self.recipe.lambdas
        count = len(self.states)
        corner = torch.distributions.utils.clamp_probs(torch.rand(count, generator=generator, dtype=torch.float64))
        if count == 2:
            lam = low + (high - low) * corner[0]
            return torch.stack([1 - lam, lam])
        simplex = -corner.log()  # exponential variables, normalised: uniform on the simplex
        return (1 - (high - low)) / count + (high - low) * simplex / simplex.sum()

    def gradients(self, batch: Data) -> tuple[float, list[dict[str, Tensor]]]:
        """Loss of the merged model on the batch, and the gradient of every endpoint in Lie coordinates."""
        w = self.weights()
        moved = self._materialise(w)
        self.model.zero_grad(set_to_none=True)
        loss = score(self.model, batch)[0].mean()
        loss.backward()
        last = len(self.states) - 1
        gradients = [self._pull_back(k, w, moved[k]) for k in range(1, last + 1)]
        rest = {s.name: -torch.stack([g[s.name] for g in gradients]).sum(0) for s in self.spaces}
        return float(loss.detach()), [rest, *gradients]

    @torch.no_grad()
    def _materialise(self, w: Tensor) -> list[dict[str, Tensor]]:
        """Write θ_w into the model; return the moved weights of every endpoint."""
        moved: list[dict[str, Tensor]] = []
        for state, elements in zip(self.states, self.elements, strict=True):
            dtype = next(iter(state.values())).dtype
            fast = {s.name: elements[s.name].to(dtype) for s in self.spaces}
            duals = {s.name: s.group.dual(elements[s.name]).to(dtype) for s in self.spaces}
            moved.append({n: moved_by(self.spec, n, t, fast, duals) for n, t in state.items()})
        for name, parameter in self.parameters.items():
            if name in self.spec.rules:
                parameter.zero_()
                for x, m in zip(w, moved, strict=True):
                    parameter.add_(m[name], alpha=float(x))
        if self.spec.epsilon is not None:
            set_epsilon(self.model, self.spec, self._root(w) ** 2)
        return moved

    def _root(self, w: Tensor) -> float:
        """√ε of the merged model: it moves with the residual scale as a writer does, so it is averaged like one."""
        return sum(float(x) * r * float(e[SCALE]) for x, r, e in zip(w, self.roots, self.elements, strict=True))

    @torch.no_grad()
    def _pull_back(self, k: int, w: Tensor, moved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """∂L/∂Ω of endpoint k, for every learning space, from G (the model's gradients) and y_k."""
        gradient = {}
        for space in self.spaces:
            total = self._contract(space, moved)
            if space.name == SCALE:
                # ε moves too. θ_w keeps its function under (writers, √ε) → s·(writers, √ε): that gives ∂L/∂√ε.
                share = self.roots[k] * float(self.elements[k][SCALE]) / self._root(w)
                total -= share * self._contract(space, self.parameters)
            gradient[space.name] = float(w[k]) * space.group.tangent(total)
        return gradient

    def _contract(self, space: Space, weights: Mapping[str, Tensor]) -> Tensor:
        """Σ G yᵀ along a space; a dual axis moves by −Ωᵀ."""
        total = torch.zeros_like(self.first[0][space.name])
        if space.name == STREAM:  # whole tensors at once; a rotation is its own dual
            for name in weights:
                dim, grad = self.spec.stream_dim(name) if name in self.spec.rules else None, self.parameters[name].grad
                if dim is not None and grad is not None:
                    g, y = (t.movedim(dim, 0).reshape(len(total), -1) for t in (grad, weights[name]))
                    total += g @ y.mT
            return total
        for name, block in self.spec.uses(space.name):
            grad = self.parameters[name].grad
            assert grad is not None
            contracted = gram(block.of(grad), block.of(weights[name]), block.names, space)
            total += -contracted.mT if block.axes[block.dim(space.name)].dual else contracted
        return total

    def advance(self, data: Data) -> float:
        """One step; returns the loss. Raises DivergedError when it is not finite."""
        loss, gradients = self.gradients(data.draw(self.recipe.batch, self.seed, self.step).to(self._device))
        if not math.isfinite(loss):
            raise DivergedError(f"loss is {loss} at step {self.step}: lower the learning rate ({self.recipe.lr:g})")
        self.losses.append(loss)
        self.step += 1
        rate = self._rate()
        for k in self.moving:
            step = {s.name: self._adam(k, s.group, s.name, gradients[k][s.name], rate) for s in self.spaces}
            self.elements[k] = compose(self.spec, step, self.elements[k])
        return loss

    @property
    def _device(self) -> torch.device:
        return next(iter(self.parameters.values())).device

    def _rate(self) -> float:
        """Linear warm-up, then a cosine to zero."""
        warm = min(1.0, self.step / max(1, self.recipe.warmup))
        return self.recipe.lr * warm * 0.5 * (1 + math.cos(math.pi * self.step / (self.recipe.steps + 1)))

    def _adam(self, k: int, group: Group, name: str, gradient: Tensor, rate: float) -> Tensor:
        """The group element to compose with: exp of minus Adam's step (arXiv 1412.6980) in Lie coordinates."""
        beta1, beta2 = self.recipe.betas
        first, second = self.first[k][name], self.second[k][name]
        first.lerp_(gradient, 1 - beta1)
        second.lerp_(gradient.square(), 1 - beta2)
        unbiased = first / (1 - beta1**self.step)
        scale = (second / (1 - beta2**self.step)).sqrt() + 1e-12
        return group.exp(group.tangent(-rate * unbiased / scale))
