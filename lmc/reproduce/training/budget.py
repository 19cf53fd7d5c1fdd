"""Time that a command may take: long work stops cleanly, keeps what it has, and goes on when it is run again."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lmc.errors import LmcError

UNLIMITED = 366 * 24 * 3600.0  # seconds, for a run that is to end by itself


class BudgetSpent(LmcError):
    """The time given is over; what was done is kept, and the same command goes on from there."""


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
