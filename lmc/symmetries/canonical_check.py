"""Whether weights are in the canonical form, as far as a transform needs it to be exact."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lmc.errors import NotCanonicalError
from lmc.symmetries.pattern import STREAM
from lmc.symmetries.spec import ModelSpec

# The largest relative mean a "mean-free" writer may show after its entries were rounded to a type: some units of it.
MEAN_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def require_canonical(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> None:
    """Raise NotCanonicalError unless norms are absorbed and, under LayerNorm, writers mean-free.

    Only what exactness needs is asked for: balance, for one, is not.
    """
    hint = "expected the canonical form (lmc.canonicalize)"
    for norm in spec.norms:
        for name, value in ((norm.weight, norm.canonical_gain), (norm.bias, norm.canonical_bias)):
            if name is not None and (tensors[name] != value).any():
                raise NotCanonicalError(f"{name}: found a norm that is not absorbed, {hint}")
    for gain in spec.gains:
        if (tensors[gain.weight] != 1).any():
            raise NotCanonicalError(f"{gain.weight}: found a gain that is not absorbed, {hint}")
    if spec.stream_norm == "layernorm":
        for name in spec.rules:
            if spec.writes(name) and tensors[name].numel():
                tolerance = MEAN_TOLERANCE[tensors[name].dtype] * tensors[name].abs().max()
                if any(view.double().mean(-1).abs().max() > tolerance for view in views(tensors, spec, name)):
                    raise NotCanonicalError(f"{name}: found a writer that is not mean-free, {hint}")


def views(tensors: Mapping[str, Tensor], spec: ModelSpec, name: str, axis: str = STREAM) -> list[Tensor]:
    """The blocks of a tensor with their stream axis last: views, so writing into them writes into the tensor."""
    return [b.of(tensors[name]).movedim(b.dim(axis), -1) for b in spec.blocks(name)]
