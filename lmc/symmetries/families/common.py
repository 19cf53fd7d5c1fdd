"""What several tables have in common: what a family is, what it reads, norms and their readers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from lmc.symmetries.spec import ModelSpec, Norm, Reader

EVERY = "every token"


@dataclass(frozen=True)
class Tokens:
    """A language model reads token ids below `vocabulary`, at most `context` of them at a time.

    One that is not `causal` does not predict the next token: it predicts masked ones, labels, or nothing. `numbered`:
    the setting that names a token whose number itself counts, so that no other number can stand for it; or `EVERY`.
    """

    vocabulary: int
    context: int
    causal: bool = True
    numbered: str = ""


@dataclass(frozen=True)
class Images:
    """A vision model reads images of `shape` (channels, height, width) and tells `classes` apart; 0 without a head.

    `least`: the shortest side it can read, where it reads images of other heights and widths, too: the stock class then
    interpolates its table of positions.
    """

    shape: tuple[int, int, int]
    classes: int
    least: int | None = None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the model reads an image of that shape.

        >>> Images((3, 518, 518), 1000, least=14).fits((3, 224, 224))
        True
        """
        if self.least is None:
            return shape == self.shape
        return len(shape) == 3 and shape[0] == self.shape[0] and min(shape[1:]) >= self.least


@dataclass(frozen=True)
class Family:
    """One architecture: its stock classes, its table, the settings two endpoints must share, and what it reads.

    `alike(model, like)`, where a family can be written in more than one form, writes a model in the form of another.
    `unread`: how the tensors of a file begin that belong to more than the first of `classes` has.
    """

    name: str
    library: str  # "transformers" or "timm"
    classes: tuple[str, ...]
    spec: Callable[[Any], ModelSpec]
    settings: Callable[[Any], dict[str, object]]
    inputs: Callable[[Any], Tokens | Images]
    alike: Callable[[Any, Any], nn.Module] | None = None
    unread: tuple[str, ...] = ()


def tokens(model: Any) -> Tokens:
    """What a language model of transformers reads; one that looks ahead predicts no next token."""
    ahead = getattr(
        model.config, "use_bidirectional_attention", False
    )  # some Gemmas'; the other setting is any class's
    causal = model.can_generate() and not ahead and bool(getattr(model.config, "is_causal", True))
    return Tokens(model.config.vocab_size, model.config.max_position_embeddings, causal)


def reader(name: str, present: set[str]) -> Reader:
    """The layer, or the tensor, called `name` as a reader of the stream, with its bias where it has one."""
    return Reader(name if name in present else name + ".weight", name + ".bias" if name + ".bias" in present else None)


def norm(module: str, present: set[str], *read_by: str) -> Norm:
    """The norm called `module`, with its gain and bias where it has them, and those of its readers that are there."""
    weight, bias = (name if name in present else None for name in (module + ".weight", module + ".bias"))
    return Norm(
        module, weight, bias, tuple(reader(name, present) for name in read_by if {name, name + ".weight"} & present)
    )
