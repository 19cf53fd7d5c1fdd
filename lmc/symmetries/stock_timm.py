"""A timm model built anew from what another one is: the arguments of its constructor, read off the model itself.

>>> timm_arguments(vit)["depth"] == len(vit.blocks)
True
"""

from typing import Any

from torch import nn

from lmc.symmetries.families.heads import timm_record
from lmc.symmetries.stock_libraries import timm
from lmc.symmetries.stock_model import without_weights

# What a model built by hand, without a name of its own, is saved as: the arguments say everything else.
PLAIN = "vit_base_patch16_224"
_ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "hard_swish", "mish", "leaky_relu", "elu", "selu")


def timm_model(name: str, **given: Any) -> nn.Module:
    """A stock model on the meta device, in evaluation mode.

    >>> len(timm_model("vit_tiny_patch16_224", depth=2).blocks)
    2
    """
    create = timm().create_model  # imported before the device is chosen: torch 2.6 computes while it is imported
    with without_weights():
        return create(name, pretrained=False, **given).eval()  # type: ignore[no-any-return]


def timm_architecture(model: Any) -> str:
    """The name by which timm builds models like this.

    >>> timm_architecture(vit)
    'vit_tiny_patch16_224'
    """
    return str(timm_record(model).get("architecture") or PLAIN)


def timm_arguments(model: Any) -> dict[str, Any]:
    """The constructor's arguments: one built by hand has no record of them.

    >>> timm_model(timm_architecture(vit), **timm_arguments(vit)).embed_dim == vit.embed_dim
    True
    """
    block, patches = model.blocks[0], model.patch_embed
    width, hidden = model.embed_dim, block.mlp.fc1.out_features
    ratio = hidden / width if int(width * (hidden / width)) == hidden else (hidden + 0.5) / width
    found = {
        "img_size": list(patches.img_size),
        "patch_size": list(patches.patch_size),
        "in_chans": patches.proj.in_channels,
        "num_classes": model.num_classes,
        "global_pool": model.global_pool,
        "embed_dim": width,
        "depth": len(model.blocks),
        "num_heads": block.attn.num_heads,
        "mlp_ratio": ratio,
        "qkv_bias": block.attn.qkv.bias is not None,
        "proj_bias": block.attn.proj.bias is not None,
        "class_token": model.has_class_token,
        "no_embed_class": model.no_embed_class,
        "reg_tokens": model.num_reg_tokens,
        "fc_norm": isinstance(model.fc_norm, nn.LayerNorm),
    }
    activation = _activation(block.mlp.act)
    found |= {} if activation is None else {"act_layer": activation}
    gain = getattr(block.ls1, "gamma", None)
    return found | ({} if gain is None else {"init_values": 1.0})  # of any value: the checkpoint holds the gains


def _activation(module: nn.Module) -> str | None:
    """The name that timm has for an activation, if it has one."""
    from timm.layers import get_act_layer

    return next((name for name in _ACTIVATIONS if type(module) is get_act_layer(name)), None)
