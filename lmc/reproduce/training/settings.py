"""Every setting of the campaign, as one frozen table: what is trained, on what, how, and how it is matched.

>>> SHAKESPEARE.shape
Gpt2(layers=6, width=256, heads=4, context=128, vocabulary=50257)

Items are numbered in the order they should be run. `work` gives those of an item at a size: `full`, `laptop` (smaller
ones, where they are stated) or `smoke` (tiny ones on synthetic data, which rehearse the commands in seconds and say
nothing about connectivity).
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from lmc.errors import ArgumentError
from lmc.matching import LEARNED, METHODS
from lmc.reproduce.training.shapes import Gpt2, Language, NeoX, Olmo, Olmoe, Shape, Vit
from lmc.reproduce.training.trainer import TrainingRecipe

SIZES = {"full": "gpu", "laptop": "laptop", "smoke": "smoke"}  # size -> profile of the results
SIZE = {profile: size for size, profile in SIZES.items()}
NEOX, GPT2 = 50304, 50257  # Pythia's padded vocabulary, and GPT-2's
RATES = {"single": (5e-3, 1e-2, 2e-2, 4e-2), "dual": (2.5e-3, 5e-3, 1e-2, 2e-2)}
SEEDS = ((0, 1), (2, 3), (4, 5))  # disjoint: no endpoint serves in two pairs


@dataclass(frozen=True)
class Matching:
    """How pairs are matched. Both learned methods take `steps` steps, each at the best of its `rates`.

    The rates are compared on the first pair after `probe` steps, on matching data that is then not matched on.
    Learned methods draw with the first of `seeds`; on the first pair with the others too, which shows what chance does.
    """

    steps: int = 400
    batch: int = 32
    probe: int = 150
    samples: int = 8192  # windows or images of the training split
    rates: dict[str, tuple[float, ...]] = field(default_factory=lambda: dict(RATES))
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2)


class Match(NamedTuple):
    """One match of a pair; its files bear the method's name, and the seed's if that is not the first."""

    name: str
    method: str
    seed: int


@dataclass(frozen=True)
class Setting:
    """One architecture on one corpus: the endpoints of its pairs, their matching and their evaluation.

    `held_out`: the corpora whose evaluation split the path is measured on, the first one for the headline. `scored`:
    how many of its windows or images, drawn once for all.
    """

    id: str
    shape: Shape
    corpus: str
    recipe: TrainingRecipe
    held_out: tuple[str, ...] = ()
    seeds: tuple[tuple[int, int], ...] = SEEDS
    matching: Matching = Matching()
    scored: int = 2048
    grid: int = 25
    bf16: bool = True  # training and matching; evaluation is always in float32

    @property
    def evaluated_on(self) -> tuple[str, ...]:
        """The corpora of the path."""
        return self.held_out or (self.corpus,)

    def matches(self, pair: int) -> list[Match]:
        """What is matched of a pair, by its number; closed forms and first seeds before other seeds."""
        first, *others = self.matching.seeds
        once = [Match(method, method, first) for method in self.matching.methods]
        learned = [method for method in self.matching.methods if method in LEARNED]
        again = [Match(f"{method}-seed-{seed}", method, seed) for method in learned for seed in others]
        return [*once, *again] if pair == 0 else once


@dataclass(frozen=True)
class Curve:
    """What limits the barrier: one setting with one thing changed, point by point."""

    id: str
    axis: str
    points: tuple[tuple[float, Setting], ...]


@dataclass(frozen=True)
class Cost:
    """Step ratio and peak memory of learned matching at a shape, on random weights: cost, not connectivity."""

    id: str
    shape: Language
    tokens: tuple[int, ...] = (4096, 16384)  # in a step
    steps: int = 10  # of each kind, after two that are not counted
    data_free: bool = True  # whether the symmetry is found again too, which takes longer than the steps


Work = Setting | Curve | Cost


def pythia(id: str, layers: int, width: int, heads: int, steps: int, lr: float) -> Setting:
    """A Pythia shape on Wikipedia, in windows of 512 tokens."""
    return Setting(
        id,
        NeoX(layers, width, heads, context=512, vocabulary=NEOX),
        corpus="enwiki2015",
        held_out=("enwiki2015", "wikitext2"),
        recipe=TrainingRecipe(steps, batch=32, lr=lr),
        matching=Matching(batch=16),
        scored=256,
    )


SHAKESPEARE = Setting(
    "gpt2-shakespeare",
    Gpt2(layers=6, width=256, heads=4, context=128, vocabulary=GPT2),
    corpus="tinyshakespeare",
    recipe=TrainingRecipe(steps=1500, batch=32, lr=1e-3),
    scored=264,
)
CIFAR = Setting(
    "vit-cifar10",
    Vit(layers=6, width=256, heads=4, size=32, patch=4, classes=10),
    corpus="cifar10",
    recipe=TrainingRecipe(steps=12_000, batch=256, lr=1e-3, warmup=500),
    matching=Matching(batch=256),
    scored=10_000,
)


def _at(setting: Setting, id: str, steps: float = 1.0, samples: int | None = None, **shape: int) -> Setting:
    """The setting with another shape, length of training or number of matching samples, under a name of its own."""
    recipe = replace(setting.recipe, steps=int(setting.recipe.steps * steps))
    matching = replace(
        setting.matching,
        samples=samples or setting.matching.samples,
        methods=("naive", "weights", "activations", "dual"),
        seeds=(0,),
    )
    return replace(setting, id=id, shape=replace(setting.shape, **shape), recipe=recipe, matching=matching)


LIMITS: tuple[Curve, ...] = (
    Curve(
        "limit-width",
        "width",
        tuple((w, _at(SHAKESPEARE, f"width-{w}", width=w)) for w in (64, 128, 256, 512)),
    ),
    Curve(
        "limit-training",
        "training steps",
        tuple((s, _at(SHAKESPEARE, f"training-{s}", steps=s / 1500)) for s in (375, 750, 1500, 3000)),
    ),
    Curve(
        "limit-depth",
        "layers",
        tuple((n, _at(SHAKESPEARE, f"depth-{n}", layers=n)) for n in (2, 4, 6, 12)),
    ),
    Curve(
        "limit-alignment",
        "matching windows",
        tuple((n, _at(SHAKESPEARE, f"alignment-{n}", samples=n)) for n in (64, 256, 1024, 2048)),
    ),
)

ITEMS: dict[int, tuple[Work, ...]] = {
    1: (
        Cost("cost-410m", NeoX(24, 1024, 16, context=2048, vocabulary=NEOX)),
        Cost("cost-1b", NeoX(16, 2048, 8, context=2048, vocabulary=NEOX)),
        pythia("pythia-14m", layers=6, width=128, heads=4, steps=6000, lr=2e-3),
    ),
    2: (pythia("pythia-70m", layers=6, width=512, heads=8, steps=6000, lr=1e-3),),
    3: (SHAKESPEARE,),
    4: (CIFAR,),
    5: (
        replace(
            pythia("olmo", layers=6, width=512, heads=8, steps=6000, lr=1e-3),
            shape=Olmo(6, 512, 8, context=512, vocabulary=NEOX, hidden=2048),
        ),
    ),
    6: LIMITS,
    7: (
        pythia("pythia-31m", layers=6, width=256, heads=8, steps=6000, lr=1e-3),
        pythia("pythia-160m", layers=12, width=768, heads=12, steps=4000, lr=6e-4),
        replace(
            CIFAR,
            id="vit-tiny-imagenet",
            shape=Vit(layers=12, width=384, heads=6, size=64, patch=8, classes=200),
            corpus="tiny-imagenet",
        ),
        Cost("cost-1400m", NeoX(24, 2048, 16, context=2048, vocabulary=NEOX)),
        Cost("cost-6900m", NeoX(32, 4096, 32, context=2048, vocabulary=50432), tokens=(4096,), steps=4),
    ),
    8: (
        replace(
            SHAKESPEARE,
            id="olmoe-shakespeare",
            shape=Olmoe(6, 256, 4, context=128, vocabulary=GPT2, hidden=512, experts=8, picked=2),
        ),
    ),
}


def _halving(highest: float) -> dict[str, tuple[float, ...]]:
    """Four rates of dual matching from there down, and twice these of single."""
    dual = tuple(highest / 2**k for k in (3, 2, 1, 0))
    return {"single": tuple(2 * rate for rate in dual), "dual": dual}


def _wikipedia(id: str, shape: Language, highest: float) -> Setting:
    """A small language model on Wikipedia, matched like the small GPT-2 below, at rates up to `highest`."""
    return Setting(
        id,
        shape,
        corpus="enwiki2015-2048",
        held_out=("enwiki2015-2048", "wikitext2-2048"),
        recipe=TrainingRecipe(steps=2000, batch=16, lr=3e-3, warmup=60),
        matching=Matching(steps=800, batch=16, probe=200, rates=_halving(highest)),
        scored=256,
        bf16=False,
    )


# What two busy CPU cores can do in an hour, stated beside every number: narrower, shallower, and trained briefly.
LAPTOP: dict[str, Setting] = {
    "gpt2-shakespeare": replace(
        SHAKESPEARE,
        shape=Gpt2(layers=4, width=64, heads=4, context=64, vocabulary=2048),
        corpus="tinyshakespeare-2048",
        recipe=TrainingRecipe(steps=1500, batch=16, lr=3e-3, warmup=60),
        matching=Matching(steps=800, batch=16, probe=100, rates=_halving(2e-2)),
        scored=128,
        bf16=False,
    ),
    "pythia-14m": _wikipedia("pythia-wikipedia", NeoX(layers=4, width=64, heads=4, context=64, vocabulary=2048), 4e-2),
    "olmo": _wikipedia("olmo-wikipedia", Olmo(4, 64, 4, context=64, vocabulary=2048, hidden=256), 8e-2),
    "vit-tiny-imagenet": replace(
        CIFAR,
        id="vit-tiny-imagenet",
        shape=Vit(layers=4, width=96, heads=4, size=64, patch=16, classes=200),
        corpus="tiny-imagenet",
        recipe=TrainingRecipe(steps=4000, batch=64, lr=2e-3, warmup=100),
        matching=Matching(steps=300, batch=64, probe=100, rates=_halving(1e-2)),
        scored=2000,
        bf16=False,
    ),
    "vit-cifar10": replace(
        CIFAR,
        shape=Vit(layers=4, width=96, heads=4, size=32, patch=8, classes=10),
        recipe=TrainingRecipe(steps=4000, batch=64, lr=2e-3, warmup=100),
        matching=Matching(steps=300, batch=64, probe=100, rates=_halving(1e-2)),
        scored=1000,
        bf16=False,
    ),
    "olmoe-shakespeare": replace(
        SHAKESPEARE,
        id="olmoe-shakespeare",
        shape=Olmoe(2, 64, 4, context=64, vocabulary=2048, hidden=128, experts=4, picked=2),
        corpus="tinyshakespeare-2048",
        recipe=TrainingRecipe(steps=1000, batch=16, lr=3e-3, warmup=60),
        matching=Matching(
            steps=300,
            batch=16,
            probe=60,
            samples=1024,
            rates=_halving(4e-2),
            seeds=(0,),
        ),
        scored=128,
        bf16=False,
    ),
}


def work(item: int, size: str) -> tuple[Work, ...]:
    """What an item runs at a size. Raises ArgumentError."""
    if item not in ITEMS:
        raise ArgumentError(f"item: expected one of {', '.join(map(str, ITEMS))}, found {item}")
    if size not in SIZES:
        raise ArgumentError(f"size: expected one of {', '.join(SIZES)}, found {size!r}")
    if size == "full":
        return ITEMS[item]
    if size == "smoke":
        return tuple(_smoke(w) for w in ITEMS[item])
    small = tuple(LAPTOP[w.id] for w in ITEMS[item] if w.id in LAPTOP)
    if not small:
        stated = [str(i) for i, works in ITEMS.items() if any(w.id in LAPTOP for w in works)]
        raise ArgumentError(f"size laptop: item {item} has none, only items {', '.join(stated)} do")
    return small


def corpora(works: Iterable[Work]) -> list[str]:
    """The corpora that work needs, each once."""
    settings: list[Setting] = []
    for each in works:
        settings += (
            [each] if isinstance(each, Setting) else [s for _, s in each.points] if isinstance(each, Curve) else []
        )
    return list(dict.fromkeys(name for s in settings for name in (s.corpus, *s.evaluated_on)))


def _smoke(work: Work) -> Work:
    """The same commands in seconds: tiny shapes, synthetic data, a few steps."""
    if isinstance(work, Curve):
        return replace(work, points=tuple((at, smoke_setting(s)) for at, s in work.points[:2]))
    if isinstance(work, Cost):
        return replace(
            work,
            shape=replace(work.shape, layers=1, width=16, heads=2, context=16, vocabulary=64),
            tokens=(64,),
            steps=2,
        )
    return smoke_setting(work)


def smoke_setting(setting: Setting) -> Setting:
    """The setting at the smallest size at which every command still runs."""
    small: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2}
    if isinstance(setting.shape, Vit):
        small |= {"size": 8, "patch": 4, "classes": 4}
    else:
        small |= {"context": 16, "vocabulary": 64} | ({"hidden": 32} if hasattr(setting.shape, "hidden") else {})
    matching = replace(
        setting.matching,
        steps=2,
        batch=4,
        probe=1,
        samples=24,
        rates={m: r[:2] for m, r in RATES.items()},
        seeds=tuple(range(5)) if len(setting.matching.seeds) > 1 else (0,),  # from five, one knows what to expect
    )
    return replace(
        setting,
        shape=replace(setting.shape, **small),
        corpus="synthetic-pictures" if isinstance(setting.shape, Vit) else "synthetic-text",
        held_out=(),
        recipe=TrainingRecipe(steps=4, batch=4, lr=1e-2, warmup=2),
        seeds=setting.seeds[:1],
        matching=matching,
        scored=8,
        grid=3,
    )


def endpoint_folder(setting: Setting, folder: Path) -> Path:
    """Where the setting's endpoints are: settings that train the same ones share them."""
    key = hashlib.sha256(json.dumps(trained_as(setting), sort_keys=True).encode()).hexdigest()[:12]
    return folder / "endpoints" / key


def trained_as(setting: Setting) -> dict[str, Any]:
    """All that decides an endpoint, but its seed."""
    shape = {"model": type(setting.shape).__name__} | asdict(setting.shape)
    return {"shape": shape, "corpus": setting.corpus, "recipe": asdict(setting.recipe), "bf16": setting.bf16}
