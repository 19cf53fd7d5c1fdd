"""Long work says how far it is: a bar on a terminal, a line now and then in a log."""

import io
import re
import sys
import time
from pathlib import Path

import pico
import pytest
import torch

import lmc
from lmc import cli
from lmc.files import meter, progress, watched


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_is_told_the_share_and_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    now = iter(range(0, 1000, 4))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with meter(10, "writing") as advance:
        for _ in range(10):
            advance(1)
    # Three amounts are done in 12 s, so the other seven take 28; the last line would say that nothing is left.
    assert capsys.readouterr().err.splitlines() == [
        "writing: 30%, 28 s left",
        "writing: 60%, 16 s left",
        "writing: 90%, 4 s left",
    ]


def test_parts_that_are_each_short_are_said_where_the_whole_is_long(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    now = iter(range(0, 1000, 4))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with progress.one_work():
        for part in "abcde":  # 8 s each: begun, and two halves
            with meter(2, part) as advance:
                advance(1)
                advance(1)
    assert capsys.readouterr().err.splitlines() == ["b begins", "c begins", "d begins", "e begins"]
    for part in "abcde":  # each a work of its own
        with meter(2, part) as advance:
            advance(1)
            advance(1)
    assert capsys.readouterr().err == ""


def test_short_work_says_nothing_and_hidden_work_neither(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert list(watched("abc", 3, "letters")) == ["a", "b", "c"]
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    assert list(watched("abc", 3, "letters", hidden=True)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_a_terminal_sees_a_bar_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    for pause in (0.0, 0.7):
        with meter(1_000_000, "reading", "B") as advance:
            for _ in range(2):
                time.sleep(pause)
                advance(400_000)
            seen = sys.stderr.getvalue()
        assert bool(seen) == bool(pause)
    assert "reading:  80%" in seen and "800k/1.00M" in seen and "<" in seen


COMMANDS = {
    "match a b --method canonical --out c": {"reading", "canonical form"},
    "match a b --method weights --export --out w": {"reading", "canonical form", "matching", "writing"},
    "match a b --method naive --out n": {"reading"},
    "merge ab --out m": {"comparing digests", "reading", "canonical form", "end", "writing"},
    "merge ab --dtype bfloat16 --out m": {"end", "mixing", "rounding", "writing"},
    "merge half --out m": {"parent", "end", "writing"},  # parents in bfloat16 go through files, too
    "merge ab --no-verify --dtype bfloat16 --out m": {"writing"},
    "verify ab": {"comparing digests"},
    "check a": {"in float64", "as stored"},
    "path ab --data text.txt --grid 3": {"comparing digests", "path"},
}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_part_of_a_command_is_said(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        lmc.save(pico.llama(seed, torch.float32, vocab_size=256), name)
        pico.tokenizer(Path(name), 256)
        pico.llama(seed, torch.float32, vocab_size=256).bfloat16().save_pretrained(f"half-{name}")
    Path("text.txt").write_text("a few words to read, and a few more\n" * 400)
    assert cli.main(["match", "a", "b", "--method", "weights", "--out", "ab"]) == 0
    assert cli.main(["match", "half-a", "half-b", "--method", "weights", "--out", "half"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    assert cli.main(line.split()) == 0
    said = re.findall(r"(.+): \d+%, \d+ s left", capsys.readouterr().err)
    lacking = {part for part in COMMANDS[line] if not any(text.startswith(part) for text in said)}
    assert not lacking, sorted(set(said))
