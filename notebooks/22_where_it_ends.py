# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Where does it end?
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** If matching goes on and on, does the barrier reach zero? And does an alignment last?
# - **Afterwards you can** tell apart what more steps, more text and nothing at all can remove.
# - **You need** {doc}`13_controls` and {doc}`15_what_limits_it`.
# - **Time.** 9 minutes to read; what it shows took hours of one core, and is drawn from committed results.
# :::
#
# All chapters so far stop matching after some hundred steps. What is left then is called *the* barrier, but it may be
# three different things. *Optimisation*: more steps would remove it. *Data*: matching has seen too little text, or other
# text. *Difference*: the two networks have learned different things, and no symmetry brings them together. This chapter
# takes the shipped pairs of language models and of vision transformers and looks for each of the three.

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop: both show what was measured

# %% tags=["hide-input"]
import matplotlib.pyplot as plt

from lmc.reproduce import charts, figures, results

figures.use_style()

# %% [markdown]
# ## More steps
#
# Matching draws $\lambda$ anew for every step and lowers the loss there. *Middle* draws it from $[0.3, 0.7]$, as in all
# other chapters. *Adaptive* draws it from the whole line, and most often where the line was highest so far.

# %% tags=["hide-input"]
text = results.read("where-it-ends-neox-docstrings", "laptop")
vision = results.read("where-it-ends-vit-digits", "laptop")

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Language models: barrier over the number of steps of dual matching, for two ways to draw λ. Three pairs up to 1,000 steps, two at 3,000; each run is a point, with its 95 % interval over 256 held-out windows. Below 0.01 the vertical axis is linear.", "name": "fig-ends-text"}, "image": {"alt": "Barrier over steps, 100 to 3,000. Both curves fall: middle from {{where-it-ends-neox-docstrings: methods.λ: middle.barrier.0}} to {{where-it-ends-neox-docstrings: methods.λ: middle.barrier.3}} nats per byte, adaptive from {{where-it-ends-neox-docstrings: methods.λ: adaptive.barrier.0}} to {{where-it-ends-neox-docstrings: methods.λ: adaptive.barrier.3}}. They begin together, and at the right adaptive is far lower."}}
charts.sweep_figure(text.sweep)
plt.show()

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Vision transformers on digits, one pair: the same.", "name": "fig-ends-vision"}, "image": {"alt": "The same on digits. Middle falls from {{where-it-ends-vit-digits: methods.λ: middle.barrier.0}} to {{where-it-ends-vit-digits: methods.λ: middle.barrier.3}} nats per image, adaptive from {{where-it-ends-vit-digits: methods.λ: adaptive.barrier.0}} to {{where-it-ends-vit-digits: methods.λ: adaptive.barrier.3}}; from 300 steps on both lie near zero."}}
charts.sweep_figure(vision.sweep)
plt.show()

# %% [markdown]
# {numref}`fig-ends-text` falls with every step that was tried. After 3,000 steps the barrier is
# {{where-it-ends-neox-docstrings: methods.λ: middle.barrier.3}} nats if $\lambda$ is drawn from the middle and
# {{where-it-ends-neox-docstrings: methods.λ: adaptive.barrier.3}} if it is drawn where the line is high. On digits
# ({numref}`fig-ends-vision`) adaptive matching leaves {{where-it-ends-vit-digits: methods.λ: adaptive.barrier.3}}: the whole
# line is as good as its ends. So most of what other chapters call the barrier is *optimisation* that was cut short.
#
# A low barrier and a good merge are not the same wish. Drawn from the middle, $\lambda = 1/2$ gets all the attention and
# the midpoint is better; drawn adaptively, the highest point of the line gets it, wherever that is.
#
# ## What a merge must be compared with
#
# Matching reads text. So does training: a parent that is trained on for as many steps gets better too. The table shows
# held-out losses of the language models, means over the pairs that have them. The midpoints are those of the longest match
# of each pair.

# %% tags=["remove-input"]
charts.table(
    {
        name: {
            "held-out loss": list(row["pairs"].values()),
            "pairs": len(row["pairs"]),
        }
        for name, row in text.numbers["losses"].items()
    }
)

# %% [markdown]
# - *Ensemble* averages the two parents' outputs and costs twice as much to run.
# - *On these samples* matched on the evaluation text itself. No honest merge may do that. It is a bound: as far as
#   the symmetries can go if the text is known.
# - *Trained on* continues training at a rate of 0.001, which was not searched.
#
# Matched on the evaluation samples, the barrier of the first pair is
# {{where-it-ends-neox-docstrings: barrier, matched on the evaluation samples}}. There is thus a rewriting of these networks
# whose line has no barrier on this text. What a longer matching on *other* text leaves is a question of *data* and of
# steps; the symmetries themselves do not stand in the way.
#
# ## How much text matching must read
#
# Here 300 steps read the same windows again and again, 128 bytes each: 16 of them, or 64, 256, 1,024.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Language models, first pair: barrier over the number of windows that matching may read, for dual matching (300 steps) and for activation matching on the same windows.", "name": "fig-few-samples"}, "image": {"alt": "Barrier over windows, 16 to 1,024. Dual falls steeply from {{few-samples-neox-docstrings: methods.dual.barrier.0}} to {{few-samples-neox-docstrings: methods.dual.barrier.3}} nats per byte and crosses activations, which stay between {{few-samples-neox-docstrings: methods.activations.barrier.0}} and {{few-samples-neox-docstrings: methods.activations.barrier.3}}."}}
charts.sweep_figure(
    results.read("few-samples-neox-docstrings", "laptop").sweep
)
plt.show()

# %% [markdown]
# With 16 windows learning is worse than activation matching: {{few-samples-neox-docstrings: methods.dual.barrier.0}} against
# {{few-samples-neox-docstrings: methods.activations.barrier.0}} nats. It fits these windows and nothing else. From
# {{few-samples-neox-docstrings: enough}} windows on it is better ({numref}`fig-few-samples`), and it goes on getting better
# where activation matching stands still.
#
# ## Learning the order of units too
#
# So far learning turns the stream and rescales, and keeps the order of hidden units that weight matching found. The
# predecessor {cite:p}`theus2025generalized` learns the order too, by matrices of scores. *Straight-through* takes the
# permutation that the scores ask for, and pretends that its gradient is theirs. *Soft* mixes units, which is no symmetry;
# what counts in the end is the nearest permutation. All rows are 300 steps on the first pair, with one seed.

# %% tags=["remove-input"]
charts.table(text.numbers["orders"])

# %% [markdown]
# With straight-through, {{where-it-ends-neox-docstrings: % orders.dual, straight-through.share of units moved}} of the hidden
# units found another partner, and the barrier is the same as without. Either the order of weight matching is as good as any
# that can be found so, or the rotations make up for it: {doc}`12_which_symmetry` says that the order costs next to nothing.
#
# ## After alignment
#
# Networks are rarely finished. Both endpoints are now trained on, each with batches of its own. Do the transforms that
# were found before still align them? Training moved every endpoint by a fifth of its length in 500 steps.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Language models, first pair: barrier over the steps for which both endpoints were trained on after the alignment. Old transforms: those found before. The other two lines match again for 100 steps, from the old transforms or from nothing.", "name": "fig-lasting"}, "image": {"alt": "Barrier over the steps of further training, 50 to 500. Naive is highest ({{lasting-neox-docstrings: methods.naive.barrier.-1}} nats per byte at the right). The old transforms rise from {{lasting-neox-docstrings: methods.old transforms.barrier.0}} to {{lasting-neox-docstrings: old transforms, 500 steps}}; matched again from the old transforms the barrier is lowest at the right, below what a hundred steps from nothing reach."}}
charts.sweep_figure(results.read("lasting-neox-docstrings", "laptop").sweep)
plt.show()

# %% [markdown]
# The alignment wears off, slowly. It began at {{lasting-neox-docstrings: before.old transforms}} nats. After
# 50 steps of training the old transforms leave {{lasting-neox-docstrings: methods.old transforms.barrier.0}}, and after
# 500 steps {{lasting-neox-docstrings: old transforms, 500 steps}}, where no alignment at all leaves
# {{lasting-neox-docstrings: methods.naive.barrier.-1}} ({numref}`fig-lasting`). A hundred steps of matching from the old
# transforms repair much of it, and start ahead of a hundred steps from nothing.
#
# :::{admonition} What we found
# :class: important
#
# - **Steps.** The barrier goes on falling: {{where-it-ends-neox-docstrings: methods.λ: middle.barrier.1}} nats after 300 steps, {{where-it-ends-neox-docstrings: methods.λ: middle.barrier.3}} after 3,000; {{where-it-ends-neox-docstrings: methods.λ: adaptive.barrier.3}} if $\lambda$ is drawn where the line is high. On digits it reaches zero within its interval.
# - **What remains.** Matched on the evaluation text itself the barrier (first pair) is {{where-it-ends-neox-docstrings: barrier, matched on the evaluation samples}}: the symmetries suffice. So what is left is too few steps and other text.
# - **Is it worth it?** For the first pair, the midpoint after 3,000 steps has a loss of {{where-it-ends-neox-docstrings: losses.midpoint, λ: middle.pairs.neox-docstrings-0}}; the better parent has {{where-it-ends-neox-docstrings: losses.better parent.pairs.neox-docstrings-0}}, the ensemble {{where-it-ends-neox-docstrings: losses.ensemble.pairs.neox-docstrings-0}}, and a parent that is trained on for 1,000 steps {{where-it-ends-neox-docstrings: losses.first parent, trained on.mean}}. On the two pairs matched that long the midpoint is as good as the better parent, within the interval, and not better.
# - **It wears off.** An alignment survives 50 steps of further training of both endpoints with {{lasting-neox-docstrings: methods.old transforms.barrier.0}}, and 500 steps with {{lasting-neox-docstrings: old transforms, 500 steps}}.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-falling
# Read the barriers of {numref}`fig-ends-text` from the results and fit a straight line to $\log$ barrier over
# $\log$ steps, for each way to draw $\lambda$. Which of the two falls faster?
# ```

# %% [markdown]
# ```{solution-start} ex-falling
# :class: dropdown
# ```
#
# Adaptive falls faster: it starts no better and ends lower, since it works on the highest point of the line.

# %%
import numpy as np

slopes = {}
for name in text.sweep.methods:
    barriers = [at.mean(name) for at in text.sweep.compared]
    slopes[name], _ = np.polyfit(
        np.log(text.sweep.points), np.log(barriers), 1
    )
assert slopes["λ: adaptive"] < slopes["λ: middle"] < 0
slopes

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-level
# Is the digits' line after 3,000 adaptive steps level, or does it dip? Look at the losses along it.
# ```

# %% [markdown]
# ```{solution-start} ex-level
# :class: dropdown
# ```
#
# It dips: between the ends there are networks that are better than both parents. A barrier of zero does not say so,
# since it only counts what lies above the straight line between the ends' losses.

# %%
pieces = vision.numbers["pieces"]["vit-digits-0"]
line = pieces["dual-adaptive-train-64x3000-0.01-s0"]["path"]["losses"]
assert min(line) < 0.9 * min(line[0], line[-1])
min(line), line[0], line[-1]

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-bound
# Why is the barrier after matching on the evaluation samples a lower bound, and not a result? Let a hundred rewritings be
# equally good, measure each on 50 samples, and take the best. Then measure that one on other samples.
# ```

# %% [markdown]
# ```{solution-start} ex-bound
# :class: dropdown
# ```
#
# Those samples chose the rewriting that they then judge. On other samples the same rewriting is worse. It shows how
# much the symmetries allow, and nothing about how well they can be found.

# %%
losses = np.random.default_rng(0).normal(1, 1, size=(2, 100, 50))
chosen_on, others = losses.mean(axis=2)
best = chosen_on.argmin()
assert chosen_on[best] < 0.75  # looks better than it is
assert others[best] > chosen_on[best] + 0.1

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** Does it hold on the paper's architectures? {doc}`16_vit_small`.
