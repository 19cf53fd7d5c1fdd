"""Where things are in a clone of the repository: results fresh and committed, by profile.

>>> committed_folder("laptop").name
'laptop'
"""

import os
from pathlib import Path

from lmc.errors import ArgumentError, DataError

RESULTS = "LMC_RESULTS"
PROFILES = ("smoke", "laptop", "gpu", "paper")


def checkout() -> Path:
    """The clone this package is imported from, which holds `data/`, `notebooks/` and `book/` beside the code."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "figures.yml").is_file():
        raise DataError(f"{root}: not a clone of the repository; the installed package carries code only, no data/")
    return root


def fresh_folder(profile: str) -> Path:
    """Where `write` puts results of a profile: below `$LMC_RESULTS` if set, `build/results` otherwise."""
    override = os.environ.get(RESULTS)
    return (Path(override) if override else checkout() / "build/results") / _profile(profile)


def committed_folder(profile: str) -> Path:
    """Where the repository carries results of a profile."""
    return checkout() / "data/results" / _profile(profile)


def _profile(profile: str) -> str:
    if profile not in PROFILES:
        raise ArgumentError(f"unknown profile {profile!r}; choose from {', '.join(PROFILES)}")
    return profile
