"""Weights written tensor by tensor: the stock readers see exactly them, and never are two held at once."""

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import pico
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

import lmc
import lmc.checkpoints.checkpoint
import lmc.symmetries.stock_model
from lmc.checkpoints import writer
from lmc.errors import CheckpointError

TENSORS = {
    "matrix": torch.arange(12.0).reshape(3, 4).T,  # not contiguous
    "vector": torch.arange(5, dtype=torch.float64),
    "half": torch.ones(2, 2, 2, dtype=torch.bfloat16),
    "small": torch.tensor([0.5, -0.25], dtype=torch.float16),
    "empty": torch.empty(0, 3),
}
PLAN = {name: t.to("meta") for name, t in TENSORS.items()}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """In any order of the tensors, and bit for bit."""
    writer.write(tmp_path, PLAN, reversed(TENSORS.items()))
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_one_tensor_at_a_time(tmp_path: Path) -> None:
    """A tensor is let go before the next is asked for."""
    alive: list[weakref.ref[Tensor]] = []

    def stream() -> Iterator[tuple[str, Tensor]]:
        for k in range(6):
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 1, "more than the one just written is still held"
            tensor = torch.full((100,), float(k))
            alive.append(weakref.ref(tensor))
            yield f"t{k}", tensor

    writer.write(tmp_path, {f"t{k}": torch.empty(100, device="meta") for k in range(6)}, stream(), limit=900)
    places = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert sorted(set(places.values())) == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    for k in range(6):
        assert torch.equal(load_file(tmp_path / places[f"t{k}"])[f"t{k}"], torch.full((100,), float(k)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop("vector"), r"tensor vector: expected \[5\], found none"),
        (lambda t: t.update(vector=torch.ones(6)), r"tensor vector: expected shape \[5\], found \[6\]"),
        (lambda t: t.update(more=torch.ones(1)), "tensor more: expected nothing more of it"),
        (lambda t: t["matrix"].fill_(float("nan")), "tensor matrix: expected finite values, found 12 of 12"),
        (lambda t: t.update(small=torch.full((2,), 7e4)), "tensor small: .*found 2 of 2 NaN or infinite as float16"),
    ],
)
def test_what_does_not_fit_the_plan_is_refused(spoil, message, tmp_path: Path) -> None:
    tensors = {name: t.clone() for name, t in TENSORS.items()}
    spoil(tensors)
    with pytest.raises(CheckpointError, match=message):
        writer.write(tmp_path, PLAN, tensors.items())


def test_the_stock_library_reads_streamed_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model on the meta device and its weights one by one make the same checkpoint as the model in memory."""
    model = pico.neox(dtype=torch.float32)
    write = writer.write
    monkeypatch.setattr(writer, "write", lambda folder, plan, tensors, limit: write(folder, plan, tensors, 4000))
    outline = lmc.symmetries.hollow(model)
    lmc.checkpoints.save(outline, tmp_path / "streamed", tensors=iter(model.state_dict().items()))
    assert len(list((tmp_path / "streamed").glob("model-*.safetensors"))) > 3
    for again in (AutoModelForCausalLM.from_pretrained(tmp_path / "streamed"), lmc.load(tmp_path / "streamed")):
        for name, tensor in model.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor)


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_is_written_once(tied: bool, tmp_path: Path) -> None:
    lmc.save(pico.gpt2(dtype=torch.float32, tie_word_embeddings=tied), tmp_path / "model")
    assert ("lm_head.weight" in load_file(tmp_path / "model" / "model.safetensors")) != tied
