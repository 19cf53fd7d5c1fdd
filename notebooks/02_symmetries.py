# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Same function, other weights
#
# What can be done to a transformer's weights without changing what it computes? Everything later rests on the answer
# being exact: a "symmetry" that changes the output by a little is a bug that matching would happily exploit. So each
# claim of this chapter is followed by a cell that changes the weights of a really trained model and compares its
# outputs, in honest double precision.

# %% tags=["parameters"]
profile: str = "laptop"  # smoke | laptop
seed: int = 0

# %%
import torch

import lmc
from lmc import corpora
from lmc.reproduce.training import shipped_pairs
from lmc.symmetries import Transform, kinds

language = lmc.load(shipped_pairs.shipped("neox-docstrings-0")[0])
vision = lmc.load(shipped_pairs.shipped("vit-digits-0")[0])
tokens = corpora.tokens("embedded", "eval", corpora.byte_tokenizer(), 128, limit=4)
images, _ = corpora.images("digits", "eval", size=8, mean=(0.5,), std=(0.5,), limit=8)


@torch.no_grad()
def outputs(model) -> torch.Tensor:
    """Logits in double precision; `lmc.float64` keeps stock modules from rounding to single on the way."""
    with lmc.float64():
        return (
            model.double()(tokens).logits if model.__class__ is language.__class__ else model.double()(images.double())
        )


def change(before: torch.Tensor, after: torch.Tensor) -> str:
    return f"{float((after - before).abs().max() / before.abs().max()):.1e}"


expected = {"language": outputs(language), "vision": outputs(vision)}

# %% [markdown]
# ## The canonical form: norms out of the way
#
# A LayerNorm ends with a gain and a bias per channel, which tie the residual stream to its axes. Both can be absorbed
# into the layers that read the norm: $W(\gamma\odot n + \beta) + b = (W\,\mathrm{diag}\,\gamma)\,n + (b + W\beta)$. A
# LayerNorm also subtracts the mean of the stream, so that mean may as well be removed from everything that writes to
# it; then LayerNorm only divides by a length, and a length does not care about axes. Some biases turn out to be
# redundant, and the scale shared between two matrices that are only used as a product is *balanced* between them.
# `lmc.canonicalize` does all this and returns a new stock model.

# %%
canonical = lmc.canonicalize(language)
moved = sum(not torch.equal(p, q) for p, q in zip(language.parameters(), canonical.parameters(), strict=True))
print(
    f"{moved} of {len(list(language.parameters()))} tensors changed; logits moved by {change(expected['language'], outputs(canonical))}"
)

# %% [markdown]
# ## The spec: which group acts where
#
# A model family is one table: for every tensor, which *space* each of its axes belongs to. Everything else in the
# package is derived from it.

# %%
spec = lmc.spec(language)
{name: spec.rules[name] for name in list(spec.rules)[:7]}

# %% [markdown]
# Read it like this: `embed_in` has one row per vocabulary entry and writes (`!`) the stream. `query_key_value` reads
# (`?`) the stream; its rows are, for every head, the query's rotary planes, its other channels, the same for the key
# (with the *dual* action, `*`) and the value. A space carries a group:

# %%
{space.name: space.group for space in spec.spaces if not space.name.endswith(".1")}

# %% [markdown]
# ## Rotating the residual stream
#
# Everything that writes the stream is multiplied by $Q$, everything that reads it by $Q^\top$. For RMSNorm any
# orthogonal $Q$ will do. LayerNorm subtracts the mean, that is the component along $\mathbb 1$, so $Q$ must leave that
# direction alone: $Q\mathbb 1 = \mathbb 1$. This is the largest symmetry of all, and the one that
# permutation-only methods do not have.


# %%
def demonstrate(kind: str, model=language, name: str = "language") -> None:
    """Apply a random element of one kind of space: how far do weights and outputs move?"""
    canonical = lmc.canonicalize(model.double())
    moved = Transform.random(lmc.spec(model), seed).only(kind).apply(canonical)
    before, after = (torch.cat([p.flatten() for p in m.parameters()]) for m in (canonical, moved))
    far = float((after - before).norm() / before.norm())
    print(f"{kind}: weights moved by {far:.0%}, logits by {change(expected[name], outputs(moved))}")


demonstrate("stream")

# %% [markdown]
# ## Scaling the stream
#
# A norm divides by the length of the stream, so the length does not matter, except that a small $\varepsilon$ is added
# for safety. Scaling all writers by $s$ is exact when $\varepsilon$ becomes $s^2\varepsilon$, which a checkpoint can
# only express where its configuration holds that number. GPT-NeoX does; `timm` rebuilds its models with a fixed
# $\varepsilon$, so for them this symmetry is not declared.

# %%
demonstrate("scale")

# %% [markdown]
# ## Permuting heads, and hidden units
#
# The heads of a layer add up, so their order is free. So is the order of a feed-forward layer's hidden units. (Scaling
# a hidden unit is a symmetry only for ReLU and for gated layers, not for the GELU these models use.)

# %%
demonstrate("head")
demonstrate("hidden")

# %% [markdown]
# ## Inside a head: values and output
#
# A head's value and output matrices are only ever used as a product $W_o W_v$. Any invertible $A$ may stand between
# them, $W_v \to A W_v$ and $W_o \to W_o A^{-1}$: the whole group $GL(d_h)$, one element per head. After balancing, what
# is left of it is a rotation.

# %%
demonstrate("value")

# %% [markdown]
# ## Inside a head: queries and keys, and what rotary positions allow
#
# Without position embeddings inside the attention, the same holds for $W_q$ and $W_k$. Rotary embeddings
# {cite:p}`su2021roformer` turn each pair of channels by an angle that depends on the position. What may still stand
# between query and key must commute with all those turns: for every pair one complex number $c$, with $q \to c\,q$ and
# $k \to k/\bar c$ {cite:p}`tran2026functional`. Pythia turns only a quarter of the channels, and the rest (`pass`) keeps its
# $GL$.

# %%
demonstrate("plane")
demonstrate("pass")
demonstrate("qk", vision, "vision")

# %% [markdown]
# ## What is *not* a symmetry
#
# A test that cannot fail proves nothing, so here are two that must: a rotation of the stream that forgets LayerNorm's
# $\mathbb 1$, and a shear inside a rotary plane, which is invertible but no complex number.


# %%
def forged(space: str, element: torch.Tensor) -> None:
    wrong = Transform(spec, {**Transform.identity(spec).elements, space: element})
    print(f"{space}: logits moved by {change(expected['language'], outputs(wrong.apply(lmc.canonicalize(language))))}")


generator = torch.Generator().manual_seed(seed)
q, _ = torch.linalg.qr(torch.randn(128, 128, generator=generator, dtype=torch.float64))
forged("stream", q)  # orthogonal, but it moves 𝟙
shear = torch.eye(2, dtype=torch.float64).repeat(4, 4, 1, 1)
shear[..., 0, 1] = 0.5
forged("plane.0", shear)  # invertible, but no complex number

# %% [markdown]
# ## The proof for a whole model
#
# `lmc.check` does all of this for any supported checkpoint, yours included; on the command line it is
# `lmc check MODEL`.

# %%
report = lmc.check(lmc.load(shipped_pairs.shipped("neox-docstrings-0")[0]), seed=seed)
print(report)
assert report.ok

# %%
report = lmc.check(lmc.load(shipped_pairs.shipped("vit-digits-0")[0]), seed=seed)
print(report)
assert report.ok

# %% [markdown]
# Is anything missing? The tests of the package count: for a tiny model in double precision, the directions in weight
# space along which the logits do not change at all are exactly as many as the table declares.
#
# ```{exercise}
# :label: ex-compose
# Symmetries form a group. Take two random transforms `g` and `h`, and check that `(h @ g).apply(m)` equals
# `h.apply(g.apply(m))`, and that `g.inverse()` undoes `g`.
# ```
#
# ```{solution} ex-compose
# :class: dropdown
# `g, h = (Transform.random(spec, s) for s in (1, 2))`, then compare the parameters of both sides: they agree to
# rounding. Mind that permuted heads carry their contents with them, which `@` accounts for.
# ```

# %%
list(kinds(spec))
