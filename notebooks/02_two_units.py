# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One hidden layer, two units
#
# The smallest network that has a symmetry fits on a napkin. This chapter swaps two of its units by hand, and then
# averages it with its own swapped copy.
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** Why are there different weights for one and the same function?
# - **Afterwards you can** swap two units by hand, and say why averaging equivalent networks fails.
# - **You need** matrix times vector.
# - **Time.** 10 minutes to read, seconds to run.
# :::

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop

# %% [markdown]
# ## By hand
#
# Two inputs, two hidden units, one output, no biases. A hidden unit passes on what is positive and replaces the rest
# by zero (*ReLU*). Here are all six weights:
#
# $$
# W_{\text{in}} = \begin{pmatrix} 1 & 2 \\ 3 & -1 \end{pmatrix}, \qquad
# W_{\text{out}} = \begin{pmatrix} 1 & 2 \end{pmatrix}.
# $$
#
# A row of $W_{\text{in}}$ is what one hidden unit listens to; a column of $W_{\text{out}}$ is what it says. Give the
# network the input $x = (1, 1)$:
#
# - unit 1 computes $1\cdot1 + 2\cdot1 = 3$, unit 2 computes $3\cdot1 - 1\cdot1 = 2$;
# - the output is $1\cdot3 + 2\cdot2 = 7$.
#
# Now **swap the units**: the two rows of $W_{\text{in}}$, and with them the two columns of $W_{\text{out}}$.
#
# $$
# W_{\text{in}}' = \begin{pmatrix} 3 & -1 \\ 1 & 2 \end{pmatrix}, \qquad
# W_{\text{out}}' = \begin{pmatrix} 2 & 1 \end{pmatrix}.
# $$
#
# The units compute 2 and 3, the output is $2\cdot2 + 1\cdot3 = 7$. Of course: a sum does not depend on the order of its
# terms. Every weight has changed and no output has. {numref}`fig-units-swapped` shows it for three units.
# Follow one number in it: at the input $(1, 2)$ the three units hold 4, 1 and 0 (the third sum is $-1$, which ReLU cuts
# off), and the outputs are $1\cdot4 - 2\cdot1 = 2$ and $1\cdot4 + 1\cdot1 = 5$. On the right units 1 and 2 have changed
# places, and the outputs are 2 and 5 again.
#
# ```{figure} /_static/pictures/units-swapped.svg
# :name: fig-units-swapped
# :alt: A network of two inputs, three hidden units and two outputs, and the same network with units one and two exchanged. Edges move with their units, and the outputs are the same.
#
# A network, and the same network with two hidden units swapped. Each edge goes with its unit.
# ```
#
# ## In general
#
# Let $P$ be a permutation matrix: it reorders the units. The activation $\sigma$ works on each unit by itself, so
# $\sigma(P z) = P\,\sigma(z)$, and since $P^\top P = 1$,
#
# $$
# (W_{\text{out}} P^\top)\;\sigma(P W_{\text{in}}\, x) = W_{\text{out}}\,\sigma(W_{\text{in}}\, x).
# $$
#
# That is a {term}`symmetry`: other weights, same function, for every input. A layer of $n$ units has $n!$ of them. With
# 512 units that is a number of more than a thousand digits.
#
# ## Do it

# %%
import numpy as np

w_in = np.array([[1.0, 2.0], [3.0, -1.0]])
w_out = np.array([[1.0, 2.0]])


def network(w_in, w_out, x):
    return w_out @ np.maximum(w_in @ x, 0)


x = np.array([1.0, 1.0])
print("as it is:", network(w_in, w_out, x))
print("swapped: ", network(w_in[[1, 0]], w_out[:, [1, 0]], x))

# %% [markdown]
# One input may be luck, so try a thousand:

# %%
xs = np.random.default_rng(0).normal(size=(2, 1000))
swapped = w_in[[1, 0]], w_out[:, [1, 0]]
changed = np.abs(network(*swapped, xs) - network(w_in, w_out, xs)).max()
print("largest change of an output:", changed)
assert changed < 1e-12

# %% [markdown]
# ## Now average the two
#
# Both networks compute the same function. The network half way between them:

# %%
half = (w_in + swapped[0]) / 2, (w_out + swapped[1]) / 2
print(half[0], half[1], sep="\n")
for point in (x, np.array([1.0, -1.0])):
    found, wanted = network(*half, point), network(w_in, w_out, point)
    print(f"at x = {point}: {found}, should be {wanted}")

# %% [markdown]
# Its two units have become equal: both listen to $(2, \tfrac12)$. What distinguished them is gone. At
# $x = (1, 1)$ it gives 7.5 instead of 7, at $x = (1, -1)$ it gives 4.5 instead of 8. Take as loss the squared distance
# to the right outputs, 7 and 8: it is zero at both ends and above zero half way. So there is a barrier between a network
# and a rewritten copy of the same network. {numref}`widget-swap-two-units` lets you try other swaps.
#
# ```{widget} swap-two-units
# ```
#
# And it can be undone. Whoever knows that two units were swapped swaps them back, and averages two equal networks.
# {numref}`fig-weights-before-after` shows two small networks that were trained apart, from different starts and on other
# noisy examples of one function; the order is that in which each unit of B is paired with the unit of A whose weights are
# closest. Nobody swapped anything there,
# yet a reordering makes them nearly alike. To find it is called {term}`matching`.
#
# ```{figure} /_static/pictures/weights-before-after.svg
# :name: fig-weights-before-after
# :alt: Heatmaps of the weights of network A, of network B as trained, and of B with its six units reordered. A and the reordered B look alike; A and B as trained do not.
#
# Weights of two tiny networks that were trained apart. After reordering, B looks like A.
# ```
#
# :::{admonition} What we found
# :class: important
#
# - Swapping hidden units changes the weights and nothing else.
# - Averaging a network with its own swapped copy gives another, worse function.
# - So a barrier need not mean that two networks do different things.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-swap
# Write `swap(w_in, w_out, i, j)`, which swaps units $i$ and $j$ of a layer of any size. The check runs your function on
# random weights.
# ```


# %%
def check_swap(swap) -> None:
    draw = np.random.default_rng(1)
    w_in, w_out = draw.normal(size=(5, 3)), draw.normal(size=(2, 5))
    new_in, new_out = swap(w_in, w_out, 1, 4)
    x = draw.normal(size=(3, 50))
    assert not np.allclose(new_in, w_in), "the weights are as before"
    change = network(new_in, new_out, x) - network(w_in, w_out, x)
    assert np.allclose(change, 0), "the outputs changed"


# %% [markdown]
# ```{solution-start} ex-swap
# :class: dropdown
# ```


# %%
def swap(w_in, w_out, i, j):
    order = list(range(len(w_in)))
    order[i], order[j] = j, i
    return w_in[order], w_out[:, order]


check_swap(swap)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-scale
# ReLU has another symmetry. Multiply the incoming weights of a unit by 3. What must happen to its outgoing ones? And why
# does that fail for a factor of −3?
# ```

# %% [markdown]
# ```{solution-start} ex-scale
# :class: dropdown
# ```
#
# Divide them by 3: $\max(3z, 0) = 3\max(z, 0)$. With −3, what was positive becomes negative and is cut off. A GELU, which
# most transformers use, allows no factor at all: three times the input does not give three times the output.

# %%
factors = np.array([3.0, 1.0])
scaled = w_in * factors[:, None], w_out / factors
assert np.allclose(network(*scaled, xs), network(w_in, w_out, xs))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-biases
# Give the hidden units biases, $\sigma(W_{\text{in}} x + b)$. What must a swap do to $b$?
# ```

# %% [markdown]
# ```{solution-start} ex-biases
# :class: dropdown
# ```
#
# Swap its entries as well: a bias belongs to its unit.

# %%
b = np.array([0.5, -1.0])
before = w_out @ np.maximum(w_in @ xs + b[:, None], 0)
after = swapped[1] @ np.maximum(swapped[0] @ xs + b[[1, 0], None], 0)
assert np.allclose(before, after)

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** What does matching look like from above? {doc}`03_landscape` draws the map.
