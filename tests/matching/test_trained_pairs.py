"""On the shipped trained models: what a user sees of them, greedy text and the top five classes, stays the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lmc
from lmc import corpora
from lmc.symmetries.exactness import EXACT, TOLERANCE
from lmc.symmetries.transform import Transform

TEXT = [f"neox-docstrings-{i}/{end}" for i in (0, 1, 2) for end in "ab"]
VISION = [f"vit-digits-{i}/{end}" for i in (0, 1, 2) for end in "ab"]
TOKENS = 64
MARGIN = 1e-5  # between the two best logits: below it, rounding may choose


def endpoint(root: Path, name: str) -> tuple[Any, list[Any]]:
    """A shipped model in float32, and two that must behave like it: canonical, and moved by all symmetries."""
    model = lmc.load(root / "data/pairs" / name, dtype=torch.float32)
    canonical = lmc.canonicalize(model)
    return model, [canonical, Transform.random(lmc.spec(model), seed=0).apply(canonical)]


@torch.no_grad()
def greedy(model: Any, start: Tensor) -> tuple[list[int], int]:
    """The ids that the model writes after `start` [1, T], and how many come before the margin is too small to tell."""
    ids, sure = start, None
    for step in range(TOKENS):
        best = model(ids).logits[0, -1].topk(2)
        if sure is None and best.values[0] - best.values[1] < MARGIN:
            sure = step
        ids = torch.cat([ids, best.indices[None, :1]], 1)
    return ids[0, start.shape[1] :].tolist(), TOKENS if sure is None else sure


@pytest.mark.parametrize("name", TEXT)
def test_greedy_text_is_the_same(name: str, root: Path) -> None:
    model, others = endpoint(root, name)
    context = model.config.max_position_embeddings
    text = torch.tensor([list(corpora.text("embedded", "eval").encode()[: context - TOKENS])])
    written, sure = greedy(model, text)
    assert sure >= TOKENS // 2  # else the comparison would say little
    for other in others:
        again, _ = greedy(other, text)
        assert again[:sure] == written[:sure]
        assert any(not torch.equal(t, model.state_dict()[n]) for n, t in other.state_dict().items())


@pytest.mark.parametrize("name", VISION)
def test_the_top_five_classes_are_the_same(name: str, root: Path) -> None:
    model, others = endpoint(root, name)
    images, _ = corpora.images("digits", "eval", size=8, mean=(0.5,), std=(0.5,), limit=200)
    with torch.no_grad():
        best = model(images).topk(6)
        told = (best.values[:, :-1] - best.values[:, 1:]).min(1).values >= MARGIN  # six in a clear order
        assert told.float().mean() > 0.95
        for other in others:
            assert torch.equal(other(images).topk(5).indices[told], best.indices[told, :5])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", [TEXT[0], VISION[0]])
def test_every_type_stays_within_the_tolerance_stated_for_it(name: str, dtype: torch.dtype, root: Path) -> None:
    report = lmc.check(lmc.load(root / "data/pairs" / name, dtype=dtype), seed=1)
    assert report.dtype == dtype and report.max_error <= EXACT
    assert max(row.native for row in report.rows) <= TOLERANCE[dtype] and report.ok
