"""Folders of strangers: links out of them are not followed, pipes are not opened, and what is no text is named."""

import os
import shutil
from pathlib import Path

import pico
import pytest
import torch

import lmc
from lmc import corpora
from lmc.cli import main

LINKED = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "chat_template.jinja",
    "merges.txt",
    "generation_config.json",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, name in enumerate("ab"):
        lmc.save(pico.llama(seed, torch.float32, vocab_size=256), tmp_path / name)
        corpora.byte_tokenizer().save_pretrained(tmp_path / name)
    (tmp_path / "private").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], line: str = "match a b --method naive --out out") -> str:
    capsys.readouterr()
    assert main(line.split()) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith("error: ") and len(said) < 1024, said
    assert not Path("out").exists()
    return said


@pytest.mark.parametrize("name", LINKED)
def test_a_link_out_of_the_checkpoint_is_not_followed(
    here: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = here / "private" / name
    if (here / "b" / name).exists():
        shutil.move(here / "b" / name, secret)
    else:
        secret.write_text("nobody else's business\n")
    (here / "b" / name).symlink_to(secret)
    said = refused(capsys)
    assert f"b/{name}: is a link to {secret}, outside the checkpoint" in said


def test_a_link_inside_the_checkpoint_is_one_of_its_files(here: Path) -> None:
    (here / "b/model.safetensors").rename(here / "b/weights.bin.safetensors")
    (here / "b/model.safetensors").symlink_to("weights.bin.safetensors")
    assert main(["match", "a", "b", "--method", "naive", "--out", "out"]) == 0


def test_the_links_of_the_hubs_cache_are_its_files(here: Path) -> None:
    snapshot = here / "models--us--b/snapshots/0123abc"
    blobs = here / "models--us--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in (here / "b").iterdir():
        shutil.move(file, blobs / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    assert main(f"match a {snapshot} --method naive --out out".split()) == 0


@pytest.mark.parametrize("place", ["snapshots/b", "models--us--b/snapshots/b"])
def test_a_folder_of_that_name_is_no_cache_of_the_hub(
    here: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / place).parent.mkdir(parents=True)
    (here / "b").rename(here / place)
    private = (here / place).parent.parent / "keys.json"
    private.write_text('{"nobody": "else\'s business"}')
    (here / place / "special_tokens_map.json").symlink_to("../../keys.json")
    said = refused(capsys, f"match a {place} --method naive --out out")
    assert "is a link to ../../keys.json, outside the checkpoint" in said


def test_a_dangling_link_is_named_with_its_target(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "b/model.safetensors").rename(here / "b/gone")
    (here / "b/model.safetensors").symlink_to("blob-1")
    assert "b/model.safetensors: is a link to blob-1, which is not there" in refused(capsys)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_pipe_is_not_waited_for(here: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "b" / name).unlink()
    os.mkfifo(here / "b" / name)
    assert f"b/{name}: expected a file, found a pipe or a device" in refused(capsys)


def test_an_endless_small_file_is_refused_by_its_size(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (here / "b/tokenizer.json").open("ab") as file:
        file.truncate(2**40)  # a hole: it takes no disk
    assert "b/tokenizer.json: expected at most" in refused(capsys)


BOMBS = {  # cards of which nothing is taken: the licence is then not stated
    "deep": b"[" * 20000,
    "wide": b"[[x]]\na0: &a0 [x]\n"
    + b"".join(b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 30))
    + b"base_model: *a29",
    "code": b"!!python/object/apply:os.system ['touch ran']",
    "no text": b"\xff\xfe",
    "a date": b"2020-01-01",
    "a long number": b"9" * 5000,
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_card_that_is_none_states_nothing(here: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        (here / name / "README.md").write_bytes(b"---\nlicense: " + BOMBS[what] + b"\n---\n")
    assert main(["match", "a", "b", "--method", "naive", "--out", "out"]) == 0
    assert main(["merge", "out", "--out", "merged"]) == 0
    assert "license" not in Path("merged/README.md").read_text() and not Path("ran").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_what_a_card_states_is_shown_as_it_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A licence that is markup, and would end the line, is told where the parents' differ."""
    odd = '"mit\\n# Free <b>beer</b> [here](http://x) \\e[31m"'
    (here / "a/README.md").write_text(f"---\nlicense: {odd}\n---\n")
    assert main(["match", "a", "b", "--method", "naive", "--out", "out"]) == 0
    assert main(["merge", "out", "--out", "merged"]) == 0
    for told in (capsys.readouterr().out, Path("merged/README.md").read_text()):
        (line,) = [x for x in told.splitlines() if x.startswith("- licence: parent 0: mit")]
        assert not set("<>[\x1b") & set(line) and "\n# Free" not in told


TEMPLATES = {
    "chat_template.jinja": b"\xff\xfe{{ messages }}",
    "additional_chat_templates/tools.jinja": b"\xff",
    "chat_template.json": b'{"chat_template": "half a character: \\ud83d"}',
    "tokenizer_config.json": b'{"chat_template": "half a character: \\ud83d"}',
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_that_is_no_text_is_named(here: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "b/additional_chat_templates").mkdir()
    (here / "b" / name).write_bytes(TEMPLATES[name])
    said = refused(capsys)
    assert ("half a character" in said) == name.endswith(".json") and (name.endswith(".json") or name in said), said
