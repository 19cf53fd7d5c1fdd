"""What rounding a model's weights to a smaller type does to its function.

>>> print(change(model, torch.bfloat16, data=held_out))
rounding the weights to bfloat16 changes the loss by ... nats per token (... to ...)
"""

import copy

import torch
from torch import Tensor, nn

from lmc.evaluation.loss import as_data, evaluate
from lmc.symmetries import logits
from lmc.symmetries.families import Tokens, family_of

_SAMPLES, _LENGTH = 8, 128  # random windows, or images, and the tokens of a window


def is_lower(dtype: torch.dtype, than: torch.dtype) -> bool:
    """Whether a type holds fewer digits than another."""
    return torch.finfo(dtype).eps > torch.finfo(than).eps


@torch.no_grad()
def change(model: nn.Module, dtype: torch.dtype, data: object = None) -> str:
    """One line: the change of the loss on `data`, or without data the largest relative change of a logit.

    Only the weights are rounded; both models compute in the model's own type. Without data the inputs are random:
    token ids drawn evenly, or pictures of independent normal values.
    """
    rounded = copy.deepcopy(model)
    for parameter in rounded.parameters():
        parameter.copy_(parameter.to(dtype))
    what = f"rounding the weights to {str(dtype).removeprefix('torch.')} changes"
    if data is not None:
        samples = as_data(data, model)
        before, after = (
            float(evaluate(m, samples, shown=f"loss, {name}")[0].mean())
            for name, m in (("as computed", model), ("rounded", rounded))
        )
        where = f"{before:.5f} to {after:.5f}, {len(samples):,} samples"
        return f"{what} the loss by {after - before:+.5f} {samples.unit} ({where})"
    inputs = _random(model)
    out, other = logits(model, inputs), logits(rounded, inputs)
    largest = float((out - other).abs().max() / out.abs().max())
    return f"{what} a logit by at most {largest:.1e} of the largest one, on random input"


def _random(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    read = family_of(model).inputs(model)
    if isinstance(read, Tokens):
        inputs = torch.randint(read.vocabulary, (_SAMPLES, min(_LENGTH, read.context)), generator=generator)
    else:
        inputs = torch.randn(_SAMPLES, *read.shape, generator=generator)
    return inputs.to(next(model.parameters()).device)
