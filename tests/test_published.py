"""The published pairs as data, and the study of them on tiny stand-ins."""

import math
from pathlib import Path

import pytest
import torch

from lmc import published
from lmc.errors import IncompatibleModelsError
from lmc.tiny import tiny


def test_pairs_of_one_size_share_no_model() -> None:
    for pairs in published.PAIRS.values():
        names = [name for pair in pairs for name in pair.names]
        assert len(set(names)) == len(names)
        assert len({pair.label for pair in pairs}) == len(pairs)
    assert all(name.endswith("@step143000") for pair in published.PAIRS["pythia"] for name in pair.names)


def test_guessing_costs_the_entropy_of_the_answers() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    assert math.isclose(published._guess((torch.zeros(4, 1, 2, 2), labels)), math.log(2))
    tokens = torch.tensor([[9, 0, 0], [9, 1, 1]])  # the first of a window is not predicted
    assert math.isclose(published._guess(tokens), math.log(2))


def test_a_study_refuses_with_reasons_and_measures_the_rest(tmp_path: Path) -> None:
    pairs, match_on, held_out = tiny("olmo", tmp_path)
    gone = published.Published("not there", (str(tmp_path / "gone"),) * 2, 1)
    found = published.study((gone, *pairs), match_on, held_out, 1, {"single": 0.01, "dual": 0.01}, 3, (8, 4))
    missing, other = found["refused"].values()
    assert missing.endswith("gone: no such folder")
    assert other == "model 1 and model 2 differ in clip_qkv: expected None, found 8.0"
    assert [run["pair"] for run in found["methods"]["dual"]["runs"]] == ["stand-ins"]
    assert list(found["parameters"]) == list(found["endpoints"]) == ["stand-ins"]
    with pytest.raises(IncompatibleModelsError, match=r"stand-ins of other settings: .* clip_qkv"):
        published.study(pairs[1:], match_on, held_out, 1, {"single": 0.01, "dual": 0.01}, 3, (8, 4))


def test_vision_transformers_of_two_forms_become_a_pair(tmp_path: Path) -> None:
    (pair, *_), *_ = tiny("vit", tmp_path)
    a, b = published.load(pair)
    assert {n: t.shape for n, t in a.state_dict().items()} == {n: t.shape for n, t in b.state_dict().items()}
