# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Is it worth it? Ensembles, fine-tuning and other controls
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** Would something simpler give the same network?
# - **Afterwards you can** name the controls that a report on merging needs.
# - **You need** {doc}`10_vision`, {doc}`11_text`.
# - **Time.** 10 minutes to read; computing it took 25.
# :::
#
# A low barrier is worth little if something simpler gives the same model. This chapter puts merged models beside the
# controls that reports on linear mode connectivity leave out, all on the same held-out data:
#
# - the **ensemble** of the parents, the mean of their logits. It costs twice the computation of one model and is what
#   averaging in function space gives: the line to measure against;
# - **temperature**: the midpoint's logits divided by one number, fitted on matching data. If the midpoint were merely
#   too sure or too unsure of its answers, this would mend it;
# - **REPAIR** {cite:p}`jordan2023repair`: averaging cancels part of what units compute, so their activations vary less.
#   It was made for networks whose layers have a batch norm or take one; a transformer has layer norms, which rescale
#   each token but not each unit. What carries over is its core: set the mean and the spread of every unit to the average
#   of the parents', by scaling rows and shifting biases of the linear layers. The result is a stock model;
# - **fine-tuning**: the midpoint trained with the same batches and as many steps as matching takes, at the best of three
#   learning rates (the highest of the three, so a higher one may be better still). A step of either costs about the same ({doc}`../cost`). Fine-tuning changes what
#   is averaged; matching leaves the functions of both ends as they are.
#
# Matching learns at the package's default rates here. These are the small shipped pairs; under each table it says which profile and run made it.

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop
seed: int = 0
recompute: bool = True  # otherwise draw what the results say

# %% tags=["hide-input"]
import os
import time
from pathlib import Path

import matplotlib.pyplot as plt

from lmc import corpora
from lmc.reproduce import charts, figures, results
from lmc.reproduce.experiments.comparison import load_pairs, record, runs
from lmc.reproduce.experiments.controls_table import (
    ORDER,
    barriers_on,
    beside_controls,
    four_alignments,
    sayings,
)
from lmc.reproduce.runs import Headline

figures.use_style()
small = profile == "smoke"
rates = [1e-3] if small else [3e-4, 1e-3, 3e-3]
seeds = (
    [seed] if small else [seed, seed + 1, seed + 2]
)  # of learned matching on the first pair


def collect(rows: list[dict], made: list[tuple[str, int]]) -> dict:
    """Lists over runs, each of a pair and a seed, and what the first page of figures shows."""
    of = [name for name, _ in made]
    models = {
        name: {
            key: [row[name][key] for row in rows]
            for key in ("loss", "accuracy", "gap")
        }
        for name in rows[0]
    }
    fixed = (
        "parents",
        "ensemble of the parents",
        "naive",
    )  # whatever the seed
    spread = {
        f"{name}, loss": models[name]["loss"]
        for name in (*fixed, "naive, fine-tuned", "dual")
    }
    extra = {
        name: {k: v for k, v in row.items() if k in ("temperature", "rate")}
        for name, row in rows[0].items()
    }
    return {
        **Headline.of(
            spread, of, seedless=[f"{name}, loss" for name in fixed]
        ).to_json(),
        "models": models,
        "order": [name for name in ORDER if name in models],
        "fitted on the first pair": {
            name: row for name, row in extra.items() if row
        },
    }


# %% [markdown]
# ## Vision transformers

# %% tags=["hide-input"]
if recompute:
    began = time.monotonic()
    digits = {"size": 8, "mean": (0.5,), "std": (0.5,)}
    match_on = corpora.images(
        "digits", "match", **digits, limit=32 if small else None
    )
    held_out = corpora.images(
        "digits", "eval", **digits, limit=16 if small else None
    )
    steps, rows = 2 if small else 80, []
    loaded = load_pairs("vit-digits", 1 if small else 3)
    made = runs(list(loaded), seeds)
    for name, at in made:
        pair = loaded[name]
        rows.append(
            beside_controls(
                pair,
                four_alignments(pair, match_on, steps, at),
                match_on,
                held_out,
                steps,
                rates,
                at,
            )
        )
    record(
        "controls-vit",
        profile,
        {"unit": "nats per image", "steps": steps, **collect(rows, made)},
        seeds,
        began,
    )
vision = results.read("controls-vit", profile)

# %% [markdown]
# In {numref}`fig-controls-vit` whatever stands left of the dashed line is better than the parents are on average.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Held-out loss of the midpoint between two vision transformers, and of what competes with it: diamonds are means over pairs, dots the runs (three pairs, the first matched three times), the dashed line the parents' mean.", "name": "fig-controls-vit"}, "image": {"alt": "A row for each model, its mean loss as a diamond and each run as a dot, on a logarithmic axis. A dashed line marks the parents' mean, {{controls-vit: parents, loss}} nats per image. Left of it, so better, stand the ensemble ({{controls-vit: ensemble of the parents, loss}}) and dual with fine-tuning ({{controls-vit: models.dual, fine-tuned.loss}}). Right of it dual ({{controls-vit: dual, loss}}), naive with fine-tuning ({{controls-vit: naive, fine-tuned, loss}}) and, far out, naive ({{controls-vit: naive, loss}})."}}
charts.control_figure(vision.numbers)
plt.show()

# %% tags=["remove-input"]
charts.table(
    {
        name: vision.numbers["models"][name]
        for name in vision.numbers["order"]
    },
    pairs=vision.numbers["pairs"],
)

# %% tags=["remove-input"]
vision

# %% [markdown]
# `gap` is the model's loss minus that of the *better* parent: below zero, it beats both. What temperature and
# fine-tuning were given on the first pair:

# %% tags=["remove-input"]
vision.numbers["fitted on the first pair"]

# %% [markdown]
# ## Language models

# %% tags=["hide-input"]
if recompute:
    began = time.monotonic()
    tokenizer = corpora.byte_tokenizer()
    match_on = corpora.tokens(
        "embedded", "train", tokenizer, 128, limit=16 if small else None
    )
    held_out = corpora.tokens(
        "embedded", "eval", tokenizer, 128, limit=4 if small else 64
    )
    steps, rows, aligned = 2 if small else 50, [], []
    loaded = load_pairs("neox-docstrings", 1 if small else 3)
    made = runs(list(loaded), seeds)
    for name, at in made:
        aligned.append(four_alignments(loaded[name], match_on, steps, at))
        rows.append(
            beside_controls(
                loaded[name],
                aligned[-1],
                match_on,
                held_out,
                steps,
                rates,
                at,
            )
        )
    record(
        "controls-text",
        profile,
        {"unit": "nats per token", "steps": steps, **collect(rows, made)},
        seeds,
        began,
    )
text = results.read("controls-text", profile)

# %% [markdown]
# In {numref}`fig-controls-text` only the ensemble is on that side.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same for language models: three pairs, the first matched three times with other random batches.", "name": "fig-controls-text"}, "image": {"alt": "The same for language models. Only the ensemble ({{controls-text: ensemble of the parents, loss}} nats per byte) stands left of the parents' mean, {{controls-text: parents, loss}}. Dual is at {{controls-text: dual, loss}}, with fine-tuning at {{controls-text: models.dual, fine-tuned.loss}}; naive at {{controls-text: naive, loss}}, with fine-tuning at {{controls-text: naive, fine-tuned, loss}}."}}
charts.control_figure(text.numbers)
plt.show()

# %% tags=["remove-input"]
charts.table(
    {name: text.numbers["models"][name] for name in text.numbers["order"]},
    pairs=text.numbers["pairs"],
)

# %% tags=["remove-input"]
text

# %% [markdown]
# ## Another text
#
# Matching learned on the parents' training text, and was measured on the documentation of another package. Does what it
# found hold on other text? The same alignments, measured on the documentation of two more packages, on the training text
# itself, and on a corpus of another kind: WikiText-2 {cite:p}`merity2017pointer`, whose tokenised form is
# undone by the rule of `lmc.corpora.corpus`. That file is not part of the repository; `LMC_SECOND_CORPUS` names a folder that
# has it (or any text file), and without it its bars are left out.

# %% tags=["hide-input"]
if recompute:
    began = time.monotonic()
    count, other = 4 if small else 48, os.environ.get("LMC_SECOND_CORPUS", "")
    places = {
        "scikit-learn": "eval",
        "pandas, matplotlib": "match",
        "training text": "train",
    }
    texts = {
        n: corpora.tokens("embedded", split, tokenizer, 128, limit=count)
        for n, split in places.items()
    }
    sources = [
        corpora.describe("embedded", split) for split in places.values()
    ]
    if other:
        sources.append(corpora.describe(other, "eval"))
        texts[sources[-1]["corpus"]] = corpora.tokens(
            other, "eval", tokenizer, 128, limit=count
        )
    each = [
        barriers_on(alignments, texts, 3 if small else 7)
        for alignments in aligned
    ]
    rows = {
        name: {
            method: [row[name][method] for row in each]
            for method in each[0][name]
        }
        for name in texts
    }
    prompt = "Parameters\n    ----------\n    x : array_like\n        The "
    lines = {name: aligned[0][name] for name in ("naive", "dual")}
    said = sayings(
        lines, prompt, [0, 0.25, 0.5, 0.75, 1], 8 if small else 90, seed
    )
    spread = {f"dual barrier, {name}": rows[name]["dual"] for name in places}
    numbers = {
        "unit": "nats per token",
        "texts": rows,
        "prompt": prompt,
        "said": said,
    }
    numbers |= Headline.of(spread, [name for name, _ in made]).to_json()
    command = f"lmc reproduce --profile {profile} --figure second-corpus"
    command = (
        f"LMC_SECOND_CORPUS={Path(other).name} {command}"
        if other
        else command
    )
    record(
        "second-corpus",
        profile,
        numbers,
        seeds,
        began,
        corpora=sources,
        command=command,
    )
second = results.read("second-corpus", profile)

# %% [markdown]
# {numref}`fig-second-corpus` shows that the order of the methods is the same on every text.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Barrier of language models on several texts, by method: means over pairs, and a dot for each run (three pairs, the first matched three times).", "name": "fig-second-corpus"}, "image": {"alt": "Four groups of bars, one for each text; in each naive is the highest, closed form comes next, single and dual are lowest and equal. On scikit-learn's documentation: {{second-corpus: texts.scikit-learn.naive}}, {{second-corpus: texts.scikit-learn.closed form}}, {{second-corpus: texts.scikit-learn.single}} and {{second-corpus: texts.scikit-learn.dual}} nats per byte. On WikiText-2 all are lower, dual {{second-corpus: texts.wikitext2-detokenised.dual}}."}}
charts.grouped_figure(second.numbers)
plt.show()

# %% tags=["remove-input"]
charts.table(second.numbers["texts"], pairs=second.numbers["pairs"])

# %% tags=["remove-input"]
second

# %% [markdown]
# ## What they say
#
# A loss is a mean; text can be read. Two lines between the parents of the first pair, at the same places, with the same prompt
# and the same random numbers. These are models of two layers that predict bytes, trained for minutes: the parents, at
# λ = 0 and 1, are the measure of what to expect.

# %%
print(second.numbers["prompt"])

# %% tags=["remove-input"]
charts.sayings_table(second.numbers)

# %% [markdown]
# ## Downstream tasks
#
# For models that answer benchmarks, loss is not the last word. A merged model is a stock checkpoint, so the usual harness
# reads it; it is an extra and was not run for this book:
#
# ```bash
# pip install -e ".[downstream]"                    # in a clone
# lmc merge aligned --at 0.5 --out merged
# lm_eval --model hf --model_args pretrained=merged --tasks lambada_openai,arc_easy,piqa --device cuda:0
# ```
#
# Run it on both parents as well: a merged model is to be compared with them, under the same harness version.

# %% [markdown]
# :::{admonition} What we found
# :class: important
#
# - Vision: the matched average has a loss of {{controls-vit: dual, loss}}, its parents {{controls-vit: parents, loss}}, their ensemble {{controls-vit: ensemble of the parents, loss}}. The merged network loses to both.
# - Text: {{controls-text: dual, loss}} against {{controls-text: parents, loss}} and {{controls-text: ensemble of the parents, loss}} nats per byte.
# - Fine-tuning a naive average for as many steps gives {{controls-vit: naive, fine-tuned, loss}} and {{controls-text: naive, fine-tuned, loss}}: matching was better than that, and fine-tuning at a higher rate was not tried. Matched *and* fine-tuned, the average has {{controls-vit: models.dual, fine-tuned.loss}}, on vision below the parents, and {{controls-text: models.dual, fine-tuned.loss}}.
# - So the use of a low barrier is what it says about networks. As a way to a better network, run both and average their answers, if you can pay for two.
# - These alignments learned for few steps ({{controls-vit: steps}} and {{controls-text: steps}}). After 300 the midpoint on digits minus the better parent is {{vit-digits: summary.dual.gap}} nats, on average over three pairs: there the average is slightly better, by less than 450 images can tell from chance.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-ensemble
# Why can an ensemble not be worse than the mean loss of its members, when it averages log-probabilities or
# probabilities? Try it with random ones.
# ```

# %% [markdown]
# ```{solution-start} ex-ensemble
# :class: dropdown
# ```
#
# The loss is convex in both (Jensen's inequality). Averages of *weights* have no such guarantee: that is the barrier.

# %%
import torch

draw = torch.Generator().manual_seed(0)
logits = 3 * torch.randn(2, 500, 10, generator=draw)  # two members
answers = torch.randint(10, (500,), generator=draw)
loss = torch.nn.functional.cross_entropy
members = (loss(logits[0], answers) + loss(logits[1], answers)) / 2
of_logits = loss(logits.mean(0), answers)
mixed = logits.softmax(-1).mean(0)
of_probabilities = torch.nn.functional.nll_loss(mixed.log(), answers)
assert of_logits < members and of_probabilities < members

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-temperature
# A temperature divides all logits by one number. What does it change, the answers or how sure they are? Find the
# temperature that lowers the loss of a network that is far too sure.
# ```

# %% [markdown]
# ```{solution-start} ex-temperature
# :class: dropdown
# ```
#
# The largest logit stays the largest: accuracy does not change. A network that is often wrong pays less when it is
# less sure. But no temperature helps it to know more.

# %%
sure = 20 * torch.randn(500, 10, generator=draw)
tried = {t: float(loss(sure / t, answers)) for t in (1, 10, 100, 1000)}
best = min(tried, key=tried.get)
assert best > 1 and tried[best] < tried[1]
assert torch.equal((sure / best).argmax(-1), sure.argmax(-1))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-repair
# REPAIR says that averaging cancels part of what units compute. Let two units vary by 1 each, independently of each
# other. By how much does their average vary? And if they are one and the same unit?
# ```

# %% [markdown]
# ```{solution-start} ex-repair
# :class: dropdown
# ```
#
# By $1/\sqrt2 \approx 0.71$ if they are independent, by 1 if they are the same. So matching the units mends what
# REPAIR mends by scaling.

# %%
one, other = torch.randn(2, 100_000, generator=draw)
assert abs(float(((one + other) / 2).std()) - 0.5**0.5) < 0.01
assert abs(float(((one + one) / 2).std()) - 1) < 0.01

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** What about more than two networks? {doc}`14_k_models`.
