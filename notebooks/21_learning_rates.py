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
# Single and dual matching over a grid of learning rates, at equal steps, on all pairs. The grid of each is long enough
# that its best rate is not at an end. A part of the matching data is kept from matching, to choose the rates by;
# evaluation data plays no part. The chapters draw the results; this takes too long to be run with the book.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke | laptop
kind: str = "both"  # vit-digits | neox-docstrings | both
steps: int = 100

# %%
import time

from lmc import corpora
from lmc.reproduce.experiments.comparison import (
    learning_rates,
    load_pairs,
    record,
)

# %%
small = profile == "smoke"
steps, count, limit = (2, 1, 16) if small else (steps, 3, None)
grid = [5e-3, 2e-2] if small else [5e-3, 1e-2, 2e-2, 4e-2]
rates = {
    name: {"single": grid, "dual": grid}
    for name in ("vit-digits", "neox-docstrings")
}
rates["neox-docstrings"]["single"] = grid if small else [*grid, 8e-2]
data = {
    "vit-digits": corpora.images(
        "digits", "match", size=8, mean=(0.5,), std=(0.5,), limit=limit
    ),
    "neox-docstrings": corpora.tokens(
        "embedded", "train", corpora.byte_tokenizer(), 128, limit=limit
    ),
}
score = (
    dict.fromkeys(data, 8)
    if small
    else {"vit-digits": 256, "neox-docstrings": 128}
)  # samples to choose by
best = {}
for name in data if kind == "both" else [kind]:
    began = time.monotonic()
    numbers = learning_rates(
        load_pairs(name, count), data[name], rates[name], steps, score[name]
    )
    best[name] = record(
        f"{name}-rates", profile, numbers, [0], began
    ).numbers["headline"]

# %%
best
