"""What `lmc reproduce` does: runs the notebooks of a profile, or the one behind a figure, and draws their figures.

>>> reproduce(profile="laptop", figure="vit-digits")      # minutes  # doctest: +SKIP

`redraw(figure="vit-digits")` draws the same figure from the results that are there, and computes nothing.

A notebook that ran is kept, executed, with the key of everything its numbers depend on; while the key stays the same
it is not run again. So an interrupted run continues where it stopped.

At profile `gpu` the results come from the campaign instead of notebooks (`experiments`), which only show them. So do
those of an entry of figures.yml that names a `command`: it takes hours, and runs only when the figure is asked for.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmc.checkpoints import provenance
from lmc.errors import ArgumentError, DataError, LmcError, is_out_of_memory
from lmc.files import if_interrupted, refuse_no_place
from lmc.reproduce import places, results
from lmc.reproduce.draw import draw, save
from lmc.reproduce.execute import (
    Execution,
    NotebookError,
    execute,
    is_current,
    kernel_environment,
    say,
)
from lmc.reproduce.ledger import Figure, figures, made_by
from lmc.reproduce.needs import Needs, PrerequisiteError, missing, together
from lmc.reproduce.places import PROFILES
from lmc.reproduce.schedule import known, redrawn, schedule

Step = tuple[str, str]  # a notebook at a profile

KEPT = "what is finished is kept, run the same command again to continue"


def reproduce(
    profile: str = "laptop",
    figure: str | None = None,
    jobs: int = 2,
    out: Path | str | None = None,
    everything: bool = True,
) -> list[Execution]:
    """Run the notebooks of a profile, or the one behind a figure with what it needs, and draw their figures.

    `out` is where executed copies go: `book/notebooks` for `laptop`, which the book shows, `build/notebooks/<profile>`
    otherwise. Without `everything`, notebooks that run on request only redraw the results that are there; one that was
    never measured is shown at profile `smoke` instead, and says so. `PrerequisiteError`, before anything starts, says
    what is not here (a network, a GPU, …) and what to do. Every notebook is tried; `NotebookError` at the end tells
    which failed.
    """
    _known(profile)
    if jobs < 1:
        raise ArgumentError(f"jobs: expected at least 1, found {jobs}")
    ledger = figures()
    asked = [ledger[figure]] if figure in ledger else [] if figure else list(ledger.values())
    if chosen := [entry for entry in asked if profile in entry.profiles and entry.by_campaign(profile)]:
        _by_campaign(chosen, profile)
        return []
    if chosen := [entry for entry in asked if figure and entry.by_command(profile)]:
        _by_command(chosen[0], profile)
        return []
    folder = Path(out) if out else executed_folder(profile)
    work = _Work.of(profile, figure, ledger, everything)
    for place in (folder, places.fresh_folder(profile), places.checkout() / "build/figures" / profile):
        refuse_no_place(place / "file")
    if figure is None and profile == "laptop":  # elsewhere nearly all need something: there nothing starts without it
        work = work.without(_without_data(work.computed, profile, folder, ledger), profile, ledger)
    _require(work.computed, profile, folder, ledger, jobs)
    if everything:
        _announce(work.computed, profile, folder, ledger)
    started = time.monotonic()
    runs = _execute(work, profile, folder, ledger, jobs)
    say(f"{len(runs)} notebooks at profile {profile} in {provenance.duration(time.monotonic() - started)}")
    shown = [ledger[figure]] if figure else [f for name in work.computed for f in made_by(name, profile, ledger)]
    for entry in sorted(shown, key=lambda entry: entry.id):
        report(entry, profile)
    return runs


@dataclass(frozen=True)
class _Work:
    """What runs: every notebook, with those it waits for.

    `light` ones only draw what was measured before; `unmeasured` ones, which would take long, are shown at `smoke`.
    """

    order: dict[str, list[str]]
    light: frozenset[str]
    unmeasured: frozenset[str]

    @property
    def computed(self) -> list[str]:
        """The notebooks that compute at the profile."""
        return [name for name in self.order if name not in self.light | self.unmeasured]

    @classmethod
    def of(cls, profile: str, figure: str | None, ledger: dict[str, Figure], everything: bool) -> "_Work":
        order = schedule(profile, figure, ledger, everything)
        if not order:
            ready = [p for p in PROFILES if any(p in entry.profiles for entry in ledger.values())]
            raise ArgumentError(f"profile {profile!r}: no notebook runs at it; choose from {', '.join(ready)}")
        long = frozenset() if everything or figure or profile == "smoke" else frozenset(redrawn(profile, ledger))
        light = frozenset(name for name in long if _is_measured(name, profile, ledger))
        return cls(order, light, long - light)

    def without(self, lacking: set[str], profile: str, ledger: dict[str, Figure]) -> "_Work":
        """The same but for some notebooks, and those that read what these would have measured."""
        left_out, order = set(lacking), {}
        for name, reads in self.order.items():
            lost = [n for n in reads if n in left_out and not _is_measured(n, profile, ledger)]
            if lost and name not in left_out:
                say(f"{name}: left out, it reads the results of {', '.join(lost)}")
                left_out.add(name)
            order[name] = [n for n in reads if n not in left_out]
        return replace(self, order={name: reads for name, reads in order.items() if name not in left_out})


def _announce(names: Iterable[str], profile: str, folder: Path, ledger: dict[str, Figure]) -> None:
    """Say how long it will take."""
    todo = [name for name in names if not is_current(name, profile, folder, ledger)]
    minutes = sum(max((f.minutes.get(profile, 0) for f in made_by(name, profile, ledger)), default=0) for name in todo)
    if minutes > 1:
        say(f"about {minutes:g} min of work on two cores; with --redraw, what was measured is drawn in seconds")


def _execute(work: _Work, profile: str, folder: Path, ledger: dict[str, Figure], jobs: int) -> list[Execution]:
    """Run the notebooks, as many at once as there are jobs. Raises NotebookError, once every one was tried."""
    with kernel_environment(), ThreadPoolExecutor(jobs) as pool, if_interrupted(lambda: KEPT):
        futures: dict[Step, Future[Execution]] = {}
        for step, needed in _plan(work, profile, ledger).items():
            name, at = step
            given: dict[str, Any] = {"recompute": False} if at == profile and name in work.light else {}
            where = folder if at == profile or name in work.unmeasured else executed_folder(at)
            futures[step] = pool.submit(_after, [futures[n] for n in needed], name, at, where, given, ledger)
        failures = [str(error) for future in futures.values() if (error := _failure(future))]
    if failures:
        raise NotebookError("\n".join(failures))
    return [future.result() for future in futures.values()]


def _by_campaign(chosen: list[Figure], profile: str) -> None:
    """Measure figures at profile `gpu`, one after the other, and report them."""
    for place in (
        places.fresh_folder(profile),
        places.checkout() / "build/campaign",
        places.checkout() / "build/figures" / profile,
    ):
        refuse_no_place(place / "file")
    _ask({f.results: f.needs[profile] for f in chosen if profile in f.needs}, profile, jobs=1, what="results")
    from lmc.reproduce.experiments.from_scratch import conduct

    try:
        with if_interrupted(lambda: KEPT):
            for item, id in sorted({(figure.item, figure.results) for figure in chosen}):
                say(f"campaign, item {item}: {id}")
                conduct(item, id, profile)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise NotebookError(
            "out of memory: what is finished is kept; choose a larger GPU or a smaller figure"
        ) from None
    for entry in chosen:
        report(entry, profile)


def _by_command(entry: Figure, profile: str) -> None:
    """Run the command that measures a figure, and report it."""
    minutes = entry.minutes.get(profile)
    say(f"{entry.id}: {entry.command}" + (f" (about {minutes:g} min on one core)" if minutes else ""))
    words = [sys.executable if word == "python" else word for word in shlex.split(entry.command)]
    with if_interrupted(lambda: KEPT):
        code = subprocess.run(words, cwd=places.checkout(), check=False).returncode
    if code:
        raise NotebookError(f"{entry.id}: its command ended with exit code {code}; {KEPT}")
    report(entry, profile)


def _plan(work: _Work, profile: str, ledger: dict[str, Figure]) -> dict[Step, list[Step]]:
    """What runs at which profile, after what: in dependency order, so what a notebook waits for is never behind it.

    What was never measured is shown at `smoke`, after what it reads, at `smoke` too.
    """
    plan: dict[Step, list[Step]] = {}
    for name, needed in work.order.items():
        if name in work.unmeasured:
            upstream = schedule("smoke", made_by(name, "smoke", ledger)[0].id, ledger)
            plan |= {(n, "smoke"): [(m, "smoke") for m in before] for n, before in upstream.items()}
        else:
            plan[name, profile] = [(n, "smoke" if n in work.unmeasured else profile) for n in needed]
    return plan


def _is_measured(name: str, profile: str, ledger: dict[str, Figure]) -> bool:
    return all(results.exist(figure.results, profile) for figure in made_by(name, profile, ledger))


def redraw(profile: str = "laptop", figure: str | None = None) -> None:
    """Draw a figure, or all of a profile, from the results that are there; nothing is computed.

    Fresh results serve where there are any, committed ones otherwise. Raises ArgumentError; DataError, after all others
    are drawn, for results that are damaged.
    """
    _known(profile)
    ledger = figures()
    if figure is not None:
        report(known(figure, profile, ledger), profile)
        return
    damaged = []
    for entry in ledger.values():
        if profile in entry.profiles and results.exist(entry.results, profile):
            try:
                report(entry, profile)
            except DataError as error:
                damaged.append(str(error))
        elif profile in entry.profiles:
            say(f"{entry.id}: not measured yet; run: lmc reproduce --profile {profile} --figure {entry.id}")
    if damaged:
        raise DataError("; ".join(damaged))


def _known(profile: str) -> None:
    if profile not in PROFILES:
        raise ArgumentError(f"unknown profile {profile!r}; choose from {', '.join(PROFILES)}")


def _without_data(names: Iterable[str], profile: str, folder: Path, ledger: dict[str, Figure]) -> set[str]:
    """Those that read a folder of data that is not here: they are left out of a run of everything, and named."""
    found = set()
    for name in names:
        lacking = [line for f in made_by(name, profile, ledger) for line in missing(f.needs.get(profile, Needs()))]
        if lacking and not is_current(name, profile, folder, ledger):
            say(f"{name}: left out, it needs {lacking[0]}")
            found.add(name)
    return found


def _require(order: Iterable[str], profile: str, folder: Path, ledger: dict[str, Figure], jobs: int) -> None:
    """Say what the run will take, and refuse to start what cannot end. What is finished already needs nothing."""
    needs = {f.notebook: f.needs[profile] for f in ledger.values() if f.notebook in order and profile in f.needs}
    needs = {name: n for name, n in needs.items() if not is_current(name, profile, folder, ledger)}
    _ask(needs, profile, jobs, "notebooks")


def _ask(needs: dict[str, Needs], profile: str, jobs: int, what: str) -> None:
    total = together(needs.values(), jobs)
    if not total:
        return
    count = f"{len(needs)} {what if len(needs) > 1 else what.removesuffix('s')}"
    say(f"profile {profile}, {count}: {'; '.join(str(entry) for entry in total)}")
    if lacking := [line for entry in total for line in missing(entry)]:
        raise PrerequisiteError(f"profile {profile} needs {'; '.join(lacking)}")


def listing() -> str:
    """Every figure, with the notebook, profiles and minutes behind it, as a table for a terminal; and what it needs.

    >>> print(listing())
    """
    ledger = figures().values()
    rows = [("FIGURE", "NOTEBOOK", "PROFILES (MINUTES)", "SHOWS")]
    for figure in ledger:
        times = [f"{p} ({figure.minutes[p]:g})" if p in figure.minutes else p for p in figure.profiles]
        rows.append((figure.id, figure.notebook, ", ".join(times), figure.title))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
    needs = {
        f"{f.id if f.by_campaign(p) else f.notebook} at profile {p}": str(needs)
        for f in ledger
        for p, needs in f.needs.items()
    }
    return "\n".join([*lines, *(f"{where} needs {what}" for where, what in needs.items())])


def executed_folder(profile: str) -> Path:
    """Where executed notebooks of a profile are kept; the book shows those of `laptop`."""
    return places.checkout() / ("book/notebooks" if profile == "laptop" else f"build/notebooks/{profile}")


def _after(
    needed: list[Future[Execution]],
    name: str,
    profile: str,
    folder: Path,
    given: dict[str, Any],
    ledger: dict[str, Figure],
) -> Execution:
    if any(_failure(future) for future in needed):
        raise NotebookError(f"{name}: not run, because a notebook whose results it reads failed")
    return execute(name, profile, folder, given, ledger)


def _failure(future: Future[Execution]) -> LmcError | None:
    """A notebook's failure to be told at the end; a mistake of ours is raised at once."""
    error = future.exception()
    if error is not None and not isinstance(error, LmcError):
        raise error
    return error


def report(figure: Figure, profile: str) -> None:
    """Draw one figure; say what the paper claims, what was measured, and what was expected."""
    found = results.read(figure.results, profile)
    folder = places.checkout() / "build/figures" / profile
    save(draw(figure.draw, found.numbers), folder / figure.id)
    say(f"{figure.id}: {(folder / figure.id).relative_to(places.checkout())}.svg and .png")
    if figure.claim:
        say(f"  claim, not measured here: {' '.join(figure.claim.split())}")
    expected = figure.expected.get(profile, {})
    headline = found.numbers.get("headline", {})
    for name in expected.keys() - headline.keys():
        say(f"  {name}: not there, expected {expected[name].value:g}: NOT as expected")
    for name, measured in headline.items():
        if (bounds := expected.get(name)) is None:
            say(f"  {name}: {measured:g}")
        else:
            verdict = "as expected" if bounds.met_by(name, measured) else "NOT as expected"
            say(f"  {name}: {measured:g}, expected {bounds.bounds(name)}: {verdict}")
    say(f"  {found.provenance}")


def unexpected(profile: str, figure: str | None = None, drawn: bool = False) -> list[str]:
    """Headline numbers of fresh results that are not what figures.yml expects: the figure's, or all of a profile.

    >>> unexpected("laptop", "vit-digits")
    []

    With `drawn`, of committed results too, where there are no fresh ones: those that are drawn.
    """
    found = []
    for entry in [f for f in figures().values() if figure in (None, f.id) and profile in f.profiles]:
        fresh = (places.fresh_folder(profile) / f"{entry.results}.json").is_file()
        if not fresh and not (drawn and results.exist(entry.results, profile)):
            continue
        numbers = results.read(entry.results, profile).numbers.get("headline", {})
        bounds = entry.expected.get(profile, {})
        met = {name for name, expected in bounds.items() if name in numbers and expected.met_by(name, numbers[name])}
        found += [f"{entry.id}, {name}" for name in bounds.keys() - met]
    return found


def said(lines: list[str]) -> int:
    """The exit code of a run: 1, after naming them, where numbers are not as expected."""
    if lines:
        print(f"not as expected: {'; '.join(sorted(lines))}", file=sys.stderr)
    return int(bool(lines))
