"""The commands that figures.yml names: each is read by the parser of the module it starts, and nothing is run."""

import argparse
import importlib

import pytest

from lmc.reproduce.ledger import figures
from lmc.reproduce.places import checkout

COMMANDS = sorted({figure.command for figure in figures(checkout() / "figures.yml").values() if figure.command})
PYTHON = ["python", "-m"]


class Understood(Exception):
    """The arguments were read."""


@pytest.fixture
def only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = argparse.ArgumentParser.parse_args

    def parse_args(*given: object) -> None:
        raise Understood(read(*given))  # type: ignore[call-overload]

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)


def start(command: str) -> None:
    """What Python would do with these words, in this process."""
    *python, module = command.split()[:3]
    assert python == PYTHON and module.startswith("lmc.reproduce.")
    importlib.import_module(module).main(command.split()[3:])


@pytest.mark.usefixtures("only_read")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_ledger_is_understood(command: str) -> None:
    with pytest.raises(Understood):
        start(command)


@pytest.mark.usefixtures("only_read")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_word_in_a_command_is_noticed(command: str, capsys: pytest.CaptureFixture) -> None:
    """An option that is not there, a missing folder, and, where a command takes a word, another word."""
    words = command.split()
    wrong = [f"{command} --other 1"]
    if "--folder" in words:
        wrong.append(command.partition(" --folder")[0])
    if words[3:] and not words[3].startswith("--"):
        wrong.append(" ".join([*words[:3], "nothing-like-it", *words[4:]]))
    for text in wrong:
        with pytest.raises(SystemExit) as ended:
            start(text)
        assert ended.value.code == 2 and "error:" in capsys.readouterr().err, text
