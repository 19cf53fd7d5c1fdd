"""What every family must do alike: group laws, files, planted symmetries. And what BERT, without a loss, refuses."""

import warnings
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from torch import nn

import lmc
from lmc.symmetries.exactness import EXACT
from lmc.symmetries.families.classes import TIMM, TRANSFORMERS
from lmc.symmetries.families.family import FAMILIES, find
from lmc.symmetries.groups import Orthogonal, RotaryCommutant
from lmc.symmetries.spec import ModelSpec, Space
from lmc.symmetries.stock_model import state
from lmc.symmetries.transform import Transform

BUILDERS = {name: pico.builder(name) for family in FAMILIES for name in family.classes if pico.known(name)}
# One class of each architecture, where what reads the stream in the end makes no difference.
ONE_OF_EACH = list({pico.stem(name): name for name in reversed(BUILDERS)}.values())


def test_every_family_is_tried() -> None:
    """What follows runs over these names, so none may be lost, and an architecture that is built here has a family."""
    assert {family.name for family in FAMILIES} == {lmc.spec(BUILDERS[name]()).family for name in ONE_OF_EACH}
    assert {pico.stem(name) for name in BUILDERS} == set(pico.STEMS)
    assert TRANSFORMERS.keys() | TIMM.keys() == {family.name for family in FAMILIES}


def distance(a: nn.Module, b: nn.Module) -> float:
    """‖θ_A − θ_B‖ / ‖θ_A‖, over the tensors that are not constant in canonical form."""
    one, two = state(a), state(b)
    names = lmc.spec(a).rules
    difference = sum(float((one[n].double() - two[n].double()).square().sum()) for n in names)
    return (difference / sum(float(one[n].double().square().sum()) for n in names)) ** 0.5


@pytest.mark.parametrize("name", BUILDERS)
def test_group_laws_and_files(name: str, tmp_path: Path) -> None:
    model = lmc.canonicalize(BUILDERS[name]())
    spec = lmc.spec(model)
    assert type(model).__name__ == name and ModelSpec.from_json(spec.to_json()) == spec
    g, h = Transform.random(spec, 1), Transform.random(spec, 2)
    moved = g.apply(h.apply(model))
    assert distance((g @ h).apply(model), moved) <= 1e-12
    assert distance((g @ h).inverse().apply(moved), model) <= 1e-12 < 0.1 < distance(moved, model)
    g.save(tmp_path / "g")
    assert distance(Transform.load(tmp_path / "g").apply(model), g.apply(model)) <= 1e-15  # memory is laid out anew

    lmc.save(moved.float(), tmp_path / "moved")
    again = lmc.load(tmp_path / "moved")
    assert all(torch.equal(t, state(moved)[n]) for n, t in state(again).items())
    assert lmc.spec(again) == spec


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_planted_symmetry_is_recovered(name: str) -> None:
    model = lmc.canonicalize(BUILDERS[name](dtype=torch.float32))
    moved = Transform.random(lmc.spec(model), 3).apply(model)
    first, second = lmc.match(model, moved, method="weights").models
    assert distance(first, second) <= 1e-4 < 0.1 < distance(model, moved)


def test_a_tied_bert_is_untied_and_its_function_kept(tmp_path: Path) -> None:
    model = pico.bert(dtype=torch.float32, tie_word_embeddings=True)
    with pytest.warns(UserWarning, match=r"decoder.weight was tied to .* 640 more parameters"):
        canonical = lmc.canonicalize(model)
    lmc.save(canonical, tmp_path / "canonical")
    again = type(model).from_pretrained(tmp_path / "canonical", local_files_only=True).eval()
    x = pico.inputs(model)
    torch.testing.assert_close(pico.logits(again, x), pico.logits(model, x), rtol=0, atol=1e-4)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".* was tied to")
        other = pico.bert(1, torch.float32, tie_word_embeddings=True)
        merged: Any = lmc.match(model, other, method="naive").merge(0.5)
    assert merged.config.tie_word_embeddings  # averages of raw weights need no untying


@pytest.mark.parametrize("method", ["single", "dual"])
def test_masked_models_are_matched_in_closed_form_only(method: str) -> None:
    a, b = (pico.bert(seed, torch.float32) for seed in (0, 1))
    tokens = pico.inputs(a, n=8)
    with pytest.raises(lmc.DataError, match="BertForMaskedLM: expected a model that predicts the next token"):
        lmc.match(a, b, method=method, data=tokens)
    alignment = lmc.match(a, b, method="activations", data=tokens)
    assert type(alignment.merge(0.5)) is type(a)
    with pytest.raises(lmc.DataError, match="masked tokens"):
        lmc.path(alignment, data=tokens)


def test_untied_and_tied_bert_share_one_table() -> None:
    specs: list[Any] = [lmc.spec(pico.bert(tie_word_embeddings=tied)) for tied in (True, False)]
    assert specs[0] == specs[1]


@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH if not name.startswith("OlmoFor")])  # no gain
def test_gains_of_zero_and_near_zero_are_legal(name: str) -> None:
    model = BUILDERS[name]()
    with torch.no_grad():
        for module in model.modules():
            if type(module).__name__.endswith("Norm"):
                module.weight[0] = 0
                module.weight[1] = 1e-12
    canonical = lmc.canonicalize(model)
    moved = Transform.random(lmc.spec(model), 5).apply(canonical)
    x = pico.inputs(model)
    with lmc.float64():
        before = pico.logits(model, x)
        for other in (canonical, moved):
            assert (pico.logits(other, x) - before).abs().max() <= EXACT * before.abs().max()


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("PhiForCausalLM", "Phi3ForCausalLM"),
        ("FlexOlmoForCausalLM", "Olmo"),
        ("CamembertForMaskedLM", "ForMaskedLM"),
        ("LlamaForQuestionAnswering", "LlamaFor"),
        ("DeiTModel", "ViTModel"),
    ],
)
def test_a_class_that_is_not_covered_is_told_the_closest(name: str, closest: str) -> None:
    with pytest.raises(lmc.UnsupportedModelError) as error:
        find(name, "transformers")
    text = str(error.value)
    assert f"transformers.{name}: no family covers this model class; the closest covered is " in text
    assert closest in text and text.endswith("book/add_a_family.md shows how to add a class") and len(text) < 300


def test_a_class_like_no_other_is_told_so() -> None:
    for name in ("T5ForConditionalGeneration", "InternLM2ForCausalLM"):
        with pytest.raises(lmc.UnsupportedModelError, match="none that is covered has settings like it; book/add_a"):
            find(name, "transformers")


def test_a_model_of_two_towers_names_them() -> None:
    with pytest.raises(lmc.UnsupportedModelError) as error:
        find("CLIPModel", "transformers")
    text = str(error.value)
    assert (
        "CLIPTextModelWithProjection" in text and "CLIPVisionModelWithProjection" in text and "save_pretrained" in text
    )
    assert len(text) < 400 and "\n" not in text


def test_towers_that_pool_at_different_tokens_are_no_pair() -> None:
    a, b = pico.clip_text(0, torch.float32), pico.clip_text(1, torch.float32, eos_token_id=39)
    with pytest.raises(lmc.IncompatibleModelsError, match="eos_token_id"):
        lmc.match(a, b, method="naive")


@pytest.mark.parametrize(("layout", "exact"), [("plane freq", False), ("freq plane", True)])
def test_interleaved_rotary_pairs_can_be_expressed(layout: str, exact: bool) -> None:
    """No covered family turns the pairs (2i, 2i+1), as GPT-J does; the language can say so, and tells the two apart."""
    pairs, positions, width = 3, 7, 5
    spec = ModelSpec(
        family="toy",
        free={"freq": pairs, "in": width},
        spaces=(Space("stream", Orthogonal(width)), Space("plane", RotaryCommutant(), over=("freq",))),
        rules={"q": f"({layout}) in", "k": f"({layout.replace('plane', 'plane*')}) in"},
    )
    generator = torch.Generator().manual_seed(0)
    q, k, x = (
        torch.randn(n, width, generator=generator, dtype=torch.float64) for n in (2 * pairs, 2 * pairs, positions)
    )

    def scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        angles = torch.outer(torch.arange(positions).double(), 10.0 ** -torch.arange(pairs))  # (T, pairs)
        turn = torch.polar(torch.ones_like(angles), angles)

        def turned(w: torch.Tensor) -> torch.Tensor:
            return torch.view_as_complex((x @ w.T).unflatten(1, (pairs, 2)).contiguous()) * turn

        return (turned(q) @ turned(k).mH).real

    g = Transform.random(spec, 0)
    difference = (scores(g.moved("q", q), g.moved("k", k)) - scores(q, k)).abs().max()
    assert difference <= 1e-12 if exact else difference > 0.1
