# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Two networks and the line between them
#
# Train the same architecture twice on the same task, from two random seeds. Both copies learn it equally well. Now
# average their weights. One would hope for a third good network: averaging is cheap, and it is how checkpoints of
# *one* run are routinely combined {cite:p}`wortsman2022soups`. Between two runs it fails, and this chapter shows how badly.
#
# ## The barrier
#
# Let $\theta_A$ and $\theta_B$ be the weights of the two {term}`endpoints <endpoint>`, and $L$ the loss on held-out
# data. Walk along the straight line $\theta_\lambda = (1-\lambda)\,\theta_A + \lambda\,\theta_B$ with the
# {term}`interpolation weight` $\lambda$ from 0 to 1. The {term}`barrier` is how far the loss rises above the line that
# joins the endpoints' losses:
#
# $$
# \text{barrier} = \max_{0\le\lambda\le1}\; L(\theta_\lambda) - \bigl[(1-\lambda)\,L(\theta_A) + \lambda\,L(\theta_B)\bigr].
# $$
#
# Two networks are *linearly mode connected* {cite:p}`frankle2020linear` when this is (almost) zero. It is measured in nats per
# image or per token, and it cannot be negative: at $\lambda = 0$ the bracket equals the loss.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke | laptop
grid: int = 25  # points on the line

# %%
import time

import lmc
from lmc import corpora
from lmc.reproduce import figures, results
from lmc.reproduce.experiments.comparison import compare
from lmc.reproduce.runs import Headline
from lmc.reproduce.training import shipped_pairs

figures.use_style()
began = time.monotonic()
small = profile == "smoke"
grid = 5 if small else grid

# %% [markdown]
# ## Two vision transformers
#
# The repository ships small pairs that were trained independently: other initialisation, other order of the data.
# These are stock `timm` vision transformers that read handwritten digits. Their record says how good they are.

# %%
record = shipped_pairs.record("vit-digits-0")
{side: {key: round(run[key], 3) for key in ("loss", "accuracy")} for side, run in record["endpoints"].items()}

# %% [markdown]
# `lmc.load` gives back ordinary models, `lmc.match` aligns two of them (the method `naive` does nothing but average),
# and `lmc.path` walks the line between them on data that neither training nor matching has seen.


# %%
def load(name: str) -> tuple:
    return tuple(lmc.load(folder) for folder in shipped_pairs.shipped(name))


names = [f"vit-digits-{i}" for i in range(1 if small else 3)]
digits = {"size": 8, "mean": (0.5,), "std": (0.5,)}
held_out = corpora.images("digits", "eval", **digits)
vision = compare({name: load(name) for name in names}, held_out, held_out, {"naive": [{}]}, grid)
numbers = vision.to_json() | Headline({"naive barrier": vision.mean("naive")}, seedless=["naive barrier"]).to_json()
command = f"lmc reproduce --profile {profile} --figure naive-vit"
run = {"seeds": [0], "duration_s": time.monotonic() - began, "command": command}
results.write("naive-vit", profile, numbers, run)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss between two vision transformers trained from different seeds: three disjoint pairs faintly, and their mean. Both ends are good, what lies between is worse than guessing.", "name": "fig-naive-vit"}}
import matplotlib.pyplot as plt

figures.path_figure(results.read("naive-vit", profile).comparison)
plt.show()

# %% [markdown]
# Half way, the average network is far worse than one that ignores the image and answers with the class frequencies:
# that would cost $\ln 10 \approx 2.3$ nats.
#
# ## Two language models
#
# The same with two models of Pythia's architecture {cite:p}`biderman2023pythia`, which predict the next byte of English
# text: the documentation that came with the Python packages on this machine. Training and
# evaluation use different packages, and no paragraph is in both.

# %%
began = time.monotonic()
names = [f"neox-docstrings-{i}" for i in range(1 if small else 3)]
tokens = corpora.tokens("embedded", "eval", corpora.byte_tokenizer(), 128, limit=16 if small else 256)
text = compare({name: load(name) for name in names}, tokens, tokens, {"naive": [{}]}, grid)
numbers = text.to_json() | Headline({"naive barrier": text.mean("naive")}, seedless=["naive barrier"]).to_json()
command = f"lmc reproduce --profile {profile} --figure naive-pythia"
run = {"seeds": [0], "duration_s": time.monotonic() - began, "command": command}
results.write("naive-pythia", profile, numbers, run)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same between two language models of Pythia's architecture.", "name": "fig-naive-pythia"}}
figures.path_figure(results.read("naive-pythia", profile).comparison)
plt.show()

# %% [markdown]
# ## Why it fails, and why it need not
#
# The two networks are not two different solutions in the way that this picture suggests. Take network $A$ and exchange
# two hidden units of a layer, together with everything that reads them. The function is the same, the weights are not.
# There are astronomically many such rewritings, and each training run ends in one of them at random. Averaging unit 17
# of one run with unit 17 of the other makes no more sense than averaging page 17 of two books.
#
# If the rewritings are all that separates the two, then it must be possible to rewrite one, or both, so that averaging
# works. This was conjectured for permutations by {cite:t}`entezari2022role` and made practical by {cite:t}`ainsworth2023git`.
# A transformer has more freedom than permutations: {doc}`02_symmetries` lists it and proves every entry on real models,
# and {doc}`03_matching` uses it.

# %% [markdown]
# ```{exercise}
# :label: ex-self
# What is the barrier between a network and itself? Between a network and a copy with two hidden units exchanged?
# Give `compare` the pair `(a, a)` to find out.
# ```
#
# ```{solution} ex-self
# :class: dropdown
# The first is zero: every point of the line is the same network. The second is not, although both ends compute the
# same function; half way, two units have become equal, and what distinguished them is gone.
# ```

# %% [markdown]
# ## What made these numbers

# %% tags=["remove-input"]
results.read("naive-vit", profile)

# %% tags=["remove-input"]
results.read("naive-pythia", profile)
