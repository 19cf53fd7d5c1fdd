"""Data in, loss out: the one place that knows what a batch of tokens or images is and how a model is scored on it."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lmc.errors import ArgumentError, DataError
from lmc.files import watched
from lmc.symmetries import in_evaluation, logits
from lmc.symmetries.families import Images, Tokens, family_of

AT_ONCE = 64  # samples that run through a model at once, or fewer
LOGITS = 2**28  # numbers that these are to make at most; in float32 they take a gigabyte
_NOTHING = -100  # the target of a position that predicts nothing


@dataclass(frozen=True)
class Data:
    """Samples of one kind: token windows `inputs` [n, T] without labels, or images [n, C, H, W] with labels [n]."""

    inputs: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: Tensor | slice) -> "Data":
        return Data(self.inputs[index], None if self.labels is None else self.labels[index])

    @property
    def unit(self) -> str:
        """What the loss of a sample is counted in."""
        return "nats per token" if self.labels is None else "nats per image"

    def to(self, device: torch.device | str) -> "Data":
        """The same samples on another device."""
        return Data(self.inputs.to(device), None if self.labels is None else self.labels.to(device))

    def split(self, parts: int) -> "list[Data]":
        """The same samples in that many parts, or in as many as there are samples; they differ by one at most.

        >>> [len(part) for part in Data(match_on[:10]).split(6)]
        [1, 2, 2, 1, 2, 2]
        """
        count = min(max(1, parts), len(self))
        bounds = [i * len(self) // count for i in range(count + 1)] if count else []
        return [self[slice(*pair)] for pair in pairwise(bounds)]

    def apart(self, count: int) -> "tuple[Data, Data]":
        """The data without `count` samples drawn at random, always the same ones; and those. Raises ArgumentError.

        >>> matched, scored = Data(match_on).apart(16)
        >>> len(matched), len(scored)
        (48, 16)
        """
        if not 0 < count < len(self):
            raise ArgumentError(f"score: expected 1 to {len(self) - 1} of {len(self)} samples, found {count}")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))
        return self[order[count:]], self[order[:count]]

    def draw(self, batch: int, seed: int, step: int) -> "Data":
        """A random batch that depends on seed and step alone, so that a resumed run sees what it would have seen."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        return self[torch.randint(len(self), (min(batch, len(self)),), generator=generator)]


def as_data(data: object, model: Any) -> Data:
    """Token ids [n, T], or (images [n, C, H, W], labels [n]), or an iterable of such batches, checked for the model.

    Raises DataError, naming what was expected and found.
    """
    found = _collected(data, model)
    if found.labels is None and (padded := _padded(found.inputs)) is not None:
        what = f"most windows begin or end with token {padded} more than once, which counts as text"
        warnings.warn(f"data: {what}; if it is padding, give windows of one length instead", stacklevel=1)
    return found


def _collected(data: object, model: Any) -> Data:
    read = family_of(model).inputs(model)
    language = isinstance(read, Tokens)
    wanted = "token ids [n, T] (int64)" if language else "(images [n, C, H, W], labels [n])"
    if isinstance(data, Data):
        collected = data
    elif isinstance(data, Tensor):
        collected = Data(data)
    elif isinstance(data, tuple) and len(data) == 1 and isinstance(data[0], Tensor) and language:
        collected = Data(data[0])  # a batch of torch's TensorDataset
    elif isinstance(data, tuple):
        if len(data) != 2 or not all(isinstance(d, Tensor) for d in data):
            raise DataError(f"data: expected {wanted}, found a tuple of {', '.join(type(d).__name__ for d in data)}")
        collected = Data(*data)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        batches = list(data)
        if language and _is_masked(batches):
            raise DataError(f"data: expected {wanted}, found a list of ids and a mask; give the ids alone")
        parts = [
            _collected(batch if isinstance(batch, Data | Tensor) else _as_tuple(batch), model) for batch in batches
        ]
        if not parts:
            raise DataError(f"data: expected {wanted}, found no batch")
        if len({part.inputs.shape[1:] for part in parts}) > 1:
            shapes = sorted({tuple(part.inputs.shape[1:]) for part in parts})
            raise DataError(f"data: expected batches of one shape, found {', '.join(map(str, shapes))}")
        labels = None if language else torch.cat([p.labels for p in parts if p.labels is not None])
        return Data(torch.cat([p.inputs for p in parts]), labels)
    else:
        raise DataError(f"data: expected {wanted}, found {type(data).__name__}")

    for tensor in (collected.inputs,) if collected.labels is None else (collected.inputs, collected.labels):
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_complex():
            what = "complex" if tensor.is_complex() else "meta" if tensor.is_meta else "sparse"
            raise DataError(f"data: expected {wanted}, found a {what} tensor")
    return _tokens(collected, read, wanted) if isinstance(read, Tokens) else _images(collected, read, wanted)


def _tokens(data: Data, read: Tokens, wanted: str) -> Data:
    """The windows, checked for the model."""
    inputs = data.inputs
    if data.labels is not None or inputs.ndim != 2 or inputs.is_floating_point() or inputs.dtype == torch.bool:
        raise DataError(f"data: expected {wanted}, found shape {list(inputs.shape)}, {inputs.dtype}")
    if inputs.shape[1] < 2 or not len(inputs):
        raise DataError(f"data: expected at least one window of two tokens, found shape {list(inputs.shape)}")
    low, high = int(inputs.min()), int(inputs.max())
    if low < 0 or high >= read.vocabulary:
        found = low if low < 0 else high
        raise DataError(f"data: expected token ids in [0, {read.vocabulary}), found {found}")
    if inputs.shape[1] > read.context:
        raise DataError(f"data: expected at most {read.context} tokens in a window, found {inputs.shape[1]}")
    return Data(inputs.long())


def _padded(inputs: Tensor) -> int | None:
    """The token that a tokenizer seems to have filled up most of several windows with, at one of their sides."""
    for sides in (inputs[:, -2:], inputs[:, :2]):
        token = int(sides[:, -1].mode().values)
        if len(inputs) > 3 and int((sides == token).all(1).sum()) > len(inputs) / 2:
            return token
    return None


def _images(data: Data, read: Images, wanted: str) -> Data:
    """The images and their labels, checked for the model."""
    inputs, labels = data.inputs, data.labels
    if labels is None or inputs.ndim != 4 or len(labels) != len(inputs) or not len(inputs):
        raise DataError(f"data: expected {wanted}, found images {list(inputs.shape)}")
    if not read.fits(tuple(inputs.shape[1:])):
        others = "" if read.least is None else f" or of other sides, at least {read.least}"
        raise DataError(f"data: expected images {list(read.shape)}{others}, found {list(inputs.shape[1:])}")
    if not inputs.is_floating_point():
        what = "normalised images of floating-point numbers (lmc.corpora.images makes them)"
        raise DataError(f"data: expected {what}, found {inputs.dtype}")
    if not torch.isfinite(inputs).all():
        raise DataError("data: expected finite images, found NaN or infinity")
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise DataError(f"data: expected labels [n] of whole numbers, found {list(labels.shape)}, {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if read.classes and (low < 0 or high >= read.classes):  # without a head only activations are looked at
        raise DataError(f"data: expected labels in [0, {read.classes}), found {low if low < 0 else high}")
    return Data(inputs, labels.long())


SINGLE = "single_label_classification"  # what transformers calls one class for each picture


def require_loss(model: Any) -> None:
    """Raise DataError for a model without a loss here: one that predicts anything but the next token.

    Which tokens a masked loss hides, and with which id, is no part of a checkpoint: any number would be ours, not its.
    """
    read = family_of(model).inputs(model)
    if isinstance(read, Images) and not read.classes:
        raise DataError(
            f"{type(model).__name__}: expected a classifier, found no head: it has no loss here; match by weights"
        )
    if isinstance(read, Images) and read.classes == 1:  # transformers takes it for a regression
        raise DataError(
            f"{type(model).__name__}: expected two classes or more, found one output, whose loss as a class is always "
            "zero; match it by naive, canonical, weights or activations, and merge"
        )
    kind = getattr(getattr(model, "config", None), "problem_type", None)
    if isinstance(read, Images) and kind not in (None, SINGLE):
        raise DataError(
            f"{type(model).__name__}: expected the problem_type {SINGLE}, found {kind}, which has no loss here; "
            "match it by naive, canonical, weights or activations, and merge"
        )
    if isinstance(read, Tokens) and not read.causal:
        raise DataError(
            f"{type(model).__name__}: expected a model that predicts the next token, found one of masked tokens, "
            "labels or states: it has no loss here; match it by naive, canonical, weights or activations, and merge"
        )


def _is_masked(batch: list[Any]) -> bool:
    """Whether this is a batch of token ids with its attention mask, as a loader gives it, and no two batches."""
    if len(batch) not in (2, 3) or not all(isinstance(part, Tensor) and part.ndim == 2 for part in batch):
        return False  # the third are labels
    mask = batch[1]
    return batch[0].shape == mask.shape and not mask.is_floating_point() and bool(((mask == 0) | (mask == 1)).all())


def _as_tuple(batch: object) -> tuple[object, ...]:
    return tuple(batch) if isinstance(batch, list | tuple) else (batch,)


def losses(model: nn.Module, batch: Data) -> Tensor:
    """The loss of every sample, [n]: nats per token (every token but the first of a window), or nats per image."""
    return _losses(logits(model, batch.inputs), batch)


def _losses(out: Tensor, batch: Data) -> Tensor:
    if batch.labels is not None:
        return functional.cross_entropy(out.float(), batch.labels, reduction="none")
    # The last position predicts nothing. Its target is one that cross_entropy skips: no copy of the logits is needed.
    target = functional.pad(batch.inputs[:, 1:], (0, 1), value=_NOTHING)
    each = functional.cross_entropy(
        out.flatten(0, 1).float(), target.flatten(), ignore_index=_NOTHING, reduction="none"
    )
    return each.view(target.shape).sum(1) / (target.shape[1] - 1)


def score(model: nn.Module, batch: Data) -> tuple[Tensor, Tensor]:
    """Loss and accuracy of every sample, [n] each.

    Language: mean next-token cross-entropy of a window in nats per token (every token but the first), and the share
    of tokens predicted right. Vision: cross-entropy in nats per image, and whether the top class is the label.
    """
    out = logits(model, batch.inputs)
    if batch.labels is None:
        return _losses(out, batch), (out[:, :-1].argmax(-1) == batch.inputs[:, 1:]).float().mean(1)
    return _losses(out, batch), (out.argmax(-1) == batch.labels).float()


def at_once(model: Any, data: Data, most: int = AT_ONCE) -> int:
    """How many samples to run through a model at once: fewer where texts are long and the vocabulary is large.

    >>> at_once(a, as_data(held_out, a))
    64
    """
    vocabulary = getattr(getattr(model, "config", None), "vocab_size", 1)
    each = vocabulary * data.inputs.shape[-1] if data.labels is None and data.inputs.ndim == 2 else 1
    return max(1, min(most, LOGITS // max(each, 1)))


@torch.no_grad()
def evaluate(model: nn.Module, data: Data, batch: int = AT_ONCE, shown: str = "") -> tuple[Tensor, Tensor]:
    """`score` over all samples, in float64 on the CPU, [n] each. `shown`: the name of a progress bar, if there is one.

    `batch`: samples at once, at most (`at_once`).

    >>> losses, correct = evaluate(a, as_data(held_out, a))

    Without dropout, also of a model that is in training mode, which it is in again afterwards.
    """
    device, batch = next(model.parameters()).device, at_once(model, data, batch)
    begins = range(0, len(data), batch)
    starts = watched(begins, len(begins), shown, hidden=not shown)
    with in_evaluation(model):
        parts = [score(model, data[slice(i, i + batch)].to(device)) for i in starts]
    losses, correct = (torch.cat(p).double().cpu() for p in zip(*parts, strict=True))
    return losses, correct
