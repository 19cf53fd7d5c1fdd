# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Every experiment, side by side
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** What is common to all experiments?
# - **Afterwards you can** find every number of part IV in one place.
# - **You need** part IV.
# - **Time.** 4 minutes to read.
# :::
#
# The {term}`barrier` of every one-sided and two-sided method in every experiment of this book that compared them, in nats per
# image or per token. `naive` averages the networks as they are, `canonical` their canonical forms. `weights` (without data)
# and `activations` rewrite one side in closed form, `single` learns to rewrite one side, `dual` both. Numbers are means over
# pairs that share no endpoint; the range of the runs is in the chapters.
#
# The third figure of the paper shows dual matching for vision transformers of several sizes and for language models
# {cite:p}`li2026dual`. This is the same comparison on the networks that were at hand here: other networks, and smaller ones.

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop

# %% tags=["hide-input"]
import time

import matplotlib.pyplot as plt

from lmc.reproduce import charts, every_experiment, figures, results
from lmc.reproduce.experiments.comparison import record

figures.use_style()
began = time.monotonic()
small = profile == "smoke"
experiments = {
    "barrier-by-width": "ViT, digits, trained briefly",
    "vit-digits": "ViT, digits",
    "vit-cifar10": "ViT, CIFAR-10",
    "vit-tiny-imagenet": "ViT, Tiny ImageNet",
    "neox-docstrings": "Pythia's architecture, documentation",
    "pythia-14m"
    if small
    else "pythia-wikipedia": "Pythia's architecture, Wikipedia",
    "olmo" if small else "olmo-wikipedia": "OLMo's architecture, Wikipedia",
    "gpt2-shakespeare": "GPT-2, Tiny Shakespeare",
}
found = {
    title: results.read(id, profile) for id, title in experiments.items()
}
compared = every_experiment.side_by_side(
    {title: one.experiment for title, one in found.items()}
)
seeds = sorted({seed for one in found.values() for seed in one.run["seeds"]})
numbers = every_experiment.to_json(compared)
shown = record(
    "every-experiment",
    profile,
    numbers,
    seeds,
    began,
    drawn_from=list(experiments),
)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Mean barrier of every method in every experiment; the horizontal axis is logarithmic but for its first thousandth of a nat.", "name": "fig-every-experiment"}}
charts.overview_figure(compared)
plt.show()

# %% tags=["remove-input"]
charts.overview_table(compared)

# %% [markdown]
# `ratio` is the dual barrier as a share of the naive one of the same pair, on average (of means, over widths); `gap` is the loss of dual matching's midpoint minus that
# of the better parent: below zero, it beats both. Barriers of different experiments compare as a share of the naive one
# only, since networks, data and units differ. How long a method may learn and at which rate it does is said in each
# chapter; single and dual take equally many steps everywhere.

# %% tags=["remove-input"]
figures.Markdown(
    "\n".join(f"- {title}: {one.provenance}" for title, one in found.items())
)

# %% [markdown]
# :::{admonition} What we found
# :class: important
#
# - Where methods are compared at equal tuning, dual matching leaves from {{vit-digits: dual / naive}} (digits) to {{neox-docstrings: dual / naive}} (documentation) of the naive barrier.
# - Dual and single differ by less than their intervals in most: {{one-or-two: % together.all.best.mean}} of the naive barrier over {{one-or-two: together.all.best.pairs}} pairs.
# - Closed forms lie in between, and which of the two is better depends on the experiment.
# :::
#
# **Next question.** How to do it with your own models: {doc}`../own_checkpoints`.
