"""Two ways to write one vision transformer: a timm model rewritten in the form of another, the same function.

>>> b = alike(other_vit, like=vit)             # where they differ only in what can be rewritten exactly

Recipes differ in where they keep two things. The class token (and registers) may have rows in the position embedding,
or not (`no_embed_class`): the model adds the two, so the row can go into the token, and a token without a row gets one
of zeros. And LayerScale multiplies what a sublayer writes: a model without it has a gain of one, and in a model with it
the gain can go into the output projection. Nothing else is touched; `lmc.matching.pairing` names what still differs.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lmc.errors import IncompatibleModelsError
from lmc.symmetries.families.heads import TIMM_NAMES, timm_record
from lmc.symmetries.families.vit import settings
from lmc.symmetries.stock_model import state

PREPROCESSING = ("mean", "std", "crop_pct", "interpolation", "crop_mode")


def alike(model: Any, like: Any) -> nn.Module:
    """A new stock model with the function of `model` and the tensors of `like`; `model` itself where they agree.

    >>> other_vit.no_embed_class == vit.no_embed_class
    False
    >>> alike(other_vit, like=vit).no_embed_class == vit.no_embed_class
    True

    Positions are exact to the bit, and so is a LayerScale of ones; a LayerScale that is absorbed is rounded once. The
    new model keeps the preprocessing it was trained with, and the names of its classes. Raises IncompatibleModelsError
    where the two differ in any other tensor or setting.
    """
    tensors, wanted = dict(state(model)), {name: tuple(t.shape) for name, t in state(like).items()}
    if type(model) is not type(like) or {name: tuple(t.shape) for name, t in tensors.items()} == wanted:
        return model
    if model.no_embed_class != like.no_embed_class:
        _move_positions(tensors, model, into_tokens=like.no_embed_class)
    _rescale(tensors, layer_scale="blocks.0.ls1.gamma" in wanted)
    for name in sorted(wanted.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != wanted.get(name):
            raise IncompatibleModelsError(
                f"{name}: expected shape {_shown(wanted.get(name))}, found {_shown(found)}: "
                "the models differ in more than class-token position and LayerScale; only models that agree in it can "
                "be averaged"
            )
    mine, theirs = settings(model), settings(like)
    for name in sorted(mine.keys() - {"no_embed_class"}):
        if mine[name] != theirs[name]:
            what = f"{name}: expected {theirs[name]}, found {mine[name]}"
            raise IncompatibleModelsError(f"{what}; only models that agree in it can be averaged")
    new = copy.deepcopy(like)
    own = timm_record(model)
    plain = {name: value for name, value in timm_record(like).items() if name not in TIMM_NAMES}
    new.pretrained_cfg = plain | {name: own.get(name) for name in PREPROCESSING}
    new.pretrained_cfg |= {name: own[name] for name in TIMM_NAMES if name in own}
    new.load_state_dict(tensors, assign=True)
    return new.requires_grad_(False).eval()


def _move_positions(tensors: dict[str, Tensor], model: Any, into_tokens: bool) -> None:
    """Between rows of the position embedding and the tokens they are added to, first class token, then registers."""
    positions = tensors["pos_embed"]  # (1, prefix + patches, d), or (1, patches, d)
    prefix = model.num_prefix_tokens
    if not into_tokens:
        empty = positions.new_zeros(1, prefix, positions.shape[-1])
        tensors["pos_embed"] = torch.cat([empty, positions], 1)
        return
    at = 0
    for name in ("cls_token", "reg_token"):
        if name in tensors:
            count = tensors[name].shape[1]
            tensors[name] = tensors[name] + positions[:, at : at + count]
            at += count
    tensors["pos_embed"] = positions[:, prefix:].clone()


def _rescale(tensors: dict[str, Tensor], layer_scale: bool) -> None:
    """Give every block gains of one, or absorb the gains it has, in float64."""
    blocks = sorted({".".join(name.split(".")[:2]) for name in tensors if name.startswith("blocks.")})
    for block in blocks:
        for gain, projection in (("ls1.gamma", "attn.proj"), ("ls2.gamma", "mlp.fc2")):
            gain, weight, bias = f"{block}.{gain}", f"{block}.{projection}.weight", f"{block}.{projection}.bias"
            if layer_scale and gain not in tensors:
                tensors[gain] = torch.ones_like(tensors[weight][:, 0])
            elif not layer_scale and gain in tensors:
                gamma = tensors.pop(gain).double()
                tensors[weight] = (gamma[:, None] * tensors[weight].double()).to(tensors[weight].dtype)
                if bias in tensors:
                    tensors[bias] = (gamma * tensors[bias].double()).to(tensors[bias].dtype)


def _shown(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else str(list(shape))
