"""Commands end cleanly: one line, the right exit code and nothing half-written, whatever ends them and whenever."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from safetensors.torch import load_file, save_file
from zygote import Done, Zygote

import lmc
from lmc import corpora
from lmc.cli import main
from lmc.errors import CheckpointError
from lmc.files import refuse_occupied, scratch_folder, whole_file, whole_folder

COMMANDS = {
    "check": "check a b",
    "match": "match a b --method dual --data text.txt --steps 3 --limit 16 --out out",
    "weights": "match a b --method weights --out out --export",
    "path": "path aligned --data text.txt --grid 2 --limit 16 --json r.json",
    "merge": "merge aligned --out out",
    "verify": "verify aligned",
    "convert": "convert old out",
    "transport": "transport aligned tuned --out out",
}
SHOWING = {"families": "families", "reproduce": "reproduce --list"}  # what touches no file of the user
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU")
MOMENTS = 20  # of each command, from its first event to its last
LONG = "match a b --method dual --data text.txt --steps 2000 --out out"


@pytest.fixture(scope="module")
def zygote(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    shutil.copytree(models, warm := tmp_path_factory.mktemp("zygote") / "warm")
    lines = [line.replace("--out out", f"--out {name}") for name, line in (COMMANDS | SHOWING).items()]
    with Zygote([*lines, "match a b --method naive --out naive"], warm) as zygote:
        yield zygote


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("ab"):
        lmc.save(pico.neox(seed, torch.float32, vocab_size=256), folder / name)
        corpora.byte_tokenizer().save_pretrained(folder / name)
    shutil.copytree(folder / "a", folder / "old")
    torch.save(lmc.load(folder / "a").state_dict(), folder / "old/pytorch_model.bin")
    (folder / "old/model.safetensors").unlink()
    (folder / "text.txt").write_text("".join(f"Line {i} of a text that is long enough.\n" for i in range(2000)))
    lmc.match(*(lmc.load(folder / name) for name in "ab"), method="canonical").save(folder / "aligned")
    shutil.copytree(folder / "a", folder / "tuned")
    tuned = {name: tensor * 1.01 for name, tensor in load_file(folder / "a/model.safetensors").items()}
    save_file(tuned, folder / "tuned/model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def here(models: Path, tmp_path: Path) -> Path:
    shutil.copytree(models, tmp_path / "here")
    return tmp_path / "here"


def start(line: str, cwd: Path) -> "subprocess.Popen[str]":
    """The command as a user starts it."""

    def at_a_terminal() -> None:  # nothing is ignored, as it is in a shell's background or under nohup
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    words = [sys.executable, "-m", "lmc", *line.split()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, cwd=cwd, preexec_fn=at_a_terminal, **pipes)  # type: ignore[call-overload, no-any-return]


def lines(err: str) -> list[str]:
    """What was said on standard error, progress bars and warnings aside, and what the zygote's own hook lacked."""
    err = err.replace("\r", "\n").replace("Exception ignored in audit hook:\nMemoryError\n", "")
    every = [line for line in err.splitlines() if line.strip()]
    return [line for line in every if "%|" not in line and "it/s" not in line and not line.startswith("warning:")]


def listing(folder: Path) -> list[str]:
    """Every path below a folder but what `--resume` continues, which is kept on purpose."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    return sorted(str(path) for path in paths if path.parts[0] != "out.partial")


def restore(folder: Path, before: list[str]) -> None:
    for name in ("out", "out.partial"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in set(listing(folder)) - set(before):
        (folder / name).unlink()


def ended(done: Done, left: list[str], before: list[str], whole: list[str]) -> str:
    """What is wrong with how a command ended: it must be whole, or one line and nothing."""
    if done.code == 0:
        return "" if left == whole and not lines(done.err) else "done, and not whole"
    if done.code == 1 and " NO " in done.out:  # a row of the table that verify prints
        return ""
    kept = {"aligned/path.json"}  # a measured path stays, also where its copy cannot be written
    if set(left) - kept != set(before) - kept:
        return f"left {set(left) ^ set(before)}"
    (said,) = lines(done.err) if len(lines(done.err)) == 1 else ("",)
    return "" if said and len(said.encode()) < 1024 and "Traceback" not in done.err else "not one short line"


def faults(zygote: Zygote, here: Path, command: str, what: list[str], events: str, count: int) -> list[Done]:
    """Runs of a command that meet these faults in turn, at up to `count` of its events; each must end well."""
    line, before = (COMMANDS | SHOWING)[command], listing(here)
    sound = zygote.lmc(line, here, events=events)
    assert sound.code == 0, sound.err
    whole = listing(here)
    restore(here, before)
    found, wrong = [], {}
    for i, at in enumerate(sorted({sound.events * i // count for i in range(count)})):
        done = zygote.lmc(line, here, at, what[i % len(what)], events)
        if problem := ended(done, listing(here), before, whole):
            wrong[at, what[i % len(what)]] = (problem, done.code, done.err[-500:])
        restore(here, before)
        found.append(done)
    assert not wrong, wrong
    return found


@pytest.mark.parametrize("command", COMMANDS | SHOWING)
def test_a_signal_at_any_moment_ends_a_command_in_one_line(zygote: Zygote, here: Path, command: str) -> None:
    done = faults(zygote, here, command, list(SIGNALS), "all", MOMENTS)
    codes = [128 + getattr(signal, SIGNALS[i % len(SIGNALS)]) for i in range(len(done))]
    stopped = [(d, code) for d, code in zip(done, codes, strict=True) if d.code != 0]
    assert len(stopped) >= MOMENTS - 1, [d.code for d in done]
    for ending, code in stopped:
        assert ending.code == code and lines(ending.err)[0].startswith("interrupted"), ending


@pytest.mark.parametrize("events", ["write", "read", "all"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_room_no_rights_no_memory_at_any_stage(zygote: Zygote, here: Path, command: str, events: str) -> None:
    """At every stage: where files are written, where they are read, and anywhere."""
    if events == "write" and command in ("check", "verify"):
        return  # they write nothing
    what = {"write": ["ENOSPC", "EACCES"], "read": ["EACCES"], "all": ["memory"]}[events]
    done = faults(zygote, here, command, what, events, {"write": 9, "read": 5, "all": 4}[events])
    failed = [lines(d.err)[0] if d.code == 2 else d.out for d in done if d.code != 0]
    names = [path.name for path in here.rglob("*")] + ["out", "r.json"]
    assert failed and all(any(name in said for name in names) for said in failed), failed


def test_no_room_for_what_lies_in_a_new_folder_names_it(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for place in (whole_folder(tmp_path / "new" / "out"), scratch_folder(".canonical-", tmp_path / "new")):
        with pytest.raises(CheckpointError, match=r"new/.*cannot be written: no space is left"), place:
            raise full
        assert not list(tmp_path.iterdir())


def test_files_one_may_not_read_are_named(zygote: Zygote, here: Path) -> None:
    """As a user without rights, which the system itself refuses."""
    here.parent.chmod(0o755)
    for folder in (here, *here.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    if os.getuid() != 0:
        pytest.skip("only root may become another user")
    for name in ("a/config.json", "a/model.safetensors", "a/tokenizer.json", "aligned/alignment.json", "text.txt"):
        (here / name).chmod(0)
        line = (
            "verify aligned" if name.startswith("aligned/") else COMMANDS["match"].replace("--out out", "--out /tmp/o")
        )
        done = zygote.lmc(line, here, user=65534)
        (said,) = lines(done.err)
        assert done.code == 2 and Path(name).name in said and "ermission denied" in said, done
        (here / name).chmod(0o644)
    done = zygote.lmc("merge aligned --out out", here, user=65534)
    (said,) = lines(done.err)
    assert done.code == 2 and "out: expected a place to write" in said and "ermission denied" in said


@pytest.mark.parametrize(("number", "moment"), [("SIGINT", 0.3), ("SIGTERM", 1.0), ("SIGHUP", 2.0), ("SIGINT", 3.0)])
def test_a_signal_in_the_first_seconds(here: Path, number: str, moment: float) -> None:
    """A process as a user starts it, while it imports."""
    before = listing(here)
    process = start(LONG, here)
    time.sleep(moment)
    process.send_signal(getattr(signal, number))
    _, err = process.communicate(timeout=120)
    ours = process.returncode == 128 + getattr(signal, number)
    # Before the first line of ours runs, Python or the system ends the process in its own way.
    assert ours or (moment < 0.5 and process.returncode in (-getattr(signal, number), 1)), err
    if ours:
        (said,) = lines(err)
        assert said.startswith("interrupted")
    assert listing(here) == before


def test_an_interrupted_match_says_how_to_go_on(zygote: Zygote, here: Path) -> None:
    last = zygote.lmc(COMMANDS["match"], here, events="write").events
    shutil.rmtree(here / "out")
    done = zygote.lmc(COMMANDS["match"], here, last - 4, "SIGINT", "write")  # the folder is about to get its name
    assert done.code == 130
    assert lines(done.err) == ["interrupted: the same command with --resume continues"]
    assert zygote.lmc(f"{COMMANDS['match']} --resume", here).code == 0


def test_what_a_killed_run_left_is_removed_by_the_next(zygote: Zygote, here: Path) -> None:
    done = zygote.lmc(COMMANDS["weights"], here, at=20, what="SIGKILL", events="write")
    assert done.code == -signal.SIGKILL and list(here.glob(".out-*")), done
    done = zygote.lmc("match a b --method naive --out out", here)
    assert (done.code, done.err) == (0, "")
    assert list(here.glob(".out-*")) == []


def test_the_second_run_into_one_folder_says_so(tmp_path: Path) -> None:
    busy = pytest.raises(lmc.CheckpointError, match="another process is writing this folder now")
    with whole_folder(tmp_path / "out"), busy, whole_folder(tmp_path / "out"):
        pass
    with whole_folder(tmp_path / "other"):  # another place is free
        pass


@pytest.mark.parametrize("place", ["a link", "a link to nothing", "a mounted disk"])
def test_a_place_no_folder_can_take_is_known_before_the_work(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the empty folder that a container is given for its results."""
    out = tmp_path / "out"
    out.mkdir() if place == "a mounted disk" else out.symlink_to(tmp_path / "other")
    if place != "a link to nothing":
        (tmp_path / "other").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == out and place == "a mounted disk")
    before = listing(tmp_path)
    with pytest.raises(lmc.CheckpointError, match=r"is a link or a mounted disk, .*; name one inside it"):
        refuse_occupied(out)
    assert listing(tmp_path) == before
    with whole_folder(out / "new") if place != "a link to nothing" else nullcontext():
        pass


def test_a_folder_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    """A mark that another process holds, as the kernel keeps it, not a file that says so."""
    live, dead, users = (
        tmp_path / f".out-{name}" for name in ("aaaaaaaa.unfinished", "bbbbbbbb.unfinished", "20261127")
    )
    for folder in (live, dead, users):
        folder.mkdir()
    handle = os.open(live, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    for refusing in (whole_folder, lambda place: nullcontext(refuse_occupied(place))):  # and before the work
        with pytest.raises(lmc.CheckpointError, match="another process"), refusing(tmp_path / "out"):
            pass
    os.close(handle)
    with whole_folder(tmp_path / "out"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out-20261127", "out"]


def test_what_is_written_within_an_unfinished_folder_leaves_it_marked(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "out") as folder:
        with whole_folder(folder) as inner:
            (inner / "file").touch()
        with pytest.raises(lmc.CheckpointError, match="another process"), whole_folder(tmp_path / "out"):
            pass
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_what_was_left_of_a_file_is_removed_by_the_next(tmp_path: Path) -> None:
    """Not what a living process writes, and not a user's own hidden file."""
    live, dead, users = (tmp_path / f".{name}-r.json" for name in ("0123abcd", "89abcdef", "my-notes"))
    for file in (live, dead, users):
        file.touch()
    handle = os.open(live, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with whole_file(tmp_path / "r.json") as aside:
        aside.write_text("{}")
        with whole_file(tmp_path / "r.json") as another:  # another thread
            another.write_text("[]")
    os.close(handle)
    assert sorted(path.name for path in tmp_path.iterdir()) == [live.name, users.name, "r.json"]
    assert (tmp_path / "r.json").read_text() == "{}"


def test_a_file_that_may_not_grow_is_one_line(zygote: Zygote, here: Path) -> None:
    before = listing(here)
    done = zygote.lmc("merge aligned --out out", here, limits={"FSIZE": 1024})
    assert done.code == 2, done
    (line,) = lines(done.err)
    assert line.startswith("error: out") and "a file may not be so large" in line and "free" in line
    assert listing(here) == before


def test_a_full_disk_names_the_place(tmp_path: Path) -> None:
    for open_place, name in ((whole_folder, "folder"), (whole_file, "file.json")):
        said = rf"{name}: cannot be written: no space is left .*bytes were free"
        with pytest.raises(lmc.CheckpointError, match=said), open_place(tmp_path / name):
            raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


LIMITS = {
    "files": {"NOFILE": [3, 12]},
    "address space": {"AS": [0, 2**22]},
}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_limit_of_the_system_is_one_line_or_nothing(zygote: Zygote, here: Path, command: str, limit: str) -> None:
    """As `ulimit -n` and `ulimit -v` set them."""
    line, before = COMMANDS[command], listing(here)
    sound = zygote.lmc(line, here)
    whole = listing(here)
    restore(here, before)
    for name, values in LIMITS[limit].items():
        for value in values:
            done = zygote.lmc(line, here, limits={name: value})
            assert not (problem := ended(done, listing(here), before, whole)), (name, value, problem, done)
            restore(here, before)
    assert sound.code == 0


@pytest.mark.parametrize("kilobytes", [200_000, 300_000, 400_000])
def test_too_little_memory_to_load_the_libraries_is_one_line(here: Path, kilobytes: int) -> None:
    line = f"ulimit -v {kilobytes}; exec {sys.executable} -m lmc merge aligned --out out"
    done = subprocess.run(["bash", "-c", line], cwd=here, capture_output=True, text=True)
    assert done.returncode == 2 and len(lines(done.stderr)) == 1, done.stderr[-500:]


NOT_PRINTED = "error: standard output: cannot be written: No space left on device; send it elsewhere"
STREAMS = {"closed": 0, "full": 2, "left": None, "ascii": 0}  # the exit code; a reader who leaves may end a command


@pytest.mark.parametrize("how", STREAMS)
@pytest.mark.parametrize("command", ["match", "verify", "merge", "families"])
def test_what_cannot_be_printed_is_one_line(zygote: Zygote, here: Path, command: str, how: str) -> None:
    line, before = (COMMANDS | SHOWING)[command], listing(here)
    done = zygote.lmc(line, here, stdout=how)
    assert "Traceback" not in done.err and STREAMS[how] in (done.code, None) and done.code in (0, 1, 2), done
    if how == "full":
        assert lines(done.err) == [NOT_PRINTED]
    else:
        assert lines(done.err) == []
    if command == "match":
        assert (listing(here) == before) == (done.code != 0)
    restore(here, before)


@pytest.mark.parametrize(("how", "code"), [("closed", 0), ("full", 2), ("left", 1)])
def test_where_no_error_can_be_shown_the_exit_code_tells(zygote: Zygote, here: Path, how: str, code: int) -> None:
    before = listing(here)
    assert zygote.lmc("merge gone --out out", here, stderr=how).code == 2
    assert zygote.lmc(COMMANDS["merge"], here, at=40, what="SIGHUP", stderr=how).code == 129  # the terminal is gone
    assert listing(here) == before
    assert zygote.lmc(COMMANDS["match"], here, stderr=how, stdout=how).code == code


def test_an_output_does_not_take_the_number_of_a_closed_stream(here: Path) -> None:
    """Else what libraries print there would be written into it."""
    program = "import os, lmc.__main__ as m; os.closerange(0, 3); m.keep_streams(); os._exit(os.open('text.txt', 0))"
    assert subprocess.run([sys.executable, "-c", program], cwd=here).returncode == 3


def test_what_another_user_left_is_named(zygote: Zygote, here: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may become another user")
    for folder in (here, *here.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    for name in "ab":
        (here / name / "model.safetensors").chmod(0o644)
    (here / "shared").mkdir()
    (here / "shared").chmod(0o1777)
    (here / "shared/.out-aaaaaaaa.unfinished").mkdir(mode=0o700)
    done = zygote.lmc("match a b --method naive --out shared/out", here, user=65534)
    (said,) = lines(done.err)
    assert done.code == 2 and ".out-aaaaaaaa.unfinished" in said and "delete that one" in said, done


def test_what_a_killed_run_left_among_temporary_folders_is_removed_by_the_next(tmp_path: Path) -> None:
    live, dead = tmp_path / "lmc-aaaaaaaa.unfinished", tmp_path / "lmc-bbbbbbbb.unfinished"
    for folder in (live, dead, tmp_path / "lmc-mine"):
        folder.mkdir()
    handle = os.open(live, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with scratch_folder("lmc-", tmp_path) as one, scratch_folder("lmc-", tmp_path) as other:
        assert one.is_dir() and other.is_dir() and live.is_dir() and not dead.exists()
    os.close(handle)
    assert sorted(path.name for path in tmp_path.iterdir()) == [live.name, "lmc-mine"]


def test_folders_on_the_way_to_what_was_not_written_are_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for open_place in (whole_folder, whole_file):
        with pytest.raises(ValueError, match="stop"), open_place(tmp_path / "mine/p/q/out.json"):
            raise ValueError("stop")
        assert listing(tmp_path) == ["mine"]
        with open_place(tmp_path / "made/p/out.json") as aside:
            if aside.is_file():
                aside.write_text("{}")
        assert (tmp_path / "made/p/out.json").exists()
        shutil.rmtree(tmp_path / "made")


TORCHRUN: dict[str, dict[str, str]] = {
    "x": {},
    "": {},
    "2": {},
    "2 ": {"RANK": "0"},
    "2  ": {"RANK": "0", "MASTER_ADDR": "::1", "MASTER_PORT": "x"},
}


@pytest.mark.parametrize("size", TORCHRUN)
def test_what_torchrun_sets_by_halves_is_one_line(
    here: Path, size: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    for name, value in {"WORLD_SIZE": size.strip(), **TORCHRUN[size]}.items():
        monkeypatch.setenv(name, value)
    assert main(["match", "a", "b", "--method", "naive", "--out", "out"]) == 2
    (said,) = lines(capsys.readouterr().err)
    assert said.startswith("error: WORLD_SIZE is set: ") and said.endswith("unset it, or use torchrun")


def test_a_rank_alone_silences_nothing(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setenv("RANK", "1")
    assert main(["match", "a", "b", "--method", "naive", "--out", "out"]) == 0
    assert "wrote out" in capsys.readouterr().out


def test_a_folder_that_is_gone_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (here / "gone").mkdir()
    monkeypatch.chdir(here / "gone")
    (here / "gone").rmdir()
    assert main(["merge", str(here / "aligned"), "--out", "out"]) == 2
    assert lines(capsys.readouterr().err) == [
        "error: the folder that this runs in is not there any more; go to another"
    ]


def test_warnings_that_are_errors_end_nothing(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """As PYTHONWARNINGS=error asks for."""
    monkeypatch.chdir(here)
    settings = json.loads((here / "b/config.json").read_text())
    (here / "b/config.json").write_text(json.dumps(settings | {"max_position_embeddings": 999}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["match", "a", "b", "--method", "naive", "--out", "out"]) == 0
    assert "warning: model 1 and model 2 differ in their context" in capsys.readouterr().err


def test_what_was_measured_is_shown_where_it_cannot_be_kept(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(here)
    line = ["path", "aligned", "--data", "text.txt", "--grid", "2", "--limit", "2"]
    with monkeypatch.context() as patch:
        patch.setattr("lmc.evaluation.PathResult.to_json", full)
        assert main(line) == 2
    out, err = capsys.readouterr()
    assert "barrier 0" in out and len(lines(err)) == 1
    monkeypatch.setattr(os, "access", lambda place, mode: mode != os.W_OK)
    assert main(line) == 0
    assert "warning: aligned: cannot be written, so cards" in capsys.readouterr().err


def full(*_: object) -> None:
    raise OSError(28, "No space left on device", "aligned/path.json")


CUT_SHORT = """
import os, sys
from lmc.__main__ import main
from lmc.checkpoints import lazy

read = lazy.require_finite  # the first that reads the pages of a tensor

def cut_and_read(what, tensor):
    if "b/model.safetensors" in what:
        os.truncate("b/model.safetensors", 0)
    read(what, tensor)

lazy.require_finite = cut_and_read
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system says nothing of the file")
def test_a_parent_cut_short_while_it_is_read_is_one_line(here: Path) -> None:
    before = listing(here)
    line = [sys.executable, "-c", CUT_SHORT, "merge", "aligned", "--out", "out"]
    done = subprocess.run(line, cwd=here, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert lines(done.stderr)[-1].startswith(f"error: {here.resolve()}/b/model.safetensors: was cut short while")
    assert "Traceback" not in done.stderr and listing(here) == before


def test_an_interruption_inside_a_program_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `main` is called by other Python code, Ctrl-C is an exception."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(here)
    monkeypatch.setattr("lmc.matching.verify", interrupted)
    assert main(["verify", "aligned"]) == 130
    assert lines(capsys.readouterr().err) == ["interrupted"]


LONGEST = "x" * 250
TOO_LONG = {
    "match": f"match a b --method dual --data text.txt --out {LONGEST}",
    "merge": f"merge aligned --out {LONGEST}",
    "convert": f"convert old {LONGEST}",
    "json": f"path aligned --data text.txt --json {LONGEST}",
    "plot": f"path aligned --data text.txt --plot {LONGEST}.png",
    "model": f"check {LONGEST * 2}",
    "alignment": f"merge {LONGEST * 9} --out out",
}


@pytest.mark.parametrize(
    "command", ["merge aligned --out {}", "path aligned --data text.txt --json {}", "convert old {}"]
)
def test_a_place_too_deep_is_refused_before_the_work(
    here: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python makes folders by recursion, and would break at the end of the work."""
    monkeypatch.chdir(here)
    before = listing(here)
    assert main(command.format("b/" * 1000 + "c").split()) == 2
    out, err = capsys.readouterr()
    (said,) = lines(err)
    assert "expected at most 400 folders one in another" in said and "logits" not in out and listing(here) == before


@pytest.mark.parametrize("name", ["alignment.json", "transform-0.json", "transform-1.safetensors", "log.jsonl"])
def test_a_result_does_not_replace_a_file_of_the_alignment(
    here: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    before = (here / "aligned" / name).read_bytes()
    assert main(["path", "aligned", "--data", "text.txt", "--json", f"./aligned/../aligned/{name}"]) == 2
    assert "is a file of the alignment itself; choose another name" in capsys.readouterr().err
    assert (here / "aligned" / name).read_bytes() == before


NO_PLACE = {  # what is there; the option, if it is not what lmc path keeps for itself; what is said
    "a parent's weights": (
        lambda: None,
        "--json a/model.safetensors",
        "lies in the folder of a parent; choose another",
    ),
    "a parent's settings": (lambda: None, "--json aligned/../b/config.json", "lies in the folder of a parent"),
    "a pipe": (lambda: os.mkfifo("r.json"), "--json r.json", "is a pipe or a device, expected a file or nothing"),
    "a device": (lambda: Path("r.json").symlink_to("/dev/null"), "--json r.json", "is a pipe or a device, expected"),
    "a picture's pipe": (lambda: os.mkfifo("r.png"), "--plot r.png", "is a pipe or a device, expected a file or"),
    "one file for both": (
        lambda: None,
        "--json r.png --plot r.png",
        "expected two files, found r.png for both; choose",
    ),
    "its own pipe": (lambda: os.mkfifo("aligned/path.json"), "", "path.json: is a pipe or a device, expected a file"),
    "its own folder": (lambda: Path("aligned/path.json").mkdir(), "", "path.json: is a folder, expected a file or"),
}


@pytest.mark.parametrize("what", NO_PLACE)
def test_a_result_replaces_nothing_but_a_file_of_its_own(
    here: Path, what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renaming over a device would take it from the whole machine. All of it is known before the work."""
    make, option, said = NO_PLACE[what]
    monkeypatch.chdir(here)
    make()

    def there() -> dict[str, tuple[int, ...]]:
        files = [file for file in listing(here) if not os.path.isdir(file)]
        return {file: (os.lstat(file).st_ino, os.lstat(file).st_mtime_ns) for file in files}

    before = there()
    assert main(f"path aligned --data text.txt --grid 2 --limit 16 {option}".split()) == 2
    out, err = capsys.readouterr()
    assert said in err and len(lines(err)) == 1 and "logits" not in out
    assert there() == before


@pytest.mark.parametrize("line", TOO_LONG)
def test_a_name_too_long_is_refused_before_the_work(zygote: Zygote, here: Path, line: str) -> None:
    before = listing(here)
    done = zygote.lmc(TOO_LONG[line], here)
    (said,) = lines(done.err)
    assert done.code == 2 and "File name too long" in said and len(said.encode()) < 1024
    assert "loading" not in done.out and "parents" not in done.out and listing(here) == before


ODD = {"not UTF-8": b"\xff\xfe", "newline": b"two\nlines", "escape": b"\x1b[31mred", "markup": b"<img src=x>[a](b)|`_*"}


@pytest.mark.parametrize("name", ODD)
def test_names_of_any_bytes(
    here: Path, name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders and outputs called so are read, matched and merged; what is shown of them is plain."""
    odd = os.fsdecode(ODD[name])
    monkeypatch.chdir(here)
    if name == "not UTF-8":  # the library of weights opens no such path, which is said before the work
        shutil.copytree("a", odd)
        for line in (["check", odd, "b"], ["match", "a", "b", "--method", "naive", "--out", odd + "o"]):
            assert main(line) == 2
            out, err = capfd.readouterr()
            assert "\\udcff" in err and "UTF-8" in err and len(lines(err)) == 1 and "loading" not in out
        return
    (here / "a").rename(odd)
    assert main(["check", odd, "b"]) == 0
    assert main(["match", odd, "b", "--method", "weights", "--out", f"{odd}-out"]) == 0
    assert main(["merge", f"{odd}-out", "--out", f"{odd}-merged"]) == 0
    assert main(["verify", f"{odd}-out"]) == 0 and main(["verify", f"{odd}-merged"]) == 0
    assert main(["merge", "nowhere" + odd, "--out", "o"]) == 2
    out, err = capfd.readouterr()
    card = (here / f"{odd}-merged/README.md").read_text(encoding="utf8")
    assert len(lines(err)) == 1 and "\x1b" not in out + err + card
    for told in (card, "\n".join(x for x in out.splitlines() if x.startswith(("Merged at", "- parent")))):
        assert "<img" not in told and "](" not in told and "`" not in told
    assert len([x for x in card.splitlines() if x.startswith("- parent")]) == 2
