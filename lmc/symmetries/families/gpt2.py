"""GPT-2: LayerNorm, biases, learned positions, a fused query/key/value layer; weights are stored as [in, out]."""

from typing import Any

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.common import hidden_units, reader
from lmc.symmetries.groups import Invertible, Orthogonal, Permutation, Scale
from lmc.symmetries.spec import Dead, Epsilon, Mean, ModelSpec, Move, Norm, Space, layered


def spec(model: Any) -> ModelSpec:
    """The table of a `GPT2LMHeadModel`. Raises UnsupportedModelError for one with cross-attention."""
    config, present = model.config, set(model.state_dict())
    if config.add_cross_attention:
        raise UnsupportedModelError("GPT2LMHeadModel: add_cross_attention is not supported by the gpt2 table")
    d, heads, layers = config.hidden_size, config.num_attention_heads, config.num_hidden_layers
    width = d // heads
    first = model.transformer.h[0]
    units, written, read = hidden_units(first.mlp.c_fc.nf, config.activation_function)
    here = "transformer.h.{l}."
    qkv = "[head qk | head qk* | head value]"
    spaces, rules = layered(
        layers,
        (
            Space("head", Permutation(heads)),
            Space("qk", Invertible(width), over=("head",)),
            Space("value", Invertible(width), over=("head",)),
            *units,
        ),
        {
            here + "attn.c_attn.weight": f"stream? {qkv}",
            here + "attn.c_attn.bias": qkv,
            here + "attn.c_proj.weight": "(head value*) stream!",
            here + "attn.c_proj.bias": "stream!",
            here + "mlp.c_fc.weight": f"stream? {written}",
            here + "mlp.c_fc.bias": written,
            here + "mlp.c_proj.weight": f"{read} stream!",
            here + "mlp.c_proj.bias": "stream!",
        },
    )

    def norm(module: str, read_by: str) -> Norm:
        return Norm(module, module + ".weight", module + ".bias", (reader(read_by, present),))

    norms, moves, dead = [], [], []
    for layer in range(layers):
        block = f"transformer.h.{layer}."
        norms += [norm(block + "ln_1", block + "attn.c_attn"), norm(block + "ln_2", block + "mlp.c_fc")]
        bias, out = block + "attn.c_attn.bias", block + "attn.c_proj"
        dead.append(Dead(bias, f"qk.{layer}*"))
        moves.append(Move(bias, out + ".bias", f"value.{layer}", through=out + ".weight"))
    norms.append(norm("transformer.ln_f", "lm_head"))

    return ModelSpec(
        family="gpt2",
        free={"vocab": config.vocab_size, "position": config.max_position_embeddings},
        spaces=(Space("stream", Orthogonal(d, fixes_ones=True)), Space("scale", Scale()), *spaces),
        rules={
            "transformer.wte.weight": "vocab stream!",
            "transformer.wpe.weight": "position stream!",
            **rules,
            "lm_head.weight": "vocab stream?",
        },
        stream_norm="layernorm",
        norms=tuple(norms),
        means=(Mean("transformer.wpe.weight", "position", "transformer.wte.weight"),),
        moves=tuple(moves),
        dead=tuple(dead),
        epsilon=Epsilon("layer_norm_epsilon", "eps"),
        logits=("lm_head.weight",),
        tied=("lm_head.weight", "transformer.wte.weight"),
    )
