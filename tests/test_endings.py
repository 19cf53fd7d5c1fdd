"""Commands end cleanly: one line, the right exit code and nothing half-written, whatever ends them and whenever."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pico
import pytest
import torch

import lmc
from lmc import corpora
from lmc.files import whole_file, whole_folder

COMMANDS = {
    "check": "check a b",
    "match": "match a b --method dual --data text.txt --steps 2000 --out out",
    "weights": "match a b --method weights --out out --export",
    "path": "path aligned --data text.txt --grid 400",
    "merge": "merge aligned --out out",
    "verify": "verify aligned",
}
MOMENTS = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0, 4.0)  # seconds after the start: Python, imports, checks, work


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("ab"):
        lmc.save(pico.neox(seed, torch.float32, vocab_size=256), folder / name)
        corpora.byte_tokenizer().save_pretrained(folder / name)
    (folder / "text.txt").write_text("".join(f"Line {i} of a text that is long enough.\n" for i in range(2000)))
    lmc.match(*(lmc.load(folder / name) for name in "ab"), method="canonical").save(folder / "aligned")
    return folder


@pytest.fixture
def here(models: Path, tmp_path: Path) -> Path:
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    return tmp_path


def start(line: str, cwd: Path, limits: str = "") -> "subprocess.Popen[str]":
    """The command as a user starts it, under a shell's limits where some are named."""

    def at_a_terminal() -> None:  # Ctrl-C is not ignored, as it is in a shell's background
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    words = [sys.executable, "-m", "lmc", *line.split()]
    if limits:
        words = ["bash", "-c", f"{limits}; exec {' '.join(words)}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, cwd=cwd, preexec_fn=at_a_terminal, **pipes)  # type: ignore[call-overload, no-any-return]


def lines(err: str) -> list[str]:
    """What was said on standard error, progress bars aside."""
    return [
        line
        for line in err.replace("\r", "\n").splitlines()
        if line.strip() and "%|" not in line and "it/s" not in line
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_ends_a_command_in_one_line(here: Path, command: str, number: signal.Signals) -> None:
    before = sorted(path.name for path in here.iterdir())
    for moment in MOMENTS:
        process = start(COMMANDS[command], here)
        time.sleep(moment)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
        left = sorted(path.name for path in here.iterdir() if not path.name.endswith(".partial"))
        if process.returncode == 0:  # it was done before
            shutil.rmtree(here / "out", ignore_errors=True)
            break
        # Before the first line of ours runs, Python or the system ends the process in its own way.
        ours = process.returncode == 128 + number
        assert ours or (moment < 0.5 and process.returncode in (-number, 1)), (moment, process.returncode, err)
        if ours:
            assert [x for x in lines(err) if not x.startswith("warning:")][-1].startswith("interrupted"), (moment, err)
            assert "Traceback" not in err, (moment, err)
        assert left == before, (moment, left)
        shutil.rmtree(here / "out.partial", ignore_errors=True)


def test_an_interrupted_match_says_how_to_go_on(here: Path) -> None:
    process = start(COMMANDS["match"], here)
    deadline = time.monotonic() + 120
    while not (here / "out.partial/state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert lines(err)[-1] == "interrupted: the same command with --resume continues"


def test_what_a_killed_run_left_is_removed_by_the_next(here: Path) -> None:
    process = start(COMMANDS["match"], here)
    deadline = time.monotonic() + 120
    while not list(here.glob(".out-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert list(here.glob(".out-*"))
    done = start("match a b --method naive --out out", here)
    _, err = done.communicate(timeout=120)
    assert (done.returncode, err) == (0, "")
    assert list(here.glob(".out-*")) == []


def test_the_second_run_into_one_folder_says_so(tmp_path: Path) -> None:
    busy = pytest.raises(lmc.CheckpointError, match="another process is writing this folder now")
    with whole_folder(tmp_path / "out"), busy, whole_folder(tmp_path / "out"):
        pass
    with whole_folder(tmp_path / "other"):  # another place is free
        pass


def test_a_folder_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    """A mark that another process holds, as the kernel keeps it, not a file that says so."""
    live, dead = tmp_path / ".out-aaaaaaaa", tmp_path / ".out-bbbbbbbb"
    live.mkdir()
    dead.mkdir()
    handle = os.open(live, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(lmc.CheckpointError, match="another process"), whole_folder(tmp_path / "out"):
        pass
    os.close(handle)
    with whole_folder(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("command", ["match a b --method naive --out out", "merge aligned --out out"])
def test_a_file_that_may_not_grow_is_one_line(here: Path, command: str) -> None:
    before = sorted(path.name for path in here.iterdir())
    process = start(command, here, limits="ulimit -f 1")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    (line,) = lines(err)
    assert line.startswith("error: out") and "a file may not be so large" in line and "free" in line
    assert sorted(path.name for path in here.iterdir()) == before


def test_a_full_disk_names_the_place(tmp_path: Path) -> None:
    for open_place, name in ((whole_folder, "folder"), (whole_file, "file.json")):
        said = rf"{name}: cannot be written: no space is left .*bytes are free"
        with pytest.raises(lmc.CheckpointError, match=said), open_place(tmp_path / name):
            raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_name_too_long_is_refused_before_the_work(here: Path) -> None:
    process = start(f"match a b --method dual --data text.txt --out {'x' * 250}", here)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2 and "File name too long" in err and "loading" not in out
