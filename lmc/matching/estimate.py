"""How long matching will take here, measured in a moment."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lmc.symmetries import STREAM, logits
from lmc.symmetries.families import Tokens, family_of
from lmc.symmetries.families import spec as spec_of

CALIBRATION = 768  # rows of the matrix product that is timed


@torch.no_grad()
def step_seconds(model: nn.Module) -> float | None:
    """About how long one step of learned matching with its default batch takes here; None where there is no loss.

    Measured: a forward pass on a few short samples, taken three times for forward and backward and in proportion to the
    batch (attention over longer windows costs more), and a matrix product, for the rotation of all weights and the
    pull-back of their gradient. An estimate, not a promise.
    """
    from lmc.corpora import LONGEST
    from lmc.matching.recipe import IMAGES, WINDOWS
    from lmc.symmetries import example_inputs

    spec, read, inputs = spec_of(model), family_of(model).inputs(model), example_inputs(model)
    if isinstance(read, Tokens):
        if not read.causal:
            return None
        share = WINDOWS * min(LONGEST, read.context) / inputs.numel()
    else:
        share = IMAGES / len(inputs)
    forward = seconds_of(lambda: logits(model, inputs))
    stream = spec.space(STREAM).group
    square = torch.ones(CALIBRATION, CALIBRATION, device=inputs.device)
    per_product = seconds_of(lambda: square @ square) / CALIBRATION**3
    weights = sum(p.numel() for p in model.parameters())
    return 3 * forward * share + (0 if stream.discrete else 2 * stream.n * weights * per_product)


def seconds_of(work: Callable[[], Tensor]) -> float:
    """The shortest of three runs. Reading a number back waits for the device."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work().flatten()[0].item()
        times.append(time.perf_counter() - began)
    return min(times)
