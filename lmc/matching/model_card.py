"""The model card of an aligned or merged model: what it is, what it was made of, and only what is known."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from lmc import checkpoints
from lmc.checkpoints import preprocessing, provenance
from lmc.files import digest
from lmc.symmetries import state
from lmc.symmetries.families import spec as spec_of

if TYPE_CHECKING:
    from lmc.evaluation import PathResult
    from lmc.matching.alignment import Alignment


def card(
    alignment: "Alignment",
    model: nn.Module,
    weights: Sequence[float] | None,
    endpoint: int = 0,
    measured: "PathResult | None" = None,
    notes: Sequence[str] = (),
    references: Sequence[dict[str, Any]] | None = None,
) -> str:
    """The text for the model at some weights of the simplex, or for the aligned endpoint of that number.

    `model` may lie on the meta device, and so may the alignment's parents if there are `references` to them.
    `measured`: a path of this alignment; what it says of the model is quoted.
    """
    from lmc import __version__

    known = [_known(p) for p in alignment.parents] if references is None else [_name(r) for r in references]
    if weights is None:
        title, first = (
            "Aligned model",
            f"{known[endpoint][0]}, with the same function, aligned with the others below.",
        )
    else:
        place = f"λ = {weights[1]}" if len(weights) == 2 else f"weights {tuple(weights)}"
        title, first = "Merged model", f"Merged at {place} from {' and '.join(name for name, _ in known)}."
    lines = [f"- parent {k}: {name} ({origin})" for k, (name, origin) in enumerate(known)]
    lines.append(f"- method: {alignment.method}")
    lines += [f"- {key}: {value}" for key, value in sorted(alignment.record.items()) if key != "cosines"]
    lines += [f"- {note}" for note in (*_losses(weights, endpoint, measured), *_changes(alignment, model), *notes)]
    versions = {"lmc": __version__, **provenance.versions()}
    lines.append(f"- made with: {', '.join(f'{name} {version}' for name, version in versions.items())}")
    return "\n".join([f"# {title}", "", first, "", *lines]) + "\n"


def _known(model: nn.Module) -> tuple[str, str]:
    """What it is called, and what it can be recognised by."""
    reference = checkpoints.reference(model)
    if reference is None:
        return "a model in memory", f"weights sha256 {digest(state(model))[:12]}"
    return _name(reference)


def _name(reference: dict[str, Any]) -> tuple[str, str]:
    if "@" in reference["name"]:  # repository@commit
        return reference["name"], "of the hub"
    return reference["name"], ", ".join(f"{file} sha256 {sha[:12]}" for file, sha in reference["sha256"].items())


def _changes(alignment: "Alignment", model: Any) -> list[str]:
    """What was changed that is no symmetry of the weights alone."""
    notes = []
    spec, parents = spec_of(model), tuple[Any, ...](alignment.parents)
    if spec.tied and not model.config.tie_word_embeddings and any(p.config.tie_word_embeddings for p in parents):
        head, embedding = spec.tied
        size = model.get_parameter(head).numel()
        notes.append(
            f"{head} was tied to {embedding} and is a tensor of its own, as it absorbs the final norm or ε differs: "
            f"{size:,} more parameters"
        )
    normal = {(p.mean, p.std) for p in map(preprocessing.of, parents) if p is not None}
    if len(normal) > 1:
        notes.append("input normalisation: that of parent 0; the others' was folded into the patch embedding")
    return notes


def _losses(weights: Sequence[float] | None, endpoint: int, measured: "PathResult | None") -> list[str]:
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
        return f"{measured.losses[same[0]]:.5f} {measured.metric}" if same else None

    where = f" ({measured.samples:,} samples{f' of {measured.corpus}' if measured.corpus else ''})"
    own = loss(corners[endpoint] if weights is None else weights)
    notes = [f"loss: {own}{where}"] if own else []
    if weights is not None:
        notes += [f"loss of endpoint {k}: {loss(corner)}{where}" for k, corner in enumerate(corners)]
        notes.append(f"barrier of the path: {measured.barrier:.5f} {measured.metric}{where}")
    return notes
