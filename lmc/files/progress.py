"""How far long work is: after a second a bar on a terminal, every ten seconds a line in a log.

>>> with meter(4, "writing") as advance:
...     for _ in range(4):
...         advance(1)
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

SILENCE = 10.0  # seconds after which a log is told how far the work is


@dataclass
class Clock:
    """When a log was last told a line."""

    told: float


_of_all: list[Clock] = []  # that of the command that runs, if one does


@contextmanager
def one_work() -> Iterator[None]:
    """The parts of what is done inside the block share a clock: many that are short make a long silence, too.

    >>> with one_work(), meter(4, "writing") as advance:
    ...     advance(4)
    """
    _of_all.append(Clock(time.monotonic()))
    try:
        yield
    finally:
        _of_all.pop()


@contextmanager
def meter(total: int, text: str, unit: str = "", hidden: bool = False) -> Iterator[Callable[[int], None]]:
    """Yields what is to be called with every amount that is done of the total, from any thread.

    `unit`: "B" counts bytes. `hidden`: nothing is shown, as of all processes but the first.
    """
    bar = None if hidden or not _seen() else _bar(total, text, unit)
    done, began = 0, time.monotonic()
    clock = _of_all[-1] if _of_all else Clock(began)
    if began - clock.told > SILENCE and not hidden:
        clock.told = began
        tell(f"{text} begins")

    def advance(amount: int) -> None:
        nonlocal done
        done += amount
        now = time.monotonic()
        if bar is not None:
            bar.update(amount)
        elif not hidden and 0 < done < total and now - clock.told > SILENCE:
            clock.told = now
            tell(f"{text}: {done / total:.0%}, {(now - began) * (total / done - 1):.0f} s left")

    try:
        yield advance
    finally:
        if bar is not None:
            bar.close()


def _seen() -> bool:
    """Whether somebody looks at a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def _bar(total: int, text: str, unit: str) -> Any:
    from tqdm import tqdm  # here: most commands end before they need it

    class Bar(tqdm):  # type: ignore[type-arg]
        monitor_interval = 0  # no thread of its own: where memory is short, one that cannot begin is waited for

    return Bar(total=total, desc=text, unit=unit or "it", unit_scale=bool(unit), delay=1, leave=False)


def watched(items: Iterable[T], total: int, text: str, hidden: bool = False) -> Iterator[T]:
    """The items, as they are asked for, under a meter that counts them.

    >>> list(watched("ab", 2, "letters"))
    ['a', 'b']
    """
    with meter(total, text, hidden=hidden) as advance:
        for item in items:
            yield item
            advance(1)


def tell(line: str) -> None:
    """A line of progress where no terminal shows a bar, such as in a log.

    >>> tell("matching: sweep 3 took 12 s")
    """
    if sys.stderr is not None and not _seen():
        with suppress(OSError, ValueError):  # nobody may be listening
            print(line, file=sys.stderr, flush=True)
