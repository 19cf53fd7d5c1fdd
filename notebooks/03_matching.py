# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Matching: from a closed form to dual learning
#
# {doc}`02_symmetries` gave every network a large set of rewritings. Matching chooses one for each endpoint so that
# the line between them stays low. This chapter builds it up on one pair of vision transformers, in four steps, each
# of which is one line of code; {doc}`04_vit` has three pairs, and what chance does.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke | laptop
seed: int = 0
steps: int = 300  # of learned matching

# %%
import time

import matplotlib.pyplot as plt

import lmc
from lmc import corpora
from lmc.reproduce import charts, figures, results
from lmc.reproduce.experiments import comparison
from lmc.reproduce.experiments.comparison import load_pairs
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

# %%
paths = {}


def show(alignment: lmc.Alignment, name: str | None = None) -> lmc.Alignment:
    walked = paths[name or alignment.method] = lmc.path(alignment, data=held_out, grid=grid)
    low, high = walked.interval
    print(f"{name or alignment.method:<12} barrier {walked.barrier:.3f} nats per image (95 %: {low:.3f} to {high:.3f})")
    return alignment


show(lmc.match(a, b, method="naive"))
canonical = show(lmc.match(a, b, method="canonical"))

# %% [markdown]
# ## Step 1: match the weights
#
# Among all rewritings $g$ of $B$, take the one whose weights are closest to $A$'s: $\min_g \lVert\theta_A -
# g\,\theta_B\rVert^2$. With everything else held, each space has a closed form. The best order of hidden units is an
# assignment problem, the best rotation is an orthogonal Procrustes problem, the best phase of a rotary plane is one
# complex number. For heads, the assignment is between blocks: a pair of heads is worth what the best rotation inside
# it can make of it, which is a sum of singular values. Going round until nothing changes is
# *block-coordinate descent*. It needs no data, and the objective never falls.
#
# If $B$ *is* a rewriting of $A$, this finds it:

# %%
canonical_a = lmc.canonicalize(a)
planted = Transform.random(lmc.spec(a), seed).apply(canonical_a)
recovered = lmc.match(a, planted, method="weights").models
distance = max(
    float((p - q).abs().max()) for p, q in zip(state(recovered[0]).values(), state(recovered[1]).values(), strict=True)
)
print(f"a planted rewriting of the whole group, undone: no weight differs by more than {distance:.0e}")

# %% [markdown]
# Between two networks that were trained apart, it gets part of the way:

# %%
weights = show(lmc.match(a, b, method="weights"))

# %% [markdown]
# ## Step 2: match what they compute
#
# Weights say little about how much a direction matters. Run both networks on the same inputs instead and compare
# their activations: the same solver, with the cross-covariance of each layer's activations in place of the weights.

# %%
activations = show(lmc.match(a, b, method="activations", data=match_on))

# %% [markdown]
# ## Step 3: learn the rewriting
#
# Both criteria are stand-ins for what we want, a low loss between the endpoints. So descend that loss itself, over
# the continuous part of the group: at each step draw a $\lambda$ and a batch, merge, and move the rewriting of $B$
# (*single* {cite:p}`theus2025generalized`) or of both endpoints (*dual* {cite:p}`li2026dual`) downhill.
#
# No gradient needs to run *through* the rewriting. One ordinary backward pass of the merged network gives $G = \partial
# L/\partial\theta_\lambda$. A small step $y \to y + \Omega y$ of the rewritten weights $y$ along one space changes the
# loss by $\langle G, \Omega y\rangle = \langle G y^\top, \Omega\rangle$. So the gradient in the group is one
# contraction per tensor, and the step is taken inside the group by a Cayley map: every iterate is an exact symmetry.

# %%
single = show(lmc.match(a, b, method="single", data=match_on, steps=steps, start=activations, seed=seed))

# %%
dual = show(lmc.match(a, b, method="dual", data=match_on, steps=steps, start=activations, seed=seed))

# %%
steps_taken = [Run(name, found.barrier, lambdas=found.lambdas, losses=found.losses) for name, found in paths.items()]
headline = Headline({"dual barrier": paths["dual"].barrier})
chapter = Comparison(tuple(steps_taken), unit="nats per image", headline=headline).to_json()
seeds = {"seeds": [seed], "command": f"lmc reproduce --profile {profile} --figure matching-steps"}
results.write("matching-steps", profile, chapter, seeds | {"duration_s": time.monotonic() - began})

# %% tags=["remove-input"] mystnb={"figure": {"caption": "One pair of vision transformers, matched step by step. Each curve joins the same two functions; only the rewriting differs.", "name": "fig-matching-steps"}}
figures.path_figure(results.read("matching-steps", profile).comparison)
plt.show()

# %% [markdown]
# ## Are two rewritings better than one?
#
# The rewritings act linearly on weights, so
#
# $$
# (1-\lambda)\,g_A\theta_A + \lambda\,g_B\theta_B = g_A\bigl[(1-\lambda)\,\theta_A + \lambda\,g_A^{-1}g_B\,\theta_B\bigr],
# $$
#
# and $g_A$ does not change the function of *any* weights, those in the bracket included. Hence:
#
# ```{prf:proposition}
# :label: prop-dual
# With exact symmetries, dual and single matching reach the same set of loss curves: the pair $(g_A, g_B)$ has the curve
# of the pair $(1, g_A^{-1}g_B)$.
# ```
#
# Checked on the dual alignment above, with its two rewritings folded into one:

# %%
one = dual.transforms[0].inverse() @ dual.transforms[1]
folded = lmc.Alignment("single", (a, b), (Transform.identity(one.spec), one), {})
walked = lmc.path(folded, data=held_out, grid=grid)
gap = max(abs(x - y) for x, y in zip(walked.losses, paths["dual"].losses, strict=True))
print(f"largest difference between the two curves: {gap:.0e} nats")

# %% [markdown]
# What dual matching *can* change is the way there. The gradients of the two rewritings are opposite to each other, so two
# endpoints that each step by $\eta$ separate by $2\eta$: to first order, dual at learning rate $\eta$ is single at $2\eta$.

# %%
began = time.monotonic()
rate, few = 2e-3, min(steps, 100)
runs = {
    "dual, η": ("dual", rate),
    "single, 2η": ("single", 2 * rate),
    "single, η": ("single", rate),
}


def learn(pair: tuple, seed: int) -> dict[str, list[float]]:
    """The losses of each run, batch by batch."""
    logs, start = {}, lmc.match(*pair, method="activations", data=match_on)
    for name, (method, lr) in runs.items():
        run = lmc.match(*pair, method=method, data=match_on, steps=few, lr=lr, start=start, seed=seed)
        logs[name] = [entry["loss"] for entry in run.log]
    return logs


def distances(logs: dict[str, list[float]]) -> dict[str, float]:
    """How far each run is from dual matching, on average over the batches."""
    dual = logs["dual, η"]
    return {
        name: sum(abs(p - q) for p, q in zip(dual, log, strict=True)) / len(dual)
        for name, log in logs.items()
        if log is not dual
    }


loaded = load_pairs("vit-digits", 1 if small else 3)
made = comparison.runs(list(loaded), [seed] if small else [seed, seed + 1, seed + 2])
learned = [learn(loaded[name], at) for name, at in made]
each = [distances(logs) for logs in learned]
spread = {name: [row[name] for row in each] for name in each[0]}
of = [name for name, _ in made]
numbers = Headline.of(spread, of).to_json() | {"unit": "nats per image", "curves": learned[0]}
seeds = {
    "seeds": sorted({at for _, at in made}),
    "command": f"lmc reproduce --profile {profile} --figure dual-single",
}
results.write("dual-single", profile, numbers, seeds | {"duration_s": time.monotonic() - began})
charts.table({"distance from dual at η": spread}, digits=4, pairs=of)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Loss on the line during learning on the first pair, same batches and interpolation weights: dual at a learning rate η follows single at 2η. The table above is of three pairs, the first of them with three seeds.", "name": "fig-dual-single"}}
figures.curves(results.read("dual-single", profile).numbers)
plt.show()

# %% [markdown]
# So a comparison of single and dual matching at *equal* learning rates mostly compares two learning rates. The
# experiments ({doc}`04_vit`, {doc}`05_pythia`) give each its own best one of a grid. Where dual matching gains, the
# argument says where the gain can come from: from the parameterisation, from second-order effects of large steps, or from relaxed maps that are not exact symmetries.
#
# ## Where the barrier sits
#
# Which freedom matters most? {doc}`08_ablation` lets only some kinds of spaces learn, or all but one (`kinds=`), on three
# pairs; the permutations are those of the closed form throughout:

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier of dual matching with some kinds of symmetry only: the mean over pairs, and a point for each run.", "name": "fig-which-spaces"}}
charts.ablation_figure(results.read("ablation-vit", "laptop").comparison)
plt.show()

# %% [markdown]
# ```{exercise}
# :label: ex-lambda
# `lmc.match` draws λ from the middle of the line. What happens to the ends of the path when it is always one half? And when
# it is drawn from all of [0, 1]? (Argument `lambdas`.)
# ```

# %% tags=["remove-input"]
results.read("matching-steps", profile)
