# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Vision transformers on digits: every method at its best rate
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** Does matching work on pictures, when every method gets its best learning rate?
# - **Afterwards you can** read a table of barriers with its intervals.
# - **You need** {doc}`08_matching`.
# - **Time.** 8 minutes to read, 6 to run.
# :::
#
# Every method, on three disjoint pairs of vision transformers (four layers, 64 channels, four heads, the architecture
# of `timm`), trained on handwritten digits. One pair is matched with three seeds of the learning. All results are of
# *stock* models: a merged network is a checkpoint that `timm` loads.
#
# This is the small setting that a laptop can recompute. The paper's own experiment uses ViT-S/B/L on ImageNet; it
# claims that ViT-L stays above 69 % top-1 accuracy along the whole path {cite:p}`li2026dual`. That was not run here.

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop
seed: int = 0
steps: int = 300  # of learned matching
grid: int = 25  # points on the line

# %% tags=["hide-input"]
import time

import matplotlib.pyplot as plt

from lmc import corpora
from lmc.reproduce import figures, results
from lmc.reproduce.experiments.comparison import (
    compare,
    load_pairs,
    plan,
    record,
)
from lmc.reproduce.experiments.rates import best_rates
from lmc.reproduce.kept_runs import KeptRuns
from lmc.reproduce.training import shipped_pairs

figures.use_style()
began = time.monotonic()
small = profile == "smoke"
steps, grid, seeds = (
    (3, 5, [seed]) if small else (steps, grid, [seed, seed + 1, seed + 2])
)
loaded = load_pairs("vit-digits", 1 if small else 3)

# %% [markdown]
# ## The endpoints
#
# Two losses and two accuracies for each pair, on held-out images. A cosine near zero says that the two were trained apart.

# %% tags=["hide-input"]
{
    name: {
        "held-out accuracy": [
            round(run["accuracy"], 3)
            for run in shipped_pairs.record(name)["endpoints"].values()
        ],
        "held-out loss": [
            round(run["loss"], 3)
            for run in shipped_pairs.record(name)["endpoints"].values()
        ],
        "cosine of the weights": round(
            shipped_pairs.record(name)["cosine"], 3
        ),
    }
    for name in loaded
}

# %% [markdown]
# ## The experiment
#
# Matching sees training images, evaluation images that nothing else has seen. Single and dual matching make the same
# runs: every pair with one seed, and the first pair with the other seeds too. Each has its own best learning rate, from
# the grid shown below. Both start from the same closed form, weights or activations: the one whose midpoint has the
# lower loss on matching data. ({doc}`08_matching` starts from activations, and how far a few hundred steps come depends
# on the start.) Each line that is printed is one run: its pair, method, barrier in nats per image, seconds of matching, and
# settings.

# %% tags=["hide-input"]
digits = {"size": 8, "mean": (0.5,), "std": (0.5,)}
match_on = corpora.images("digits", "match", **digits)
held_out = corpora.images("digits", "eval", **digits)
rates = results.read("vit-digits-rates", profile)
methods = plan(list(loaded), seeds, steps, best_rates(rates.grids))
keep = KeptRuns.of(
    "vit-digits", profile
)  # finished runs, until the results are written
compared = compare(loaded, match_on, held_out, methods, grid, keep=keep)
baselines = shipped_pairs.record("vit-digits-0")["baselines"]
numbers = compared.summarised(guess=baselines["class_prior"]).to_json() | {
    "baselines": baselines
}
found = record(
    "vit-digits",
    profile,
    numbers,
    seeds,
    began,
    corpus=corpora.describe("digits", "eval"),
)

# %% [markdown]
# ## Along the line
#
# {numref}`fig-vit-digits` shows how the loss goes: two hills, two lower ones, and two curves that lie on the ground.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss along the line between two vision transformers, by method: the mean over pairs, each run faintly. Black dots are the endpoints, which no method changes.", "name": "fig-vit-digits"}, "image": {"alt": "Loss over λ from 0 to 1, a curve for each method. Naive and canonical rise to a hill in the middle, with barriers of {{vit-digits: naive}} and {{vit-digits: canonical}} nats per image; weights ({{vit-digits: weights}}) and activations ({{vit-digits: activations}}) are flatter hills; single ({{vit-digits: single}}) and dual ({{vit-digits: dual}}) run along the bottom, one over the other."}}
figures.path_figure(found.comparison)
plt.show()

# %% [markdown]
# {numref}`fig-vit-accuracy` shows the share of digits that are read right: where the loss rises, it falls. Half way, the naive
# average reads about as many as chance would, one in ten.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Accuracy along the same lines.", "name": "fig-vit-accuracy"}, "image": {"alt": "Accuracy over λ. Naive and canonical fall into a deep trough: half way the first naive pair reads {{vit-digits: % methods.naive.accuracies.0.12}} of the digits. Weights and activations are shallower troughs. Single and dual stay level at the endpoints' accuracy: {{vit-digits: % methods.dual.accuracies.0.12}} half way for dual."}}
figures.accuracy_figure(found.comparison)
plt.show()

# %% [markdown]
# In {numref}`fig-vit-bars` every run is a dot with its interval: pairs differ from each other more than their
# intervals are wide.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier by method; a point for every run, with its 95 % interval over held-out images.", "name": "fig-vit-bars"}, "image": {"alt": "A bar for each method, from left to right: naive {{vit-digits: naive}}, canonical {{vit-digits: canonical}}, weights {{vit-digits: weights}}, activations {{vit-digits: activations}}, single {{vit-digits: single}} and dual {{vit-digits: dual}} nats per image. The last two can hardly be seen. Three dots on the first four, five on the last two, with intervals that touch zero."}}
figures.barrier_bars(found.comparison)
plt.show()

# %% [markdown]
# As numbers: the barrier's mean over pairs; the interval of a run, by paired bootstrap over held-out samples, on average (so it is no interval
# of the mean: where two of three pairs are at zero, it can still begin above zero); the
# range of the runs; the ratio to naive averaging; the barrier divided by what
# there is to lose (the loss of guessing by class frequency minus the endpoints' loss); the signed gap between the
# midpoint and the better endpoint; and by how much rewriting *moved* the
# endpoints' own losses, which measures rounding.

# %% tags=["remove-input"]
figures.method_table(found.comparison)

# %% tags=["remove-input"]
found

# %% [markdown]
# ## Learning rates
#
# A method that is given a bad learning rate loses any comparison. So both ran over one grid, on the same pairs and for
# the same steps, and the experiment above takes the best of each. A part of the matching data was kept from the grid's matching, and its
# barriers are measured there, so the choice between rates is blind to the evaluation data. (The endpoints were trained
# on these images: the barriers below compare rates, those above are the result.)

# %%
{"steps": rates.numbers["steps"], "images": rates.numbers["samples"]}

# %% [markdown]
# {numref}`fig-vit-digits-rates` shows both grids. The best rate of each is inside its grid. {doc}`09_one_side_or_two` lets
# one expect single's best rate to be twice that of dual. Here both means are lowest at the same rate: the curves
# are flat around it, and the pairs (drawn faintly) disagree about it. So the table above compares the two at equal rates.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier after learning, by learning rate: the mean over pairs, each pair faintly.", "name": "fig-vit-digits-rates"}, "image": {"alt": "Barrier over four learning rates from 0.005 to 0.04, for single and dual. Both curves are lowest at {{vit-digits-rates: best rate, dual}} and rise to the right, dual higher than single at 0.04; at 0.005 single is higher."}}
figures.rate_figure(rates.grids, rates.numbers["unit"])
plt.show()

# %% tags=["remove-input"]
rates

# %% [markdown]
# :::{admonition} What we found
# :class: important
#
# - Averaging as they are: {{vit-digits: naive}} nats per image. Matched by weights: {{vit-digits: weights}}, by activations: {{vit-digits: activations}}.
# - Learned: dual {{vit-digits: dual}}, single {{vit-digits: single}}, that is {{vit-digits: dual / naive}} and {{vit-digits: single / naive}} of naive. On two of the three pairs both are zero, so the difference is that of one pair. The intervals overlap: no difference between the two can be told from chance here.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-again
# Compute the barrier of the first dual run from its losses: `run = found.comparison.methods["dual"][0]` has `lambdas`,
# `losses` and `barrier`. Compare with the last.
# ```

# %% [markdown]
# ```{solution-start} ex-again
# :class: dropdown
# ```

# %%
run = found.comparison.methods["dual"][0]
ends = run.losses[0], run.losses[-1]
above = [
    loss - (1 - lam) * ends[0] - lam * ends[1]
    for lam, loss in zip(run.lambdas, run.losses, strict=True)
]
assert abs(max(above) - run.barrier) < 1e-5

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-mean-share
# The table's `÷ naive` is {{vit-digits: % summary.dual.ratio}} for dual matching. Is it the mean of the runs' shares,
# or the share of the means? And how is a pair counted that was matched with three seeds?
# ```

# %% [markdown]
# ```{solution-start} ex-mean-share
# :class: dropdown
# ```
#
# It is the mean of shares: each run is divided by the naive barrier of its own pair. Seeds are averaged first, so that
# every pair counts once. (At profile smoke there is one run, and all of these are the same.)

# %%
naive = {run.pair: run.barrier for run in found.comparison.methods["naive"]}
shares = {}
for run in found.comparison.methods["dual"]:
    shares.setdefault(run.pair, []).append(run.barrier / naive[run.pair])
means = [sum(row) / len(row) for row in shares.values()]
share = sum(means) / len(means)
assert abs(share - found.comparison.summary["dual"].ratio) < 1e-6

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-bootstrap
# Where does an interval come from? Draw 450 losses at random from 450 losses, *with* replacement, and take their mean;
# do so 1,000 times. Between which two values lie 95 % of the means? How much narrower does it get with four times as
# many images?
# ```

# %% [markdown]
# ```{solution-start} ex-bootstrap
# :class: dropdown
# ```
#
# Half as wide: the spread of a mean falls with the root of the number of samples. The intervals of this chapter are
# made like this, from the difference between points of the line on the same images (a *paired* bootstrap).

# %%
import numpy as np

draw = np.random.default_rng(0)


def interval(losses):
    drawn = draw.choice(losses, size=(1000, len(losses)))
    return np.quantile(drawn.mean(axis=1), [0.025, 0.975])


few, many = draw.exponential(size=450), draw.exponential(size=1800)
low, high = interval(few)
assert low < few.mean() < high
assert 1.6 < (high - low) / np.ptp(interval(many)) < 2.5

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** And on text? {doc}`11_text`.
