"""Where a checkpoint lies: a folder, or a copy of a hub repository, fetched in two steps.

>>> source = locate("run-1")                      # of a repository: its configuration and tokenizer, a few MB
>>> fetch(source, ("model.safetensors",))         # the weights, once the rest was found good
"""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import Request, urlopen

from lmc.checkpoints.headers import Entry, entry
from lmc.errors import CheckpointError, HubError
from lmc.files import LARGEST, refuse_pointer, require_plain, require_utf8

T = TypeVar("T")

PATIENCE = 15  # seconds for the hub's first answer
SMALL = ["*.json", "*.txt", "*.model", "*.jinja", "bpe.codes", "README.md"]
_TEXTS = ("licence", "license", "copying", "use_policy", "terms_of_use", "eula", "notice")  # of licences, in any case
SMALL += [f"*{''.join(f'[{c}{c.upper()}]' if c.isalpha() else c for c in word)}*" for word in _TEXTS]
# The errors that HTTP libraries raise when an answer ends too early, and when there is none.
_BROKEN = {"RemoteProtocolError", "ReadError", "IncompleteRead", "ChunkedEncodingError", "ReadTimeout"}
_UNREACHABLE = {"ConnectError", "ConnectTimeout", "ConnectionError", "ConnectionRefusedError", "ProxyError"}
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Source:
    """A checkpoint's folder, and for one from the hub its repository and commit."""

    name: str
    folder: Path
    repository: str | None = None
    commit: str | None = None


_COMMIT = re.compile("[0-9a-f]{40}")


def locate(name: str | Path) -> Source:
    """A folder, or `repository[@revision]` of the hub: without its weights, unless they are here already.

    Names that timm knows (`vit_base_patch16_224.augreg_in1k`) are repositories of `timm/`. Raises CheckpointError.
    """
    folder = Path(name).expanduser()
    if not str(name).strip():
        raise CheckpointError("model: expected a folder or a repository, found an empty name; name one")
    if _is_folder(folder):
        require_utf8(folder.resolve())
        _require_plain(folder.resolve())
        return Source(folder.resolve().name, folder.resolve())
    text = str(name)
    if folder.is_file():
        raise CheckpointError(
            f"{name}: is a file, expected a folder with config.json and weights; where it lies in one, name that folder"
        )
    repository, _, revision = re.sub("^hf[-_]hub:", "", text).partition("@")
    # Where runs/ exists, runs/3 is a mistyped folder, no repository; a name with a commit is one that was recorded.
    meant_here = "/" in text and folder.parent.is_dir() and not _COMMIT.fullmatch(revision)
    if meant_here or not _NAME.fullmatch(repository):
        known = _NAME.fullmatch(repository)
        hint = f"to ask the hub for it, say hf-hub:{name}" if known else "a model of the hub is OWNER/NAME"
        raise CheckpointError(f"{name}: no such folder; look how it is spelled ({hint})")
    if "/" not in repository and _timm_knows(repository):
        repository = f"timm/{repository}"

    def download() -> str:
        from huggingface_hub import snapshot_download

        return snapshot_download(repository, revision=revision or None, allow_patterns=SMALL)

    copy = Path(_ask(text, repository, download, "; and there is no such folder here"))
    return Source(f"{repository}@{copy.name}", copy, repository, copy.name)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:  # a name that is too long
        raise CheckpointError(f"{path}: no such folder ({error.strerror}); look how it is spelled") from None


def _require_plain(folder: Path) -> None:
    """Raise CheckpointError for a link that leaves the checkpoint, a device or a pipe, and a small file that is huge.

    What lies in a checkpoint is copied into what people publish, so a link must not reach anything else of theirs. The
    hub's own cache consists of links, all into the `blobs` of the repository's copy.
    """
    homes = [folder]
    for copy in (folder, *folder.parents):  # a checkpoint may be a folder within a repository
        if copy.parent.name == "snapshots" and (cached := copy.parent.parent).name.startswith("models--"):
            homes.append((cached / "blobs").resolve())
    for path in sorted((*folder.iterdir(), *folder.glob("additional_chat_templates/*"))):
        if path.is_symlink() and not path.exists():
            raise CheckpointError(
                f"{path}: is a link to {os.readlink(path)}, which is not there; download the checkpoint again"
            )
        if path.is_symlink() and not any(path.resolve().is_relative_to(home) for home in homes):
            raise CheckpointError(
                f"{path}: is a link to {os.readlink(path)}, outside the checkpoint; put the file itself in its place"
            )
        small = any(path.match(pattern) for pattern in SMALL)
        require_plain(path, LARGEST if small and path.is_file() else None)
        if small:
            refuse_pointer(path)


def names(source: Source) -> list[str]:
    """The names of all files of a checkpoint, those that are only on the hub included. Raises CheckpointError.

    Where the hub is not to be asked they are those that are here.
    """
    if source.repository is None:
        return sorted(path.name for path in source.folder.iterdir())
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return sorted(path.name for path in source.folder.iterdir())
    repository = source.repository
    return sorted(_ask(source.name, repository, lambda: HfApi().list_repo_files(repository, revision=source.commit)))


def remote_headers(source: Source, files: Iterable[str]) -> dict[str, Entry]:
    """What the hub says of the weights files that are not here yet: their headers. Raises CheckpointError."""
    from huggingface_hub import HfApi

    found: dict[str, Entry] = {}
    for file in files:

        def header(file: str = file) -> Any:
            return HfApi().parse_safetensors_file_metadata(str(source.repository), file, revision=source.commit)

        tensors = _ask(f"{source.name}: {file}", str(source.repository), header).tensors
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

    _ask(source.name, repository, download)


def explain(error: BaseException, repository: str) -> str:
    """Why the hub gave no answer, and what to do: one line, from whatever its client libraries raised.

    >>> explain(OSError("this is a gated dataset"), "datasets/ILSVRC/imagenet-1k")
    'gated: accept its terms at https://huggingface.co/datasets/ILSVRC/imagenet-1k, then set HF_TOKEN'
    """
    from huggingface_hub import constants, errors, get_token

    chain = _chain(error)
    page = f"{constants.ENDPOINT}/{repository}"
    responses = [e.response for e in chain if isinstance(e, errors.HfHubHTTPError)]
    status = next((r.status_code for r in responses if r is not None), None)
    if _any(chain, errors.GatedRepoError) or "gated dataset" in str(error):  # where the library hides the cause
        if get_token():
            return f"gated, and the token in use has no access: accept its terms at {page}, as the token's owner"
        return f"gated: accept its terms at {page}, then set HF_TOKEN"
    if _any(chain, errors.RevisionNotFoundError):
        return f"it has no such revision: {page} lists them"
    if _any(chain, errors.RepositoryNotFoundError):
        return "no such repository, or a private one, which needs HF_TOKEN"
    if status == 429:
        return "the hub limits requests (429): wait some minutes, or set HF_TOKEN, and run the same command again"
    if _any(chain, errors.OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set and no copy is here: unset it"
    names = {type(e).__name__ for e in chain}
    if names & _BROKEN or "Consistency check failed" in str(error):
        return "the download broke off; run the same command again, it continues where it stopped"
    if names & _UNREACHABLE:
        return f"{constants.ENDPOINT} does not answer: connect to a network"
    return " ".join(str(error).split("\n")[0].split()) or type(error).__name__


@cache
def silence() -> str:
    """What to do where the hub, or a proxy on the way to it, takes a request and does not answer; "" where it does.

    The client libraries wait without end for an answer, so this is asked first.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return ""
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=PATIENCE).close()
    except (OSError, ValueError, HTTPException) as error:  # a refusal is an answer, and told by whoever asks next
        if isinstance(getattr(error, "reason", error), TimeoutError):
            return (
                f"{constants.ENDPOINT} did not answer in {PATIENCE} s: look at the network and at HTTPS_PROXY; with "
                "HF_HUB_OFFLINE=1 copies that are here are used"
            )
    return ""


def _ask(what: str, repository: str, question: Callable[[], T], hint: str = "") -> T:
    """The hub's answer, or one line that says why there is none."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
        SafetensorsParsingError,
    )

    if why := silence():
        raise HubError(f"{what}: not available from the hub: {why}{hint}")
    transport: Any = HfHubHTTPError.__bases__[0]  # of the HTTP library, which differs between versions
    try:
        return question()
    except (HfHubHTTPError, transport, HFValidationError, SafetensorsParsingError, OSError, ValueError) as error:
        # OSError: no network, offline, no disk
        chain = _chain(error)
        lasting = (RevisionNotFoundError, HFValidationError, SafetensorsParsingError)
        never = any(_any(chain, kind) for kind in lasting)
        never |= _any(chain, RepositoryNotFoundError) and not _any(chain, GatedRepoError)  # which is one of these
        never |= _any(chain, EntryNotFoundError) and not _any(chain, LocalEntryNotFoundError)  # and so is this
        kind = CheckpointError if never else HubError
        raise kind(f"{what}: not available from the hub: {explain(error, repository)}{hint}") from error


def _chain(error: BaseException | None) -> list[BaseException]:
    """An error and what it was raised from: the libraries wrap the hub's answers, some of them twice."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _any(chain: list[BaseException], kind: type[BaseException]) -> bool:
    return any(isinstance(e, kind) for e in chain)


def _timm_knows(name: str) -> bool:
    """Whether timm builds a model of that name: read from its sources, as importing them takes seconds."""
    found = find_spec("timm")
    builds = re.compile(rf"^@register_model\s+def {re.escape(name.split('.')[0])}\(", re.MULTILINE)
    places = found.submodule_search_locations or () if found else ()
    files = (file for place in places for file in Path(place).glob("models/*.py"))
    return any(builds.search(file.read_text(encoding="utf-8")) for file in files)
