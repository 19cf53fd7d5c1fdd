# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Experts, two vocabularies, another tool
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** Does matching still help when parents are less alike, or when another tool does the merging?
# - **Afterwards you can** say what routing, another tokenizer and another average change.
# - **You need** {doc}`17_pythia_small`.
# - **Time.** 6 minutes to read.
# :::
#
# People bring checkpoints of kinds that the chapters before did not have: mixtures of experts, two models that do not share a
# tokenizer, and a merging tool that they already use. Three small experiments follow, each on three pairs that share
# no endpoint.

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop; on a GPU, the campaign measures what this chapter reads
recompute: bool = True  # otherwise draw what the results say

# %% tags=["hide-input"]
import matplotlib.pyplot as plt

from lmc.reproduce import charts, figures, results
from lmc.reproduce.experiments.chapter import (
    measured_on_gpu,
    rates_table,
    setting,
    settings_table,
)
from lmc.reproduce.experiments.from_scratch import conduct

figures.use_style()

# %% [markdown]
# ## A mixture of experts
#
# In OLMoE's architecture a *router* sends each token to a few of several feed-forward networks, the experts. Reordering the experts
# together with the rows of the router changes nothing; neither does reordering the units inside an expert. Both are matched here
# like any other symmetry. Linear mode connectivity of mixtures of experts was studied before, with permutations of experts and
# of their units {cite:p}`tran2025moe`.

# %% tags=["hide-input"]
if recompute:
    conduct(8, "olmoe-shakespeare", profile)
experts = results.read("olmoe-shakespeare", profile)

# %% tags=["remove-input"]
settings_table(
    {"olmoe-shakespeare": setting(8, "olmoe-shakespeare", profile)}
)

# %% [markdown]
# {numref}`fig-olmoe-shakespeare` shows the loss along the line, by method.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss along the line between two small mixtures of experts trained on Tiny Shakespeare, by method: the mean over three disjoint pairs, and each run faintly.", "name": "fig-olmoe-shakespeare"}, "image": {"alt": "Loss over λ from 0 to 1, a curve for each method. Naive and canonical rise to a hill in the middle, with barriers of {{olmoe-shakespeare: naive}} and {{olmoe-shakespeare: canonical}} nats per token; weights leave {{olmoe-shakespeare: weights}}, activations {{olmoe-shakespeare: activations}}, single {{olmoe-shakespeare: single}} and dual {{olmoe-shakespeare: dual}}."}}
figures.path_figure(experts.comparison)
plt.show()

# %% tags=["remove-input"]
figures.method_table(experts.comparison)

# %% tags=["remove-input"]
rates_table({"olmoe-shakespeare": experts})

# %% tags=["remove-input"]
experts

# %% tags=["remove-input"]
measured_on_gpu(["olmoe-shakespeare"])

# %% [markdown]
# **What choosing the best few breaks.**
#
# - *Ties.* Where two experts get the same score, the library decides by their order, so reordering experts changes which is
#   used. With a router of zeros it does; with every trained router that was tried each token went to the same experts as before.
# - *Steps.* Which experts a token goes to changes all at once as λ moves, and so may the loss. The line is not smooth there, and
#   learning sees no gradient of the choice itself, only of the weights that the chosen experts get.
# - *Balance.* Nothing here made the router use its experts evenly, and how evenly it does was not measured.
#
# These experts are few and small. Nothing was measured on sixty-four of them, or on a published mixture.

# %% [markdown]
# ## Two vocabularies
#
# Small language models that learned from the same documentation of Python packages, with two tokenizers. The second
# model has the tokens of the first in another order, and rows without a token: both cut a text alike. Both are brought to the
# vocabulary of the first (`lmc match --vocabulary first`, {doc}`../own_checkpoints`) before anything is matched; so *naive* means
# that rows moved with their tokens, and nothing else was done.

# %% tags=["hide-input"]
renumbered = results.read("vocabulary-renumbered", "laptop")

# %% [markdown]
# {numref}`fig-vocabulary-renumbered` shows the loss in the tokens of the first.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss along the line, tokens renumbered: the mean over three pairs, and each run faintly.", "name": "fig-vocabulary-renumbered"}, "image": {"alt": "Loss over λ from 0 to 1, a curve for each method. Naive and canonical rise to a hill in the middle, with barriers of {{vocabulary-renumbered: naive}} and {{vocabulary-renumbered: canonical}} nats per token; weights leave {{vocabulary-renumbered: weights}}, activations {{vocabulary-renumbered: activations}}, single {{vocabulary-renumbered: single}} and dual {{vocabulary-renumbered: dual}}."}}
figures.path_figure(renumbered.comparison)
plt.show()

# %% tags=["remove-input"]
figures.method_table(renumbered.comparison)

# %% [markdown]
# What each endpoint loses on held-out text, in nats per byte (which does not depend on how many tokens a text becomes), means and
# ranges over the pairs:

# %% tags=["remove-input"]
charts.table({"renumbered": renumbered.numbers["nats per byte"]})

# %% tags=["remove-input"]
renumbered

# %% [markdown]
# ## Another tool: mergekit
#
# [mergekit](https://github.com/arcee-ai/mergekit) knows many ways to merge and no alignment. `lmc match --export` writes endpoints that
# are aligned, and a configuration for four of its ways. Here it merges three pairs of small GPT-2 (two layers of 64 channels, bytes of
# documentation), first as they are, then after dual matching. *Linear* and *SLERP* merge at any place between two models, so they
# have a line and a barrier, taken over five places on it. *TIES* and *DARE* take the first model for a base and add the largest, or
# randomly chosen, half of the differences to the second: there is one merge, and its loss.

# %% tags=["hide-input"]
tool = results.read("mergekit", "laptop")

# %% [markdown]
# In {numref}`fig-mergekit` every method has two rows: the endpoints as they are, and aligned.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss of what mergekit makes of two small GPT-2, as they are and aligned: diamonds are means over three pairs, dots the runs, the dashed line the parents' mean.", "name": "fig-mergekit"}, "image": {"alt": "A row for each of mergekit's methods before and after alignment, with the loss of its merge on a horizontal axis. As they are: linear {{mergekit: linear, as they are, loss}}, SLERP {{mergekit: slerp, as they are, loss}}, TIES {{mergekit: ties, as they are, loss}}, DARE {{mergekit: dare_ties, as they are, loss}} nats per byte. Aligned: {{mergekit: linear, aligned, loss}}, {{mergekit: slerp, aligned, loss}}, {{mergekit: ties, aligned, loss}} and {{mergekit: dare_ties, aligned, loss}}. A dashed line marks the parents at {{mergekit: parents, loss}}."}}
charts.control_figure(tool.numbers)
plt.show()

# %% tags=["remove-input"]
charts.table(
    {name: tool.numbers["models"][name] for name in tool.numbers["order"]},
    pairs=tool.numbers["pairs"],
)

# %% tags=["remove-input"]
tool

# %% [markdown]
# :::{admonition} What we found
# :class: important
#
# - Mixtures of experts: naive {{olmoe-shakespeare: naive}}, weights {{olmoe-shakespeare: weights}}, single {{olmoe-shakespeare: single}}, dual {{olmoe-shakespeare: dual}} nats per token; dual leaves {{olmoe-shakespeare: dual / naive}} of naive. Experts of this size do not stand in the way.
# - Tokens renumbered: naive {{vocabulary-renumbered: naive}}, dual {{vocabulary-renumbered: dual}} nats per token. The second model is what it was: {{vocabulary-renumbered: nats per byte.second, own tokenizer}} nats per byte before and {{vocabulary-renumbered: nats per byte.second, tokenizer of the first}} after.
# - mergekit, barrier before and after alignment, in nats per byte: linear {{mergekit: linear, as they are, barrier}} and {{mergekit: linear, aligned, barrier}}, SLERP {{mergekit: slerp, as they are, barrier}} and {{mergekit: slerp, aligned, barrier}}. Loss: TIES {{mergekit: ties, as they are, loss}} and {{mergekit: ties, aligned, loss}}, DARE {{mergekit: dare_ties, as they are, loss}} and {{mergekit: dare_ties, aligned, loss}}; the parents have {{mergekit: parents, loss}}. Every method gains from alignment, and linear, for which these endpoints were aligned, most.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-router
# A router scores four experts and the best two are used. Reorder the experts and the rows of the router alike: are the same experts
# used? What if two scores are equal?
# ```

# %% [markdown]
# ```{solution-start} ex-router
# :class: dropdown
# ```
#
# The scores move with the experts, so the same two are used. Between equal scores the library decides by place, and a new order may
# choose another expert.

# %%
import torch

order = torch.tensor([2, 0, 3, 1])
scores = torch.tensor([0.3, 0.9, 0.1, 0.5])
assert set(order[scores[order].topk(2).indices].tolist()) == {1, 3}
tied = torch.tensor([0.5, 0.5, 0.5, 0.9])
assert 3 in order[tied[order].topk(2).indices].tolist()  # the other: any

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-slerp
# SLERP keeps the length of a vector where linear averaging shortens it. By how much does the mean of two vectors of length 1 at a right
# angle shrink? Why may SLERP be the worse one after matching?
# ```

# %% [markdown]
# ```{solution-start} ex-slerp
# :class: dropdown
# ```
#
# To 0.71 of it. Matching learned the straight line: it chose the rewriting whose shortened averages work. SLERP lengthens them again.

# %%
a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
assert abs(((a + b) / 2).norm() - 2**-0.5) < 1e-6

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-renumber
# A vocabulary is renumbered. Which rows must move in the embedding, and which in the head, so that the model says the same about the
# same text? Check it with an embedding of five tokens, a head, and a new number for each token.
# ```

# %% [markdown]
# ```{solution-start} ex-renumber
# :class: dropdown
# ```
#
# The same rows in both: a token's vector and its logit move to its new number.

# %%
draw = torch.Generator().manual_seed(0)
embedding, head = torch.randn(2, 5, 3, generator=draw)
number = torch.tensor([3, 0, 4, 1, 2])  # token i is now number[i]
new_embedding, new_head = torch.empty(2, 5, 3)
new_embedding[number], new_head[number] = embedding, head
text = torch.tensor([0, 2, 2, 4])
before = embedding[text] @ head.T
after = new_embedding[number[text]] @ new_head.T
assert torch.equal(after[:, number], before)

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** How to do it with your own models: {doc}`../own_checkpoints`.
