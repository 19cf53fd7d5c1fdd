"""How long matching will take here, measured in a moment."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lmc.corpora import LONGEST
from lmc.matching.problem import GLOBAL
from lmc.matching.recipe import IMAGES, WINDOWS
from lmc.matching.solver import CHEAP, ONE_START
from lmc.symmetries import STREAM, ModelSpec, Permutation, example_inputs, logits
from lmc.symmetries.families import Tokens, family_of
from lmc.symmetries.families import spec as spec_of

CALIBRATION = 768  # rows of the matrix product that is timed
OFTEN = 9  # times that what takes milliseconds is timed: beside other work few of them are as if there was none
# Matching by weights, as measured (`make bench ITEM=weights`): products are a part of a sweep, the rest is assignments
# and what is moved in memory; reading, the canonical form and writing take as long as two sweeps; a process must begin.
BESIDE, READING, BEGINNING = 2.0, 2, 4.0
LOOK = 1.5  # sweeps that it takes to find again what was rewritten
# Sweeps of a start, if the solver does not end before: where they are dear, or where embeddings, which no other space
# shows, say all of the rotation; and where they say nothing of it.
FEW, MANY = 5, 45
# What does not grow with the weights: calls of the tensor library that a space takes in a sweep, however small it is,
# and how many groups of queries, which are solved one by one, take as many again.
CALLS, GROUPS, TIMED = 1000, 4, 100


@torch.no_grad()
def step_seconds(model: nn.Module) -> float | None:
    """About how long one step of learned matching with its default batch takes here; None where there is no loss.

    Measured are a forward pass on a few short samples and a matrix product. The pass counts three times, for forward
    and backward, and in proportion to the batch (attention over longer windows costs more). The product stands for the
    rotation of all weights and the pull-back of their gradient. An estimate, not a promise.
    """
    spec, read, inputs = spec_of(model), family_of(model).inputs(model), example_inputs(model)
    if isinstance(read, Tokens):
        if not read.causal:
            return None
        share = WINDOWS * min(LONGEST, read.context) / inputs.numel()
    else:
        share = IMAGES / len(inputs)
    forward = seconds_of(lambda: logits(model, inputs))
    stream = spec.space(STREAM).group
    weights = sum(p.numel() for p in model.parameters())
    rotating = 0 if stream.discrete else 2 * stream.n * weights
    return 3 * forward * share + rotating * _seconds_of_a_product(inputs.device)


def weights_seconds(model: nn.Module) -> tuple[float, float]:
    """About how long `lmc match --method weights` takes here: where one model is the other rewritten, and at most.

    >>> least, most = weights_seconds(a)
    >>> 0 < least < most
    True

    Most takes a pair that has nothing to do with each other. Measured: a product of matrices, and one of small ones, as
    what every call takes is most of the work on small models. The model may lie on the meta device. An estimate: how
    many sweeps gain something depends on the weights.
    """
    spec = spec_of(model)
    stream, sizes = spec.space(STREAM).group, spec.sizes
    permuted = {s.name for s in spec.spaces if isinstance(s.group, Permutation)}
    # Multiply-adds of a sweep, of rotating all weights once, and of those among them that show the stream alone.
    products = rotation = shown = 0.0
    for name in spec.rules:
        for block in spec.blocks(name):
            size = math.prod(sizes[axis] for axis in block.names)
            rotation += stream.n * size
            shown += 0 if spec.space_names.intersection(block.names) - GLOBAL else stream.n * size
            products += size * max((sizes[axis] for axis in permuted.intersection(block.names)), default=0)
            products += 2 * stream.n * size if STREAM in block.names else 0
    most = FEW + (MANY - FEW) * (1 - shown / rotation)
    sweeps = 1 + FEW if rotation > ONE_START else 2 * (1 + min(most, FEW + CHEAP / rotation))
    device = next(model.parameters()).device
    device = torch.device("cpu") if device.type == "meta" else device
    one = BESIDE * products * _seconds_of_a_product(device) + _calls(spec) * _seconds_of_a_call(device)
    return BEGINNING + (LOOK + READING) * one, BEGINNING + (sweeps + READING) * one


def _seconds_of_a_product(device: torch.device) -> float:
    """Of one multiply-add in a product of matrices, which all threads share.

    On a processor one thread is timed: several wait for one another where other work runs beside them.
    """
    square = torch.ones(CALIBRATION, CALIBRATION, device=device)
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return seconds_of(lambda: square @ square, rounds=OFTEN, alone=True) / threads / CALIBRATION**3


def _calls(spec: ModelSpec) -> float:
    """How many calls of the tensor library a sweep takes beside its products."""
    shown = [set(block.names) for name in spec.rules for block in spec.blocks(name)]
    calls = 0.0
    for space in spec.spaces:
        inner = {inside.name for inside in spec.inner(space.name)}
        nested = isinstance(space.group, Permutation) and any(len(inner & names) > 1 for names in shown)
        calls += CALLS * (1 + len(inner) * space.group.n / GROUPS if nested else 1)
    return calls


def _seconds_of_a_call(device: torch.device) -> float:
    """Of a call of the tensor library on a few numbers."""
    small = torch.ones(8, 8, device=device)

    def work() -> Tensor:
        found = small
        for _ in range(TIMED):
            found = small @ small
        return found

    return seconds_of(work, rounds=OFTEN) / TIMED


def seconds_of(work: Callable[[], Tensor], rounds: int = 3, alone: bool = False) -> float:
    """The shortest of some runs with all threads and one with one (`alone`: all of them with one thread).

    On a processor as if nothing else ran: what other programs take is not counted. But beside them threads wait for one
    another, which costs processor time.
    """
    threads = torch.get_num_threads()
    times = []
    try:
        for count in (*(1 if alone else threads,) * rounds, 1):
            torch.set_num_threads(count)
            began, used = time.perf_counter(), time.process_time()
            found = work()
            found.flatten()[0].item()  # waits for the device
            took, busy = time.perf_counter() - began, (time.process_time() - used) / count
            times.append(busy if found.device.type == "cpu" else took)
    finally:
        torch.set_num_threads(threads)
    return min(times)
