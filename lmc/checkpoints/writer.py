"""Weights written as safetensors, tensor by tensor: while one is written the next may be computed, no more are held.

>>> plan = {"weight": torch.empty(4, 4, device="meta")}             # every name, shape and type, known in advance
>>> write(Path("."), plan, iter([("weight", torch.ones(4, 4))]))

The format is a header that says where each tensor's bytes lie, and then the bytes; so the header can be written first
and the tensors may come in any order. Above `limit` bytes the files are shards with an index, split as the stock
libraries do it.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from lmc.checkpoints.beside import Beside
from lmc.checkpoints.headers import SAFE, TYPES
from lmc.errors import CheckpointError
from lmc.files import TOO_LARGE, meter, require_finite

_NAMES = {getattr(torch, dtype): name for name, dtype in TYPES.items()}


def write(
    folder: Path, plan: Mapping[str, Tensor], tensors: Iterable[tuple[str, Tensor]], limit: int | str | None = None
) -> None:
    """Write the tensors in the types of the plan, cast on the way, into files of at most `limit` bytes ("5GB").

    `plan` holds a tensor without storage (on the meta device) for each name. Raises CheckpointError where a tensor is
    missing, of another shape, there twice, or not finite in the type that is asked for.
    """
    from huggingface_hub import split_state_dict_into_shards_factory

    split = split_state_dict_into_shards_factory(
        dict(plan),
        get_storage_size=lambda tensor: int(tensor.nbytes),
        filename_pattern=SAFE.replace(".", "{suffix}."),
        max_shard_size=sum(t.nbytes for t in plan.values()) if limit is None else limit,
    )
    places: dict[str, tuple[BinaryIO, int]] = {}
    with ExitStack() as open_files, Beside() as beside:
        for file, names in split.filename_to_tensors.items():
            shard = open_files.enter_context((folder / file).open("wb"))
            places |= {name: (shard, at) for name, at in _begin(shard, {n: plan[n] for n in names}).items()}
        advance = open_files.enter_context(meter(sum(t.nbytes for t in plan.values()), "writing", "B"))
        for name, tensor in tensors:
            if name not in places or tensor.shape != plan[name].shape:
                expected = "no such tensor, or none again" if name not in places else f"shape {list(plan[name].shape)}"
                raise CheckpointError(f"tensor {name}: expected {expected}, found {list(tensor.shape)}; not saved")
            stream, at = places.pop(name)
            beside.do(partial(_put, stream, at, _bytes(name, tensor.detach().to(plan[name].dtype))))
            advance(plan[name].nbytes)
        beside.wait()
    if places:
        raise CheckpointError(f"tensor {min(places)}: expected {list(plan[min(places)].shape)}, found none; not saved")
    if split.is_sharded:
        metadata = {"total_parameters": sum(t.numel() for t in plan.values()), **split.metadata}
        index = {"metadata": metadata, "weight_map": split.tensor_to_filename}
        (folder / f"{SAFE}.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _begin(stream: BinaryIO, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Write the header; where in the file each tensor's bytes go."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets, at = {}, 0
    for name, tensor in tensors.items():
        offsets[name] = at
        shape, end = list(tensor.shape), at + tensor.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data begins aligned
    stream.write(len(text).to_bytes(8, "little") + text)
    stream.truncate(stream.tell() + at)
    return {name: 8 + len(text) + offset for name, offset in offsets.items()}


def _put(stream: BinaryIO, at: int, data: memoryview) -> None:
    stream.seek(at)
    stream.write(data)


def _bytes(name: str, tensor: Tensor) -> memoryview:
    require_finite(f"tensor {name}", tensor, TOO_LARGE if tensor.dtype == torch.float16 else "; not saved")
    return tensor.cpu().resolve_neg().contiguous().view(-1).view(torch.uint8).numpy().data
