"""A match from the names of its models to its folder: checked, prepared, kept when it is stopped, written."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmc.cli.asked import named_as_options
from lmc.cli.said import say
from lmc.errors import CheckpointError, DivergedError
from lmc.files import whole_folder

if TYPE_CHECKING:
    import torch

    import lmc.matching


def start_of(start: str | None) -> Any:
    """What `align` begins from: a name as it is, an alignment read from its folder."""
    from lmc.matching import STARTS, Alignment

    return start if start is None or start in STARTS else Alignment.load(start)


def inspected(models: list[str], recipe: "lmc.matching.Recipe") -> "lmc.matching.Pairing":
    """The checkpoints, none of whose weights was read yet; what cannot be matched is refused here."""
    from lmc.matching import inspect_pair, require_fit, warn_of_epsilon

    say("checking that the models can be paired")
    pair = inspect_pair(models)
    if recipe.method != "naive":
        warn_of_epsilon([blueprint.model for blueprint in pair.blueprints])
    with named_as_options():
        require_fit(recipe, pair.blueprints[0].model, len(models))
    return pair


def prepared(models: list[str], out: Path, vocabulary: str | None) -> list[str]:
    """The models, adapters joined with their base, and with one vocabulary where that is asked for."""
    from lmc.matching import prepare, workers

    place = out.with_name(f"{out.name}.parents")
    if workers.first():
        prepare(models, place, vocabulary)
    workers.wait()
    ready = prepare(models, place, vocabulary)
    if ready != models:
        say(f"wrote {place}: the parents as they are matched; keep it beside {out}")
    return ready


def loaded_pair(pair: "lmc.matching.Pairing", dtype: "torch.dtype | None") -> Any:
    """The models of the checkpoints, in the memory of the processor: a device has room for what learns there."""
    from lmc import checkpoints

    models = []
    for blueprint in pair.blueprints:
        say(f"loading {blueprint.source.name}")
        models.append(checkpoints.load(blueprint, dtype=dtype))
    return tuple(models)


def warn_of_shared(method: str, names: list[str], models: "Sequence[torch.nn.Module]") -> None:
    """Say where models seem to share their start, for which averaging as they are may be enough."""
    from lmc.matching import independence, warn_if_shared

    if method == "naive":  # what shares a start may need no more than that
        return
    for (one, first), (name, other) in combinations(zip(names, models, strict=True), 2):
        warn_if_shared(one, name, independence(first, other))


def goes_on(state: Path | None) -> str:
    """How the work of an interrupted run can be gone on with, if any of it is kept."""
    return "the same command with --resume continues" if state is not None and state.exists() else ""


@contextmanager
def kept_when_stopped(
    state: Path | None, out: Path, leader: bool, named: "Callable[[lmc.matching.Alignment], lmc.matching.Alignment]"
) -> Iterator[None]:
    """Says how an interrupted run goes on, and keeps the best alignment of one that diverged, `named` as others are."""

    def changed() -> int:
        return state.stat().st_mtime_ns if state is not None and state.exists() else 0

    before = changed()
    try:
        yield
    except KeyboardInterrupt:
        if goes_on(state):
            say(f"interrupted: {goes_on(state)}")
        raise
    except (OSError, CheckpointError):  # a full disk, say: what was learned now is kept
        if state is not None and leader and not any(state.glob("*.safetensors")):
            shutil.rmtree(state, ignore_errors=True)
        if goes_on(state) and changed() != before:
            say(goes_on(state))
        raise
    except DivergedError as error:
        if error.alignment is None or not leader:
            raise
        if state is not None:  # a diverged state cannot be continued
            shutil.rmtree(state, ignore_errors=True)
        names = (out.with_name(f"{out.name}.best{n}") for n in ("", *range(2, 1000)))
        best = next(folder for folder in names if not folder.exists())
        named(error.alignment).save(best)
        raise DivergedError(f"{error}; the best alignment on the way is {best}") from None
    if state is not None and leader:
        shutil.rmtree(state, ignore_errors=True)


@contextmanager
def claimed(out: Path, leader: bool) -> Iterator[Path | None]:
    """The folder of the output, from now on this run's; of torchrun's processes one has it."""
    if not leader:
        yield None
        return
    with whole_folder(out) as folder:
        yield folder


def write(alignment: "lmc.matching.Alignment", folder: Path | None, export: bool, dtype: "torch.dtype | None") -> None:
    """Write an alignment into the folder that this run has, and if asked the aligned models, in their type."""
    import torch

    if folder is None:
        return
    if "stopped" in alignment.record:
        say(f"stopped early: {alignment.record['stopped']}")
    alignment.save(folder)
    if export:
        types = [next(parent.parameters()).dtype for parent in alignment.parents]
        alignment.export(folder / "models", dtype=dtype or reduce(torch.promote_types, types))
