"""One task beside the main one: for work that lets the interpreter go on, such as hashing and writing of files.

>>> found = {}
>>> with Beside() as beside:
...     beside.do(lambda: found.update(one=1))      # returns at once
...     beside.wait()                               # the task is done, or its error is raised here
>>> found
{'one': 1}
"""

import _thread
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from lmc.files import meter, sha256

Advance = Callable[[int], None]
PATIENCE = 1.0  # seconds until a thread that has not begun is no longer waited for


class Beside:
    """A place for one task at a time; a second one waits for the first.

    Threads of the module `threading` wait without end for one that finds no memory to begin (`ulimit -v`). So these are
    bare ones, and a task whose thread does not begin is done where it is waited for. Errors of a task are raised there
    too, and by the next `do`. Leaving the `with` waits for what is under way, but when interrupted.
    """

    def __init__(self) -> None:
        self._task: _Task | None = None
        self._alone = False  # whether a task had to be done here, so that the next ones are, too

    def do(self, work: Callable[[], object]) -> None:
        """Wait for the task before, then begin this one."""
        self.wait()
        self._task = task = _Task(work)
        try:
            if not self._alone:
                _thread.start_new_thread(task.run, ())
        except RuntimeError:  # the system gives no thread
            self._alone = True
        if self._alone:
            task.run()

    def wait(self) -> None:
        """Until nothing is under way; raises what the task has raised."""
        task, self._task = self._task, None
        if task is not None:
            self._alone |= task.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.wait()
        except Exception:
            if error is None:  # else the first error is the one to tell
                raise


class _Task:
    """Work that is done once, by whoever claims it first."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.error: BaseException | None = None
        self.claim, self.ended = _thread.allocate_lock(), _thread.allocate_lock()
        self.ended.acquire()

    def run(self) -> bool:
        """Do the work, unless somebody else does; whether it was done here."""
        if not self.claim.acquire(blocking=False):
            return False
        try:
            self.work()
        except BaseException as error:
            self.error = error
        finally:
            self.ended.release()
        return True

    def wait(self) -> bool:
        """Until the work is done; raises its error. Whether it had to be done here."""
        here = False
        while not self.ended.acquire(timeout=PATIENCE):
            here |= self.run()
        if self.error is not None:
            raise self.error
        return here


def sha256_all(paths: Iterable[Path], read: Callable[[Path, Advance], str] = sha256) -> dict[Path, str]:
    """The SHA-256 of each file, in hex, as `read` finds it; two files are read at a time."""
    todo, found = list(dict.fromkeys(paths)), dict[Path, str]()

    with meter(sum(path.stat().st_size for path in todo), "reading", "B") as advance, Beside() as beside:

        def one(path: Path) -> None:
            found[path] = read(path, advance)

        while todo:
            if len(todo) > 1:
                beside.do(partial(one, todo.pop(0)))
            one(todo.pop(0))
    return found
