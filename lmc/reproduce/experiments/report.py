"""What a setting's folder says so far, as the numbers of a results file: the layout that figures are drawn from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmc.files import read_json
from lmc.matching import LEARNED
from lmc.reproduce.experiments.comparison import summary
from lmc.reproduce.training.settings import Curve, Setting

TIMES = ("seconds", "hardware", "peak_bytes")  # what differs between two equal runs


def numbers(setting: Setting, folder: Path, endpoints: Path) -> dict[str, Any]:
    """Everything measured so far; `summary` and `headline` once there is a naive and a dual path.

    The first corpus of the setting fills `endpoints` and `methods`, any other one has its own entry under `also`.
    """
    pairs = [f"pair-{i}" for i in range(len(setting.seeds))]
    measured = {p: read_json(folder / p / "endpoints.json") for p in pairs if (folder / p / "endpoints.json").is_file()}
    first, *others = setting.evaluated_on
    found: dict[str, Any] = {
        "setting": _described(setting),
        "training": _training(setting, endpoints),
        **_corpus(setting, folder, measured, first),
    }
    if others:
        found["also"] = {corpus: _corpus(setting, folder, measured, corpus) for corpus in others}
    rates = folder / "rates.json"
    if rates.is_file():
        found["grids"] = {
            method: {"rates": list(tried), "barrier": [[grid[f"{rate:g}"]] for rate in tried]}
            for method, grid in read_json(rates).items()
            if (tried := [rate for rate in setting.matching.rates[method] if f"{rate:g}" in grid])
        }
    return found


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


def curve(work: Curve, points: list[dict[str, Any]]) -> dict[str, Any]:
    """The points of a curve that are measured, in the layout of `dependence.sweep`; all that is known under `settings`.

    A point counts once it has a naive and a dual path; the barriers of a method are those of its pairs.
    """
    done = [(x, point) for (x, _), point in zip(work.points, points, strict=True) if "headline" in point]
    methods = work.points[0][1].matching.methods
    found: dict[str, Any] = {"varied": work.axis, "points": [x for x, _ in done], "settings": points}
    found["methods"] = {
        m: {key: [point["methods"][m][key] for _, point in done] for key in ("barrier", "interval")} for m in methods
    }
    if done:
        found |= {key: done[0][1][key] for key in ("unit", "pairs")}
        ends = {x: point["headline"]["dual barrier"] for x, point in (done[0], done[-1])}
        found["headline"] = {f"dual barrier, {work.axis} {x:g}": barrier for x, barrier in ends.items()}
    return found


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


def _corpus(setting: Setting, folder: Path, measured: dict[str, Any], corpus: str) -> dict[str, Any]:
    ends = {p: found[corpus] | {"cosine": found["cosine"]} for p, found in measured.items()}
    methods: dict[str, dict[str, list[Any]]] = {}
    units = set()
    made = [(f"pair-{i}", each) for i in range(len(setting.seeds)) for each in setting.matches(i)]
    for pair, (name, method, _) in made:
        file = folder / pair / f"{name}.json"
        if pair not in ends or not file.is_file():
            continue
        walked = read_json(file)[corpus]
        units.add((walked["metric"], walked["samples"]))
        row = {key: walked[key] for key in ("losses", "accuracies", "barrier", "interval", "gap")}
        at_ends = (walked["losses"][0], walked["losses"][-1])
        row["endpoint_change"] = max(abs(x - y) for x, y in zip(at_ends, ends[pair]["losses"], strict=True))
        row["runs"] = {"pair": pair, **_made(folder / pair / name, method)}
        table = methods.setdefault(method, {})
        for key, value in row.items():
            table.setdefault(key, []).append(value)
        table["lambdas"] = walked["lambdas"]
    found: dict[str, Any] = {"endpoints": ends, "methods": methods}
    if units:
        found["unit"], found["samples"] = units.pop()
    naive = methods.get("naive", {}).get("barrier", [0])
    if "dual" in methods and min(naive) > 0:  # the naive path of a pair is walked before its dual one
        guess = sum(pair["guess"] for pair in ends.values()) / len(ends)
        found |= summary(found, guess) | {"guess": guess}
    return found


def _made(folder: Path, method: str) -> dict[str, Any]:
    """How a match was made, from its record."""
    record = read_json(folder / "alignment.json")["record"]
    kept = ("seed", "start", "steps", "lr", "batch", "precision") if method in LEARNED else ("seed",)
    return {key: record[key] for key in kept if key in record}
