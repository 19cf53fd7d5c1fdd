"""Several processes, one learned matching: each takes its share of every batch, and the small gradients are summed.

Under `torchrun` every process holds the same transforms and takes the same steps. What travels between them is one
gradient per space (d² numbers for the residual rotation), never one per weight. With one process nothing here acts.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, distributed

from lmc.objective import Data


@contextmanager
def process_group(device: torch.device | None) -> Iterator[bool]:
    """Joins the processes that `torchrun` started, if it did; tells whether this one speaks and writes."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    distributed.init_process_group("nccl" if device is not None and device.type == "cuda" else "gloo")
    try:
        yield first()
    finally:
        distributed.destroy_process_group()


def _running() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _running() else 1


def first() -> bool:
    """Whether this process is the one that writes files and shows progress."""
    return not _running() or distributed.get_rank() == 0


def wait() -> None:
    """Until all processes are here."""
    if _running():
        distributed.barrier()


def share(batch: Data) -> Data:
    """This process's part of a batch that all have drawn: every n-th sample."""
    return batch[slice(distributed.get_rank(), None, count())] if _running() else batch


def agree(tensors: Mapping[str, Tensor]) -> None:
    """Overwrite tensors with those of the first process: what each computed alone may differ in the last bit."""
    if _running():
        for tensor in tensors.values():
            distributed.broadcast(tensor, 0)


def total(tensors: Mapping[str, Tensor]) -> None:
    """Replace tensors of one type by their sums over the processes, in one message."""
    if _running():
        flat = torch.cat([t.flatten() for t in tensors.values()])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors.values(), flat.split([t.numel() for t in tensors.values()]), strict=True):
            tensor.copy_(part.view_as(tensor))
