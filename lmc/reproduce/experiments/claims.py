"""What the paper and its predecessor claim: what was tested here, at what size, the number, and what that comes to.

    python -m lmc.reproduce.experiments.claims    # from results that are there; prints the table

A verdict says *seen here*, *seen here in part*, *not seen here* or *not tested*; sizes here are far below the paper's,
so none is a verdict on the claim itself. Every row names the results it was made from.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from lmc.reproduce import results
from lmc.reproduce.figures import Markdown
from lmc.reproduce.pair_means import mean
from lmc.reproduce.runs import Comparison, Run, Sweep
from lmc.reproduce.training.budget import command

PROFILE = "laptop"  # of the results that the verdicts are read from
NEAR = 0.05  # of the naive barrier: what is called near zero
NARROWEST = 64  # channels: networks of LANGUAGE have as many, and rows of their own
TRAINED = {"tokens": "on as many tokens", "loss": "to about one loss"}
STAYS = 0.05  # of the worse endpoint's accuracy: how much of it a path that stays up may lose
CHANCE = 0.05  # of a sign test: above, a difference may be luck
LANGUAGE = ("pythia-wikipedia", "olmo-wikipedia")
VISION = ("cifar10-128", "cifar10-192", "tiny-imagenet-128", "vit-cifar10", "vit-tiny-imagenet")
CURVES = ("scale-width-tokens", "scale-width-loss", "scale-depth-tokens", "scale-depth-loss")
ABLATIONS = {
    "ablation-text": ("language models of documentation", "nats per byte"),
    "ablation-vit": ("vision transformers on digits", "nats per image"),
}
SEEN, PARTLY, UNSEEN, UNTESTED = "seen here", "seen here in part", "not seen here", "not tested"
LUCK = "; luck alone may lose as much"
MATTERS = "stream rotation"
PAPER, PREDECESSOR, OURS = "the paper", "Theus et al. (2025)", "a question of ours"
Row = dict[str, Any]


class Claim(NamedTuple):
    """Whose it is, and the rows of the table that say what came of it."""

    whose: str
    rows: Callable[[], list[Row]]


def near_zero() -> list[Row]:
    """Near-zero barriers on WikiText, for language models of medium size."""
    rows = []
    for id in LANGUAGE:
        compared = results.read(id, PROFILE).comparison
        setting, cosines = compared.rest["setting"], [parents.cosine for parents in (compared.endpoints or {}).values()]
        found, dual = _on_wikitext(compared), _on_wikitext(compared).summary["dual"]
        naive = {run.pair: run.barrier for run in found.methods["naive"]}
        by_pair = _by_pair(found.methods["dual"])
        near = [_mean([_high(run) for run in runs]) <= NEAR * naive[pair] for pair, runs in by_pair.items()]
        low, high = dual.interval
        rows.append(
            {
                "tested": f"{setting['model']}, {_size(setting)}, on WikiText-2, {len(by_pair)} pairs",
                "number": f"dual {dual.barrier:.4f} nats per token, {dual.ratio:.1%} of naive; by pair "
                f"{_list([_mean([run.barrier for run in runs]) for runs in by_pair.values()], '.4f')}; over windows of "
                f"text [{low:.4f}, {high:.4f}]; cosines of the weights {_list(cosines, '.2f')}",
                "verdict": _share(near, "pairs"),
                "results": id,
            }
        )
    return rows + [_near_on_curves(equal) for equal in ("tokens", "loss")]


def _near_on_curves(equal: str) -> Row:
    """The same of the networks of other sizes, all together."""
    near: dict[str, list[bool]] = {}
    shares = []
    ids = [id for id in CURVES if id.endswith(equal) and results.exist(id, PROFILE)]
    for numbers in (numbers for id in ids for numbers in results.read(id, PROFILE).sweep.rest["settings"]):
        compared, setting = _on_wikitext(Comparison.from_json(numbers)), numbers["setting"]
        if _size(setting) in near or setting["shape"]["width"] <= NARROWEST or "dual" not in compared.methods:
            continue
        naive = {run.pair: run.barrier for run in compared.methods["naive"]}
        duals = compared.methods["dual"]
        near[_size(setting)] = [_high(run) <= NEAR * naive[run.pair] for run in duals]
        shares += [run.barrier / naive[run.pair] for run in duals]
    held = [each for row in near.values() for each in row]
    counts = "; ".join(f"{size}: {sum(row)} of {len(row)} pairs" for size, row in near.items())
    return {
        "tested": f"NeoX, other sizes, trained {TRAINED[equal]}, on WikiText-2, {len(held)} pairs",
        "number": f"dual leaves {min(shares):.1%} to {max(shares):.1%} of naive; near zero on {counts}",
        "verdict": _share(held, "pairs"),
        "results": ", ".join(ids),
    }


def _on_wikitext(compared: Comparison) -> Comparison:
    (found,) = (also for corpus, also in compared.also.items() if corpus.startswith("wikitext2"))
    return found


def _by_pair(runs: Sequence[Run]) -> dict[str, list[Run]]:
    return {pair: [run for run in runs if run.pair == pair] for pair in dict.fromkeys(run.pair for run in runs)}


def _high(run: Run) -> float:
    """The upper end of a run's interval."""
    return run.interval[1] if run.interval else math.inf


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _list(values: Sequence[float], how: str) -> str:
    return ", ".join(f"{value:{how}}" for value in values).replace("-", "−")


def _share(held: Sequence[bool], what: str) -> str:
    """Seen, seen in part, or not seen: by how many of several it holds for."""
    if not any(held):
        return UNSEEN
    return SEEN if all(held) else f"{PARTLY}: on {sum(held)} of {len(held)} {what}"


def _size(setting: Mapping[str, Any]) -> str:
    return f"{setting['shape']['layers']} × {setting['shape']['width']}"


def _pairs(compared: Comparison) -> str:
    """How many pairs the headline is about, in words."""
    count = len(set(compared.headline.pairs if compared.headline else compared.pairs))
    return "1 pair" if count == 1 else f"{count} pairs"


def along_the_path() -> list[Row]:
    """Accuracy along the whole path of vision transformers."""
    rows = []
    for id in VISION:
        compared = results.read(id, PROFILE).comparison if results.exist(id, PROFILE) else None
        if compared is None or "dual" not in compared.methods:
            continue
        runs = compared.methods["dual"]
        paths, setting = [run.accuracies or () for run in runs], compared.rest["setting"]
        low = min(min(path) for path in paths)
        lost = max(1 - min(path) / min(path[0], path[-1]) for path in paths)
        pairs = [run.pair for run in runs]
        ends = mean([min(path[0], path[-1]) for path in paths], pairs)
        half = mean([path[len(path) // 2] for path in paths], pairs)
        chance = 2 * math.sqrt((1 - ends) / ends / (compared.samples or 1))  # two standard errors, relative
        rows.append(
            {
                "tested": f"ViT, {_size(setting)}, {setting['corpus']}, {_pairs(compared)}",
                "number": f"half way {half:.1%} of {compared.samples:,} images are read right, by the worse endpoint "
                f"{ends:.1%}; the lowest place of any path reads {low:.1%}, and no path loses more than {lost:.1%} of "
                f"its worse endpoint's accuracy (luck alone: {chance:.0%}); barrier "
                f"{compared.summary['dual'].barrier:.4f} nats per image, "
                f"{compared.summary['dual'].ratio:.1%} of naive",
                "verdict": SEEN if lost <= STAYS else UNSEEN + LUCK * (lost <= chance),
                "results": id,
            }
        )
    return rows


def two_sides() -> list[Row]:
    """Dual matching is better than single: by kind of data, and on the paper's corpus."""
    if not results.exist("one-or-two", PROFILE):
        return untested()
    rows = []
    together = results.read("one-or-two", PROFILE).numbers["together"]
    for group in ("text", "vision"):
        best = together[group]["best"]
        low, high = best["interval"]
        equal = best["pairs"] - best["lower"] - best["higher"]
        lower = high < 0 and best["sign test"] <= CHANCE
        within = together[group]["within"]
        ratio = best["ratio"]
        of = "" if ratio["pairs"] == best["pairs"] else f" (of {ratio['pairs']} pairs, where both leave something)"
        rows.append(
            {
                "tested": f"{group}, {best['pairs']} pairs of several experiments, each method at its best rate tried",
                "number": f"dual leaves less on {best['lower']} pairs, more on {best['higher']}, as much on {equal} "
                f"(sign test p = {best['sign test']:.2g}); on average {ratio['mean']:.2f} times as much{of}; the "
                f"difference is {best['mean']:+.2%} of the naive barrier, over pairs [{low:+.2%}, {high:+.2%}]; where "
                f"the lowest rates tried were not the best of both: less on {within['lower']} of {within['pairs']}, "
                f"more on {within['higher']}",
                "verdict": f"{SEEN}: a small difference" if lower else UNSEEN,
                "results": "one-or-two",
            }
        )
    there, home = (results.read("one-or-two", PROFILE).numbers["other text"][where] for where in ("there", "at home"))
    low, high = there["interval"]
    rows.append(
        {
            "tested": f"the {there['pairs']} pairs that learned Wikipedia, on the paper's corpus, WikiText-2, which "
            "matching did not read",
            "number": f"dual leaves less on {there['lower']} pairs, more on {there['higher']} (on Wikipedia: less on "
            f"{home['lower']}, more on {home['higher']}); the difference is {there['mean']:+.2%} of the naive barrier, "
            f"over pairs [{low:+.2%}, {high:+.2%}]",
            "verdict": SEEN if high < 0 else UNSEEN,
            "results": "one-or-two",
        }
    )
    return rows


def symmetries() -> list[Row]:
    """Which symmetry matters most: the predecessor (arXiv 2506.22712) finds the gain in the residual rotation."""
    rows = []
    for id, (networks, unit) in ABLATIONS.items():
        compared = results.read(id, PROFILE).comparison
        barriers = {name: compared.mean(name) for name in compared.methods}
        without = {name: b for name, b in barriers.items() if name.startswith("without")}
        only = {name: b for name, b in barriers.items() if name.startswith("only")}
        worst, best = max(without, key=without.__getitem__), min(only, key=only.__getitem__)
        rows.append(
            {
                "tested": f"{networks}, {len(set(compared.pairs))} pairs, {compared.rest['steps']} steps of matching",
                "number": f"barrier with all symmetries {barriers['all']:.3f}, with none {barriers['none']:.3f}, "
                f"{worst} {without[worst]:.3f}, with {best} {only[best]:.3f} {unit}",
                "verdict": f"{SEEN if MATTERS in worst and MATTERS in best else UNSEEN}: most is lost {worst}, "
                f"most is gained with {best}",
                "results": id,
            }
        )
    return rows


def with_size() -> list[Row]:
    """How the barrier scales with size."""
    rows = []
    for id in (id for id in CURVES if results.exist(id, PROFILE)):
        swept = results.read(id, PROFILE).sweep
        fit, number = swept.rest["fits"].get("dual"), f"dual {_barriers(swept)} nats per token"
        if fit:
            low, high = fit["interval"]
            number += (
                f"; the barrier goes with parameters to the power {fit['exponent']:+.2f} [{low:+.2f}, {high:+.2f}]"
            )
            number += f" ({fit['points']} points)"
        rows.append(
            {
                "tested": f"Pythia's architecture on Wikipedia, {_varied(swept)}, equal {id.rpartition('-')[2]}",
                "number": number,
                "verdict": _alone(id, swept, _direction(fit, [found.barriers("dual") for found in swept.compared])),
                "results": id,
            }
        )
        rows.append(_elsewhere(id, swept))
    rows += _new_pairs()
    digits = results.read("barrier-by-width", PROFILE).sweep
    worst, best = (pick(digits.accuracy or (0,)) for pick in (min, max))
    rows.append(
        {
            "tested": f"vision transformers on digits, {_varied(digits)}",
            "number": f"dual {_barriers(digits)} nats per image",
            "verdict": f"{UNTESTED}: these networks read {worst:.0%} to {best:.0%} right, so it says little",
            "results": "barrier-by-width",
        }
    )
    return rows


def _alone(id: str, swept: Sweep, verdict: str) -> str:
    """The verdict on size alone, where the wider networks were trained for less long, which by itself lowers it."""
    if id != "scale-width-loss" or not results.exist("width-64-short", PROFILE):
        return verdict
    short = results.read("width-64-short", PROFILE).comparison
    steps, left = short.rest["setting"]["recipe"]["steps"], short.mean("dual")
    trained = [point["setting"]["recipe"]["steps"] for point in swept.rest["settings"]]
    if steps not in trained:
        return verdict
    whole, alike = swept.compared[0].mean("dual"), trained.index(steps)
    share = (whole - left) / (whole - swept.compared[alike].mean("dual"))
    if share > 0.5 and verdict.startswith(SEEN):
        verdict = verdict.replace(SEEN, PARTLY, 1)
    return (
        f"{verdict}; but shorter training makes {share:.0%} of the difference between width {NARROWEST} and "
        f"{swept.points[alike]:g}: after {steps:,} steps, as many as the wider had, width {NARROWEST} leaves {left:.4f}"
    )


def _new_pairs() -> list[Row]:
    """New pairs of one width, against what the curve over widths expects of them.

    An interval for one pair is so wide that pairs of other widths lie in it, so this is no evidence for a fall.
    """
    if not results.exist("width-128-again", PROFILE):
        return []
    compared = results.read("width-128-again", PROFILE).comparison
    dual = compared.rest["held"]["dual"]
    low, high = dual["expected"]
    every = [x for found in results.read(CURVES[0], PROFILE).sweep.compared for x in found.barriers("dual")]
    within, inside = (sum(low <= x <= high for x in barriers) for barriers in (dual["again"], every))
    return [
        {
            "tested": f"the curve at equal tokens, on {len(dual['again'])} new pairs of width 128 from other seeds",
            "number": f"dual {_list(dual['again'], '.4f')} nats per token; expected of a new pair "
            f"[{low:.4f}, {high:.4f}]",
            "verdict": f"{UNTESTED}: {within} of {len(dual['again'])} lie where the curve expects them, but so do "
            f"{inside} of the {len(every)} pairs of all widths",
            "results": "width-128-again",
        }
    ]


def _elsewhere(id: str, swept: Sweep) -> Row:
    """The same networks on the paper's corpus, which neither training nor matching read."""
    points = [_on_wikitext(Comparison.from_json(numbers)) for numbers in swept.rest["settings"]]
    means = [point.mean("dual") for point in points if "dual" in point.methods]
    falls = all(second < first for first, second in pairwise(means))
    rises = all(second > first for first, second in pairwise(means))
    went = "it falls" if falls else "it rises" if rises else "it goes up and down"
    return {
        "tested": f"the same, scored on WikiText-2, {_varied(swept)}, equal {id.rpartition('-')[2]}",
        "number": f"dual {_list(means, '.4f')} nats per token",
        "verdict": f"{SEEN if falls else UNSEEN}: {went}"
        if len(means) > 2
        else f"{UNTESTED}: {went}, and these {len(means)} sizes give no slope",
        "results": id,
    }


def _varied(swept: Sweep) -> str:
    return f"{swept.varied} {', '.join(f'{x:g}' for x in swept.points)}"


def _barriers(swept: Sweep) -> str:
    return ", ".join(f"{found.mean('dual'):.4f}" for found in swept.compared)


def _direction(fit: Mapping[str, Any] | None, barriers: Sequence[Sequence[float]]) -> str:
    """What an exponent's interval says; without a slope, whether the sizes lie apart, or which way it went."""
    if fit:
        low, high = fit["interval"]
        if high < 0:
            return f"{SEEN}: it falls"
        return f"{UNSEEN}: it {'rises' if low > 0 else 'may rise or fall'}"
    first, last = barriers[0], barriers[-1]
    if len(barriers) > 2 and max(last) < min(first):  # a barrier of zero has no logarithm, and so no slope
        return f"{SEEN}: it falls, the largest leave less than any of the smallest"
    went = "rose" if sum(last) / len(last) > sum(first) / len(first) else "fell"
    return f"{UNTESTED}: it {went}, and these {len(barriers)} sizes give no slope"


def untested() -> list[Row]:
    """What nobody has looked at, such as language models with a billion parameters."""
    return [{"tested": "nothing", "number": "none", "verdict": UNTESTED, "results": ""}]


CLAIMS = {
    "near-zero barriers on WikiText for language models of medium size": Claim(PAPER, near_zero),
    "accuracy of vision transformers stays up along the path (ViT-L: above 69 % on ImageNet)": Claim(
        PAPER, along_the_path
    ),
    "small barriers at a billion parameters": Claim(PAPER, untested),
    "dual matching is better than single": Claim(PAPER, two_sides),
    "rotating the stream matters most": Claim(PREDECESSOR, symmetries),
    "does the barrier fall with size?": Claim(OURS, with_size),
}


def parameters() -> tuple[int, int]:
    """Of a network of the text experiments, and of the largest that was trained here."""
    counts = [results.read(id, PROFILE).sweep.parameters or () for id in CURVES if results.exist(id, PROFILE)]
    return counts[0][0], max(map(max, counts))


def collected() -> dict[str, Any]:
    """All rows, each with its claim and whose it is."""
    return {
        "rows": [
            {"claim": claim, "whose": found.whose} | row for claim, found in CLAIMS.items() for row in found.rows()
        ]
    }


def claims_table(numbers: Mapping[str, Any]) -> Markdown:
    """The claims as a table for a notebook.

    >>> print(claims_table(collected()).text.splitlines()[0])
    | claim | whose | tested | number | verdict | results |
    """
    columns: Sequence[str] = ("claim", "whose", "tested", "number", "verdict", "results")
    rows = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    rows += [f"| {' | '.join(row[column] for column in columns)} |" for row in numbers["rows"]]
    return Markdown("\n".join(rows))


@command
def main() -> None:
    began = time.monotonic()
    numbers = collected()
    run = {"seeds": [], "duration_s": time.monotonic() - began}
    results.write("claims", PROFILE, numbers, run | {"command": "python -m lmc.reproduce.experiments.claims"})
    print(claims_table(numbers).text)


if __name__ == "__main__":
    sys.exit(main())
