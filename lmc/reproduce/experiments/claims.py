"""The paper's claims, one by one: what was tested here, at what size, the number, and what that comes to.

    python -m lmc.reproduce.experiments.claims    # from results that are there; prints the table

A verdict says *supported at this size*, *not seen at this size*, *measured* (where the paper's own number is not known)
or *not tested*; sizes here are far below the paper's, so none is a verdict on the claim itself. Every row names the
results it was made from.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmc.reproduce import results
from lmc.reproduce.figures import Markdown
from lmc.reproduce.pair_means import mean
from lmc.reproduce.runs import Comparison
from lmc.reproduce.training.budget import command

PROFILE = "laptop"  # of the results that the verdicts are read from
NEAR = 0.05  # of the naive barrier: what is called near zero
STAYS = 0.05  # of the worse endpoint's accuracy: how much of it a path that stays up may lose
LANGUAGE = ("pythia-wikipedia", "olmo-wikipedia")
VISION = ("cifar10-128", "cifar10-192", "tiny-imagenet-192", "vit-cifar10", "vit-tiny-imagenet")
CURVES = ("scale-width-tokens", "scale-width-loss", "scale-depth-tokens", "scale-depth-loss")
ABLATIONS = {"ablation-text": "language models of documentation", "ablation-vit": "vision transformers on digits"}
SUPPORTED, UNSEEN, UNTESTED = "supported at this size", "not seen at this size", "not tested"
MEASURED = "measured"  # what the paper has a figure about, whose numbers are not known here
MATTERS = "stream rotation"  # the symmetry that the predecessor finds to matter most
Row = dict[str, Any]


def near_zero() -> list[Row]:
    """Near-zero barriers on WikiText, for language models of medium size."""
    rows = []
    for id in LANGUAGE:
        compared = results.read(id, PROFILE).comparison
        setting, found = compared.rest["setting"], _wikitext(compared)
        dual, shares = found.summary["dual"], _shares(found)
        low, high = dual.interval
        rows.append(
            {
                "tested": f"{setting['model']}, {_size(setting)}, {setting['shape']['vocabulary']:,} tokens, on "
                f"WikiText-2, {_count(compared)} pairs",
                "number": f"dual {dual.barrier:.4f} [{low:.4f}, {high:.4f}] nats per token, {dual.ratio:.1%} of naive "
                f"(by pair {', '.join(f'{share:.1%}' for share in shares)})",
                "verdict": SUPPORTED if max(shares) <= NEAR else UNSEEN,
                "results": id,
            }
        )
    return rows


def _wikitext(compared: Comparison) -> Comparison:
    (found,) = (also for corpus, also in compared.also.items() if corpus.startswith("wikitext2"))
    return found


def _shares(compared: Comparison) -> list[float]:
    """What dual leaves of the naive barrier, by pair."""
    naive = {run.pair: run.barrier for run in compared.methods["naive"]}
    return [mean([run.barrier / naive[pair] for run in compared.methods["dual"] if run.pair == pair]) for pair in naive]


def _size(setting: Mapping[str, Any]) -> str:
    """Layers and channels, as in *4 × 64*."""
    return f"{setting['shape']['layers']} × {setting['shape']['width']}"


def _count(compared: Comparison) -> int:
    """How many pairs the headline is about."""
    return len(set(compared.headline.pairs if compared.headline else compared.pairs))


def along_the_path() -> list[Row]:
    """Accuracy along the whole path of vision transformers."""
    rows = []
    for id in VISION:
        compared = results.read(id, PROFILE).comparison if results.exist(id, PROFILE) else None
        if compared is None or "dual" not in compared.methods:
            continue
        paths = [run.accuracies or () for run in compared.methods["dual"]]
        lost = max(1 - min(path) / min(path[0], path[-1]) for path in paths)
        barrier, setting = compared.summary["dual"], compared.rest["setting"]
        rows.append(
            {
                "tested": f"ViT, {_size(setting)}, {setting['corpus']}, {_count(compared)} pairs",
                "number": f"accuracy at least {min(map(min, paths)):.1%} along every path, which loses {lost:.1%} of "
                f"the worse endpoint's at most; barrier {barrier.barrier:.4f} nats per image, {barrier.ratio:.1%} of "
                "naive",
                "verdict": SUPPORTED if lost <= STAYS else UNSEEN,
                "results": id,
            }
        )
    return rows


def two_sides() -> list[Row]:
    """Dual matching is better than single: over pairs of text, of pictures, and on the corpus of the paper."""
    if not results.exist("one-or-two", PROFILE):
        return untested()
    rows = []
    for group, found in results.read("one-or-two", PROFILE).numbers["together"].items():
        if group == "all":  # no third test: it is the other two again
            continue
        best = found["best"]
        low, high = best["interval"]
        rows.append(
            {
                "tested": f"{group}, {best['pairs']} pairs, each method at its best rate",
                "number": f"dual − single {best['mean']:+.2%} [{low:+.2%}, {high:+.2%}] of the naive barrier; lower on "
                f"{best['lower']} pairs, higher on {best['higher']} (sign test: p = {best['sign test']:.2g})",
                "verdict": f"{SUPPORTED if high < 0 and best['sign test'] < 0.05 else UNSEEN}: {best['verdict']}",
                "results": "one-or-two",
            }
        )
    for id in LANGUAGE:
        compared = results.read(id, PROFILE).comparison
        dual, single = (_wikitext(compared).mean(method) for method in ("dual", "single"))
        rows.append(
            {
                "tested": f"{compared.rest['setting']['model']} on WikiText-2, {_count(compared)} pairs",
                "number": f"dual {dual:.4f}, single {single:.4f} nats per token",
                "verdict": f"{SUPPORTED if dual < single else UNSEEN}: means only, three pairs cannot tell",
                "results": id,
            }
        )
    return rows


def symmetries() -> list[Row]:
    """Which symmetry matters most: the predecessor (arXiv 2506.22712) finds the gain in the residual rotation."""
    rows = []
    for id, networks in ABLATIONS.items():
        compared = results.read(id, PROFILE).comparison
        barriers = {name: compared.mean(name) for name in compared.methods}
        without = {name: b for name, b in barriers.items() if name.startswith("without")}
        only = {name: b for name, b in barriers.items() if name.startswith("only")}
        worst, best = max(without, key=without.__getitem__), min(only, key=only.__getitem__)
        rows.append(
            {
                "tested": f"{networks}, {len(set(compared.pairs))} pairs, {compared.rest['steps']} steps of matching",
                "number": f"barrier with all symmetries {barriers['all']:.3f}, with none {barriers['none']:.3f}, "
                f"{worst} {without[worst]:.3f}, with {best} {only[best]:.3f} {compared.unit}",
                "verdict": f"{SUPPORTED if MATTERS in worst and MATTERS in best else UNSEEN}: most is lost {worst}, "
                f"most is gained with {best}",
                "results": id,
            }
        )
    return rows


def with_size() -> list[Row]:
    """How the barrier scales with size (Figure 1 of the paper, whose numbers are not known here)."""
    rows = []
    for id in CURVES:
        if not results.exist(id, PROFILE):
            continue
        swept = results.read(id, PROFILE).sweep
        fit, sizes = swept.rest["fits"].get("dual"), ", ".join(f"{x:g}" for x in swept.points)
        barriers = ", ".join(f"{found.mean('dual'):.4f}" for found in swept.compared)
        number = f"dual {barriers} nats per token"
        if fit:
            low, high = fit["interval"]
            number += f"; barrier ∝ parameters^{fit['exponent']:+.2f} [{low:+.2f}, {high:+.2f}], {fit['points']} points"
        rows.append(
            {
                "tested": f"Pythia's architecture on Wikipedia, {swept.varied} {sizes}, equal {id.rpartition('-')[2]}",
                "number": number,
                "verdict": _direction(fit, [found.mean("dual") for found in swept.compared]),
                "results": id,
            }
        )
    return rows or untested()


def _direction(fit: Mapping[str, Any] | None, barriers: Sequence[float]) -> str:
    """What an exponent's interval says, or, without one, the first size and the last."""
    if not fit:
        way = "falls" if barriers[-1] < barriers[0] else "rises"
        return f"{MEASURED}: it {way}; too few sizes for a slope"
    low, high = fit["interval"]
    return f"{MEASURED}: it {'falls' if high < 0 else 'rises' if low > 0 else 'may rise or fall'}"


def untested() -> list[Row]:
    """What nobody has looked at, such as language models with a billion parameters."""
    return [{"tested": "nothing", "number": "none", "verdict": UNTESTED, "results": ""}]


CLAIMS: dict[str, Callable[[], list[Row]]] = {
    "near-zero barriers on WikiText for language models of medium size": near_zero,
    "accuracy of vision transformers stays up along the path (ViT-L: above 69 % on ImageNet)": along_the_path,
    "small barriers at a billion parameters": untested,
    "dual matching is better than single": two_sides,
    "one symmetry matters most (the predecessor finds: the rotation of the stream)": symmetries,
    "how the barrier scales with size (Figure 1)": with_size,
}


def collected() -> dict[str, Any]:
    """All rows, each with its claim."""
    return {"rows": [{"claim": claim} | row for claim, found in CLAIMS.items() for row in found()]}


def claims_table(numbers: Mapping[str, Any]) -> Markdown:
    """The claims as a table for a notebook.

    >>> print(claims_table(collected()).text.splitlines()[0])
    | the paper says | tested | number | verdict | results |
    """
    columns: Sequence[str] = ("claim", "tested", "number", "verdict", "results")
    rows = [f"| {' | '.join(('the paper says', *columns[1:]))} |", "|" + "---|" * len(columns)]
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
