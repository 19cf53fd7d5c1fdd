"""What a command says: results and progress on standard output, warnings and errors on the other."""

import os
import sys
from typing import TYPE_CHECKING

from lmc.errors import shown

if TYPE_CHECKING:
    import lmc.evaluation


def say(line: str) -> None:
    """A line on standard output.

    >>> say("wrote aligned")
    wrote aligned
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0":  # of torchrun's, one speaks
        print(shown(line), flush=True)


def table_of(result: "lmc.evaluation.PathResult") -> str:
    """The loss at every point of a path, the barrier, and the midpoint."""
    lines = [f"{'λ':>7}  {'loss':>9}  accuracy   ({result.metric}, {result.samples} samples)"]
    for at, loss, accuracy in zip(result.lambdas, result.losses, result.accuracies, strict=True):
        label = " ".join(f"{w:.2f}" for w in at) if isinstance(at, tuple) else f"{at:.4f}"
        lines.append(f"{label:>7}  {loss:9.5f}  {accuracy:8.4f}")
    low, high = result.interval
    spread = f"95 %: {low:.5f} to {high:.5f}" if result.samples > 1 else "one sample has no interval"
    lines.append(f"barrier {result.barrier:.5f} ({spread}) {result.metric}")
    return "\n".join([*lines, f"midpoint minus better endpoint {result.gap:+.5f}"])


def warn(line: str) -> None:
    """A line on standard error; the command goes on."""
    print("warning:", shown(line), file=sys.stderr)


def warn_once(line: str, warned: set[str]) -> None:
    """What is looked at twice is warned of once: libraries that change the filters make Python forget what it said."""
    if line not in warned:
        warned.add(line)
        warn(line)


def fail(line: str) -> int:
    """A line on standard error, and the exit code of a user's mistake.

    >>> fail("nowhere: not found")
    2
    """
    print("error:", shown(line), file=sys.stderr)
    return 2


def refused(error: OSError) -> str:
    """What the system refused, where, and what to do."""
    if error.strerror is None:  # of a library, in its own words
        return str(error)
    if error.filename is not None:
        advice = "get the right to it" if isinstance(error, PermissionError) else "look there"
        return f"{error.filename}: {error.strerror}; {advice}, or name another"
    if isinstance(error, FileNotFoundError):
        return "the folder that this runs in is not there any more; go to another"
    return f"standard output: cannot be written: {error.strerror}; send it elsewhere"
