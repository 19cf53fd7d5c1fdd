"""GPT-NeoX (Pythia): LayerNorm, biases, partial rotary attention, parallel or sequential residual."""

from typing import Any

from lmc.symmetries.families.common import hidden_units
from lmc.symmetries.groups import Invertible, Orthogonal, Permutation, RotaryCommutant, Scale
from lmc.symmetries.spec import Dead, Epsilon, ModelSpec, Move, Norm, Reader, Space, layered


def spec(model: Any) -> ModelSpec:
    """The table of a `transformers.GPTNeoXForCausalLM`."""
    config = model.config
    d, heads, layers = config.hidden_size, config.num_attention_heads, config.num_hidden_layers
    head_dim = d // heads
    # The width of the cos table, which need not be int(fraction · head_dim) when that is odd.
    rotary = 2 * model.gpt_neox.rotary_emb.inv_freq.shape[0]
    head = "lm_head" if "lm_head" in dict(model.named_children()) else "embed_out"  # so before transformers 5.14

    attention, mlp = "gpt_neox.layers.{l}.attention.", "gpt_neox.layers.{l}.mlp."
    # The rotary module turns the pairs (i, i + r/2), so a pair is the outer factor and its frequency the inner one.
    qkv = "[plane freq | pass | plane* freq | pass* | value]" if rotary else "[pass | pass* | value]"
    if rotary == head_dim:
        qkv = qkv.replace("| pass* ", "").replace("| pass ", "")
    units, written, read = hidden_units(config.intermediate_size, config.hidden_act)
    layer_spaces = [
        Space("head", Permutation(heads)),
        Space("value", Invertible(head_dim), over=("head",)),
        *units,
    ]
    if rotary:
        layer_spaces.append(Space("plane", RotaryCommutant(), over=("head", "freq")))
    if rotary < head_dim:
        layer_spaces.append(Space("pass", Invertible(head_dim - rotary), over=("head",)))
    layer_rules = {
        attention + "query_key_value.weight": f"(head {qkv}) stream?",
        attention + "dense.weight": "stream! (head value*)",
        mlp + "dense_h_to_4h.weight": f"{written} stream?",
        mlp + "dense_h_to_4h.bias": written,
        mlp + "dense_4h_to_h.weight": f"stream! {read}",
        mlp + "dense_4h_to_h.bias": "stream!",
    }
    if config.attention_bias:
        layer_rules[attention + "query_key_value.bias"] = f"(head {qkv})"
        layer_rules[attention + "dense.bias"] = "stream!"
    spaces, rules = layered(layers, tuple(layer_spaces), layer_rules)

    norms, moves, dead = [], [], []
    for layer in range(layers):
        here = f"gpt_neox.layers.{layer}."
        qkv_name, dense, up, down = (
            here + part
            for part in ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
        )
        norms.append(_norm(here + "input_layernorm", qkv_name, config.attention_bias))
        norms.append(_norm(here + "post_attention_layernorm", up, True))
        # Without biases of its own, attention keeps its norm's bias in the mean direction of its weight.
        bias = qkv_name + (".bias" if config.attention_bias else ".weight")
        if rotary < head_dim:
            dead.append(Dead(bias, f"pass.{layer}*"))
        if config.attention_bias or config.use_parallel_residual:
            into = (dense if config.attention_bias else down) + ".bias"
            moves.append(Move(bias, into, f"value.{layer}", through=dense + ".weight"))
        if config.attention_bias and config.use_parallel_residual:  # both sublayers add to one stream: one is enough
            moves.append(Move(dense + ".bias", down + ".bias"))
    norms.append(_norm("gpt_neox.final_layer_norm", head, False))

    return ModelSpec(
        family="gpt_neox",
        free={"vocab": config.vocab_size, "freq": rotary // 2},
        spaces=(Space("stream", Orthogonal(d, fixes_ones=True)), Space("scale", Scale()), *spaces),
        rules={"gpt_neox.embed_in.weight": "vocab stream!", **rules, head + ".weight": "vocab stream?"},
        stream_norm="layernorm",
        norms=tuple(norms),
        moves=tuple(moves),
        dead=tuple(dead),
        epsilon=Epsilon("layer_norm_eps", "eps"),
        logits=(head + ".weight",),
        tied=(head + ".weight", "gpt_neox.embed_in.weight"),
    )


def _norm(module: str, reader: str, bias: bool) -> Norm:
    return Norm(
        module, module + ".weight", module + ".bias", (Reader(reader + ".weight", reader + ".bias" if bias else None),)
    )
