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
# - **Time.** 7 minutes to read.
# :::
#
# People bring checkpoints of kinds that the chapters before did not have: mixtures of experts, or two models that do not share
# a tokenizer. Or they already use another tool for merging. Three small experiments follow, each on three
# {term}`disjoint pairs` of small networks.

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
# OLMoE is a published family of language models. In its architecture a *router* gives each of several feed-forward networks, the
# *experts*, a score for each token, and sends the token to the few with the best scores. Reordering the experts
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

# %% [markdown]
# The learning rates were chosen from these: the barrier on matching data that a short probe had not seen, by rate.

# %% tags=["remove-input"]
rates_table({"olmoe-shakespeare": experts})

# %% tags=["remove-input"]
experts

# %% tags=["remove-input"]
measured_on_gpu(["olmoe-shakespeare"])

# %% [markdown]
# **What can go wrong when only the best few experts are used.**
#
# - *Ties.* Where two experts get the same score, the library decides by their order, so reordering experts may change which is
#   used. A router whose weights are all zero shows it. With every trained router that was tried, each token went to the same
#   experts as before.
# - *Steps.* As λ moves along the line, a token changes from one expert to another all at once, and the loss may jump. Learning
#   sees no gradient of the choice itself, only of the shares that the chosen experts get.
# - *Balance.* Nothing here made the router use its experts evenly, and how evenly it does was not measured.
#
# These experts are few and small. Nothing was measured on sixty-four of them, as OLMoE has, or on a published mixture.

# %% [markdown]
# ## Two vocabularies
#
# The pairs here are small language models that learned from the same documentation of Python packages, with two tokenizers. There
# are two kinds of pairs. In the first, the second model has the tokens of the first in another order, and some rows of its
# embedding belong to no token: both cut a text into the same pieces. In the second kind, the second model's tokenizer was learned
# on another part of the text: {{vocabulary-other-text: tokens.common}} of
# {{vocabulary-other-text: tokens.first}} tokens are the same, and a text falls into other pieces. In both kinds the second model is
# brought to the vocabulary of the first (`lmc match --vocabulary first`, {doc}`../special_cases`) before anything is matched. So
# *naive* means that the rows of the embedding moved with their tokens, and nothing else was done.

# %% tags=["hide-input"]
renumbered = results.read("vocabulary-renumbered", "laptop")
other = results.read("vocabulary-other-text", "laptop")

# %% [markdown]
# {numref}`fig-vocabulary-renumbered` shows the loss along the line for the first kind, in nats per token of the first model.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss along the line, tokens renumbered: the mean over three pairs, and each run faintly.", "name": "fig-vocabulary-renumbered"}, "image": {"alt": "Loss over λ from 0 to 1, a curve for each method. Naive and canonical rise to a hill in the middle, with barriers of {{vocabulary-renumbered: naive}} and {{vocabulary-renumbered: canonical}} nats per token; weights leave {{vocabulary-renumbered: weights}}, activations {{vocabulary-renumbered: activations}}, single {{vocabulary-renumbered: single}} and dual {{vocabulary-renumbered: dual}}."}}
figures.path_figure(renumbered.comparison)
plt.show()

# %% tags=["remove-input"]
figures.method_table(renumbered.comparison)

# %% [markdown]
# {numref}`fig-vocabulary-other-text` is the same for the second kind. There the line has no barrier after learning, which says little:
# its right end has a high loss, and lifts the straight line that a barrier is counted from. Look at the column `gap`: how much worse
# the {term}`midpoint` is than the better endpoint.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same, with a second tokenizer that cuts text differently. Text is cut by that of the first model, for which the second (λ = 1) was not trained.", "name": "fig-vocabulary-other-text"}, "image": {"alt": "Loss over λ from 0 to 1, a curve for each method. Naive and canonical rise to a hill in the middle, with barriers of {{vocabulary-other-text: naive}} and {{vocabulary-other-text: canonical}} nats per token; weights leave {{vocabulary-other-text: weights}}, activations {{vocabulary-other-text: activations}}, single {{vocabulary-other-text: single}} and dual {{vocabulary-other-text: dual}}."}}
figures.path_figure(other.comparison)
plt.show()

# %% tags=["remove-input"]
figures.method_table(other.comparison)

# %% [markdown]
# The losses of the endpoints on held-out text follow, means and ranges over the pairs. They are in nats per byte, which do not
# depend on how many tokens a text becomes:

# %% tags=["remove-input"]
charts.table(
    {
        name: found.numbers["nats per byte"]
        for name, found in (
            ("renumbered", renumbered),
            ("other text", other),
        )
    }
)

# %% tags=["remove-input"]
renumbered

# %% tags=["remove-input"]
other

# %% [markdown]
# ## Another tool: mergekit
#
# [mergekit](https://github.com/arcee-ai/mergekit) knows many ways to merge and no alignment. `lmc match --export` writes endpoints that
# are aligned, and a configuration for four of its ways. Here it merges three pairs of small GPT-2 (two layers of 64 channels, bytes of
# documentation), first as they are, then after dual matching. *Linear* averages weights; *SLERP* goes from one to the other on an
# arc. Both merge at any place between two models, so they have a path and a barrier, taken over five places on it. *TIES* and
# *DARE* start from the first model and add half of its differences to the second: TIES the largest half, DARE a randomly chosen
# one. So there is one merge, with one loss and no barrier.

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
# - Mixtures of experts: naive {{olmoe-shakespeare: naive}}, weights {{olmoe-shakespeare: weights}}, single {{olmoe-shakespeare: single}}, dual {{olmoe-shakespeare: dual}} nats per token; dual leaves {{olmoe-shakespeare: dual / naive}} of naive. On these three pairs, experts of this size did not stand in the way.
# - Tokens renumbered: naive {{vocabulary-renumbered: naive}}, dual {{vocabulary-renumbered: dual}} nats per token. The second model is what it was: {{vocabulary-renumbered: nats per byte.second, own tokenizer}} nats per byte before its tokens were renumbered and {{vocabulary-renumbered: nats per byte.second, tokenizer of the first}} after.
# - Another way to cut text: the second model pays for it before anything is merged, {{vocabulary-other-text: nats per byte.second, own tokenizer}} nats per byte with its own tokenizer and {{vocabulary-other-text: nats per byte.second, tokenizer of the first}} with that of the first. The midpoint is {{vocabulary-other-text: summary.naive.gap}} nats per token worse than the better parent as it is and {{vocabulary-other-text: summary.dual.gap}} after dual matching.
# - mergekit, barrier before and after alignment, in nats per byte: linear {{mergekit: linear, as they are, barrier}} and {{mergekit: linear, aligned, barrier}}, SLERP {{mergekit: slerp, as they are, barrier}} and {{mergekit: slerp, aligned, barrier}}. Loss: TIES {{mergekit: ties, as they are, loss}} and {{mergekit: ties, aligned, loss}}, DARE {{mergekit: dare_ties, as they are, loss}} and {{mergekit: dare_ties, aligned, loss}}; the parents have {{mergekit: parents, loss}}. On these three pairs every method gains from alignment, and linear, for which these endpoints were aligned, gains most. No merge beats the parents.
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
# It shrinks to a length of 0.71. Matching lowered the loss on the straight line: it chose the rewriting whose shortened averages work.
# SLERP lengthens them again.

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
