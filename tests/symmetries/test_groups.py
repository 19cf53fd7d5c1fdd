"""The laws of every group, and the three operations matching and learning are made of."""

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment

from lmc.symmetries.groups import MANY, Group, Invertible, Orthogonal, Permutation, RotaryCommutant, Scale

MATRIX = [
    Orthogonal(1),
    Orthogonal(2),
    Orthogonal(7),
    Orthogonal(2, fixes_ones=True),
    Orthogonal(7, fixes_ones=True),
    Invertible(1),
    Invertible(2),
    Invertible(6),
    RotaryCommutant(),
    Scale(),
]
DISCRETE = [Permutation(1), Permutation(2), Permutation(9)]
LEARNABLE = [g for g in MATRIX if g.dimension]
BATCH = (3, 2)
EPS = 1e-12


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def matrix(group: Group, element: torch.Tensor) -> torch.Tensor:
    """The element as a matrix: row i of a permutation has its one in column p(i)."""
    return torch.nn.functional.one_hot(element, group.n).double() if group.discrete else element


def name(group: Group) -> str:
    return repr(group)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=EPS)


def cayley_chart(group: Group, size: float, seed: int) -> torch.Tensor:
    """A Lie algebra element of spectral norm `size` per batch entry."""
    omega = group.tangent(normal(*BATCH, group.n, group.n, seed=seed))
    return omega * size / torch.linalg.matrix_norm(omega, ord=2, keepdim=True).clamp(min=1e-9)


@pytest.mark.parametrize("group", MATRIX + DISCRETE, ids=name)
def test_laws(group: Group) -> None:
    g, h = (group.random(BATCH, generator(s)) for s in (1, 2))
    one = matrix(group, group.identity(BATCH))
    assert one.shape == (*BATCH, group.n, group.n)
    assert close(one, torch.eye(group.n, dtype=torch.float64).expand_as(one))
    inverse = matrix(group, group.inverse(g))
    assert close(matrix(group, g) @ inverse, one)
    assert close(inverse @ matrix(group, g), one)
    # The dual action keeps every pairing: ⟨g x, g* y⟩ = ⟨x, y⟩, and is itself a homomorphism.
    dual = matrix(group, group.dual(g))
    assert close(dual.mT @ matrix(group, g), one)
    if not group.discrete:
        assert close(group.dual(g @ h), group.dual(g) @ group.dual(h))
        assert close(group.dual(group.dual(g)), g)


@pytest.mark.parametrize("group", MATRIX + DISCRETE, ids=name)
@pytest.mark.parametrize("batch", [(), (4,), (3, 2)], ids=str)
def test_random_is_determined_by_its_generator(group: Group, batch: tuple[int, ...]) -> None:
    g = group.random(batch, generator(5))
    assert torch.equal(g, group.random(batch, generator(5)))
    assert g.shape == ((*batch, group.n) if group.discrete else (*batch, group.n, group.n))
    assert g.dtype == (torch.int64 if group.discrete else torch.float64)
    if group.n > 3 or (not group.discrete and group.n == 1 and not isinstance(group, Orthogonal)):
        assert not torch.equal(g, group.random(batch, generator(6)))


def test_random_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for group in MATRIX + DISCRETE:
        group.random(BATCH, generator(0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("fixes_ones", [False, True])
def test_orthogonal_is_haar(fixes_ones: bool) -> None:
    n, count = 5, 4000
    q = Orthogonal(n, fixes_ones=fixes_ones).random((count,), generator(0))
    assert close(q @ q.mT, torch.eye(n, dtype=torch.float64).expand_as(q))
    # The first two moments of Haar measure on O(m), on the space it acts on (all of it, or what is orthogonal to 𝟙).
    if fixes_ones:
        assert (q.sum(-1) - 1).abs().max() < EPS
        basis = torch.linalg.qr(torch.cat([torch.ones(n, 1), torch.eye(n)[:, 1:]], 1).double())[0][:, 1:]
        q = basis.mT @ q @ basis
    m = q.shape[-1]
    assert close(q @ q.mT, torch.eye(m, dtype=torch.float64).expand_as(q))
    assert q.mean(0).abs().max() < 5 / math.sqrt(m * count)
    second = torch.einsum("kab,kcd->abcd", q, q) / count
    eye = torch.eye(m, dtype=torch.float64)
    assert (second - torch.einsum("ac,bd->abcd", eye, eye) / m).abs().max() < 5 / (m * math.sqrt(count)) * 2
    assert 0.45 < (torch.linalg.det(q) > 0).double().mean() < 0.55


def test_invertible_has_its_singular_values_log_uniform_in_half_to_two() -> None:
    values = torch.linalg.svdvals(Invertible(4).random((3000,), generator(0)))
    assert values.min() >= 0.5 - EPS and values.max() <= 2 + EPS
    logs = values.log2().flatten()
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert abs(float((logs < 2 * quantile - 1).double().mean()) - quantile) < 0.02


def test_rotary_commutant_commutes_with_every_rotation() -> None:
    c = RotaryCommutant().random((4000,), generator(0))
    angle = torch.tensor(0.7, dtype=torch.float64)
    rotation = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]], dtype=torch.float64)
    assert close(c @ rotation, rotation @ c)
    modulus, phase = torch.linalg.det(c).sqrt(), torch.atan2(c[:, 1, 0], c[:, 0, 0])
    assert modulus.min() >= 0.5 - EPS and modulus.max() <= 2 + EPS
    # Uniform phases: no preferred direction, in the first two harmonics.
    assert all(torch.polar(torch.ones_like(phase), k * phase).mean().abs() < 0.05 for k in (1, 2))
    # The dual is 1/conj(c): what a key must take for conj(q)·k to stay.
    as_complex, dual = (torch.complex(m[:, 0, 0], m[:, 1, 0]) for m in (c, RotaryCommutant().dual(c)))
    assert torch.allclose(dual, 1 / as_complex.conj(), rtol=0, atol=EPS)


def test_scale_is_positive_and_bounded() -> None:
    s = Scale().random((3000,), generator(0))
    assert s.min() >= 0.5 and s.max() <= 2


@pytest.mark.parametrize("group", [Scale(), Invertible(1), RotaryCommutant()], ids=name)
def test_small_groups_stay_away_from_the_identity(group: Group) -> None:
    """A random element must show in the weights (≥ 10 %), also where the group is one number."""
    g = group.random((3000,), generator(0))
    for element in (g, group.dual(g)):
        distance = torch.linalg.matrix_norm(element - group.identity((3000,))) / math.sqrt(group.n)
        assert distance.min() >= 0.1


def test_permutations_are_uniform_without_the_identity() -> None:
    p = Permutation(3).random((3000,), generator(0))
    assert (p.sort(-1).values == torch.arange(3)).all()
    found, counts = np.unique(p.numpy(), axis=0, return_counts=True)
    assert len(found) == 5 and [0, 1, 2] not in found.tolist()
    assert counts.min() > 500 and counts.max() < 700  # 600 each, standard deviation 22
    assert (Permutation(2).random((50,), generator(0)) == torch.tensor([1, 0])).all()
    assert (Permutation(1).random((50,), generator(0)) == 0).all()


LARGE = {  # similarities of so many units that an assignment begins at prices
    "noise": lambda: normal(MANY, MANY, seed=0),
    "large biases": lambda: 3 * normal(MANY, 1, seed=0) * normal(1, MANY, seed=1) + normal(MANY, MANY, seed=2),
    "single precision": lambda: normal(MANY, MANY, seed=0).float(),
    "nearly solved": lambda: normal(MANY, MANY, seed=0) + 4 * torch.eye(MANY, dtype=torch.float64),
    "all alike": lambda: torch.ones(MANY, MANY, dtype=torch.float64),
    "too large for single precision": lambda: 1e300 * normal(MANY, MANY, seed=0),
    "too small for it": lambda: 1e-300 * normal(MANY, MANY, seed=0),
}


@pytest.mark.parametrize("similar", LARGE.values(), ids=LARGE)
def test_a_large_assignment_is_the_best_one(similar: Callable[[], torch.Tensor]) -> None:
    gram = similar()
    before = gram.clone()
    found = Permutation(MANY).nearest(gram)
    assert torch.equal(gram, before)
    rows, best = linear_sum_assignment(gram.numpy(), maximize=True)
    assert (found.sort().values == torch.arange(MANY)).all()
    assert float(gram[rows, found].double().sum()) == pytest.approx(
        float(gram[rows, best].double().sum()), rel=1e-12, abs=0
    )


@pytest.mark.parametrize("group", MATRIX + DISCRETE, ids=name)
def test_nearest_beats_every_candidate_and_support_is_its_value(group: Group) -> None:
    gram = normal(*BATCH, group.n, group.n, seed=3)
    best = group.nearest(gram)
    value = (gram * matrix(group, best)).sum((-2, -1))
    assert torch.allclose(group.support(gram), value, rtol=1e-12, atol=1e-12)
    for seed in range(50):
        candidate = group.random(BATCH, generator(seed))
        if isinstance(group, Invertible | RotaryCommutant | Scale):
            candidate = group.nearest(candidate)  # its compact part
        rival = (gram * matrix(group, candidate)).sum((-2, -1))
        assert (value >= rival - EPS).all()
    # And it is in the group: the group's own `nearest` does not move it.
    assert torch.allclose(matrix(group, group.nearest(matrix(group, best))), matrix(group, best), rtol=0, atol=1e-10)


@pytest.mark.parametrize("group", MATRIX + DISCRETE, ids=name)
def test_nearest_recovers_a_planted_element(group: Group) -> None:
    x = normal(*BATCH, group.n, 20, seed=1)
    planted = group.nearest(matrix(group, group.random(BATCH, generator(2))))
    y = matrix(group, planted).mT @ x  # x = planted · y
    recovered = group.nearest(x @ y.mT)
    assert torch.allclose(matrix(group, recovered), matrix(group, planted), rtol=0, atol=1e-10)


@pytest.mark.parametrize("group", [Orthogonal(6), Invertible(6)], ids=name)
def test_nearest_is_scipys_procrustes(group: Group) -> None:
    a, b = (normal(30, 6, seed=s) for s in (1, 2))
    # scipy's R minimises ‖b R − a‖ over rows; ours maximises ⟨aᵀb, Q⟩ over columns, so Q = Rᵀ.
    reference, support = orthogonal_procrustes(b.numpy(), a.numpy())
    assert np.abs(group.nearest(a.mT @ b).numpy() - reference.T).max() < EPS
    assert float(group.support(a.mT @ b)) == pytest.approx(support, rel=1e-12)


def test_nearest_with_a_fixed_vector_is_procrustes_on_its_complement() -> None:
    n = 6
    group = Orthogonal(n, fixes_ones=True)
    gram = normal(n, n, seed=1)
    basis = torch.linalg.qr(torch.cat([torch.ones(n, 1), torch.eye(n)[:, 1:]], 1).double())[0][:, 1:]
    inner = Orthogonal(n - 1).nearest(basis.mT @ gram @ basis)
    expected = basis @ inner @ basis.mT + torch.ones(n, n, dtype=torch.float64) / n
    assert close(group.nearest(gram), expected)
    # The same with no information at all, or with as little as a rank of one: still in the group.
    for poor in (torch.zeros(n, n).double(), torch.ones(n, n).double(), torch.outer(gram[0], gram[1]), 1e9 * gram):
        q = group.nearest(poor)
        assert close(q @ q.mT, torch.eye(n, dtype=torch.float64))
        assert (q.sum(-1) - 1).abs().max() < EPS


@pytest.mark.parametrize("group", MATRIX, ids=name)
def test_nearest_survives_an_empty_gram(group: Group) -> None:
    g = group.nearest(torch.zeros(*BATCH, group.n, group.n, dtype=torch.float64))
    assert close(g @ g.mT, torch.eye(group.n, dtype=torch.float64).expand_as(g))
    assert (group.support(torch.zeros(2, group.n, group.n, dtype=torch.float64)) == 0).all()


@pytest.mark.parametrize("group", LEARNABLE, ids=name)
def test_tangent_is_an_orthogonal_projection_of_the_right_rank(group: Group) -> None:
    x, y = (normal(*BATCH, group.n, group.n, seed=s) for s in (1, 2))
    assert close(group.tangent(group.tangent(x)), group.tangent(x))
    inner = ((group.tangent(x) * y).sum((-2, -1)), (x * group.tangent(y)).sum((-2, -1)))
    assert close(*inner)
    everything = torch.eye(group.n**2, dtype=torch.float64).reshape(-1, group.n, group.n)
    projector = group.tangent(everything).flatten(1)
    assert torch.linalg.matrix_rank(projector) == group.dimension
    # It is the group's own algebra: one-parameter subgroups stay inside.
    element = torch.linalg.matrix_exp(0.3 * group.tangent(x))
    assert in_group(group, element)


def in_group(group: Group, element: torch.Tensor) -> bool:
    eye = torch.eye(group.n, dtype=torch.float64).expand_as(element)
    if isinstance(group, Orthogonal):
        fixed = not group.fixes_ones or bool((element.sum(-1) - 1).abs().max() < EPS)
        return fixed and close(element @ element.mT, eye)
    if isinstance(group, RotaryCommutant):
        return close(group.tangent(element), element)
    if isinstance(group, Scale):
        return bool((element > 0).all())
    return bool((torch.linalg.svdvals(element).min() > 1e-6).all())


@pytest.mark.parametrize("group", LEARNABLE, ids=name)
def test_exp_is_a_chart_at_the_identity(group: Group) -> None:
    omega = cayley_chart(group, 1.0, seed=4)
    step = group.exp(omega)
    assert in_group(group, step)
    assert close(step @ group.exp(-omega), group.identity(BATCH))
    assert close(group.exp(torch.zeros_like(omega)), group.identity(BATCH))
    # To second order the exponential: the error of a small step is of third order.
    for size in (1e-2, 1e-3):
        error = group.exp(size * omega) - torch.linalg.matrix_exp(size * omega)
        assert error.abs().max() < size**3
    derivative = (group.exp(1e-5 * omega) - group.exp(-1e-5 * omega)) / 2e-5
    assert (derivative - omega).abs().max() < 1e-9


def test_dimensions() -> None:
    for n in range(1, 6):
        assert Orthogonal(n).dimension == n * (n - 1) // 2
        assert Orthogonal(n, fixes_ones=True).dimension == (n - 1) * (n - 2) // 2
        assert Invertible(n).dimension == n * n
        assert Permutation(n).dimension == 0
    assert RotaryCommutant().dimension == 2 and Scale().dimension == 1


SEVERAL_THREADS = """
import torch
from lmc.symmetries import Invertible
torch.set_num_threads(2)
group, generator = Invertible(160), torch.Generator().manual_seed(0)
eye = torch.eye(160, dtype=torch.float64)
for batch in ((4,), (2, 2), (1,), (0,)):
    element = group.random(batch, generator)
    assert element.shape == (*batch, 160, 160)
    omega = torch.randn(*batch, 160, 160, generator=generator, dtype=torch.float64) / 160
    walked = group.exp(omega)
    undone = group.inverse(element) @ element, group.dual(element).mT @ element
    for found in (*undone, (eye - omega / 2) @ walked - omega / 2):
        assert not batch[0] or (found - eye).abs().max() < 1e-9
print("right")
"""


def test_large_maps_are_inverted_rightly_by_several_threads() -> None:
    """In a process of its own: MKL hangs, or is wrong, where torch shares a batch of them among threads."""
    line = [sys.executable, "-c", SEVERAL_THREADS]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "right\n", done.stderr[-300:]
