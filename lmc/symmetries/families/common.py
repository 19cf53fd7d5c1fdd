"""What several tables have in common: norms and their readers, settings of a configuration, inputs."""

import re
from dataclasses import dataclass
from typing import Any

from lmc.symmetries.spec import Norm, Reader

# Fields that do not change what a model computes in evaluation, or that the shape of a tensor shows. Two endpoints must
# agree in every other field, also in one that this package has never heard of.
_IRRELEVANT = frozenset(
    re.findall(
        r"\w+",
        """
        _name_or_path architectures auto_map dtype torch_dtype transformers_version model_type return_dict
        output_attentions output_hidden_states use_cache initializer_range initializer_factor gradient_checkpointing
        bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id id2label label2id problem_type
        tie_word_embeddings torchscript num_labels vocab_size max_position_embeddings n_positions n_ctx
        is_encoder_decoder chunk_size_feed_forward task_specific_params hidden_dropout attention_dropout resid_pdrop
        embd_pdrop attn_pdrop hidden_dropout_prob attention_probs_dropout_prob classifier_dropout summary_type
        summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout pretraining_tp encoder_stride
        pooler_output_size pooler_act tokenizer_class unk_token_id output_past directionality unsloth_version is_decoder
        position_embedding_type max_window_layers
        """,
    )
)

# Older files say with these fields what newer ones say with `rope_parameters`, the only one that a stock class reads.
_BEFORE = frozenset(("rotary_pct", "rotary_emb_base", "partial_rotary_factor", "rope_theta", "rope_scaling"))


@dataclass(frozen=True)
class Tokens:
    """A language model reads token ids below `vocabulary`, at most `context` of them at a time.

    One that is not `causal` does not predict the next token: it predicts masked ones, labels, or nothing.
    """

    vocabulary: int
    context: int
    causal: bool = True


@dataclass(frozen=True)
class Images:
    """A vision model reads images of `shape` (channels, height, width) tells `classes` apart, 0 without a head."""

    shape: tuple[int, int, int]
    classes: int


def tokens(model: Any) -> Tokens:
    """What a language model of transformers reads."""
    return Tokens(model.config.vocab_size, model.config.max_position_embeddings, causal=model.can_generate())


def settings(model: Any) -> dict[str, object]:
    """Every field of a transformers configuration that changes the function and is not visible in a shape."""
    fields = model.config.to_dict()
    meaningless = _IRRELEVANT | (_BEFORE if fields.get("rope_parameters") else frozenset())
    found = {name: value for name, value in fields.items() if name not in meaningless}
    rotary = fields.get("rope_parameters") or {}
    if rotary.get("rope_type", "default") != "default":  # angles then depend on the length of the context
        found["max_position_embeddings"] = fields.get("max_position_embeddings")
    return found


def reader(name: str, present: set[str]) -> Reader:
    """The layer, or the tensor, called `name` as a reader of the stream, with its bias where it has one."""
    return Reader(name if name in present else name + ".weight", name + ".bias" if name + ".bias" in present else None)


def norm(module: str, present: set[str], *read_by: str) -> Norm:
    """The norm called `module`, with its gain and bias where it has them, and those of its readers that are there."""
    weight, bias = (name if name in present else None for name in (module + ".weight", module + ".bias"))
    return Norm(
        module, weight, bias, tuple(reader(name, present) for name in read_by if {name, name + ".weight"} & present)
    )
