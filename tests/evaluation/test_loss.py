"""How a model is scored, against cross-entropies worked out by hand and the records of the shipped pairs."""

import re
from typing import Any

import pico
import pytest
import torch

import lmc
from lmc import corpora
from lmc.evaluation.loss import Data, as_data, at_once, evaluate
from lmc.evaluation.rounding import change
from lmc.reproduce.training import shipped_pairs


def test_language_loss_is_next_token_cross_entropy():
    model = pico.neox(dtype=torch.float32)
    tokens = pico.inputs(model, n=3)
    losses, correct = evaluate(model, Data(tokens))
    with torch.no_grad():
        logs = model(tokens).logits.log_softmax(-1)
    for i, row in enumerate(tokens):
        by_hand = [-float(logs[i, t, row[t + 1]]) for t in range(len(row) - 1)]
        assert float(losses[i]) == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-5)
        hits = [int(logs[i, t].argmax() == row[t + 1]) for t in range(len(row) - 1)]
        assert float(correct[i]) == pytest.approx(sum(hits) / len(hits))


def test_a_model_in_training_mode_is_scored_without_dropout_and_stays_in_it():
    model = pico.neox(dtype=torch.float32, hidden_dropout=0.5)
    tokens = Data(pico.inputs(model, n=3))
    expected = evaluate(model.eval(), tokens)[0]
    assert torch.equal(evaluate(model.train(), tokens)[0], expected)
    assert all(module.training for module in model.modules())


def test_shipped_endpoint_has_its_recorded_loss():
    model = lmc.load(shipped_pairs.shipped("vit-digits-0")[0])
    data = Data(*corpora.images("digits", "eval", size=8, mean=(0.5,), std=(0.5,)))
    losses, correct = evaluate(model, data)
    recorded = shipped_pairs.record("vit-digits-0")["endpoints"]["a"]
    assert float(losses.mean()) == pytest.approx(recorded["loss"], rel=1e-3)
    assert float(correct.mean()) == pytest.approx(recorded["accuracy"])


@pytest.mark.parametrize("wrong", [{"lr": 1e30}, {"steps": 0}, {"lambdas": (2, 3)}, {"kinds": ["nonsense"]}])
def test_learning_refuses_what_cannot_work(wrong):
    a, b = (pico.neox(seed=k, dtype=torch.float32) for k in (0, 1))
    with pytest.raises(lmc.ArgumentError):
        lmc.match(a, b, method="dual", data=pico.inputs(a), **wrong)


def test_frozen_models_in_training_mode_and_half_precision_can_be_matched():
    a, b = (pico.vit(seed=k, dtype=torch.bfloat16, proj_drop_rate=0.5).train() for k in (0, 1))
    a.requires_grad_(False)
    data = (pico.inputs(a, n=8).float(), torch.arange(8))
    alignment = lmc.match(a, b, method="single", data=data, steps=1)
    losses = [lmc.path(alignment, data=data, grid=3).losses for _ in (0, 1)]
    assert losses[0] == losses[1]  # no dropout


TOKENS = pico.inputs(pico.neox(dtype=torch.float32), n=4)
MASKED = [TOKENS, torch.ones_like(TOKENS)]
PICTURES, LABELS = torch.rand(4, 1, 8, 8), torch.arange(4)


@pytest.mark.parametrize("left", [True, False])
def test_windows_that_were_filled_up_are_said(left: bool) -> None:
    model = pico.neox(dtype=torch.float32)
    filled = pico.inputs(model, n=5).clone()
    for row in range(1, 5):
        filled[row][slice(None, 2 + row) if left else slice(-2 - row, None)] = 1
    with pytest.warns(UserWarning, match="most windows begin or end with token 1 more than once, which counts as text"):
        as_data(filled, model)
    as_data(filled[2:], model)  # of three nothing is known


@pytest.mark.parametrize(
    ("make", "data", "said"),
    [
        (pico.neox, MASKED, "found a list of ids and a mask; give the ids alone"),
        (pico.neox, [*MASKED, TOKENS], "found a list of ids and a mask; give the ids alone"),
        (pico.neox, {"input_ids": TOKENS, "attention_mask": MASKED[1], "labels": TOKENS}.values(), "ids and a mask"),
        (pico.neox, [MASKED, MASKED], "expected token ids .*, found shape"),
        (pico.neox, TOKENS.to(torch.complex64), "found a complex tensor"),
        (pico.neox, TOKENS.to_sparse(), "found a sparse tensor"),
        (pico.neox, TOKENS.to("meta"), "found a meta tensor"),
        (
            pico.vit,
            ((PICTURES * 255).byte(), LABELS),
            r"normalised images of floating-point numbers .*, found torch\.uint8",
        ),
        (pico.vit, (PICTURES > 0, LABELS), r"found torch\.bool"),
        (pico.vit, (PICTURES, LABELS.to("meta")), "found a meta tensor"),
    ],
)
def test_what_is_no_batch_of_the_model_is_refused(make: Any, data: object, said: str) -> None:
    pair = lmc.match(*(make(k, torch.float32) for k in (0, 1)), method="naive")
    with pytest.raises(lmc.DataError, match=said):
        lmc.path(pair, data)


def test_two_batches_in_a_list_are_two_batches() -> None:
    pair = lmc.match(*(pico.neox(k, torch.float32) for k in (0, 1)), method="naive")
    assert lmc.path(pair, [TOKENS, TOKENS], grid=2).samples == 8
    assert lmc.path(pair, [TOKENS[:3], TOKENS[3:]], grid=2).losses == lmc.path(pair, TOKENS, grid=2).losses


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"batch": 0}, "batch: expected a whole number of at least 1, found 0"),
        ({"batch": 2.5}, "batch: expected a whole number of at least 1, found 2.5"),
        ({"grid": "3"}, "grid: expected a whole number of at least 2, found '3'"),
        ({"grid": True}, "grid: expected a whole number of at least 2, found True"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, found -1"),
    ],
)
def test_a_path_is_not_walked_with_a_wrong_number(wrong: Any, said: str) -> None:
    pair = lmc.match(*(pico.neox(k, torch.float32) for k in (0, 1)), method="naive")
    with pytest.raises(lmc.ArgumentError, match=re.escape(said)):
        lmc.path(pair, TOKENS, **wrong)


def test_gemma_2_looks_ahead_where_nothing_says_that_it_does_not() -> None:
    models = [pico.gemma2(k, torch.float32, is_causal=None) for k in range(2)]
    with pytest.raises(lmc.LmcError, match="expected a model that predicts the next token"):
        lmc.path(lmc.match(models, method="weights"), data=pico.inputs(models[0]))


@pytest.mark.parametrize("make", [pico.neox, pico.llama, pico.gpt2])
def test_a_model_that_is_told_to_look_ahead_has_no_loss(make: Any) -> None:
    """With `is_causal` false a stock class lets every token see those after it, the one it is to predict among them."""
    models = [make(k, torch.float32, is_causal=False) for k in range(2)]
    with pytest.raises(lmc.LmcError, match="expected a model that predicts the next token"):
        lmc.path(lmc.match(models, method="weights"), data=pico.inputs(models[0]))


def test_a_model_of_one_output_has_no_loss_as_a_classifier() -> None:
    """Its cross-entropy is zero whatever it says, and transformers takes it for a regression."""
    models = [pico.hf_vit(k, torch.float32, num_labels=1) for k in range(2)]
    with pytest.raises(lmc.LmcError, match=r"expected two classes or more, found one output, whose loss as a class is"):
        lmc.path(lmc.match(*models, method="weights"), data=(pico.inputs(models[0]), torch.zeros(2, dtype=torch.long)))
    with pytest.raises(lmc.LmcError, match="expected two classes or more"):  # nor does rounding change it
        change(models[0], torch.bfloat16, data=(pico.inputs(models[0], n=2), torch.zeros(2, dtype=torch.long)))


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_a_model_of_another_problem_has_no_loss(kind: str) -> None:
    models = [pico.hf_vit(k, torch.float32, problem_type=kind) for k in range(2)]
    alignment = lmc.match(models, method="weights")
    data = (pico.inputs(models[0], n=3), torch.zeros(3, dtype=torch.long))
    with pytest.raises(
        lmc.LmcError, match=f"expected the problem_type single_label_classification, found {kind}, which"
    ):
        lmc.path(alignment, data=data)


def test_long_texts_and_large_vocabularies_are_scored_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = pico.neox(dtype=torch.float32)
    data = as_data(pico.inputs(model, n=7), model)
    whole = evaluate(model, data)
    each = model.config.vocab_size * data.inputs.shape[1]
    monkeypatch.setattr("lmc.evaluation.loss.LOGITS", 2 * each + 1)
    assert at_once(model, data) == 2 and at_once(model, data, 1) == 1
    for before, after in zip(whole, evaluate(model, data), strict=True):
        torch.testing.assert_close(before, after, rtol=1e-6, atol=0)
    monkeypatch.setattr("lmc.evaluation.loss.LOGITS", 1)
    assert at_once(model, data) == 1
