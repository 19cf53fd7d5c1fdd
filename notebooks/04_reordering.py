# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Reordering: units and heads
#
# {doc}`02_two_units` swapped two units of a network on a napkin. A trained transformer has the same freedom twice over:
# in its feed-forward layers, and in its attention heads.
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** What in a transformer may change places?
# - **Afterwards you can** reorder the hidden units and the heads of a trained model without changing its outputs.
# - **You need** {doc}`02_two_units`; what attention heads are.
# - **Time.** 8 minutes to read, half a minute to run.
# :::

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop
seed: int = 0

# %% tags=["hide-input"]
import torch

import lmc
from lmc import corpora
from lmc.reproduce.training import shipped_pairs
from lmc.symmetries import Transform

model = lmc.load(shipped_pairs.shipped("neox-docstrings-0")[0]).double()
tokens = corpora.tokens(
    "embedded", "eval", corpora.byte_tokenizer(), 128, limit=4
)


@torch.no_grad()
def outputs(model) -> torch.Tensor:
    """Logits in double precision, without rounding on the way."""
    with lmc.float64():
        return model.double()(tokens).logits


def change(after: torch.Tensor) -> str:
    return f"{float((after - before).abs().max() / before.abs().max()):.0e}"


before = outputs(model)

# %% [markdown]
# ## By hand
#
# Attention has heads that work side by side, and their contributions are **added**. Say there are three heads and they
# add $(1, 0)$, $(0, 2)$ and $(3, 1)$ to the network's working memory. The sum is $(4, 3)$ in any order. So heads are like
# hidden units, only bigger: not one number changes places but a block of rows, with the block of columns that
# reads it. {numref}`fig-heads-blocks` shows the blocks.
#
# ```{figure} /_static/pictures/heads-blocks.svg
# :name: fig-heads-blocks
# :alt: The query, key, value and output matrices of an attention layer, cut into one block for each head. Reordering heads moves whole blocks, in all four matrices alike.
#
# A head is a block of rows in the query, key and value matrices, and a block of columns in the output matrix.
# ```
#
# ## In general
#
# The layer of $H$ heads writes $\sum_h W_o^{(h)}\, a_h(x)$, where $a_h$ is computed by head $h$ from its own queries, keys
# and values. A sum does not depend on the order of its terms: $H!$ symmetries for each layer. A feed-forward layer of
# $n$ units has $n!$, as before. If several query heads share one key and value head (*grouped queries*), the groups may
# be reordered, and the query heads within each group.
#
# ## Do it
#
# A trained language model of Pythia's architecture, two layers, four heads each, 512 hidden units. First the units of
# the first layer, in a random order:

# %%
layer = model.gpt_neox.layers[0]
up, down = layer.mlp.dense_h_to_4h, layer.mlp.dense_4h_to_h
order = torch.randperm(512, generator=torch.Generator().manual_seed(seed))
up.weight.data = up.weight.data[order]  # what each unit listens to
up.bias.data = up.bias.data[order]
down.weight.data = down.weight.data[:, order]  # what each unit says
print(f"512 units reordered; logits changed by {change(outputs(model))}")

# %% [markdown]
# Then its heads. This architecture stores queries, keys and values in one matrix, head after head:

# %%
attention = layer.attention
order = [2, 0, 3, 1]
qkv, out = attention.query_key_value, attention.dense
rows = qkv.weight.data.view(4, -1, qkv.in_features)
qkv.weight.data = rows[order].reshape(qkv.weight.shape)
qkv.bias.data = qkv.bias.data.view(4, -1)[order].reshape(-1)
columns = out.weight.data.view(out.out_features, 4, -1)
out.weight.data = columns[:, order].reshape(out.weight.shape)
print(f"4 heads reordered; logits changed by {change(outputs(model))}")
assert (outputs(model) - before).abs().max() < 1e-9 * before.abs().max()

# %% [markdown]
# The change is rounding in double precision, not zero, because sums are now formed in another order.
#
# ## What the package does
#
# `lmc` knows which tensors hold which units. `Transform.random` draws a rewriting, `only` keeps one kind of it, `apply` makes
# a new model:

# %%
spec, canonical = lmc.spec(model), lmc.canonicalize(model)
for kind in ("hidden", "head"):
    moved = Transform.random(spec, seed).only(kind).apply(canonical)
    print(f"{kind}: logits changed by {change(outputs(moved))}")

# %% [markdown]
# (`lmc.canonicalize` is an exact rewriting too; {doc}`05_rotating` says what it is for.)
#
# :::{admonition} What we found
# :class: important
#
# - Hidden units and heads of a trained transformer can be put in any order. Its outputs change by rounding only.
# - Each unit or head must take along everything that writes it and everything that reads it.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-half
# Reorder only `up`, not `down`. By how much do the logits change?
# ```

# %% [markdown]
# ```{solution-start} ex-half
# :class: dropdown
# ```
#
# By about as much as the logits are large. Half a symmetry is none.

# %%
order = torch.randperm(512, generator=torch.Generator().manual_seed(1))
kept = up.weight.data.clone()
up.weight.data = kept[order]
wrong = (outputs(model) - before).abs().max() / before.abs().max()
up.weight.data = kept
print(f"{float(wrong):.2f}")
assert wrong > 1e-3

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-count
# How many orders are there for four heads and 512 units in each of two layers? Give the number of decimal digits.
# ```

# %% [markdown]
# ```{solution-start} ex-count
# :class: dropdown
# ```

# %%
import math

orders = (math.factorial(4) * math.factorial(512)) ** 2
digits = int(orders.bit_length() * math.log10(2)) + 1
print(digits)
assert digits > 2000

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-layers
# May the two *layers* change places?
# ```

# %% [markdown]
# ```{solution-start} ex-layers
# :class: dropdown
# ```
#
# No. Layers do not work side by side: the second reads what the first has written.

# %%
layers = model.gpt_neox.layers
layers[0], layers[1] = layers[1], layers[0]
assert (outputs(model) - before).abs().max() > 1e-3 * before.abs().max()
layers[0], layers[1] = layers[1], layers[0]

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** Units and heads can change places. What about the channels that all layers share? {doc}`05_rotating`.
