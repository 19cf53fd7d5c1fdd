"""The command line: the whole way from two checkpoints to a merged one, and one clear line for every mistake."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from safetensors.torch import load_file, save_file

import lmc
from lmc import checkpoints, corpora
from lmc.cli import main
from lmc.files import abandon
from lmc.matching import descent, learned, pairing
from lmc.matching.folder import signed

Outcome = tuple[int, str, str]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two language models `a`, `b` that read bytes, two vision models `va`, `vb` that read digits, and a text."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("ab"):
        lmc.save(pico.neox(seed, torch.float32, vocab_size=256), folder / name)
        corpora.byte_tokenizer().save_pretrained(folder / name)
        vision = pico.vit(seed, torch.float32)
        vision.pretrained_cfg.update(mean=(0.5,), std=(0.5,), crop_pct=1.0)
        lmc.save(vision, folder / f"v{name}")
    (folder / "text.txt").write_text("".join(f"Line {i} of a text that is long enough.\n" for i in range(2000)))
    return folder


@pytest.fixture
def here(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own that holds the models."""
    for entry in models.iterdir():
        (shutil.copytree if entry.is_dir() else shutil.copyfile)(entry, tmp_path / entry.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process: exit code, stdout, stderr."""

    def command(line: str) -> Outcome:
        capsys.readouterr()
        code = main(line.split())
        out, err = capsys.readouterr()
        return code, out, err

    return command


def lmc_process(line: str, cwd: Path, **options: Any) -> "subprocess.Popen[str]":
    """The command as a user starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "lmc", *line.split()],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also where Ctrl-C is switched off
        **options,
    )


def test_from_two_language_models_to_a_merged_one(here: Path, run: Callable[..., Outcome]) -> None:
    code, out, _ = run("check a")
    assert code == 0
    assert "whole group" in out
    code, out, _ = run("check a b")
    assert code == 0
    assert "can be paired" in out
    assert "disk for a merged model" in out
    assert "|cosine| of the weights" in out
    assert re.search(r"time for matching +about \d+ (s|min) for 300 steps of learning \(on cpu, an estimate\)", out)
    code, out, _ = run("match a b --method dual --data text.txt --steps 3 --limit 32 --out aligned --export")
    assert code == 0
    assert {"alignment.json", "log.jsonl", "models", "transform-0.safetensors"} <= set(os.listdir("aligned"))
    assert not (here / "aligned.partial").exists()
    code, out, _ = run("path aligned --data text.txt --limit 8 --grid 3 --json out/path.json --plot out/path.png")
    assert code == 0
    result = json.loads((here / "out" / "path.json").read_text())
    assert len(result["losses"]) == 3
    assert f"barrier {result['barrier']:.5f}" in out
    assert (here / "out" / "path.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = run("merge aligned --at 0.25 --out merged")
    assert code == 0
    merged = lmc.load("merged")
    inputs = pico.inputs(merged)
    torch.testing.assert_close(
        pico.logits(merged, inputs), pico.logits(lmc.Alignment.load("aligned").merge(0.25), inputs)
    )
    assert (here / "merged" / "tokenizer.json").exists()
    assert "λ = 0.25" in (here / "merged" / "README.md").read_text()
    for file in (here / "merged", here / "aligned" / "models"):
        for text in (p.read_text() for p in file.rglob("*") if p.suffix in (".md", ".json")):
            assert str(here) not in text
    assert run("check merged")[0] == 0


def test_from_two_vision_models_to_a_merged_one(here: Path, run: Callable[..., Outcome]) -> None:
    assert run("match va vb --method activations --data digits --limit 64 --out aligned")[0] == 0
    code, out, _ = run("path aligned --data digits --limit 64 --grid 2")
    assert code == 0
    assert "nats per image" in out
    assert run("merge aligned --out merged")[0] == 0
    assert type(lmc.load("merged")).__name__ == "VisionTransformer"


def test_three_models(here: Path, run: Callable[..., Outcome]) -> None:
    vision = pico.vit(7, torch.float32)
    vision.pretrained_cfg.update(mean=(0.5,), std=(0.5,), crop_pct=1.0)
    lmc.save(vision, "vc")
    assert run("check va vb vc")[0] == 0
    assert run("match va vb vc --method weights --out aligned")[0] == 0
    code, _, err = run("merge aligned --at 0.5 --out merged")
    assert code == 2
    assert "--at: expected 3 weights for 3 models, found the number 0.5" in err
    code, _, err = run("merge aligned --at 0.5,0.5 --out merged")
    assert code == 2
    assert "expected 3 weights" in err
    assert run("merge aligned --at 0.5,0.25,0.25 --out merged")[0] == 0


@pytest.mark.parametrize(
    "command",
    [
        "check va twin",
        "match va twin --method weights --out aligned",  # these two read one part at a time
        "match va twin --method canonical --out aligned",
        "match va twin --method naive --out aligned",
    ],
)
def test_a_shared_initialisation_is_a_warning(command: str, here: Path, run: Callable[..., Outcome]) -> None:
    """But for averages as they are, which may be all that such models need."""
    shutil.copytree("va", "twin")
    code, _, err = run(command)
    assert code == 0
    around = f"{here.name}/" if "match" in command else ""
    said = f"warning: |cosine| 1.000 ≥ 0.05: {around}va and {around}twin may share an initialisation\n"
    assert err == ("" if "naive" in command else said)


def test_an_alignment_outlives_a_change_of_place(
    here: Path, run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another folder, and after a move together with its parents; nothing in it says where it was made."""
    assert run("match a b --method canonical --out out/aligned")[0] == 0
    assert str(here) not in (here / "out/aligned/alignment.json").read_text()
    monkeypatch.chdir(here / "out")
    assert run("merge aligned --out m1")[0] == 0
    for name in ("a", "b", "out"):
        (here / "moved").mkdir(exist_ok=True)
        (here / name).rename(here / "moved" / name)
    monkeypatch.chdir(here)
    assert run("merge moved/out/aligned --out m2")[0] == 0
    (here / "moved/b").rename(here / "b")
    code, _, err = run("merge moved/out/aligned --out m3")
    assert code == 2
    assert f"its parent b cannot be loaded again: {here / 'moved/b'}: no such folder" in err


def test_a_picture_of_three_models(here: Path, run: Callable[..., Outcome]) -> None:
    for seed, name in ((7, "vc"), (8, "vd")):
        vision = pico.vit(seed, torch.float32)
        vision.pretrained_cfg.update(mean=(0.5,), std=(0.5,), crop_pct=1.0)
        lmc.save(vision, name)
    assert run("match va vb vc --method naive --out three")[0] == 0
    assert run("path three --data digits --limit 8 --grid 3 --plot p.png")[0] == 0
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")
    assert run("match va vb vc vd --method naive --out four")[0] == 0
    code, out, err = run("path four --data digits --limit 8 --grid 2 --plot q.png")
    assert (code, out) == (2, "")
    assert err == "error: plot: expected the path of two or three models, found 4\n"


def test_a_model_without_tokenizer_cannot_read_text(here: Path, run: Callable[..., Outcome]) -> None:
    align()
    for file in here.glob("[ab]/tokenizer*"):
        file.unlink()
    code, _, err = run("match a b --data text.txt --out o")
    assert code == 2
    what = "save it there, and match again what was matched"
    assert err == f"error: {here / 'a'}: expected a tokenizer (tokenizer.json), found none; {what}\n"
    code, _, err = run("path aligned --data text.txt")  # which was aligned when there was one
    assert code == 2 and "expected the tokenizer that the models were matched with" in err


def test_families_are_listed_with_what_is_known_of_them(run: Callable[..., Outcome]) -> None:
    from lmc.symmetries.families import facts

    code, out, _ = run("families")
    assert code == 0
    assert facts.FACTS.keys() == lmc.families().keys()
    for family, classes in lmc.families().items():
        part = out.split(f"\n{family} ")[-1].split("\n  published")[0]
        assert all(name.split(".")[1] in part for name in classes)
        assert "  aligned    stream: " in part and "  lost " in part


def test_convert(here: Path, run: Callable[..., Outcome]) -> None:
    torch.save(load_file("a/model.safetensors"), "a/pytorch_model.bin")
    Path("a/model.safetensors").unlink()
    code, _, err = run("check a")
    assert code == 2
    assert "lmc convert a NEW" in err
    assert run("convert a new")[0] == 0
    assert run("check new")[0] == 0


# Everything a user can get wrong: how the folder is spoilt, what is typed, what must be said.


def edit(path: str, **fields: Any) -> None:
    content = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps(content | fields))


def poison(path: str, name: str) -> None:
    tensors = load_file(path)
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})


def resave(name: str, **config: Any) -> None:
    shutil.rmtree(name)
    lmc.save(pico.neox(1, torch.float32, **({"vocab_size": 256} | config)), name)


def occupy(name: str) -> None:
    Path(name).mkdir()
    Path(name, "thesis.txt").write_text("years of work")


def align() -> None:
    assert main(["match", "a", "b", "--method", "canonical", "--out", "aligned"]) == 0


def described(**fields: Any) -> None:
    align()
    edit("aligned/alignment.json", **fields)


def parents(**fields: Any) -> None:
    align()
    first, second = json.loads(Path("aligned/alignment.json").read_text())["parents"]
    edit("aligned/alignment.json", parents=[first, second | fields])
    edit("aligned/alignment.json", **signed(json.loads(Path("aligned/alignment.json").read_text())))


def spoil(name: str, text: str = "") -> None:
    align()
    Path(name).write_text(text)


def nothing() -> None:
    """The folder is as it should be."""


MISTAKES: dict[str, tuple[Callable[[], Any], str, str]] = {
    "unknown command": (nothing, "mach a b", "No such command 'mach'"),
    "unknown option": (nothing, "check a --sed 3", "No such option: --sed"),
    "frequencies elsewhere": (
        nothing,
        "match a b --method dual --data embedded --by-frequency --out x",
        "--by-frequency: expected the method weights, found dual",
    ),
    "frequencies of nothing": (
        nothing,
        "match a b --method weights --by-frequency --out x",
        "--data: the method weights needs a corpus",
    ),
    "a start of what does not learn": (
        nothing,
        "match a b --method weights --start canonical --out x",
        "--start: expected a method that learns (single or dual), found weights",
    ),
    "no learning to go on with": (
        nothing,
        "match a b --method weights --resume --out x",
        "--resume: expected a method that learns (single or dual), found weights",
    ),
    "a start that is none": (
        nothing,
        "match a b --data text.txt --start wieghts --out x",
        "--start: expected one of canonical, weights, activations, better or an alignment folder: wieghts: not found",
    ),
    "missing option": (nothing, "match a b", "Missing option '--out'"),
    "no number": (nothing, "check a --seed many", "--seed"),
    "no such folder": (nothing, "check ./c", "./c: no such folder"),
    "no such model": (nothing, "check someone/model@main", "not available from the hub"),
    "a file": (nothing, "check text.txt", "text.txt: is a file"),
    "unknown method": (nothing, "match a b --method magic --out o", "--method: expected one of naive, canonical,"),
    "a path's file where none can be": (
        lambda: (align(), Path("f").write_text("")),
        "path aligned --data text.txt --json f/r.json",
        "f/r.json: expected a place to write, found that",
    ),
    "one model": (nothing, "match a --method weights --out o", "models: expected at least two, found 1"),
    "no corpus": (nothing, "match a b --out o", "--data: the method dual needs a corpus"),
    "unknown corpus": (nothing, "match a b --data wikitxt --out o", "unknown corpus 'wikitxt'"),
    "unknown corpus of path": (align, "path aligned --data wikitxt", "unknown corpus 'wikitxt'"),
    "images for text": (nothing, "match a b --data digits --out o", "corpus 'digits' holds images"),
    "text for images": (nothing, "match va vb --data text.txt --out o", "corpus 'text.txt' holds text"),
    "short corpus": (
        lambda: Path("short.txt").write_text("Too short."),
        "match a b --data short.txt --out o",
        "corpus 'short.txt' (match) is too short",
    ),
    "short corpus of path": (
        lambda: (align(), Path("short.txt").write_text("Too short.")),
        "path aligned --data short.txt",
        "corpus 'short.txt' (eval) is too short",
    ),
    "learning rate": (
        nothing,
        "match a b --data text.txt --lr 0 --out o",
        "--lr: expected a number in (0, 0.3], found 0",
    ),
    "absurd learning rate": (nothing, "match a b --data text.txt --lr 1e9 --out o", "(0, 0.3], found 1000000000.0"),
    "no steps": (nothing, "match a b --data text.txt --steps 0 --out o", "--steps"),
    "device": (nothing, "match a b --data text.txt --device abacus --out o", "--device: 'abacus' cannot be used here"),
    "type": (nothing, "match a b --data text.txt --dtype float8 --out o", "--dtype: expected one of float64"),
    "device that holds nothing": (
        nothing,
        "match a b --data text.txt --device meta --out o",
        "--device: 'meta' cannot be used here",
    ),
    "device whose library is missing": (
        nothing,
        "match a b --data text.txt --device privateuseone --out o",
        "--device: 'privateuseone' cannot be used here",
    ),
    "device of which torch says a kilobyte": (
        nothing,
        "match a b --data text.txt --device vulkan --out o",
        "--device: 'vulkan' cannot be used here",
    ),
    "negative seed": (nothing, "check a --seed -1", "'--seed'"),
    "huge seed": (nothing, "match a b --data text.txt --seed 99999999999999999999 --out o", "'--seed'"),
    "unknown corpus where none is needed": (
        nothing,
        "match a b --method weights --data nosuch --out o",
        "unknown corpus 'nosuch'",
    ),
    "empty tokenizer": (
        lambda: [Path(m, "tokenizer.json").write_text("{}") for m in "ab"],
        "match a b --method weights --out o",
        "a/tokenizer.json: no tokenizer can be built from it",
    ),
    "empty tokenizer of path": (
        lambda: spoil("a/tokenizer.json", "{}"),
        "path aligned --data text.txt",
        "a/tokenizer.json: no tokenizer can be built from it",
    ),
    "damaged tokenizer": (
        lambda: Path("b/tokenizer.json").write_text('{"model": '),
        "check a b",
        "b/tokenizer.json: not readable as JSON",
    ),
    "a folder for the result": (align, "path aligned --data text.txt --json .", "'.' is a directory"),
    "a folder for the picture": (
        lambda: (align(), Path("p.svg").mkdir()),
        "path aligned --data text.txt --plot p.svg",
        "'p.svg' is a directory",
    ),
    "no name for a folder": (nothing, "merge a --out .", ".: expected the name of a new folder"),
    "no parents": (lambda: described(parents=[]), "merge aligned --out o", "alignment.json: parents: expected a list"),
    "a number of parents": (lambda: described(parents=2), "merge aligned --out o", "parents: expected a list of at"),
    "parents that are none": (
        lambda: described(parents=["a", "b"]),
        "merge aligned --out o",
        "alignment.json: parents: expected a list of at least two objects, found",
    ),
    "a parent of no type": (lambda: parents(dtype="int8"), "merge aligned --out o", "expected a parent's name, dtype"),
    "a parent without checksums": (
        lambda: parents(sha256={}),
        "merge aligned --out o",
        "b/model.safetensors: expected",
    ),
    "a parent with a wrong checksum": (
        lambda: parents(sha256={"model.safetensors": 7}),
        "merge aligned --out o",
        "b/model.safetensors: expected sha256 7…, found",
    ),
    "a parent in no folder": (lambda: parents(folder=[]), "merge aligned --out o", "expected a parent's name, dtype"),
    "method of an alignment": (
        lambda: described(method="magic"),
        "path aligned --data text.txt",
        "alignment.json: method: expected one of naive, canonical, weights, activations, single, dual, found 'magic'",
    ),
    "record of an alignment": (lambda: described(record=[]), "merge aligned --out o", "record: expected an object"),
    "no log": (
        lambda: (align(), Path("aligned/log.jsonl").unlink()),
        "merge aligned --out o",
        "aligned/log.jsonl: expected a file of the folder, found none",
    ),
    "damaged log": (lambda: spoil("aligned/log.jsonl", "step"), "merge aligned --out o", "log.jsonl: expected sha256"),
    "log of numbers": (
        lambda: spoil("aligned/log.jsonl", "1\n"),
        "merge aligned --out o",
        "log.jsonl: expected sha256",
    ),
    "damaged description of a transform": (
        lambda: spoil("aligned/transform-1.json", '{"spec": {"spaces": 1}}'),
        "merge aligned --out o",
        "aligned/transform-1.json: expected sha256",
    ),
    "nothing to resume": (nothing, "match a b --data text.txt --resume --out o", "o.partial: expected the state of an"),
    "occupied": (lambda: occupy("o"), "match a b --method weights --out o", "o: output folder is not empty"),
    "occupied by merge": (lambda: (align(), occupy("o")), "merge aligned --out o", "o: output folder is not empty"),
    "occupied by convert": (lambda: occupy("o"), "convert a o", "o: output folder is not empty"),
    "a folder inside a file": (
        nothing,
        "match a b --method weights --out text.txt/o",
        "text.txt/o: expected a place to write, found that",
    ),
    "occupied, in a roundabout way": (
        nothing,
        "match a b --method weights --out a/o/../../a",
        "a: output folder is not",
    ),
    "a file for an alignment": (nothing, "merge text.txt --out o", "text.txt: is a file, expected an alignment folder"),
    "type of a merged model": (align, "merge aligned --dtype int8 --out o", "--dtype: expected one of float64"),
    "images to measure a text model": (align, "merge aligned --data digits --out o", "corpus 'digits' holds images"),
    "damaged measurement": (
        lambda: spoil("aligned/path.json", "{}"),
        "merge aligned --out o",
        "expected what lmc path wrote, found a field that was changed",
    ),
    "nothing to convert": (nothing, "convert a o", "nothing to convert: it is a stock checkpoint already (model"),
    "empty folder": (lambda: Path("none").mkdir(), "check none", "none/config.json: not found"),
    "timm and transformers": (
        lambda: lmc.save(pico.hf_vit(0, torch.float32), "ha"),
        "check va ha",
        "class: expected vit_tiny_patch16_224, found ViTForImageClassification",
    ),
    "other family": (
        nothing,
        "match a va --method weights --out o",
        "class: expected GPTNeoXForCausalLM, found vit_tiny_patch16_224",
    ),
    "other shape": (
        lambda: resave("b", intermediate_size=32),
        "check a b",
        "[16, 24], found [16, 32]; lmc.enlarge writes the smaller one in the larger one's shapes, as lmc match does",
    ),
    "other setting": (
        lambda: resave("b", hidden_act="relu"),
        "check a b",
        "differ in hidden_act: expected gelu, found relu",
    ),
    "other vocabulary": (lambda: resave("b", vocab_size=300), "check a b", "vocab_size: expected 256, found 300"),
    "other tokenizer": (
        lambda: pico.tokenizer(Path("b")),
        "match a b --method weights --out o",
        "differ in tokenizer.json, id of token",
    ),
    "missing weights": (lambda: Path("b/model.safetensors").unlink(), "check b", "model.safetensors: not found"),
    "truncated weights": (
        lambda: os.truncate("b/model.safetensors", 5000),
        "match a b --method weights --out o",
        "b/model.safetensors: not a readable safetensors file, truncated or damaged",
    ),
    "NaN": (
        lambda: poison("b/model.safetensors", "gpt_neox.embed_in.weight"),
        "match a b --method weights --out o",
        "b/model.safetensors: tensor gpt_neox.embed_in.weight: expected finite values, found 1 of",
    ),
    "unknown family": (
        lambda: edit("b/config.json", architectures=["BertForQuestionAnswering"]),
        "check b",
        "transformers.BertForQuestionAnswering: no family covers this model class; the closest covered is Bert",
    ),
    "λ too large": (align, "merge aligned --at 1.5 --out o", "--at: expected λ between 0 and 1, found 1.5"),
    "λ negative": (align, "merge aligned --at=-0.1 --out o", "--at: expected λ between 0 and 1, found -0.1"),
    "λ NaN": (align, "merge aligned --at nan --out o", "--at: expected a number"),
    "λ infinite": (align, "merge aligned --at 1e999 --out o", "--at: expected a number"),
    "λ as Python writes it": (align, "merge aligned --at 0.2_5 --out o", "--at: expected a number"),
    "λ in other digits": (align, "merge aligned --at ０.５ --out o", "--at: expected a number"),
    "a limit as Python writes it": (nothing, "path aligned --data text.txt --limit 1_0", "expected a whole number"),
    "a place that is no number": (
        nothing,
        "match a b --lambdas 0.3 --data text.txt --out o",
        "expected highest, or LOW,HIGH as 0.3,0.7, found '0.3'",
    ),
    "places in the wrong order": (
        nothing,
        "match a b --lambdas 0.7,0.3 --data text.txt --out o",
        "--lambdas: expected 0 ≤ low ≤ high ≤ 1, or 'highest', found (0.7, 0.3)",
    ),
    "the line of three": (
        nothing,
        "match a b a --lambdas highest --data text.txt --out o",
        "--lambdas: 'highest' looks along the line of two models, found 3; give a range",
    ),
    "a rate as Python writes it": (nothing, "match a b --lr 1_0 --data text.txt --out o", "expected a number"),
    "λ no number": (align, "merge aligned --at half --out o", "--at: expected a number"),
    "weights that do not sum to one": (align, "merge aligned --at 0.5,0.6 --out o", "sum to 1"),
    "no alignment": (nothing, "merge a --out o", "a/alignment.json: not found"),
    "no alignment folder": (nothing, "path nowhere --data text.txt", "nowhere: not found"),
    "a parent that changed": (
        lambda: (align(), poison("b/model.safetensors", "gpt_neox.embed_in.weight")),
        "merge aligned --out o",
        "aligned: its parent b cannot be loaded again",
    ),
    "damaged transform": (
        lambda: (align(), os.truncate("aligned/transform-1.safetensors", 100)),
        "merge aligned --out o",
        "aligned/transform-1.safetensors: expected sha256",
    ),
    "one point": (align, "path aligned --data text.txt --grid 1", "--grid"),
    "a merge among the models": (align, "merge aligned --out aligned/models", "has its aligned models"),
    "a merge as one of the models": (
        align,
        "merge aligned --out aligned/models/m",
        "has its aligned models",
    ),
    "a picture of no kind": (align, "path aligned --data text.txt --plot o.docx", "--plot: expected a file ending in"),
    "unknown figure": (nothing, "reproduce --figure nine", "'nine'"),
    "unknown profile": (nothing, "reproduce --profile desktop", "unknown profile 'desktop'"),
    "a profile that needs a network": (
        nothing,
        "reproduce --profile paper",
        "needs the hub, but HF_HUB_OFFLINE is set",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(mistake: str, here: Path, run: Callable[..., Outcome]) -> None:
    spoil, line, message = MISTAKES[mistake]
    spoil()
    before = {p: p.stat().st_mtime_ns for p in here.rglob("*")}
    code, _, err = run(line)
    assert code == 2, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1 and len(err) < 1000
    assert message in err
    assert {p: p.stat().st_mtime_ns for p in here.rglob("*")} == before


def test_memory_that_is_short_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever it happens: loading, moving to a device, evaluating."""

    def short(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("ab"):
        lmc.save(pico.neox(k, torch.float32), tmp_path / name)
    align()
    capsys.readouterr()
    for reader in ("checkpoint", "lazy"):  # whole models, and one tensor at a time
        monkeypatch.setattr(f"lmc.checkpoints.{reader}.require_finite", short)
    for command in ("merge aligned --out merged", "match a b --method canonical --out other"):
        assert main(command.split()) == 2
        assert capsys.readouterr().err.startswith("error: out of memory: close other work")
    assert not (tmp_path / "merged").exists() and not (tmp_path / "other").exists()


def test_learning_begins_where_it_is_told(here: Path, run: Callable[..., Outcome]) -> None:
    """At a closed form, or at an alignment of the same models; not at one of others."""
    line = "match a b --data text.txt --steps 1 --batch 2 --limit 8 --start {0} --out from-{0}"
    assert run("match b a --method canonical --out others")[0] == 0
    for start, method in {"canonical": "canonical", "weights": "weights", "from-weights": "dual"}.items():
        assert run(line.format(start))[0] == 0
        assert json.loads((here / f"from-{start}" / "alignment.json").read_text())["record"]["start"] == method
        assert not (here / f"from-{start}.partial").exists()
    code, _, err = run(line.format("others"))
    assert code == 2
    assert "start: expected an alignment of the same 2 models, found one of others" in err


@pytest.mark.parametrize(("given", "kept"), [("highest", "highest"), ("0.1,.9", [0.1, 0.9])])
def test_learning_looks_where_it_is_told(given: str, kept: object, here: Path, run: Callable[..., Outcome]) -> None:
    line = f"match a b --data text.txt --steps 1 --batch 2 --limit 8 --lambdas {given} --out out"
    assert run(line)[0] == 0
    assert json.loads((here / "out" / "alignment.json").read_text())["record"]["lambdas"] == kept


def test_options_that_a_method_has_no_use_for_are_said(here: Path, run: Callable[..., Outcome]) -> None:
    code, _, err = run("match a b --method naive --steps 5 --lambdas 0,1 --checkpointing --data text.txt --out out")
    assert (code, err) == (0, "warning: --steps, --checkpointing, --lambdas, --data: not used by the method naive\n")
    code, _, err = run("match a b --method activations --data text.txt --limit 9 --seed 1 --out another")
    assert (code, err) == (0, "")
    code, _, err = run("merge out --limit 9 --out merged")
    assert (code, err) == (0, "warning: --limit: not used without --data\n")


def test_three_models_are_merged_in_the_middle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("abc"):
        lmc.save(pico.neox(k, torch.float32), tmp_path / name)
    assert main(["match", "a", "b", "c", "--method", "naive", "--out", "aligned"]) == 0
    assert "lmc merge aligned --out MERGED" in capsys.readouterr().out
    assert main(["merge", "aligned", "--out", "merged"]) == 0
    assert "merged in the middle" in capsys.readouterr().out


@pytest.mark.parametrize("mistake", ["unknown method", "truncated weights", "missing option"])
def test_a_mistake_as_the_user_sees_it(mistake: str, here: Path) -> None:
    spoil, line, message = MISTAKES[mistake]
    spoil()
    process = lmc_process(line, here)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "Traceback" not in err
    assert message in err.splitlines()[-1]


def test_ctrl_c_ends_a_match_without_a_traceback(here: Path) -> None:
    process = lmc_process("match a b --data text.txt --steps 60000 --batch 1 --limit 8 --out aligned", here)
    state = here / "aligned.partial" / "state.safetensors"
    until = time.monotonic() + 120
    while not state.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "interrupted: the same command with --resume continues" in err
    assert state.exists()
    assert not (here / "aligned").exists()


def test_an_interrupted_match_continues(
    here: Path, run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "match a b --data text.txt --steps 60 --batch 2 --limit 8 --out"
    assert run(f"{line} whole")[0] == 0
    advance = learned.Learner.advance

    def interrupted(self: learned.Learner, samples: Any) -> float:
        if self.step == 55:
            raise KeyboardInterrupt
        return advance(self, samples)

    monkeypatch.setattr(learned.Learner, "advance", interrupted)
    assert run(f"{line} parts")[0] == 130
    assert not Path("parts").exists()
    monkeypatch.undo()
    monkeypatch.chdir(here)
    code, _, err = run(f"{line} parts")
    assert code == 2
    assert "parts.partial: holds an interrupted run; continue it with --resume" in err
    code, out, err = run(f"{line} parts --seed 1 --resume")
    assert code == 2 and "continues" not in out
    assert "other settings (" in err and "seed" in err and "continue it with those it began with" in err
    code, _, err = run(f"{line} parts --dtype float64 --resume")
    assert code == 2 and "other settings (" in err and "types" in err
    monkeypatch.setattr("lmc.cli.asked.require_alike", lambda models: pytest.fail(abandon()))
    with pytest.raises(pytest.fail.Exception, match="the same command with --resume continues"):
        run(f"{line} parts --resume")  # interrupted before a model is read
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert run(f"{line} parts --resume")[0] == 0
    assert not Path("parts.partial").exists()
    for file in ("transform-0.safetensors", "transform-1.safetensors"):
        once, twice = load_file(f"whole/{file}"), load_file(f"parts/{file}")
        assert all(torch.equal(t, twice[name]) for name, t in once.items())


def lose(source: str, target: str, name: str) -> None:
    """A copy of a checkpoint without one tensor."""
    shutil.copytree(source, target)
    tensors = load_file(f"{source}/model.safetensors")
    del tensors[name]
    save_file(tensors, f"{target}/model.safetensors", metadata={"format": "pt"})


def test_help_and_mistakes_in_a_line_need_no_torch(here: Path, run: Callable[..., Outcome]) -> None:
    """They are told in the time that Python takes to start."""
    assert run("match a b --method naive --out ab")[0] == 0
    Path("empty").mkdir()
    shutil.copytree("b", "unknown")
    edit("unknown/config.json", architectures=["BertForQuestionAnswering"])
    shutil.copytree("b", "cut")
    os.truncate("cut/model.safetensors", 5000)
    shutil.copytree("b", "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    lmc.save(pico.llama(0, torch.float32), "llama")
    lmc.save(pico.vit(0, torch.float32), "vit")
    lose("b", "lost", "gpt_neox.layers.1.mlp.dense_h_to_4h.weight")
    lines = ["check a lost", "match lost a --method naive --out o"]
    lines += ["match a b --data text.txt --start ab --out o"]
    lines += ["check unknown", "match a unknown --method naive --out o", "transport ab unknown --out o"]
    lines += ["check cut", "match a cut --method naive --out o", "check bare", "check a bare", "check a llama"]
    lines += ["match a b --out o", "match a b --method best --out o", "match a nowhere --method naive --out o"]
    lines += ["check nowhere", "check a no/where", "check empty", "verify empty", "verify nowhere", "convert nowhere o"]
    lines += ["merge nowhere --out o", "merge ab --out ab", "merge ab --out o --at 7", "merge ab --out o --dtype int8"]
    lines += ["merge ab --out o --take-from fifth", "path nowhere --data embedded", "path ab --data nothing"]
    lines += ["match a b --data digits --out o", "path ab --data digits", "merge ab --data digits --out o"]
    lines += ["check a vit", "match vit vit --data embedded --out o"]
    lines += ["path ab --data embedded --plot a.txt", "transport nowhere a --out o", "transport ab nowhere --out o"]
    lines += ["reproduce --figure nothing", "families --all"]
    asked = [*lines, "--help", "--version"]
    code = f"import sys, lmc.cli; print([lmc.cli.main(line.split()) for line in {asked}], file=sys.stderr)"
    code += "; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == len(lines) and done.stderr.endswith(f"{[2] * len(lines) + [0, 0]}\n")
    assert done.stdout.endswith(f"\nlmc {lmc.__version__}\n")
    for command in ("check", "match", "path", "merge", "convert", "reproduce"):
        assert f"\n  {command} " in done.stdout


def test_a_command_imports_no_compiler_and_what_it_then_asks_of_it_it_gets(here: Path) -> None:
    """Half of the start of a command was what its libraries import for others."""
    code = """
import sys
from lmc.cli import lean, main
lean.start()
assert main(["match", "a", "b", "--method", "naive", "--out", "ab"]) == main(["merge", "ab", "--out", "m"]) == 0
unused = {"torch._dynamo.utils", "torch.distributed.tensor", "sympy", "scipy"} & sys.modules.keys()
assert not unused, unused
import torch
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)) == 2
assert "torch._dynamo.utils" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_transformers_files_offer_is_found_the_same_when_looked_up_once() -> None:
    code = """
import sys
from pathlib import Path
from lmc.cli import lean
lean.start()
from transformers.utils import import_utils
import transformers
assert not hasattr(import_utils.create_import_structure_from_path, "cache_info")
models = Path(transformers.__file__).parent / "models"
asked = [(models, "models"), (str(models / "__init__.py"), None)]
found = [import_utils.define_import_structure.__wrapped__(*each) for each in asked]
del sys.modules["transformers.utils.import_utils"]
sys.meta_path.pop(0)
import importlib
stock = importlib.import_module("transformers.utils.import_utils")
assert hasattr(stock.create_import_structure_from_path, "cache_info")
assert found == [stock.define_import_structure.__wrapped__(*each) for each in asked]
assert sum(map(len, found[0].values())) > 1000
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_held_out_though_it_was_matched_on_is_said(here: Path, run: Callable[..., Outcome]) -> None:
    """A corpus that is divided in another way, under whatever name, by whatever alignment in a row has read it."""
    text = (here / "text.txt").read_text()
    assert run("match a b --method activations --data text.txt --out al")[0] == 0
    assert json.loads((here / "al" / "alignment.json").read_text())["record"]["corpus"] == "text.txt"
    assert "limit" not in json.loads((here / "al" / "alignment.json").read_text())["record"]
    assert run("match a b --method activations --data text.txt --limit 3 --out few")[0] == 0
    assert json.loads((here / "few" / "alignment.json").read_text())["record"]["limit"] == 3
    assert run("path al --data text.txt --grid 2")[::2] == (0, "")
    (here / "cut.txt").write_text(text[: len(text) // 2])
    for line in ("path al --data cut.txt --grid 2", "merge al --dtype bfloat16 --data cut.txt --out m"):
        code, _, err = run(line)
        assert code == 0 and re.search(r"^warning: cut.txt: matching read [5-9]\d % of what is held out or more", err)
    card = (here / "m/README.md").read_text()
    assert "- read: " not in card  # the sketch is for programs
    assert re.search(
        r"^- loss before rounding: .* samples of cut.txt; matching had read [5-9]\d % of them or more", card, re.M
    )
    (here / "rest.txt").write_text(text[len(text) // 2 :])
    assert run("match a b --data rest.txt --steps 1 --batch 2 --start al --out on")[0] == 0
    for line in ("path al --data rest.txt --grid 2", "path al --data text.txt --grid 2"):
        assert run(line)[::2] == (0, "")
    assert "of what is held out or more" in run("path on --data cut.txt --grid 2")[2]  # its start read that


def test_a_corpus_is_called_by_its_folder_however_that_is_written(
    here: Path, run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("match a b --method naive --out al")[0] == 0
    (here / "texts").mkdir()
    (here / "text.txt").rename(here / "texts/one.txt")
    monkeypatch.chdir(here / "texts")
    assert run("path ../al --data . --grid 2")[0] == 0
    assert json.loads((here / "al/path.json").read_text())["corpus"] == "texts"


def test_rounding_is_measured_on_the_samples_of_the_path_only_where_they_are_the_same(
    here: Path, run: Callable[..., Outcome]
) -> None:
    """Another corpus may have the same last name."""
    text = (here / "text.txt").read_text()
    (here / "other").mkdir()
    (here / "other/text.txt").write_text(text[::-1])
    assert run("match a b --method naive --out al")[0] == 0
    assert run("path al --data text.txt --limit 3 --grid 2")[0] == 0
    assert "(3 samples of text.txt)" in run("merge al --dtype bfloat16 --data text.txt --out m1")[1]
    out = run("merge al --dtype bfloat16 --data other/text.txt --out m2")[1]
    (changed,) = re.findall(r"^- rounding the weights to bfloat16 changes .*$", out, re.M)
    assert "3 samples" not in changed


def test_a_path_is_of_the_alignment_that_was_read(
    here: Path, run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one that is put into its place meanwhile does not get its numbers."""
    for method in ("naive", "weights"):
        assert run(f"match a b --method {method} --out {method}")[0] == 0
    path = lmc.evaluation.path

    def replaced(*given: Any, **named: Any) -> Any:
        shutil.rmtree("naive")
        shutil.copytree("weights", "naive")
        return path(*given, **named)

    monkeypatch.setattr(lmc.evaluation, "path", replaced)
    assert run("path naive --data text.txt --limit 8 --grid 2")[0] == 0
    code, out, _ = run("verify naive")
    assert code == 1 and "measured on another alignment" in out


def test_what_measures_nothing_is_said(here: Path, run: Callable[..., Outcome]) -> None:
    assert run("match a b --method naive --out al")[0] == 0
    code, _, err = run("merge al --data text.txt --out m")
    assert code == 0 and "warning: --data: not used, as float32 rounds nothing of these models" in err
    lmc.save(lmc.load("b", dtype=torch.float64), "double", tokenizer_from="b")
    assert run("match a double --method naive --out mixed")[0] == 0
    code, out, err = run("merge mixed --data text.txt --limit 4 --out n")  # what one of them holds is rounded
    assert code == 0 and "not used" not in err and "measuring what rounding to float32 costs on text.txt" in out
    assert "(one sample has no interval)" in run("path al --data text.txt --limit 1 --grid 2")[1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--json text.txt", "error: text.txt: lies in the data, text.txt, which it would change; choose another name"),
        ("--json a.txt", "error: a.txt: lies in the data, ., which it would change; choose another name"),
        ("--json ./x/../p.svg --plot p.svg", "error: --plot and --json: expected two files, found p.svg for both"),
    ],
)
def test_a_path_is_not_written_over_its_data(line: str, said: str, here: Path, run: Callable[..., Outcome]) -> None:
    (here / "x").mkdir()
    text = (here / "text.txt").read_text()
    assert run("match a b --method naive --out al")[0] == 0
    data = "." if "a.txt" in line else "text.txt"
    code, _, err = run(f"path al --data {data} --limit 8 --grid 2 {line}")
    assert code == 2 and err.startswith(said)
    assert run("path al --data . --limit 8 --grid 2 --json found.json")[0] == 0  # is no text
    assert (here / "text.txt").read_text() == text


def test_a_path_is_kept_though_nobody_reads_the_table(here: Path, run: Callable[..., Outcome]) -> None:
    assert run("match a b --method naive --out al")[0] == 0
    line = "path al --data text.txt --limit 8 --grid 2 --no-verify --json found.json"
    with open("/dev/full", "w") as full:
        process = subprocess.run([sys.executable, "-m", "lmc", *line.split()], cwd=here, stdout=full)
    assert process.returncode == 2 and json.loads((here / "found.json").read_text())["losses"]


def test_the_bare_command_shows_its_help(run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["lmc"])
    assert main() == 0


def test_a_killed_match_loses_at_most_the_steps_since_the_last_check(
    here: Path, run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL, which no program can handle: what is continued is the last whole state, and bit for bit the same run."""
    steps = 3 * descent.EVERY
    line = f"match a b --data text.txt --steps {steps} --batch 2 --limit 8 --out"
    process = lmc_process(f"{line} parts", here)
    state = here / "parts.partial" / "state.safetensors"
    until = time.monotonic() + 120
    while not state.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    kept = len(load_file(state)["losses"])
    assert kept >= descent.EVERY and kept % descent.EVERY == 0
    assert run(f"{line} whole")[0] == 0
    taken: list[int] = []
    advance = learned.Learner.advance

    def counted(self: learned.Learner, samples: Any) -> float:
        taken.append(self.step)
        return advance(self, samples)

    monkeypatch.setattr(learned.Learner, "advance", counted)
    assert run(f"{line} parts --resume")[0] == 0
    assert taken == list(range(kept, steps))  # nothing before the last check is computed again
    for file in ("transform-0.safetensors", "transform-1.safetensors"):
        once, twice = load_file(f"whole/{file}"), load_file(f"parts/{file}")
        assert all(torch.equal(t, twice[name]) for name, t in once.items())


def test_a_diverged_match_keeps_the_best_alignment(
    here: Path, run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = learned.Learner.gradients

    def failing(self: learned.Learner, batch: Any) -> Any:
        loss, found = gradients(self, batch)
        return (float("nan") if self.step == 55 else loss), found

    monkeypatch.setattr(learned.Learner, "gradients", failing)
    code, _, err = run("match a b --data text.txt --steps 60 --batch 2 --limit 8 --out aligned")
    assert code == 2
    assert err.count("\n") == 1
    assert (
        "loss is nan at step 55: lower the learning rate (0.01); the best alignment on the way is aligned.best" in err
    )
    assert not Path("aligned").exists()
    best = lmc.Alignment.load("aligned.best")
    assert len(best.log) == 55 and (best.record["corpus"], best.record["limit"]) == ("text.txt", 8)
    assert not Path("aligned.partial").exists()  # nothing that would keep the next try from starting
    assert "aligned.best2" in run("match a b --data text.txt --steps 60 --batch 2 --limit 8 --out aligned")[2]


def test_check_of_two_models_loads_none_that_learning_has_no_room_for(
    here: Path, run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their cosine is read a tensor at a time; what learning takes cannot be tried, and is not said."""
    whole = run("check a b")[1]
    monkeypatch.setattr(pairing, "installed", lambda: 5000)
    monkeypatch.setattr(checkpoints, "load", lambda *_: pytest.fail("a model was loaded"))
    code, out, _ = run("check a b")
    assert code == 0 and "and activations, more than the 5 kB of this machine" in out
    lines = [line for line in out.splitlines() if not line.startswith(("memory for", "disk", "time"))]
    assert set(lines) <= set(whole.splitlines()) and "time for matching" not in out


def test_any_two_of_several_models_are_compared(here: Path, run: Callable[..., Outcome]) -> None:
    shutil.copytree("b", "c")
    code, out, err = run("check a b c")
    assert code == 0 and out.count("|cosine| of the weights") == 3 and "|cosine| of the weights  1.000 (b, c)" in out
    assert err.count("warning:") == 1 and "b and c may share an initialisation" in err
    for method in ("weights", "activations"):
        code, _, err = run(f"match a b c --method {method} --data text.txt --limit 8 --out {method}")
        assert code == 0 and "b and c may share" in err.replace(f"{here.name}/", "")


def test_a_card_does_not_say_where_a_fine_tune_lies(here: Path, run: Callable[..., Outcome]) -> None:
    assert run("match a b --method naive --out al")[0] == 0
    tuned = lmc.load("a")
    with torch.no_grad():
        next(tuned.parameters()).mul_(1.01)
    lmc.save(tuned, "runs/3", tokenizer_from="a")
    code, card, _ = run(f"transport al {here / 'runs/3'} --out carried")
    assert code == 0 and "- tuned: runs/3 (" in card and str(here) not in card


def test_no_output_lies_in_the_folder_of_a_model(here: Path, run: Callable[..., Outcome]) -> None:
    assert run("match a b --method naive --out al")[0] == 0
    (here / "link").symlink_to("a")
    for line in ("merge al --out b/new", "transport al a --out b/new"):
        code, _, err = run(line)
        assert (code, err) == (2, "error: b/new: lies in the folder of a parent; choose another place\n")
    for line, out, model in (
        ("match a b --method naive --out a/al", "a/al", "a"),
        ("match a b --method naive --out link/al", "link/al", "a"),
        ("match link b --method naive --out a/x/al", "a/x/al", "link"),
        ("transport al a --out a/carried", "a/carried", "a"),
        ("convert a a/stock", "a/stock", "a"),
    ):
        code, _, err = run(line)
        assert (code, err) == (2, f"error: {out}: lies in the folder of a model, {model}; choose another place\n")
    assert run("match a b --method naive --out ab")[0] == 0


def test_a_list_of_figures_says_what_it_does_not_look_at(run: Callable[..., Outcome]) -> None:
    code, _, err = run("reproduce --list --profile gpu --jobs 3")
    assert (code, err) == (0, "warning: --profile, --jobs: not used beside --list\n")
