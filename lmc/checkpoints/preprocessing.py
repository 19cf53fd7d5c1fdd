"""How pictures become a vision model's input, and how one model is made to take another's.

>>> read = of(vit)
>>> read.mean, read.std, read.crop, read.interpolation
((0.5,), (0.5,), 0.9, 'bicubic')

A timm model carries it as `pretrained_cfg`; for a model of transformers it stands beside the weights, in the file
`preprocessor_config.json` (or nested in `processor_config.json`, which comes first), whose content the loader keeps
with the model as `preprocessor_config`.
"""

import copy
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lmc.checkpoints.belongings import PREPROCESSOR
from lmc.errors import DataError, IncompatibleModelsError
from lmc.symmetries import rebuild, state
from lmc.symmetries.families import Images, family_of, timm_record
from lmc.symmetries.families import spec as spec_of

_BYTE = 1 / 255  # what a pixel's byte is multiplied with
_RIGHT = "; write what the model was trained with"
# Names of stock processors are a kind and one of these words.
_NAMED = re.compile("(ImageProcessor|FeatureExtractor)(Fast|Pil)?$")
_RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # the numbers that files give them


@dataclass(frozen=True)
class Preprocessing:
    """Pixel values in [0, 1] become (value − `mean`) / `std`, one number for each channel.

    Before that the shorter side is resized to the model's size over `crop`, and the centre cut out; with `squash` both
    sides are resized to it, whatever becomes of the proportions. `stock`: the library whose rounding of sizes and
    margins that is. `size`: what the record says that pictures end as, where it says so; see `size`. `uncut`: nothing
    is cut out, and yet proportions stay, so that only square pictures become square.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float
    interpolation: str
    squash: bool = False
    stock: str = field(default="timm", repr=False)  # no part of what an alignment is bound to
    size: int | None = field(default=None, repr=False)
    uncut: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class _Kind:
    """What a processor of transformers does where its file does not say: its class's own settings.

    `square`: a size that is one number means both sides, not the shorter one. `cut`: the centre is cut out.
    """

    square: bool
    cut: bool
    resample: int
    size: int


_KINDS = {  # of the models that are covered, as published
    "ViT": _Kind(True, False, 2, 224),
    "DeiT": _Kind(True, True, 3, 256),
    "Bit": _Kind(False, True, 3, 224),
    "CLIP": _Kind(False, True, 3, 224),
}
_TIMM = ("mean", "std", "crop_pct", "crop_mode", "interpolation")  # what timm's record says of pictures
_CUT = 224  # what those cut out that cut
_TIMM_CROP = 0.875  # what timm takes where its record says nothing
_OF_MODELS = {"deit": "DeiT", "dinov2": "Bit", "dinov2_with_registers": "Bit", "clip_vision_model": "CLIP"}


def of(model: Any) -> Preprocessing | None:
    """What the model was trained with; None for one that reads no pictures, or does not know."""
    read = family_of(model).inputs(model)
    if not isinstance(read, Images):
        return None
    channels = read.shape[0]
    timm, other = timm_record(model), getattr(model, "preprocessor_config", None)
    if timm.get("mean") is not None and timm.get("std") is not None:
        return Preprocessing(
            _channels("mean", timm["mean"], channels),
            _channels("std", timm["std"], channels),
            _number("crop_pct", timm.get("crop_pct") or _TIMM_CROP),
            str(timm.get("interpolation") or "bicubic"),
            timm.get("crop_mode") == "squash",
        )
    if other is None:
        return None
    scale = _number("rescale_factor", other.get("rescale_factor", _BYTE)) if other.get("do_rescale", True) else 1.0
    mean, std = (0.0,) * channels, (1.0,) * channels
    if other.get("do_normalize", True):
        _require_told(_kind(model, other), other)
        mean = _channels("image_mean", other.get("image_mean", 0.5), channels)
        std = _channels("image_std", other.get("image_std", 0.5), channels)
    if scale != _BYTE:  # (255 · scale · p − m) / s, where p is the pixel in [0, 1]
        mean, std = (tuple(v * _BYTE / scale for v in values) for values in (mean, std))
    kind = _KINDS.get(_kind(model, other), _KINDS["ViT"])  # of others only mean and std are known, see `require`
    resample = other.get("resample", kind.resample)
    if not isinstance(resample, int) or resample not in range(len(_RESAMPLE)):
        raise DataError(f"resample: expected a number from 0 to {len(_RESAMPLE) - 1}, found {resample!r}{_RIGHT}")
    size, crop = _size(other, kind), _cut(other, kind)
    share = 1.0 if crop is None or size is None else crop / size
    squash = not _keeps_proportions(other, kind)
    uncut = crop is None and not squash
    return Preprocessing(mean, std, share, _RESAMPLE[resample], squash, "transformers", crop or size, uncut)


def _kind(model: Any, config: dict[str, Any]) -> str:
    """The kind of processor that a file names, or else that the library has for such a model."""
    named = config.get("image_processor_type") or config.get("feature_extractor_type")
    return _NAMED.sub("", str(named)) if named else _OF_MODELS.get(model.config.model_type, "ViT")


def _require_told(kind: str, config: dict[str, Any]) -> None:
    """Refuse a file that leaves mean or std to its class, but for ViT's, of which both are 0.5."""
    if lacking := [name for name in ("image_mean", "image_std") if config.get(name) is None and kind[:3] != "ViT"]:
        raise DataError(f"{lacking[0]}: expected the numbers that {kind[:40]}ImageProcessor has, found none{_RIGHT}")


def require(model: nn.Module) -> Preprocessing:
    """The same, or a DataError that says what is missing, or not known here. Warns where pictures get another size."""
    found, timm = of(model), timm_record(model)
    if found is None:
        raise DataError(
            f"{type(model).__name__}: expected the mean and std of its input ({PREPROCESSOR}), found none{_RIGHT}"
        )
    told = {name: timm.get(name) for name in ("crop_mode", "interpolation")}
    known: dict[str, tuple[Any, ...]] = {"crop_mode": ("center", "squash"), "interpolation": _RESAMPLE}
    if found.stock == "transformers":
        other: dict[str, Any] = getattr(model, "preprocessor_config", {})
        told = {"kind of processor": _kind(model, other), "do_resize": bool(other.get("do_resize", True))}
        told["do_pad"] = bool(other.get("do_pad"))
        known = {"kind of processor": tuple(_KINDS), "do_resize": (True,), "do_pad": (False,)}
        for name in ("size", "crop_size"):
            _require_square(name, other.get(name))
    for name, expected in known.items():
        if (value := expected[0] if told[name] is None else told[name]) not in expected:
            what = f"{name}: expected {', '.join(map(str, expected))}, found {str(value)[:40]!r}"
            raise DataError(f"{what}; give pictures as tensors (lmc.path)")
    if found.size not in (None, made := size(model)):
        what = f"{PREPROCESSOR} makes pictures of {found.size}, the model's settings say {made}"
        warnings.warn(f"{what}: they are made of {made}", stacklevel=1)
    return found


def _require_square(name: str, told: Any) -> None:
    """Refuse a size whose sides differ, or with an upper limit: pictures are made square here."""
    if isinstance(told, dict) and told.get("longest_edge") is not None:
        raise DataError(f"{name}: expected no longest_edge, found one; give pictures as tensors (lmc.path)")
    sides = [told[side] for side in ("height", "width") if told.get(side)] if isinstance(told, dict) else []
    if len(set(sides)) > 1:
        what = f"{name}: expected one height and width, found {sides[0]} and {sides[1]}"
        raise DataError(f"{what}; give pictures as tensors (lmc.path)")


def size(model: Any) -> int:
    """The height and width that pictures are made of: what the model's settings say, or its record if it reads both.

    >>> size(vit) == vit.patch_embed.img_size[0]
    True

    A published DINOv2 has a table of positions for 518, and a processor that makes pictures of 224: it is 224.
    """
    read: Any = family_of(model).inputs(model)
    side, found = int(read.shape[-1]), of(model)
    told = found.size if found is not None and found.size else side
    return told if read.fits((read.shape[0], told, told)) else side


def common(models: Sequence[nn.Module]) -> tuple[nn.Module, ...]:
    """The models with the first one's input normalisation, each the same function of a picture as before.

    >>> first, second = common([vit, other_vit])

    (p − m) / s is affine in the other normalisation, and so is the patch embedding in its input: the change goes into
    its weight and bias, exactly (float64, cast back). Models that agree, and those that do not know, are returned as
    they are. The patches tile the picture without padding, so the bias is the same for all.
    """
    wanted = of(models[0])
    return tuple(m if wanted is None else _renormalised(m, wanted) for m in models)


def of_its_base(tuned: nn.Module, base: nn.Module) -> nn.Module:
    """A fine-tune that reads pictures as its base does, where only one of the two says how: the record of the base.

    >>> of_its_base(vit, vit) is vit
    True

    What fine-tuning changed is then the difference of the weights as they are.
    """
    own, wanted = of(tuned), of(base)
    if (own is None) == (wanted is None):
        return tuned
    which, stands = ("", "its base's") if own is None else (" of its base", "its own")
    warnings.warn(
        f"tuned: the input normalisation{which} is not known ({PREPROCESSOR}); it is taken to be {stands}", stacklevel=1
    )
    new: Any = rebuild(tuned, spec_of(tuned), state(tuned))
    if timm := timm_record(base):
        new.pretrained_cfg = timm_record(new) | {name: timm.get(name) for name in _TIMM}
    else:
        new.preprocessor_config = copy.deepcopy(getattr(base, "preprocessor_config", None))
    return new


def require_common(model: nn.Module, like: nn.Module) -> None:
    """Raise IncompatibleModelsError for a model that cannot take the input normalisation of another one.

    >>> require_common(other_vit, vit)

    Both may lie on the meta device.
    """
    own, wanted = of(model), of(like)
    if own is not None and wanted is not None and (own.mean, own.std) != (wanted.mean, wanted.std):
        _patches(model)


def differences(a: nn.Module, b: nn.Module) -> list[str]:
    """Where two models differ in a way that matching cannot undo: the part of a picture they see, how it is resized."""
    one, other = of(a), of(b)
    if one is None and other is None:
        return []
    if one is None or other is None:
        known = ["unknown" if p is None else f"mean {p.mean}, std {p.std}" for p in (one, other)]
        return [f"input normalisation: {' and '.join(known)}"]
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in ("crop", "interpolation", "squash")]
    pairs.append(("size", size(a), size(b)))
    return [f"{name}: {first} and {second}" for name, first, second in pairs if first != second]


def _renormalised(model: Any, wanted: Preprocessing) -> nn.Module:
    own = of(model)
    if own is None or (own.mean, own.std) == (wanted.mean, wanted.std):
        return model
    spec, tensors, (weight, bias) = spec_of(model), state(model), _patches(model)
    (m, s), (to_m, to_s) = (
        (torch.tensor(p, dtype=torch.float64, device=tensors[weight].device) for p in (q.mean, q.std))
        for q in (own, wanted)
    )
    kernel = tensors[weight].double()  # (d, channel, row, column)
    shift = torch.einsum("dcij,c->d", kernel, (to_m - m) / s)
    moved: dict[str, Tensor] = {
        weight: kernel * (to_s / s)[:, None, None],
        bias: tensors[bias].double() + shift,
    }
    new: Any = rebuild(model, spec, tensors | {name: t.to(tensors[name].dtype) for name, t in moved.items()})
    _tell(new, wanted)
    return new


def _patches(model: Any) -> tuple[str, str]:
    """The weight and the bias that read pictures. Raises IncompatibleModelsError for a model without that bias."""
    rules = spec_of(model).rules
    (weight,) = (name for name, rule in rules.items() if "channel" in rule.split())
    bias = weight.removesuffix("weight") + "bias"
    if bias not in rules:
        raise IncompatibleModelsError(
            f"{bias}: expected one to take another input normalisation, found none; only models that "
            "normalise pictures alike can be averaged without it"
        )
    return weight, bias


def _tell(model: Any, wanted: Preprocessing) -> None:
    """Write the normalisation into the record that the model carries (its own copy)."""
    if timm := timm_record(model):
        model.pretrained_cfg = timm | {"mean": wanted.mean, "std": wanted.std}
    else:
        new = {"do_rescale": True, "rescale_factor": _BYTE, "do_normalize": True}
        model.preprocessor_config.update(new, image_mean=list(wanted.mean), image_std=list(wanted.std))


def _channels(name: str, value: Any, channels: int) -> tuple[float, ...]:
    """One number for each channel; a std must be positive."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    values = tuple(_number(name, v, positive="std" in name) for v in values)
    if len(values) == channels:
        return values
    if len(set(values)) == 1:
        return values[:1] * channels
    raise DataError(f"{name}: expected {channels} numbers, one a channel, found {len(values)}{_RIGHT}")


def _number(name: str, value: Any, positive: bool = True) -> float:
    real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not real or (positive and value <= 0):
        raise DataError(f"{name}: expected a {'positive ' if positive else ''}number, found {value!r}{_RIGHT}")
    return float(value)


def _length(name: str, value: Any) -> int:
    """One side in pixels, of a size in either of its forms: a number, or a table of sides."""
    sides = value if isinstance(value, dict) else {"height": value}
    return int(_number(name, next((sides[k] for k in ("shortest_edge", "height") if sides.get(k) is not None), None)))


def _size(config: dict[str, Any], kind: _Kind) -> int | None:
    """What pictures are resized to. Without a word of it, ViT's are as large as the model reads them."""
    if config.get("size") is None:
        return kind.size if _cuts(config, kind) or not kind.square else None
    return _length("size", config["size"])


def _cut(config: dict[str, Any], kind: _Kind) -> int | None:
    """What is cut out of the middle, if anything is."""
    if not _cuts(config, kind):
        return None
    return _CUT if config.get("crop_size") is None else _length("crop_size", config["crop_size"])


def _cuts(config: dict[str, Any], kind: _Kind) -> bool:
    return bool(config.get("do_center_crop", kind.cut))


def _keeps_proportions(config: dict[str, Any], kind: _Kind) -> bool:
    size = config.get("size")
    if size is None:  # that of the kind, a table
        return not kind.square
    return "shortest_edge" in size if isinstance(size, dict) else not config.get("default_to_square", kind.square)
