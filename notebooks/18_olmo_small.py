# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # OLMo's architecture, small
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** Does another architecture behave alike on the same text?
# - **Afterwards you can** name what differs in its symmetries.
# - **You need** {doc}`17_pythia_small`.
# - **Time.** 5 minutes to read.
# :::
#
# OLMo {cite:p}`groeneveld2024olmo` has norms without parameters and gated feed-forward layers. So its symmetries differ from Pythia's
# ({doc}`../families`): no gain has to be moved away first; every pair of channels of a head is turned by its position, so there is no `pass`; each gated unit has a
# factor of its own (`unit`); and ε is fixed in the code, so there is no `scale`. The paper claims small barriers
# for language models of a billion parameters {cite:p}`li2026dual`. Three parts again: small pairs from nothing, larger
# ones for a GPU, and the published pairs.

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop | paper; on a GPU, the campaign measures what this chapter reads
seed: int = 0
steps: int = 300  # of learned matching, published pairs
grid: int = 25  # points on the line
recompute: bool = True  # otherwise draw what the results say

# %% tags=["hide-input"]
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt

from lmc.reproduce import charts, figures, results
from lmc.reproduce.experiments.chapter import (
    measured_on_gpu,
    rates_table,
    setting,
    settings_table,
)
from lmc.reproduce.experiments.comparison import record
from lmc.reproduce.experiments.from_scratch import conduct
from lmc.reproduce.experiments.published import PAIRS, study
from lmc.reproduce.experiments.rates import best_rates
from lmc.reproduce.experiments.stand_ins import tiny
from lmc.reproduce.kept_runs import KeptRuns

figures.use_style()
small = profile == "smoke"

# %% [markdown]
# ## From scratch, on two processor cores
#
# OLMo's architecture at four layers of 64 channels, on the text and with the recipe of {doc}`17_pythia_small`: what differs
# between the two chapters is the architecture.

# %%
id = "olmo" if small else "olmo-wikipedia"
at = "smoke" if small else "laptop"
if recompute and profile == at:
    conduct(5, id, at)
found = results.read(id, at)

# %% tags=["remove-input"]
settings_table({id: setting(5, id, at)})

# %% [markdown]
# {numref}`fig-olmo-wikipedia` shows the loss on held-out articles.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss along the line between two networks of OLMo's architecture trained on Wikipedia, by method: the mean over three disjoint pairs, and each run faintly (learned methods match the first pair three times, with other random batches).", "name": "fig-olmo-wikipedia"}, "image": {"alt": "Loss over λ from 0 to 1, a curve for each method. Naive and canonical rise to a hill in the middle, with barriers of {{olmo-wikipedia: naive}} and {{olmo-wikipedia: canonical}} nats per token; weights ({{olmo-wikipedia: weights}}) and activations ({{olmo-wikipedia: activations}}) are flatter hills; single ({{olmo-wikipedia: single}}) and dual ({{olmo-wikipedia: dual}}) run along the bottom, one over the other."}}
figures.path_figure(found.comparison)
plt.show()

# %% tags=["remove-input"]
figures.method_table(found.comparison)

# %% [markdown]
# And on WikiText-2's test set {cite:p}`merity2017pointer` (its tokenised form undone by the rule of {mod}`lmc.corpora.corpus`), another
# text than the one the networks and the matching learned from:
#
# {numref}`fig-olmo-wikipedia-wikitext` shows it.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same lines on WikiText-2.", "name": "fig-olmo-wikipedia-wikitext"}, "image": {"alt": "The same curves on WikiText-2: naive {{olmo-wikipedia: also.wikitext2-2048.summary.naive.barrier}} nats per token, weights {{olmo-wikipedia: also.wikitext2-2048.summary.weights.barrier}}, single {{olmo-wikipedia: also.wikitext2-2048.summary.single.barrier}} and dual {{olmo-wikipedia: also.wikitext2-2048.summary.dual.barrier}}."}}
other = found.comparison.also.get(
    "wikitext2-2048", found.comparison
)  # smoke has one text only
figures.path_figure(other)
plt.show()

# %% tags=["remove-input"]
figures.method_table(other)

# %% [markdown]
# The learning rates were chosen from these: the barrier on matching data that a short probe had not seen, by rate.

# %% tags=["remove-input"]
rates_table({id: found})

# %% tags=["remove-input"]
found

# %% [markdown]
# ## On a GPU
#
# Six layers of 512 channels with Pythia's full vocabulary, on the same articles in windows of 512 tokens, three disjoint pairs.

# %% tags=["remove-input"]
measured_on_gpu(["olmo"])

# %% [markdown]
# ## The published pairs
#
# OLMo-1B with AMD's training of the same architecture, and two seeds of DataDecide-1B on one corpus. Configurations are compared
# before a weight is read. A pair is refused where a setting of the function differs: OLMo-1B and its later version, for
# one, clip their queries, keys and values differently. DataDecide's checkpoints are in OLMo's original layout: `lmc convert` maps
# their tensors to the stock class, and the code that comes with them is never run.

# %%
published = profile in ("smoke", "paper")
if small:
    pairs, match_on, held_out = tiny("olmo", Path(tempfile.mkdtemp()))
    steps, grid, limits = 2, 3, (32, 8)
else:
    pairs, match_on, held_out = PAIRS["olmo"], "fineweb", "wikitext"
    limits = (1024, None)

# %% tags=["remove-input"]
figures.pairs_table(pairs)

# %% [markdown]
# The protocol is that of {doc}`17_pythia_small`: matching on web text, evaluation on WikiText-103's raw test set.
#
# The learning rates are the best of the small pairs of {doc}`11_text`, not tuned at this size: a number from here
# is an upper bound of what a method can reach. The authors' code and settings were not used.
#
# **This part was not run**: no published pair was measured, and the largest trained pair of this project has 14.7 million parameters. It runs at profile `paper`; at `smoke` the same
# cells run on tiny models made on the spot, which proves the path and shows no result.

# %% tags=["hide-input"]
if published and recompute:
    began = time.monotonic()
    rates = best_rates(results.read("neox-docstrings-rates", "laptop").grids)
    keep = KeptRuns.of("olmo-wikitext", profile)
    compared = study(
        pairs, match_on, held_out, steps, rates, grid, limits, seed, keep
    )
    numbers = compared.summarised(compared.rest["guess"]).to_json()
    record(
        "olmo-wikitext",
        profile,
        numbers,
        [seed],
        began,
        corpora=[Path(match_on).name, Path(held_out).name],
    )
if published:
    whole = results.read("olmo-wikitext", profile)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier by method; a point for every pair.", "name": "fig-olmo-wikitext"}, "image": {"alt": "A bar for each method, as high as its mean barrier over the published pairs, and a dot for each pair."}}
if published:
    figures.barrier_bars(whole.comparison)
    plt.show()

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same barriers over the size of the models.", "name": "fig-olmo-wikitext-size"}, "image": {"alt": "Barrier over the number of parameters, a line for each method and a mark for each published pair."}}
if published:
    charts.scaling_figure(whole.comparison)
    plt.show()

# %% tags=["remove-input"]
figures.method_table(whole.comparison) if published else figures.Markdown(
    "Not measured: `lmc reproduce --profile paper --figure olmo-wikitext`."
)

# %% tags=["remove-input"]
whole if published else None

# %% tags=["remove-input"]
whole.numbers[
    "refused"
] if published else None  # pairs that cannot be paired, each with the reason

# %% [markdown]
# :::{admonition} What we found
# :class: important
#
# - On Wikipedia: naive {{olmo-wikipedia: naive}} nats per token, dual {{olmo-wikipedia: dual}}, single {{olmo-wikipedia: single}}. Dual leaves {{olmo-wikipedia: dual / naive}} of naive, about as much as with Pythia's architecture ({{pythia-wikipedia: dual / naive}}).
# - On WikiText-2, the text of the paper's claim, the result is worse: naive {{olmo-wikipedia: also.wikitext2-2048.summary.naive.barrier}} nats per token, single {{olmo-wikipedia: also.wikitext2-2048.summary.single.barrier}}, dual {{olmo-wikipedia: also.wikitext2-2048.summary.dual.barrier}}.
#   Dual leaves {{olmo-wikipedia: % also.wikitext2-2048.summary.dual.ratio}} of naive, and more than single. For one of the three pairs the interval passes 5 %, so {doc}`../claims` says *in part*.
# - Models of a billion parameters were not measured: {doc}`../unmeasured`.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-no-gain
# OLMo's norm subtracts the mean, divides by the spread, and has no gain. Check on random numbers that it commutes with
# every rotation that leaves $\mathbb 1$ alone; and that a norm *with* gains does not.
# ```

# %% [markdown]
# ```{solution-start} ex-no-gain
# :class: dropdown
# ```
#
# Without gains nothing ties the norm to the axes. With them, they have to be moved into the readers first: that is the
# canonical form of {doc}`05_rotating`.

# %%
import torch

draw = torch.Generator().manual_seed(0)
basis = torch.randn(8, 8, generator=draw, dtype=torch.float64)
basis[:, 0] = 1  # the first direction is that of the mean
basis, _ = torch.linalg.qr(basis)
turn = torch.eye(8, dtype=torch.float64)
turn[1:, 1:], _ = torch.linalg.qr(
    torch.randn(7, 7, generator=draw, dtype=torch.float64)
)
q = basis @ turn @ basis.T
x, gain = torch.randn(2, 8, generator=draw, dtype=torch.float64)


def norm(x):
    return torch.nn.functional.layer_norm(x, (8,))


assert torch.allclose(norm(q @ x), q @ norm(x))
assert not torch.allclose(gain * norm(q @ x), q @ (gain * norm(x)))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-gate
# A gated layer computes $W_{\text{down}}\,(\mathrm{silu}(W_{\text{gate}}x) \odot W_{\text{up}}x)$. Which rows and
# columns may be multiplied by 3 and divided by 3, and which not? A ReLU had such a freedom in both
# ({doc}`02_two_units`).
# ```

# %% [markdown]
# ```{solution-start} ex-gate
# :class: dropdown
# ```
#
# A row of $W_{\text{up}}$ and the column of $W_{\text{down}}$ that reads it: the product is linear in what `up` gives.
# A row of $W_{\text{gate}}$ goes through the bend of the SiLU and may not.


# %%
def gated(gate, up, down, x):
    return down @ (torch.nn.functional.silu(gate @ x) * (up @ x))


gate, up = torch.randn(2, 5, 8, generator=draw, dtype=torch.float64)
down = torch.randn(3, 5, generator=draw, dtype=torch.float64)
factor = torch.tensor([3.0, 1, 1, 1, 1], dtype=torch.float64)
before = gated(gate, up, down, x)
scaled = factor[:, None]
assert torch.allclose(gated(gate, scaled * up, down / factor, x), before)
assert not torch.allclose(gated(scaled * gate, up, down / factor, x), before)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-two-architectures
# Dual matching leaves {{olmo-wikipedia: dual / naive}} of the naive barrier here and
# {{pythia-wikipedia: dual / naive}} with Pythia's architecture. Do the pairs of each differ by more than that? Print
# the share of every run from `results.read("olmo-wikipedia", "laptop").comparison` and its sibling.
# ```

# %% [markdown]
# ```{solution-start} ex-two-architectures
# :class: dropdown
# ```
#
# They overlap: the worst run here leaves more than the best one there. Three pairs do not tell the architectures
# apart.


# %%
def shares(id):
    found = results.read(id, "laptop").comparison.methods
    naive = {run.pair: run.barrier for run in found["naive"]}
    return [run.barrier / naive[run.pair] for run in found["dual"]]


here, there = shares("olmo-wikipedia"), shares("pythia-wikipedia")
print([f"{share:.1%}" for share in sorted(here)])
print([f"{share:.1%}" for share in sorted(there)])
assert max(here) > min(there)

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** How does it compare with what the predecessor published? {doc}`19_from_scratch`.
