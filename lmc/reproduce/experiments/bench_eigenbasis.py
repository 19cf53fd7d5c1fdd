"""Whether Adam on the rotation comes down sooner in the eigenbasis of its gradients, as SOAP (arXiv 2409.11321) does.

    make bench ITEM=eigenbasis          # or: python -m lmc.reproduce.experiments.bench_eigenbasis neox-docstrings-0

Adam scales every entry of the rotation's generator by itself, so it depends on the coordinates. In the eigenbasis of
E[G Gᵀ] the entries of the gradient G vary more independently. Both are tried at two rates, for several numbers of
steps, each a run of its own, on every shipped pair. Seconds are those of one processor thread, and what finding the
start took is among them. The barrier is measured on held-out data. The results go to
data/results/bench/eigenbasis.json, one entry a pair; other entries stay.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmc.evaluation import path
from lmc.matching import Alignment, Endpoints, Learner, LieAdam, Recipe, match
from lmc.reproduce.experiments.bench_choices import BATCHES, HELD_OUT, SAMPLES, STEPS, timed
from lmc.reproduce.experiments.bench_weights import entry
from lmc.reproduce.experiments.comparison import load_pairs
from lmc.reproduce.training.shipped_pairs import KINDS, names
from lmc.symmetries import STREAM

RATES = (1e-2, 2e-2)  # the default of these pairs, and twice as much
RENEWED = 10  # steps after which the eigenbasis is computed anew
ADAM, EIGENBASIS = "Adam", "in the eigenbasis"


class EigenbasisAdam(LieAdam):
    """Adam whose moments of the rotation's gradient are kept in the eigenbasis of E[G Gᵀ]; elsewhere as it was."""

    covariance: Tensor
    basis: Tensor

    def steps(self, gradients: Mapping[str, Tensor], step: int, rate: float) -> dict[str, Tensor]:
        """For every space the element near the identity to compose with."""
        others = {name: gradient for name, gradient in gradients.items() if name != STREAM}
        found = super().steps(others, step, rate)
        return found if STREAM not in gradients else found | {STREAM: self._turn(gradients[STREAM], step, rate)}

    def _turn(self, gradient: Tensor, step: int, rate: float) -> Tensor:
        beta1, beta2 = self.betas
        first, second = self.first[STREAM], self.second[STREAM]
        if step == 1:
            self.covariance, self.basis = torch.zeros_like(gradient), torch.eye(len(gradient)).to(gradient)
        self.covariance.lerp_(gradient @ gradient.mT, 1 - beta2)
        if step % RENEWED == 1:
            renewed = torch.linalg.eigh(self.covariance).eigenvectors
            change = renewed.mT @ self.basis
            # As in SOAP the squares stay: eigenvectors come in the order of their values, which changes slowly.
            first.copy_(change @ first @ change.mT)
            self.basis = renewed
        inside = self.basis.mT @ gradient @ self.basis
        first.lerp_(inside, 1 - beta1)
        second.lerp_(inside.square(), 1 - beta2)
        scaled = first / (1 - beta1**step) / ((second / (1 - beta2**step)).sqrt() + 1e-12)
        group = self.groups[STREAM]
        return group.exp(group.tangent(-rate * (self.basis @ scaled @ self.basis.mT)))


class InEigenbasis(Learner):
    """A learner that takes its steps by `EigenbasisAdam`."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        shapes = {space.name: self.elements[0][space.name].shape for space in self.spaces}
        self.adams = [EigenbasisAdam(self.spaces, shapes, self.recipe.betas, self.device) for _ in self.states]


def main(given: list[str]) -> None:
    """Measure each pair and write what was found down at once."""
    torch.set_num_threads(1)
    for name in given or names():
        command = f"python -m lmc.reproduce.experiments.bench_eigenbasis {name}"
        entry("eigenbasis", name, command, partial(measure, name), threads=1, seeds=[0])


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Both ways at both rates on one pair: every run's steps, seconds and barrier. `folder`: nothing is kept in it."""
    kind, _, index = name.rpartition("-")
    task, batch = KINDS[kind][0], BATCHES[kind]
    pair = load_pairs(kind, int(index) + 1)[name]
    seen, unseen = task.samples(SAMPLES), task.held_out(task.corpus, HELD_OUT)
    start, spent = timed(lambda: match(*pair, method="weights"))
    ends = Endpoints.of(pair, None)

    def run(learner_of: Callable[..., Learner], rate: float, steps: int) -> dict[str, float]:
        recipe = Recipe.of("dual", lr=rate, batch=batch, steps=steps)
        found, seconds = timed(lambda: ends.learn(start.transforms, seen, recipe, 0, None, learner_of))
        learned = Alignment("dual", ends.parents, found.transforms, {})
        return {"steps": steps, "seconds": spent + seconds, "barrier": path(learned, unseen, grid=9).barrier}

    tried = []
    for way, learner_of in ((ADAM, Learner.of), (EIGENBASIS, InEigenbasis.of)):
        for rate in RATES:
            runs = [run(learner_of, rate, steps) for steps in STEPS]
            tried.append({"way": way, "lr": rate, "runs": runs})
            print(name, way, rate, *(f"{found['barrier']:.4f}" for found in runs), flush=True)
    return {"start": spent, "tried": tried, "unit": unseen.unit}


if __name__ == "__main__":
    main(sys.argv[1:])
