"""Kernels as copies of one process that has imported the large libraries already, where a test runs many of them.

    with serving() as variables:
        subprocess.run(command, env=os.environ | variables)     # its kernels import torch and transformers in no time

A kernel that Jupyter starts as ever hands its arguments, environment and streams to that process, which forks. The copy
knows no module of `lmc`: those it imports itself, as any kernel does. Jupyter sees the process that it started, which
ends with the copy, and the copy with it.
"""

import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = {str(Path(__file__).parent), str(Path(__file__).parents[2]), ""}
VARIABLE = "COPIES_FROM"  # the socket of the process that is copied
# Not matplotlib, which chooses where it draws when it is imported, from the environment.
IMPORTED = ["ipykernel.kernelapp", "ipykernel.zmqshell", "scipy.optimize", "sklearn.datasets"]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}  # as `kernel_environment` asks


@contextmanager
def serving() -> Iterator[dict[str, str]]:
    """The environment variables with which kernels are copies, while this lasts."""
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/socket"
        command = [sys.executable, "-W", "ignore", __file__, place]
        process = subprocess.Popen(command, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout and process.stdout.readline() == "ready\n"
            yield {VARIABLE: place, "PYTHONPATH": os.pathsep.join(HERE - {""})}
        finally:
            process.kill()
            process.communicate()


def become_copy(place: str) -> None:
    """Have a copy do what this process was started for, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Jupyter sends it to a kernel that it has asked to end
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(place)
        order = {"argv": sys.orig_argv, "environ": dict(os.environ), "cwd": os.getcwd()}
        socket.send_fds(line, [json.dumps(order).encode() + b"\n"], [0, 1, 2])
        parent = int(os.environ["JPY_PARENT_PID"])
        while os.getppid() == parent and not select.select([line], [], [], 1)[0]:
            pass  # nothing ever comes: either the copy has ended, or who started this process was killed
    os._exit(0)


def serve(place: str) -> None:
    """Import what takes long, then fork for every kernel."""
    from lmc.symmetries.stock_libraries import timm, transformers

    library = transformers()
    timm(), library.GPTNeoXForCausalLM, library.OlmoForCausalLM, library.GPT2LMHeadModel, library.AutoTokenizer
    for name in IMPORTED:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "lmc"]:
        del sys.modules[name]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no one waits for the copies
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(place)
        door.listen()
        print("ready", flush=True)
        while True:
            line, _ = door.accept()
            if not os.fork():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                door.close()
                run(line)
            line.close()


def run(line: socket.socket) -> None:
    """In the copy: take over what was handed in, and run the kernel."""
    text, streams, *_ = socket.recv_fds(line, 2**16, 3)
    while not text.endswith(b"\n"):
        text += line.recv(2**16)
    order = json.loads(text)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(order["environ"])
    os.environ.pop("JPY_PARENT_PID", None)  # not the parent of this process
    os.chdir(order["cwd"])
    module, *arguments = order["argv"][order["argv"].index("-m") + 1 :]
    sys.argv = [module, *arguments]
    sys.path = ["", *order["environ"]["PYTHONPATH"].split(os.pathsep), *[p for p in sys.path if p not in HERE]]
    threading.Thread(target=lambda: (line.recv(1), os._exit(1)), daemon=True).start()  # who started it was killed
    import sitecustomize

    sitecustomize.watch()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
