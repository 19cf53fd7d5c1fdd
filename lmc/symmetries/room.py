"""Whether a larger network of an architecture has room for a smaller one, and if not, why: from settings and shapes.

>>> require_room(model, like=large)
"""

from torch import nn

from lmc.errors import IncompatibleModelsError
from lmc.symmetries.families import family_of, same_but_for_size
from lmc.symmetries.families import spec as spec_of
from lmc.symmetries.groups import Fixed
from lmc.symmetries.pattern import STREAM
from lmc.symmetries.spec import ModelSpec, Space

SCORES = ("qk", "pass")  # the kinds of spaces in which queries (primal) meet keys (dual)
HEAD = (*SCORES, "value")  # those that are as wide as a head


def require_room(small: nn.Module, like: nn.Module) -> None:
    """Raise IncompatibleModelsError, with the reason, where `small` cannot be written in the shapes of `like`.

    >>> require_room(large, like=model)
    Traceback (most recent call last):
    lmc.errors.IncompatibleModelsError: head.0: expected at most 2 to write ..., found 3: nothing is cut off

    Looks at settings and shapes only, so the models may lie on the meta device.
    """
    if type(small) is not type(like):
        raise _no_room("class", type(like).__name__, type(small).__name__, "one architecture has one class")
    family, spec, wide = family_of(small), spec_of(small), spec_of(like)
    mine, theirs = family.settings(small), family.settings(like)
    for name in sorted(mine.keys() | theirs.keys()):
        moved = spec.epsilon is not None and name == spec.epsilon.field
        if not moved and not same_but_for_size(name, mine.get(name), theirs.get(name)):
            raise _no_room(name, theirs.get(name), mine.get(name), "it is more than a size")
    for axis in sorted({axis for name in spec.rules for block in spec.blocks(name) for axis in block.names}):
        _require_axis(axis, spec, wide)
    for axis, length in wide.free.items():
        if length and spec.free.get(axis) == 0:  # none is another model than few, which the loop above does not see
            raise _no_room(axis, length, 0, _READ)
    known = {norm.module for norm in spec.norms}
    for norm in wide.norms:
        if norm.onward and norm.module not in known:
            raise _no_room(norm.module, "no more layers", "one", "its norm changes what passes by a layer of zeros")


def _require_axis(axis: str, spec: ModelSpec, wide: ModelSpec) -> None:
    """Raise where an axis may not have the lengths it has in the two."""
    old, new = spec.sizes[axis], wide.sizes.get(axis, 0)
    if old == new:
        return
    if new < old:
        raise _no_room(axis, f"at most {new}" if new else "none", old, "nothing is cut off")
    looked_up = f"{axis} stream!" in spec.rules.values()  # a text reads the rows of its own tokens or positions
    reason = _reason(spec.space(axis), spec) if axis in spec.space_names else _FREE.get(axis, _READ)
    if reason and not looked_up:
        raise _no_room(axis, new, old, reason)


_READ = "it is part of what the model reads or says"
_FREE = {"freq": "rotary positions depend on a head's width"}


def _reason(space: Space, spec: ModelSpec) -> str:
    """Why a space cannot grow; nothing where it can."""
    if isinstance(space.group, Fixed):
        return "the stream itself is the output"
    if spec.stream_norm == "layernorm" and spec.kind(space.name) in _with_mean(spec):
        return "a LayerNorm sees the mean of these channels, which more of them would change"
    if any(mean.over == space.name for mean in spec.means if mean.into is None):
        return "a router would pick the new ones too"
    if spec.kind(space.name) in HEAD and spec.free.get("freq"):
        return _FREE["freq"]
    return ""


def _with_mean(spec: ModelSpec) -> set[str]:
    """The axes that norms see and that have a mean: a stream that gains stand on, and what is no stream."""
    return {norm.axis for norm in spec.norms} - (set() if STREAM in spec.rules.values() else {STREAM})


def _no_room(what: str, expected: object, found: object, why: str) -> IncompatibleModelsError:
    return IncompatibleModelsError(
        f"{what}: expected {expected} to write the smaller model in the larger one's shapes, found {found}: {why}"
    )
