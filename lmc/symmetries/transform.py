"""A function-preserving transformation as an immutable value: one group element per space of a spec."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lmc.errors import ArgumentError, CheckpointError, LmcError, one_line
from lmc.files import read_json, read_safetensors, whole_folder
from lmc.symmetries.blocks import act, permute
from lmc.symmetries.canonical_check import require_canonical
from lmc.symmetries.families import spec as spec_of
from lmc.symmetries.groups import Invertible, Permutation, Scale
from lmc.symmetries.pattern import SCALE, STREAM
from lmc.symmetries.spec import ModelSpec
from lmc.symmetries.stock_model import rebuild, state

_AGAIN = "the file is damaged: match the models again"


@dataclass(frozen=True, eq=False)
class Transform:
    """One element of the symmetry group of a model family.

    >>> g = lmc.Transform.random(lmc.spec(model), seed=0)
    >>> moved = g.apply(lmc.canonicalize(model))        # a new stock model: other weights, same function
    >>> back = g.inverse().apply(moved)

    `elements` maps each space to its element(s), float64 [*batch, n, n] or int64 [*batch, n] (see `groups`).
    """

    spec: ModelSpec
    elements: Mapping[str, Tensor]

    @classmethod
    def identity(cls, spec: ModelSpec) -> "Transform":
        """The transformation that changes nothing."""
        return cls(spec, {s.name: s.group.identity(spec.batch(s)) for s in spec.spaces})

    @classmethod
    def random(cls, spec: ModelSpec, seed: int) -> "Transform":
        """A random element of the whole declared group.

        Haar on the orthogonal groups, uniform permutations (never the identity), GL with singular values log-uniform
        in [1/2, 2], uniform phases, moduli and the residual scale log-uniform in [1/2, 2].
        """
        generator = torch.Generator().manual_seed(seed)
        return cls(spec, {s.name: s.group.random(spec.batch(s), generator) for s in spec.spaces})

    @cached_property
    def duals(self) -> dict[str, Tensor]:
        """The matrices for dual axes: inverse transposes."""
        return {s.name: s.group.dual(self.elements[s.name]) for s in self.spec.spaces}

    @property
    def scale(self) -> float:
        """The residual scale s (1 where the spec declares none)."""
        return float(self.elements[SCALE]) if SCALE in self.elements else 1.0

    def moved(self, name: str, tensor: Tensor) -> Tensor:
        """g · tensor, for the tensor called `name` in the state dict, in the tensor's own precision."""
        return (
            moved_by(self.spec, name, tensor, self.moving, {n: self.duals[n] for n in self.moving})
            if name in self.spec.rules
            else tensor
        )

    @cached_property
    def moving(self) -> dict[str, Tensor]:
        """The elements that are not the identity, which would cost as much as any other."""
        still = Transform.identity(self.spec).elements
        return {name: e for name, e in self.elements.items() if not torch.equal(e, still[name])}

    def apply(self, model: nn.Module) -> nn.Module:
        """A new stock model with the same function; the algebra runs in float64 and is cast back at the end.

        Raises NotCanonicalError unless the model's norms are absorbed (`lmc.canonicalize`), ArgumentError if the model
        is of another shape.
        """
        return rebuild(model, self.spec, dict(self.stream(model)), epsilon_factor=self.scale**2)

    def stream(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """The moved tensors of `apply`, each computed when it is asked for. Raises at once what `apply` raises."""
        if spec_of(model) != self.spec:
            raise ArgumentError(f"this transform was made for another {self.spec.family} shape than the model's")
        tensors = state(model)
        require_canonical(self.spec, tensors)
        return iter(Moved(self, tensors).items())

    def inverse(self) -> "Transform":
        """g⁻¹. With permuted blocks: contents are inverted, then carried back along the inverse permutation."""
        inverted: dict[str, Tensor] = {}
        for s in sorted(self.spec.spaces, key=lambda space: len(space.over)):  # outer spaces first
            inverted[s.name] = permute(s.group.inverse(self.elements[s.name]), s.over, self.spec, inverted)
        return Transform(self.spec, inverted)

    def __matmul__(self, first: "Transform") -> "Transform":
        """(g @ h): h first, then g."""
        if first.spec != self.spec:
            raise ArgumentError("transforms of two different specs cannot be composed")
        return Transform(self.spec, compose(self.spec, self.elements, first.elements))

    def only(self, kind: str) -> "Transform":
        """This transform restricted to the spaces of one kind (`head`, `value`, …), the identity elsewhere."""
        kept = {name: e for name, e in self.elements.items() if self.spec.kind(name) == kind}
        return Transform(self.spec, {**Transform.identity(self.spec).elements, **kept})

    def save(self, directory: str | Path) -> None:
        """Write `transform.safetensors` and `transform.json` into a new folder."""
        with whole_folder(directory) as folder:
            self.write(folder / "transform.safetensors")

    def write(self, path: Path) -> None:
        """Write the elements to one safetensors file, with the description of the spaces in a JSON beside it."""
        save_file({name: t.contiguous() for name, t in self.elements.items()}, path)
        path.with_suffix(".json").write_text(json.dumps(self._description(), indent=1, sort_keys=True) + "\n")

    def _description(self) -> dict[str, object]:
        spaces = {s.name: {"group": repr(s.group), "over": list(s.over)} for s in self.spec.spaces}
        return {"family": self.spec.family, "spaces": spaces, "spec": self.spec.to_json()}

    @classmethod
    def load(cls, path: str | Path) -> "Transform":
        """Read a folder written by `save`, or one of the files of an alignment.

        Raises CheckpointError, also for an array that is no element of its group (see `groups.MEMBER`).
        """
        path = Path(path)
        path = path / "transform.safetensors" if path.is_dir() else path
        described = path.with_suffix(".json")
        plain = read_json(described)
        try:
            spec = ModelSpec.from_json(plain["spec"])
            nothing = cls.identity(spec)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, RuntimeError, LmcError) as error:
            raise CheckpointError(
                f"{described}: not the description of a transform ({one_line(error)}); {_AGAIN}"
            ) from None
        told = nothing._description()
        if wrong := [key for key in ("family", "spaces") if plain.get(key) != told[key]]:
            raise CheckpointError(
                f"{described}: {wrong[0]}: expected what follows from its spec, found something else; {_AGAIN}"
            )
        elements = read_safetensors(path)
        missing = spec.space_names ^ set(elements)
        if missing:
            raise CheckpointError(f"{path}: space {min(missing)} is missing or unknown; {_AGAIN}")
        for name, expected in nothing.elements.items():
            found = elements[name]
            if (found.shape, found.dtype) != (expected.shape, expected.dtype):
                raise CheckpointError(
                    f"{path}: space {name} is {found.dtype} {list(found.shape)}, "
                    f"expected {expected.dtype} {list(expected.shape)}; {_AGAIN}"
                )
            if defect := spec.space(name).group.defect(found):
                raise CheckpointError(f"{path}: space {name}: {defect}; {_AGAIN}")
        return cls(spec, elements)


def compose(spec: ModelSpec, second: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Elements of "first, then second". Spaces that `second` does not hold count as the identity there."""
    composed = {}
    for s in spec.spaces:
        theirs = permute(first[s.name], s.over, spec, second)
        if s.name not in second:
            composed[s.name] = theirs
        elif isinstance(s.group, Permutation):
            composed[s.name] = theirs.gather(-1, second[s.name])
        else:
            composed[s.name] = second[s.name] @ theirs
    return composed


class Moved(Mapping[str, Tensor]):
    """A state dict under a transform, computed where it is asked for, in float64 and cast back.

    >>> g = Transform.random(lmc.spec(model), seed=0)
    >>> Moved(g, state(lmc.canonicalize(model)))["gpt_neox.embed_in.weight"].shape
    torch.Size([40, 16])
    """

    def __init__(self, transform: Transform, tensors: Mapping[str, Tensor]) -> None:
        self.transform, self.tensors = transform, tensors

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.tensors[name]
        if not self.transform.moving:
            return tensor
        return self.transform.moved(name, tensor.double()).to(tensor.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def kinds(spec: ModelSpec) -> Iterator[str]:
    """The kinds of spaces of a spec, each once, in order: stream, head, value, …"""
    return iter(dict.fromkeys(spec.kind(s.name) for s in spec.spaces))


def moved_by(
    spec: ModelSpec, name: str, tensor: Tensor, elements: Mapping[str, Tensor], duals: Mapping[str, Tensor]
) -> Tensor:
    """The tensor under some elements and their duals. Spaces they do not hold count as the identity."""
    dim = spec.stream_dim(name)
    local = {space: e for space, e in elements.items() if space != STREAM or dim is None}
    out = tensor
    if any(axis in local for block in spec.blocks(name) for axis in block.names):
        out = torch.empty_like(tensor)
        for block in spec.blocks(name):
            block.of(out).copy_(act(block.of(tensor), block, spec, local, duals))
    if dim is None or STREAM not in elements:
        return out
    rotation = elements[STREAM].to(out)  # the whole tensor at once, not block by block; a rotation is its own dual
    if dim == out.ndim - 1:
        return out @ rotation.mT
    return torch.tensordot(rotation, out, ([1], [dim])).movedim(0, dim).contiguous()


def rescale(spec: ModelSpec, s: float) -> Transform:
    """The residual scale s, which moves ε to s²ε, with the factors √s that keep a balanced model balanced.

    These belong to everything that is balanced: value maps, and the units of a ReLU.
    """
    elements = dict(Transform.identity(spec).elements)
    elements[SCALE] = elements[SCALE] * s
    for space in spec.spaces:
        if isinstance(space.group, Invertible | Scale) and space.name != SCALE:
            sides = {
                block.axes[block.dim(space.name)].dual for _, block in spec.uses(space.name) if SCALE in block.names
            }
            if sides:  # what the dual side writes grew by s: share it with the primal side
                elements[space.name] = elements[space.name] * (s**0.5 if sides == {True} else s**-0.5)
    return Transform(spec, elements)
