"""An alignment: endpoints, one transform for each, and what can be done with them: merge, save, export."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmc import checkpoints
from lmc.checkpoints import preprocessing, same_tokens
from lmc.errors import ArgumentError
from lmc.evaluation import PathResult, as_data, change, is_lower
from lmc.files import read_json_lines, whole_folder
from lmc.matching.averaging import mixture, untie
from lmc.matching.carrying import added, canonical_form, carried, rewritten
from lmc.matching.edits import Edits, edits, unlike
from lmc.matching.fine_tune import base_of
from lmc.matching.folder import LOG, describe, elements, require_of, require_whole, write
from lmc.matching.forms import AS_IT_IS, Base
from lmc.matching.inheritance import Inheritance, inherit, noticed, of_parts
from lmc.matching.mergekit import write_configurations
from lmc.matching.model_card import called, card, carried_card, changes, known
from lmc.matching.pairing import require_pairable, require_tunable, tune_advice
from lmc.matching.simplex import Mixture, barycentric
from lmc.symmetries import (
    Transform,
    epsilon,
    example_inputs,
    hollow,
    in_evaluation,
    logits,
    rebuild,
    relative_change,
    set_epsilon,
    state,
)
from lmc.symmetries.families import family_of, first_naming, name_classes_as, narrowest
from lmc.symmetries.families import spec as spec_of

NAMES = "parents", "models"


@dataclass(frozen=True, eq=False)
class Alignment:
    """Endpoints, and one function-preserving transform for each, under which averaging their weights makes sense.

    `transforms` apply to the parents' canonical forms. The method `naive` has none: it averages the raw weights.
    `record` says how it was made; `log` holds the training loss of learned matching, one entry per step.
    """

    method: str
    parents: tuple[nn.Module, ...]
    transforms: tuple[Transform, ...]
    record: dict[str, Any]
    log: tuple[dict[str, float], ...] = field(default=())

    def __getstate__(self) -> dict[str, Any]:
        """What a copy begins with: the aligned endpoints are made anew from its own parents."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def models(self) -> tuple[nn.Module, ...]:
        """The aligned endpoints: stock models with the parents' functions (for `naive` these themselves).

        They are made once. Raises ArgumentError where a parent was changed after that, or the aligned model itself: the
        two are not one function now; CheckpointError where a file that a parent maps was overwritten.
        """
        made, before = self._made
        checkpoints.require_unwritten(self.parents)
        for k, (then, parent, model) in enumerate(zip(before, self.parents, made, strict=True)):
            if model is parent:
                continue
            now = edits(parent), edits(model)
            changed = [name for name, *two in zip(NAMES, then, now, strict=True) if unlike(*two)]
            if changed:
                raise ArgumentError(
                    f"{changed[0]}: expected parent {k} as it was when its aligned form was made, found it changed "
                    "since; match again, and change a copy (copy.deepcopy) where this alignment is still needed"
                )
        return made

    @cached_property
    def _made(self) -> tuple[tuple[nn.Module, ...], list[tuple[Edits, Edits]]]:
        """The aligned endpoints, and what had been edited by then of each parent and of its aligned form."""
        parents = [edits(parent) for parent in self.parents]
        made = self.endpoints
        if self.method != "naive":
            made = tuple(t.apply(canonical_form(p)) for t, p in zip(self.transforms, self.endpoints, strict=True))
        return made, list(zip(parents, map(edits, made), strict=True))

    @cached_property
    def endpoints(self) -> tuple[nn.Module, ...]:
        """The parents; vision models trained with other input normalisations take the first one's (same function)."""
        return preprocessing.common(self.parents)

    def merge(self, at: Mixture) -> nn.Module:
        """The stock model on the line at λ = `at` (0: first endpoint, 1: second), or at K weights of the simplex.

        Where the norms' ε differ it is √ε that is averaged, as writers of the residual stream are. `naive` leaves it
        at that, so that its ends are the parents exactly; any other method scales the merged model back to the first
        parent's ε. Raises ArgumentError for weights outside the simplex.
        """
        outline, tensors = self._mixed(barycentric(at, len(self.parents)))
        return rebuild(outline, self.transforms[0].spec, dict(tensors))

    def _mixed(self, weights: list[float]) -> tuple[nn.Module, Iterator[tuple[str, Tensor]]]:
        """The merged model without its weights, and these one by one."""
        states = [state(model) for model in self.models]
        parent = None if self.method == "naive" else epsilon(self.parents[0], self.transforms[0].spec)
        return mixture(self.transforms[0].spec, self.models, states, weights, parent)

    def transport(self, tuned: nn.Module) -> nn.Module:
        """What one of the two parents was taught, carried to the other: a stock model, in that one's canonical form.

        >>> carried = alignment.transport(tuned)         # tuned from a: what it learned, on b

        A fine-tune of a parent in canonical form, as this makes it, or as it was aligned, is one of that parent, too.
        Exact where one parent is the other, rewritten. What it is worth otherwise was measured (the book's page *Can a
        fine-tune be carried to another network?*). Of `naive` the change is added as it is. Raises ArgumentError for a
        model that is no fine-tune of either parent, or is one of them, IncompatibleModelsError where tokens of the
        parents mean others to it, CheckpointError where a head of its base was never trained.
        """
        return self._carried(tuned, self.base_of(tuned))

    def base_of(self, tuned: nn.Module) -> Base:
        """Which parent a model was fine-tuned from, in which form of it, and the size of its change.

        >>> alignment.base_of(tuned).number
        0

        Raises what `transport` does.
        """
        require_tunable(tuned, self.parents)
        own, bases = self._folders(tuned)
        if own is not None and (first := _first_read(bases)) is not None:
            advice = f"{tune_advice(self.parents)} with its tokenizer"
            same_tokens.require_same(first, own, "the parents and it", advice, more=True)
        return base_of(tuned, self.parents, rewritten(self.endpoints, self.transforms))

    def _folders(self, tuned: nn.Module) -> tuple[Path | None, list[Path | None]]:
        """Where a fine-tune lies, and where its possible bases do; None of a model in memory."""
        places = [checkpoints.source(model) for model in (tuned, *self.parents)]
        own, *bases = (None if at is None else checkpoints.hub.locate(at).folder for at in places)
        return own, bases

    def _carried(self, tuned: nn.Module, base: Base) -> nn.Module:
        """The other parent with what `tuned`, made from this one, was taught."""
        k = base.number
        tuned = preprocessing.of_its_base(tuned, self.parents[k if base.form == AS_IT_IS else 0])
        tuned = preprocessing.common((self.parents[0], tuned))[1]
        if self.method == "naive":
            return added(self.endpoints, tuned, base)
        return carried(self.endpoints, self.transforms, tuned, base)

    def save(self, directory: str | Path) -> None:
        """Write `alignment.json`, `transform-{k}.safetensors` and `log.jsonl` into a new folder.

        Parents that are as `lmc.load` read them are recorded by checksum and place: a name and commit of the hub, or a
        folder as seen from this one, so that an alignment and its parents can move together. Others, and those that
        were changed in memory, are saved inside, as `parent-{k}`. Raises CheckpointError if the folder is occupied.
        """
        checkpoints.require_unwritten(self.parents)
        with whole_folder(directory) as folder:
            parents = []
            for k, parent in enumerate(self.parents):
                reference = checkpoints.reference(parent)
                if reference is None:
                    inside = f"parent-{k}"
                    checkpoints.save(parent, folder / inside, _inherited((parent,)).sources)
                    reference = checkpoints.refer_inside(folder, inside)
                parents.append(reference)
            write(folder, self.method, parents, self.transforms, self.record, self.log)

    @classmethod
    def load(cls, directory: str | Path) -> "Alignment":
        """Read a folder written by `save`, and check that all is as it was then.

        Raises CheckpointError: for a file of the folder that is another one, a map that is no element of its group, a
        parent that is gone or whose weights, settings or tokenizer have changed, parents that cannot be paired.
        """
        folder, described = Path(directory), describe(directory)
        require_whole(folder, described)
        transforms = tuple(Transform.load(folder / elements(k)) for k in range(len(described["parents"])))
        parents = tuple(checkpoints.resolve(reference, folder) for reference in described["parents"])
        require_pairable(parents)
        require_of(folder, transforms, spec_of(parents[0]))
        log = tuple(read_json_lines(folder / LOG))
        return cls(described["method"], parents, transforms, described["record"], log)

    @torch.no_grad()
    def end_error(self, k: int) -> float:
        """How far the path's end at model k is from that model: the largest change of a logit, of the largest logit.

        >>> alignment.end_error(0) < 1e-4
        True

        Measured on random windows or pictures. Rounding explains about 1e-6 in float32.
        """
        inputs = example_inputs(self.endpoints[k])
        corner = [float(i == k) for i in range(len(self.parents))]
        with in_evaluation(self.endpoints[k]):  # a parent may be in training
            own = logits(self.endpoints[k], inputs)
        return relative_change(own, logits(self.merge(corner), inputs))

    def export(
        self,
        directory: str | Path,
        at: Mixture | None = None,
        dtype: torch.dtype = torch.float32,
        data: object = None,
        measured: PathResult | None = None,
        take_from: int = 0,
    ) -> tuple[str, ...]:
        """Write stock checkpoints: the merged model at λ, or without `at` every aligned endpoint as `endpoint-{k}`.

        >>> cards = alignment.export("merged", at=0.5, dtype=torch.bfloat16, data=held_out)

        Beside the endpoints stand configurations with which mergekit merges them. Returns the model cards' text.
        Tensors are computed and written one by one; a whole model is made only to measure what rounding to a lower
        `dtype` does: to its loss on `data`, or without data to its logits.
        `measured`: a path of this alignment, whose losses the card quotes. `take_from`: the parent whose tokenizer,
        chat templates and generation settings the merged model gets. Raises CheckpointError, ArgumentError.
        """
        ends = {len(at) if isinstance(at, tuple) else 2 for at in measured.lambdas} if measured else set()
        if ends - {len(self.parents)}:
            what = f"measured: expected a path of this alignment, of {len(self.parents)} models"
            raise ArgumentError(f"{what}, found one of {min(ends)}; measure it with lmc.path")
        if at is not None:
            found = _inherited(self.parents, take_from)
            return (self._write(Path(directory), barycentric(at, len(self.parents)), 0, found, dtype, data, measured),)
        data = None if data is None else as_data(data, narrowest(self.parents))  # read once, for all of them
        with whole_folder(directory) as folder:
            write_configurations(folder, len(self.parents), dtype)
            return tuple(
                self._write(folder / f"endpoint-{k}", None, k, _inherited((parent,)), dtype, data, measured)
                for k, parent in enumerate(self.parents)
            )

    def export_transported(
        self, tuned: nn.Module, directory: str | Path, place: str | None = None, base: Base | None = None
    ) -> str:
        """Write what `transport` makes as a stock checkpoint, with what belongs to the tuned model; returns its card.

        >>> text = alignment.export_transported(tuned, "carried")

        `place`: where the tuned model is, as the card is to say it, if it was read from another place. `base`: what
        `base_of` says of it, if it was asked. Raises what `transport` does.
        """
        k, size, form = base = base or self.base_of(tuned)
        own, of_parents = self._folders(tuned)
        if own is not None and (first := _first_read(of_parents)) is not None:
            same_tokens.warn_if_unread(own, first, place or str(own))
            checkpoints.foreign.warn_of_rest(own)
        model = self._carried(tuned, base)
        sources = (tuned, self.parents[k])  # what its folder lacks, if it has one
        found, (name, origin) = _inherited(sources), known(tuned)
        if own is None:  # a model in memory has its own generation settings, though no file has them
            kept = tuple(note for note in found.notes if not note.startswith(checkpoints.belongings.GENERATION))
            found = replace(found, generation=0, notes=kept)
        name = name if place is None else called(place)
        made_of = [note.removeprefix("parent 0: ") for note in found.notes if note.startswith("parent 0: ")]
        origin = made_of[0] if made_of else origin  # an adapter, say, whose joined weights are not kept
        others = [note for note in found.notes if not note.startswith("parent 0: ")]
        notes = [note.replace("parent 0", "the fine-tune").replace("parent 1", "its base") for note in others]
        if (beside := of_parents[1 - k]) is not None and (said := noticed(beside, "its new base")):
            notes.append(said)
        notes += [f"its base is taken {form}, from which it is the smaller change"] if form != AS_IT_IS else []
        notes += [*changes([self.parents[1 - k]], model), "weights: float32"]
        text = carried_card(
            self.method, self.record, (name, origin), known(self.parents[k]), known(self.parents[1 - k]), size, notes
        )
        found.settle(model, sources)
        name_classes_as(model, tuned)
        if (naming := first_naming((tuned, self.parents[k], self.parents[1 - k]))) is not tuned:
            name_classes_as(model, naming, used=False)
        parts = {"fine-tune": tuned, "its new base": self.parents[1 - k]}
        metadata = of_parts(parts, {} if place is None else {"fine-tune": called(place)})
        checkpoints.save(model, directory, found.sources, text, torch.float32, None, metadata)
        return text

    def _write(
        self,
        directory: Path,
        weights: list[float] | None,
        endpoint: int,
        inherited: Inheritance,
        dtype: torch.dtype,
        data: object,
        measured: PathResult | None,
    ) -> str:
        outline, tensors = self._endpoint(endpoint) if weights is None else self._mixed(weights)
        notes = [f"weights: {str(dtype).removeprefix('torch.')}"]
        if rounded := is_lower(dtype, next(outline.parameters()).dtype):
            outline = rebuild(outline, self.transforms[0].spec, dict(tensors))
            tensors = iter(state(outline).items())
            notes.append(change(outline, dtype, data))
        notes = [*changes(self.parents, outline), *notes]
        if weights is not None:
            inherited.settle(outline, self.parents)
            notes += inherited.notes
        else:
            notes += inherited.of_endpoint(endpoint)
        parents = [known(p) for p in self.parents]
        text = card(self.method, self.record, parents, weights, endpoint, measured, notes, rounded)
        checkpoints.save(outline, directory, inherited.sources, text, dtype, tensors, inherited.metadata)
        return text

    def _endpoint(self, k: int) -> tuple[nn.Module, Iterator[tuple[str, Tensor]]]:
        """The aligned endpoint of that number without its weights, and these one by one."""
        parent, transform = self.endpoints[k], self.transforms[k]
        if self.method == "naive":
            return hollow(parent), iter(state(parent).items())
        canonical = canonical_form(parent)
        outline = hollow(canonical)
        if transform.scale != 1:
            set_epsilon(outline, transform.spec, epsilon(canonical, transform.spec) * transform.scale**2)
        untie(outline, transform)
        return outline, transform.stream(canonical)

    def card(self, at: Mixture) -> str:
        """What a model card says about the model merged there."""

        weights = barycentric(at, len(self.parents))
        notes = changes(self.parents, self._mixed(weights)[0])
        return card(self.method, self.record, [known(p) for p in self.parents], weights, notes=notes)


def _first_read(folders: Sequence[Path | None]) -> Path | None:
    """The first folder of parents whose tokens are known (those of all mean the same); None where none has one."""
    known = [folder for folder in folders if folder is not None]
    return known[same_tokens.first_read(known)] if known else None


def _inherited(parents: Sequence[nn.Module], take_from: int = 0) -> Inheritance:
    """What belongs to a model made of these. Raises CheckpointError for a tokenizer that a parent has no rows for."""
    found = inherit(parents, [checkpoints.source(parent) for parent in parents], take_from)
    if folder := found.sources.get(checkpoints.belongings.TOKENIZER):
        checkpoints.require_tokens_fit(folder, family_of(parents[0]), parents[0])
    return found
