"""figures.yml read and checked: each figure, the notebook and results behind it, and what it should show."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from lmc.errors import ArgumentError, MissingExtraError
from lmc.reproduce import places
from lmc.reproduce.fields import Amount, Only, filled
from lmc.reproduce.needs import Needs
from lmc.reproduce.places import PROFILES

Profile = Annotated[str, Only(f"one of {', '.join(PROFILES)}", PROFILES.__contains__)]


@dataclass(frozen=True)
class Expected:
    """A headline number's expected value, its tolerance, and the number of runs that the tolerance was estimated from.

    0 runs: nothing about it is drawn at random, and the tolerance is for the rounding of other processors.
    """

    value: float
    tolerance: Amount
    runs: int

    def met_by(self, name: str, measured: float) -> bool:
        """Whether a number of that name is as expected: near the value, or for what matching left not above it.

        >>> Expected(0.07, 0.01, 5).met_by("dual barrier", 0.02), Expected(2.08, 0.03, 5).met_by("dual, loss", 2.0)
        (True, False)
        """
        beyond = measured - self.value
        return (beyond if self._from_above(name) else abs(beyond)) <= self.tolerance

    def bounds(self, name: str) -> str:
        """The same in words: of `lmc reproduce`.

        >>> Expected(0.07, 0.01, 5).bounds("dual barrier"), Expected(5.7, 0.006, 0).bounds("naive barrier")
        ('at most 0.08', '5.7 ± 0.006')
        """
        if self._from_above(name):
            return f"at most {self.value + self.tolerance:g}"
        return f"{self.value:g} ± {self.tolerance:g}"

    def _from_above(self, name: str) -> bool:
        """Whether it is what learned matching left, of which less disappoints nobody."""
        return bool(self.runs) and any(word in name for word in ("barrier", "÷", "normalised"))

    def said(self, name: str) -> str | None:
        """What a reader should expect of another run; None where that says nothing: no chance, or no bound.

        A barrier is expected to stay below a number: a lower one disappoints nobody.

        >>> Expected(0.07, 0.01, 5).said("dual barrier"), Expected(2.08, 0.03, 5).said("dual, loss")
        ('≤ 0.08', '2.08 ± 0.03')
        >>> Expected(0.01, 0.03, 5).said("dual barrier"), Expected(5.7, 0.006, 0).said("naive barrier")
        (None, None)
        """
        if not self.runs or self.tolerance >= abs(self.value):
            return None
        if self._from_above(name):
            return f"≤ {self.value + self.tolerance:.2g}"
        return f"{self.value:.4g} ± {self.tolerance:.2g}"


@dataclass(frozen=True)
class Figure:
    """One entry of figures.yml; the file's head explains the fields."""

    id: str
    title: str
    notebook: str
    profiles: tuple[Profile, ...]
    results: str
    draw: str
    inputs: tuple[str, ...] = ()  # results that the notebook reads, at the profile it runs at
    inputs_at: dict[Profile, tuple[str, ...]] = field(default_factory=dict)  # profile -> results it reads at that one
    environment: tuple[str, ...] = ()  # variables that the notebook reads
    headline: bool = False
    on_request: bool = False  # too long for `make book`: redrawn from committed results there
    item: int = 0  # of the campaign, which makes the results at profile `gpu`, without a notebook; 0: none
    command: str = ""  # of hours, which makes the results at profile `laptop`; "": the notebook does
    claim: str = ""
    paper: str = ""  # the paper's figure that this one answers to
    expected: dict[Profile, dict[str, Expected]] = field(default_factory=dict)  # profile -> headline name -> Expected
    minutes: dict[Profile, Amount] = field(default_factory=dict)  # profile -> minutes on two cores
    needs: dict[Profile, Needs] = field(default_factory=dict)  # profile -> what its notebook needs beyond a processor

    def by_campaign(self, profile: str) -> bool:
        """Whether the results at a profile come from the campaign rather than from the notebook that shows them."""
        return self.item > 0 and profile == "gpu"

    def by_command(self, profile: str) -> bool:
        """Whether they come from a command of hours, which runs only when it is asked for by name."""
        return bool(self.command) and profile == "laptop"


def figures(path: Path | None = None) -> dict[str, Figure]:
    """All figures by id.

    >>> figures()["vit-digits"].notebook
    '10_vision'
    """
    path = path or places.checkout() / "figures.yml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _unreadable(path.name, error) from None
    return dict(_read(path.name, text))


@lru_cache(maxsize=4)  # pages and captions ask for the figures a hundred times, and reading them takes a moment
def _read(name: str, text: str) -> dict[str, Figure]:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError('yaml is missing; run: pip install -e ".[book]"') from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C, ten times faster, where PyYAML has it
    try:
        entries = yaml.load(text, loader) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise _unreadable(name, error) from None
    if not isinstance(entries, dict):
        raise ArgumentError(f"{name}: expected figures by id, found a {type(entries).__name__}")
    return {str(id): filled(Figure, entry, f"{name}, {id}", id=str(id)) for id, entry in entries.items()}


def _unreadable(name: str, error: Exception) -> ArgumentError:
    return ArgumentError(f"{name}: not readable: {' '.join(str(error).split())}")


def made_by(notebook: str, profile: str, ledger: dict[str, Figure]) -> list[Figure]:
    """The figures that a notebook makes at a profile; those of a command it only shows."""
    mine = [figure for figure in ledger.values() if figure.notebook == notebook]
    return [figure for figure in mine if profile in figure.profiles and not figure.by_command(profile)]


def reads(notebook: str, profile: str, ledger: dict[str, Figure]) -> set[tuple[str, str]]:
    """The results that a notebook reads at a profile, each with its own profile; what one entry names holds for all.

    >>> sorted(reads("11_text", "smoke", figures()))
    [('neox-docstrings-rates', 'smoke')]
    """
    mine = [figure for figure in ledger.values() if figure.notebook == notebook]
    fixed = {(id, at) for figure in mine for at, ids in figure.inputs_at.items() for id in ids}
    return fixed | {(id, profile) for figure in mine for id in figure.inputs}


def environment(notebook: str, ledger: dict[str, Figure]) -> list[str]:
    """The environment variables that a notebook reads."""
    return sorted({name for figure in ledger.values() if figure.notebook == notebook for name in figure.environment})
