"""Neighbours: what others do with two networks, each a line (or a curve) that `lmc.path` can walk.

>>> line = narrowed((a, b), "permutations, by weights")
>>> lmc.path(line, held_out, grid=3).barrier >= 0
True

What others match with is our closed form with fewer groups: `ROWS` says which. Their code was not run.
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from lmc.checkpoints import preprocessing
from lmc.evaluation import Data, as_data, losses, path
from lmc.matching import Alignment, barycentric, match, match_activations, match_weights
from lmc.reproduce.experiments.analyses import GRID, features_of_the_middle, layer_by_layer, loss, similarity
from lmc.reproduce.experiments.samples import RATES, Samples
from lmc.reproduce.runs import Pair
from lmc.symmetries import SCALE, Fixed, ModelSpec, Moved, Permutation, Space, Transform, canonicalize, rebuild, state
from lmc.symmetries.families import spec as spec_of

RATE = 1e-2  # of what is learned here, for which no other was tried


@dataclass(frozen=True)
class Row:
    """Which group each kind of space keeps (`None`: its own); kinds that are not named stay as they are."""

    paper: str
    by: str  # weights or activations
    groups: Mapping[str, type[Permutation] | None]


_ORDERS: dict[str, type[Permutation] | None] = {"stream": Permutation, "head": Permutation, "hidden": Permutation}
_INSIDE: dict[str, type[Permutation] | None] = {"value": None, "qk": None, "pass": None, "plane": None}
ROWS = {
    "permutations, by weights": Row("2209.04836", "weights", _ORDERS),
    "permutations, by activations": Row("2403.00986", "activations", _ORDERS),
    "rotations inside heads": Row("2502.00264", "weights", {"hidden": Permutation, **_INSIDE}),
}


def narrowed(models: Sequence[nn.Module], name: str, data: object = None) -> Alignment:
    """The alignment that a row of `ROWS` finds, each network matched to the first; all ends exact.

    >>> found = narrowed((a, b), "rotations inside heads").transforms[1]
    >>> bool((found.elements["stream"] == torch.eye(16)).all())
    True
    """
    row, spec = ROWS[name], spec_of(models[0])
    first, *others = (canonicalize(model) for model in preprocessing.common(models))
    smaller = _narrow(spec, row)
    if row.by == "weights":
        found = [match_weights(state(first), state(other), smaller).transform for other in others]
    else:
        samples = as_data(data, first).draw(512, 0, 0)
        found = [match_activations(first, other, smaller, samples).transform for other in others]
    return _aligned(name, models, found)


def straight_through(models: Sequence[nn.Module], data: object, steps: int) -> Alignment:
    """Permutations only, learned straight-through: of two at their midpoint, of more anywhere between them.

    >>> straight_through((a, b), match_on, steps=2).end_error(1) < 1e-4
    True

    2209.04836, their third method, for two; STE-MM (Ito, Yamada and Kumagai, ICML 2025) for more. Every network but
    the first has free weights, which start at the first one's. At every step it is permuted to be nearest to these, the
    loss of a merged network is taken, and its gradient moves the free weights as if they were the permuted network.
    """
    name, spec = "permutations, straight-through", spec_of(models[0])
    first, *others = (canonicalize(model) for model in preprocessing.common(models))
    smaller, mine, theirs = _narrow(spec, ROWS["permutations, by weights"]), state(first), [state(m) for m in others]
    samples, draw = as_data(data, first), torch.Generator().manual_seed(0)
    free = [{n: tensor.clone() for n, tensor in mine.items()} for _ in others]
    optimizer = torch.optim.Adam([t for one in free for t in one.values()], lr=RATE, betas=(0.9, 0.99))
    work = copy.deepcopy(first).requires_grad_(True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        shares = torch.ones(2) if len(models) == 2 else torch.rand(len(models), generator=draw)
        own, *rest = (shares / shares.sum()).tolist()
        moved = [Moved(match_weights(f, t, smaller).transform, t) for f, t in zip(free, theirs, strict=True)]
        merged = {n: own * mine[n] + sum(w * m[n] for w, m in zip(rest, moved, strict=True)) for n in mine}
        work.load_state_dict(merged)
        work.zero_grad()
        losses(work, samples.draw(_batch(samples), 0, step)).mean().backward()
        for n, parameter in work.named_parameters():
            for weight, one in zip(rest, free, strict=True):
                one[n].grad = None if parameter.grad is None else weight * parameter.grad
        optimizer.step()
    found = [match_weights(f, t, smaller).transform for f, t in zip(free, theirs, strict=True)]
    return _aligned(name, models, found)


def _batch(samples: Data) -> int:
    return 16 if samples.labels is None else 64


def _narrow(spec: ModelSpec, row: Row) -> ModelSpec:
    """The table with a row's groups."""
    return replace(spec, spaces=tuple(_space(s, row, spec) for s in spec.spaces))


def _aligned(name: str, models: Sequence[nn.Module], found: Sequence[Transform]) -> Alignment:
    """The alignment of networks by transforms of narrower groups, of all but the first."""
    spec = spec_of(models[0])
    moved = [Transform(spec, {s.name: _as_element(one.elements[s.name], s) for s in spec.spaces}) for one in found]
    return Alignment(name, tuple(models), (Transform.identity(spec), *moved), {"seed": 0})


def _space(space: Space, row: Row, spec: ModelSpec) -> Space:
    kind = spec.kind(space.name)
    kept = row.groups.get(kind, Fixed) if kind != SCALE else None
    return space if kept is None else replace(space, group=kept(space.group.n))


def _as_element(found: Tensor, space: Space) -> Tensor:
    """An order of axes as a matrix, where the space's own group is one of matrices."""
    if isinstance(space.group, Permutation) or found.is_floating_point():
        return found
    return torch.eye(space.group.n, dtype=torch.float64)[found]


@dataclass(frozen=True)
class SoftLine:
    """The line from one network to another whose units were mixed, so that its second end is another function."""

    parents: tuple[nn.Module, nn.Module]
    ends: tuple[nn.Module, nn.Module]

    def merge(self, at: Any, /) -> nn.Module:
        """The point at λ."""
        first, second = (state(model) for model in self.ends)
        one, other = barycentric(at, 2)
        mixed = {n: one * first[n] + other * second[n] for n in first}
        return rebuild(self.ends[0], spec_of(self.ends[0]), mixed)


def transported(start: Alignment, regularised: float = 0.05) -> SoftLine:
    """Optimal-transport fusion (1910.05653, 2310.05719): hidden units of the second are mixed by a transport plan.

    >>> transported(narrowed((a, b), "permutations, by weights")).ends  # doctest: +SKIP

    The plan between the units' incoming weights comes from the POT library (`pip install pot`); it has entropy, so
    units are mixed and not only reordered. What is fused is the pair as `start` leaves it.
    """
    import ot  # type: ignore[import-not-found,import-untyped,unused-ignore]  # an optional library

    first, second = start.models
    spec, mine, theirs = start.transforms[0].spec, state(start.models[0]), dict(state(start.models[1]))
    for space in spec.spaces:
        if spec.kind(space.name) != "hidden":
            continue
        uses = [(name, block) for name, block in spec.uses(space.name)]
        writers = [(n, b) for n, b in uses if not spec.writes(n)]
        x, y = (
            torch.cat([_rows(b.of(s[n]), b.dim(space.name)) for n, b in writers], 1).double() for s in (mine, theirs)
        )
        cost = torch.cdist(x, y).square()
        n = space.group.n
        even = torch.full((n,), 1 / n, dtype=torch.float64).numpy()
        plan = ot.sinkhorn(even, even, (cost / cost.max()).numpy(), regularised)
        soft = n * torch.from_numpy(plan)  # doubly stochastic, [units of the first, units of the second]
        for name, block in uses:
            dim, tensor = block.dim(space.name), theirs[name].clone()
            view = block.of(tensor)
            view.copy_(torch.tensordot(soft.to(view), view, ([1], [dim])).movedim(0, dim))
            theirs[name] = tensor
    return SoftLine(start.parents, (first, rebuild(second, spec, theirs)))  # type: ignore[arg-type]


def _rows(view: Tensor, dim: int) -> Tensor:
    return view.movedim(dim, 0).flatten(1) if view.ndim > 1 else view[:, None]


@dataclass(frozen=True)
class Curve:
    """A quadratic Bézier curve: both ends fixed, the point that bends it trained."""

    parents: tuple[nn.Module, ...]
    ends: tuple[nn.Module, nn.Module]
    bend: Mapping[str, Tensor]

    def merge(self, at: Any, /) -> nn.Module:
        """The point at λ."""
        t = barycentric(at, 2)[1]
        first, second = (state(model) for model in self.ends)
        return rebuild(
            self.ends[0], spec_of(self.ends[0]), {n: _bent(t, first[n], self.bend[n], second[n]) for n in first}
        )


def _bent(t: float, first: Tensor, bend: Tensor, second: Tensor) -> Tensor:
    return (1 - t) ** 2 * first + 2 * t * (1 - t) * bend + t**2 * second


def curved(line: Alignment, data: object, steps: int, lr: float = RATE, batch: int | None = None) -> Curve:
    """A curve trained between the ends of a line (Garipov et al., 1802.10026), t drawn from [0, 1] at every step.

    >>> lmc.path(curved(naive, match_on, steps=2), held_out, grid=3).barrier >= 0
    True
    """
    ends = line.models
    samples, draw = as_data(data, ends[0]), torch.Generator().manual_seed(0)
    first, second = (state(model) for model in ends)
    bend = {name: (first[name] + second[name]) / 2 for name in first}
    optimizer = torch.optim.Adam(list(bend.values()), lr=lr, betas=(0.9, 0.99))
    work = copy.deepcopy(ends[0]).requires_grad_(True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        t = float(torch.rand((), generator=draw))
        work.load_state_dict({name: _bent(t, first[name], bend[name], second[name]) for name in first})
        work.zero_grad()
        losses(work, samples.draw(batch or _batch(samples), 0, step)).mean().backward()
        for name, parameter in work.named_parameters():
            if parameter.grad is not None:
                bend[name].grad = 2 * t * (1 - t) * parameter.grad
        optimizer.step()
    return Curve(line.parents, ends, bend)  # type: ignore[arg-type]


def side_by_side(name: str, pair: Pair, samples: Samples, steps: int) -> dict[str, Any]:
    """Every method on one pair: the barrier, the seconds it took, and how far its end is from the second network.

    >>> samples = Samples(Data(match_on), Data(match_on), Data(held_out))
    >>> found = side_by_side("neox-docstrings-0", (a, b), samples, steps=2)
    >>> sorted(found["rows"]["dual"])
    ['barrier', 'end', 'middle', 'seconds']
    """
    lr, held_out, data = RATES[name.rpartition("-")[0]], samples.eval, samples.train
    lines: dict[str, Callable[[], Any]] = {m: partial(match, *pair, method=m) for m in ("naive", "canonical")}
    lines |= {row: partial(narrowed, pair, row, data) for row in ROWS}
    lines["permutations, straight-through"] = partial(straight_through, pair, data, steps)
    lines |= {m: partial(match, *pair, method=m, data=data) for m in ("weights", "activations")}
    lines["dual"] = partial(match, *pair, method="dual", data=data, steps=steps, lr=lr)
    if find_spec("ot"):  # POT, which is not among the dependencies
        lines["optimal transport"] = lambda: transported(made["permutations, by weights"])
    lines["curve between the raw networks"] = lambda: curved(made["naive"], data, steps)
    lines["curve between matched networks"] = lambda: curved(made["weights"], data, steps)
    made: dict[str, Any] = {}
    rows = {}
    parent = loss(pair[1], held_out)
    for row, make in lines.items():
        began = time.monotonic()
        made[row] = make()
        seconds = time.monotonic() - began
        walked = path(made[row], held_out, GRID)
        middle = walked.losses[GRID // 2]
        rows[row] = {
            "barrier": walked.barrier,
            "seconds": seconds,
            "end": abs(walked.losses[-1] - parent),
            "middle": middle,
        }
        print(f"{name} {row:<32} barrier {walked.barrier:.4f}  {seconds:.1f} s", flush=True)
    found: dict[str, Any] = {"rows": rows, "losses": [loss(model, held_out) for model in pair]}
    for row in ("naive", "weights", "dual"):
        found |= {
            f"layers, {row}": layer_by_layer(made[row], held_out),
            f"features, {row}": features_of_the_middle(made[row], held_out),
        }
        found[f"similarity, {row}"] = similarity(made[row].models, held_out)
    return found
