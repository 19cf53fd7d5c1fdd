"""BERT: norms after the sublayers (LayerNorm), biases, learned positions, a prediction head with a norm of its own.

What a post-norm costs: x ← γ⊙n(x + f(x)) + β hands its gain on along the skip connection, so no reader can absorb it,
and a rotation of the stream would have to commute with every diag(γ). Permutations do; LayerNorm's mean forbids signs
(but for the sign of the whole stream, one bit that is not declared). There is no residual scale: the one ε is also that
of the head's norm, and no scale of the stream reaches it through a GELU. What is left in full: hidden units, heads,
values, queries and keys, and the units of the head. Every β can go: into the readers, and along the skip into the next
sublayer's bias.
"""

from typing import Any

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.common import Tokens, hidden_units, reader
from lmc.symmetries.groups import Invertible, Permutation
from lmc.symmetries.spec import Dead, Mean, ModelSpec, Move, Norm, Space, layered

OTHER_HEADS = ("bert.pooler.", "cls.seq_relationship.")  # what pretraining learned beside the prediction of tokens


def spec(model: Any) -> ModelSpec:
    """The table of a `BertForMaskedLM`. Raises UnsupportedModelError for a decoder."""
    config, present = model.config, set(model.state_dict())
    for flag in ("is_decoder", "add_cross_attention"):
        if getattr(config, flag):
            raise UnsupportedModelError(f"BertForMaskedLM: {flag} is not supported by the bert table")
    d, heads = config.hidden_size, config.num_attention_heads
    units, written, read = hidden_units(config.intermediate_size, config.hidden_act)
    embeddings, head, here = "bert.embeddings.", "cls.predictions.", "bert.encoder.layer.{l}."
    attention = here + "attention."
    spaces, rules = layered(
        config.num_hidden_layers,
        (
            Space("head", Permutation(heads)),
            Space("qk", Invertible(d // heads), over=("head",)),
            Space("value", Invertible(d // heads), over=("head",)),
            *units,
        ),
        {
            attention + "self.query.weight": "(head qk) stream?",
            attention + "self.query.bias": "(head qk)",
            attention + "self.key.weight": "(head qk*) stream?",
            attention + "self.key.bias": "(head qk*)",
            attention + "self.value.weight": "(head value) stream?",
            attention + "self.value.bias": "(head value)",
            attention + "output.dense.weight": "stream! (head value*)",
            attention + "output.dense.bias": "stream!",
            attention + "output.LayerNorm.weight": "stream",
            here + "intermediate.dense.weight": f"{written} stream?",
            here + "intermediate.dense.bias": written,
            here + "output.dense.weight": f"stream! {read}",
            here + "output.dense.bias": "stream!",
            here + "output.LayerNorm.weight": "stream",
        },
    )

    def norm(module: str, *readers: str, onward: str | None = None, axis: str = "stream") -> Norm:
        """A norm whose gain stays where the skip connection hands the stream onward, and is absorbed elsewhere."""
        gain = None if onward else module + ".weight"
        return Norm(module, gain, module + ".bias", tuple(reader(name, present) for name in readers), onward, axis)

    norms, moves, dead, before = [], [], [], embeddings + "LayerNorm"
    for layer in range(config.num_hidden_layers):
        block = here.format(l=layer)
        q, k, v = (block + f"attention.self.{part}" for part in ("query", "key", "value"))
        out, up, down = (block + part for part in ("attention.output", "intermediate.dense", "output"))
        norms.append(norm(before, q, k, v, onward=out + ".dense.bias"))
        norms.append(norm(out + ".LayerNorm", up, onward=down + ".dense.bias"))
        moves.append(Move(v + ".bias", out + ".dense.bias", f"value.{layer}", through=out + ".dense.weight"))
        dead.append(Dead(k + ".bias", f"qk.{layer}*"))
        before = down + ".LayerNorm"
    norms.append(norm(before, head + "transform.dense"))  # only the head reads the last one
    norms.append(norm(head + "transform.LayerNorm", head + "decoder", axis="predict"))
    dead.append(Dead(head + "bias", "vocab"))  # the decoder's own, of which only a tied model keeps a second name
    del rules[before + ".weight"]
    words, positions, types = (embeddings + f"{name}_embeddings.weight" for name in ("word", "position", "token_type"))

    return ModelSpec(
        family="bert",
        free={"vocab": config.vocab_size, "position": config.max_position_embeddings, "type": config.type_vocab_size},
        spaces=(Space("stream", Permutation(d)), Space("predict", Permutation(d)), *spaces),
        rules={
            words: "vocab stream!",
            positions: "position stream!",
            types: "type stream!",
            embeddings + "LayerNorm.weight": "stream",
            **rules,
            head + "transform.dense.weight": "predict stream?",
            head + "transform.dense.bias": "predict",
            head + "decoder.weight": "vocab predict",
            head + "decoder.bias": "vocab",
            head + "bias": "vocab",
        },
        stream_norm="layernorm",
        norms=tuple(norms),
        means=(Mean(positions, "position", types), Mean(types, "type", words)),
        moves=tuple(moves),
        dead=tuple(dead),
        logits=(head + "decoder.weight", head + "decoder.bias"),
        tied=(head + "decoder.weight", words),
    )


def tokens(model: Any) -> Tokens:
    """What the model reads. It predicts masked tokens: there is no next-token loss."""
    return Tokens(model.config.vocab_size, model.config.max_position_embeddings, causal=False)
