"""How to match: the method and every choice of a learned matching, checked in one place before anything is read.

>>> Recipe.of("dual", steps=100).fitted(width=128).lr
0.01
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import Any, TypedDict

from lmc.errors import ArgumentError, require_whole

METHODS = ("naive", "canonical", "weights", "activations", "single", "dual")
CLOSED_FORM = ("weights", "activations")
LEARNED = ("single", "dual")
STARTS = ("canonical", *CLOSED_FORM, "better")  # from which learning may begin; the last is the better closed form
BETTER = STARTS[-1]
START = "weights"  # where it does by default: as good as the better closed form, and cheaper (`make bench`)
PRECISIONS = ("float32", "bfloat16")
WINDOWS, IMAGES = 16, 64  # default batch of learned matching
RATES = {"single": 2e-2, "dual": 1e-2}
TEXT, PICTURES = 128, 64  # channels up to which these are the rates
EVERY = 50  # steps between two checks, and two looks; a run that is killed and resumed repeats those since the last one
HIGHEST = "highest"  # for `lambdas`: where the line is highest, instead of a range
LARGEST_RATE = 0.3  # beyond it a step's Cayley map is badly conditioned, and the endpoints' functions drift


def default_rate(method: str, width: int, images: bool = False) -> float:
    """The learning rate that a learned method takes for models with a residual stream of so many channels.

    >>> default_rate("single", 128), default_rate("dual", 128), default_rate("dual", 512)
    (0.02, 0.01, 0.0025)
    >>> default_rate("dual", 64, images=True), default_rate("dual", 128, images=True)
    (0.01, 0.005)

    Two endpoints that step by η apart from each other separate by 2η: dual takes half of single's. Beyond 128 channels
    on text, and 64 on pictures, the best rate fell as the width rose (`make bench ITEM=rates`): a step of Adam moves
    every entry of a rotation's generator by about η, and a wider rotation has more of them. The widest network that
    was tried has 512 channels on text, and 192 on pictures.
    """
    return RATES[method] * min(1.0, (PICTURES if images else TEXT) / width)


class Choices(TypedDict, total=False):
    """The rarely needed choices of a learned matching, as `lmc.match` takes them; `Recipe` says what they mean."""

    lambdas: tuple[float, float] | str | None
    kinds: Sequence[str] | None
    accumulate: int
    precision: str
    checkpointing: bool
    patience: int | None
    shard: bool


@dataclass(frozen=True)
class Recipe:
    """The method, and the choices of a learned one.

    >>> Recipe(steps=100, lr=0.01).rate(1) < 0.01
    True

    `lr`: the largest learning rate (None: `default_rate` of the data and of the stream's width, where it is rotated).
    `batch`: windows or images in a step (None: 16 windows or 64 images). `lambdas`: the endpoints' weights are drawn
    uniformly from this range (K = 2); with more endpoints, from all mixtures, pulled towards the equal one until they
    spread as far. `"highest"` draws them where the line between two is highest (`drawing`): for a line without a
    barrier, over many steps. A range around the middle makes the average better.
    `kinds`: the kinds of spaces that learn (None: every continuous one but the residual scale).
    `accumulate`: parts a batch is cut into, one forward and backward each. `precision`: of matrix products; weights,
    maps and moments stay in single precision or better. `checkpointing`: activations are computed again in the backward
    pass, not kept. `patience`: checks without a better midpoint after which learning stops (None: all steps are taken).
    `shard`: every process keeps a slice of each weight, not all of it.

    Raises ArgumentError, which names the choice, what was expected and what was found.
    """

    method: str = "dual"
    steps: int = 300
    lr: float | None = None
    batch: int | None = None
    lambdas: tuple[float, float] | str = (0.3, 0.7)
    warmup: int = 10
    betas: tuple[float, float] = (0.9, 0.99)
    kinds: tuple[str, ...] | None = None
    accumulate: int = 1
    precision: str = "float32"
    checkpointing: bool = False
    patience: int | None = None
    shard: bool = False

    def __post_init__(self) -> None:
        _one_of("method", self.method, METHODS)
        _one_of("precision", self.precision, PRECISIONS)
        for name in ("steps", "batch", "accumulate", "patience"):
            value = getattr(self, name)
            if value is not None:
                require_whole(name, value, least=1)
                object.__setattr__(self, name, int(value))  # of any kind of numbers: a record holds those of Python
        if self.lr is not None:
            if not 0 < self.lr <= LARGEST_RATE:
                raise ArgumentError(f"lr: expected a number in (0, {LARGEST_RATE}], found {self.lr}")
            object.__setattr__(self, "lr", float(self.lr))
        if _is_range(self.lambdas):
            object.__setattr__(self, "lambdas", tuple(float(place) for place in self.lambdas))
        elif not isinstance(self.lambdas, str) or self.lambdas != HIGHEST:
            raise ArgumentError(f"lambdas: expected 0 ≤ low ≤ high ≤ 1, or {HIGHEST!r}, found {self.lambdas!r}")
        if isinstance(self.kinds, str):
            raise ArgumentError(f"kinds: expected a sequence of kinds of spaces, found the text {self.kinds!r}")

    @classmethod
    def of(cls, method: str, **chosen: Any) -> "Recipe":
        """The defaults of a method, with what was chosen (not None) in their place.

        >>> Recipe.of("dual", lr=None, steps=20)
        Recipe(method='dual', steps=20, lr=None, batch=None, ...)
        """
        if chosen.get("kinds") is not None and not isinstance(chosen["kinds"], str):
            chosen["kinds"] = tuple(chosen["kinds"])
        return cls(method, **{name: value for name, value in chosen.items() if value is not None})

    def fitted(self, width: int, images: bool = False) -> "Recipe":
        """The recipe with what depends on the models and the data chosen, where it was left open.

        >>> Recipe("dual").fitted(width=512).lr, Recipe("dual", lr=0.02).fitted(width=512).lr
        (0.0025, 0.02)
        """
        rate = default_rate(self.method, width, images) if self.learned else None
        batch = IMAGES if images else WINDOWS
        return replace(self, lr=self.lr or rate, batch=self.batch or batch)

    @property
    def per_step(self) -> int:
        """Samples in a step."""
        return self.batch or WINDOWS

    @property
    def learned(self) -> bool:
        """Whether the method learns, and so takes steps."""
        return self.method in LEARNED

    @property
    def reads_data(self) -> bool:
        """Whether the method looks at samples."""
        return self.learned or self.method == "activations"

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        assert self.lr is not None, "fitted() chooses it"
        return self.lr * self.schedule(step)

    def schedule(self, step: int) -> float:
        """The share of the largest rate that a step takes: linear warm-up, then a cosine to zero.

        >>> Recipe(steps=100).schedule(1) < 0.1 < Recipe(steps=100).schedule(50)
        True
        """
        return min(1.0, step / max(1, self.warmup)) * 0.5 * (1 + math.cos(math.pi * step / (self.steps + 1)))

    def to_json(self) -> dict[str, Any]:
        """The choices of learning as plain JSON values; the method is recorded beside them."""
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        del plain["method"]
        return plain


def refuse_start(method: str) -> None:
    """Raise ArgumentError for an alignment that learning cannot go on from: it begins at canonical forms.

    >>> refuse_start("weights")
    """
    if method == "naive":  # an average of models as they are, which knows nothing of these
        raise ArgumentError("start: expected an alignment that can be learned from, found naive; take canonical")


def _is_range(value: object) -> bool:
    """Whether a value is a low and a high λ."""
    if not isinstance(value, tuple | list) or len(value) != 2 or not all(isinstance(v, Real) for v in value):
        return False
    return 0 <= value[0] <= value[1] <= 1


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ArgumentError(f"{name}: expected one of {', '.join(known)}, found {value!r}")
