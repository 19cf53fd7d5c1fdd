"""Another input normalisation is the same function of a picture: folded into the patch embedding, exactly."""

import json
from pathlib import Path
from typing import Any

import pico
import pytest
import timm
import torch
import transformers
from PIL import Image
from torch import Tensor

import lmc
from lmc import corpora
from lmc.checkpoints import hub, licence, preprocessing
from lmc.checkpoints.blueprint import inspect
from lmc.cli import main
from lmc.errors import DataError, LmcError
from lmc.matching.pairing import require_pairable

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def timm_vit(seed: int, dtype: torch.dtype = torch.float64, **cfg: Any) -> Any:
    model = pico.vit(seed, dtype, in_chans=3)
    model.pretrained_cfg.update({"crop_pct": 1.0, "interpolation": "bicubic"} | cfg)
    return model


def hf_vit(seed: int, dtype: torch.dtype = torch.float64, **cfg: Any) -> Any:
    model = pico.hf_vit(seed, dtype, num_channels=3)
    model.preprocessor_config = {"image_mean": list(cfg["mean"]), "image_std": list(cfg["std"]), "resample": 3}
    return model


def normalised(pixels: Tensor, cfg: dict[str, Any]) -> Tensor:
    mean, std = (torch.tensor(cfg[key], dtype=pixels.dtype).view(1, -1, 1, 1) for key in ("mean", "std"))
    return (pixels - mean) / std


@pytest.fixture
def pixels() -> Tensor:
    """Pictures as files have them: values in [0, 1]."""
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("make", [timm_vit, hf_vit])
def test_the_function_of_a_picture_is_kept(make: Any, pixels: Tensor) -> None:
    a, b = make(0, **HALF), make(1, **IMAGENET)
    before = {name: t.clone() for name, t in b.state_dict().items()}
    same, moved = preprocessing.common([a, b])
    assert same is a
    expected = pico.logits(b, normalised(pixels, IMAGENET))
    found = pico.logits(moved, normalised(pixels, HALF))
    assert (found - expected).abs().max() <= 1e-13 * expected.abs().max()
    assert (pico.logits(b, normalised(pixels, HALF)) - expected).abs().max() > 1e-2 * expected.abs().max()
    assert preprocessing.of(moved) == preprocessing.of(a)
    assert preprocessing.require(b).mean == IMAGENET["mean"]
    assert all(torch.equal(t, before[name]) for name, t in b.state_dict().items())


@pytest.mark.parametrize("make", [timm_vit, hf_vit])
@pytest.mark.parametrize("method", ["naive", "weights"])
def test_the_ends_of_the_line_are_the_parents(make: Any, method: str, pixels: Tensor) -> None:
    """Each on its own pictures; the merged models read the first one's."""
    a, b = make(0, torch.float32, **HALF), make(1, torch.float32, **IMAGENET)
    alignment = lmc.match(a, b, method=method)
    for at, parent, cfg in ((0, a, HALF), (1, b, IMAGENET)):
        expected = pico.logits(parent, normalised(pixels, cfg).float())
        merged = alignment.merge(at)
        found = pico.logits(merged, normalised(pixels, HALF).float())
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
        assert preprocessing.require(merged).mean == HALF["mean"]
    assert "folded into the patch embedding" in alignment.card(0.5)


def test_crop_and_interpolation_are_warned_about() -> None:
    with pytest.warns(UserWarning, match=r"model 1 and model 2 differ in crop: 1\.0 and 0\.9"):
        require_pairable([timm_vit(0, **HALF), timm_vit(1, crop_pct=0.9, **HALF)])
    with pytest.warns(UserWarning, match="differ in interpolation: bicubic and bilinear"):
        require_pairable([timm_vit(0, **HALF), timm_vit(1, interpolation="bilinear", **HALF)])
    with pytest.warns(UserWarning, match="differ in squash: False and True"):
        require_pairable([timm_vit(0, **HALF), timm_vit(1, crop_mode="squash", **HALF)])


def test_a_share_that_no_record_tells_is_the_one_that_timm_takes(tmp_path: Path) -> None:
    lmc.save(timm_vit(0, **HALF), tmp_path / "a")
    settings = json.loads((tmp_path / "a" / "config.json").read_text())
    settings["pretrained_cfg"]["crop_pct"] = None
    (tmp_path / "a" / "config.json").write_text(json.dumps(settings))
    model: Any = lmc.load(tmp_path / "a")
    found = preprocessing.of(model)
    assert found is not None
    assert found.crop == timm.data.resolve_model_data_config(model)["crop_pct"] == 0.875


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ({"do_normalize": True, "do_resize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3],
          "resample": 2, "size": 8}, ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3), 1.0, "bilinear")),
        ({"size": {"height": 8, "width": 8}}, ((0.5,) * 3, (0.5,) * 3, 1.0, "bilinear")),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": 127.5},
         ((0.5,) * 3, (0.5,) * 3, 1.0, "bilinear")),
        ({"rescale_factor": 1 / 127.5, "image_mean": 1, "image_std": 1}, ((0.5,) * 3, (0.5,) * 3, 1.0, "bilinear")),
        ({"do_center_crop": True, "size": 10, "crop_size": 8}, ((0.5,) * 3, (0.5,) * 3, 0.8, "bilinear")),
        ({"do_normalize": False, "resample": 3}, ((0.0,) * 3, (1.0,) * 3, 1.0, "bicubic")),
        ({"do_center_crop": True, "size": {"shortest_edge": 10}, "crop_size": {"height": 8, "width": 8}},
         ((0.5,) * 3, (0.5,) * 3, 0.8, "bilinear")),
    ],
)  # fmt: skip
def test_preprocessor_files_are_understood_and_carried_over(file: Any, expected: Any, tmp_path: Path) -> None:
    lmc.save(pico.hf_vit(dtype=torch.float32, num_channels=3), tmp_path / "a")
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(file))
    model = lmc.load(tmp_path / "a")
    mean, std, *others = expected
    found = preprocessing.of(model)
    assert found is not None
    assert found.mean == pytest.approx(mean) and found.std == pytest.approx(std)
    assert [found.crop, found.interpolation] == others
    lmc.save(lmc.canonicalize(model), tmp_path / "b")
    assert json.loads((tmp_path / "b" / "preprocessor_config.json").read_text()) == file


@pytest.mark.parametrize("both", [False, True])
def test_what_is_nested_in_a_processor_counts_first_as_in_the_library(
    both: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: Tensor
) -> None:
    """Transformers 5 writes a processor as one file; an older one may still lie beside it."""
    monkeypatch.chdir(tmp_path)
    means = {"a": [0.5] * 3, "b": [0.2] * 3}
    for k, (name, mean) in enumerate(means.items()):
        lmc.save(pico.hf_vit(k, torch.float32, num_channels=3), name)
        nested = {"image_processor_type": "ViTImageProcessor", "image_mean": mean, "image_std": [0.9] * 3}
        nested |= {"size": {"height": 8, "width": 8}}
        (Path(name) / "processor_config.json").write_text(json.dumps({"image_processor": nested}))
        if both:
            plain = nested | {"image_mean": [0.7] * 3}
            (Path(name) / "preprocessor_config.json").write_text(json.dumps(plain))
    assert main(["match", "a", "b", "--method", "naive", "--out", "aligned"]) == 0
    assert main(["merge", "aligned", "--at", "1", "--out", "merged"]) == 0
    stock = transformers.AutoImageProcessor.from_pretrained("merged")
    assert [*stock.image_mean] == means["a"] and [*stock.image_std] == [0.9] * 3
    first, second = ({"mean": tuple(mean), "std": (0.9,) * 3} for mean in means.values())
    expected = pico.logits(lmc.load("b").double(), normalised(pixels, second))
    found = pico.logits(lmc.load("merged").double(), normalised(pixels, first))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"image_std": 0}, "image_std: expected a positive number, found 0"),
        ({"image_mean": None}, "image_mean: expected a number, found None"),
        ({"image_processor_type": "BitImageProcessor"}, "image_mean: expected the numbers that BitImageProcessor has"),
        ({"image_mean": ["x"]}, "image_mean: expected a number, found 'x'"),
        ({"image_mean": {}}, "image_mean: expected a number, found {}"),
        ({"image_mean": [0.1, 0.2]}, "image_mean: expected 3 numbers, one a channel, found 2"),
        ({"resample": 2.0}, "resample: expected a number from 0 to 5, found 2.0"),
        ({"resample": 9}, "resample: expected a number from 0 to 5, found 9"),
        ({"resample": "bicubic"}, "resample: expected a number from 0 to 5, found 'bicubic'"),
        ({"rescale_factor": "x"}, "rescale_factor: expected a positive number, found 'x'"),
        ({"do_center_crop": True, "size": {"shortest_edge": 10}, "crop_size": {"height": 0}}, "crop_size: expected a"),
    ],
)
def test_a_wrong_preprocessor_file_is_refused_before_weights_load(file: Any, message: str, tmp_path: Path) -> None:
    lmc.save(pico.hf_vit(dtype=torch.float32, num_channels=3), tmp_path / "a")
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(file))
    with pytest.raises(LmcError, match=message) as caught:
        inspect(tmp_path / "a")
    assert "preprocessor_config.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ViTImageProcessor", {"size": {"height": 8, "width": 8}}),
        ("ViTImageProcessor", {"size": 8}),
        ("CLIPImageProcessor", {"size": 10, "do_center_crop": True, "crop_size": 8}),
        ("BitImageProcessor", {"size": {"shortest_edge": 10}, "do_center_crop": True, "crop_size": {"height": 8}}),
        ("DeiTImageProcessor", {"size": {"height": 10, "width": 10}, "do_center_crop": True, "crop_size": 8}),
        ("DeiTImageProcessor", {"size": 10, "do_center_crop": True, "crop_size": 8}),
        ("DeiTImageProcessor", {"size": 10, "crop_size": 8, "resample": None}),
        ("BitImageProcessor", {"size": {"shortest_edge": 13}, "crop_size": {"height": 8}, "resample": None}),
        ("BitImageProcessor", {"size": {"shortest_edge": 25}, "crop_size": {"height": 8}}),
        ("ViTImageProcessor", {"size": 8, "resample": None}),
        ("BitImageProcessor", {"size": 10, "default_to_square": True, "crop_size": {"height": 8}}),
        ("BitImageProcessor", {"size": 10, "default_to_square": None, "crop_size": {"height": 8}}),
        ("BitImageProcessor", {"default_to_square": True, "crop_size": {"height": 8}}),
        ("ViTImageProcessor", {"size": 10, "default_to_square": False, "do_center_crop": True, "crop_size": 8}),
    ],
    ids=["squashed", "squashed, the older form", "cut, the older form", "cut", "squashed and cut",
         "DeiT, the older form", "DeiT unsaid", "Bit unsaid", "odd margins", "ViT unsaid",
         "Bit, squashed", "Bit, not said how", "Bit, of its own size", "ViT, cut"],
)  # fmt: skip
def test_pictures_that_are_not_square_become_what_the_stock_processor_makes(
    name: str, file: dict[str, Any], tmp_path: Path
) -> None:
    import transformers

    pixels, pictures = torch.Generator().manual_seed(0), []
    for k, size in enumerate([(40, 20), (20, 33), (8, 8), (8, 16), (30, 30)] * 2):
        small = torch.randint(256, (4, 6, 3), dtype=torch.uint8, generator=pixels).numpy()
        pictures.append(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
        (tmp_path / f"pictures/eval/class{k}").mkdir(parents=True)
        pictures[-1].save(tmp_path / f"pictures/eval/class{k}/0.png")
    lmc.save(hf_vit(0, torch.float32, **HALF), tmp_path / "a")
    crop = {"crop_size": {"height": 8, "width": 8}} if "crop_size" in file else {}
    given = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3, **file, **crop}
    given = {key: value for key, value in given.items() if value is not None} | {"image_processor_type": name}
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(given))
    found, _ = corpora.load(str(tmp_path / "pictures"), lmc.load(tmp_path / "a"), "eval")
    stock = getattr(transformers, name)(**given)(pictures, return_tensors="pt")["pixel_values"]
    assert (found - stock).abs().max() <= 2 * 2 / 255 + 1e-6  # two steps of a byte: another library resizes


def test_pictures_that_nothing_cuts_out_have_to_be_square(tmp_path: Path) -> None:
    lmc.save(hf_vit(0, torch.float32, **HALF), tmp_path / "a")
    given = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 8}, "do_center_crop": False}
    given |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(given))
    model = lmc.load(tmp_path / "a")
    for k in range(10):
        (tmp_path / f"pictures/{k}").mkdir(parents=True)
        for name in range(2):
            Image.new("RGB", (8, 8)).save(tmp_path / f"pictures/{k}/{name}.png")
    assert len(corpora.load(str(tmp_path / "pictures"), model, "match")[1]) == 18
    for k in range(10):
        Image.new("RGB", (9, 8)).save(tmp_path / f"pictures/{k}/0.png")
    with pytest.raises(DataError, match="expected square pictures, as do_center_crop is off, found one of 9 × 8; cut"):
        corpora.load(str(tmp_path / "pictures"), model, "match")
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(given | {"do_pad": True, "pad_size": 9}))
    with pytest.raises(DataError, match="do_pad: expected False, found 'True'"):
        preprocessing.require(lmc.load(tmp_path / "a"))


def test_a_processor_that_says_no_size_has_its_own(tmp_path: Path) -> None:
    """Of those of DINOv2 and CLIP it is 224, also where nothing is cut out; ViT's make what the model reads."""
    lmc.save(hf_vit(0, torch.float32, **HALF), tmp_path / "a")
    given = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_center_crop": False}
    for name, size in (("BitImageProcessor", 224), ("CLIPImageProcessor", 224), ("ViTImageProcessor", None)):
        file = json.dumps(given | {"image_processor_type": name})
        (tmp_path / "a" / "preprocessor_config.json").write_text(file)
        found = preprocessing.of(lmc.load(tmp_path / "a"))
        assert found is not None and found.size == size


@pytest.mark.parametrize("channels", [3, 2])
def test_timm_still_makes_other_channels_of_three(channels: int, tmp_path: Path) -> None:
    """Of three channels alone it can; of others it would leave the weights out."""
    import timm

    model = pico.vit(0, torch.float32, in_chans=channels)
    lmc.save(model, tmp_path / "model")
    again = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True)
    assert torch.equal(again.patch_embed.proj.weight, model.patch_embed.proj.weight)
    if channels == 3:
        grey = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True, in_chans=1)
        summed = model.patch_embed.proj.weight.sum(1, keepdim=True)
        assert torch.allclose(grey.patch_embed.proj.weight, summed, atol=1e-6)


def test_a_licence_in_timm_s_record_is_passed_on(tmp_path: Path) -> None:
    for k, name in enumerate("abc"):
        lmc.save(timm_vit(k, **HALF), tmp_path / name)
        settings = json.loads((tmp_path / name / "config.json").read_text())
        settings["pretrained_cfg"]["license"] = "mit" if name == "c" else "cc-by-nc-4.0"
        (tmp_path / name / "config.json").write_text(json.dumps(settings))
    models = [lmc.load(tmp_path / name) for name in "abc"]
    lmc.match(*models[:2], method="naive").export(tmp_path / "alike", at=0.5)
    assert "license: cc-by-nc-4.0" in (tmp_path / "alike/README.md").read_text()
    (card,) = lmc.match(*models[1:], method="naive").export(tmp_path / "not", at=0.5)
    assert "licence: parent 0: cc-by-nc-4.0; parent 1: mit; look which" in card


def test_a_licence_among_the_settings_of_an_older_timm_model_is_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "vit_tiny_patch16_224", "license": "mit"}')
    assert licence.of(hub.locate(str(tmp_path))).licence == "mit"
    (tmp_path / "config.json").write_text('{"model_type": "llama", "license": "mit"}')
    assert licence.of(hub.locate(str(tmp_path))).licence is None


@pytest.mark.parametrize(("name", "told"), [("crop_mode", "border"), ("interpolation", "random")])
def test_pictures_that_timm_would_prepare_in_a_way_not_known_here_are_refused(name: str, told: str) -> None:
    with pytest.raises(DataError, match=f"{name}: expected .*, found '{told}'"):
        preprocessing.require(timm_vit(0, **HALF, **{name: told}))
    assert preprocessing.require(timm_vit(0, **HALF)).mean == HALF["mean"]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (
            {"image_processor_type": "LevitImageProcessorFast"},
            "kind of processor: expected ViT, DeiT, Bit, CLIP, found",
        ),
        ({"do_resize": False}, "do_resize: expected True, found 'False'"),
        ({"do_resize": None}, "do_resize: expected True, found 'False'"),
        ({"size": {"shortest_edge": 10, "longest_edge": 16}}, "size: expected no longest_edge, found one"),
        ({"size": {"height": 8, "width": 10}}, "size: expected one height and width, found 8 and 10"),
        ({"crop_size": {"height": 8, "width": 6}}, "crop_size: expected one height and width, found 8 and 6"),
    ],
)
def test_pictures_that_transformers_would_prepare_in_a_way_not_known_here_are_refused(file: Any, message: str) -> None:
    model = hf_vit(0, **HALF)
    model.preprocessor_config |= file
    with pytest.raises(DataError, match=message):
        preprocessing.require(model)


def test_a_file_without_kind_or_mean_has_those_of_the_models_class() -> None:
    """Of a DINOv2 that is not ViT's half, but numbers that are not known here."""
    model = dinov2(0, 8)
    for name in ("image_processor_type", "image_mean", "image_std"):
        del model.preprocessor_config[name]
    with pytest.raises(DataError, match="image_mean: expected the numbers that BitImageProcessor has, found none"):
        preprocessing.require(model)


def test_pictures_of_another_size_than_the_model_reads_are_warned_of() -> None:
    model = hf_vit(0, **HALF)
    model.preprocessor_config |= {"size": {"shortest_edge": 8}, "do_center_crop": True, "crop_size": 6}
    with pytest.warns(UserWarning, match="makes pictures of 6, the model's settings say 8"):
        preprocessing.require(model)


def dinov2(seed: int, size: int, **config: Any) -> Any:
    """As published: the table of positions is for larger pictures than its processor makes."""
    model = pico.dinov2(seed, torch.float32, image_size=20, num_channels=3, **config)
    model.preprocessor_config = {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": size + 2},
        "crop_size": {"height": size, "width": size},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    return model


def test_a_dinov2_reads_pictures_of_the_size_that_its_processor_makes(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    import transformers

    pictures = []
    for k in range(10):
        small = torch.randint(256, (4, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(k)).numpy()
        pictures.append(Image.fromarray(small).resize((14, 14), Image.Resampling.BICUBIC))
        (tmp_path / f"pictures/eval/class{k}").mkdir(parents=True)
        pictures[-1].save(tmp_path / f"pictures/eval/class{k}/0.png")
    a, b = dinov2(0, 12), dinov2(1, 12)
    data = corpora.load(str(tmp_path / "pictures"), a, "eval")
    stock = transformers.BitImageProcessor(**a.preprocessor_config)(pictures, return_tensors="pt")["pixel_values"]
    assert data[0].shape[1:] == (3, 12, 12)
    assert (data[0] - stock).abs().max() <= 2 * 2 / 255 + 1e-6  # two steps of a byte: another library resizes
    with torch.no_grad():
        expected = [float(torch.nn.functional.cross_entropy(m(data[0]).logits, data[1])) for m in (a, b)]
    path = lmc.path(lmc.match([a, b], method="canonical"), data, grid=3)
    assert [path.losses[0], path.losses[-1]] == pytest.approx(expected, rel=1e-4)
    assert not [w for w in recwarn if "pictures" in str(w.message)]
    with pytest.warns(UserWarning, match="differ in size: 12 and 16"):
        require_pairable([a, dinov2(1, 16)])


@pytest.mark.parametrize(
    ("size", "fits"), [((3, 12, 12), True), ((3, 20, 9), True), ((3, 3, 12), False), ((1, 12, 12), False)]
)
def test_pictures_that_a_dinov2_can_read(size: tuple[int, ...], fits: bool) -> None:
    pictures = (torch.zeros(2, *size), torch.zeros(2, dtype=torch.int64))
    if fits:
        assert lmc.evaluation.as_data(pictures, dinov2(0, 12)).inputs.shape[1:] == size
    else:
        with pytest.raises(DataError, match=r"expected images \[3, 20, 20\] or of other sides, at least 4, found"):
            lmc.evaluation.as_data(pictures, dinov2(0, 12))


def test_one_model_that_does_not_say_is_warned_of() -> None:
    a, b = pico.hf_vit(0), pico.hf_vit(1)
    a.preprocessor_config = {"image_mean": 0.5, "image_std": 0.5}
    with pytest.warns(UserWarning, match="differ in input normalisation: mean .* and unknown"):
        require_pairable([a, b])


def test_a_folder_of_pictures_for_a_vit_of_transformers(tmp_path: Path) -> None:
    for k in range(10):
        folder = tmp_path / "pictures" / f"class{k}"
        folder.mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (8, 8), (25 * k, 10 * i, 100)).save(folder / f"{i}.png")
    lmc.save(hf_vit(0, torch.float32, **IMAGENET), tmp_path / "a")
    images, labels = corpora.load(str(tmp_path / "pictures"), lmc.load(tmp_path / "a"), "eval")
    assert images.shape[1:] == (3, 8, 8)
    blue = (100 / 255 - IMAGENET["mean"][2]) / IMAGENET["std"][2]
    torch.testing.assert_close(images[:, 2], torch.full_like(images[:, 2], blue))
    assert len(images) == len(labels)
    with pytest.raises(DataError, match=r"mean and std of its input \(preprocessor_config\.json\), found none"):
        corpora.load(str(tmp_path / "pictures"), pico.hf_vit(0, num_channels=3), "eval")
