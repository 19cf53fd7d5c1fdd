"""Adapters as parents: a folder that PEFT has written holds small matrices for a base model; together they are a model.

With LoRA, the weight W of a layer becomes W + s·B·A with s = α/r (α/√r with rsLoRA). That is all of the arithmetic, so
it is done here, tensor by tensor in float32, and PEFT is not needed. Of the settings of an adapter those that are named
below are understood; any other one that is set is refused by its name.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import isdir  # False also for a name that is too long, of which Path.is_dir raises
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmc.checkpoints import belongings, blueprint, foreign, headers, hub, licence, references, transformers_layout
from lmc.checkpoints.blueprint import Blueprint
from lmc.checkpoints.checkpoint import require_tied, save
from lmc.checkpoints.lazy import stored
from lmc.errors import CheckpointError, LmcError, inert
from lmc.files import open_safetensors, read_json, require_finite, sha256

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLED = "adapter_model.bin"  # as PEFT wrote them before it wrote safetensors; `conversion` opens it
_CLASSES = "config.json"  # some trainers leave one beside an adapter, with the names of classes
MODULES = ("target_modules", "modules_to_save")  # settings that list what an adapter changes
# What is read here, and what changes nothing once training is over. Some fields may have these values and no other.
_READ = {"base_model_name_or_path", "revision", "r", "lora_alpha", "alpha_pattern", "rank_pattern"}
_READ |= {"modules_to_save", "target_modules", "exclude_modules", "layers_to_transform"}
_IDLE = {"lora_dropout", "inference_mode", "task_type", "auto_mapping", "layers_pattern", "eva_config", "peft_version"}
_IDLE |= {"megatron_core", "fan_in_fan_out", "qalora_group_size", "ensure_weight_tying", "loftq_config"}
_PLAIN: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "eva"),
    "use_rslora": (True, False, None),
}
_LARGEST = 1e30  # no α is as large
_AGAIN = "merge the adapter with peft (merge_and_unload) and use the model that it saves"
_OTHER_BASE = f"was it made for another base, or for more tokens? write that base into {CONFIG}, or {_AGAIN}"
_PREFIX = "base_model.model."
_PARTS = re.compile(r"(.+)\.lora_(embedding_)?([AB])(\.weight)?")


@dataclass(frozen=True)
class Adapter:
    """An adapter that was checked: its folder, what it says of itself, its base, and the tensors it changes."""

    source: hub.Source
    weights: Path
    config: Mapping[str, Any]
    base: Blueprint
    changes: Mapping[str, tuple[str, ...]]  # tensor of the model: the names of A and B here, or of a new tensor


def inspect(name: str | Path, weights: Path | None = None) -> Adapter:
    """An adapter and its base, checked before a weight is read. Raises CheckpointError naming a field or a tensor.

    `weights`: the file of its tensors, where it is not the one in its folder.
    """
    source = hub.locate(name)
    path = source.folder / CONFIG
    config = read_json(path)
    for field, value in config.items():
        plain = _PLAIN.get(field)
        if value not in plain if plain else value and field not in _READ | _IDLE:
            expected = " or ".join(map(str, plain)) if plain else "none"
            raise CheckpointError(f"{path}: {field}: expected {expected}, found {str(value)[:60]}; {_AGAIN}")
    _require_factors(path, config)
    base = _base(source, path, config)
    blueprint.require_inputs(source, base.family, base.model)
    if weights is None:
        if WEIGHTS not in (names := hub.names(source)):
            advice = "save the adapter again with peft, as safetensors"
            if PICKLED in names:
                advice = f"join what is pickled there with its base: lmc convert {name} NEW"
            raise CheckpointError(f"{source.folder / WEIGHTS}: not found; {advice}")
        hub.fetch(source, (WEIGHTS,))
        weights = source.folder / WEIGHTS
    found = headers.headers(weights.parent, (weights.name,))
    for place in (source, base.source):
        foreign.warn_of_rest(place.folder)
    return Adapter(source, weights, config, base, _changes(weights, found, base, config))


def refer(adapter: Adapter) -> dict[str, Any]:
    """Everything that `write` writes depends on, by its SHA-256: of the adapter, and of its base wherever that lies."""
    base, folder = adapter.base, adapter.source.folder
    hub.fetch(base.source, base.files)
    own = {name: sha256(folder / name) for name in (CONFIG, WEIGHTS, _CLASSES) if (folder / name).is_file()}
    return {"base": {**references.refer(base, base.dtype), "folder": None}, "adapter": own | belongings.of(folder)}


def write(adapter: Adapter, folder: str | Path) -> None:
    """Write base and adapter as one stock checkpoint in float32 into a new folder."""
    base = adapter.base.source
    hub.fetch(base, adapter.base.files)
    require_tied(adapter.base)
    places = (adapter.source.folder, base.folder)  # the adapter's own first; the base has what that lacks
    sources = belongings.owners(places) | dict(zip((belongings.LICENCE, belongings.OF_BASE), places, strict=True))
    if belongings.TOKENIZER in sources:
        blueprint.require_tokens_fit(sources[belongings.TOKENIZER], adapter.base.family, adapter.base.model)
    metadata = licence.joined({"adapter": licence.of(adapter.source), "base": licence.of(base)})
    text = f"{inert(adapter.source.name)}, a LoRA adapter, and its base {inert(base.name)} as one model.\n"
    model: Any = copy.deepcopy(adapter.base.model)
    if sources.get(belongings.GENERATION) == adapter.source.folder and model.can_generate():
        model.generation_config = transformers_layout.generation(adapter.source.folder)
    _name_classes(model, adapter.source.folder / _CLASSES)
    if (own := transformers_layout.pictures(adapter.source.folder)) is not None:
        model.preprocessor_config = own
    save(model, folder, sources, text, torch.float32, _tensors(adapter), metadata)


def _name_classes(model: Any, file: Path) -> None:
    """Let a model call its classes as a configuration beside an adapter does, as some trainers leave it there."""
    named = read_json(file).get("id2label") if file.exists() else None
    named = named if isinstance(named, dict) and all(str(number).isdecimal() for number in named) else {}
    if named and len(named) == getattr(model.config, "num_labels", None):
        names = {int(number): str(name) for number, name in named.items()}
        model.config.id2label, model.config.label2id = names, {name: number for number, name in names.items()}


def _base(source: hub.Source, path: Path, config: Mapping[str, Any]) -> Blueprint:
    """The base model: a folder as seen from here or from the adapter, or a name on the hub."""
    name = config.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise CheckpointError(
            f"{path}: base_model_name_or_path: expected the base model, found {name!r}; write it there"
        )
    beside = source.folder / name
    revision = config.get("revision")
    given = beside if isdir(beside) else f"{name}@{revision}" if revision and not isdir(name) else name
    try:
        return blueprint.inspect(given)
    except LmcError as error:
        raise CheckpointError(f"{path}: base_model_name_or_path: {error}; write there where the base is") from error


def _changes(
    file: Path, found: Mapping[str, headers.Entry], base: Blueprint, config: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Which tensors of the model change, and by what. Raises CheckpointError for what is not one of them."""
    model: Any = base.model
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    tied = blueprint.STOCK[base.family.library].twins(model)
    tied = tied if getattr(getattr(model, "config", None), "tie_word_embeddings", False) else {}
    changes: dict[str, dict[str, str]] = {}
    earlier = False
    for name, entry in found.items():
        own = name.removeprefix(_PREFIX)
        parts = _PARTS.fullmatch(own)
        target, role = (f"{parts[1]}.weight", parts[3]) if parts else (own.replace(".base_layer.", "."), "new")
        if target not in shapes:  # what the class called it before
            target = blueprint.STOCK[base.family.library].names(model, [target])[target] or target
            earlier = earlier or target in shapes
        if target not in shapes or isinstance(entry.dtype, str):
            raise CheckpointError(f"{file}: tensor {name}: not one that changes {type(model).__name__}; {_AGAIN}")
        if target in tied:
            raise CheckpointError(
                f"{file}: tensor {name}: expected no change of {target}, which is tied to another tensor; {_AGAIN}"
            )
        changes.setdefault(target, {})[role] = name
    for target, roles in changes.items():
        wanted = shapes[target][::-1] if set(roles) != {"new"} and _turned(model, target) else shapes[target]
        _require_shape(file, target, {r: found[n].shape for r, n in roles.items()}, wanted)
        if set(roles) != {"new"}:
            rank = found[roles["A"]].shape[0]
            _require_rank(file, target, rank, _of_layer(config, "rank_pattern", "r", roles["A"], rank))
    if not changes:
        raise CheckpointError(f"{file}: expected tensors that change the base, found none; save the adapter again")
    # What a list of modules means is known by their names of today alone; of earlier ones, that each has to be there.
    _require_meant(file, model, config, changes, ("modules_to_save",) if earlier else MODULES)
    if earlier:
        _require_named(file, config, [parts[1] for name in found if (parts := _PARTS.fullmatch(name))])
    return {target: tuple(roles[r] for r in sorted(roles)) for target, roles in changes.items()}


def _require_named(file: Path, config: Mapping[str, Any], modules: Sequence[str]) -> None:
    """Each ending in a list of modules is that of one that changes."""
    listed = config.get("target_modules")
    if lacking := [end for end in (listed if isinstance(listed, list) else []) if not _ending(modules, [end])]:
        raise CheckpointError(
            f"{file}: expected changes of layers called {lacking[0]}, as target_modules in {CONFIG} says, found none; "
            "get the whole file, or save the adapter again"
        )


def _require_meant(
    file: Path, model: nn.Module, config: Mapping[str, Any], changes: Mapping[str, Any], fields: Sequence[str]
) -> None:
    """The tensors that change are those that the settings name; of others PEFT makes no use."""
    tensors = model.state_dict().keys()
    for field in fields:
        if (meant := _meant(model, config, field)) is None:
            continue
        if lacking := sorted(meant & tensors - changes.keys()):
            raise CheckpointError(
                f"{file}: expected a change of {lacking[0]}, as {field} in {CONFIG} says, found none; "
                "get the whole file, or save the adapter again"
            )
        own = {target for target, roles in changes.items() if "A" in roles}  # PEFT may add embeddings unasked
        if field == "target_modules" and (more := sorted(own - meant)):
            raise CheckpointError(
                f"{file}: expected no change of {more[0]}, which {field} in {CONFIG} does not name; save it again"
            )


def _meant(model: nn.Module, config: Mapping[str, Any], field: str) -> set[str] | None:
    """The tensors that a list of modules means, by PEFT's rule; None where patterns choose them."""
    names = [name for name, _ in model.named_modules()]
    if field == "modules_to_save":
        own = _ending(names, config.get(field))
        return {f"{name}.{tensor}" for name in own for tensor in model.get_submodule(name).state_dict()}
    numbers, pattern = config.get("layers_to_transform"), config.get("layers_pattern")
    if not isinstance(config.get(field), list) or pattern or isinstance(config.get("exclude_modules"), str):
        return None
    chosen = _ending(names, config.get(field)) - _ending(names, config.get("exclude_modules"))
    if numbers is not None and numbers != []:
        layers = numbers if isinstance(numbers, list) else [numbers]
        found = {name: re.match(r".*\.[^.]*\.(\d+)\.", name) for name in chosen}
        chosen = {name for name, layer in found.items() if layer and int(layer[1]) in layers}
    return {f"{name}.weight" for name in chosen}


def _ending(names: Sequence[str], ends: Any) -> set[str]:
    """The modules whose names end as one of a list says."""
    listed = ends if isinstance(ends, list) else []
    return {name for name in names if any(f".{name}".endswith(f".{end}") for end in listed)}


def _require_shape(file: Path, target: str, shapes: Mapping[str, tuple[int, ...]], wanted: tuple[int, ...]) -> None:
    match sorted(shapes.items()):
        case [("A", (rank, width)), ("B", (height, same))] if rank == same:
            made: tuple[int, ...] = (height, width)
        case [("new", made)]:
            pass
        case parts:
            found = ", ".join(f"{role} {list(shape)}" for role, shape in parts)
            raise CheckpointError(f"{file}: {target}: expected an A and a B of one rank, found {found}; {_AGAIN}")
    if made != wanted:
        what = f"expected a change of shape {list(wanted)}, found {list(made)}"
        raise CheckpointError(f"{file}: {target}: {what}; {_OTHER_BASE}")


def _require_rank(file: Path, target: str, rank: int, told: Any) -> None:
    """The factor is α/r, so the rank that the settings tell must be that of the weights."""
    if rank < 1 or rank != told:
        raise CheckpointError(f"{file}: {target}: expected a rank r of {told}, found {rank}; save the adapter again")


def _turned(model: Any, target: str) -> bool:
    """Whether a layer stores the transpose of what B·A is: embeddings do, and those of GPT-2, which are [in, out]."""
    return not isinstance(model.get_submodule(target.rpartition(".")[0]), nn.Linear)


def _tensors(adapter: Adapter) -> Iterator[tuple[str, Tensor]]:
    tensors = stored(adapter.base, torch.float32)
    with open_safetensors(adapter.weights) as opened:
        for name in tensors:
            names = adapter.changes.get(name, ())
            parts = [opened.get_tensor(part).float() for part in names]
            for part, tensor in zip(names, parts, strict=True):
                require_finite(f"{adapter.weights}: tensor {part}", tensor)
            if len(parts) == 1:
                yield name, parts[0]
            elif parts:
                change = _scale(adapter, names[0], len(parts[0])) * (parts[1] @ parts[0])
                yield name, tensors[name] + (change.mT if _turned(adapter.base.model, name) else change)
            else:
                yield name, tensors[name]


def _require_factors(path: Path, config: Mapping[str, Any]) -> None:
    """Numbers for α and r, and patterns that end: one with groups, or many repetitions, may be tried without end."""
    for pattern, field, default in (("alpha_pattern", "lora_alpha", 8), ("rank_pattern", "r", 8)):
        patterns = config.get(pattern) or {}
        numbers = [config.get(field, default), *(patterns.values() if isinstance(patterns, dict) else [patterns])]
        for number in numbers:
            if type(number) not in (int, float) or not abs(number) < _LARGEST:
                raise CheckpointError(
                    f"{path}: {field} and {pattern}: expected numbers, found {str(number)[:40]}; save it again"
                )
        for key in patterns:
            if "(" in key or sum(map(key.count, "*+?{")) > 3 or not _is_pattern(key):
                raise CheckpointError(f"{path}: {pattern}: expected names of layers, found {key[:60]!r}; {_AGAIN}")


def _is_pattern(text: str) -> bool:
    try:
        return bool(re.compile(text))
    except (re.error, OverflowError, RecursionError):
        return False


def _scale(adapter: Adapter, name: str, rank: int) -> float:
    """The factor of the change to which a tensor of the adapter belongs."""
    alpha = float(_of_layer(adapter.config, "alpha_pattern", "lora_alpha", name, 8))
    return alpha / (rank**0.5 if adapter.config.get("use_rslora") else rank)


def _of_layer(config: Mapping[str, Any], pattern: str, field: str, name: str, default: float) -> Any:
    """A number that the settings tell for all layers, or for some by a pattern of their names.

    `name`: of a tensor of the adapter. Patterns mean the layers' names of the time when it was saved, as this does.
    """
    parts = _PARTS.fullmatch(name.removeprefix(_PREFIX))
    module = parts[1] if parts else name
    own = [number for key, number in (config.get(pattern) or {}).items() if re.match(rf"(.*\.)?({key})$", module)]
    return [*own, config.get(field, default)][0]
