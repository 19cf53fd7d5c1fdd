"""What rounding a model's weights to a smaller type does to its function.

>>> print(change(model, torch.bfloat16, data=held_out))
rounding the weights to bfloat16 changes the loss by ... nats per token (... to ...)
"""

import copy

import torch
from torch import Tensor, nn

from lmc.evaluation.loss import as_data, evaluate, require_loss
from lmc.symmetries import logits
from lmc.symmetries.families import Tokens, family_of

_SAMPLES, _LENGTH = 8, 128  # random windows, or images, and the tokens of a window


def is_lower(dtype: torch.dtype, than: torch.dtype) -> bool:
    """Whether a type holds fewer digits than another, or rounds away small numbers that the other one holds.

    >>> is_lower(torch.bfloat16, torch.float16), is_lower(torch.float16, torch.bfloat16)
    (True, True)
    """
    one, other = torch.finfo(dtype), torch.finfo(than)
    return one.eps > other.eps or one.tiny > other.tiny


@torch.no_grad()
def change(model: nn.Module, dtype: torch.dtype, data: object = None) -> str:
    """One line: the change of the loss on `data`, or without data the largest relative change of a logit.

    Only the weights are rounded; both models compute in the model's own type. Without data the inputs are random:
    token ids drawn evenly, or pictures of independent normal values. Raises DataError for a model without a loss.
    """
    rounded = copy.deepcopy(model)
    for parameter in rounded.parameters():
        parameter.copy_(parameter.to(dtype))
    if data is None:
        inputs = random_inputs(model)
        return change_of_logits(dtype, logits(model, inputs), logits(rounded, inputs))
    require_loss(model)
    samples = as_data(data, model)
    before, after = (
        float(evaluate(m, samples, shown=f"loss, {name}")[0].mean())
        for name, m in (("as computed", model), ("rounded", rounded))
    )
    where = f"{before:.5f} to {after:.5f}, {len(samples):,} samples"
    return f"{_what(dtype)} the loss by {after - before:+.5f} {samples.unit} ({where})"


def change_of_logits(dtype: torch.dtype, before: Tensor, after: Tensor) -> str:
    """What `change` says without data, from the logits of a model and of the rounded one on `random_inputs`."""
    largest = float((before - after).abs().max() / before.abs().max())
    return f"{_what(dtype)} a logit by at most {largest:.1e} of the largest one, on random input"


def _what(dtype: torch.dtype) -> str:
    return f"rounding the weights to {str(dtype).removeprefix('torch.')} changes"


def random_inputs(model: nn.Module) -> Tensor:
    """Token ids drawn evenly, or pictures of independent normal values: the same ones at every call."""
    generator = torch.Generator().manual_seed(0)
    read = family_of(model).inputs(model)
    if isinstance(read, Tokens):
        inputs = torch.randint(read.vocabulary, (_SAMPLES, min(_LENGTH, read.context)), generator=generator)
    else:
        inputs = torch.randn(_SAMPLES, *read.shape, generator=generator)
    return inputs.to(next(model.parameters()).device)
