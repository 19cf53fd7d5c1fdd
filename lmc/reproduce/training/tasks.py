"""The two small problems that pairs are trained on: modelling the language of documentation, reading digits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmc import checkpoints, corpora
from lmc.symmetries import timm, transformers


class Task(ABC):
    """What to train, on what, and how well it went."""

    model: ClassVar[str]
    corpus: ClassVar[str]

    @abstractmethod
    def build(self) -> nn.Module:
        """A stock model with fresh weights from torch's global generator."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: int, draw: torch.Generator) -> Iterator[Tensor]:
        """The model's losses, without end, on batches drawn from the training data by `draw`."""

    @abstractmethod
    def save(self, model: nn.Module, folder: Path) -> None:
        """Write a stock checkpoint in half precision."""

    @abstractmethod
    def load(self, folder: Path) -> nn.Module:
        """Read a stock checkpoint in single precision."""

    @abstractmethod
    def measure(self, model: nn.Module) -> dict[str, float]:
        """The loss on held-out data, in nats, and whatever else describes how good a model is."""

    @abstractmethod
    def baselines(self) -> dict[str, float]:
        """The same loss of models that know next to nothing."""


@final
class Docstrings(Task):
    """Pythia's architecture in small (untied, parallel residual, rotary on a quarter of each head), reading bytes."""

    model = "GPT-NeoX"
    corpus = "embedded"
    context = 128
    held_out = 2048  # windows

    def build(self) -> nn.Module:
        config = transformers().GPTNeoXConfig(
            vocab_size=256,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=self.context,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
            attention_dropout=0.0,
            hidden_dropout=0.0,
            use_parallel_residual=True,
            tie_word_embeddings=False,
            bos_token_id=None,  # every id is a byte
            eos_token_id=None,
        )
        return transformers().GPTNeoXForCausalLM(config)

    def losses(self, model: nn.Module, batch: int, draw: torch.Generator) -> Iterator[Tensor]:
        data = self._training_bytes()
        while True:
            starts = torch.randint(len(data) - self.context, (batch,), generator=draw)
            yield self._loss(model, torch.stack([data[start : start + self.context] for start in starts.tolist()]))

    def save(self, model: nn.Module, folder: Path) -> None:
        model.half().save_pretrained(folder)  # type: ignore[operator]
        corpora.byte_tokenizer().save_pretrained(folder)

    def load(self, folder: Path) -> nn.Module:
        return transformers().GPTNeoXForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.no_grad()
    def measure(self, model: nn.Module) -> dict[str, float]:
        windows = self._held_out_windows()
        return {"loss": sum(self._loss(model, w).item() * len(w) for w in windows.split(64)) / len(windows)}

    def baselines(self) -> dict[str, float]:
        """Unigram and bigram models of bytes, fitted on the training text with a tenth of a count added everywhere."""
        data = self._training_bytes().long()
        windows = self._held_out_windows()
        counts = torch.bincount(data[:-1] * 256 + data[1:], minlength=256 * 256).view(256, 256).double() + 0.1
        bigram = (counts / counts.sum(dim=1, keepdim=True)).log()[windows[:, :-1], windows[:, 1:]]
        unigram = (counts.sum(dim=0) / counts.sum()).log()[windows[:, 1:]]
        return {"unigram": -unigram.mean().item(), "bigram": -bigram.mean().item()}

    def _loss(self, model: nn.Module, ids: Tensor) -> Tensor:
        ids = ids.long()
        return F.cross_entropy(model(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    def _training_bytes(self) -> Tensor:
        return torch.frombuffer(bytearray(corpora.text(self.corpus, "train").encode()), dtype=torch.uint8)

    def _held_out_windows(self) -> Tensor:
        return corpora.tokens(self.corpus, "eval", corpora.byte_tokenizer(), self.context, limit=self.held_out)


@final
@dataclass(frozen=True)
class Digits(Task):
    """A vision transformer of timm with four heads, on handwritten digits of 8×8 pixels.

    Digits(width=32, depth=2).build()
    """

    width: int = 64  # channels of the residual stream, a multiple of the four heads
    depth: int = 4

    model = "ViT"
    corpus = "digits"
    size = 8
    mean = (0.5,)
    std = (0.5,)

    def build(self) -> nn.Module:
        preprocessing = {"input_size": (1, self.size, self.size), "mean": self.mean, "std": self.std, "crop_pct": 1.0}
        origin = {"tag": "", "url": "", "hf_hub_id": "", "license": ""}  # not those of timm's checkpoint of this name
        return timm().create_model(
            "vit_tiny_patch16_224",
            img_size=self.size,
            patch_size=2,
            in_chans=1,
            embed_dim=self.width,
            depth=self.depth,
            num_heads=4,
            num_classes=10,
            pretrained_cfg_overlay=preprocessing | origin,
        )

    def losses(self, model: nn.Module, batch: int, draw: torch.Generator) -> Iterator[Tensor]:
        """Each image is shifted by up to one pixel either way."""
        x, labels = self._split("train")
        padded = F.pad(x[:, 0], (1, 1, 1, 1), value=x.min().item())
        pixels = torch.arange(self.size)
        while True:
            chosen = torch.randint(len(x), (batch,), generator=draw)
            down, right = torch.randint(3, (2, batch, 1), generator=draw)
            rows, columns = (pixels + down)[:, :, None], (pixels + right)[:, None, :]  # (B, 8, 1), (B, 1, 8)
            yield F.cross_entropy(model(padded[chosen[:, None, None], rows, columns].unsqueeze(1)), labels[chosen])

    def save(self, model: nn.Module, folder: Path) -> None:
        checkpoints.save(model.half(), folder)

    def load(self, folder: Path) -> nn.Module:
        return checkpoints.load(folder)

    @torch.no_grad()
    def measure(self, model: nn.Module) -> dict[str, float]:
        x, labels = self._split("eval")
        logits = model(x)
        hits = (logits.argmax(dim=1) == labels).double().mean()
        return {"loss": F.cross_entropy(logits, labels).item(), "accuracy": hits.item()}

    def baselines(self) -> dict[str, float]:
        """A model that knows only how frequent each class was in training."""
        frequency = torch.bincount(self._split("train")[1], minlength=10).double()
        return {"class_prior": -(frequency / frequency.sum()).log()[self._split("eval")[1]].mean().item()}

    def _split(self, split: str) -> tuple[Tensor, Tensor]:
        return corpora.images(self.corpus, split, size=self.size, mean=self.mean, std=self.std)
