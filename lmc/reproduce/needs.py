"""What a notebook needs beyond this machine's processor, and whether it is here: asked before anything starts.

>>> print(Needs(network=True, gpu_gb=16, download_gb=3.4, disk_gb=5, hours=2))
network, 3.4 GB to download, 5 GB of disk, a GPU with 16 GB, about 2 h
>>> missing(Needs(gpu_gb=2000))                                     # no machine has such a one
['a GPU with 2000 GB, found ...: a smaller profile runs without']
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from lmc.errors import LmcError
from lmc.reproduce import places
from lmc.reproduce.fields import Amount

PATIENCE = 5  # seconds for the hub's first answer
GB = 1e9
SOLD = 0.92  # of a GPU's memory, what is there to use: one sold with 16 GB has 15.8
GUIDE = "book/gpu.md"  # which data, and where it comes from


class PrerequisiteError(LmcError):
    """Something a run needs is not here; the message says what, and what to do. Nothing was started."""


@dataclass(frozen=True)
class Needs:
    """`needs` of a figure in figures.yml, for one profile; sizes in GB (10⁹ bytes), as a hub shows them.

    `token` names a gated repository (`datasets/OWNER/NAME` or `OWNER/NAME`); where the environment variable `instead`
    is set, no token is asked for, but that it names a folder with `train` and `val`. `corpora` are those of the
    campaign (`lmc.corpora.prepared`) that have to be prepared, in the folder that `LMC_TEST_DATA` names, or on a hub.
    """

    network: bool = False
    token: str = ""
    instead: str = ""
    corpora: tuple[str, ...] = ()
    gpu_gb: Amount = 0
    memory_gb: Amount = 0
    disk_gb: Amount = 0
    download_gb: Amount = 0
    hours: Amount = 0

    def __str__(self) -> str:
        said = {
            "network": self.network,
            f"a token for {self.token}": bool(self.token),
            f"the corpora {', '.join(self.corpora)}": bool(self.corpora),
            f"{self.download_gb:g} GB to download": self.download_gb,
            f"{self.disk_gb:g} GB of disk": self.disk_gb,
            f"a GPU with {self.gpu_gb:g} GB": self.gpu_gb,
            f"{self.memory_gb:g} GB of memory": self.memory_gb,
            f"about {self.hours:g} h": self.hours,
        }
        return ", ".join(text for text, needed in said.items() if needed)


def together(needs: Iterable[Needs], jobs: int) -> list[Needs]:
    """What several notebooks need: what is fetched and kept adds up, and so does what `jobs` of them hold at once.

    >>> [str(n) for n in together([Needs(gpu_gb=16, hours=1), Needs(gpu_gb=8, hours=2)], jobs=1)]
    ['a GPU with 16 GB, about 3 h']

    One entry for every gated repository, so that each is asked for.
    """
    needs = [entry for entry in needs if entry != Needs()]
    if not needs:
        return []

    def held(name: str) -> float:
        return sum(sorted((getattr(entry, name) for entry in needs), reverse=True)[:jobs])

    total = {name: round(sum(getattr(n, name) for n in needs), 3) for name in ("disk_gb", "download_gb", "hours")}
    total |= {name: held(name) for name in ("gpu_gb", "memory_gb")}
    gated = sorted({(entry.token, entry.instead) for entry in needs if entry.token}) or [("", "")]
    corpora = tuple(dict.fromkeys(name for entry in needs for name in entry.corpora))
    first = Needs(any(n.network for n in needs), *gated[0], corpora, **total)
    return [first, *(Needs(token=token, instead=instead) for token, instead in gated[1:])]


def missing(needs: Needs) -> list[str]:
    """What is needed and is not here: a line for each thing, which also says what to do about it."""
    unreachable = _network(needs)
    found = [
        unreachable,
        _token(needs, ask=not unreachable),
        _corpora(needs.corpora),
        _gpu(needs.gpu_gb),
        _memory(needs.memory_gb),
        _disk(max(needs.disk_gb, needs.download_gb), fetched=bool(needs.download_gb)),
    ]
    return [line for line in found if line]


def _network(needs: Needs) -> str:
    if not needs.network:
        return ""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "the hub, but HF_HUB_OFFLINE is set: unset it"
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=PATIENCE).close()
    except HTTPError:  # an answer is an answer
        return ""
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"the hub, but {constants.ENDPOINT} does not answer ({reason}): connect to a network, or set HF_ENDPOINT"
    return ""


def _corpora(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    from lmc.corpora import prepared

    gone = prepared.absent(names, places.checkout() / "build/inputs")
    if any(prepared.CORPORA[name].hub for name in gone) and not _network(Needs(network=True)):
        gone = [name for name in gone if not prepared.CORPORA[name].hub]
    if not gone:
        return ""
    place = os.environ.get(prepared.SOURCE)
    reason = "is not set" if not place else "names no folder" if not Path(place).is_dir() else "names a folder without"
    return f"the corpora {', '.join(gone)}, and {prepared.SOURCE} {reason}: see {GUIDE}"


def _token(needs: Needs, ask: bool) -> str:
    local = os.environ.get(needs.instead, "") if needs.instead else ""
    if local:
        there = [path.name for path in Path(local).iterdir()] if Path(local).is_dir() else []
        if all(any(name.startswith(part) for name in there) for part in ("train", "val")):
            return ""
        found = "one without" if Path(local).is_dir() else "none"
        return f"a folder with train and val, {needs.instead} names {found}: {local}"
    if not needs.token:
        return ""
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    page = f"{constants.ENDPOINT}/{needs.token}"
    other = f", or set {needs.instead} to a folder that has the data" if needs.instead else ""
    if get_token() is None:
        return f"a token for {needs.token}: accept its terms at {page} and run `hf auth login`{other}"
    if not ask:
        return ""
    try:
        kind = "dataset" if needs.token.startswith("datasets/") else "model"
        HfApi().auth_check(needs.token.removeprefix("datasets/"), repo_type=kind)
    except (GatedRepoError, RepositoryNotFoundError):
        return f"access to {needs.token}, which this token has not: accept its terms at {page}{other}"
    except (HfHubHTTPError, OSError):  # no clear answer; the download itself will say more
        return ""
    return ""


def _gpu(wanted: float) -> str:
    if not wanted:
        return ""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    largest = max((torch.cuda.get_device_properties(i).total_memory / GB for i in range(count)), default=0.0)
    if largest >= SOLD * wanted:
        return ""
    if not count:
        return f"a GPU with {wanted:g} GB, found none: a smaller profile runs without"
    return f"a GPU with {wanted:g} GB, found one with {largest:.0f} GB: use --jobs 1, or a smaller profile"


def _memory(wanted: float) -> str:
    if not wanted:
        return ""
    try:
        import psutil  # comes with ipykernel, without which no notebook runs; the campaign does
    except ImportError:
        return ""
    free = psutil.virtual_memory().available / GB
    return (
        "" if free >= wanted else f"{wanted:g} GB of memory, found {free:.1f} GB free: close programs, or use --jobs 1"
    )


def _disk(wanted: float, fetched: bool) -> str:
    if not wanted:
        return ""
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE) if fetched else places.checkout()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / GB
    advice = "point HF_HOME to a larger disk" if fetched else "move the clone to a larger disk"
    return "" if free >= wanted else f"{wanted:g} GB of disk, found {free:.1f} GB free: {advice}"
