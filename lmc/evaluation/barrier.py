"""The path between endpoints and its loss barrier."""

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from lmc.errors import ArgumentError, CheckpointError, DataError, require_whole
from lmc.evaluation import plot
from lmc.evaluation.loss import AT_ONCE, Data, as_data, evaluate, require_loss
from lmc.files import read_json, seal, watched, whole_file, write_whole
from lmc.symmetries.families import narrowest

RESAMPLES = 1000
MOST = 10_000  # points of a path: each is a model whose losses are kept
AGAIN = "measure it again with lmc path, or remove the file"


class Mergeable(Protocol):
    """Models and what lies between them, as an alignment is: what a path needs to know of one."""

    @property
    def parents(self) -> tuple[nn.Module, ...]: ...

    def merge(self, at: Any, /) -> nn.Module: ...


M = TypeVar("M", bound=Mergeable)


@dataclass(frozen=True)
class PathResult:
    """Loss and accuracy of the merged models along the line between two endpoints, or over the simplex of K.

    `barrier` is max over the path of L(λ) − ((1−λ) L(0) + λ L(1)), ≥ 0 by construction; `interval` its 95 % paired
    bootstrap over samples, recomputing the maximum; `gap` the signed difference between the midpoint and the better
    (best) endpoint. `metric` says the unit: nats per token or nats per image. With K > 2 endpoints an entry of
    `lambdas` is the tuple of their weights. `corpus` is the name of the data, where it has one, `seed` what drew its
    samples, and `alignment` the fingerprint of the alignment folder that was measured, where it was one. `read` is the
    share of the samples that matching had read, where that is known and so large that losses say little, and `digest`
    a SHA-256 of the samples themselves, where a command measured them.
    """

    lambdas: tuple[Any, ...]
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    barrier: float
    interval: tuple[float, float]
    gap: float
    metric: str
    samples: int
    corpus: str | None = None
    alignment: str | None = None
    seed: int | None = None
    read: float | None = None
    digest: str | None = None

    def to_json(self, file: str | Path | None = None) -> str:
        """The result as JSON text with its own SHA-256, also written to `file` if one is named."""
        plain = asdict(self)
        text = json.dumps(plain | {"sha256": seal(plain)}, indent=1, sort_keys=True) + "\n"
        if file is not None:
            write_whole(Path(file), text)
        return text

    @classmethod
    def from_json(cls, file: str | Path) -> "PathResult":
        """The result that `to_json` wrote. Raises CheckpointError for one that was changed since."""
        plain = read_json(Path(file))
        if plain.pop("sha256", None) != seal(plain):
            raise CheckpointError(f"{file}: expected what lmc path wrote, found a field that was changed; {AGAIN}")
        try:
            return cls.of(plain)
        except (KeyError, TypeError):
            raise CheckpointError(f"{file}: expected what lmc path writes, found other fields; {AGAIN}") from None

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "PathResult":
        """The result whose fields these are, as JSON has them. Raises KeyError or TypeError where they are others."""
        lambdas = tuple(tuple(p) if isinstance(p, list) else p for p in plain["lambdas"])
        found = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()} | {"lambdas": lambdas})
        numbers = (found.losses, found.accuracies, found.interval, [found.barrier, found.gap, found.samples])
        if not all(math.isfinite(x) for x in itertools.chain(*numbers)) or len(lambdas) != len(found.losses):
            raise TypeError("expected a finite loss for every point")
        return found

    def plot(self, file: str | Path | None = None) -> Any:
        """A matplotlib figure, also written to `file` if one is named: the loss along the line, or over the triangle.

        Raises ArgumentError for more than three endpoints.
        """
        if isinstance(self.lambdas[0], tuple):
            figure = self._triangle()
        else:
            figure, axes = plot.frame(plot.PATH, f"held-out loss [{self.metric}]")
            plot.path_line(axes, 0, "merged", self.lambdas, self.losses)
            axes.legend()
        if file is not None:
            with whole_file(file) as aside:
                figure.savefig(aside)
        return figure

    def _triangle(self) -> Any:
        """Three endpoints at the corners, a point wherever the loss was measured, its colour the loss."""
        refuse_plot(len(self.lambdas[0]))
        corners = torch.tensor([[0, 0], [1, 0], [0.5, math.sqrt(0.75)]], dtype=torch.float64)
        points = torch.tensor(self.lambdas, dtype=torch.float64) @ corners
        figure, axes = plot.frame("", "")
        across, up = points.T.tolist()
        shown = axes.scatter(across, up, c=self.losses, s=200, cmap="viridis")
        for name, corner, side in zip("ABC", corners.tolist(), ("top", "top", "bottom"), strict=True):
            shift = (0, 12 if side == "bottom" else -12)
            axes.annotate(f"model {name}", corner, shift, textcoords="offset points", ha="center", va=side)
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.margins(0.15)
        figure.colorbar(shown, label=f"held-out loss [{self.metric}]")
        return figure


def refuse_plot(endpoints: int) -> None:
    """Raise ArgumentError where `PathResult.plot` has no picture for so many endpoints."""
    if endpoints > 3:
        raise ArgumentError(f"plot: expected the path of two or three models, found {endpoints}")


def path(
    alignment: Mergeable, data: object, grid: int | None = None, batch: int = AT_ONCE, seed: int = 0
) -> PathResult:
    """Evaluate the merged models along the path on held-out data.

    >>> found = lmc.path(alignment, data=held_out, grid=5)
    >>> found.barrier >= 0, found.metric, found.lambdas
    (True, 'nats per token', (0.0, 0.25, 0.5, 0.75, 1.0))

    `data`: token ids [n, T], or (images [n, C, H, W], labels [n]), or an iterable of such batches; never data that
    matching has seen. `grid`: points on the line, 25 by default; with K > 2 endpoints, points on each edge of the
    simplex (5). The middle comes to them where they pass it by. `batch`: samples at once, fewer where the logits of
    long texts would take more than a gigabyte. Raises DataError, ArgumentError.
    """
    for name, value, least in (("grid", grid, 2), ("batch", batch, 1), ("seed", seed, 0)):
        if value is not None:
            require_whole(name, value, least)
    points = simplex(len(alignment.parents), grid)
    middle = (1 / len(alignment.parents),) * len(alignment.parents)
    if middle not in points:
        points = sorted([*points, middle], key=lambda p: p[1]) if len(middle) == 2 else [*points, middle]
    require_loss(alignment.parents[0])
    checked = as_data(data, narrowest(alignment.parents))
    losses, correct = [], []
    for weights in watched(points, len(points), "path"):
        loss, right = evaluate(alignment.merge(weights), checked, batch)
        if not bool(loss.isfinite().all()):
            raise DataError(f"path: expected finite losses, found NaN or infinity at the weights {weights}")
        losses.append(loss)
        correct.append(float(right.mean()))
    table = torch.stack(losses)  # (points, samples)
    w = torch.tensor(points, dtype=torch.float64)
    corners = [points.index(corner) for corner in simplex(w.shape[1], 2)]
    means = table.mean(1)
    return PathResult(
        lambdas=tuple(p[1] for p in points) if w.shape[1] == 2 else tuple(points),
        losses=tuple(means.tolist()),
        accuracies=tuple(correct),
        barrier=float(barrier_of(means[:, None], w, corners)),
        interval=bootstrap_interval(table, w, corners, seed),
        gap=float(means[points.index(middle)]) - float(means[corners].min()),
        metric=checked.unit,
        samples=len(checked),
    )


def lowest_midpoint(alignments: Iterable[M], data: Data) -> M:
    """Of several alignments of the same models, the one whose midpoint has the lowest loss.

    >>> start = lowest_midpoint([naive, alignment], as_data(match_on, a).draw(16, seed=0, step=0))
    """

    def loss(alignment: M) -> float:
        middle = [1 / len(alignment.parents)] * len(alignment.parents)
        return float(evaluate(alignment.merge(middle).to(data.inputs.device), data)[0].mean())

    return min(alignments, key=loss)


def simplex(count: int, grid: int | None) -> list[tuple[float, ...]]:
    """Evenly spaced weights of `count` endpoints that sum to one, first endpoint first."""
    grid = (25 if count == 2 else 5) if grid is None else grid
    if grid < 2:
        raise ArgumentError(f"grid: expected at least 2 points, found {grid}")
    if (points := math.comb(grid + count - 2, count - 1)) > MOST:
        raise ArgumentError(f"grid: expected at most {MOST:,} points between the models, found {points:,}; lower it")
    steps = grid - 1
    rows = (c for c in itertools.product(range(grid), repeat=count - 1) if sum(c) <= steps)
    return [((steps - sum(c)) / steps, *(x / steps for x in c)) for c in rows]


def barrier_of(losses: Tensor, weights: Tensor, corners: list[int]) -> Tensor:
    """max over points of loss − the same mixture of the endpoints' losses; losses [points, resamples]."""
    # Corners come in the order of `simplex(K, 2)`: e_1, then e_K … e_2 for K endpoints, so order them by their weight.
    order = weights[corners].argmax(1).argsort()
    ends = losses[[corners[i] for i in order]]
    return (losses - weights @ ends).amax(0).clamp_min(0)


def bootstrap_interval(table: Tensor, weights: Tensor, corners: list[int], seed: int) -> tuple[float, float]:
    """The 95 % interval of the barrier over samples; `table` holds the losses [points, samples]."""
    generator = torch.Generator().manual_seed(seed)
    n = table.shape[1]
    barriers = []
    for _ in range(RESAMPLES):
        sample = torch.randint(n, (n,), generator=generator)
        barriers.append(barrier_of(table[:, sample].mean(1, keepdim=True), weights, corners))
    low, high = torch.quantile(torch.cat(barriers), torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(low), float(high)
