"""The vision transformer of transformers: LayerNorm, separate query, key and value layers, a class token."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.attention import move_values, plain_heads
from lmc.symmetries.families.common import Images, norm
from lmc.symmetries.families.feed_forward import hidden_units
from lmc.symmetries.groups import Orthogonal, Scale
from lmc.symmetries.spec import Dead, Epsilon, ModelSpec, Move, Norm, Space, layered

EMBEDDINGS = "vit.embeddings."
PATCHES, POSITIONS = EMBEDDINGS + "patch_embeddings.projection", EMBEDDINGS + "position_embeddings"


@dataclass(frozen=True)
class Names:
    """What a release of transformers calls the parts of a layer."""

    layer: str
    query: str
    key: str
    value: str
    out: str
    up: str
    down: str

    def at(self, layer: int) -> "Names":
        """The names in one layer."""
        return Names(*(name.format(l=layer) for name in vars(self).values()))


_NEW, _OLD = "vit.layers.{l}.", "vit.encoder.layer.{l}."
NEW = Names(
    _NEW,
    *(_NEW + f"attention.{part}_proj" for part in "qkvo"),
    *(_NEW + f"mlp.{part}" for part in ("fc1", "fc2")),
)
OLD = Names(
    _OLD,
    *(_OLD + f"attention.attention.{part}" for part in ("query", "key", "value")),
    *(_OLD + part for part in ("attention.output.dense", "intermediate.dense", "output.dense")),
)


def spec(model: Any) -> ModelSpec:
    """The table of a `transformers.ViTForImageClassification`. Raises UnsupportedModelError for one without a head."""
    config, present, patches = model.config, set(model.state_dict()), model.vit.embeddings.patch_embeddings
    if not isinstance(model.classifier, nn.Linear):
        raise UnsupportedModelError("ViTForImageClassification: num_labels is 0, expected a classifier")
    names = NEW if NEW.at(0).layer + "layernorm_before.weight" in present else OLD
    layers = range(config.num_hidden_layers)
    spaces, rules = layered(len(layers), *_layer(model, names))
    return ModelSpec(
        family="hf_vit",
        free={
            "one": 1,
            "cls": 1,
            "patch": patches.num_patches,
            "channel": config.num_channels,
            "row": patches.patch_size[0],
            "column": patches.patch_size[1],
            "class": model.classifier.out_features,
        },
        spaces=(Space("stream", Orthogonal(config.hidden_size, fixes_ones=True)), Space("scale", Scale()), *spaces),
        rules={
            PATCHES + ".weight": "stream! channel row column",
            PATCHES + ".bias": "stream!",
            POSITIONS: "one [cls | patch] stream!",
            EMBEDDINGS + "cls_token": "one cls stream!",
            **{name: pattern for name, pattern in rules.items() if name in present},
            "classifier.weight": "class stream?",
            "classifier.bias": "class",
        },
        stream_norm="layernorm",
        norms=(*_norms(layers, names, present), norm("vit.layernorm", present, "classifier")),
        moves=(
            *(move_values(_bias(names.at(i).value, present), names.at(i).out, i) for i in layers),
            # What is added to every position of a kind, the position embedding can carry.
            Move(PATCHES + ".bias", POSITIONS, rows="patch"),
            Move(EMBEDDINGS + "cls_token", POSITIONS, rows="cls"),
        ),
        dead=tuple(Dead(_bias(names.at(i).key, present), f"qk.{i}*") for i in layers),
        epsilon=Epsilon("layer_norm_eps", "eps"),
        logits=("classifier.weight", "classifier.bias"),
    )


def _layer(model: Any, names: Names) -> tuple[tuple[Space, ...], dict[str, str]]:
    """The spaces and the rules of one layer; query, key and value need not have biases."""
    config = model.config
    heads = config.num_attention_heads
    width = model.get_parameter(names.at(0).query + ".weight").shape[0] // heads
    units, written, read = hidden_units(config.intermediate_size, config.hidden_act)
    return (*plain_heads(heads, width), *units), {
        names.query + ".weight": "(head qk) stream?",
        names.query + ".bias": "(head qk)",
        names.key + ".weight": "(head qk*) stream?",
        names.key + ".bias": "(head qk*)",
        names.value + ".weight": "(head value) stream?",
        names.value + ".bias": "(head value)",
        names.out + ".weight": "stream! (head value*)",
        names.out + ".bias": "stream!",
        names.up + ".weight": f"{written} stream?",
        names.up + ".bias": written,
        names.down + ".weight": f"stream! {read}",
        names.down + ".bias": "stream!",
    }


def _norms(layers: range, names: Names, present: set[str]) -> Iterator[Norm]:
    for here in map(names.at, layers):
        yield norm(here.layer + "layernorm_before", present, here.query, here.key, here.value)
        yield norm(here.layer + "layernorm_after", present, here.up)


def _bias(layer: str, present: set[str]) -> str:
    """A layer's bias. One without keeps its norm's bias in the mean direction of its weight."""
    return layer + ".bias" if layer + ".bias" in present else layer + ".weight"


def images(model: Any) -> Images:
    """What the model reads."""
    height, width = model.vit.embeddings.patch_embeddings.image_size
    return Images((model.config.num_channels, height, width), model.classifier.out_features)
