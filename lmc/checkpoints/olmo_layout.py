"""OLMo checkpoints in their original layout (`OLMoForCausalLM`, tagged `hf_olmo`), as models of a stock class.

>>> plain = {"d_model": 8, "n_heads": 2, "n_layers": 1, "vocab_size": 40, "max_sequence_length": 16}
>>> architecture, fields = stock_config(plain | {"layer_norm_with_affine": False}, Path("config.json"))
>>> architecture, fields["hidden_size"], fields["intermediate_size"]
('OlmoForCausalLM', 8, 16)

The original class comes as code beside its checkpoints, which is never run. What it computes is that of a stock class:
`OlmoForCausalLM` where the norms are LayerNorms without weights (OLMo-1), `LlamaForCausalLM` where they are RMSNorms
(the model ladder, whose settings DataDecide's checkpoints are said to share). Anything else is refused by field.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lmc.errors import CheckpointError, UnsupportedModelError

_PREFIX = "model.transformer."
_LAYERNORM_EPS = 1e-5  # a literal in the stock OLMo

# Fields whose other values compute something that the stock classes do not. A field that is absent has the first value.
_ONLY: dict[str, tuple[object, ...]] = {
    "block_type": ("sequential",),
    "block_group_size": (1,),
    "alibi": (False,),
    "rope": (True,),
    "activation_type": ("swiglu",),
    "include_bias": (False,),
    "bias_for_layer_norm": (None, False),
    "attention_layer_norm": (False,),
    "norm_after": (False,),
    "embedding_layer_norm": (False,),
    "scale_logits": (False,),
    "layer_norm_type": ("default", "low_precision", "rms"),
}


_OTHER = "; use a release whose class the library has (OLMo-*-hf)"


def stock_config(plain: Mapping[str, Any], file: Path) -> tuple[str, dict[str, Any]]:
    """The stock class that computes the same, and its configuration. Raises UnsupportedModelError naming the field."""
    for name, allowed in _ONLY.items():
        if plain.get(name, allowed[0]) not in allowed:
            expected = " or ".join(map(str, allowed))
            raise UnsupportedModelError(f"{file}: {name}: expected {expected}, found {plain[name]}{_OTHER}")

    def number(field: str, default: Any = None, kind: type = int) -> Any:
        """A positive number, or the default where a field is absent."""
        found = default if plain.get(field) is None else plain[field]
        if found is default and default is not None:
            return default
        if isinstance(found, bool) or not isinstance(found, int if kind is int else int | float) or found <= 0:
            what = "whole number" if kind is int else "number"
            raise CheckpointError(f"{file}: {field}: expected a positive {what}, found {found!r}{_OTHER}")
        return kind(found)

    def flag(field: str, default: bool) -> bool:
        found = default if plain.get(field) is None else plain[field]
        if not isinstance(found, bool):
            raise CheckpointError(f"{file}: {field}: expected true or false, found {found!r}{_OTHER}")
        return found

    width, heads = number("d_model"), number("n_heads")
    both = number("mlp_hidden_size", number("mlp_ratio", 4) * width)  # the gate and what it gates
    config = {
        "vocab_size": number("embedding_size", number("vocab_size")),
        "hidden_size": width,
        "intermediate_size": both // 2,
        "num_hidden_layers": number("n_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": number("n_kv_heads", 1 if flag("multi_query_attention", False) else heads),
        "max_position_embeddings": number("max_sequence_length"),
        "rope_parameters": {"rope_type": "default", "rope_theta": number("rope_theta", 10000.0, float)},
        "hidden_act": "silu",
        "tie_word_embeddings": flag("weight_tying", True),
        **{f"{name}_token_id": plain.get(f"{name}_token_id") for name in ("bos", "eos", "pad")},
    }
    epsilon = number("layer_norm_eps", _LAYERNORM_EPS, float)
    clip = None if plain.get("clip_qkv") is None else number("clip_qkv", kind=float)
    affine = flag("layer_norm_with_affine", True)
    rms = plain.get("layer_norm_type") == "rms"
    wanted: dict[str, tuple[Any, Any]] = {"layer_norm_with_affine": (rms, affine)}
    wanted |= {"clip_qkv": (None, clip)} if rms else {"layer_norm_eps": (_LAYERNORM_EPS, epsilon)}
    for name, (value, found) in wanted.items():
        if found != value:
            norm = "RMSNorms" if rms else "LayerNorms"
            raise UnsupportedModelError(f"{file}: {name}: expected {value} with {norm}, found {found}{_OTHER}")
    if rms:
        return "LlamaForCausalLM", config | {"rms_norm_eps": epsilon, "attention_bias": False, "mlp_bias": False}
    return "OlmoForCausalLM", config | {"clip_qkv": clip, "attention_bias": False}


def stock_tensors(tensors: Mapping[str, Tensor], config: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors by the names of the stock class whose configuration is given.

    The fused rows of the attention are queries, keys, values; those of the feed-forward layer first what is gated (up),
    then the gate. A name that is not known stays as it is, for the caller to refuse.
    """
    head = config.hidden_size // config.num_attention_heads
    rows = (config.hidden_size, *2 * (head * config.num_key_value_heads,))
    outside = {"wte": "model.embed_tokens", "ff_out": "lm_head", "ln_f": "model.norm"}
    inside = {
        "attn_out": "self_attn.o_proj",
        "ff_out": "mlp.down_proj",
        "attn_norm": "input_layernorm",
        "ff_norm": "post_attention_layernorm",
    }
    for name, tensor in tensors.items():
        match name.removeprefix(_PREFIX).removesuffix(".weight").split("."):
            case ["blocks", layer, "att_proj"] if tensor.shape[:1] == (sum(rows),):
                for short, piece in zip("qkv", tensor.split(rows), strict=True):
                    yield f"model.layers.{layer}.self_attn.{short}_proj.weight", piece.contiguous()
            case ["blocks", layer, "ff_proj"] if tensor.shape[:1] == (2 * config.intermediate_size,):
                for short, piece in zip(("up", "gate"), tensor.chunk(2), strict=True):
                    yield f"model.layers.{layer}.mlp.{short}_proj.weight", piece.contiguous()
            case ["blocks", layer, module] if module in inside:
                yield f"model.layers.{layer}.{inside[module]}.weight", tensor
            case [module] if module in outside:
                yield f"{outside[module]}.weight", tensor
            case _:
                yield name, tensor
