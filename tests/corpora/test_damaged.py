"""What is damaged, packed in other ways or called by other names is read whole, or said: never read in part."""

import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pico
import pytest
import torch
from PIL import Image
from transformers.image_utils import load_image

from lmc import corpora
from lmc.corpora import pictures
from lmc.errors import DataError


def picture(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(path)


def archive(file: Path, *names: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    shown = io.BytesIO()
    Image.new("L", (8, 8)).save(shown, "PNG")
    with tarfile.open(file, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(shown.getvalue())
            tar.addfile(member, io.BytesIO(shown.getvalue()))


def test_an_archive_whose_headers_are_damaged_is_not_read_up_to_there(tmp_path: Path) -> None:
    whole = tmp_path / "x/all.tar"
    archive(whole, *(f"cat/{i}.png" for i in range(10)))
    assert len(pictures.read(str(tmp_path / "x"), "train").labels) == 9
    content = bytearray(whole.read_bytes())
    with tarfile.open(whole) as tar:
        place = tar.getmembers()[5].offset
    other, cut = content[:place] + b"?" + content[place + 1 :], content[: place + 100]
    zeros = content[:place] + bytes(512) + content[place + 512 :]
    for change in (other, cut, content[:place], zeros):
        whole.write_bytes(change)
        with pytest.raises(DataError, match=rf"all\.tar': the archive cannot be read \(.* at byte {place:,}\)"):
            pictures.read(str(tmp_path / "x"), "train")
    whole.write_bytes(content + content)
    with pytest.raises(DataError, match=r"the archive cannot be read \(more behind the end at byte"):
        pictures.read(str(tmp_path / "x"), "train")


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress])
def test_packed_archives_are_read_whole_or_not_at_all(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    archive(tmp_path / "all.tar", *(f"cat/{i}.png" for i in range(10)))
    content = (tmp_path / "all.tar").read_bytes()
    suffix = "xz" if pack is lzma.compress else "gz"
    file = tmp_path / f"x/all.tar.{suffix}"
    file.parent.mkdir()
    first, second = pack(content[:3000]), pack(content[3000:])
    file.write_bytes(first + second)
    assert len(pictures.read(str(tmp_path / "x"), "train").labels) == 9
    for damaged in (first + b"?" + second[1:], first, (first + second)[:-10]):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"all\.tar\..z': the archive cannot be read"):
            pictures.read(str(tmp_path / "x"), "train")


@pytest.mark.parametrize("apart", [b"", b"\0" * 8, b"\0" * 2**17])  # streams may stand apart
def test_a_packed_text_of_several_streams_is_read_whole(apart: bytes, tmp_path: Path) -> None:
    parts = ["".join(f"{word} {i}\n" for i in range(20_000)) for word in ("ähnlich", "more")]
    first, second = (lzma.compress(part.encode()) for part in parts)
    (tmp_path / "a.txt.xz").write_bytes(first + apart + second + apart)
    assert corpora.text(str(tmp_path), "match") + corpora.text(str(tmp_path), "eval") == "".join(parts)


@pytest.mark.parametrize("cut", [lambda x: b"?" + x[1:], lambda x: x[:-20], lambda x: x[:40]])
def test_a_packed_text_that_is_damaged_is_not_read_up_to_there(cut: object, tmp_path: Path) -> None:
    first, second = (lzma.compress(f"{word}\n".encode() * 1000) for word in ("words", "more"))
    (tmp_path / "a.txt.xz").write_bytes(first + cut(second))  # type: ignore[operator]
    with pytest.raises(DataError, match=r"a\.txt\.xz': cannot be read as UTF-8 text"):
        corpora.text(str(tmp_path), "match")


def test_links_in_an_archive_are_said(tmp_path: Path) -> None:
    picture(tmp_path / "cat/0.png")
    (tmp_path / "cat/1.png").hardlink_to(tmp_path / "cat/0.png")
    (tmp_path / "cat/2.png").symlink_to("0.png")
    (tmp_path / "x").mkdir()
    with tarfile.open(tmp_path / "x/all.tar", "w") as tar:
        tar.add(tmp_path / "cat", "cat")
    with pytest.warns(UserWarning, match=r"all\.tar': cat/[01]\.png and 1 more: a link, which is not read; pack with"):
        assert len(pictures.read(str(tmp_path / "x"), "train").labels) == 1


def test_pictures_of_other_kinds_in_an_archive_are_said(tmp_path: Path) -> None:
    archive(tmp_path / "x/all.tar", "cat/0.png", "cat/1.gif")
    with pytest.warns(UserWarning, match=r"all\.tar': cat/1\.gif: of a kind that is not read; save it as \.png"):
        assert len(pictures.read(str(tmp_path / "x"), "train").labels) == 1


def test_a_folder_called_as_a_corpus_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match=r"corpus 'digits': the one of that name, not the folder; that is \./digits"):
        assert corpora.kind("digits") == "images"


def test_texts_below_a_folder_make_no_pictures_of_it(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part/a.txt").write_text("words\n")
    with pytest.raises(DataError, match=r"its texts lie in folders below it \(part/a\.txt\): name one of them"):
        corpora.kind(str(tmp_path))


@pytest.mark.parametrize(("kind", "read"), [("PPM", True), ("TIFF", False)])
def test_kinds_of_pictures_that_are_not_read_are_named(kind: str, read: bool, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / f"0.{kind.lower()}")
    given = {"size": 8, "mean": (0.5,), "std": (0.5,)}
    if read:
        assert len(corpora.images(str(tmp_path), "train", **given)[1]) == 2  # type: ignore[arg-type]
        return
    with pytest.raises(DataError, match=r"cannot be read: expected JPEG, PNG, .* found none; save it as \.png"):
        corpora.images(str(tmp_path), "train", **given)  # type: ignore[arg-type]


def test_a_folder_of_a_class_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pictures would be left out."""
    for name in ("cat/more/0.png", "cat/1.png", "dog/2.png"):
        picture(tmp_path / name)
    scandir = os.scandir

    def denied(path: Any = ".") -> Any:
        if os.fspath(path).endswith("more"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match=r"cat/more': cannot be read \(Permission denied\); get the right to read it"):
        pictures.read(str(tmp_path), "train")


def test_pictures_that_a_camera_marked_as_turned_are_read_as_their_library_opens_them(tmp_path: Path) -> None:
    (tmp_path / "ant").mkdir()
    for number in range(10):
        mark = Image.Exif()
        mark[0x0112] = 6
        pixels = np.random.RandomState(number).randint(256, size=(8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "ant" / f"{number}.png", exif=mark)
    options: Any = {"size": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    with pytest.warns(UserWarning, match="9 of 9 pictures are marked as turned and read as they are stored, as timm"):
        stored, _ = corpora.images(str(tmp_path), "match", **options)
    seen, _ = corpora.images(str(tmp_path), "match", stock="transformers", **options)
    assert torch.equal(seen, stored.rot90(-1, (2, 3)))
    opened = [np.asarray(load_image(str(path))) for path in (tmp_path / "ant").iterdir()]
    assert any(np.allclose(seen[0].permute(1, 2, 0) / 2 + 0.5, pixels / 255, atol=1e-6) for pixels in opened)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_pictures_that_are_transparent_are_said(mode: str, tmp_path: Path) -> None:
    (tmp_path / "ant").mkdir()
    for k in range(10):
        image = Image.new("RGBA", (8, 8), (100, 10, 10, 255))
        if k % 2:
            image.putpixel((0, 0), (0, 0, 0, 0))
        image.convert(mode).save(tmp_path / f"ant/{k}.png", **({"transparency": 0} if mode == "P" and k % 2 else {}))
    given: dict[str, Any] = {"size": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    if mode == "RGB":
        corpora.images(str(tmp_path), "train", **given)
        return
    with pytest.warns(UserWarning, match=r"of 9 pictures are transparent in places, and are read as if they were not;"):
        corpora.images(str(tmp_path), "train", **given)


def test_texts_of_a_kind_that_is_not_read_are_said_beside_others(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words\n" * 100)
    for name in ("c.txt.gz", "d.jsonl", "README.md", "notes.json", "readme.zip", ".hidden.gz"):
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"': c\.txt\.gz and 1 more is of a kind that is not read; save it as \.txt"):
        corpora.text(str(tmp_path), "match")


def test_parts_of_a_kind_that_is_not_read_are_said(tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text("words\n" * 100)
    for name in ("train.txt.gz", "train.json", "train_results.json", "test_notes.csv", "notes.json"):
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"': train\.json and 1 more is of a kind that is not read; save it as \.txt"):
        corpora.text(str(tmp_path), "match")


def test_an_archive_that_is_called_by_no_part_is_said(tmp_path: Path) -> None:
    archive(tmp_path / "x/train_0.tar", "cat/0.png")
    archive(tmp_path / "x/val.tar", "cat/1.png")
    archive(tmp_path / "x/more.tar", "cat/2.png")
    with pytest.warns(UserWarning, match=r"train_0\.tar is called as a part of a corpus, so more\.tar is not read"):
        assert len(pictures.read(str(tmp_path / "x"), "match").labels) == 1


def test_pictures_named_by_their_class_are_of_the_same_classes_in_every_part(tmp_path: Path) -> None:
    for name in ("train/cat_0", "train/dog_0", "val/cat_0", "val/ant_0"):
        picture(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match=r"expected the same classes in (train|val) and (train|val), found ant in only"):
        pictures.read(str(tmp_path), "match")


def test_a_list_of_words_beside_parts_makes_no_text_of_pictures(tmp_path: Path) -> None:
    for part in ("train", "val"):
        picture(tmp_path / part / "n01443537/images/n01443537_0.png")
    (tmp_path / "words.txt").write_text("n01443537\tgoldfish\n")
    assert corpora.kind(str(tmp_path)) == "images"
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("words\n")
    assert corpora.kind(str(tmp_path)) == "text"


@pytest.mark.parametrize(
    "names", [("trainset", "testset"), ("train_images", "valimages"), ("trainData", "testDataset")]
)
def test_parts_by_longer_names_are_no_classes(names: tuple[str, str], tmp_path: Path) -> None:
    for name in names:
        picture(tmp_path / name / "cat/0.png")
    with pytest.raises(DataError, match=r"expected classes, found .* and .*; call them train and val"):
        pictures.read(str(tmp_path), "match")


def test_classes_that_are_numbers_stand_in_the_order_of_words(tmp_path: Path) -> None:
    for k in range(11):
        for i in range(2):
            picture(tmp_path / str(k) / f"{i}.png")
    model = pico.hf_vit(dtype=torch.float32, num_labels=11)
    model.preprocessor_config = {"image_mean": [0.0], "image_std": [1.0], "size": 8}
    with pytest.warns(UserWarning, match="in the order of words, and so class 10 is number 2: is it the model's"):
        corpora.load(str(tmp_path), model, "match")
    model.config.id2label = {k: str(k) for k in range(11)}
    _, labels = corpora.load(str(tmp_path), model, "match")
    assert int(labels.max()) == 10
