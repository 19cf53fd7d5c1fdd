"""Honest double precision inside stock modules.

Stock norms and softmaxes cast to float32 on the way. In a float64 model that is a *down*cast: it adds relative noise of
2e-7 and hides whether a symmetry is exact. Inside `float64()` those casts go to float64.

>>> with float64():
...     torch.ones(2, dtype=torch.float64).float().dtype
torch.float64
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class float64(TorchFunctionMode):
    """Context in which every cast to float32 becomes a cast to float64 (and new float32 tensors are float64)."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.float:
            return args[0].double()
        if getattr(func, "__name__", "") in ("grouped_mm", "_grouped_mm"):
            return _grouped_mm(*args, **(kwargs or {}))
        swap = {torch.float32: torch.float64}
        args = tuple(swap.get(a, a) if isinstance(a, torch.dtype) else a for a in args)
        kwargs = {k: swap.get(v, v) if isinstance(v, torch.dtype) else v for k, v in (kwargs or {}).items()}
        return func(*args, **kwargs)


def _grouped_mm(rows: Tensor, weights: Tensor, offs: Tensor, **_: Any) -> Tensor:
    """Rows sorted by expert, [S, n], each group times the matrix of its expert [E, n, m]: torch's has no float64."""
    ends = [0, *offs.tolist()]
    return torch.cat([rows[a:b] @ weight for a, b, weight in zip(ends, ends[1:], weights, strict=False)])
