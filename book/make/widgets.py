"""`make widgets`: the numbers behind the interactive pictures, a small JSON file each, from shipped pairs and results.

The pages need no server and no network: a widget's numbers travel in the page (book/_ext/pictures.py), and a short
script beside them draws what the reader moves.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import least_squares, linear_sum_assignment
from scipy.special import expit
from torch import Tensor, nn

import lmc
from lmc import corpora
from lmc.reproduce.training.shipped_pairs import shipped

ROOT = Path(__file__).resolve().parents[2]
STATIC, RESULTS = ROOT / "book/_static", ROOT / "data/results/laptop"
DIGITS, TEXT = "vit-digits-0", "neox-docstrings-0"
POINTS = 25  # on the line, as in the book's figures
PROMPT, WRITTEN = "Return the number of ", 60  # what the language model reads; how many characters it writes


def main() -> int:
    for name in sys.argv[1:] or list(NUMBERS):
        numbers = json.dumps(_rounded(NUMBERS[name]()), ensure_ascii=False, separators=(",", ":"))
        (STATIC / f"{name}.json").write_text(numbers + "\n", encoding="utf-8")
        print(f"{name}: {len(numbers.encode()) / 1000:.1f} kB")
    return 0


def lambda_slider() -> dict[str, Any]:
    """What a network says along the line, averaged as it is and after dual matching: digits, and English bytes."""
    a, b = (lmc.load(folder) for folder in shipped(DIGITS))
    size: dict[str, Any] = {"size": 8, "mean": (0.5,), "std": (0.5,)}
    matching, unseen = (corpora.images("digits", split, **size) for split in ("match", "eval"))
    shown = [int((unseen[1] == digit).nonzero()[0]) for digit in (0, 2, 3, 5, 8, 9)]
    images = {
        "pair": DIGITS,
        "pixels": ((unseen[0][shown, 0] + 1) * 8).round().int().flatten(1).tolist(),  # 0 to 16, as in the data set
        "labels": unseen[1][shown].tolist(),
    }
    pictures = {
        way: _along(found, unseen, lambda m: _read_digits(m, unseen[0][shown])) for way, found in _ways(a, b, matching)
    }

    a, b = (lmc.load(folder) for folder in shipped(TEXT))
    bytes_ = corpora.byte_tokenizer()
    reading, windows = (corpora.tokens("embedded", split, bytes_, 128, limit=limit) for split, limit in LIMITS.items())
    prompt = torch.tensor([bytes_(PROMPT).input_ids])
    texts = {way: _along(found, windows, lambda m: _write(m, prompt, bytes_)) for way, found in _ways(a, b, reading)}
    lambdas = [i / (POINTS - 1) for i in range(POINTS)]
    words = {"pair": TEXT, "prompt": PROMPT}
    return {"lambdas": lambdas, "digits": images | pictures, "text": words | texts}


LIMITS: dict[str, int | None] = {"train": None, "eval": 128}  # windows of the documentation, as in chapter "Pythia"


def _ways(a: nn.Module, b: nn.Module, matching: object) -> list[tuple[str, lmc.Alignment]]:
    return [("naive", lmc.match(a, b, method="naive")), ("dual", lmc.match(a, b, method="dual", data=matching))]


def _along(found: lmc.Alignment, unseen: object, says: Callable[[nn.Module], Any]) -> dict[str, Any]:
    walked = lmc.path(found, unseen, grid=POINTS)
    said = [says(found.merge(at)) for at in walked.lambdas]
    return {"loss": walked.losses, "accuracy": walked.accuracies, "barrier": walked.barrier, "says": said}


@torch.no_grad()
def _read_digits(model: nn.Module, images: Tensor) -> list[list[int]]:
    """Of each image the class that is most likely, and its probability in percent."""
    probability, answer = model(images).softmax(-1).max(-1)
    return [[int(k), round(100 * float(p))] for k, p in zip(answer, probability, strict=True)]


@torch.no_grad()
def _write(model: nn.Module, prompt: Tensor, tokenizer: Any) -> str:
    """The prompt continued, every time by the most likely byte."""
    text = prompt
    for _ in range(WRITTEN):
        text = torch.cat([text, model(text).logits[:, -1].argmax(-1, keepdim=True)], 1)
    return str(tokenizer.decode(text[0, prompt.shape[1] :]))


def landscape() -> dict[str, Any]:
    """Held-out loss over the plane through A, B and the matched B, as the landscape chapter measured it."""
    found = json.loads((RESULTS / "landscape-vit.json").read_text(encoding="utf-8"))
    plane = found["planes"]["single"]
    return {key: plane[key] for key in ("x", "y", "losses", "points", "unit")} | {"pair": found["pairs"][0]}


def dual_eta() -> dict[str, Any]:
    """Two-layer linear networks that differ by a rotation of the layer between, nearly; and the curves of real ones.

    A network y = U W x is kept as [W | Uᵀ], [stream 3, input 4 + output 2], so that a rotation acts from the left.
    """
    draws = np.random.default_rng(5)
    a = draws.normal(size=(3, 6)) / 1.5
    turn = np.linalg.qr(draws.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))  # a rotation, which a Cayley map can undo
    b = turn @ (a + 0.05 * draws.normal(size=a.shape))
    found = json.loads((RESULTS / "dual-single.json").read_text(encoding="utf-8"))
    measured = {"pair": found["pairs"][0], "unit": found["unit"], "curves": found["curves"], "apart": found["headline"]}
    return {"a": a.tolist(), "b": b.tolist(), "inputs": 4, "measured": measured}


def weights_before_after() -> dict[str, Any]:
    """Two networks of six hidden units that imitate the same function from different starts and noisy examples.

    A start may end in a poor minimum: of eight, the two that fit best. The order is the assignment of units whose
    weights are closest.
    """
    rows, columns, out = 6, 5, 3
    wanted = np.random.default_rng(0).normal(size=rows * (columns + out))

    def split(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return w[: rows * columns].reshape(rows, columns), w[rows * columns :].reshape(out, rows)

    def answer(w: np.ndarray, x: np.ndarray) -> np.ndarray:
        into, back = split(w)
        hidden = x @ into.T
        return np.asarray(hidden * expit(1.702 * hidden) @ back.T)  # GELU, nearly

    def train(seed: int) -> tuple[float, np.ndarray]:
        draws = np.random.default_rng(seed)
        x = draws.normal(size=(200, columns))
        y = answer(wanted, x) + 0.1 * draws.normal(size=(200, out))
        found = least_squares(lambda w: (answer(w, x) - y).ravel(), draws.normal(size=wanted.size), method="lm")
        return float(found.cost), found.x

    (_, a), (_, b) = sorted((train(seed) for seed in range(1, 9)), key=lambda run: run[0])[:2]
    units = [np.concatenate([into, back.T], 1) for into, back in (split(a), split(b))]
    order = linear_sum_assignment(((units[0][:, None] - units[1][None]) ** 2).sum(-1))[1]
    sides = {
        side: dict(zip(("in", "out"), map(np.ndarray.tolist, split(w)), strict=True))
        for side, w in zip("ab", (a, b), strict=True)
    }
    return sides | {"order": order.tolist()}


def _rounded(value: Any) -> Any:
    """Floats to four digits: more than a picture shows, and a file that stays small."""
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


NUMBERS: dict[str, Callable[[], dict[str, Any]]] = {
    "widgets/lambda-slider": lambda_slider,
    "widgets/landscape": landscape,
    "widgets/dual-eta": dual_eta,
    "pictures/weights-before-after": weights_before_after,
}

if __name__ == "__main__":
    sys.exit(main())
