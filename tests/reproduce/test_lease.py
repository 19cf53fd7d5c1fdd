"""Twelve minutes on a GPU, rehearsed on a processor: every stage, a kill between two, and what is said before."""

import pytest
import torch

from lmc.errors import ArgumentError
from lmc.evaluation import losses
from lmc.reproduce import results
from lmc.reproduce.experiments import lease
from lmc.reproduce.experiments.__main__ import main
from lmc.reproduce.experiments.from_scratch import Workplace
from lmc.reproduce.experiments.rates import best_rates
from lmc.reproduce.training.budget import Budget

CPU = torch.device("cpu")
IDS = ("cost-410m", "cost-1b", "pythia-14m", "pythia-70m", "vit-cifar10")


@pytest.fixture(autouse=True)
def fresh_results(tmp_path, monkeypatch):
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path / "results"))


def test_the_whole_command_and_a_kill_between_stages(tmp_path, monkeypatch, capsys):
    """A killed command loses the stage that it was in; the next one begins there. Numbers say how they came about."""
    command = ["lease", "--size", "smoke", "--folder", str(tmp_path)]
    train, ran = lease.whole_pair, []

    def killed(size, setting, *others):
        if setting.id == "pythia-70m" and not ran.count("pythia-70m"):
            ran.append(setting.id)
            raise KeyboardInterrupt
        ran.append(setting.id)
        train(size, setting, *others)

    monkeypatch.setattr(lease, "whole_pair", killed)
    with pytest.raises(KeyboardInterrupt):
        main(command)
    assert ran == ["pythia-14m", "pythia-70m"]
    first = results.read("pythia-14m", "smoke")
    assert main(command) == 0
    assert ran == ["pythia-14m", "pythia-70m", "pythia-70m", "vit-cifar10"]
    assert results.read("pythia-14m", "smoke").run == first.run  # not made again
    assert capsys.readouterr().out.startswith("price: about ")
    for id in IDS:
        found = results.read(id, "smoke")
        assert {"seeds", "hardware", "precision", "date", "versions"} <= found.run.keys()
        assert found.run["command"] == "make gpu ITEM=lease SIZE=smoke"
        if id.startswith("cost"):
            (rows,) = found.numbers["steps"].values()
            assert rows["ratio"].keys() == {"single", "dual"} and "data_free" not in found.numbers
            continue
        assert found.numbers["methods"].keys() == {"naive", "weights", "single", "dual"}
        assert found.run["seeds"] == [0, 1] and found.numbers["training"]["samples"] > 0
        assert all(run["curve"] for run in found.numbers["training"]["runs"].values())
    assert results.read("cost-410m", "smoke").numbers["unrelated"]["seconds"] > 0


def test_without_a_gpu_it_says_so_in_a_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["lease", "--folder", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "expected a GPU, found none" in said
    with pytest.raises(ArgumentError, match="ITEM=lease has full and smoke, found 'laptop'"):
        lease.settings("laptop")


def test_stages_are_skipped_when_the_clock_says_so(tmp_path):
    unfinished = lease.run("smoke", Budget(0), Workplace(tmp_path, tmp_path, CPU))
    assert [line.partition(":")[0] for line in unfinished] == list(lease.STAGES)
    assert all("skipped, 0 s are left" in line for line in unfinished)


def test_one_stage_that_fails_leaves_the_others(tmp_path, monkeypatch):
    def out_of_memory(*given):
        raise RuntimeError("CUDA out of\nmemory")

    monkeypatch.setattr(lease, "whole_pair", out_of_memory)
    unfinished = lease.run("smoke", Budget(3600), Workplace(tmp_path, tmp_path, CPU))
    assert unfinished == [f"{id}: failed: CUDA out of memory" for id in list(lease.STAGES)[1:]]


@pytest.mark.parametrize(
    ("most", "seconds", "pace", "steps"),
    [(6000, 110.0, 0.006, 6000), (6000, 110.0, 0.015, 3375), (6000, 1.0, 0.1, 375), (4, 1e3, 0.1, 4), (4, 1.0, 9.0, 1)],
)
def test_training_is_as_long_as_fits(most, seconds, pace, steps):
    assert lease.fitting_steps(most, seconds, pace) == steps


def test_a_compiler_that_fails_is_done_without(tmp_path, monkeypatch, capsys):
    def no_compiler(model, batch):
        raise RuntimeError("no C compiler")

    place, setting = Workplace(tmp_path, tmp_path, CPU), lease.settings("smoke")["vit-cifar10"]
    monkeypatch.setattr(lease, "on_gpu", lambda device: True)
    monkeypatch.setattr(lease, "compiled_losses", lambda: no_compiler)
    assert lease.measured_pace(setting, place).keys() == {"eager"}
    assert "not compiled: no C compiler" in capsys.readouterr().out
    monkeypatch.setattr(lease, "compiled_losses", lambda: torch.compile(losses, backend="eager", dynamic=False))
    assert lease.measured_pace(setting, place).keys() == {"eager", "compiled"}


def test_rates_are_the_best_of_the_studies_on_two_cores_and_estimates_fit_the_times():
    for id, setting in lease.settings("full").items():
        best = best_rates(results.read(lease.STAGES[id].rates_of, "laptop").grids)
        assert setting.matching.rates == {method: (rate,) for method, rate in best.items()}
        assert setting.grid == 25 and len(setting.seeds) == 1
    for line in lease.estimates("full"):
        about, most = (float(word) for word in line.replace(",", "").split() if word.replace(".", "").isdigit())
        assert 0 < about <= most
