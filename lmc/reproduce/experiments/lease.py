"""What a GPU can say in twelve minutes: the price of a step, first pairs of Pythia's shapes, and a small ViT's.

    make gpu-inputs ITEM=lease      # where the corpora are, or a network
    make gpu ITEM=lease             # at most nine minutes; the same again, with MINUTES=3, goes on

The settings are those of the campaign's items 1, 2 and 4, cut down to one pair and to the rates that the studies on two
cores found best; results have the same names. Each stage has a time of its own and is skipped when too little is left.
Training is as long as fits: a step is timed, as it is and compiled, and the faster way is taken.
"""

import multiprocessing
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from lmc.errors import ArgumentError, LmcError
from lmc.evaluation import losses
from lmc.matching import LEARNED
from lmc.reproduce import results
from lmc.reproduce.experiments import cost, report
from lmc.reproduce.experiments.from_scratch import Job, Workplace, alone
from lmc.reproduce.experiments.rates import best_rates
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.training.budget import Budget, BudgetSpent
from lmc.reproduce.training.endpoints import Training, compiled_losses
from lmc.reproduce.training.settings import Cost, Setting, work
from lmc.reproduce.training.shapes import Language, Shape, Vit
from lmc.reproduce.training.tasks import task_of

BFLOAT16, FLOAT32 = 989e12, 67e12  # products and sums in a second that an H100 (SXM) is sold for
SHARE = 0.1, 0.3  # of these, what narrow networks get, which wait for memory, and those from WIDE channels on
WIDE = 1024
LAUNCHES, LAUNCH = 4200, 8e-6  # kernels of a learned step of six layers, counted on a CPU, and seconds to start one
ASSIGNMENT, SWEEPS = 4.4e-7, 6  # seconds of one on a processor core, for each pair of units; sweeps are a guess
PACE = 10  # steps that a pace is measured on
PARTS = 16  # training takes so many parts of the setting's steps as fit
LEAST = 1 / 3  # of its time, what a stage needs to begin


@dataclass(frozen=True)
class Stage:
    """A stage: the seconds it may take, of these the seconds of training, and where its rates come from."""

    seconds: float
    training: float = 0.0
    rates_of: str = ""
    scored: int = 0  # windows or images that a path is measured on


STAGES = {
    "price": Stage(85),
    "pythia-14m": Stage(225, 110, "pythia-wikipedia", 256),
    "pythia-70m": Stage(285, 80, "pythia-wikipedia", 128),
    "vit-cifar10": Stage(160, 40, "vit-cifar10", 5_000),
}


def prices(size: str) -> list[Cost]:
    """The two shapes whose price is measured; steps alone, and no symmetry to find again."""
    return [replace(each, data_free=False) for each in work(1, size) if isinstance(each, Cost)]


def settings(size: str) -> dict[str, Setting]:
    """The settings of the stages that train, by stage. Raises ArgumentError."""
    if size not in ("full", "smoke"):
        raise ArgumentError(f"size: ITEM=lease has full and smoke, found {size!r}")
    known = {each.id: each for item in (1, 2, 4) for each in work(item, size) if isinstance(each, Setting)}
    return {id: _cut(known[id], stage) for id, stage in STAGES.items() if stage.rates_of}


def _cut(setting: Setting, stage: Stage) -> Setting:
    rates = best_rates(results.read(stage.rates_of, "laptop").grids)
    matching = replace(
        setting.matching,
        methods=("naive", "weights", "dual", "single"),
        rates={method: (rates[method],) for method in LEARNED},
        seeds=setting.matching.seeds[:1],
    )
    return replace(setting, seeds=setting.seeds[:1], matching=matching, scored=min(setting.scored, stage.scored))


def run(size: str, budget: Budget, place: Workplace) -> list[str]:
    """Go through the stages as far as the time allows; returns what is not finished, each with the reason.

    >>> run("smoke", Budget(540), Workplace(Path("lease"), Path("inputs"), torch.device("cpu")))
    price: ...
    []

    Raises ArgumentError where there is no GPU, or another process does the same.
    """
    chosen = settings(size)
    if not on_gpu(place.device) and size != "smoke":
        raise ArgumentError("ITEM=lease: expected a GPU, found none; SIZE=smoke rehearses it on a processor")
    for line in estimates(size):
        print(line, flush=True)
    unfinished, finished = [], KeptRuns(place.folder / size)
    with alone(place.folder / size / ".lease.lock", wait=False), _unrelated(size, budget, place):
        for name, stage in STAGES.items():
            if finished.get(name) is not None:
                continue
            if budget.left() < LEAST * stage.seconds:
                unfinished.append(f"{name}: skipped, {max(budget.left(), 0):.0f} s are left")
                continue
            began, clock = time.monotonic(), Budget(min(stage.seconds, budget.left()))
            try:
                finished.piece(name, partial(_whole_stage, size, name, chosen, clock, place))
            except (LmcError, RuntimeError) as error:  # the other stages are worth their time all the same
                kept = "stopped, kept" if isinstance(error, BudgetSpent) else "failed"
                unfinished.append(f"{name}: {kept}: {' '.join(str(error).split())[:500]}")
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
            if on_gpu(place.device):
                torch.cuda.empty_cache()
    return unfinished


def _whole_stage(
    size: str, name: str, chosen: Mapping[str, Setting], clock: Budget, place: Workplace
) -> dict[str, Any]:
    """All of a stage; what it finds is in the results."""
    if name in chosen:
        whole_pair(size, chosen[name], STAGES[name], clock, place)
    else:
        for each in prices(size):
            _job(size, each, clock, place).go(())
    return {}


def on_gpu(device: torch.device) -> bool:
    """Whether work may go on beside the device's, and compiling pays."""
    return device.type == "cuda"


def _job(size: str, each: Cost | Setting, clock: Budget, place: Workplace) -> Job:
    command = "make gpu ITEM=lease" + ("" if size == "full" else f" SIZE={size}")
    return Job(size, each, clock, place, command)


def whole_pair(size: str, setting: Setting, stage: Stage, clock: Budget, place: Workplace) -> None:
    """Train, match and measure the first pair of a setting."""

    def measure() -> dict[str, float]:
        pace = measured_pace(setting, place)
        seconds = min(stage.training, clock.left() * stage.training / stage.seconds)
        return pace | {"steps": fitting_steps(setting.recipe.steps, seconds, min(pace.values()))}

    kept = replace(report.pieces(setting, place.folder), folder=place.folder / size / "pace")
    pace = kept.piece(setting.id, measure)
    print(f"{setting.id}: {pace}", flush=True)
    fitting = replace(setting, recipe=replace(setting.recipe, steps=int(pace["steps"])))
    compiled = pace.get("compiled", pace["eager"]) < pace["eager"]
    _job(size, fitting, clock, replace(place, compiled=compiled)).go(("train", "match", "evaluate"))


def measured_pace(setting: Setting, place: Workplace) -> dict[str, float]:
    """Seconds of a training step, as it is and, on a GPU, compiled, where there is a compiler."""
    ways = {"eager": losses} | ({"compiled": compiled_losses()} if on_gpu(place.device) else {})
    found = {}
    task = task_of(setting.shape, setting.corpus, place.inputs, place.device)
    for name, losses_of in ways.items():
        training = Training(setting, setting.seeds[0][0], place.folder, task, place.device)
        try:
            found[name] = cost.timed(partial(training.advance, losses_of), PACE, place.device)["seconds"]
        except Exception as error:  # a compiler fails in many ways, and eager always works
            if name == "eager":
                raise
            print(f"{setting.id}: not compiled: {' '.join(str(error).split())[:200]}", flush=True)
    return found


def fitting_steps(most: int, seconds: float, pace: float) -> int:
    """As many sixteenths of the steps as two endpoints side by side can take, and at least one."""
    part = most / PARTS
    return max(int(part * max(min(int(seconds / (2 * pace * part)), PARTS), 1)), 1)


@contextmanager
def _unrelated(size: str, budget: Budget, place: Workplace) -> Iterator[None]:
    """Data-free matching of unrelated weights, at the first price: on the processor, beside the GPU's work.

    It may outlast everything else, and is then given up. Without a GPU it has its turn before the rest.
    """
    first = prices(size)[0]
    job = _job(size, first, budget, place)
    search = partial(_search, first.shape, job.pieces)
    beside = multiprocessing.get_context("spawn").Process(target=search, daemon=True)
    if not (there := job.pieces.get("unrelated") is not None):
        beside.start() if on_gpu(place.device) else search()
    try:
        yield
    finally:
        if beside.pid is not None:
            beside.join(max(budget.left(), 0.0))
            beside.kill()
        if not there and {"unrelated", "size"} <= job.pieces.all().keys():
            job.publish()


def _search(shape: Language, pieces: KeptRuns) -> None:
    torch.set_num_threads(max(torch.get_num_threads() // 2, 1))
    pieces.piece("unrelated", partial(cost.unrelated, shape))


def estimates(size: str) -> list[str]:
    """What each stage will take on an H100, in minutes, from the products and sums it needs.

    >>> estimates("full")[0]
    'price: about 0.8 min, at most 1.4'
    """
    lines = []
    counted = sum(
        _step_seconds(each.shape, n) * 3.2 * (each.steps + cost.WARM) for each in prices(size) for n in each.tokens
    )
    minutes = {"price": (counted + 30) / 60}  # half a minute to build models and bring them to the device
    for id, setting in settings(size).items():
        matching, length = setting.matching, getattr(setting.shape, "context", 1)
        step = _step_seconds(setting.shape, setting.recipe.batch * length)
        training = min(STAGES[id].training, 2 * setting.recipe.steps * step)
        learned = 2 * matching.steps * max(LAUNCHES * LAUNCH, _step_seconds(setting.shape, matching.batch * length))
        seen = len(matching.methods) * setting.grid * len(setting.evaluated_on) * setting.scored * length
        walks = seen * _flops(setting.shape) / 3 / (FLOAT32 * SHARE[1])
        closed = setting.shape.layers * SWEEPS * ASSIGNMENT * (4 * setting.shape.width) ** 2
        minutes[id] = (training + learned + closed + walks + 45) / 60  # the rest: to load and to compile
    for name, estimate in minutes.items():
        lines.append(f"{name}: about {estimate:.1f} min, at most {STAGES[name].seconds / 60:.1f}")
    return lines


def _step_seconds(shape: Shape, tokens: int) -> float:
    return tokens * _flops(shape) / (BFLOAT16 * SHARE[shape.width >= WIDE])


def _flops(shape: Shape) -> float:
    """Of a training step for a token or image: six for every weight it meets."""
    with torch.device("meta"):
        model: nn.Module = shape.build()
    weights = sum(p.numel() for p in model.parameters())
    if isinstance(shape, Language):
        return 6.0 * (weights - shape.vocabulary * shape.width)  # an embedding is looked up
    assert isinstance(shape, Vit)
    return 6.0 * weights * ((shape.size // shape.patch) ** 2 + 1)
