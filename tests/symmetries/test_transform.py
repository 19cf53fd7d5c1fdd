"""Transforms as a group acting on stock models: its laws, what it refuses, what it moves, and its files."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from torch import Tensor, nn

import lmc
from lmc.errors import ArgumentError, CheckpointError, LmcError, NotCanonicalError
from lmc.symmetries.blocks import unfold
from lmc.symmetries.groups import Orthogonal, Permutation
from lmc.symmetries.stock_model import epsilon, state
from lmc.symmetries.transform import Transform, kinds, rescale

MODELS = [
    pytest.param(pico.neox, {}, id="neox"),
    pytest.param(pico.neox, {"rotary_fraction": 1.0, "use_parallel_residual": False}, id="neox rotary 1"),
    pytest.param(pico.neox, {"rotary_fraction": 0.0, "attention_bias": False}, id="neox rotary 0"),
    pytest.param(pico.vit, {"init_values": 0.1, "reg_tokens": 2}, id="vit"),
]


def same(a: nn.Module, b: nn.Module, tolerance: float = 1e-12) -> bool:
    """Whether two models hold the same weights, up to rounding."""
    one, two = state(a), state(b)
    assert one.keys() == two.keys()
    return all((one[n] - two[n]).abs().max() <= tolerance * (1 + two[n].abs().max()) for n in one)


def elements_equal(a: Transform, b: Transform, tolerance: float = 1e-12) -> bool:
    return a.elements.keys() == b.elements.keys() and all(
        (a.elements[s].double() - b.elements[s].double()).abs().max() <= tolerance for s in a.elements
    )


@pytest.mark.parametrize(("build", "config"), MODELS)
def test_group_laws_on_elements_and_on_models(build: Any, config: dict[str, Any]) -> None:
    model = lmc.canonicalize(build(**config))
    spec = lmc.spec(model)
    one = Transform.identity(spec)
    g, h, k = (Transform.random(spec, seed) for seed in (1, 2, 3))
    assert elements_equal((g @ h) @ k, g @ (h @ k))
    for element in (g, g @ h):
        assert elements_equal(element @ one, element) and elements_equal(one @ element, element)
        assert elements_equal(element @ element.inverse(), one) and elements_equal(element.inverse() @ element, one)
        assert elements_equal(element.inverse().inverse(), element)
    assert elements_equal((g @ h).inverse(), h.inverse() @ g.inverse())
    assert not elements_equal(g @ h, h @ g, 1e-3)

    assert same((g @ h).apply(model), g.apply(h.apply(model)))
    assert not same((h @ g).apply(model), g.apply(h.apply(model)), 1e-3)
    assert same(g.inverse().apply(g.apply(model)), model)
    assert all(torch.equal(t, state(model)[n]) for n, t in state(one.apply(model)).items())


@pytest.mark.parametrize(("build", "config"), MODELS)
def test_acting_is_linear(build: Any, config: dict[str, Any]) -> None:
    """The line between two models is carried to the line between their images: what the whole method rests on."""
    spec = lmc.spec(build(**config))
    a, b = (state(build(seed=seed, **config)) for seed in (1, 2))
    g = Transform.random(spec, 0)
    for name in spec.rules:
        mixed = g.moved(name, 0.3 * a[name] + 0.7 * b[name])
        expected = 0.3 * g.moved(name, a[name]) + 0.7 * g.moved(name, b[name])
        assert torch.allclose(mixed, expected, rtol=0, atol=1e-12), name


@pytest.mark.parametrize(("build", "config"), MODELS)
def test_the_model_passed_in_is_untouched(build: Any, config: dict[str, Any]) -> None:
    model = lmc.canonicalize(build(**config))
    before = {name: t.clone() for name, t in model.state_dict().items()}
    settings = copy.deepcopy(model.config.to_dict()) if hasattr(model, "config") else None
    epsilons = [m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)]
    g = Transform.random(lmc.spec(model), seed=0)
    elements = {name: e.clone() for name, e in g.elements.items()}
    moved = g.apply(model)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert epsilons == [m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)]
    assert settings is None or settings == model.config.to_dict()
    assert all(torch.equal(e, g.elements[name]) for name, e in elements.items())
    mine = {t.untyped_storage().data_ptr() for t in state(model).values()}
    assert not mine & {t.untyped_storage().data_ptr() for t in state(moved).values()}
    assert type(moved) is type(model) and lmc.spec(moved) == lmc.spec(model)


def test_random_is_determined_by_its_seed() -> None:
    spec = lmc.spec(pico.neox())
    assert elements_equal(Transform.random(spec, 4), Transform.random(spec, 4), 0)
    assert not elements_equal(Transform.random(spec, 4), Transform.random(spec, 5), 1e-3)
    for seed in range(20):
        for name, element in Transform.random(spec, seed).elements.items():
            space = spec.space(name)
            identity = space.group.identity(spec.batch(space))
            assert element.shape == identity.shape and element.dtype == identity.dtype
            if isinstance(space.group, Permutation):
                assert (element != identity).any(-1).all()
            if isinstance(space.group, Orthogonal):
                assert (element.sum(-1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize(("build", "config"), MODELS)
def test_every_space_moves_what_it_acts_on(build: Any, config: dict[str, Any]) -> None:
    model = lmc.canonicalize(build(**config))
    spec, tensors = lmc.spec(model), state(model)
    for seed in range(5):
        g = Transform.random(spec, seed)
        for space in spec.spaces:
            alone = Transform(spec, {**Transform.identity(spec).elements, space.name: g.elements[space.name]})
            touched = set()
            for name, block in spec.uses(space.name):
                before, after = block.of(tensors[name]), block.of(alone.moved(name, tensors[name]))
                if before.abs().max() > 0:  # a bias that the canonical form set to zero stays there
                    assert (after - before).norm() >= 0.1 * before.norm(), (space.name, name)
                touched.add(name)
            # And nothing else moves.
            for name in set(spec.rules) - touched:
                assert torch.equal(alone.moved(name, tensors[name]), tensors[name]), (space.name, name)


def test_permuted_heads_carry_their_contents() -> None:
    """Head i of the result is old head p(i), turned by element i (not p(i)) of its own matrix groups."""
    model = lmc.canonicalize(pico.vit(num_heads=4, embed_dim=16))
    spec, tensors = lmc.spec(model), state(model)
    g = Transform.random(spec, seed=3)
    p, a, b = (g.elements[f"{kind}.1"] for kind in ("head", "value", "qk"))
    q = g.elements["stream"]
    old, new = (t["blocks.1.attn.qkv.weight"].view(3, 4, 4, 16) for t in (tensors, state(g.apply(model))))
    out, moved = (t["blocks.1.attn.proj.weight"].view(16, 4, 4) for t in (tensors, state(g.apply(model))))
    assert p.tolist() != p.argsort().tolist()  # a permutation that its inverse cannot stand in for
    for i in range(4):
        assert torch.allclose(new[0, i], b[i] @ old[0, p[i]] @ q.T)
        assert torch.allclose(new[1, i], torch.linalg.inv(b[i]).T @ old[1, p[i]] @ q.T)
        assert torch.allclose(new[2, i], a[i] @ old[2, p[i]] @ q.T)
        assert torch.allclose(moved[:, i], q @ out[:, p[i]] @ torch.linalg.inv(a[i]))


def test_rotary_pairs_turn_as_complex_numbers() -> None:
    model = lmc.canonicalize(pico.neox(rotary_fraction=0.5))  # heads of 8: pairs (0, 2) and (1, 3), pass-through 4 … 7
    spec, name = lmc.spec(model), "gpt_neox.layers.0.attention.query_key_value.weight"
    g = Transform.random(spec, seed=0).only("plane")
    c = torch.complex(g.elements["plane.0"][..., 0, 0], g.elements["plane.0"][..., 1, 0])  # [head, freq]
    before, after = (t.view(2, 3, 8, 16) for t in (state(model)[name], g.moved(name, state(model)[name])))
    for head in range(2):
        for pair in range(2):
            query, key = (torch.complex(before[head, i, pair], before[head, i, pair + 2]) for i in (0, 1))
            turned, dual = (torch.complex(after[head, i, pair], after[head, i, pair + 2]) for i in (0, 1))
            assert torch.allclose(turned, c[head, pair] * query)
            assert torch.allclose(dual, key / c[head, pair].conj())
    assert torch.equal(after[:, :, 4:], before[:, :, 4:]) and torch.equal(after[:, 2], before[:, 2])


def test_the_scale_moves_epsilon_and_only_writers() -> None:
    model = lmc.canonicalize(pico.neox(layer_norm_eps=1e-3))
    spec = lmc.spec(model)
    g = Transform.random(spec, seed=1).only("scale")
    s = g.scale
    moved = g.apply(model)
    assert epsilon(moved, spec) == pytest.approx(1e-3 * s**2, rel=1e-12)
    norms = [m for m in moved.modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 5 and {m.eps for m in norms} == {moved.config.layer_norm_eps}
    for name in spec.rules:
        factor = s if spec.writes(name) else 1.0
        assert torch.allclose(state(moved)[name], factor * state(model)[name], rtol=1e-12), name
    assert epsilon(g.inverse().apply(moved), spec) == pytest.approx(1e-3, rel=1e-12)
    assert lmc.Transform.identity(spec).scale == 1


@pytest.mark.parametrize(
    ("act", "balanced"), [("gelu", ("value.1", "pass.1")), ("relu", ("value.1", "pass.1", "unit.1"))]
)
def test_rescale_is_a_symmetry_that_keeps_balance(act: str, balanced: tuple[str, ...]) -> None:
    model = lmc.canonicalize(pico.neox(layer_norm_eps=1e-2, hidden_act=act))
    spec = lmc.spec(model)
    moved = rescale(spec, 0.6).apply(model)
    assert epsilon(moved, spec) == pytest.approx(0.36e-2, rel=1e-12)
    x = pico.inputs(model)
    with lmc.float64():
        assert torch.allclose(pico.logits(moved, x), pico.logits(model, x), rtol=0, atol=1e-12)
    for kind in balanced:
        grams: list[Any] = [0, 0]
        for name, block in spec.uses(kind):
            side = unfold(block.of(state(moved)[name]), block.names, spec.space(kind))
            grams[block.axes[block.dim(kind)].dual] += side @ side.mT
        assert torch.allclose(*grams, atol=1e-12), kind


def test_only_restricts_to_a_kind() -> None:
    spec = lmc.spec(pico.neox())
    g = Transform.random(spec, seed=0)
    assert list(kinds(spec)) == ["stream", "scale", "head", "value", "hidden", "plane", "pass"]
    for kind in kinds(spec):
        part = g.only(kind)
        for name, element in part.elements.items():
            source = g if spec.kind(name) == kind else Transform.identity(spec)
            assert torch.equal(element, source.elements[name])


def test_a_model_that_is_not_canonical_is_refused() -> None:
    for model in (pico.neox(), pico.vit()):
        with pytest.raises(NotCanonicalError, match=r"canonicalize"):
            Transform.random(lmc.spec(model), 0).apply(model)


def test_balance_is_not_asked_for() -> None:
    model = lmc.canonicalize(pico.neox(), balance=False)
    moved = Transform.random(lmc.spec(model), 0).apply(model)
    x = pico.inputs(model)
    with lmc.float64():
        assert torch.allclose(pico.logits(moved, x), pico.logits(model, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "other",
    [
        {"hidden_size": 24},
        {"num_hidden_layers": 1},
        {"num_attention_heads": 4},
        {"rotary_fraction": 0.25},
        {"use_parallel_residual": False},
        {"vocab_size": 41},
        {"attention_bias": False},
    ],
    ids=str,
)
def test_another_shape_is_refused(other: dict[str, Any]) -> None:
    g = Transform.random(lmc.spec(pico.neox()), 0)
    with pytest.raises(ArgumentError, match="another gpt_neox shape"):
        g.apply(lmc.canonicalize(pico.neox(**other)))
    with pytest.raises(ArgumentError, match="two different specs"):
        g @ Transform.random(lmc.spec(pico.neox(**other)), 0)


def test_another_family_is_refused() -> None:
    with pytest.raises(LmcError):
        Transform.random(lmc.spec(pico.neox()), 0).apply(lmc.canonicalize(pico.vit()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_types_are_kept_and_the_result_is_canonical(dtype: torch.dtype) -> None:
    model = lmc.canonicalize(pico.neox(dtype=dtype))
    g = Transform.random(lmc.spec(model), 0)
    for _ in range(5):  # rounding must not add up to a refusal
        model = g.apply(model)
    assert {t.dtype for t in state(model).values()} == {dtype}


@pytest.mark.parametrize(("build", "config"), MODELS)
def test_save_and_load(build: Any, config: dict[str, Any], tmp_path: Path) -> None:
    spec = lmc.spec(build(**config))
    g = Transform.random(spec, seed=0)
    g.save(tmp_path / "g")
    assert sorted(p.name for p in (tmp_path / "g").iterdir()) == ["transform.json", "transform.safetensors"]
    again = lmc.Transform.load(tmp_path / "g")
    assert again.spec == spec
    assert all(torch.equal(e, again.elements[n]) and e.dtype == again.elements[n].dtype for n, e in g.elements.items())
    again.save(tmp_path / "again")
    for name in ("transform.json", "transform.safetensors"):
        assert (tmp_path / "g" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    model = lmc.canonicalize(build(**config))
    assert same(again.apply(model), g.apply(model), 1e-14)
    assert same(again.inverse().apply(g.apply(model)), model)


def test_save_does_not_overwrite(tmp_path: Path) -> None:
    g = Transform.random(lmc.spec(pico.vit()), seed=0)
    g.save(tmp_path / "g")
    before = (tmp_path / "g" / "transform.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="not empty"):
        Transform.identity(g.spec).save(tmp_path / "g")
    assert (tmp_path / "g" / "transform.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["g"]


def corrupt_json(folder: Path) -> None:
    (folder / "transform.json").write_text('{"spec": ')


def other_json(folder: Path) -> None:
    (folder / "transform.json").write_text('{"model": 1}')


def spec_of_another_version(folder: Path) -> None:
    described = json.loads((folder / "transform.json").read_text())
    described["spec"]["unheard_of"] = 1
    (folder / "transform.json").write_text(json.dumps(described))


def no_json(folder: Path) -> None:
    (folder / "transform.json").unlink()


def no_tensors(folder: Path) -> None:
    (folder / "transform.safetensors").unlink()


def truncated(folder: Path) -> None:
    whole = (folder / "transform.safetensors").read_bytes()
    (folder / "transform.safetensors").write_bytes(whole[: len(whole) // 2])


def change_elements(folder: Path, change: dict[str, Tensor | None]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = {**load_file(folder / "transform.safetensors"), **change}
    save_file({n: t for n, t in tensors.items() if t is not None}, folder / "transform.safetensors")


def missing_space(folder: Path) -> None:
    change_elements(folder, {"stream": None})


def unknown_space(folder: Path) -> None:
    change_elements(folder, {"strean": torch.eye(2)})


def wrong_shape(folder: Path) -> None:
    change_elements(folder, {"stream": torch.eye(15, dtype=torch.float64)})


def wrong_type(folder: Path) -> None:
    change_elements(folder, {"head.0": torch.tensor([1.0, 0.0])})


@pytest.mark.parametrize(
    "damage",
    [
        corrupt_json,
        other_json,
        spec_of_another_version,
        no_json,
        no_tensors,
        truncated,
        missing_space,
        unknown_space,
        wrong_shape,
        wrong_type,
        shutil.rmtree,
    ],
)
def test_damaged_files_are_named(damage: Any, tmp_path: Path) -> None:
    Transform.random(lmc.spec(pico.vit()), seed=0).save(tmp_path / "g")
    damage(tmp_path / "g")
    with pytest.raises(CheckpointError) as error:
        Transform.load(tmp_path / "g")
    assert str(tmp_path / "g") in str(error.value) and "\n" not in str(error.value)
