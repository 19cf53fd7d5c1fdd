"""The groups a space can carry, each with the few operations every algorithm is made of.

>>> group = Orthogonal(8, fixes_ones=True)
>>> q = group.random((), torch.Generator().manual_seed(0))      # one Haar-random element, [8, 8]
>>> (q.sum(-1) - 1).abs().max() < 1e-12                         # Q𝟙 = 𝟙: LayerNorm commutes with Q
tensor(True)

An element acts on one axis of length `n` of a tensor. Matrix groups hold `[*batch, n, n]` float64 arrays and act by
`y_i = Σ_j g_ij x_j`; on an axis marked *dual* they act by the inverse transpose. Permutations hold `[*batch, n]`
integers and act by `y_i = x_{p(i)}`, the same on both sides.

Matching compares two models by a matrix M: `M_ij = Σ a_i b_j` says how similar unit i of one is to unit j of the other
(a cross-Gram matrix). It asks for the element with the largest total similarity ⟨M, g⟩:
`nearest`. It searches the compact part only (O(n) inside GL(n), phases inside the complex numbers), which is all that
is left once both models are balanced. Learning needs the Lie algebra: `tangent` projects a gradient onto it, `exp`
(a Cayley map) walks along it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

Batch = tuple[int, ...]

# When an element read from a file still counts as one of its group. Maps are kept in float64, where thousands of
# learned steps leave an orthogonal one within 1e-12; what is further off was not written by this package.
MEMBER = 1e-8
# Assignments of so many rows begin at prices, unless so many have what they want: softness in standard deviations,
# rounds of each, the least exponent.
MANY, SOLVED, SOFTNESS, ROUNDS, LEAST = 2048, 0.1, (0.3, 0.1, 0.03), 10, -80.0
_BATCHED = 128  # rows of the largest matrices that are inverted, and solved with, a batch at a time
SMALLEST, LARGEST = 1e-8, 1e8  # of a factor, a modulus, a singular value: beyond, float32 weights lose the function


def _polar(m: Tensor) -> Tensor:
    """The orthogonal factor of `m` [..., n, n]: argmax over O(n) of ⟨m, Q⟩ (orthogonal Procrustes)."""
    if m.shape[-1] == 1:  # a sign; there can be one for every pair of hidden units
        return torch.where(m < 0, -torch.ones_like(m), torch.ones_like(m))
    u, _, vh = torch.linalg.svd(m)
    return u @ vh


def _nuclear(m: Tensor) -> Tensor:
    """max over O(n) of ⟨m, Q⟩: the sum of the singular values of `m` [..., n, n]."""
    return m[..., 0, 0].abs() if m.shape[-1] == 1 else torch.linalg.svdvals(m).sum(-1)


def _cayley(omega: Tensor) -> Tensor:
    """(I − Ω/2)⁻¹ (I + Ω/2): equals exp(Ω) to second order, orthogonal for skew Ω, and inverse to cayley(−Ω)."""
    eye = torch.eye(omega.shape[-1], dtype=omega.dtype, device=omega.device)
    return _one_by_one(torch.linalg.solve, eye - omega / 2, eye + omega / 2)


def _one_by_one(work: Callable[..., Tensor], *matrices: Tensor) -> Tensor:
    """Invert or solve with matrices [..., n, n]; on the processor large ones one after the other.

    Where several threads share a batch of matrices of 150 rows or more, the LU factorisation of MKL, as torch calls it,
    hangs or gives wrong numbers (https://github.com/pytorch/pytorch/issues/141358, seen here with torch 2.13).
    """
    first = matrices[0]
    if first.shape[-1] <= _BATCHED or first.device.type != "cpu" or first.shape[:-2].numel() < 2:
        return work(*matrices)
    each = zip(*(m.reshape(-1, *first.shape[-2:]) for m in matrices), strict=True)
    return torch.stack([work(*one) for one in each]).view(first.shape)


def _assignment(gram: np.ndarray) -> np.ndarray:
    """The permutation with the largest Σ_i gram[i, p(i)]: if no two rows want the same column, what each wants."""
    wanted = gram.argmax(1)
    if len(np.unique(wanted)) == len(wanted):
        return wanted
    from scipy.optimize import linear_sum_assignment  # half a second, for the few who come here

    similar = torch.from_numpy(gram)
    cost = similar.to(torch.float64, copy=True)  # and then in place: there can be half a gigabyte of it
    solved = bool((wanted == np.arange(len(wanted))).mean() > SOLVED)  # nearly, by the sweep before
    torch.sub(_prices(similar) if len(wanted) >= MANY and not solved else 0.0, cost, out=cost)
    # What every row and every column has to give up in any case is taken off: fewer steps are left.
    cost -= cost.amin(1, keepdim=True)
    cost -= cost.amin(0)
    return linear_sum_assignment(cost.numpy())[1]


def _prices(similar: Tensor) -> Tensor:
    """What each column may cost [n], so that few rows want the same one.

    No prices change which permutation is best. Sinkhorn's iteration (arXiv 1306.0895), from soft choices to harder
    ones, comes close to the dual solution, and leaves little to an exact solver: of 8,192 hidden units with large
    biases it then takes 8 s where it took 131, after 2 s here.
    """
    none = prices = torch.zeros(len(similar))
    similar = similar.float()
    spread = float(similar.std())
    for softness in SOFTNESS:
        scores = similar - prices
        scores -= scores.amax(1, keepdim=True)
        wanted = scores.div_(softness * spread).clamp_(min=LEAST).exp_()
        columns = torch.ones_like(prices)
        for _ in range(ROUNDS):
            columns = 1 / ((1 / (wanted @ columns)) @ wanted)
        prices = prices - softness * spread * columns.log()
    return prices if bool(prices.isfinite().all()) else none


def _out_of_range(what: str, values: Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    if low >= SMALLEST and high <= LARGEST:
        return ""
    return f"expected {what} between {SMALLEST:.0e} and {LARGEST:.0e}, found {low:.1e} to {high:.1e}"


def _log_uniform(batch: Batch, low: float, high: float, generator: torch.Generator) -> Tensor:
    u = torch.rand(batch, generator=generator, dtype=torch.float64)
    return torch.exp(math.log(low) + u * (math.log(high) - math.log(low)))


def _not_near_identity(draw: Callable[[], Tensor]) -> Tensor:
    """Draw elements [*batch, n, n], each again while within 1/8 of the identity: a random element must show."""
    elements = draw()
    n = elements.shape[-1]
    eye = torch.eye(n, dtype=elements.dtype)
    while (near := torch.linalg.matrix_norm(elements - eye, keepdim=True) < math.sqrt(n) / 8).any():
        elements = torch.where(near, draw(), elements)
    return elements


@dataclass(frozen=True)
class Group:
    """Base of all groups: an element acts on an axis of length `n`."""

    n: int

    discrete: ClassVar[bool] = False

    @property
    def dimension(self) -> int:
        """Number of continuous degrees of freedom of one element."""
        raise NotImplementedError

    def identity(self, batch: Batch) -> Tensor:
        """The identity, one per batch entry, [*batch, n, n]."""
        return torch.eye(self.n, dtype=torch.float64).expand(*batch, self.n, self.n).clone()

    def random(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """A random element per batch entry (distribution: the subclass)."""
        raise NotImplementedError

    def inverse(self, element: Tensor) -> Tensor:
        """The inverse element."""
        return _one_by_one(torch.linalg.inv, element)

    def dual(self, element: Tensor) -> Tensor:
        """The matrix that acts on dual axes: the inverse transpose."""
        return _one_by_one(torch.linalg.inv, element).mT

    def defect(self, element: Tensor) -> str:
        """What keeps an array of the right shape from being an element of the group; nothing for an element.

        >>> Orthogonal(2).defect(3 * torch.eye(2, dtype=torch.float64))
        'expected QᵀQ = 1 to 1e-08, found it off by 8.0e+00'
        """
        if not bool(element.isfinite().all()):
            return f"expected finite numbers, found {int((~element.isfinite()).sum())} that are not"
        return self._defect(element)

    def _defect(self, element: Tensor) -> str:
        """What `defect` says, of an array that holds finite numbers only."""
        raise NotImplementedError

    def nearest(self, gram: Tensor) -> Tensor:
        """argmax ⟨gram, g⟩ over the compact part of the group; gram is [*batch, n, n] = Σ a_i b_j."""
        raise NotImplementedError

    def support(self, gram: Tensor) -> Tensor:
        """max ⟨gram, g⟩ over the compact part of the group, [*batch]."""
        return (gram * self.nearest(gram)).sum((-2, -1))

    def tangent(self, gradient: Tensor) -> Tensor:
        """Orthogonal projection of a gradient [*batch, n, n] onto the Lie algebra."""
        raise NotImplementedError

    def exp(self, omega: Tensor) -> Tensor:
        """A group element close to exp(Ω), for Ω in the Lie algebra; exactly inside the group, exp(−Ω) its inverse."""
        return _cayley(omega)


@dataclass(frozen=True)
class Orthogonal(Group):
    """O(n), or with `fixes_ones` its subgroup {Q : Q𝟙 = 𝟙} that commutes with LayerNorm's mean.

    O(1) is a sign. Random elements are Haar distributed.
    """

    fixes_ones: bool = False

    @property
    def dimension(self) -> int:
        n = self.n - self.fixes_ones
        return n * (n - 1) // 2

    def _center(self, m: Tensor) -> Tensor:
        """C m C with C = I − 𝟙𝟙ᵀ/n."""
        return m - m.mean(-1, keepdim=True) - m.mean(-2, keepdim=True) + m.mean((-2, -1), keepdim=True)

    def inverse(self, element: Tensor) -> Tensor:
        return element.mT.contiguous()

    def dual(self, element: Tensor) -> Tensor:
        return element

    def _defect(self, element: Tensor) -> str:
        off = float((element.mT @ element - torch.eye(self.n, dtype=element.dtype)).abs().max())
        if off > MEMBER:
            return f"expected QᵀQ = 1 to {MEMBER:.0e}, found it off by {off:.1e}"
        off = float((element.sum(-1) - 1).abs().max()) if self.fixes_ones else 0.0
        return f"expected Q𝟙 = 𝟙 to {MEMBER:.0e}, found it off by {off:.1e}" if off > MEMBER else ""

    def random(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return self.nearest(torch.randn(*batch, self.n, self.n, generator=generator, dtype=torch.float64))

    def nearest(self, gram: Tensor) -> Tensor:
        if not self.fixes_ones:
            return _polar(gram)
        # A large weight on the direction 𝟙 makes the polar factor map it to itself, whatever the rest does.
        centred = self._center(gram)
        weight = 1 + torch.linalg.matrix_norm(centred, keepdim=True)
        return _polar(centred + weight / self.n)

    def support(self, gram: Tensor) -> Tensor:
        return super().support(gram) if self.fixes_ones else _nuclear(gram)

    def tangent(self, gradient: Tensor) -> Tensor:
        skew = (gradient - gradient.mT) / 2
        return self._center(skew) if self.fixes_ones else skew


@dataclass(frozen=True)
class Invertible(Group):
    """GL(n). Random elements have Haar singular vectors and singular values log-uniform in [1/2, 2].

    GL(1) is a factor that is not zero, for every unit of a gated feed-forward layer.
    """

    @property
    def dimension(self) -> int:
        return self.n**2

    def _defect(self, element: Tensor) -> str:
        return _out_of_range("singular values", torch.linalg.svdvals(element))

    def random(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return _not_near_identity(lambda: self._draw(batch, generator))

    def _draw(self, batch: Batch, generator: torch.Generator) -> Tensor:
        orthogonal = Orthogonal(self.n)
        values = _log_uniform((*batch, self.n), 0.5, 2.0, generator)
        return orthogonal.random(batch, generator) @ (values[..., None] * orthogonal.random(batch, generator))

    def nearest(self, gram: Tensor) -> Tensor:
        return _polar(gram)

    def support(self, gram: Tensor) -> Tensor:
        return _nuclear(gram)

    def tangent(self, gradient: Tensor) -> Tensor:
        return gradient


@dataclass(frozen=True)
class RotaryCommutant(Group):
    """What commutes with a rotation of the plane: the complex numbers c ≠ 0 as 2×2 matrices (one per frequency pair).

    Queries take c, keys (dual) take 1/conj(c), so every rotated dot product is unchanged (arXiv 2606.17830).
    Random elements have a uniform phase and |c| log-uniform in [1/2, 2].
    """

    n: int = 2

    @property
    def dimension(self) -> int:
        return 2

    @staticmethod
    def _matrix(re: Tensor, im: Tensor) -> Tensor:
        return torch.stack([torch.stack([re, -im], -1), torch.stack([im, re], -1)], -2)

    @staticmethod
    def _parts(m: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary part of the projection of m [..., 2, 2] onto the commutant."""
        return (m[..., 0, 0] + m[..., 1, 1]) / 2, (m[..., 1, 0] - m[..., 0, 1]) / 2

    def _defect(self, element: Tensor) -> str:
        re, im = self._parts(element)
        off = float((element - self._matrix(re, im)).abs().max())
        if off > MEMBER * max(1.0, float(element.abs().max())):
            return f"expected complex numbers as 2×2 matrices, found one that is off by {off:.1e}"
        return _out_of_range("moduli", torch.hypot(re, im))

    def random(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return _not_near_identity(lambda: self._draw(batch, generator))

    def _draw(self, batch: Batch, generator: torch.Generator) -> Tensor:
        modulus = _log_uniform(batch, 0.5, 2.0, generator)
        phase = 2 * math.pi * torch.rand(batch, generator=generator, dtype=torch.float64)
        return self._matrix(modulus * phase.cos(), modulus * phase.sin())

    def nearest(self, gram: Tensor) -> Tensor:
        re, im = self._parts(gram)
        modulus = torch.hypot(re, im)
        zero = modulus == 0
        safe = torch.where(zero, torch.ones_like(modulus), modulus)
        return self._matrix(torch.where(zero, torch.ones_like(re), re / safe), im / safe)

    def support(self, gram: Tensor) -> Tensor:
        return 2 * torch.hypot(*self._parts(gram))

    def tangent(self, gradient: Tensor) -> Tensor:
        return self._matrix(*self._parts(gradient))


@dataclass(frozen=True)
class Scale(Group):
    """Positive numbers: the residual scale s, which also moves the norms' ε to s²ε, or one for every unit of a ReLU.

    Random elements are log-uniform in [1/2, 2].
    """

    n: int = 1

    @property
    def dimension(self) -> int:
        return 1

    def _defect(self, element: Tensor) -> str:
        return _out_of_range("factors", element)

    def random(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return _not_near_identity(lambda: _log_uniform((*batch, 1, 1), 0.5, 2.0, generator))

    def nearest(self, gram: Tensor) -> Tensor:
        return torch.ones_like(gram)

    def tangent(self, gradient: Tensor) -> Tensor:
        return gradient


@dataclass(frozen=True)
class Permutation(Group):
    """S_n. Random elements are uniform, but never the identity when n > 1."""

    discrete: ClassVar[bool] = True

    @property
    def dimension(self) -> int:
        return 0

    def identity(self, batch: Batch) -> Tensor:
        return torch.arange(self.n).expand(*batch, self.n).clone()

    def _defect(self, element: Tensor) -> str:
        each_once = torch.equal(element.sort(-1)[0], self.identity(element.shape[:-1]))
        return "" if each_once else f"expected permutations of {self.n}, found other numbers"

    def random(self, batch: Batch, generator: torch.Generator) -> Tensor:
        count = math.prod(batch)
        rows = [self._not_identity(generator) for _ in range(count)]
        return torch.stack(rows).reshape(*batch, self.n)

    def _not_identity(self, generator: torch.Generator) -> Tensor:
        while True:
            p = torch.randperm(self.n, generator=generator)
            if self.n == 1 or (p != torch.arange(self.n)).any():
                return p

    def inverse(self, element: Tensor) -> Tensor:
        return element.argsort(-1)

    def dual(self, element: Tensor) -> Tensor:
        return element

    def nearest(self, gram: Tensor) -> Tensor:
        flat = gram.reshape(-1, self.n, self.n).cpu().numpy()
        rows = [_assignment(m) for m in flat]
        return torch.from_numpy(np.stack(rows)).reshape(gram.shape[:-1]).to(gram.device)

    def support(self, gram: Tensor) -> Tensor:
        return gram.gather(-1, self.nearest(gram)[..., None])[..., 0].sum(-1)


@dataclass(frozen=True)
class Fixed(Permutation):
    """The identity alone: for the channels of a stream that is itself a model's output.

    >>> Fixed(3).random((), torch.Generator())
    tensor([0, 1, 2])
    """

    def _defect(self, element: Tensor) -> str:
        still = torch.equal(element, self.identity(element.shape[:-1]))
        return "" if still else "expected every channel in its place, found others"

    def random(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return self.identity(batch)

    def nearest(self, gram: Tensor) -> Tensor:
        return self.identity(gram.shape[:-2]).to(gram.device)
