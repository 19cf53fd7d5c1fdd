"""The canonical form: the same function, absorbed norms, mean-free writers, no redundant biases, balanced heads."""

import copy
import warnings
from typing import Any

import pico
import pytest
import torch
from torch import Tensor, nn

import lmc
from lmc.errors import NotCanonicalError
from lmc.symmetries.blocks import unfold
from lmc.symmetries.canonical_check import require_canonical
from lmc.symmetries.groups import Invertible, RotaryCommutant
from lmc.symmetries.stock_model import state

CONFIGS = [
    pytest.param(pico.neox, {}, id="neox"),
    pytest.param(pico.neox, {"use_parallel_residual": False, "rotary_fraction": 1.0}, id="neox sequential, rotary 1"),
    pytest.param(pico.neox, {"attention_bias": False, "rotary_fraction": 0.0}, id="neox no attention bias, rotary 0"),
    pytest.param(pico.neox, {"tie_word_embeddings": True}, id="neox tied"),
    pytest.param(pico.neox, {"num_attention_heads": 1, "hidden_size": 8}, id="neox head as wide as the stream"),
    pytest.param(pico.neox, {"num_attention_heads": 1, "attention_bias": False}, id="neox singular heads, no bias"),
    pytest.param(pico.vit, {"num_heads": 1, "depth": 3}, id="vit singular heads"),
    pytest.param(pico.vit, {}, id="vit"),
    pytest.param(pico.vit, {"global_pool": "avg", "class_token": False, "init_values": 0.1}, id="vit avg LayerScale"),
    pytest.param(
        pico.vit, {"no_embed_class": True, "reg_tokens": 2, "qkv_bias": False}, id="vit registers, no qkv bias"
    ),
    pytest.param(pico.vit, {"proj_bias": False, "init_values": 0.1}, id="vit no projection bias"),
]


def canonicalize(model: nn.Module, **options: Any) -> nn.Module:
    """`lmc.canonicalize`, without the word that a tied head was untied."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(lm_head|embed_out)\.weight was tied")
        return lmc.canonicalize(model, **options)


def difference(a: nn.Module, b: nn.Module) -> float:
    """The largest difference of the logits, relative to the largest of them."""
    x = pico.inputs(a)
    with lmc.float64():
        before, after = pico.logits(a, x), pico.logits(b, x)
    return ((after - before).abs().max() / before.abs().max()).item()


def biases(model: nn.Module) -> dict[str, Tensor]:
    return {name: t for name, t in state(model).items() if name.endswith(".bias")}


@pytest.mark.parametrize(("build", "config"), CONFIGS)
@pytest.mark.parametrize("balance", [True, False])
def test_same_function_same_spec_idempotent_input_untouched(build: Any, config: dict[str, Any], balance: bool) -> None:
    model = build(**config)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    settings = copy.deepcopy(model.config) if hasattr(model, "config") else None
    canonical = canonicalize(model, balance=balance)

    assert type(canonical) is type(model)
    assert difference(model, canonical) <= 1e-12
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    if settings is not None:
        assert settings.to_dict() == model.config.to_dict()
    mine = {t.untyped_storage().data_ptr() for t in state(model).values()}
    assert not mine & {t.untyped_storage().data_ptr() for t in state(canonical).values()}
    assert lmc.spec(canonical) == lmc.spec(model)
    require_canonical(lmc.spec(canonical), state(canonical))

    again = canonicalize(canonical, balance=balance)
    for name, t in state(again).items():
        assert torch.allclose(t, state(canonical)[name], rtol=0, atol=1e-12), name


@pytest.mark.parametrize(("build", "config"), CONFIGS)
def test_what_the_form_is(build: Any, config: dict[str, Any]) -> None:
    model = build(**config)
    canonical, spec = canonicalize(model), lmc.spec(model)
    tensors = state(canonical)
    for norm in spec.norms:
        bare = any(reader.bias is None for reader in norm.readers)
        assert (tensors[norm.weight] == 1).all()
        assert (tensors[norm.bias] == (1 if bare else 0)).all()
        for reader in norm.readers:
            mean = tensors[reader.weight].mean(-1)  # what the direction 𝟙 of the input carries: Wβ or nothing
            assert (mean.abs().max() < 1e-14) == (reader.bias is not None), reader
    for gain in spec.gains:
        assert (tensors[gain.weight] == 1).all()
    writers = [name for name in spec.rules if spec.writes(name)]
    assert len(writers) >= 5
    for name in writers:
        for block in spec.blocks(name):
            assert block.of(tensors[name]).mean(block.dim("stream")).abs().max() < 1e-14, name
    for part in (*spec.moves, *spec.dead):
        block = spec.block(part.bias, part.axis)
        view = block.of(tensors[part.bias])
        if part.bias.endswith(".weight"):  # a reader without bias keeps one as its mean, up to rounding
            assert view.mean(block.dim("stream")).abs().max() < 1e-12, part
        else:
            assert (view == 0).all(), part
    checked = 0
    for space in (s for s in spec.spaces if isinstance(s.group, Invertible | RotaryCommutant)):
        grams: list[Any] = [0, 0]
        for name, block in spec.uses(space.name):
            side = unfold(block.of(tensors[name]), block.names, space)
            grams[block.axes[block.dim(space.name)].dual] += side @ side.mT
        if isinstance(space.group, RotaryCommutant):
            grams = [g.diagonal(dim1=-2, dim2=-1).sum(-1) for g in grams]
        assert torch.allclose(*grams, rtol=1e-9, atol=1e-12), space.name
        checked += 1
    assert checked >= 2


def test_the_redundant_biases_by_name() -> None:
    """The table's moves, spelled out: what is zero, what is not, in both kinds of residual and for a ViT."""
    spec = lmc.spec(pico.neox())
    for parallel in (True, False):
        found = biases(canonicalize(pico.neox(use_parallel_residual=parallel)))
        for layer in range(2):
            here = f"gpt_neox.layers.{layer}."
            fused = found[here + "attention.query_key_value.bias"].reshape(2, 3, 8)  # 4 of the 8 are rotary
            assert (fused[:, 2] == 0).all() and (fused[:, 1, 4:] == 0).all()
            assert (fused[:, 0] != 0).all() and (fused[:, 1, :4] != 0).all()
            assert (found[here + "attention.dense.bias"] == 0).all() == parallel
            assert (found[here + "mlp.dense_4h_to_h.bias"] != 0).all()
    assert len(spec.moves) == 4

    # Without biases the constant of the norm lives in the mean of the weight: the same parts of it go.
    for parallel in (True, False):
        canonical = canonicalize(pico.neox(use_parallel_residual=parallel, attention_bias=False))
        fused = state(canonical)["gpt_neox.layers.0.attention.query_key_value.weight"].mean(-1).reshape(2, 3, 8).abs()
        assert (fused[:, 0] > 1e-9).all() and (fused[:, 1, :4] > 1e-9).all() and (fused[:, 1, 4:] < 1e-12).all()
        assert (fused[:, 2] < 1e-12).all() if parallel else (fused[:, 2] > 1e-9).all()

    model = canonicalize(pico.vit(reg_tokens=2))
    found = biases(model)
    fused = found["blocks.0.attn.qkv.bias"].reshape(3, 16)
    assert (fused[0] != 0).all() and (fused[1:] == 0).all()
    assert (found["patch_embed.proj.bias"] == 0).all()
    assert (model.cls_token == 0).all() and (model.reg_token == 0).all() and (model.pos_embed != 0).all()
    fused = canonicalize(pico.vit(qkv_bias=False)).blocks[0].attn.qkv.weight.mean(-1).reshape(3, 16).abs()
    assert (fused[0] > 1e-9).all() and (fused[1:] < 1e-12).all()
    model = canonicalize(pico.vit(reg_tokens=2, no_embed_class=True))
    assert (model.cls_token != 0).all() and (model.reg_token != 0).all() and (model.patch_embed.proj.bias == 0).all()


@pytest.mark.parametrize("build", [pico.neox, pico.vit])
def test_gains_of_zero_and_near_zero_are_legal(build: Any) -> None:
    model = build(**({"attention_bias": False} if build is pico.neox else {"qkv_bias": False}))
    with torch.no_grad():
        for i, norm in enumerate(m for m in model.modules() if isinstance(m, nn.LayerNorm)):
            norm.weight[i % 16] = 0
            norm.weight[(i + 3) % 16] = 1e-30
            norm.weight[(i + 5) % 16] = -1e-9
    canonical = canonicalize(model)
    assert difference(model, canonical) <= 1e-12
    assert all(t.isfinite().all() for t in state(canonical).values())
    g = lmc.Transform.random(lmc.spec(model), seed=0)
    assert difference(model, g.apply(canonical)) <= 1e-12


def test_dead_weights_are_legal() -> None:
    """A head that writes nothing, a norm of gain zero, queries of zero: balancing must not divide by any of them."""
    model = pico.neox()
    attention = model.gpt_neox.layers[0].attention
    with torch.no_grad():
        attention.dense.weight[:, :8] = 0
        model.gpt_neox.layers[1].attention.query_key_value.weight.view(2, 3, 8, 16)[:, 0] = 0
        model.gpt_neox.layers[1].attention.query_key_value.bias.view(2, 3, 8)[:, 0] = 0
        model.gpt_neox.layers[1].post_attention_layernorm.weight.zero_()
    canonical = canonicalize(model)
    assert all(t.isfinite().all() for t in state(canonical).values())
    assert difference(model, canonical) <= 1e-12
    again = canonicalize(canonical)
    assert all(torch.allclose(t, state(canonical)[name], rtol=0, atol=1e-12) for name, t in state(again).items())


def test_a_wide_range_of_head_sizes_keeps_the_function() -> None:
    """Products that are nearly singular: the square roots of tiny singular values must not cost the large ones."""
    model = pico.vit()
    with torch.no_grad():
        qkv = model.blocks[0].attn.qkv.weight.view(3, 2, 8, 16)
        qkv[:, 0] *= torch.logspace(3, -9, 8, dtype=torch.float64)[:, None]
        qkv[0, 1] *= 1e6
        qkv[1, 1] *= 1e-6
    assert difference(model, canonicalize(model)) <= 1e-9


def test_a_tied_head_is_untied_with_a_warning_that_names_its_size() -> None:
    model = pico.neox(tie_word_embeddings=True)
    head = f"{pico.head(model)}.weight"
    assert model.get_parameter(head) is model.gpt_neox.embed_in.weight
    with pytest.warns(UserWarning, match=f"{head} was tied to gpt_neox.embed_in.weight.* 640 more parameters"):
        canonical = lmc.canonicalize(model)
    assert model.get_parameter(head) is model.gpt_neox.embed_in.weight and model.config.tie_word_embeddings
    assert canonical.get_parameter(head) is not canonical.gpt_neox.embed_in.weight
    assert not canonical.config.tie_word_embeddings
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lmc.canonicalize(canonical)  # nothing left to untie
    assert difference(model, canonical) <= 1e-12


def test_a_tied_head_stays_tied_where_nothing_forces_it() -> None:
    model = pico.neox(tie_word_embeddings=True)
    with torch.no_grad():
        model.gpt_neox.final_layer_norm.weight.fill_(1)
        model.gpt_neox.final_layer_norm.bias.zero_()
        head = model.get_parameter(f"{pico.head(model)}.weight")
        head -= head.mean(-1, keepdim=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canonical = lmc.canonicalize(model)
    assert canonical.config.tie_word_embeddings
    assert canonical.get_parameter(f"{pico.head(model)}.weight") is canonical.gpt_neox.embed_in.weight
    assert difference(model, canonical) <= 1e-12
    # Turning the stream keeps a tie (Q acts on both alike); the residual scale moves the embedding only.
    g = lmc.Transform.random(lmc.spec(model), seed=0)
    assert not g.apply(canonical).config.tie_word_embeddings
    assert difference(model, g.apply(canonical)) <= 1e-12


def test_an_untied_checkpoint_survives_saving(tmp_path: Any) -> None:
    """What was tied is written as two tensors and read back as two by stock code."""
    model = pico.neox(tie_word_embeddings=True)
    canonical = canonicalize(model)
    canonical.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, dtype=torch.float64).eval()
    assert difference(canonical, again) <= 1e-13
    assert not again.config.tie_word_embeddings
    assert all(torch.equal(t, state(again)[name]) for name, t in state(canonical).items())


@pytest.mark.parametrize(("build", "config"), CONFIGS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 1e-1)], ids=str)
def test_other_types_are_kept(build: Any, config: dict[str, Any], dtype: torch.dtype, tolerance: float) -> None:
    model = build(dtype=dtype, **config)
    canonical = canonicalize(model)
    assert {t.dtype for t in state(canonical).values()} == {dtype}
    x = pico.inputs(model)
    before, after = (pico.logits(m, x).double() for m in (model, canonical))
    assert (after - before).abs().max() <= tolerance * before.abs().max()
    require_canonical(lmc.spec(model), state(canonical))
    if dtype is torch.float32:  # doing it again moves nothing beyond rounding
        for name, t in state(canonicalize(canonical)).items():
            assert torch.allclose(t, state(canonical)[name], rtol=0, atol=2e-6), name


@pytest.mark.parametrize("build", [pico.neox, pico.vit])
def test_balance_false_leaves_the_heads(build: Any) -> None:
    model = build()
    plain, balanced = canonicalize(model, balance=False), canonicalize(model)
    spec = lmc.spec(model)
    for space in (s for s in spec.spaces if isinstance(s.group, Invertible | RotaryCommutant)):
        norms: dict[bool, list[Tensor]] = {False: [], True: []}
        for name, block in spec.uses(space.name):
            axis = block.axes[block.dim(space.name)]
            side = unfold(block.of(state(plain)[name]), block.names, space)
            norms[axis.dual].append(side @ side.mT)
        assert not torch.allclose(sum(norms[False]), sum(norms[True]), rtol=1e-2), space.name
    assert difference(plain, balanced) <= 1e-12
    for fused in (name for name in spec.rules if "qkv.weight" in name or "query_key_value.weight" in name):
        assert not torch.allclose(state(plain)[fused], state(balanced)[fused], rtol=1e-2)
    # Balancing afterwards gets to the same place.
    for name, t in state(canonicalize(plain)).items():
        assert torch.allclose(t, state(balanced)[name], rtol=0, atol=1e-12), name


def test_balance_undoes_any_planted_invertible_element() -> None:
    """Two members of one GL orbit have balanced forms that differ by a rotation: equal Grams of what a head reads."""
    model = canonicalize(pico.vit())
    spec = lmc.spec(model)
    moved = canonicalize(lmc.Transform.random(spec, 0).only("value").apply(model))
    space = spec.space("value.0")
    for name, block in spec.uses(space.name):
        a, b = (unfold(block.of(state(m)[name]), block.names, space) for m in (model, moved))
        assert torch.allclose(a.mT @ a, b.mT @ b, rtol=0, atol=1e-12)


def test_gradient_flags_carry_over_and_the_new_model_is_in_evaluation_mode() -> None:
    """Dropout would make it another function; the model passed in stays in the mode it was in."""
    model = pico.vit().train()
    model.cls_token.requires_grad_(False)
    canonical = canonicalize(model)
    assert model.training and not any(module.training for module in canonical.modules())
    assert not canonical.cls_token.requires_grad and canonical.pos_embed.requires_grad
    assert all(isinstance(p, nn.Parameter) and p.is_leaf for p in canonical.parameters())
    assert not any(p.is_meta for p in canonical.parameters())


def test_memory_layouts_are_no_obstacle() -> None:
    """A transposed weight and channels-last images: blocks only ever split an axis, which any strides allow."""
    model = pico.vit(in_chans=3)
    model = model.to(memory_format=torch.channels_last)
    proj = model.blocks[0].attn.proj
    proj.weight = nn.Parameter(proj.weight.detach().T.contiguous().T)
    canonical = canonicalize(model)
    assert difference(model, canonical) <= 1e-12
    assert difference(model, lmc.Transform.random(lmc.spec(model), 0).apply(canonical)) <= 1e-12


@pytest.mark.parametrize(
    ("build", "tensor", "message"),
    [
        (pico.neox, "gpt_neox.layers.1.input_layernorm.weight", "a norm that is not absorbed"),
        (pico.neox, "gpt_neox.layers.1.post_attention_layernorm.bias", "a norm that is not absorbed"),
        (pico.neox, "gpt_neox.final_layer_norm.bias", "a norm that is not absorbed"),
        (pico.neox, "gpt_neox.embed_in.weight", "a writer that is not mean-free"),
        (pico.neox, "gpt_neox.layers.0.attention.dense.weight", "a writer that is not mean-free"),
        (pico.neox, "gpt_neox.layers.0.mlp.dense_4h_to_h.bias", "a writer that is not mean-free"),
        (pico.vit, "blocks.1.ls2.gamma", "a gain that is not absorbed"),
        (pico.vit, "norm.weight", "a norm that is not absorbed"),
        (pico.vit, "pos_embed", "a writer that is not mean-free"),
        (pico.vit, "patch_embed.proj.weight", "a writer that is not mean-free"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_each_departure_from_the_form_is_named(build: Any, tensor: str, message: str, dtype: torch.dtype) -> None:
    model = canonicalize(build(dtype=dtype, **({"init_values": 0.1} if build is pico.vit else {})))
    with torch.no_grad():
        # One entry of the canonical form is off: by 5 % in a constant, as far as it goes in a writer.
        model.get_parameter(tensor).view(-1)[3] += 0.05 if "absorbed" in message else 1.0
    with pytest.raises(NotCanonicalError, match=message) as error:
        require_canonical(lmc.spec(model), state(model))
    assert str(error.value).startswith(tensor) and "\n" not in str(error.value)
