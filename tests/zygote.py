"""Commands in processes that have imported everything already, and in which something goes wrong at a chosen moment.

    with Zygote(["merge aligned --out out"], warm) as zygote:
        done = zygote.lmc("merge aligned --out out", folder)                        # code, out, err, events
        zygote.lmc("merge aligned --out out", folder, at=3, what="SIGTERM")         # a signal at the fourth event
        zygote.lmc("merge aligned --out out", folder, at=0, what="ENOSPC", events="write")

Python tells a hook of every file it opens, every folder it makes and every module it imports: these events are the
moments, so that a test meets each stage of a command, on a slow machine as on a fast one. `events` says which count:
"all", or "read" and "write" of files in the command's folder.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

SERVE = r"""
import contextlib, errno, json, os, resource, signal, sys
import lmc.__main__, lmc.cli
CHANGES = ("os.mkdir", "os.rename", "os.chmod", "shutil.copyfile")  # no removals: they need neither room nor memory

def kind(event, args, home):
    if event == "open":
        path, mode, flags = args
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not isinstance(path, str) or not os.path.abspath(path).startswith(home):
            return ""
        return "write" if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else "read"
    return "write" if event in CHANGES and os.path.abspath(os.fsdecode(args[0])).startswith(home) else ""

def watch(home, at, what, counted, log):
    seen = 0
    def hook(event, args):
        nonlocal seen
        if counted != "all" and kind(event, args, home) != counted:
            return
        seen += 1
        os.pwrite(log, b"%d" % seen, 0)
        if seen != at + 1:
            return
        if what.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, what))
        elif what == "memory":
            raise MemoryError
        elif what:
            number = getattr(errno, what)
            raise OSError(number, os.strerror(number), os.fsdecode(args[0]) if counted != "all" else None)
    sys.addaudithook(hook)

def spoil(name, how):
    number = ("stdin", "stdout", "stderr").index(name)
    if how == "closed":
        os.close(number)
        setattr(sys, name, None)
    elif how == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), number)
    elif how == "left":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, number)
    else:
        getattr(sys, name).reconfigure(encoding=how)

def warm(order):
    os.chdir(order["cwd"])
    for line in order["warm"]:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            assert lmc.cli.main(line.split()) == 0

def run(order):
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    os.chdir(order["cwd"])
    out = os.open(order["out"], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    err = os.open(order["err"], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(err, 2)
    log = os.open(order["log"], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also where the tests run under nohup
        signal.signal(number, signal.SIG_DFL)
    if order["user"]:
        os.setresuid(order["user"], order["user"], order["user"])
    for name, most in order["limits"].items():
        if name == "AS":  # beyond what the libraries have
            most += 4096 * int(open("/proc/self/statm").read().split()[0])
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (most, most))
    for name, how in order["streams"].items():
        spoil(name, how)
    sys.argv = ["lmc", *order["words"]]
    watch(order["cwd"], order["at"], order["what"], order["events"], log)
    try:
        code = lmc.__main__.main()
    except SystemExit as error:
        code = error.code
    except BaseException:
        import traceback
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    order = json.loads(line)
    if "warm" in order:
        warm(order)
        print("ready", flush=True)
        continue
    status = os.waitpid(run(order), 0)[1]
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Done(NamedTuple):
    """How a command ended: its exit code (minus the signal that killed it), what it said, how many events it had."""

    code: int
    out: str
    err: str
    events: int


class Zygote:
    """A process that runs some commands once, in a folder of its own, and is then copied for every other."""

    def __init__(self, lines: Iterable[str], folder: Path) -> None:
        self.order = {"warm": list(lines), "cwd": str(folder)}

    def __enter__(self) -> Self:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", SERVE], **pipes)  # type: ignore[call-overload]
        assert self._ask(self.order) == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=60)

    def _ask(self, order: object) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def lmc(
        self,
        line: str,
        cwd: Path,
        at: int = -1,
        what: str = "",
        events: str = "all",
        user: int = 0,
        limits: Mapping[str, int] | None = None,
        **streams: str,
    ) -> Done:
        """Run a command in a folder; at the event of that number, counted from 0, a signal or an error comes.

        `user`: whose rights it has; `limits`: as `ulimit` sets them, by the names of the module resource; of address
        space (AS) more bytes than are in use. `streams`: what is wrong with stdin, stdout or stderr: it is closed or
        full, its reader has left, or it has that encoding.
        """
        files = {name: str(cwd.parent / f"{cwd.name}.{name}") for name in ("out", "err", "log")}
        order = {"words": line.split(), "cwd": str(cwd), "at": at, "what": what, "events": events}
        order |= {"user": user, "limits": dict(limits or {}), "streams": streams}
        code = int(self._ask(order | files))
        out, err, log = (Path(files[name]).read_text() for name in ("out", "err", "log"))
        for name in files.values():
            os.unlink(name)
        return Done(code, out, err, int(log or 0))
