"""Two writings of one vision transformer: the same function, exactly, and then a pair."""

import pico
import pytest
import torch

from lmc.errors import IncompatibleModelsError
from lmc.matching import pairing
from lmc.symmetries.families import vit_forms

FORMS = [
    {"no_embed_class": False},
    {"no_embed_class": True},
    {"no_embed_class": True, "init_values": 0.1},
    {"no_embed_class": False, "init_values": 0.1},
    {"no_embed_class": False, "reg_tokens": 2},
    {"no_embed_class": True, "reg_tokens": 2, "init_values": 0.1},
]


@pytest.mark.parametrize("own", FORMS, ids=str)
@pytest.mark.parametrize("other", FORMS, ids=str)
def test_a_rewritten_model_is_the_same_function_and_can_be_paired(own: dict, other: dict) -> None:
    if own.get("reg_tokens") != other.get("reg_tokens"):
        pytest.skip("registers are tokens of their own, no way of writing")
    model, like = pico.vit(0, **own), pico.vit(1, **other)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    new = vit_forms.alike(model, like)
    x = pico.inputs(model)
    expected, found = pico.logits(model, x), pico.logits(new, x)
    absorbed = "init_values" in own and "init_values" not in other
    assert torch.equal(found, expected) if not absorbed else (found - expected).abs().max() <= 1e-13
    pairing.require_pairable([like, new])
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert own != other or new is model


def test_the_refusal_of_a_pair_says_that_it_can_be_rewritten() -> None:
    a, b = pico.vit(0, no_embed_class=True), pico.vit(1)
    with pytest.raises(IncompatibleModelsError, match=r"pos_embed.*; the second can .*alike\(second, first\)"):
        pairing.require_pairable([a, b])
    with pytest.raises(
        IncompatibleModelsError,
        match=r"found \[[\d, ]+\]; .*more than a size; only models that agree in it can be averaged$",
    ):
        pairing.require_pairable([a, pico.vit(1, embed_dim=32)])


def test_what_cannot_be_rewritten_is_named() -> None:
    with pytest.raises(IncompatibleModelsError, match=r"differ in more than class-token position and LayerScale"):
        vit_forms.alike(pico.vit(0, no_embed_class=True), pico.vit(1, embed_dim=32))
    with pytest.raises(IncompatibleModelsError, match=r"reg_token: expected shape none, found \[1, 2, 16\]"):
        vit_forms.alike(pico.vit(0, reg_tokens=2), pico.vit(1, no_embed_class=True))


@pytest.mark.parametrize(
    "other", [{"num_heads": 4}, {"global_pool": "avg", "fc_norm": False}, {"act_layer": "silu"}], ids=str
)
def test_another_setting_is_no_way_of_writing(other: dict) -> None:
    a, b = pico.vit(0, no_embed_class=True), pico.vit(1, **other)
    for model, like in ((a, b), (b, a)):
        with pytest.raises(IncompatibleModelsError, match=rf"{next(iter(other))}: expected .*, found .*; only models"):
            vit_forms.alike(model, like)
        with pytest.raises(IncompatibleModelsError) as refused:
            pairing.require_pairable([like, model])
        assert "alike" not in str(refused.value)


def test_the_own_preprocessing_stays() -> None:
    model, like = pico.vit(0, no_embed_class=True), pico.vit(1)
    model.pretrained_cfg["mean"], like.pretrained_cfg["mean"] = (0.5,), (0.1,)
    assert vit_forms.alike(model, like).pretrained_cfg["mean"] == (0.5,)
    assert like.pretrained_cfg["mean"] == (0.1,)
