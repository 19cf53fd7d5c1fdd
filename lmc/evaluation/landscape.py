"""The loss over the plane through three models, computed point by point.

>>> numbers = plane([a, b, alignment.models[1]], held_out, grid=3)
>>> numbers["points"]["third"]                                      # where the third model lies, in weight distance
[8.8..., 18.8...]

Weights are affine: a point of the plane is θ = Σ w_k θ_k with Σ w_k = 1, and outside the triangle some w_k < 0. So a
plane shows what a line cannot: how wide a valley is, and what lies between two of them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lmc.errors import ArgumentError
from lmc.evaluation.loss import as_data, evaluate, require_loss
from lmc.symmetries import epsilon, rebuild, require_stock, state
from lmc.symmetries.families import family_of, same_setting, timm_record
from lmc.symmetries.families import spec as spec_of

NAMES = ("first", "second", "third")
_PICTURES = ("mean", "std", "image_mean", "image_std", "rescale_factor", "do_rescale", "do_normalize")


def plane(models: Sequence[nn.Module], data: object, grid: int = 31, margin: float = 0.3) -> dict[str, Any]:
    """Loss of the models on a square grid of the plane through three models' weights.

    >>> plane([a, b, alignment.models[1]], held_out, grid=3)["losses"]      # [row][column], rows upwards

    The x axis points from the first to the second model, both at y = 0; the third is above. Units are distances in
    weight space, the same along both axes. `margin`: how far beyond the three the grid reaches, as a share of their
    extent. Returns `x`, `y` [grid], `losses` [grid][grid] in nats per token or image, and `points`.

    Raises ArgumentError for other than three models, models on one line or that differ in more than their weights,
    DataError for a class that has no loss here, and UnsupportedModelError for a model that was changed by hand.
    """
    if len(models) != 3:
        raise ArgumentError(f"plane: expected three models, found {len(models)}")
    if grid < 2:
        raise ArgumentError(f"grid: expected at least 2 points, found {grid}")
    spec = spec_of(models[0])
    _require_one_function(models)
    require_loss(models[0])
    if len({epsilon(m, spec) for m in models}) > 1:
        raise ArgumentError("plane: expected one ε in all norms, found several; align the models first")
    unseen = as_data(data, models[0])
    states = [state(m) for m in models]
    corners = coordinates(states)
    (low_x, low_y), (high_x, high_y) = corners.amin(0).tolist(), corners.amax(0).tolist()
    room_x, room_y = margin * (high_x - low_x), margin * (high_y - low_y)
    x = torch.linspace(low_x - room_x, high_x + room_x, grid, dtype=torch.float64)
    y = torch.linspace(low_y - room_y, high_y + room_y, grid, dtype=torch.float64)
    losses = torch.empty(grid, grid, dtype=torch.float64)
    work = rebuild(models[0], spec, states[0], untie=True)  # a head that is tied in one may be its own in another
    parameters = dict(work.state_dict())
    stacked = {name: torch.stack([s[name].double() for s in states]) for name in states[0]}
    for row, column in tqdm(torch.cartesian_prod(torch.arange(grid), torch.arange(grid)).tolist(), disable=None):
        weights = affine_weights(corners, torch.stack([x[column], y[row]]))
        for name, tensors in stacked.items():
            parameters[name].copy_(torch.einsum("k,k...->...", weights, tensors))
        losses[row, column] = evaluate(work, unseen)[0].mean()
    points = {name: corner for name, corner in zip(NAMES, corners.tolist(), strict=True)}
    return {"unit": unseen.unit, "x": x.tolist(), "y": y.tolist(), "losses": losses.tolist(), "points": points}


def _require_one_function(models: Sequence[nn.Module]) -> None:
    """Raise ArgumentError for models that differ in more than weights: a plane is computed with one's settings."""
    first, spec = models[0], spec_of(models[0])
    for model in models:
        require_stock(model)
    for number, other in enumerate(models[1:], start=2):
        which = f"plane: model 1 and model {number} differ in"
        if type(first) is not type(other):
            what = f"class: expected {type(first).__name__}, found {type(other).__name__}"
            raise ArgumentError(f"{which} {what}; only models that agree in it lie in one plane")
        here, there = (_apart_from_weights(model) for model in (first, other))
        told, wanted = _pictures(other), _pictures(first)
        here |= {name: wanted[name] for name in wanted.keys() & told.keys()}  # where both say
        there |= {name: told[name] for name in wanted.keys() & told.keys()}
        for name in [*sorted(here.keys() & there.keys()), *sorted(here.keys() ^ there.keys())]:
            own = spec.epsilon is not None and name == spec.epsilon.field  # said by itself
            if not own and not same_setting(here.get(name), there.get(name)):
                what = f"{name}: expected {here.get(name)}, found {there.get(name)}"
                raise ArgumentError(f"{which} {what}; only models that agree in it lie in one plane")


def _apart_from_weights(model: nn.Module) -> dict[str, object]:
    return {**family_of(model).settings(model), **{n: list(t.shape) for n, t in model.state_dict().items()}}


def _pictures(model: nn.Module) -> dict[str, object]:
    """How a model's pictures become numbers, as far as it says: all models of a plane read the same ones."""
    record = timm_record(model) | getattr(model, "preprocessor_config", {})
    return {name: _in_short(record[name]) for name in _PICTURES if record.get(name) is not None}


def _in_short(value: Any) -> object:
    """A number for each channel as one number where they are equal: a record may count more channels than are read."""
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    return numbers[0] if len(set(numbers)) == 1 else numbers


def coordinates(states: Sequence[dict[str, Tensor]]) -> Tensor:
    """Where three models lie in their plane, [3, 2]: the first at the origin, the second to its right, the third above.

    Raises ArgumentError where they lie on one line.
    """
    origin, second, third = (torch.cat([t.double().flatten() for t in s.values()]) for s in states)
    along, up = second - origin, third - origin
    length = along.norm()
    if length == 0:
        raise ArgumentError("plane: expected three different models, found the second equal to the first")
    across = up @ along / length
    rest = (up - across * along / length).norm()
    if rest <= 1e-6 * length:
        raise ArgumentError("plane: expected three models that are not on one line")
    return torch.tensor([[0, 0], [length, 0], [across, rest]], dtype=torch.float64)


def affine_weights(corners: Tensor, point: Tensor) -> Tensor:
    """The weights w with Σ w_k = 1 and Σ w_k corner_k = point, [3]."""
    system = torch.cat([corners.T, torch.ones(1, 3, dtype=corners.dtype)])
    return torch.linalg.solve(system, torch.cat([point, torch.ones(1, dtype=corners.dtype)]))
