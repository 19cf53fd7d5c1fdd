"""Models of different size are matched: the smaller one is written in the larger one's shapes, and that is said."""

from pathlib import Path
from typing import Any

import pico
import pytest
import torch

import lmc
from lmc.cli import main
from lmc.errors import IncompatibleModelsError
from lmc.symmetries.exactness import TOLERANCE, relative_change

LARGE = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 30}


def two() -> tuple[Any, Any]:
    return pico.neox(0, torch.float32), pico.neox(1, torch.float32, **LARGE)


def test_either_order_is_matched_and_the_ends_are_the_parents() -> None:
    small, large = two()
    for models in ((small, large), (large, small)):
        place = models.index(small)
        with pytest.warns(UserWarning, match=rf"model {place + 1} \(.* numbers\) is smaller than model {2 - place} \("):
            alignment = lmc.match(*models, method="weights")
        inputs = pico.inputs(small)
        end = alignment.merge(float(place))
        assert relative_change(pico.logits(small, inputs), pico.logits(end, inputs)) <= TOLERANCE[torch.float32]
        assert alignment.end_error(1 - place) <= TOLERANCE[torch.float32]
        assert lmc.spec(alignment.merge(0.5)) == lmc.spec(large)


def test_what_cannot_grow_is_refused_with_the_reason() -> None:
    with pytest.raises(IncompatibleModelsError, match=r"differ in shape of .*; freq: expected 4 .* a head's width"):
        lmc.match(pico.neox(), pico.neox(1, hidden_size=32), method="weights")
    with pytest.raises(IncompatibleModelsError, match="differ in vocab_size"):
        lmc.match(pico.neox(), pico.neox(1, **LARGE, vocab_size=50), method="weights")


@pytest.mark.filterwarnings("default:model 1 .* is smaller than model 2")  # the command says it in a line
def test_the_command_writes_the_parent_it_matches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pico.tokenizer(Path("words"))
    for name, model in zip(("small", "large"), two(), strict=True):
        lmc.save(model, name, tokenizer_from="words")
    assert main(["match", "small", "large", "--method", "weights", "--out", "aligned"]) == 0
    told = "".join(capsys.readouterr())
    assert told.count("model 1 (5,232 numbers) is smaller than model 2") == 1 and "wrote aligned.parents" in told
    assert main(["merge", "aligned", "--at", "0", "--out", "merged"]) == 0
    assert "- parent 0: small, written in the shapes of large\n" in Path("merged/README.md").read_text()
    small, merged = lmc.load("small"), lmc.load("merged")
    inputs = pico.inputs(small)
    assert relative_change(pico.logits(small, inputs), pico.logits(merged, inputs)) <= TOLERANCE[torch.float32]
    assert Path("merged/tokenizer.json").read_text() == Path("words/tokenizer.json").read_text()
    assert main(["match", "small", "large", "--method", "weights", "--out", "again", "--vocabulary", "first"]) == 2
