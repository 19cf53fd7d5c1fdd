"""Aligned endpoints into mergekit: what is exported is all that it needs, and it merges what is aligned."""

import os
import sys
from pathlib import Path
from typing import Any

import pico
import pytest
import torch

import lmc
from lmc.cli import main
from lmc.errors import CheckpointError, MissingExtraError
from lmc.matching import mergekit
from lmc.reproduce.experiments import with_mergekit


@pytest.mark.parametrize("method", ["canonical", "weights"])  # in memory, and from file to file
def test_configurations_stand_beside_the_endpoints(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("ab"):
        lmc.save(pico.llama(k, torch.float32), name)
    assert main(f"match a b --method {method} --export --out aligned".split()) == 0
    assert sorted(path.name for path in Path("aligned/models").iterdir()) == [
        "endpoint-0",
        "endpoint-1",
        *(f"mergekit-{name}.yml" for name in sorted(mergekit.METHODS)),
    ]


@pytest.mark.parametrize("method", ["weights", "dual"])  # from file to file, and in memory
def test_wide_models_stay_wide(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pico.tokenizer(Path("words"))
    Path("text.txt").write_text("one two three four five six seven\n" * 400)
    for k, name in enumerate("ab"):
        lmc.save(pico.llama(k, torch.float64), name, tokenizer_from="words")
    learned = "--data text.txt --steps 2 --batch 2" if method == "dual" else ""
    assert main(f"match a b --method {method} {learned} --export --out aligned".split()) == 0
    for k in range(2):
        assert lmc.checkpoints.inspect(f"aligned/models/endpoint-{k}").dtype == torch.float64
    assert Path("aligned/models/mergekit-linear.yml").read_text().endswith("dtype: float64\n")
    assert main(["verify", "aligned"]) == 0


def test_mergekit_merges_them(tmp_path: Path) -> None:
    if not (named := os.environ.get("LMC_MERGEKIT")):
        pytest.skip(with_mergekit.INSTALL)
    pair: list[Any] = [pico.llama(k, torch.float32) for k in range(2)]
    alignment = lmc.match(*pair, method="weights")
    alignment.export(tmp_path / "models")
    plans = [(method, 0.25) for method in mergekit.METHODS]
    made = with_mergekit.merged(with_mergekit.python(named), tmp_path / "models", plans)
    found = {method: model.state_dict() for (method, _), model in zip(plans, made, strict=True)}
    assert all(bool(tensor.isfinite().all()) for model in found.values() for tensor in model.values())
    for name, tensor in alignment.merge(0.25).state_dict().items():
        assert (found["linear"][name] - tensor).abs().max() <= 1e-5, name


def test_without_mergekit_one_line_says_what_to_do() -> None:
    with pytest.raises(
        MissingExtraError, match=r"^LMC_MERGEKIT: .*found 'nowhere'; install mergekit .*name the Python"
    ):
        with_mergekit.python("nowhere")
    with pytest.raises(CheckpointError, match=r"mergekit failed \(.*mergekit.*\); install mergekit"):
        with_mergekit.version(Path(sys.executable))  # an environment that has none
