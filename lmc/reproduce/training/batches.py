"""A setting's data on a device: training batches that depend on seed and step alone, and fixed samples for the rest."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lmc.corpora import prepared
from lmc.evaluation import Data
from lmc.reproduce.training.settings import Setting
from lmc.reproduce.training.shapes import Language, Vit
from lmc.reproduce.training.trainer import ORDER_SEED

SYNTHETIC = 4096  # tokens or images of a rehearsal


class Batches(ABC):
    """The data of one setting. What `train` draws is on the device; `samples` and `held_out` are on the CPU."""

    @abstractmethod
    def train(self, batch: int, seed: int, step: int) -> Data:
        """The training batch of a step."""

    @abstractmethod
    def samples(self, count: int) -> Data:
        """Training data for matching, drawn once for all, without augmentation."""

    @abstractmethod
    def held_out(self, corpus: str, count: int) -> Data:
        """Data that neither training nor matching sees, drawn once for all."""

    @abstractmethod
    def guess(self, held_out: Data) -> float:
        """The held-out loss, in nats, of a model that knows only how frequent tokens or classes are in training."""


def batches(setting: Setting, folder: Path, device: torch.device) -> Batches:
    """The data of a setting, from prepared inputs. Raises DataError."""
    return (Texts if isinstance(setting.shape, Language) else Pictures)(setting, folder, device)


def describe(setting: Setting, data: Batches) -> list[dict[str, Any]]:
    """The evaluation data for a record: names, number of samples, and a sha256 of what is evaluated on."""
    found = []
    for corpus in setting.evaluated_on:
        held_out = data.held_out(corpus, setting.scored)
        digest = hashlib.sha256(held_out.inputs.numpy().tobytes()).hexdigest()
        found.append({"corpus": prepared.label(corpus), "split": "eval", "samples": len(held_out), "sha256": digest})
    return found


def _chosen(total: int, count: int) -> Tensor:
    """Indices drawn once for all, ascending."""
    if count >= total:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(0))[:count].sort()[0]


def _order(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed((ORDER_SEED + seed) * 1_000_003 + step)


@final
class Texts(Batches):
    """Windows at random places of a stream of tokens."""

    def __init__(self, setting: Setting, folder: Path, device: torch.device) -> None:
        assert isinstance(setting.shape, Language)
        self.setting, self.folder, self.device = setting, folder, device
        self.length, self.vocabulary = setting.shape.context, setting.shape.vocabulary
        self.stream = self._stream(setting.corpus, "train")
        self.on_device = self.stream.to(device)
        self.window = torch.arange(self.length, device=device)

    def _stream(self, corpus: str, split: str) -> Tensor:
        if corpus == "synthetic-text":  # each token is the one before plus 0, 1 or 2
            draw = torch.Generator().manual_seed(prepared.SPLITS.index(split))
            return (torch.randint(3, (SYNTHETIC,), generator=draw).cumsum(0) % self.vocabulary).int()
        return prepared.stream(corpus, split, self.folder)

    def train(self, batch: int, seed: int, step: int) -> Data:
        starts = torch.randint(len(self.stream) - self.length, (batch, 1), generator=_order(seed, step))
        return Data(self.on_device[starts.to(self.device, non_blocking=True) + self.window].long())

    def samples(self, count: int) -> Data:
        return self._windows(self.stream, count)

    def held_out(self, corpus: str, count: int) -> Data:
        return self._windows(self._stream(corpus, "eval"), count)

    def _windows(self, stream: Tensor, count: int) -> Data:
        windows = prepared.windows(stream, self.length)
        return Data(windows[_chosen(len(windows), count)].long())

    def guess(self, held_out: Data) -> float:
        counts = torch.bincount(self.stream, minlength=self.vocabulary).double() + 0.1
        return -float((counts / counts.sum()).log()[held_out.inputs[:, 1:]].mean())


@final
class Pictures(Batches):
    """Images, in training shifted by up to an eighth of their size and mirrored half of the time."""

    def __init__(self, setting: Setting, folder: Path, device: torch.device) -> None:
        assert isinstance(setting.shape, Vit)
        self.setting, self.folder, self.device, self.shape = setting, folder, device, setting.shape
        images, self.labels = self._load(setting.corpus, "train")
        self.images = images
        self.margin = self.shape.size // 8
        self.padded = F.pad(images.to(device), (self.margin,) * 4)
        self.labels_there = self.labels.to(device)
        self.pixels = torch.arange(self.shape.size, device=device)

    def _load(self, corpus: str, split: str) -> tuple[Tensor, Tensor]:
        if corpus == "synthetic-pictures":  # a class is a brightness
            draw = torch.Generator().manual_seed(prepared.SPLITS.index(split))
            labels = torch.randint(self.shape.classes, (SYNTHETIC // 16,), generator=draw)
            noise = torch.randint(64, (len(labels), 3, self.shape.size, self.shape.size), generator=draw)
            return (noise + labels[:, None, None, None] * (190 // self.shape.classes)).to(torch.uint8), labels
        return prepared.pictures(corpus, split, self.folder)

    @staticmethod
    def _scaled(images: Tensor) -> Tensor:
        return images.float() / 127.5 - 1  # mean and deviation 0.5, as the model's configuration says

    def train(self, batch: int, seed: int, step: int) -> Data:
        draw = _order(seed, step)
        chosen = torch.randint(len(self.labels), (batch,), generator=draw)
        down, right = torch.randint(2 * self.margin + 1, (2, batch, 1), generator=draw)
        mirrored = torch.randint(2, (batch, 1), generator=draw).bool()
        chosen, down, right, mirrored = (x.to(self.device, non_blocking=True) for x in (chosen, down, right, mirrored))
        columns = torch.where(mirrored, self.pixels.flip(0), self.pixels) + right  # (B, size)
        rows = self.pixels + down
        images = self.padded[chosen[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (B, size, size, 3)
        return Data(self._scaled(images.permute(0, 3, 1, 2)), self.labels_there[chosen])

    def samples(self, count: int) -> Data:
        chosen = _chosen(len(self.labels), count)
        return Data(self._scaled(self.images[chosen]), self.labels[chosen])

    def held_out(self, corpus: str, count: int) -> Data:
        images, labels = self._load(corpus, "eval")
        chosen = _chosen(len(labels), count)
        return Data(self._scaled(images[chosen]), labels[chosen])

    def guess(self, held_out: Data) -> float:
        assert held_out.labels is not None
        frequency = torch.bincount(self.labels, minlength=self.shape.classes).double()
        return -float((frequency / frequency.sum()).log()[held_out.labels].mean())
