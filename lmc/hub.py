"""Where a checkpoint lies: a folder, or a copy of a hub repository, fetched in two steps.

>>> source = locate("EleutherAI/pythia-14m-seed1@step143000")       # configuration and tokenizer: a few MB
>>> fetch(source, ("model.safetensors",))                           # the weights, once the rest was found good
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lmc.errors import CheckpointError
from lmc.weights import Entry, entry

T = TypeVar("T")

SMALL = ["*.json", "*.txt", "*.model", "*.jinja"]
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Source:
    """A checkpoint's folder, and for one from the hub its repository and commit."""

    name: str
    folder: Path
    repository: str | None = None
    commit: str | None = None


def locate(name: str | Path) -> Source:
    """A folder, or `repository[@revision]` of the hub: without its weights, unless they are here already.

    Names that timm knows (`vit_base_patch16_224.augreg_in1k`) are repositories of `timm/`. Raises CheckpointError.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Source(folder.resolve().name, folder.resolve())
    text = str(name)
    if folder.is_file():
        raise CheckpointError(f"{name}: is a file, expected a folder with config.json and weights")
    repository, _, revision = re.sub("^hf[-_]hub:", "", text).partition("@")
    meant_here = "/" in text and folder.parent.is_dir()  # runs/3, where runs/ exists, is a slip and no repository
    if meant_here or not _NAME.fullmatch(repository):
        raise CheckpointError(f"{name}: no such folder")
    if "/" not in repository and _timm_knows(repository):
        repository = f"timm/{repository}"

    def download() -> str:
        from huggingface_hub import snapshot_download

        return snapshot_download(repository, revision=revision or None, allow_patterns=SMALL)

    copy = Path(_ask(text, download))
    return Source(f"{repository}@{copy.name}", copy, repository, copy.name)


def remote_headers(source: Source, files: Iterable[str]) -> dict[str, Entry]:
    """What the hub says of the weights files that are not here yet: their headers. Raises CheckpointError."""
    from huggingface_hub import HfApi

    found: dict[str, Entry] = {}
    for file in files:

        def header(file: str = file) -> Any:
            return HfApi().parse_safetensors_file_metadata(str(source.repository), file, revision=source.commit)

        tensors = _ask(f"{source.name}: {file}", header).tensors
        found |= {name: entry(file, t.shape, t.dtype) for name, t in tensors.items()}
    return found


def fetch(source: Source, files: Iterable[str]) -> None:
    """Make sure that the files are in the source's folder. Raises CheckpointError."""
    missing = [file for file in files if not (source.folder / file).exists()]
    repository = source.repository
    if repository is None or not missing:
        return

    def download() -> str:
        from huggingface_hub import snapshot_download

        return snapshot_download(repository, revision=source.commit, allow_patterns=missing)

    _ask(source.name, download)


def _ask(what: str, question: Callable[[], T]) -> T:
    """The hub's answer, or one line that says why there is none."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return question()
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:  # OSError: no network, offline, no disk
        reason = " ".join(str(error).split("\n")[0].split())
        raise CheckpointError(f"{what}: no such folder, and not available from the hub ({reason})") from error


def _timm_knows(name: str) -> bool:
    from lmc.compat import ensure_torchvision

    ensure_torchvision()
    import timm

    return timm.is_model(name.split(".")[0])
