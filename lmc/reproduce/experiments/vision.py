"""Vision transformers that classify: CIFAR-10 with patches of 4 at two widths, and Tiny ImageNet.

    python -m lmc.reproduce.experiments.vision cifar10-128 --pair 0 --folder build/vision  # repeat to go on

Pictures are shifted and mirrored (`tasks.Pictures`). An endpoint of the smallest setting takes half an hour of a
processor; a training that is cut off loses a minute. Exit 3: the time given is over, the same command goes on.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from lmc.corpora import prepared
from lmc.reproduce import results
from lmc.reproduce.experiments import report
from lmc.reproduce.experiments.stages import Campaign, options
from lmc.reproduce.training.budget import Budget, command
from lmc.reproduce.training.settings import Matching, Setting, corpora
from lmc.reproduce.training.shapes import Vit
from lmc.reproduce.training.tasks import CPU, task_of
from lmc.reproduce.training.trainer import MuonRecipe

DUAL = (2.5e-3, 5e-3, 1e-2, 2e-2)  # single's rates are twice these: to first order the same steps
MATCHING = Matching(
    steps=1000,
    batch=64,
    probe=150,
    samples=16384,
    rates={"single": tuple(2 * rate for rate in DUAL), "dual": DUAL},
    seeds=(0,),
)


def _cifar(width: int) -> Setting:
    return Setting(
        f"cifar10-{width}",
        Vit(layers=4, width=width, heads=width // 32, size=32, patch=4, classes=10),
        corpus="cifar10",
        recipe=MuonRecipe(steps=4000, batch=64, lr=round(1.5e-3 * (128 / width) ** 0.5, 6), warmup=100),
        matching=MATCHING,
        scored=2000,
        grid=13,
        bf16=False,
    )


SETTINGS = {
    setting.id: setting
    for setting in (
        _cifar(128),
        _cifar(192),
        Setting(
            "tiny-imagenet-128",
            Vit(layers=4, width=128, heads=4, size=64, patch=8, classes=200),
            corpus="tiny-imagenet-40000",
            recipe=MuonRecipe(steps=9000, batch=64, lr=1.5e-3, warmup=100),
            matching=MATCHING,
            scored=2000,
            grid=13,
            bf16=False,
        ),
    )
}


def write(setting: Setting, pair: int | None, folder: Path, inputs: Path) -> None:
    """A results file of what the folder holds of a setting. `pair`: the only one that was asked for."""
    task = task_of(setting.shape, setting.corpus, inputs, CPU)
    only = "" if pair is None else f" --pair {pair}"
    again = f"python -m lmc.reproduce.experiments.vision {setting.id}{only} --folder build/vision"
    run = report.made([setting], folder, task, again)
    found = report.compared(setting, folder)
    seeds = sorted(seed for name in found.pairs for seed in setting.seeds[int(name.rpartition("-")[2])])
    results.write(setting.id, "laptop", found.to_json(), run | {"seeds": seeds, "costs": report.costs(setting, folder)})


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = options("vision", "Vision that classifies.")
    parser.add_argument("setting", choices=SETTINGS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    setting = SETTINGS[given.setting]
    prepared.prepare(corpora([setting]), given.inputs)
    Campaign(setting, given.folder, given.inputs, CPU, Budget(60 * given.minutes)).run(only=given.pair)
    write(setting, given.pair, given.folder, given.inputs)
    print(f"written: {setting.id}")


if __name__ == "__main__":
    sys.exit(main())
