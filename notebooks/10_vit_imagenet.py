# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Vision transformers on ImageNet
#
# Pairs of ViT-S, ViT-B and ViT-L, pretrained on ImageNet-1k by two groups, on its validation set. The paper claims that
# ViT-L stays above 69 % top-1 along the whole path {cite:p}`li2026dual`; which checkpoints it used is not known.
#
# ImageNet is gated: accept its terms at `huggingface.co/datasets/ILSVRC/imagenet-1k` and set `HF_TOKEN`; or set
# `LMC_IMAGENET` to a folder of yours with `train/CLASS/…` and `val/CLASS/…`.
#
# **This was not run where the project was built**: there was no network and no such model there, so no pair of a billion
# parameters or more was ever measured by this project. What was run is profile `smoke`: the same cells on tiny
# models made on the spot, which prove the path and show no result. The loaders were run against a local server that
# serves these repositories' layouts, with the stock client libraries.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke | paper
seed: int = 0
steps: int = 300  # of learned matching
grid: int = 25  # points on the line

# %%
import os
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt

from lmc import charts, figures, results
from lmc.errors import ArgumentError
from lmc.experiment import best_rates, record, summary
from lmc.published import PAIRS, study
from lmc.tiny import tiny

figures.use_style()
began = time.monotonic()
if profile not in ("smoke", "paper"):
    raise ArgumentError(f"profile: expected smoke or paper, found {profile}: this chapter needs published models")
small = profile == "smoke"
if small:
    pairs, match_on, held_out = tiny("vit", Path(tempfile.mkdtemp()))
    steps, grid, limits = 2, 3, (32, 8)
else:
    pairs = PAIRS["vit"]
    match_on = held_out = os.environ.get("LMC_IMAGENET") or "imagenet"
    limits = (10_000, None)

# %% [markdown]
# ## The pairs
#
# Two recipes may write one function in two ways: rows for the class token in the position embedding or not, LayerScale or
# none. {func}`lmc.family.vit_forms.alike` rewrites the second model in the form of the first, exactly. Another input
# normalisation goes into the patch embedding. A pair that still differs is refused, with the reason.

# %%
figures.pairs_table(pairs)

# %% [markdown]
# ## The experiment
#
# Matching sees training images (ten thousand, drawn at random), evaluation the whole validation set, both prepared as the
# first model of a pair wants it: crop and interpolation differ between recipes, and the other model is shown the
# first one's pictures, with its own normalisation folded into its patch embedding.
#
# The learning rates are the best of the small pairs of {doc}`04_vit`, not tuned at this size: a number from here
# is an upper bound of what a method can reach. The paper's own settings are not public.

# %%
rates = best_rates(results.read("vit-digits-rates", "laptop").numbers)
numbers = study(pairs, match_on, held_out, steps, rates, grid, limits, seed)
numbers |= summary(numbers, guess=numbers["guess"])
found = record("vit-imagenet", profile, numbers, [seed], began, corpora=[Path(match_on).name, Path(held_out).name])
found.numbers["refused"]  # pairs that cannot be paired, each with the reason

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier by method; a point for every pair.", "name": "fig-vit-imagenet"}}
figures.barrier_bars(found.numbers)
plt.show()

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same barriers over the size of the models.", "name": "fig-vit-imagenet-size"}}
charts.scaling_figure(found.numbers)
plt.show()

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Top-1 accuracy along the lines.", "name": "fig-vit-imagenet-accuracy"}}
figures.accuracy_figure(found.numbers)
plt.show()

# %% tags=["remove-input"]
figures.method_table(found.numbers)

# %% tags=["remove-input"]
found
