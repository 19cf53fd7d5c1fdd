"""BERT and RoBERTa: norms after the sublayers (LayerNorm), biases, learned positions; any of the heads, or none.

What a post-norm costs: x ← γ⊙n(x + f(x)) + β hands its gain on along the skip connection, so no reader can absorb it,
and a rotation of the stream would mix the entries of γ. A permutation reorders γ along; LayerNorm's mean forbids signs
(but for the sign of the whole stream, one bit that is not declared). There is no residual scale: the one ε is also that
of the head's norm, and no scale of the stream reaches it through a GELU. What is left in full: hidden units, heads,
values, queries and keys, and the units of the head. Every β can go: into the readers, and along the skip into the next
sublayer's bias. Without a head the stream itself is the output, and stays as it is.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families import settings as shared
from lmc.symmetries.families.attention import move_values, plain_heads
from lmc.symmetries.families.bert_heads import Top, top
from lmc.symmetries.families.common import Tokens, norm
from lmc.symmetries.families.feed_forward import hidden_units
from lmc.symmetries.groups import Fixed, Permutation
from lmc.symmetries.spec import Dead, Mean, ModelSpec, Norm, Space, both, layered

# What pretraining learned beside the prediction of tokens.
OTHER_HEADS = ("bert.pooler.", "roberta.pooler.", "cls.seq_relationship.")
EMBEDDINGS, LAYER = "embeddings.", "encoder.layer.{l}."
QUERY, KEY, VALUE = (LAYER + f"attention.self.{part}" for part in ("query", "key", "value"))
OUT, UP, DOWN = (LAYER + part for part in ("attention.output", "intermediate", "output"))
WORDS, POSITIONS, TYPES = (EMBEDDINGS + f"{part}_embeddings.weight" for part in ("word", "position", "token_type"))


def spec(model: Any) -> ModelSpec:
    """The table of a BERT or RoBERTa, with any head or none. Raises UnsupportedModelError for a decoder."""
    config, present = model.config, set(model.state_dict())
    for flag in ("is_decoder", "add_cross_attention"):
        if getattr(config, flag):
            raise UnsupportedModelError(f"{type(model).__name__}: {flag} is not supported by the bert table")
    base = model.base_model_prefix + "." if hasattr(model, model.base_model_prefix) else ""
    layers, size = range(config.num_hidden_layers), config.hidden_size
    last = base + DOWN.format(l=layers[-1]) + ".LayerNorm"
    head = top(size, last, base, present)
    spaces, rules = layered(len(layers), *_layer(config, base))
    if not head.keeps:
        del rules[last + ".weight"]  # only the head reads the last norm, and absorbs it
    words, positions, types = (base + name for name in (WORDS, POSITIONS, TYPES))
    return ModelSpec(
        family="bert",
        free={
            "vocab": config.vocab_size,
            "position": config.max_position_embeddings,
            "type": config.type_vocab_size,
            "class": getattr(config, "num_labels", 0),
            "pool": size,
        },
        spaces=(Space("stream", Fixed(size) if head.keeps else Permutation(size)), *head.spaces, *spaces),
        rules={
            words: "vocab stream!",
            positions: "position stream!",
            types: "type stream!",
            base + EMBEDDINGS + "LayerNorm.weight": "stream",
            **rules,
            **head.rules,
        },
        stream_norm="layernorm",
        norms=tuple(_norms(layers, base, present, head)),
        means=(Mean(positions, "position", types), Mean(types, "type", words)),
        moves=tuple(
            move_values(base + VALUE.format(l=layer) + ".bias", base + OUT.format(l=layer) + ".dense", layer)
            for layer in layers
        ),
        dead=(*(Dead(base + KEY.format(l=layer) + ".bias", f"qk.{layer}*") for layer in layers), *head.dead),
        logits=head.logits,
        tied=(head.logits[0], words) if head.logits else None,
    )


def _layer(config: Any, base: str) -> tuple[tuple[Space, ...], dict[str, str]]:
    """The spaces and the rules of one layer."""
    heads = config.num_attention_heads
    width = config.hidden_size // heads
    units, written, read = hidden_units(config.intermediate_size, config.hidden_act)
    rules = {
        **both(QUERY, "(head qk)", "stream?"),
        **both(KEY, "(head qk*)", "stream?"),
        **both(VALUE, "(head value)", "stream?"),
        **both(OUT + ".dense", "stream!", "(head value*)"),
        OUT + ".LayerNorm.weight": "stream",
        **both(UP + ".dense", written, "stream?"),
        **both(DOWN + ".dense", "stream!", read),
        DOWN + ".LayerNorm.weight": "stream",
    }
    return (*plain_heads(heads, width), *units), {base + name: pattern for name, pattern in rules.items()}


def _norms(layers: range, base: str, present: set[str], head: Top) -> Iterator[Norm]:
    """A norm's gain stays where the skip connection hands the stream onward; elsewhere the readers absorb it."""
    before = base + EMBEDDINGS + "LayerNorm"
    for layer in layers:
        query, key, value, out, up, down = (base + name.format(l=layer) for name in (QUERY, KEY, VALUE, OUT, UP, DOWN))
        yield replace(norm(before, present, query, key, value), weight=None, onward=out + ".dense.bias")
        yield replace(norm(out + ".LayerNorm", present, up + ".dense"), weight=None, onward=down + ".dense.bias")
        before = down + ".LayerNorm"
    yield from head.norms


def settings(model: Any) -> dict[str, object]:
    """Also the padding token, behind whose number RoBERTa's positions begin."""
    counted = {} if model.config.model_type == "bert" else {"pad_token_id": model.config.pad_token_id}
    return {**shared.settings(model), **counted}


def tokens(model: Any) -> Tokens:
    """What the model reads. It predicts no next token. RoBERTa's positions begin after that of the padding token."""
    config = model.config
    if config.model_type == "bert":
        return Tokens(config.vocab_size, config.max_position_embeddings, causal=False)
    context = config.max_position_embeddings - config.pad_token_id - 1
    return Tokens(config.vocab_size, context, causal=False, numbered="pad_token_id")
