"""One item at one size, within a time budget: every piece of work in order, and a results file for each.

>>> place = Workplace(Path("campaign"), Path("inputs"), torch.device("cpu"))
>>> run(3, "smoke", Budget(540), place, stages=("train",), only="gpt2-shakespeare")
['gpt2-shakespeare']

`conduct(3, "gpt2-shakespeare", "laptop")` goes through all stages, in about 40 minutes on two cores.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from huggingface_hub import constants

from lmc.corpora import prepared
from lmc.errors import ArgumentError
from lmc.reproduce import places, results
from lmc.reproduce.experiments import cost, report
from lmc.reproduce.experiments.stages import STAGES, Campaign
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.training.budget import UNLIMITED, Budget
from lmc.reproduce.training.settings import SIZE, SIZES, Cost, Curve, Work, corpora, work


@dataclass(frozen=True)
class Workplace:
    """Where things lie and what computes: `folder` keeps what is made, `inputs` the prepared corpora."""

    folder: Path
    inputs: Path
    device: torch.device
    compiled: bool = False


def run(
    item: int,
    size: str,
    budget: Budget,
    place: Workplace,
    stages: tuple[str, ...] = STAGES,
    only: str | None = None,
    wait: bool = False,
) -> list[str]:
    """Do what an item, or `only` one piece of its work, still lacks; returns the ids of its results.

    Raises BudgetSpent when the time is over: what was done is kept, and the same call goes on. Raises ArgumentError
    where another process does the same work, unless this one is to `wait` for it.
    """
    chosen = [w for w in work(item, size) if only in (None, w.id)]
    if not chosen:
        raise ArgumentError(f"only: expected one of {', '.join(w.id for w in work(item, size))}, found {only!r}")
    for each in chosen:
        with alone(place.folder / size / f".{each.id}.lock", wait):
            Job(size, each, budget, place, _command(item, size, each)).go(stages)
    return [each.id for each in chosen]


@contextmanager
def alone(file: Path, wait: bool) -> Iterator[None]:
    """One process at a time: two that write the same pieces would lose each other's. Raises ArgumentError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        where = file.name.strip(".").removesuffix(".lock")
        raise ArgumentError(
            f"{where}: another run does this in {file.parent}; wait, or choose another --folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


class Job:
    """One piece of work and its results file."""

    def __init__(self, size: str, work: Work, budget: Budget, place: Workplace, command: str) -> None:
        """`command`: what makes the results again."""
        self.size, self.work, self.budget, self.place, self.command = size, work, budget, place, command
        self.folder = place.folder / size
        self.pieces = KeptRuns(self.folder / work.id, asdict(work))  # of a cost; a setting's are in its campaign
        settings = [] if isinstance(work, Cost) else [s for _, s in work.points] if isinstance(work, Curve) else [work]
        self.campaigns = [
            Campaign(each, self.folder, place.inputs, place.device, budget, self.publish, place.compiled)
            for each in settings
        ]

    def go(self, stages: tuple[str, ...]) -> None:
        if isinstance(self.work, Cost):
            cost.measure(self.work, self.place.device, self.budget, self.pieces, self.publish)
            return
        if isinstance(self.work, Curve):
            for index in range(max(len(each.setting.seeds) for each in self.campaigns)):
                for campaign in self.campaigns:  # a whole curve of first pairs first
                    campaign.run(stages, only=index)
        else:
            self.campaigns[0].run(stages)
        self.publish()

    def publish(self) -> None:
        """Write the results so far."""
        if isinstance(self.work, Cost):
            numbers = cost.measured(self.work, self.pieces)
            precision, seconds = {"steps": report.precision(bf16=True)}, self.pieces.seconds()
            made = {"seeds": [0], "precision": precision, "duration_s": seconds, "command": self.command}
        else:
            settings = [campaign.setting for campaign in self.campaigns]
            made = report.made(settings, self.folder, self.campaigns[0].task, self.command)
            found = [campaign.compared() for campaign in self.campaigns]
            costs = {each.id: report.costs(each, self.folder) for each in settings}
            if isinstance(self.work, Curve):
                numbers, made["costs"] = report.curve(self.work, found).to_json(), costs
            else:
                numbers, made["costs"] = found[0].to_json(), costs[self.work.id]
        results.write(self.work.id, SIZES[self.size], numbers, made)


def _command(item: int, size: str, work: Work) -> str:
    if isinstance(work, Cost):  # no figure
        return f"make gpu ITEM={item}" + ("" if size == "full" else f" SIZE={size}")
    return f"lmc reproduce --profile {SIZES[size]} --figure {work.id}"


def conduct(item: int, id: str, profile: str) -> results.Results:
    """Run what a piece of work still lacks, in `build/`; at smoke everything, in a folder that is gone afterwards.

    Where its corpora are not to be had, the results that are there are read instead, and that is said.
    """
    folder = places.checkout() / "build/inputs"
    read = corpora([w for w in work(item, SIZE[profile]) if w.id == id])
    gone = prepared.absent(read, folder) if profile != "smoke" else []
    gone = [name for name in gone if constants.HF_HUB_OFFLINE or not prepared.CORPORA[name].hub]
    if gone and results.exist(id, profile):
        print(
            f"not computed again: {', '.join(gone)} not here (book/gpu.md says where from); this is what was measured"
        )
        return results.read(id, profile)
    with tempfile.TemporaryDirectory(prefix="lmc-") as aside:
        build = Path(aside) if profile == "smoke" else places.checkout() / "build"
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        run(
            item,
            SIZE[profile],
            Budget(UNLIMITED),
            Workplace(build / "campaign", build / "inputs", device),
            only=id,
            wait=True,
        )
    return results.read(id, profile)
