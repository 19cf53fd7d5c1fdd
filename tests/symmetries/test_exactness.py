"""The report of `lmc.check`: exact models pass in every type, a wrong symmetry is seen and named."""

import copy
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
import transformers

import lmc
from lmc.symmetries import exactness
from lmc.symmetries.degrees_of_freedom import dimensions as gauges
from lmc.symmetries.exactness import EXACT, TOLERANCE
from lmc.symmetries.transform import Transform, kinds

MODELS: dict[str, Callable[..., Any]] = {
    "neox": lambda dtype: pico.neox(dtype=dtype),
    "neox-tied": lambda dtype: pico.neox(dtype=dtype, tie_word_embeddings=True, num_attention_heads=1),
    "vit": lambda dtype: pico.vit(dtype=dtype, init_values=0.1, reg_tokens=1),
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_every_type_stays_within_its_tolerance(name: str, dtype: torch.dtype) -> None:
    report = lmc.check(MODELS[name](dtype), seed=1)
    assert report.ok
    assert report.max_error <= EXACT
    assert report.dtype == dtype
    # Tolerances say something only where they are not far above what rounding does.
    assert max(row.native for row in report.rows) >= TOLERANCE[dtype] / 1000 or dtype == torch.float64


def test_rows_are_the_canonical_form_each_kind_and_the_whole_group() -> None:
    model = pico.neox()
    spec = lmc.spec(model)
    report = lmc.check(model)
    assert [row.space for row in report.rows] == ["canonical form", *kinds(spec), "whole group"]
    dimensions = {row.space: row.dimension for row in report.rows}
    assert dimensions["canonical form"] == sum(gauges(spec).gauges.values()) > 0
    assert all(row.share == row.dimension / sum(p.numel() for p in model.parameters()) for row in report.rows)
    assert dimensions["stream"] == 15 * 14 // 2
    assert dimensions["value"] == 2 * 2 * 8**2  # layers, heads
    assert dimensions["whole group"] == sum(spec.group_dimension(s) for s in spec.spaces)
    assert dimensions["whole group"] == sum(dimensions[kind] for kind in kinds(spec))


def test_the_table_can_be_read() -> None:
    report = lmc.check(pico.vit(dtype=torch.float32))
    lines = str(report).splitlines()
    assert "VisionTransformer" in lines[0]
    assert len(lines) == len(report.rows) + 3
    assert all(line.endswith("exact") for line in lines[2:-1])


def test_the_model_is_not_touched() -> None:
    model = pico.neox(dtype=torch.float32).train()
    before = copy.deepcopy(model.state_dict())
    lmc.check(model)
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "breaks"),
    [
        # A rotation that does not fix 𝟙 does not commute with LayerNorm's mean.
        (
            "stream",
            lambda g: torch.linalg.qr(torch.randn(g.shape, generator=torch.Generator().manual_seed(0)).double())[0],
        ),
        # Rotary planes admit complex numbers only: a reflection mixes them with their conjugates.
        ("plane.1", lambda g: g @ torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))),
    ],
)
def test_a_wrong_symmetry_is_seen_and_named(kind: str, breaks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = Transform.random

    def wrong(spec: Any, seed: int) -> Transform:
        g = stock(spec, seed)
        return Transform(spec, {**g.elements, kind: breaks(g.elements[kind])})

    monkeypatch.setattr(exactness.Transform, "random", wrong)
    report = lmc.check(pico.neox())
    assert not report.ok
    assert report.max_error > 1e-3
    assert [row.space for row in report.rows if not row.ok] == [kind.split(".")[0], "whole group"]
    assert str(report).count("WRONG") == 3  # two rows, and what the word means


def test_logits_that_are_no_numbers_are_called_so() -> None:
    model = pico.llama(dtype=torch.float32)
    model.lm_head.weight.data[0, 0] = torch.inf
    report = lmc.check(model)
    assert not report.ok and "NOT FINITE" in str(report) and "ROUNDING" not in str(report)


def test_unknown_models_are_refused() -> None:
    with pytest.raises(lmc.UnsupportedModelError, match="Linear"):
        lmc.check(torch.nn.Linear(2, 2))


def test_one_copy_in_float64_is_alive_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever logits are computed: besides the model itself, at most one in float64, or two of its own type."""
    model = pico.neox(dtype=torch.float32, hidden_size=64, intermediate_size=8192)
    own = sum(t.nbytes for t in model.state_dict().values())
    gc.collect()
    before = {id(t) for t in gc.get_objects() if issubclass(type(t), torch.Tensor)}
    seen, stock = [], exactness.evaluated

    def counted(work: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        gc.collect()
        alive = [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor) and id(t) not in before]
        storages = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive if t.device.type != "meta"
        }
        seen.append(sum(storages.values()) / own)
        return stock(work, inputs)

    monkeypatch.setattr(exactness, "evaluated", counted)
    assert lmc.check(model).ok
    assert max(seen) <= 2.2 and len(seen) > 10  # float64 is twice float32


def test_a_checkpoint_is_checked_in_its_own_type_and_never_held_beside_its_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lmc.save(pico.neox(dtype=torch.bfloat16, hidden_size=64, intermediate_size=8192), tmp_path / "m")
    own = sum(t.nbytes for t in lmc.load(tmp_path / "m", dtype=torch.bfloat16).state_dict().values())
    gc.collect()
    before = {id(t) for t in gc.get_objects() if issubclass(type(t), torch.Tensor)}
    seen, stock = [], exactness.evaluated

    def counted(work: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        alive = [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor) and id(t) not in before]
        held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive if t.device.type != "meta"}
        seen.append(sum(held.values()) / own)
        return stock(work, inputs)

    monkeypatch.setattr(exactness, "evaluated", counted)
    gc.disable()  # what only the collector would free counts as held
    try:
        report = exactness.check_copies(lambda: lmc.load(tmp_path / "m", dtype=torch.bfloat16))
    finally:
        gc.enable()
    assert report.ok and report.dtype == torch.bfloat16 and "stock bfloat16" in str(report)
    first_of_two = seen[1]  # the copy in float64, four times bfloat16, and nothing else
    assert first_of_two <= 4.4


@pytest.mark.parametrize("name", ["Llama", "Gemma"])
def test_a_tied_model_as_it_was_made_is_exact(name: str) -> None:
    """Its gains do nothing yet, so its canonical head equals the embedding; the residual scale moves one of the two."""
    config = getattr(transformers, f"{name}Config")(**pico.GROUPED | {"tie_word_embeddings": True, "head_dim": 4})
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    assert lmc.check(model).ok
