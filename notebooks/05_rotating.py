# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Rotating the stream, and what a norm forbids
#
# Every layer of a transformer reads from, and adds to, one vector per token: the **residual stream**, its working memory.
# Its channels can do more than change places.
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** Do the axes of the working memory mean anything?
# - **Afterwards you can** say why the stream can be rotated, and what LayerNorm forbids.
# - **You need** {doc}`04_reordering`; that a rotation keeps lengths and angles.
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
# ## By hand
#
# Let the stream have two channels and hold $x = (3, 1)$. A later layer reads it with the weights $r = (1, 1)$ and gets
# $r \cdot x = 4$. Turn the page by a quarter: $(p, q)$ becomes $(-q, p)$. Then
#
# - the stream holds $(-1, 3)$, because whoever **wrote** it has turned weights;
# - the reader has the weights $(-1, 1)$, because it was turned **as well**;
# - it gets $(-1)(-1) + 1\cdot3 = 4$.
#
# Every number has changed but the one that matters. The network only ever uses such inner products, and these do not
# depend on the axes. Try it in {numref}`widget-turn-the-stream`.
#
# ```{widget} turn-the-stream
# ```
#
# ```{figure} /_static/pictures/stream-rotated.svg
# :name: fig-stream-rotated
# :alt: The residual stream as a plane with two sets of axes. Arrows for what layers write and read stay in place while the axes turn.
#
# The stream as a coordinate system. The arrows stay, the axes turn, and all coordinates change: the same numbers as if the
# axes stayed and all arrows turned the other way, as in the worked example. This is a turn that
# RMSNorm allows; the section on norms says what LayerNorm forbids.
# ```
#
# ## In general
#
# Let $Q$ be orthogonal, $Q^\top Q = 1$. Everything that writes to the stream is multiplied by $Q$ from the left, everything
# that reads from it by $Q^\top$ from the right: $(W_r Q^\top)(Q x) = W_r x$. The orthogonal matrices of $d$ channels have
# $d(d-1)/2$ free numbers, more than 8,000 for 128 channels. It is the one rotation that turns all layers at once, and methods that
# only permute do not have it. (The values of all heads together have about as many free numbers: {doc}`07_proof` counts.) Such rewritings form
# a *group*: two of them, one after the other, are one again, and each can be undone.
#
# ## What a norm forbids
#
# Between the stream and its readers stands a **norm**. It divides the stream by its length (*RMSNorm*; more exactly by its length over $\sqrt d$, the root of the mean square), and a rotation does
# not change lengths. So far, so good. But
#
# 1. a norm multiplies each channel by a **gain** of its own, which ties it to the axes. The remedy is exact: move the gains
#    into the matrices that read, $W(\gamma \odot n) = (W\,\mathrm{diag}\,\gamma)\,n$. The model with gains moved
#    away is its {term}`canonical form`, and `lmc.canonicalize` makes it;
# 2. *LayerNorm* first subtracts the **mean** over channels, the part of $x$ along $\mathbb 1 = (1, \dots, 1)$. A rotation
#    must leave that direction alone, $Q\mathbb 1 = \mathbb 1$, or it mixes what is thrown away with what is kept.
#
# For a LayerNorm of two channels nothing is left but one reflection. With 128 channels, what is left is a rotation of
# the 127 other directions.
#
# ## Do it

# %%
canonical, spec = lmc.canonicalize(model), lmc.spec(model)
print(f"canonical form: logits changed by {change(outputs(canonical))}")
turned = Transform.random(spec, seed).only("stream").apply(canonical)
flat = torch.nn.utils.parameters_to_vector
p, q = (flat(m.parameters()) for m in (canonical, turned))
moved = float((q - p).norm() / p.norm())
print(f"turned stream: weights moved by {moved:.0%}")
print(f"turned stream: logits changed by {change(outputs(turned))}")
assert (outputs(turned) - before).abs().max() < 1e-9 * before.abs().max()

# %% [markdown]
# Now a rotation that forgets about $\mathbb 1$. A test that cannot fail proves nothing:

# %%
generator = torch.Generator().manual_seed(seed)
random = torch.randn(128, 128, generator=generator, dtype=torch.float64)
q, _ = torch.linalg.qr(random)
wrong = Transform(spec, {**Transform.identity(spec).elements, "stream": q})
forgot = outputs(wrong.apply(canonical))
print(f"a rotation that moves 𝟙: logits changed by {change(forgot)}")
assert (forgot - before).abs().max() > 1e-3 * before.abs().max()

# %% [markdown]
# ## Scaling the stream
#
# A norm divides by the length of the stream, so the length does not matter either, except that a small $\varepsilon$ is
# added, so as never to divide by zero. Multiply all writers by $s$ and $\varepsilon$ by $s^2$, and nothing changes. For
# that, $\varepsilon$ must be a setting that is stored with the checkpoint, so that it can be changed with the weights.
# GPT-NeoX stores it. `timm` builds its models with a fixed one, so for those this symmetry is not declared.

# %%
scaled = Transform.random(spec, seed).only("scale").apply(canonical)
print(f"scaled stream: logits changed by {change(outputs(scaled))}")

# %% [markdown]
# :::{admonition} What we found
# :class: important
#
# - The stream of a trained model can be rotated: all weights that touch it change, the outputs do not.
# - LayerNorm allows only rotations that keep $\mathbb 1$; RMSNorm allows all.
# - This is the symmetry whose absence costs most when two networks are matched ({doc}`12_which_symmetry`): for language
#   models {{ablation-text: without stream rotation}} nats per byte without it, {{ablation-text: all}} with all, after 40 steps of learning.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-quarter
# Store in `turned_x` and `turned_r` what $x = (3, 1)$ and $r = (1, 1)$ become when both are turned by 30°, and compare
# their inner products.
# ```

# %% [markdown]
# ```{solution-start} ex-quarter
# :class: dropdown
# ```

# %%
import math

c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
turn = torch.tensor([[c, -s], [s, c]])
turned_x, turned_r = turn @ torch.tensor([3.0, 1.0]), turn @ torch.ones(2)
assert abs(float(turned_x @ turned_r) - 4) < 1e-5

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-permute-stream
# Is a reordering of the 128 channels among the rotations that LayerNorm allows?
# ```

# %% [markdown]
# ```{solution-start} ex-permute-stream
# :class: dropdown
# ```
#
# Yes: a permutation matrix is orthogonal, and it maps $\mathbb 1$ to itself.

# %%
order = torch.randperm(128, generator=generator)
p = torch.eye(128, dtype=torch.float64)[order]
element = {**Transform.identity(spec).elements, "stream": p}
reordered = outputs(Transform(spec, element).apply(canonical))
assert (reordered - before).abs().max() < 1e-9 * before.abs().max()

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-compose
# Symmetries form a *group*: doing one after the other is one again, and each can be undone. Check with two random
# transforms that `(h @ g).apply(m)` equals `h.apply(g.apply(m))`, and that `g.inverse()` undoes `g`.
# ```

# %% [markdown]
# ```{solution-start} ex-compose
# :class: dropdown
# ```

# %%
g, h = (Transform.random(spec, s) for s in (1, 2))
two_steps, one_step = h.apply(g.apply(canonical)), (h @ g).apply(canonical)
undone = g.inverse().apply(g.apply(canonical))
for first, second in ((two_steps, one_step), (undone, canonical)):
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-8)

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** The stream is shared by all layers. What freedom is there inside a single head? {doc}`06_inside_a_head`.
