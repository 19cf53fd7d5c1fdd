# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Learning-rate grids
#
# Single and dual matching over one grid of learning rates, at equal steps, on all pairs. The chapters draw its
# results; it takes too long to be run with the book.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke | laptop
kind: str = "both"  # vit-digits | neox-docstrings | both
steps: int = 100

# %%
import time

import lmc
from lmc import corpora, pairs, results
from lmc.experiment import learning_rates

small = profile == "smoke"
steps, count = (2, 1) if small else (steps, 3)
rates = [5e-3, 2e-2] if small else [5e-3, 1e-2, 2e-2, 4e-2]
tokenizer = corpora.byte_tokenizer()
digits = {"size": 8, "mean": (0.5,), "std": (0.5,)}
limit = 8 if small else None
data = {
    "vit-digits": tuple(corpora.images("digits", split, limit=limit, **digits) for split in ("match", "eval")),
    "neox-docstrings": tuple(
        corpora.tokens("embedded", split, tokenizer, 128, limit=limit or size)
        for split, size in (("match", None), ("eval", 128))
    ),
}
for name in data if kind == "both" else [kind]:
    began = time.monotonic()
    loaded = {f"{name}-{i}": tuple(map(lmc.load, pairs.shipped(f"{name}-{i}"))) for i in range(count)}
    grids = {m: learning_rates(loaded, *data[name], m, rates, steps=steps) for m in ("single", "dual")}
    best = {m: min(zip(g["barrier"], g["rates"], strict=True), key=lambda x: sum(x[0]))[1] for m, g in grids.items()}
    run = {
        "seeds": [0],
        "duration_s": time.monotonic() - began,
        "command": f"lmc reproduce --profile {profile} --figure {name}-rates",
    }
    unit = "nats per image" if name == "vit-digits" else "nats per token"
    numbers = {"headline": {f"best rate, {m}": rate for m, rate in best.items()}, "unit": unit, "grids": grids}
    results.write(f"{name}-rates", profile, numbers, run)

# %%
{name: results.read(f"{name}-rates", profile).numbers["headline"] for name in (data if kind == "both" else [kind])}
