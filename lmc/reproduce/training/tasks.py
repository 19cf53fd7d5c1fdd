"""What models are trained on: batches for training, samples for matching, held-out data, and the shape of the model.

>>> Digits().draw(64, torch.Generator().manual_seed(0)).inputs.shape
torch.Size([64, 1, 8, 8])

A training batch depends on the given generator alone; what is drawn once for all is always the same.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lmc import corpora
from lmc.corpora import prepared
from lmc.evaluation import Data
from lmc.reproduce.training.shapes import GreyVit, Language, NeoX, Shape, Vit

SYNTHETIC = 4096  # tokens or images of a rehearsal
CPU = torch.device("cpu")


class Task(ABC):
    """A corpus as models of one shape learn it. What `draw` gives is on the device; everything else is on the CPU.

    Data are read when they are first needed.
    """

    shape: Shape
    corpus: str

    @abstractmethod
    def draw(self, batch: int, order: torch.Generator) -> Data:
        """A batch to train on."""

    @abstractmethod
    def samples(self, count: int) -> Data:
        """Training data for matching, drawn once for all, without augmentation."""

    @abstractmethod
    def held_out(self, corpus: str, count: int) -> Data:
        """Data that neither training nor matching sees, drawn once for all."""

    @abstractmethod
    def guess(self, held_out: Data) -> float:
        """The held-out loss, in nats, of a model that knows only how frequent tokens or classes are in training."""


def task_of(shape: Shape, corpus: str, folder: Path, device: torch.device = CPU) -> Task:
    """The task of such a model on a corpus prepared in the folder, or on a synthetic one. Raises DataError."""
    if isinstance(shape, Language):
        return Texts(shape, corpus, folder, device)
    assert isinstance(shape, Vit)
    return Pictures(shape, corpus, folder, device)


def describe(task: Task, names: Sequence[str], count: int) -> list[dict[str, Any]]:
    """What is evaluated on, for a record: each corpus, the number of samples, and their sha256.

    >>> text = task_of(NeoX(1, 16, 2, 16, 64), "synthetic-text", Path("inputs"))
    >>> [row["samples"] for row in describe(text, ["synthetic-text"], 4)]
    [4]
    """
    rows = []
    for corpus in names:
        held_out = task.held_out(corpus, count)
        digest = hashlib.sha256(held_out.inputs.numpy().tobytes()).hexdigest()
        rows.append({"corpus": prepared.label(corpus), "split": "eval", "samples": len(held_out), "sha256": digest})
    return rows


def _chosen(total: int, count: int) -> Tensor:
    """Indices drawn once for all, ascending."""
    if count >= total:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(0))[:count].sort()[0]


class Texts(Task):
    """Windows at random places of a stream of tokens."""

    def __init__(self, shape: Language, corpus: str, folder: Path, device: torch.device = CPU) -> None:
        self.shape: Language = shape
        self.corpus, self.folder, self.device = corpus, folder, device

    def read(self, corpus: str, split: str) -> Tensor:
        """The tokens of a split, in order."""
        if corpus == "synthetic-text":  # each token is the one before plus 0, 1 or 2
            draw = torch.Generator().manual_seed(prepared.SPLITS.index(split))
            return (torch.randint(3, (SYNTHETIC,), generator=draw).cumsum(0) % self.shape.vocabulary).int()
        return prepared.stream(corpus, split, self.folder)

    @cached_property
    def stream(self) -> Tensor:
        """The tokens that models are trained on."""
        return self.read(self.corpus, "train")

    @cached_property
    def _there(self) -> tuple[Tensor, Tensor]:
        return self.stream.to(self.device), torch.arange(self.shape.context, device=self.device)

    def draw(self, batch: int, order: torch.Generator) -> Data:
        stream, window = self._there
        starts = torch.randint(len(stream) - self.shape.context, (batch, 1), generator=order)
        return Data(stream[starts.to(self.device, non_blocking=True) + window].long())

    def samples(self, count: int) -> Data:
        return self._windows(self.stream, count)

    def held_out(self, corpus: str, count: int) -> Data:
        return self._windows(self.read(corpus, "eval"), count)

    def _windows(self, stream: Tensor, count: int) -> Data:
        windows = prepared.windows(stream, self.shape.context)
        return Data(windows[_chosen(len(windows), count)].long())

    def guess(self, held_out: Data) -> float:
        counts = torch.bincount(self.stream, minlength=self.shape.vocabulary).double() + 0.1
        return -float((counts / counts.sum()).log()[held_out.inputs[:, 1:]].mean())


@final
class Docstrings(Texts):
    """The documentation of Python packages, byte by byte, for a small model, of Pythia's architecture by default."""

    def __init__(self, shape: Language | None = None) -> None:
        super().__init__(shape or NeoX(2, 128, heads=4, context=128, vocabulary=256), "embedded", Path())

    def read(self, corpus: str, split: str) -> Tensor:
        return torch.frombuffer(bytearray(corpora.text(corpus, split).encode()), dtype=torch.uint8)

    def held_out(self, corpus: str, count: int) -> Data:  # the windows that the shipped records were measured on
        return Data(corpora.tokens(corpus, "eval", corpora.byte_tokenizer(), self.shape.context, limit=count))


class Pictures(Task):
    """Images, in training shifted by up to an eighth of their size and, if `mirrors`, mirrored half of the time.

    Bytes stay bytes until they are drawn: as numbers they would need four times the memory.
    """

    mirrors = True

    def __init__(self, shape: Vit, corpus: str, folder: Path, device: torch.device = CPU) -> None:
        self.shape: Vit = shape
        self.corpus, self.folder, self.device = corpus, folder, device
        self.margin = shape.size // 8

    def read(self, corpus: str, split: str) -> tuple[Tensor, Tensor]:
        """The images of a split, as bytes or from −1 to 1, and their labels."""
        if corpus == "synthetic-pictures":  # a class is a brightness
            draw = torch.Generator().manual_seed(prepared.SPLITS.index(split))
            labels = torch.randint(self.shape.classes, (SYNTHETIC // 16,), generator=draw)
            noise = torch.randint(64, (len(labels), 3, self.shape.size, self.shape.size), generator=draw)
            return (noise + labels[:, None, None, None] * (190 // self.shape.classes)).to(torch.uint8), labels
        return prepared.pictures(corpus, split, self.folder)

    @cached_property
    def pictures(self) -> tuple[Tensor, Tensor]:
        """The images and labels that models are trained on."""
        return self.read(self.corpus, "train")

    @cached_property
    def _there(self) -> tuple[Tensor, Tensor, Tensor]:
        images, labels = self.pictures
        black = 0 if images.dtype == torch.uint8 else -1
        padded = F.pad(images.to(self.device), (self.margin,) * 4, value=black)
        return padded, labels.to(self.device), torch.arange(self.shape.size, device=self.device)

    @staticmethod
    def _scaled(images: Tensor) -> Tensor:
        """Mean and deviation 0.5, as the model's configuration says."""
        return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images

    def draw(self, batch: int, order: torch.Generator) -> Data:
        padded, labels, pixels = self._there
        chosen = torch.randint(len(labels), (batch,), generator=order)
        down, right = torch.randint(2 * self.margin + 1, (2, batch, 1), generator=order)
        mirrored = torch.zeros(batch, 1, dtype=torch.bool)
        if self.mirrors:
            mirrored = torch.randint(2, (batch, 1), generator=order).bool()
        chosen, down, right, mirrored = (x.to(self.device, non_blocking=True) for x in (chosen, down, right, mirrored))
        columns = torch.where(mirrored, pixels.flip(0), pixels) + right  # (B, size)
        rows = pixels + down
        images = padded[chosen[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (B, size, size, channels)
        return Data(self._scaled(images.permute(0, 3, 1, 2)), labels[chosen])

    def samples(self, count: int) -> Data:
        return self._some(*self.pictures, count)

    def held_out(self, corpus: str, count: int) -> Data:
        return self._some(*self.read(corpus, "eval"), count)

    def _some(self, images: Tensor, labels: Tensor, count: int) -> Data:
        chosen = _chosen(len(labels), count)
        return Data(self._scaled(images[chosen]), labels[chosen])

    def guess(self, held_out: Data) -> float:
        assert held_out.labels is not None
        frequency = torch.bincount(self.pictures[1], minlength=self.shape.classes).double()
        return -float((frequency / frequency.sum()).log()[held_out.labels].mean())


@final
class Digits(Pictures):
    """Handwritten digits of 8×8 pixels, for a vision transformer with four heads; `width` is a multiple of these.

    >>> type(Digits(width=32, depth=2).shape.build()).__name__
    'VisionTransformer'
    """

    mirrors = False

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__(GreyVit(layers=depth, width=width, heads=4, size=8, patch=2, classes=10), "digits", Path())

    def read(self, corpus: str, split: str) -> tuple[Tensor, Tensor]:
        return corpora.images(corpus, split, size=self.shape.size, mean=(0.5,), std=(0.5,))
