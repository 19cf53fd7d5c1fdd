# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Matching: from a closed form to a learned rewriting
#
# Part II gave every network a large set of rewritings. {term}`Matching <matching>` chooses one for each endpoint so that
# the line between them stays low.
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** How are two networks brought together, and how far does one get without learning?
# - **Afterwards you can** name the six methods, and write learned matching as pseudo-code.
# - **You need** {doc}`04_reordering`, {doc}`05_rotating` and {doc}`06_inside_a_head`; gradient descent.
# - **Time.** 15 minutes to read, 2 minutes to run.
# :::
#
# ```{figure} /_static/pictures/matching-steps.svg
# :name: fig-steps-drawn
# :alt: Five boxes from top to bottom. Two networks, trained apart; the canonical form; the closed form, repeated until nothing changes; learning, which draws λ and a batch, merges, makes one backward pass and steps in the group, again and again; the average.
#
# What matching does, step by step.
# ```
#
# Six methods, from the least to the most that is done. The names are those of `lmc.match`:
#
# | method | what it does | data |
# |---|---|---|
# | `naive` | nothing: averages the weights as they are | none |
# | `canonical` | removes arbitrary gains and scales | none |
# | `weights` | rewrites $B$ so that its weights are closest to $A$'s | none |
# | `activations` | rewrites $B$ so that it computes with the same units as $A$ | some |
# | `single` | learns a rewriting of $B$ that lowers the loss between them | some |
# | `dual` | learns one of each | some |

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop
seed: int = 0
steps: int = 300  # of learned matching

# %% tags=["hide-input"]
import time

import matplotlib.pyplot as plt

import lmc
from lmc import corpora
from lmc.reproduce import figures, results
from lmc.reproduce.runs import Comparison, Headline, Run
from lmc.reproduce.training import shipped_pairs
from lmc.symmetries import Transform, state

figures.use_style()
began = time.monotonic()
small = profile == "smoke"
steps, grid = (4, 5) if small else (steps, 25)
a, b = (lmc.load(folder) for folder in shipped_pairs.shipped("vit-digits-0"))
digits = {"size": 8, "mean": (0.5,), "std": (0.5,)}
match_on = corpora.images("digits", "match", **digits)
held_out = corpora.images("digits", "eval", **digits)

# %% [markdown]
# ## Step 0: nothing, and the canonical form
#
# `naive` averages the raw weights. `canonical` averages the canonical forms. It removes arbitrary gains and scales,
# not the arbitrary basis.

# %% tags=["hide-input"]
paths = {}


def show(alignment: lmc.Alignment, name: str | None = None) -> lmc.Alignment:
    walked = paths[name or alignment.method] = lmc.path(
        alignment, data=held_out, grid=grid
    )
    low, high = walked.interval
    print(
        f"{name or alignment.method:<12} barrier {walked.barrier:.3f} nats per image (95 %: {low:.3f} to {high:.3f})"
    )
    return alignment


# %%
show(lmc.match(a, b, method="naive"))
canonical = show(lmc.match(a, b, method="canonical"))

# %% [markdown]
# ## Step 1: match the weights
#
# Among all rewritings $g$ of $B$, take the one whose weights are closest to $A$'s: $\min_g \lVert\theta_A -
# g\,\theta_B\rVert^2$. With everything else held, each kind of space has a closed form:
#
# - the best order of hidden units is an **assignment problem**: everyone in $B$ gets one partner in $A$, so that the sum
#   of similarities is largest. It is solved exactly in time $n^3$;
# - the best rotation is a **Procrustes problem**: with $M = \sum \theta_A \theta_B^\top$ over the tensors that touch the
#   space, and its singular value decomposition $M = U S V^\top$, it is $UV^\top$;
# - the best turn of a rotary plane is the phase of one complex number;
# - for heads, the assignment is between blocks: a pair of heads is worth what the best rotation inside it can make
#   of it, which is a sum of singular values.
#
# Go round all spaces until nothing changes (*block-coordinate descent*). It needs no data, and no step makes the distance larger.
#
# Does it find what it should? Rewrite $A$ at random (a *planted* symmetry) and match $A$ with that.
# If $B$ *is* a rewriting of $A$, this should find it, and here it does:

# %%
canonical_a = lmc.canonicalize(a)
planted = Transform.random(lmc.spec(a), seed).apply(canonical_a)
found = lmc.match(a, planted, method="weights")
p, q = (state(model).values() for model in found.models)
apart = max(float((x - y).abs().max()) for x, y in zip(p, q, strict=True))
print("a planted rewriting of the whole group, undone:")
print(f"no weight differs by more than {apart:.0e}")

# %% [markdown]
# Between two networks that were trained apart, it gets part of the way:

# %%
weights = show(lmc.match(a, b, method="weights"))

# %% [markdown]
# ## Step 2: match what they compute
#
# Weights say little about how much a direction matters. Run both networks on the same inputs instead and compare
# their activations: the same solver, with $\sum x_A x_B^\top$ over the inputs (how channel $i$ of $A$ goes with channel $j$ of $B$, less their means: the
# *cross-covariance*, each layer's divided by how much that layer varies) in place of the weights. That is better on some pairs and worse on others; here:

# %%
activations = show(lmc.match(a, b, method="activations", data=match_on))

# %% [markdown]
# ## Step 3: learn the rewriting
#
# Both criteria are stand-ins for what we want, a low loss between the endpoints. So descend that loss itself, over
# the continuous part of the group; the order of heads and hidden units stays as the closed form found it. The steps are
# those of Adam; their size is the *learning rate* $\eta$. Unless a chapter says otherwise there are 300 steps, with $\eta = 0.01$ for dual and 0.02 for
# single matching (less for wide networks, {doc}`../cost`), each on 16 windows of text or 64 images. The rate rises over the first
# ten steps, and falls to zero along a cosine. In pseudo-code:
#
# ```text
# start from a closed form
# repeat:
#     draw a batch and λ from [0.3, 0.7]
#     θ  ← (1 − λ) · g_A A + λ · g_B B       the merged network
#     G  ← gradient of its loss by θ         an ordinary backward pass
#     g_B ← a small step downhill, inside the group
#     g_A ← the same                         dual only
# ```
#
# *Single* moves the rewriting of $B$ {cite:p}`theus2025generalized`, *dual* those of both {cite:p}`li2026dual`.
#
# ```{admonition} Where the gradient in the group comes from
# :class: dropdown
# No gradient needs to run *through* the rewriting. One backward pass of the merged network gives $G = \partial
# L/\partial\theta_\lambda$. The merged network holds a share $w$ of each endpoint: $w = 1 - \lambda$ of $A$, $w = \lambda$ of $B$. A small step $y \to y + \Omega y$ of one
# endpoint's rewritten weights $y$ along one space changes the loss by $w \langle G, \Omega y\rangle = \langle w\, G y^\top, \Omega\rangle$. So the gradient in the group is
# $w\, G y^\top$, one product per tensor, summed over the tensors that touch the space (an axis that takes the inverse transpose gives minus the transpose). For a rotation, $\Omega$ is its antisymmetric part with a minus sign, scaled by Adam and $\eta$, and the step is the *Cayley map* $(1 - \Omega/2)^{-1}(1 + \Omega/2)$,
# which is orthogonal whatever the size of $\Omega$: every iterate is an exact symmetry. For invertible matrices and for factors $\Omega$ is the whole
# gradient, with a minus sign and scaled alike, and the step is the same map. So learning can stretch values, queries and keys, which the closed form
# only rotates.
# ```

# %%
how = {"data": match_on, "steps": steps, "seed": seed, "start": activations}
single = show(lmc.match(a, b, method="single", **how))

# %%
dual = show(lmc.match(a, b, method="dual", **how))

# %% tags=["hide-input"]
steps_taken = [
    Run(name, found.barrier, lambdas=found.lambdas, losses=found.losses)
    for name, found in paths.items()
]
headline = Headline({"dual barrier": paths["dual"].barrier})
chapter = Comparison(
    tuple(steps_taken), unit="nats per image", headline=headline
).to_json()
seeds = {
    "seeds": [seed],
    "command": f"lmc reproduce --profile {profile} --figure matching-steps",
}
results.write(
    "matching-steps",
    profile,
    chapter,
    seeds | {"duration_s": time.monotonic() - began},
)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "One pair of vision transformers, matched step by step. Each curve joins the same two functions; only the rewriting differs.", "name": "fig-matching-steps"}, "image": {"alt": "Loss over λ for the six methods. Naive and canonical are high hills ({{matching-steps: naive}} and {{matching-steps: canonical}} nats); weights and activations are lower ones ({{matching-steps: weights}} and {{matching-steps: activations}}); single and dual stay close to the endpoints ({{matching-steps: single}} and {{matching-steps: dual}})."}}
figures.path_figure(results.read("matching-steps", profile).comparison)
plt.show()

# %% [markdown]
# In {numref}`fig-matching-steps` all curves join the same two functions. Only how these are written differs.
#
# :::{admonition} What we found
# :class: important
#
# On the one pair above, the barriers in nats per image are:
#
# - as they are {{matching-steps: naive}}, canonical form {{matching-steps: canonical}}: removing gains does little by itself;
# - matched by weights {{matching-steps: weights}}, by activations {{matching-steps: activations}}: part of the way. To look at data did not help the closed form here;
# - learned {{matching-steps: single}} (single) and {{matching-steps: dual}} (dual): nearly all is gone.
#
# {doc}`10_vision` has three pairs, each method at its best rate.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-procrustes
# Write `procrustes(x, y)`: the rotation $Q$ for which $\lVert x - Qy\rVert$ is smallest, for matrices of one column
# per sample. Plant a rotation and find it.
# ```

# %% [markdown]
# ```{solution-start} ex-procrustes
# :class: dropdown
# ```

# %%
import torch


def procrustes(x, y):
    u, _, vt = torch.linalg.svd(x @ y.T)
    return u @ vt


draw = torch.Generator().manual_seed(0)
y = torch.randn(5, 40, generator=draw, dtype=torch.float64)
planted_q, _ = torch.linalg.qr(
    torch.randn(5, 5, generator=draw, dtype=torch.float64)
)
assert torch.allclose(procrustes(planted_q @ y, y), planted_q)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-assignment
# Find the order of the columns of a matrix that was shuffled, with `scipy.optimize.linear_sum_assignment`.
# ```

# %% [markdown]
# ```{solution-start} ex-assignment
# :class: dropdown
# ```

# %%
from scipy.optimize import linear_sum_assignment

shuffle = torch.randperm(40, generator=draw)
_, order = linear_sum_assignment(-(y.T @ y[:, shuffle]).numpy())
assert torch.equal(y[:, shuffle][:, order], y)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-lambda
# `lmc.match` draws λ from [0.3, 0.7] (argument `lambdas`). What can a rewriting change at the two ends of the line? So what
# do you expect if λ is always one half, and if it is drawn from all of [0, 1]?
# ```

# %% [markdown]
# ```{solution-start} ex-lambda
# :class: dropdown
# ```
#
# Nothing: at its ends the line has the two networks themselves, and no rewriting changes what they compute. That is what
# the check below asks. So `lambdas=(0, 1)` spends part of the steps where little can be gained. `lambdas=(0.5, 0.5)` looks
# at the midpoint only, and may leave two humps beside it. `lambdas="highest"` looks where the line stands highest; {doc}`22_where_it_ends` measures when that pays.

# %%
for name in ("single", "dual"):
    for end in (0, -1):
        gained = paths["canonical"].losses[end] - paths[name].losses[end]
        assert abs(gained) < 1e-3

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** Is it better to move both ends, or one? {doc}`09_one_side_or_two`.

# %% tags=["remove-input"]
results.read("matching-steps", profile)
