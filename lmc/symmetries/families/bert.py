"""BERT: norms after the sublayers (LayerNorm), biases, learned positions, a prediction head with a norm of its own.

What a post-norm costs: x ← γ⊙n(x + f(x)) + β hands its gain on along the skip connection, so no reader can absorb it,
and a rotation of the stream would mix the entries of γ. A permutation reorders γ along; LayerNorm's mean forbids signs
(but for the sign of the whole stream, one bit that is not declared). There is no residual scale: the one ε is also that
of the head's norm, and no scale of the stream reaches it through a GELU. What is left in full: hidden units, heads,
values, queries and keys, and the units of the head. Every β can go: into the readers, and along the skip into the next
sublayer's bias.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.attention import move_values, plain_heads
from lmc.symmetries.families.common import Tokens, norm
from lmc.symmetries.families.feed_forward import hidden_units
from lmc.symmetries.groups import Permutation
from lmc.symmetries.spec import Dead, Mean, ModelSpec, Norm, Space, layered

OTHER_HEADS = ("bert.pooler.", "cls.seq_relationship.")  # what pretraining learned beside the prediction of tokens
EMBEDDINGS, HEAD, LAYER = "bert.embeddings.", "cls.predictions.", "bert.encoder.layer.{l}."
QUERY, KEY, VALUE = (LAYER + f"attention.self.{part}" for part in ("query", "key", "value"))
OUT, UP, DOWN = (LAYER + part for part in ("attention.output", "intermediate", "output"))
WORDS, POSITIONS, TYPES = (EMBEDDINGS + f"{part}_embeddings.weight" for part in ("word", "position", "token_type"))


def spec(model: Any) -> ModelSpec:
    """The table of a `BertForMaskedLM`. Raises UnsupportedModelError for a decoder."""
    config = model.config
    for flag in ("is_decoder", "add_cross_attention"):
        if getattr(config, flag):
            raise UnsupportedModelError(f"BertForMaskedLM: {flag} is not supported by the bert table")
    layers, width = range(config.num_hidden_layers), Permutation(config.hidden_size)
    spaces, rules = layered(len(layers), *_layer(config))
    del rules[DOWN.format(l=layers[-1]) + ".LayerNorm.weight"]  # only the head reads the last norm, and absorbs it
    return ModelSpec(
        family="bert",
        free={"vocab": config.vocab_size, "position": config.max_position_embeddings, "type": config.type_vocab_size},
        spaces=(Space("stream", width), Space("predict", width), *spaces),
        rules={
            WORDS: "vocab stream!",
            POSITIONS: "position stream!",
            TYPES: "type stream!",
            EMBEDDINGS + "LayerNorm.weight": "stream",
            **rules,
            HEAD + "transform.dense.weight": "predict stream?",
            HEAD + "transform.dense.bias": "predict",
            HEAD + "decoder.weight": "vocab predict",
            HEAD + "decoder.bias": "vocab",
            HEAD + "bias": "vocab",
        },
        stream_norm="layernorm",
        norms=tuple(_norms(layers, set(model.state_dict()))),
        means=(Mean(POSITIONS, "position", TYPES), Mean(TYPES, "type", WORDS)),
        moves=tuple(
            move_values(VALUE.format(l=layer) + ".bias", OUT.format(l=layer) + ".dense", layer) for layer in layers
        ),
        # The head's bias is the decoder's own; a model that is not tied keeps a second one that nothing reads.
        dead=(*(Dead(KEY.format(l=layer) + ".bias", f"qk.{layer}*") for layer in layers), Dead(HEAD + "bias", "vocab")),
        logits=(HEAD + "decoder.weight", HEAD + "decoder.bias"),
        tied=(HEAD + "decoder.weight", WORDS),
    )


def _layer(config: Any) -> tuple[tuple[Space, ...], dict[str, str]]:
    """The spaces and the rules of one layer."""
    heads = config.num_attention_heads
    width = config.hidden_size // heads
    units, written, read = hidden_units(config.intermediate_size, config.hidden_act)
    return (*plain_heads(heads, width), *units), {
        QUERY + ".weight": "(head qk) stream?",
        QUERY + ".bias": "(head qk)",
        KEY + ".weight": "(head qk*) stream?",
        KEY + ".bias": "(head qk*)",
        VALUE + ".weight": "(head value) stream?",
        VALUE + ".bias": "(head value)",
        OUT + ".dense.weight": "stream! (head value*)",
        OUT + ".dense.bias": "stream!",
        OUT + ".LayerNorm.weight": "stream",
        UP + ".dense.weight": f"{written} stream?",
        UP + ".dense.bias": written,
        DOWN + ".dense.weight": f"stream! {read}",
        DOWN + ".dense.bias": "stream!",
        DOWN + ".LayerNorm.weight": "stream",
    }


def _norms(layers: range, present: set[str]) -> Iterator[Norm]:
    """A norm's gain stays where the skip connection hands the stream onward; elsewhere the readers absorb it."""
    before = EMBEDDINGS + "LayerNorm"
    for layer in layers:
        query, key, value, out, up, down = (name.format(l=layer) for name in (QUERY, KEY, VALUE, OUT, UP, DOWN))
        yield replace(norm(before, present, query, key, value), weight=None, onward=out + ".dense.bias")
        yield replace(norm(out + ".LayerNorm", present, up + ".dense"), weight=None, onward=down + ".dense.bias")
        before = down + ".LayerNorm"
    yield norm(before, present, HEAD + "transform.dense")
    yield replace(norm(HEAD + "transform.LayerNorm", present, HEAD + "decoder"), axis="predict")


def tokens(model: Any) -> Tokens:
    """What the model reads. It predicts masked tokens: there is no next-token loss."""
    return Tokens(model.config.vocab_size, model.config.max_position_embeddings, causal=False)
