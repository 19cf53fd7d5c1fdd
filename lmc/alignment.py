"""An alignment: endpoints, one transform for each, and what can be done with them: merge, save, export."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lmc.canonical import canonicalize
from lmc.errors import ArgumentError, CheckpointError
from lmc.files import read_json, whole_folder
from lmc.models import epsilon, rebuild, set_epsilon, state
from lmc.modelspec import SCALE
from lmc.transform import Transform

METHODS = ("naive", "canonical", "weights", "activations", "single", "dual")


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

    @cached_property
    def models(self) -> tuple[nn.Module, ...]:
        """The aligned endpoints: stock models with the parents' functions (for `naive` the parents themselves)."""
        if self.method == "naive":
            return self.parents
        return tuple(t.apply(canonicalize(p)) for t, p in zip(self.transforms, self.parents, strict=True))

    def merge(self, at: float | Sequence[float]) -> nn.Module:
        """The stock model on the line at λ = `at` (0: first endpoint, 1: second), or at K weights of the simplex.

        Carries the parents' ε: where the endpoints' residual scales differ, the merged one is scaled back.
        Raises ArgumentError for weights outside the simplex.
        """
        weights = self._weights(at)
        states = [state(m) for m in self.models]
        mixed = {}
        for name, t in states[0].items():
            stacked = torch.stack([s[name].double() for s in states])
            mixed[name] = torch.einsum("k,k...->...", stacked.new_tensor(weights), stacked).to(t.dtype)
        spec = self.transforms[0].spec
        merged = rebuild(self.models[0], spec, mixed)
        if spec.epsilon is None or self.method == "naive":
            return merged
        # √ε moves with s exactly as a writer does, so it is √ε that is interpolated; then s is given back.
        root = sum(w * math.sqrt(epsilon(m, spec)) for w, m in zip(weights, self.models, strict=True))
        set_epsilon(merged, spec, root**2)
        parent = epsilon(self.parents[0], spec)
        if math.isclose(root**2, parent, rel_tol=1e-12):
            set_epsilon(merged, spec, parent)
            return merged
        back = dict(Transform.identity(spec).elements)
        back[SCALE] = back[SCALE] * math.sqrt(parent) / root
        merged = Transform(spec, back).apply(merged)
        set_epsilon(merged, spec, parent)
        return merged

    def _weights(self, at: float | Sequence[float]) -> list[float]:
        count = len(self.parents)
        if isinstance(at, int | float):
            if count != 2:
                raise ArgumentError(f"at: expected {count} weights for {count} models, found the number {at}")
            if not 0 <= at <= 1:
                raise ArgumentError(f"at: expected λ between 0 and 1, found {at}")
            return [1 - at, float(at)]
        weights = [float(w) for w in at]
        if len(weights) != count or min(weights) < 0 or not math.isclose(sum(weights), 1, abs_tol=1e-6):
            raise ArgumentError(f"at: expected {count} weights ≥ 0 that sum to 1, found {weights}")
        return weights

    def save(self, directory: str | Path) -> None:
        """Write `alignment.json`, `transform-{k}.safetensors` and `log.jsonl` into a new folder.

        Parents that were loaded with `lmc.load` are recorded by name and checksum; others are saved beside, as
        `parent-{k}`. Raises CheckpointError if the folder is occupied.
        """
        from lmc import checkpoints

        with whole_folder(directory) as folder:
            parents = []
            for k, parent in enumerate(self.parents):
                reference = checkpoints.reference(parent)
                if reference is None:
                    checkpoints.save(parent, folder / f"parent-{k}")
                    reference = {"inside": f"parent-{k}"}
                parents.append(reference)
            for k, transform in enumerate(self.transforms):
                transform.write(folder / f"transform-{k}.safetensors")
            described = {"method": self.method, "parents": parents, "record": self.record}
            (folder / "alignment.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
            (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in self.log))

    @classmethod
    def load(cls, directory: str | Path) -> "Alignment":
        """Read a folder written by `save`. Raises CheckpointError, also where a parent is gone or has changed."""
        from lmc import checkpoints

        folder = Path(directory)
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: not found, expected an alignment folder (made by lmc match)")
        described = read_json(folder / "alignment.json")
        if not {"method", "parents", "record"} <= set(described):
            raise CheckpointError(f"{folder / 'alignment.json'}: not the description of an alignment")
        parents = tuple(checkpoints.resolve(reference, folder) for reference in described["parents"])
        transforms = tuple(Transform.load(folder / f"transform-{k}.safetensors") for k in range(len(parents)))
        lines = (folder / "log.jsonl").read_text().splitlines()
        log = tuple(json.loads(line) for line in lines)
        return cls(described["method"], parents, transforms, described["record"], log)

    def export(self, directory: str | Path, at: float | Sequence[float] | None = None) -> None:
        """Write stock checkpoints: the merged model at λ, or without `at` every aligned endpoint as `endpoint-{k}`."""
        from lmc import checkpoints

        tokenizer = checkpoints.source(self.parents[0])
        if at is not None:
            checkpoints.save(self.merge(at), directory, tokenizer_from=tokenizer, card=self.card(at))
            return
        with whole_folder(directory) as folder:
            for k, model in enumerate(self.models):
                checkpoints.save(model, folder / f"endpoint-{k}", tokenizer_from=tokenizer, card=self.card(None))

    def card(self, at: float | Sequence[float] | None) -> str:
        """What a model card says about a model made from this alignment."""
        from lmc import checkpoints

        names = [(checkpoints.reference(p) or {}).get("name", "a model in memory") for p in self.parents]
        what = "An aligned endpoint of" if at is None else f"Merged at λ = {at} from"
        lines = [f"{what} {' and '.join(names)}.", "", f"- method: {self.method}"]
        lines += [f"- {key}: {value}" for key, value in sorted(self.record.items())]
        return "\n".join(lines) + "\n"
