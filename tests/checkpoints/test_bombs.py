"""What would grow, run or never end is refused by its kind and its size, in one line, before memory grows."""

import json
import lzma
import os
import resource
import shutil
import socket
import zipfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import lmc
from lmc.checkpoints import hub
from lmc.cli import main
from lmc.corpora import pictures, texts
from lmc.errors import shown
from lmc.matching.model_card import inert

GROWTH = 2**29  # bytes a refusal may take


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint `old` with pickled weights."""
    monkeypatch.chdir(tmp_path)
    lmc.save(pico.llama(0, torch.float32), "old")
    torch.save(load_file("old/model.safetensors"), "old/pytorch_model.bin")
    Path("old/model.safetensors").unlink()
    return tmp_path / "old"


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """The most memory this process ever held may grow by no more than GROWTH."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GROWTH


def refused(capsys: pytest.CaptureFixture[str], line: str, *words: str) -> str:
    capsys.readouterr()
    assert main(line.split()) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith("error: ") and len(said.encode()) < 1024 and said.isprintable(), said
    assert all(word in said for word in words), said
    assert not Path("new").exists()
    return said


class Call:
    """What a pickle would call as it is opened."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


PICKLES: dict[str, tuple[Any, str]] = {
    "a command": (Call(os.system, "touch harm"), "found code (posix.system), which is never run"),
    "a class": (Call(deque, [1]), "found code (collections.deque), which is never run"),
    "bytes": (Call(bytearray, 10**14), "more than memory holds"),
    "a list": ([1], "expected a state dict"),
    "a vast view": ({"model.norm.weight": torch.zeros(1).expand(10**12)}, "bytes of it in the file, found fewer"),
}


@pytest.mark.parametrize("oldest", [False, True], ids=["archive", "stream"])
@pytest.mark.parametrize("pickle", PICKLES)
def test_a_pickle_is_opened_as_tensors_or_not_at_all(
    old: Path, pickle: str, oldest: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    content, words = PICKLES[pickle]
    torch.save(content, old / "pytorch_model.bin", _use_new_zipfile_serialization=not oldest)
    said = refused(capsys, "convert old new", "old/pytorch_model.bin", words)
    assert not any(word in said for word in ("weights_only", "trust", "still be loaded", "safe_globals"))
    assert not Path("harm").exists()


@pytest.mark.parametrize("content", [b"", b"PK\3\4junk", b"\x80\x02.", b"hello"], ids=repr)
def test_what_is_no_pickle_is_said(old: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (old / "pytorch_model.bin").write_bytes(content)
    refused(capsys, "convert old new", "old/pytorch_model.bin", "expected")


def test_an_archive_larger_inside_than_outside(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(old / "pytorch_model.bin") as sound:
        entries = {name: sound.read(name) for name in sound.namelist()}
    with zipfile.ZipFile(old / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name, content in entries.items():
            bomb.writestr(name, content)
        with bomb.open("archive/data/999", "w") as stream:
            for _ in range(64):
                stream.write(bytes(2**24))
    refused(capsys, "convert old new", "old/pytorch_model.bin", "bytes inside, found", "compressed")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_labels", 10**9),
        ("num_labels", 10**30),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 1e300),
        ("head_dim", 10**9),
        ("pad_token_id", 10**30),
        ("num_attention_heads", -1),
        ("num_attention_heads", 0),
        ("vocab_size", 10**15),
        ("hidden_act", "\x1b[31m\nred"),
        ("hidden_act", "y" * 5000),
        ("rope_scaling", 3),
        ("attention_dropout", "x"),
    ],
)
def test_absurd_settings(old: Path, field: str, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plain = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps(plain | {field: value}))
    refused(capsys, "convert old new")


@pytest.mark.parametrize("inside", ["[],", "{},", "0,", '"aa",'])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_settings_of_millions_of_values(old: Path, name: str, inside: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of a few megabytes that would be a hundred times as large in memory."""
    shutil.copytree(old, "b")
    for folder in (old, Path("b")):
        save_file(torch.load(folder / "pytorch_model.bin"), folder / "model.safetensors")
    (old / name).write_text(f'{{"a": [{inside * 2**22}0]}}')
    refused(capsys, "match b old --method naive --out new", f"old/{name}: expected at most 4,194,304 values")


def test_a_header_of_millions_of_tensors(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(320_000))
    header = b"{" + entries + b"}"
    (old / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b" " * 8)
    refused(capsys, "check old", "old/model.safetensors: expected a header of at most 16,777,216 bytes")


@pytest.mark.parametrize("name", ["vocab.json", "tokenizer.json"])
@pytest.mark.parametrize("number", [-1, 10**30, 10**12, 10**9, 1.5, "x", None, [], True])
def test_absurd_token_ids(old: Path, number: object, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The library of tokenizers counts up to the largest id: of 10⁹, for minutes."""
    vocab = {"a": 0, "b\x1b[31m": number}
    plain = vocab if name == "vocab.json" else {"model": {"type": "WordLevel", "vocab": vocab, "unk_token": "a"}}
    (old / name).write_text(json.dumps(plain))
    (old / "pytorch_model.bin").unlink()
    save_file({"a": torch.zeros(1)}, old / "model.safetensors")  # what it lacks is found later
    refused(capsys, "check old", name, "expected a number below 16,777,216 for every token")


def picture(file: Path, size: int = 8, kind: str = "PNG") -> None:
    Image.new("1" if kind == "PNG" else "L", (size, size)).save(file, format=kind)


PICTURES = {
    "too many pixels": (lambda file: picture(file, 9000), "expected at most"),
    "far too many pixels": (lambda file: picture(file, 20000), "exceeds limit"),
    "a kind that starts programs": (lambda file: picture(file, kind="EPS"), "cannot be read"),
    "another kind": (lambda file: picture(file, kind="TIFF"), "cannot be read"),
    "a pipe": (os.mkfifo, "found a pipe"),
    "a device": (lambda file: file.symlink_to("/dev/zero"), "a device"),
    "a dangling link": (lambda file: file.symlink_to("nowhere"), "or nothing"),
    "a loop": (lambda file: file.symlink_to(file.name), "or nothing"),
    "cut": (lambda file: (picture(file), os.truncate(file, 40)), "cannot be read"),
    "no picture": (lambda file: file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 100), "cannot be read"),
}


@pytest.mark.parametrize("what", PICTURES)
def test_pictures_are_refused_by_kind_and_size(tmp_path: Path, what: str) -> None:
    spoil, words = PICTURES[what]
    (tmp_path / "test/cat").mkdir(parents=True)
    spoil(tmp_path / "test/cat/1.png")  # type: ignore[no-untyped-call]
    with pytest.raises(lmc.DataError, match=words):
        list(pictures.read(str(tmp_path), "eval").open([0]))


def test_texts_are_refused_by_kind_and_size(tmp_path: Path) -> None:
    with lzma.open(tmp_path / "test.txt.xz", "wb") as stream:
        for _ in range(8):
            stream.write(b" " * 2**22)
    with pytest.raises(lmc.DataError, match="characters in it, found more"):
        texts.read(str(tmp_path), "eval")
    (tmp_path / "test.txt.xz").unlink()
    os.mkfifo(tmp_path / "test.txt")
    with pytest.raises(lmc.DataError, match="found a pipe"):
        texts.read(str(tmp_path), "eval")


@pytest.mark.parametrize(
    "name", ["alignment.json", "path.json", "log.jsonl", "transform-0.json", "transform-1.safetensors"]
)
@pytest.mark.parametrize("what", ["pipe", "device", "loop", "huge"])
@pytest.mark.parametrize("command", ["merge aligned --out new", "verify aligned"])
def test_no_file_of_an_alignment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, what: str, command: str, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    lmc.match(pico.neox(0, torch.float32), pico.neox(1, torch.float32), method="canonical").save("aligned")
    file = tmp_path / "aligned" / name
    file.unlink(missing_ok=True)
    if what == "pipe":
        os.mkfifo(file)
    elif what == "huge":
        with file.open("wb") as stream:
            stream.truncate(2**40)  # a hole: it takes no disk, and would take an hour to read
    else:
        file.symlink_to("/dev/zero" if what == "device" else name)
    code = main(command.split())
    out, err = capsys.readouterr()
    if name == "path.json" and what == "loop":
        assert code == 0  # as if it were not there
        return
    assert code == (1 if command.startswith("verify") and name != "alignment.json" else 2), (out, err)
    assert name in out + err and len(err.splitlines()) <= 1 and not Path("new").exists()


def test_a_proxy_that_hangs_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(hub, "PATIENCE", 0.3)
        hub.silence.cache_clear()
        monkeypatch.chdir(tmp_path)
        refused(capsys, "check us/model", "us/model: not available from the hub", "HTTPS_PROXY")
        hub.silence.cache_clear()
    assert hub.PATIENCE <= 20


@pytest.mark.parametrize(
    "text", ["<img src=x>", "[a](b)", "`x`", "**x**", "_x_", "a|b", "\\x", "&lt;", "http://x", "a\n# b"]
)
def test_a_card_shows_text_as_it_is(text: str) -> None:
    import html

    assert html.unescape(inert(text)) == " ".join(text.split())
    assert not set(inert(text)) & set("<>`*|\\[]") and "://" not in inert(text) and "\n" not in inert(text)


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "a\nb", "\x00", "\x9b31m", "\u202eabc", "\udcff", "x" * 10**6, "ä" * 10**6]
)
def test_a_message_is_one_short_line(text: str) -> None:
    for said in (shown(text), str(lmc.CheckpointError(f"a: {text}; do this next"))):
        assert said.isprintable() and len(said.encode()) <= 1000 and shown(said) == said
    assert said.endswith("; do this next")
