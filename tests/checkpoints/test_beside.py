"""A task beside the main one is done once and its error is told, whatever the system gives."""

import _thread
import hashlib
import threading
from pathlib import Path

import pytest

from lmc.checkpoints import beside
from lmc.checkpoints.beside import Beside, sha256_all


def no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


HOW = {"a thread": None, "no thread": no_thread, "a thread that never begins": lambda *_: 0}


@pytest.fixture(params=HOW)
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if replacement := HOW[request.param]:
        monkeypatch.setattr(_thread, "start_new_thread", replacement)
    monkeypatch.setattr(beside, "PATIENCE", 0.01)
    return str(request.param)


def test_tasks_are_done_once_and_in_order(how: str) -> None:
    done: list[int] = []
    with Beside() as other:
        for k in range(20):
            other.do(lambda k=k: done.append(k))  # type: ignore[misc]
    assert done == list(range(20))


def test_it_does_not_wait_for_a_task_to_end() -> None:
    go, told = threading.Event(), []
    with Beside() as other:
        other.do(lambda: told.append(go.wait(30)))
        assert told == []
        go.set()
    assert told == [True]


def test_an_error_is_raised_where_the_task_is_waited_for(how: str) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"), Beside() as other:
        other.do(fail)
    with pytest.raises(OSError, match="No space"), Beside() as other:
        other.do(fail)
        other.do(lambda: None)
    with pytest.raises(KeyError), Beside() as other:  # the first error is the one that is told
        other.do(fail)
        raise KeyError


def test_digests_of_several_files(how: str, tmp_path: Path) -> None:
    files = [tmp_path / str(k) for k in range(5)]
    for k, file in enumerate(files):
        file.write_bytes(bytes([k]) * 1000 * k)
    found = sha256_all([*files, files[0]])
    assert found == {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    with pytest.raises(FileNotFoundError):
        sha256_all([files[0], tmp_path / "none"])
