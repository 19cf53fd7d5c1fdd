"""Aligned endpoints into mergekit: what is exported is all that it needs, and it merges what is aligned."""

import sys
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
import yaml

import lmc
from lmc.cli import main
from lmc.matching import mergekit


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


@pytest.mark.parametrize("method", mergekit.METHODS)
def test_mergekit_merges_them(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mergekit")
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge

    pair: list[Any] = [pico.llama(k, torch.float32) for k in range(2)]
    alignment = lmc.match(*pair, method="weights")
    alignment.export(tmp_path / "models")
    for k in range(2):
        pico.tokenizer(tmp_path / "models" / f"endpoint-{k}")
    monkeypatch.chdir(tmp_path / "models")
    plain = MergeConfiguration.model_validate(yaml.safe_load(Path(f"mergekit-{method}.yml").read_text()))
    run_merge(plain, "merged", MergeOptions(copy_tokenizer=False, quiet=True))
    merged = lmc.load("merged")
    assert sys.modules["mergekit"] and all(bool(t.isfinite().all()) for t in merged.state_dict().values())
    if method == "linear":
        for name, tensor in alignment.merge(0.5).state_dict().items():
            assert (merged.state_dict()[name] - tensor).abs().max() <= 1e-5, name
