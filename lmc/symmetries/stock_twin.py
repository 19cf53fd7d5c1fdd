"""Is a model what its class and its settings say? All but the weights is compared with one that is built anew.

>>> require_stock(model)

What a table says of a class holds for what that class computes, and a checkpoint holds settings and weights only: an
activation, a factor or an angle that was changed in memory would be lost, without a word, in what is written.
"""

import copy
import inspect
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families import family_of, of_configuration, same_but_for_size, spec
from lmc.symmetries.stock_libraries import transformers
from lmc.symmetries.stock_model import without_weights
from lmc.symmetries.stock_timm import timm_architecture, timm_arguments, timm_model

Difference = tuple[str, object, object]  # where, what the model has, what the stock one has
_PLAIN = int | float | str | bool | tuple | None
_FUNCTION = FunctionType | BuiltinFunctionType
# What a model's output in evaluation mode does not depend on, what tensors say, and what is kept from the last call.
_ASIDE = {"training", "gradient_checkpointing", "grad_checkpointing", "fused_attn", "weight_init_mode", "fix_init"}
_ASIDE |= {"init_values", "max_seq_len_cached", "name_or_path", "forward", "layer_idx", "vocab_size", "num_labels"}
_LAST_TEXT = ("dynamic", "longrope")  # kinds of angles that are those of the last text's length
# How methods begin by which no function is computed.
_BESIDE = ("_init", "init_", "no_weight", "set_", "load_", "reset_", "prune_", "group_")
_KINDS = (torch.float64, torch.bfloat16, torch.float16)  # angles may have gone through one with the rest of a model


def require_stock(model: nn.Module) -> None:
    """Refuse a model in memory whose modules are not those of its settings. Raises UnsupportedModelError.

    >>> require_stock(model)
    """
    of_timm = family_of(model).library == "timm"
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise UnsupportedModelError(f"{type(model).__name__}: {name}: expected numbers, found none; load it whole")
    if of_timm:
        spec(model)  # names the flags of a constructor that the table does not have
    twin = _timm_anew(model) if of_timm else _anew(model)
    for where, here, there in differences(model, twin):
        if of_timm and where.endswith(".eps"):  # every norm may have its own: that is compared between parents
            continue
        advice = "build the model with it" if of_timm else "change the settings and build the model from them"
        advice = "set it to that" if where.endswith(".layer_idx") else advice
        advice = "build the model with add_pooling_layer=True" if where.startswith("pooler.") else advice
        advice = f"make it permanent: torch.nn.utils.{made}" if (made := _to_remove(model)) else advice
        method = where.rpartition(".")[2]
        advice = f"del MODULE.{method}, if it computes the same" if str(there).endswith(f".{method}") else advice
        like = f"as {'timm builds it' if of_timm else 'its settings say'}"
        raise UnsupportedModelError(
            f"{type(model).__name__}: {where}: expected {there}, {like}, found {here}; {advice}"
        )
    _require_tie(model)
    _warn_of_rounding(model, twin)


_LIBRARIES = ("torch", "transformers", "timm", "accelerate", "peft")


def warn_of_hooks(model: nn.Module) -> None:
    """Say where a model has forward hooks: no transform moves what they change, and no file holds it.

    >>> warn_of_hooks(model)

    The libraries leave hooks of their own, which only look, as when hidden states were asked for.
    """

    def foreign(hook: Any) -> bool:
        return getattr(hook, "__module__", "").partition(".")[0] not in _LIBRARIES

    hooked = [
        where
        for where, module in model.named_modules()
        if any(map(foreign, (*module._forward_hooks.values(), *module._forward_pre_hooks.values())))
    ]
    if hooked:
        what = "has a forward hook: what that changes is no part of what is matched and written; remove it"
        warnings.warn(f"{type(model).__name__}: {hooked[0] or 'the model'} {what}", stacklevel=1)


def _to_remove(model: nn.Module) -> str:
    """What makes the pruning or the parametrisation of a model permanent, where it has any."""
    if prune.is_pruned(model):
        return "prune.remove(MODULE, NAME)"
    parametrised = any(map(parametrize.is_parametrized, model.modules()))
    return "parametrize.remove_parametrizations(MODULE, NAME)" if parametrised else ""


def _require_tie(model: Any) -> None:
    """Refuse settings that tie a head to an embedding where the two differ: a library would read one for both."""
    tied = spec(model).tied
    if tied and model.config.tie_word_embeddings and not torch.equal(*(model.get_parameter(name) for name in tied)):
        what = f"{type(model).__name__}: config.tie_word_embeddings: expected False, as {tied[0]} and {tied[1]} differ"
        raise UnsupportedModelError(f"{what}, found True; set it so")


def _warn_of_rounding(model: nn.Module, twin: nn.Module) -> None:
    """Say where angles went through a lower type with the weights, as `model.bfloat16()` has it, or factors did.

    Factors are rounded by the libraries, too: to the type that a model is read in.
    """
    others, read_in = dict(twin.named_modules()), next(model.parameters()).dtype
    for name, module in model.named_modules():
        for key, here, there in _numbers(module, others.get(name, module)):
            if not _same(here, there, torch.float64 if key.endswith("inv_freq") else read_in):
                what = (
                    f"{type(model).__name__}: {name}.{key}: rounded with the weights, where a checkpoint computes with"
                )
                warnings.warn(f"{what} exact numbers; load the model in that type (dtype=…)", stacklevel=1)
                return


def _timm_anew(model: Any) -> nn.Module:
    """The stock model of what a timm model's first block and its ends say: it has no settings beside its modules."""
    return timm_model(timm_architecture(model), **timm_arguments(model))


def _anew(model: Any) -> Any:
    """The stock model of a transformers model's settings."""
    stock = getattr(transformers(), type(model).__name__)
    with without_weights():
        return stock(copy.deepcopy(model.config)).eval()


def differences(model: nn.Module, twin: nn.Module) -> Iterator[Difference]:
    """Every class, shape, plain attribute and buffer in which a model differs from its twin, which has no weights.

    >>> list(differences(model, model))
    []

    Dropout counts as nothing: it does nothing in evaluation.
    """
    here, there = (_shapes(m) for m in (model, twin))
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            yield name, here.get(name), there.get(name)
    own, others = (dict(m.named_modules(remove_duplicate=False)) for m in (model, twin))
    yield from _of_methods(own)
    yield from _of_settings(own, others)
    yield from _of_places(own, others)
    for name in sorted((own.keys() | others.keys()) - _beside(own, others)):
        module, other = own.get(name), others.get(name)
        if all(m is None or _idle(m) for m in (module, other)):
            continue
        if module is None or other is None or not _of_one_class(module, other):
            yield name, _class(module), _class(other)
            continue
        mine, theirs = _attributes(module), _attributes(other)
        for key in sorted(mine.keys() | theirs.keys()):
            unread = key not in theirs and not hasattr(other, key)  # a mark of the owner's; no class looks for it
            if mine.get(key) != theirs.get(key) and not unread:
                yield f"{name}.{key}".lstrip("."), mine.get(key), theirs.get(key)
        for key, numbers, anew in _numbers(module, other):
            if not any(_same(numbers, anew, kind) for kind in _KINDS):
                yield f"{name}.{key}".lstrip("."), "other numbers", "those of its settings"


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a model; what else a quantised one keeps there has none."""
    return {name: tuple(t.shape) for name, t in model.state_dict().items() if isinstance(t, Tensor)}


def _beside(own: Mapping[str, nn.Module], others: Mapping[str, nn.Module]) -> set[str]:
    """Modules that an owner keeps with a model, such as a loss: no class looks for one of that name.

    What a container holds is used by its place, whatever its name.
    """
    found: set[str] = set()
    for name in own.keys() - others.keys():
        place, _, last = name.rpartition(".")
        around = others.get(place)
        held = isinstance(around, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        if around is not None and not held and not hasattr(around, last):
            found |= {n for n in own if n == name or n.startswith(f"{name}.")}
    return found


def _of_methods(own: Mapping[str, nn.Module]) -> Iterator[Difference]:
    """Where another function stands in the place of a class's own, by which it computes."""
    methods = {kind: _methods(kind) for kind in {type(module) for module in own.values()}}
    for name, module in own.items():
        for method in sorted(vars(module).keys() & methods[type(module)]):
            placed = vars(module)[method]
            if not _is_own(placed, getattr(type(module), method)):
                yield f"{name}.{method}".lstrip("."), _called(placed), f"{type(module).__name__}.{method}"


def _methods(kind: type) -> set[str]:
    """The methods of a class by which it computes: not those of every module, or of every model of a library."""
    own = [base for base in kind.__mro__ if base is not nn.Module and not _of_every_model(base)]
    found = {name for base in own for name, value in vars(base).items() if callable(value)}
    return {name for name in found if not name.startswith(("__", *_BESIDE))} | {"forward"}


def _of_every_model(base: type) -> bool:
    """Whether a class is one that all models of transformers are made of."""
    return base.__module__.startswith("transformers.") and not base.__module__.startswith("transformers.models.")


def _of_settings(own: Mapping[str, nn.Module], others: Mapping[str, nn.Module]) -> Iterator[Difference]:
    """In what settings differ that modules keep for themselves, as a base does that came from another model."""
    compared = set()
    for name, module in own.items():
        pair = [vars(m).get("config") for m in (module, others.get(name, module))]
        if not all(hasattr(config, "to_dict") for config in pair) or tuple(map(id, pair)) in compared:
            continue
        compared.add(tuple(map(id, pair)))
        here, there = (of_configuration(config, type(own[""])) for config in pair)
        for field in sorted(here.keys() | there.keys()):
            if not same_but_for_size(field, here.get(field), there.get(field)):
                yield f"{name}.config.{field}".lstrip("."), here.get(field), there.get(field)


def _of_places(own: Mapping[str, nn.Module], others: Mapping[str, nn.Module]) -> Iterator[Difference]:
    """Layers that share one place in the cache of keys and values, as copies of a layer do: each sees the other's."""
    places = [
        {name: (_class(module), module.layer_idx) for name, module in modules.items() if "layer_idx" in vars(module)}
        for modules in (own, others)
    ]
    if Counter(places[0].values()) == Counter(places[1].values()):  # in whatever order
        return
    for name, place in places[0].items():
        if name in places[1] and place != places[1][name]:
            yield f"{name}.layer_idx", place[1], places[1][name][1]


def _of_one_class(module: nn.Module, other: nn.Module) -> bool:
    """Whether two modules compute alike by their classes. timm's LayerNorm is torch's, and sooner done."""
    kinds = {type(module), type(other)}
    norms = all(k.__name__ == "LayerNorm" and k.__module__.startswith(("torch.nn.", "timm.layers.")) for k in kinds)
    return len(kinds) == 1 or norms


def _idle(module: nn.Module) -> bool:
    """Whether a module does nothing in evaluation."""
    return isinstance(module, nn.Identity | nn.Dropout) or type(module).__name__.endswith(("DropPath", "PatchDropout"))


def _is_own(placed: Any, method: Any) -> bool:
    """Whether what was put in the place of a method is around the class's own, as compilers and hooks are.

    They say so in `__wrapped__`, as `functools.wraps` does.
    """
    if placed is None:
        return True
    inner = inspect.unwrap(placed)
    return getattr(inner, "__func__", inner) is inspect.unwrap(method)


def _called(function: Any) -> str:
    """The name of a function, or of what stands for one."""
    return str(getattr(function, "__qualname__", type(function).__name__))


def _class(module: nn.Module | None) -> str | None:
    return None if module is None else type(module).__name__


def _attributes(module: nn.Module) -> dict[str, Any]:
    """What a module keeps beside tensors, modules and settings; of a function its name."""
    aside = set(_ASIDE)
    aside |= set() if type(module).__name__.endswith("Embeddings") else {"padding_idx"}  # some count positions from it
    aside |= set() if _by_layer(module) else {"original_max_seq_len"}
    public = {k: v for k, v in vars(module).items() if k[0] != "_" and k not in aside and "drop" not in k}
    plain = {k: v for k, v in public.items() if isinstance(v, _PLAIN) or k == "rope_type"}
    functions = {k: v for k, v in public.items() if isinstance(v, _FUNCTION) and not hasattr(type(module), k)}
    return plain | {k: v.__qualname__ for k, v in functions.items()}


def _by_layer(module: nn.Module) -> list[tuple[str, str]]:
    """The kinds of angles whose numbers follow the last text, each with the kind of layers that it belongs to."""
    kind = vars(module).get("rope_type")
    kinds = kind if isinstance(kind, dict) else {"": kind}
    return [(layer, str(kind)) for layer, kind in kinds.items() if any(last in str(kind) for last in _LAST_TEXT)]


def _follow(twin: Any, module: nn.Module) -> None:
    """Show a twin's angles the longest text that the module's have seen, where angles depend on it."""
    for layer, kind in _by_layer(module):
        own = f"{layer}_max_seq_len_cached".lstrip("_")
        longest = int(vars(module).get(own, vars(module)["max_seq_len_cached"]))
        longest = 2**31 if kind == "longrope" else longest  # it has two sets; the second one comes with such a text
        of = {"layer_type": layer} if layer else {}
        twin(torch.zeros(1), position_ids=torch.tensor([[longest - 1]]), **of)


def _numbers(module: nn.Module, twin: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The tensors that are no weights, with the twin's. Of two sets of angles the one in use is made for every text."""
    _follow(twin, module)
    copied = {f"{layer}_inv_freq".lstrip("_") for layer, kind in _by_layer(module) if kind == "longrope"}
    second = {key for key in vars(module) if key.endswith("long_inv_freq")}
    for key in sorted((module._non_persistent_buffers_set | second) - copied):
        here, there = getattr(module, key), getattr(twin, key, None)
        if here is not None and there is not None and not here.is_meta and not there.is_meta:
            yield key, here, there


def _same(here: Tensor, there: Tensor, kind: torch.dtype) -> bool:
    """Whether numbers are the same, after they went through a type."""
    if here.shape != there.shape:
        return False
    return torch.allclose(here.double().cpu(), there.cpu().to(kind).double(), rtol=1e-6, atol=0.0)
