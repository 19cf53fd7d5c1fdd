"""One notebook run by Papermill, kept with the key of everything its numbers depend on."""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lmc.checkpoints import provenance
from lmc.errors import ArgumentError, DataError, LmcError, MissingExtraError
from lmc.reproduce import places, results
from lmc.reproduce.ledger import Figure
from lmc.reproduce.notebook import notebook, parameters, settle_ids
from lmc.reproduce.schedule import source

HEARTBEAT = 10  # seconds between progress lines of a running notebook
_aside: set[Path] = set()  # folders in use, for a run that is interrupted


class NotebookError(LmcError):
    """One or more notebooks failed; the message names each, its error, and where the executed copy is."""


@dataclass(frozen=True)
class Run:
    """What became of one notebook: its executed copy, and whether it was computed now or taken from the cache."""

    notebook: str
    profile: str
    path: Path
    cached: bool
    seconds: float


def execute(name: str, profile: str, folder: Path, given: dict[str, Any], ledger: dict[str, Figure]) -> Run:
    """Run one notebook with Papermill, unless an executed copy with the same key is there already.

    With `recompute` False in `given`, a copy that was computed in full serves too.
    """
    place = source(name)
    node = notebook(place)
    given = {"profile": profile, **given}
    if unknown := given.keys() - (known := parameters(node, name)):
        raise ArgumentError(f"{name}: unknown parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    mine = made_by(name, profile, ledger)
    key = _key(node, given, mine)
    target = folder / f"{name}.ipynb"
    redraw = given.get("recompute") is False
    if _cached(target, key, [] if redraw else mine, profile) or (redraw and is_current(name, profile, folder, ledger)):
        say(f"{name}: unchanged")
        return Run(name, profile, target, cached=True, seconds=0.0)
    with _folder_aside() as aside:
        path, began = aside / target.name, time.monotonic()
        _papermill(node, path, name, given, place.parent)
        seconds = time.monotonic() - began
        executed = json.loads(path.read_text(encoding="utf-8"))
        working = _working(executed["cells"])
        tidy = _tidy(executed, name, given, key, seconds)
        results.put(target, json.dumps(tidy, indent=1, ensure_ascii=False) + "\n")
    say(f"{name}: {'redrawn' if redraw else 'done'} in {clock(seconds)}, {clock(working)} of it in cells after imports")
    return Run(name, profile, target, cached=False, seconds=seconds)


@contextmanager
def _folder_aside() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lmc-", ignore_cleanup_errors=True) as aside:
        _aside.add(Path(aside))
        yield Path(aside)
    _aside.discard(Path(aside))


def forget_aside() -> None:
    """Remove the folders of notebooks that are running, for an exit that waits for nothing."""
    for folder in _aside:
        shutil.rmtree(folder, ignore_errors=True)


def is_current(name: str, profile: str, folder: Path, ledger: dict[str, Figure]) -> bool:
    """Whether a notebook that computes would be taken from the cache."""
    mine = made_by(name, profile, ledger)
    return _cached(folder / f"{name}.ipynb", _key(notebook(source(name)), {"profile": profile}, mine), mine, profile)


def made_by(name: str, profile: str, ledger: dict[str, Figure]) -> list[Figure]:
    """The figures that a notebook makes at a profile."""
    return [figure for figure in ledger.values() if figure.notebook == name and profile in figure.profiles]


def _key(node: Any, given: dict[str, Any], mine: list[Figure]) -> str:
    """Everything the numbers depend on: text, parameters, package source, data, results that are read, versions."""
    root = places.checkout()
    io = [[figure.results, *figure.inputs] for figure in mine]
    digest = hashlib.sha256(json.dumps([node, given, io, provenance.versions()], sort_keys=True).encode())
    files = [*(root / "lmc").rglob("*.py"), *(root / "data/pairs").rglob("*")]
    folders = [places.fresh_folder(given["profile"]), places.committed_folder(given["profile"])]
    read = [id for figure in mine for id in figure.inputs]
    if given.get("recompute") is False:
        read += [figure.results for figure in mine]
    inputs = [folder / f"{id}.json" for id in read for folder in folders]
    text = "\n".join("".join(cell["source"]) for cell in node["cells"])
    for id, profile in re.findall(r'results\.read\("([\w-]+)", "(\w+)"\)', text):  # of a fixed profile
        inputs += [folder(profile) / f"{id}.json" for folder in (places.fresh_folder, places.committed_folder)]
    if "measured_on_gpu(" in text:  # whatever there is
        inputs += [f for where in (places.fresh_folder, places.committed_folder) for f in where("gpu").glob("*.json")]
    for variable in sorted(set(re.findall(r"LMC_[A-Z_]+", text))):  # a corpus of the reader's own
        digest.update(f"{variable}={os.environ.get(variable, '')}\0".encode())
    for path in sorted(path for path in files if path.is_file()):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    for path in sorted(set(inputs)):
        digest.update(path.read_bytes() if path.is_file() else b"absent")
    return digest.hexdigest()


def _cached(target: Path, key: str, mine: list[Figure], profile: str) -> bool:
    """An executed copy counts only while the results it wrote are still there, whole, with their provenance."""
    folder = places.fresh_folder(profile)
    wrote = [folder / f"{figure.results}{kind}" for figure in mine for kind in (".json", ".run.json")]
    if not all(path.is_file() for path in (target, *wrote)):
        return False
    try:
        [results.read(figure.results, profile) for figure in mine]
    except DataError:
        return False
    try:
        return bool(json.loads(target.read_text(encoding="utf-8"))["metadata"].get("lmc", {}).get("key") == key)
    except (ValueError, KeyError, TypeError):  # damaged: run again
        return False


def _papermill(node: Any, path: Path, name: str, given: dict[str, Any], cwd: Path) -> None:
    try:
        import nbformat
        from papermill import execute_notebook
        from papermill.exceptions import PapermillExecutionError
    except ImportError as error:
        raise MissingExtraError(f'{error.name} is missing; run: pip install -e ".[book]"') from error
    plain = path.with_name(f"source-{path.name}")
    plain.write_text(nbformat.writes(node), encoding="utf-8")
    quiet = ["--log-level=CRITICAL"]  # the kernel's own notices; errors of cells do not pass this way
    options = {"kernel_name": "python3", "progress_bar": False, "autosave_cell_every": 5, "extra_arguments": quiet}
    ended = threading.Event()
    threading.Thread(target=_progress, args=(path, name, ended), daemon=True).start()
    try:
        execute_notebook(plain, path, parameters=given, cwd=cwd, **options)
    except PapermillExecutionError as error:
        kept = _keep(path, given["profile"])
        raise NotebookError(f"{name} failed in cell {error.cell_index}: {error.ename}: {error.evalue}{kept}") from error
    except RuntimeError as error:  # nbclient: the kernel died
        raise NotebookError(f"{name} failed: {error}{_keep(path, given['profile'])}") from error
    finally:
        ended.set()


def _progress(path: Path, name: str, ended: threading.Event) -> None:
    """Say where a running notebook is, from the copy Papermill saves after each cell and every few seconds."""
    say(f"{name}: started")
    began = time.monotonic()
    while not ended.wait(HEARTBEAT):
        try:
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        except (OSError, ValueError):  # not there yet, or caught in the middle of a save
            continue
        status = [cell["metadata"].get("papermill", {}).get("status") for cell in cells]
        running = [cell for cell, state in zip(cells, status, strict=True) if state == "running"]
        done, passed = status.count("completed"), clock(time.monotonic() - began)
        say(f"{name}: {done} of {len(cells)} cells, {passed}  {_last_words(running)}".rstrip())


def _last_words(cells: list[dict[str, Any]]) -> str:
    """The last progress bar on standard error."""
    outputs = [output for cell in cells for output in cell.get("outputs", ()) if output.get("name") == "stderr"]
    lines = "".join("".join(output["text"]) for output in outputs).replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if "%|" in line), "")


def _keep(path: Path, profile: str) -> str:
    """Keep the executed copy of a failed notebook where the book never looks, without the places of this machine."""
    if not path.is_file():
        return ""
    kept = places.checkout() / "build/failed" / profile / path.name
    executed = json.loads(path.read_text(encoding="utf-8"))
    for part in (executed, *executed["cells"]):
        part["metadata"].pop("papermill", None)
    text = json.dumps(executed, indent=1, ensure_ascii=False) + "\n"
    here = str(places.checkout())
    names = {str(path.parent): "", here: ".", sys.prefix: "$PREFIX", sys.base_prefix: "$PYTHON"}
    names |= {tempfile.gettempdir(): "$TMP", str(Path.home()): "~"}
    for place in sorted(names, key=len, reverse=True):
        text = text.replace(place + os.sep, f"{names[place]}/" if names[place] else "")
    results.put(kept, text)
    return f"; executed copy: {kept.relative_to(places.checkout())}"


def _working(cells: list[dict[str, Any]]) -> float:
    """Seconds in the cells that do not begin with imports: what a chapter takes once its libraries are there."""
    code = [cell for cell in cells if not re.match(r"(?:import|from) ", "".join(cell["source"]))]
    return sum(cell["metadata"].get("papermill", {}).get("duration") or 0.0 for cell in code)


def _tidy(executed: dict[str, Any], name: str, given: dict[str, Any], key: str, seconds: float) -> dict[str, Any]:
    """Drop what differs between two equal runs or names this machine, and note how the copy was made."""
    for cell in executed["cells"]:
        cell["metadata"].pop("papermill", None)
        cell["metadata"].pop("execution", None)
        if "injected-parameters" in (tags := cell["metadata"].get("tags", [])):
            tags.append("remove-cell")  # Papermill's own; the chapter shows the cell the author wrote
        if "outputs" in cell:  # standard error carries progress, for the terminal
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
    executed["metadata"].pop("papermill", None)
    made = {"date": datetime.now(UTC).date().isoformat(), "hardware": provenance.hardware(), "seconds": round(seconds)}
    executed["metadata"]["lmc"] = {"key": key, "parameters": given, **made}
    import nbformat

    return settle_ids(nbformat.from_dict(executed), name)


@contextmanager
def kernel_environment() -> Iterator[None]:
    """One thread per kernel (jobs run side by side), and the kernel of this interpreter, whatever else is installed."""
    before = dict(os.environ)
    for name in ("JUPYTER_PATH", "JUPYTER_PREFER_ENV_PATH"):
        os.environ.pop(name, None)
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the notebook stack itself, which no reader can act on
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def say(line: str) -> None:
    print(line, flush=True)
