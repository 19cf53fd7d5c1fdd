"""How much of what is held out was matched on, told by content alone: files may be renamed, packed or dealt anew.

>>> known = sketch(match_on)                                      # kept with an alignment
>>> share(match_on, known), share(held_out, known)
(1.0, 0.0)

A sketch holds the hashes of all that was read: of each picture, and of every stretch of `SPAN` tokens of a text,
wherever it begins. Of many it keeps the smallest (Broder, *On the resemblance and containment of documents*, 1997): a
hash falls where it falls whatever else is there, so those of what is read later are a fair draw, too.
"""

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from lmc.errors import DataError

SPAN = 64  # tokens: of bytes a line, of words a paragraph. Shorter stretches stand in texts that share nothing else
SHORT = 16  # tokens: of shorter windows, a stretch is the whole
KEPT = 2**15  # hashes of four bytes: few windows of a text hold some of these, too, where millions of tokens were read
FEW = 3  # stretches that two texts may share by chance
_PIECE = 2**16  # tokens whose hashes are made together
_LARGEST = 2**64 - 1
_HASH = np.dtype("<u4")
_FACTOR = 0x9E3779B97F4A7C15  # odd, so that multiplying by it loses nothing


def sketch(samples: Any, *before: str) -> str:
    """The sketch of samples, token ids or pictures with their labels, and of all that was read `before`."""
    found = np.unique(np.concatenate([np.empty(0, _HASH), *map(_decoded, before)]))[:KEPT]
    for piece in _hashes(samples):
        found = np.unique(np.concatenate([found, piece[piece <= _limit(found)]]))[:KEPT]
    return base64.b64encode(found.tobytes()).decode()


def share(samples: Any, known: str) -> float:
    """Which share of samples, or of the stretches of a text, is known: of those that the sketch would have kept.

    None of a text where fewer than `FEW` stretches are.

    Raises DataError where it is no sketch.
    """
    kept = _decoded(known)
    found = np.unique(np.concatenate([piece[piece <= _limit(kept)] for piece in _hashes(samples)]))
    known_ones = np.isin(found, kept)
    return float(known_ones.mean()) if known_ones.sum() >= (1 if isinstance(samples, tuple) else FEW) else 0.0


def _limit(kept: np.ndarray) -> int:
    """The largest hash of which is known whether it was there."""
    return int(kept[-1] if len(kept) == KEPT else np.iinfo(_HASH).max)


def _decoded(known: str) -> np.ndarray:
    try:
        return np.unique(np.frombuffer(base64.b64decode(known, validate=True), dtype=_HASH))
    except (TypeError, ValueError):
        what = f"expected a sketch of what was read, found {str(known)[:20]!r}"
        raise DataError(f"alignment: {what}; match the models again") from None


def _hashes(samples: Any) -> Iterator[np.ndarray]:
    inputs = samples[0] if isinstance(samples, tuple) else samples
    if inputs.dtype != torch.int64:
        each = [hashlib.blake2b(x.numpy().tobytes(), digest_size=4).digest() for x in inputs.float()]
        yield np.frombuffer(b"".join(each), dtype=_HASH)
        return
    length = inputs.shape[1]
    longest = min(SPAN, max(SHORT, length // 4), length)  # windows may be cut elsewhere the next time
    for windows in inputs.split(max(1, _PIECE // length)):
        rows, factor, span = _mixed(windows.numpy().astype(np.uint64)), _FACTOR, 1
        while 2 * span <= longest:  # a stretch is two of half its length, side by side
            rows = rows[:, :-span] * np.uint64(factor) + rows[:, span:]
            factor, span = factor * factor & _LARGEST, 2 * span
        yield (_mixed(rows) >> np.uint64(32)).astype(_HASH).ravel()


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's last step: any bit of a number changes half of all bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
