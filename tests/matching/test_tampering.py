"""An alignment that was damaged, or whose parents have changed, is refused in one line; nothing merges from it.

Every kind of damage is tried on every kind of space and every field. What only changes a file is caught by its digest;
so each is tried again with the digests written anew, as someone would who repairs the folder by hand.
"""

import copy
import functools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import lmc
from lmc import corpora
from lmc.checkpoints import require_written
from lmc.cli import main
from lmc.files import seal, sha256
from lmc.matching.folder import describe, fingerprint, signed
from lmc.symmetries import kinds, tolerance
from lmc.symmetries.groups import LARGEST, MEMBER, SMALLEST

FAMILIES = {"neox": {"vocab_size": 256}, "llama": {"vocab_size": 256}, "vit": {}}


def sheared(t: Tensor) -> Tensor:
    """No rotation any more, no complex number, no permutation; a matrix that can be inverted stays one."""
    if not t.is_floating_point():
        return t // 2
    return t + 3 * t.flip(-2) if t.shape[-1] > 1 else 2 * t


DAMAGE: dict[str, Callable[[Tensor], Tensor]] = {
    "tripled": lambda t: 3 * t,
    "zero": torch.zeros_like,
    "negative": lambda t: -1 - t.abs(),
    "huge": lambda t: t * 10**12,
    "not a number": lambda t: torch.full_like(t, float("nan")) if t.is_floating_point() else t * 0 + t.shape[-1],
    "sheared": sheared,
}
ANOTHER_ELEMENT = {  # what is damage to one group is an element of another: there the function stays
    "Invertible": {"tripled", "negative", "sheared"},
    "RotaryCommutant": {"tripled"},
    "Scale": {"tripled", "sheared"},
}


@pytest.fixture(scope="module", params=FAMILIES)
def aligned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models `a`, `b` and an alignment of them by weights."""
    folder = tmp_path_factory.mktemp(request.param)
    for seed, side in enumerate("ab"):
        model = getattr(pico, request.param)(seed, torch.float32, **FAMILIES[request.param])
        if request.param == "vit":
            model.pretrained_cfg.update(mean=(0.5,), std=(0.5,), crop_pct=1.0)
        lmc.save(model, folder / side)
        if request.param != "vit":
            corpora.byte_tokenizer().save_pretrained(folder / side)
    lmc.match(*(lmc.load(folder / side) for side in "ab"), method="weights").save(folder / "aligned")
    return folder


@pytest.fixture
def here(aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(aligned, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sign(folder: Path) -> None:
    """Write the digests anew."""
    edit(folder, lambda plain: plain.update(files={name: sha256(folder / name) for name in plain["files"]}))


def edit(folder: Path, change: Callable[[dict[str, Any]], object], resigned: bool = True) -> None:
    """Change the description; its own digest too, where it still has what goes into it."""
    plain = json.loads((folder / "alignment.json").read_text())
    change(plain)
    parents = plain["parents"]
    if resigned and isinstance(parents, list) and all(isinstance(p, dict) for p in parents):
        plain = signed(plain)
    (folder / "alignment.json").write_text(json.dumps(plain))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """`lmc merge` says one line with these words, exits with 2, and leaves nothing."""
    capsys.readouterr()
    before = sorted(p.name for p in Path.cwd().iterdir())
    assert main(["merge", "aligned", "--out", "merged"]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: ") and "\n" not in line and len(line) < 1024, line
    assert all(word in line for word in words), line
    assert sorted(p.name for p in Path.cwd().iterdir()) == before
    return line


def spaces(folder: Path) -> list[str]:
    """One space of each kind."""
    spec = lmc.Transform.load(folder / "aligned/transform-1.safetensors").spec
    return [next(s.name for s in spec.spaces if spec.kind(s.name) == kind) for kind in kinds(spec)]


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_damaged_map_is_refused(here: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = here / "aligned/transform-1.safetensors"
    sound = load_file(file)
    spec = lmc.Transform.load(file).spec
    for name in spaces(here):
        save_file({**sound, name: DAMAGE[damage](sound[name]).contiguous()}, file)
        refused(capsys, "transform-1.safetensors", "sha256")
        sign(here / "aligned")
        if damage in ANOTHER_ELEMENT.get(type(spec.space(name).group).__name__, ()):
            assert main(["merge", "aligned", "--out", "merged"]) == 0
            shutil.rmtree("merged")
        else:
            refused(capsys, "transform-1.safetensors", f"space {name}: expected")


def test_another_element_of_the_group_is_another_alignment(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It merges only where its digests were written anew, and then into models with the parents' functions."""
    file = here / "aligned/transform-1.safetensors"
    spec = lmc.Transform.load(file).spec
    lmc.Transform.random(spec, seed=5).write(file)
    refused(capsys, "transform-1.safetensors", "sha256")
    sign(here / "aligned")
    assert main(["merge", "aligned", "--out", "merged"]) == 0


def test_exchanged_transforms_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (here / f"aligned/transform-{k}.safetensors" for k in (0, 1))
    first.rename(here / "kept")
    second.rename(first)
    (here / "kept").rename(second)
    refused(capsys, "transform-0.safetensors", "sha256")


@pytest.mark.parametrize("name", ["transform-0.safetensors", "transform-1.json", "log.jsonl"])
@pytest.mark.parametrize("how", ["gone", "empty", "longer", "a link"])
def test_every_file_is_watched(here: Path, name: str, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = here / "aligned" / name
    content = file.read_bytes()
    file.unlink()
    if how == "a link":
        (here / "elsewhere").write_bytes(content)
        file.symlink_to(here / "elsewhere")
    elif how != "gone":
        file.write_bytes(b"" if how == "empty" else content + b"\n")
    if how == "empty" and not content:  # the log of a match that learned nothing
        return
    refused(capsys, name)


# Of a parent: what it is called, where it is looked for, and what may change.
SAID = ("name", "folder", "configuration", "generation settings")


def places(value: object, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where every field and every element of a JSON value stands, at any depth."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inside:
        yield (*at, key)
        yield from places(below, (*at, key))


GONE = "no such field"


def others(value: object) -> list[Any]:
    """What a field may be changed into: another value of its kind, another kind, and nothing."""
    if isinstance(value, bool) or value is None:
        return [3, GONE]
    if isinstance(value, str):
        return [value + "x", 3, GONE]
    if isinstance(value, int | float):
        return [value + 1, "x", GONE]
    return [{}, [], 3, GONE]


def changed(plain: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """A JSON object with one field or element changed, for each of them and each change; and where it was changed."""
    for place in places(plain):
        *above, last = place
        for other in others(functools.reduce(lambda found, key: found[key], place, plain)):
            copied: Any = copy.deepcopy(plain)
            holder = functools.reduce(lambda found, key: found[key], above, copied)
            if other == GONE:
                del holder[last]
            elif holder[last] == other:
                continue
            else:
                holder[last] = other
            yield place, copied


def test_every_field_of_the_description_is_bound(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """But for where a parent is and what it is called, which may change; then its weights are looked for there."""
    file = here / "aligned/alignment.json"
    sound, tried = json.loads(file.read_text()), set()
    for place, plain in changed(sound):
        file.write_text(json.dumps(plain))
        parent = plain["parents"][place[1]] if len(place) == 3 and place[0] == "parents" else {}
        renamed = place[-1] == "name" and isinstance(parent.get("name"), str)
        if renamed or (place[-1] == "folder" and "folder" not in parent):  # then it is looked for by its name
            assert describe(here / "aligned") == plain
        else:
            refused(capsys, "aligned")
        tried.add(place[0])
    assert tried == sound.keys()


@pytest.mark.filterwarnings("default")
def test_every_field_that_was_changed_and_signed_is_refused_or_only_told(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who signs anew may say what he likes of how it was made. What merging reads is held against the files."""
    file, told = here / "aligned/alignment.json", set()
    for place, plain in changed(json.loads(file.read_text())):
        parents = plain.get("parents")
        if place != ("sha256",) and isinstance(parents, list) and all(isinstance(p, dict) for p in parents):
            plain = signed(plain)
        file.write_text(json.dumps(plain))
        try:
            describe(here / "aligned")
        except lmc.CheckpointError as error:
            assert "aligned/alignment.json: " in str(error) and "\n" not in str(error)
        else:
            if place[0] == "files" or (place[0] == "parents" and place[-1] not in (*SAID, "belongings")):
                refused(capsys, "aligned")
            else:
                told.add(place[0])
    assert told == {"parents", "record", "versions"}


def test_every_field_of_a_transform_is_held_against_the_others(here: Path) -> None:
    file = here / "aligned/transform-1.json"
    sound, spec = json.loads(file.read_text()), lmc.Transform.load(here / "aligned/transform-1.safetensors").spec
    for place, plain in changed(sound):
        file.write_text(json.dumps(plain))
        try:
            found = lmc.Transform.load(file.with_suffix(".safetensors")).spec
        except lmc.CheckpointError as error:
            assert "aligned/transform-1" in str(error) and "\n" not in str(error)
        else:  # another table, which that of the parents refuses; or one that leaves out what goes without saying
            assert place[0] == "spec" and (found != spec or plain["spec"].keys() <= sound["spec"].keys())


def test_every_field_of_a_measured_path_is_bound(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = here / "aligned/path.json"
    measured = lmc.PathResult((0.0, 0.5, 1.0), (1.0, 2.0, 1.5), (0.5, 0.4, 0.5), 0.75, (0.5, 1.0), 1.0, "nats", 8)
    replace(measured, corpus="embedded", alignment=fingerprint(here / "aligned")).to_json(file)
    for place, plain in changed(json.loads(file.read_text())):
        file.write_text(json.dumps(plain))
        refused(capsys, "path.json", "lmc path")
        file.write_text(json.dumps(plain | {"sha256": seal(plain)}))
        try:
            found = lmc.PathResult.from_json(file)
        except lmc.CheckpointError as error:
            assert "path.json" in str(error) and "\n" not in str(error)
        else:
            assert len(place) < 2 or all(isinstance(x, float) for x in found.losses)


def test_every_field_of_a_written_model_is_bound(here: Path) -> None:
    """And every file beside it, but for its card and what is hidden."""
    lmc.Alignment.load(here / "aligned").export(here / "merged", at=0.5)
    file = here / "merged/lmc.json"
    sound = json.loads(file.read_text())
    assert require_written(here / "merged") == len(sound["files"]) >= 2
    for _, plain in changed(sound):
        file.write_text(json.dumps(plain))
        with pytest.raises(lmc.CheckpointError, match=f"{here}/merged/"):
            require_written(here / "merged")
    file.write_text(json.dumps(sound))
    for name in (*sound["files"], "chat_template.jinja", "model.safetensors.index.json"):
        content = (here / "merged" / name).read_bytes() if name in sound["files"] else None
        (here / "merged" / name).write_bytes((content or b"") + b" ")
        with pytest.raises(lmc.CheckpointError, match=re.escape(f"{here}/merged/{name}")):
            require_written(here / "merged")
        (here / "merged" / name).write_bytes(content) if content else (here / "merged" / name).unlink()
    for free in ("README.md", ".gitattributes"):
        (here / "merged" / free).write_text("edited")
    assert require_written(here / "merged") == len(sound["files"])


def test_a_written_model_without_its_record_is_not_proven(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a/lmc.json").unlink()
    assert main(["verify", "a"]) == 1
    (row,) = [x for x in capsys.readouterr().out.splitlines() if " NO " in x]
    assert row.startswith("files") and "a/lmc.json: not found, so nothing proves what this folder holds" in row


UNSEEN: dict[str, Callable[[dict[str, Any]], object]] = {  # changes of which the ends of the path tell nothing
    "another method": lambda plain: plain.update(method="canonical"),
    "parents in another order": lambda plain: plain["parents"].reverse(),
    "another record": lambda plain: plain["record"].update(seed=7),
    "no digest": lambda plain: plain.pop("sha256"),
    "a digest of something else": lambda plain: plain.update(sha256="0" * 64),
}


@pytest.mark.parametrize("change", UNSEEN)
def test_a_description_that_was_changed_by_hand_is_refused(
    here: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(here / "aligned", UNSEEN[change], resigned=False)
    refused(capsys, "alignment.json: sha256", "match the models again")


def test_a_parent_that_was_moved_may_be_given_its_place(here: Path) -> None:
    (here / "a").rename(here / "elsewhere")
    edit(here / "aligned", lambda plain: plain["parents"][0].update(folder="../elsewhere"), resigned=False)
    assert main(["merge", "aligned", "--out", "merged"]) == 0


def test_a_parent_inside_the_folder_is_inside(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = lmc.load(here / "b")
    next(model.parameters()).data.mul_(1.5)
    shutil.rmtree(here / "aligned")
    lmc.match(lmc.load(here / "a"), model, method="canonical").save(here / "aligned")
    assert main(["merge", "aligned", "--out", "merged"]) == 0
    shutil.rmtree(here / "merged")
    for place in ("../a", str(here / "a"), "parent-1/../../a", "parent-x"):
        edit(here / "aligned", lambda plain, place=place: plain["parents"][1].update(inside=place))
        refused(capsys, "aligned", "expected a parent's name, dtype and sha256")
    edit(here / "aligned", lambda plain: plain["parents"][1].update(inside="parent-1"))
    weights = here / "aligned/parent-1/model.safetensors"
    shutil.copyfile(here / "a/model.safetensors", weights)
    refused(capsys, "parent-1", "sha256")
    shutil.rmtree(here / "aligned/parent-1")
    (here / "aligned/parent-1").symlink_to(here / "b")
    refused(capsys, "aligned", "expected a parent's name, dtype and sha256")


def test_a_parent_of_other_weights_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copyfile(here / "b/model.safetensors", here / "a/model.safetensors")
    refused(capsys, "a/model.safetensors", "sha256", "match again")


def test_a_parent_of_other_settings_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = here / "a/config.json"
    plain = json.loads(file.read_text())
    changes: dict[str, Any] = {"rms_norm_eps": 0.1, "layer_norm_eps": 0.1, "hidden_act": "relu"}
    known = {key: value for key, value in changes.items() if key in plain}
    if not known:
        plain["model_args"] = plain["model_args"] | {"act_layer": "relu"}
        known = {"model_args": plain["model_args"]}
    for key, value in known.items():
        file.write_text(json.dumps(plain | {key: value}))
        refused(capsys, str(here / "a"), "settings", "match again")


def test_pictures_that_become_another_input_are_noticed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in "ab":  # both alike, so that the pair still fits
        file = here / side / "config.json"
        plain = json.loads(file.read_text())
        if "pretrained_cfg" not in plain:
            return
        plain["pretrained_cfg"]["std"] = [0.25]
        file.write_text(json.dumps(plain))
    refused(capsys, "settings", "match again")


def test_text_that_is_read_or_written_in_another_way_is_noticed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A change of every part of a tokenizer's files, in both parents alike: the pair fits, and is another one."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if not (here / "a" / name).exists():  # a model that reads pictures
            return
        sound = json.loads((here / "a" / name).read_text())
        for part in sound:
            plain = sound | {part: [sound[part]]} if part != "model" else json.loads(json.dumps(sound))
            if part == "model":
                one, other, *_ = ids = plain["model"]["vocab"]
                ids[one], ids[other] = ids[other], ids[one]
            for side in "ab":
                (here / side / name).write_text(json.dumps(plain))
            refused(capsys, "aligned: its parent a")
        for side in "ab":
            (here / side / name).write_text(json.dumps(sound))


@pytest.mark.filterwarnings("default")
def test_what_only_concerns_use_may_change_and_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stop tokens and chat templates are no part of what was measured: who merges gets them as they are now."""
    if not (here / "a/tokenizer.json").exists():
        return
    settings = here / "a/generation_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"eos_token_id": 7}))
    (here / "a/chat_template.jinja").write_text("{{ messages }}")
    assert main(["merge", "aligned", "--out", "merged"]) == 0
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("warning:")]
    assert "a: chat templates, generation settings: not as when the models were matched" in line
    assert json.loads((here / "merged/generation_config.json").read_text())["eos_token_id"] == 7
    assert (here / "merged/chat_template.jinja").read_text() == "{{ messages }}"


def test_the_ends_are_computed_and_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", "aligned", "--out", "merged"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("the ends of the path")]
    assert float(line.split(" differ by ")[1].split()[0]) < 1e-5
    assert main(["merge", "aligned", "--out", "again", "--no-verify"]) == 0
    assert "the ends of the path" not in capsys.readouterr().out


def test_a_path_of_another_alignment_is_not_quoted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = "digits" if not (here / "a/tokenizer.json").exists() else "embedded"
    assert main(["path", "aligned", "--data", data, "--grid", "3", "--limit", "8"]) == 0
    assert main(["merge", "aligned", "--out", "one"]) == 0
    assert "barrier of the path" in (here / "one/README.md").read_text()
    edit(here / "aligned", lambda plain: plain["record"].update(note="changed"))
    capsys.readouterr()
    assert main(["merge", "aligned", "--out", "other"]) == 0
    assert "measured on another alignment" in capsys.readouterr().err
    assert "barrier of the path" not in (here / "other/README.md").read_text()


def test_verify_says_what_holds_and_what_does_not(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "aligned"]) == 0
    table = capsys.readouterr().out
    assert " NO " not in table and all(word in table for word in ("files", "maps", "parents", "λ at parent 1"))
    assert main(["merge", "aligned", "--out", "merged"]) == 0
    assert main(["verify", "merged"]) == 0
    capsys.readouterr()
    shutil.copyfile(here / "b/model.safetensors", here / "a/model.safetensors")
    assert main(["verify", "aligned"]) == 1
    (row,) = [x for x in capsys.readouterr().out.splitlines() if " NO " in x]
    assert row.startswith("parents") and "sha256" in row
    assert main(["verify", "nowhere"]) == 2


def test_the_book_states_the_tolerances() -> None:
    text = (Path(__file__).parents[2] / "book/special_cases.md").read_text()
    stated = text[text.index("A map counts as") : text.index("A folder with a model")]
    tolerances = [tolerance(t) for t in (torch.float32, torch.float64, torch.float16, torch.bfloat16)]
    assert re.findall(r"1e[+-]\d+|5e-\d+", stated) == [f"{x:.0e}" for x in (MEMBER, SMALLEST, LARGEST, *tolerances)]


EXPORTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "one too many": (lambda f: shutil.copytree(f / "endpoint-0", f / "endpoint-7"), "models/endpoint-7 "),
    "an odd name": (lambda f: (f / "endpoint-\x1b[31m").mkdir(), "models/endpoint-\\x1b[31m "),
    "a folder of something else": (lambda f: (f / "merged").mkdir(), "models/merged "),
    "a mergekit file that was edited": (
        lambda f: (f / "mergekit-linear.yml").write_text(
            (f / "mergekit-linear.yml").read_text().replace("0.5", "0.9", 1)
        ),
        "models/mergekit-linear.yml ",
    ),
    "one too few": (lambda f: shutil.rmtree(f / "endpoint-1"), "models/endpoint-1: alignment "),
    "those of another alignment": (
        lambda f: (
            shutil.rmtree(f),
            lmc.match(lmc.load("a"), lmc.load("b"), method="weights").export(f),
        ),
        "models/endpoint-1: alignment ",
    ),
    "the parent as it was": (
        lambda f: (shutil.rmtree(f / "endpoint-0"), lmc.save(lmc.load("a"), f / "endpoint-0")),
        "models/endpoint-0: alignment ",
    ),
    "no settings": (lambda f: (f / "endpoint-1/config.json").unlink(), "models/endpoint-1: checkpoint "),
    "another model": (
        lambda f: (
            shutil.rmtree(f / "endpoint-1"),
            lmc.save(pico.qwen2(0, torch.float32, vocab_size=50), f / "endpoint-1"),
        ),
        "models/endpoint-1: stock reload ",
    ),
    "the other one": (
        lambda f: (shutil.rmtree(f / "endpoint-1"), shutil.copytree(f / "endpoint-0", f / "endpoint-1")),
        "models/endpoint-1: stock reload ",
    ),
}


@pytest.mark.parametrize("what", EXPORTED)
def test_exported_models_are_those_of_the_alignment(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, side in enumerate("ab"):
        lmc.save(pico.llama(seed, torch.float32), side)
    assert main(["match", "a", "b", "--method", "canonical", "--out", "aligned", "--export"]) == 0
    assert main(["verify", "aligned"]) == 0
    capsys.readouterr()
    EXPORTED[what][0](Path("aligned/models"))
    assert main(["verify", "aligned"]) == 1
    found = [line for line in capsys.readouterr().out.splitlines() if " NO " in line]
    assert found and any(line.startswith(EXPORTED[what][1]) for line in found), found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_a_lower_type_are_held_to_their_rounding(dtype: torch.dtype, tmp_path: Path) -> None:
    for seed in (0, 1):
        lmc.save(pico.neox(seed, torch.float32), tmp_path / str(seed))
    alignment = lmc.match(*(lmc.load(tmp_path / str(seed)) for seed in (0, 1)), method="canonical")
    alignment.save(tmp_path / "aligned")
    alignment.export(tmp_path / "aligned/models", dtype=dtype)
    file = tmp_path / "aligned/models/endpoint-1/model.safetensors"
    tensors = load_file(file)
    weight = max(tensors.values(), key=Tensor.numel)

    def held() -> bool:
        rows = lmc.matching.verify(tmp_path / "aligned").rows
        return next(row.holds for row in rows if row.what == "models/endpoint-1: alignment")

    assert held()
    weight.view(-1)[0] += 0.03 * weight.abs().max()  # by which a logit of bfloat16 may change
    save_file(tensors, file, metadata={"format": "pt"})
    assert not held()
