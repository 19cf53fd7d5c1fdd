"""The timm side of reading and writing checkpoints: the hub layout, with the arguments that rebuild a model."""

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmc.checkpoints import writer
from lmc.checkpoints.headers import SAFE, Where
from lmc.errors import CheckpointError
from lmc.files import safetensors_of
from lmc.symmetries import timm, timm_architecture, timm_arguments, timm_model
from lmc.symmetries.families import TIMM_NAMES, timm_record

_PREPROCESSING = ("mean", "std", "interpolation", "crop_pct", "crop_mode", "test_input_size", "test_crop_pct")


def empty(folder: Path, config: Mapping[str, Any]) -> nn.Module:
    """The stock model of a folder in hub layout, on the meta device."""
    model: Any = timm_model(f"local-dir:{folder}")
    if config.get("num_classes", model.num_classes) != model.num_classes:
        # timm's loader would give such a model a new head
        found = config["num_classes"]
        raise CheckpointError(
            f"{folder / 'config.json'}: num_classes: expected {model.num_classes}, found {found}; write it so"
        )
    if offset := (config.get("pretrained_cfg") or {}).get("label_offset"):
        raise CheckpointError(
            f"{folder / 'config.json'}: label_offset: expected none, found {offset}; save the model without"
        )
    return model


def names(model: nn.Module, found: Iterable[str]) -> dict[str, str | None]:
    """Hub checkpoints hold timm's own names; nothing is renamed and nothing ignored."""
    return {name: name for name in found}


def fused(model: nn.Module) -> dict[str, dict[str, Where]]:
    """No tensor of a timm model is stored in pieces."""
    return {}


def twins(model: nn.Module) -> dict[str, str]:
    """No tensors of a timm model share memory."""
    return {}


def read(folder: Path, empty: nn.Module, dtype: torch.dtype, tensors: dict[str, Tensor] | None = None) -> nn.Module:
    """A copy of the empty model with its weights moved in: from the folder's safetensors, or from `tensors`."""
    found = safetensors_of(folder / SAFE) if tensors is None else tensors.items()
    model = copy.deepcopy(empty)
    model.load_state_dict({name: t.to(dtype) for name, t in found}, assign=True, strict=True)
    return model


def alone(folder: Path, empty: nn.Module) -> nn.Module:
    """The model as timm reads a folder, with nothing of this package in between."""
    return timm().create_model(f"local-dir:{folder}", pretrained=True).eval()  # type: ignore[no-any-return]


def write(model: Any, folder: Path, plan: Mapping[str, Tensor], tensors: Iterable[tuple[str, Tensor]]) -> None:
    """config.json and model.safetensors.

    Only the model's settings and shapes are looked at; its weights may be on the meta device.
    """
    arguments = timm_arguments(model)
    origin = timm_record(model)
    described = {
        "architecture": timm_architecture(model),
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "global_pool": model.global_pool,
        "model_args": arguments,
        "pretrained_cfg": {
            **{key: origin[key] for key in _PREPROCESSING if origin.get(key) is not None},
            "input_size": [arguments["in_chans"], *arguments["img_size"]],
            "fixed_input_size": True,
            "num_classes": model.num_classes,
            # timm adapts these two to other inputs and classes while it loads: of three channels alone it makes others.
            "first_conv": origin.get("first_conv", "patch_embed.proj") if arguments["in_chans"] == 3 else None,
            "classifier": origin.get("classifier", "head"),
        },
    }
    described |= {name: origin[name] for name in TIMM_NAMES if origin.get(name) is not None}
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n")
    writer.write(folder, plan, tensors)  # one file: timm reads no shards
