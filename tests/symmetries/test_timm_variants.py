"""Every vision transformer that timm lists is covered, or refused by the name of the constructor's flag."""

import copy
import inspect
import re
from functools import partial
from pathlib import Path
from typing import Any

import pico  # noqa: F401  (makes timm importable beside a torch without CUDA)
import pytest
import timm
import torch
from timm.models import PretrainedCfg
from timm.models.vision_transformer import VisionTransformer

import lmc


def listed() -> list[str]:
    return [name for pattern in ("vit_*", "deit_*", "deit3_*") for name in timm.list_models(pattern)]


def build(name: str) -> Any:
    """A model without weights, and of one layer where the constructor lets itself be asked: what counts are flags."""
    with torch.device("meta"):
        try:
            return timm.create_model(name, pretrained=False, depth=1)
        except (AssertionError, TypeError, IndexError, KeyError, RuntimeError):
            return timm.create_model(name, pretrained=False)


def test_every_listed_model_is_supported_or_refused_by_name() -> None:
    flags = set(inspect.signature(VisionTransformer.__init__).parameters)
    supported, refused = [], {}
    for name in listed():
        model = build(name)
        try:
            spec = lmc.spec(model)
        except lmc.UnsupportedModelError as error:
            refused[name] = str(error)
            flag = re.fullmatch(r"VisionTransformer: (\w+): expected .+, found .+", str(error))
            if type(model) is VisionTransformer:
                assert flag is not None and flag[1] in flags, (name, error)
            else:
                assert f"timm.{type(model).__name__}: no family covers this model class" in str(error), name
            continue
        supported.append(name)
        shapes = {n: t.numel() for n, t in model.state_dict().items()}
        assert set(spec.rules) | spec.constants() == set(shapes) and not set(spec.rules) & spec.constants(), name
        for tensor in spec.rules:  # the blocks of a tensor cover it, once
            sizes = [torch.Size([spec.sizes[axis.name] for axis in b.axes]).numel() for b in spec.blocks(tensor)]
            assert sum(sizes) == shapes[tensor], (name, tensor)
    assert len(supported) >= 40 and len(refused) >= 40
    assert {f"deit3_{size}_patch16_224" for size in ("small", "base", "large")} <= set(supported)
    assert {"vit_base_patch16_224", "deit_base_patch16_224", "vit_small_patch16_224"} <= set(supported)


@pytest.mark.parametrize(
    ("flag", "arguments"),
    [
        ("qk_norm", {"qk_norm": True}),
        ("pre_norm", {"pre_norm": True}),
        ("global_pool", {"global_pool": "map"}),
        ("dynamic_img_size", {"dynamic_img_size": True}),
        ("dynamic_img_pad", {"dynamic_img_pad": True}),
        ("norm_layer", {"norm_layer": "layernormfp32"}),
        ("num_classes", {"num_classes": 0}),
        ("pos_embed", {"pos_embed": "none"}),
    ],
)
def test_a_flag_alone_is_refused_by_its_name(flag: str, arguments: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = VisionTransformer(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2, **arguments)
    with pytest.raises(lmc.UnsupportedModelError, match=f"{flag}: expected .+, found .+"):
        lmc.spec(model)


@pytest.mark.parametrize(
    ("name", "flag"), [("vit_pwee_patch16_reg1_gap_256", "block_fn"), ("vit_small_patch16_18x2_224", "block_fn")]
)
def test_models_of_other_blocks_are_refused_by_the_flag(name: str, flag: str) -> None:
    model = timm.create_model(name, pretrained=False, embed_dim=16, depth=2, num_heads=2)
    for use in (lmc.check, lmc.canonicalize):
        with pytest.raises(lmc.UnsupportedModelError, match=f"{flag}: expected"):
            use(model)


@pytest.mark.parametrize("norm", [torch.nn.LayerNorm, partial(torch.nn.LayerNorm, eps=1e-6), None])
def test_torch_s_own_norms_are_timm_s(norm: Any, tmp_path: Path) -> None:
    """As the training code of DeiT, MAE and DINO gives them."""
    sizes = {"img_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": 16, "depth": 2, "num_heads": 2}
    pair = [VisionTransformer(**sizes, num_classes=5, norm_layer=norm).eval() for _ in range(2)]
    assert lmc.check(pair[0]).ok
    alignment = lmc.match(*pair, method="weights")
    pixels = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert (alignment.merge(1.0)(pixels) - pair[1](pixels)).abs().max() <= 1e-4 * pair[1](pixels).abs().max()


@pytest.mark.parametrize("record", [None, PretrainedCfg(mean=(0.2,), std=(0.4,))])
def test_what_timm_says_of_pictures_may_have_any_of_its_forms(record: Any) -> None:
    """None, as of a model that was built by hand, or timm's own class instead of a table."""
    sizes = {"img_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": 16, "depth": 1, "num_heads": 2}
    pair = [VisionTransformer(**sizes, num_classes=5, no_embed_class=flag).eval() for flag in (False, True)]
    for model in pair:
        if record is not None:
            model.pretrained_cfg = record
    alignment = lmc.match(pair[0], copy.deepcopy(pair[0]), method="naive")
    pixels = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(alignment.merge(0.0)(pixels), pair[0](pixels))
    with pytest.raises(lmc.IncompatibleModelsError):  # in a line that names how they differ
        lmc.match(*pair, method="weights")


def test_a_head_put_there_later_needs_its_number_of_classes() -> None:
    model = VisionTransformer(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2, num_classes=5)
    model.head = torch.nn.Linear(8, 9)
    with pytest.raises(lmc.UnsupportedModelError, match="num_classes: expected 9, found 5"):
        lmc.check(model)
    model.num_classes = 9
    assert lmc.check(model).ok


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"])
def test_another_activation_is_written_down(activation: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"img_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": 16, "depth": 1, "num_heads": 2}
    model = VisionTransformer(**sizes, num_classes=5, act_layer=activation).eval()
    lmc.save(model, tmp_path / "a")
    again = timm.create_model(f"local-dir:{tmp_path / 'a'}", pretrained=True).eval()
    pixels = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert type(again.blocks[0].mlp.act) is type(model.blocks[0].mlp.act)
    assert torch.equal(again(pixels), model(pixels))
