"""Figures at profile `gpu`: their results come from the campaign, item by item; no notebook and no kernel is needed.

>>> measure([figures()["pythia-70m"]])
"""

from collections.abc import Iterable

from lmc._execute import say
from lmc._ledger import Figure
from lmc.results import checkout


def measure(chosen: Iterable[Figure]) -> None:
    """Run what the campaign still lacks for these figures. What is done is kept: the same call goes on after a stop.

    Raises what `lmc.campaign.run` raises.
    """
    import torch

    from lmc.campaign.budget import UNLIMITED, Budget
    from lmc.campaign.run import Place, run

    build = checkout() / "build"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    place = Place(build / "campaign", build / "inputs", device)
    for item, id in sorted({(figure.item or 0, figure.results) for figure in chosen}):
        say(f"campaign, item {item}: {id}")
        run(item, "full", Budget(UNLIMITED), place, only=id, wait=True)
