# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The paper's vision transformers, small
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** Does it hold on a harder task of pictures?
# - **Afterwards you can** say what was measured of the paper's headline, and what not.
# - **You need** {doc}`10_vision`.
# - **Time.** 5 minutes to read.
# :::
#
# The paper's headline: ViT-S, ViT-B and ViT-L on ImageNet, where it claims that ViT-L stays above 69 % top-1 along the whole path
# {cite:p}`li2026dual`; which checkpoints it used is not known. Three parts: small pairs trained from nothing on Tiny ImageNet,
# larger ones for a GPU, and pairs of published models.

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop | paper; on a GPU, the campaign measures what this chapter reads
seed: int = 0
steps: int = 300  # of learned matching, published pairs
grid: int = 25  # points on the line
recompute: bool = True  # otherwise draw what the results say

# %% tags=["hide-input"]
import os
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt

from lmc.reproduce import charts, figures, results
from lmc.reproduce.experiments.chapter import (
    measured_on_gpu,
    rates_table,
    setting,
    settings_table,
)
from lmc.reproduce.experiments.comparison import record
from lmc.reproduce.experiments.from_scratch import conduct
from lmc.reproduce.experiments.published import PAIRS, study
from lmc.reproduce.experiments.rates import best_rates
from lmc.reproduce.experiments.stand_ins import tiny
from lmc.reproduce.kept_runs import KeptRuns

figures.use_style()
small = profile == "smoke"

# %% [markdown]
# ## From scratch, on two processor cores
#
# Vision transformers of four layers of 96 channels, trained on 100 images of each of Tiny ImageNet's 200 classes: far too
# few of both for a good classifier, which the accuracies say. Three pairs that share no endpoint. CIFAR-10, an easier task, is in {doc}`19_from_scratch`.

# %%
id = "vit-tiny-imagenet"
at = "smoke" if small else "laptop"
if recompute and profile == at:
    conduct(7, id, at)
found = results.read(id, at)

# %% tags=["remove-input"]
settings_table({id: setting(7, id, at)})

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss along the line between two vision transformers trained on Tiny ImageNet, by method: the mean over three disjoint pairs, and each run faintly (learned methods match the first pair with three seeds).", "name": "fig-vit-tiny-imagenet"}}
figures.path_figure(found.comparison)
plt.show()

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Top-1 accuracy along the same lines.", "name": "fig-vit-tiny-imagenet-accuracy"}}
figures.accuracy_figure(found.comparison)
plt.show()

# %% tags=["remove-input"]
figures.method_table(found.comparison)

# %% [markdown]
# The learning rates were chosen from these: the barrier on matching data that a short probe had not seen, by rate.

# %% tags=["remove-input"]
rates_table({id: found})

# %% tags=["remove-input"]
found

# %% [markdown]
# ## On a GPU
#
# Twelve layers of 384 channels, the shape of ViT-S, on the same images; and the six layers of 256 channels of {doc}`19_from_scratch`
# on CIFAR-10.

# %% tags=["remove-input"]
measured_on_gpu(["vit-tiny-imagenet", "vit-cifar10"])

# %% [markdown]
# ## The published pairs
#
# Pairs of ViT-S, ViT-B and ViT-L, pretrained on ImageNet-1k by two groups. Two recipes may write one function in two ways: rows
# for the class token in the position embedding or not, LayerScale or none. {func}`lmc.symmetries.families.vit_forms.alike` rewrites the
# second model in the form of the first, exactly. Another input normalisation goes into the patch embedding. A pair
# that still differs is refused, with the reason.
#
# ImageNet is gated: accept its terms at `huggingface.co/datasets/ILSVRC/imagenet-1k` and set `HF_TOKEN`; or set
# `LMC_IMAGENET` to a folder of yours with `train/CLASS/…` and `val/CLASS/…`.

# %%
published = profile in ("smoke", "paper")
if small:
    pairs, match_on, held_out = tiny("vit", Path(tempfile.mkdtemp()))
    steps, grid, limits = 2, 3, (32, 8)
else:
    pairs = PAIRS["vit"]
    match_on = held_out = os.environ.get("LMC_IMAGENET") or "imagenet"
    limits = (10_000, None)

# %% tags=["remove-input"]
figures.pairs_table(pairs)

# %% [markdown]
# Matching sees training images (ten thousand, drawn at random), evaluation the whole validation set, both prepared as the
# first model of a pair wants it: crop and interpolation differ between recipes, and the other model is shown the
# first one's pictures, with its own normalisation folded into its patch embedding.
#
# The learning rates are the best of the small pairs of {doc}`10_vision`, not tuned at this size: a number from here
# is an upper bound of what a method can reach. The paper's own settings are not public.
#
# **This part was not run where the project was built**: there was no network and no such model there, so no trained pair of a
# billion parameters or more was ever measured by this project. It runs at profile `paper`; at `smoke` the same
# cells run on tiny models made on the spot, which proves the path and shows no result.

# %%
if published and recompute:
    began = time.monotonic()
    rates = best_rates(results.read("vit-digits-rates", "laptop").grids)
    keep = KeptRuns.of("vit-imagenet", profile)
    compared = study(
        pairs, match_on, held_out, steps, rates, grid, limits, seed, keep
    )
    numbers = compared.summarised(compared.rest["guess"]).to_json()
    record(
        "vit-imagenet",
        profile,
        numbers,
        [seed],
        began,
        corpora=[Path(match_on).name, Path(held_out).name],
    )
if published:
    whole = results.read("vit-imagenet", profile)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier by method; a point for every pair.", "name": "fig-vit-imagenet"}}
if published:
    figures.barrier_bars(whole.comparison)
    plt.show()

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same barriers over the size of the models.", "name": "fig-vit-imagenet-size"}}
if published:
    charts.scaling_figure(whole.comparison)
    plt.show()

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Top-1 accuracy along the lines.", "name": "fig-vit-imagenet-accuracy"}}
if published:
    figures.accuracy_figure(whole.comparison)
    plt.show()

# %% tags=["remove-input"]
figures.method_table(whole.comparison) if published else figures.Markdown(
    "Not measured: `lmc reproduce --profile paper --figure vit-imagenet`."
)

# %% tags=["remove-input"]
whole if published else None

# %% tags=["remove-input"]
whole.numbers[
    "refused"
] if published else None  # pairs that cannot be paired, each with the reason

# %% [markdown]
# :::{admonition} What we found
# :class: important
#
# - On Tiny ImageNet, four layers of 96 channels: naive {{vit-tiny-imagenet: naive}} nats per image, dual {{vit-tiny-imagenet: dual}}, single {{vit-tiny-imagenet: single}}. Dual leaves {{vit-tiny-imagenet: dual / naive}} of naive.
# - The networks are poor classifiers, and a low barrier between poor networks is easier to have.
# - ViT-S, B and L on ImageNet were not measured: {doc}`../unmeasured`.
# :::
#
# **Next question.** And the paper's language models? {doc}`17_pythia_small`.
