"""Which notebooks run at a profile, and in which order: what others read first, and the longest of those first.

>>> from lmc.reproduce.ledger import figures
>>> schedule("laptop", "vit-digits", figures())
{'10_vision': []}
"""

from graphlib import TopologicalSorter
from pathlib import Path

from lmc.errors import ArgumentError
from lmc.reproduce import places
from lmc.reproduce.ledger import Figure
from lmc.reproduce.notebook import redraws


def schedule(
    profile: str, figure: str | None, ledger: dict[str, Figure], everything: bool = True
) -> dict[str, list[str]]:
    """Notebook -> notebooks whose results it reads; those come first. Raises ArgumentError.

    Without `everything`, what is long is left out, but for notebooks that can redraw: see `redrawn`.
    """
    if figure is not None:
        known(figure, profile, ledger)
    for entry in ledger.values():
        page = places.checkout() / "book" / f"{entry.notebook}.md"  # which can only show what a command makes
        shown = entry.command and page.is_file()
        if not shown and not (places.checkout() / "notebooks" / f"{entry.notebook}.py").is_file():
            raise ArgumentError(f"figures.yml, {entry.id}: no notebook {entry.notebook!r} in notebooks/")
    # What is long runs when it is asked for by name; otherwise its committed results serve. At smoke nothing is long.
    everything = (everything and figure is None) or profile == "smoke"
    asked = {ledger[figure].notebook} if figure is not None else set()
    able = [s.stem for s in sources() if s.stem in asked or _runs(s.stem, profile, ledger, everything)]
    if figure is None and not everything:
        able += [name for name in redrawn(profile, ledger) if name not in able]
    writers = {f.results: f.notebook for f in ledger.values() if profile in f.profiles and f.notebook in able}
    needs: dict[str, set[str]] = {name: set() for name in able}
    for entry in ledger.values():
        if entry.notebook in needs:
            needs[entry.notebook] |= {writers[id] for id in entry.inputs if id in writers} - {entry.notebook}
    order = {name: sorted(needs[name]) for name in _longest_first(needs, profile, ledger)}
    if figure is None:
        return order
    wanted = {ledger[figure].notebook}
    for name in reversed(order):  # everything upstream of the figure's notebook
        wanted |= set(order[name]) if name in wanted else set()
    return {name: needed for name, needed in order.items() if name in wanted}


def known(figure: str, profile: str, ledger: dict[str, Figure]) -> Figure:
    """The entry of a figure that has this profile. Raises ArgumentError."""
    if figure not in ledger:
        raise ArgumentError(f"unknown figure {figure!r}; choose from {', '.join(ledger) or '(none yet)'}")
    if profile not in ledger[figure].profiles:
        offered = ", ".join(ledger[figure].profiles)
        raise ArgumentError(f"figure {figure!r} has no profile {profile!r}; it has {offered}")
    return ledger[figure]


def redrawn(profile: str, ledger: dict[str, Figure]) -> list[str]:
    """Notebooks that run on request only and can redraw what was measured, without measuring it again."""
    long = {f.notebook for f in ledger.values() if f.on_request and profile in f.profiles}
    return [s.stem for s in sources() if s.stem in long and not _runs(s.stem, profile, ledger, False) and redraws(s)]


def _longest_first(needs: dict[str, set[str]], profile: str, ledger: dict[str, Figure]) -> list[str]:
    """Notebooks after what they need, and of those that are ready the longest first, so that none is left for last."""
    minutes = {
        name: max((f.minutes.get(profile, 0) for f in ledger.values() if f.notebook == name), default=0)
        for name in needs
    }
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda name: (-minutes[name], name))
        order += ready
        sorter.done(*ready)
    return order


def _runs(name: str, profile: str, ledger: dict[str, Figure], everything: bool) -> bool:
    """A notebook runs where one of its figures can; one that makes none is cheap, and runs on any laptop."""
    own = [figure for figure in ledger.values() if figure.notebook == name and not figure.command]
    able = [figure for figure in own if profile in figure.profiles and (everything or not figure.on_request)]
    return bool(able) if own else profile in ("smoke", "laptop")


def sources() -> list[Path]:
    return sorted((places.checkout() / "notebooks").glob("[0-9]*.py"))


def source(name: str) -> Path:
    path = places.checkout() / "notebooks" / f"{name}.py"
    if not path.is_file():
        raise ArgumentError(f"no notebook {name!r}; choose from {', '.join(source.stem for source in sources())}")
    return path
