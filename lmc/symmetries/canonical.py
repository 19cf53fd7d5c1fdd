"""The canonical form: same function, norms absorbed, writers mean-free, redundant biases gone, heads balanced.

>>> canonical = lmc.canonicalize(model)        # a new stock model; doing it twice changes nothing

In this form every declared symmetry acts linearly on the weights and exactly on the function. Only rotations, flips,
phases and orders are left to choose, and the best of those can be computed directly, without a search. The algebra runs
in float64 and is cast back once.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lmc.errors import CheckpointError
from lmc.files import require_finite
from lmc.symmetries.blocks import connected, unfold, unfold_into
from lmc.symmetries.canonical_check import views
from lmc.symmetries.families import spec as spec_of
from lmc.symmetries.groups import Group, Invertible, RotaryCommutant, Scale
from lmc.symmetries.pattern import STREAM, Axis, Block
from lmc.symmetries.spec import Mean, ModelSpec, Move, Norm, Space
from lmc.symmetries.stock_model import extreme_numbers, largest, rebuild, state
from lmc.symmetries.stock_twin import require_stock
from lmc.symmetries.transform import Transform

LEADS = 1e-6  # how far a matrix may take the sides of a head from where they should be, of their size
# How much more in one direction than in another the frame of balance may enlarge what a fine-tune does there: 2.1
# times in trained networks that were looked at. What was cut to a lower rank and stored in float32: 3000 and more.
UNEVEN, NO_FRAME = 30.0, 1e3


def canonicalize(model: Any, balance: bool = True) -> nn.Module:
    """A new stock model with the same function in canonical form. Idempotent; the model passed in is not touched.

    A head tied to its embedding becomes a tensor of its own where the final norm forces it (its gain goes into the head
    alone); a warning says so, with the size. `balance=False` leaves the value/output, query/key and gate scales as they
    are. Raises UnsupportedModelError, and CheckpointError for numbers that have no canonical form.
    """
    require_stock(model)
    spec = spec_of(model)
    tensors = dict(Canonical(spec, state(model), balance).items())
    new: Any = rebuild(model, spec, tensors)
    if spec.tied and model.config.tie_word_embeddings and not new.config.tie_word_embeddings:
        warn_untied(spec, tensors[spec.tied[0]].numel(), stacklevel=3)
    return new


def warn_untied(spec: ModelSpec, size: int, stacklevel: int = 2) -> None:
    """Say that the head is not the embedding any more."""
    assert spec.tied is not None
    head, embedding = spec.tied
    warnings.warn(
        f"{head} was tied to {embedding}; it absorbs the final norm and becomes a tensor of its own: "
        f"{size:,} more parameters",
        stacklevel=stacklevel,
    )


class Canonical(Mapping[str, Tensor]):
    """A state dict in canonical form, computed where it is asked for: tensors that do not mix are independent.

    >>> Canonical(lmc.spec(model), state(model))["gpt_neox.layers.0.mlp.dense_4h_to_h.weight"].shape
    torch.Size([16, 24])

    `tensors` may be read from files on demand, as this is: only the last part that was asked for is kept.
    """

    def __init__(self, spec: ModelSpec, tensors: Mapping[str, Tensor], balance: bool = True) -> None:
        self.spec, self.tensors, self.balance = spec, tensors, balance
        mixed: dict[str, set[str]] = {name: {name} for name in tensors}
        for names in _mixing(spec, balance):
            for name in names & mixed.keys():
                mixed[name] |= names
        self.parts = [tuple(part) for part in connected(mixed)]
        self.part_of = {name: part for part in self.parts for name in part}
        self.last: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.last:
            self.last = {}  # frees the last part before the next one needs memory
            stored = {n: self.tensors[n] for n in self.part_of[name]}
            exact = {n: t.to(torch.float64, copy=True) for n, t in stored.items()}
            with extreme_numbers(stored):
                make_canonical(exact, self.spec, self.balance)
            self.last = {n: t.to(stored[n].dtype) for n, t in exact.items()}
            for n, tensor in self.last.items():
                hint = f"; the stored ones reach {largest(stored[n]):.1e}: was the checkpoint damaged?"
                require_finite(f"tensor {n}, in canonical form", tensor, hint)
        return self.last[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.part_of)

    def __len__(self) -> int:
        return len(self.part_of)


def _mixing(spec: ModelSpec, balance: bool) -> Iterator[set[str]]:
    """The sets of tensors that a step of `make_canonical` looks at together."""
    for norm in spec.norms:
        readers = [n for r in norm.readers for n in (r.weight, r.bias)]
        yield {n for n in (norm.weight, norm.bias, norm.onward, *readers) if n is not None}
    for gain in spec.gains:
        yield {gain.weight, *gain.into}
    for mean in spec.means:
        yield {name for name in (mean.source, mean.into) if name is not None}
    for move in spec.moves:
        yield {n for n in (move.bias, move.into, move.through) if n is not None}
    for space in _balanced_spaces(spec) if balance else ():
        yield {name for name, _ in spec.uses(space.name)}


def _balanced_spaces(spec: ModelSpec) -> list[Space]:
    """The spaces that some tensors write and others read, with a group that is not compact."""
    loose = [s for s in spec.spaces if isinstance(s.group, Invertible | RotaryCommutant | Scale)]
    return [s for s in loose if len({_reads(s, block) for _, block in spec.uses(s.name)}) == 2]


def _reads(space: Space, block: Block) -> bool:
    """Whether the block reads what others write to the space, and so moves by the inverse transpose."""
    return block.axes[block.dim(space.name)].dual


def make_canonical(tensors: dict[str, Tensor], spec: ModelSpec, balance: bool = True) -> None:
    """Bring a state dict in float64, or one of its parts, into canonical form, in place.

    No two entries may share memory. A part is closed: what a step mixes is all there, or none of it.
    """
    for norm in spec.norms:
        if any(reader.weight in tensors for reader in norm.readers):
            _absorb_norm(tensors, spec, norm)
    for gain in spec.gains:
        if gain.weight in tensors:
            for name in gain.into:
                for view in views(tensors, spec, name):
                    view *= tensors[gain.weight]
            tensors[gain.weight].fill_(1)
    if spec.stream_norm == "layernorm":
        for name in spec.rules:
            if name in tensors and spec.writes(name):
                for view in views(tensors, spec, name):
                    view -= view.mean(-1, keepdim=True)
    for move in spec.moves:
        if move.bias in tensors:
            _move_bias(tensors, spec, move)
    for mean in spec.means:
        if mean.source in tensors:
            _move_mean(tensors, spec, mean)
    for dead in spec.dead:
        if dead.bias in tensors:
            _take_bias(tensors, spec, dead.bias, dead.axis)
    for space in _balanced_spaces(spec) if balance else ():
        if any(name in tensors for name, _ in spec.uses(space.name)):
            _balance(tensors, spec, space)


def balancing(model: nn.Module) -> Transform:
    """The transform from a model's canonical form without balance to the one with it.

    >>> spec, plain = lmc.spec(model), lmc.canonicalize(model, balance=False)
    >>> name = "gpt_neox.layers.0.attention.dense.weight"
    >>> moved = balancing(model).moved(name, plain.state_dict()[name])
    >>> (moved - lmc.canonicalize(model).state_dict()[name]).abs().max() < 1e-5
    tensor(True)

    A change of the weights, such as fine-tuning makes, moves by it too. Directions of a head that nothing writes and
    nothing reads, as an enlarged model has, stay. Raises CheckpointError where only one of the two is so, or next to
    nothing is done in some direction: nothing leads back from the balanced form. Warns where it is nearly so.
    """
    spec, tensors = spec_of(model), {n: t.to(torch.float64, copy=True) for n, t in state(model).items()}
    make_canonical(tensors, spec, balance=False)
    elements = dict(Transform.identity(spec).elements)
    for space in _balanced_spaces(spec):
        writers, readers = _sides(tensors, spec, space)
        where = f"space {space.name} of {type(model).__name__}"
        if isinstance(space.group, RotaryCommutant) or space.group.n == 1:  # a factor, also where all is zero
            found = _factor(writers, readers) * torch.eye(space.group.n, dtype=torch.float64)
        else:
            found = _leading(writers, readers, *_balanced(space.group, writers, readers))
        if defect := space.group.defect(found) or _unevenness(where, found, writers, readers):
            raise CheckpointError(f"{where}: {defect}; was it trained?")
        elements[space.name] = found
    return Transform(spec, elements)


def _leading(p: Tensor, d: Tensor, new_p: Tensor, new_d: Tensor) -> Tensor:
    """The matrix that takes p to new_p and, inverted and transposed, d to new_d; all are [*B, n, R].

    Directions that d does not read are taken to those that new_d does not, turned as little as can be. It is zero where
    there is no such matrix.
    """
    unread, new_unread = (torch.eye(x.shape[-2], dtype=x.dtype) - x @ torch.linalg.pinv(x) for x in (d, new_d))
    u, _, vh = torch.linalg.svd(new_unread @ unread)
    size = torch.linalg.matrix_norm(p, keepdim=True)
    unread = unread * torch.where(size > 0, size, 1)  # of the scale of p, beside which it is inverted
    found = torch.cat([new_p, u @ vh @ unread], -1) @ torch.linalg.pinv(torch.cat([p, unread], -1))
    off = torch.stack([_far(found @ p, new_p), _far(found.mT @ new_d, d)]).amax(0)
    return torch.where(off < LEADS, found, 0)


def _unevenness(where: str, found: Tensor, p: Tensor, d: Tensor) -> str:
    """What is wrong with frames that enlarge some changes much more than others; empty where that is only said.

    Within a head one direction is compared with another, and in a layer each with the middle one of all.
    """
    written, read = (torch.linalg.matrix_norm(side) > 0 for side in (p, d))
    if half := int((written != read).sum()):
        what = f"of {written.numel():,} entries {half:,} are written and not read, or read and not written"
        warnings.warn(f"{where}: {what}: a change there is carried in whatever scale it has", stacklevel=2)
    values = torch.linalg.svdvals(found)[written & read]
    if not len(values):
        return ""
    within, middle = float((values[..., 0] / values[..., -1]).max()), values.median()
    if within > NO_FRAME:
        even = f"expected a frame that enlarges no direction of a head {NO_FRAME:.0f} times as much as another"
        return f"{even}, found {within:.1e} times"
    among = max(float(values.max() / middle), float(middle / values.min()))
    if (spread := max(within, among)) > UNEVEN:
        what = "next to nothing is written or read in some direction"
        warnings.warn(f"{where}: {what}: a change there grows up to {spread:.0f} times as much as others", stacklevel=2)
    return ""


def _far(found: Tensor, wanted: Tensor) -> Tensor:
    """How far matrices are from others, of the size of these."""
    size = torch.linalg.matrix_norm(wanted, keepdim=True)
    return torch.linalg.matrix_norm(found - wanted, keepdim=True) / torch.where(size > 0, size, 1)


def _absorb_norm(tensors: dict[str, Tensor], spec: ModelSpec, norm: Norm) -> None:
    """Give a norm's gain γ and bias β to the layers that read it: W ← W diag(γ), b ← b + Wβ.

    A reader without a bias keeps Wβ in its weight, along the direction 𝟙, which the output of a LayerNorm never has.
    """
    gamma = tensors[norm.weight] + norm.offset if norm.weight else None
    beta = tensors[norm.bias].clone() if norm.bias else None
    for reader in norm.readers:
        for i, weight in enumerate(views(tensors, spec, reader.weight, norm.axis)):  # (..., d)
            constant = weight @ beta if beta is not None else None
            if gamma is not None:
                weight *= gamma
            if spec.stream_norm == "layernorm" and norm.onward is None:
                weight -= weight.mean(-1, keepdim=True)
            if constant is not None:
                if reader.bias is not None:
                    blocks = spec.blocks(reader.bias)  # one, also where a head reads the stream twice, side by side
                    blocks[min(i, len(blocks) - 1)].of(tensors[reader.bias]).add_(constant)
                else:
                    weight += constant[..., None] / weight.shape[-1]
    if norm.onward and beta is not None:
        tensors[norm.onward] += beta
    if norm.weight:
        tensors[norm.weight].fill_(norm.canonical_gain)
    if norm.bias:
        tensors[norm.bias].fill_(norm.canonical_bias)


def _take_bias(tensors: dict[str, Tensor], spec: ModelSpec, name: str, axis: str) -> tuple[tuple[str, ...], Tensor]:
    """Set a part of a bias to zero; returns its axes and what it was.

    Of a weight that keeps a bias in its mean direction (β = 𝟙), the bias is the sum over the stream.
    """
    block = spec.block(name, axis)
    view = block.of(tensors[name])
    if Axis(STREAM, dual=True) not in block.axes:
        taken = view.clone()
        view.zero_()
        return block.names, taken
    dim = block.dim(STREAM)
    mean = view.mean(dim, keepdim=True)
    view -= mean
    return tuple(n for n in block.names if n != STREAM), mean.squeeze(dim) * view.shape[dim]


def _move_mean(tensors: dict[str, Tensor], spec: ModelSpec, mean: Mean) -> None:
    (source,) = views(tensors, spec, mean.source)
    (block,) = spec.blocks(mean.source)
    average = source.mean(block.dim(mean.over), keepdim=True)
    source -= average
    if mean.into is None:
        _require_own_rows(mean.source, source.movedim(block.dim(mean.over), 0).flatten(1))
    else:
        (into,) = views(tensors, spec, mean.into)
        into += average


def _require_own_rows(name: str, rows: Tensor) -> None:
    """Between experts with equal rows a router picks by their order, which no canonical form keeps."""
    if len(rows.unique(dim=0)) < len(rows):
        raise CheckpointError(
            f"tensor {name}: expected rows that differ, found equal ones: among such experts the router picks by "
            "their order, which matching changes; train the router first, or match by naive"
        )


def _move_bias(tensors: dict[str, Tensor], spec: ModelSpec, move: Move) -> None:
    names, bias = _take_bias(tensors, spec, move.bias, move.axis)
    target_block = spec.block(move.into, move.rows or STREAM)
    target = target_block.of(tensors[move.into])
    if move.through is None:
        order = [names.index(n) for n in target_block.names if n in names]
        bias = bias.permute(order)
        for dim, name in enumerate(target_block.names):
            if name not in names:
                bias = bias.unsqueeze(dim)
        target += bias
    else:
        (weight_block,) = spec.blocks(move.through)
        letters = {n: chr(ord("a") + i) for i, n in enumerate(weight_block.names)}
        w, b, out = ("".join(letters[n] for n in k) for k in (weight_block.names, names, target_block.names))
        target += torch.einsum(f"{w},{b}->{out}", weight_block.of(tensors[move.through]), bias)


def _balance(tensors: dict[str, Tensor], spec: ModelSpec, space: Space) -> None:
    """Give what writes a space and what reads it equal Gram matrices.

    Of GL(n) that leaves only O(n) to choose, and of the complex numbers only their phases.
    """
    written, read = _balanced(space.group, *_sides(tensors, spec, space))
    for reads, new in ((False, written), (True, read)):
        start = 0
        for name, block in spec.uses(space.name):
            if _reads(space, block) == reads:
                view = block.of(tensors[name])
                width = view.numel() // new[..., 0].numel()
                unfold_into(view, block.names, space, new[..., start : start + width])
                start += width


def _sides(tensors: Mapping[str, Tensor], spec: ModelSpec, space: Space) -> tuple[Tensor, Tensor]:
    """All that writes a space and all that reads it, side by side, [*B, n, R] each."""
    written: list[Tensor] = []
    read: list[Tensor] = []
    for name, block in spec.uses(space.name):
        side = read if _reads(space, block) else written
        side.append(unfold(block.of(tensors[name]), block.names, space))
    return torch.cat(written, -1), torch.cat(read, -1)


def _balanced(group: Group, p: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """The pair with the same product dᵀp and p pᵀ = d dᵀ that lies closest to (p, d); both are [*B, n, R]."""
    if isinstance(group, RotaryCommutant) or group.n == 1:
        factor = _factor(p, d)
        return p * factor, d / factor
    # Thin SVD of dᵀp without forming it; n may exceed either width, then the rest of the n rows is zero.
    q_p, r_p = torch.linalg.qr(p.mT)
    q_d, r_d = torch.linalg.qr(d.mT)
    u, s, vh = torch.linalg.svd(r_d @ r_p.mT, full_matrices=False)
    # Rounding leaves singular values where the product has none; their square roots would not be small.
    noise = group.n * torch.finfo(s.dtype).eps * (torch.linalg.matrix_norm(r_p) * torch.linalg.matrix_norm(r_d))
    root = torch.where(s > noise[..., None], s, 0).sqrt()[..., None]
    short = group.n - s.shape[-1]
    new_p = torch.nn.functional.pad(root * (vh @ q_p.mT), (0, 0, 0, short))
    new_d = torch.nn.functional.pad(root * (q_d @ u).mT, (0, 0, 0, short))
    # The SVD's own basis jumps when singular values cross. Turning it towards where we came from makes this idempotent.
    turn = Invertible(group.n).nearest(p @ new_p.mT + d @ new_d.mT)
    return turn @ new_p, turn @ new_d


def _factor(p: Tensor, d: Tensor) -> Tensor:
    """What p is multiplied by, and d divided by, to have the same norm; 1 where one of them is zero."""
    norm_p, norm_d = (torch.linalg.matrix_norm(m, keepdim=True) for m in (p, d))
    return torch.where((norm_p > 0) & (norm_d > 0), (norm_d / norm_p).sqrt(), torch.ones_like(norm_p))
