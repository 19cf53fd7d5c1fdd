"""Models of different size are matched: the smaller one is written in the larger one's shapes, and that is said."""

import json
from pathlib import Path
from typing import Any

import pico
import pytest
import torch

import lmc
from lmc.cli import main
from lmc.errors import IncompatibleModelsError
from lmc.symmetries.exactness import TOLERANCE, relative_change
from lmc.symmetries.families import contexts

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


SHORT = {"hidden_size": 8, "max_position_embeddings": 20}
FEWER = {"intermediate_size": 6, "max_position_embeddings": 20}  # a norm that sees the whole stream lets no more in


@pytest.mark.filterwarnings("ignore:model 2 .* is smaller than")
@pytest.mark.parametrize(
    ("build", "smaller"), [(pico.gpt2, SHORT), (pico.opt, SHORT), (pico.bert, FEWER), (pico.roberta, FEWER)]
)
@pytest.mark.parametrize("only", [False, True])
def test_a_longer_table_of_positions_is_cut(build: Any, smaller: dict[str, Any], only: bool) -> None:
    """A merged model reads what all have learned to read, and no more."""
    other = {"max_position_embeddings": 20} if only else smaller
    long, short = build(0, torch.float32), build(1, torch.float32, **other)
    drawn = torch.get_rng_state()
    with pytest.warns(UserWarning, match=r"differ in their context, \d+ and \d+ tokens: a merged model gets the short"):
        alignment = lmc.match(long, short, method="weights")
    assert torch.equal(drawn, torch.get_rng_state())
    merged = alignment.merge(0.5)
    assert contexts([merged]) == contexts([short]) != contexts([long])
    inputs = pico.inputs(short)[:, : contexts([short])[0]]
    for end, own in enumerate((long, short)):
        found = alignment.merge(float(end))
        assert relative_change(pico.logits(own, inputs), pico.logits(found, inputs)) <= TOLERANCE[torch.float32]


@pytest.mark.filterwarnings("default:.* is smaller than", "default:the models differ in their context")
def test_the_command_says_that_it_cuts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pico.tokenizer(Path("words"))
    (Path("text.txt")).write_text("one two three four five six seven\n" * 400)
    for name, model in (("long", pico.gpt2(0, torch.float32)), ("short", pico.gpt2(1, torch.float32, **SHORT))):
        model.generation_config.max_length = contexts([model])[0]
        settings = json.loads(Path("words/tokenizer_config.json").read_text()) | {"model_max_length": 32}
        Path("words/tokenizer_config.json").write_text(json.dumps(settings))
        lmc.save(model, name, tokenizer_from="words")
    assert main(["match", "long", "short", "--method", "weights", "--out", "aligned"]) == 0
    assert "differ in their context, 32 and 20 tokens" in capsys.readouterr()[1]
    assert main(["path", "aligned", "--data", "text.txt", "--grid", "2", "--json", "found.json"]) == 0
    assert main(["merge", "aligned", "--at", "0", "--out", "merged"]) == 0
    card = Path("merged/README.md").read_text()
    assert "- parent 0: long, cut to texts of 20 tokens\n" in card
    assert "- parent 1: short, written in the shapes of long\n" in card
    merged, long, short = (lmc.load(name) for name in ("merged", "long", "short"))
    assert merged.config.n_positions == 20 and merged.transformer.wpe.weight.shape[0] == 20
    inputs = pico.inputs(short)
    assert relative_change(pico.logits(long, inputs), pico.logits(merged, inputs)) <= TOLERANCE[torch.float32]
    assert main(["verify", "merged"]) == 0
    assert merged.generation_config.max_length == 20
    assert json.loads(Path("merged/tokenizer_config.json").read_text())["model_max_length"] == 20
