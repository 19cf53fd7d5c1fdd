"""`lmc`, and `python -m lmc`: the command line, which ends cleanly from its first moment on.

A signal (Ctrl-C, a plain kill, a closed terminal) removes what is unfinished, says one line and ends the process with
128 + its number. It raises nothing: an exception in the middle of an import or of a library would show its innards.
"""

import os
import signal
import sys
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def end_cleanly() -> None:
    """From now on a signal ends this process as described above; what nohup or a shell told it to ignore stays so."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGTERM:
            signal.signal(number, _leave)


def main() -> int:
    end_cleanly()
    from lmc.cli import lean
    from lmc.cli import main as run

    if "RANK" not in os.environ:  # torchrun's processes shard models
        lean.start()
    return run()


def _leave(number: int, frame: FrameType | None) -> None:
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # once is enough
    files = sys.modules.get("lmc.files")
    words = files.abandon() if files is not None and "abandon" in vars(files) else ""
    line = f"interrupted: {words}" if words else "interrupted"
    os.write(2, f"\n{line}\n".encode() if os.isatty(2) else f"{line}\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
