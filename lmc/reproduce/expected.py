"""Write what figures.yml expects: the mean, and three standard deviations, of at least five runs. Nobody types these.

    python -m lmc.reproduce.expected smoke                       # every notebook, five times, with seeds 0 to 4
    python -m lmc.reproduce.expected smoke 10_vision 11_text      # only these
    python -m lmc.reproduce.expected laptop                      # from the runs inside the committed results
    python -m lmc.reproduce.expected laptop 03_landscape         # this one, five times; it reads committed results

At smoke every notebook runs again for each seed. At other profiles that would take hours, so only those named do. Of
the others the results file itself holds one value per run: its entry `spread` lists them for each headline number,
which is their mean over pairs, and `pairs` names the pair of each. The deviation of that mean is taken to be that of
independent runs, which is an upper estimate, since the pairs stay the same. `seedless` names numbers that depend on no
seed. Where nothing varies, a thousandth is tolerated, for the rounding of other processors.
"""

import argparse
import json
import math
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from lmc.reproduce import pair_means, places, results
from lmc.reproduce.execute import execute, kernel_environment
from lmc.reproduce.ledger import Expected, Figure, figures
from lmc.reproduce.notebook import notebook, parameters
from lmc.reproduce.schedule import schedule, source
from lmc.reproduce.training.budget import command

SEEDS = 5
ROUNDING = 1e-3  # of the value: tolerated where nothing is random
NOTHING = 1e-4  # nats: tolerated where every run has a barrier of 0
Found = dict[str, dict[str, Expected]]  # figure -> headline number -> what to expect


@command
def main() -> None:
    parser = argparse.ArgumentParser(description="Compute the expected numbers of figures.yml.")
    parser.add_argument("profile")
    parser.add_argument("notebooks", nargs="*", help="run only these, for every seed")
    arguments = parser.parse_args()
    file = places.checkout() / "figures.yml"
    ledger = figures(file)
    again = arguments.profile == "smoke" or arguments.notebooks
    found = by_seeds(ledger, arguments.profile, arguments.notebooks) if again else by_runs(ledger, arguments.profile)
    text = rewrite(file.read_text(encoding="utf-8"), arguments.profile, found, ledger)
    file.write_text(text, encoding="utf-8")
    print(f"{sum(map(len, found.values()))} numbers of {len(found)} figures at profile {arguments.profile}")


def expect(values: list[float], pairs: list[str] | None = None) -> Expected:
    """Mean ± 3 standard deviations, of one value, or of their mean over `pairs` where those are given.

    >>> expect([0.10, 0.11, 0.12, 0.11, 0.11])

    Rounded so that the file can be read, tolerances up.
    """
    if len(values) < SEEDS:
        raise ValueError(f"expected at least {SEEDS} values, found {len(values)}")
    middle = pair_means.mean(values, pairs or ())
    spread = statistics.stdev(values) if pairs is None else pair_means.deviation(values, pairs)
    return _rounded(middle, 3 * spread, len(values))


def fixed(value: float) -> Expected:
    """What does not vary: a thousandth is tolerated."""
    return _rounded(value, 0.0, 0)


def _rounded(middle: float, spread: float, runs: int) -> Expected:
    value = float(f"{middle:.5g}")
    tolerance = max(spread, ROUNDING * abs(middle) or NOTHING) + abs(value - middle)
    return Expected(value, _up(tolerance), runs)


def by_seeds(ledger: dict[str, Figure], profile: str, only: list[str]) -> Found:
    """Every notebook, or `only` these, at every seed; at smoke, where nothing is committed, with what they read."""
    order = schedule(profile, None, ledger)
    wanted = set(only) or set(order)
    for name in reversed(order) if profile == "smoke" else ():
        wanted |= set(order[name]) if name in wanted else set()
    values: dict[str, dict[str, list[float]]] = {}
    found: Found = {}
    before = os.environ.get("LMC_RESULTS")
    with tempfile.TemporaryDirectory(prefix="lmc-expected-") as aside:
        for seed in range(SEEDS):
            os.environ["LMC_RESULTS"] = str(Path(aside) / str(seed))
            with kernel_environment():
                for name in (name for name in order if name in wanted):
                    seeded = "seed" in parameters(notebook(source(name)), name)
                    given = {"seed": seed} if seeded else {}
                    execute(name, profile, Path(aside) / str(seed) / "executed", given, ledger)
            for figure in ledger.values():
                if figure.notebook in (only or order) and profile in figure.profiles:
                    numbers = results.read(figure.results, profile).numbers
                    found.setdefault(figure.id, of_results(numbers))  # some hold five runs, whatever the seed
                    for name, value in numbers.get("headline", {}).items():
                        values.setdefault(figure.id, {}).setdefault(name, []).append(value)
    if before is None:
        os.environ.pop("LMC_RESULTS")
    else:
        os.environ["LMC_RESULTS"] = before
    for id, numbers in values.items():
        for name, runs in numbers.items():
            if name not in found[id] and (bounds := _over_seeds(runs, ledger[id])):
                found[id][name] = bounds
    return {id: bounds for id, bounds in found.items() if bounds}


def _over_seeds(values: list[float], figure: Figure) -> Expected | None:
    """From the runs of a notebook; equal numbers of one that takes no seed are one run: they say nothing of chance."""
    seeded = "seed" in parameters(notebook(source(figure.notebook)), figure.notebook)
    return expect(values) if seeded or len(set(values)) > 1 else None


def by_runs(ledger: dict[str, Figure], profile: str) -> Found:
    """From what the committed results of a profile say of their runs."""
    found: Found = {}
    for figure in ledger.values():
        path = places.committed_folder(profile) / f"{figure.results}.json"
        if profile in figure.profiles and path.is_file():
            expected = of_results(json.loads(path.read_text(encoding="utf-8")))
            if expected:
                found[figure.id] = expected
    return found


def of_results(numbers: dict[str, Any]) -> dict[str, Expected]:
    """Headline number -> what to expect, from `spread` and `seedless`; what has fewer than five runs is left out."""
    runs = {name: values for name, values in numbers.get("spread", {}).items() if len(values) >= SEEDS}
    found = {name: expect(values, numbers.get("pairs", [])) for name, values in runs.items()}
    found |= {name: fixed(numbers["headline"][name]) for name in numbers.get("seedless", [])}
    return {name: found[name] for name in numbers.get("headline", {}) if name in found}


def rewrite(text: str, profile: str, found: Found, ledger: dict[str, Figure]) -> str:
    """The ledger's text with new expectations at a profile; everything else stays as it is, comments included."""
    parts = re.split(r"(?m)^(?=[a-z0-9][a-z0-9-]*:)", text)
    done = []
    for part in parts:
        id = part.partition(":")[0]
        if id in found:
            profiles = {p: numbers for p, numbers in ledger[id].expected.items() if p != profile} | {profile: found[id]}
            body = re.sub(r"(?m)^  expected:.*\n(?:    .*\n)*", "", part)
            lines = body.splitlines()
            tail: list[str] = []  # blank lines and comments before the next entry: that one's
            while lines and (not lines[-1] or lines[-1].startswith("#")):
                tail.insert(0, lines.pop())
            part = "\n".join([*lines, *_lines(profiles), *tail]) + "\n"
        done.append(part)
    return "".join(done)


def _lines(profiles: dict[str, dict[str, Expected]]) -> list[str]:
    lines = ["  expected:  # written by lmc/reproduce/expected.py"]
    for profile, numbers in sorted(profiles.items()):
        lines.append(f"    {profile}:")
        for name, e in numbers.items():
            quoted = json.dumps(name, ensure_ascii=False)
            value, tolerance = _yaml(e.value), _yaml(e.tolerance)
            lines.append(f"      {quoted}: {{value: {value}, tolerance: {tolerance}, runs: {e.runs}}}")
    return lines


def _yaml(x: float) -> str:
    """A number that YAML 1.1 reads as one: 2e-05 is a text to it."""
    mantissa, e, exponent = repr(x).partition("e")
    return f"{mantissa}.0e{exponent}" if e and "." not in mantissa else repr(x)


def _up(x: float) -> float:
    """Rounded up to two significant digits."""
    if x == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(x)) - 1)
    return float(f"{math.ceil(x / unit - 1e-9) * unit:.2g}")


if __name__ == "__main__":
    sys.exit(main())
