"""CLIP's two towers, each a model of its own: a causal reader of texts, and a reader of pictures.

With a projection, what is projected is the output, and the stream may move. Without one the states are the output, and
stay as they are. A picture enters the stream through a norm of its own, whose gain stays there: it acts channel by
channel, so that of the rotations permutations are left. Without a projection the states of the picture leave before
any other norm, so that their mean is seen. `CLIPModel` holds both towers, two streams in one model, and is refused.
"""

from typing import Any

from lmc.symmetries.families import settings as shared
from lmc.symmetries.families.attention import move_values
from lmc.symmetries.families.bert_heads import Top, bare
from lmc.symmetries.families.common import EVERY, Images, Tokens, norm
from lmc.symmetries.families.vit_layer import Names, layer, norms
from lmc.symmetries.groups import Fixed, Orthogonal, Permutation, Scale
from lmc.symmetries.spec import Dead, Epsilon, Mean, ModelSpec, Move, Space, layered

LAYER = "encoder.layers.{l}."
NAMES = "layer_norm1 layer_norm2 self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.out_proj mlp.fc1 mlp.fc2"


def text(model: Any) -> ModelSpec:
    """The table of the tower that reads texts."""
    config, base, present = model.config, _base(model), set(model.state_dict())
    head = _head("text_projection", base + "final_layer_norm", present)
    words, positions = (base + f"embeddings.{part}_embedding.weight" for part in ("token", "position"))
    group = Fixed(config.hidden_size) if head.keeps else Orthogonal(config.hidden_size, fixes_ones=True)
    return _tower(
        model,
        "clip_text",
        head,
        free={"vocab": config.vocab_size, "position": config.max_position_embeddings},
        stream=(Space("stream", group), Space("scale", Scale())),
        rules={words: "vocab stream!", positions: "position stream!"},
        means=(Mean(positions, "position", words),),
        epsilon=Epsilon("layer_norm_eps", "eps"),
    )


def vision(model: Any) -> ModelSpec:
    """The table of the tower that reads pictures."""
    config, base, present = model.config, _base(model), set(model.state_dict())
    head = _head("visual_projection", base + "post_layernorm", present)
    embeddings, first = base + "embeddings.", base + "pre_layrnorm"
    cls, positions = embeddings + "class_embedding", embeddings + "position_embedding.weight"
    size, side = config.hidden_size, config.patch_size
    patches = (config.image_size // side) ** 2
    # Norms see no mean; where the states are the output, it is seen, but of what is always added only once.
    parts = map(_names(model).at, range(config.num_hidden_layers))
    biases = [name + ".bias" for here in parts for name in (here.out, here.down)]
    return _tower(
        model,
        "clip_vision",
        head,
        free={"cls": 1, "patch": patches, "channel": config.num_channels, "row": side, "column": side},
        stream=(Space("stream", Fixed(size) if head.keeps else Permutation(size)),),
        written="stream" if head.keeps else "stream!",
        rules={
            cls: "stream!",
            embeddings + "patch_embedding.weight": "stream! channel row column",
            positions: "[cls | patch] stream!",
            first + ".weight": "stream",
            first + ".bias": "stream" if head.keeps else "stream!",
        },
        moves=(Move(cls, positions, rows="cls"),),
        means=tuple(Mean(bias, "stream", first + ".bias") for bias in biases) if head.keeps else (),
    )


def _base(model: Any) -> str:
    """What stands before the names of a tower's tensors: nothing, or the tower's own name."""
    return next(iter(model.state_dict())).partition("embeddings.")[0]


def _names(model: Any) -> Names:
    """The parts of a layer; it has no gate and no gains of its own."""
    here = _base(model) + LAYER
    before, after, query, key, value, out, up, down = (here + name for name in NAMES.split())
    return Names(before, after, query, key, value, out, up, down, gate=here + "gate", scales=("", ""))


def _head(projection: str, last: str, present: set[str]) -> Top:
    if projection + ".weight" not in present:
        return bare(last, None, present)
    return Top({projection + ".weight": "embed stream?"}, (norm(last, present, projection),))


def _tower(
    model: Any,
    family: str,
    head: Top,
    free: dict[str, int],
    stream: tuple[Space, ...],
    rules: dict[str, str],
    written: str = "stream!",
    moves: tuple[Move, ...] = (),
    **table: Any,
) -> ModelSpec:
    """`written`: the stream as layers write it; without its mark the mean of what they write is seen, and stays."""
    parts, layers, present = _names(model), range(model.config.num_hidden_layers), set(model.state_dict())
    spaces, within = layered(len(layers), *layer(model, parts))
    within = {name: rule.replace("stream!", written) for name, rule in within.items() if name in present}
    return ModelSpec(
        family=family,
        free={**free, "embed": getattr(model.config, "projection_dim", 0)},
        spaces=(*stream, *spaces),
        rules={**rules, **within, **head.rules},
        stream_norm="layernorm",
        norms=(*norms(layers, parts, present), *head.norms),
        moves=(*(move_values(parts.at(i).value + ".bias", parts.at(i).out, i) for i in layers), *moves),
        dead=tuple(Dead(parts.at(i).key + ".bias", f"qk.{i}*") for i in layers),
        **table,
    )


def text_settings(model: Any) -> dict[str, object]:
    """Also the token at which a text is pooled."""
    return {**shared.settings(model), "eos_token_id": model.config.eos_token_id}


def tokens(model: Any) -> Tokens:
    """What the tower of texts reads. Older ones pool a text at its largest number, so no token may get another one."""
    return Tokens(model.config.vocab_size, model.config.max_position_embeddings, False, EVERY)


def images(model: Any) -> Images:
    """What the tower of pictures reads."""
    return Images((model.config.num_channels, model.config.image_size, model.config.image_size), 0)
