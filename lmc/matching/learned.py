"""Learned matching: descend the loss of the merged model over the symmetry group itself.

θ_w = Σ_k w_k g_k·θ_k, for a random point w of the line (or simplex) at every step. *Single* matching moves all
endpoints but the first, *dual* moves every one (Dual Learned Matching, arXiv 2606.23607; here for any number K).

No graph runs through the transforms. The merged weights are materialised, one ordinary forward and backward gives
G = ∂L/∂θ_w, and the gradient of g_k in its Lie algebra is one contraction per space of G with the moved weights
y_k = g_k·θ_k: nudging y to y + Ωy changes the loss by ⟨G, Ωy⟩ = ⟨Ω, Σ G yᵀ⟩. Adam runs on those coordinates, and a
Cayley map takes each step inside the group, so every iterate is an exact symmetry.

θ_w = g_0·(w_0 θ_0 + Σ_k w_k h_k·θ_k) with h_k = g_0⁻¹g_k, and g_0 keeps the function. So the merged model is written
down in the first endpoint's frame, where that endpoint need not move: dual costs what single does. Gradients are
converted back from the first endpoint's coordinates. Only relative motion matters (the loss depends on the h_k alone),
so the first endpoint's gradient is minus the sum of all others.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmc.errors import DivergedError
from lmc.evaluation import Data, losses
from lmc.files import read_state, write_state
from lmc.matching import drawing, workers
from lmc.matching.recipe import EVERY, HIGHEST, Recipe
from lmc.symmetries import (
    ROWS,
    SCALE,
    STREAM,
    Group,
    ModelSpec,
    Space,
    Transform,
    compose,
    epsilon,
    gram,
    moved_by,
    rebuild,
    recompute_activations,
    set_epsilon,
    state,
)
from lmc.symmetries.families import spec as spec_of

Elements = dict[str, Tensor]
Rows = slice | Tensor


def turned(spec: ModelSpec) -> int:
    """How many channels of the stream a learned rotation turns; 1 where no rotation keeps the function.

    >>> turned(lmc.spec(model))
    16
    """
    stream = spec.space(STREAM).group
    return int(stream.n) if stream.dimension else 1


class Learner:
    """The state of a learned matching: transforms, Adam's moments, and one model that holds the merged weights.

    >>> recipe = Recipe.of("dual", steps=10, batch=4)
    >>> learner = Learner.of([lmc.canonicalize(a), lmc.canonicalize(b)], alignment.transforms, (0, 1), recipe, seed=0)
    >>> learner.advance(Data(tokens))                               # one step; returns the loss
    """

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
        """`states`: the endpoints' canonical weights; `roots`: √ε of each; `model`: a canonical model to overwrite.

        `moving`: which of the endpoints learn, by number.
        """
        self.spec, self.model, self.roots, self.moving = spec, model, tuple(roots), tuple(moving)
        self.recipe, self.seed, self.step = recipe.fitted(turned(spec)), seed, 0
        self.device = next(model.parameters()).device
        self.mesh = workers.mesh(self.device) if recipe.shard else None
        if self.mesh is not None:
            workers.shard_model(model, self.mesh)
        self.parameters = {name: p for name, p in model.named_parameters() if name in spec.rules}
        self.elements: list[Elements] = [_to(transform.elements, device=self.device) for transform in start]
        for elements in self.elements:
            workers.agree(elements)
        self.spaces = [space for space in spec.spaces if self._learns(space)]
        self.states = [self._frozen(state, transform) for state, transform in zip(states, start, strict=True)]
        shapes = {space.name: self.elements[0][space.name].shape for space in self.spaces}
        self.adams = [LieAdam(self.spaces, shapes, recipe.betas, self.device) for _ in states]
        self.losses: list[float] = []
        self.chances = torch.full((drawing.KNOTS,), 1 / drawing.KNOTS, dtype=torch.float64)  # until the first look
        self.best, self.best_value, self.best_step = [dict(e) for e in self.elements], math.inf, 0

    @classmethod
    def of(
        cls,
        models: Sequence[nn.Module],
        start: Sequence[Transform],
        moving: Sequence[int],
        recipe: Recipe,
        seed: int,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "Learner":
        """A learner of canonical models, which stay as they are; it works on its own copies, in `dtype`."""
        spec = spec_of(models[0])
        states = [_to(state(model), dtype=dtype) for model in models]
        work = rebuild(models[0], spec, states[0], untie=True).to(device).requires_grad_(True)
        if recipe.checkpointing:
            recompute_activations(work)
        roots = [math.sqrt(epsilon(model, spec)) for model in models]
        return cls(spec, work, states, roots, start, moving, recipe, seed)

    def _learns(self, space: Space) -> bool:
        kind = self.spec.kind(space.name)
        chosen = kind != SCALE if self.recipe.kinds is None else kind in self.recipe.kinds
        return chosen and space.group.dimension > 0

    def _frozen(self, state: Mapping[str, Tensor], start: Transform) -> dict[str, Tensor]:
        """An endpoint's weights under that part of its transform that does not learn (permutations above all).

        That part is applied once: it acts before the rest, or on other axes.
        """
        learning = {space.name for space in self.spaces}
        elements = {name: element for name, element in start.elements.items() if name not in learning}
        duals = {name: element for name, element in start.duals.items() if name not in learning}
        found = {}
        for name in self.parameters:
            exact = state[name].to(self.device).double()
            moved = moved_by(self.spec, name, exact, elements, duals).to(state[name].dtype)
            found[name] = workers.slice_of(moved, self.mesh)
        return found

    def save(self, path: Path) -> None:
        """Write the whole state to a safetensors file."""
        tensors = {"losses": torch.tensor(self.losses, dtype=torch.float64)}
        tensors["best"] = torch.tensor([self.best_step, self.best_value], dtype=torch.float64)
        for part, named in self._parts():
            for name, tensor in named.items():
                tensors[f"{part}/{name}"] = tensor.clone(memory_format=torch.contiguous_format)
        write_state(path, tensors)

    def restore(self, path: Path) -> None:
        """Continue from a state written by `save`: the rest of the run is bit for bit what it would have been.

        Raises CheckpointError for a state that has changed since.
        """
        tensors = read_state(path)
        self.losses, (best_step, self.best_value) = tensors["losses"].tolist(), tensors["best"].tolist()
        self.step, self.best_step = len(self.losses), int(best_step)
        for part, named in self._parts():
            for name, old in named.items():
                named[name] = tensors[f"{part}/{name}"].to(old)

    def _parts(self) -> Iterator[tuple[str, Elements]]:
        """All tensors of the state that change, by what they are and the endpoint they belong to."""
        for k, (elements, adam, best) in enumerate(zip(self.elements, self.adams, self.best, strict=True)):
            yield f"elements/{k}", elements
            yield f"first/{k}", adam.first
            yield f"second/{k}", adam.second
            yield f"best/{k}", best

    def keep(self, value: float) -> None:
        """Remember the current transforms if `value` is the lowest so far."""
        if value < self.best_value:
            self.best, self.best_value, self.best_step = [dict(e) for e in self.elements], value, self.step

    def transforms(self, elements: Sequence[Elements]) -> tuple[Transform, ...]:
        """`elements`, the current ones or the best, as transforms."""
        return tuple(Transform(self.spec, _to(named, device=torch.device("cpu"))) for named in elements)

    def weights(self) -> Tensor:
        """The point of the simplex for this step, [K]; it depends on seed, step and the last look alone."""
        if isinstance(self.recipe.lambdas, str):
            return drawing.near(self.chances, self.seed, self.step)
        return drawing.within(self.recipe.lambdas, len(self.states), self.seed, self.step)

    def gradients(self, batch: Data) -> tuple[float, list[Elements]]:
        """Loss of the merged model on the batch, and the gradient of every endpoint in Lie coordinates."""
        weights = self.weights()
        mine = workers.share(batch)
        with self._precision():
            frame = self.materialise(weights, mine)
        scale = workers.count() if self.mesh is not None else 1  # FSDP averages over processes; a sum is wanted here
        self.model.zero_grad(set_to_none=True)
        loss = torch.zeros(1, dtype=torch.float64, device=self.device)
        for part in mine.split(workers.parts(batch, self.recipe.accumulate)):
            with self._precision():
                term = losses(self.model, part).sum() / len(batch)
            (scale * term).backward()
            loss += term.detach()
        with self._precision():
            pulled = self.pull_back(weights, frame)
        named = {f"{k}/{name}": gradient for k, found in enumerate(pulled) for name, gradient in found.items()}
        # Sharded weights have whole gradients in every process already; others are summed over the processes.
        workers.total({"loss": loss} | (named if self.mesh is None else {}))
        return float(loss), self.common_frame(pulled)

    def _precision(self) -> AbstractContextManager[Any]:
        kind = getattr(torch, self.recipe.precision)
        if kind == torch.float32:
            return nullcontext()
        # Inside another autocast the casts would be kept from step to step, though the weights change.
        return torch.autocast(self.device.type, dtype=kind, cache_enabled=False)

    def midpoint_loss(self, data: Data) -> float:
        """The loss of the model in the middle, on data that learning does not see."""
        middle = torch.full((len(self.states),), 1 / len(self.states), dtype=torch.float64)
        return self.loss_at(middle, data)

    @torch.no_grad()
    def loss_at(self, weights: Tensor, data: Data) -> float:
        """The mean loss of the merged model at a point of the simplex."""
        mine = workers.share(data).to(self.device)
        total = torch.zeros(1, dtype=torch.float64, device=self.device)
        with self._precision():
            self.materialise(weights, mine)
            wanted = math.ceil(len(data) * self.recipe.accumulate / self.recipe.per_step)
            for part in mine.split(workers.parts(data, wanted)):
                total += losses(self.model, part).sum()
        workers.total({"loss": total})
        return float(total) / len(data)

    @torch.no_grad()
    def materialise(self, weights: Tensor, batch: Data) -> "Frame":
        """Write θ_w into the model, in the first endpoint's frame, as far as the batch reads it."""
        frame = Frame(self, batch)
        for name, rows in frame.parts():
            mixed = frame.rows(self.states[0][name], rows) * float(weights[0])
            for k in range(1, len(self.states)):
                mixed.add_(frame.moved(k, name, rows), alpha=float(weights[k]))
            if self.mesh is None:
                self.parameters[name][rows] = mixed
            else:
                self.parameters[name].copy_(workers.slice_of(mixed, self.mesh))
        if self.spec.epsilon is not None:
            set_epsilon(self.model, self.spec, frame.root(weights) ** 2)
        return frame

    @torch.no_grad()
    def pull_back(self, weights: Tensor, frame: "Frame") -> list[Elements]:
        """∂L/∂Ω of every endpoint but the first, in the first one's frame: G, contracted tensor by tensor."""
        last = len(self.states) - 1
        shapes = {space.name: self.elements[0][space.name] for space in self.spaces}
        totals = [{name: torch.zeros_like(like) for name, like in shapes.items()} for _ in range(last)]
        root = frame.root(weights)
        for name, rows in frame.parts():
            parameter = self.parameters[name]
            if parameter.grad is None:
                continue
            gradient, merged = frame.rows(parameter.grad, rows), frame.rows(parameter, rows)
            # What the last endpoint adds to the merged weights is what remains when all others are taken away.
            rest = merged - float(weights[0]) * frame.rows(self.states[0][name], rows)
            for k in range(1, last + 1):
                added = rest if k == last else float(weights[k]) * frame.moved(k, name, rows)
                rest = rest - added if k < last else rest
                for space in self.spaces:
                    total = totals[k - 1][space.name]
                    total += self.contract(space, name, gradient, added)
                    if space.name == SCALE:
                        # ε moves too. θ_w keeps its function under (writers, √ε) → s·(writers, √ε): this is ∂L/∂√ε.
                        share = float(weights[k]) * frame.roots[k] / root
                        total -= share * self.contract(space, name, gradient, merged)
        return totals

    def contract(self, space: Space, name: str, gradient: Tensor, moved: Tensor) -> Tensor | float:
        """One tensor's part of Σ G yᵀ along a space; a dual axis moves by −Ωᵀ."""
        dim = self.spec.stream_dim(name) if space.name == STREAM else None
        if dim is not None:  # the whole tensor at once; a rotation is its own dual
            gradient, moved = (t.movedim(dim, 0).reshape(t.shape[dim], -1) for t in (gradient, moved))
            return gradient @ moved.mT
        found: Tensor | float = 0.0
        for block in self.spec.blocks(name):
            if space.name in block.names:
                contracted = gram(block.of(gradient), block.of(moved), block.names, space)
                found = found + (-contracted.mT if block.axes[block.dim(space.name)].dual else contracted)
        return found

    def common_frame(self, pulled: Sequence[Elements]) -> list[Elements]:
        """The gradients of all endpoints, the first one's included, with respect to exp(Ω)·g_k."""
        found = []
        for totals in pulled:
            back = {}
            for space in self.spaces:
                first = self.elements[0][space.name]
                back[space.name] = space.group.tangent(space.group.dual(first) @ totals[space.name] @ first.mT)
            found.append(back)
        opposite = {space.name: -torch.stack([g[space.name] for g in found]).sum(0) for space in self.spaces}
        return [opposite, *found]

    def advance(self, data: Data) -> float:
        """One step; returns the loss. Raises DivergedError when it is not finite."""
        try:
            if self.recipe.lambdas == HIGHEST and self.step % EVERY == 0:
                probe = data.draw(drawing.PROBE, self.seed, self.step)
                self.chances = drawing.look(lambda weights: self.loss_at(weights, probe))
            loss, gradients = self.gradients(data.draw(self.recipe.per_step, self.seed, self.step).to(self.device))
        except torch.linalg.LinAlgError:  # a map has become singular
            loss = math.nan
        if not math.isfinite(loss):
            raise DivergedError(f"loss is {loss} at step {self.step}: lower the learning rate ({self.recipe.lr:g})")
        self.losses.append(loss)
        self.step += 1
        for k in self.moving:
            steps = self.adams[k].steps(gradients[k], self.step, self.recipe.rate(self.step))
            self.elements[k] = compose(self.spec, steps, self.elements[k])
        return loss


class Frame:
    """The endpoints as the first one sees them: h_k = g_0⁻¹g_k in working precision, and the rows a batch reads."""

    def __init__(self, learner: Learner, batch: Data) -> None:
        self.spec, self.states = learner.spec, learner.states
        self.sharded = learner.mesh is not None  # weights are then read by all processes, whole
        self.tokens = None if self.sharded or batch.labels is not None else batch.inputs.unique()
        dtype = next(iter(self.states[0].values())).dtype
        first, spaces = learner.elements[0], learner.spaces
        self.maps: list[tuple[Elements, Elements]] = []  # of each endpoint: its elements, and their duals
        self.roots = []  # √ε of each
        for root, elements in zip(learner.roots, learner.elements, strict=True):
            seen = {s.name: s.group.inverse(first[s.name]) @ elements[s.name] for s in spaces}
            duals = {s.name: s.group.dual(seen[s.name]) for s in spaces}
            self.maps.append((_to(seen, dtype=dtype), _to(duals, dtype=dtype)))
            scale = seen.get(SCALE, elements.get(SCALE))
            self.roots.append(root * (1.0 if scale is None else float(scale)))

    def parts(self) -> Iterator[tuple[str, Rows]]:
        """Every tensor, in rows that can be worked on alone; of an embedding those that the batch reads."""
        for name, tensor in self.states[0].items():
            if self.tokens is not None and self.spec.looked_up(name):
                yield from ((name, some) for some in self.tokens.split(ROWS))
            elif self.sharded:
                yield name, slice(None)
            else:
                yield from ((name, rows) for rows in self.spec.parts(name, len(tensor)))

    def rows(self, tensor: Tensor, rows: Rows) -> Tensor:
        """Some rows of a tensor, which may be sharded."""
        return workers.whole(tensor)[rows]

    def moved(self, endpoint: int, name: str, rows: Rows) -> Tensor:
        """h_k · θ_k, for some rows of a tensor."""
        return moved_by(self.spec, name, self.rows(self.states[endpoint][name], rows), *self.maps[endpoint])

    def root(self, weights: Tensor) -> float:
        """√ε of the merged model: it moves with the residual scale as a writer does, so it is averaged like one."""
        return sum(float(weight) * root for weight, root in zip(weights, self.roots, strict=True))


def _to(
    tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Elements:
    """The same tensors in a type, on a device; those that are so already are not copied."""
    return {name: tensor.to(device=device, dtype=dtype) for name, tensor in tensors.items()}


class LieAdam:
    """The moments of one endpoint's gradients, one pair for every learning space.

    >>> adam = LieAdam([Space("turn", lmc.symmetries.Orthogonal(2))], {"turn": (2, 2)}, (0.9, 0.99), device="cpu")
    >>> gradient = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    >>> adam.steps({"turn": gradient}, step=1, rate=1e-2)["turn"]    # near the identity, to compose with
    tensor([[ 1.0000, -0.0100],
            [ 0.0100,  1.0000]], dtype=torch.float64)
    """

    def __init__(
        self,
        spaces: Sequence[Space],
        shapes: Mapping[str, Sequence[int]],
        betas: tuple[float, float],
        device: torch.device | str,
    ) -> None:
        """`shapes`: of the elements, [*batch, n, n]."""
        self.groups: dict[str, Group] = {space.name: space.group for space in spaces}
        self.betas = betas
        self.first, self.second = (
            {name: torch.zeros(*shape, dtype=torch.float64, device=device) for name, shape in shapes.items()}
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
