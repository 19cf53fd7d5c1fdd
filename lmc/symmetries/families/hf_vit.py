"""The vision transformers of transformers, ViT and DINOv2: LayerNorm, a class token, a classifier or none.

Without a classifier the stream itself is the output, and stays as it is; so does what a pooler makes of it. DINOv2 adds
gains to what sublayers write, and a classifier that reads the class token and the mean of the patches; it may have
registers, which are tokens of their own. Where patches may be masked, the bias of the patches cannot move into the
positions, which masked ones share.
"""

from collections.abc import Iterator
from typing import Any

from torch import nn

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.attention import move_values
from lmc.symmetries.families.bert_heads import Top, bare
from lmc.symmetries.families.common import Images, norm
from lmc.symmetries.families.vit_layer import Names, layer, names, norms
from lmc.symmetries.groups import Fixed, Orthogonal, Scale
from lmc.symmetries.spec import Dead, Epsilon, Gain, ModelSpec, Move, Space, layered


def spec(model: Any) -> ModelSpec:
    """The table of a ViT or DINOv2. Raises UnsupportedModelError for a classifier of no classes."""
    config, present, stack = model.config, set(model.state_dict()), _stack(model)
    base = "" if stack is model else model.base_model_prefix + "."
    head = _head(model, base, present)
    embeddings, patches = base + "embeddings.", stack.embeddings.patch_embeddings
    pixels, positions = embeddings + "patch_embeddings.projection", embeddings + "position_embeddings"
    parts, layers, width = names(base, present), range(config.num_hidden_layers), config.hidden_size
    spaces, rules = layered(len(layers), *layer(model, parts))
    rules = {
        pixels + ".weight": "stream! channel row column",
        pixels + ".bias": "stream!",
        positions: "one [cls | patch] stream!",
        embeddings + "cls_token": "one cls stream!",
        embeddings + "mask_token": "one stream!",
        embeddings + "register_tokens": "one register stream!",
        **rules,
        **head.rules,
    }
    stream = Fixed(width) if head.keeps else Orthogonal(width, fixes_ones=True)
    masked = embeddings + "mask_token" in present
    return ModelSpec(
        family="hf_vit",
        free={"one": 1, "cls": 1, "patch": patches.num_patches, "class": _classes(model), "pool": width}
        | {"register": getattr(config, "num_register_tokens", 0)}
        | dict(zip(("channel", "row", "column"), (config.num_channels, *patches.patch_size), strict=True)),
        spaces=(Space("stream", stream), Space("scale", Scale()), *spaces),
        rules={name: pattern for name, pattern in rules.items() if name in present},
        stream_norm="layernorm",
        norms=(*norms(layers, parts, present), *head.norms),
        gains=tuple(_gains(layers, parts, present)),
        moves=(
            *(move_values(_bias(parts.at(i).value, present), parts.at(i).out, i) for i in layers),
            # What is added to every position of a kind, the position embedding can carry.
            *(() if masked else (Move(pixels + ".bias", positions, rows="patch"),)),
            Move(embeddings + "cls_token", positions, rows="cls"),
        ),
        dead=tuple(Dead(_bias(parts.at(i).key, present), f"qk.{i}*") for i in layers),
        epsilon=Epsilon("layer_norm_eps", "eps"),
        logits=head.logits,
    )


def _stack(model: Any) -> Any:
    """The model without its head."""
    return getattr(model, model.base_model_prefix, model)


def _classes(model: Any) -> int:
    return model.classifier.out_features if hasattr(model, "classifier") else 0


def _head(model: Any, base: str, present: set[str]) -> Top:
    last, logits = base + "layernorm", ("classifier.weight", "classifier.bias")
    if not base:
        return bare(last, "pooler.dense" if "pooler.dense.weight" in present else None, present)
    if not isinstance(model.classifier, nn.Linear):
        raise UnsupportedModelError(f"{type(model).__name__}: num_labels is 0, expected a classifier")
    twice = model.classifier.in_features > model.config.hidden_size  # the class token beside the mean of the patches
    rules = {logits[0]: "class [stream? | stream?]" if twice else "class stream?", logits[1]: "class"}
    return Top(rules, (norm(last, present, "classifier"),), logits=logits)


def _gains(layers: range, parts: Names, present: set[str]) -> Iterator[Gain]:
    """LayerScale, where it is there: what a sublayer writes can absorb it."""
    for here in map(parts.at, layers):
        for gain, written in zip(here.scales, (here.out, here.down), strict=True):
            if gain in present:
                yield Gain(gain, (written + ".weight", written + ".bias"))


def _bias(layer: str, present: set[str]) -> str:
    """A layer's bias. One without keeps its norm's bias in the mean direction of its weight."""
    return layer + ".bias" if layer + ".bias" in present else layer + ".weight"


def images(model: Any) -> Images:
    """What the model reads."""
    patches = _stack(model).embeddings.patch_embeddings
    least = max(patches.patch_size) if model.config.model_type.startswith("dinov2") else None  # ViT has to be asked to
    return Images((model.config.num_channels, *patches.image_size), _classes(model), least)
