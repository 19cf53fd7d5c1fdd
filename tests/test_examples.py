"""Every example in a docstring is run, in a folder where what it names is there, and prints what it says it prints.

An example that shows no output may print anything; in one that does, `...` stands for what differs between machines.
Examples that need the hub say so themselves (`# doctest: +SKIP`).
"""

import doctest
import importlib
import os
import pkgutil
import random
import shutil
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pico
import pytest
import torch

import lmc

# Modules whose examples do not run yet: they name results, folders or long runs that are not here.
LEFT_OUT = {
    "lmc.matching.pairing",
    "lmc.matching.streaming",
    "lmc.reproduce.charts",
    "lmc.reproduce.draw",
    "lmc.reproduce.every_experiment",
    "lmc.reproduce.figures",
    "lmc.reproduce.needs",
    "lmc.reproduce.notebook",
    "lmc.reproduce.pair_means",
    "lmc.reproduce.results",
    "lmc.reproduce.resume",
    "lmc.reproduce.run",
    "lmc.reproduce.schedule",
    "lmc.reproduce.training.settings",
    "lmc.reproduce.training.trainer",
    "lmc.reproduce.experiments.ablation",
    "lmc.reproduce.experiments.chapter",
    "lmc.reproduce.experiments.compare_controls",
    "lmc.reproduce.experiments.comparison",
    "lmc.reproduce.experiments.controls",
    "lmc.reproduce.experiments.dependence",
    "lmc.reproduce.experiments.k_models",
    "lmc.reproduce.experiments.landscape",
    "lmc.reproduce.experiments.published",
    "lmc.reproduce.experiments.stand_ins",
}


def modules() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages(lmc.__path__, "lmc.")]
    return sorted({"lmc", *found} - {"lmc.__main__", *LEFT_OUT})


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What examples name: tiny models, data for them, and a folder that holds both as checkpoints."""
    folder, before = tmp_path_factory.mktemp("examples"), Path.cwd()
    a, b, c = (pico.neox(seed=seed, dtype=torch.float32) for seed in range(3))
    vits = [pico.vit(seed=0, dtype=torch.float32), pico.vit(seed=1, dtype=torch.float32, no_embed_class=True)]
    tokens, held_out = (pico.inputs(a, n=64, seed=seed) for seed in (1, 2))
    os.chdir(folder)
    pico.tokenizer(Path("words"))
    for name, model in (("run-1", a), ("run-2", b)):
        lmc.save(model, name, tokenizer_from="words")
    shutil.copytree("run-1", "old")
    Path("old/model.safetensors").unlink()
    torch.save(a.state_dict(), "old/pytorch_model.bin")
    a, b = lmc.load("run-1"), lmc.load("run-2")
    alignment = lmc.match(a, b, method="dual", data=tokens, steps=2)
    alignment.save("aligned")
    words = random.Random(0)
    letters = ["".join(words.choices(string.ascii_lowercase, k=4)) for _ in range(4000)]
    Path("text.txt").write_text("\n".join(" ".join(letters[i : i + 8]) for i in range(0, len(letters), 8)))
    yield {
        "lmc": lmc,
        "torch": torch,
        "Path": Path,
        **{"model": a, "a": a, "b": b, "c": c, "vit": vits[0], "other_vit": vits[1]},
        **{"tokens": tokens, "held_out": held_out, "alignment": alignment, "merged": alignment.merge(0.5)},
    }
    os.chdir(before)


class Shown(doctest.OutputChecker):
    """Compares what an example prints with what it shows; one that shows nothing may print anything."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return want == "" or super().check_output(want, got, optionflags)


@pytest.mark.parametrize("name", modules())
def test_examples_run_and_say_what_happens(name: str, named: dict[str, Any]) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(Shown(), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for example in doctest.DocTestFinder().find(module, globs={**named, **vars(module)}):
        runner.run(example, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_a_wrong_example_is_found() -> None:
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n>>> 1\n>>> 1 / 0\n", {}, "wrong", None, None)
    runner = doctest.DocTestRunner(Shown())
    runner.run(wrong, out=lambda text: None)
    assert (runner.failures, runner.tries) == (2, 3)
