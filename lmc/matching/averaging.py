"""The weighted average of endpoints, tensor by tensor: what lies on the line, or in the simplex, between them.

>>> outline, tensors = mixture(lmc.spec(a), [a, b], [a.state_dict(), b.state_dict()], [0.5, 0.5])
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from lmc.symmetries import SCALE, ModelSpec, Transform, epsilon, hollow, in_type, set_epsilon
from lmc.symmetries.families import contexts, first_naming, name_classes_as

PIECE = 2**15  # numbers of a tensor that are averaged at a time: few enough to stay in a processor's cache


def mixture(
    spec: ModelSpec,
    models: Sequence[Any],
    states: Sequence[Mapping[str, Tensor]],
    weights: Sequence[float],
    parent: float | None = None,
) -> tuple[Any, Iterator[tuple[str, Tensor]]]:
    """The model at some weights of the simplex without its weights, and these one by one.

    `states` hold the weights of `models`, which may lie on the meta device. `parent`: an ε that the model is scaled
    back to, if any.
    """
    used = [(w, m, s) for w, m, s in zip(weights, models, states, strict=True) if w > 0]
    outline = hollow(models[0])
    outlines = [model.state_dict() for model in models]
    kinds = {name: _widest([own[name] for own in outlines]) for name in outline.state_dict()}
    if spec.tied and not all(m.config.tie_word_embeddings for _, m, _ in used):
        outline.config.tie_word_embeddings = False
    if (naming := first_naming(models)) is not models[0]:
        name_classes_as(outline, naming, used=False)
    if len(contexts(models)) > 1:  # none of them has a table of positions
        outline.config.max_position_embeddings = min(m.config.max_position_embeddings for m in models)
    back = Transform.identity(spec)
    if spec.epsilon is not None:
        # √ε moves with s exactly as a writer does: it is averaged; then the model is scaled back to a parent's ε.
        values = {epsilon(m, spec) for _, m, _ in used}
        root = sum(w * math.sqrt(epsilon(m, spec)) for w, m, _ in used)
        value = values.pop() if len(values) == 1 else root**2
        if parent is not None:
            if not math.isclose(root**2, parent, rel_tol=1e-12):
                scale = back.elements[SCALE] * math.sqrt(parent) / root
                back = Transform(spec, {**back.elements, SCALE: scale})
            value = parent
        set_epsilon(outline, spec, value)
    untie(outline, back)

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for name in outline.state_dict():
            read = [(w, s[name]) for w, _, s in used]
            if back.scale == 1:
                yield name, _average(read, kinds[name])
            else:
                yield name, back.moved(name, _average(read, torch.float64)).to(kinds[name])

    own = [_widest(model.parameters()) for model in models]
    widest = _widest([*outline.parameters(), *(p for m in models for p in m.parameters())])
    exact = models[own.index(widest)] if widest in own else models[0]
    return in_type(outline, widest, settled_as=exact), tensors()


def _widest(tensors: Iterable[Tensor]) -> torch.dtype:
    """The type that holds all of these without loss."""
    return reduce(torch.promote_types, (tensor.dtype for tensor in tensors))


def _average(tensors: Sequence[tuple[float, Tensor]], dtype: torch.dtype) -> Tensor:
    """Σ w·t, summed in float64 a piece at a time: of all of it, that would be several times the tensor."""
    mixed = torch.empty_like(tensors[0][1], dtype=dtype, memory_format=torch.contiguous_format)
    flat = [(w, t.flatten()) for w, t in tensors]
    for start in range(0, mixed.numel(), PIECE):
        here = slice(start, start + PIECE)
        mixed.view(-1)[here] = sum((w * t[here].double() for w, t in flat), torch.zeros((), device=mixed.device))
    return mixed


def untie(outline: Any, transform: Transform) -> None:
    """The residual scale moves an embedding and leaves the head: a head that was the embedding is so no more."""
    if transform.scale != 1 and transform.spec.tied and outline.config.tie_word_embeddings:
        outline.config.tie_word_embeddings = False
