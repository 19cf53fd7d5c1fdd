"""Numbers no training leaves: matching says which tensor holds them, in one line, or goes on; it never breaks."""

from collections.abc import Callable
from functools import partial

import pico
import pytest
import torch
from torch import nn

import lmc
from lmc.matching import barycentric, independence, require_ends, weights
from lmc.matching.solver import solve
from lmc.symmetries.stock_model import state

FAMILIES = ("neox", "llama", "gpt2", "vit")
FILLS = {"zero": 0.0, "tiny": 1e-38, "huge": 1e38, "the largest": torch.finfo(torch.float32).max}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_tensor_of_one_extreme_value(family: str, fill: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor of a model of one layer, one at a time.

    Two sweeps of the solver meet every number there is to meet; the rest of them would only take time.
    """
    monkeypatch.setattr(weights, "solve", lambda spec, parts, sweeps: solve(spec, parts, 2))
    make = partial(
        getattr(pico, family), dtype=torch.float32, **{"depth" if family == "vit" else "num_hidden_layers": 1}
    )
    ends, refused = [], []
    for name, _ in make(0).named_parameters():
        a, b = make(0), make(1)
        b.get_parameter(name).data.fill_(FILLS[fill])
        for method in ("canonical", "weights"):
            try:
                ends.append(lmc.match(a, b, method=method).end_error(1))
            except lmc.LmcError as error:
                assert str(error).startswith("tensor ") and "\n" not in str(error) and len(str(error)) < 1024
                refused.append(name)
    if FILLS[fill] < 1:
        assert not refused and max(ends) < 1e-3, (refused, max(ends))
    else:
        assert refused  # where it can be computed with, the parent itself has logits that are no numbers


WHOLE = {  # what every tensor of a model is multiplied with
    "zero": 0.0,
    "below all": 1e-42,
    "tiny": 1e-38,
    "small": 1e-20,
    "large": 1e20,
    "huge": 1e38,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", WHOLE)
@pytest.mark.parametrize(("family", "method"), [("llama", "weights"), ("llama", "dual"), ("vit", "activations")])
def test_a_model_of_one_extreme_size(family: str, method: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either its function is kept, or one line names a tensor; also where independence is asked for."""
    monkeypatch.setattr(weights, "solve", lambda spec, parts, sweeps: solve(spec, parts, 2))
    depth = "depth" if family == "vit" else "num_hidden_layers"
    a, b = (getattr(pico, family)(seed, torch.float32, **{depth: 1}) for seed in (0, 1))
    for parameter in b.parameters():
        parameter.data.mul_(WHOLE[size])
    inputs = pico.inputs(a, n=8)
    data = (inputs, torch.arange(8) % 3) if family == "vit" else inputs
    for ask in (
        lambda: lmc.match(a, b, method=method, data=data, steps=2, batch=4).end_error(1),
        lambda: abs(independence(a, b)) / 1e3,
    ):
        try:
            assert not ask() > 1e-3  # NaN is what the parent itself computes, and is refused before merging
        except lmc.LmcError as error:
            assert "\n" not in str(error) and len(str(error)) < 1024


@pytest.mark.parametrize("method", ["canonical", "weights", "activations", "single", "dual"])
def test_identical_parents_are_left_as_they_are(method: str) -> None:
    """Also by learned matching, which would otherwise wander off from a barrier of zero."""
    a, b = pico.neox(0, torch.float32), pico.neox(0, torch.float32)
    alignment = lmc.match(a, b, method=method, data=pico.inputs(a, n=16), steps=20)
    assert alignment.record["identical"] is True
    first, second = (state(model) for model in alignment.models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert lmc.path(alignment, pico.inputs(a, n=8, seed=3), grid=5).barrier < 1e-6


def test_one_set_of_weights_is_two_models_where_pictures_or_norms_are_computed_differently() -> None:
    a, b = (pico.hf_vit(0, torch.float32, num_channels=3) for _ in range(2))
    for model, mean in ((a, 0.5), (b, 0.2)):
        model.preprocessor_config = {"image_mean": [mean] * 3, "image_std": [0.5] * 3}
    assert "identical" not in lmc.match(a, b, method="weights").record
    a, b = (pico.llama(0, torch.float32, rms_norm_eps=eps) for eps in (1e-6, 1e-2))
    assert "identical" not in lmc.match(a, b, method="weights").record


@pytest.mark.parametrize("method", ["naive", "canonical", "weights", "activations", "single", "dual"])
@pytest.mark.parametrize("make", [pico.llama, pico.vit])
def test_parents_of_two_types_are_matched_as_if_of_one(make: Callable[..., nn.Module], method: str) -> None:
    kinds = torch.float32, torch.float64
    (a, a64), (b, b64) = ([make(seed, kind) for kind in kinds] for seed in (0, 1))
    a64.load_state_dict(a.state_dict())
    b64.load_state_dict(b.state_dict())
    inputs = pico.inputs(a, n=8)
    data = inputs if make is pico.llama else (inputs, torch.arange(8) % 3)
    for pair in ((a, b64), (a64, b)):
        alignment = lmc.match(*pair, method=method, data=data, steps=2)
        assert require_ends(alignment) < 1e-5
    alike = lmc.match(a64, b64, method=method, data=data, steps=2).transforms
    for one, other in zip(alignment.transforms, alike, strict=True):
        for name, element in other.elements.items():
            torch.testing.assert_close(one.elements[name], element, rtol=0, atol=1e-3)


@pytest.mark.parametrize("at", [10**400, -(10**400), [10**400, 0]], ids=["beyond", "below", "a weight"])
def test_a_place_no_float_holds_is_off_the_line(at: object) -> None:
    with pytest.raises(lmc.ArgumentError, match="at: expected"):
        barycentric(at, 2)  # type: ignore[arg-type]


def test_pictures_of_absurd_brightness_do_not_break_matching() -> None:
    a, b = pico.vit(0, torch.float32), pico.vit(1, torch.float32)
    pictures = pico.inputs(a, n=16) * 1e30
    labels = torch.arange(16) % a.num_classes
    try:
        lmc.match(a, b, method="activations", data=(pictures, labels))
    except lmc.LmcError as error:
        assert "\n" not in str(error)
