"""A language model with fewer learned positions: the same function of the texts that fit.

>>> gpt2 = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=32))
>>> shorten(gpt2, 16).config.n_positions                 # a new stock model, which reads 16 tokens at a time
16

Models that are merged get the shortest of their tables: beyond it, one of them never learned what a position means.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lmc.symmetries.families import Tokens, contexts, family_of
from lmc.symmetries.families import spec as spec_of
from lmc.symmetries.stock_model import hold, state, without_weights

POSITION = "position"  # what tables of families call the rows that are looked up by where a token stands


def positions(model: nn.Module) -> int | None:
    """How many rows a language model's table of positions has; None for one without a table.

    >>> print(positions(model), positions(vit))
    None None
    """
    reads_text = isinstance(family_of(model).inputs(model), Tokens)
    return spec_of(model).free.get(POSITION) if reads_text else None


def to_shorten(models: Sequence[nn.Module]) -> tuple[int, list[int]]:
    """How many rows the shortest table of several models has, and which models have more.

    >>> to_shorten([model, large])
    (0, [])

    None is to be, where they are of several architectures. They may lie on the meta device.
    """
    alike = len({type(model) for model in models}) == 1
    rows = [positions(model) for model in models] if alike and len(contexts(models)) > 1 else []
    known = [count for count in rows if count is not None]
    shortest = min(known, default=0)
    return shortest, [k for k, count in enumerate(rows) if count is not None and count > shortest]


def shorten(model: Any, rows: int) -> Any:
    """A new stock model with so many rows in its table of positions, the first ones; the other is not touched.

    On the meta device, so is the new one.
    """
    spec = spec_of(model)
    config = copy.deepcopy(model.config)
    config.max_position_embeddings -= spec.free[POSITION] - rows
    on_meta = next(model.parameters()).is_meta
    with without_weights() if on_meta else torch.random.fork_rng(devices=[]):  # nobody's draws change
        new = type(model)(config).eval()
    for name in ("generation_config", "preprocessor_config"):
        if hasattr(model, name):
            setattr(new, name, copy.deepcopy(getattr(model, name)))
    if on_meta:
        return new
    if model.can_generate() and (new.generation_config.max_length or 0) > rows:
        new.generation_config.max_length = contexts([new])[0]
    held = state(model)
    cut = {n: t[:rows].clone() if spec.rules.get(n, "").split(" ")[0] == POSITION else t for n, t in held.items()}
    first = next(model.parameters())
    return hold(new.to(first.device, first.dtype), spec_of(new), cut)
