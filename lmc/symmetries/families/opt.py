"""OPT: LayerNorm, biases, learned positions, ReLU; the head is usually the embedding.

Positions stand two rows later than their number says; where all texts are whole, the first two rows are never read. The
ε of the norms is a literal of the library, so there is no residual scale. The 350M model, whose norms stand after the
sublayers and whose embedding is projected, is refused: it is another architecture.
"""

from collections.abc import Iterator
from typing import Any

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.attention import move_values, plain_heads
from lmc.symmetries.families.common import norm
from lmc.symmetries.families.feed_forward import hidden_units
from lmc.symmetries.families.heads import head
from lmc.symmetries.groups import Orthogonal
from lmc.symmetries.spec import Dead, Mean, ModelSpec, Norm, Space, both, layered

STACK = "model.decoder."
LAYER = STACK + "layers.{l}."
QUERY, KEY, VALUE, OUT = (LAYER + f"self_attn.{part}_proj" for part in ("q", "k", "v", "out"))
UP, DOWN = LAYER + "fc1", LAYER + "fc2"
TOKENS, POSITIONS = STACK + "embed_tokens.weight", STACK + "embed_positions.weight"
ONLY = {"do_layer_norm_before": True, "_remove_final_layer_norm": False, "enable_bias": True}


def spec(model: Any) -> ModelSpec:
    """The table of an OPT with any head. Raises UnsupportedModelError, naming the field, for another layout."""
    config, present, top = model.config, set(model.state_dict()), head(model, TOKENS)
    for name, value in (ONLY | {"word_embed_proj_dim": config.hidden_size}).items():
        if getattr(config, name) != value:
            found = f"{name}: expected {value}, found {getattr(config, name)}"
            raise UnsupportedModelError(f"{type(model).__name__}: {found}, which the opt table does not describe")
    layers, rows = range(config.num_hidden_layers), model.model.decoder.embed_positions.num_embeddings
    spaces, rules = layered(len(layers), *_layer(config))
    return ModelSpec(
        family="opt",
        free={"vocab": config.vocab_size, "position": rows, **top.classes},
        spaces=(Space("stream", Orthogonal(config.hidden_size, fixes_ones=True)), *spaces),
        rules={TOKENS: "vocab stream!", POSITIONS: "position stream!", **rules, **top.rules},
        stream_norm="layernorm",
        norms=(*_norms(layers, present), norm(STACK + "final_layer_norm", present, top.name)),
        means=(Mean(POSITIONS, "position", TOKENS),),
        moves=tuple(move_values(VALUE.format(l=layer) + ".bias", OUT.format(l=layer), layer) for layer in layers),
        dead=tuple(Dead(KEY.format(l=layer) + ".bias", f"qk.{layer}*") for layer in layers),
        logits=top.logits,
        tied=top.tied,
    )


def _layer(config: Any) -> tuple[tuple[Space, ...], dict[str, str]]:
    """The spaces and the rules of one layer."""
    heads = config.num_attention_heads
    units, written, read = hidden_units(config.ffn_dim, config.activation_function)
    return (*plain_heads(heads, config.hidden_size // heads), *units), {
        **both(QUERY, "(head qk)", "stream?"),
        **both(KEY, "(head qk*)", "stream?"),
        **both(VALUE, "(head value)", "stream?"),
        **both(OUT, "stream!", "(head value*)"),
        **both(UP, written, "stream?"),
        **both(DOWN, "stream!", read),
    }


def _norms(layers: range, present: set[str]) -> Iterator[Norm]:
    for layer in layers:
        here, query, key, value, up = (name.format(l=layer) for name in (LAYER, QUERY, KEY, VALUE, UP))
        yield norm(here + "self_attn_layer_norm", present, query, key, value)
        yield norm(here + "final_layer_norm", present, up)
