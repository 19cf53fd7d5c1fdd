# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The list of symmetries, checked
#
# Matching looks for the rewriting that lowers a loss. If one of the rewritings changed the function a little, matching
# would happily use that. So everything later rests on two statements: every declared {term}`symmetry` is exact, and
# no continuous one was forgotten, except for a few that {doc}`../families` names. Both are tested here, on models; neither
# is proved for all.
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** How do we know that the list of symmetries is right?
# - **Afterwards you can** check it for any supported model, and read the table that declares it.
# - **You need** {doc}`04_reordering`, {doc}`05_rotating`, {doc}`06_inside_a_head`.
# - **Time.** 10 minutes to read, 1 minute to run.
# :::

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop
seed: int = 0

# %% tags=["hide-input"]
import lmc
from lmc.reproduce.training import shipped_pairs
from lmc.symmetries import Transform, kinds, state

model = lmc.load(shipped_pairs.shipped("neox-docstrings-0")[0])

# %% [markdown]
# ## One map of the whole
#
# {numref}`fig-group-map` puts the three chapters together: which group acts where in the stack of layers.
#
# ```{figure} /_static/pictures/group-map.svg
# :name: fig-group-map
# :alt: A stack of transformer layers with the group that acts at each place. One rotation for the stream through all layers; permutations for heads and hidden units of each layer; invertible maps inside each head.
#
# The symmetries as a map of the stack, for a block whose norms stand before its layers ({doc}`../families` has
# the others).
# ```
#
# ## The table behind it
#
# A model family is one table, its **spec**: for every tensor, which {term}`space` each of its axes belongs to. A space is a set
# of coordinates that several tensors share, such as the stream; it carries the group that may act on it. Everything
# else in the package follows from this table. A few of its rules:

# %%
spec = lmc.spec(model)
for name in list(spec.rules)[:5]:
    print(name, spec.rules[name], sep="\n    ")

# %% [markdown]
# `embed_in` has a row for every token and *writes* (`!`) the stream. `query_key_value` *reads* (`?`) it. A `*` says that a space
# acts by its inverse transpose there, as on the keys of {doc}`06_inside_a_head`. (That has nothing to do with dual matching.)
# Round brackets are a product: a head, and in it the rows of that head. Square brackets put parts one below the other:
# turned queries, queries that no position turns, the same for keys, values. `freq` counts the rotary pairs.
# The groups of the spaces:

# %%
{
    space.name: space.group
    for space in spec.spaces
    if not space.name.endswith(".1")
}

# %% [markdown]
# ## The canonical form
#
# Some freedom is not worth searching, because it can be settled by rule. `lmc.canonicalize` moves gains and biases of norms into
# the layers that follow, takes the mean out of everything that writes to a stream which LayerNorm reads, and
# *balances* matrices that are used as a product, so that neither is large at the other's expense. What is left of
# $GL(d_h)$ after balancing is a rotation. It returns a new stock model with the same function.
#
# ## None is wrong
#
# `lmc.check` draws a random element of every kind, applies it and compares the outputs in double precision. On the command
# line it is `lmc check MODEL`, for your models too. In its table *dimension* is how many numbers of that kind can be chosen
# freely, and *of all* is their share of all parameters. *float64* is the largest change of an output in double precision;
# the column beside it is the same with the model as its library runs it. The row *canonical form* counts separately what is
# settled by rule (its *gauges*: gains, means and biases). The other rows count what is left to choose. Balancing is not
# subtracted: inside a head all of $GL(d_h)$ is counted.

# %%
report = lmc.check(
    lmc.load(shipped_pairs.shipped("neox-docstrings-0")[0]), seed=seed
)
print(report)
assert report.ok

# %%
report = lmc.check(
    lmc.load(shipped_pairs.shipped("vit-digits-0")[0]), seed=seed
)
print(report)
assert report.ok

# %% [markdown]
# In these tables `RotaryCommutant(2)` are the complex numbers of a pair of channels that is turned by its position. `qk` is what stands between queries and
# keys where no position turns them. Permutations have dimension 0: there are many, but nothing about them can be changed by a little.
#
# That such a check can fail was shown on the way: a rotation that forgets $\mathbb 1$ ({doc}`05_rotating`) and a shear
# ({doc}`06_inside_a_head`) change the outputs.
#
# ## None was found missing
#
# ```{prf:observation} Completeness, as it is tested
# :label: obs-complete
#
# For a tiny model of each supported family in double precision, the directions in weight space along which the logits do
# not change, to first order and on many inputs, are as many as the spec declares; a few that are known and left out
# ({doc}`../families` names them) are counted beside them.
# ```
#
# This is a statement about the models tested, not a theorem for all. The test counts the zero singular values of the derivative
# of the logits by the weights. A forgotten symmetry would be one zero too many, a wrong one a zero too few (one of each would cancel, but a wrong one shows in `lmc check` as well). It does not see
# symmetries that are not continuous, such as reorderings.
#
# :::{admonition} What we found
# :class: important
#
# - Every declared symmetry of both models is exact to rounding in double precision.
# - Counted on tiny models, no continuous one is missing, but for the few that {doc}`../families` names.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-kinds
# Which kinds of spaces has the language model, and which of them did this part of the book not mention?
# ```

# %% [markdown]
# ```{solution-start} ex-kinds
# :class: dropdown
# ```
#
# None: all were mentioned.

# %%
assert set(kinds(spec)) == {
    "stream",
    "scale",
    "head",
    "value",
    "hidden",
    "plane",
    "pass",
}

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-identity
# What does the identity of the group do to the canonical form? Check all tensors.
# ```

# %% [markdown]
# ```{solution-start} ex-identity
# :class: dropdown
# ```

# %%
canonical = lmc.canonicalize(model)
same = Transform.identity(spec).apply(canonical)
for name, tensor in state(same).items():
    assert (tensor - state(canonical)[name]).abs().max() < 1e-6

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-twice
# Is the canonical form of the canonical form the canonical form?
# ```

# %% [markdown]
# ```{solution-start} ex-twice
# :class: dropdown
# ```
#
# Yes, to rounding: what is in its place stays there.

# %%
again = lmc.canonicalize(canonical)
for name, tensor in state(again).items():
    assert (tensor - state(canonical)[name]).abs().max() < 1e-4

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** Which of these rewritings makes two networks alike? Part III: {doc}`08_matching`.
