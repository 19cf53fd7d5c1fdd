"""Feed-forward layers: hidden units; a decoder's rules, gated, fused or plain; experts that a router picks.

Experts may be reordered, with the router's rows, and the units inside each. A vector added to every row of the router
changes none of its probabilities, so the canonical form has none. Among equal probabilities experts are picked by their
order, so a router with two equal rows, which no training leaves, has no canonical form.
"""

from collections.abc import Mapping

from lmc.errors import UnsupportedModelError
from lmc.symmetries.groups import Group, Invertible, Permutation, Scale
from lmc.symmetries.spec import Mean, Space, both

MLP = "model.layers.{l}.mlp."
READERS = ("gate", "gate_proj", "up_proj", "gate_up_proj", "c_fc", "experts.gate_up_proj", "shared_expert_gate")
SHARED = ("shared_expert.gate_proj", "shared_expert.up_proj")
Shapes = Mapping[str, tuple[int, ...]]


# Activations with f(sx) = s f(x) for s > 0: each unit may carry a positive factor in and its inverse out.
_HOMOGENEOUS = ("relu", "leaky_relu")


def hidden_units(count: int, activation: str = "", gated: bool = False) -> tuple[tuple[Space, ...], str, str]:
    """The spaces of a feed-forward layer's hidden units, and their axis: as it is written, and as it is read.

    Units can be permuted. What multiplies a gate's output may carry any factor, a ReLU's unit a positive one; a GELU's
    unit none (so the feed-forward scaling of arXiv 2606.23607 is exact for gated and ReLU layers only).
    """
    units = Space("hidden", Permutation(count))
    if not gated and activation not in _HOMOGENEOUS:
        return (units,), "hidden", "hidden"
    factor: Group = Invertible(1) if gated else Scale()
    return (units, Space("unit", factor, over=("hidden",))), "(hidden unit)", "(hidden unit*)"


def feed_forward(shapes: Shapes, activation: str) -> tuple[tuple[Space, ...], dict[str, str]]:
    """The spaces and the rules of one layer; `shapes`: of every tensor of the model."""
    here = MLP.format(l=0)
    if here + "experts.down_proj" in shapes:
        return _experts(shapes)
    plain = here + "c_fc.weight" in shapes
    count = shapes[here + ("c_proj.weight" if plain else "down_proj.weight")][1]
    units, written, read = hidden_units(count, activation if plain else "", gated=not plain)
    return units, {
        **both(MLP + "gate_proj", "hidden", "stream?"),
        **both(MLP + "up_proj", written, "stream?"),
        MLP + "gate_up_proj.weight": "[hidden | hidden unit] stream?",
        **both(MLP + "down_proj", "stream!", read),
        **both(MLP + "c_fc", written, "stream?"),
        **both(MLP + "c_proj", "stream!", read),
    }


def _experts(shapes: Shapes) -> tuple[tuple[Space, ...], dict[str, str]]:
    """Experts, and where it is there the one that all tokens share."""
    experts, _, units = shapes[MLP.format(l=0) + "experts.down_proj"]
    shared = shapes.get(MLP.format(l=0) + "shared_expert.down_proj.weight", (0, 0))[1]
    spaces: tuple[Space, ...] = (
        Space("expert", Permutation(experts)),
        Space("hidden", Permutation(units), over=("expert",)),
        Space("unit", Invertible(1), over=("expert", "hidden")),
    )
    if shared:
        spaces += (Space("shared", Permutation(shared)), Space("share", Invertible(1), over=("shared",)))
    return spaces, {
        MLP + "gate.weight": "expert stream?",
        MLP + "experts.gate_up_proj": "expert [hidden | hidden unit] stream?",
        MLP + "experts.down_proj": "expert stream! (hidden unit*)",
        MLP + "shared_expert.gate_proj.weight": "shared stream?",
        MLP + "shared_expert.up_proj.weight": "(shared share) stream?",
        MLP + "shared_expert.down_proj.weight": "stream! (shared share*)",
        MLP + "shared_expert_gate.weight": "one stream?",
    }


def routers(layers: int, shapes: Shapes, name: str) -> tuple[Mean, ...]:
    """What no router sees. Raises UnsupportedModelError where some layers have experts and others none."""
    found = [MLP.format(l=layer) + "gate.weight" for layer in range(layers)]
    there = [router in shapes for router in found]
    if any(there) and not all(there):
        raise UnsupportedModelError(
            f"{name}: expected experts in every layer, found none in layer {there.index(False)}"
        )
    return tuple(Mean(router, f"expert.{layer}", None) for layer, router in enumerate(found)) if all(there) else ()
