# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Pythia's architecture, small, on Wikipedia and WikiText
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** Is the barrier near zero for language models on WikiText?
# - **Afterwards you can** say at what size the claim was tested here.
# - **You need** {doc}`11_text`.
# - **Time.** 6 minutes to read.
# :::
#
# Pythia is a family of language models trained on one recipe at many sizes {cite:p}`biderman2023pythia`, and PolyPythias adds
# seeds {cite:p}`vanderwal2025polypythias`: pairs that differ in nothing but chance. The paper claims a near-zero barrier for
# medium-sized language models on WikiText {cite:p}`li2026dual`. This chapter has three parts: pairs of this architecture
# trained from nothing, small enough for a laptop; the same at Pythia's own sizes, for a GPU; and the published pairs.

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop | paper; on a GPU, the campaign measures what this chapter reads
seed: int = 0
steps: int = 300  # of learned matching, published pairs
sizes: str = "all"  # of these; or some of 14m, 31m, 70m, 160m, 410m and 1b, as "14m,31m", for a smaller GPU
grid: int = 25  # points on the line
recompute: bool = True  # otherwise draw what the results say

# %% tags=["hide-input"]
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt

from lmc.reproduce import charts, figures, results
from lmc.reproduce.experiments.chapter import (
    by_size,
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
# Pythia's architecture (parallel residual, rotary positions on a quarter of each head, untied head) at four layers of 64
# channels, trained on Wikipedia articles as Pythia's tokenizer cuts them; the 2,047 most frequent tokens keep their id, all
# others share one. Three pairs that share no endpoint. Single and dual matching take equally many steps, each at the best
# rate of its own grid.

# %%
id = "pythia-14m" if small else "pythia-wikipedia"
at = "smoke" if small else "laptop"
if recompute and profile == at:
    conduct(1, id, at)
found = results.read(id, at)

# %% tags=["remove-input"]
settings_table({id: setting(1, id, at)})

# %% [markdown]
# {numref}`fig-pythia-wikipedia` shows the loss on held-out articles.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss along the line between two networks of Pythia's architecture trained on Wikipedia, by method: the mean over three disjoint pairs, and each run faintly (learned methods match the first pair three times, with other random batches).", "name": "fig-pythia-wikipedia"}, "image": {"alt": "Loss over λ from 0 to 1, a curve for each method. Naive and canonical rise to a hill in the middle, with barriers of {{pythia-wikipedia: naive}} and {{pythia-wikipedia: canonical}} nats per token; weights ({{pythia-wikipedia: weights}}) and activations ({{pythia-wikipedia: activations}}) are flatter hills; single ({{pythia-wikipedia: single}}) and dual ({{pythia-wikipedia: dual}}) run along the bottom, one over the other."}}
figures.path_figure(found.comparison)
plt.show()

# %% tags=["remove-input"]
figures.method_table(found.comparison)

# %% [markdown]
# And on WikiText-2's test set {cite:p}`merity2017pointer` (its tokenised form undone by the rule of {mod}`lmc.corpora.corpus`), another
# text than the one the networks and the matching learned from:
#
# {numref}`fig-pythia-wikipedia-wikitext` shows it.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same lines on WikiText-2.", "name": "fig-pythia-wikipedia-wikitext"}, "image": {"alt": "The same curves on WikiText-2: naive {{pythia-wikipedia: also.wikitext2-2048.summary.naive.barrier}} nats per token, weights {{pythia-wikipedia: also.wikitext2-2048.summary.weights.barrier}}, single {{pythia-wikipedia: also.wikitext2-2048.summary.single.barrier}} and dual {{pythia-wikipedia: also.wikitext2-2048.summary.dual.barrier}}, in the same order from top to bottom."}}
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
# The shapes of Pythia-14M, 31M, 70M and 160M with Pythia's full vocabulary, trained on the same articles in windows of 512
# tokens, three disjoint pairs each. The settings are entries of {mod}`lmc.reproduce.training.settings`; {doc}`../gpu` says how to run them.

# %% tags=["remove-input"]
on_gpu = ["pythia-14m", "pythia-31m", "pythia-70m", "pythia-160m"]
measured_on_gpu(on_gpu)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier over size: the small networks above, and what a GPU has measured; a point for every match. Vocabularies and lengths of training differ.", "name": "fig-pythia-by-size"}, "image": {"alt": "Barrier over the number of parameters, a line for each method and a mark for each match."}}
by_size(
    "pythia-wikipedia", on_gpu
)  # nothing as long as there is nothing to compare with
plt.show()

# %% [markdown]
# ## The published pairs
#
# PolyPythias from 14 to 410 million parameters, fully trained (revision `step143000`); the eight seeds of a size
# form four pairs, so no model is in two of them. And Pythia-1B with its deduplicated sibling, the only published Pythia pair of a
# billion parameters: both began from one seed, so the two are not independent, and `lmc` warns of it; means leave
# this pair out.

# %% tags=["hide-input"]
published = profile in ("smoke", "paper")
if small:
    pairs, match_on, held_out = tiny("pythia", Path(tempfile.mkdtemp()))
    steps, grid, limits = 2, 3, (32, 8)
else:
    known = {one.size for one in PAIRS["pythia"]}
    chosen = known if sizes == "all" else set(sizes.split(","))
    assert chosen <= known, (
        f"sizes: expected some of {sorted(known)}, found {sizes!r}"
    )
    pairs, match_on, held_out = (
        tuple(one for one in PAIRS["pythia"] if one.size in chosen),
        "fineweb",
        "wikitext",
    )
    limits = (1024, None)

# %% tags=["remove-input"]
figures.pairs_table(pairs)

# %% [markdown]
# Matching reads web text (FineWeb-Edu), evaluation WikiText-103's test set in its raw form (`wikitext-103-raw-v1`): rows
# joined, cut into windows of 2,048 tokens (or the model's context, if that is shorter) that do not overlap; every token
# of a window but the first is predicted.
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
    keep = KeptRuns.of("pythia-wikitext", profile)
    compared = study(
        pairs, match_on, held_out, steps, rates, grid, limits, seed, keep
    )
    numbers = compared.summarised(compared.rest["guess"]).to_json()
    record(
        "pythia-wikitext",
        profile,
        numbers,
        [seed],
        began,
        corpora=[Path(match_on).name, Path(held_out).name],
    )
if published:
    whole = results.read("pythia-wikitext", profile)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier by method; a point for every pair.", "name": "fig-pythia-wikitext"}, "image": {"alt": "A bar for each method, as high as its mean barrier over the published pairs, and a dot for each pair."}}
if published:
    figures.barrier_bars(whole.comparison)
    plt.show()

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same barriers over the size of the models.", "name": "fig-pythia-wikitext-size"}, "image": {"alt": "Barrier over the number of parameters, a line for each method and a mark for each published pair."}}
if published:
    charts.scaling_figure(whole.comparison)
    plt.show()

# %% tags=["remove-input"]
figures.method_table(whole.comparison) if published else figures.Markdown(
    "Not measured: `lmc reproduce --profile paper --figure pythia-wikitext`."
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
# - On Wikipedia: naive {{pythia-wikipedia: naive}} nats per token, dual {{pythia-wikipedia: dual}}, single {{pythia-wikipedia: single}}. Dual leaves {{pythia-wikipedia: dual / naive}} of naive.
# - In perplexity: a factor of {{pythia-wikipedia: exp naive}} becomes one of {{pythia-wikipedia: exp dual}}.
# - On WikiText-2: naive {{pythia-wikipedia: also.wikitext2-2048.summary.naive.barrier}}, dual {{pythia-wikipedia: also.wikitext2-2048.summary.dual.barrier}}, single {{pythia-wikipedia: also.wikitext2-2048.summary.single.barrier}}.
# - Published Pythia models were not measured: {doc}`../unmeasured`.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-cosine
# How can one tell from the weights alone that two networks are independent? Compute the cosine between two random
# vectors of 100,000 weights; then between two that begin at the same point and move away from it by as much as it is
# long, in random directions.
# ```

# %% [markdown]
# ```{solution-start} ex-cosine
# :class: dropdown
# ```
#
# Close to 0 for independent ones, about ½ for those with a common start. `lmc` warns when the cosine is far from 0.

# %%
import torch

draw = torch.Generator().manual_seed(0)
start, one, other = torch.randn(3, 100_000, generator=draw)
cosine = torch.nn.functional.cosine_similarity
assert abs(float(cosine(one, other, dim=0))) < 0.02
assert abs(float(cosine(start + one, start + other, dim=0)) - 0.5) < 0.02

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-shared-id
# All rare tokens share one id here. Does that make the loss higher or lower? Compare the entropy $-\sum p \ln p$ of a
# frequency table before and after its last four entries are joined.
# ```

# %% [markdown]
# ```{solution-start} ex-shared-id
# :class: dropdown
# ```
#
# Lower: nobody has to say any more *which* of the rare ones comes next. So losses, and barriers, of different
# vocabularies do not compare.

# %%
p = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
joined = torch.cat([p[:2], p[2:].sum()[None]])


def entropy(p):
    return float(-(p * p.log()).sum())


assert entropy(joined) < entropy(p)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-other-text
# Does what matching found on Wikipedia hold on WikiText-2? Compute which share of the naive barrier dual matching
# leaves on either text, on average over the pairs, from `results.read("pythia-wikipedia", "laptop").comparison` and its
# `.also["wikitext2-2048"]`.
# ```

# %% [markdown]
# ```{solution-start} ex-other-text
# :class: dropdown
# ```
#
# It leaves about as little on average. So matching did not only fit the text that it read. But pair by pair the two
# texts agree only roughly, and finer differences need not carry over ({doc}`09_one_side_or_two`, {doc}`15_what_limits_it`).

# %%
wikipedia = results.read("pythia-wikipedia", "laptop").comparison
texts = {"Wikipedia": wikipedia} | dict(wikipedia.also)
left = {n: c.summary["dual"].ratio for n, c in texts.items()}
print({name: f"{share:.1%}" for name, share in left.items()})
assert len(left) == 2 and max(left.values()) < 0.05

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** Another architecture, the same text: {doc}`18_olmo_small`.
