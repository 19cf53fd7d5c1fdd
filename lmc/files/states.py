"""Work that a later process goes on with: its settings, its tensors, and digests that bind one to the other."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmc.errors import CheckpointError
from lmc.files.digests import seal, sha256, tensor_digest
from lmc.files.reading import open_safetensors, read_json
from lmc.files.whole import whole_file, whole_folder

if TYPE_CHECKING:
    from torch import Tensor

RUN = "run.json"  # in the folder of unfinished work: the settings it was begun with


def write_state(path: Path, tensors: Mapping[str, "Tensor"]) -> None:
    """Write the tensors of unfinished work, with a digest of them, of the file's name and of the run they belong to."""
    from safetensors.torch import save_file

    with whole_file(path) as aside:
        save_file(dict(tensors), aside, metadata={"sha256": _state_digest(path, tensors)})


def read_state(path: Path) -> dict[str, "Tensor"]:
    """What `write_state` wrote for this run. Raises CheckpointError where it has changed since, or is of another."""
    with open_safetensors(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        said = (file.metadata() or {}).get("sha256")
    if said != _state_digest(path, tensors):
        raise CheckpointError(
            f"{path}: expected the state as this run wrote it, found another; delete {path.parent} and begin anew"
        )
    return tensors


def _state_digest(path: Path, tensors: Mapping[str, "Tensor"]) -> str:
    run = path.with_name(RUN)
    return seal({"file": path.name, "run": sha256(run) if run.is_file() else "", "tensors": tensor_digest(tensors)})


def refuse_other_run(directory: Path, run: dict) -> Path:
    """The folder of a resumable run, made if new. Raises CheckpointError if it belongs to a run with other settings."""
    described = json.loads(json.dumps(run))
    file = directory / RUN
    if file.exists():
        now, then = _flat(described), _flat(read_json(file))
        if differ := sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name)):
            if now.keys() != then.keys():
                what = f"{directory}: holds the state of a run that another version of lmc began"
                raise CheckpointError(f"{what}; continue it with that version, or choose another folder")
            raise CheckpointError(
                f"{directory}: holds the state of a run with other settings ({', '.join(differ)}); continue it with "
                "those it began with, or choose another folder"
            )
    else:
        with whole_folder(directory) as aside:
            (aside / file.name).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n", encoding="utf8")
    return directory


def _flat(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a JSON object, those of its objects as `field.inner`."""
    inner = {f"{key}.{name}": v for key, value in plain.items() if isinstance(value, dict) for name, v in value.items()}
    return {key: value for key, value in plain.items() if not isinstance(value, dict)} | inner
