"""How alike the weights of two models are: have they one initialisation, and how much did one of them change?

>>> independence(a, b) < SHARED                   # not from one initialisation
True
"""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from lmc.checkpoints import preprocessing
from lmc.errors import CheckpointError

SHARED = 0.05  # cosine of the weight matrices from which on a shared initialisation is likely
PIECE = 2**22  # numbers of a matrix that are looked at together


def independence(a: nn.Module, b: nn.Module) -> float:
    """The cosine between two models' weight matrices, taken as one vector: near 0 for independent initialisations.

    From `SHARED` on, a shared initialisation is likely: such a pair says little about linear mode connectivity.
    Raises CheckpointError for a model whose matrices are zero.
    """
    return cosine(dict(a.named_parameters()), dict(b.named_parameters()), matrices(a))


def warn_if_shared(name: str, other: str, cosine: float) -> None:
    """Warn of two models, by their names, whose cosine says that they may share an initialisation."""
    if (size := abs(cosine)) >= SHARED:  # its sign says nothing
        what = f"|cosine| {size:.3f} ≥ {SHARED}: {name} and {other} may share an initialisation"
        warnings.warn(what, stacklevel=1)


def matrices(model: nn.Module) -> list[str]:
    """The names of a model's weight matrices; a tied head has no weights of its own."""
    return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]


@torch.no_grad()
def cosine(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: Sequence[str]) -> float:
    """`independence` of weights by name, which may be read from files on demand; `names` are those of `matrices`."""
    dot = norm_a = norm_b = 0.0
    for p, q in _pieces(a, b, names):
        dot, norm_a, norm_b = dot + float(p @ q), norm_a + float(p @ p), norm_b + float(q @ q)
    if not norm_a or not norm_b:
        raise CheckpointError("weights: expected matrices of a trained model, found all of them zero; was it damaged?")
    return dot / (norm_a * norm_b) ** 0.5


def _pieces(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: Iterable[str]) -> Iterator[list[Tensor]]:
    """The same numbers of both, in float64, so few at a time that they need no memory to speak of."""
    for name in names:
        if name in a and name in b:
            flat = [tensors[name].flatten().split(PIECE) for tensors in (a, b)]
            yield from ([piece.double().cpu() for piece in pair] for pair in zip(*flat, strict=True))


def size_of_change(base: nn.Module, tuned: nn.Module) -> float:
    """How much the weight matrices changed from a base to another model: the norm of the change, in norms of the base.

    >>> size_of_change(a, a), size_of_change(a, b) > 1
    (0.0, True)

    With one input normalisation, the base's: another one is another first matrix of the same function. A head that only
    one of the two has untied counts.
    """
    base, tuned = preprocessing.common((base, tuned))
    names = list(dict.fromkeys([*matrices(base), *matrices(tuned)]))
    mine, theirs = (dict(model.named_parameters(remove_duplicate=False)) for model in (base, tuned))
    change, size = squares(mine, theirs, names)
    return (change / size) ** 0.5 if size else math.inf


@torch.no_grad()
def squares(
    base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], names: Iterable[str], most: float = math.inf
) -> tuple[float, float]:
    """The squared norms of a change of weights by name, and of the base; what is beyond `most` is not read to its end.

    >>> squares({"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([3.0, 6.0])}, ["w"])
    (4.0, 25.0)
    """
    change = size = 0.0
    for p, q in _pieces(base, tuned, names):
        change, size = change + float((q - p) @ (q - p)), size + float(p @ p)
        if change >= most:
            break
    return change, size
