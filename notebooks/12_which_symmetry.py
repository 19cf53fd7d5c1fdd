# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which symmetry does the work?
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** Which kind of rewriting lowers the barrier?
# - **Afterwards you can** tell what a symmetry does alone from what it adds to others.
# - **You need** part II, {doc}`10_vision`.
# - **Time.** 6 minutes to read; computing it took 9.
# :::
#
# Part II showed what can be rewritten: the residual stream can be rotated (and, where the architecture allows, scaled),
# heads and hidden units can be reordered, and inside each head values, queries and keys can be written in another basis.
# A part of Figure 3 in {cite:t}`li2026dual` takes such kinds away one at a time. Here every kind is tried alone, and left out
# alone, on three pairs, the first of them matched three times with other random batches.
#
# A kind that is left out is left out of everything. It is reset to the identity in the starting point, which otherwise
# is the better of weight and activation matching, and it does not learn. So *only head order* is a matching by
# permutation alone, with nothing learned; and *none* is the line between the canonical forms.
#
# The models are the small shipped pairs. What produced the numbers is said under each figure.

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop
seed: int = 0
recompute: bool = True  # otherwise draw what the results say

# %% tags=["hide-input"]
import time

import matplotlib.pyplot as plt

from lmc import corpora
from lmc.reproduce import charts, figures, results
from lmc.reproduce.experiments.ablation import ablate
from lmc.reproduce.experiments.comparison import load_pairs, record
from lmc.reproduce.runs import Headline

figures.use_style()
small = profile == "smoke"
grid = 3 if small else 7
shown = ("none", "only stream rotation", "without stream rotation", "all")


def study(
    id: str, kind: str, count: int, match_on, held_out, steps: int, lr: float
) -> None:
    """Every variant on the first pairs of a kind, on the first of them with three seeds."""
    began = time.monotonic()
    steps, tried = (1, shown) if small else (steps, None)  # all of them
    seeds = [seed] if small else [seed, seed + 1, seed + 2]
    compared = ablate(
        load_pairs(kind, count),
        match_on,
        held_out,
        steps,
        lr,
        grid,
        seeds,
        tried,
    )
    spread = {f"{name}, barrier": compared.barriers(name) for name in shown}
    headline = Headline.of(spread, compared.pairs, seedless=["none, barrier"])
    record(id, profile, compared.to_json() | headline.to_json(), seeds, began)


# %% [markdown]
# ## Vision transformers on digits

# %% tags=["hide-input"]
if recompute:
    digits = {"size": 8, "mean": (0.5,), "std": (0.5,)}
    match_on = corpora.images(
        "digits", "match", **digits, limit=48 if small else None
    )
    held_out = corpora.images(
        "digits", "eval", **digits, limit=16 if small else None
    )
    study(
        "ablation-vit",
        "vit-digits",
        1 if small else 3,
        match_on,
        held_out,
        steps=60,
        lr=0.02,
    )
found = results.read("ablation-vit", profile)

# %% [markdown]
# {numref}`fig-ablation-vit` has three groups of bars: one kind alone, one kind left out, and all.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier of dual matching with some kinds of symmetry only: the mean over pairs, and a point for each run: three pairs, the first of them matched three times with other random batches; 95 % intervals over held-out images.", "name": "fig-ablation-vit"}, "image": {"alt": "A horizontal bar for each variant. None is long ({{ablation-vit: none}} nats per image). Alone, head order and hidden order leave no less, queries and keys {{ablation-vit: only queries and keys}}, values {{ablation-vit: only values}}, and stream rotation {{ablation-vit: only stream rotation}}. With one kind left out all bars are short; without stream rotation is the longest of these ({{ablation-vit: without stream rotation}}). All: {{ablation-vit: all}}."}}
charts.ablation_figure(found.comparison)
plt.show()

# %% tags=["remove-input"]
found

# %% [markdown]
# ## Language models of Pythia's architecture
#
# Rotary positions leave queries and keys less freedom: one complex number for each frequency. In exchange this
# architecture's configuration holds the norms' $\varepsilon$, so the residual scale is exact; it is tried alone and on
# top of everything else.

# %% tags=["hide-input"]
if recompute:
    tokenizer = corpora.byte_tokenizer()
    match_on = corpora.tokens(
        "embedded", "train", tokenizer, 128, limit=32 if small else None
    )
    held_out = corpora.tokens(
        "embedded", "eval", tokenizer, 128, limit=8 if small else 64
    )
    study(
        "ablation-text",
        "neox-docstrings",
        1 if small else 3,
        match_on,
        held_out,
        steps=40,
        lr=0.02,
    )
found = results.read("ablation-text", profile)

# %% [markdown]
# {numref}`fig-ablation-text` is to be read in the same way.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same for language models, with the residual scale.", "name": "fig-ablation-text"}, "image": {"alt": "The same bars for language models. None: {{ablation-text: none}} nats per byte. Alone, stream rotation leaves least ({{ablation-text: only stream rotation}}), then values ({{ablation-text: only values}}). Left out, stream rotation costs most ({{ablation-text: without stream rotation}}), then queries and keys ({{ablation-text: without queries and keys}}). All: {{ablation-text: all}}; with the stream's scale {{ablation-text: all and stream scale}}."}}
charts.ablation_figure(found.comparison)
plt.show()

# %% tags=["remove-input"]
found

# %% [markdown]
# ## How to read it
#
# Read the bars in pairs. A kind that helps alone and whose absence hurts does something that no other kind can do in
# its place. A kind whose absence changes nothing was either already right, or is made up for by the others. Steps are
# equal for all variants and fewer than in {doc}`10_vision`, so these barriers compare with each other, not with those.
# The learning rate is 0.02 for all; a variant with few coordinates may have a better one.

# %% [markdown]
# :::{admonition} What we found
# :class: important
#
# - No other kind does as much alone as the rotation of the stream: it takes the barrier from {{ablation-vit: none}} to {{ablation-vit: only stream rotation}} (vision) and from {{ablation-text: none}} to {{ablation-text: only stream rotation}} (text).
# - None is missed as much: {{ablation-vit: without stream rotation}} against {{ablation-vit: all}}, and {{ablation-text: without stream rotation}} against {{ablation-text: all}}. With all other kinds and no rotation, less is left than with the rotation and nothing else ({{ablation-vit: only stream rotation}} and {{ablation-text: only stream rotation}}): it is the strongest single kind, and not enough by itself. (Means over pairs; on the first pair of digits the order of heads is missed more.)
# - Reordering hidden units alone leaves {{ablation-vit: only hidden order}} and {{ablation-text: only hidden order}}. On vision that is more than with no symmetry at all: the order is chosen by weights or activations, not by the loss, and may raise it. Methods that permute channels and heads as well do better: {doc}`../neighbours` measures them.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-alone
# A symmetry alone achieves much, and left out it costs nothing. What does that say about it? Build a case: a loss of
# two numbers $s$ and $t$, where each alone can reach zero.
# ```

# %% [markdown]
# ```{solution-start} ex-alone
# :class: dropdown
# ```
#
# That the others make up for it. It is not needed beside them. In $(s + t - 1)^2$ either number can do what the other
# does.


# %%
def loss(s, t):
    return (s + t - 1) ** 2


assert loss(0, 0) == 1  # none
assert loss(1, 0) == loss(0, 1) == 0  # only one of them

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-both
# Take the numbers of vision, `results.read("ablation-vit", "laptop").comparison`. For each kind, by how much does it
# lower the barrier alone, and by how much is the barrier higher without it? Which kind is first in both?
# ```

# %% [markdown]
# ```{solution-start} ex-both
# :class: dropdown
# ```
#
# The rotation of the stream.

# %%
barrier = results.read("ablation-vit", "laptop").comparison.mean
names = ["stream rotation", "head order", "hidden order"]
names += ["values", "queries and keys"]
alone = {n: barrier("none") - barrier(f"only {n}") for n in names}
missed = {n: barrier(f"without {n}") - barrier("all") for n in names}
for name in names:
    print(f"{name:<16}  {alone[name]:+.2f}  {missed[name]:+.2f}")
assert max(alone, key=alone.get) == "stream rotation"
assert max(missed, key=missed.get) == "stream rotation"

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-numbers
# Perhaps the stream is ahead because it has more numbers to turn? Count the free numbers of a rotation of 64 channels
# that leaves $\mathbb 1$ alone, and of the rotations inside a head of 16 channels, of which there are four in each of
# four layers.
# ```

# %% [markdown]
# ```{solution-start} ex-numbers
# :class: dropdown
# ```
#
# A rotation of $n$ directions has $n(n-1)/2$ free numbers, and one direction is fixed, so $n = 63$. The stream has
# about as many as all values together have in rotations, in one single matrix that every layer has to agree with. (The
# values' full group, all invertible matrices, has $16^2$ for each head.)


# %%
def free(n):
    return n * (n - 1) // 2


assert free(64 - 1) == 1953
assert 4 * 4 * free(16) == 1920
assert 4 * 4 * 16**2 == 4096

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** The barrier is low now. Is the merged network any good? {doc}`13_controls`.
