"""The published checkpoints of the `paper` profile, as data: which pairs, at which revision, what to know of each.

>>> a, b = load(PAIRS["pythia"][0])  # doctest: +SKIP

`study` runs every method on such pairs. None of these checkpoints has been loaded yet: the tests imitate their layouts
with a server of their own, sizes are computed from the architectures, and what is said of a pair is from its authors'
cards. A layout that turns out different is refused with one line, never guessed at.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lmc import checkpoints, corpora
from lmc.checkpoints import conversion, headers, hub
from lmc.errors import ArgumentError, CheckpointError, HubError, IncompatibleModelsError, UnsupportedModelError
from lmc.files import read_json
from lmc.matching import inspect_pair
from lmc.reproduce.experiments.comparison import compare, plan
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.pair_means import mean
from lmc.reproduce.runs import Comparison, Pair, joined


@dataclass(frozen=True)
class Published:
    """Two checkpoints trained apart. `parameters` of one, in millions; `note`: what a reader must know.

    `shared`: they began from one initialisation, so that a low barrier says little.
    """

    label: str
    names: tuple[str, str]
    parameters: float
    note: str = ""
    shared: bool = False

    @property
    def size(self) -> str:
        """How the authors call it: the first word of the label."""
        return self.label.replace(",", " ").split()[0]


def _seeds(size: str, parameters: float) -> tuple[Published, ...]:
    """Disjoint pairs of the nine PolyPythias seeds: with one left over, four."""
    names = [f"EleutherAI/pythia-{size}-seed{seed}@step143000" for seed in range(1, 9)]
    return tuple(
        Published(f"{size}, seeds {i + 1} and {i + 2}", (names[i], names[i + 1]), parameters) for i in range(0, 8, 2)
    )


_SHARED = "one seed for both initialisations: not independent, a barrier says little (lmc warns, with the cosine)"
_RECIPES = "two recipes, not two seeds"
_DEIT = "DeiT-III recipes of two groups"

PAIRS: dict[str, tuple[Published, ...]] = {
    "pythia": (
        *_seeds("14m", 14),
        *_seeds("31m", 31),
        *_seeds("70m", 70),
        *_seeds("160m", 162),
        *_seeds("410m", 405),
        Published(
            "1b and deduped",
            ("EleutherAI/pythia-1b@step143000", "EleutherAI/pythia-1b-deduped@step143000"),
            1012,
            _SHARED,
            shared=True,
        ),
    ),
    "olmo": (
        Published("OLMo-1B and AMD", ("allenai/OLMo-1B-hf", "amd/AMD-OLMo-1B"), 1177, _RECIPES),
        Published(
            "DataDecide-1B, two seeds",
            (
                "allenai/DataDecide-dolma1_7-1B@step69369-seed-default",
                "allenai/DataDecide-dolma1_7-1B@step69369-seed-large-aux-2",
            ),
            1177,
            "the original OLMo layout: converted, its own code never runs",
        ),
    ),
    "vit": (
        Published("ViT-S", ("deit3_small_patch16_224.fb_in1k", "naver-ai/deit_small_patch16_LS"), 22, _DEIT),
        Published("ViT-B", ("deit3_base_patch16_224.fb_in1k", "naver-ai/deit_base_patch16_LS"), 87, _DEIT),
        Published("ViT-L", ("deit3_large_patch16_224.fb_in1k", "naver-ai/deit_large_patch16_LS"), 304, _DEIT),
        Published(
            "ViT-B, AugReg and DeiT",
            ("vit_base_patch16_224.augreg_in1k", "deit_base_patch16_224.fb_in1k"),
            87,
            f"{_RECIPES}; input normalisation and crop differ",
        ),
    ),
}


def load(one: Published) -> Pair:
    """Both models, checked before their weights are read; of a family with several forms in that of the first.

    Raises IncompatibleModelsError where they compute with other settings, CheckpointError, UnsupportedModelError.
    """
    places = [place(name) for name in one.names]
    blueprints = [checkpoints.inspect(where) for where in places]
    alike = blueprints[0].family.alike
    if alike is None:
        inspect_pair(places)
    first, second = (checkpoints.load(where) for where in places)
    return first, second if alike is None else alike(second, first)


def place(name: str) -> str:
    """What to load for a name: itself, or the folder of a converted copy, where no stock class reads its files.

    >>> place("run-1")
    'run-1'

    Weights that are pickled, and OLMo's original layout, are converted once (`lmc convert`) and kept in the user's
    cache folder. Raises CheckpointError, UnsupportedModelError.
    """
    source = hub.locate(name)
    if source.repository is None or _stock(source):
        return name
    copy = _converted() / source.name.replace("/", "--")
    if not copy.exists():
        conversion.convert(source.name, copy)
    return str(copy)


def _converted() -> Path:
    """Where converted copies are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmc" / "converted"


def _stock(source: hub.Source) -> bool:
    """Whether a stock class reads it: safetensors, and a class that comes without code."""
    names = hub.names(source)
    safe = headers.SAFE in names or f"{headers.SAFE}.index.json" in names
    return safe and "auto_map" not in read_json(source.folder / "config.json")


def study(
    pairs: Sequence[Published],
    match_on: str,
    held_out: str,
    steps: int,
    rates: Mapping[str, float],
    grid: int = 25,
    limits: tuple[int | None, int | None] = (None, None),
    seed: int = 0,
    keep: KeptRuns | None = None,
) -> Comparison:
    """Every method on every pair, one pair in memory at a time.

    `match_on` and `held_out` are corpora, `limits` how many windows or images of each. On a GPU where there is one.
    `rest` has `refused`, the pairs that cannot be paired or that do not exist, each with the reason, and `guess`, the
    mean loss of a model that ignores its input. Runs that `keep` has are not made again.

    Raises HubError, after all other pairs, for those that the hub did not give this time; IncompatibleModelsError where
    no pair is left.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found: dict[str, Comparison] = {}
    parameters, guesses, refused, later = {}, {}, {}, {}
    for one in pairs:
        try:
            models = load(one)
        except HubError as error:
            later[one.label] = _without_places(str(error))
            continue
        except (CheckpointError, IncompatibleModelsError, UnsupportedModelError) as error:
            refused[one.label] = _without_places(str(error))
            continue
        tokenizer = checkpoints.source(models[0])
        seen, unseen = (
            corpora.load(corpus, models[0], split, tokenizer, limit, seed)
            for corpus, split, limit in zip((match_on, held_out), ("match", "eval"), limits, strict=True)
        )
        guesses[one.label] = guessing_loss(unseen)
        parameters[one.label] = sum(p.numel() for p in models[0].parameters()) / 1e6
        pair = models[0].to(device), models[1].to(device)
        methods = plan([one.label], [seed], steps, rates)
        found[one.label] = compare({one.label: pair}, seen, unseen, methods, grid, keep=keep)
    if later:
        reasons = "; ".join(f"{label}: {why}" for label, why in later.items())
        raise HubError(f"not had: {reasons}. What is finished is kept: run the same command again")
    if not pairs:
        raise ArgumentError("pairs: expected at least one, found none")
    if not found:
        raise IncompatibleModelsError("; ".join(f"{label}: {why}" for label, why in refused.items()))
    shared = tuple(one.label for one in pairs if one.shared and one.label in found)
    counted = [guess for label, guess in guesses.items() if label not in shared] or list(guesses.values())
    rest = {"refused": refused, "guess": mean(counted)}
    return replace(joined(list(found.values())), shared=shared, parameters=parameters, rest=rest)


def _without_places(text: str) -> str:
    """An error's text without the reader's folders: it goes into results, which name no place."""
    from huggingface_hub import constants

    for place, shown in ((_converted(), ""), (Path(constants.HF_HUB_CACHE), ""), (Path.home(), "~/")):
        text = text.replace(f"{place}/", shown)
    return text


def guessing_loss(data: Any) -> float:
    """Nats that the frequencies of tokens, or of classes, cost on this very data: the best that ignores the input."""
    answers = data[1] if isinstance(data, tuple) else data[:, 1:]
    share = answers.flatten().bincount().double() / answers.numel()
    return float(-(share * share.clamp_min(1e-300).log()).sum())
