"""What still holds of a folder: a row for each thing that merging relies on.

>>> verify("aligned").ok
True
>>> print(verify("aligned"))                                    # what was looked at, and what was found
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from lmc import checkpoints
from lmc.checkpoints import Blueprint
from lmc.errors import CheckpointError, LmcError, one_line, shown
from lmc.evaluation import PathResult
from lmc.files import watched
from lmc.matching.alignment import Alignment
from lmc.matching.folder import DESCRIPTION, LAST_PATH, describe, elements, fingerprint, require_whole
from lmc.matching.mergekit import configurations
from lmc.symmetries import Transform, example_inputs, logits, relative_change, state, tolerance


@dataclass(frozen=True)
class Row:
    """One thing that was looked at: whether it holds, and what was found."""

    what: str
    holds: bool
    found: str


@dataclass(frozen=True)
class Verification:
    """The rows of a verification, in the order in which they were looked at. `str` is a table."""

    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return all(row.holds for row in self.rows)

    def __str__(self) -> str:
        width = max(len(row.what) for row in self.rows)
        return "\n".join(f"{row.what:<{width}}  {'yes' if row.holds else 'NO ':<3}  {row.found}" for row in self.rows)


def verify(directory: str | Path) -> Verification:
    """Look at everything an alignment folder, or a folder with a merged or aligned model, must hold.

    >>> [row.what for row in verify("aligned").rows][:2]
    ['files', 'maps of parent 0']

    Nothing is written, and nothing is raised for what does not hold: it is a row. What depends on something that does
    not hold is not looked at. Raises CheckpointError only where there is neither an alignment nor a checkpoint.
    """
    folder = Path(directory)
    if not (folder / DESCRIPTION).exists():
        return Verification(tuple(_of_checkpoint(folder)))
    described = describe(folder)
    rows = [
        _row("files", lambda: _files(folder)),
        *(_row(f"maps of parent {k}", lambda k=k: _maps(folder, k)) for k in range(len(described["parents"]))),  # type: ignore[misc]
    ]
    if all(row.holds for row in rows):
        rows += _of_models(folder)
    if (folder / LAST_PATH).exists():
        rows.append(_row("measured path", lambda: _measured(folder)))
    return Verification(tuple(rows))


def _row(what: str, look: Callable[[], str]) -> Row:
    try:
        return Row(what, True, look())
    except (LmcError, OSError) as error:
        return Row(what, False, one_line(error))


def _files(folder: Path) -> str:
    described = describe(folder)
    require_whole(folder, described)
    return f"all {len(described['files'])} are those that were written"


def _maps(folder: Path, k: int) -> str:
    transform = Transform.load(folder / elements(k))
    return f"{len(transform.elements)} spaces, every element is one of its group"


def _of_models(folder: Path) -> list[Row]:
    """Parents, their pairing, and the ends of the path."""
    loaded: list[Alignment] = []

    def parents() -> str:
        loaded.append(Alignment.load(folder))
        return "weights, settings and tokenizers are those that were matched; they can be paired"

    rows = [_row("parents", parents)]
    if loaded:
        rows += [_row(f"λ at parent {k}", lambda k=k: _end(loaded[0], k)) for k in range(len(loaded[0].parents))]  # type: ignore[misc]
        rows += _of_exported(folder / "models", loaded[0])
    return rows


def _of_exported(folder: Path, alignment: Alignment) -> list[Row]:
    """The aligned models that were written into an alignment's folder, one for each parent, and nothing else there."""
    if not folder.exists():
        return []
    rows = []
    places = [folder / f"endpoint-{k}" for k in range(len(alignment.parents))]
    for k, place in enumerate(places):
        found = _of_checkpoint(place, alignment.endpoints[k]) if place.is_dir() else []
        found.append(_row("alignment", lambda k=k, place=place: _aligned(place, alignment.models[k])))  # type: ignore[misc]
        rows += [replace(row, what=f"models/{place.name}: {row.what}") for row in found]
    texts, wide = (configurations(len(places), kind) for kind in ("float32", "float64"))
    for name, text in texts.items():
        known = {text.encode(), wide[name].encode()}
        if (folder / name).exists() and (folder / name).read_bytes() not in known:
            rows.append(Row(f"models/{name}", False, "not as it was written; write the models again"))
    for place in sorted(set(folder.glob("[!.]*")) - {*places, *(folder / name for name in texts)}):
        rows.append(Row(f"models/{shown(place.name)}", False, "belongs to none of the parents; remove it"))
    return rows


def _aligned(place: Path, model: nn.Module) -> str:
    """Whether an exported model is where the alignment puts it; elsewhere it computes the same and averages badly."""
    found = checkpoints.load(place)
    if _shapes(found) != _shapes(model):
        raise CheckpointError("expected the tensors of this alignment's model, found others; write it again")
    own, dtype = state(model), checkpoints.inspect(place).dtype
    error = max(relative_change(own[name].double(), tensor.double()) for name, tensor in state(found).items())
    # Of a weight only its rounding, twice over; a logit may change by more.
    if not error <= min(tolerance(dtype), max(2 * torch.finfo(dtype).eps, tolerance(torch.float32))):
        raise CheckpointError(f"expected the weights of this alignment, found a change of {error:.1e}; write it again")
    return f"weights are those of this alignment, to {error:.1e}"


def _end(alignment: Alignment, k: int) -> str:
    return f"logits are the parent's to {require_end(alignment, k):.1e}"


def require_ends(alignment: Alignment) -> float:
    """The largest change of a logit at the ends of the path. Raises CheckpointError where rounding cannot explain it.

    >>> require_ends(alignment) < 1e-4
    True
    """
    parents = range(len(alignment.parents))
    return max(require_end(alignment, k) for k in watched(parents, len(parents), "ends of the path"))


def require_end(alignment: Alignment, k: int) -> float:
    """The change of a logit at one end, where all weight is on that model. Raises CheckpointError as `require_ends`."""
    return require_small(k, alignment.end_error(k), next(alignment.parents[k].parameters()).dtype)


def require_small(k: int, error: float, dtype: torch.dtype) -> float:
    """That change, if rounding in this type can explain it. Raises CheckpointError as `require_ends`."""
    if math.isnan(error):
        raise CheckpointError(f"parent {k}: expected finite logits, found NaN at its end of the path; was it damaged?")
    if not error <= tolerance(dtype):
        raise CheckpointError(
            f"parent {k}: expected the merged model at its end of the path to compute what it computes, to "
            f"{tolerance(dtype):.0e} of the largest logit, found a change of {error:.1e}; match the models again"
        )
    return error


def measured(directory: str | Path) -> PathResult | None:
    """The last path that was measured on an alignment folder; None where it was another alignment.

    >>> lmc.path(alignment, held_out, grid=3).to_json("aligned/path.json")     # does not say of which alignment it is
    >>> measured("aligned") is None
    True

    Raises CheckpointError for a file that is not what lmc path wrote.
    """
    folder = Path(directory)
    found = PathResult.from_json(folder / LAST_PATH)
    points = {len(point) if isinstance(point, tuple) else 2 for point in found.lambdas}
    same = found.alignment == fingerprint(folder) and points == {len(describe(folder)["parents"])}
    return found if same else None


def _measured(folder: Path) -> str:
    if measured(folder) is None:
        raise CheckpointError("measured on another alignment than this one; measure it again with lmc path")
    return "measured on this alignment"


def _of_checkpoint(folder: Path, parent: nn.Module | None = None) -> list[Row]:
    """A folder with a model: its files, what the stock library alone reads from it, and what that computes.

    One that an alignment exported computes what its parent does.
    """
    found: list[tuple[Blueprint, nn.Module]] = []
    if parent is None and not (folder / "config.json").exists():
        checkpoints.inspect(folder)  # says what is missing

    def weights() -> str:
        blueprint = checkpoints.inspect(folder)
        found.append((blueprint, checkpoints.load(blueprint)))
        return f"{type(blueprint.model).__name__}, {len(blueprint.tensors)} tensors, all finite"

    def reloaded() -> str:
        blueprint, model = found[0]
        if parent is not None and _shapes(model) != _shapes(parent):
            raise CheckpointError(
                f"expected {type(parent).__name__} of the parent's shapes, found another model; write it again"
            )
        dtype, inputs = next(model.parameters()).dtype, example_inputs(model)
        with torch.no_grad():
            stock = logits(checkpoints.reload(blueprint).to(dtype), inputs)
            mine = logits(model if parent is None else parent, inputs)
        if not bool(stock.isfinite().all()):
            raise CheckpointError("expected finite logits, found NaN or infinity; write it again")
        if not (error := relative_change(mine, stock)) <= tolerance(blueprint.dtype):
            raise CheckpointError(f"expected the model's logits, found a change of {error:.1e}; write it again")
        what = "the same logits" if parent is None else "logits are the parent's"
        return f"by {blueprint.family.library} alone: {what}, to {error:.1e}"

    rows = [_row("files", lambda: _written(folder)), _row("checkpoint", weights)]
    return [*rows, _row("stock reload", reloaded)] if found else rows


def _shapes(model: nn.Module) -> tuple[type[nn.Module], dict[str, torch.Size]]:
    return type(model), {name: tensor.shape for name, tensor in model.state_dict().items()}


def _written(folder: Path) -> str:
    return f"all {checkpoints.require_written(folder)} are those that were written"
