"""The GPU campaign, rehearsed: every item in small, resumed after any stop, each number with how it came about."""

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from huggingface_hub import constants

from lmc import checkpoints
from lmc.corpora import prepared
from lmc.errors import ArgumentError, CheckpointError, DataError, DivergedError
from lmc.evaluation.loss import Data
from lmc.evaluation.plot import pyplot
from lmc.files import read_json, read_safetensors
from lmc.matching.alignment import Alignment
from lmc.matching.recipe import LEARNED
from lmc.reproduce import results
from lmc.reproduce.draw import draw
from lmc.reproduce.experiments import rates, report, stages
from lmc.reproduce.experiments.chapter import by_size, measured_on_gpu, rates_table
from lmc.reproduce.experiments.from_scratch import Workplace, conduct, run
from lmc.reproduce.experiments.stages import Campaign
from lmc.reproduce.runs import Comparison, Parents, Run
from lmc.reproduce.training.budget import Budget, BudgetSpent
from lmc.reproduce.training.endpoints import order_of, train_endpoints
from lmc.reproduce.training.settings import (
    ITEMS,
    LAPTOP,
    LIMITS,
    SHAKESPEARE,
    Cost,
    Curve,
    Setting,
    corpora,
    endpoint_folder,
    work,
)
from lmc.reproduce.training.shapes import Gpt2, Language, Vit
from lmc.reproduce.training.tasks import Digits, Pictures, task_of
from lmc.reproduce.training.trainer import MuonRecipe, Trainer, TrainingRecipe, begun, train, until

CPU = torch.device("cpu")
PLENTY = Budget(3600)
pytestmark = pytest.mark.filterwarnings("ignore:.*was tied to:UserWarning")  # the canonical form says so, once a model


@pytest.fixture(autouse=True)
def fresh_results(tmp_path, monkeypatch):
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path / "results"))


def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path / "campaign", tmp_path / "inputs", CPU)


def smoke(id: str) -> Setting:
    (found,) = [w for item in ITEMS for w in work(item, "smoke") if w.id == id]
    assert isinstance(found, Setting)
    return found


# Every item, in small


def one_of_each_kind():
    """Item and work: one of each kind and model, as the others differ in sizes only, which smoke takes away."""
    kinds = {}
    for item in ITEMS:
        for each in work(item, "smoke"):
            kinds.setdefault((type(each), type(getattr(each, "shape", None))), (item, each))
    return list(kinds.values())


def test_rates_are_judged_on_every_class(tmp_path, monkeypatch):
    """Pictures come class by class: a part cut off the front would be one class that matching never sees."""
    setting, seen = smoke("vit-cifar10"), []
    data = Data(torch.randn(80, 3, 8, 8), torch.arange(80) // 20)

    def match(*pair, data, **options):
        seen.append(data)
        return SimpleNamespace(models=())

    monkeypatch.setattr(stages, "match", match)

    def score(alignment, data, grid):
        seen.append(data)
        return SimpleNamespace(barrier=1.0)

    monkeypatch.setattr(rates, "path", score)
    campaign = Campaign(setting, tmp_path, tmp_path, CPU, PLENTY)
    campaign.rates((None, None), Alignment("naive", (), (), {}), data)
    matched, scored = seen[:2]
    assert len(scored.labels.unique()) >= 3 and len(matched.labels.unique()) == 4
    pixels = {tuple(x.flatten().tolist()) for part in (matched, scored) for x in part.inputs}
    assert len(matched) + len(scored) == len(data) == len(pixels)  # nothing in both


@pytest.mark.parametrize(("item", "each"), one_of_each_kind(), ids=[each.id for _, each in one_of_each_kind()])
def test_work_runs_at_smoke_and_says_how_its_numbers_came_about(item, each, tmp_path):
    assert run(item, "smoke", PLENTY, place(tmp_path), only=each.id) == [each.id]
    found = results.read(each.id, "smoke")
    again = f"lmc reproduce --profile smoke --figure {each.id}"
    assert found.run["command"] == (f"make gpu ITEM={item} SIZE=smoke" if isinstance(each, Cost) else again)
    assert {"seeds", "hardware", "precision", "date", "versions", "duration_s"} <= found.run.keys()
    check(each, found)


def check(each, found):
    if isinstance(each, Cost):
        (rows,) = found.numbers["steps"].values()
        for kind in ("single", "dual"):
            assert rows["ratio"][kind] == pytest.approx(rows[kind]["seconds"] / rows["plain"]["seconds"], rel=1e-6)
        assert found.numbers["data_free"]["apart"] < 1e-4  # planted, and found again
    elif isinstance(each, Curve):
        assert found.numbers["points"] == [x for x, _ in each.points]
        for method, row in found.numbers["methods"].items():
            inner = [point["methods"][method]["barrier"] for point in found.numbers["settings"]]
            assert row["barrier"] == inner and len(inner) == len(each.points)
        check(each.points[0][1], dataclasses.replace(found, numbers=found.numbers["settings"][0]))
        assert draw("sweep_figure", found.numbers).axes  # what figures.yml draws it with
        pyplot().close("all")
    else:
        assert list(found.numbers["methods"]) == sorted(each.matching.methods)
        for method, table in found.numbers["methods"].items():
            again = len(each.matching.seeds) - 1 if method in LEARNED else 0  # other seeds, on the first pair
            assert len(table["losses"]) == len(table["runs"]) == len(each.seeds) + again
            drawn = [(run["pair"], run["seed"]) for run in table["runs"]] if method in LEARNED else []
            assert len(set(drawn)) == len(drawn)
            assert len(table["losses"][0]) == len(table["lambdas"]) == each.grid
            assert max(table["endpoint_change"]) < 1e-3  # alignment keeps the endpoints' functions
        assert found.run["seeds"] == [seed for pair in each.seeds for seed in pair]
        assert found.run["corpus"][0]["samples"] == each.scored == found.numbers["samples"]
        length = each.shape.context if isinstance(each.shape, Language) else 1
        assert found.numbers["training"]["samples"] == each.recipe.steps * each.recipe.batch * length
        for method, grid in found.numbers["grids"].items():
            assert grid["rates"] == list(each.matching.rates[method])
            best = min(range(len(grid["rates"])), key=lambda i: grid["barrier"][i][0])
            assert {run["lr"] for run in found.numbers["methods"][method]["runs"]} == {grid["rates"][best]}


def test_the_table_is_what_the_campaign_promises():
    works = [each for item in ITEMS for each in work(item, "full")]
    assert len({each.id for each in works}) == len(works)
    inner = [s for each in works if isinstance(each, Curve) for _, s in each.points]
    for setting in [s for s in [*works, *inner, *LAPTOP.values()] if isinstance(s, Setting)]:
        seeds = [seed for pair in setting.seeds for seed in pair]
        assert len(setting.seeds) >= 3 and len(set(seeds)) == len(seeds)  # disjoint pairs
        assert {"naive", "weights", "dual"} <= set(setting.matching.methods)
        assert setting.grid == 25
        rates = setting.matching.rates  # to first order dual at η is single at 2η: neither gets the better grid
        assert [2 * rate for rate in rates["dual"]] == list(rates["single"])
    full = SHAKESPEARE.shape
    assert isinstance(full, Gpt2) and (full.layers, full.width, full.heads, full.vocabulary) == (6, 256, 4, 50257)


def test_what_there_is_not_is_said_in_one_line(tmp_path):
    with pytest.raises(ArgumentError, match="item: expected one of 1, 2, 3, 4, 5, 6, 7, 8, found 9"):
        work(9, "full")
    with pytest.raises(ArgumentError, match="size laptop: item 2 has none, only items 1, 3, 4, 5, 7, 8 do"):
        work(2, "laptop")
    with pytest.raises(ArgumentError, match="only: expected one of gpt2-shakespeare, found 'x'"):
        run(3, "smoke", PLENTY, place(tmp_path), only="x")
    with pytest.raises(ArgumentError, match="expected trained endpoints, seeds 0, 1 are not"):
        run(3, "smoke", PLENTY, place(tmp_path), stages=("match",))


def test_a_second_run_in_one_folder_is_refused(tmp_path):
    there = place(tmp_path)
    there.folder.joinpath("smoke").mkdir(parents=True)
    own = FileLock(there.folder / "smoke" / ".gpt2-shakespeare.lock")
    with own, pytest.raises(ArgumentError, match="gpt2-shakespeare: another run does this in"):
        run(3, "smoke", PLENTY, there)
    with own:  # another setting is free
        assert run(4, "smoke", PLENTY, there) == ["vit-cifar10"]
    assert run(3, "smoke", PLENTY, there) == ["gpt2-shakespeare"]  # and the lock is gone


def test_a_chapter_waits_for_the_run_of_another(tmp_path):
    there = place(tmp_path)
    (there.folder / "smoke").mkdir(parents=True)
    file = there.folder / "smoke" / ".gpt2-shakespeare.lock"
    hold = (
        "import sys, time, filelock\nwith filelock.FileLock(sys.argv[1]):\n    print('held', flush=True); time.sleep(1)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(file)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(ArgumentError, match="another run does this"):
            run(3, "smoke", PLENTY, there)
        assert run(3, "smoke", PLENTY, there, wait=True) == ["gpt2-shakespeare"]
    assert other.returncode == 0


def test_the_command(tmp_path):
    """In a process of its own: out of time is exit 3 and nothing lost; a wrong item is exit 2 and one line."""

    def call(*arguments):
        command = [
            sys.executable,
            "-m",
            "lmc.reproduce.experiments",
            *arguments,
            "--folder",
            str(tmp_path / "campaign"),
        ]
        return subprocess.run(command, capture_output=True, text=True)

    stopped = call("3", "--size", "smoke", "--minutes", "0")
    assert (stopped.returncode, stopped.stdout.partition(":")[0]) == (3, "to be continued")
    wrong = call("9")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1) and wrong.stderr.startswith("error: item: expected")


# Stopping and going on


class Once(Budget):
    """A budget that is spent at its n-th check of the time."""

    def __init__(self, checks: int) -> None:
        super().__init__(3600)
        self.checks = checks

    def left(self) -> float:
        self.checks -= 1
        return 0.0 if self.checks < 0 else 1000.0


def test_training_that_stops_anywhere_ends_at_the_same_weights(tmp_path):
    setting = smoke("gpt2-shakespeare")
    task = task_of(setting.shape, setting.corpus, tmp_path)
    whole = train_endpoints(setting, (0, 1), tmp_path / "whole", task, CPU, PLENTY)
    stops = 0
    while True:
        try:
            parts = train_endpoints(setting, (0, 1), tmp_path / "parts", task, CPU, Once(2))  # a step or two a call
            break
        except BudgetSpent:
            stops += 1
            assert not (tmp_path / "parts" / "seed-0").exists()
            kept = [int(read_safetensors(file)["step"]) for file in (tmp_path / "parts").glob("*.state.safetensors")]
            assert len(kept) < 2 or abs(kept[0] - kept[1]) <= 1  # side by side
    assert stops >= 2
    for one, other in zip(whole, parts, strict=True):
        first, second = (checkpoints.load(folder).state_dict() for folder in (one, other))
        assert all(torch.equal(first[name], second[name]) for name in first)
        curves = [read_json(folder.with_suffix(".json"))["curve"] for folder in (one, other)]
        assert curves[0] == curves[1] and curves[0][-1][0] == setting.recipe.steps
    assert [p.name for p in (tmp_path / "parts").iterdir() if "state" in p.name] == []


def test_a_campaign_that_stops_after_every_piece_gives_the_same_numbers(tmp_path, monkeypatch):
    setting = smoke("vit-cifar10")
    whole = Campaign(setting, tmp_path / "whole", tmp_path, CPU, PLENTY)
    whole.run()
    published = []

    class OnePiece(Budget):
        spent = False

        def left(self) -> float:
            return -1.0 if self.spent else super().left()

    def one_piece_more() -> bool:
        budget = OnePiece(3600)

        def publish() -> None:
            published.append(parts.compared())
            budget.spent = True

        parts = Campaign(setting, tmp_path / "parts", tmp_path, CPU, budget, publish)
        try:
            parts.run()
        except BudgetSpent:
            return True
        return False

    while one_piece_more():
        assert len(published) < 100
    assert len(published) > 2 + 1 + len(setting.matching.methods)  # endpoints, their losses, paths, rates
    assert published[0].runs == () and "runs" in published[0].rest["training"]  # what was done is there at once
    assert whole.compared() == published[-1]  # to the last digit: what a clock says is in `costs`
    matching = report.costs(setting, tmp_path / "whole")["matching"]
    assert set(matching["pair-0"]) == {name for name, _, _ in setting.matches(0)}
    assert all(cost["seconds"] > 0 for cost in matching["pair-0"].values())
    other = dataclasses.replace(setting, scored=setting.scored // 2)
    with pytest.raises(CheckpointError, match=r"pair-0/.*\.json: was made with other settings"):
        Campaign(other, tmp_path / "whole", tmp_path, CPU, PLENTY).run()
    more = dataclasses.replace(setting, seeds=(*setting.seeds, (8, 9)))
    assert report.compared(more, tmp_path / "whole").runs == whole.compared().runs  # more pairs are no other settings


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no timer signals on this system")
def test_a_budget_interrupts_work_that_does_not_look_at_the_clock():
    budget = Budget(0.05)
    with pytest.raises(BudgetSpent), budget.interrupting():
        for _ in range(1000):
            time.sleep(0.01)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    with pytest.raises(BudgetSpent), budget.interrupting():
        pytest.fail("the time was over before")


def test_settings_that_train_the_same_endpoints_share_them(tmp_path):
    width = dict(LIMITS[0].points)
    same = [s for curve in LIMITS for _, s in curve.points if s.shape == SHAKESPEARE.shape]
    assert len({endpoint_folder(s, tmp_path) for s in same if s.recipe == SHAKESPEARE.recipe}) == 1
    assert endpoint_folder(width[64], tmp_path) != endpoint_folder(SHAKESPEARE, tmp_path)


# What chapters show


def test_a_chapter_shows_what_a_gpu_measured_and_names_what_it_did_not():
    measured = {"interval": (0.0, 1.0), "gap": 0.0, "endpoint_change": 0.0}
    runs = tuple(Run(name, barrier, "a", **measured) for name, barrier in (("dual", 0.0216), ("naive", 0.94)))
    found = Comparison(runs, endpoints={"a": Parents((1.0, 1.0), (0.5, 0.5), 0.0)}).summarised(guess=2.0)
    results.write("pythia-70m", "gpu", found.to_json(), {"seeds": [0], "duration_s": 60.0, "command": "make gpu"})
    text = measured_on_gpu(["pythia-70m", "olmo"]).text
    assert "| | naive | dual |" in text and "| pythia-70m | 0.940 | 0.022 |" in text and "make gpu" in text
    assert "Not measured yet" in text and "--figure olmo`" in text and "--figure pythia-70m" not in text


def test_what_a_gpu_measured_stands_on_the_curve_over_sizes():
    assert by_size("pythia-wikipedia", ["pythia-70m"]) is None  # nothing is drawn before there is something
    small = results.read("pythia-wikipedia", "laptop").comparison
    shape = {"layers": 6, "width": 512, "heads": 8, "context": 512, "vocabulary": 50304}
    runs = tuple(Run(name, 0.01 * i, "pair-0") for i, name in enumerate(("dual", "naive")))
    large = Comparison(runs, rest={"setting": {"model": "NeoX", "shape": shape}})
    results.write("pythia-70m", "gpu", large.to_json(), {"seeds": [0], "duration_s": 60.0})
    figure = by_size("pythia-wikipedia", ["pythia-70m", "pythia-160m"])
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines.keys() == {"dual", "naive"}  # what both have
    assert len(lines["dual"].get_xdata()) == len(small.barriers("dual")) + 1
    assert lines["dual"].get_xdata()[-1] == pytest.approx(70.4, abs=0.1) and lines["dual"].get_ydata()[-1] == 0.0
    pyplot().close("all")


def test_the_best_rate_is_marked_and_an_end_of_the_grid_is_said():
    grids = {"single": {"rates": [1, 2, 4], "barrier": [[0.3], [0.1], [0.2]]}}
    grids["dual"] = {"rates": [0.5, 1, 2], "barrier": [[0.3], [0.2], [0.1]]}
    results.write("a", "smoke", {"grids": grids}, {"seeds": [0], "duration_s": 0.0})
    text = rates_table({"a": results.read("a", "smoke")}).text
    assert text.count("**0.1000**") == 2
    assert text.endswith("a better rate may lie beyond: a, dual.")


def test_a_rate_at_which_learning_diverges_is_not_chosen_and_shown_as_such(tmp_path, monkeypatch):
    setting = smoke("gpt2-shakespeare")
    learn, rates = stages.match, setting.matching.rates
    too_high = {("single", rates["single"][0]), ("dual", rates["dual"][1])}

    def match(*models, method, **options):
        if (method, options.get("lr")) in too_high:
            raise DivergedError("loss rose")
        return learn(*models, method=method, **options)

    monkeypatch.setattr(stages, "match", match)
    campaign = Campaign(setting, tmp_path, tmp_path, CPU, PLENTY)
    campaign.run()
    numbers = campaign.compared().to_json()
    assert [row == [None] for row in numbers["grids"]["single"]["barrier"]] == [True, False]
    assert {run["lr"] for run in numbers["methods"]["single"]["runs"]} == {rates["single"][1]}
    assert {run["lr"] for run in numbers["methods"]["dual"]["runs"]} == {rates["dual"][0]}
    results.write("b", "smoke", numbers, {"seeds": [0], "duration_s": 0.0})
    assert rates_table({"b": results.read("b", "smoke")}).text.count("diverged") == 2
    too_high |= {("single", rate) for rate in rates["single"]}
    with pytest.raises(DivergedError, match="gpt2-shakespeare: single matching diverged at every rate of its grid"):
        Campaign(setting, tmp_path / "none", tmp_path, CPU, PLENTY).run()


def test_a_chapter_shows_what_was_measured_where_the_corpora_are_not(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("LMC_TEST_DATA", raising=False)
    monkeypatch.setattr(prepared, "absent", lambda names, folder: list(names))
    gone = {True: "enwiki2015-2048, wikitext2-2048", False: "enwiki2015-2048"}  # the other, a hub has
    for offline, names in gone.items():
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        assert conduct(1, "pythia-wikipedia", "laptop").source == "committed"
        assert f"not computed again: {names} not here" in capsys.readouterr().out


# Data


def test_a_damaged_input_is_one_line(tmp_path):
    (tmp_path / "tinyshakespeare-2048-train.npz").write_bytes(b"not an array")
    with pytest.raises(
        DataError, match=r"tinyshakespeare-2048-train\.npz: damaged .*; delete it, and the next run makes it again"
    ):
        prepared.stream("tinyshakespeare-2048", "train", tmp_path)


def pictures(folder: Path) -> Pictures:
    task = task_of(smoke("vit-cifar10").shape, "synthetic-pictures", folder)
    assert isinstance(task, Pictures)
    return task


@pytest.mark.parametrize("id", ["gpt2-shakespeare", "vit-cifar10"])
def test_batches_depend_on_seed_and_step_alone(id, tmp_path):
    task = task_of(smoke(id).shape, smoke(id).corpus, tmp_path)
    first, again, later, other = (task.draw(4, order_of(*key)).inputs for key in ((0, 3), (0, 3), (0, 4), (1, 3)))
    assert torch.equal(first, again) and not torch.equal(first, later) and not torch.equal(first, other)


def test_augmented_images_are_the_shifted_and_mirrored_originals(tmp_path):
    task = pictures(tmp_path)
    drawn, size, margin = task.draw(16, order_of(0, 0)), task.shape.size, task.margin
    images, labels = task.pictures
    sources = torch.nn.functional.pad(images, (margin,) * 4).float() / 127.5 - 1
    windows = [sources[:, :, i : i + size, j : j + size] for i in range(2 * margin + 1) for j in range(2 * margin + 1)]
    every = torch.stack([w for window in windows for w in (window, window.flip(3))])  # (places × 2, n, 3, size, size)
    hits = (drawn.inputs[:, None, None] == every).flatten(3).all(-1)  # (16, places × 2, n)
    assert hits.any(1).any(1).all()
    assert torch.equal(labels[hits.any(1).int().argmax(1)], drawn.labels)
    assert len(hits.any(2).int().argmax(1).unique()) > 4


def test_matching_never_sees_evaluation_data(tmp_path):
    task = pictures(tmp_path)
    seen, held_out = task.samples(10**6), task.held_out("synthetic-pictures", 10**6)
    assert not set(map(bytes, seen.inputs.flatten(1).numpy())) & set(map(bytes, held_out.inputs.flatten(1).numpy()))


def test_token_files_come_from_the_text_and_rare_tokens_share_an_id(tmp_path, monkeypatch):
    from tokenizers import ByteLevelBPETokenizer

    (tmp_path / "data" / "tokenizers").mkdir(parents=True)
    letters = ByteLevelBPETokenizer()
    letters.train_from_iterator(["abcdefgh \n"], vocab_size=256)
    for file in map(Path, letters.save_model(str(tmp_path / "data" / "tokenizers"))):
        file.rename(file.with_name(f"gpt2_{file.name}"))
    (tmp_path / "data" / "plays").mkdir()
    text = "aaaaaaaabbbbccd\n" * 20
    (tmp_path / "data" / "plays" / "input.txt").write_text(text)
    monkeypatch.setenv("LMC_TEST_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(prepared.CORPORA, "plays", prepared.TextCorpus("plays", "gpt2"))
    monkeypatch.setitem(prepared.CORPORA, "plays-2", prepared.TextCorpus("plays", "gpt2", kept=2, ranked="plays"))
    other = prepared.TextCorpus(
        "letters", "gpt2", kept=2, ranked="plays", splits=("eval",)
    )  # counted on another corpus
    monkeypatch.setitem(prepared.CORPORA, "letters-2", other)
    (tmp_path / "data" / "letters").mkdir()
    for split, letters_of_it in {"train": "ab\n", "test": "dddddddba\n"}.items():
        (tmp_path / "data" / "letters" / f"{split}.txt").write_text(letters_of_it * 20)
    files = prepared.prepare(["plays", "plays-2", "synthetic-text"], tmp_path / "made")
    assert [f.name for f in files] == ["plays-train.npz", "plays-eval.npz", "plays-2-train.npz", "plays-2-eval.npz"]
    assert all(np.load(f)["ids"].dtype == np.uint16 for f in files)
    whole = [t for split in ("train", "eval") for t in prepared.stream("plays", split, tmp_path / "made").tolist()]
    assert letters.decode(whole) == text
    rare = prepared.windows(prepared.stream("plays-2", "eval", tmp_path / "made"), 16)
    assert rare[0].tolist() == [0] * 8 + [1] * 4 + [2] * 4  # a, b, and all else
    assert prepared.stream("letters-2", "eval", tmp_path / "made")[:10].tolist() == [2] * 7 + [1, 0, 2]


def test_what_cannot_be_prepared_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(prepared.CORPORA, "nowhere", prepared.TextCorpus("nowhere", "neox"))
    with pytest.raises(DataError, match=r"corpus 'nowhere': expected a folder nowhere in \$LMC_TEST_DATA, found none"):
        prepared.prepare(["nowhere"], tmp_path)


def test_the_corpora_of_an_item():
    assert corpora(work(1, "full")) == ["enwiki2015", "wikitext2"]
    assert corpora(work(6, "full")) == ["tinyshakespeare"]
    assert set(corpora(each for item in ITEMS for each in work(item, "full"))) <= prepared.CORPORA.keys()


# Arithmetic


def test_a_guess_is_the_entropy_of_what_was_seen(tmp_path):
    task = pictures(tmp_path)
    held_out = task.held_out("synthetic-pictures", 64)
    labels = task.pictures[1]
    share = torch.bincount(labels).double() / len(labels)
    assert task.guess(held_out) == pytest.approx(-share[held_out.labels].log().mean().item())


def test_training_that_diverges_is_said():
    trainer = Trainer(torch.nn.Linear(2, 1), TrainingRecipe(steps=1, batch=1, lr=0.5, warmup=0))
    with pytest.raises(DivergedError, match=r"training loss is nan at step 1: lower the rate \(0.5\)"):
        trainer.descend(trainer.model(torch.full((1, 2), torch.nan)).sum())


@pytest.mark.parametrize("kind", [TrainingRecipe, MuonRecipe])
def test_a_training_that_was_kept_goes_on_as_if_it_had_not_stopped(kind, tmp_path):
    """To the bit, whatever takes the steps. Muon's are for matrices between hidden units alone."""
    task, recipe = Digits(width=16, depth=1), kind(steps=6, batch=4, lr=1e-2, warmup=1)
    whole, _ = train(task, recipe, seed=0, progress=False)
    first, order = begun(task, recipe, seed=0)
    until(3, first, task, order)
    first.save(tmp_path / "state.safetensors")
    second, _ = begun(task, recipe, seed=1)
    second.restore(tmp_path / "state.safetensors")
    until(6, second, task, order)
    assert all(map(torch.equal, whole.parameters(), second.model.parameters()))
    if kind is MuonRecipe:
        names = {id(p): name for name, p in second.model.named_parameters()}
        (group,) = second.optimizers[0].param_groups
        assert {names[id(p)].split(".")[0] for p in group["params"]} == {"blocks"} and len(group["params"]) == 4


def test_shapes_build_the_stock_models_of_their_names():
    built = {type(s.shape).__name__: type(s.shape.build()).__name__ for s in (smoke(i) for i in ("pythia-14m", "olmo"))}
    assert built == {"NeoX": "GPTNeoXForCausalLM", "Olmo": "OlmoForCausalLM"}
    vit = Vit(1, 16, 2, size=8, patch=4, classes=3).build()
    assert type(vit).__name__ == "VisionTransformer" and vit(torch.zeros(1, 3, 8, 8)).shape == (1, 3)
