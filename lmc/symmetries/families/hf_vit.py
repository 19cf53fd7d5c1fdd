"""The vision transformer of transformers: LayerNorm, separate query, key and value layers, a class token."""

from typing import Any

from torch import nn

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.common import Images, hidden_units, reader
from lmc.symmetries.groups import Invertible, Orthogonal, Permutation, Scale
from lmc.symmetries.spec import Dead, Epsilon, ModelSpec, Move, Norm, Space, layered

# The names inside a layer: (query, key, value, output, feed-forward in, feed-forward out), by release of transformers.
_NEW = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2")
_OLD = (
    *(f"attention.attention.{part}" for part in ("query", "key", "value")),
    *("attention.output.dense", "intermediate.dense", "output.dense"),
)


def spec(model: Any) -> ModelSpec:
    """The table of a `transformers.ViTForImageClassification`. Raises UnsupportedModelError for one without a head."""
    config, present = model.config, set(model.state_dict())
    if not isinstance(model.classifier, nn.Linear):
        raise UnsupportedModelError("ViTForImageClassification: num_labels is 0, expected a classifier")
    new = "vit.layers.0.layernorm_before.weight" in present
    here, parts = ("vit.layers.{l}.", _NEW) if new else ("vit.encoder.layer.{l}.", _OLD)
    query, key, value, out, up, down = (here + part for part in parts)
    d, heads = config.hidden_size, config.num_attention_heads
    width = model.get_parameter(query.format(l=0) + ".weight").shape[0] // heads
    units, written, read = hidden_units(config.intermediate_size, config.hidden_act)
    patches = model.vit.embeddings.patch_embeddings
    spaces, rules = layered(
        config.num_hidden_layers,
        (
            Space("head", Permutation(heads)),
            Space("qk", Invertible(width), over=("head",)),
            Space("value", Invertible(width), over=("head",)),
            *units,
        ),
        {
            query + ".weight": "(head qk) stream?",
            query + ".bias": "(head qk)",
            key + ".weight": "(head qk*) stream?",
            key + ".bias": "(head qk*)",
            value + ".weight": "(head value) stream?",
            value + ".bias": "(head value)",
            out + ".weight": "stream! (head value*)",
            out + ".bias": "stream!",
            up + ".weight": f"{written} stream?",
            up + ".bias": written,
            down + ".weight": f"stream! {read}",
            down + ".bias": "stream!",
        },
    )
    rules = {
        "vit.embeddings.patch_embeddings.projection.weight": "stream! channel row column",
        "vit.embeddings.patch_embeddings.projection.bias": "stream!",
        "vit.embeddings.position_embeddings": "one [cls | patch] stream!",
        "vit.embeddings.cls_token": "one cls stream!",
        **{name: pattern for name, pattern in rules.items() if name in present},
        "classifier.weight": "class stream?",
        "classifier.bias": "class",
    }

    def norm(module: str, *readers: str) -> Norm:
        return Norm(module, module + ".weight", module + ".bias", tuple(reader(name, present) for name in readers))

    norms, moves, dead = [], [], []
    for layer in range(config.num_hidden_layers):
        q, k, v, o, fc1 = (name.format(l=layer) for name in (query, key, value, out, up))
        norms += [norm(here.format(l=layer) + "layernorm_before", q, k, v)]
        norms += [norm(here.format(l=layer) + "layernorm_after", fc1)]
        # Without biases of their own, these keep their norm's bias in the mean direction of their weights.
        kept = ".bias" if k + ".bias" in present else ".weight"
        dead.append(Dead(k + kept, f"qk.{layer}*"))
        moves.append(Move(v + kept, o + ".bias", f"value.{layer}", through=o + ".weight"))
    # What is added to every position of a kind, the position embedding can carry.
    positions = "vit.embeddings.position_embeddings"
    moves += [
        Move("vit.embeddings.patch_embeddings.projection.bias", positions, rows="patch"),
        Move("vit.embeddings.cls_token", positions, rows="cls"),
    ]
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
        spaces=(Space("stream", Orthogonal(d, fixes_ones=True)), Space("scale", Scale()), *spaces),
        rules=rules,
        stream_norm="layernorm",
        norms=(*norms, norm("vit.layernorm", "classifier")),
        moves=tuple(moves),
        dead=tuple(dead),
        epsilon=Epsilon("layer_norm_eps", "eps"),
        logits=("classifier.weight", "classifier.bias"),
    )


def images(model: Any) -> Images:
    """What the model reads."""
    height, width = model.vit.embeddings.patch_embeddings.image_size
    return Images((model.config.num_channels, height, width), model.classifier.out_features)
