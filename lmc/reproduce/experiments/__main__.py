"""`python -m lmc.reproduce.experiments ITEM`: run an item of the campaign; `--prepare` writes its corpora.

`ITEM` is a number, or `lease`: what twelve minutes can say. Exit 0: done. 2: bad input, in one line. 3: the time given
is over, run the same command again to go on.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from lmc.corpora import prepared
from lmc.reproduce import places
from lmc.reproduce.experiments import lease
from lmc.reproduce.experiments.from_scratch import Workplace, run
from lmc.reproduce.experiments.stages import STAGES
from lmc.reproduce.training.budget import Budget, command
from lmc.reproduce.training.settings import ITEMS, SIZES, corpora, work

LEASE = "lease"


@command
def main(given: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(given)
    on_lease = arguments.item == LEASE
    folder = arguments.inputs or places.checkout() / "build" / "inputs"
    if arguments.prepare:
        works = lease.settings(arguments.size).values() if on_lease else work(arguments.item, arguments.size)
        files = prepared.prepare(corpora(works), folder)
        for file in files:
            print(f"{file.stat().st_size / 1e6:8.2f} MB  {file.relative_to(folder)}")
        return 0
    place = Workplace(
        folder=arguments.folder or places.checkout() / "build" / "campaign",
        inputs=folder,
        device=torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")),
        compiled=arguments.compile,
    )
    budget = Budget(60 * arguments.minutes)
    if on_lease:
        unfinished = lease.run(arguments.size, budget, replace(place, folder=place.folder / LEASE))
        for line in unfinished:
            print(f"to be continued: {line}")
        return 3 if unfinished else 0
    stages = STAGES if arguments.stage == "all" else (arguments.stage,)
    for id in run(arguments.item, arguments.size, budget, place, stages, arguments.only):
        print(f"done: {places.fresh_folder(SIZES[arguments.size]) / f'{id}.json'}")
    return 0


def _item(text: str) -> int | str:
    return text if text == LEASE else int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lmc.reproduce.experiments", description="Run an item of the GPU campaign."
    )
    parser.add_argument(
        "item",
        type=_item,
        metavar="ITEM",
        help=f"1 to {max(ITEMS)}, in the order they should be run; {LEASE}: the most important of it in twelve minutes",
    )
    parser.add_argument("--size", default="full", choices=SIZES, help="default: %(default)s")
    parser.add_argument("--prepare", action="store_true", help="only write the corpora that the item needs")
    parser.add_argument("--stage", default="all", choices=("all", *STAGES), help="default: %(default)s")
    parser.add_argument("--only", metavar="ID", help="one piece of the item's work, by the id of its results")
    parser.add_argument("--minutes", type=float, default=9.0, help="stop cleanly after these: %(default)s")
    parser.add_argument("--device", help="default: the GPU if there is one, else the CPU")
    parser.add_argument("--compile", action="store_true", help="train through torch.compile")
    parser.add_argument("--inputs", type=Path, help="prepared corpora: build/inputs of the clone")
    parser.add_argument("--folder", type=Path, help="endpoints, matches and states: build/campaign of the clone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
