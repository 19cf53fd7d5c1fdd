# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Three networks and more
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** Can many networks be averaged at once?
# - **Afterwards you can** compare a merge of K with its best parent and with the ensemble.
# - **You need** {doc}`13_controls`.
# - **Time.** 7 minutes to read; computing it took 3.
# :::
#
# Nothing in matching is about two. Every network has its own rewriting, a merged network is a point of the simplex
# $\theta_w = \sum_k w_k\, g_k\theta_k$ with weights $w_k \ge 0$ that sum to one, and learning draws $w$ at random from its
# middle. The loss depends only on how the rewritings relate to each other, so their gradients sum to zero; for two that
# is the statement of {doc}`09_one_side_or_two` that they are opposite.
#
# {cite:t}`li2026dual` report pairs. Merging more is the natural question: a network that is the average of six,
# at the cost of one, against the {term}`ensemble` of six. The six endpoints here are the vision transformers of
# {doc}`10_vision`, each trained from its own seed.

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop
seed: int = 0
steps: int = 100  # of learned matching
recompute: bool = True  # otherwise draw what the results say

# %% tags=["hide-input"]
import time

import matplotlib.pyplot as plt

import lmc
from lmc import corpora
from lmc.evaluation import as_data, evaluate
from lmc.reproduce import charts, figures, results
from lmc.reproduce.experiments.comparison import load_pairs, record
from lmc.reproduce.experiments.controls import Ensemble
from lmc.reproduce.experiments.k_models import several
from lmc.reproduce.pair_means import mean

figures.use_style()
small = profile == "smoke"
steps, counts = (2, [2, 3]) if small else (steps, [2, 3, 4, 6])
methods = ("naive", "activations", "dual")

# %% tags=["hide-input"]
if recompute:
    began = time.monotonic()
    digits = {"size": 8, "mean": (0.5,), "std": (0.5,)}
    match_on = corpora.images(
        "digits", "match", **digits, limit=64 if small else None
    )
    held_out = corpora.images(
        "digits", "eval", **digits, limit=32 if small else None
    )
    models = [
        model
        for pair in load_pairs("vit-digits", 2 if small else 3).values()
        for model in pair
    ]
    models = models[:3] if small else models
    scored = as_data(held_out, models[0])

    def score(model) -> tuple[float, float]:
        loss, correct = evaluate(model, scored)
        return float(loss.mean()), float(correct.mean())

    merges, accuracies, triangles = {}, {}, {}
    for count in counts:
        for start in range(0, len(models) - count + 1, count):
            chosen = models[start : start + count]
            found = {
                "best parent": min(score(m) for m in chosen),
                "ensemble of K": score(Ensemble(chosen)),
            }
            for method in methods:
                data = None if method == "naive" else match_on
                begin = "better" if method == "dual" else None
                alignment = lmc.match(
                    chosen,
                    method=method,
                    data=data,
                    start=begin,
                    steps=steps,
                    seed=seed,
                )
                found[method] = score(alignment.merge([1 / count] * count))
                if count == 3:
                    walked = lmc.path(
                        alignment, held_out, grid=3 if small else 7
                    )
                    triangle = {
                        "weights": walked.lambdas,
                        "losses": walked.losses,
                        "barrier": walked.barrier,
                    }
                    triangles.setdefault(method, []).append(triangle)
                print(
                    f"K = {count}  {method:<12} loss {found[method][0]:.4f}  accuracy {found[method][1]:.3f}"
                )
            for name, (loss, accuracy) in found.items():
                merges.setdefault(name, {}).setdefault(
                    f"K = {count}", []
                ).append(loss)
                accuracies.setdefault(name, {}).setdefault(
                    f"K = {count}", []
                ).append(accuracy)
    headline = {
        f"dual, loss of the merge of {k}": mean(merges["dual"][f"K = {k}"])
        for k in counts
    }
    headline["dual barrier over the triangle"] = mean(
        [triangle["barrier"] for triangle in triangles["dual"]]
    )
    numbers = {
        "headline": headline,
        "unit": "nats per image",
        "counts": counts,
        "merges": merges,
    }
    numbers |= {
        "accuracies": accuracies,
        "triangles": triangles,
        "steps": steps,
    }
    numbers |= several(
        models,
        match_on,
        held_out,
        counts=(3,) if small else (3, 5),
        steps=steps,
        seed=seed,
    )
    record("k-models", profile, numbers, [seed], began)
found = results.read("k-models", profile)

# %% [markdown]
# Six networks hold three disjoint pairs, two disjoint triples, and one set each of four and of six: what is said below of
# four or more rests on a single set.
#
# ## The triangle between three
#
# In {numref}`fig-k-models-triangle` each corner is a network and the middle is the average of all three.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss of merges of the first three vision transformers: the corners are the networks, each dot one set of weights. One colour scale for all methods.", "name": "fig-k-models-triangle"}, "image": {"alt": "Three triangles of coloured dots with a network at each corner, dark where the loss is high. Naive is dark everywhere but at the corners; its barrier is {{k-models: triangles.naive.0.barrier}} nats per image. With activations the middle is lighter ({{k-models: triangles.activations.0.barrier}}). Dual is nearly as light inside as at its corners ({{k-models: triangles.dual.0.barrier}})."}}
charts.simplex_figure(found.numbers)
plt.show()

# %% [markdown]
# ## Up to six
#
# The uniform average of $K$ networks, beside the two lines that it has to live up to: the best single parent, and the
# ensemble, which costs $K$ times as much to run.
#
# In {numref}`fig-k-models` the line of dual lies above that of the best parent at every K.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss of the uniform merge of K vision transformers, by method: the mean over disjoint sets of K, and a dot for each.", "name": "fig-k-models"}, "image": {"alt": "Loss over the number K of networks merged, 2 to 6, on a logarithmic axis. From top to bottom at the left: naive, which falls from {{k-models: merges.naive.K = 2}} to {{k-models: merges.naive.K = 6}}; activations, which rise from {{k-models: merges.activations.K = 2}} to {{k-models: merges.activations.K = 6}}; dual, level from {{k-models: merges.dual.K = 2}} to {{k-models: merges.dual.K = 6}}; the best parent at about {{k-models: merges.best parent.K = 2}}; and the ensemble, which falls to {{k-models: merges.ensemble of K.K = 6}}."}}
charts.count_figure(found.numbers)
plt.show()

# %% tags=["remove-input"]
charts.table(
    {
        f"{name}, {what}": row[name]
        for what, row in (
            ("loss", found.numbers["merges"]),
            ("accuracy", found.numbers["accuracies"]),
        )
        for name in row
    }
)

# %% [markdown]
# ## Together, or one by one
#
# The first three and the first five networks, matched in one run of all of them, or every other network to the first
# alone, in runs of as many steps each. Each row is one set of networks with one seed. `edges` is the largest barrier
# between two of them, `barrier` the largest over the whole simplex, and `middle` the loss of the average of all, in nats
# per image. Matched one by one, two networks that were never seen together meet only through the first.

# %% tags=["remove-input"]
columns = ("barrier", "edges", "middle", "accuracy", "steps")
rows = {
    f"K = {k}, {way}": row
    for k, ways in found.numbers["several"].items()
    for way, row in ways.items()
}
charts.table(
    {
        name: {column: row[column] for column in columns}
        for name, row in rows.items()
    }
)

# %% tags=["remove-input"]
found

# %% [markdown]
# Steps are the same for every $K$, although there is more to align; a larger budget for more networks would be as fair
# a choice. On your own checkpoints: `lmc match MODEL MODEL MODEL --data … --out aligned`, then
# `lmc merge aligned --at 0.2,0.3,0.5 --out merged`.

# %% [markdown]
# :::{admonition} What we found
# :class: important
#
# - A dual merge of two has a loss of {{k-models: dual, loss of the merge of 2}}, of three {{k-models: dual, loss of the merge of 3}}, of four {{k-models: dual, loss of the merge of 4}}, of six {{k-models: dual, loss of the merge of 6}}.
# - The best parent of these sets has {{k-models: merges.best parent.K = 2}}, {{k-models: merges.best parent.K = 3}}, {{k-models: merges.best parent.K = 4}} and {{k-models: merges.best parent.K = 6}}: on average it is better than the merge at every K. On one of the three pairs (K = 2) the merge was better: {{k-models: merges.dual.K = 2.2}} against {{k-models: merges.best parent.K = 2.2}}.
# - The ensemble of six, at six times the cost, has {{k-models: merges.ensemble of K.K = 6}}.
# - The average in the middle gets only a little worse with more networks, and no better. The barrier between them grows a lot: {{k-models: several.3.together.barrier}} nats over the first three networks and
#   {{k-models: several.5.together.barrier}} over the first five, after {{k-models: several.3.together.steps}} steps of matching.
#   So the middle of the simplex is far better than its edges.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-simplex
# Why do the gradients of K rewritings sum to zero? Check it for three numbers $u_k$ and a loss that depends on their
# differences only.
# ```

# %% [markdown]
# ```{solution-start} ex-simplex
# :class: dropdown
# ```
#
# Applying one and the same rewriting to all K changes no merged network's function, so the loss does not change in
# that direction.

# %%
import torch

u = torch.tensor([0.3, -1.0, 2.0], requires_grad=True)
between = u[:, None] - u[None, :]
torch.sin(between + 0.5).sum().backward()
assert u.grad.abs().max() > 0.1
assert abs(float(u.grad.sum())) < 1e-5

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-edges
# Between how many pairs of six networks is there a line? How many of these does matching one by one, every other
# network to the first, ever see?
# ```

# %% [markdown]
# ```{solution-start} ex-edges
# :class: dropdown
# ```
#
# Fifteen lines, of which it sees five. The other ten are left to chance: if $g_2$ and $g_3$ both fit the first
# network, they need not fit each other.

# %%
from itertools import combinations

lines = list(combinations(range(6), 2))
seen = [line for line in lines if 0 in line]
assert (len(lines), len(seen)) == (15, 5)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-noise
# Suppose matching were perfect, and each network were the same good network plus noise in its weights, independent of
# the others. How far from the good one is the average of K, compared with one of them? What do the numbers above say
# about this picture?
# ```

# %% [markdown]
# ```{solution-start} ex-noise
# :class: dropdown
# ```
#
# It comes nearer, as $1/\sqrt K$, so averages should get better with K. Those above do not: what is left between
# matched networks is not mere noise.

# %%
draw = torch.Generator().manual_seed(0)
noise = torch.randn(6, 10_000, generator=draw)
far = {k: float(noise[:k].mean(0).norm()) for k in (1, 2, 3, 6)}
for k, distance in far.items():
    assert abs(distance / far[1] - k**-0.5) < 0.03
merges = results.read("k-models", "laptop").numbers["merges"]["dual"]
assert mean(merges["K = 6"]) > mean(merges["K = 2"])

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** What decides how low the barrier comes? {doc}`15_what_limits_it`.
