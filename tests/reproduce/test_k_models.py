"""More than two models: what is compared, on models too small to say anything else."""

import pico
import pytest
import torch

import lmc
from lmc.reproduce.experiments.k_models import several


def test_every_way_of_matching_is_measured_on_the_same_simplex():
    models = [pico.vit(seed=k, dtype=torch.float32) for k in range(3)]
    images = pico.inputs(models[0], n=24)
    data = images, torch.arange(24) % 10
    numbers = several(models, data, data, counts=(3,), steps=2, grid=3)
    rows = numbers["several"]["3"]
    assert {way: row["steps"] for way, row in rows.items()} == {"together": 2, "one by one": 4, "naive": 0}
    for way, row in rows.items():
        assert 0 <= row["edges"] <= row["barrier"], way
    expected = lmc.path(lmc.match(models, method="naive"), data, grid=3)
    assert rows["naive"]["barrier"] == pytest.approx(expected.barrier)
    walked = dict(zip(expected.lambdas, expected.losses, strict=True))
    highest = max(walked[at] - (walked[a] + walked[b]) / 2 for at, a, b in EDGES)
    assert rows["naive"]["edges"] == pytest.approx(max(0.0, highest), abs=1e-9)


CORNERS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
EDGES = [
    (tuple((x + y) / 2 for x, y in zip(a, b, strict=True)), a, b) for i, a in enumerate(CORNERS) for b in CORNERS[:i]
]
