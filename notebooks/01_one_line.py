# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Two networks, one line
#
# Train the same architecture twice on the same task, from two random seeds. Both copies learn it equally well. Now
# average their weights. One would hope for a third good network: averaging is cheap, and it is how checkpoints of
# *one* run are routinely combined {cite:p}`wortsman2022soups`. Between two runs it fails, and this chapter shows how
# badly.
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** How bad is the average of two networks?
# - **Afterwards you can** compute a barrier in ten lines of PyTorch, and say what a nat is.
# - **You need** Python, and an idea of what a loss is.
# - **Time.** 10 minutes to read, 1 minute to run.
# :::

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop
grid: int = 25  # points on the line

# %% tags=["hide-input"]
import time

import lmc
from lmc import corpora
from lmc.reproduce import figures, results
from lmc.reproduce.experiments.comparison import compare
from lmc.reproduce.runs import Headline
from lmc.reproduce.training import shipped_pairs

figures.use_style()
began = time.monotonic()
small = profile == "smoke"
grid = 5 if small else grid


def load(name: str) -> tuple:
    return tuple(lmc.load(folder) for folder in shipped_pairs.shipped(name))


digits = {"size": 8, "mean": (0.5,), "std": (0.5,)}

# %% [markdown]
# ## Ten lines
#
# The repository holds small pairs of networks that were trained independently: other initialisation, other order of
# the data. These two are vision transformers that read handwritten digits, ordinary models of the library `timm`.
# The images are *held out*: neither training has seen them.

# %%
import torch

a, b = load("vit-digits-0")
images, labels = corpora.images("digits", "eval", **digits)


@torch.no_grad()
def loss_at(lam: float) -> float:
    between, _ = load("vit-digits-0")  # a copy of a
    for p, q in zip(between.parameters(), b.parameters(), strict=True):
        p.copy_((1 - lam) * p + lam * q)
    guess = between(images)
    return torch.nn.functional.cross_entropy(guess, labels).item()


# %% [markdown]
# That is all there is to it: every weight of the new network is a mixture of the same weight of $A$ and of $B$. The
# {term}`interpolation weight` $\lambda$ says how much of each. Walk from $A$ ($\lambda = 0$) to $B$ ($\lambda = 1$):

# %%
for lam in (0, 0.25, 0.5, 0.75, 1):
    print(f"λ = {lam:<4}  loss {loss_at(lam):.3f}")

# %% [markdown]
# ## What the numbers mean
#
# The loss is $-\ln p$, where $p$ is the probability that the network gave to the right answer, averaged over images.
# Its unit is called a **nat**. A network that is always sure and right has loss 0. One that knows nothing and gives
# each of ten digits a tenth pays $\ln 10 \approx 2.3$ nats. So a loss far above that, as half way between $A$ and
# $B$, is worse than knowing nothing: the network is sure of wrong answers.
#
# For text one also says **perplexity**, $e^{\text{loss}}$: among how many equally likely characters the model
# hesitates. A rise by one nat multiplies it by $e \approx 2.7$.
#
# ## The barrier
#
# Let $L$ be the held-out loss and $\theta_\lambda = (1-\lambda)\,\theta_A + \lambda\,\theta_B$ the weights on the way
# between the two {term}`endpoints <endpoint>`.
#
# :::{prf:definition} Barrier
# :label: def-barrier
#
# The {term}`barrier` is how far the loss rises above the straight line between the losses of the endpoints:
#
# $$
# \begin{aligned}
# \text{barrier} = \max_{0\le\lambda\le1}\; & L(\theta_\lambda) \\
# & - (1-\lambda)\,L(\theta_A) \\
# & - \lambda\,L(\theta_B).
# \end{aligned}
# $$
# :::
#
# It cannot be negative, since at $\lambda = 0$ it is zero. Two networks are *linearly mode connected*
# when it is (almost) zero: the term is that of {cite:t}`frankle2020linear`, who measured errors, this formula that of
# {cite:t}`entezari2022role`. Nobody can look at every $\lambda$: here it is looked at on 25
# points, so a peak between two of them is missed, and a chapter that uses fewer points, fewer held-out samples or other
# pairs finds a slightly different barrier for the same method. Compare numbers within a chapter.

# %%
line = [k / (grid - 1) for k in range(grid)]
losses = [loss_at(lam) for lam in line]
above = [
    loss - (1 - lam) * losses[0] - lam * losses[-1]
    for lam, loss in zip(line, losses, strict=True)
]
top = max(range(grid), key=above.__getitem__)
print(f"highest above the straight line at λ = {line[top]:.2f}")
print(f"loss there: {losses[top]:.2f} nats per image")
print(f"barrier: {above[top]:.2f} nats per image")

# %% [markdown]
# The peak is not exactly half way, which is why five points did not show it.
#
# `lmc.match` and `lmc.path` do the same in two lines, and much more later. The method `naive` does nothing but average.

# %%
path = lmc.path(lmc.match(a, b, method="naive"), (images, labels), grid)
print(f"barrier: {path.barrier:.2f} nats per image")
assert abs(path.barrier - above[top]) < 1e-3

# %% [markdown]
# ## Three pairs, to be sure
#
# One pair may be bad luck. {numref}`fig-naive-vit` shows three that share no network.

# %% tags=["hide-cell"]
names = [f"vit-digits-{i}" for i in range(1 if small else 3)]
held_out = (images, labels)
vision = compare(
    {name: load(name) for name in names},
    held_out,
    held_out,
    {"naive": [{}]},
    grid,
)
numbers = (
    vision.to_json()
    | Headline(
        {"naive barrier": vision.mean("naive")}, seedless=["naive barrier"]
    ).to_json()
)
command = f"lmc reproduce --profile {profile} --figure naive-vit"
run = {
    "seeds": [0],
    "duration_s": time.monotonic() - began,
    "command": command,
}
found = results.write("naive-vit", profile, numbers, run)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss between two vision transformers trained from different seeds: three disjoint pairs faintly, and their mean. Both ends are good, what lies between is worse than guessing.", "name": "fig-naive-vit"}, "image": {"alt": "Loss over λ from 0 to 1. At both ends it is close to zero; in between it rises steeply, on average over three pairs by {{naive-vit: naive barrier}} nats per image."}}
import matplotlib.pyplot as plt

figures.path_figure(results.read("naive-vit", profile).comparison)
plt.show()

# %% [markdown]
# ## Language models
#
# The same with two models of Pythia's architecture {cite:p}`biderman2023pythia`, which predict the next byte of English
# text: the documentation that came with the Python packages on this machine. Training and evaluation use different
# packages, and no paragraph is in both. {numref}`fig-naive-pythia` shows three lines between such models.

# %% tags=["hide-cell"]
began = time.monotonic()
names = [f"neox-docstrings-{i}" for i in range(1 if small else 3)]
tokens = corpora.tokens(
    "embedded",
    "eval",
    corpora.byte_tokenizer(),
    128,
    limit=16 if small else 256,
)
text = compare(
    {name: load(name) for name in names},
    tokens,
    tokens,
    {"naive": [{}]},
    grid,
)
numbers = (
    text.to_json()
    | Headline(
        {"naive barrier": text.mean("naive")}, seedless=["naive barrier"]
    ).to_json()
)
command = f"lmc reproduce --profile {profile} --figure naive-pythia"
run = {
    "seeds": [0],
    "duration_s": time.monotonic() - began,
    "command": command,
}
found = results.write("naive-pythia", profile, numbers, run)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same between two language models of Pythia's architecture.", "name": "fig-naive-pythia"}, "image": {"alt": "Loss in nats per byte over λ: a hill between two low ends, on average over three pairs {{naive-pythia: naive barrier}} nats high."}}
figures.path_figure(results.read("naive-pythia", profile).comparison)
plt.show()

# %% [markdown]
# ## Read it fail
#
# {numref}`widget-lambda-again` is the picture of the first page once more. Choose the text there, and read what the
# networks on the line write.
#
# ```{widget} lambda-slider
# :name: widget-lambda-again
# ```
#
# ## Why it fails, and why it need not
#
# The two networks may be less different than {numref}`fig-naive-vit` suggests. Take network $A$ and exchange two hidden
# units of a layer, with all their incoming and outgoing weights. The function is the same, the weights are not. There are astronomically many such rewritings, and nothing in training prefers one of them: the
# random start decides. Averaging unit 17 of one run with unit 17 of the other makes no more sense than averaging page
# 17 of two books.
#
# If the rewritings are all that separates the two, then it must be possible to rewrite one, or both, so that averaging
# works. This was conjectured for reorderings by {cite:t}`entezari2022role` and made practical by
# {cite:t}`ainsworth2023git`.
#
# :::{admonition} What we found
# :class: important
#
# - Averaging two vision transformers costs {{naive-vit: naive barrier}} nats per image, more than twice what guessing
#   costs.
# - Averaging two language models costs {{naive-pythia: naive barrier}} nats per byte. Their perplexity is multiplied
#   by {{naive-pythia: exp naive barrier}}.
#
# Profile laptop, three pairs each that share no network.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-self
# What is the barrier between a network and itself? Think first, then use `loss_at` with `b = a`.
# ```

# %% [markdown]
# ```{solution-start} ex-self
# :class: dropdown
# ```
#
# It is zero, and so is every other point of the line: $(1-\lambda)\,\theta + \lambda\,\theta = \theta$.

# %%
same = lmc.path(lmc.match(a, a, method="naive"), (images, labels), 3)
assert same.barrier < 1e-4

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-perplexity
# A language model has a loss of 2 nats per byte. After a bad average it is 3 nats. By which factor did the
# probability of the right byte fall? Store it in `factor`; the check is `round(factor, 2) == 2.72`.
# ```

# %% [markdown]
# ```{solution-start} ex-perplexity
# :class: dropdown
# ```

# %%
import math

factor = math.exp(3 - 2)
assert round(factor, 2) == 2.72

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-negative
# Find losses of two ends and a middle for which the midpoint is better than both ends. What is the barrier?
# ```

# %% [markdown]
# ```{solution-start} ex-negative
# :class: dropdown
# ```
#
# Ends 1.0 and 1.0, middle 0.5: the difference is −0.5 in the middle and 0 at the ends, so the barrier is 0. It says how
# bad the worst point is, not how good the best one is; for that there is the *gap*, the midpoint's loss minus that
# of the better end.

# %%
start, middle, end = 1.0, 0.5, 1.0
over_the_line = [0.0, middle - (start + end) / 2, 0.0]
assert max(over_the_line) == 0
assert middle - min(start, end) == -0.5  # the gap

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** Where do all these rewritings come from? {doc}`02_two_units` does one by hand.
#
# ## What made these numbers

# %% tags=["remove-input"]
results.read("naive-vit", profile)

# %% tags=["remove-input"]
results.read("naive-pythia", profile)
