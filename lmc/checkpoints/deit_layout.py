"""DeiT checkpoints of the training code's own layout (a state dict beside an empty config.json), as timm's models.

>>> dict(stock_tensors({"blocks.0.gamma_1": torch.ones(1)}))
{'blocks.0.ls1.gamma': tensor([1.])}

They are plain vision transformers with LayerScale whose class token has no position, which timm knows as `deit3_*`
(https://github.com/facebookresearch/deit, models_v2). Everything but two facts can be read off the shapes: the number
of heads goes with the width, and how pictures are prepared is not recorded: the timm architecture's way is taken.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lmc.errors import UnsupportedModelError
from lmc.symmetries import timm

# Width: the timm architecture, without its pictures' size, and its heads.
_SIZES = {
    384: ("deit3_small_patch16", 6),
    512: ("deit3_medium_patch16", 8),
    768: ("deit3_base_patch16", 12),
    1024: ("deit3_large_patch16", 16),
    1280: ("deit3_huge_patch14", 16),
}
# What such a state dict must have, and in how many dimensions.
_MARKS = {
    "cls_token": 3,
    "pos_embed": 3,
    "patch_embed.proj.weight": 4,
    "blocks.0.gamma_1": 1,
    "blocks.0.mlp.fc1.weight": 2,
    "head.weight": 2,
}


_OTHER = "; save another model from the library that made it"


def stock_arguments(tensors: Mapping[str, Tensor], file: Path) -> tuple[str, dict[str, Any]]:
    """The timm architecture that computes the same, and its arguments. Raises UnsupportedModelError naming a tensor."""
    for name, dimensions in _MARKS.items():
        if name not in tensors:
            raise UnsupportedModelError(
                f"{file}: expected a DeiT state dict, as config.json is empty, found no {name}; put config.json there"
            )
        shape = list(tensors[name].shape)
        if len(shape) != dimensions or min(shape) < 1:
            raise UnsupportedModelError(
                f"{file}: {name}: expected {dimensions} dimensions, found shape {shape}{_OTHER}"
            )
    width = tensors["cls_token"].shape[-1]
    if width not in _SIZES:
        known = ", ".join(map(str, _SIZES))
        raise UnsupportedModelError(f"{file}: cls_token: expected one of the widths {known}, found {width}{_OTHER}")
    positions, projection = tensors["pos_embed"].shape[1], tensors["patch_embed.proj.weight"]
    side, patch = math.isqrt(positions), projection.shape[-1]
    if side**2 != positions:
        raise UnsupportedModelError(
            f"{file}: pos_embed: expected a square of patches, found {positions} positions{_OTHER}"
        )
    stem, heads = _SIZES[width]
    # Those for larger pictures are not cut, so they have names of their own.
    architecture = f"{stem}_{side * patch}" if timm().is_model(f"{stem}_{side * patch}") else f"{stem}_224"
    return architecture, {
        "img_size": side * patch,
        "patch_size": patch,
        "in_chans": projection.shape[1],
        "num_classes": len(tensors["head.weight"]),
        "embed_dim": width,
        "depth": len({m[1] for m in map(re.compile(r"blocks\.(\d+)\.").match, tensors) if m}),
        "num_heads": heads,
        "mlp_ratio": len(tensors["blocks.0.mlp.fc1.weight"]) / width,
    }


def stock_tensors(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The tensors by timm's names: LayerScale's gains are modules there."""
    for name, tensor in tensors.items():
        yield re.sub(r"\.gamma_([12])$", r".ls\1.gamma", name), tensor
