"""GPT-2: LayerNorm, biases, learned positions, a fused query/key/value layer; weights are stored as [in, out]."""

from collections.abc import Iterator
from typing import Any

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.attention import move_values, plain_heads
from lmc.symmetries.families.common import norm
from lmc.symmetries.families.feed_forward import hidden_units
from lmc.symmetries.families.heads import head
from lmc.symmetries.groups import Orthogonal, Scale
from lmc.symmetries.spec import Dead, Epsilon, Mean, ModelSpec, Norm, Space, layered

LAYER = "transformer.h.{l}."
QKV, OUT, UP, DOWN = (LAYER + part for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"))


def spec(model: Any) -> ModelSpec:
    """The table of a GPT-2 with any of its heads. Raises UnsupportedModelError for one with cross-attention.

    The mean of all positions is given to the tokens, which are read once each. A model that is called with
    `token_type_ids` reads the tokens' table twice, and is another function then: the table does not hold for that.
    """
    config, top = model.config, head(model, "transformer.wte.weight")
    if config.add_cross_attention:
        raise UnsupportedModelError(f"{type(model).__name__}: add_cross_attention is not supported by the gpt2 table")
    layers = range(config.num_hidden_layers)
    spaces, rules = layered(len(layers), *_layer(model))
    return ModelSpec(
        family="gpt2",
        free={"vocab": config.vocab_size, "position": config.max_position_embeddings, **top.classes},
        spaces=(Space("stream", Orthogonal(config.hidden_size, fixes_ones=True)), Space("scale", Scale()), *spaces),
        rules={
            "transformer.wte.weight": "vocab stream!",
            "transformer.wpe.weight": "position stream!",
            **rules,
            **top.rules,
        },
        stream_norm="layernorm",
        norms=tuple(_norms(layers, set(model.state_dict()), top.name)),
        means=(Mean("transformer.wpe.weight", "position", "transformer.wte.weight"),),
        moves=tuple(move_values(QKV.format(l=layer) + ".bias", OUT.format(l=layer), layer) for layer in layers),
        dead=tuple(Dead(QKV.format(l=layer) + ".bias", f"qk.{layer}*") for layer in layers),
        epsilon=Epsilon("layer_norm_epsilon", "eps"),
        logits=top.logits,
        tied=top.tied,
    )


def _layer(model: Any) -> tuple[tuple[Space, ...], dict[str, str]]:
    """The spaces and the rules of one layer."""
    heads, mlp = model.config.num_attention_heads, model.transformer.h[0].mlp
    width = model.config.hidden_size // heads
    units, written, read = hidden_units(mlp.c_fc.nf, model.config.activation_function)
    fused = "[head qk | head qk* | head value]"
    return (*plain_heads(heads, width), *units), {
        QKV + ".weight": f"stream? {fused}",
        QKV + ".bias": fused,
        OUT + ".weight": "(head value*) stream!",
        OUT + ".bias": "stream!",
        UP + ".weight": f"stream? {written}",
        UP + ".bias": written,
        DOWN + ".weight": f"{read} stream!",
        DOWN + ".bias": "stream!",
    }


def _norms(layers: range, present: set[str], read_by: str) -> Iterator[Norm]:
    for layer in layers:
        here, qkv, up = (name.format(l=layer) for name in (LAYER, QKV, UP))
        yield norm(here + "ln_1", present, qkv)
        yield norm(here + "ln_2", present, up)
    yield norm("transformer.ln_f", present, read_by)
