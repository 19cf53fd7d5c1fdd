"""Several processes, one learned matching: each takes its share of every batch, and the small gradients are summed.

Under `torchrun` every process holds the same transforms and takes the same steps. What travels between them is one
gradient per space (d² numbers for the residual rotation), never one per weight. With one process all of this does
nothing.

Models too large for one device are sharded (FSDP2, `fully_shard`): every process keeps a slice of each weight, of the
endpoints and of the merged model. Then it is the weights that travel, one tensor at a time.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from lmc.errors import ArgumentError, one_line
from lmc.evaluation import Data
from lmc.files import progress

if TYPE_CHECKING:  # sharding brings torch's compiler in, which takes longer to import than torch itself
    from torch.distributed.device_mesh import DeviceMesh


@contextmanager
def process_group(device: torch.device | None) -> Iterator[bool]:
    """Join the processes that `torchrun` started, if it did. Yields whether this one prints and writes files.

    Raises ArgumentError where its variables are incomplete, or another process cannot be reached.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield True
        return
    try:
        distributed.init_process_group("nccl" if device is not None and device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"WORLD_SIZE is set: expected what torchrun sets, found that {one_line(error)}; unset it, or use torchrun"
        ) from None
    try:
        yield first()
    finally:
        distributed.destroy_process_group()


def running() -> bool:
    """Whether this is one of several processes that know of each other."""
    return distributed.is_available() and distributed.is_initialized()


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if running() else 1


def first() -> bool:
    """Whether this process is the one that writes files and shows progress."""
    return not running() or distributed.get_rank() == 0


def tell(text: str) -> None:
    """A line of progress in a log; of several processes the first one's."""
    if first():
        progress.tell(text)


def wait() -> None:
    """Wait until all processes have come to this line."""
    if running():
        distributed.barrier()


def share(batch: Data) -> Data:
    """This process's part of a batch that all have drawn: every n-th sample."""
    return batch[slice(distributed.get_rank(), None, count())] if running() else batch


def parts(batch: Data, wanted: int) -> int:
    """How many parts every process cuts its share of a batch into: as many as wanted, if each has so many samples.

    Where weights are sharded all processes have to go through the model equally often.
    """
    return max(1, min(wanted, len(batch) // count()))


def agree(tensors: Mapping[str, Tensor]) -> None:
    """Overwrite tensors with those of the first process: what each computed alone may differ in the last bit."""
    if running():
        for tensor in tensors.values():
            distributed.broadcast(tensor, 0)


def total(tensors: Mapping[str, Tensor]) -> None:
    """Replace tensors of one type by their sums over the processes, in one message."""
    if running():
        flat = torch.cat([t.flatten() for t in tensors.values()])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors.values(), flat.split([t.numel() for t in tensors.values()]), strict=True):
            tensor.copy_(part.view_as(tensor))


def mesh(device: torch.device) -> "DeviceMesh":
    """All processes in one row."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device.type, (count(),))


def shard_model(model: nn.Module, over: "DeviceMesh") -> None:
    """FSDP2, in place: a layer's weights are whole only while it computes."""
    from torch.distributed.fsdp import fully_shard

    for module in list(model.modules()):
        if isinstance(module, nn.ModuleList | nn.Sequential):
            for layer in module:
                if any(True for _ in layer.parameters()):
                    fully_shard(layer, mesh=over)
    fully_shard(model, mesh=over)


def slice_of(tensor: Tensor, over: "DeviceMesh | None") -> Tensor:
    """A tensor that every process holds whole, as this one's slice of it."""
    if over is None:
        return tensor
    from torch.distributed.tensor import DTensor, Replicate, Shard

    return DTensor.from_local(tensor, over, [Replicate()], run_check=False).redistribute(over, [Shard(0)])


def whole(tensor: Tensor) -> Tensor:
    """The tensor, gathered if it is sharded."""
    sharded: Any = tensor
    return sharded.full_tensor() if hasattr(tensor, "full_tensor") else tensor
