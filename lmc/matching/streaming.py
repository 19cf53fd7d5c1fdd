"""Matching without data, and merging, of checkpoints on disk: no model is held, only the tensors of one part at a time.

>>> pair = lmc.matching.inspect_pair(["run-1", "run-2"])
>>> match_folders(pair.blueprints, Path("streamed"), export=True)

Every checkpoint is brought into canonical form once, part by part, into files beside the output that are removed at the
end (one model's size each). Matching, export and merging read these; `naive` needs none.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lmc import checkpoints
from lmc.checkpoints import DTYPES, Blueprint, Stored, hub, preprocessing, spill, stored
from lmc.errors import CheckpointError
from lmc.evaluation import PathResult, change_of_logits, is_lower, random_inputs
from lmc.files import TOO_LARGE, refuse_occupied, require_finite, scratch_folder, watched, whole_folder
from lmc.matching.averaging import mixture
from lmc.matching.folder import describe, elements, require_of, require_whole, write
from lmc.matching.inheritance import inherit
from lmc.matching.likeness import cosine, matrices, warn_if_shared
from lmc.matching.mergekit import write_configurations
from lmc.matching.model_card import card, changes, named
from lmc.matching.pairing import require_pairable
from lmc.matching.verification import require_small
from lmc.matching.weights import match_all, same_epsilon
from lmc.symmetries import (
    Canonical,
    ModelSpec,
    Moved,
    Transform,
    epsilon,
    example_inputs,
    hold,
    hollow,
    in_type,
    logits,
    relative_change,
    set_epsilon,
    warn_untied,
)
from lmc.symmetries.families import spec as spec_of


def match_folders(
    blueprints: Sequence[Blueprint],
    out: str | Path,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    seed: int = 0,
    export: bool = False,
    frequencies: Tensor | None = None,
    method: str = "weights",
) -> None:
    """Write the alignment that `lmc.match` finds into a new folder, as `Alignment.save` does; `method` reads no data.

    `export` adds the aligned models, as `Alignment.export` does. `frequencies` as there. Raises CheckpointError.
    """
    spec, naive = spec_of(blueprints[0].model), method == "naive"
    with whole_folder(out) as folder, scratch_folder(".canonical-", folder) as scratch:
        states: list[Stored] = []
        weights: list[Stored] = []
        references: list[dict[str, Any]] = []
        for blueprint in blueprints:
            hub.fetch(blueprint.source, blueprint.files)
        sums, finite = checkpoints.digests_and_finite(blueprints)  # first: what changes from now on is noticed
        for k, blueprint in enumerate(blueprints):
            checkpoints.require_tied(blueprint)
            read = stored(blueprint, dtype)
            references.append(checkpoints.refer(blueprint, read.dtype, sums))
            weights.append(read)
            if naive:  # a value may be too large for the type that is asked for
                whole = finite and torch.promote_types(read.dtype, blueprint.dtype) == read.dtype
                states.append(read if whole else _finite(read))
            else:
                states.append(_canonical(spec, read, scratch / str(k), device))
        record: dict[str, Any] = {"seed": seed}
        transforms = tuple(Transform.identity(spec) for _ in states)
        if not naive:
            _warn_of_shared(blueprints[0].model, references, weights)
            _say_untied(spec, blueprints, states)
            epsilons = [epsilon(b.model, spec) if spec.epsilon else 0.0 for b in blueprints]
            transforms = same_epsilon(spec, epsilons)
            if method == "weights":
                transforms, found = match_all(states, spec, epsilons, frequencies)
                record |= found
        write(folder, method, references, transforms, record)
        if export:
            (folder / "models").mkdir()
            write_configurations(folder / "models", len(blueprints), DTYPES[references[0]["dtype"]])
            moved = [Moved(t, s) for t, s in zip(transforms, states, strict=True)]
            _export(folder / "models", method, record, blueprints, references, moved)
        checkpoints.require_still(blueprints)


def _export(
    folder: Path,
    method: str,
    record: Mapping[str, Any],
    blueprints: Sequence[Blueprint],
    references: Sequence[Mapping[str, Any]],
    states: Sequence[Moved],
) -> None:
    """Every aligned endpoint as a stock checkpoint, as `Alignment.export` writes it."""
    outlines = [blueprint.model for blueprint in blueprints]
    for k, (blueprint, moved) in enumerate(zip(blueprints, states, strict=True)):
        outline, dtype = _endpoint(blueprint.model, moved.transform.spec, moved), DTYPES[references[k]["dtype"]]
        inherited = inherit([outline], [references[k].get("folder", references[k]["name"])])
        notes = [*changes(outlines, outline), f"weights: {references[k]['dtype']}", *inherited.of_endpoint(k)]
        text = card(method, record, [named(r) for r in references], None, k, notes=notes)
        target = folder / f"endpoint-{k}"
        checkpoints.save(outline, target, inherited.sources, text, dtype, moved.items(), inherited.metadata)


def merge_folder(
    directory: Path,
    out: Path,
    weights: Sequence[float],
    dtype: torch.dtype = torch.float32,
    measured: PathResult | None = None,
    take_from: int = 0,
    verify: bool = True,
    verified: Callable[[float], object] = lambda change: None,
) -> str | None:
    """What `Alignment.load` and `export` do, a part in memory at a time; returns the model card's text.

    >>> text = merge_folder(Path("aligned"), Path("averaged"), [0.5, 0.5], verify=False)

    Unless `verify` is False the ends of the path are computed first (those of `naive` are the parents): `verified` is
    called with the largest change of a logit; and what rounding to a lower type does is measured. None, and nothing is
    done, where models are needed: where parents were rounded to be matched, or an input normalisation is folded in;
    and, unless `verify` is False, where a stock class makes a table that no file holds. Raises what these two raise.
    """
    described, transforms, found = _read(directory)
    blueprints, references = [blueprint for blueprint, _, _ in found], [reference for _, _, reference in found]
    models = [in_type(blueprint.model, kind) for blueprint, kind, _ in found]
    method: str = described["method"]
    naive = method == "naive"
    rounded = any(is_lower(dtype, blueprint.dtype if naive else kind) for blueprint, kind, _ in found)
    others = any("rounded_from" in reference for reference in references)  # what is averaged is not what is stored
    to_compute = verify and (rounded or not naive)
    if others or (to_compute and any(map(_lacks_tables, models))) or not can_stream(blueprints):
        return None
    require_pairable(models)
    spec = spec_of(models[0])
    require_of(directory, transforms, spec)
    inherited = inherit(models, [reference.get("folder", reference["name"]) for reference in references], take_from)
    read = [stored(blueprint, kind) for blueprint, kind, _ in found]
    states: Sequence[Mapping[str, Tensor]] = read
    ends, parent = models, None
    with scratch_folder(".canonical-", refuse_occupied(out).parent, out) as scratch:
        if not naive:
            forms = [_canonical(spec, tensors, scratch / str(k), None) for k, tensors in enumerate(read)]
            states = moved = [Moved(t, form) for t, form in zip(transforms, forms, strict=True)]
            ends = [_endpoint(model, spec, end) for model, end in zip(models, moved, strict=True)]
            parent = epsilon(models[0], spec)
            if verify:
                mixed_at = partial(mixture, spec, ends, states, parent=parent)
                verified(_ends(directory, spec, list(zip(models, read, strict=True)), mixed_at, scratch))
        outline, mixed = mixture(spec, ends, states, weights, parent)
        notes = [*changes(models, outline), f"weights: {str(dtype).removeprefix('torch.')}"]
        if verify and rounded:
            mixed, note = _measured(outline, mixed, spec, dtype, scratch)
        else:
            note = "what rounding them changes was not measured"
        # The mean of two numbers of a low type is none of it, so parents that are averaged as stored are rounded too.
        rounded = rounded or (max(weights) < 1 and any(is_lower(dtype, kind) for _, kind, _ in found))
        notes += [note] if rounded else []
        inherited.settle(outline, models)
        notes += inherited.notes
        text = card(method, described["record"], [named(r) for r in references], weights, 0, measured, notes, rounded)
        checkpoints.save(outline, out, inherited.sources, text, dtype, _from(blueprints, mixed), inherited.metadata)
    return text


def _read(directory: Path) -> tuple[dict[str, Any], list[Transform], list[tuple[Blueprint, torch.dtype, Any]]]:
    """What an alignment's folder says, its transforms, and its parents: none of their weights is read yet."""
    described = describe(directory)
    require_whole(directory, described)
    transforms = [Transform.load(directory / elements(k)) for k in range(len(described["parents"]))]
    found = checkpoints.find_all(described["parents"], directory)
    for blueprint, _, _ in found:
        checkpoints.require_tied(blueprint)
    return described, transforms, found


def _ends(
    directory: Path,
    spec: ModelSpec,
    parents: Sequence[tuple[nn.Module, Stored]],
    mixed_at: Callable[[list[float]], tuple[nn.Module, Iterator[tuple[str, Tensor]]]],
    scratch: Path,
) -> float:
    """The largest change of a logit where all weight is on one parent; of each the model and its weights are given."""
    corners = [[float(other == k) for other in range(len(parents))] for k in range(len(parents))]
    try:
        return max(_end(k, *parents[k], mixed_at(corner), spec, scratch) for k, corner in enumerate(corners))
    except CheckpointError as error:
        raise CheckpointError(f"{directory}: {error}") from None


@torch.no_grad()
def _end(
    k: int,
    parent: nn.Module,
    weights: Stored,
    end: tuple[nn.Module, Iterator[tuple[str, Tensor]]],
    spec: ModelSpec,
    scratch: Path,
) -> float:
    """The change of a logit where all weight is on model k. Raises CheckpointError where rounding is no reason.

    `parent`: without its `weights`. Both models read their weights from files, which the system maps: they are not the
    process's own memory.
    """
    if not weights.mapped:
        weights = _written(parent, iter(weights.items()), scratch / "parent", f"parent {k}")
    model = hold(parent, spec, dict(weights))
    inputs, kind = example_inputs(model), next(model.parameters()).dtype
    expected = _computed(model, inputs, f"parent {k}")
    outline, tensors = end
    written = _written(outline, tensors, scratch / "end", f"end {k} of the path")
    error = relative_change(expected, _computed(hold(outline, spec, dict(written)), inputs, f"end {k}"))
    for folder in ("parent", "end"):
        shutil.rmtree(scratch / folder, ignore_errors=True)
    return require_small(k, error, kind)


def _computed(model: nn.Module, inputs: Tensor, text: str) -> Tensor:
    """The logits, which take long for a large model."""
    (found,) = (logits(m, inputs) for m in watched((model,), 1, f"{text} computes"))
    return found


@torch.no_grad()
def _measured(
    outline: nn.Module, tensors: Iterator[tuple[str, Tensor]], spec: ModelSpec, dtype: torch.dtype, scratch: Path
) -> tuple[Iterator[tuple[str, Tensor]], str]:
    """The tensors again, and what rounding them does to the logits; both models are read from files, as in `_end`."""
    exact = _written(outline, tensors, scratch / "mixed", "mixing")
    model = hold(outline, spec, dict(exact))
    learned = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    rounded = ((name, _rounded(name, t, dtype) if name in learned else t) for name, t in exact.items())
    written = _written(outline, rounded, scratch / "rounded", "rounding")
    inputs = random_inputs(model)
    both = (model, hold(outline, spec, dict(written)))
    before, after = (logits(m, inputs) for m in watched(both, 2, "what rounding does"))
    shutil.rmtree(scratch / "rounded")
    return iter(exact.items()), change_of_logits(dtype, before, after)


def _rounded(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The values that a lower type makes of a tensor, in its own type. Raises CheckpointError for those too large."""
    lower = tensor.to(dtype)
    require_finite(f"tensor {name}", lower, TOO_LARGE)
    return lower.to(tensor.dtype)


def _written(outline: nn.Module, tensors: Iterator[tuple[str, Tensor]], folder: Path, text: str) -> Stored:
    """The tensors of a model in files of a new folder, and read from there; `text`: what is shown of long work."""
    folder.mkdir()
    files: dict[str, tuple[Path, str]] = {}
    for name, tensor in watched(tensors, len(outline.state_dict()), text):
        files[name] = (folder / f"{len(files)}.safetensors", name)
        save_file({name: tensor.contiguous()}, files[name][0])
    return Stored(files, next(outline.parameters()).dtype)


def _from(blueprints: Sequence[Blueprint], tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors, and an error after the last one where a file that they were read from has changed meanwhile."""
    yield from tensors
    checkpoints.require_still(blueprints)


def _lacks_tables(model: nn.Module) -> bool:
    """Whether a model without its weights lacks more than these, as BERT does its kinds of text: it cannot compute."""
    return any(buffer.is_meta for buffer in model.buffers())


def can_stream(blueprints: Sequence[Blueprint]) -> bool:
    """Whether matching needs no whole model: no input normalisation to fold in."""
    normal = {(p.mean, p.std) for p in (preprocessing.of(b.model) for b in blueprints) if p is not None}
    return len(normal) <= 1


def _finite(tensors: Stored) -> Stored:
    """The tensors as stored, after each was read once: the first that is not finite is refused by name."""
    for name in watched(tensors, len(tensors), "reading"):
        tensors[name]
    return tensors


def _canonical(spec: ModelSpec, tensors: Stored, scratch: Path, device: torch.device | None) -> Stored:
    """The canonical form of stored weights, in files of its own."""
    scratch.mkdir()
    canonical = Canonical(spec, tensors)
    return spill(canonical, canonical.parts, scratch, tensors.dtype, device)


def _warn_of_shared(model: nn.Module, references: Sequence[Mapping[str, Any]], weights: Sequence[Stored]) -> None:
    """Say which models may share an initialisation."""
    names = [named(reference)[0] for reference in references]
    for (one, first), (name, other) in combinations(zip(names, weights, strict=True), 2):
        warn_if_shared(one, name, cosine(first, other, matrices(model)))


def _say_untied(spec: ModelSpec, blueprints: Sequence[Blueprint], states: Sequence[Stored]) -> None:
    """Say that heads become tensors of their own, where they were tied and their canonical form is another."""
    for blueprint, state in zip(blueprints, states, strict=True):
        model: Any = blueprint.model
        if spec.tied and model.config.tie_word_embeddings and not torch.equal(*(state[name] for name in spec.tied)):
            return warn_untied(spec, state[spec.tied[0]].numel())


def _endpoint(model: nn.Module, spec: ModelSpec, moved: Moved) -> Any:
    """The stock model of an aligned endpoint on the meta device: its settings, without its weights."""
    new: Any = hollow(model)
    if spec.tied and new.config.tie_word_embeddings:
        head, embedding = (moved[name] for name in spec.tied)
        if not torch.equal(head, embedding):
            new.config.tie_word_embeddings = False
    if spec.epsilon is not None and moved.transform.scale != 1.0:
        set_epsilon(new, spec, epsilon(model, spec) * moved.transform.scale**2)
    return new
