"""Two sizes, fine-tunes that move, and the neighbours' methods: what is exact is exact, what is not says so."""

from functools import partial, reduce
from pathlib import Path
from typing import Any

import pico
import pytest
import torch

import lmc
from lmc.evaluation import Data
from lmc.matching import taught, with_change
from lmc.reproduce import results
from lmc.reproduce.draw import draw
from lmc.reproduce.experiments import (
    beyond,
    fine_tunes,
    neighbours,
    shared_starts,
    three_networks,
    two_sizes,
    two_tasks,
)
from lmc.reproduce.experiments.analyses import loss, similarity
from lmc.reproduce.experiments.controls import finetune
from lmc.reproduce.experiments.samples import Samples
from lmc.reproduce.training.tasks import Digits
from lmc.reproduce.training.trainer import TrainingRecipe, begun, train, until
from lmc.symmetries.exactness import relative_change
from lmc.symmetries.groups import Permutation


def data_of(model: Any, n: int = 24) -> Data:
    inputs = pico.inputs(model, n=n)
    return Data(inputs) if inputs.dtype == torch.int64 else Data(inputs, torch.arange(n) % 10)


@pytest.mark.parametrize("row", neighbours.ROWS)
def test_both_ends_of_a_narrower_alignment_are_the_parents(row: str) -> None:
    a, b = pico.neox(0), pico.neox(1)
    found = neighbours.narrowed((a, b), row, pico.inputs(a, n=24))
    with lmc.float64():
        assert max(found.end_error(k) for k in range(2)) <= 1e-9
    stays = torch.equal(found.transforms[1].elements["stream"], torch.eye(16, dtype=torch.float64))
    assert stays == ("stream" not in neighbours.ROWS[row].groups)
    units = lmc.spec(a).space("hidden.0")
    assert isinstance(units.group, Permutation) and (found.transforms[1].elements["hidden.0"].diff() != 1).any()


def test_permutations_that_were_planted_are_found() -> None:
    a = lmc.canonicalize(pico.neox(0))
    spec = lmc.spec(a)
    whole = lmc.Transform.random(spec, seed=1)
    planted = {k: e for k, e in whole.elements.items() if spec.kind(k) in ("head", "hidden")}
    b = lmc.Transform(spec, {**lmc.Transform.identity(spec).elements, **planted}).apply(a)
    middle = neighbours.narrowed((a, b), "permutations, by weights").merge(0.5)
    inputs = pico.inputs(a)
    assert relative_change(pico.logits(a, inputs), pico.logits(middle, inputs)) <= 1e-6


def test_a_curve_keeps_its_ends_and_bends() -> None:
    a, b = pico.neox(0, torch.float32), pico.neox(1, torch.float32)
    curve = neighbours.curved(lmc.match(a, b, method="naive"), pico.inputs(a, n=24), steps=3)
    inputs = pico.inputs(a)
    for at, end in ((0, a), (1, b)):
        assert relative_change(pico.logits(end, inputs), pico.logits(curve.merge(at), inputs)) <= 1e-5
    straight = lmc.match(a, b, method="naive").merge(0.5)
    assert relative_change(pico.logits(straight, inputs), pico.logits(curve.merge(0.5), inputs)) > 1e-3


def test_a_kernel_sees_no_rotation_and_channels_do() -> None:
    a = lmc.canonicalize(pico.neox(0))
    g = lmc.Transform.random(lmc.spec(a), seed=1).only("stream")
    found = similarity((a, g.apply(a)), Data(pico.inputs(a, n=24)))
    assert min(found["centred kernel alignment"]) > 1 - 1e-9 and max(found["by channel"]) < 0.9


def test_many_are_permuted_straight_through_and_stay_what_they_are() -> None:
    """The first is kept; one that is a permuted copy of it finds its way back, whatever the third is."""
    models = [pico.neox(seed, torch.float32) for seed in range(2)]
    g = lmc.Transform.random(lmc.spec(models[0]), seed=1)
    spec, first = g.spec, lmc.canonicalize(models[0])
    kept = {k: e for k, e in g.elements.items() if spec.kind(k) in ("head", "hidden")}
    copy = lmc.Transform(spec, {**lmc.Transform.identity(spec).elements, **kept}).apply(first)
    found = neighbours.straight_through((first, copy, models[1]), pico.inputs(first, n=24), steps=2)
    inputs = pico.inputs(first)
    assert max(found.end_error(k) for k in range(3)) < 1e-4
    middle = found.merge([0.5, 0.5, 0])
    assert relative_change(pico.logits(first, inputs), pico.logits(middle, inputs)) <= 1e-4
    assert (found.transforms[2].elements["hidden.0"].diff() != 1).any()


def test_branches_share_a_trunk_and_nothing_else() -> None:
    """After all steps the two are one network, that of an ordinary training; before, they part."""
    task, recipe = Digits(16, 1), TrainingRecipe(steps=4, batch=8, lr=1e-3, warmup=1)
    apart = {shared: pair for shared, pair in shared_starts.branches(task, recipe, 3, after=(0, 2, 4))}
    whole, _ = train(task, recipe, 3, progress=False)
    images = task.samples(8).inputs
    for model in apart[4]:
        assert torch.equal(model(images), whole(images))
    far = {shared: float((pair[0](images) - pair[1](images)).detach().norm()) for shared, pair in apart.items()}
    assert far[0] > far[2] > far[4] == 0
    trainer, order = begun(task, recipe, 3)
    until(2, trainer, task, order)
    until(4, trainer, task, order)
    assert torch.equal(trainer.model(images), whole(images))


@pytest.mark.parametrize(
    ("barriers", "since"), [([4.0, 0.3, 0.1, 0.0], 10), ([4.0, 0.1, 0.3, 0.1], 30), ([4.0, 0.1, 0.1, 0.3], 99)]
)
def test_runs_are_joined_from_where_no_barrier_follows(barriers: list[float], since: int) -> None:
    """A twentieth of the naive barrier of nothing shared is the bound; one that is never low has all steps."""
    starts = {
        shared: {"naive": {"barrier": 4.0}, "dual": {"barrier": barrier}}
        for shared, barrier in zip(("0", "3", "10", "30"), barriers, strict=True)
    }
    assert beyond.joined({"starts": starts, "steps": 99}, "dual") == since


def test_changes_of_two_tasks_add_up_where_bases_are_copies() -> None:
    """On a rewritten copy what was carried computes what the base would with the changes of one task, or of both."""
    base = pico.neox(0)
    g = lmc.Transform.random(lmc.spec(base), seed=1)
    target, data = g.apply(lmc.canonicalize(base)), data_of(base)
    other = Data(data.inputs.flip(0))
    rows = two_tasks.added_up(target, (base, base), {"one": (data, data), "other": (other, data)}, data, tuned=3)
    found = rows["losses"]["one"]
    tuned = [finetune(base, new, 3, fine_tunes.TUNING_RATE, seed=k)[0] for k, new in enumerate((data, other))]
    assert found["one, carried"] == pytest.approx(loss(tuned[0], data), abs=1e-6)
    both = reduce(with_change, [taught(base, each) for each in tuned], lmc.canonicalize(base))
    assert found["both, carried"] == pytest.approx(loss(both, data), abs=1e-6)
    assert abs(found["both, carried"] - found["one, carried"]) > 1e-4
    assert abs(found["both, unmoved"] - found["both, carried"]) > 1e-4
    assert rows["closed"]["one"]["one, tuned itself"] == 1 and rows["closed"]["one"]["base"] == 0


def test_pieces_are_kept_and_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path / "results"))
    a, b = pico.neox(0, torch.float32), pico.neox(1, torch.float32)
    text = data_of(a)
    given = Samples(text, text, text)
    made = {
        "fine-tunes": fine_tunes.tuned_and_carried("neox-docstrings", (a, b), given, {"new": (text, text)}, 2, 2),
        "neighbours": neighbours.side_by_side("neox-docstrings-0", (a, b), given, 2),
        "three-networks": three_networks.side_by_side((a, b, pico.neox(2, torch.float32)), text, text, 2, 1e-2),
        "two-tasks": two_tasks.added_up(b, (a, a), {"one": (text, text), "other": (text, text)}, text, 2),
    }
    for experiment, piece in made.items():
        for number in range(2):
            for found in (piece, {}):  # the second time nothing is made
                kept = beyond.kept(experiment, "neox-docstrings", tmp_path)
                kept.piece(f"neox-docstrings-{number}", partial(dict, found))
        given_ = [experiment, "neox-docstrings", "--write", "--folder", str(tmp_path)]
        beyond.main(given_)
    tuned = results.read("fine-tunes-neox-docstrings", "laptop").numbers
    rows = tuned["shifts"]["new"]
    assert rows["base"]["closed"] == [0, 0] and rows["tuned itself"]["closed"] == pytest.approx([1, 1])
    found = results.read("neighbours-neox-docstrings", "laptop")
    assert found.numbers["count"] == 2 and len(found.comparison.barriers("naive")) == 2
    assert found.numbers["layers, naive"]["layer 0"][0] == pytest.approx(made["neighbours"]["layers, naive"]["layer 0"])
    many = results.read("three-networks-neox-docstrings", "laptop").comparison
    assert many.barriers("naive") == pytest.approx([made["three-networks"]["rows"]["naive"]["barrier"]] * 2)
    drawn = {"grouped_figure": ("fine-tunes", "two-tasks"), "ablation_figure": ("neighbours", "three-networks")}
    for draw_by, ids in drawn.items():
        for id in ids:
            draw(draw_by, results.read(f"{id}-neox-docstrings", "laptop").numbers)


def test_runs_of_one_start_become_a_sweep_from_nothing_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed is the number in the name; zero shared steps have their place on the axis of the figure."""
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path / "results"))
    task = Digits(16, 1)
    monkeypatch.setattr(shared_starts, "TASKS", {"vit-digits": task})
    monkeypatch.setattr(shared_starts, "STEPS", {"vit-digits": 5})
    monkeypatch.setattr(shared_starts, "AFTER", (0, 3, 9))
    data, pair = task.samples(32), (task.shape.build(), task.shape.build())
    for seed in range(2):
        name = f"vit-digits-{seed}"
        make = partial(shared_starts.every_start, name, pair, Samples(data, data, data), 1)
        found = beyond.kept("shared-starts", "vit-digits", tmp_path).piece(name, make)
        assert list(found["starts"]) == ["0", "3"] and len(found["starts"]["0"]["losses"]) == 2
    beyond.main(["shared-starts", "vit-digits", "--write", "--folder", str(tmp_path)])
    swept = results.read("shared-starts-vit-digits", "laptop")
    assert swept.sweep.points == (0, 3) and len(swept.sweep.compared[1].barriers("dual")) == 2
    assert swept.numbers["starts"]["0"]["losses"][0][0] != swept.numbers["starts"]["0"]["losses"][0][1]
    axes = draw("sweep_figure", swept.numbers).axes[0]
    assert axes.get_xscale() == "symlog" and list(axes.get_xticks()) == [0, 3]


@pytest.mark.filterwarnings("ignore:.*it is written in the larger one's shapes:UserWarning")
def test_a_small_network_is_matched_in_the_shapes_of_the_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends of every line are the parents, and what is better than which parent is counted."""
    monkeypatch.setattr(two_sizes, "smaller", lambda kind: {"half the width": Digits(16, 1)})
    task = Digits(32, 1)
    large, data = task.shape.build().eval(), task.samples(32)
    found = two_sizes.every_size("vit-digits-0", (large, large), Samples(data, data, data), steps=1, trained=6)
    row = found["sizes"]["half the width"]
    for method in two_sizes.METHODS:
        assert [row[method]["losses"][end] for end in (0, -1)] == pytest.approx(row["losses"], abs=1e-4)
    better = beyond.two_sizes_numbers({"vit-digits-0": found})["better"]
    assert better["than the small"] == (row["dual"]["middle"] < row["losses"][0]) and better["cases"] == 1


def test_what_is_no_pair_is_refused(tmp_path: Path) -> None:
    for of in ("vit-digits-x", "pairs-0", "vit-digits-9"):
        with pytest.raises(lmc.ArgumentError, match=r"of: expected one of neox-docstrings, .*, found"):
            beyond.piece("two-sizes", of, tmp_path)
    with pytest.raises(lmc.DataError, match="expected a measured pair of vit-digits, found none"):
        beyond.write("two-sizes", "vit-digits", tmp_path)
