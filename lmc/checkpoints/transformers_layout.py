"""The transformers side of reading and writing checkpoints: its classes, its names, its loader."""

import copy
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmc.checkpoints import headers, writer
from lmc.checkpoints.belongings import NESTED, NESTING, OLDER, PREPROCESSOR
from lmc.checkpoints.headers import Where
from lmc.errors import CheckpointError, UnsupportedModelError, one_line
from lmc.files import read_json, tensor_digest
from lmc.symmetries import transformers, without_weights

_FLOATS = tuple(headers.TYPES.values())
# Buffers of old checkpoints that the stock loader reads for no model, besides those that a class names itself.
_LEGACY = r"rotary_emb\.inv_freq|attn\.masked_bias|(^|\.)position_ids$"
_GENERATION = "generation_config.json"


def empty(folder: Path, config: Mapping[str, Any]) -> nn.Module:
    """The stock model of a configuration, on the meta device. Raises CheckpointError."""
    (architecture,) = config["architectures"]
    stock = getattr(transformers(), architecture)
    if config.get("model_type") != stock.config_class.model_type:
        found, expected = config.get("model_type"), stock.config_class.model_type
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type: expected {expected!r}, found {found!r}; correct one"
        )
    if (quantised := config.get("quantization_config")) is not None:
        how = f" ({quantised['quant_method']})" if quantised.get("quant_method") else ""
        raise CheckpointError(
            f"{folder / 'config.json'}: quantization_config: expected none, found quantised weights{how}; "
            "use the checkpoint that they were made from"
        )
    if config.get("transformers_weights") is not None:
        other = config["transformers_weights"]
        raise CheckpointError(
            f"{folder / 'config.json'}: transformers_weights: expected none, found {other!r}; remove it"
        )
    dtype = config.get("dtype", config.get("torch_dtype"))  # the older name of the two
    if dtype not in (None, "auto", *_FLOATS):
        expected = f"expected one of {', '.join(_FLOATS)}, found {dtype!r}"
        raise CheckpointError(
            f"{folder / 'config.json'}: dtype: {expected}; write the one that the weights are stored in"
        )
    with without_weights(), _silence():
        # What else a model returns beside its logits does not belong to its function, and hinders using and saving it.
        plain = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
        model = stock(stock.config_class.from_pretrained(folder, local_files_only=True, **plain))
    _require_own_tensors(model)
    if model.can_generate() and ((folder / _GENERATION).exists() or config.keys() & set(OLDER)):
        model.generation_config = generation(folder)
    if (made := pictures(folder)) is not None:
        model.preprocessor_config = made
    return model


def pictures(folder: Path) -> dict[str, Any] | None:
    """How a folder says that pictures become input; None where it does not."""
    if (file := processor_file(folder)) is None:
        return None
    found = read_json(file)
    return found if file.name == PREPROCESSOR else found[NESTED]


def processor_file(folder: Path) -> Path | None:
    """The file that says how pictures become a model's input; None where none does.

    As the library reads them: what is nested in `processor_config.json` comes before `preprocessor_config.json`.
    """
    nested, plain = folder / NESTING, folder / PREPROCESSOR
    if nested.exists() and isinstance(read_json(nested).get(NESTED), dict):
        return nested
    return plain if plain.exists() else None


def build(architecture: str, fields: Mapping[str, Any]) -> Any:
    """The stock model of a class and its configuration's fields, on the meta device."""
    stock = getattr(transformers(), architecture)
    with without_weights():
        return stock(stock.config_class(**fields)).eval()


def names(model: Any, found: Iterable[str]) -> dict[str, str | None]:
    """What the stock loader calls each tensor of a file: its own name, a new one, or None for one it ignores."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    own = model.state_dict()
    renamings = [r for r in get_model_conversion_mapping(model) if isinstance(r, WeightRenaming)]
    ignored = re.compile("|".join([*(model._keys_to_ignore_on_load_unexpected or ()), _LEGACY]))

    def stock(name: str) -> str | None:
        if name in own:
            return name
        renamed = rename_source_key(name, renamings, [], model.base_model_prefix, own)[0]
        return renamed if renamed in own or not ignored.search(renamed) else None

    return {name: stock(name) for name in found}


def _require_own_tensors(model: Any) -> None:
    """Refuse a class whose files hold as one tensor what are several in the model, as a gate and what it gates."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    own = model.state_dict()
    for conversion in get_model_conversion_mapping(model):
        parts = conversion.target_patterns
        if isinstance(parts, list) and len(parts) > 1 and any(part in name for part in parts for name in own):
            joined = conversion.source_patterns[0] if isinstance(conversion.source_patterns, list) else ""
            raise UnsupportedModelError(
                f"{type(model).__name__}: its files hold {' and '.join(parts)} as one tensor ({joined}), which is not "
                "read or written here; match such models in memory (lmc.match)"
            )


def fused(model: Any) -> dict[str, dict[str, Where]]:
    """The tensors of experts, which files hold one by one: what the pieces are called, and where each belongs.

    The stock class joins layers along the rows, the gate and what it gates, and then stacks experts.
    """
    from transformers.core_model_loading import revert_weight_conversion

    found = {}
    for name, tensor in model.state_dict().items():
        if tensor.ndim != 3:
            continue
        pieces = revert_weight_conversion(model, {name: torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")})
        if len(pieces) > 1:
            experts, rows = len(tensor), next(iter(pieces.values())).shape[0]
            at = (divmod(k, experts) for k in range(len(pieces)))
            found[name] = {
                piece: (expert, slice(part * rows, (part + 1) * rows))
                for piece, (part, expert) in zip(pieces, at, strict=True)
            }
    return found


def twins(model: Any) -> dict[str, str]:
    """Tensors that share memory, both ways: a file may hold either."""
    tied = model.all_tied_weights_keys
    return {**tied, **{source: target for target, source in tied.items()}}


def read(folder: Path, empty: Any, dtype: torch.dtype, tensors: dict[str, Tensor] | None = None) -> nn.Module:
    """The model with its weights: from the folder's safetensors, or from `tensors`. Raises CheckpointError."""
    stock = type(empty)
    with _silence():
        if tensors is None:
            model = stock.from_pretrained(
                folder, config=empty.config, dtype=dtype, use_safetensors=True, local_files_only=True
            )
        else:
            model = stock.from_pretrained(None, config=empty.config, state_dict=tensors, dtype=dtype)
    if model.can_generate():
        model.generation_config = copy.deepcopy(empty.generation_config)
    for one, other in empty.all_tied_weights_keys.items():
        _refuse_untied(model, one, other, str(folder))
    if hasattr(empty, "preprocessor_config"):
        model.preprocessor_config = copy.deepcopy(empty.preprocessor_config)
    return model.eval()


def alone(folder: Path, empty: Any) -> nn.Module:
    """The model as the stock class reads a folder, with nothing of this package in between."""
    with _silence():
        return type(empty).from_pretrained(folder, local_files_only=True).eval()  # type: ignore[no-any-return]


def generation(folder: Path) -> Any:
    """The generation settings of a folder, in a file of their own or among others as older files have them.

    Raises CheckpointError for a file that cannot be read.
    """
    from transformers import GenerationConfig

    options: dict[str, Any] = {}
    file = _GENERATION
    if not (folder / file).exists():
        file, options = "config.json", {"_from_model_config": True}
    read_json(folder / file)
    try:
        return GenerationConfig.from_pretrained(folder, file, local_files_only=True, **options)
    except Exception as error:  # it finds a wrong value in many ways, all of them the file's fault
        remedy = "mend or remove it" if file == _GENERATION else "mend the generation settings in it"
        raise CheckpointError(f"{folder / file}: cannot be read ({one_line(error)}); {remedy}") from error


def _refuse_untied(model: Any, one: str, other: str, where: str) -> None:
    first, second = model.get_parameter(one), model.get_parameter(other)
    # Of models on the meta device there are no numbers to compare.
    if first is not second and (first.is_meta or second.is_meta or not torch.equal(first, second)):
        raise untied(where, one, other)


def untied(where: str | Path, one: str, other: str) -> CheckpointError:
    """The error for two different tensors where the configuration says that they are one."""
    what = f"tie_word_embeddings is set, expected {one} to be {other}, found another"
    return CheckpointError(f"{where}: {what}; set it to false, or restore the weights")


def write(model: Any, folder: Path, plan: Mapping[str, Tensor], tensors: Iterable[tuple[str, Tensor]]) -> None:
    """config.json and its like, and model.safetensors or shards with an index, as the stock class does it.

    Only the model's configuration and class are looked at; its weights may be on the meta device.
    """
    from transformers import PreTrainedModel

    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.dtype = str(next(iter(plan.values())).dtype).removeprefix("torch.")
    if hasattr(config, "auto_map"):  # it names code that is not part of a stock checkpoint
        del config.auto_map
    config.save_pretrained(folder)
    if model.can_generate():
        # Written without the stock checks, which refuse to save some settings that they only warn of when reading.
        model.generation_config.to_json_file(folder / _GENERATION)
    if hasattr(model, "preprocessor_config"):
        (folder / PREPROCESSOR).write_text(json.dumps(model.preprocessor_config, indent=2) + "\n", encoding="utf8")
    _require_own_tensors(model)
    names = _stored(model)
    pieces = fused(model)
    planned = {names[name]: t for name, t in plan.items() if name in names}
    planned |= {piece: plan[name][where] for name, parts in pieces.items() for piece, where in parts.items()}
    limit = inspect.signature(PreTrainedModel.save_pretrained).parameters["max_shard_size"].default
    writer.write(
        folder,
        planned,
        _each_once(model, names, pieces, tensors),
        limit,
    )


def _stored(model: Any) -> dict[str, str]:
    """What the stock class calls each of a model's tensors in a file, without ties and pieces."""
    from transformers.core_model_loading import revert_weight_conversion

    whole = model.state_dict().keys() - fused(model).keys()
    state = model.state_dict().items()
    own = {name: torch.empty(t.shape, dtype=t.dtype, device="meta") for name, t in state if name in whole}
    if getattr(model.config, "tie_word_embeddings", False):  # not every configuration has it
        for one, other in model.all_tied_weights_keys.items():
            _refuse_untied(model, one, other, type(model).__name__)
            own.pop(one, None)
    known = {id(tensor): name for name, tensor in own.items()}
    # A head that was untied since the model was read: its files do not say what it would be called there.
    heads = {name: own.pop(name) for name in model.all_tied_weights_keys if name in own}
    made = copy.copy(model)
    vars(made).pop("_weight_conversions", None)  # as for a model that is made from its configuration
    named = revert_weight_conversion(model, own) | revert_weight_conversion(made, heads)
    return {known[id(tensor)]: name for name, tensor in named.items()}


def _each_once(
    model: Any,
    names: Mapping[str, str],
    pieces: Mapping[str, Mapping[str, Where]],
    tensors: Iterable[tuple[str, Tensor]],
) -> Iterator[tuple[str, Tensor]]:
    """The tensors by their names in a file, without those tied to another; a tied pair must still be equal."""
    ties = {one: other for one, other in model.all_tied_weights_keys.items() if one not in names}
    seen: dict[str, str] = {}
    for name, tensor in tensors:
        if name in ties or name in ties.values():
            seen[name] = tensor_digest({"": tensor})
        if name in names:
            yield names[name], tensor
        for piece, where in pieces.get(name, {}).items():
            yield piece, tensor[where]
    for one, other in ties.items():
        if one in seen and seen[one] != seen[other]:
            raise CheckpointError(f"{one}: tied to {other}, but another tensor; not saved")


@contextmanager
def _silence() -> Iterator[None]:
    """Without the stock loader's progress bars and reports: what they would say, we have checked or say ourselves."""
    from transformers.utils import logging

    shown, loudness = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(loudness)
        if shown:
            logging.enable_progress_bar()
