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
# Figure 2 of {cite:t}`li2026dual` sketches the loss as a landscape with valleys, and matching as a way to bring two
# endpoints into one valley. Here the landscape is computed: the held-out loss of every network in a plane of weight
# space, on a grid.
#
# A plane needs three networks. For *single* matching they are $A$, $B$ and the rewriting $g\,B$ that was found: the
# plane holds both the direct line from $A$ to $B$ and the matched one from $A$ to $g\,B$. For *dual* matching both
# endpoints are rewritten, so $A$ and $B$ themselves lie elsewhere. But $g_A A$ and $g_A B$ have the same line between
# them as $A$ and $B$, loss by loss ({doc}`03_matching`), and $g_A A$, $g_A B$, $g_B B$ span a plane.
#
# The shipped pairs are small: a vision transformer on digits and a language model of Pythia's architecture on English
# documentation. The figures are drawn from the profile and run named under each of them.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke | laptop
seed: int = 0
steps: int = 80  # of learned matching
grid: int = 19  # points along each side of a plane
recompute: bool = True  # otherwise draw what the results say

# %%
import time

import matplotlib.pyplot as plt

import lmc
from lmc import charts, corpora, figures, pairs, results
from lmc.experiment import record
from lmc.landscape import planes

figures.use_style()
small = profile == "smoke"
steps, grid = (2, 3) if small else (steps, grid)


def survey(id: str, name: str, match_on, held_out, grid: int) -> None:
    """Match one pair singly and dually, and map the plane of each."""
    began = time.monotonic()
    a, b = (lmc.load(folder) for folder in pairs.shipped(name))
    start = lmc.match(a, b, method="activations", data=match_on, seed=seed)
    learned = {
        m: lmc.match(a, b, method=m, data=match_on, steps=steps, start=start, seed=seed) for m in ("single", "dual")
    }
    direct = lmc.match(a, b, method="canonical")
    walks = {"direct": direct, **learned}
    barriers = {f"{name} barrier": lmc.path(found, held_out, grid=11).barrier for name, found in walks.items()}
    maps = planes(learned["single"], learned["dual"], held_out, grid)
    unit = maps["single"]["unit"]
    record(id, profile, {"headline": barriers, "unit": unit, "steps": steps, "planes": maps}, [seed], began)


# %% [markdown]
# ## Vision

# %%
if recompute:
    digits = {"size": 8, "mean": (0.5,), "std": (0.5,)}
    match_on = corpora.images("digits", "match", **digits, limit=48 if small else None)
    held_out = corpora.images("digits", "eval", **digits, limit=16 if small else 128)
    survey("landscape-vit", "vit-digits-0", match_on, held_out, grid)
found = results.read("landscape-vit", profile)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss of vision transformers in two planes of weight space, one colour scale. Dashed: the direct line between endpoints that were not matched to each other. Solid: the matched line. Distances are Euclidean and the same along both axes.", "name": "fig-landscape-vit"}}
charts.landscape_figure(found.numbers)
plt.show()

# %% [markdown]
# Every white dot is one of two functions: matching changed where a network lies, not what it computes. On the direct
# line the loss climbs above what guessing costs; on the matched line it stays in the valley.
#
# ## Language

# %%
if recompute:
    tokenizer = corpora.byte_tokenizer()
    match_on = corpora.tokens("embedded", "train", tokenizer, 128, limit=32 if small else None)
    held_out = corpora.tokens("embedded", "eval", tokenizer, 128, limit=4 if small else 24)
    survey("landscape-text", "neox-docstrings-0", match_on, held_out, 3 if small else 11)
found = results.read("landscape-text", profile)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same for two language models of Pythia's architecture.", "name": "fig-landscape-text"}}
charts.landscape_figure(found.numbers)
plt.show()

# %% [markdown]
# ## Numbers

# %% tags=["remove-input"]
charts.table({kind: results.read(f"landscape-{kind}", profile).numbers["headline"] for kind in ("vit", "text")})

# %% [markdown]
# ## What made these figures

# %% tags=["remove-input"]
results.read("landscape-vit", profile)

# %% tags=["remove-input"]
results.read("landscape-text", profile)

# %% [markdown]
# ```{exercise}
# :label: ex-plane
# The two planes look alike. Must they? Give `lmc.landscape.plane` the three networks $A$, $B$ and $g_A^{-1} g_B B$ of
# the dual alignment, and compare its losses with those of the dual plane.
# ```
#
# ```{solution} ex-plane
# :class: dropdown
# They are the same numbers: the plane of dual matching is the plane of a single one, moved as a whole by $g_A$, which
# changes no function. Distances stay the same too where $g_A$ is orthogonal, as the stream's rotation is.
# ```
