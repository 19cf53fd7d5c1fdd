"""A smaller network written in the architecture of a larger one: other shapes, the same function.

>>> grown = lmc.enlarge(model, like=large)                  # a new stock model, as large as `large`
>>> relative_change(evaluated(model, tokens), evaluated(grown, tokens)) < 1e-5
True

Every tensor of the canonical form is put into the corner of a larger one that is zero elsewhere: added heads, units and
layers write nothing, added channels hold nothing. Where the network computes with a size, weights are multiplied by the
root of a ratio of sizes to make up for it. A norm divides by the root of the mean square over d channels: over d₂
instead of d₁ it finds what it found before, ε included, if whatever writes the stream is multiplied by s = √(d₂/d₁),
and whatever reads it divided by s. The channels that a LayerNorm sees must have no mean, and in canonical form they
have none: the mean over more channels would be another one. Scores are divided by the root of a head's width, so
queries of wider heads are multiplied by the root of how much wider they are. What else a stock class does with a size,
its table says (`roots`).
"""

import copy
import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lmc.errors import UnsupportedModelError
from lmc.symmetries.canonical import canonicalize
from lmc.symmetries.exactness import evaluated, example_inputs, relative_change, tolerance
from lmc.symmetries.families import name_classes_as
from lmc.symmetries.families import spec as spec_of
from lmc.symmetries.pattern import STREAM, Axis, Block
from lmc.symmetries.room import SCORES, require_room
from lmc.symmetries.spec import ModelSpec
from lmc.symmetries.stock_model import epsilon, hold, set_epsilon, state

# What a configuration says of a tokenizer.
TOKENS = ("bos_token_id", "eos_token_id", "sep_token_id", "pad_token_id", "tokenizer_class")


@torch.autocast("cpu", enabled=False)  # what is compared at the end is the function, not its rounding
@torch.autocast("cuda", enabled=False)
def enlarge(small: nn.Module, like: nn.Module) -> nn.Module:
    """A new stock model with the shapes of `like` and the function of `small`; neither is touched.

    >>> lmc.spec(lmc.enlarge(model, like=large)) == lmc.spec(large)
    True

    It may be wider, deeper, have more heads, wider heads without rotary positions, more hidden units, and more rows of
    tokens or positions. The logits of tokens that `small` does not have are zero. All other logits stay, but
    probabilities do not, as more tokens share them. The result is in canonical form, but for the balance of heads: what
    two models differ in, their enlarged forms differ in. It is in the type of `small`, and has its ε and its way of
    turning pictures into input.

    Raises IncompatibleModelsError, with the reason, where no larger network of this architecture has the function;
    UnsupportedModelError, where the stock class turns out to compute something else.
    """
    require_room(small, like)
    spec, wide = spec_of(small), spec_of(like)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* was tied to ")  # what is wider has a head of its own in any case
        held = state(canonicalize(small, balance=False))  # so that a fine-tune of it changes by the same
    outline = {name: tuple(tensor.shape) for name, tensor in like.state_dict().items()}
    first = next(iter(held.values()))
    constants = {
        n: c for norm in wide.norms for n, c in ((norm.weight, norm.canonical_gain), (norm.bias, norm.canonical_bias))
    }
    constants |= {gain.weight: 1.0 for gain in wide.gains}
    tensors, routers = {}, {mean.source for mean in wide.means if mean.into is None}
    for name, shape in outline.items():
        out = torch.full(shape, constants.get(name, 0.0), dtype=torch.float64, device=first.device)
        if name in spec.rules:
            _fill(out, name, held[name].double(), spec, wide)
        elif name in routers:
            _tell_apart(out)
        tensors[name] = out.to(first.dtype)
    new = _held(tensors, small, like, wide)
    inputs = example_inputs(small)
    before = evaluated(small, inputs)
    change = relative_change(before, evaluated(new, inputs)[..., : before.shape[-1]])
    if not change <= tolerance(first.dtype):
        raise UnsupportedModelError(
            f"{type(small).__name__}: expected the same function at another size, found logits that change by "
            f"{change:.1e}: with these settings the class does something with a size that the {spec.family} table "
            "does not say"
        )
    return new


def _fill(out: Tensor, name: str, tensor: Tensor, spec: ModelSpec, wide: ModelSpec) -> None:
    """Put a tensor into the corner of a larger one, block by block.

    Where a reader keeps a bias in its mean direction (β = 𝟙), the sum over the stream stays, spread over all channels.
    """
    for old, new in zip(spec.blocks(name), wide.blocks(name), strict=True):
        shape = [spec.sizes.get(axis, 1) for axis in new.names]  # heads without groups of queries have groups of one
        part = old.of(tensor).reshape(shape) * _factor(name, new, spec, wide)
        corner = new.of(out)[tuple(slice(length) for length in shape)]
        if spec.stream_norm == "layernorm" and Axis(STREAM, dual=True) in new.axes:
            dim = new.dim(STREAM)
            mean = part.mean(dim, keepdim=True)
            part = part - mean
            channels = [slice(None) if d == dim else slice(length) for d, length in enumerate(shape)]
            new.of(out)[tuple(channels)] = mean * math.sqrt(spec.sizes[STREAM] / wide.sizes[STREAM])
        corner += part


def _tell_apart(router: Tensor) -> None:
    """Give the experts of a layer that is added rows that differ, about zero: all of them add nothing to the stream,
    and matching needs an order of them that does not depend on their places."""
    count = len(router)
    router[:, 0] = (torch.arange(count, dtype=router.dtype, device=router.device) - (count - 1) / 2) / count


def _factor(name: str, block: Block, spec: ModelSpec, wide: ModelSpec) -> float:
    """The roots of how much longer axes have become, as the top of this file explains."""

    def longer(axis: str) -> float:
        return wide.sizes[axis] / spec.sizes.get(axis, 1)

    squared = 1.0
    if wide.writes(name):
        squared *= longer(STREAM)
    elif Axis(STREAM, dual=True) in block.axes:
        squared /= longer(STREAM)
    for axis in block.axes:
        if wide.kind(axis.name) in SCORES and not axis.dual:
            squared *= longer(axis.name)
    factor = math.sqrt(squared)
    for root in wide.roots:
        if root.tensor == name:
            factor *= (root.of(wide) / root.of(spec)) ** -root.power
    return factor


def _held(tensors: Mapping[str, Tensor], small: Any, like: Any, wide: ModelSpec) -> nn.Module:
    """A stock model of the larger shapes, with what else belongs to the smaller one."""
    new = hold(like, wide, tensors).to(next(small.parameters()).device)
    for name in ("pretrained_cfg", "preprocessor_config", "generation_config"):
        if hasattr(small, name):
            setattr(new, name, copy.deepcopy(getattr(small, name)))
    if wide.epsilon is not None:
        set_epsilon(new, wide, epsilon(small, wide))
    if hasattr(small, "config"):
        name_classes_as(new, small)
        _name_tokens_as(new, small.config)
        if "position" not in wide.free and hasattr(small.config, "max_position_embeddings"):
            new.config.max_position_embeddings = small.config.max_position_embeddings
    return new  # type: ignore[no-any-return]


def _name_tokens_as(new: Any, config: Any) -> None:
    """Let a configuration name the tokens that another does; modules may keep which of them pads a text."""
    before, pads = getattr(new.config, "pad_token_id", None), getattr(config, "pad_token_id", None)
    for name in (name for name in TOKENS if hasattr(config, name) or hasattr(new.config, name)):
        setattr(new.config, name, getattr(config, name, None))
    for module in new.modules():
        if before is not None and getattr(module, "padding_idx", None) == before:
            module.padding_idx = pads
