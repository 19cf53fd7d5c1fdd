"""What the words of a command ask for: looked at before a weight is read, and refused in one line.

>>> mixture("0.2,0.3,0.5")
[0.2, 0.3, 0.5]
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lmc.cli.numbers import WHOLE, decimal
from lmc.cli.said import warn
from lmc.errors import ArgumentError, CheckpointError, IncompatibleModelsError, LmcError
from lmc.files import refuse_no_file, refuse_no_place
from lmc.matching import Recipe

if TYPE_CHECKING:
    import torch

    from lmc.checkpoints.architecture import Architecture

# Options of match that serve learning.
LEARNING = ("steps", "lr", "batch", "accumulate", "precision", "checkpointing", "patience", "lambdas", "shard")
CORPUS = "embedded, wikitext, fineweb, digits, cifar10, imagenet, a text file, or a folder"


@contextmanager
def named_as_options() -> Iterator[None]:
    """What the package says of an argument, said of the option that gave it."""
    try:
        yield
    except ArgumentError as error:
        raise ArgumentError(f"--{error}") from None


def recipe_of(context: typer.Context) -> Recipe:
    """The method, and how it learns, as the options of match say. Raises ArgumentError."""
    with named_as_options():
        return Recipe.of(context.params["method"], **{name: context.params[name] for name in LEARNING})


def require_use(context: typer.Context, recipe: Recipe) -> None:
    """Options that go with the method: what it needs is there, and what it has no use for is refused or said."""
    data, by_frequency, start, resume = (context.params[name] for name in ("data", "by_frequency", "start", "resume"))
    _require_corpus(recipe, data, by_frequency)
    _require_learning(recipe, start, resume)
    idle = [*(() if recipe.learned else LEARNING), *(() if recipe.reads_data or by_frequency else ("data", "limit"))]
    warn_of_idle(context, idle, f"by the method {recipe.method}")


def warn_of_idle(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Say which of these options were given for nothing."""
    given = [f"--{name}" for name in names if on_the_line(context, name)]
    if given:
        warn(f"{', '.join(given)}: not used {why}")


def on_the_line(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    return str(context.get_parameter_source(name)).endswith("COMMANDLINE")


def _require_corpus(recipe: Recipe, data: str | None, by_frequency: bool) -> None:
    """A corpus that is known, where one is needed."""
    if data is not None:
        from lmc import corpora

        corpora.kind(data)
    if by_frequency and recipe.method != "weights":
        raise ArgumentError(f"--by-frequency: expected the method weights, found {recipe.method}")
    if data is None and (by_frequency or recipe.reads_data):
        raise ArgumentError(f"--data: the method {recipe.method} needs a corpus ({CORPUS}), found none")


def _require_learning(recipe: Recipe, start: str | None, resume: bool) -> None:
    """A method that learns, where that is meant; a start that is known, or the folder of an alignment."""
    from lmc.matching import STARTS, describe, refuse_start

    for option, asked in (("--start", start is not None), ("--resume", resume)):
        if asked and not recipe.learned:
            raise ArgumentError(f"{option}: expected a method that learns (single or dual), found {recipe.method}")
    if start is not None and start not in STARTS:
        try:
            with named_as_options():
                refuse_start(describe(start)["method"])
        except CheckpointError as error:
            known = ", ".join(STARTS)
            raise ArgumentError(f"--start: expected one of {known} or an alignment folder: {error}") from None


def require_models(models: list[str]) -> "Architecture | None":
    """Two models at least, each of which is somewhere, and alike; the class of the first, where it is known."""
    if len(models) < 2:
        raise ArgumentError(f"models: expected at least two, found {len(models)}")
    return require_alike(models)


def refuse_inside(out: Path, folders: Sequence[str | Path]) -> None:
    """Refuse a new folder within one of a model's: who publishes or checks that would find it there.

    >>> refuse_inside(Path("run-1/aligned"), ["run-1", "run-2"])
    Traceback (most recent call last):
    lmc.errors.ArgumentError: run-1/aligned: lies in the folder of a model, run-1; choose another place
    """
    place = Path(os.path.realpath(out))
    for folder in folders:
        if os.path.isdir(folder) and Path(os.path.realpath(folder)) in place.parents:
            raise ArgumentError(f"{out}: lies in the folder of a model, {folder}; choose another place")


def require_alike(models: list[str]) -> "Architecture | None":
    """Models that are known, and of one class as far as can be seen without torch: of timm's it is not. The first's.

    Their files hold the same tensors, where that can be seen as well.
    """
    found = [require_known(name) for name in models]
    for number, other in enumerate(found[1:], start=2):
        if found[0] and other and _kind(found[0]) != _kind(other):
            raise IncompatibleModelsError(
                f"model 1 and model {number} differ in class: expected {found[0].name}, found {other.name}; only "
                "models that agree in it can be averaged"
            )
    _require_same_tensors(models, found)
    return found[0]


def _require_same_tensors(models: list[str], found: "list[Architecture | None]") -> None:
    """Models that lie here, and have equal settings, have no tensor that only one of them has."""
    from lmc.checkpoints import foreign, hub, side_by_side

    known = [(hub.locate(name), stock) for name, stock in zip(models, found, strict=True) if stock]
    here = [(stock, source.folder, foreign.weights(source, "")) for source, stock in known if source.repository is None]
    for other in here[1:]:
        side_by_side.require_same(here[0], other)


def _kind(stock: "Architecture") -> tuple[str, str]:
    return stock.library, stock.name if stock.library == "transformers" else ""


def require_known(name: str) -> "Architecture | None":
    """A model that is somewhere, of a class that is covered, with weights that can be read: that class, where known.

    What can be seen without torch, which takes a second to import: an adapter's class is found with its base.
    """
    from lmc.checkpoints import architecture, foreign, headers, hub, side_by_side

    source = hub.locate(name)
    if not (source.folder / "config.json").exists() or foreign.is_adapter(source):
        return None
    stock, files = architecture.of(source), foreign.weights(source, name)
    if source.repository is None:  # else they may not be here yet
        headers.require_readable(source.folder, files)
        side_by_side.require_whole(source.folder, files)
    return stock


def require_reader(corpus: str | None, stock: "Architecture | None") -> None:
    """A corpus, if there is one, that is known, and of what a class reads, where the class is known."""
    from lmc.corpora import kind, require_kind
    from lmc.symmetries.families import reads

    if corpus is not None and stock is None:
        kind(corpus)
    elif corpus is not None and stock is not None:
        require_kind(corpus, reads(stock.library, stock.name), f"the model {stock.name}")


def class_of(alignment: Path) -> "Architecture | None":
    """The class of the first of aligned models, if its folder says so; what is wrong there is said when it is read."""
    from lmc.checkpoints import architecture, hub
    from lmc.matching import parent_folders

    folder = parent_folders(alignment)[0]
    with warnings.catch_warnings(), suppress(LmcError):
        warnings.simplefilter("ignore")
        return None if folder is None or not folder.is_dir() else architecture.of(hub.locate(folder))
    return None


def require_places(alignment: Path, data: str, plot: Path | None, result_file: Path | None) -> None:
    """Places for what `path` writes at its end, before its work: none takes that of a parent, or of the data."""
    from lmc.matching import LAST_PATH, describe, refuse_own

    if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
        raise ArgumentError(f"--plot: expected a file ending in .png, .svg or .pdf, found {plot}")
    if plot is not None and result_file is not None and os.path.realpath(plot) == os.path.realpath(result_file):
        raise ArgumentError(f"--plot and --json: expected two files, found {plot} for both; choose another name")
    if plot is not None:
        from lmc.evaluation import refuse_plot

        refuse_plot(len(describe(alignment)["parents"]))
    for file in (file for file in (plot, result_file) if file is not None):
        refuse_no_place(refuse_no_file(file))
        refuse_own(alignment, file)
        _refuse_in_data(file, data)
    refuse_no_file(alignment / LAST_PATH)


def _refuse_in_data(file: Path, data: str) -> None:
    """Refuse to write what would be read as data from then on, or in its place."""
    from lmc.corpora import would_read

    if would_read(data, file):
        raise ArgumentError(f"{file}: lies in the data, {data}, which it would change; choose another name")


def state_folder(out: Path, resume: bool) -> Path:
    """Where an interrupted run is kept, beside its output."""
    state = out.with_name(f"{out.name}.partial")
    if resume and not (state / "run.json").is_file():
        raise CheckpointError(f"{state}: expected the state of an interrupted run, found none")
    if state.exists() and not resume:
        raise CheckpointError(f"{state}: holds an interrupted run; continue it with --resume, or delete the folder")
    return state


def parent_number(name: str, count: int) -> int:
    """The parent that a word or a number stands for, counted from 0."""
    words = ("first", "second", "third", "fourth")
    number = words.index(name) if name in words else int(name) - 1 if WHOLE.fullmatch(name) else -1
    if not 0 <= number < count:
        known = ", ".join(words[:count])
        raise ArgumentError(f"--take-from: expected {known} or a number from 1 to {count}, found {name!r}")
    return number


def mixture(at: str) -> float | list[float]:
    """What --at says: a λ, or a weight for each model. Raises ArgumentError."""
    try:
        weights = [decimal(part.strip()) for part in at.split(",")]
    except ValueError:
        raise ArgumentError(f"--at: expected a number, or weights like 0.2,0.3,0.5, found {at!r}") from None
    return weights[0] if len(weights) == 1 else weights


def dtype_of(name: str | None) -> Any:
    """The type of weights that a name stands for. Raises ArgumentError."""
    from lmc.checkpoints import headers

    if name is None:
        return None
    if name not in (known := headers.TYPES.values()):
        raise ArgumentError(f"--dtype: expected one of {', '.join(known)}, found {name!r}")
    import torch

    return getattr(torch, name)


def device_of(name: str | None) -> "torch.device | None":
    """The device that a name stands for, if this machine has it. Raises ArgumentError."""
    from lmc.matching import usable_device

    if name == "cuda" and "LOCAL_RANK" in os.environ:  # torchrun: every process its own
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    with named_as_options():
        return usable_device(name)
