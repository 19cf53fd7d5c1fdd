"""New pairs of 128 channels on Wikipedia, matched for longer: is anything left there, too?

    python -m lmc.reproduce.experiments.longer --folder build/scaling   # hours of one core; repeat to go on

The pairs are those of `rerun width-128-again`. Each is matched (dual) for more and more steps, with λ drawn from the
middle and where the line is highest, and its line is walked on Wikipedia and on WikiText-2. Exit 3: the time given is
over.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lmc import checkpoints
from lmc.corpora import prepared
from lmc.matching import CLOSED_FORM, HIGHEST, Alignment, Recipe, match
from lmc.reproduce import results
from lmc.reproduce.experiments import report, rerun
from lmc.reproduce.experiments.comparison import best_start
from lmc.reproduce.experiments.long_matches import told, walked
from lmc.reproduce.experiments.rates import best_rates
from lmc.reproduce.experiments.stages import Campaign, options
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.pair_means import mean
from lmc.reproduce.runs import Comparison, Headline, Pair, Run, Sweep
from lmc.reproduce.training.budget import Budget, command
from lmc.reproduce.training.settings import Setting, corpora, endpoint_folder
from lmc.reproduce.training.tasks import CPU

ID = "longer-wikipedia"
STEPS = (600, 3000)
DRAWN = {"highest": HIGHEST, "middle": Recipe.lambdas}


class Longer:
    """The matches of one pair, in a folder of campaigns."""

    def __init__(self, folder: Path, inputs: Path, index: int, budget: Budget) -> None:
        self.setting: Setting = rerun.settings()[rerun.AGAIN]
        self.folder, self.budget = folder / ID / f"pair-{index}", budget
        self.pieces = KeptRuns(self.folder, [rerun.AGAIN, index, self.setting.scored, self.setting.grid])
        prepared.prepare(corpora([self.setting]), inputs)
        campaign = Campaign(self.setting, folder, inputs, CPU, budget)
        campaign.run(only=index)
        self.task, self.matched = campaign.task, folder / self.setting.id / f"pair-{index}"
        ends = (endpoint_folder(self.setting, folder) / f"seed-{seed}" for seed in self.setting.seeds[index])
        self.pair: Pair = tuple(map(checkpoints.load, ends))  # type: ignore[assignment]
        self.lr = best_rates(report.rate_grids(self.setting, folder))["dual"]

    def match(self, drawn: str, steps: int) -> dict[str, Any]:
        """What one match leaves, made now or kept. Raises BudgetSpent."""
        return self.pieces.piece(f"{drawn}-{steps}", partial(self._match, drawn, steps))

    def _match(self, drawn: str, steps: int) -> dict[str, Any]:
        settings, place = self.setting.matching, self.folder / f"{drawn}-{steps}"
        seen = self.task.samples(settings.samples)
        start = best_start(self.pair, seen, [Alignment.load(self.matched / name) for name in CLOSED_FORM])
        with self.budget.interrupting():
            given: dict[str, Any] = {"lr": self.lr, "batch": settings.batch, "lambdas": DRAWN[drawn], "resume": place}
            alignment = match(*self.pair, method="dual", data=seen, steps=steps, start=start, **given)
        walks = {
            name: walked(alignment, self.task.held_out(name, self.setting.scored), self.setting.grid)
            for name in self.setting.evaluated_on
        }
        return {"drawn": drawn, "steps": steps, "record": told(alignment), "walks": walks}


def swept(found: Sequence[dict[str, dict[str, Any]]], corpus: str) -> Sweep:
    """Barriers over the steps of matching, of the pieces of every pair: the points that all pairs have."""
    names = set.intersection(*(set(pieces) for pieces in found))
    points = [steps for steps in STEPS if all(f"{drawn}-{steps}" in names for drawn in DRAWN)]

    def run(pair: int, drawn: str, steps: int) -> Run:
        walk = found[pair][f"{drawn}-{steps}"]["walks"][corpus]
        left = Run(f"λ: {drawn}", walk["path"]["barrier"], f"pair-{pair}", interval=tuple(walk["path"]["interval"]))
        return replace(left, to_better=tuple(walk["to_better"]))

    compared = tuple(Comparison(tuple(run(k, d, s) for d in DRAWN for k in range(len(found)))) for s in points)
    methods = tuple(f"λ: {drawn}" for drawn in DRAWN)
    return Sweep("matching steps", tuple(points), compared, methods, named=True)


def write(folder: Path, inputs: Path) -> None:
    """The results file of the pieces in the folder."""
    setting = rerun.settings()[rerun.AGAIN]
    pairs = range(len(setting.seeds))
    kept = [KeptRuns(folder / ID / f"pair-{k}", [rerun.AGAIN, k, setting.scored, setting.grid]) for k in pairs]
    found = [keep.all() for keep in kept]
    home, *others = (swept(found, corpus) for corpus in setting.evaluated_on)
    headline = {f"barrier, λ: {drawn}": mean(home.compared[-1].barriers(f"λ: {drawn}")) for drawn in DRAWN}
    numbers = replace(home, headline=Headline(headline)).to_json() | {"unit": "nats per token"}
    numbers["also"] = {name: o.to_json() for name, o in zip(setting.evaluated_on[1:], others, strict=True)}
    numbers["pieces"] = {f"pair-{k}": pieces for k, pieces in enumerate(found)}
    run = report.made(
        [setting],
        folder,
        Campaign(setting, folder, inputs, CPU, Budget(60)).task,
        f"python -m {__spec__.name} --folder build/scaling",
    )
    results.write(ID, "laptop", numbers, run | {"duration_s": sum(keep.seconds() for keep in kept)})


@command
def main(arguments: Sequence[str] | None = None) -> None:
    given = options("longer", "New pairs, matched for longer.").parse_args(arguments)
    torch.set_num_threads(given.threads)
    budget = Budget(60 * given.minutes)
    pairs = range(len(rerun.SEEDS)) if given.pair is None else [given.pair]
    for steps in STEPS:
        for index in pairs:
            work = Longer(given.folder, given.inputs, index, budget)
            for drawn in DRAWN:
                left = work.match(drawn, steps)["walks"]
                print(index, drawn, steps, {name: walk["path"]["barrier"] for name, walk in left.items()}, flush=True)
    write(given.folder, given.inputs)
    print(f"written: {ID}")


if __name__ == "__main__":
    sys.exit(main())
