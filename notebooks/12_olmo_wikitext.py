# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # OLMo on WikiText
#
# Pairs of a billion parameters that began apart: OLMo-1B with AMD's training of the same architecture, and two seeds of
# DataDecide-1B on one corpus. The paper claims small barriers for language models of this size {cite:p}`li2026dual`.
#
# **This was not run where the project was built**: there was no network and no such model there, so no pair of a billion
# parameters or more was ever measured by this project. What was run is profile `smoke`: the same cells on tiny
# models made on the spot, which prove the path and show no result. The loaders were run against a local server that
# serves these repositories' layouts, with the stock client libraries.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke | paper
seed: int = 0
steps: int = 300  # of learned matching
grid: int = 25  # points on the line

# %%
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt

from lmc import charts, figures, results
from lmc.errors import ArgumentError
from lmc.experiment import best_rates, record, summary
from lmc.published import PAIRS, study
from lmc.tiny import tiny

figures.use_style()
began = time.monotonic()
if profile not in ("smoke", "paper"):
    raise ArgumentError(f"profile: expected smoke or paper, found {profile}: this chapter needs published models")
small = profile == "smoke"
if small:
    pairs, match_on, held_out = tiny("olmo", Path(tempfile.mkdtemp()))
    steps, grid, limits = 2, 3, (32, 8)
else:
    pairs, match_on, held_out = PAIRS["olmo"], "fineweb", "wikitext"
    limits = (1024, None)

# %% [markdown]
# ## The pairs
#
# Configurations are compared before a weight is read. A pair is refused where a setting of the function differs: OLMo-1B
# and its later version, for one, clip their queries, keys and values differently. DataDecide's checkpoints are in OLMo's
# original layout: `lmc convert` maps their tensors to the stock class, and the code that comes with them is never run.

# %%
figures.pairs_table(pairs)

# %% [markdown]
# ## The experiment
#
# The protocol is that of {doc}`11_pythia_wikitext`: matching on web text, evaluation on WikiText-103's raw test set.
#
# The learning rates are the best of the small pairs of {doc}`05_pythia`, not tuned at this size: a number from here
# is an upper bound of what a method can reach. The paper's own settings are not public.

# %%
rates = best_rates(results.read("neox-docstrings-rates", "laptop").numbers)
numbers = study(pairs, match_on, held_out, steps, rates, grid, limits, seed)
numbers |= summary(numbers, guess=numbers["guess"])
found = record("olmo-wikitext", profile, numbers, [seed], began, corpora=[match_on, held_out])
found.numbers["refused"]  # pairs that cannot be paired, each with the reason

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier by method; a point for every pair.", "name": "fig-olmo-wikitext"}}
figures.barrier_bars(found.numbers)
plt.show()

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same barriers over the size of the models.", "name": "fig-olmo-wikitext-size"}}
charts.scaling_figure(found.numbers)
plt.show()

# %% tags=["remove-input"]
figures.method_table(found.numbers)

# %% tags=["remove-input"]
found
