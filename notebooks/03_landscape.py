# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The landscape between two networks
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** What does matching look like from above?
# - **Afterwards you can** read a map of the loss, and say what stands on its axes.
# - **You need** {doc}`01_one_line`.
# - **Time.** 8 minutes to read; computing it took 4.
# :::
#
# Figure 2 of {cite:t}`li2026dual` sketches the loss as a landscape with valleys, and matching as a way to bring two
# endpoints into one valley. Here the landscape is computed: the held-out loss of every network in a plane of weight
# space, on a grid. (*Weight space* has an axis for each weight, so a network is a point of it.)
#
# How a matching rewriting is found is the subject of part III. Here only its result matters: $g\,B$ is another way to
# write $B$, such as a swap of units, chosen to fit $A$. *Single* matching rewrites $B$ only, *dual* matching both.
#
# A plane needs three networks. For single matching they are $A$, $B$ and $g\,B$: the plane holds both the direct line
# from $A$ to $B$ and the matched one from $A$ to $g\,B$. For dual matching there is such a plane too, though both endpoints are
# rewritten: {doc}`09_one_side_or_two` says why, and you may leave the right map aside until then.
#
# The shipped pairs are small: a vision transformer on digits and a language model of Pythia's architecture on English
# documentation. Single and dual matching learn at the package's default rates for 80 steps; {doc}`10_vision` takes more
# steps, which leave less. A map shows one pair. The barriers in the table at the end are means over three pairs that share
# no network; the first pair was matched three times, each time with other random batches.

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop
seed: int = 0
steps: int = 80  # of learned matching
grid: int = 19  # points along each side of a plane
recompute: bool = True  # otherwise draw what the results say

# %% tags=["hide-input"]
import time

import matplotlib.pyplot as plt

import lmc
from lmc import corpora
from lmc.reproduce import charts, figures, results
from lmc.reproduce.experiments.comparison import load_pairs, record, runs
from lmc.reproduce.experiments.planes import planes
from lmc.reproduce.runs import Headline

figures.use_style()
small = profile == "smoke"
steps, grid = (2, 3) if small else (steps, grid)


def survey(id: str, kind: str, match_on, held_out, grid: int) -> None:
    """Match pairs of a kind singly and dually, the first with three seeds, and map both planes of that pair."""
    began = time.monotonic()
    loaded = load_pairs(kind, 1 if small else 3)
    made = runs(list(loaded), [seed] if small else [seed, seed + 1, seed + 2])
    barriers, maps = {}, {}
    for name, at in made:
        a, b = loaded[name]
        start = lmc.match(a, b, method="activations", data=match_on, seed=at)
        learned = {
            m: lmc.match(
                a,
                b,
                method=m,
                data=match_on,
                steps=steps,
                start=start,
                seed=at,
            )
            for m in ("single", "dual")
        }
        for way, found in {
            "direct": lmc.match(a, b, method="canonical"),
            **learned,
        }.items():
            barriers.setdefault(f"{way} barrier", []).append(
                lmc.path(found, held_out, grid=11).barrier
            )
        maps = maps or planes(
            learned["single"], learned["dual"], held_out, grid
        )
    headline = Headline.of(
        barriers, [name for name, _ in made], seedless=["direct barrier"]
    )
    numbers = {
        "unit": maps["single"].unit,
        "steps": steps,
        "planes": {title: plane.to_json() for title, plane in maps.items()},
        **headline.to_json(),
    }
    record(id, profile, numbers, sorted({at for _, at in made}), began)


# %% [markdown]
# ## Vision

# %% tags=["hide-input"]
if recompute:
    digits = {"size": 8, "mean": (0.5,), "std": (0.5,)}
    match_on = corpora.images(
        "digits", "match", **digits, limit=48 if small else None
    )
    held_out = corpora.images(
        "digits", "eval", **digits, limit=16 if small else 128
    )
    survey("landscape-vit", "vit-digits", match_on, held_out, grid)
found = results.read("landscape-vit", profile)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss of vision transformers in two planes of weight space, one colour scale, logarithmic: yellow is low, dark is high. Dashed: the direct line between endpoints that were not matched to each other. Solid: the matched line. Distances are Euclidean and the same along both axes.", "name": "fig-landscape-vit"}, "image": {"alt": "Two maps of the loss, dark where it is high. In both, a dashed line from the first endpoint to the one at its right crosses a dark ridge ({{landscape-vit: direct barrier}} nats on average over pairs). A solid line to the endpoint above stays in a light valley ({{landscape-vit: single barrier}} for single on the left, {{landscape-vit: dual barrier}} for dual on the right)."}}
charts.landscape_figure(found.numbers)
plt.show()

# %% [markdown]
# In {numref}`fig-landscape-vit` every white dot is one of two functions: matching changed where a network lies, not what
# it computes. On the direct line the loss climbs above what guessing costs; on the matched line it stays in the valley.
# ("Direct" is between the two networks in their {term}`canonical form`, a tidy way to write each that
# {doc}`05_rotating` explains; the networks as they were saved, in {doc}`01_one_line`, have a barrier of the same size.)
#
# The axes are lengths in weight space. One points from the first network to the second, the other at a right angle to it
# towards the rewritten second. Look at how long the matched line is (the last exercise computes it): hardly shorter than the direct one. The tiny networks
# of {doc}`02_two_units` became nearly equal when their units were reordered; these stay nearly as far apart as they were. What
# matters is that nothing high lies between them. {numref}`widget-landscape` lets you move the endpoint.
#
# ```{widget} landscape
# ```
#
# ## Language

# %% tags=["hide-input"]
if recompute:
    tokenizer = corpora.byte_tokenizer()
    match_on = corpora.tokens(
        "embedded", "train", tokenizer, 128, limit=32 if small else None
    )
    held_out = corpora.tokens(
        "embedded", "eval", tokenizer, 128, limit=4 if small else 24
    )
    survey(
        "landscape-text",
        "neox-docstrings",
        match_on,
        held_out,
        3 if small else 11,
    )
found = results.read("landscape-text", profile)

# %% [markdown]
# {numref}`fig-landscape-text` has the same ridge and the same valley. The valley's floor is less even: what is left is
# a larger part of the ridge.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same for two language models of Pythia's architecture.", "name": "fig-landscape-text"}, "image": {"alt": "The same two maps for language models. The ridge under the dashed line is {{landscape-text: direct barrier}} nats high on average; along the solid line there remain {{landscape-text: single barrier}} (single) and {{landscape-text: dual barrier}} (dual)."}}
charts.landscape_figure(found.numbers)
plt.show()

# %% [markdown]
# ## Numbers
#
# Barriers in nats per image (vit) and in nats per byte (text): means over three pairs, the first of them matched three times
# with other random batches, and in brackets the lowest and the highest run.

# %% tags=["remove-input"]
both = {
    kind: results.read(f"landscape-{kind}", profile).numbers
    for kind in ("vit", "text")
}
charts.table(
    {kind: found["spread"] for kind, found in both.items()},
    pairs=both["vit"]["pairs"],
)

# %% [markdown]
# :::{admonition} What we found
# :class: important
#
# - Between two networks in their canonical form lies a ridge, as high as between them as they were trained: its barrier is {{landscape-vit: direct barrier}} nats for vision, {{landscape-text: direct barrier}} for text.
# - Between the same two functions, written in another way, lies a valley: {{landscape-vit: single barrier}} and {{landscape-text: single barrier}} nats after 80 steps of learning (single matching). Dual matching leaves {{landscape-vit: dual barrier}} and {{landscape-text: dual barrier}}; the ranges of the two overlap.
# - All endpoints on a map are one of two functions. Matching moved the points, not the functions.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-smallest
# The smallest landscape has two weights: the network $x \mapsto u\,v\,x$ and the loss $(uv - 1)^2$. Both
# $(2, \tfrac12)$ and $(-2, -\tfrac12)$ are perfect. How high is the barrier between them? Which rewriting of the
# second removes it?
# ```

# %% [markdown]
# ```{solution-start} ex-smallest
# :class: dropdown
# ```
#
# Half way lies $(0, 0)$, which computes nothing and loses 1. Changing the sign of both weights changes no product: the
# second network becomes the first.

# %%
import numpy as np


def barrier(start, end):
    line = [(1 - t) * start + t * end for t in np.linspace(0, 1, 101)]
    return max((u * v - 1) ** 2 for u, v in line)


first, second = np.array([2, 0.5]), np.array([-2, -0.5])
assert round(barrier(first, second), 6) == 1
assert barrier(first, -second) == 0

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-flat
# A map is true if its distances are. Write `flat(p, q, r)`: where three points of weight space lie on their plane,
# with $p$ at the origin and $q$ to its right. Check the three distances for random points of 1,000 weights.
# ```

# %% [markdown]
# ```{solution-start} ex-flat
# :class: dropdown
# ```
#
# One axis points from $p$ to $q$. What is left of $r - p$ without its part along that axis points up.


# %%
def flat(p, q, r):
    along, up = q - p, r - p
    length = np.linalg.norm(along)
    across = up @ along / length
    height = np.linalg.norm(up - across * along / length)
    return np.array([[0, 0], [length, 0], [across, height]])


points = np.random.default_rng(0).normal(size=(3, 1000))
drawn = flat(*points)
for i, j in ((0, 1), (0, 2), (1, 2)):
    there = np.linalg.norm(points[i] - points[j])
    assert np.isclose(np.linalg.norm(drawn[i] - drawn[j]), there)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-lengths
# How long are the two lines on the left map of {numref}`fig-landscape-vit`? Compute both from its points,
# `results.read("landscape-vit", profile).numbers["planes"]["single"]["points"]`.
# ```

# %% [markdown]
# ```{solution-start} ex-lengths
# :class: dropdown
# ```
#
# The direct line goes from the first point to the second, the matched line from the first to the third. Matching made the way only an eighth
# shorter, but took the ridge off it.

# %%
shown = results.read("landscape-vit", profile).numbers["planes"]["single"]
points = {name: np.array(at) for name, at in shown["points"].items()}
direct = np.linalg.norm(points["second"] - points["first"])
matched = np.linalg.norm(points["third"] - points["first"])
print(f"direct {direct:.1f}, matched {matched:.1f}")
assert matched < direct

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** Which rewritings are there? Part II begins with the easiest: {doc}`04_reordering`.
#
# ## What made these figures

# %% tags=["remove-input"]
results.read("landscape-vit", profile)

# %% tags=["remove-input"]
results.read("landscape-text", profile)
