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
# space, on a grid.
#
# A plane needs three networks. For *single* matching they are $A$, $B$ and the rewriting $g\,B$ that was found: the
# plane holds both the direct line from $A$ to $B$ and the matched one from $A$ to $g\,B$. For *dual* matching both
# endpoints are rewritten, so $A$ and $B$ themselves lie elsewhere. But $g_A A$ and $g_A B$ have the same line between
# them as $A$ and $B$, loss by loss ({doc}`08_matching`), and $g_A A$, $g_A B$, $g_B B$ span a plane.
#
# The shipped pairs are small: a vision transformer on digits and a language model of Pythia's architecture on English
# documentation. Both learn at the package's default rates, with fewer steps than in {doc}`10_vision`. A map shows one pair; the
# barriers in the table at the end are those of three, which share no endpoint, the first with three seeds.

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

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss of vision transformers in two planes of weight space, one colour scale. Dashed: the direct line between endpoints that were not matched to each other. Solid: the matched line. Distances are Euclidean and the same along both axes.", "name": "fig-landscape-vit"}}
charts.landscape_figure(found.numbers)
plt.show()

# %% [markdown]
# Every white dot is one of two functions: matching changed where a network lies, not what it computes. On the direct
# line the loss climbs above what guessing costs; on the matched line it stays in the valley.
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

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same for two language models of Pythia's architecture.", "name": "fig-landscape-text"}}
charts.landscape_figure(found.numbers)
plt.show()

# %% [markdown]
# ## Numbers
#
# Means over three pairs, the first of them with three seeds, and the lowest and the highest run.

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
# ## What made these figures

# %% tags=["remove-input"]
results.read("landscape-vit", profile)

# %% tags=["remove-input"]
results.read("landscape-text", profile)

# %% [markdown]
# ```{exercise}
# :label: ex-plane
# The two planes look alike. Must they? Give `lmc.evaluation.landscape.plane` the three networks $A$, $B$ and $g_A^{-1} g_B B$ of
# the dual alignment, and compare its losses with those of the dual plane.
# ```
#
# ```{solution} ex-plane
# :class: dropdown
# They are the same numbers: the plane of dual matching is the plane of a single one, moved as a whole by $g_A$, which
# changes no function. Distances stay the same too where $g_A$ is orthogonal, as the stream's rotation is.
# ```

# %% [markdown]
# :::{admonition} What we found
# :class: important
#
# - Between two networks as they were trained lies a ridge: its barrier is {{landscape-vit: direct barrier}} nats for vision, {{landscape-text: direct barrier}} for text, in canonical form.
# - Between the same two functions, written in another way, lies a valley: {{landscape-vit: single barrier}} and {{landscape-text: single barrier}} nats after 80 steps of learning.
# - All endpoints on a map are one of two functions. Matching moved the points, not the functions.
# :::
#
# **Next question.** Which rewritings are there? Part II begins with the easiest: {doc}`04_reordering`.
