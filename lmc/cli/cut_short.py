"""One line where a file is cut short while it is read, which otherwise ends the process without a word.

Weights are read through the pages of a mapped file. Where those pages are gone, because another program shortened the
file or its disk failed, the system sends SIGBUS. Python cannot handle that signal: the read that failed would begin
again. So the system itself is given a function, which says the line and ends the process. Where the system is not
Linux, nothing is done.
"""

import contextlib
import ctypes
import os
import signal
import sys

from lmc.errors import shown
from lmc.files import abandon

WITH_ADDRESS = 4  # SA_SIGINFO: the handler is told where the process read


class _Signal(ctypes.Structure):
    """The beginning of the system's `siginfo_t`, as SIGBUS fills it."""

    _fields_ = (
        ("number", ctypes.c_int),
        ("errno", ctypes.c_int),
        ("code", ctypes.c_int),
        ("address", ctypes.c_void_p),
    )


_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(_Signal), ctypes.c_void_p)


class _Action(ctypes.Structure):
    """The C library's `struct sigaction` on Linux."""

    _fields_ = (
        ("handler", _Handler),
        ("blocked", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def watch() -> None:
    """From now on a mapped file that ends too early is said in one line, with exit code 2."""
    if sys.platform == "linux":
        action = _Action(_leave, flags=WITH_ADDRESS)
        ctypes.CDLL(None).sigaction(int(signal.SIGBUS), ctypes.byref(action), None)


def mapped_at(address: int) -> str:
    """The file whose pages lie at an address of this process; "a file" where there is none."""
    with open("/proc/self/maps", encoding="utf8", errors="replace") as lines:
        for line in lines:
            pages, *_, name = line.rstrip("\n").split(maxsplit=5)
            first, end = (int(edge, 16) for edge in pages.split("-"))
            if first <= address < end and name.startswith("/"):
                return name
    return "a file"


@_Handler
def _leave(number: int, told: "ctypes._Pointer[_Signal]", context: int) -> None:
    with contextlib.suppress(Exception):  # whatever happens here, the process must end
        abandon()
        name = mapped_at(told.contents.address or 0)
        why = "was cut short while it was read, or its disk failed; put it back whole and run the command again"
        os.write(2, f"error: {shown(f'{name}: {why}')}\n".encode())
    os._exit(2)
