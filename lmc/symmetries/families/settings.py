"""What two models must agree in beside their weights, and which fields of a configuration count.

>>> settings(model)["hidden_act"]
'gelu'
"""

import inspect
import re
import sys
from functools import cache
from typing import Any

import torch

# Fields that change nothing in evaluation, or that the shape of a tensor shows. Two endpoints must agree in every other
# that the stock class declares or its source mentions: what tools leave as a mark of theirs is read by nothing.
_IRRELEVANT = frozenset(
    re.findall(
        r"\w+",
        """
        _name_or_path architectures auto_map dtype torch_dtype transformers_version model_type return_dict
        output_attentions output_hidden_states use_cache initializer_range initializer_factor init_std layerscale_value
        gradient_checkpointing head_dim
        bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id id2label label2id problem_type
        tie_word_embeddings torchscript num_labels vocab_size max_position_embeddings n_positions is_encoder_decoder
        chunk_size_feed_forward hidden_dropout attention_dropout resid_pdrop embd_pdrop attn_pdrop hidden_dropout_prob
        attention_probs_dropout_prob classifier_dropout dropout layerdrop embedding_dropout residual_dropout
        activation_dropout drop_path_rate router_jitter_noise router_aux_loss_coef output_router_logits n_inner
        summary_type summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout pretraining_tp
        encoder_stride pooler_output_size tokenizer_class is_decoder position_embedding_type max_window_layers
        projection_dim loss_type
        """,
    )
)

# Older files say with these fields what newer ones say with `rope_parameters`, the only one that a stock class reads.
_BEFORE = frozenset(("rotary_pct", "rotary_emb_base", "partial_rotary_factor", "rope_theta", "rope_scaling"))

# Fields that say how large a part is, or follow from such a number.
_SIZES = frozenset(
    re.findall(
        r"\w+",
        """
        hidden_size n_embd word_embed_proj_dim num_hidden_layers n_layer num_attention_heads n_head num_heads
        num_key_value_heads head_dim intermediate_size ffn_dim mlp_ratio moe_intermediate_size
        shared_expert_intermediate_size num_experts num_local_experts type_vocab_size out_features out_indices
        stage_names
        """,
    )
)


def settings(model: Any) -> dict[str, object]:
    """Every field of a transformers configuration that changes the function and is not visible in a shape."""
    found = of_configuration(model.config, type(model))
    if hasattr(model, "score") and "SequenceClassification" in type(model).__name__:
        found["pad_token_id"] = model.config.pad_token_id  # a text is judged at its last token that is no padding
    return found


def of_configuration(config: Any, stock: Any) -> dict[str, object]:
    """Those fields of a configuration, for a stock class that is built from it.

    >>> of_configuration(model.config, type(model))["hidden_act"]
    'gelu'
    """
    fields = config.to_dict()
    meaningless = _IRRELEVANT | (_BEFORE if fields.get("rope_parameters") else frozenset())
    found = {name: value for name, value in fields.items() if name not in meaningless and _is_read(name, stock)}
    rotary = fields.get("rope_parameters") or {}
    kinds = [rotary, *(part for part in rotary.values() if isinstance(part, dict))]  # for all layers, or by their type
    for kind in (kind for kind in kinds if "rope_type" in kind):
        kind.pop("type", None)  # its older name, which nothing reads beside the newer one
    if any(kind.get("rope_type", "default") != "default" for kind in kinds):  # angles depend on the context's length
        found["max_position_embeddings"] = fields.get("max_position_embeddings")
    return found


def same_setting(first: object, second: object) -> bool:
    """Whether two values of a setting mean the same; an activation may have several names.

    >>> same_setting("silu", "swish"), same_setting("silu", "gelu")
    (True, False)
    """
    if first == second:
        return True
    from transformers.activations import ACT2FN

    if not all(isinstance(name, str) and name in ACT2FN for name in (first, second)):
        return False
    values = torch.linspace(-12, 12, 97, dtype=torch.float64)
    one, other = (ACT2FN[name](values) for name in (first, second))
    return bool((one - other).abs().max() <= 1e-9)


def same_but_for_size(name: str, first: object, second: object) -> bool:
    """Whether a setting of a smaller model is that of a larger one, sizes and what further layers have left aside.

    >>> same_but_for_size("hidden_size", 16, 32), same_but_for_size("sliding_window", 16, 32)
    (True, False)
    """
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        second = second[: len(first)]  # an entry for each layer
    return name in _SIZES or same_setting(first, second)


def _is_read(field: str, stock: Any) -> bool:
    """Whether a stock class declares a field of its configuration, or something in its source may read it."""
    return field in _declared(stock.config_class) or field in _mentioned(stock)


@cache
def _declared(config: Any) -> frozenset[str]:
    return frozenset(
        (*config(bos_token_id=0, eos_token_id=0).to_dict(), *inspect.signature(config.__init__).parameters)
    )


@cache
def _mentioned(stock: Any) -> frozenset[str]:
    """Every attribute and every quoted word in a stock class's file, its configuration's, and those that these use."""
    home = sys.modules[stock.__module__]
    modules = {getattr(value, "__module__", None) for value in vars(home).values()}
    modules |= {stock.__module__, stock.config_class.__module__}
    known = [sys.modules[m] for m in modules if m in sys.modules and m.startswith("transformers.")]
    found = (re.findall(r"\.(\w+)|[\"'](\w+)[\"']", inspect.getsource(module)) for module in known)
    return frozenset(word for words in found for pair in words for word in pair)
