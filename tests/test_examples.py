"""Every example in a docstring is run, in a folder where what it names is there, and prints what it says it prints.

An example that shows no output may print anything; in one that does, `...` stands for what differs between machines.
Examples that need the hub or minutes say so themselves (`# doctest: +SKIP`).
"""

import ast
import doctest
import importlib.util
import pkgutil
import random
import shutil
import string
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
import transformers

import lmc
from lmc.evaluation import pyplot
from lmc.reproduce import places, results
from lmc.reproduce.experiments.chapter import setting
from lmc.reproduce.experiments.comparison import load_pairs
from lmc.reproduce.runs import Comparison, Run
from lmc.reproduce.training.tasks import Digits, task_of


def modules() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages(lmc.__path__, "lmc.")]
    return sorted({"lmc", *found} - {"lmc.__main__"})


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What examples name: tiny models, data and alignments of them, in a folder that also holds them as checkpoints.

    Results are written there too; the committed ones are read from the repository.
    """
    folder = tmp_path_factory.mktemp("examples")
    a, b, c = (pico.neox(seed=seed, dtype=torch.float32) for seed in range(3))
    vits = [pico.vit(seed=0, dtype=torch.float32), pico.vit(seed=1, dtype=torch.float32, no_embed_class=True)]
    larger = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 30}
    tokens, held_out = (pico.inputs(a, n=64, seed=seed) for seed in (1, 2))
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LMC_RESULTS", str(folder / "results"))
    for name in ("lmc", "notebooks", "pyproject.toml"):
        Path(name).symlink_to(places.checkout() / name)
    pico.tokenizer(Path("words"))
    for name, model in (("run-1", a), ("run-2", b)):
        lmc.save(model, name, tokenizer_from="words")
    shutil.copytree("run-1", "old")
    for name in ("model.safetensors", "README.md"):  # the text of a card would be said to stay behind
        Path("old", name).unlink()
    torch.save(a.state_dict(), "old/pytorch_model.bin")
    a, b, tuned = lmc.load("run-1"), lmc.load("run-2"), lmc.load("run-1")
    tuned.get_output_embeddings().weight.data *= 1.01
    alignment = lmc.match(a, b, method="dual", data=tokens, steps=2)
    alignment.save("aligned")
    words = random.Random(0)
    letters = ["".join(words.choices(string.ascii_lowercase, k=4)) for _ in range(4000)]
    Path("text.txt").write_text("\n".join(" ".join(letters[i : i + 8]) for i in range(0, len(letters), 8)))
    yield {
        "lmc": lmc,
        "torch": torch,
        "Path": Path,
        **{"model": a, "a": a, "b": b, "c": c, "tuned": tuned, "vit": vits[0], "other_vit": vits[1]},
        "large": pico.neox(dtype=torch.float32, **larger),
        "transformers": transformers,
        **{"tokens": tokens, "match_on": tokens, "held_out": held_out},
        **{"alignment": alignment, "merged": alignment.merge(0.5), "naive": lmc.match(a, b, method="naive")},
        **{"dual": alignment, "single": lmc.match(a, b, method="single", data=tokens, steps=2)},
        **{"results": results, "Run": Run, "Comparison": Comparison, "load_pairs": load_pairs},
        **{"Digits": Digits, "task_of": task_of, "setting": setting(3, "gpt2-shakespeare", "smoke")},
    }
    monkeypatch.undo()


class Shown(doctest.OutputChecker):
    """Compares what an example prints with what it shows; one that shows nothing may print anything."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return want == "" or super().check_output(want, got, optionflags)


@pytest.mark.filterwarnings("ignore:.*was tied to:UserWarning")  # said of every GPT-2, and no part of an example
@pytest.mark.parametrize("name", modules())
def test_examples_run_and_say_what_happens(name: str, named: dict[str, Any]) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(Shown(), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for example in doctest.DocTestFinder().find(module, globs={**named, **vars(module)}):
        runner.run(example, out=report.append)
    pyplot().close("all")
    assert runner.failures == 0, "".join(report)


def test_a_wrong_example_is_found() -> None:
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n>>> 1\n>>> 1 / 0\n", {}, "wrong", None, None)
    runner = doctest.DocTestRunner(Shown())
    runner.run(wrong, out=lambda text: None)
    assert (runner.failures, runner.tries) == (2, 3)


def paragraphs(module: str) -> Iterator[tuple[str, str]]:
    """Every paragraph of a module's docstrings, with the name of what it is about."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            name = getattr(node, "name", module)
            yield from ((name, part) for part in (ast.get_docstring(node) or "").split("\n\n"))


def is_code(paragraph: str) -> bool:
    """Whether a paragraph is Python that does something."""
    try:
        tree = ast.parse(textwrap.dedent(paragraph).strip("\n"))
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Call | ast.Assign | ast.Attribute | ast.Subscript) for node in ast.walk(tree))


def strays(paragraph: str) -> bool:
    """Whether a paragraph is an example that is not run, or one that is further in than the text around it."""
    return is_code(paragraph) or (paragraph.startswith(" ") and ">>>" in paragraph)


@pytest.mark.parametrize("name", modules())
def test_every_example_is_one_that_is_run(name: str) -> None:
    assert [(where, text) for where, text in paragraphs(name) if strays(text)] == []


def test_a_stray_example_is_found() -> None:
    assert strays("    model = load(1)") and strays("f(1)") and strays("    >>> f(1)")
    assert not strays(">>> f(1)\n2") and not strays("Raises ArgumentError.") and not strays("    lmc check run-1")
