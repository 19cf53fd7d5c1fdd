"""Papermill orchestration: which notebooks, at which profile, what is cached, progress, resume.

    >>> reproduce(profile="laptop", figure="vit-digits")

A notebook that ran is kept, executed, with the key of everything its numbers depend on; while the key stays the same
it is not run again. So an interrupted run continues where it stopped. `python -m lmc.reproduce` is `lmc reproduce`.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from lmc import results
from lmc._ledger import Figure, figures
from lmc._needs import PrerequisiteError, missing, together
from lmc._notebooks import MissingExtraError, notebook, parameters, settle_ids
from lmc.errors import ArgumentError, LmcError
from lmc.results import PROFILES, checkout

HEARTBEAT = 10  # seconds between progress lines of a running notebook


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


def reproduce(
    profile: str = "laptop",
    figure: str | None = None,
    jobs: int = 2,
    out: Path | str | None = None,
    everything: bool = True,
) -> list[Run]:
    """Run the notebooks of a profile, or the one behind a figure with what it needs, and draw their figures.

        >>> reproduce(profile="smoke", jobs=1)

    `out` is where executed copies go: `book/notebooks` for `laptop`, which the book shows, `build/notebooks/<profile>`
    otherwise. Without `everything`, notebooks that run on request only are left out. Every notebook is tried;
    `NotebookError` at the end tells which failed.
    """
    if profile not in PROFILES:
        raise ArgumentError(f"unknown profile {profile!r}; choose from {', '.join(PROFILES)}")
    if jobs < 1:
        raise ArgumentError(f"jobs: expected at least 1, found {jobs}")
    ledger = figures()
    order = _order(profile, figure, ledger, everything)
    if not order:
        ready = [p for p in PROFILES if any(p in entry.profiles for entry in ledger.values())]
        raise ArgumentError(f"profile {profile!r}: no notebook runs at it; choose from {', '.join(ready)}")
    folder = Path(out) if out else executed_folder(profile)
    _require(order, profile, folder, ledger, jobs)
    started = time.monotonic()
    with _kernel_environment(), ThreadPoolExecutor(jobs) as pool:
        futures: dict[str, Future[Run]] = {}
        for name, needed in order.items():  # in dependency order, so what a notebook waits for is never behind it
            futures[name] = pool.submit(_after, [futures[n] for n in needed], name, profile, folder, ledger)
        try:
            failures = [str(error) for future in futures.values() if (error := _failure(future))]
        except KeyboardInterrupt:
            _say("interrupted: what is finished is kept, run the same command again to continue")
            os._exit(130)  # kernels follow their parent; threads waiting for them would not
    if failures:
        raise NotebookError("\n".join(failures))
    runs = [future.result() for future in futures.values()]
    _say(f"{len(runs)} notebooks at profile {profile} in {_clock(time.monotonic() - started)}")
    if figure is not None:
        _report(ledger[figure], profile)
    return runs


def _require(order: Iterable[str], profile: str, folder: Path, ledger: dict[str, Figure], jobs: int) -> None:
    """Say what the run will take, and refuse to start what cannot end. What is finished already needs nothing."""
    needs = {f.notebook: f.needs[profile] for f in ledger.values() if f.notebook in order and profile in f.needs}
    needs = {name: n for name, n in needs.items() if not _is_current(name, profile, folder, ledger)}
    total = together(needs.values(), jobs)
    if not total:
        return
    _say(f"profile {profile}, {len(needs)} notebooks: {'; '.join(str(entry) for entry in total)}")
    if lacking := [line for entry in total for line in missing(entry)]:
        raise PrerequisiteError(f"profile {profile} needs {'; '.join(lacking)}")


def listing() -> str:
    """Every figure, with the notebook, profiles and minutes behind it, as a table for a terminal; and what it needs.

    >>> print(listing())
    """
    ledger = figures().values()
    rows = [("FIGURE", "NOTEBOOK", "PROFILES (MINUTES)", "SHOWS")]
    for figure in ledger:
        times = [f"{p} ({figure.minutes[p]:g})" if p in figure.minutes else p for p in figure.profiles]
        rows.append((figure.id, figure.notebook, ", ".join(times), figure.title))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
    needs = {f"{f.notebook} at profile {p}": str(needs) for f in ledger for p, needs in f.needs.items()}
    return "\n".join([*lines, *(f"{where} needs {what}" for where, what in needs.items())])


def executed_folder(profile: str) -> Path:
    """Where executed notebooks of a profile are kept; the book shows those of `laptop`."""
    return checkout() / ("book/notebooks" if profile == "laptop" else f"build/notebooks/{profile}")


def execute(name: str, profile: str, folder: Path, given: dict[str, Any], ledger: dict[str, Figure]) -> Run:
    """Run one notebook with Papermill, unless an executed copy with the same key is there already."""
    source = _source(name)
    node = notebook(source)
    given = {"profile": profile, **given}
    if unknown := given.keys() - (known := parameters(node, name)):
        raise ArgumentError(f"{name}: unknown parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    mine = _made_by(name, profile, ledger)
    key = _key(node, given, mine)
    target = folder / f"{name}.ipynb"
    if _cached(target, key, mine, profile):
        _say(f"{name}: unchanged")
        return Run(name, profile, target, cached=True, seconds=0.0)
    with tempfile.TemporaryDirectory(prefix="lmc-") as aside:
        path, began = Path(aside) / target.name, time.monotonic()
        _papermill(node, path, name, given, source.parent)
        seconds = time.monotonic() - began
        executed = json.loads(path.read_text(encoding="utf-8"))
        _install(_tidy(executed, name, given, key, seconds), target)
    _say(f"{name}: done in {_clock(seconds)}")
    return Run(name, profile, target, cached=False, seconds=seconds)


def _after(needed: list[Future[Run]], name: str, profile: str, folder: Path, ledger: dict[str, Figure]) -> Run:
    if any(_failure(future) for future in needed):
        raise NotebookError(f"{name}: not run, because a notebook whose results it reads failed")
    return execute(name, profile, folder, {}, ledger)


def _failure(future: Future[Run]) -> LmcError | None:
    """A notebook's failure to be told at the end; a mistake of ours is raised at once."""
    error = future.exception()
    if error is not None and not isinstance(error, LmcError):
        raise error
    return error


def _order(
    profile: str, figure: str | None, ledger: dict[str, Figure], everything: bool = True
) -> dict[str, list[str]]:
    """Notebook -> notebooks whose results it reads; those come first."""
    if figure is not None and figure not in ledger:
        raise ArgumentError(f"unknown figure {figure!r}; choose from {', '.join(ledger) or '(none yet)'}")
    if figure is not None and profile not in ledger[figure].profiles:
        offered = ", ".join(ledger[figure].profiles)
        raise ArgumentError(f"figure {figure!r} has no profile {profile!r}; it has {offered}")
    # What is long runs when it is asked for by name; otherwise its committed results serve. At smoke nothing is long.
    everything = (everything and figure is None) or profile == "smoke"
    asked = {ledger[figure].notebook} if figure is not None else set()
    able = [s.stem for s in _sources() if s.stem in asked or _runs(s.stem, profile, ledger, everything)]
    writers = {f.results: f.notebook for f in ledger.values() if profile in f.profiles and f.notebook in able}
    needs: dict[str, set[str]] = {name: set() for name in able}
    for entry in ledger.values():
        if entry.notebook in needs:
            needs[entry.notebook] |= {writers[id] for id in entry.inputs if id in writers} - {entry.notebook}
    order = {name: sorted(needs[name]) for name in _longest_first(needs, profile, ledger)}
    if figure is None:
        return order
    wanted = {ledger[figure].notebook}
    for name in reversed(order):  # everything upstream of the figure's notebook
        wanted |= set(order[name]) if name in wanted else set()
    return {name: needed for name, needed in order.items() if name in wanted}


def _longest_first(needs: dict[str, set[str]], profile: str, ledger: dict[str, Figure]) -> list[str]:
    """Notebooks after what they need, and of those that are ready the longest first, so that none is left for last."""
    minutes = {
        name: max((f.minutes.get(profile, 0) for f in ledger.values() if f.notebook == name), default=0)
        for name in needs
    }
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda name: (-minutes[name], name))
        order += ready
        sorter.done(*ready)
    return order


def _runs(name: str, profile: str, ledger: dict[str, Figure], everything: bool) -> bool:
    """A notebook runs where one of its figures can; one without figures is cheap, and runs on any laptop."""
    own = [figure for figure in ledger.values() if figure.notebook == name]
    able = [figure for figure in own if profile in figure.profiles and (everything or not figure.on_request)]
    return bool(able) if own else profile in ("smoke", "laptop")


def _sources() -> list[Path]:
    return sorted((checkout() / "notebooks").glob("[0-9]*.py"))


def _source(name: str) -> Path:
    path = checkout() / "notebooks" / f"{name}.py"
    if not path.is_file():
        raise ArgumentError(f"no notebook {name!r}; choose from {', '.join(source.stem for source in _sources())}")
    return path


def _key(node: Any, given: dict[str, Any], mine: list[Figure]) -> str:
    """Everything the numbers depend on: text, parameters, package source, shipped data, versions of the stack."""
    root = checkout()
    io = [[figure.results, *figure.inputs] for figure in mine]
    digest = hashlib.sha256(json.dumps([node, given, io, results.versions()], sort_keys=True).encode())
    files = [*(root / "lmc").rglob("*.py"), *(root / "data/pairs").rglob("*")]
    folders = [results.fresh_folder(given["profile"]), results.committed_folder(given["profile"])]
    inputs = [folder / f"{id}.json" for figure in mine for id in figure.inputs for folder in folders]
    for path in sorted(path for path in files if path.is_file()):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    for path in sorted(set(inputs)):
        digest.update(path.read_bytes() if path.is_file() else b"absent")
    return digest.hexdigest()


def _made_by(name: str, profile: str, ledger: dict[str, Figure]) -> list[Figure]:
    return [figure for figure in ledger.values() if figure.notebook == name and profile in figure.profiles]


def _is_current(name: str, profile: str, folder: Path, ledger: dict[str, Figure]) -> bool:
    mine = _made_by(name, profile, ledger)
    return _cached(folder / f"{name}.ipynb", _key(notebook(_source(name)), {"profile": profile}, mine), mine, profile)


def _cached(target: Path, key: str, mine: list[Figure], profile: str) -> bool:
    """An executed copy counts only while the results it wrote are still there."""
    if not target.is_file() or any(
        not (results.fresh_folder(profile) / f"{figure.results}.json").is_file() for figure in mine
    ):
        return False
    return json.loads(target.read_text(encoding="utf-8"))["metadata"].get("lmc", {}).get("key") == key


def _papermill(node: Any, path: Path, name: str, given: dict[str, Any], cwd: Path) -> None:
    try:
        import nbformat
        from papermill import execute_notebook
        from papermill.exceptions import PapermillExecutionError
    except ImportError as error:
        raise MissingExtraError(f'{error.name} is missing; run: pip install -e ".[book]"') from error
    source = path.with_name(f"source-{path.name}")
    source.write_text(nbformat.writes(node), encoding="utf-8")
    quiet = ["--log-level=CRITICAL"]  # the kernel's own notices; errors of cells do not pass this way
    options = {"kernel_name": "python3", "progress_bar": False, "autosave_cell_every": 5, "extra_arguments": quiet}
    ended = threading.Event()
    threading.Thread(target=_progress, args=(path, name, ended), daemon=True).start()
    try:
        execute_notebook(source, path, parameters=given, cwd=cwd, **options)
    except PapermillExecutionError as error:
        kept = _keep(path, given["profile"])
        raise NotebookError(f"{name} failed in cell {error.cell_index}: {error.ename}: {error.evalue}{kept}") from error
    except RuntimeError as error:  # nbclient: the kernel died
        raise NotebookError(f"{name} failed: {error}{_keep(path, given['profile'])}") from error
    finally:
        ended.set()


def _progress(path: Path, name: str, ended: threading.Event) -> None:
    """Say where a running notebook is, from the copy Papermill saves after each cell and every few seconds."""
    _say(f"{name}: started")
    began = time.monotonic()
    while not ended.wait(HEARTBEAT):
        try:
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        except (OSError, ValueError):  # not there yet, or caught in the middle of a save
            continue
        status = [cell["metadata"].get("papermill", {}).get("status") for cell in cells]
        running = [cell for cell, state in zip(cells, status, strict=True) if state == "running"]
        done, clock = status.count("completed"), _clock(time.monotonic() - began)
        _say(f"{name}: {done} of {len(cells)} cells, {clock}  {_last_words(running)}".rstrip())


def _last_words(cells: list[dict[str, Any]]) -> str:
    """The last line on standard error, where progress bars write."""
    outputs = [output for cell in cells for output in cell.get("outputs", ()) if output.get("name") == "stderr"]
    text = "".join("".join(output["text"]) for output in outputs)
    return text.replace("\r", "\n").strip().rpartition("\n")[2]


def _keep(path: Path, profile: str) -> str:
    """Keep the executed copy of a failed notebook where the book never looks."""
    if not path.is_file():
        return ""
    kept = checkout() / "build/failed" / profile / path.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, kept)
    return f"; executed copy: {kept.relative_to(checkout())}"


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
    made = {"date": datetime.now(UTC).date().isoformat(), "hardware": results.hardware(), "seconds": round(seconds)}
    executed["metadata"]["lmc"] = {"key": key, "parameters": given, **made}
    import nbformat

    return settle_ids(nbformat.from_dict(executed), name)


def _install(executed: Any, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
    aside.write_text(json.dumps(executed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(aside, target)


def _report(figure: Figure, profile: str) -> None:
    """Draw one figure and say how its numbers compare with what is expected of them."""
    from lmc import figures as drawing

    found = results.read(figure.results, profile)
    folder = checkout() / "build/figures" / profile
    drawing.save(drawing.draw(figure.draw, found.numbers), folder / figure.id)
    _say(f"{figure.id}: {(folder / figure.id).relative_to(checkout())}.svg and .png")
    for name, expected in figure.expected.get(profile, {}).items():
        measured = found.numbers["headline"][name]
        verdict = "as expected" if expected.met_by(measured) else "NOT as expected"
        _say(f"  {name}: {measured:g}, expected {expected.value:g} ± {expected.tolerance:g}: {verdict}")
    _say(f"  {found.provenance}")


@contextmanager
def _kernel_environment() -> Iterator[None]:
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


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _say(line: str) -> None:
    print(line, flush=True)


def main(argv: list[str] | None = None) -> int:
    """`python -m lmc.reproduce`: the same options as `lmc reproduce`, and `--out` for a run beside the book's."""
    parser = argparse.ArgumentParser(prog="lmc reproduce", description="Run the notebooks and redraw the figures.")
    parser.add_argument("--profile", default="laptop", help=", ".join(PROFILES))
    parser.add_argument("--figure", help="only this figure (see --list)")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks run at once")
    parser.add_argument("--list", action="store_true", help="list the figures and exit")
    parser.add_argument("--out", type=Path, help="folder for executed notebooks")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a plain kill ends like Ctrl-C
    try:
        if arguments.list:
            print(listing())
        else:
            reproduce(arguments.profile, arguments.figure, arguments.jobs, arguments.out)
    except LmcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
