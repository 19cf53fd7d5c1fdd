"""Which symmetry does the work: matching with one kind of space alone, with all but one, with all.

>>> found = ablate({"pair-0": (a, b)}, match_on, held_out, steps=2, lr=0.02, grid=3, tried=["none", "all"])
>>> list(found.methods)
['none', 'all']

A kind that is left out is left out of everything: it is not in the starting point (the better closed form, with that
kind reset to the identity) and it does not learn.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lmc.evaluation import as_data, path
from lmc.matching import Alignment, match
from lmc.reproduce.experiments.comparison import best_start, runs
from lmc.reproduce.runs import Comparison, Pair, Run
from lmc.symmetries import SCALE, ModelSpec, Transform, kinds
from lmc.symmetries.families import spec as spec_of

# One name for what a rotary model splits in two: the planes that turn with the position, and the channels that do not.
GROUPS = {"plane": "queries and keys", "pass": "queries and keys", "qk": "queries and keys"}
WORDS = {
    "stream": "stream rotation",
    SCALE: "stream scale",
    "head": "head order",
    "value": "values",
    "hidden": "hidden order",
}


def variants(spec: ModelSpec) -> dict[str, tuple[str, ...]]:
    """What to try: name -> the kinds of spaces that take part.

    >>> variants(spec_of(vit))["without values"]
    ('stream', 'head', 'qk', 'hidden')

    `all` has every kind but the residual scale, which is off by default; `all and stream scale` has that too.
    """
    named: dict[str, tuple[str, ...]] = {}
    for kind in kinds(spec):
        name = GROUPS.get(kind) or WORDS.get(kind, kind)
        named[name] = (*named.get(name, ()), kind)
    scale = WORDS[SCALE] if SCALE in kinds(spec) else None
    usual = tuple(kind for name, group in named.items() for kind in group if name != scale)
    found: dict[str, tuple[str, ...]] = {"none": ()}
    found |= {f"only {name}": group for name, group in named.items()}
    for name, group in named.items():
        if name != scale:
            found[f"without {name}"] = tuple(kind for kind in usual if kind not in group)
    found["all"] = usual
    if scale:
        found[f"all and {scale}"] = (*usual, SCALE)
    return found


def restricted(alignment: Alignment, allowed: Collection[str]) -> Alignment:
    """The alignment with every space whose kind is not `allowed` reset to the identity.

    >>> heads = restricted(alignment, ["head", "hidden"])                   # its permutations alone

    The residual scale stays: at the start of matching it only makes the endpoints' ε equal.
    """
    transforms = []
    for transform in alignment.transforms:
        spec, kept = transform.spec, dict(Transform.identity(transform.spec).elements)
        kept |= {name: e for name, e in transform.elements.items() if spec.kind(name) in allowed or name == SCALE}
        transforms.append(Transform(spec, kept))
    return Alignment(alignment.method, alignment.parents, tuple(transforms), alignment.record)


def ablate(
    pairs: Mapping[str, Pair],
    match_on: object,
    held_out: object,
    steps: int,
    lr: float,
    grid: int = 11,
    seeds: Sequence[int] = (0,),
    tried: Collection[str] | None = None,
) -> Comparison:
    """The barrier of dual matching under every variant of `variants` (or of those `tried`), on every pair.

    All of them with the first of `seeds`, the first pair with the others too. A variant is a method of the result; its
    runs have a barrier, its interval, a gap, and the kinds that took part.
    """
    first = next(iter(pairs.values()))[0]
    spec, seen, unseen = spec_of(first), as_data(match_on, first), as_data(held_out, first)
    learns = {spec.kind(space.name) for space in spec.spaces if space.group.dimension}
    starts = {name: best_start(pair, seen, []) for name, pair in pairs.items()}
    made = runs(list(pairs), seeds)
    found = []
    for variant, allowed in variants(spec).items():
        if tried is not None and variant not in tried:
            continue
        moving = [kind for kind in allowed if kind in learns]
        for name, seed in made:
            alignment = restricted(starts[name], allowed)
            if moving:
                options: dict[str, Any] = {"kinds": moving, "steps": steps, "lr": lr, "seed": seed}
                alignment = match(*pairs[name], method="dual", data=seen, start=alignment, **options)
            walked = path(alignment, unseen, grid)
            found.append(
                Run(variant, walked.barrier, name, interval=walked.interval, gap=walked.gap, kinds=tuple(allowed))
            )
            print(f"{name}  {variant:<28} barrier {walked.barrier:.4f}")
    rest = {"steps": steps, "lr": lr, "seeds": [seed for _, seed in made]}
    return Comparison(tuple(found), unseen.unit, rest=rest)
