"""In every Jupyter kernel that a test starts: note which results the chapter looks for and writes, and what it imports.

Python imports a module of this name when it starts, from the folders in `PYTHONPATH`; see `recorded` in conftest.
"""

import json
import os
import sys

EVENTS = {"lmc.results.looked_for": "looked for", "lmc.results.written": "written", "import": "imported"}


def note(event: str, arguments: tuple[object, ...]) -> None:
    if event not in EVENTS or (event == "import" and str(arguments[0]).partition(".")[0] != "lmc"):
        return
    what = arguments[0] if event == "import" else arguments
    with open(f"{os.environ['RECORD_TO']}/{os.getpid()}", "a", encoding="utf8") as file:
        file.write(json.dumps([EVENTS[event], what]) + "\n")


def watch() -> None:
    if "RECORD_TO" in os.environ:
        sys.addaudithook(note)


if any("ipykernel" in argument for argument in sys.orig_argv):
    if "COPIES_FROM" in os.environ:
        import copies

        copies.become_copy(os.environ["COPIES_FROM"])
    watch()
