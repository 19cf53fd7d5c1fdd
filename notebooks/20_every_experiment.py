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
# - **Afterwards you can** find the main barriers of part IV in one place.
# - **You need** part IV.
# - **Time.** 4 minutes to read.
# :::
#
# The {term}`barrier` of every one-sided and two-sided method in most experiments of part IV that compared all of them on one corpus, in
# nats per image or per token. (Other sizes are in {doc}`15_what_limits_it`, other kinds of models in {doc}`23_other_parents`. Networks that classify three of four
# pictures of CIFAR-10 are in {doc}`16_vit_small`: there dual matching leaves {{cifar10-128: % summary.dual.ratio}} of the naive barrier on two pairs, and {{cifar10-192: % summary.dual.ratio}} on one pair of wider networks.) `naive` averages the networks as they are, `canonical` their canonical forms. `weights` (without data)
# and `activations` rewrite one side in closed form, `single` learns to rewrite one side, `dual` both. Numbers are means over
# pairs that share no endpoint; the range of the runs is in the chapters.
#
# Figure 3 of the paper shows dual matching for vision transformers of several sizes and for language models
# {cite:p}`li2026dual`; its other part, which leaves kinds of symmetry out, is {doc}`12_which_symmetry`. This is the same
# comparison on the networks that were at hand here: other networks, and smaller ones.

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

# %% [markdown]
# In {numref}`fig-every-experiment` nearly every row has the same order: naive right, closed forms in the middle,
# learned methods left. The exceptions are networks that were trained briefly.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Mean barrier of every method in every experiment; the horizontal axis is logarithmic but for its first thousandth of a nat.", "name": "fig-every-experiment"}, "image": {"alt": "A row for each experiment and a mark for each method, on a logarithmic axis of barriers. In every row naive and canonical stand far right, weights and activations in the middle, and dual (with single, where it was run) far left: on digits from {{vit-digits: naive}} (naive) to {{vit-digits: dual}} (dual), on documentation from {{neox-docstrings: naive}} to {{neox-docstrings: dual}} nats."}}
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
# - In most experiments dual and single differ by less than their intervals. Over {{one-or-two: together.all.best.pairs}} pairs of networks the mean difference is {{one-or-two: % together.all.best.mean}} of the naive barrier.
# - Closed forms lie in between, and which of the two is better depends on the experiment.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-closed
# Weights or activations: in how many of these experiments does each of the two closed forms leave less?
# (`compared[title].barriers`)
# ```

# %% [markdown]
# ```{solution-start} ex-closed
# :class: dropdown
# ```
#
# Each is ahead in some. There is no rule here that says which to take; `lmc` begins
# at weights, which costs less; `--start better` looks at both and takes the one with the lower midpoint.

# %%
wins = {"weights": 0, "activations": 0}
for one in compared.values():
    wins[min(wins, key=one.barriers.get)] += 1
print(wins)
assert sum(wins.values()) == len(compared)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-coin
# In how many of the experiments that ran both does dual leave less than single? How often would a fair coin fall at
# least so unevenly?
# ```

# %% [markdown]
# ```{solution-start} ex-coin
# :class: dropdown
# ```
#
# Six of seven. A coin does that in one of eight tries, so it proves nothing; and most of these differences are smaller
# than their intervals. Counted pair by pair, {doc}`09_one_side_or_two` finds more.

# %%
from math import comb

rows = results.read("every-experiment", "laptop").numbers["experiments"]
both = [row["barriers"] for row in rows.values()]
both = [one for one in both if "single" in one]
less, n = sum(one["dual"] < one["single"] for one in both), len(both)
uneven = [k for k in range(n + 1) if abs(k - n / 2) >= abs(less - n / 2)]
chance = sum(comb(n, k) for k in uneven) / 2**n
print(f"{less} of {n}; by chance {chance:.0%}")
assert chance > 0.05

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-which-mean
# Why is there no row "mean of all experiments"? Compute the mean dual barrier as it is, and the mean share of the
# naive one. Which experiment decides the first?
# ```

# %% [markdown]
# ```{solution-start} ex-which-mean
# :class: dropdown
# ```
#
# The first is ruled by whichever experiment has the largest barriers, nats per image and per token are added, and a
# network of 35 % accuracy counts as much as one of 97 %. The share is better, but still mixes questions.

# %%
dual = {title: row["barriers"]["dual"] for title, row in rows.items()}
shares = {title: row["ratio"] for title, row in rows.items()}
largest = max(dual, key=dual.get)
part = dual[largest] / sum(dual.values())
print(f"{largest}: {part:.0%} of the sum")
print(f"mean share of naive: {sum(shares.values()) / len(shares):.1%}")
assert part > 1 / len(dual)

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** And where parents are less alike? {doc}`23_other_parents`.
