"""The path and its barrier, against numbers worked out by hand."""

import json

import pico
import pytest
import torch

import lmc
from lmc.evaluation.barrier import PathResult, barrier_of, bootstrap_interval, simplex
from lmc.evaluation.loss import Data, evaluate


def test_points_of_the_line_and_of_the_simplex():
    assert simplex(2, 3) == [(1, 0), (0.5, 0.5), (0, 1)]
    assert len(simplex(2, None)) == 25
    three = simplex(3, 5)
    assert len(three) == 15 and len(set(three)) == 15
    assert all(sum(w) == pytest.approx(1) and min(w) >= 0 for w in three)
    with pytest.raises(lmc.ArgumentError, match="at least 2 points"):
        simplex(2, 1)
    with pytest.raises(lmc.ArgumentError, match="expected at most 10,000 points between the models, found 20,100"):
        simplex(3, 200)


def test_barrier_is_measured_from_the_chord():
    """Losses 1 → 3 with 4 in the middle: the chord is 2 there, so the barrier is 2; a dip has none."""
    w = torch.tensor(simplex(2, 3), dtype=torch.float64)
    for losses, expected in (([1.0, 4.0, 3.0], 2.0), ([1.0, 1.5, 3.0], 0.0)):
        assert float(barrier_of(torch.tensor(losses, dtype=torch.float64)[:, None], w, [0, 2])) == pytest.approx(
            expected
        )


def test_barrier_over_three_models_uses_each_corner_for_its_own_weight():
    points = simplex(3, 3)
    w = torch.tensor(points, dtype=torch.float64)
    corners = [points.index(c) for c in simplex(3, 2)]
    ends = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    flat = w @ ends
    assert float(barrier_of(flat[:, None], w, corners)) == pytest.approx(0, abs=1e-12)
    bump = flat.clone()
    bump[points.index((0.5, 0.0, 0.5))] += 7
    assert float(barrier_of(bump[:, None], w, corners)) == pytest.approx(7)


def test_interval_covers_the_barrier_of_noisy_samples():
    """Per-sample losses with a barrier of 1 and partly shared noise: 400 samples give about ±0.05."""
    generator = torch.Generator().manual_seed(0)
    w = torch.tensor(simplex(2, 3), dtype=torch.float64)
    shared = torch.randn(400, generator=generator, dtype=torch.float64) * 5  # hard samples are hard everywhere
    table = torch.stack([shared, shared + 1 + 0.5 * torch.randn(400, generator=generator, dtype=torch.float64), shared])
    low, high = bootstrap_interval(table, w, [0, 2], seed=0)
    assert low < 1 < high
    assert 0.05 < high - low < 0.2  # paired: the shared noise cancels
    assert (low, high) == bootstrap_interval(table, w, [0, 2], seed=0)


@pytest.mark.parametrize("make", [pico.neox, pico.vit])
def test_path_of_a_pair(make, tmp_path):
    a, b = make(seed=0, dtype=torch.float32), make(seed=1, dtype=torch.float32)
    inputs = pico.inputs(a, n=6)
    data = inputs if inputs.dtype == torch.int64 else (inputs, torch.arange(6))
    alignment = lmc.match(a, b, method="naive")
    result = lmc.path(alignment, data=data, grid=5)
    checked = Data(data) if isinstance(data, torch.Tensor) else Data(*data)
    for lam, loss in zip(result.lambdas, result.losses, strict=True):
        mixed = {n: torch.lerp(t, b.state_dict()[n], lam) for n, t in a.state_dict().items()}
        middle = make(seed=0, dtype=torch.float32)
        middle.load_state_dict(mixed)
        assert loss == pytest.approx(float(evaluate(middle, checked)[0].mean()), rel=1e-5)
    chord = [(1 - lam) * result.losses[0] + lam * result.losses[-1] for lam in result.lambdas]
    assert result.barrier == pytest.approx(max(x - y for x, y in zip(result.losses, chord, strict=True)))
    assert result.gap == pytest.approx(result.losses[2] - min(result.losses[0], result.losses[-1]))
    for grid in (2, 4):  # the middle comes to points that pass it by, and counts for the barrier
        even = lmc.path(alignment, data=data, grid=grid)
        assert even.gap == pytest.approx(result.gap) and 0.5 in even.lambdas and len(even.lambdas) == grid + 1
        assert even.barrier >= even.losses[grid // 2] - sum(even.losses[k] for k in (0, -1)) / 2 - 1e-9
    assert result.interval[0] <= result.interval[1]
    assert result.metric == ("nats per token" if isinstance(data, torch.Tensor) else "nats per image")
    assert json.loads(result.to_json(tmp_path / "r.json")) == json.loads((tmp_path / "r.json").read_text())
    result.plot(tmp_path / "r.svg")
    assert "<svg" in (tmp_path / "r.svg").read_text()


def test_the_picture_of_three_models_is_a_triangle(tmp_path):
    models = [pico.vit(seed=k, dtype=torch.float32) for k in range(3)]
    data = (pico.inputs(models[0], n=4), torch.arange(4))
    result = lmc.path(lmc.match(models, method="naive"), data=data, grid=3)
    (points,) = result.plot(tmp_path / "t.png").axes[0].collections
    places = dict(zip(result.lambdas, points.get_offsets().tolist(), strict=True))
    a, b, c = (places[corner] for corner in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    sides = [torch.dist(torch.tensor(p), torch.tensor(q)).item() for p, q in ((a, b), (b, c), (c, a))]
    assert sides == pytest.approx([1, 1, 1])
    assert places[0.5, 0.0, 0.5] == pytest.approx([(x + y) / 2 for x, y in zip(a, c, strict=True)])
    assert points.get_array().tolist() == list(result.losses)
    assert [p.name for p in tmp_path.iterdir()] == ["t.png"]
    four = PathResult(((1.0, 0.0, 0.0, 0.0),), (0.0,), (0.0,), 0.0, (0.0, 0.0), 0.0, "nats", 1)
    with pytest.raises(lmc.ArgumentError, match="two or three models, found 4"):
        four.plot()


def test_a_picture_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    result = PathResult((0.0, 1.0), (1.0, 1.0), (0.0, 0.0), 0.0, (0.0, 0.0), 0.0, "nats", 1)
    (tmp_path / "p.png").write_bytes(b"the one before")

    def fail(self, file):
        file.write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="No space"):
        result.plot(tmp_path / "p.png")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"the one before"]
    for write in (result.plot, result.to_json):
        with pytest.raises(lmc.CheckpointError, match="is a folder, expected a file or nothing"):
            write(tmp_path)


def test_data_may_come_in_batches():
    a, b = pico.vit(seed=0, dtype=torch.float32), pico.vit(seed=1, dtype=torch.float32)
    images, labels = pico.inputs(a, n=6), torch.arange(6)
    alignment = lmc.match(a, b, method="naive")
    whole = lmc.path(alignment, data=(images, labels), grid=3)
    parts = lmc.path(alignment, data=[(images[:4], labels[:4]), (images[4:], labels[4:])], grid=3)
    assert parts.losses == pytest.approx(whole.losses)
    with pytest.raises(lmc.DataError, match="labels in"):
        lmc.path(alignment, data=(images, labels + 100))
    with pytest.raises(lmc.DataError, match="expected images"):
        lmc.path(alignment, data=(images[..., :4], labels))


def test_a_mask_is_no_text():
    a, b = (pico.neox(seed, torch.float32) for seed in (0, 1))
    with pytest.raises(lmc.DataError, match=r"expected token ids \[n, T\] \(int64\), found shape .*, torch.bool"):
        lmc.path(lmc.match(a, b, method="naive"), data=torch.ones(2, 8, dtype=torch.bool))
