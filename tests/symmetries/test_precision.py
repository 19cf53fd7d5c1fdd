"""`float64()`: casts to float32 go to float64, nothing else changes, and it ends where its block ends."""

from collections.abc import Callable

import pico
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import lmc
from lmc.symmetries.groups import Orthogonal

X = torch.linspace(-1, 1, 7, dtype=torch.float64)

CASTS = {
    ".float()": lambda x: x.float(),
    ".to(dtype)": lambda x: x.to(torch.float32),
    ".to(dtype=)": lambda x: x.to(dtype=torch.float32),
    ".to(device, dtype)": lambda x: x.to("cpu", torch.float32),
    ".type(dtype)": lambda x: x.type(torch.float32),
    "softmax(dtype=)": lambda x: functional.softmax(x, dim=-1, dtype=torch.float32),
    ".softmax(dtype)": lambda x: x.softmax(-1, torch.float32),
    "log_softmax(dtype=)": lambda x: functional.log_softmax(x, dim=-1, dtype=torch.float32),
    "sum(dtype=)": lambda x: x.sum(dtype=torch.float32),
    "new_tensor": lambda x: x.new_zeros(3, dtype=torch.float32),
    "zeros(dtype=)": lambda x: torch.zeros(3, dtype=torch.float32),
    "arange(dtype=)": lambda x: torch.arange(3, dtype=torch.float32),
    "int .float()": lambda x: torch.arange(3).float(),
}


@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS.keys())
def test_casts_to_float32_become_casts_to_float64(cast: Callable[[Tensor], Tensor]) -> None:
    assert cast(X).dtype == torch.float32
    with lmc.float64():
        assert cast(X).dtype == torch.float64
    assert cast(X).dtype == torch.float32


def test_the_values_are_the_double_ones() -> None:
    third = torch.tensor(1 / 3, dtype=torch.float64)
    assert third.float().double() != third
    with lmc.float64():
        assert third.float() == third
        assert torch.equal(functional.softmax(X, -1, dtype=torch.float32), functional.softmax(X, -1))


def test_other_types_are_left_alone() -> None:
    with lmc.float64():
        assert X.half().dtype == torch.float16
        assert X.to(torch.bfloat16).dtype == torch.bfloat16
        assert X.to(torch.int64).dtype == torch.int64
        assert X.to("cpu").dtype == torch.float64
        assert torch.ones(2, dtype=torch.bool).dtype == torch.bool
        assert (X + 1).dtype == torch.float64


def test_it_nests_and_ends_with_an_error() -> None:
    with lmc.float64(), lmc.float64():
        assert X.float().dtype == torch.float64
    assert X.float().dtype == torch.float32
    with pytest.raises(ZeroDivisionError), lmc.float64():
        raise ZeroDivisionError
    assert X.float().dtype == torch.float32


def test_gradients_pass() -> None:
    x = X.clone().requires_grad_(True)
    with lmc.float64():
        functional.softmax(x.float(), dim=-1, dtype=torch.float32).square().sum().backward()
    y = X.clone().requires_grad_(True)
    functional.softmax(y, dim=-1).square().sum().backward()
    assert torch.equal(x.grad, y.grad)


class StockNorm(nn.Module):
    """An RMS norm as stock models write it: through float32 and back."""

    def forward(self, x: Tensor) -> Tensor:
        kind = x.dtype
        x = x.to(torch.float32)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return x.to(kind)


def test_a_rotation_of_a_stock_norm_is_seen_to_be_exact_only_inside() -> None:
    """Outside, a correct symmetry shows the rounding of float32 (about 1e-7): a wrong one could hide there."""
    generator = torch.Generator().manual_seed(0)
    rotation = Orthogonal(16).random((), generator)
    x = torch.randn(50, 16, generator=generator, dtype=torch.float64)
    norm = StockNorm()

    def error() -> float:
        return float((norm(x @ rotation.T) - norm(x) @ rotation.T).abs().max())

    assert 1e-8 < error() < 1e-5
    with lmc.float64():
        assert error() < 1e-14


def test_experts_are_multiplied_in_float64_too() -> None:
    """The stock product of groups knows no float64; it is the same as the plain loop over experts."""
    grouped, looped = pico.mixtral(experts_implementation="grouped_mm"), pico.mixtral()
    x = pico.inputs(grouped)
    with lmc.float64():
        one, other = pico.logits(grouped, x), pico.logits(looped, x)
    assert one.dtype == torch.float64 and (one - other).abs().max() < 1e-13
