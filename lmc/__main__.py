"""`lmc`, and `python -m lmc`: the command line, which ends cleanly from its first moment on.

A signal (Ctrl-C, a plain kill, a closed terminal, `ulimit -t`) removes what is unfinished, says one line and ends the
process with 128 + its number. It raises nothing: an exception in the middle of an import or of a library would show its
innards.
"""

import contextlib
import io
import os
import signal
import sys
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU") if hasattr(signal, name)]


# Transformers would read weights in threads, and Python waits for ever for one that has no memory to begin.
os.environ.setdefault("HF_DEACTIVATE_ASYNC_LOAD", "1")


def end_cleanly() -> None:
    """From now on a signal ends this process as described above; what nohup or a shell told it to ignore stays so."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGTERM:
            signal.signal(number, _leave)


def keep_streams() -> None:
    """Give a standard stream that is closed a place: else the next file opened, an output, takes its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, so this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+", encoding="utf8"))  # noqa: SIM115 - as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr has it: there are terminals without λ


def main() -> int:
    keep_streams()
    end_cleanly()
    try:
        from lmc.cli import cut_short, lean
        from lmc.cli import main as run

        cut_short.watch()
        if "RANK" not in os.environ:  # torchrun's processes shard models
            lean.start()
        code = run()
    except (OSError, MemoryError, ImportError) as error:  # no command could begin, or not even its error can be printed
        if isinstance(error, ImportError) and "failed to map segment" not in str(error):  # of a library, for memory
            raise
        code, why = 2, getattr(error, "strerror", None) or "out of memory"
        with contextlib.suppress(OSError):
            print(f"error: lmc cannot start: {why}; close other work, or look at ulimit -a", file=sys.stderr)
    return _flushed(code)


def _flushed(code: int) -> int:
    """The exit code, once all is printed; 2 where it cannot be. A reader that has left, as `head` does, is no error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # Python flushes again at its end
            if not code and not isinstance(error, BrokenPipeError):
                code = 2
                with contextlib.suppress(OSError):
                    why = f"cannot be written: {error.strerror}; send it elsewhere"
                    print(f"error: standard output: {why}", file=sys.stderr)
    return code


def _leave(number: int, frame: FrameType | None) -> None:
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # once is enough
    files = sys.modules.get("lmc.files.whole")
    words = files.abandon() if files is not None and "abandon" in vars(files) else ""
    line = f"interrupted: {words}" if words else "interrupted"
    with contextlib.suppress(OSError):  # the terminal may be gone, which is what a hang-up says
        os.write(2, f"\n{line}\n".encode() if os.isatty(2) else f"{line}\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
