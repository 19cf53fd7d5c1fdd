"""Where between the endpoints learning looks: within a range, or where the line is highest."""

import math

import numpy as np
import pico
import pytest
import torch

import lmc
from lmc.errors import ArgumentError, LmcError
from lmc.evaluation import Data, evaluate
from lmc.matching import Learner, Recipe, drawing
from lmc.symmetries import STREAM


@pytest.fixture
def models():
    return [pico.neox(seed=k, dtype=torch.float32) for k in range(2)]


def test_the_highest_point_is_drawn_most_and_a_level_line_evenly():
    level = drawing.chances(torch.zeros(4, dtype=torch.float64))
    assert torch.allclose(level, torch.full((4,), 0.25, dtype=torch.float64))
    drawn = drawing.chances(torch.tensor([-0.3, 0.1, 0.0, -0.1], dtype=torch.float64))
    assert drawn.argmax() == 1 and drawn.argmin() == 0
    assert float(drawn.sum()) == pytest.approx(1)
    assert float(drawn[1] / drawn[0]) == pytest.approx(math.exp(3))


def test_a_look_measures_the_excess_over_the_chord():
    """Ends of 1 and 3, and a bump at 0.7: the chord's own slope plays no part."""
    drawn = drawing.look(lambda w: 1 + 2 * float(w[1]) + (float(w[1]) == pytest.approx(0.7)))
    assert drawn.argmax() == 6 and float(drawn[6] / drawn[0]) == pytest.approx(math.exp(3))
    assert len({round(float(chance), 9) for chance in drawn}) == 2


def test_every_second_place_of_the_line_can_be_drawn():
    even = torch.full((drawing.KNOTS,), 1 / drawing.KNOTS, dtype=torch.float64)
    drawn = [float(drawing.near(even, seed=3, step=step)[1]) for step in range(4000)]
    assert 0.05 <= min(drawn) < 0.06 and 0.94 < max(drawn) <= 0.95
    assert drawn == [float(drawing.near(even, seed=3, step=step)[1]) for step in range(4000)]
    counts = torch.histc(torch.tensor(drawn), 9, 0.05, 0.95)
    assert counts.min() > 350 and counts.max() < 550  # 444 each


def test_draws_follow_the_line(models, monkeypatch):
    """A line that is highest at one knot is drawn there more often than anywhere else."""
    peak = torch.zeros(drawing.KNOTS, dtype=torch.float64)
    peak[1] = 1.0
    monkeypatch.setattr(drawing, "look", lambda loss_at: drawing.chances(peak))
    weights, drawn = Learner.weights, []
    monkeypatch.setattr(Learner, "weights", lambda self: drawn.append(float(weights(self)[1])) or weights(self))
    lmc.match(models, data=pico.inputs(models[0], n=8, seed=3), steps=40, batch=4, lambdas="highest")
    width = 1 / (drawing.KNOTS + 1)
    near = [lam for lam in drawn if abs(lam - 2 * width) <= width / 2]
    assert len(near) > len(drawn) / 2  # e³ against eight others of 1: 0.72 of the draws
    assert all(width / 2 <= lam <= 1 - width / 2 for lam in drawn)


def test_the_look_reads_the_line_that_is_merged(models):
    """The losses a look is told are those of merged models, at the very points, over a few samples of the data."""
    data = Data(pico.inputs(models[0], n=12, seed=3))
    alignment = lmc.match(models, method="weights")
    canonical = [lmc.canonicalize(model) for model in models]
    learner = Learner.of(canonical, alignment.transforms, (0, 1), Recipe(batch=4, lambdas="highest"), seed=0)
    for lam in (0.0, 0.3, 1.0):
        measured = learner.loss_at(torch.tensor([1 - lam, lam], dtype=torch.float64), data)
        merged = evaluate(alignment.merge(lam), data)[0].mean().item()
        assert measured == pytest.approx(merged, abs=1e-5)


def test_learning_resumes_where_it_was(models, tmp_path, monkeypatch):
    data = pico.inputs(models[0], n=12, seed=3)
    for room in ("descent", "learned"):
        monkeypatch.setattr(f"lmc.matching.{room}.EVERY", 4)
    given = {"data": data, "steps": 10, "batch": 4, "lambdas": "highest"}
    whole = lmc.match(models, **given)
    advance = Learner.advance

    def stop_at_six(self, samples):
        if self.step == 6:
            raise KeyboardInterrupt
        return advance(self, samples)

    monkeypatch.setattr(Learner, "advance", stop_at_six)
    with pytest.raises(KeyboardInterrupt):
        lmc.match(models, resume=tmp_path / "state", **given)
    monkeypatch.setattr(Learner, "advance", advance)
    again = lmc.match(models, resume=tmp_path / "state", **given)
    assert again.log == whole.log and again.record["lambdas"] == "highest"
    assert torch.equal(again.transforms[1].elements[STREAM], whole.transforms[1].elements[STREAM])
    assert whole.log != lmc.match(models, **{**given, "lambdas": (0.0, 1.0)}).log


def test_only_the_line_of_two_is_looked_at(models):
    three = [*models, pico.neox(seed=2, dtype=torch.float32)]
    with pytest.raises(ArgumentError, match=r"^lambdas: 'highest' looks along the line of two models, found 3; give a"):
        lmc.match(three, data=pico.inputs(models[0]), steps=1, lambdas="highest")


def test_a_line_that_is_not_finite_ends_as_learning_does(models):
    for model in models:
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(3e37)
    found = drawing.chances(torch.tensor([0.0, math.inf, math.nan]))
    assert found.tolist() == pytest.approx([1 / 3] * 3)
    with pytest.raises(LmcError, match=r"loss is|not finite"):
        lmc.match(models, data=pico.inputs(models[0]), steps=3, batch=2, lambdas="highest", start="canonical")


def test_a_range_of_any_numbers_is_kept_as_plain_ones():
    assert Recipe(lambdas=(np.float32(0.25), 1)).to_json()["lambdas"] == [0.25, 1.0]


@pytest.mark.parametrize(
    "given", [np.array([0.3, 0.7]), "lowest", (0.5,), (0.7, 0.3), (0, 2), ("0", "1"), 0.5, (math.nan, 1)]
)
def test_what_is_no_place_of_the_line_is_refused(given):
    with pytest.raises(ArgumentError, match=r"^lambdas: expected 0 ≤ low ≤ high ≤ 1, or 'highest', found "):
        Recipe(lambdas=given)
