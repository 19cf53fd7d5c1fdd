"""What a campaign's folder says so far of a setting, as a `Comparison`: read from the files of its finished pieces.

The files are the truth: they are read again after every piece, so that a run that is continued reports like one that
was never interrupted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lmc.evaluation import PathResult
from lmc.files import read_json
from lmc.matching import LEARNED
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.runs import Comparison, Headline, Parents, RateGrid, Run, Sweep
from lmc.reproduce.training.settings import Curve, Match, Setting, endpoint_folder
from lmc.reproduce.training.tasks import Task, describe

TIMES = ("seconds", "hardware", "peak_bytes")  # what differs between two equal runs


def pieces(setting: Setting, folder: Path, pair: int | None = None) -> KeptRuns:
    """The finished pieces of a pair by its number, or those that serve all pairs of a setting."""
    settings = _described(setting)
    del settings["seeds"], settings["matching"]["methods"], settings["matching"]["seeds"]  # more of them: no others
    if pair is None:
        return KeptRuns(folder / setting.id, settings)
    return KeptRuns(folder / setting.id / f"pair-{pair}", settings | {"seeds": setting.seeds[pair]})


def compared(setting: Setting, folder: Path) -> Comparison:
    """Everything measured so far; with a summary once there is a naive and a dual path.

    The first corpus of the setting makes the comparison, any other one is under `also`.
    """
    kept = {f"pair-{i}": pieces(setting, folder, i).all() for i in range(len(setting.seeds))}
    first, *others = (_on_corpus(setting, folder, kept, corpus) for corpus in setting.evaluated_on)
    rest = {"setting": _described(setting), "training": _training(setting, folder)}
    if grids := rate_grids(setting, folder):
        rest["grids"] = {method: grid.to_json() for method, grid in grids.items()}
    return replace(first, also=dict(zip(setting.evaluated_on[1:], others, strict=True)), rest={**first.rest, **rest})


def rate_grids(setting: Setting, folder: Path) -> dict[str, RateGrid]:
    """The barriers at the rates that were tried so far, by method."""
    kept, grids = pieces(setting, folder).all(), {}
    for method, rates in setting.matching.rates.items():
        tried = {rate: kept[rate_piece(method, rate)] for rate in rates if rate_piece(method, rate) in kept}
        if tried:
            grids[method] = RateGrid(tuple(tried), tuple((found["barrier"],) for found in tried.values()))
    return grids


def rate_piece(method: str, rate: float) -> str:
    """The name of the piece that tries a rate."""
    return f"rate-{method}-{rate:g}"


def costs(setting: Setting, folder: Path) -> dict[str, Any]:
    """Seconds and, on a GPU, peak bytes of every training and match so far: for the record, never among the numbers."""
    training = {file.stem: _times(run) for file, run in _trained(setting, folder).items()}
    matching = {
        f"pair-{i}": {
            match.name: _times(_record(place))
            for match in setting.matches(i)
            if (place := folder / setting.id / f"pair-{i}" / match.name).is_dir()
        }
        for i in range(len(setting.seeds))
    }
    return {"training": training, "matching": {pair: row for pair, row in matching.items() if row}}


def made(settings: Sequence[Setting], folder: Path, task: Task, command: str) -> dict[str, Any]:
    """How the results of these settings came about. `task`: what the first one trains on."""
    first = settings[0]
    training = {file: run["seconds"] for each in settings for file, run in _trained(each, folder).items()}  # some share
    seconds = [*training.values()]
    for each in settings:
        seconds += [cost["seconds"] for row in costs(each, folder)["matching"].values() for cost in row.values()]
        seconds += [pieces(each, folder, pair).seconds() for pair in (None, *range(len(each.seeds)))]
    return {
        "seeds": list(dict.fromkeys(seed for each in settings for pair in each.seeds for seed in pair)),
        "corpus": describe(task, first.evaluated_on, first.scored),
        "precision": {"training, learned matching": _precisions(settings), "evaluation": "float32"},
        "duration_s": sum(seconds),
        "command": command,
    }


def _precisions(settings: Sequence[Setting]) -> str:
    """The precision of all settings, or where they differ each with the settings that have it."""
    named: dict[str, list[str]] = {}
    for setting in settings:
        named.setdefault(precision(setting.bf16), []).append(setting.id)
    return "; ".join(kind if len(named) == 1 else f"{kind}: {', '.join(ids)}" for kind, ids in named.items())


def precision(bf16: bool) -> str:
    """What to call the precision of a step."""
    return "bfloat16 autocast" if bf16 else "float32"


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


def _training(setting: Setting, folder: Path) -> dict[str, Any]:
    """The training curves of the endpoints, also of one that is still in training, and the tokens or images it took."""
    runs = {
        file.stem: {key: value for key, value in run.items() if key not in TIMES}
        for file, run in _trained(setting, folder).items()
    }
    length = getattr(setting.shape, "context", 1)
    return {"samples": setting.recipe.steps * setting.recipe.batch * length, "runs": runs}


def _trained(setting: Setting, folder: Path) -> dict[Path, dict[str, Any]]:
    """The records of the endpoints so far, by their files."""
    files = [endpoint_folder(setting, folder) / f"seed-{seed}.json" for pair in setting.seeds for seed in pair]
    return {file: read_json(file) for file in files if file.is_file()}


def _times(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: run[key] for key in TIMES if key in run}


def _on_corpus(setting: Setting, folder: Path, kept: Mapping[str, Mapping[str, Any]], corpus: str) -> Comparison:
    """`kept`: of every pair its pieces."""
    measured = {pair: found["endpoints"] for pair, found in kept.items() if "endpoints" in found}
    parents = {
        pair: Parents(
            tuple(one[corpus]["losses"]), tuple(one[corpus]["accuracies"]), one["cosine"], one[corpus]["guess"]
        )
        for pair, one in measured.items()
    }
    wanted = [(f"pair-{i}", match) for i in range(len(setting.seeds)) for match in setting.matches(i)]
    walks = {
        (pair, match): PathResult.of(kept[pair][match.name][corpus])
        for pair, match in wanted
        if pair in parents and match.name in kept[pair]
    }
    runs = [
        Run.along(match.method, pair, walked, parents[pair], _settings(folder / setting.id / pair / match.name, match))
        for (pair, match), walked in walks.items()
    ]
    unit, samples = next(((walked.metric, walked.samples) for walked in walks.values()), (None, None))
    found = Comparison(tuple(runs), unit, samples, parents)
    # The naive path of a pair is walked before its dual one.
    if not {"naive", "dual"} <= found.methods.keys() or min(found.barriers("naive")) <= 0:
        return found
    guess = sum(each.guess or 0.0 for each in parents.values()) / len(parents)
    return replace(found.summarised(guess), rest={"guess": guess})


def _settings(folder: Path, match: Match) -> dict[str, Any]:
    """How a match was made, from its record."""
    record = _record(folder)
    kept = ("seed", "start", "steps", "lr", "batch", "precision") if match.method in LEARNED else ("seed",)
    return {key: record[key] for key in kept if key in record}


def _record(folder: Path) -> dict[str, Any]:
    return dict(read_json(folder / "alignment.json")["record"])
