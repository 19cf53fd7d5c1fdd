"""Data for matching and evaluation: text as token ids, pictures as tensors, in splits that do not share anything.

>>> ids = tokens("text.txt", "eval", lmc.corpora.byte_tokenizer(), length=128)     # (n, 128)
>>> x, labels = images("digits", "eval", size=8, mean=(0.5,), std=(0.5,))      # (n, 1, 8, 8), (n,)
>>> data = load("text.txt", lmc.load("run-1"), "eval", tokenizer="run-1")      # whatever the model reads

A corpus is a name of `names.NAMES`, a text file, or a folder (of text files, image classes or archives). Its splits
are "train", "match" and "eval"; evaluation data is never used for anything else. Where a corpus has no part for
matching (digits, CIFAR-10, ImageNet, WikiText), matching uses training data: only evaluation data are kept from it.
"""

import hashlib
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lmc.checkpoints import preprocessing
from lmc.checkpoints import tokenizer as stock_tokenizer
from lmc.corpora import pictures, texts
from lmc.corpora.encoding import encode
from lmc.corpora.names import kind, require_kind
from lmc.errors import ArgumentError, DataError, LmcError, inert, one_line, require_whole
from lmc.symmetries.families import Tokens, class_names, family_of

if TYPE_CHECKING:
    from PIL import Image
    from transformers import PreTrainedTokenizerBase

SPLITS = ("train", "match", "eval")
_INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
_STOCK = ("timm", "transformers")  # the libraries whose rounding is known
LONGEST = 2048  # tokens in a window, however long the model's context
_ORIENTATION = 0x0112  # the number of that mark in the EXIF standard
MATCHING_TEXT = 2**24  # characters: more than any matching reads, less than a web corpus holds


def text(corpus: str, split: str) -> str:
    """A split's text in one piece.

    >>> text("text.txt", "match")[:80]
    """
    _expect(corpus, split, "text")
    return texts.read(corpus, split)[1]


def tokens(
    corpus: str, split: str, tokenizer: "PreTrainedTokenizerBase", length: int, limit: int | None = None, seed: int = 0
) -> Tensor:
    """A split's text as non-overlapping windows of token ids, int64 `[n, length]`.

    >>> tokens("text.txt", "eval", lmc.corpora.byte_tokenizer(), length=64, limit=10).shape
    torch.Size([10, 64])

    What is left over after the last whole window is dropped. `limit` draws that many windows at random by `seed`, and
    keeps their order.
    """
    _expect(corpus, split, "text")
    name, content = texts.read(corpus, split)
    if name.endswith(texts.DETOKENISED):
        what = "it is WikiText's tokenised form, and read without the spaces of that; other tools may read it as it is"
        warnings.warn(f"corpus '{corpus}': {what}", stacklevel=1)
    if split != "eval" and len(content) > MATCHING_TEXT:
        what = f"of {len(content):,} characters the first {MATCHING_TEXT:,} are read"
        warnings.warn(f"corpus '{corpus}' ({split}): {what}; give a part of it where others should be", stacklevel=1)
        content = content[:MATCHING_TEXT]
    try:
        ids = torch.from_numpy(encode(tokenizer, content))
    except (MemoryError, OSError):
        raise
    except Exception as error:  # the library raises nothing narrower, where its files do not fit one another
        what = (
            f"the tokenizer ({type(tokenizer).__name__}) cannot read it ({one_line(error)}); are its files the model's?"
        )
        raise DataError(f"corpus '{corpus}' ({split}): {what}") from error
    count = len(ids) // length
    if count == 0:
        short = f"is too short: {len(ids)} tokens, but one sequence has {length}"
        hint = "; of one file the last tenth is held out, from the next line on" if split == "eval" else ""
        raise DataError(f"corpus '{corpus}' ({split}) {short}; give more text{hint}")
    return ids[: count * length].view(count, length)[_draw(count, limit, seed)]


def images(
    corpus: str,
    split: str,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    crop: float = 1.0,
    interpolation: str = "bicubic",
    limit: int | None = None,
    seed: int = 0,
    squash: bool = False,
    stock: str = "timm",
    uncut: bool = False,
) -> tuple[Tensor, Tensor]:
    """A split's images, float32 `[n, channels, size, size]`, and labels, int64 `[n]`.

    >>> x, labels = images("digits", "eval", size=16, mean=(0.5,) * 3, std=(0.5,) * 3, crop=0.9, limit=10)
    >>> x.shape
    torch.Size([10, 3, 16, 16])

    The usual evaluation transform: the shorter side becomes `size / crop`, the centre is cut out, values in [0, 1] are
    normalised. With `squash` both sides become that long; `stock` is the library whose rounding of sides and margins
    that is, timm or transformers. `uncut`: nothing is cut out, so pictures have to be square.
    One `mean` makes grey images, three make coloured ones.
    `limit` draws that many at random by `seed`, and keeps their order. Raises DataError, ArgumentError.
    """
    _expect(corpus, split, "images")
    _require_transform(size, mean, std, crop, interpolation, stock)
    found = pictures.read(corpus, split)
    if len(found.labels) == 0:
        raise DataError(f"corpus '{corpus}' ({split}) holds no images")
    chosen = _draw(len(found.labels), limit, seed)
    x = torch.empty(len(chosen), len(mean), size, size, dtype=torch.float32)  # whatever torch's default is
    seen_through = turned = 0
    for i, given in enumerate(found.open(chosen.tolist())):
        image = _upright(given) if stock == "transformers" else given
        turned += image is given and _is_turned(given)
        plain, through = _opaque(image, "L" if len(mean) == 1 else "RGB")
        seen_through += through
        if uncut and image.width != image.height:
            what = f"expected square pictures, as do_center_crop is off, found one of {image.width} × {image.height}"
            raise DataError(f"corpus '{corpus}': {what}; cut them, or give pictures as tensors (lmc.path)")
        x[i] = _tensor(plain, size, crop, interpolation, squash, stock)
    if seen_through:
        what = f"{seen_through} of {len(chosen)} pictures are transparent in places, and are read as if they were not"
        warnings.warn(f"corpus '{corpus}' ({split}): {what}; some processors put them on white", stacklevel=1)
    if turned:
        what = f"{turned} of {len(chosen)} pictures are marked as turned and read as they are stored, as timm does"
        warnings.warn(
            f"corpus '{corpus}' ({split}): {what}; turn them where they were turned in training", stacklevel=1
        )
    shape = (1, -1, 1, 1)
    x = (x - torch.tensor(mean, dtype=x.dtype).view(shape)) / torch.tensor(std, dtype=x.dtype).view(shape)
    return x, torch.from_numpy(found.labels[chosen])


def _upright(image: "Image.Image") -> "Image.Image":
    """A picture as a camera's mark says that it is to be seen; transformers and datasets open pictures like that."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(image) if _is_turned(image) else image


def _is_turned(image: "Image.Image") -> bool:
    try:
        return image.getexif().get(_ORIENTATION) in range(2, 9)
    except (SyntaxError, ValueError, OSError):  # of a mark that is damaged
        return False


def _opaque(image: "Image.Image", mode: str) -> "tuple[Image.Image, bool]":
    """A picture in a mode without transparency, and whether something would have been seen through it."""
    with warnings.catch_warnings():  # Pillow's, of palettes
        warnings.simplefilter("ignore")
        through = image.has_transparency_data and min(image.convert("RGBA").getchannel("A").tobytes()) < 255
        return image.convert(mode), through


def _require_transform(
    size: int, mean: tuple[float, ...], std: tuple[float, ...], crop: float, interpolation: str, stock: str
) -> None:
    """Raise ArgumentError for a way to make pictures that there is not."""
    require_whole("size", size, least=1)
    if len(mean) not in (1, 3) or len(std) not in (1, len(mean)):
        raise ArgumentError(f"mean, std: expected 1 or 3 numbers each, found {len(mean)} and {len(std)}")
    for name, values in (("std", std), ("crop", (crop,))):
        if not all(0 < value < math.inf for value in values):
            raise ArgumentError(f"{name}: expected a number above 0, found {min(values)}")
    for name, value, known in (("interpolation", interpolation, _INTERPOLATIONS), ("stock", stock, _STOCK)):
        if value not in known:
            raise ArgumentError(f"{name}: expected {' or '.join(known)}, found {value!r}")


def load(
    corpus: str,
    model: nn.Module,
    split: str,
    tokenizer: "PreTrainedTokenizerBase | str | Path | None" = None,
    limit: int | None = None,
    seed: int = 0,
    naming: nn.Module | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """A split as a stock model reads it: token ids for a language model, `(images, labels)` for a vision model.

    >>> load("text.txt", model, "match", tokenizer="run-1", limit=16).shape
    torch.Size([16, 32])

    Windows are as long as the model's context, at most `LONGEST`. `tokenizer` may be one, or the folder or hub name
    that has it; without it, the model's own source is asked. Where the names of a model's classes (`id2label`, of timm
    `label_names`) are those of the corpus, labels are numbered as the model numbers them; a warning says where they are
    others. `naming`: whose names these are, if the model itself has none.
    """
    read = family_of(model).inputs(model)
    if isinstance(read, Tokens):
        _expect(corpus, split, "text", model)
        length = min(LONGEST, read.context)
        ids = tokens(corpus, split, _tokenizer(tokenizer or model.name_or_path), length, limit, seed)
        if int(ids.max()) >= read.vocabulary:
            raise DataError(
                f"corpus '{corpus}': expected token ids below {read.vocabulary}, found {int(ids.max())}; "
                "is this the model's tokenizer?"
            )
        return ids
    _expect(corpus, split, "images", model)
    seen = preprocessing.require(model)
    classes = pictures.read(corpus, split).classes
    if (count := len(classes)) != read.classes:
        listed = ", ".join(inert(name)[:30] for name in classes[:5]) + (", …" if count > 5 else "")
        what = f"expected the model's {read.classes} classes, found {count} ({listed})"
        raise DataError(f"corpus '{corpus}' ({split}): {what}; is every folder one of them?")
    x, labels = images(
        corpus,
        split,
        size=preprocessing.size(model),
        mean=seen.mean,
        std=seen.std,
        crop=seen.crop,
        interpolation=seen.interpolation,
        limit=limit,
        seed=seed,
        squash=seen.squash,
        stock=seen.stock,
        uncut=seen.uncut,
    )
    return x, torch.tensor(_numbers(corpus, classes, naming or model))[labels]


def _numbers(corpus: str, classes: list[str], model: Any) -> list[int]:
    """The number that the model gives to each class of a corpus; a corpus itself numbers them by their names."""
    named = class_names(model)
    own = [named.get(number, "") for number in range(len(classes))]
    if sorted(own) == sorted(classes):
        return [own.index(name) for name in classes]
    if own != [f"LABEL_{number}" for number in range(len(classes))] and any(own):  # what stands where none were named
        k = next(k for k, (name, other) in enumerate(zip(classes, own, strict=True)) if name != other)
        what = f"its class {k} is {classes[k]!r}, which the model calls {own[k]!r}"
        warnings.warn(f"corpus '{corpus}': {what}: are all in one order?", stacklevel=1)
    elif all(name.isdecimal() for name in classes) and classes != (told := sorted(classes, key=int)):
        here = next(k for k, (name, other) in enumerate(zip(classes, told, strict=True)) if name != other)
        what = f"its classes are taken in the order of words, and so class {classes[here]} is number {here}"
        warnings.warn(f"corpus '{corpus}': {what}: is it the model's?", stacklevel=1)
    return list(range(len(classes)))


def describe(corpus: str, split: str) -> dict[str, str]:
    """What a result must say about its data: the corpus's name, the split, and a sha256 of all its content.

    >>> describe("digits", "eval")["corpus"]
    'digits'
    """
    if kind(corpus) == "text":
        _expect(corpus, split, "text")
        name, content = texts.read(corpus, split)
        digest = hashlib.sha256(content.encode())
    else:
        _expect(corpus, split, "images")
        found = pictures.read(corpus, split)
        name, digest = found.name, hashlib.sha256(found.labels.astype("<i8").tobytes())
        for image in found.open(range(len(found.labels))):
            digest.update(image.tobytes())
    return {"corpus": name, "split": split, "sha256": digest.hexdigest()}


def _expect(corpus: str, split: str, expected: str, model: nn.Module | None = None) -> None:
    if split not in SPLITS:
        raise DataError(f"unknown split '{split}'; expected one of {', '.join(SPLITS)}")
    require_kind(corpus, expected, f"the model {type(model).__name__}" if model is not None else "this")


def _tokenizer(tokenizer: Any) -> Any:
    from transformers import PreTrainedTokenizerBase

    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return tokenizer
    try:
        return stock_tokenizer(tokenizer)
    except LmcError as error:
        raise DataError(f"no tokenizer can be loaded from '{tokenizer}' ({error})") from error


def _tensor(image: "Image.Image", size: int, crop: float, interpolation: str, squash: bool, stock: str) -> Tensor:
    from PIL import Image

    # timm rounds sizes down, and margins to the nearest; transformers has whole sizes, and rounds margins down. Where
    # a picture is smaller than what is cut out, its left and upper edges are the narrower ones in timm.
    timm = stock == "timm"
    whole = math.floor if timm else round

    def margin(rest: int) -> int:
        return rest // 2 if not timm else round(rest / 2) if rest >= 0 else -(-rest // 2)

    shorter = whole(size / crop)
    least = min(image.size)
    # Multiplied before it is divided, as both libraries do: 1500 of 1000 is 54 of 36, and not 53.
    width, height = (shorter if squash or side == least else int(shorter * side / least) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling[interpolation.upper()])
    left, top = margin(image.width - size), margin(image.height - size)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.float32) / 255
    return torch.from_numpy(pixels.reshape(size, size, -1)).permute(2, 0, 1)


def _draw(count: int, limit: int | None, seed: int) -> np.ndarray:
    if limit is not None:
        require_whole("limit", limit, least=1)
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.RandomState(seed).permutation(count)[:limit])
