"""Can these models be paired? They must be one architecture in everything but the weights.

>>> require_pairable([a, b])                      # raises an error that says what differs
>>> pair = inspect_pair(["run-1", "run-2"])       # the same for checkpoints, before a weight is read
>>> pair.parameters
5232
"""

import math
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lmc import checkpoints
from lmc.checkpoints import Blueprint, foreign, inspect, preprocessing, same_tokens
from lmc.errors import ArgumentError, IncompatibleModelsError
from lmc.matching.memory import COPIES, LIBRARIES, installed, process_memory
from lmc.symmetries import epsilon, hollow, require_room, to_shorten
from lmc.symmetries.families import Tokens, class_names, contexts, family_of, first_naming, names_classes, same_setting
from lmc.symmetries.families import spec as spec_of

MERGED_AS = "a merged model is used as the first one is"


def require_pairable(models: Sequence[nn.Module]) -> None:
    """Raise IncompatibleModelsError where two models differ in class, shape, vocabulary or a setting of the function.

    Works on models without weights (on the meta device) too. Warns where vision models were trained on other crops of a
    picture, or on pictures resized in another way; another input normalisation is no difference, matching folds it into
    the patch embedding.
    """
    for number, model in enumerate(models[1:], start=2):
        which = f"model 1 and model {number}"
        _require(models[0], model, which)
        kinds = [getattr(getattr(m, "config", None), "problem_type", None) for m in (models[0], model)]
        if kinds[0] != kinds[1]:
            what = f"{which} differ in problem_type, {kinds[0]} and {kinds[1]}"
            warnings.warn(f"{what}: {MERGED_AS}", stacklevel=1)
        if len(lengths := contexts((models[0], model))) > 1:
            what = f"{which} differ in their context, {lengths[0]:,} and {lengths[1]:,} tokens"
            warnings.warn(f"{what}: a merged model gets the shortest, which all have seen", stacklevel=1)
        preprocessing.require_common(model, models[0])
        for difference in preprocessing.differences(models[0], model):
            warnings.warn(f"{which} differ in {difference}; both are given the first one's pictures", stacklevel=1)
    naming = models.index(first_naming(models))
    for number, model in enumerate(models):
        if class_names(models[naming]) != class_names(model):
            which = f"model {min(naming, number) + 1} and model {max(naming, number) + 1}"
            both = names_classes(models[naming]) and names_classes(model)
            what = "name their classes differently" if both else "name no classes but for one, whose names are taken"
            warnings.warn(f"{which} {what}: are they in one order?", stacklevel=1)


def require_same_tokens(models: Sequence[nn.Module]) -> None:
    """Raise IncompatibleModelsError where models mean other things by their tokens: those that are as they were loaded.

    >>> require_same_tokens([lmc.load("run-1"), lmc.load("run-2")])

    What stands in the place of a checkpoint's tokens after a model was changed in memory, its owner knows.
    """
    placed = [(k, place) for k, model in enumerate(models) if (place := checkpoints.source(model)) is not None]
    folders = [checkpoints.hub.locate(place).folder for _, place in placed]
    for first, other in same_tokens.pairs(folders):
        pair = [placed[at][0] for at in (first, other)]
        if len({type(models[k]) for k in pair}) > 1:
            continue
        try:
            same_tokens.require_same(folders[first], folders[other], " and ".join(f"model {k + 1}" for k in pair))
        except IncompatibleModelsError:
            if all(checkpoints.reference(models[k]) for k in pair):
                raise


def warn_of_unknown(models: Sequence[nn.Module]) -> None:
    """Say which models the stock library has read: of them nothing is known but settings and weights.

    >>> warn_of_unknown([a, b])
    """
    for number, model in enumerate(models, start=1):
        place = getattr(model, "name_or_path", None)
        if place and checkpoints.origin(model) is None:
            what = "so its tokens are not compared, its pictures not fitted, and nothing beside its weights goes along"
            warnings.warn(f"model {number}: not read by lmc.load, {what}: read {place} with it", stacklevel=1)
        elif (own := checkpoints.source(model)) is not None:
            foreign.warn_of_rest(checkpoints.hub.locate(own).folder)


def to_cut(models: Sequence[nn.Module]) -> tuple[int, list[int]]:
    """How many learned positions the shortest table has, and which models have more and must be cut. Warns of them.

    >>> to_cut((a, b))
    (0, [])

    The models may lie on the meta device.
    """
    rows, longer = to_shorten(models)
    if longer:
        lengths = " and ".join(f"{length:,}" for length in contexts(models))
        what = f"the models differ in their context, {lengths} tokens: a merged model gets the shortest"
        warnings.warn(f"{what}, and the positions behind it are left out", stacklevel=1)
    return rows, longer


def to_enlarge(models: Sequence[nn.Module]) -> tuple[int, list[int]]:
    """Which model is the largest, and which others can be written in its shapes and have to be. Warns of them.

    >>> to_enlarge((a, b))
    (0, [])

    The models may lie on the meta device.
    """
    shapes = [{name: t.shape for name, t in model.state_dict().items()} for model in models]
    counts = [sum(shape.numel() for shape in own.values()) for own in shapes]
    largest = counts.index(max(counts))
    smaller = [k for k, own in enumerate(shapes) if own != shapes[largest]]
    if any(_why_not(models[k], models[largest]) for k in smaller):
        return largest, []
    for k in smaller:
        what = f"model {k + 1} ({counts[k]:,} numbers) is smaller than model {largest + 1} ({counts[largest]:,})"
        warnings.warn(f"{what}: it is written in the larger one's shapes first, the same function", stacklevel=1)
    return largest, smaller


def _require(a: Any, b: Any, which: str) -> None:
    if type(a) is not type(b):
        raise _differ(which, "class", type(a).__name__, type(b).__name__)
    family, spec = family_of(a), spec_of(a)
    spec_of(b)  # what its own settings make of it may be no model of the family
    read_a, read_b = family.inputs(a), family.inputs(b)
    if isinstance(read_a, Tokens) and isinstance(read_b, Tokens) and read_a.vocabulary != read_b.vocabulary:
        raise _differ(which, "vocab_size", read_a.vocabulary, read_b.vocabulary, f"; {same_tokens.CHOOSE}")
    here, there = ({name: list(t.shape) for name, t in m.state_dict().items()} for m in (a, b))
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            first, second = (found.get(name, "no such tensor") for found in (here, there))
            hint = _rewriting(family.alike, a, b) or _about_sizes(a, b)
            raise _differ(which, f"shape of {name}", first, second, hint)
    mine, theirs = family.settings(a), family.settings(b)
    for name in [
        *sorted(mine.keys() & theirs.keys()),
        *sorted(mine.keys() ^ theirs.keys()),
    ]:  # some count beside others
        # The residual scale s turns ε into s²ε: where the family has that symmetry, matching gives both the same ε.
        if not (spec.epsilon and name == spec.epsilon.field) and not same_setting(mine.get(name), theirs.get(name)):
            raise _differ(which, *_first_difference(name, mine.get(name), theirs.get(name)))


def _first_difference(name: str, first: object, second: object) -> tuple[str, object, object]:
    """A setting, and the two values; of long ones only where they first differ."""
    if isinstance(first, tuple | list) and isinstance(second, tuple | list) and len(first) == len(second):
        for at, (one, other) in enumerate(zip(first, second, strict=True)):
            if one != other:
                return _first_difference(f"{name}[{at}]", one, other)
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted(first.keys() | second.keys(), key=str):
            if first.get(key) != second.get(key):
                return _first_difference(f"{name}.{key}", first.get(key), second.get(key))
    return name, first, second


def _rewriting(alike: Callable[[Any, Any], nn.Module] | None, a: Any, b: Any) -> str:
    """What to do about a difference of form, if that is all it is."""
    if alike is None:
        return ""
    try:
        alike(hollow(b), hollow(a))
    except IncompatibleModelsError:
        return ""
    return f"; the second can be written in the form of the first: {alike.__module__}.{alike.__name__}(second, first)"


def _about_sizes(a: nn.Module, b: nn.Module) -> str:
    """What to say of two models whose shapes differ: how the smaller becomes as large, or why it cannot."""
    small, large = sorted((a, b), key=lambda model: sum(t.numel() for t in model.state_dict().values()))
    why_not = _why_not(small, large)
    if why_not:
        return f"; {why_not}; only models that agree in it can be averaged"
    how = "as lmc match does with models, not adapters, of one vocabulary"
    return f"; lmc.enlarge writes the smaller one in the larger one's shapes, {how}"


def _why_not(small: Any, large: Any) -> str:
    """Why a model cannot be written in another one's shapes to be matched; its tokens have to be the same ones."""
    try:
        require_room(small, large)
    except IncompatibleModelsError as error:
        return str(error)
    here, there = (family_of(model).inputs(model) for model in (small, large))
    if isinstance(here, Tokens) and isinstance(there, Tokens) and here.vocabulary != there.vocabulary:
        return "their vocabularies differ"
    return ""


def _differ(which: str, what: str, first: object, second: object, hint: str = "") -> IncompatibleModelsError:
    advice = hint or "; only models that agree in it can be averaged"
    return IncompatibleModelsError(f"{which} differ in {what}: expected {first}, found {second}{advice}")


@dataclass(frozen=True)
class Pairing:
    """Checkpoints that can be paired, and what matching them will take."""

    blueprints: tuple[Blueprint, ...]

    @property
    def parameters(self) -> int:
        """Parameters of one model."""
        return sum(p.numel() for p in self.blueprints[0].model.parameters())

    @property
    def memory(self) -> int:
        """Bytes that learned matching in float32 holds, besides activations.

        All endpoints, the merged model and its gradient; the float64 elements with their two moments and duals.
        """
        spec = spec_of(self.blueprints[0].model)
        elements = sum(s.group.n ** (1 if s.group.discrete else 2) * _count(spec.batch(s)) for s in spec.spaces)
        return 4 * self.parameters * (len(self.blueprints) + 2) + 8 * elements * 4 * len(self.blueprints)

    @property
    def fits(self) -> bool:
        """Whether this machine has the memory for learned matching."""
        return self.memory <= installed()

    @property
    def untied(self) -> int:
        """Parameters that any method but `naive` adds: a head that was tied, where the norm before it has a gain."""
        spec = spec_of(self.blueprints[0].model)
        models: list[Any] = [b.model for b in self.blueprints]
        if not spec.tied or not any(m.config.tie_word_embeddings for m in models):
            return 0
        gains = [n.weight for n in spec.norms if any(r.weight == spec.tied[0] for r in n.readers)]
        return models[0].get_parameter(spec.tied[0]).numel() if any(gains) else 0

    @property
    def disk(self) -> int:
        """Bytes of one merged model in float32."""
        return 4 * (self.parameters + self.untied)

    def __str__(self) -> str:
        free, model = shutil.disk_usage(Path.cwd()).free, self.blueprints[0].model
        lacking = "" if self.fits else f", more than the {_size(installed())} of this machine"
        rows = {
            "parameters each": f"{self.parameters:,}",
            "memory for matching": f"{_size(self.memory)} and activations{lacking}",
            "memory of the process": ", ".join(f"{_size(process_memory(model, m))} for {m}" for m in COPIES)
            + f", {_size(LIBRARIES + self.memory)} and activations for learning (estimates)",
            "disk for a merged model": f"{_size(self.disk)} (free here: {_size(free)})",
        }
        if self.untied:
            kept = "the parents' is tied, as naive and gains of 1 keep it"
            rows["of that, its own head"] = f"{_size(4 * self.untied)}; {kept}"
        return "\n".join(f"{name:<24} {value}" for name, value in rows.items())


def inspect_pair(names: Sequence[str | Path]) -> Pairing:
    """Check that checkpoints can be paired, tokenizers included, before any weight is read.

    >>> print(inspect_pair(["run-1", "run-2"]))

    Raises IncompatibleModelsError, CheckpointError or UnsupportedModelError.
    """
    blueprints = tuple(inspect(name) for name in names)
    folders = [blueprint.source.folder for blueprint in blueprints]
    for k, other in same_tokens.pairs(folders):  # what tokens mean says more than how many there are
        if type(blueprints[k].model) is type(blueprints[other].model):
            same_tokens.require_same(folders[k], folders[other], f"model {k + 1} and model {other + 1}")
    require_pairable([b.model for b in blueprints])
    for folder in folders:
        foreign.warn_of_rest(folder)
    for k, other in same_tokens.pairs(folders):
        same_tokens.warn_of_differences(folders[k], folders[other], f"model {k + 1} and model {other + 1}")
    return Pairing(blueprints)


def warn_of_epsilon(models: Sequence[nn.Module]) -> None:
    """Say what becomes of models with another ε: exact, and yet no good middle if both had one scale.

    >>> warn_of_epsilon((a, b))

    An export may differ by rounding.
    """
    spec = spec_of(models[0])
    for k, model in enumerate(models[1:], start=2):
        own, first = (epsilon(each, spec) for each in (model, models[0]))
        if spec.epsilon and not math.isclose(own, first, rel_tol=1e-6):
            name, factor = spec.epsilon.field, math.sqrt(first / own)
            what = f"every method but naive multiplies the residual stream of model {k} by {factor:.3g}, which is exact"
            advice = f"if both were trained at one scale, give both one {name} in config.json first"
            warnings.warn(
                f"model 1 and model {k} differ in {name}, {first:g} and {own:g}: {what}; {advice}", stacklevel=1
            )


def require_tunable(tuned: nn.Module, parents: tuple[nn.Module, ...]) -> None:
    """Raise ArgumentError unless a model could be a fine-tune of one of two parents; it may lie on the meta device.

    >>> require_tunable(a, (a, b))
    """
    if len(parents) != 2:
        raise ArgumentError(f"alignment: a change is carried between two models, found {len(parents)}")
    pair, both = "model 1 and model 2", "the parents and it"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            require_pairable((parents[0], tuned))
        except IncompatibleModelsError as error:
            what = str(error).replace(pair, both, 1).replace(f"; {same_tokens.CHOOSE}", "")  # which is not asked again
            raise ArgumentError(
                f"tuned: expected a fine-tune of one of the two parents; {what}; {tune_advice(parents)}"
            ) from None
    for warning in said:  # what is not known of its pictures is its base's (`preprocessing.of_its_base`)
        if "differ in input normalisation" not in (words := str(warning.message)):
            words = words.replace(MERGED_AS, "what is carried is used as the fine-tune is").replace(pair, both, 1)
            warnings.warn(words, warning.category, stacklevel=2)


def tune_advice(parents: tuple[nn.Module, ...]) -> str:
    """What to fine-tune instead. Parents that were enlarged, or brought to one vocabulary, are not what they were.

    >>> tune_advice((a, b)).partition(" (")[0]
    'fine-tune one of the two models that were matched'
    """
    places = [place for place in map(checkpoints.source, parents) if place is not None]
    where = f" ({', '.join(places)})" if places else ""
    return f"fine-tune one of the two models that were matched{where}"


def _count(batch: tuple[int, ...]) -> int:
    return torch.Size(batch).numel()


def _size(count: float) -> str:
    """A number of bytes as people read it."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"
