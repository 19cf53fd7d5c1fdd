"""The command line: `lmc check | match | path | merge | transport | verify | convert | families | reproduce`.

    lmc check run-1 run-2
    lmc match run-1 run-2 --method dual --data embedded --out aligned
    lmc path aligned --data embedded
    lmc merge aligned --at 0.5 --out merged

It parses, says what happens and leaves the work to the package. A user's mistake is one line and exit code 2, found
before a weight is read where that is possible. torch and the model libraries are imported when a command runs.
"""

import os
import sys
import warnings
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import typer

from lmc import __version__
from lmc.cli.asked import (
    CORPUS,
    class_of,
    device_of,
    dtype_of,
    mixture,
    named_as_options,
    on_the_line,
    parent_number,
    recipe_of,
    refuse_inside,
    require_alike,
    require_known,
    require_models,
    require_places,
    require_reader,
    require_use,
    state_folder,
    warn_of_idle,
)
from lmc.cli.numbers import count
from lmc.cli.options import (
    LEFT_OUT,
    TAKEN,
    Accumulate,
    Aligned,
    Batch,
    ByFrequency,
    Checkpointing,
    Data,
    Device,
    Dtype,
    Export,
    Lambdas,
    Limit,
    Method,
    Model,
    Models,
    Out,
    Patience,
    Precision,
    Rate,
    Resume,
    Seed,
    Shard,
    Start,
    Steps,
    Verify,
    Vocabulary,
)
from lmc.cli.reading import (
    called,
    counts_of,
    digest_of,
    held_out,
    matched_on,
    measured_on,
    naming,
    read_alignment,
    require_ends_of,
    say_ends,
    seen,
    to_round_on,
)
from lmc.cli.run import (
    claimed,
    goes_on,
    inspected,
    kept_when_stopped,
    loaded_pair,
    prepared,
    start_of,
    warn_of_shared,
    write,
)
from lmc.cli.said import fail, refused, say, table_of, warn, warn_once
from lmc.errors import LmcError, is_out_of_memory, shown
from lmc.files import if_interrupted, progress, refuse_occupied, scratch_folder
from lmc.matching import Recipe

UsageError: Any = typer.BadParameter.__base__  # typer does not export it, and where it lives depends on the version

app = typer.Typer(
    help="Linear mode connectivity of transformers: symmetries, matching and merging, exactly.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"lmc {__version__}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """What holds for every command."""


@app.command()
def check(models: Models, seed: Seed = 0) -> None:
    """Are a model's symmetries exact? Can two be paired?

    With one model: every declared symmetry, tried on it; the exit code is 1 where one changes the output by more than
    the limit, and a line says what that means. With more: architecture, settings and tokenizers compared before a
    weight is read, then whether they are independent and what matching will take.
    """
    from lmc.checkpoints import foreign, hub

    for name in models:
        foreign.settings(hub.locate(name))
    require_alike(models)
    if len(models) > 1:
        return _check_pairing(models)
    from lmc import checkpoints
    from lmc.symmetries import check_copies

    blueprint = checkpoints.inspect(models[0])
    # In the type it is stored in. Read twice, so that only one copy is in memory.
    report = check_copies(lambda: checkpoints.load(blueprint, dtype=blueprint.dtype), seed)
    print(report)
    if not report.ok:
        raise typer.Exit(1)


def _check_pairing(models: list[str]) -> None:
    from lmc import checkpoints
    from lmc.checkpoints import provenance
    from lmc.matching import (
        cosine,
        inspect_pair,
        matrices,
        step_seconds,
        warn_if_shared,
        warn_of_epsilon,
        weights_seconds,
    )

    pair = inspect_pair(models)
    outline = pair.blueprints[0].model
    warn_of_epsilon([blueprint.model for blueprint in pair.blueprints])
    print(f"{type(outline).__name__}: these can be paired")
    print(pair)
    for blueprint in pair.blueprints:
        checkpoints.hub.fetch(blueprint.source, blueprint.files)
    if pair.fits and (step := step_seconds(checkpoints.load(pair.blueprints[0]))) is not None:
        estimate = f"about {provenance.duration(Recipe.steps * step)} for {Recipe.steps} steps of learning"
        print(f"{'time for matching':<24} {estimate} (on cpu, an estimate)")
    alike, unrelated = (provenance.duration(seconds) for seconds in weights_seconds(outline))
    print(f"{'time of weights':<24} about {alike} where one is the other rewritten, to {unrelated} where unrelated")
    weights = map(checkpoints.stored, pair.blueprints)  # read a tensor at a time
    for (one, first), (name, other) in combinations(zip(models, weights, strict=True), 2):
        size = cosine(first, other, matrices(outline))
        print(f"{'|cosine| of the weights':<24} {abs(size):.3f} ({shown(one)}, {shown(name)})")
        warn_if_shared(one, name, size)


@app.command()
def match(
    context: typer.Context,
    models: Models,
    out: Out,
    method: Method = "dual",
    data: Data = None,
    steps: Steps = Recipe.steps,
    lr: Rate = None,
    batch: Batch = None,
    limit: Limit = None,
    device: Device = None,
    dtype: Dtype = None,
    seed: Seed = 0,
    accumulate: Accumulate = 1,
    precision: Precision = "float32",
    checkpointing: Checkpointing = False,
    patience: Patience = None,
    lambdas: Lambdas = None,
    shard: Shard = False,
    by_frequency: ByFrequency = False,
    vocabulary: Vocabulary = None,
    start: Start = None,
    resume: Resume = False,
    export: Export = False,
) -> None:
    """Align models, so that their weights can be averaged.

    Writes one transformation per model into a new folder. Under torchrun every process takes its share of each batch.
    """
    from lmc import matching  # whose names are imported when they are used

    recipe = recipe_of(context)
    require_use(context, recipe)
    refuse_inside(out, models)
    refuse_occupied(out)
    state = state_folder(out, resume) if recipe.learned else None
    context.with_resource(if_interrupted(lambda: goes_on(state)))
    require_reader(data if recipe.reads_data or by_frequency else None, require_models(models))
    kind, place = dtype_of(dtype), device_of(device)
    with matching.workers.process_group(place) as leader:
        with named_as_options():
            models = prepared(models, out, vocabulary)
        pair = inspected(models, recipe)
        samples = matched_on(data, pair, limit, seed) if recipe.reads_data or by_frequency else None
        counts = counts_of(samples, pair.blueprints[0].model) if by_frequency else None
        if not recipe.reads_data and matching.can_stream(pair.blueprints):
            say(f"matching with {method}, one part at a time")
            if leader:
                matching.match_folders(pair.blueprints, out, kind, place, seed, export, counts, method)
        else:
            read = samples if recipe.reads_data else None
            named = partial(naming, corpus=str(data), samples=read, limit=limit)
            with kept_when_stopped(state, out, leader, named), claimed(out, leader) as folder:
                loaded = loaded_pair(pair, kind)
                warn_of_shared(method, models, loaded)
                say(f"matching with {method}")
                with named_as_options():
                    alignment = matching.align(loaded, recipe, samples, place, seed, state, start_of(start), counts)
                write(named(alignment), folder, export, kind)
    say(f"wrote {out}; next: lmc path {out} --data {data or 'CORPUS'}, or lmc merge {out} --out MERGED")


@app.command()
def path(
    alignment: Aligned,
    data: Annotated[str, typer.Option(help=f"The corpus, its evaluation part: {CORPUS}.")],
    # At most as many as `lmc.evaluation` takes, where torch would be imported to ask.
    grid: Annotated[int | None, count("Points on the line, 25 for two models.", 2, 10_000)] = None,
    limit: Limit = None,
    seed: Seed = 0,
    plot: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw the path into this file (.png, .svg, .pdf).")
    ] = None,
    result_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write the result into this file.")
    ] = None,
    verify: Verify = True,
) -> None:
    """Measure the loss barrier between aligned models.

    Evaluates merged models along the line between the endpoints, on the part of a corpus that matching never saw.
    """
    from lmc.matching import describe

    describe(alignment)
    require_reader(data, class_of(alignment))
    require_places(alignment, data, plot, result_file)
    from lmc.evaluation import path as walk
    from lmc.matching import LAST_PATH, fingerprint

    seal = fingerprint(alignment)  # before it is read: what stands there later may be another one
    aligned = read_alignment(alignment, verify)
    samples = held_out(data, aligned, alignment, limit, seed)
    share = seen(data, samples, aligned)
    result = walk(aligned, samples, grid, seed=seed)
    result = replace(result, corpus=called(data), digest=digest_of(samples), alignment=seal, seed=seed, read=share)
    own = os.access(alignment, os.W_OK)
    try:
        print(table_of(result), flush=True)
    finally:  # kept where nobody reads it, and shown where it cannot be kept
        if own:
            result.to_json(alignment / LAST_PATH)  # for the model cards of what is merged from it
        if result_file is not None:
            result.to_json(result_file)
    if not own:
        warn(f"{alignment}: cannot be written, so cards of what is merged from it will not quote this path")
    if result_file is not None:
        say(f"wrote {result_file}")
    if plot is not None:
        result.plot(plot)
        say(f"wrote {plot}")


@app.command()
def merge(
    context: typer.Context,
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
    take_from: Annotated[str, typer.Option(help=TAKEN)] = "first",
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help=LEFT_OUT)] = True,
) -> None:
    """Write a merged model: a stock checkpoint.

    A type below the parents' rounds the weights; what that does to the loss on --data (without: to the logits) is said.
    Tokenizer, chat templates, processors and generation settings (stop tokens) of a language model come from one
    parent, and what that one lacks from the next that has it; the card says what came from whom. Pictures are prepared
    as the first model's.
    """
    from lmc.matching import describe, refuse_among_models, refuse_own

    refuse_among_models(alignment, out)
    refuse_occupied(out)
    described = describe(alignment)
    refuse_own(alignment, out)
    count = len(described["parents"])
    from lmc.matching import barycentric

    parent = parent_number(take_from, count)
    warn_of_idle(context, [] if data else ["limit", "seed"], "without --data")
    weights = [1 / count] * count if at is None else mixture(at)
    with named_as_options():
        weights = barycentric(weights, count)
    require_reader(data, class_of(alignment))
    kind = dtype_of(dtype)
    from lmc.matching import merge_folder

    measured = measured_on(alignment)
    ends: list[float] = []
    card = None if data else merge_folder(alignment, out, weights, kind, measured, parent, verify, ends.append)
    for error in ends:
        say_ends(error)
    if card is not None and described["method"] == "naive":
        say("the ends of the path are the parents: their weights are averaged as they are stored")
    if card is None:
        aligned = read_alignment(alignment, verify)
        same = None if on_the_line(context, "seed") else measured
        samples = None if data is None else to_round_on(data, aligned, alignment, limit, seed, kind, same)
        (card,) = aligned.export(out, weights, kind, samples, measured, parent)
    print(card)
    say(f"wrote {out}: merged {'in the middle' if at is None else f'at {at}'}")


@app.command()
def transport(alignment: Aligned, tuned: Model, out: Out, verify: Verify = True) -> None:
    """Carry what one of two aligned models was taught to the other: a stock checkpoint.

    TUNED is a model that was fine-tuned from one of the two, or a LoRA adapter of it. Where these were matched with one
    in the shapes of the other, it may have the shapes that its base had before.
    """
    from lmc.matching import refuse_own

    refuse_inside(out, [tuned])
    refuse_occupied(out)
    refuse_own(alignment, out)
    require_known(tuned)
    from lmc import checkpoints
    from lmc.matching import Alignment, in_their_shapes, prepare, require_tunable

    with scratch_folder("lmc-") as aside:
        (ready,) = prepare([tuned], aside / "joined", None)  # an adapter, with its base
        checkpoints.inspect(ready)
        aligned = Alignment.load(alignment)
        blueprint = checkpoints.inspect(in_their_shapes(ready, aligned.parents, aside / "resized"))
        require_tunable(blueprint.model, aligned.parents)
        model = checkpoints.load(blueprint)
        base = aligned.base_of(model)
        if verify:
            require_ends_of(aligned, alignment)
        print(aligned.export_transported(model, out, tuned, base))
    say(f"wrote {out}; what it is worth on your data is not known: measure its loss on old and new text")


@app.command()
def verify(folder: Annotated[Path, typer.Argument(help="An alignment folder, or one with a model.")]) -> None:
    """Does a folder still hold what was written? Files, maps, parents, and the ends of the path.

    The exit code is 1 where something does not hold.
    """
    from lmc.checkpoints import foreign, hub
    from lmc.matching import DESCRIPTION

    if not (folder / DESCRIPTION).exists():
        foreign.settings(hub.locate(folder))
    from lmc.matching import verify as look

    found = look(folder)
    print(found)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def convert(source: Model, out: Annotated[Path, typer.Argument(help="A new folder.")]) -> None:
    """Make a stock checkpoint: of pickled weights, an adapter and its base, OLMo's original layout, a DeiT state dict.

    No code that comes with the checkpoint is run.
    """
    from lmc.checkpoints import hub

    refuse_inside(out, [source])
    refuse_occupied(out)
    hub.locate(source)
    from lmc.checkpoints import conversion

    conversion.convert(source, out)
    say(f"wrote {out}")


@app.command()
def families() -> None:
    """What is supported: classes, what is aligned in each, what is lost, published checkpoints that fit."""
    import textwrap

    from lmc.symmetries.families import FAMILIES, facts

    for family in FAMILIES:
        known = facts.FACTS[family.name]
        rows = [(family.name, f"a family of {family.library}")]
        for moved, classes in facts.kinds(family).items():
            rows += [("  classes", ", ".join(classes)), ("  aligned", "; ".join(moved))]
        rows += [("  lost", known.lost), ("  published", known.fits)]
        for name, text in rows:
            print(textwrap.fill(text, 100, initial_indent=f"{name:<13}", subsequent_indent=" " * 13))


@app.command()
def reproduce(
    context: typer.Context,
    profile: Annotated[str, typer.Option(help="smoke, laptop, gpu or paper.")] = "laptop",
    figure: Annotated[str | None, typer.Option(help="Only this figure, with what it needs.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the figures and exit.")] = False,
    jobs: Annotated[int, count("Notebooks run at once.")] = 2,
    redraw: Annotated[
        bool, typer.Option("--redraw", help="Draw from the results that are there; compute nothing.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the executed notebooks.")] = None,
) -> None:
    """Recompute and redraw the book's figures; the exit code is 1 where a number is not what figures.yml expects."""
    from lmc.reproduce import command

    if listing:
        warn_of_idle(context, ["profile", "figure", "jobs", "redraw", "out"], "beside --list")
        print(command.listing())
    elif redraw:
        command.redraw(profile, figure)
    else:
        command.reproduce(profile, figure, jobs, out)
    if not listing and (code := command.said(command.unexpected(profile, figure, drawn=redraw))):
        raise typer.Exit(code)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code is 0 when done, 2 for bad input, 130 when interrupted."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    warned: set[str] = set()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: warn_once(str(message), warned)
        warnings.simplefilter("default", UserWarning)  # ours; where PYTHONWARNINGS makes errors of them, too
        try:
            with progress.one_work():
                code: int = app(arguments, standalone_mode=False) or 0
            if code == 130:  # what some versions of typer make of Ctrl-C, without a word
                print("interrupted", file=sys.stderr)
            return code
        except UsageError as error:
            help_for = error.ctx.command_path if error.ctx else "lmc"
            return fail(f"{error.format_message()} (see {help_for} --help)")
        except LmcError as error:
            return fail(str(error))
        except OSError as error:  # no permission, disk full: the user's to repair
            return fail(refused(error))
        except (KeyboardInterrupt, typer.Abort) as error:  # an Abort is a RuntimeError, so this comes first
            if isinstance(error.__cause__, EOFError):  # which typer takes for an end of what is typed
                raise error.__cause__ from None
            print("interrupted", file=sys.stderr)
            return 130
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            said = "out of memory: close other work, or choose another --device, a lower --dtype or a smaller --limit"
            return fail(f"{said}; this was: lmc {' '.join(arguments)}")
