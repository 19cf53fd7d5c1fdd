"""What the headers of two checkpoints tell of a tensor before torch is imported, and what they must not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from safetensors.torch import load_file, save_file

import lmc
from lmc.checkpoints import architecture, headers, hub, side_by_side
from lmc.cli import main
from lmc.errors import CheckpointError

NAME = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"
Tensors = dict[str, torch.Tensor]


def known(folder: Path) -> Any:
    source = hub.locate(folder)
    return architecture.of(source), source.folder, headers.layout(folder)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    for seed, name in enumerate("ab"):
        lmc.save(pico.neox(seed, torch.float32), tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def change(folder: Path, how: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    how(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_tensor_that_one_lacks_is_named_with_the_folder_that_lacks_it(pair: tuple[Path, Path]) -> None:
    a, b = pair
    side_by_side.require_same(known(a), known(b))
    change(b, lambda tensors: tensors.pop(NAME))
    for first, other in ((a, b), (b, a)):
        with pytest.raises(CheckpointError) as error:
            side_by_side.require_same(known(first), known(other))
        what = f"expected shape [24, 16], as in {a} of the same settings, found in no weights file; get the files that"
        what += " are missing, or the settings that belong to each"
        assert str(error.value) == f"{b}: tensor {NAME}: {what}"


@pytest.mark.parametrize("build", [pico.neox, pico.llama, pico.gpt2, pico.mixtral, pico.bert, pico.vit, pico.hf_vit])
def test_a_weight_that_one_layer_lacks_is_named_of_a_checkpoint_alone(build: Any, tmp_path: Path) -> None:
    lmc.save(build(0, torch.float32), tmp_path / "a")
    _, folder, files = known(tmp_path / "a")
    side_by_side.require_whole(folder, files)
    weights = load_file(folder / "model.safetensors")
    lost = [name for name in weights if ".1." in name and name.endswith(".weight") and ".experts." not in name]
    for name in lost:
        shape = list(weights[name].shape)
        with pytest.raises(CheckpointError) as error:
            found = {other: tuple(t.shape) for other, t in weights.items() if other != name}
            assert side_by_side.lacking(found) == (name, tuple(shape))
            save_file({other: weights[other] for other in weights if other != name}, folder / "model.safetensors")
            side_by_side.require_whole(folder, files)
        what = f"expected shape {shape}, found in no weights file; get the files that are missing"
        assert str(error.value) == f"{folder}: tensor {name}: {what}"
    assert len(lost) > 2


def test_a_command_says_so_before_it_builds_the_class(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def built(*given: Any) -> None:
        raise AssertionError("the class was built")

    monkeypatch.setattr("lmc.checkpoints.transformers_layout.empty", built)
    change(pair[0], lambda tensors: tensors.pop(NAME))
    assert main(["check", str(pair[0])]) == 2
    assert f"tensor {NAME}: expected shape [24, 16], found in no weights file" in capsys.readouterr().err


def test_of_layers_of_several_kinds_nothing_is_known() -> None:
    shapes = {f"h.{k}.{rest}.weight": (2, 2) for k in range(4) for rest in ("attn", "mlp" if k % 2 else "moe")}
    assert side_by_side.lacking(shapes) is None and side_by_side.lacking({}) is None
    stages = {f"stages.{k}.blocks.{n}.conv.weight": (2, 2) for k in range(2) for n in range(2 + k)}
    assert side_by_side.lacking(stages) is None
    heads = {"model.h.0.attn.weight": (2, 2), "head.0.weight": (2, 2), "head.2.dense.weight": (2, 2)}
    assert side_by_side.lacking(heads) is None


def test_a_tensor_of_another_shape_is_named_with_both(pair: tuple[Path, Path]) -> None:
    a, b = pair
    change(b, lambda tensors: tensors.update({NAME: tensors[NAME][1:].clone()}))
    with pytest.raises(CheckpointError) as error:
        side_by_side.require_same(known(a), known(b))
    what = "expected one shape, as the settings are the same, found [24, 16] and [23, 16]; get both again"
    assert str(error.value) == f"{a} and {b}: tensor {NAME}: {what}"


def test_what_libraries_write_or_do_not_is_no_disagreement(pair: tuple[Path, Path]) -> None:
    """Of all layers, of none, or of another form: the stock class tells what that means."""
    a, b = pair
    change(b, lambda tensors: tensors.update({"gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(2)}))
    change(b, lambda tensors: [tensors.pop(name) for name in list(tensors) if "layernorm.weight" in name])
    change(b, lambda tensors: tensors.pop("embed_out.weight"))
    side_by_side.require_same(known(a), known(b))
    change(b, lambda tensors: tensors.update({f"module.{name}": tensors.pop(name) for name in list(tensors)}))
    side_by_side.require_same(known(a), known(b))


@pytest.mark.parametrize(
    ("field", "told"), [("torch_dtype", True), ("transformers_version", True), ("hidden_act", False)]
)
def test_only_models_of_equal_settings_are_held_against_one_another(
    pair: tuple[Path, Path], field: str, told: bool
) -> None:
    a, b = pair
    change(b, lambda tensors: tensors.pop(NAME))
    fields = json.loads((b / "config.json").read_text())
    (b / "config.json").write_text(json.dumps(fields | {field: "other"}))
    if told:
        with pytest.raises(CheckpointError, match="found in no weights file"):
            side_by_side.require_same(known(a), known(b))
    else:
        side_by_side.require_same(known(a), known(b))
