"""The evidence at larger sizes: curves over size, long matchings, one side or two."""

import math
from dataclasses import replace
from pathlib import Path

import pico
import pytest
import torch

import lmc
from lmc.errors import ArgumentError, DataError
from lmc.evaluation import Data, evaluate
from lmc.matching import Alignment, Recipe
from lmc.reproduce import results
from lmc.reproduce.experiments import (
    after_alignment,
    claims,
    evidence,
    long_matches,
    one_or_two,
    rerun,
    scaling,
    vision,
    where_it_ends,
)
from lmc.reproduce.experiments.long_matches import LongMatch, Study
from lmc.reproduce.experiments.permuting import Soft, StraightThrough
from lmc.reproduce.experiments.samples import Samples
from lmc.reproduce.experiments.stages import Campaign
from lmc.reproduce.runs import Comparison, RateGrid, Run, Sweep
from lmc.reproduce.training.budget import Budget
from lmc.reproduce.training.settings import smoke_setting
from lmc.symmetries import Transform


@pytest.fixture(autouse=True)
def fresh_results(tmp_path, monkeypatch):
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path / "results"))


# Curves over size


def test_an_exponent_and_its_interval():
    sizes = [100, 1000, 10_000]
    exact = scaling.power_law(sizes, [[2 * s**-0.5] * 2 for s in sizes])
    assert exact["exponent"] == pytest.approx(-0.5)
    assert exact["interval"] == pytest.approx([-0.5, -0.5])
    noisy = scaling.power_law(sizes, [[2 * s**-0.5, 3 * s**-0.5] for s in sizes])
    assert noisy["interval"][0] < -0.5 < noisy["interval"][1]
    assert scaling.power_law(sizes[:2], [[1.0], [0.5]]) is None
    assert scaling.power_law(sizes, [[1.0], [0.5], [0.0]]) is None


def test_a_new_pair_is_expected_where_the_law_and_its_scatter_say():
    sizes, draw = [100, 1000, 10_000], torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(400):  # of new pairs from the same law 95 of 100 are within
        noise = torch.randn(10, generator=draw).mul(0.3).exp().tolist()
        old = [[s**-0.5 * noise[3 * i + k] for k in range(3)] for i, s in enumerate(sizes)]
        low, high = rerun.expected(sizes, old, 1000)
        inside += low <= 1000**-0.5 * noise[9] <= high
    assert inside / 400 == pytest.approx(0.95, abs=0.03)
    assert rerun.expected(sizes, [[1.0], [0.5], [0.0]], 1000) is None


def test_a_rerun_has_seeds_of_its_own_and_is_held_against_the_curve(tmp_path):
    curve = results.read("scale-width-tokens", "laptop").sweep
    again, short = (rerun.settings()[id] for id in (rerun.AGAIN, rerun.SHORT))
    old = {seed for pair in scaling.settings()["width-128"].seeds for seed in pair}
    assert not old & {seed for pair in again.seeds for seed in pair}
    assert short.seeds == scaling.settings()["width-64"].seeds and short.recipe.steps == rerun.STEPS
    first = curve.compared[1].barriers("dual")
    found = rerun.held(curve, {"dual": [*first, 10.0]})["dual"]
    assert found["first"] == first and found["within"] == len(first)
    small = replace(smoke_setting(again), id=rerun.AGAIN)
    Campaign(small, tmp_path / "work", tmp_path, torch.device("cpu"), Budget(600)).run(only=0)
    rerun.write(small, tmp_path / "work", tmp_path)
    assert results.read(rerun.AGAIN, "laptop").numbers["held"]["dual"]["again"]


def test_the_search_for_equal_loss_ends_where_the_curve_meets_the_target(tmp_path, monkeypatch):
    found = scaling.Scaling(tmp_path, tmp_path / "inputs", Budget(60))
    setting = found.settings["width-128"]
    asked = []

    def pilot(self, setting, steps):
        asked.append(steps)
        return 6.0 - 0.3 * math.log(steps)

    monkeypatch.setattr(scaling.Scaling, "target", lambda self: 3.8)
    monkeypatch.setattr(scaling.Scaling, "pilot", pilot)
    steps = found.steps_to_target(setting)
    assert steps == pytest.approx(math.exp(2.2 / 0.3), rel=scaling.CLOSE / 0.3)
    assert len(asked) <= scaling.PILOTS
    assert found.steps_to_target(setting) == steps and asked.count(asked[-1]) == 1  # kept, not searched again
    assert scaling.of_length(setting, steps).recipe.steps == steps
    narrow = found.settings["width-64"]
    assert scaling.of_length(narrow, found.steps_to_target(narrow)) == narrow


def test_equal_loss_needs_the_narrowest_network_first(tmp_path):
    with pytest.raises(ArgumentError, match="width-64"):
        scaling.Scaling(tmp_path, tmp_path / "inputs", Budget(60)).target()


def test_curves_are_written_from_what_the_campaign_left(tmp_path, monkeypatch):
    small = {id: smoke_setting(setting) for id, setting in scaling.settings().items() if id.startswith("width")}
    widths = {id: 16 + 8 * i for i, id in enumerate(small)}
    small = {id: replace(s, shape=replace(s.shape, width=widths[id])) for id, s in small.items()}
    monkeypatch.setattr(scaling, "settings", lambda: small)
    monkeypatch.setattr(scaling, "WIDTHS", {64: 1, 128: 1, 256: 1})
    monkeypatch.setattr(scaling, "DEPTHS", (4,))
    made = scaling.Scaling(tmp_path, tmp_path / "inputs", Budget(600))
    assert made.write() == []
    for id in list(small)[:3]:
        made.pair(id, 0, "tokens")
    assert made.write() == ["scale-width-tokens", "scale-depth-tokens"]
    found = results.read("scale-width-tokens", "laptop")
    assert found.sweep.points == (16, 24, 32) and len(found.sweep.parameters or ()) == 3
    assert all(len(compared.barriers(name)) == 1 for compared in found.sweep.compared for name in found.sweep.methods)
    assert found.sweep.to_json() == found.numbers
    assert found.run["duration_s"] > 0 and found.run["costs"]["width-64"]["training"]


def test_no_pilot_serves_in_a_pair_and_pairs_are_disjoint():
    for setting in [*scaling.settings().values(), *vision.SETTINGS.values()]:
        seeds = [seed for pair in setting.seeds for seed in pair]
        assert len(set(seeds)) == len(seeds) and scaling.PILOT not in seeds


# Long matchings


@pytest.fixture
def few(monkeypatch):
    """Studies on a few samples only."""
    of = Samples.of

    def small(pair, model):
        whole = of(pair, model)
        return Samples(*(getattr(whole, split)[:24] for split in ("train", "match", "eval")))

    monkeypatch.setattr(Samples, "of", small)
    for name in ("GRID", "SEEN_GRID"):
        monkeypatch.setattr(long_matches, name, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["vit-digits-0", "tune", "--of", "ab"], "of: expected a or b, the parent that is trained on, found 'ab'"),
        (["vit-digits", "start"], "pair: expected a shipped pair, as neox-docstrings-0, found 'vit-digits'"),
        (["vit-digits-１", "start"], "pair: expected a shipped pair, as neox-docstrings-0, found 'vit-digits-１'"),
    ],
)
def test_a_wrong_word_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert where_it_ends.main([*arguments, "--folder", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


@pytest.mark.usefixtures("few")
def test_every_piece_is_made_once_and_written_down(tmp_path, monkeypatch):
    study = Study("vit-digits-0", tmp_path)
    study.start()
    wanted = [LongMatch(2, drawn, batch=4, lr=1e-2) for drawn in ("middle", "adaptive")]
    on_eval, few = LongMatch(2, "middle", "eval", 4, 1e-2), LongMatch(2, windows=16, patience=1, batch=4, lr=1e-2)
    for each in [*wanted, on_eval, few]:
        study.match(each)
    study.closed(8)
    study.tune("a", 2, 1e-3, 4)
    study.after(wanted[0].name, 2, 1e-3, 4)
    monkeypatch.setattr(after_alignment, "AGAIN", 2)
    after_alignment.survive(study, wanted[0].name, 2, 1e-3, "train", 4)
    kept = study.pieces.all()
    assert len(kept) == 9
    found = kept[wanted[1].name]
    assert found["record"]["seconds"] > 0
    assert found["record"]["drawn"] == "adaptive" and found["path"]["samples"] == 24
    assert found["to_better"][1] <= found["to_better"][0] <= found["to_better"][2]
    assert all(-1 <= value <= 1 for value in found["agreement"].values())
    moved = kept[f"after-{wanted[0].name}-train-4x2-0.001"]
    assert 0 < moved["share"] < 1
    monkeypatch.setattr(Study, "walk", None)  # nothing is measured again
    study.match(wanted[0])
    study.start()

    assert where_it_ends.write("vit-digits", tmp_path) == "where-it-ends-vit-digits"
    numbers = results.read("where-it-ends-vit-digits", "laptop").numbers
    assert Sweep.from_json(numbers).to_json() == numbers
    (end,) = numbers["ends"].values()
    assert numbers["headline"]["barrier of the longest match"] == end["barrier"]
    assert end["barrier"] <= numbers["methods"]["λ: middle"]["barrier"][0][0]  # of equal lengths the lower one
    assert end["tuned"][0]["steps"] == 2 and end["after"][0]["share"] == pytest.approx(moved["share"])
    assert end["lower bound, steps"] == 2
    trained_on = numbers["losses"]["first parent, trained on for 2 steps"]["mean"]
    assert trained_on == pytest.approx(end["tuned"][0]["loss"]) != numbers["losses"]["first parent"]["mean"]
    assert numbers["points"] == [2] and set(numbers["methods"]) == {"λ: middle", "λ: adaptive"}
    assert numbers["methods"]["λ: adaptive"]["barrier"][0][0] == pytest.approx(found["path"]["barrier"])


def test_what_was_read_and_early_stops_are_lines_of_their_own():
    def piece(barrier, seen, **more):
        return {"windows": 16, "method": "dual", "seed": 0, **walked(barrier), "seen": walked(seen)["path"], **more}

    swept = where_it_ends.over_data({"x-0": {"plain": piece(0.9, 0.0), "early": piece(0.5, 0.1, patience=2)}})
    (at,) = swept.compared
    assert {name: at.barriers(name) for name in swept.methods} == {
        "dual": [0.9],
        where_it_ends.SEEN: [0.0],
        "dual, stopped early": [0.5],
    }


def test_the_agreement_of_units_is_by_layer_and_steps():
    def piece(steps, drawn, value):
        return {"method": "dual", "steps": steps, "drawn": drawn, "read": "train", "agreement": {"head": value}}

    found = {"a": piece(100, "adaptive", 0.2), "b": piece(3000, "adaptive", 0.1), "c": piece(100, "middle", 0.9)}
    other = {"a": piece(100, "adaptive", 0.4)}
    rows = where_it_ends.agreement({"x-0": found, "x-1": other})
    assert rows == {"head": {"100 steps": pytest.approx(0.3), "3000 steps": 0.1}}


def test_enough_data_is_where_learning_stays_below_activations():
    def piece(windows, barrier, method="dual"):
        kept = {"barrier": barrier, "interval": [barrier, barrier]}
        return {"windows": windows, "method": method, "seed": 0, "path": kept}

    learned, closed = (0.9, 0.3, 0.5, 0.1), (0.4, 0.4, 0.4, 0.4)
    found = {f"l{i}": piece(2**i, b) for i, b in enumerate(learned)}
    found |= {f"c{i}": piece(2**i, b, "activations") for i, b in enumerate(closed)}
    over = where_it_ends.over_data({"x-0": found})
    assert over.points == (1, 2, 4, 8) and [found.barriers("dual") for found in over.compared] == [[b] for b in learned]
    assert over.rest["enough"] == 8  # at 2 it was below too, but not from there on
    assert where_it_ends.over_data({"x-0": {}}).rest["enough"] is None


def test_what_learning_the_order_gains_is_compared_at_as_many_steps():
    def piece(steps, barrier, order=None, **more):
        known = {
            "steps": steps,
            "method": "dual",
            "drawn": "middle",
            "read": "train",
            "order": order,
            **walked(barrier),
        }
        return known | ({"reordered": 0.5} if order else {}) | more

    found = {"plain": piece(300, 0.2), "longer": piece(1000, 0.1), "few": piece(300, 0.9, windows=4)}
    assert where_it_ends.orders({"x-0": found}) == {}  # nothing to compare with
    found["order"] = piece(300, 0.3, "soft")
    rows = where_it_ends.orders({"x-0": found})
    assert rows["dual, order as it is"] == {"pairs": 1, "barrier": 0.2}
    assert rows["dual, soft"] == {"pairs": 1, "barrier": 0.3, "share of units moved": 0.5}


def walked(barrier):
    return {"path": {"barrier": barrier, "interval": [barrier, barrier]}}


def test_what_lasts_is_put_in_order_of_further_training():
    def piece(steps, read, barrier):
        labels = [*evidence.LINES.values(), "old transforms, old endpoints"]
        return {"steps": steps, "read": read, "lines": {label: walked(barrier) for label in labels}}

    start = {"methods": {"naive": walked(2.0)}}
    found = {"start": start, "survived-x-500": piece(500, "train", 0.5), "survived-x-50": piece(50, "train", 0.1)}
    found["survived-x-match"] = piece(150, "match", 0.3)
    swept = evidence.lasting({"x-0": found})
    assert swept.points == (50, 500) and [at.mean(evidence.OLD) for at in swept.compared] == [0.1, 0.5]
    assert swept.rest["before"] == {"naive": [2.0], evidence.OLD: [0.5]}
    assert swept.rest["other data"]["x-0"][evidence.OLD] == 0.3
    assert Sweep.from_json(swept.to_json()).to_json() == swept.to_json()
    assert not evidence.lasting({"x-0": {"start": start}}).points


@pytest.mark.usefixtures("few")
def test_all_evidence_is_made_by_one_command_and_goes_on(tmp_path, monkeypatch, capsys):
    for name, value in {"STEPS": (2,), "BATCH": {"vit-digits": 4}, "PAIRS": 1}.items():
        monkeypatch.setattr(evidence, name, value)
    assert evidence.main(["vit-digits", "--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("written: where-it-ends-vit-digits\n")
    made = sorted((tmp_path / "vit-digits-0").glob("*.json"))
    monkeypatch.setattr(Study, "walk", None)  # nothing is measured again
    assert evidence.main(["vit-digits", "--folder", str(tmp_path)]) == 0
    assert sorted((tmp_path / "vit-digits-0").glob("*.json")) == made
    assert "evidence vit-digits" in results.read("where-it-ends-vit-digits", "laptop").run["command"]


def test_more_windows_contain_fewer():
    few, more = (long_matches.subset(100, count, seed=0) for count in (8, 32))
    assert set(few.tolist()) < set(more.tolist())


def test_nothing_to_write_is_said(tmp_path):
    with pytest.raises(DataError, match="none"):
        where_it_ends.write("vit-digits", tmp_path)


# One side or two


def test_pairs_count_once_and_a_difference_is_in_naive_barriers():
    made = [("x", 0), ("y", 0), ("x", 1)]
    barriers = {"single": [0.2, 0.4, 0.4], "dual": [0.1, 0.4, 0.3]}
    runs = [Run("naive", 1.0, "x"), Run("naive", 2.0, "y")]
    for method, row in barriers.items():
        runs += [Run(method, b, pair, settings={"seed": s}) for b, (pair, s) in zip(row, made, strict=True)]
    found = one_or_two.paired(Comparison(tuple(runs)))
    assert found["x"]["share"] == pytest.approx(-0.1) and found["x"]["seeds"] == [0, 1]
    assert found["y"]["share"] == 0


def test_rates_are_compared_where_both_have_them():
    grids = {
        "single": RateGrid((0.01, 0.02), ((0.4,), (None,))),
        "dual": RateGrid((0.005, 0.01), ((0.3,), (0.2,))),
    }
    assert [(row["rate"], row["share"]) for row in one_or_two.at_rates(grids, [2.0], 1.0)] == [(0.01, -0.1)]
    assert [row["rate"] for row in one_or_two.at_rates(grids, [2.0], 2.0)] == [0.005]  # the other one diverged


def test_a_verdict_says_no_more_than_the_interval():
    assert "lower" in one_or_two.verdict(one_or_two.interval([-0.02, -0.01] * 5))
    assert "higher" in one_or_two.verdict(one_or_two.interval([0.02, 0.01] * 5))
    assert "told from none" in one_or_two.verdict(one_or_two.interval([0.02, -0.02] * 5))
    assert "too few" in one_or_two.verdict(one_or_two.interval([-0.02] * 4))


def test_pairs_are_counted_on_the_other_text_too(monkeypatch):
    def compared(dual, also=None):
        runs = [Run("naive", 1.0, "x"), *(Run(m, b, "x", settings={"seed": 0}) for m, b in (("single", 0.2), dual))]
        return Comparison(tuple(runs), also=also or {})

    found = one_or_two.Found()
    found.add("home", "text", compared(("dual", 0.1), {"wikitext2-2048": compared(("dual", 0.3))}), {})
    found.add("alone", "text", compared(("dual", 0.1)), {})
    said = found.on_other_text()
    assert list(said["experiments"]) == ["home"]
    assert (said["there"]["lower"], said["there"]["higher"]) == (0, 1) and said["there"]["mean"] == pytest.approx(0.1)
    assert (said["at home"]["lower"], said["at home"]["higher"]) == (1, 0)  # the same pair, on the text it learned
    assert found.together("text")["best"]["pairs"] == 2  # the other text makes no new pairs


def test_the_committed_experiments_are_all_counted(monkeypatch):
    monkeypatch.setattr("sys.argv", ["one_or_two"])
    found = one_or_two.measured()
    assert set(found["experiments"]) >= {*one_or_two.TEXT, *one_or_two.VISION}
    best = found["together"]["all"]["best"]
    assert best["pairs"] == sum(len(rows) for rows in found["experiments"].values())
    low, high = best["interval"]
    assert low < best["mean"] < high
    assert one_or_two.main() == 0
    written = results.read("one-or-two", "laptop").numbers
    assert written["headline"]["dual − single, all, best rates"] == pytest.approx(best["mean"], rel=1e-6)


# Permutations that learn


def permuting(kind, dtype=torch.float64, **recipe):
    models = [lmc.canonicalize(pico.neox(seed=k, dtype=dtype, layer_norm_eps=1e-2)) for k in range(2)]
    start = [Transform.random(lmc.spec(models[0]), seed=k) for k in range(2)]
    made = kind.of(models, start, range(2), Recipe(**recipe), seed=0, dtype=dtype)
    return made, Data(pico.inputs(models[0], n=8, seed=3)), models


def test_gradients_of_soft_permutations_match_finite_differences():
    made, data, _ = permuting(Soft)
    with lmc.float64():
        made.arrange()
        made.gradients(data)
        wanted = made.wanted
        for k, space in ((0, made.permuted[0]), (1, made.permuted[1])):
            before = made.scores[k][space.name].clone()
            exact = made.through(k, space, wanted[k][space.name])
            along = torch.randn(before.shape, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
            values = []
            for h in (1e-5, -1e-5):
                made.scores[k][space.name] = before + h * along
                made.arrange()
                values.append(made.gradients(data)[0])
            made.scores[k][space.name] = before
            made.arrange()
            assert (values[0] - values[1]) / 2e-5 == pytest.approx(float((exact * along).sum()), rel=1e-6)


@pytest.mark.parametrize("kind", [StraightThrough, Soft])
def test_learned_orders_are_exact_symmetries_in_the_end(kind, monkeypatch):
    """The transforms keep the endpoints' functions; of straight-through learning they give the line it saw."""
    monkeypatch.setattr(
        "lmc.reproduce.experiments.permuting.RATE", 2.0
    )  # so that units change places within a few steps
    made, data, models = permuting(kind, steps=6, lr=1e-2, batch=4, warmup=1)
    with lmc.float64():
        for _ in range(6):
            made.advance(data)
        line = made.line(data, [0.0, 0.5, 1.0])
        alignment = Alignment("dual", tuple(models), made.transforms(made.elements), {})
        exact = [float(evaluate(alignment.merge(at), data)[0].mean()) for at in (0.0, 0.5, 1.0)]
        ends = [float(evaluate(model, data)[0].mean()) for model in models]
    assert made.reordered() > 0
    assert [exact[0], exact[2]] == pytest.approx(ends, abs=1e-10)
    if kind is StraightThrough:
        assert line == pytest.approx(exact, abs=1e-10)
    else:
        assert line[1] != pytest.approx(exact[1], abs=1e-6)


# The claims


def test_every_claim_has_a_verdict_and_names_its_results(monkeypatch):
    numbers = claims.collected()
    assert {row["claim"] for row in numbers["rows"]} == set(claims.CLAIMS)
    for row in numbers["rows"]:
        assert row["verdict"].startswith((claims.SEEN, claims.UNSEEN, claims.UNTESTED))
        assert row["whose"] == claims.CLAIMS[row["claim"]].whose
        assert bool(row["results"]) != (row["verdict"] == claims.UNTESTED)
        assert all(results.exist(id, "laptop") for id in row["results"].split(", ") if id)
    assert all(row["claim"] in claims.claims_table(numbers).text for row in numbers["rows"])
    loss, elsewhere = (row for row in numbers["rows"] if row["results"] == "scale-width-loss")
    falls = f"{claims.PARTLY}: it falls, the largest leave less than any of the smallest"  # no slope, as one is zero
    assert loss["verdict"].startswith(f"{falls}; but shorter training makes 84% of the difference between width 64 and")
    assert "WikiText-2" in elsewhere["tested"] and elsewhere["verdict"] == f"{claims.UNSEEN}: it goes up and down"
    monkeypatch.setattr(claims, "NEAR", -1.0)  # nothing is as near as that
    assert {row["verdict"] for row in claims.near_zero()} == {claims.UNSEEN}
    monkeypatch.setattr(claims, "NEAR", 1.0)
    assert {row["verdict"] for row in claims.near_zero()} == {claims.SEEN}
