"""Time that a command may take: long work stops cleanly, keeps what it has, and goes on when it is run again."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec

from lmc.errors import LmcError

P = ParamSpec("P")

UNLIMITED = 366 * 24 * 3600.0  # seconds, for a run that is to end by itself


class BudgetSpent(LmcError):
    """The time given is over; what was done is kept, and the same command goes on from there."""


def command(work: Callable[P, int | None]) -> Callable[P, int]:
    """A command's main function, which then returns how it ended, and says it in a line.

    >>> @command
    ... def main() -> None:
    ...     Budget(seconds=0).check()
    >>> main()
    to be continued: the time given is over; run the same command again to go on
    3

    Exit codes: 0, or what it returns: done. 2: bad input. 3: the time given is over.
    """

    @wraps(work)
    def ended(*given: P.args, **named: P.kwargs) -> int:
        try:
            return work(*given, **named) or 0
        except BudgetSpent as stop:
            print(f"to be continued: {stop}")
            return 3
        except LmcError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    return ended


class Budget:
    """Seconds from now on.

    >>> budget = Budget(seconds=540)
    >>> budget.left() > 0
    True
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left; below zero afterwards."""
        return self._end - time.monotonic()

    def check(self) -> None:
        """Raise BudgetSpent when the time is over."""
        if self.left() <= 0:
            raise BudgetSpent("the time given is over; run the same command again to go on")

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raise BudgetSpent amid the block when the time is over, for work that writes its own state as it goes."""
        self.check()
        if not hasattr(signal, "SIGALRM"):  # Windows: the block runs to its end
            yield
            return

        def over(number: int, frame: object) -> None:
            self.check()

        before = signal.signal(signal.SIGALRM, over)
        signal.setitimer(signal.ITIMER_REAL, max(self.left(), 1e-3) + 1e-3, 1.0)  # again each second, if it was early
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
