"""Corpora as small files: token ids in 16 bits, pictures in their own archives, so that a run needs at most 60 MB.

>>> prepare(["tinyshakespeare", "cifar10"], Path("inputs"))         # from $LMC_TEST_DATA  # doctest: +SKIP

From then on `stream("tinyshakespeare", "eval", Path("inputs"))` gives the token ids of a text, and
`pictures("cifar10", "eval", Path("inputs"))` images and labels.

Each corpus has the splits "train" and "eval"; matching draws from "train", never from "eval".
"""

import os
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lmc.corpora import texts
from lmc.corpora.encoding import encode
from lmc.errors import ArgumentError, DataError
from lmc.files import whole_file
from lmc.symmetries import transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPLITS = ("train", "eval")
SOURCE = "LMC_TEST_DATA"  # the environment variable that names a folder of corpora
TOKENIZERS = {"neox": "EleutherAI/pythia-14m", "gpt2": "openai-community/gpt2"}


@dataclass(frozen=True)
class TextCorpus:
    """`kept`: this many tokens, those most frequent in the corpus `ranked`, keep an id; all others share one more."""

    folder: str
    tokenizer: str
    hub: str = ""  # the corpus's name for `lmc.corpora.corpus`, where there is no folder
    kept: int | None = None
    ranked: str = ""
    splits: tuple[str, ...] = SPLITS


@dataclass(frozen=True)
class PictureCorpus:
    """`archives`: how the names of those archives begin that are used; the folder may hold others."""

    folder: str
    size: int
    label: str  # what to write beside a number
    hub: str = ""
    archives: tuple[str, ...] = ("train", "test")


CORPORA: dict[str, TextCorpus | PictureCorpus] = {
    "enwiki2015": TextCorpus("enwiki2015", "neox"),
    "wikitext2": TextCorpus("wikitext2", "neox", hub="wikitext", splits=("eval",)),
    "tinyshakespeare": TextCorpus("tinyshakespeare", "gpt2"),
    "tinyshakespeare-2048": TextCorpus("tinyshakespeare", "gpt2", kept=2047, ranked="tinyshakespeare"),
    "enwiki2015-2048": TextCorpus("enwiki2015", "neox", kept=2047, ranked="enwiki2015"),
    "wikitext2-2048": TextCorpus("wikitext2", "neox", hub="wikitext", kept=2047, ranked="enwiki2015", splits=("eval",)),
    "cifar10": PictureCorpus("cifar10_jpeg", 32, "CIFAR-10 (JPEG copies)", hub="cifar10"),
    "tiny-imagenet": PictureCorpus(
        "tiny_imagenet200", 64, "Tiny ImageNet (100 training images a class)", archives=("train_000-099", "val")
    ),
    "tiny-imagenet-40000": PictureCorpus(
        "tiny_imagenet200", 64, "Tiny ImageNet (200 training images a class)", archives=("train", "val")
    ),
}


def label(name: str) -> str:
    """What to call a corpus beside a number."""
    corpus = CORPORA.get(name)
    return corpus.label if isinstance(corpus, PictureCorpus) else name


def prepare(names: Iterable[str], folder: Path) -> list[Path]:
    """Write what these corpora need into a folder, unless it is there; returns the files. Raises DataError."""
    written = []
    for name in names:
        corpus = CORPORA.get(name)
        if corpus is None:  # a synthetic one
            continue
        if isinstance(corpus, TextCorpus):
            written += [_token_file(name, split, folder) for split in corpus.splits]
        else:
            written += _archives(name, corpus, folder)
    return written


def absent(names: Iterable[str], folder: Path) -> list[str]:
    """The corpora that are neither prepared in the folder nor in `$LMC_TEST_DATA`; the hub may have some of them.

    Raises ArgumentError where there is no such corpus.
    """
    gone = []
    for name in names:
        if (corpus := CORPORA.get(name)) is None:
            raise ArgumentError(f"corpus {name!r}: expected one of {', '.join(CORPORA)}")
        if isinstance(corpus, TextCorpus):
            prepared = all((folder / f"{name}-{split}.npz").is_file() for split in corpus.splits)
        else:
            prepared = (folder / name).is_dir() or (folder / f"{name}-eval.images.npy").is_file()
        gone += [] if prepared or _source(corpus.folder) else [name]
    return gone


def stream(name: str, split: str, folder: Path) -> Tensor:
    """A split's token ids in one piece, int32 [n]. Raises DataError."""
    return torch.from_numpy(_load(_token_file(name, split, folder)).astype(np.int32))


def windows(ids: Tensor, length: int) -> Tensor:
    """A stream cut into whole windows, [n, length].

    >>> windows(torch.arange(10), length=4).tolist()
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    count = len(ids) // length
    return ids[: count * length].view(count, length)


def pictures(name: str, split: str, folder: Path) -> tuple[Tensor, Tensor]:
    """A split's images, uint8 [n, 3, size, size], and labels, int64 [n]; kept decoded beside the archives."""
    corpus = CORPORA[name]
    assert isinstance(corpus, PictureCorpus)
    kept = [folder / f"{name}-{split}.{part}.npy" for part in ("images", "labels")]
    if not all(file.is_file() for file in kept):
        from lmc.corpora import pictures as reader

        _archives(name, corpus, folder)
        place = folder / name
        found = reader.read(str(place) if place.is_dir() else corpus.hub, split)
        pixels = np.empty((len(found.labels), 3, corpus.size, corpus.size), dtype=np.uint8)
        for i, image in enumerate(found.open(range(len(found.labels)))):
            pixels[i] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        for file, array in zip(kept, (pixels, found.labels), strict=True):
            _save(file, array)
    images, labels = (torch.from_numpy(_load(file)) for file in kept)
    return images, labels


def _token_file(name: str, split: str, folder: Path) -> Path:
    corpus = CORPORA[name]
    assert isinstance(corpus, TextCorpus)
    file = folder / f"{name}-{split}.npz"
    if file.is_file():
        return file
    source = _source(corpus.folder)
    place = str(source / corpus.folder) if source else corpus.hub
    if not place:
        raise DataError(f"corpus '{name}': expected a folder {corpus.folder} in ${SOURCE}, found none")
    tokenizer = _tokenizer(corpus.tokenizer, source)
    ids = encode(tokenizer, texts.read(place, split)[1]).astype(np.uint16)
    if corpus.kept is not None:
        counts = np.bincount(_load(_token_file(corpus.ranked, "train", folder)), minlength=2**16)
        frequent = np.argsort(-counts, kind="stable")[: corpus.kept]
        table = np.full(2**16, corpus.kept, dtype=np.uint16)
        table[frequent] = np.arange(corpus.kept)
        ids = table[ids]
    with whole_file(file) as aside, aside.open("wb") as out:
        np.savez_compressed(out, ids=ids)  # a third less to carry
    return file


def _tokenizer(name: str, source: Path | None) -> "PreTrainedTokenizerBase":
    from tokenizers import ByteLevelBPETokenizer, Tokenizer

    try:
        if source is None or not (source / "tokenizers").is_dir():
            found = Tokenizer.from_pretrained(TOKENIZERS[name])
        elif name == "neox":
            found = Tokenizer.from_file(str(source / "tokenizers/pythia_20B_tokenizer.json"))
        else:
            files = (str(source / f"tokenizers/gpt2_{part}") for part in ("vocab.json", "merges.txt"))
            found = Tokenizer.from_str(ByteLevelBPETokenizer(*files).to_str())
        return transformers().PreTrainedTokenizerFast(tokenizer_object=found)  # type: ignore[no-any-return]
    except Exception as error:  # the library raises nothing narrower
        reason = " ".join(str(error).split())
        raise DataError(f"tokenizer {TOKENIZERS[name]}: not here, and cannot be fetched: {reason}") from None


def _archives(name: str, corpus: PictureCorpus, folder: Path) -> list[Path]:
    """The archives, copied as they are: decoded they would be ten times as large."""
    place = folder / name  # several corpora may be cut from one folder
    if not place.is_dir():
        source = _source(corpus.folder)
        if source is None:
            if corpus.hub:
                return []
            raise DataError(f"corpus '{name}': expected a folder {corpus.folder} in ${SOURCE}, found none")
        aside = folder / f".{name}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for file in sorted((source / corpus.folder).iterdir()):
            if file.name.startswith(corpus.archives):
                shutil.copyfile(file, aside / file.name)
        aside.rename(place)
    return sorted(place.iterdir())


def _source(wanted: str) -> Path | None:
    """The folder of data that holds `wanted`, if there is one."""
    place = os.environ.get(SOURCE)
    return Path(place) if place and (Path(place) / wanted).is_dir() else None


def _load(file: Path) -> np.ndarray:
    try:
        found = np.load(file)
        return found["ids"] if isinstance(found, np.lib.npyio.NpzFile) else found
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{file.parent.name}/{file.name}: damaged ({reason}); delete it, and the next run makes it again"
        ) from None


def _save(file: Path, array: np.ndarray) -> None:
    with whole_file(file) as aside:
        np.save(aside, array)
