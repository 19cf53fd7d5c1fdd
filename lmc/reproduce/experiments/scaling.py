"""How the barrier scales on text: Pythia's architecture at several widths and depths, trained alike or equally well.

    python -m lmc.reproduce.experiments.scaling width-64 --pair 0 --folder build/scaling  # repeat to go on
    python -m lmc.reproduce.experiments.scaling width-128 --pair 0 --equal loss --folder build/scaling
    python -m lmc.reproduce.experiments.scaling write --folder build/scaling  # results files of what is there
    python -m lmc.reproduce.experiments.scaling all --folder build/scaling  # everything, days on one core

At equal *tokens* every network is trained on as many. At equal *loss* every network is trained for as long as it takes
to reach the training loss of the narrowest one, so that size does not come with a better fit; how long that is, is
found with a seed that serves in no pair. Exit 3: the time given is over, the same command goes on.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from lmc.corpora import prepared
from lmc.errors import ArgumentError
from lmc.files import read_json
from lmc.reproduce import results
from lmc.reproduce.experiments import report
from lmc.reproduce.experiments.stages import Campaign, options
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.pair_means import mean
from lmc.reproduce.runs import Sweep
from lmc.reproduce.training.budget import Budget, command
from lmc.reproduce.training.endpoints import train_endpoints
from lmc.reproduce.training.settings import SEEDS, Curve, Matching, Setting, corpora, endpoint_folder, trained_as
from lmc.reproduce.training.shapes import NeoX
from lmc.reproduce.training.tasks import CPU, task_of
from lmc.reproduce.training.trainer import TrainingRecipe

HEAD = 32  # channels of a head at every width
NARROW, DEEP = 64, 4  # the width whose loss the others are trained to, and the layers of the curve over widths
WIDTHS = {64: 3, 128: 3, 256: 3, 512: 1}  # and how many pairs of each
DEPTHS, OF_WIDTH = (2, 4, 8), 128
STEPS = 2000  # of training, equal tokens
DUAL = (5e-3, 1e-2, 2e-2, 4e-2)  # single's rates are twice these: to first order the same steps
# Other rates, where the lowest of these had been the best before: with eight layers two lower ones are tried too, and
# 512 channels are matched at the rate that `lmc match` takes there, as a grid would cost another hour of one core.
OTHER = {"depth-8-loss": (1.25e-3, 2.5e-3, *DUAL), "width-512-loss": (2.5e-3,)}
PILOT = 100  # a seed that serves in no pair
PILOTS = 4  # trainings that the search for equal loss may take
CLOSE = 0.02  # nats per token between the losses of a pilot and of the narrowest network that end the search
EQUAL = ("tokens", "loss")


def settings() -> dict[str, Setting]:
    """All shapes, each trained on as many tokens, by the id of the setting."""
    shapes = {f"width-{w}": (DEEP, w, pairs) for w, pairs in WIDTHS.items()}
    shapes |= {f"depth-{n}": (n, OF_WIDTH, 3) for n in DEPTHS if n != DEEP}  # that depth is on the curve over widths
    return {id: _setting(id, *shape) for id, shape in shapes.items()}


def _setting(id: str, layers: int, width: int, pairs: int) -> Setting:
    """A shape on Wikipedia; the rate of training falls with the root of the width."""
    return Setting(
        id,
        NeoX(layers, width, width // HEAD, context=64, vocabulary=2048),
        corpus="enwiki2015-2048",
        held_out=("enwiki2015-2048", "wikitext2-2048"),
        recipe=TrainingRecipe(STEPS, batch=16, lr=round(3e-3 * (NARROW / width) ** 0.5, 6), warmup=60),
        seeds=SEEDS[:pairs],
        matching=Matching(steps=600, batch=16, probe=150, rates=_rates(*DUAL), seeds=(0,)),
        scored=256,
        bf16=False,
    )


def _rates(*dual: float) -> dict[str, tuple[float, ...]]:
    return {"single": tuple(2 * rate for rate in dual), "dual": dual}


def of_length(setting: Setting, steps: int) -> Setting:
    """The setting trained for so many steps, under a name of its own; as it is, if these are its steps."""
    if steps == setting.recipe.steps:
        return setting
    id = f"{setting.id}-loss"
    matching = replace(setting.matching, rates=_rates(*OTHER[id])) if id in OTHER else setting.matching
    return replace(setting, id=id, recipe=replace(setting.recipe, steps=steps), matching=matching)


class Scaling:
    """The curves, in a folder; where in it the work of a pair lies is decided by `stages.Campaign`.

    >>> scaling = Scaling(Path("build/scaling"), Path("build/inputs"), Budget(3600))
    >>> "width-64" in scaling.settings
    True

    `scaling.pair("width-64", 0, equal="tokens")` then works on its first pair, for hours.
    """

    def __init__(self, folder: Path, inputs: Path, budget: Budget) -> None:
        """`inputs`: where the prepared corpora are, or are put."""
        self.folder, self.inputs, self.budget = folder, inputs, budget
        self.settings = settings()

    def pair(self, id: str, index: int | None, equal: str) -> None:
        """Train, match and measure one pair of a setting, or all. Raises BudgetSpent and ArgumentError."""
        setting = self.settings[id]
        prepared.prepare(corpora([setting]), self.inputs)
        if equal == "loss":
            setting = of_length(setting, self.steps_to_target(setting))
        Campaign(setting, self.folder, self.inputs, CPU, self.budget).run(only=index)

    def target(self) -> float:
        """The training loss of the narrowest networks, first pair, over the last steps. Raises ArgumentError."""
        narrow = self.settings[f"width-{NARROW}"]
        files = [endpoint_folder(narrow, self.folder) / f"seed-{seed}.json" for seed in narrow.seeds[0]]
        ends = [read_json(file)["curve"][-1] for file in files if file.is_file()]
        if len(ends) < len(files) or any(step < narrow.recipe.steps for step, _ in ends):
            raise ArgumentError(f"equal loss: expected trained endpoints of {narrow.id}, first pair, found fewer")
        return mean([loss for _, loss in ends])

    def steps_to_target(self, setting: Setting) -> int:
        """How many steps of training end at the target, on a curve through a pilot's losses at several lengths."""
        if setting.id == f"width-{NARROW}":
            return setting.recipe.steps
        return int(self._searches(setting).piece(setting.id, partial(self._search, setting))["steps"])

    def _searches(self, setting: Setting) -> KeptRuns:
        """Where the search of a setting is kept once it is over; until then its pilots are."""
        return KeptRuns(self.folder / "equal-loss", trained_as(setting))

    def _search(self, setting: Setting) -> dict[str, Any]:
        target, tried = self.target(), dict[int, float]()
        while len(tried) < PILOTS and not any(abs(loss - target) <= CLOSE for loss in tried.values()):
            steps = next_length(tried, target, setting.recipe.steps)
            if steps in tried:
                break
            tried[steps] = self.pilot(setting, steps)
        best = min(tried, key=lambda steps: abs(tried[steps] - target))
        return {"target": target, "tried": tried, "steps": best}

    def pilot(self, setting: Setting, steps: int) -> float:
        """The last training loss of a network that is trained for so many steps and serves in no pair."""
        short = replace(setting, recipe=replace(setting.recipe, steps=steps))
        folder = endpoint_folder(short, self.folder)
        data = task_of(short.shape, short.corpus, self.inputs, CPU)
        folder.parent.mkdir(parents=True, exist_ok=True)
        train_endpoints(short, (PILOT,), folder, data, CPU, self.budget)
        return float(read_json(folder / f"seed-{PILOT}.json")["curve"][-1][1])

    def write(self) -> list[str]:
        """A results file for every curve that has a point, by its id."""
        written = []
        for axis, ids in {
            "width": [f"width-{w}" for w in WIDTHS],
            "depth": [f"depth-{n}" if n != DEEP else f"width-{OF_WIDTH}" for n in DEPTHS],
        }.items():
            for equal in EQUAL:
                if self._write(f"scale-{axis}-{equal}", axis, ids, equal):
                    written.append(f"scale-{axis}-{equal}")
        return written

    def _write(self, id: str, axis: str, ids: Sequence[str], equal: str) -> bool:
        settings = self._trained(ids, equal)
        found = [report.compared(s, self.folder) for s in settings]
        done = [(s, compared) for s, compared in zip(settings, found, strict=True) if compared.headline]
        if len(done) < (1 if equal == EQUAL[0] else 2):  # the narrowest is on the curve of equal tokens anyway
            return False
        points = tuple((float(s.shape.width if axis == "width" else s.shape.layers), s) for s in settings)
        swept = replace(
            report.curve(Curve(id, axis, points), found),
            parameters=tuple(_parameters(s) for s, _ in done),
            loss=tuple(mean([x for p in (c.endpoints or {}).values() for x in p.losses]) for _, c in done),
        )
        said: dict[str, Any] = {
            "normalised": {name: [c.summary[name].normalised for _, c in done] for name in swept.methods},
            "ratio": {name: [c.summary[name].ratio for _, c in done] for name in swept.methods},
            "fits": fits(swept),
        }
        if equal == "loss":
            searches = {s: self._searches(self.settings[s]).get(s) for s in ids}
            said["search"] = {s: search for s, search in searches.items() if search is not None}
        numbers = replace(swept, rest={**swept.rest, **said}).to_json()
        settings = [s for s, _ in done]
        task = task_of(settings[0].shape, settings[0].corpus, self.inputs, CPU)
        command = "python -m lmc.reproduce.experiments.scaling all --folder build/scaling"
        run = report.made(settings, self.folder, task, command) | {"threads": torch.get_num_threads()}
        results.write(id, "laptop", numbers, run | {"costs": {s.id: report.costs(s, self.folder) for s in settings}})
        return True

    def _trained(self, ids: Sequence[str], equal: str) -> list[Setting]:
        """The settings as they were trained; at equal loss only those for which it is known how long that takes."""
        settings = [self.settings[id] for id in ids]
        if equal == "tokens":
            return settings
        known = [s for s in settings if s.id == f"width-{NARROW}" or self._searches(s).get(s.id) is not None]
        return [of_length(s, self.steps_to_target(s)) for s in known]


def fits(swept: Sweep) -> dict[str, Any]:
    """Of every method the power law of its barriers in the number of parameters."""
    sizes = swept.parameters or ()
    return {name: power_law(sizes, [found.barriers(name) for found in swept.compared]) for name in swept.methods}


def next_length(tried: Mapping[int, float], target: float, longest: int) -> int:
    """Where to look for the target next: half of the longest, then on the line through the two closest losses.

    >>> next_length({}, 3.7, 2000), next_length({1000: 3.8}, 3.7, 2000)
    (1000, 2000)
    """
    if not tried:
        return longest // 2
    if len(tried) == 1:
        (steps, loss), *_ = tried.items()
        return steps * 2 if loss > target else steps // 2
    near = sorted(tried, key=lambda steps: abs(tried[steps] - target))[:2]
    (x, y), (u, v) = ((math.log(steps), tried[steps]) for steps in near)
    if y == v:
        return near[0]
    return round(math.exp(x + (target - y) * (u - x) / (v - y)))


def power_law(sizes: Sequence[int], barriers: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """Exponent of barrier ∝ size^exponent over all pairs, with the 95 % interval of least squares on logarithms.

    >>> round(power_law([1, 10, 100], [[1.0, 1.0], [0.1, 0.1], [0.01, 0.01]])["exponent"], 6)
    -1.0

    None with fewer than three sizes, or where a barrier is zero: it has no logarithm.
    """
    points = [(math.log(s), b) for s, row in zip(sizes, barriers, strict=True) for b in row]
    if len(sizes) < 3 or min(b for _, b in points) <= 0:
        return None
    x, y = np.array([p for p, _ in points]), np.log([b for _, b in points])
    away = x - x.mean()
    slope = float(away @ (y - y.mean()) / (away @ away))
    rest = y - y.mean() - slope * away
    error = math.sqrt(float(rest @ rest) / (len(points) - 2) / float(away @ away))
    reach = float(student.ppf(0.975, len(points) - 2)) * error
    return {"exponent": slope, "interval": [slope - reach, slope + reach], "points": len(points)}


def _parameters(setting: Setting) -> int:
    return sum(p.numel() for p in setting.shape.build().parameters())


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = options("scaling", "How the barrier scales.")
    parser.add_argument("setting", choices=(*settings(), "write", "all"))
    parser.add_argument("--equal", choices=EQUAL, default=EQUAL[0], help="what all shapes share: %(default)s")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    scaling = Scaling(given.folder, given.inputs, Budget(60 * given.minutes))
    for id in scaling.settings if given.setting == "all" else ():
        for equal in EQUAL:
            scaling.pair(id, given.pair, equal)
    if given.setting in ("write", "all"):
        for id in scaling.write():
            print(f"written: {id}")
    else:
        scaling.pair(given.setting, given.pair, given.equal)


if __name__ == "__main__":
    sys.exit(main())
