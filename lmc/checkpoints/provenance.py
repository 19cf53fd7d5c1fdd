"""What a result or an alignment was made with: versions of the libraries, and the hardware in words."""

import os
import platform
import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

STACK = ("torch", "transformers", "timm", "numpy", "scipy", "scikit-learn", "pandas", "datasets", "matplotlib")


def versions() -> dict[str, str]:
    """Python and the installed libraries that can move a number."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    """The same, read once from the files of the installed packages."""
    found = {"python": platform.python_version()}
    for name in STACK:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> str:
    """Processor, cores and accelerator in words; never the name of the machine."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    parts = [f"{cores} CPU cores ({_processor()})"]
    torch = sys.modules.get("torch")  # who computed with it has imported it
    if torch is not None and torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.is_file() else []
    return names[0].strip() if names else platform.machine()


def duration(seconds: float) -> str:
    """A time as people read it.

    >>> duration(41.3)
    '41 s'
    """
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
