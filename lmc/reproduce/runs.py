"""What experiments find, as values: a `Run` of a method on a pair, and a `Comparison` of all runs on all pairs.

>>> found = results.read("vit-digits", "laptop").comparison
>>> found.summary["dual"].barrier, found.summary["dual"].ratio
(0.0057283789, 0.0011994714)

Only this file knows how a results file lays them out: experiments make these values, figures and tables take them, and
`Comparison.from_json(numbers).to_json() == numbers`. In a results file every method has a table; a column of it has one
value for each run, or one for all of them. Means are over pairs (`pair_means`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from lmc.errors import DivergedError
from lmc.reproduce.pair_means import mean

if TYPE_CHECKING:  # figures are drawn without torch
    from torch import nn

    from lmc import evaluation

T = TypeVar("T")
Pair = tuple["nn.Module", "nn.Module"]  # two endpoints
Numbers = dict[str, Any]  # plain JSON values, as a results file holds them

# From the least to the most that is done to the endpoints.
EFFORT = ("naive", "canonical", "start", "weights", "activations", "single", "dual")
PER_RUN = (
    "losses",
    "accuracies",
    "barrier",
    "interval",
    "gap",
    "to_better",
    "endpoint_change",
)  # columns with a value for each run
PER_POINT = ("barrier", "interval", "to_better")  # those that are kept of a sweep
EMPTY = (("barrier", "interval"),)  # and those of one without points
ORDER = ("first", "second", "third")  # of the models of a plane, as its file calls them
COMMON = ("lambdas", "kinds")  # columns with one value for all runs
HEADLINE = {"headline", "spread", "pairs", "seedless"}  # what `Headline` reads of a results file


def by_effort(methods: Mapping[str, T]) -> dict[str, T]:
    """From the least to the most that is done to the endpoints (results files sort by name); others as they come."""
    return dict(sorted(methods.items(), key=lambda item: EFFORT.index(item[0]) if item[0] in EFFORT else len(EFFORT)))


@dataclass(frozen=True)
class Parents:
    """The two models of a pair by themselves: held-out losses and accuracies, and the cosine of their weights.

    `guess`: the loss of a model that ignores its input, where it was measured on the same samples.
    """

    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    cosine: float
    guess: float | None = None


@dataclass(frozen=True)
class Run:
    """What one run of a method on a pair gave. None stands for what the experiment did not measure.

    `interval`: of the barrier, over held-out samples. `gap`: from the better endpoint to the midpoint; `to_better`: the
    same with the ends of its 95 % interval over held-out samples.
    `endpoint_change`: by how much alignment moved the endpoints' own losses. `settings`: what the method was given, as
    its seed. `kinds`: the kinds of spaces that took part. An experiment on one pair may leave `pair` out.
    """

    method: str
    barrier: float
    pair: str = ""
    lambdas: tuple[float, ...] | None = None
    losses: tuple[float, ...] | None = None
    accuracies: tuple[float, ...] | None = None
    interval: tuple[float, ...] | None = None
    gap: float | None = None
    to_better: tuple[float, ...] | None = None
    endpoint_change: float | None = None
    settings: Mapping[str, Any] | None = None
    kinds: tuple[str, ...] | None = None

    @classmethod
    def along(
        cls, method: str, pair: str, walked: "evaluation.PathResult", parents: Parents, settings: Mapping[str, Any]
    ) -> Self:
        """A run, from the path between the aligned models and what the models are by themselves."""
        ends = zip((walked.losses[0], walked.losses[-1]), parents.losses, strict=True)
        path = {name: getattr(walked, name) for name in ("lambdas", "losses", "accuracies", "interval", "gap")}
        change = max(abs(aligned - alone) for aligned, alone in ends)
        return cls(method, walked.barrier, pair, **path, endpoint_change=change, settings=settings)


@dataclass(frozen=True)
class Summary:
    """What the runs of a method say together, as `Comparison.summarised` computes it."""

    runs: int
    barrier: float
    range: tuple[float, ...]
    interval: tuple[float, ...]
    ratio: float
    normalised: float
    gap: float
    endpoint_change: float


@dataclass(frozen=True)
class Headline:
    """The numbers that a result is known by.

    `spread`: what each run adds to such a number, which is their mean; `pairs`: the pair of each of these runs;
    `seedless`: numbers that depend on no seed. What to expect of another run is computed from these.
    """

    values: Mapping[str, float]
    spread: Mapping[str, Sequence[float]] = field(default_factory=dict)
    pairs: Sequence[str] = ()
    seedless: Sequence[str] = ()

    @classmethod
    def of(cls, spread: Mapping[str, Sequence[float]], pairs: Sequence[str], seedless: Sequence[str] = ()) -> Self:
        """The means of what the runs of these pairs gave.

        >>> Headline.of({"dual barrier": [1.0, 3.0, 2.0]}, ["a", "b", "a"]).to_json()["headline"]
        {'dual barrier': 2.25}
        """
        return cls({name: mean(values, pairs) for name, values in spread.items()}, spread, pairs, seedless)

    def to_json(self) -> Numbers:
        """As it stands in a results file, beside what else that holds."""
        spread = {name: list(values) for name, values in self.spread.items()}
        filled = {"spread": spread, "pairs": list(self.pairs), "seedless": list(self.seedless)}
        return {"headline": dict(self.values)} | {key: value for key, value in filled.items() if value}

    @classmethod
    def from_json(cls, numbers: Mapping[str, Any]) -> Self | None:
        """That of a results file, if it has one."""
        if "headline" not in numbers:
            return None
        return cls(
            numbers["headline"], numbers.get("spread", {}), numbers.get("pairs", ()), numbers.get("seedless", ())
        )


@dataclass(frozen=True)
class Comparison:
    """Every method on every pair.

    `shared`: pairs of one initialisation, where a low barrier says little. `parameters`: of one model of each pair, in
    millions. `also`: the same runs on other held-out corpora. `rest`: what the experiment says besides.
    """

    runs: tuple[Run, ...]
    unit: str | None = None
    samples: int | None = None
    endpoints: Mapping[str, Parents] | None = None
    shared: tuple[str, ...] | None = None
    parameters: Mapping[str, float] | None = None
    summary: Mapping[str, Summary] = field(default_factory=dict)
    headline: Headline | None = None
    also: Mapping[str, "Comparison"] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def methods(self) -> dict[str, list[Run]]:
        """The runs of each method, the methods from the least to the most that is done to the endpoints."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.method, []).append(run)
        return by_effort(found)

    @property
    def pairs(self) -> list[str]:
        """The pairs of the runs of a method that has most of them; empty where they have no names."""
        return max((_pairs(runs) for runs in self.methods.values()), key=len, default=[])

    def barriers(self, method: str) -> list[float]:
        """One for each run of the method.

        >>> results.read("vit-digits", "laptop").comparison.barriers("naive")
        [4.7757529, 5.2585001, 7.0239703]
        """
        return [run.barrier for run in self.methods[method]]

    def mean(self, method: str) -> float:
        """The mean barrier of a method over pairs."""
        return mean(self.barriers(method), _pairs(self.methods[method]))

    def independent(self) -> Self:
        """Without the runs of pairs that are `shared`, unless these are all there is. Means are of what is left."""
        shared, endpoints = set(self.shared or ()), self.endpoints or {}
        if not shared or shared >= endpoints.keys():
            return self
        return replace(
            self,
            runs=tuple(run for run in self.runs if run.pair not in shared),
            endpoints={pair: parents for pair, parents in endpoints.items() if pair not in shared},
        )

    def summarised(self, guess: float) -> Self:
        """With a `summary` of every method, and the `headline` of dual matching.

        `guess` is the loss of a model that ignores its input: barrier ÷ (guess − mean endpoint loss) is *normalised*.
        `ratio` is to the naive barrier of the same pair (1 where both are zero); `interval` is that of a run over
        held-out samples. Pairs that are `shared` are left out if there are others.
        """
        counted = self.independent()
        ends = [loss for parents in (counted.endpoints or {}).values() for loss in parents.losses]
        room = guess - sum(ends) / len(ends)
        naive = {run.pair: run.barrier for run in counted.methods["naive"]}
        summary = {method: _summary(runs, naive, room) for method, runs in counted.methods.items()}
        dual, barriers = counted.methods["dual"], counted.barriers("dual")
        spread = {
            "dual barrier": barriers,
            "dual ÷ naive": _ratios(dual, naive),
            "dual, normalised": [barrier / room for barrier in barriers],
        }
        values = {
            "naive barrier": summary["naive"].barrier,
            "dual barrier": summary["dual"].barrier,
            "dual ÷ naive": summary["dual"].ratio,
            "dual, normalised": summary["dual"].normalised,
        }
        headline = Headline(values, spread, _pairs(dual), ["naive barrier"])
        return replace(self, summary=summary, headline=headline)

    def to_json(self) -> Numbers:
        """As a results file has it."""
        said = {
            "unit": self.unit,
            "samples": self.samples,
            "endpoints": None if self.endpoints is None else {p: filled(asdict(e)) for p, e in self.endpoints.items()},
            "shared": self.shared,
            "parameters": self.parameters,
            "summary": {method: filled(asdict(row)) for method, row in self.summary.items()} or None,
            "also": {corpus: found.to_json() for corpus, found in self.also.items()} or None,
            # Where the tables do not say of which pair a run is, one list does for all of them.
            "pairs": self.pairs or None if all(run.settings is None for run in self.runs) else None,
        }
        headline = self.headline.to_json() if self.headline else {}
        methods = {method: _table(runs) for method, runs in self.methods.items()}
        return filled(said) | headline | {"methods": methods} | dict(self.rest)

    @classmethod
    def from_json(cls, numbers: Mapping[str, Any]) -> Self:
        """That of a results file."""
        pairs = numbers.get("pairs", ())
        runs = [run for method, table in numbers["methods"].items() for run in _runs(method, table, pairs)]
        parents = numbers.get("endpoints")
        known = {"methods", "endpoints", "unit", "samples", "shared", "parameters", "summary", "also"}
        return cls(
            tuple(runs),
            numbers.get("unit"),
            numbers.get("samples"),
            None if parents is None else {pair: Parents(**_frozen(row)) for pair, row in parents.items()},
            None if "shared" not in numbers else tuple(numbers["shared"]),
            numbers.get("parameters"),
            {method: Summary(**_frozen(row)) for method, row in numbers.get("summary", {}).items()},
            Headline.from_json(numbers),
            {corpus: cls.from_json(found) for corpus, found in numbers.get("also", {}).items()},
            {key: value for key, value in numbers.items() if key not in known | HEADLINE},
        )


def joined(found: Sequence[Comparison]) -> Comparison:
    """One comparison of the runs of several, each of pairs of its own."""
    endpoints = {pair: parents for one in found for pair, parents in (one.endpoints or {}).items()}
    last = found[-1]
    return Comparison(tuple(run for one in found for run in one.runs), last.unit, last.samples, endpoints)


@dataclass(frozen=True)
class Plane:
    """The loss over the plane through three models: `losses` [row][column] at `x` and `y`.

    `points`: where each model lies, by the name that is shown; `lines`: the names at both ends of each.
    """

    unit: str
    x: Sequence[float]
    y: Sequence[float]
    losses: Sequence[Sequence[float]]
    points: Mapping[str, tuple[float, float]]
    lines: Mapping[str, tuple[str, str]]

    @classmethod
    def of(cls, found: Mapping[str, Any], names: Sequence[str]) -> Self:
        """What `evaluation.plane` found. The first model is joined with the second (direct) and the third (matched)."""
        first, second, third = names
        lines = {"direct": (first, second), "matched": (first, third)}
        points = {name: tuple(found["points"][k]) for name, k in zip(names, ORDER, strict=True)}
        return cls(found["unit"], found["x"], found["y"], found["losses"], points, lines)

    @classmethod
    def from_json(cls, plain: Numbers) -> Self:
        return cls.of(plain, plain["names"])

    def to_json(self) -> Numbers:
        points = dict(zip(ORDER, self.points.values(), strict=True))
        return {**asdict(self), "points": points, "names": list(self.points)}


@dataclass(frozen=True)
class Sweep:
    """A comparison at every one of the `points` that what is `varied` took.

    `methods` are compared at each. Per point: the endpoints' mean `loss` and `accuracy`, and the `parameters` of one.
    `named`: the pairs differ from method to method or from point to point, so that a results file names those of each;
    where it does not, a point with fewer runs than there are pairs has those of the first ones.
    """

    varied: str
    points: tuple[float, ...]
    compared: tuple[Comparison, ...]
    methods: tuple[str, ...]
    parameters: tuple[int, ...] | None = None
    loss: tuple[float, ...] | None = None
    accuracy: tuple[float, ...] | None = None
    headline: Headline | None = None
    rest: Mapping[str, Any] = field(default_factory=dict)
    named: bool = False

    @property
    def unit(self) -> str | None:
        """That of the losses."""
        return self.compared[0].unit if self.compared else None

    @property
    def pairs(self) -> list[str]:
        """The pairs of the runs of the method that has most, at the point that has most."""
        return max((found.pairs for found in self.compared), key=len, default=[])

    def at_both_ends(self, method: str) -> dict[str, list[float]]:
        """The barriers of a method at the first point and at the last.

        >>> results.read("barrier-by-width", "laptop").sweep.at_both_ends("dual").keys()
        dict_keys(['dual barrier, width 16', 'dual barrier, width 128'])
        """
        ends = [(self.points[i], self.compared[i]) for i in (0, -1)] if self.points else []
        return {f"{method} barrier, {self.varied} {x:g}": found.barriers(method) for x, found in ends}

    def to_json(self) -> Numbers:
        """As a results file has it: for each method the barrier and the intervals of each run, point by point."""
        methods: Numbers = {}
        for method in self.methods:
            tables = [_table(found.methods[method]) for found in self.compared]
            columns = [column for column in PER_POINT if all(column in table for table in tables or EMPTY)]
            methods[method] = {column: [table[column] for table in tables] for column in columns}
            if self.named:
                methods[method]["runs"] = [_pairs(found.methods[method]) for found in self.compared]
        said = {
            "unit": self.unit,
            "pairs": None if self.named else self.pairs or None,
            "parameters": self.parameters,
            "loss": self.loss,
            "accuracy": self.accuracy,
        }
        headline = self.headline.to_json() if self.headline else {}
        points = {"varied": self.varied, "points": list(self.points), "methods": methods}
        return filled(said) | points | headline | dict(self.rest)

    @classmethod
    def from_json(cls, numbers: Mapping[str, Any]) -> Self:
        """That of a results file."""
        methods, pairs = numbers["methods"], numbers.get("pairs", ())
        compared = []
        for i in range(len(numbers["points"])):
            tables = {name: {key: column[i] for key, column in table.items()} for name, table in methods.items()}
            runs = [run for method, table in tables.items() for run in _at_a_point(method, table, pairs)]
            compared.append(Comparison(tuple(runs), numbers.get("unit")))
        per_point = {key: _frozen(numbers.get(key)) for key in ("parameters", "loss", "accuracy")}
        known = {"varied", "points", "methods", "unit", *per_point}
        return cls(
            numbers["varied"],
            tuple(numbers["points"]),
            tuple(compared),
            tuple(methods),
            **per_point,
            headline=Headline.from_json(numbers),
            rest={key: value for key, value in numbers.items() if key not in known | HEADLINE},
            named=any("runs" in table for table in methods.values()),
        )


@dataclass(frozen=True)
class RateGrid:
    """Barriers of a learned method at every rate of a grid, one for each pair; None where learning diverged."""

    rates: tuple[float, ...]
    barriers: tuple[tuple[float | None, ...], ...]

    @property
    def means(self) -> list[float]:
        """The mean over pairs at every rate; infinite where learning diverged."""
        return [mean([math.inf if barrier is None else barrier for barrier in row]) for row in self.barriers]

    @property
    def best(self) -> float:
        """The rate with the lowest mean barrier. Raises DivergedError.

        >>> RateGrid((0.01, 0.02), ((0.1, 0.3), (0.1, 0.2))).best
        0.02
        """
        lowest = min(self.means)
        if lowest == math.inf:
            raise DivergedError("matching diverged at every rate of its grid")
        return self.rates[self.means.index(lowest)]

    def to_json(self) -> Numbers:
        """As it stands in a results file, under `grids` and the method's name."""
        return {"rates": list(self.rates), "barrier": [list(row) for row in self.barriers]}


def rate_grids(numbers: Mapping[str, Any]) -> dict[str, RateGrid]:
    """The grids of a results file, by method."""
    return {
        method: RateGrid(tuple(grid["rates"]), tuple(tuple(row) for row in grid["barrier"]))
        for method, grid in numbers["grids"].items()
    }


def _pairs(runs: Iterable[Run]) -> list[str]:
    return [run.pair for run in runs if run.pair]


def _summary(runs: Sequence[Run], naive: Mapping[str, float], room: float) -> Summary:
    barriers, pairs = [run.barrier for run in runs], _pairs(runs)
    barrier = mean(barriers, pairs)
    intervals = [run.interval for run in runs if run.interval is not None]
    return Summary(
        runs=len(runs),
        barrier=barrier,
        range=(min(barriers), max(barriers)),
        interval=tuple(mean(ends, pairs) for ends in zip(*intervals, strict=True)),
        ratio=mean(_ratios(runs, naive), pairs),
        normalised=barrier / room,
        gap=mean([run.gap for run in runs if run.gap is not None], pairs),
        endpoint_change=max(run.endpoint_change for run in runs if run.endpoint_change is not None),
    )


def _ratios(runs: Iterable[Run], naive: Mapping[str, float]) -> list[float]:
    """Each barrier over the naive one of its pair; 1 where both are zero."""
    return [run.barrier / naive[run.pair] if naive[run.pair] else math.inf if run.barrier else 1.0 for run in runs]


def _table(runs: Sequence[Run]) -> Numbers:
    """The table of a method, from its runs."""
    table: Numbers = {column: getattr(runs[0], column) for column in COMMON}
    for column in PER_RUN:
        values = [getattr(run, column) for run in runs]
        table[column] = None if None in values else values
    if all(run.settings is not None for run in runs):
        table["runs"] = [{"pair": run.pair, **(run.settings or {})} for run in runs]
    return filled(table)


def _runs(method: str, table: Mapping[str, Any], pairs: Sequence[str]) -> list[Run]:
    """The runs of a method, from its table."""
    count = len(table["barrier"])
    settings: list[Any] = table.get("runs", [None] * count)
    of = [made["pair"] for made in settings] if "runs" in table else _one_each(count, pairs)
    common = {column: _frozen(table[column]) for column in COMMON if column in table}
    measured = [column for column in PER_RUN if column in table]
    rows = zip(*(_frozen(table[column]) for column in measured), strict=True)
    return [
        Run(
            method,
            pair=pair,
            settings=made and {key: value for key, value in made.items() if key != "pair"},
            **common,
            **dict(zip(measured, row, strict=True)),
        )
        for pair, made, row in zip(of, settings, rows, strict=True)
    ]


def _one_each(count: int, pairs: Sequence[str]) -> list[str]:
    """The pair of each run: `pairs` names them, or, for a method that took no seed, those that it was run on once."""
    once = list(dict.fromkeys(pairs))
    if count not in (len(pairs), len(once)) and pairs:
        raise ValueError(f"expected values for {len(once)} pairs or {len(pairs)} runs, found {count}")
    return [*pairs] if count == len(pairs) else once or [""] * count


def _at_a_point(method: str, table: Mapping[str, Any], pairs: Sequence[str]) -> list[Run]:
    """The runs of a method at a point of a sweep; fewer than there are pairs, unnamed, are of the first pairs."""
    count = len(table["barrier"])
    measured = {column: values for column, values in table.items() if column != "runs"}
    return _runs(method, measured, table.get("runs", pairs[:count] if count < len(set(pairs)) else pairs))


def filled(values: Mapping[str, Any]) -> Numbers:
    """Without what is None; tuples as the lists that they are in JSON."""
    return {key: _thawed(value) for key, value in values.items() if value is not None}


def _thawed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _thawed(item) for key, item in value.items()}
    return [_thawed(item) for item in value] if isinstance(value, list | tuple) else value


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
