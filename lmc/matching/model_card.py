"""The model card of an aligned or merged model: what it is, what it was made of, and only what is known."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lmc import __version__, checkpoints
from lmc.checkpoints import preprocessing, provenance
from lmc.errors import inert
from lmc.evaluation import PathResult
from lmc.files import tensor_digest
from lmc.matching.folder import READ
from lmc.symmetries import epsilon, state
from lmc.symmetries.families import class_names, contexts, first_naming, names_classes
from lmc.symmetries.families import spec as spec_of


def card(
    method: str,
    record: Mapping[str, Any],
    parents: Sequence[tuple[str, str]],
    weights: Sequence[float] | None,
    endpoint: int = 0,
    measured: PathResult | None = None,
    notes: Sequence[str] = (),
    rounded: bool = False,
) -> str:
    """The text for the model at some weights of the simplex, or for the aligned endpoint of that number.

    >>> print(card("dual", {"seed": 0}, [("run-1", "seed 1"), ("run-2", "seed 2")], [0.5, 0.5]))

    `parents`: what each is called, and what it can be recognised by, see `known` and `named`. `measured`: a path of the
    alignment; what it says of this model is quoted. `notes`: what else is to be said, see `changes`.
    `rounded`: whether its weights were rounded to a lower type, after they were measured.
    """
    if weights is None:
        title, first = (
            "Aligned model",
            f"{parents[endpoint][0]}, with the same function, aligned with the others below.",
        )
    else:
        place = f"λ = {weights[1]}" if len(weights) == 2 else f"weights {tuple(weights)}"
        title, first = "Merged model", f"Merged at {place} from {' and '.join(name for name, _ in parents)}."
    lines = [f"- parent {k}: {name} ({origin})" for k, (name, origin) in enumerate(parents)]
    return _text(title, first, lines, method, record, (*_losses(weights, endpoint, measured, rounded), *notes))


def carried_card(
    method: str,
    record: Mapping[str, Any],
    tuned: tuple[str, str],
    base: tuple[str, str],
    target: tuple[str, str],
    size: float,
    notes: Sequence[str] = (),
) -> str:
    """The text for a model that was given what another was taught; each as `known` tells it.

    `size`: of the change, as a share of the base's weights. `notes`: what else is to be said.
    """
    first = f"{target[0]}, with the change that led from {base[0]} to {tuned[0]}, carried by an alignment of the two."
    named_ = {"changed": target, "tuned": tuned, "its base": base}
    lines = [f"- {role}: {name} ({origin})" for role, (name, origin) in named_.items()]
    own = (
        f"size of the change: {size:.1%} of the weight matrices of its base",
        "what it is worth here was not measured",
    )
    return _text("Carried change", first, lines, method, record, (*own, *notes))


def _text(
    title: str, first: str, lines: list[str], method: str, record: Mapping[str, Any], notes: Sequence[str]
) -> str:
    """A card: a title, a sentence, and what is known, line by line."""
    lines.append(f"- method: {method}")
    lines += [
        f"- {inert(key)}: {_value(value)}" for key, value in sorted(record.items()) if key not in ("cosines", READ)
    ]
    lines += [f"- {note}" for note in notes]
    versions = {"lmc": __version__, **provenance.versions()}
    lines.append(f"- made with: {', '.join(f'{name} {version}' for name, version in versions.items())}")
    return "\n".join([f"# {title}", "", first, "", *lines]) + "\n"


def _value(value: object) -> str:
    """A value of a record: lists as they are written, of inert texts."""
    return f"[{', '.join(map(_value, value))}]" if isinstance(value, list | tuple) else inert(value)


def known(model: nn.Module) -> tuple[str, str]:
    """What a parent is called, and what it can be recognised by: as `lmc.load` read it, or by its weights alone."""
    reference = checkpoints.reference(model)
    if reference is None:
        return "a model in memory", f"weights sha256 {tensor_digest(state(model))[:12]}"
    return named(reference)


def named(reference: Mapping[str, Any]) -> tuple[str, str]:
    """What a parent is called, and recognised by, from its reference as `checkpoints.refer` makes it.

    A folder is called by its own name and that of the folder around it, unless that says only whose machine it was.
    """
    stored = reference.get("rounded_from")
    rounded = f", rounded from {inert(stored)} to {reference['dtype']}" if stored else ""
    if "folder" not in reference:  # repository@commit
        return inert(reference["name"]), f"of the hub{rounded}"
    sums = (f"{inert(file)} sha256 {sha[:12]}" for file, sha in reference["sha256"].items())
    return called(reference["folder"]), ", ".join(sums) + rounded


def called(place: str) -> str:
    """What a card calls a folder, or a repository of the hub: nothing that says whose machine it was.

    >>> called("/home/someone/runs/3"), called("someone/model")
    ('runs/3', 'someone/model')
    """
    folder = Path(os.path.abspath(place))
    if not os.path.isabs(place) and not folder.is_dir():
        return inert(place)
    around = "" if folder.parent in (Path.home(), Path(folder.anchor)) else f"{folder.parent.name}/"
    return inert(f"{around}{folder.name}")


def changes(parents: Sequence[Any], model: Any) -> list[str]:
    """What was changed on the way from these parents that is no symmetry of the weights alone.

    All of them may lie on the meta device: settings are looked at, not weights.
    """
    notes = []
    spec = spec_of(model)
    if spec.tied and not model.config.tie_word_embeddings and any(p.config.tie_word_embeddings for p in parents):
        head, embedding = spec.tied
        size = model.get_parameter(head).numel()
        notes.append(
            f"{head} was tied to {embedding} and is a tensor of its own, as it absorbs the final norm or ε differs: "
            f"{size:,} more parameters"
        )
    if len(lengths := contexts(parents)) > 1:
        (own,) = contexts([model])
        notes.append(f"context: {own:,} tokens, of parents with {' and '.join(f'{c:,}' for c in lengths)}")
    if (named := parents.index(first_naming(parents))) > 0:
        notes.append(f"classes: named as parent {named} names them, as parent 0 does not")
    names = class_names(parents[named])
    if others := [k for k, p in enumerate(parents) if names_classes(p) and class_names(p) != names]:
        what = f"parent {others[0]} names them differently"
        notes.append(f"classes: named as parent {named} names them; {what}, so look whether they are in one order")
    if spec.epsilon and (mixed := epsilon(model, spec)) not in (given := [epsilon(parent, spec) for parent in parents]):
        notes.append(f"{spec.epsilon.field}: {mixed:.3g}, of parents with {' and '.join(f'{e:.3g}' for e in given)}")
    wanted, *others_read = map(preprocessing.of, parents)
    if wanted is not None and any(p and (p.mean, p.std) != (wanted.mean, wanted.std) for p in others_read):
        notes.append("input normalisation: that of parent 0; the others' was folded into the patch embedding")
    return notes


def _losses(weights: Sequence[float] | None, endpoint: int, measured: PathResult | None, rounded: bool) -> list[str]:
    """The measured loss of this very model, the endpoints', and the barrier; nothing where it was not measured."""
    if measured is None:
        return []
    points = [p if isinstance(p, tuple | list) else (1 - p, p) for p in measured.lambdas]
    count = len(points[0])
    corners = [tuple(float(i == k) for i in range(count)) for k in range(count)]

    def loss(at: Sequence[float]) -> str | None:
        same = [
            i for i, p in enumerate(points) if all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(p, at, strict=True))
        ]
        return f"{measured.losses[same[0]]:.5f} {metric}" if same else None

    metric = inert(measured.metric)
    read = f"; matching had read {100 * measured.read:.0f} % of them or more" if measured.read else ""
    where = f" ({measured.samples:,} samples{f' of {inert(measured.corpus)}' if measured.corpus else ''}{read})"
    own = loss(corners[endpoint] if weights is None else weights)
    notes = [f"loss{' before rounding' if rounded else ''}: {own}{where}"] if own else []
    if weights is not None:
        notes += [f"loss of endpoint {k}: {loss(corner)}{where}" for k, corner in enumerate(corners)]
        low, high = measured.interval
        spread = f"95 %: {low:.5f} to {high:.5f}" if measured.samples > 1 else "one sample has no interval"
        notes.append(f"barrier of the path: {measured.barrier:.5f} {metric} at {len(points)} points, {spread}{where}")
    return notes
