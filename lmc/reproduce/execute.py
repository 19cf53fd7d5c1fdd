"""One notebook run by Papermill, kept with the key of everything its numbers depend on."""

import copy
import hashlib
import json
import os
import re
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

from filelock import FileLock, Timeout

from lmc.checkpoints import provenance
from lmc.errors import ArgumentError, DataError, LmcError, MissingExtraError
from lmc.files import scratch_folder, write_whole
from lmc.reproduce import places, reach, results
from lmc.reproduce.ledger import Figure, environment, made_by, reads
from lmc.reproduce.notebook import notebook, parameters, settle_ids, with_outputs, without_comments
from lmc.reproduce.schedule import source

HEARTBEAT = 10  # seconds between progress lines of a running notebook
# Run last in every kernel, and not kept: the most memory it had. Kilobytes, but for macOS, which says bytes.
PEAK = """\
import resource, sys
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))"""


class NotebookError(LmcError):
    """One or more notebooks failed; the message names each, its error, and where the executed copy is."""


@dataclass(frozen=True)
class Execution:
    """What became of one notebook: its executed copy, and whether it was computed now or taken from the cache."""

    notebook: str
    profile: str
    path: Path
    cached: bool
    seconds: float


def execute(name: str, profile: str, folder: Path, given: dict[str, Any], ledger: dict[str, Figure]) -> Execution:
    """Run one notebook with Papermill, unless an executed copy with the same key is there already.

    With `recompute` False in `given`, a copy that was computed in full serves too. A copy that serves is brought up to
    date with the notebook's text and comments, which change no number. Where another process runs the same notebook,
    this one waits for it, and takes what it has computed.
    """
    with _turn(name, profile):
        return _executed(name, profile, folder, given, ledger)


@contextmanager
def _turn(name: str, profile: str) -> Iterator[None]:
    """One process at a time runs a notebook: what others read is then the results of one whole run."""
    lock = FileLock(places.checkout() / "build/locks" / profile / f"{name}.lock")
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say(f"{name}: another process runs it; this one waits")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _executed(name: str, profile: str, folder: Path, given: dict[str, Any], ledger: dict[str, Figure]) -> Execution:
    place = source(name)
    node = notebook(place)
    given = {"profile": profile, **given}
    if unknown := given.keys() - (known := parameters(node, name)):
        raise ArgumentError(f"{name}: unknown parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    target, redraw = folder / f"{name}.ipynb", given.get("recompute") is False
    key = _key(node, given, name, ledger)
    kept = _copy(target, key, [] if redraw else made_by(name, profile, ledger), profile)
    if kept is None and redraw:
        kept = _computed(name, profile, folder, ledger)
    if kept is not None:
        _put(target, node, kept, kept.metadata.lmc)
        say(f"{name}: unchanged")
        return Execution(name, profile, target, cached=True, seconds=0.0)
    with scratch_folder("lmc-") as aside:
        path, began = aside / target.name, time.monotonic()
        _papermill(node, path, name, given, place.parent)
        seconds = time.monotonic() - began
        executed = _read(path)
        working = _working(executed.cells)
        hardware = provenance.hardware() if redraw else _hardware(made_by(name, profile, ledger), profile)
        made = {"date": datetime.now(UTC).date().isoformat(), "hardware": hardware, "seconds": round(seconds)}
        made["peak_gib"] = round(int(executed.cells[-1].outputs[0].text) / 2**30, 1)
        _put(target, node, executed, {"key": key, "parameters": given, **made})
    took, computing = provenance.duration(seconds), provenance.duration(working)
    say(f"{name}: {'redrawn' if redraw else 'done'} in {took}, {computing} of it in cells after imports")
    return Execution(name, profile, target, cached=False, seconds=seconds)


def is_current(name: str, profile: str, folder: Path, ledger: dict[str, Figure]) -> bool:
    """Whether a notebook that computes would be taken from the cache."""
    return _computed(name, profile, folder, ledger) is not None


def _computed(name: str, profile: str, folder: Path, ledger: dict[str, Figure]) -> Any | None:
    key = _key(notebook(source(name)), {"profile": profile}, name, ledger)
    return _copy(folder / f"{name}.ipynb", key, made_by(name, profile, ledger), profile)


def _key(node: Any, given: dict[str, Any], name: str, ledger: dict[str, Figure]) -> str:
    """Everything the numbers depend on: code and what it reaches, parameters, data, declared inputs, versions."""
    root, profile = places.checkout(), given["profile"]
    cells = [cell for cell in node.cells if cell.cell_type == "code"]
    code = [[cell.metadata.get("tags", []), without_comments(cell.source)] for cell in cells]
    reaches = reach.code_digest("\n".join(cell.source for cell in cells), root / "lmc")
    own = {(figure.results, profile) for figure in made_by(name, profile, ledger)}
    read = reads(name, profile, ledger)
    read = read | own if given.get("recompute") is False else read - own
    files = {str(file.relative_to(root)): file for file in (root / "data/pairs").rglob("*") if file.is_file()}
    for where in (places.fresh_folder, places.committed_folder):
        files |= {f"{where.__name__} {at} {id}": where(at) / f"{id}.json" for id, at in read}
    data = {file: _content(files[file]) for file in files}
    variables = {variable: os.environ.get(variable, "") for variable in environment(name, ledger)}
    plain = [code, reaches, given, sorted(own), data, variables, provenance.versions()]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "absent"


def _copy(target: Path, key: str, mine: list[Figure], profile: str) -> Any | None:
    """An executed copy, which serves only while the results it wrote are still there, whole, with their provenance."""
    folder = places.fresh_folder(profile)
    wrote = [folder / f"{figure.results}{kind}" for figure in mine for kind in (".json", ".run.json")]
    if not all(path.is_file() for path in (target, *wrote)):
        return None
    try:
        [results.read(figure.results, profile) for figure in mine]
        kept = _read(target)
        return kept if kept.metadata.lmc.key == key else None
    except (DataError, ValueError, KeyError, AttributeError, TypeError):  # damaged: run again
        return None


def _hardware(mine: list[Figure], profile: str) -> str:
    """What a notebook computed on, as its results say: its kernel may have used a GPU, which this process did not."""
    wrote = [results.read(figure.results, profile) for figure in mine if results.exist(figure.results, profile)]
    return wrote[0].run["hardware"] if wrote else provenance.hardware()


def _read(path: Path) -> Any:
    import nbformat

    return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)


def _put(target: Path, node: Any, executed: Any, made: dict[str, Any]) -> None:
    """Write an executed copy that notes how it was made, unless it is there already."""
    import nbformat

    node = settle_ids(with_outputs(node, executed), target.stem)
    node.metadata["lmc"] = made
    text = nbformat.writes(node) + "\n"
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        write_whole(target, text)


def _papermill(node: Any, path: Path, name: str, given: dict[str, Any], cwd: Path) -> None:
    try:
        import nbformat
        from papermill import execute_notebook
        from papermill.exceptions import PapermillExecutionError
    except ImportError as error:
        raise MissingExtraError(f'{error.name} is missing; run: pip install -e ".[book]"') from error
    plain = path.with_name(f"source-{path.name}")
    measured = copy.deepcopy(node)
    measured.cells.append(nbformat.v4.new_code_cell(PEAK, id="peak"))
    plain.write_text(nbformat.writes(measured), encoding="utf-8")
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
        done, passed = status.count("completed"), provenance.duration(time.monotonic() - began)
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
    write_whole(kept, text)
    return f"; executed copy: {kept.relative_to(places.checkout())}"


def _working(cells: list[Any]) -> float:
    """Seconds in the cells that do not begin with imports: what a chapter takes once its libraries are there."""
    code = [cell for cell in cells if not re.match(r"(?:import|from) ", cell.source)]
    return sum(cell.metadata.get("papermill", {}).get("duration") or 0.0 for cell in code)


@contextmanager
def kernel_environment() -> Iterator[None]:
    """One thread per kernel (jobs run side by side), and the kernel of this interpreter, whatever else is installed."""
    before = dict(os.environ)
    for name in ("JUPYTER_PATH", "JUPYTER_PREFER_ENV_PATH"):
        os.environ.pop(name, None)
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    if os.environ.get(places.RESULTS):  # a kernel runs in another folder than this
        os.environ[places.RESULTS] = os.path.abspath(os.environ[places.RESULTS])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the notebook stack itself, which no reader can act on
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def say(line: str) -> None:
    print(line, flush=True)
