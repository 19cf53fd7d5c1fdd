"""How many tokens models read at a time."""

from collections.abc import Iterable

from torch import nn

from lmc.symmetries.families.common import Tokens
from lmc.symmetries.families.family import family_of


def contexts(models: Iterable[nn.Module]) -> list[int]:
    """How many tokens language models read at most, each number once; nothing for models of pictures.

    >>> contexts([a, b])
    [32]
    """
    inputs = [family_of(model).inputs(model) for model in models]
    return list(dict.fromkeys(read.context for read in inputs if isinstance(read, Tokens)))


def narrowest(models: Iterable[nn.Module]) -> nn.Module:
    """The model that reads the fewest tokens, so that what it reads all can; the first where they read as many.

    >>> narrowest([a, b]) is a
    True
    """
    return min(models, key=lambda model: contexts([model]))
