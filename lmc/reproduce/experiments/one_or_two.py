"""One side or two: single against dual matching over all experiments, paired by pair and seed.

    python -m lmc.reproduce.experiments.one_or_two                     # reads results, computes nothing anew; seconds

At *best* rates both have made the same runs, each at its own best rate. At *equal* rates, and with single at *twice*
dual's rate (to first order the same steps), the runs are those of the grids that the rates were chosen from. Barriers
of different experiments have different units, so a difference is counted in naive barriers of its pair. A pair counts
once, with the mean of its seeds; pairs are disjoint, so intervals are over pairs.

Networks that learned Wikipedia, and were matched on it, are scored on WikiText-2 too, the text of the paper: `other
text` counts the same pairs there.

Where the lowest rate of its grid was the best for both methods, lower ones may be better still: `within` counts the
other pairs alone. `twice, lowest` and `twice, highest` count the lowest and the highest rate that both grids share.
"""

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from scipy.stats import binomtest

from lmc.evaluation import RESAMPLES
from lmc.reproduce import results
from lmc.reproduce.runs import Comparison, RateGrid, Run, rate_grids
from lmc.reproduce.training.budget import command

MODULE = "python -m lmc.reproduce.experiments.one_or_two"
TEXT = ("neox-docstrings", "pythia-wikipedia", "olmo-wikipedia", "gpt2-shakespeare", "width-128-again")
VISION = ("vit-digits", "vit-cifar10", "cifar10-128", "cifar10-192", "tiny-imagenet-128", "vit-tiny-imagenet")
CURVES = ("scale-width-tokens", "scale-depth-tokens")  # at equal loss networks begin from the same seeds: no new pairs
OTHER = "wikitext2"  # how the name of the other text begins
GRIDS = {"neox-docstrings": "neox-docstrings-rates", "vit-digits": "vit-digits-rates"}  # elsewhere they are inside
TIMES = {"equal": 1.0, "twice": 2.0}  # single's rate, in dual's
FEWEST = 5  # pairs from which on an interval over pairs says something
Row = dict[str, Any]


def paired(compared: Comparison) -> dict[str, Row]:
    """Per pair the mean single and dual barrier over the seeds that both ran with, and the naive barrier.

    >>> paired(results.read("vit-digits", "laptop").comparison)["vit-digits-0"]["seeds"]
    [0, 1, 2]
    """
    barriers = {m: {(run.pair, _seed(run)): run.barrier for run in compared.methods[m]} for m in ("single", "dual")}
    whole = {run.pair: run.barrier for run in compared.methods["naive"]}
    both = sorted(barriers["single"].keys() & barriers["dual"].keys())
    found: dict[str, Row] = {}
    for pair in dict.fromkeys(pair for pair, _ in both):
        seeds = [seed for name, seed in both if name == pair]
        row = {method: sum(barriers[method][pair, s] for s in seeds) / len(seeds) for method in ("single", "dual")}
        share = (row["dual"] - row["single"]) / whole[pair]
        found[pair] = {"seeds": seeds, **row, "naive": whole[pair], "share": share}
    return found


def _seed(run: Run) -> int:
    return int((run.settings or {})["seed"])


def _rates(runs: Sequence[Run]) -> set[float]:
    return {float((run.settings or {})["lr"]) for run in runs}


def at_rates(grids: Mapping[str, RateGrid], naive: Sequence[float], times: float) -> list[dict[str, float]]:
    """Differences on the grids: dual at a rate against single at `times` that rate, for every rate that both have."""
    single, dual = grids["single"], grids["dual"]
    found = []
    for rate, row in zip(dual.rates, dual.barriers, strict=True):
        for other, against in zip(single.rates, single.barriers, strict=True):
            if math.isclose(other, times * rate, rel_tol=1e-6):
                found += [
                    {"pair": i, "rate": rate, "single": x, "dual": y, "share": (y - x) / naive[i]}
                    for i, (x, y) in enumerate(zip(against, row, strict=True))
                    if x is not None and y is not None
                ]
    return found


def interval(shares: Sequence[float]) -> dict[str, Any]:
    """The mean of differences over pairs, its 95 % bootstrap interval, and how many have either sign.

    >>> interval([-0.5] * 6)["interval"]
    [-0.5, -0.5]
    """
    values = torch.tensor(shares, dtype=torch.float64)
    lower, higher = int((values < 0).sum()), int((values > 0).sum())
    found: dict[str, Any] = {"pairs": len(shares), "mean": float(values.mean()), "lower": lower, "higher": higher}
    if lower + higher:
        found["sign test"] = float(binomtest(lower, lower + higher).pvalue)
    if len(shares) >= FEWEST:
        draw = torch.Generator().manual_seed(0)
        means = values[torch.randint(len(values), (RESAMPLES, len(values)), generator=draw)].mean(1)
        found["interval"] = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return found


def ratio(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The geometric mean over pairs of dual ÷ single, where neither is zero, and its 95 % bootstrap interval."""
    logs = [math.log(row["dual"] / row["single"]) for row in rows if min(row["dual"], row["single"]) > 0]
    if len(logs) < FEWEST:
        return {"pairs": len(logs)}
    found = interval(logs)
    return {
        "pairs": len(logs),
        "mean": math.exp(found["mean"]),
        "interval": [math.exp(end) for end in found["interval"]],
    }


def verdict(found: Mapping[str, Any]) -> str:
    """What an interval says, in words."""
    if "interval" not in found:
        return "too few pairs to tell"
    low, high = found["interval"]
    size = f"{abs(found['mean']):.2%} of the naive barrier"
    if high < 0:
        return f"dual is lower, by {size}"
    if low > 0:
        return f"dual is higher, by {size}"
    return f"no difference that can be told from none (mean {size}, {'lower' if found['mean'] < 0 else 'higher'})"


@dataclass
class Found:
    """What the experiments say, by their names: the rows of their pairs, and the differences at each kind of rates."""

    kinds: dict[str, str] = field(default_factory=dict)
    best: dict[str, dict[str, Row]] = field(default_factory=dict)
    rates: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=lambda: {how: {} for how in TIMES})
    elsewhere: dict[str, dict[str, Row]] = field(default_factory=dict)
    at_lowest: list[str] = field(default_factory=list)

    def add(self, name: str, kind: str, compared: Comparison, grids: Mapping[str, RateGrid]) -> None:
        """One experiment more."""
        self.kinds[name], self.best[name] = kind, paired(compared)
        for on in (also for corpus, also in compared.also.items() if corpus.startswith(OTHER)):
            self.elsewhere[name] = paired(on)
        naive = [row["naive"] for row in self.best[name].values()]
        both = {"single", "dual"} <= grids.keys()
        if both and all(_rates(compared.methods[m]) == {min(grids[m].rates)} for m in ("single", "dual")):
            self.at_lowest.append(name)
        for how, times in TIMES.items():
            self.rates[how][name] = at_rates(grids, naive, times) if both else []

    def has(self, compared: Comparison) -> bool:
        """Whether these pairs are counted already: a point may be on two curves."""
        new = [row["dual"] for row in paired(compared).values()]
        return any([row["dual"] for row in rows.values()] == new for rows in self.best.values())

    def together(self, group: str) -> dict[str, Any]:
        """What all experiments of a group say: `text`, `vision` or `all`."""
        chosen = [name for name, kind in self.kinds.items() if group in ("all", kind)]
        of = {"best": [row["share"] for name in chosen for row in self.best[name].values()]}
        for how, rows in self.rates.items():  # the rates of a pair's grid are not independent: their mean counts once
            of[how] = [_mean_of(rows[name], pair) for name in chosen for pair in _pairs(rows[name])]
        for which, end in (("lowest", min), ("highest", max)):
            shared = {name: self.rates["twice"][name] for name in chosen if self.rates["twice"][name]}
            at = {name: end(row["rate"] for row in rows) for name, rows in shared.items()}
            of[f"twice, {which}"] = [r["share"] for name, rows in shared.items() for r in rows if r["rate"] == at[name]]
        of["within"] = [x["share"] for name in chosen if name not in self.at_lowest for x in self.best[name].values()]
        found = {how: interval(shares) for how, shares in of.items() if shares}
        for row in found.values():
            row["verdict"] = verdict(row)
        found["best"]["ratio"] = ratio([row for name in chosen for row in self.best[name].values()])
        return found

    def on_other_text(self) -> dict[str, Any]:
        """What the pairs say that are scored on the other text too: there, and on the text that they learned."""
        found: dict[str, Any] = {"experiments": self.elsewhere}
        for where, rows in (("there", self.elsewhere), ("at home", {name: self.best[name] for name in self.elsewhere})):
            of = [row for pairs in rows.values() for row in pairs.values()]
            found[where] = interval([row["share"] for row in of])
            found[where] |= {"verdict": verdict(found[where]), "ratio": ratio(of)}
        return found


def measured(profile: str = "laptop") -> dict[str, Any]:
    """The whole comparison, from the results that are there."""
    found = Found()
    for kind, ids in (("text", TEXT), ("vision", VISION)):
        for id in (id for id in ids if results.exist(id, profile)):
            found.add(id, kind, results.read(id, profile).comparison, results.read(GRIDS.get(id, id), profile).grids)
    for id in CURVES:
        for numbers in results.read(id, profile).numbers["settings"] if results.exist(id, profile) else ():
            point, shape = Comparison.from_json(numbers), numbers["setting"]["shape"]
            if "dual" in point.methods and not found.has(point):
                grids = rate_grids(numbers) if "grids" in numbers else {}
                found.add(f"wikipedia, {shape['layers']} × {shape['width']}", "text", point, grids)
    together = {group: found.together(group) for group in ("all", "text", "vision")}
    headline = {f"dual − single, {group}, best rates": together[group]["best"]["mean"] for group in together}
    return {
        "experiments": found.best,
        "kinds": found.kinds,
        "rates": found.rates,
        "together": together,
        "other text": found.on_other_text(),
        "at the lowest rate": found.at_lowest,
        "headline": headline,
    }


def _pairs(rows: Sequence[Mapping[str, float]]) -> list[float]:
    return sorted({row["pair"] for row in rows})


def _mean_of(rows: Sequence[Mapping[str, float]], pair: float) -> float:
    shares = [row["share"] for row in rows if row["pair"] == pair]
    return sum(shares) / len(shares)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    argparse.ArgumentParser(prog=MODULE, description=__doc__.split("\n")[0]).parse_args(arguments)
    began = time.monotonic()
    numbers = measured()
    run = {"seeds": [0, 1, 2], "duration_s": time.monotonic() - began}
    results.write("one-or-two", "laptop", numbers, run | {"command": MODULE})
    for group, found in numbers["together"].items():
        for how, row in found.items():
            print(f"{group:<7} {how:<6} {row}")


if __name__ == "__main__":
    sys.exit(main())
