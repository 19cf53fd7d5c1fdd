# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What limits it: size, training, data
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** Does the barrier fall with size, and how much data does matching need?
# - **Afterwards you can** say what a curve of three or four points can show, and what not.
# - **You need** {doc}`10_vision`.
# - **Time.** 9 minutes to read; computing it took 22. The part on text took hours.
# :::
#
# One thing varied at a time: the size of the networks, how long they were trained, how much data matching sees. The
# right half of Figure 1 in {cite:t}`li2026dual` shows barriers over model size for vision transformers on ImageNet. The
# networks here are smaller by orders of magnitude, so the figures answer the same question for another range of sizes.
#
# The first section trains networks on handwritten digits in this notebook; those on text show runs that took hours. There are three
# pairs at every point, which share no endpoint, but for width 512 (one).
# The numbers come from the profile and run named under each figure. The same questions at the size of a GPU are the figures
# `limit-width`, `limit-depth`, `limit-training` and `limit-alignment` ({doc}`../gpu`).

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop
seed: int = 0
recompute: bool = True  # otherwise draw what the results say

# %% tags=["hide-input"]
import time

import matplotlib.pyplot as plt

from lmc import corpora
from lmc.reproduce import charts, figures, results
from lmc.reproduce.experiments.comparison import load_pairs, record
from lmc.reproduce.experiments.dependence import Point, sweep, train_pairs
from lmc.reproduce.runs import Headline, Sweep
from lmc.reproduce.training.tasks import Digits
from lmc.reproduce.training.trainer import TrainingRecipe

figures.use_style()
small = profile == "smoke"
grid = 3 if small else 7
digits = {"size": 8, "mean": (0.5,), "std": (0.5,)}
match_on = corpora.images(
    "digits", "match", **digits, limit=64 if small else None
)
held_out = corpora.images(
    "digits", "eval", **digits, limit=32 if small else None
)
run_seeds = (
    [seed] if small else [seed, seed + 1, seed + 2]
)  # of learned matching
closed = {"naive": [{}], "weights": [{}], "activations": [{}]}
seeds = (
    [(100, 101)] if small else [(100, 101), (102, 103), (104, 105)]
)  # none of the shipped pairs


def dual(points: dict, steps: int) -> list[dict]:
    """Dual matching of every pair, and of the first one with two more seeds; at one rate for all sizes."""
    first = list(next(iter(points.values())).pairs)[:1]
    how = {"steps": steps, "lr": 0.01}
    again = [
        {**how, "seed": other, "pairs": first} for other in run_seeds[1:]
    ]
    return [{**how, "seed": seed}, *again]


def headed(swept: Sweep) -> dict:
    """What was found, headed by the dual barrier at both ends of what was varied."""
    return (
        swept.to_json()
        | Headline.of(swept.at_both_ends("dual"), swept.pairs).to_json()
    )


# %% [markdown]
# ## Size
#
# Four widths of the residual stream at four layers, three pairs each, all trained alike. The usual expectation is that wider
# networks are easier to connect {cite:p}`ainsworth2023git`; it is often explained by their having more hidden units to choose
# from, so that each finds a closer partner in the other network. The figure does not show that for every method.

# %% tags=["hide-input"]
if recompute:
    began = time.monotonic()
    recipe = TrainingRecipe(
        steps=3 if small else 250,
        batch=64,
        lr=2e-3,
        warmup=1 if small else 50,
    )
    points = {}
    for width in (8, 16) if small else (16, 32, 64, 128):
        pairs = train_pairs(Digits(width=width), recipe, seeds)
        points[width] = Point(pairs, match_on)
    methods = {**closed, "dual": dual(points, 1 if small else 60)}
    record(
        "barrier-by-width",
        profile,
        headed(sweep(points, held_out, methods, "width", grid)),
        run_seeds,
        began,
    )
found = results.read("barrier-by-width", profile)

# %% [markdown]
# In {numref}`fig-barrier-by-width` three lines rise to the right, and one falls.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier over the width of vision transformers on digits, four layers: means over pairs, each run as a point, with its 95 % interval over held-out images. The vertical axis is linear below 0.01 and logarithmic above.", "name": "fig-barrier-by-width"}, "image": {"alt": "Barrier over width, 16 to 128. Naive rises from {{barrier-by-width: methods.naive.barrier.0}} to {{barrier-by-width: methods.naive.barrier.3}} nats per image, activations from {{barrier-by-width: methods.activations.barrier.0}} to {{barrier-by-width: methods.activations.barrier.3}}. Weights stay at about {{barrier-by-width: methods.weights.barrier.0}} up to width 64 and jump to {{barrier-by-width: methods.weights.barrier.3}} at 128. Dual falls from {{barrier-by-width: methods.dual.barrier.0}} to almost zero."}}
charts.sweep_figure(found.sweep)
plt.show()

# %% tags=["remove-input"]
charts.sweep_table(found.sweep)

# %% tags=["remove-input"]
found

# %% [markdown]
# ## Size, on text
#
# The same question for language models: Pythia's architecture with four layers, on Wikipedia, each network trained on two
# million tokens. Single and dual matching run at the rate that a grid found best for each size, for 600 steps. (At 128 channels
# and more that was the lowest rate of the grid, so a lower one may leave less.) The networks of 64 channels here have {{scale-width-tokens: settings.0.setting.shape.heads}} heads, those of
# {doc}`17_pythia_small` have {{pythia-wikipedia: setting.shape.heads}} and were matched for {{pythia-wikipedia: setting.matching.steps}} steps. So their naive barriers differ: {{scale-width-tokens: settings.0.headline.naive barrier}} and {{pythia-wikipedia: naive}}. That
# dual leaves almost the same, {{scale-width-tokens: settings.0.headline.dual barrier}} here and {{pythia-wikipedia: dual}} there, is chance. There are three pairs of each width up to 256
# channels, and one of 512. It took hours of one core, so this is drawn from committed results.

# %% tags=["hide-input"]
on_text = results.read("scale-width-tokens", "laptop").sweep
at_one_loss = results.read("scale-width-loss", "laptop").sweep
by_depth = results.read("scale-depth-tokens", "laptop").sweep

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier over the width of language models on Wikipedia, four layers, trained on as many tokens. Means over pairs, each run as a point, with its 95 % interval over held-out windows.", "name": "fig-scale-width-tokens"}, "image": {"alt": "Barrier over width for language models, on a logarithmic axis. Naive has {{scale-width-tokens: methods.naive.barrier.0}} nats per token at the narrowest, {{scale-width-tokens: methods.naive.barrier.2}} at 256 channels and {{scale-width-tokens: methods.naive.barrier.3.0}} at 512. The matched lines fall: weights from {{scale-width-tokens: methods.weights.barrier.0}} to {{scale-width-tokens: methods.weights.barrier.3.0}}, and dual from {{scale-width-tokens: methods.dual.barrier.0}} to {{scale-width-tokens: methods.dual.barrier.3.0}}. Single keeps beside dual up to 256 channels and leaves {{scale-width-tokens: methods.single.barrier.3.0}} at 512."}}
charts.sweep_figure(on_text)
plt.show()

# %% tags=["remove-input"]
charts.sweep_table(on_text)

# %% [markdown]
# Here wider does mean easier, after learned matching ({numref}`fig-scale-width-tokens`). A power law through all pairs, barrier $\propto$
# parameters$^k$, has $k =$ {{scale-width-tokens: fits.dual.exponent}} for dual matching (95 % interval
# {{scale-width-tokens: fits.dual.interval.0}} to {{scale-width-tokens: fits.dual.interval.1}}): the more negative $k$, the
# faster the fall. For weight matching $k$ lies between {{scale-width-tokens: fits.weights.interval.0}} and
# {{scale-width-tokens: fits.weights.interval.1}}, so it hardly falls, and for networks averaged as they are between
# {{scale-width-tokens: fits.naive.interval.0}} and {{scale-width-tokens: fits.naive.interval.1}}: these may rise or fall.
#
# Two warnings. First, four widths with ten pairs are few, and one pair says little of a width: at 256 channels the three pairs, whose
# losses agree, leave {{scale-width-tokens: methods.dual.barrier.2.0}},
# {{scale-width-tokens: methods.dual.barrier.2.1}} and {{scale-width-tokens: methods.dual.barrier.2.2}}. Second, which networks a pair gets is chance. The first of the three
# was trained once more from the same seeds, in bfloat16, and rounding made other networks of it, with the same losses: they leave
# {{width-256-bfloat16: dual barrier}}, three times as much. With them in the place of the first pair, $k$ is
# {{width-256-bfloat16: fit with it.exponent}}, with an interval from
# {{width-256-bfloat16: fit with it.interval.0}} to
# {{width-256-bfloat16: fit with it.interval.1}}.
#
# From 128 channels on, the lowest rates that were tried for these curves are the best ones, for both learned methods, and at 512 channels half and a
# quarter of it leave less after 300 steps ({doc}`../cost`). So the barriers of wide networks may be lower still than shown here.
#
# As a share of the naive barrier, dual leaves {{scale-width-tokens: % ratio.dual.0}}, {{scale-width-tokens: % ratio.dual.1}},
# {{scale-width-tokens: % ratio.dual.2}} and {{scale-width-tokens: % ratio.dual.3}}; as a share of what there is to lose (the loss of guessing by the frequency of tokens,
# minus that of the endpoints), {{scale-width-tokens: % normalised.dual.0}}, {{scale-width-tokens: % normalised.dual.1}},
# {{scale-width-tokens: % normalised.dual.2}} and {{scale-width-tokens: % normalised.dual.3}}.
#
# ### New pairs, and another text
#
# Two more pairs of 128 channels, from seeds that nobody had used, went through everything again, the search for the best
# rates included. By the power law through the ten pairs above, a new pair of this width should leave, in 95 of 100 cases, between
# {{width-128-again: held.dual.expected.0}} and {{width-128-again: held.dual.expected.1}} nats per token after dual matching. The two left
# {{width-128-again: held.dual.again.0}} and {{width-128-again: held.dual.again.1}}. That refutes nothing and proves little: an interval for a single pair is so wide that
# most pairs of the other widths lie in it.

# %% tags=["remove-input"]
held = results.read("width-128-again", "laptop").numbers["held"]
charts.table(
    {
        method: {
            "first three pairs": row["first"],
            "expected, from": row["expected"][0],
            "to": row["expected"][1],
            "new pairs": row["again"],
            "within": f"{row['within']} of {len(row['again'])}",
        }
        for method, row in held.items()
    }
)

# %% [markdown]
# All of this is measured on articles of Wikipedia that come from the same dump as the text of training and matching. The same networks were scored on WikiText-2 too, which writes numbers and rare
# words in its own way, and which neither training nor matching has read. Barriers of dual matching, in nats per token (mean, and smallest to largest pair):

# %% tags=["remove-input"]
named = {
    "trained on as many tokens": ("scale-width-tokens", "channels"),
    "trained to about one loss": ("scale-width-loss", "channels"),
    "128 channels": ("scale-depth-tokens", "layers"),
    "128 channels, trained to about one loss": ("scale-depth-loss", "layers"),
}
charts.table(
    {
        f"{size:g} {of}, {how}": {
            "Wikipedia": here["methods"]["dual"]["barrier"],
            "WikiText-2": here["also"]["wikitext2-2048"]["methods"]["dual"][
                "barrier"
            ],
        }
        for how, (id, of) in named.items()
        for found in [results.read(id, "laptop").numbers]
        for size, here in zip(found["points"], found["settings"], strict=True)
    },
    digits=4,
)

# %% [markdown]
# On WikiText-2 the barrier does not fall with width, nor does it rise step by step with depth. These are small barriers, and the pairs of one size lie farther apart than the sizes. So "wider is
# easier" holds, as far as we can see, for text like the one that was learned and matched on.
#
# ### Is it the size, or the better fit?
#
# Wider networks also reach a lower loss on the same tokens, so that curve cannot say which of the two lowers the barrier. To tell
# them apart, wider networks were trained for fewer steps, so that they end near the training loss of the narrowest ones:
# {{scale-width-loss: search.width-128.steps}} steps for 128 channels and {{scale-width-loss: search.width-256.steps}} for 256, instead of
# 2,000. The match is rough. A training loss is the mean over the last few batches, and jumps about: for 256 channels the search saw {{scale-width-loss: search.width-256.tried.1000}} after 1,000 steps,
# {{scale-width-loss: search.width-256.tried.1230}} after 1,230 and {{scale-width-loss: search.width-256.tried.2000}} after 2,000, where {{scale-width-loss: search.width-256.target}} was wanted, and took the closest. On held-out text the losses are
# {{scale-width-loss: loss.0}}, {{scale-width-loss: loss.1}} and {{scale-width-loss: loss.2}} nats per token: those of 256 channels are a little *worse* than the narrowest, not as good. There are three pairs of each of these widths. One pair of 512 channels was
# trained for {{scale-width-loss: search.width-512.steps}} steps, which the search found at once, to {{scale-width-loss: loss.3}} on held-out text. Its rates were not searched: dual and single take those that `lmc match` takes at this width.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier over the width of language models on Wikipedia, trained to about one loss: the wider, the fewer steps.", "name": "fig-scale-width-loss"}, "image": {"alt": "Barrier over width for language models of about one loss. Up to 256 channels all lines fall: naive from {{scale-width-loss: methods.naive.barrier.0}} nats per token at 64 channels to {{scale-width-loss: settings.2.summary.naive.barrier}} at 256, weights from {{scale-width-loss: methods.weights.barrier.0}} to {{scale-width-loss: settings.2.summary.weights.barrier}}, dual from {{scale-width-loss: methods.dual.barrier.0}} to {{scale-width-loss: settings.2.summary.dual.barrier}}. One pair at 512 channels: naive {{scale-width-loss: settings.3.summary.naive.barrier}}, weights {{scale-width-loss: settings.3.summary.weights.barrier}}, dual {{scale-width-loss: settings.3.summary.dual.barrier}}."}}
charts.sweep_figure(at_one_loss)
plt.show()

# %% tags=["remove-input"]
charts.sweep_table(at_one_loss)

# %% [markdown]
# The barrier falls all the same ({numref}`fig-scale-width-loss`), up to 256 channels for every method, plain averaging among them. At 256
# channels learned matching leaves none that these windows show, in any of the three pairs, and none between the one pair of 512. (At 256 the average is even a little better than
# the better parent: its loss minus that one's is {{scale-width-loss: settings.2.methods.dual.gap.0}}, {{scale-width-loss: settings.2.methods.dual.gap.1}} and {{scale-width-loss: settings.2.methods.dual.gap.2}} nats per token. On WikiText-2 it is
# {{scale-width-loss: settings.2.also.wikitext2-2048.methods.dual.gap.0}}, {{scale-width-loss: settings.2.also.wikitext2-2048.methods.dual.gap.1}} and {{scale-width-loss: settings.2.also.wikitext2-2048.methods.dual.gap.2}}: better on one pair only.)
# So a better fit is not needed for it. But the wider networks were also trained for fewer steps, and that alone makes it easier. A control: the three pairs of 64 channels again, from
# the same seeds, trained for {{width-64-short: setting.recipe.steps}} steps instead of 2,000. Dual matching leaves {{width-64-short: dual}} nats per token between them, not {{scale-width-tokens: dual barrier, width 64}}; plain averaging
# {{width-64-short: naive}}, not {{scale-width-tokens: settings.0.headline.naive barrier}}. (Their losses are {{width-64-short: endpoints.pair-0.losses.0}} and {{width-64-short: endpoints.pair-0.losses.1}}, first pair.) So most of what {numref}`fig-scale-width-loss` shows between 64 and 256 channels is training that was cut short.
# Compared after as many steps, wider is easier both times on Wikipedia: after 1,000 steps dual leaves {{width-64-short: dual}} at 64 channels and {{scale-width-loss: settings.2.summary.dual.barrier}} at 256, after 2,000 steps
# {{scale-width-tokens: dual barrier, width 64}} and {{scale-width-tokens: methods.dual.barrier.2}}. On WikiText-2, after 1,000 steps, it is not: the three pairs leave
# {{width-64-short: also.wikitext2-2048.methods.dual.barrier.0}}, {{width-64-short: also.wikitext2-2048.methods.dual.barrier.1}} and {{width-64-short: also.wikitext2-2048.methods.dual.barrier.2}} at 64 channels, and
# {{scale-width-loss: settings.2.also.wikitext2-2048.methods.dual.barrier.0}}, {{scale-width-loss: settings.2.also.wikitext2-2048.methods.dual.barrier.1}} and {{scale-width-loss: settings.2.also.wikitext2-2048.methods.dual.barrier.2}} at 256.
#
# ### Depth
#
# Deeper networks do not get easier: at 128 channels the barrier after matching rises with the number of layers, for every method
# but the two that align nothing ({numref}`fig-scale-depth-tokens`). Through all pairs $k =$ {{scale-depth-tokens: fits.dual.exponent}}
# for dual matching (95 % interval {{scale-depth-tokens: fits.dual.interval.0}} to {{scale-depth-tokens: fits.dual.interval.1}}).

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier over the number of layers of language models on Wikipedia, 128 channels, trained on as many tokens. Means over pairs, each run as a point, with its 95 % interval over held-out windows.", "name": "fig-scale-depth-tokens"}, "image": {"alt": "Barrier over depth for language models, on a logarithmic axis. Naive has {{scale-depth-tokens: methods.naive.barrier.0}} nats per token with two layers, where the dots lie far apart, and {{scale-depth-tokens: methods.naive.barrier.2}} with eight. The matched lines rise: weights from {{scale-depth-tokens: methods.weights.barrier.0}} to {{scale-depth-tokens: methods.weights.barrier.2}}, dual from {{scale-depth-tokens: methods.dual.barrier.0}} to {{scale-depth-tokens: methods.dual.barrier.2}}."}}
charts.sweep_figure(by_depth)
plt.show()

# %% tags=["remove-input"]
charts.sweep_table(by_depth)

# %% [markdown]
# Deeper networks fit better after as many tokens, too. So networks of two and of eight layers were trained until their training loss was
# that of the narrowest networks, as those of four layers were: for {{scale-depth-loss: search.depth-2.steps}} steps with two layers,
# {{scale-depth-loss: search.width-128.steps}} with four and {{scale-depth-loss: search.depth-8.steps}} with eight. Their held-out losses are {{scale-depth-loss: loss.0}}, {{scale-depth-loss: loss.1}} and {{scale-depth-loss: loss.2}} nats per token. Dual matching leaves
# {{scale-depth-loss: methods.dual.barrier.0.0}}, {{scale-depth-loss: methods.dual.barrier.0.1}} and {{scale-depth-loss: methods.dual.barrier.0.2}} between three pairs with two layers, {{scale-depth-loss: methods.dual.barrier.1.0}}, {{scale-depth-loss: methods.dual.barrier.1.1}} and {{scale-depth-loss: methods.dual.barrier.1.2}} with four, and {{scale-depth-loss: methods.dual.barrier.2.0}} and {{scale-depth-loss: methods.dual.barrier.2.1}} (two pairs) with eight.
# So at one loss, too, the barrier rises with depth on average, and both pairs of eight layers leave more than any of the others; with eight pairs the power of it is uncertain
# ({{scale-depth-loss: fits.dual.exponent}}, from {{scale-depth-loss: fits.dual.interval.0}} to {{scale-depth-loss: fits.dual.interval.1}}). For eight layers lower rates were tried as well: they leave more, so the best rates lie inside the grid there.
#
# ## Training
#
# Every length is a run of its own, with its learning rate brought down to zero at the end; the longest networks are the
# shipped ones. Two networks that have hardly learnt anything have nothing to misalign. With training there is more to lose by
# averaging. The barrier after matching first rises, then falls; why it falls was not tested.

# %% tags=["hide-input"]
if recompute:
    began = time.monotonic()
    points = {}
    for length in (2,) if small else (100, 300, 1000):
        recipe = TrainingRecipe(
            steps=length,
            batch=64,
            lr=2e-3,
            warmup=1 if small else min(200, length // 3),
        )
        pairs = train_pairs(Digits(), recipe, seeds)
        points[length] = Point(pairs, match_on)
    shipped = dict(
        zip(
            pairs,
            load_pairs("vit-digits", len(seeds)).values(),
            strict=True,
        )
    )
    points[3000] = Point(shipped, match_on)
    methods = {**closed, "dual": dual(points, 1 if small else 60)}
    swept = sweep(
        points, held_out, methods, "training steps of the endpoints", grid
    )
    record("barrier-by-training", profile, headed(swept), run_seeds, began)
found = results.read("barrier-by-training", profile)

# %% [markdown]
# {numref}`fig-barrier-by-training` shows the four lengths.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier over the number of steps that both endpoints were trained for: means over pairs, each run as a point.", "name": "fig-barrier-by-training"}, "image": {"alt": "Barrier over training steps, 100 to 3,000. Naive rises from {{barrier-by-training: methods.naive.barrier.0}} to {{barrier-by-training: methods.naive.barrier.3}} nats per image. Weights and activations rise up to 1,000 steps ({{barrier-by-training: methods.weights.barrier.2}} and {{barrier-by-training: methods.activations.barrier.2}}) and then fall. Dual is zero at 100 and 300 steps, {{barrier-by-training: methods.dual.barrier.2}} at 1,000, {{barrier-by-training: methods.dual.barrier.3}} at 3,000."}}
charts.sweep_figure(found.sweep)
plt.show()

# %% tags=["remove-input"]
charts.sweep_table(found.sweep)

# %% tags=["remove-input"]
found

# %% [markdown]
# ## Data for matching
#
# Learning runs the same number of steps on every amount of data; where there is little, it sees it often. For the
# language models the amount is counted in tokens, which are bytes here.

# %% tags=["hide-input"]
if recompute:
    began = time.monotonic()
    points = {}
    tokenizer, length = corpora.byte_tokenizer(), 128
    text_held_out = corpora.tokens(
        "embedded", "eval", tokenizer, length, limit=8 if small else 64
    )
    chosen = load_pairs("neox-docstrings", len(seeds))
    for windows in (2, 4) if small else (4, 16, 64, 256, 1024):
        drawn = corpora.tokens(
            "embedded", "train", tokenizer, length, limit=windows
        )
        points[drawn.numel()] = Point(chosen, drawn)
    fewer = {"activations": [{}], "dual": dual(points, 1 if small else 50)}
    swept = sweep(
        points, text_held_out, fewer, "tokens seen by matching", grid
    )
    record("barrier-by-data", profile, headed(swept), run_seeds, began)
found = results.read("barrier-by-data", profile)

# %% [markdown]
# In {numref}`fig-barrier-by-data` the two lines cross: with very little text, the closed form is the better choice.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier of three pairs of language models over the number of tokens that matching sees.", "name": "fig-barrier-by-data"}, "image": {"alt": "Barrier over the tokens that matching sees, 512 to 131,072. Activations fall little, from {{barrier-by-data: methods.activations.barrier.0}} to {{barrier-by-data: methods.activations.barrier.4}} nats per byte. Dual begins above them at {{barrier-by-data: methods.dual.barrier.0}}, is near them at 2,048 tokens, and falls to {{barrier-by-data: methods.dual.barrier.4}}, flattening at the right."}}
charts.sweep_figure(found.sweep)
plt.show()

# %% tags=["remove-input"]
charts.sweep_table(found.sweep)

# %% tags=["remove-input"]
found

# %% [markdown]
# :::{admonition} What we found
# :class: important
#
# - **Size, on digits.** With width the naive barrier rises from {{barrier-by-width: methods.naive.barrier.0}} to {{barrier-by-width: methods.naive.barrier.3}}, and that of weight matching from {{barrier-by-width: methods.weights.barrier.0}} to {{barrier-by-width: methods.weights.barrier.3}}. Only dual falls, from {{barrier-by-width: dual barrier, width 16}} at width 16 to about zero from width 32 on. But these networks read {{barrier-by-width: % accuracy.0}} to {{barrier-by-width: % accuracy.3}} of the digits: they were trained too briefly to say much about good ones.
# - **Size, on text.** The dual barrier of Pythia's architecture on Wikipedia falls from {{scale-width-tokens: dual barrier, width 64}} nats per token at width 64 to {{scale-width-tokens: methods.dual.barrier.2}} at 256 (three pairs each; at 256 one of them leaves {{scale-width-tokens: methods.dual.barrier.2.0}}, the others {{scale-width-tokens: methods.dual.barrier.2.1}} and {{scale-width-tokens: methods.dual.barrier.2.2}}) and {{scale-width-tokens: dual barrier, width 512}} at 512 (one pair), while that of plain averaging has no direction. The canonical form alone makes it worse than plain averaging at 256 and 512. It falls too where wider networks stop near the loss of the narrowest, mostly because these are trained for less long. On WikiText-2, which nothing was trained or matched on, it does not fall. The largest of these networks has 14.7 million parameters, and there are few pairs.
# - **Depth, on text.** At 128 channels dual matching leaves {{scale-depth-tokens: dual barrier, depth 2}} nats per token with two layers, {{scale-depth-tokens: methods.dual.barrier.1}} with four and {{scale-depth-tokens: dual barrier, depth 8}} with eight (three pairs each): deeper networks are harder to connect, as far as nine pairs can say. At one loss two layers leave {{scale-depth-loss: dual barrier, depth 2}}, four {{scale-depth-loss: settings.1.summary.dual.barrier}} and eight {{scale-depth-loss: dual barrier, depth 8}} (two pairs).
# - **Training.** The curve is not monotone. Dual leaves {{barrier-by-training: methods.dual.barrier.0}} after 100 steps of training, {{barrier-by-training: methods.dual.barrier.2}} after 1,000 and {{barrier-by-training: dual barrier, training steps of the endpoints 3000}} after 3,000.
# - **Data.** With 512 tokens dual ({{barrier-by-data: dual barrier, tokens seen by matching 512}}) is worse than activations ({{barrier-by-data: methods.activations.barrier.0}}): it fits these few and nothing else ({doc}`22_where_it_ends`). With 131,072 it leaves {{barrier-by-data: dual barrier, tokens seen by matching 131072}}, activations {{barrier-by-data: methods.activations.barrier.4}}.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-ratio
# From the widths 16 and 128 of {numref}`fig-barrier-by-width`, compute the share of the naive barrier that weight
# matching leaves (`results.read("barrier-by-width", "laptop").sweep`). Does wider mean easier?
# ```

# %% [markdown]
# ```{solution-start} ex-ratio
# :class: dropdown
# ```
#
# About as much as naive at both: so by this measure it does not get easier with width. Only the learned method gets
# better.

# %%
swept = results.read("barrier-by-width", "laptop").sweep
for i in (0, -1):
    at = swept.compared[i]
    share = at.mean("weights") / at.mean("naive")
    print(f"width {swept.points[i]:g}: {share:.2f}")
    assert share > 0.9

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-law
# "The barrier falls as a power of the amount of data." Between each two neighbouring points of
# {numref}`fig-barrier-by-data`, compute the power for dual matching: the difference of the logarithms of the barriers
# over that of the tokens. Is it one number?
# ```

# %% [markdown]
# ```{solution-start} ex-law
# :class: dropdown
# ```
#
# No: from about −½ at the left it comes close to 0 at the right. A straight line through all five points would hide
# that more text stops helping.

# %%
import math

swept = results.read("barrier-by-data", "laptop").sweep
left = [one.mean("dual") for one in swept.compared]
powers = [
    math.log(left[i + 1] / left[i])
    / math.log(swept.points[i + 1] / swept.points[i])
    for i in range(len(left) - 1)
]
print([round(power, 2) for power in powers])
assert min(powers) < -0.4 and max(powers) > -0.1

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-epochs
# Matching took 50 steps of 16 windows. How often did it see each window where it had 4 of them, and where it had
# 1,024?
# ```

# %% [markdown]
# ```{solution-start} ex-epochs
# :class: dropdown
# ```
#
# Two hundred times, and not even once. So the right end of the curve is limited by steps, not by text.

# %%
looks = 50 * 16
assert looks / 4 == 200
assert looks / 1024 < 1

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** And if matching simply goes on? {doc}`22_where_it_ends`.
