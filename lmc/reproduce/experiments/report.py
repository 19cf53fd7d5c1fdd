"""What a setting's folder says so far, as a `Comparison`: read from the files of its finished pieces.

The files are the truth: they are read again after every piece, so that a run that is continued reports like one that
was never interrupted.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lmc.evaluation import PathResult
from lmc.files import read_json
from lmc.matching import LEARNED
from lmc.reproduce.runs import Comparison, Headline, Parents, RateGrid, Run, Sweep
from lmc.reproduce.training.settings import Curve, Setting

TIMES = ("seconds", "hardware", "peak_bytes")  # what differs between two equal runs


def compared(setting: Setting, folder: Path, endpoints: Path) -> Comparison:
    """Everything measured so far; with a summary once there is a naive and a dual path.

    The first corpus of the setting makes the comparison, any other one is under `also`.
    """
    pairs = [f"pair-{i}" for i in range(len(setting.seeds))]
    measured = {p: read_json(folder / p / "endpoints.json") for p in pairs if (folder / p / "endpoints.json").is_file()}
    first, *others = (_on_corpus(setting, folder, measured, corpus) for corpus in setting.evaluated_on)
    rest = {"setting": _described(setting), "training": _training(setting, endpoints)}
    if grids := rate_grids(setting, folder / "rates.json"):
        rest["grids"] = {method: grid.to_json() for method, grid in grids.items()}
    return replace(first, also=dict(zip(setting.evaluated_on[1:], others, strict=True)), rest={**first.rest, **rest})


def rate_grids(setting: Setting, file: Path) -> dict[str, RateGrid]:
    """The barriers at the rates that were tried so far, by method."""
    grids = {}
    for method, found in (read_json(file) if file.is_file() else {}).items():
        tried = tuple(rate for rate in setting.matching.rates[method] if f"{rate:g}" in found)
        grids[method] = RateGrid(tried, tuple((found[f"{rate:g}"],) for rate in tried))
    return grids


def costs(setting: Setting, folder: Path, endpoints: Path) -> dict[str, Any]:
    """Seconds and, on a GPU, peak bytes of every training and match so far: for the record, never among the numbers."""
    training = {
        name: {key: run[key] for key in TIMES if key in run} for name, run in _records(setting, endpoints).items()
    }
    files = {
        f"pair-{i}": {name: folder / f"pair-{i}" / f"{name}.cost.json" for name, _, _ in setting.matches(i)}
        for i in range(len(setting.seeds))
    }
    matching = {p: {m: read_json(file) for m, file in row.items() if file.is_file()} for p, row in files.items()}
    return {"training": training, "matching": {pair: row for pair, row in matching.items() if row}}


def curve(work: Curve, points: list[Comparison]) -> Sweep:
    """The points of a curve that are measured; all that is known under `settings`.

    A point counts once it has a naive and a dual path.
    """
    done = [(x, point, point.headline) for (x, _), point in zip(work.points, points, strict=True) if point.headline]
    ends = {x: headline.values["dual barrier"] for x, _, headline in (done[:1] + done[-1:])}
    return Sweep(
        work.axis,
        tuple(x for x, _, _ in done),
        tuple(point for _, point, _ in done),
        work.points[0][1].matching.methods,
        headline=Headline({f"dual barrier, {work.axis} {x:g}": value for x, value in ends.items()}) if done else None,
        rest={"settings": [point.to_json() for point in points]},
    )


def _described(setting: Setting) -> dict[str, Any]:
    described = asdict(setting) | {"model": type(setting.shape).__name__}
    described.pop("id")
    return described


def _training(setting: Setting, endpoints: Path) -> dict[str, Any]:
    """The training curves of the endpoints, also of one that is still in training, and the tokens or images it took."""
    runs = {
        name: {key: value for key, value in run.items() if key not in TIMES}
        for name, run in _records(setting, endpoints).items()
    }
    length = getattr(setting.shape, "context", 1)
    return {"samples": setting.recipe.steps * setting.recipe.batch * length, "runs": runs}


def _records(setting: Setting, endpoints: Path) -> dict[str, dict[str, Any]]:
    files = {f"seed-{seed}": endpoints / f"seed-{seed}.json" for pair in setting.seeds for seed in pair}
    return {name: read_json(file) for name, file in files.items() if file.is_file()}


def _on_corpus(setting: Setting, folder: Path, measured: dict[str, Any], corpus: str) -> Comparison:
    parents = {
        pair: Parents(
            tuple(one[corpus]["losses"]), tuple(one[corpus]["accuracies"]), one["cosine"], one[corpus]["guess"]
        )
        for pair, one in measured.items()
    }
    made = [(f"pair-{i}", match) for i in range(len(setting.seeds)) for match in setting.matches(i)]
    files = {(pair, match): folder / pair / f"{match.name}.json" for pair, match in made if pair in parents}
    walks = {key: PathResult.of(read_json(file)[corpus]) for key, file in files.items() if file.is_file()}
    runs = [
        Run.along(match.method, pair, walked, parents[pair], _settings(folder / pair / match.name, match.method))
        for (pair, match), walked in walks.items()
    ]
    unit, samples = next(((walked.metric, walked.samples) for walked in walks.values()), (None, None))
    found = Comparison(tuple(runs), unit, samples, parents)
    # The naive path of a pair is walked before its dual one.
    if not {"naive", "dual"} <= found.methods.keys() or min(found.barriers("naive")) <= 0:
        return found
    guess = sum(each.guess or 0.0 for each in parents.values()) / len(parents)
    return replace(found.summarised(guess), rest={"guess": guess})


def _settings(folder: Path, method: str) -> dict[str, Any]:
    """How a match was made, from its record."""
    record = read_json(folder / "alignment.json")["record"]
    kept = ("seed", "start", "steps", "lr", "batch", "precision") if method in LEARNED else ("seed",)
    return {key: record[key] for key in kept if key in record}
