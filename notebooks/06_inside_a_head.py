# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Inside a head, with and without rotary positions
#
# A head multiplies matrices that nobody else sees. Where two matrices are only ever used as a product, anything
# invertible may stand between them.
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** What may change inside one attention head?
# - **Afterwards you can** rewrite values, queries and keys of a head, and say what rotary positions forbid.
# - **You need** {doc}`05_rotating`; complex numbers.
# - **Time.** 12 minutes to read, half a minute to run.
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
# ## Values and output, by hand
#
# A head computes values $v = W_v x$, mixes them over positions with numbers that sum to one, and hands the result to its output
# matrix $W_o$. Take one channel: $W_v = 2$, $W_o = 3$. Then $x$ arrives as $6x$. With $W_v = 10$ and $W_o = 0.6$ it arrives as
# $6x$ too. With more channels the factor 5 becomes any invertible matrix $A$:
#
# $$
# (W_o A^{-1})(A W_v) = W_o W_v.
# $$
#
# These matrices form the group $GL(d_h)$, the *general linear group* of the $d_h$ channels of a head. There is one for each head.
#
# ## Queries and keys, by hand
#
# Attention compares a query with a key by an inner product, $q \cdot k$. With $q \to A q$ and $k \to A^{-\top} k$ it stays: one
# stretches what the other shrinks. Without position embeddings inside the attention, that is again all of $GL(d_h)$.
#
# **Rotary positions** {cite:p}`su2021roformer` take most of it away. They pair up the channels and turn each pair by an angle
# that depends on the position of the token. Write a pair of channels as one complex number; a turn by $\varphi$ is then
# multiplication by $e^{i\varphi}$, and the inner product of $q$ and $k$ is the real part of $q\bar k$. What stands
# between query and key must not care whether the turn comes before or after it. A complex factor does not care:
# $c\,e^{i\varphi} = e^{i\varphi} c$. A general matrix does, and so does one that mixes two pairs, as each pair turns at a speed of its own. So what is left is $q \to c\,q$, $k \to k/\bar c$, with one
# complex number $c$ for each pair {cite:p}`tran2026functional`.
#
# An example: $q = 1 + 2i$ and $k = 3 + i$ have $\operatorname{Re} q\bar k = 3 + 2 = 5$. Take $c = 1 + i$. Then
# $cq = -1 + 3i$ and $k/\bar c = 1 + 2i$, and $\operatorname{Re}\,(-1+3i)(1-2i) = -1 + 6 = 5$.
#
# ```{figure} /_static/pictures/rotary-plane.svg
# :name: fig-rotary-plane
# :alt: A plane of two channels in which the query and the key turn with their position. A common complex factor commutes with the turns.
#
# A rotary plane: two channels as a complex number. Positions turn it; a complex factor may be moved past the turn.
# ```
#
# ## Do it

# %%
canonical, spec = lmc.canonicalize(model), lmc.spec(model)
for kind in ("value", "plane", "pass"):
    moved = outputs(Transform.random(spec, seed).only(kind).apply(canonical))
    print(f"{kind}: logits changed by {change(moved)}")
    assert (moved - before).abs().max() < 1e-9 * before.abs().max()

# %% [markdown]
# `value` is $GL$ between values and output, `plane` the complex numbers. Pythia turns only a quarter of a head's channels; the
# rest is `pass`, and keeps its $GL$.
#
# A shear of a plane is invertible but no complex number, and must fail:

# %%
shear = torch.eye(2, dtype=torch.float64).repeat(4, 4, 1, 1)
shear[..., 0, 1] = 0.5
element = {**Transform.identity(spec).elements, "plane.0": shear}
sheared = outputs(Transform(spec, element).apply(canonical))
print(f"a shear in each plane: logits changed by {change(sheared)}")
assert (sheared - before).abs().max() > 1e-6 * before.abs().max()

# %% [markdown]
# :::{admonition} What we found
# :class: important
#
# - Values and output of a head have all of $GL(d_h)$ between them.
# - So have queries and keys, unless positions turn them; then one complex number for each turned pair is left.
# - What looks like a symmetry and is none changes the outputs visibly.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-complex
# Check the example above when the key is turned by one radian against the query, in Python's complex numbers.
# ```

# %% [markdown]
# ```{solution-start} ex-complex
# :class: dropdown
# ```

# %%
import cmath

q, k, c, turn = 1 + 2j, 3 + 1j, 1 + 1j, cmath.exp(1j)
plain = (q * (k * turn).conjugate()).real  # the key is one position further
moved = (c * q * (k / c.conjugate() * turn).conjugate()).real
assert abs(plain - moved) < 1e-12

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-inverse-transpose
# Why $A^{-\top}$ for the key, and not $A^{-1}$? Check with random numbers.
# ```

# %% [markdown]
# ```{solution-start} ex-inverse-transpose
# :class: dropdown
# ```
#
# $(Aq)\cdot(Bk) = q^\top A^\top B k$, which is $q\cdot k$ for all $q, k$ exactly if $A^\top B = 1$.

# %%
draw = torch.Generator().manual_seed(0)
a = torch.randn(3, 3, generator=draw, dtype=torch.float64)
q, k = torch.randn(2, 3, generator=draw, dtype=torch.float64)
assert torch.allclose((a @ q) @ (torch.linalg.inv(a).T @ k), q @ k)
assert not torch.allclose((a @ q) @ (torch.linalg.inv(a) @ k), q @ k)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-freedom
# How many free numbers have `value`, `plane` and `pass` together in this model: two layers, four heads of 32 channels, 8 of
# them turned?
# ```

# %% [markdown]
# ```{solution-start} ex-freedom
# :class: dropdown
# ```

# %%
value = 32 * 32
plane = 4 * 2  # four pairs, two real numbers each
rest = 24 * 24
total = 2 * 4 * (value + plane + rest)
print(total)
assert total == 12864

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** How do we know that all of this is exact for a whole model, and that nothing is missing? {doc}`07_proof`.
