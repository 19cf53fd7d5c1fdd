"""The published pairs as data, and the study of them on tiny stand-ins."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lmc.errors import HubError, IncompatibleModelsError
from lmc.reproduce import figures
from lmc.reproduce.draw import draw
from lmc.reproduce.experiments import published
from lmc.reproduce.experiments.stand_ins import tiny
from lmc.reproduce.kept_runs import KeptRuns


def test_pairs_of_one_size_share_no_model() -> None:
    for pairs in published.PAIRS.values():
        names = [name for pair in pairs for name in pair.names]
        assert len(set(names)) == len(names)
        assert len({pair.label for pair in pairs}) == len(pairs)
    assert all(name.endswith("@step143000") for pair in published.PAIRS["pythia"] for name in pair.names)


def test_guessing_costs_the_entropy_of_the_answers() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    assert math.isclose(published.guessing_loss((torch.zeros(4, 1, 2, 2), labels)), math.log(2))
    tokens = torch.tensor([[9, 0, 0], [9, 1, 1]])  # the first of a window is not predicted
    assert math.isclose(published.guessing_loss(tokens), math.log(2))


def test_a_study_refuses_with_reasons_and_measures_the_rest(tmp_path: Path) -> None:
    pairs, match_on, held_out = tiny("olmo", tmp_path)
    gone = published.Published("not there", (str(tmp_path / "gone"),) * 2, 1)
    found = published.study((gone, *pairs), match_on, held_out, 1, {"single": 0.01, "dual": 0.01}, 3, (8, 4))
    missing, other = found.rest["refused"].values()
    assert "gone: no such folder; look how it is spelled" in missing
    assert other.startswith("model 1 and model 2 differ in clip_qkv: expected None, found 8.0; only models")
    assert [run.pair for run in found.methods["dual"]] == ["stand-ins"]
    assert list(found.parameters or ()) == list(found.endpoints or ()) == ["stand-ins"]
    with pytest.raises(IncompatibleModelsError, match=r"stand-ins of other settings: .* clip_qkv"):
        published.study(pairs[1:], match_on, held_out, 1, {"single": 0.01, "dual": 0.01}, 3, (8, 4))


def test_what_the_hub_does_not_give_now_is_no_result_and_the_rest_is_kept(tmp_path: Path, monkeypatch: Any) -> None:
    pairs, match_on, held_out = tiny("pythia", tmp_path)
    away = published.Published("away", ("EleutherAI/pythia-14m-seed1@step143000",) * 2, 14)
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path / "results"))
    keep = KeptRuns.of("published", "smoke")
    given = (match_on, held_out, 1, {"single": 0.01, "dual": 0.01}, 3, (8, 4))
    with pytest.raises(HubError, match=r"not had: away: .*HF_HUB_OFFLINE is set.* run the same command again"):
        published.study((away, *pairs), *given, keep=keep)
    kept = sorted(keep.folder.iterdir())
    assert len(kept) == 6  # every method of the pair that is here
    written = [file.stat().st_mtime_ns for file in kept]
    found = published.study(pairs, *given, keep=keep)
    assert [file.stat().st_mtime_ns for file in sorted(keep.folder.iterdir())] == written  # read, not made again
    kept[0].write_text("{")  # damaged: made again
    assert published.study(pairs, *given, keep=keep) == found


def test_reasons_name_no_place_of_the_reader(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "alice"))
    pairs, match_on, held_out = tiny("pythia", tmp_path)
    broken = tmp_path / "alice/lmc/converted/x--bad"
    shutil.copytree(pairs[0].names[0], broken)
    (broken / "model.safetensors").write_bytes(b"cut off")
    bad = published.Published("bad", (str(broken), pairs[0].names[1]), 1)
    found = published.study((bad, *pairs), match_on, held_out, 1, {"single": 0.01, "dual": 0.01}, 3, (8, 4))
    assert found.rest["refused"]["bad"].startswith("x--bad/model.safetensors: ")
    assert "alice" not in json.dumps(found.to_json())


def test_pairs_of_one_initialisation_are_named_and_left_out_of_means(tmp_path: Path) -> None:
    pairs, match_on, held_out = tiny("pythia", tmp_path)
    shared = dataclasses.replace(pairs[0], label="1b and deduped", shared=True)
    assert [one.size for one in published.PAIRS["pythia"] if one.shared] == [shared.size] == ["1b"]
    found = published.study((shared, *pairs), match_on, held_out, 1, {"single": 0.01, "dual": 0.01}, 3, (8, 4))
    assert found.shared == ("1b and deduped",) and len(found.methods["dual"]) == 2
    said = found.summarised(found.rest["guess"])
    assert said.headline is not None and said.headline.pairs == ["stand-ins"]
    means = sorted(row.barrier for row in said.summary.values())
    for figure in (figures.barrier_bars(said), draw("barrier_bars", said.to_json())):  # as the chapter's table says
        assert sorted(bar.get_height() for bar in figure.axes[0].patches) == pytest.approx(means)
    figures.pyplot().close("all")
    alone = published.study((shared,), match_on, held_out, 1, {"single": 0.01, "dual": 0.01}, 3, (8, 4))
    said = alone.summarised(alone.rest["guess"])
    assert said.headline is not None and said.headline.pairs == ["1b and deduped"]  # then there is nothing else to say


def test_vision_transformers_of_two_forms_become_a_pair(tmp_path: Path) -> None:
    (pair, *_), *_ = tiny("vit", tmp_path)
    a, b = published.load(pair)
    assert {n: t.shape for n, t in a.state_dict().items()} == {n: t.shape for n, t in b.state_dict().items()}
