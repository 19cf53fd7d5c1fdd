"""The command line: `lmc check | match | path | merge | convert | reproduce`.

    lmc check run-1 run-2
    lmc match run-1 run-2 --method dual --data embedded --out aligned
    lmc path aligned --data embedded
    lmc merge aligned --at 0.5 --out merged

It parses, says what happens and leaves the work to the package. A user's mistake is one line and exit code 2, found
before a weight is read where that is possible. torch and the model libraries are imported when a command runs.
"""

import os
import shutil
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmc.errors import ArgumentError, CheckpointError, DivergedError, LmcError, is_out_of_memory

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lmc.matching import Alignment, Pair

UsageError: Any = typer.BadParameter.__base__  # typer does not export it, and where it lives depends on the version

app = typer.Typer(
    help="Linear mode connectivity of transformers: symmetries, matching and merging, exactly.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

STEPS = 300  # of learned matching, by default
MEASURED = "path.json"  # in an alignment folder: the last path that was measured
Model = Annotated[str, typer.Argument(help="A folder in the stock layout, or a hub name (name@revision).")]
Models = Annotated[list[str], typer.Argument(help="Folders in the stock layout, or hub names (name@revision).")]
CORPUS = "embedded, wikitext, fineweb, digits, cifar10, imagenet, a text file, or a folder"
Aligned = Annotated[Path, typer.Argument(help="An alignment folder, made by lmc match.")]
Out = Annotated[Path, typer.Option(help="A new folder.")]
Data = Annotated[str | None, typer.Option(help=f"The corpus: {CORPUS}.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Use at most that many windows or images.")]
Device = Annotated[str | None, typer.Option(help="Where to compute: cpu, cuda, …")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, …; as stored but at least float32 by default.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides every random choice.")]


@app.command()
def check(models: Models, seed: Seed = 0) -> None:
    """Are a model's symmetries exact? Can two be paired?

    With one model: every declared symmetry, tried on it. With more: architecture, settings and tokenizers compared
    before a weight is read, then whether they are independent and what matching will take.
    """
    from lmc import checkpoints

    if len(models) == 1:
        from lmc.symmetries import check_copies

        dtype = checkpoints.inspect(models[0]).dtype  # as stored; read twice, so that only one copy is alive
        report = check_copies(lambda: checkpoints.load(models[0], dtype=dtype), seed)
        print(report)
        if not report.ok:
            raise typer.Exit(1)
        return
    from lmc.checkpoints import provenance
    from lmc.matching import SHARED, independence, inspect_pair, step_seconds

    pair = inspect_pair(models)
    first = checkpoints.load(models[0])
    print(f"{type(first).__name__}: these can be paired")
    print(pair)
    step = step_seconds(first)
    if step is not None:
        shown = f"about {provenance.duration(STEPS * step)} for {STEPS} steps of learning"
        shown += f" (an estimate, on {next(first.parameters()).device}: {step:.2g} s a step)"
        print(f"{'time for matching':<24} {shown}")
    for name in models[1:]:
        cosine = independence(first, checkpoints.load(name))
        print(f"{'cosine of the weights':<24} {cosine:.3f} ({models[0]}, {name})")
        if abs(cosine) >= SHARED:
            _warn(f"cosine {cosine:.3f} ≥ {SHARED}: {models[0]} and {name} may share an initialisation")


@app.command()
def match(
    models: Models,
    out: Out,
    method: Annotated[str, typer.Option(help="naive, canonical, weights, activations, single or dual.")] = "dual",
    data: Data = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of learned matching.")] = STEPS,
    lr: Annotated[float | None, typer.Option(help="Learning rate (default: the method's own).")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Windows or images in a step.")] = None,
    limit: Limit = None,
    device: Device = None,
    dtype: Dtype = None,
    seed: Seed = 0,
    accumulate: Annotated[int, typer.Option(min=1, help="Parts a batch is cut into, to need less memory.")] = 1,
    precision: Annotated[str, typer.Option(help="Of learning's matrix products: float32 or bfloat16.")] = "float32",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Compute activations twice, keep none.")
    ] = False,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after that many checks (every 50 steps) without a better midpoint.")
    ] = None,
    shard: Annotated[bool, typer.Option("--shard", help="Under torchrun: slices of weights, for big models.")] = False,
    by_frequency: Annotated[
        bool,
        typer.Option("--by-frequency", help="Method weights: count embeddings by their tokens in --data."),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    export: Annotated[bool, typer.Option("--export", help="Also write the aligned models, as OUT/models.")] = False,
) -> None:
    """Align models, so that their weights can be averaged.

    Writes one transformation per model into a new folder; what lmc path and lmc merge read. Under torchrun every
    process takes its share of each batch.
    """
    import torch

    from lmc import corpora
    from lmc.evaluation import require_loss
    from lmc.files import refuse_occupied, whole_folder
    from lmc.matching import LARGEST_RATE, LEARNED, METHODS, PRECISIONS, can_stream, match_folders, workers
    from lmc.matching import match as align

    if method not in METHODS:
        raise ArgumentError(f"--method: expected one of {', '.join(METHODS)}, found {method!r}")
    if len(models) < 2:
        raise ArgumentError(f"models: expected at least two, found {len(models)}")
    if lr is not None and not 0 < lr <= LARGEST_RATE:
        raise ArgumentError(f"--lr: expected a number in (0, {LARGEST_RATE}], found {lr}")
    if precision not in PRECISIONS:
        raise ArgumentError(f"--precision: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
    if data is not None:
        corpora.kind(data)
    if by_frequency and method != "weights":
        raise ArgumentError(f"--by-frequency: expected the method weights, found {method}")
    needs_data = by_frequency or method in ("activations", *LEARNED)
    if needs_data and data is None:
        raise ArgumentError(f"--data: the method {method} needs a corpus ({CORPUS}), found none")
    refuse_occupied(out)
    state = _state_folder(out, resume) if method in LEARNED else None
    kind, place = _dtype(dtype), _device(device)
    with workers.process_group(place) as leader:
        pair, samples = _compare(models), None
        if method in LEARNED:
            require_loss(pair.blueprints[0].model)
        if needs_data and data is not None:  # read before any weight: a corpus that does not fit is found early
            first = pair.blueprints[0]
            samples = _samples(data, first.model, "match", first.source.folder, limit, seed)
        counts = _counts(samples, pair.blueprints[0].model) if by_frequency and samples is not None else None
        if method == "weights" and can_stream(pair.blueprints, kind):
            _say(f"matching with {method}, one part at a time")
            match_folders(pair.blueprints, out, kind, place, seed, export, counts)
            _say(_next(out, data))
            return
        loaded = _load(pair, place, kind)
        _say(f"matching with {method}")
        try:
            alignment = align(
                loaded,
                method=method,
                data=samples,
                steps=steps,
                lr=lr,
                batch=batch,
                device=place,
                seed=seed,
                resume=state,
                accumulate=accumulate,
                precision=precision,
                checkpointing=checkpointing,
                patience=patience,
                shard=shard,
                frequencies=counts,
            )
        except KeyboardInterrupt:
            if state is not None and state.exists():
                _say("interrupted: the same command with --resume continues")
            raise
        except DivergedError as error:
            if error.alignment is None or not leader:
                raise
            if state is not None:  # where it went is no state to continue from
                shutil.rmtree(state, ignore_errors=True)
            names = (out.with_name(f"{out.name}.best{n}") for n in ("", *range(2, 1000)))
            best = next(folder for folder in names if not folder.exists())
            error.alignment.save(best)
            raise DivergedError(f"{error}; the best alignment on the way is {best}") from None
        if not leader:
            return
    if "stopped" in alignment.record:
        _say(f"stopped early: {alignment.record['stopped']}")
    with whole_folder(out) as folder:
        alignment.save(folder)
        if export:
            alignment.export(folder / "models", dtype=kind or torch.float32)
    if state is not None:
        shutil.rmtree(state, ignore_errors=True)
    _say(_next(out, data))


@app.command()
def path(
    alignment: Aligned,
    data: Annotated[str, typer.Option(help=f"The corpus, its evaluation part: {CORPUS}.")],
    grid: Annotated[int | None, typer.Option(min=2, help="Points on the line, 25 for two models.")] = None,
    limit: Limit = None,
    seed: Seed = 0,
    plot: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw the path into this file (.png, .svg, .pdf).")
    ] = None,
    result_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write the result into this file.")
    ] = None,
) -> None:
    """Measure the loss barrier between aligned models.

    Evaluates merged models along the line between the endpoints, on the part of a corpus that matching never saw.
    """
    from lmc import corpora
    from lmc.evaluation import path as walk
    from lmc.evaluation import refuse_plot
    from lmc.files import refuse_no_place
    from lmc.matching import Alignment, describe

    corpora.kind(data)
    if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
        raise ArgumentError(f"--plot: expected a file ending in .png, .svg or .pdf, found {plot}")
    if plot is not None:
        refuse_plot(len(describe(alignment)["parents"]))
    for file in (plot, result_file):
        if file is not None:
            refuse_no_place(file)
    aligned = Alignment.load(alignment)
    samples = _held_out(data, aligned, alignment, limit, seed)
    result = replace(walk(aligned, samples, grid, seed=seed), corpus=Path(data).name)
    if os.access(alignment, os.W_OK):
        result.to_json(alignment / MEASURED)  # for the model cards of what is merged from it
    print(f"{'λ':>7}  {'loss':>9}  accuracy   ({result.metric}, {result.samples} samples)")
    for at, loss, accuracy in zip(result.lambdas, result.losses, result.accuracies, strict=True):
        label = " ".join(f"{w:.2f}" for w in at) if isinstance(at, tuple) else f"{at:.4f}"
        print(f"{label:>7}  {loss:9.5f}  {accuracy:8.4f}")
    low, high = result.interval
    print(f"barrier {result.barrier:.5f} (95 %: {low:.5f} to {high:.5f}) {result.metric}")
    print(f"midpoint minus better endpoint {result.gap:+.5f}")
    if result_file is not None:
        result.to_json(result_file)
        _say(f"wrote {result_file}")
    if plot is not None:
        result.plot(plot)
        _say(f"wrote {plot}")


@app.command()
def merge(
    alignment: Aligned,
    out: Out,
    at: Annotated[
        str | None,
        typer.Option(help="λ in [0, 1], 0 is the first model; or K weights, 0.2,0.3,0.5. Default: the middle."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the weights: float32, bfloat16, float16 or float64.")] = "float32",
    data: Annotated[str | None, typer.Option(help=f"Where to measure what a lower type costs: {CORPUS}.")] = None,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Write a merged model: a stock checkpoint.

    A type below float32 rounds the weights; what that does to the loss on --data (without it: to the logits) is said.
    """
    kind = _dtype(dtype)
    from lmc import corpora
    from lmc.evaluation import PathResult
    from lmc.files import refuse_occupied
    from lmc.matching import Alignment, barycentric, describe

    refuse_occupied(out)
    if data is not None:
        corpora.kind(data)
    count = len(describe(alignment)["parents"])
    weights = [1 / count] * count if at is None else _weights(at)
    try:
        barycentric(weights, count)
    except ArgumentError as error:
        raise ArgumentError(f"--{error}") from None
    measured = PathResult.from_json(alignment / MEASURED) if (alignment / MEASURED).exists() else None
    aligned = Alignment.load(alignment)
    samples = None if data is None else _held_out(data, aligned, alignment, limit, seed)
    (card,) = aligned.export(out, at=weights, dtype=kind, data=samples, measured=measured)
    print(card)
    _say(f"wrote {out}: merged {'in the middle' if at is None else f'at {at}'}")


@app.command()
def convert(source: Model, out: Annotated[Path, typer.Argument(help="A new folder.")]) -> None:
    """Copy pickled weights, OLMo's original layout, or a DeiT state dict, to stock safetensors.

    No code that comes with the checkpoint is run.
    """
    from lmc.checkpoints import conversion

    conversion.convert(source, out)
    _say(f"wrote {out}")


@app.command()
def reproduce(
    profile: Annotated[str, typer.Option(help="smoke, laptop, gpu or paper.")] = "laptop",
    figure: Annotated[str | None, typer.Option(help="Only this figure, with what it needs.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the figures and exit.")] = False,
    jobs: Annotated[int, typer.Option(help="Notebooks run at once.")] = 2,
    redraw: Annotated[
        bool, typer.Option("--redraw", help="Draw from the results that are there; compute nothing.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the executed notebooks.")] = None,
) -> None:
    """Recompute and redraw the book's figures; the exit code is 1 where a number is not what figures.yml expects."""
    from lmc.reproduce import run as notebooks

    if listing:
        print(notebooks.listing())
    elif redraw:
        notebooks.redraw(profile, figure)
    else:
        notebooks.reproduce(profile, figure, jobs, out)
        if code := notebooks.said(notebooks.unexpected(profile, figure)):
            raise typer.Exit(code)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code is 0 when done, 2 for bad input, 130 when interrupted."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a plain kill ends like Ctrl-C: nothing half-written
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _warn(str(message))
        try:
            return app(arguments, standalone_mode=False) or 0
        except UsageError as error:
            help_for = error.ctx.command_path if error.ctx else "lmc"
            return _fail(f"{error.format_message()} (see {help_for} --help)")
        except LmcError as error:
            return _fail(str(error))
        except OSError as error:  # no permission, disk full: the user's to repair
            return _fail(str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return _fail(
                "out of memory: close other work, or choose another --device, a lower --dtype or a smaller --limit"
            )
        except (KeyboardInterrupt, typer.Abort):
            print("interrupted", file=sys.stderr)
            return 130


def _fail(line: str) -> int:
    print("error:", " ".join(line.split()), file=sys.stderr)
    return 2


def _warn(line: str) -> None:
    print("warning:", " ".join(line.split()), file=sys.stderr)


def _say(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # of torchrun's processes, one speaks
        print(line, flush=True)


def _next(out: Path, data: str | None) -> str:
    return f"wrote {out}; next: lmc path {out} --data {data or 'CORPUS'}, or lmc merge {out} --out MERGED"


def _compare(models: list[str]) -> "Pair":
    from lmc.matching import inspect_pair

    _say("checking that the models can be paired")
    return inspect_pair(models)


def _samples(
    corpus: str, model: "nn.Module", split: str, tokenizer_from: str | Path, limit: int | None, seed: int
) -> Any:
    from lmc import checkpoints, corpora
    from lmc.symmetries.families import Tokens, family_of

    text = corpora.kind(corpus) == "text" and isinstance(family_of(model).inputs(model), Tokens)
    tokenizer = checkpoints.tokenizer(tokenizer_from) if text else None
    return corpora.load(corpus, model, split, tokenizer, limit, seed)


def _counts(samples: Any, model: "nn.Module") -> "torch.Tensor":
    """How often each token of the vocabulary occurs."""
    import torch

    from lmc.symmetries.families import Tokens, family_of

    read = family_of(model).inputs(model)
    if not isinstance(read, Tokens):
        raise ArgumentError("--by-frequency: expected models that read text, found pictures")
    return torch.bincount(samples.flatten(), minlength=read.vocabulary).double()


def _held_out(corpus: str, aligned: "Alignment", folder: Path, limit: int | None, seed: int) -> Any:
    """The samples that matching never saw, as the first parent reads them."""
    from lmc import checkpoints

    first = aligned.parents[0]
    return _samples(corpus, first, "eval", checkpoints.origin(first) or folder, limit, seed)


def _load(pair: "Pair", device: "torch.device | None", dtype: "torch.dtype | None") -> list[Any]:
    from lmc import checkpoints

    models = []
    for blueprint in pair.blueprints:
        _say(f"loading {blueprint.source.name}")
        where = blueprint.source.folder if blueprint.source.repository is None else blueprint.source.name
        models.append(checkpoints.load(where, device, dtype))
    return models


def _state_folder(out: Path, resume: bool) -> Path:
    """Where an interrupted run is kept, beside its output."""
    state = out.with_name(f"{out.name}.partial")
    if resume and not (state / "run.json").is_file():
        raise CheckpointError(f"{state}: expected the state of an interrupted run, found none")
    if state.exists() and not resume:
        raise CheckpointError(f"{state}: holds an interrupted run; continue it with --resume, or delete the folder")
    return state


def _weights(at: str) -> float | list[float]:
    try:
        weights = [float(part) for part in at.split(",")]
    except ValueError:
        raise ArgumentError(f"--at: expected a number, or weights like 0.2,0.3,0.5, found {at!r}") from None
    return weights[0] if len(weights) == 1 else weights


def _dtype(name: str | None) -> Any:
    from lmc.checkpoints import DTYPES

    if name is not None and name not in DTYPES:
        raise ArgumentError(f"--dtype: expected one of {', '.join(DTYPES)}, found {name!r}")
    return None if name is None else DTYPES[name]


def _device(name: str | None) -> "torch.device | None":
    import torch

    if name is None:
        return None
    if name == "cuda" and "LOCAL_RANK" in os.environ:  # torchrun: every process its own
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        torch.zeros(1, device=name).item()
        return torch.device(name)
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # no such name, not in this machine, or `meta`, which holds nothing
        raise ArgumentError(f"--device: {name!r} cannot be used here ({str(error).splitlines()[0]})") from None
