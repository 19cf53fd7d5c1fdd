# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One side or two: is dual better?
#
# The paper rewrites both endpoints, its predecessor one. This chapter proves that both can reach the same curves, says
# what dual can change, and counts over all experiments of this book what it did change.
#
# :::{admonition} In this chapter
# :class: tip
#
# - **Question.** Is moving both ends better than moving one?
# - **Afterwards you can** prove that dual and single matching reach the same curves, and say why a comparison at equal learning rates misleads.
# - **You need** {doc}`08_matching`; derivatives.
# - **Time.** 12 minutes to read, 2 minutes to run.
# :::

# %% tags=["parameters", "hide-input"]
profile: str = "laptop"  # smoke | laptop
seed: int = 0
steps: int = 300  # of learned matching; a hundred of them here

# %% tags=["hide-input"]
import time

import matplotlib.pyplot as plt

import lmc
from lmc import corpora
from lmc.reproduce import charts, figures, results
from lmc.reproduce.experiments import comparison
from lmc.reproduce.experiments.comparison import load_pairs
from lmc.reproduce.runs import Headline
from lmc.symmetries import Transform

figures.use_style()
small = profile == "smoke"
steps, grid = (4, 5) if small else (steps, 25)
digits = {"size": 8, "mean": (0.5,), "std": (0.5,)}
match_on = corpora.images("digits", "match", **digits)
held_out = corpora.images("digits", "eval", **digits)
loaded = load_pairs("vit-digits", 1 if small else 3)

# %% [markdown]
# ## They reach the same curves
#
# :::{prf:definition} Single and dual
# :label: def-dual
#
# For rewritings $g_A, g_B$ of two networks with weights $\theta_A, \theta_B$, the *curve* of the pair $(g_A, g_B)$ is the loss
# of $(1-\lambda)\,g_A\theta_A + \lambda\,g_B\theta_B$ as a function of $\lambda$. *Dual* matching may choose any pair, *single*
# matching only pairs $(1, g)$.
# :::
#
# :::{prf:theorem}
# :label: prop-dual
#
# With exact symmetries that act linearly on weights, dual and single matching reach the same set of curves: the pair
# $(g_A, g_B)$ has the curve of the pair $(1,\; g_A^{-1} g_B)$.
# :::
#
# :::{prf:proof}
# Rewritings act linearly, so
#
# $$
# \begin{aligned}
# & (1-\lambda)\,g_A\theta_A + \lambda\,g_B\theta_B \\
# & \quad = g_A\bigl[(1-\lambda)\,\theta_A + \lambda\,g_A^{-1}g_B\,\theta_B\bigr].
# \end{aligned}
# $$
#
# And $g_A$ does not change the function of *any* weights, those in the bracket included. So both sides have the same
# loss, for every $\lambda$.
# :::
#
# Checked with two rewritings drawn at random, and folded into one:

# %%
a, b = (lmc.canonicalize(model) for model in loaded["vit-digits-0"])
nothing = Transform.identity(lmc.spec(a))
g_a, g_b = (Transform.random(lmc.spec(a), s) for s in (1, 2))
both = lmc.Alignment("dual", (a, b), (g_a, g_b), {})
one = lmc.Alignment("single", (a, b), (nothing, g_a.inverse() @ g_b), {})
curves = [lmc.path(way, held_out, grid=3).losses for way in (both, one)]
gap = max(abs(x - y) for x, y in zip(*curves, strict=True))
print(f"largest difference between the two curves: {gap:.0e} nats")
assert gap < 1e-3

# %% [markdown]
# ## What dual can change: the way there
#
# Learning does not choose from all curves at once, it takes steps. By the theorem the loss depends on $g_A^{-1}g_B$ only.
# Let both ends take a small extra turn, $g_A \to (1+\Omega_A)\,g_A$ and $g_B \to (1+\Omega_B)\,g_B$. To first order,
#
# $$
# g_A^{-1}g_B \;\to\; g_A^{-1}(1 - \Omega_A + \Omega_B)\,g_B,
# $$
#
# so only the difference $\Omega_B - \Omega_A$ counts: what lowers the loss at one end raises it at the other, and the two
# gradients are opposite. Two endpoints that each step by $\eta$ approach by
# $2\eta$: to first order, dual at learning rate $\eta$ is single at $2\eta$. {numref}`widget-dual-eta` lets you choose
# $\eta$; for small ones both learn alike, step by step.
#
# ```{figure} /_static/pictures/dual-and-single.svg
# :name: fig-dual-and-single
# :alt: A round valley with a hill in its middle, twice. A and B stand on opposite sides of it. On the left B walks all the way round to A, on the right A and B each walk half of it. The short line between them at the end is the same but for a rotation.
#
# Where single and dual matching walk. The loss is the same all around this valley, so a turn about its middle is a symmetry;
# the direct line from A to B leads across the hill.
# ```
#
# ```{widget} dual-eta
# ```
#
# The same on vision transformers, batch for batch, with the same batches and the same $\lambda$:

# %% tags=["hide-input"]
began = time.monotonic()
rate, few = 2e-3, min(steps, 100)
runs = {
    "dual, η": ("dual", rate),
    "single, 2η": ("single", 2 * rate),
    "single, η": ("single", rate),
}


def learn(pair: tuple, seed: int) -> dict[str, list[float]]:
    """The losses of each run, batch by batch."""
    logs, start = {}, lmc.match(*pair, method="activations", data=match_on)
    for name, (method, lr) in runs.items():
        run = lmc.match(
            *pair,
            method=method,
            data=match_on,
            steps=few,
            lr=lr,
            start=start,
            seed=seed,
        )
        logs[name] = [entry["loss"] for entry in run.log]
    return logs


def distances(logs: dict[str, list[float]]) -> dict[str, float]:
    """How far each run is from dual matching, on average over the batches."""
    dual = logs["dual, η"]
    return {
        name: sum(abs(p - q) for p, q in zip(dual, log, strict=True))
        / len(dual)
        for name, log in logs.items()
        if log is not dual
    }


loaded = load_pairs("vit-digits", 1 if small else 3)
made = comparison.runs(
    list(loaded), [seed] if small else [seed, seed + 1, seed + 2]
)
learned = [learn(loaded[name], at) for name, at in made]
each = [distances(logs) for logs in learned]
spread = {name: [row[name] for row in each] for name in each[0]}
of = [name for name, _ in made]
numbers = Headline.of(spread, of).to_json() | {
    "unit": "nats per image",
    "curves": learned[0],
}
seeds = {
    "seeds": sorted({at for _, at in made}),
    "command": f"lmc reproduce --profile {profile} --figure dual-single",
}
results.write(
    "dual-single",
    profile,
    numbers,
    seeds | {"duration_s": time.monotonic() - began},
)
charts.table({"distance from dual at η": spread}, digits=4, pairs=of)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Loss on the line during learning on the first pair, same batches and interpolation weights: dual at a learning rate η follows single at 2η. The table above is of three pairs, the first of them matched three times with other random batches.", "name": "fig-dual-single"}, "image": {"alt": "Loss over the steps of matching. Dual at η and single at 2η lie on one another; single at η lies above them."}}
figures.curves(results.read("dual-single", profile).numbers)
plt.show()

# %% [markdown]
# So a comparison of single and dual matching at *equal* learning rates mostly compares two learning rates
# ({numref}`fig-dual-single`). The experiments of part IV give each its own best one of a grid.
#
# ## Pair by pair
#
# Over all experiments of this book that tried several rates for both methods, each at its best: {numref}`fig-one-or-two` has a point for every pair of
# networks. The table has the mean barriers, which hide how small the differences are.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The barrier that dual matching leaves minus the one that single matching leaves, in per cent of the pair's naive barrier: left of zero dual leaves less. Each point is one pair of networks, counted once (blue: text, orange: vision); a line marks an experiment's mean. *4 × 64* means 4 layers of 64 channels. Each method at its best rate. The point farthest to the left, at {{one-or-two: % experiments.wikipedia, 4 × 512.pair-0.share}}, is the one pair of 512 channels.", "name": "fig-one-or-two"}, "image": {"alt": "A row of points for each experiment. On text nearly all points lie left of zero, most by less than half a per cent and one, of 512 channels, by more than one; on vision they lie on both sides."}}
charts.paired_figure(results.read("one-or-two", "laptop").numbers)
plt.show()

# %% [markdown]
# | | dual | single |
# |---|---|---|
# | digits, vision | {{vit-digits: dual}} | {{vit-digits: single}} |
# | CIFAR-10, vision | {{vit-cifar10: dual}} | {{vit-cifar10: single}} |
# | CIFAR-10, vision, better trained | {{cifar10-128: dual}} | {{cifar10-128: single}} |
# | Tiny ImageNet, vision | {{vit-tiny-imagenet: dual}} | {{vit-tiny-imagenet: single}} |
# | Tiny ImageNet, vision, better trained | {{tiny-imagenet-128: dual}} | {{tiny-imagenet-128: single}} |
# | documentation, Pythia's architecture | {{neox-docstrings: dual}} | {{neox-docstrings: single}} |
# | Wikipedia, Pythia's architecture | {{pythia-wikipedia: dual}} | {{pythia-wikipedia: single}} |
# | Wikipedia, OLMo's architecture | {{olmo-wikipedia: dual}} | {{olmo-wikipedia: single}} |
# | Tiny Shakespeare, GPT-2 | {{gpt2-shakespeare: dual}} | {{gpt2-shakespeare: single}} |
#
# Barriers, means over three pairs each (*better trained*: two of CIFAR-10 and one of Tiny ImageNet, {doc}`16_vit_small`): in nats per image (vision), per byte (documentation) or per
# token (Wikipedia, Tiny Shakespeare). The figure has the networks of several sizes of {doc}`15_what_limits_it` as well. It
# names its rows as the files of results do: `neox-docstrings` is Pythia's architecture on documentation, `cifar10-128` CIFAR-10, better trained.
#
# ### Lower rates
#
# For {{one-or-two: together.all.best.pairs - together.all.within.pairs}} of the {{one-or-two: together.all.best.pairs}} pairs the lowest rate of its grid was the best one for single *and* for dual, so lower ones might be better
# for either. They are the wider and deeper networks of {doc}`15_what_limits_it` and the better trained ones of CIFAR-10 in {doc}`16_vit_small`. Without them dual leaves less on {{one-or-two: together.text.within.lower}} and more on
# {{one-or-two: together.text.within.higher}} of {{one-or-two: together.text.within.pairs}} pairs on text, by {{one-or-two: % together.text.within.mean}} of the naive barrier on average (all {{one-or-two: together.text.best.pairs}}: {{one-or-two: % together.text.best.mean}}).
#
# ### At home and elsewhere
#
# {{one-or-two: other text.there.pairs}} of these pairs learned Wikipedia, were matched on it, and were scored on unseen articles of it. The same matched
# networks were scored on WikiText-2 as well, another edition of Wikipedia's text, with its own way to write numbers and rare words. It is the
# paper's corpus, and matching did not read it.

# %% tags=["remove-input"]
counted = results.read("one-or-two", "laptop").numbers
columns = {"dual lower": "lower", "dual higher": "higher"}
charts.table(
    {
        where: {
            name: counted["other text"][key][of]
            for name, of in columns.items()
        }
        for where, key in {
            "on Wikipedia": "at home",
            "on WikiText-2": "there",
        }.items()
    }
)

# %% [markdown]
# Where it was learned the advantage of dual is small and always there; on the other text it is gone ({{one-or-two: % other text.there.mean}} of the naive
# barrier, with an interval of {{one-or-two: % other text.there.interval.0}} to {{one-or-two: % other text.there.interval.1}}). So what dual matching fits
# better is, as far as these pairs say, the text that it reads.
#
# ### Other rates
#
# The grids of the two methods share some rates, after {{neox-docstrings-rates: steps}} steps or less. There both can be compared at *equal* rates and with single at
# *twice* dual's, where the theory above has them alike:

# %% tags=["remove-input"]
charts.table(
    {
        f"{group}, {how} rates": {
            "pairs": found[how]["pairs"],
            **{name: found[how][of] for name, of in columns.items()},
            "mean, % of naive": 100 * found[how]["mean"],
            "from": 100 * found[how]["interval"][0],
            "to": 100 * found[how]["interval"][1],
        }
        for group, found in counted["together"].items()
        if group != "all"
        for how in (
            "best",
            "equal",
            "twice",
            "twice, lowest",
            "twice, highest",
        )
    },
    digits=2,
)

# %% [markdown]
# (*Equal* and *twice* are means over all rates that both grids have, *lowest* and *highest* take one of them; *from* and *to* are the ends of a 95 % interval over pairs.)
#
# At equal rates dual is *worse* on pictures and cannot be told apart on text. With single at twice the rate the theory says that both are alike, to first order in the
# rate. At the lowest rates they are: the difference is {{one-or-two: % together.text.twice, lowest.mean}} of the naive barrier on text and {{one-or-two: % together.vision.twice, lowest.mean}} on pictures. At the highest, where steps are long,
# dual leaves less: {{one-or-two: % together.text.twice, highest.mean}} and {{one-or-two: % together.vision.twice, highest.mean}}. So what dual has is that it can take longer steps: each of its sides turns by half of what single's one side must.
#
# :::{admonition} What we found
# :class: important
#
# - Dual at $\eta$ follows single at $2\eta$ within {{dual-single: single, 2η}} nats a batch; single at $\eta$ is
#   {{dual-single: single, η}} away.
# - On text, dual left less than single on {{one-or-two: together.text.best.lower}} of {{one-or-two: together.text.best.pairs}} pairs
#   (a sign test gives $p$ = {{one-or-two: together.text.best.sign test}}). It is little: {{one-or-two: % together.text.best.mean}} of the naive
#   barrier, with an interval of {{one-or-two: % together.text.best.interval.0}} to {{one-or-two: % together.text.best.interval.1}}, or
#   {{one-or-two: together.text.best.ratio.mean}} times what single left.
# - It does not carry over to other text. Of the {{one-or-two: other text.there.pairs}} pairs that were scored on WikiText-2 too, dual left less on {{one-or-two: other text.there.lower}} and more on {{one-or-two: other text.there.higher}}.
# - On vision it left less on {{one-or-two: together.vision.best.lower}} pairs, more on {{one-or-two: together.vision.best.higher}}, and on the
#   rest both left nothing: no difference that can be told from none.
# - Pairs of one experiment resemble each other, so the intervals, over pairs, are rather too narrow.
# - With single at twice dual's rate the difference is next to nothing at the lowest rates, and grows with the rate. So dual's advantage comes from long steps, of which
#   each of its sides takes half. Why some is left where each method has its own best rate is not known.
# :::
#
# ## Exercises
#
# ```{exercise}
# :label: ex-two-eta
# Minimise $f(u, v) = (u - v - 1)^2$ from $u = v = 0$, once by steps of $\eta$ in both variables and once by steps of
# $2\eta$ in $v$ alone. Compare $u - v$ after each step.
# ```

# %% [markdown]
# ```{solution-start} ex-two-eta
# :class: dropdown
# ```
#
# They are equal, step by step: $f$ depends on $u - v$ only, and both ways change that by the same. For rotations this
# holds for small steps only, since two turns of $\eta$ are not quite one of $2\eta$ when the axes differ.

# %%
u = v = w = 0.0
for _ in range(20):
    slope = 2 * (u - v - 1)
    u, v = u - 0.05 * slope, v + 0.05 * slope
    w -= 0.1 * 2 * (w - 1)  # w is u - v with u held
    assert abs((u - v) - w) < 1e-12

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-not-exact
# Where does the proof fail if $g_A$ changes the function a little? Look at the network $x \mapsto u\,v\,x$ and a map that doubles both
# weights, at the endpoints $(1, 0)$ and $(0, 1)$ and half way between them.
# ```

# %% [markdown]
# ```{solution-start} ex-not-exact
# :class: dropdown
# ```
#
# In its last step: the bracket is not one of the endpoints but a merged network, and $g_A$ must leave *its* function alone too. Both
# endpoints compute 0 before and after, so the map looks exact there. Half way, ¼ becomes 1. That is one reason why exactness matters even when only
# the merged network is used.


# %%
def factor(weights):
    return weights[0] * weights[1]


first, second = (1, 0), (0, 1)
half_way = tuple((p + q) / 2 for p, q in zip(first, second, strict=True))
doubled = {w: (2 * w[0], 2 * w[1]) for w in (first, second, half_way)}
assert factor(doubled[first]) == factor(first) == 0
assert factor(doubled[second]) == factor(second) == 0
assert (factor(half_way), factor(doubled[half_way])) == (0.25, 1)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise}
# :label: ex-plane
# The right maps of {doc}`03_landscape` lie on the plane of $g_A A$, $g_A B$ and $g_B B$. Why does this plane hold the direct line between $A$ and $B$, too, and
# why may it look like the plane of single matching? Rewrite $A$ and $B$ by one and the same random rotation of the stream, and compare their distance and
# their outputs with those of before.
# ```

# %% [markdown]
# ```{solution-start} ex-plane
# :class: dropdown
# ```
#
# One and the same rewriting of both ends rewrites every network between them, and changes none. So the line from $g_A A$ to $g_A B$ has the losses of the
# direct line. The whole plane is one of single matching with $g = g_A^{-1} g_B$, moved by $g_A$. No distance changes either where $g_A$ is orthogonal,
# as a rotation of the stream is. The single matching on the left map learned a $g$ of its own, so the two maps look alike as far as both learned similar
# rewritings.

# %%
import torch

from lmc.symmetries import state

pair = [lmc.canonicalize(model) for model in loaded["vit-digits-0"]]
turn = Transform.random(lmc.spec(pair[0]), seed).only("stream")
moved = [turn.apply(model) for model in pair]
pictures, _ = corpora.images("digits", "eval", limit=4, **digits)
for before, after in zip(pair, moved, strict=True):
    assert torch.allclose(before(pictures), after(pictures), atol=1e-3)


def distance(one, other):
    tensors = zip(state(one).values(), state(other).values(), strict=True)
    return float(sum(((p - q) ** 2).sum() for p, q in tensors)) ** 0.5


assert abs(distance(*moved) / distance(*pair) - 1) < 1e-4

# %% [markdown]
# ```{solution-end}
# ```
#
# **Next question.** Does it work, on pictures ({doc}`10_vision`) and on text ({doc}`11_text`)?

# %% tags=["remove-input"]
results.read("dual-single", profile)
