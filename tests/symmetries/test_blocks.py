"""What algorithms do with a block, against plain index arithmetic; permutations inside permutations included."""

import pytest
import torch
from torch import Tensor

from lmc.symmetries.blocks import act, connected, gram, pair_gram, permute, unfold, unfold_into
from lmc.symmetries.groups import Invertible, Orthogonal, Permutation
from lmc.symmetries.spec import ModelSpec, Space
from lmc.symmetries.transform import Transform

# Grouped attention: permuted groups, permuted queries inside each group, a matrix for each query, and one for each
# group that all its queries share.
SPEC = ModelSpec(
    family="toy",
    free={"freq": 2},
    spaces=(
        Space("stream", Orthogonal(5)),
        Space("group", Permutation(3)),
        Space("query", Permutation(4), over=("group",)),
        Space("content", Invertible(2), over=("group", "query")),
        Space("shared", Invertible(2), over=("group", "freq")),
    ),
    rules={
        "w": "(group query content) stream?",
        "o": "stream! (group query content*)",
        "s": "[group freq shared | group query content]",
        "t": "(group query [shared freq | content]) stream?",
    },
)
SHAPES = {"w": (24, 5), "o": (5, 24), "s": (36,), "t": (72, 5)}


def tensor(name: str, seed: int = 0) -> Tensor:
    return torch.randn(SHAPES[name], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random(seed: int) -> Transform:
    return Transform.random(SPEC, seed)


@pytest.mark.parametrize("name", SHAPES)
def test_unfold_and_back(name: str) -> None:
    for block in SPEC.blocks(name):
        for axis in block.names:
            if axis not in SPEC.space_names or not set(SPEC.space(axis).over) <= set(block.names):
                continue
            space = SPEC.space(axis)
            view = block.of(tensor(name))
            unfolded = unfold(view, block.names, space)
            assert unfolded.shape[:-1] == (*SPEC.batch(space), space.group.n)
            assert unfolded.numel() == view.numel()
            back = torch.full_like(tensor(name), torch.nan)
            unfold_into(block.of(back), block.names, space, unfolded)
            assert torch.equal(block.of(back), view)
            # Writing into one block leaves the others alone.
            assert back.isnan().sum() == back.numel() - view.numel()


def test_unfold_brings_the_batch_first_whatever_the_order() -> None:
    (block,) = [b for b in SPEC.blocks("t") if "shared" in b.names]
    assert block.names == ("group", "query", "shared", "freq", "stream")
    view = block.of(tensor("t"))
    unfolded = unfold(view, block.names, SPEC.space("shared"))  # [group, freq, shared, query · stream]
    expected = torch.einsum("gqsfd->gfsqd", view).reshape(3, 2, 2, 20)
    assert torch.equal(unfolded, expected)


def test_grams() -> None:
    (block,) = SPEC.blocks("w")
    x, y = (block.of(tensor("w", seed)) for seed in (1, 2))  # [group, query, content, stream]
    content, stream = SPEC.space("content"), SPEC.space("stream")
    assert torch.allclose(gram(x, y, block.names, content), torch.einsum("gqad,gqbd->gqab", x, y))
    assert torch.allclose(gram(x, y, block.names, stream), torch.einsum("gqad,gqae->de", x, y))
    pairs = pair_gram(x, y, block.names, content, "group")
    assert torch.allclose(pairs, torch.einsum("gqad,hqbd->ghqab", x, y))
    pairs = pair_gram(x, y, block.names, content, "query")
    assert torch.allclose(pairs, torch.einsum("gqad,grbd->qrgab", x, y))


def test_permute_outermost_first() -> None:
    g = random(1).elements
    x = tensor("w").reshape(3, 4, 2, 5)
    moved = permute(x, ("group", "query", "content", "stream"), SPEC, g)
    for i in range(3):
        for j in range(4):
            assert torch.equal(moved[i, j], x[g["group"][i], g["query"][i, j]])


def test_act_is_the_sum_over_indices() -> None:
    g = random(1)
    e, duals = g.elements, g.duals
    x = tensor("w").reshape(3, 4, 2, 5)
    (block,) = SPEC.blocks("w")
    moved = act(x, block, SPEC, e, duals)
    for i in range(3):
        for j in range(4):
            source = x[e["group"][i], e["query"][i, j]]
            assert torch.allclose(moved[i, j], e["content"][i, j] @ source @ e["stream"].T)
    x = tensor("o").reshape(5, 3, 4, 2)
    (block,) = SPEC.blocks("o")
    moved = act(x, block, SPEC, e, duals)
    for i in range(3):
        for j in range(4):
            source = x[:, e["group"][i], e["query"][i, j]]
            assert torch.allclose(moved[:, i, j], e["stream"] @ source @ torch.linalg.inv(e["content"][i, j]))


def test_act_leaves_its_input_alone() -> None:
    g = random(1)
    for name in SHAPES:
        x = tensor(name)
        g.moved(name, x)
        assert torch.equal(x, tensor(name))


def test_writers_and_readers_cancel() -> None:
    """o · w is what the function sees: the contents drop out, the stream turns, whatever the permutations."""
    g = random(3)
    q = g.elements["stream"]
    product = g.moved("o", tensor("o")) @ g.moved("w", tensor("w"))
    assert torch.allclose(product, q @ tensor("o") @ tensor("w") @ q.T)


@pytest.mark.parametrize("name", SHAPES)
def test_transform_laws_with_permutations_inside_permutations(name: str) -> None:
    g, h, k = (random(seed) for seed in (1, 2, 3))
    x = tensor(name)
    assert torch.allclose((g @ h).moved(name, x), g.moved(name, h.moved(name, x)))
    assert torch.allclose(((g @ h) @ k).moved(name, x), (g @ (h @ k)).moved(name, x))
    assert torch.allclose(g.inverse().moved(name, g.moved(name, x)), x)
    assert torch.allclose(g.moved(name, g.inverse().moved(name, x)), x)
    assert torch.equal(Transform.identity(SPEC).moved(name, x), x)


def test_inverse_is_an_element() -> None:
    g = random(1)
    for both in (g @ g.inverse(), g.inverse() @ g):
        for space, element in Transform.identity(SPEC).elements.items():
            assert torch.allclose(both.elements[space].double(), element.double(), atol=1e-12), space


def test_keys_with_a_common_label_are_together():
    """Also those that only a later key connects; groups and keys keep their order."""
    labels = {"a": {1}, "b": {2}, "c": set(), "d": {3}, "e": {2, 1}, "f": {3}}
    assert connected(labels) == [["a", "b", "e"], ["c"], ["d", "f"]]
