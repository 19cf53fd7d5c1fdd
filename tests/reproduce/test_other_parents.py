"""Two vocabularies, and merges of another tool: what is compared is what the chapter says."""

from pathlib import Path

import pytest

import lmc
from lmc import corpora
from lmc.evaluation import Data
from lmc.reproduce import results
from lmc.reproduce.experiments import two_vocabularies, with_mergekit
from lmc.reproduce.experiments.comparison import load_pairs

TEXT = "def mean(values):\n    The mean of the values, which are numbers.\n" * 20 + "A rotation of the stream.\n" * 60


def test_a_renumbered_tokenizer_cuts_alike_and_one_of_another_text_does_not() -> None:
    made = two_vocabularies.tokenizers(TEXT, size=300)
    pieces = {kind: one.convert_ids_to_tokens(one(TEXT).input_ids) for kind, one in made.items()}
    assert pieces["renumbered"] == pieces["first"] != pieces["other text"]
    ids = {kind: one.get_vocab() for kind, one in made.items()}
    assert ids["renumbered"].keys() == ids["first"].keys() and ids["renumbered"] != ids["first"]
    assert 256 <= len(ids["first"].keys() & ids["other text"].keys()) < len(ids["first"])


def test_both_kinds_are_measured_by_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path / "results"))
    assert two_vocabularies.main(["--profile", "smoke", "--folder", str(tmp_path / "endpoints")]) == 0
    for id, kind in two_vocabularies.KINDS.items():
        numbers = results.read(id, "smoke").numbers
        assert {"naive", "weights", "dual"} <= numbers["methods"].keys()
        common, size = numbers["tokens"]["common"], two_vocabularies.SIZES["smoke"].tokens
        assert common == size if kind == "renumbered" else common < size
        first, own, theirs = numbers["nats per byte"].values()
        assert all(0 < loss < 8 for loss in (*first, *own, *theirs)) and own != theirs


def test_the_barrier_of_linear_merges_is_that_of_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    alignment = lmc.match(*load_pairs("neox-docstrings", 1)["neox-docstrings-0"], method="naive")
    monkeypatch.setattr(with_mergekit, "merged", lambda _, folder, plans: [alignment.merge(at) for _, at in plans])
    held_out = Data(corpora.tokens("embedded", "eval", corpora.byte_tokenizer(), 64, limit=4))
    found = with_mergekit.merges(Path("python"), alignment, held_out)
    walked = lmc.path(alignment, held_out.inputs, grid=5)
    assert found["linear"]["barrier"] == pytest.approx(walked.barrier, rel=1e-5) and walked.barrier > 0
    assert found["ties"].keys() == {"loss"} and found["parents"]["loss"] == pytest.approx(
        (walked.losses[0] + walked.losses[-1]) / 2
    )
