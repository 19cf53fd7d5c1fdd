"""The spec language: patterns against plain reshapes, blocks that partition every tensor, JSON, and its errors."""

import dataclasses
import json
from typing import Any

import pico
import pytest
import torch

import lmc
from lmc.errors import UnsupportedModelError
from lmc.symmetries.groups import Invertible, Orthogonal, Permutation, RotaryCommutant, Scale
from lmc.symmetries.pattern import Axis, Block, parse
from lmc.symmetries.spec import Dead, Epsilon, Gain, ModelSpec, Move, Norm, Reader, Space, layered

NEOX: dict[str, dict[str, Any]] = {
    "plain": {},
    "sequential": {"use_parallel_residual": False},
    "rotary 0": {"rotary_fraction": 0.0},
    "rotary 1": {"rotary_fraction": 1.0},
    "odd rotary": {"rotary_fraction": 0.25, "hidden_size": 24},  # int(0.25 · 12) = 3, so the cos table is 4 wide
    "no attention bias": {"attention_bias": False},
    "one head, one layer": {"num_attention_heads": 1, "num_hidden_layers": 1},
}
VIT: dict[str, dict[str, Any]] = {
    "plain": {},
    "average, no class token": {"global_pool": "avg", "class_token": False},
    "registers": {"reg_tokens": 3},
    "no_embed_class": {"no_embed_class": True, "reg_tokens": 2, "init_values": 0.1},
    "no qkv bias": {"qkv_bias": False},
    "no projection bias": {"proj_bias": False},
    "colour, rectangular patches": {"in_chans": 3, "img_size": (8, 12), "patch_size": (4, 2)},
}
MODELS = [pytest.param(pico.neox, c, id=f"neox, {name}") for name, c in NEOX.items()]
MODELS += [pytest.param(pico.vit, c, id=f"vit, {name}") for name, c in VIT.items()]


def numbered(*shape: int) -> torch.Tensor:
    """A tensor whose entries are all different."""
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


def cut(pattern: str, sizes: dict[str, int], tensor: torch.Tensor) -> dict[tuple[str, ...], torch.Tensor]:
    """Every block of a pattern, by the names of its axes (with their suffix)."""
    blocks = parse(pattern, sizes)
    return {tuple(a.name + "*" * a.dual for a in b.axes): b.of(tensor) for b in blocks}


@pytest.mark.parametrize(("model", "config"), MODELS)
def test_blocks_partition_every_tensor(model: Any, config: dict[str, Any]) -> None:
    model = model(**config)
    spec = lmc.spec(model)
    state = model.state_dict()
    assert set(spec.rules) | spec.constants() == set(state)
    assert not set(spec.rules) & spec.constants()
    for name in spec.rules:
        visits = torch.zeros_like(state[name], dtype=torch.int64)
        for block in spec.blocks(name):
            view = block.of(visits)
            assert view.untyped_storage().data_ptr() == visits.untyped_storage().data_ptr()
            assert view.shape == tuple(spec.sizes[axis] for axis in block.names)
            assert view.numel() > 0
            view += 1
        assert (visits == 1).all(), name


@pytest.mark.parametrize(("model", "config"), MODELS)
def test_json_round_trip(model: Any, config: dict[str, Any]) -> None:
    spec = lmc.spec(model(**config))
    text = json.dumps(spec.to_json())
    again = ModelSpec.from_json(json.loads(text))
    assert again == spec
    assert json.dumps(again.to_json()) == text
    assert all(again.blocks(name) == spec.blocks(name) for name in spec.rules)


def test_json_keeps_every_field() -> None:
    """A field that to_json or from_json forgot would compare equal in models that leave it at its default."""
    spec = ModelSpec(
        family="toy",
        free={"vocab": 5, "freq": 2},
        spaces=(
            Space("stream", Orthogonal(4, fixes_ones=True)),
            Space("scale", Scale()),
            Space("head", Permutation(2)),
            Space("plane", RotaryCommutant(), over=("head", "freq")),
            Space("pass", Invertible(3), over=("head",)),
        ),
        rules={"e": "vocab stream!", "q": "(head [plane freq | pass | pass*]) stream?", "b": "stream!"},
        stream_norm="layernorm",
        norms=(Norm("n", "n.weight", None, (Reader("q", None), Reader("r", "rb"))), Norm("m", None, None, ())),
        gains=(Gain("g", ("e", "b")),),
        moves=(Move("b", "e"), Move("q", "b", axis="pass", through="w", rows="vocab")),
        dead=(Dead("b", "pass*"),),
        epsilon=Epsilon("eps", "variance_epsilon"),
        logits=("e", "q"),
        tied=("q", "e"),
    )
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    for change in (
        {"family": "other"},
        {"free": {"vocab": 6, "freq": 2}},
        {"stream_norm": "rmsnorm"},
        {"norms": ()},
        {"gains": ()},
        {"moves": ()},
        {"dead": ()},
        {"epsilon": None},
        {"logits": ()},
        {"tied": None},
    ):
        assert dataclasses.replace(spec, **change) != spec


@pytest.mark.parametrize(
    ("fraction", "head_dim", "rotary"), [(0.0, 8, 0), (0.25, 8, 2), (0.25, 12, 4), (0.5, 8, 4), (0.9, 4, 4), (1, 8, 8)]
)
def test_neox_fused_qkv(fraction: float, head_dim: int, rotary: int) -> None:
    """GPT-NeoX: heads outermost, then q, k, v; the rotary pairs of a head are (i, i + r/2), r the cos table's width."""
    heads, d = 2, 2 * head_dim
    model = pico.neox(rotary_fraction=fraction, hidden_size=d, num_hidden_layers=1)
    cos, _ = model.gpt_neox.rotary_emb(torch.zeros(1, 3, d), torch.arange(3)[None])
    assert cos.shape[-1] == rotary
    spec = lmc.spec(model)
    weight = numbered(3 * d, d)
    blocks = {}
    for b in spec.blocks("gpt_neox.layers.0.attention.query_key_value.weight"):
        blocks["".join(a.name.split(".")[0] + "*" * a.dual + " " for a in b.axes)] = b.of(weight)
    q, k, v = weight.reshape(heads, 3, head_dim, d).unbind(1)
    expected = {"head value stream* ": v}
    for part, star in ((q, ""), (k, "*")):
        if rotary:
            pairs = torch.stack([part[:, : rotary // 2], part[:, rotary // 2 : rotary]], 1)  # head, plane, freq, stream
            expected[f"head plane{star} freq stream* "] = pairs
        if rotary < head_dim:
            expected[f"head pass{star} stream* "] = part[:, rotary:]
    assert blocks.keys() == expected.keys()
    for name, block in expected.items():
        assert torch.equal(blocks[name], block), name


def test_timm_fused_qkv() -> None:
    """timm: q, k, v outermost, then heads."""
    spec = lmc.spec(pico.vit())
    weight, bias = numbered(48, 16), numbered(48)
    q, k, v = spec.blocks("blocks.1.attn.qkv.weight")
    expected = weight.reshape(3, 2, 8, 16)
    for block, axis, reference in zip((q, k, v), ("qk.1", "qk.1*", "value.1"), expected, strict=True):
        assert torch.equal(block.of(weight), reference)
        assert block.axes == (Axis("head.1"), Axis(axis.rstrip("*"), axis.endswith("*")), Axis("stream", dual=True))
    assert torch.equal(spec.block("blocks.1.attn.qkv.bias", "value.1").of(bias), bias[32:].reshape(2, 8))
    assert torch.equal(spec.block("blocks.1.attn.qkv.bias", "qk.1*").of(bias), bias[16:32].reshape(2, 8))


def test_products_and_concatenations_are_plain_reshapes() -> None:
    sizes = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 2}
    x = numbered(6, 4, 5)
    assert torch.equal(cut("(a b) c d", sizes, x)["a", "b", "c", "d"], x.reshape(2, 3, 4, 5))
    x = numbered(9, 5)
    parts = cut("[b | c | a*] d", sizes, x)
    assert list(parts) == [("b", "d"), ("c", "d"), ("a*", "d")]
    assert torch.equal(torch.cat(list(parts.values())), x)
    # A concatenation inside a product, of products: a × (b·c | d | b), as one axis of length 2 · (12 + 5 + 3).
    x = numbered(40, 2)
    parts = cut("(a [b c | d | b*]) e*", sizes, x)
    y = x.reshape(2, 20, 2)
    assert torch.equal(parts["a", "b", "c", "e*"], y[:, :12].reshape(2, 3, 4, 2))
    assert torch.equal(parts["a", "d", "e*"], y[:, 12:17])
    assert torch.equal(parts["a", "b*", "e*"], y[:, 17:])
    # Two concatenations: every combination is a block.
    x = numbered(5, 9)
    parts = cut("[a | b] [c | d]", sizes, x)
    assert torch.equal(parts["a", "c"], x[:2, :4]) and torch.equal(parts["b", "c"], x[2:, :4])
    assert torch.equal(parts["a", "d"], x[:2, 4:]) and torch.equal(parts["b", "d"], x[2:, 4:])


def test_views_write_through() -> None:
    (block,) = [b for b in parse("(a [b | c])", {"a": 2, "b": 1, "c": 3}) if "c" in b.names]
    x = torch.zeros(8)
    block.of(x).fill_(1)
    assert x.tolist() == [0, 1, 1, 1, 0, 1, 1, 1]


def test_parts_of_no_length_have_no_block() -> None:
    sizes = {"cls": 1, "register": 0, "patch": 4, "d": 2}
    assert [b.names for b in parse("[cls | register | patch] d", sizes)] == [("cls", "d"), ("patch", "d")]


def test_a_concatenation_may_hold_another() -> None:
    """Of heads that turn a part of each query and key, fused with the values."""
    sizes = {"head": 2, "plane": 2, "freq": 3, "pass": 4, "value": 10, "stream": 3}
    found = cut("[head [plane freq | pass] | head value] stream", sizes, x := numbered(40, 3))
    turned = x[:20].reshape(2, 10, 3)
    assert torch.equal(found["head", "plane", "freq", "stream"], turned[:, :6].reshape(2, 2, 3, 3))
    assert torch.equal(found["head", "pass", "stream"], turned[:, 6:])
    assert torch.equal(found["head", "value", "stream"], x[20:].reshape(2, 10, 3)) and len(found) == 3


def test_suffixes() -> None:
    (write,) = parse("stream! hidden", {"stream": 4, "hidden": 3})
    assert write.axes == (Axis("stream"), Axis("hidden"))
    (read,) = parse("hidden stream?", {"stream": 4, "hidden": 3})
    assert read.axes == (Axis("hidden"), Axis("stream", dual=True))
    # Where the residual scale is declared, whatever writes the stream carries it, and only that.
    (write,) = parse("hidden stream!", {"stream": 4, "hidden": 3, "scale": 1})
    assert write.axes == (Axis("hidden"), Axis("scale"), Axis("stream"))
    (read,) = parse("hidden stream?", {"stream": 4, "hidden": 3, "scale": 1})
    assert read.axes == (Axis("hidden"), Axis("stream", dual=True))
    # Where the stream has signs, what writes and what reads it carries them; a gain does not.
    sizes = {"stream": 4, "hidden": 3, "sign": 1}
    for pattern in ("hidden stream!", "hidden stream?"):
        (block,) = parse(pattern, sizes)
        assert block.names == ("hidden", "stream", "sign")
    (gain,) = parse("stream", sizes)
    assert gain.names == ("stream",)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("vocab other", "'other' has no size"),
        ("[vocab | other*]", "'other' has no size"),
        ("vocab, stream", "unreadable"),
        ("vocab stream!?", "unreadable"),
        ("vocab + stream", "unreadable"),
        ("(vocab stream", "unreadable"),
        ("vocab stream)", "unreadable"),
        ("((vocab) stream)", "unreadable"),
        ("[vocab | stream", "unreadable"),
        ("vocab | stream", "unreadable"),
        ("vocab] stream", "unreadable"),
        ("[[vocab | stream]", "unreadable"),
        ("[vocab | ]", "unreadable"),
        ("", "unreadable"),
        ("[(vocab) | stream]", "unreadable"),
        ("vocab stream vocab", "twice"),
        ("(vocab [stream | vocab])", "twice"),
    ],
)
def test_bad_patterns_are_named(pattern: str, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message) as error:
        list(parse(pattern, {"vocab": 4, "stream": 3}))
    assert repr(pattern) in str(error.value) and "\n" not in str(error.value)


def test_a_pattern_is_checked_when_the_spec_is_made() -> None:
    with pytest.raises(UnsupportedModelError, match="'hiden' has no size"):
        ModelSpec("toy", {}, (Space("hidden", Permutation(3)),), {"up": "hiden"})


def test_a_table_asks_for_blocks_by_axis() -> None:
    spec = lmc.spec(pico.neox())
    name = "gpt_neox.layers.1.attention.query_key_value.bias"
    assert spec.block(name, "pass.1*").axes == (Axis("head.1"), Axis("pass.1", dual=True))
    assert spec.block(name, "pass.1").axes == (Axis("head.1"), Axis("pass.1"))
    assert isinstance(spec.block(name, "value.1"), Block)


def test_layered_renames_only_its_own_spaces() -> None:
    spaces, rules = layered(
        2,
        (Space("head", Permutation(2)), Space("value", Invertible(3), over=("head", "freq"))),
        {"l.{l}.head.w": "(head value*) stream? freq"},
    )
    assert [s.name for s in spaces] == ["head.0", "value.0", "head.1", "value.1"]
    assert spaces[3].over == ("head.1", "freq")
    assert rules["l.1.head.w"] == "(head.1 value.1*) stream? freq"


def test_what_a_spec_tells() -> None:
    spec = lmc.spec(pico.neox(rotary_fraction=0.5))  # head_dim 8: two planes and four pass-through dimensions
    plane, passed = spec.space("plane.1"), spec.space("pass.1")
    assert spec.batch(plane) == (2, 2) and spec.batch(passed) == (2,)
    assert spec.group_dimension(plane) == 8 and spec.group_dimension(passed) == 32
    assert spec.group_dimension(spec.space("stream")) == 15 * 14 // 2
    assert spec.kind("plane.1") == "plane" and spec.kind("stream") == "stream"
    assert {s.name for s in spec.inner("head.0")} == {"value.0", "plane.0", "pass.0"}
    assert {name for name, _ in spec.uses("hidden.0")} == {
        f"gpt_neox.layers.0.mlp.{part}"
        for part in ("dense_h_to_4h.weight", "dense_h_to_4h.bias", "dense_4h_to_h.weight")
    }
    writers = {name for name in spec.rules if spec.writes(name)}
    assert writers == {name for name, _ in spec.uses("scale")}
    assert "gpt_neox.embed_in.weight" in writers and f"{pico.head(pico.neox())}.weight" not in writers


def test_a_spec_needs_no_weights() -> None:
    with torch.device("meta"):
        model = type(pico.neox())(pico.neox().config)
    assert lmc.spec(model) == lmc.spec(pico.neox())


def test_other_settings_make_other_specs() -> None:
    specs = [lmc.spec(pico.neox(**config)) for config in NEOX.values()]
    specs += [lmc.spec(pico.vit(**config)) for config in VIT.values()]
    assert all(a != b for i, a in enumerate(specs) for b in specs[:i])
    assert lmc.spec(pico.neox(seed=1)) == lmc.spec(pico.neox(seed=2, dtype=torch.float32))


@pytest.mark.parametrize(
    ("flag", "args"),
    [
        ("qk_norm", {"qk_norm": True}),
        ("global_pool", {"global_pool": "map", "class_token": False}),
        ("global_pool", {"global_pool": "max"}),
        ("pos_embed", {"pos_embed": "none"}),
        ("pre_norm", {"pre_norm": True}),
        ("dynamic_img_size", {"dynamic_img_size": True}),
        ("final_norm", {"final_norm": False}),
        ("pool_include_prefix", {"pool_include_prefix": True, "global_pool": "avg"}),
        ("num_classes", {"num_classes": 0}),
        ("scale_attn_norm", {"scale_attn_norm": True}),
        ("scale_mlp_norm", {"scale_mlp_norm": True}),
    ],
)
def test_an_unsupported_vit_is_refused_by_its_flag(flag: str, args: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match=flag):
        lmc.spec(pico.vit(**args))


def test_an_olmoe_whose_norms_are_of_another_size_than_its_heads_is_refused() -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"head_dim: expected hidden_size / num_attention_heads = 4, found 8"
    ):
        lmc.spec(pico.olmoe(hidden_size=16, num_attention_heads=4, num_key_value_heads=4, head_dim=8))


def test_a_stablelm_of_which_positions_turn_one_dim_of_a_head_is_refused() -> None:
    """The library multiplies a single dim by a table of two: it computes, but nothing that was meant."""
    lmc.spec(pico.stablelm(rotary_fraction=0.5))
    with pytest.raises(UnsupportedModelError, match=r"an even number of a head's dims .*, found 1"):
        lmc.spec(pico.stablelm(rotary_fraction=0.25))


def test_a_model_without_layers_is_refused() -> None:
    for layers in (0, -1):
        with pytest.raises(UnsupportedModelError, match="number of layers: expected at least 1, found"):
            lmc.spec(pico.llama(num_hidden_layers=layers))


def test_an_unknown_class_is_named_even_if_it_is_a_subclass() -> None:
    class Mine(type(pico.neox())):  # type: ignore[misc]
        pass

    for model in (torch.nn.Linear(2, 2), Mine(pico.neox().config)):
        with pytest.raises(UnsupportedModelError, match=type(model).__name__):
            lmc.spec(model)


def test_a_tensor_without_a_rule_is_named() -> None:
    model = pico.neox()
    model.gpt_neox.layers[0].mlp.register_parameter("extra", torch.nn.Parameter(torch.ones(2)))
    with pytest.raises(UnsupportedModelError, match=r"mlp\.extra"):
        lmc.spec(model)
