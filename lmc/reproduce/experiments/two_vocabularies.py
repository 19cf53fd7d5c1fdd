"""Pairs of language models with two tokenizers: trained on one text, brought to one vocabulary, matched and measured.

    python -m lmc.reproduce.experiments.two_vocabularies --folder build/vocabularies    # may be stopped, and goes on

>>> cut = tokenizers("The first text, which one of them learns from. " * 50, size=260)
>>> sorted(cut)
['first', 'other text', 'renumbered']

Endpoints of kind `renumbered` have the tokens of the first in another order, and more rows than tokens. Those of kind
`other text` have a tokenizer that was learned on another part of the text: most tokens are the same, and the same line
falls into others.
"""

import argparse
import json
import random
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmc import checkpoints, corpora
from lmc.checkpoints import tokens
from lmc.evaluation import evaluate
from lmc.files import whole_folder
from lmc.matching import prepare
from lmc.reproduce import results
from lmc.reproduce.experiments.comparison import compare, plan, record
from lmc.reproduce.experiments.rates import best_rates
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.runs import Numbers, Pair
from lmc.reproduce.training.budget import command
from lmc.reproduce.training.shapes import NeoX
from lmc.reproduce.training.tasks import Texts
from lmc.reproduce.training.trainer import TrainingRecipe, train
from lmc.symmetries import transformers

KINDS = {"vocabulary-renumbered": "renumbered", "vocabulary-other-text": "other text"}  # results: second's tokenizer
SEEDS = (0, 1, 2)  # of learned matching
PADDING = 64  # rows without a token of a renumbered endpoint


@dataclass(frozen=True)
class Size:
    """How large an experiment is; `characters` of every split of the text, `samples` windows to match on."""

    tokens: int
    width: int
    recipe: TrainingRecipe
    pairs: int
    characters: int
    samples: int
    scored: int
    steps: int
    grid: int


SIZES = {
    "laptop": Size(512, 64, TrainingRecipe(700, 16, 4e-3), 3, 2_000_000, 4096, 256, 300, 11),
    "smoke": Size(272, 16, TrainingRecipe(4, 4, 1e-2, warmup=2), 1, 20_000, 24, 8, 2, 3),
}


class Lines(Texts):
    """The documentation of Python packages, cut line by line by a tokenizer."""

    def __init__(self, size: Size, tokenizer: Any, padding: int = 0) -> None:
        rows = len(tokenizer) + padding
        super().__init__(NeoX(2, size.width, heads=4, context=64, vocabulary=rows), "embedded", Path())
        self.size, self.tokenizer = size, tokenizer

    def read(self, corpus: str, split: str) -> Tensor:
        lines = corpora.text(corpus, split)[: self.size.characters].splitlines(keepends=True)
        cut = self.tokenizer.backend_tokenizer.encode_batch_fast(lines, add_special_tokens=False)
        return torch.tensor([id for line in cut for id in line.ids], dtype=torch.int32)

    def per_byte(self, model: Any) -> float:
        """The loss on held-out text in nats per byte, which does not depend on how many tokens that is."""
        text = corpora.text(self.corpus, "eval")[: self.size.characters]
        per_token = float(evaluate(model, self.held_out(self.corpus, self.size.scored))[0].mean())
        return per_token * len(self.read(self.corpus, "eval")) / len(text.encode())


def tokenizers(text: str, size: int) -> dict[str, Any]:
    """Stock tokenizers of so many tokens: one learned on the text's beginning, the same renumbered, one on its end.

    >>> one = tokenizers("Another text, which is longer at its end than at its beginning. " * 50, size=264)
    >>> {len(tokenizer) for tokenizer in one.values()}
    {264}
    """
    first = _learned(text[: len(text) // 2], size)
    order = sorted(first.get_vocab().values())
    random.Random(0).shuffle(order)
    ids = {token: order[i] for token, i in first.get_vocab().items()}
    moved = json.dumps(tokens.renumbered(json.loads(first.to_str()), ids))
    plain = {
        "first": first,
        "renumbered": type(first).from_str(moved),
        "other text": _learned(text[-len(text) // 2 :], size),
    }
    fast = transformers().PreTrainedTokenizerFast
    return {name: fast(tokenizer_object=one, clean_up_tokenization_spaces=False) for name, one in plain.items()}


def _learned(text: str, size: int) -> Any:
    """Byte-pair encoding learned on a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return tokenizer


@cache
def tasks(profile: str) -> dict[str, Lines]:
    """What endpoints of every kind are trained on."""
    size = SIZES[profile]
    cut = tokenizers(corpora.text("embedded", "train")[: size.characters], size.tokens)
    return {kind: Lines(size, one, PADDING if kind == "renumbered" else 0) for kind, one in cut.items()}


def study(
    kind: str,
    profile: str,
    folder: Path,
    seeds: Sequence[int],
    rates: Mapping[str, float],
    keep: KeptRuns | None = None,
) -> Numbers:
    """Every method on the pairs of a kind, after both endpoints were brought to the tokenizer of the first.

    Endpoints are trained into the folder, those that are there serve again. Beside the comparison: how many `tokens`
    two endpoints have in common, and what each endpoint loses in `nats per byte`, the second with its own tokenizer and
    with that of the first.
    """
    size, task = SIZES[profile], tasks(profile)
    own, pairs = [], {}
    for k in range(size.pairs):
        folders = [_endpoint(folder, task[of], of, seed) for of, seed in (("first", 2 * k), (kind, 2 * k + 1))]
        own.append([task[of].per_byte(checkpoints.load(one)) for of, one in zip(("first", kind), folders, strict=True)])
        pairs[f"pair-{k}"] = _brought(folders, folder / f"{kind}-{k}".replace(" ", "-"))
    first = task["first"]
    held_out = first.held_out(first.corpus, size.scored)
    methods = plan(list(pairs), seeds, size.steps, rates)
    compared = compare(pairs, first.samples(size.samples), held_out, methods, size.grid, keep=keep)
    after = [first.per_byte(second) for _, second in pairs.values()]
    return compared.summarised(first.guess(held_out)).to_json() | {
        "tokens": _counts(task, kind),
        "nats per byte": {
            "first": [row[0] for row in own],
            "second, own tokenizer": [row[1] for row in own],
            "second, tokenizer of the first": after,
        },
    }


def _counts(task: Mapping[str, Lines], kind: str) -> dict[str, int]:
    ours, theirs = (task[of].tokenizer.get_vocab() for of in ("first", kind))
    common = ours.keys() & theirs.keys()
    return {"first": len(ours), "second": len(theirs), "common": len(common)}


def _endpoint(folder: Path, task: Lines, kind: str, seed: int) -> Path:
    """The folder of an endpoint: a stock checkpoint with its tokenizer, trained now or before."""
    place = folder / f"{kind}-seed-{seed}".replace(" ", "-")
    if not place.is_dir():
        model, _ = train(task, task.size.recipe, seed)
        with whole_folder(place) as aside:
            checkpoints.save(model, aside)
            task.tokenizer.save_pretrained(aside)
    return place


def _brought(folders: list[Path], place: Path) -> Pair:
    """Two endpoints with the tokenizer of the first, the second written anew beside them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*cuts text differently")  # which is what is studied here
        names = prepare([str(one) for one in folders], place, "first")
    a, b = (checkpoints.load(name) for name in names)
    return a, b


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, and write the results of every kind."""
    parser = argparse.ArgumentParser(
        prog="python -m lmc.reproduce.experiments.two_vocabularies", description="Pairs with two tokenizers."
    )
    parser.add_argument("--profile", default="laptop", choices=SIZES, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, required=True, help="for endpoints")
    given = parser.parse_args(arguments)
    # Not searched again: the rates that were best for this architecture on this text.
    rates = best_rates(results.read("neox-docstrings-rates", "laptop").grids)
    for id, kind in KINDS.items():
        began, keep = time.monotonic(), KeptRuns.of(id, given.profile)
        numbers = study(kind, given.profile, given.folder / given.profile, SEEDS, rates, keep)
        record(id, given.profile, numbers, SEEDS, began, corpus=corpora.describe("embedded", "eval"))


if __name__ == "__main__":
    sys.exit(main())
