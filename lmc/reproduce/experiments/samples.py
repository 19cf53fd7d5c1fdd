"""What the studies of shipped pairs read, and the rates at which those are matched.

>>> read = Samples.of("vit-digits-0", vit)
>>> len(read.train) > len(read.eval)
True
"""

from dataclasses import dataclass
from typing import Self

from torch import nn

from lmc import corpora
from lmc.evaluation import Data, as_data

RATES = {"neox-docstrings": 2e-2, "vit-digits": 1e-2}  # dual's best, chosen by the committed grids
SCORED = 256  # samples of a path
LENGTH = 128  # of a window of text


@dataclass(frozen=True)
class Samples:
    """What a pair's studies read, by split; `eval` is what paths are scored on."""

    train: Data
    match: Data
    eval: Data

    @classmethod
    def of(cls, pair: str, model: nn.Module) -> Self:
        """The data of a shipped pair."""
        if pair.startswith("neox-docstrings"):
            tokenizer = corpora.byte_tokenizer()
            limits = {"train": None, "match": None, "eval": SCORED}
            found: dict[str, object] = {
                split: corpora.tokens("embedded", split, tokenizer, LENGTH, limit=limit)
                for split, limit in limits.items()
            }
        else:
            found = {
                split: corpora.images("digits", split, size=8, mean=(0.5,), std=(0.5,))
                for split in ("train", "match", "eval")
            }
        return cls(**{split: as_data(data, model) for split, data in found.items()})
