"""Corpora: what the embedded text is made of, splits that share nothing, folders, archives, the hub, refusals."""

import importlib.util
import io
import lzma
import os
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pico
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from lmc import cli, corpora
from lmc.corpora import docstrings, pictures, texts
from lmc.corpora.corpus import SPLITS
from lmc.corpora.encoding import BARE, encode
from lmc.corpora.names import NAMES
from lmc.errors import ArgumentError, DataError

TRUE_DATA = Path(os.environ.get("LMC_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
GREY = {"size": 8, "mean": (0.5,), "std": (0.5,)}
COLOUR = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def true_data(name: str) -> str:
    if not (TRUE_DATA / name).exists():
        pytest.skip(f"no {name} in {TRUE_DATA}; LMC_TEST_DATA names the folder that has it")
    return str(TRUE_DATA / name)


@pytest.fixture(scope="module")
def tokenizer():
    return corpora.byte_tokenizer()


# The embedded text


def overlap(text: str, other: str, n: int = 12) -> float:
    """The share of a text's groups of n words, within its lines, that also occur in the other text."""

    def groups(content: str) -> list[tuple[str, ...]]:
        lines = (re.findall(r"\w+", line.lower()) for line in content.splitlines())
        return [tuple(words[start : start + n]) for words in lines for start in range(len(words) - n + 1)]

    found, shared = groups(text), set(groups(other))
    return sum(group in shared for group in found) / max(len(found), 1)


def test_evaluation_text_hardly_overlaps_with_what_models_have_seen():
    held_out, train, match = (docstrings.read(split) for split in ("eval", "train", "match"))
    assert overlap(held_out, train) <= 0.03
    assert overlap(held_out, match) <= 0.03
    lines = held_out.splitlines()
    halves = "\n".join(lines[::4]), "\n".join(lines[2::4])  # every other paragraph: the split that was not made
    assert overlap(*halves) > 10 * overlap(held_out, train)


def test_no_paragraph_is_in_two_splits_or_twice_in_one():
    paragraphs = {split: docstrings.read(split).split("\n\n") for split in SPLITS}
    for split in SPLITS:
        assert len(set(paragraphs[split])) == len(paragraphs[split]) > 5000
    assert not set(paragraphs["train"]) & set(paragraphs["eval"])
    assert not set(paragraphs["match"]) & (set(paragraphs["train"]) | set(paragraphs["eval"]))


def test_paragraphs_are_prose_on_one_line():
    doc = """Title of a function that sums things up.

    Notes
    -----
    A paragraph that goes on
    over two lines, as they do.

    >>> and_a_session_of_the_interpreter_that_is_long()

    0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0 1.1 1.2 1.3

    Too short."""
    assert list(docstrings.paragraphs(doc)) == [
        "Title of a function that sums things up.",
        "Notes A paragraph that goes on over two lines, as they do.",
    ]


def test_the_text_is_cached_whole_and_rebuilt_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    small = {"train": (("tqdm", "tqdm"),), "match": (("safetensors", "safetensors"),), "eval": (("packaging",) * 2,)}
    monkeypatch.setattr(docstrings, "SPLITS", small)
    built = docstrings.build()
    assert [docstrings.read(split) for split in small] == [built[split] for split in small]
    (cached,) = (tmp_path / "lmc").iterdir()
    assert sorted(path.name for path in cached.iterdir()) == ["eval.txt", "match.txt", "train.txt"]
    (cached / "eval.txt").unlink()
    assert docstrings.read("eval") == built["eval"]
    monkeypatch.setattr(docstrings, "build", lambda: pytest.fail("the cache was not used"))
    assert docstrings.read("train") == built["train"]


def test_a_missing_package_is_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pandas" else found(name))
    with pytest.raises(DataError, match=r"'pandas' is not installed; .* pandas, matplotlib, scikit-learn"):
        docstrings.read("eval")


# Tokens


def test_a_byte_token_is_the_byte(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    text = "naïve — \x00\n\t  ’n’  \U0001f600 don't <s>"
    tokenizer.save_pretrained(tmp_path)
    for stock in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert stock(text).input_ids == list(text.encode())
        assert stock.decode(stock(text).input_ids) == text
        assert len(stock) == 256


def test_windows_tile_the_text_without_overlap(tokenizer, tmp_path):
    (tmp_path / "text.txt").write_text("".join(f"line {i} of some text\n" for i in range(100)))
    text = corpora.text(str(tmp_path / "text.txt"), "match")
    windows = corpora.tokens(str(tmp_path / "text.txt"), "match", tokenizer, 32)
    assert windows.dtype == torch.int64
    assert bytes(windows.flatten().tolist()) == text.encode()[: len(text) // 32 * 32]
    drawn = corpora.tokens(str(tmp_path / "text.txt"), "match", tokenizer, 32, limit=9, seed=1)
    places = [windows.tolist().index(window) for window in drawn.tolist()]
    assert places == sorted(set(places)) and len(places) == 9 and places != list(range(9))
    assert torch.equal(drawn, corpora.tokens(str(tmp_path / "text.txt"), "match", tokenizer, 32, limit=9, seed=1))
    assert not torch.equal(drawn, corpora.tokens(str(tmp_path / "text.txt"), "match", tokenizer, 32, limit=9, seed=2))


def test_a_corpus_too_short_for_one_sequence_says_by_how_much(tokenizer, tmp_path):
    (tmp_path / "text.txt").write_text("short\n" * 2)
    with pytest.raises(DataError, match=r"\(match\) is too short: 12 tokens, but one sequence has 128"):
        corpora.tokens(str(tmp_path / "text.txt"), "match", tokenizer, 128)


# Text files and folders


def test_a_tokenizer_that_fails_is_named_in_one_line(tmp_path):
    class Broken:
        def __call__(self, *given, **named):
            raise Exception("WordPiece error:\nmissing [UNK] token")

        encode = __call__

    (tmp_path / "text.txt").write_text("words " * 400)
    with pytest.raises(DataError, match=r"tokenizer \(Broken\) cannot read it \(WordPiece error: missing") as caught:
        corpora.tokens(str(tmp_path / "text.txt"), "eval", Broken(), length=8)
    assert "\n" not in str(caught.value)


def test_a_text_file_keeps_its_last_tenth_for_evaluation(tmp_path):
    text = "".join(f"line {i}\n" for i in range(1000))
    with lzma.open(tmp_path / "text.txt.xz", "wt", encoding="utf-8") as file:
        file.write(text)
    match, held_out = (corpora.text(str(tmp_path / "text.txt.xz"), split) for split in ("match", "eval"))
    assert match + held_out == text
    assert 0.09 < len(held_out) / len(text) <= 0.1
    assert corpora.text(str(tmp_path), "match") == match  # the same in a folder of one


def test_files_named_after_splits_are_these_splits(tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text(f"this is {name}\n")
    assert [corpora.text(str(tmp_path), split) for split in SPLITS] == [
        "this is train\n",
        "this is train\n",
        "this is test\n",
    ]
    (tmp_path / "train.txt").unlink()
    assert corpora.text(str(tmp_path), "match") == "this is valid\n"
    with pytest.raises(DataError, match=r"\(train\): expected train\*.txt; found test.txt, valid.txt"):
        corpora.text(str(tmp_path), "train")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "text.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "text.txt.xz").write_bytes(b"not compressed")
    for name in ("text.txt", "text.txt.xz"):
        with pytest.raises(DataError, match="cannot be read as UTF-8 text"):
            corpora.text(str(tmp_path / name), "match")


def test_detokenised_text_reads_as_it_was_written():
    tokenised = (
        ' He said " it was n\'t Smith \'s 2 @.@ 5 @-@ mile , 1 @,@ 000 m ( 3 ft ) run ! " and left : " No . " \n'
    )
    assert texts.detokenise(tokenised) == (
        'He said "it wasn\'t Smith\'s 2.5-mile, 1,000 m (3 ft) run!" and left: "No."\n'
    )


TOKENISED = "The <unk> ran a 2 @-@ mile race . \n"


@pytest.mark.parametrize("whole", [True, False], ids=["one file", "a folder of parts"])
def test_wikitext_is_read_in_one_form_however_small_a_part_is(whole: bool, tmp_path: Path) -> None:
    """A part without one of the two marks is of the same corpus."""
    rest = "He ran , and won . \n"
    if whole:
        (tmp_path / "w.txt").write_text(TOKENISED * 40 + rest * 20)
    else:
        (tmp_path / "w.txt").mkdir()
        (tmp_path / "w.txt/train.txt").write_text(TOKENISED * 40)
        (tmp_path / "w.txt/eval.txt").write_text(rest * 5)
    corpus = str(tmp_path / "w.txt")
    for split, expected in {"match": "The <unk> ran a 2-mile race.\n", "eval": "He ran, and won.\n"}.items():
        if split == "eval":
            with pytest.warns(UserWarning, match="its part for eval is read as the rest is, without the spaces of"):
                name, text = texts.read(corpus, split)
        else:
            name, text = texts.read(corpus, split)
        assert name == "w-detokenised" and text.startswith(expected)


def test_wikitext_that_is_rewritten_is_said_and_text_that_cites_it_stays(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text(TOKENISED * 400)
    with pytest.warns(UserWarning, match="it is WikiText's tokenised form, and read without the spaces of that"):
        corpora.tokens(str(tmp_path / "w.txt"), "match", corpora.byte_tokenizer(), 16)
    cited = "Unknown words, or rare ones, are written as <unk> there, hyphens as @-@ instead.\n" * 40
    (tmp_path / "c.txt").write_text(cited)
    name, text = texts.read(str(tmp_path / "c.txt"), "match")
    assert name == "c" and cited.startswith(text) and len(text) > 2000


def test_text_in_two_bytes_a_letter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(("a line of text\n" * 100).encode("utf-16-le"))
    with pytest.raises(
        DataError, match=r"a\.txt': expected UTF-8, found a zero at every other place \(UTF-16\?\); save"
    ):
        texts.read(str(tmp_path / "a.txt"), "match")


def test_a_text_longer_than_matching_reads_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("a line of text\n" * 100)
    monkeypatch.setattr("lmc.corpora.corpus.MATCHING_TEXT", 640)
    with pytest.warns(UserWarning, match=r"of 1,365 characters the first 640 are read; give a part of it"):
        assert corpora.tokens(str(tmp_path / "a.txt"), "match", corpora.byte_tokenizer(), 64).shape == (10, 64)


def test_a_folder_whose_texts_are_all_for_training_serves_matching(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("learned\n" * 40)
    assert texts.read(str(tmp_path), "match")[1] == "learned\n" * 40
    with pytest.raises(DataError, match=r"\(eval\): expected eval\*\.txt"):
        texts.read(str(tmp_path), "eval")
    (tmp_path / "train.txt").rename(tmp_path / "test.txt")
    assert texts.read(str(tmp_path), "eval")[1] == "learned\n" * 40
    (tmp_path / "test.txt").rename(tmp_path / "valid.txt")  # which may serve both, so its end is held out
    parts = [texts.read(str(tmp_path), split)[1] for split in ("match", "eval")]
    assert "".join(parts) == "learned\n" * 40 and min(map(len, parts)) > 0


def test_texts_that_are_read_for_no_part_are_said(tmp_path: Path) -> None:
    """What begins as a part does, even by chance, is one; then the others are none."""
    for name in ("validity", "logic", "truth"):
        (tmp_path / f"{name}.txt").write_text(f"{name}\n" * 50)
    with pytest.warns(
        UserWarning, match=r"validity.txt is called as a part of a corpus, so logic.txt and 1 more is not"
    ):
        assert set(texts.read(str(tmp_path), "match")[1].split()) == {"validity"}
    for name in ("validity", "logic", "truth"):
        (tmp_path / f"{name}.txt").unlink()
    for name, words in {"traindata": "learned", "testdata": "held out", "valid": "between"}.items():
        (tmp_path / f"{name}.txt").write_text(words)
    (tmp_path / "README.txt").write_bytes("of a university: Universität".encode("latin-1"))  # which nothing reads
    assert [texts.read(str(tmp_path), split)[1] for split in ("match", "eval")] == ["learned", "held out"]


# Images


def test_digits_are_split_once_and_for_all():
    sets = {}
    for split in SPLITS:
        x, labels = corpora.images("digits", split, **GREY)
        assert (x.dtype, labels.dtype, x.shape[1:]) == (torch.float32, torch.int64, (1, 8, 8))
        assert labels.bincount(minlength=10).min() > 30
        sets[split] = x
    assert len(sets["eval"]) == 450 and len(sets["train"]) + 450 == 1797
    assert torch.equal(sets["train"], sets["match"])
    seen = {tuple(image.flatten().tolist()) for image in sets["train"]}
    assert not any(tuple(image.flatten().tolist()) in seen for image in sets["eval"])
    assert sets["train"].min() == -1 and sets["train"].max() == 1


def draw_image(seed: int, size: tuple[int, int] = (50, 40)) -> Image.Image:
    pixels = np.random.RandomState(seed).randint(256, size=(size[1] // 5, size[0] // 5, 3)).astype(np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def test_images_are_prepared_as_timm_does(tmp_path):
    from timm.data import create_transform

    for i, size in enumerate([(50, 40), (33, 65), (20, 21), (32, 32), (98, 49), (51, 17)]):
        (tmp_path / "eval" / f"class{i}").mkdir(parents=True)
        draw_image(i, size).save(tmp_path / "eval" / f"class{i}" / "image.png")
    for crop, interpolation, mode in (
        (0.9, "bicubic", "center"),
        (1.1, "bicubic", "center"),
        (1.0, "bilinear", "center"),
        (0.9, "bicubic", "squash"),
    ):
        options = {"crop": crop, "interpolation": interpolation, "squash": mode == "squash"}
        x, labels = corpora.images(str(tmp_path), "eval", 32, **COLOUR, **options)
        stock = create_transform((3, 32, 32), **COLOUR, crop_pct=crop, interpolation=interpolation, crop_mode=mode)
        for i, path in enumerate(sorted(tmp_path.rglob("*.png"))):
            assert torch.allclose(x[i], stock(Image.open(path)), atol=1e-6)
        assert labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_pictures_of_every_kind_that_torchvision_lists_are_seen(tmp_path: Path) -> None:
    kinds = ("jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp")
    (tmp_path / "ant").mkdir()
    for i, kind in enumerate(kinds):
        draw_image(i).convert("L" if kind == "pgm" else "RGB").save(tmp_path / "ant" / f"{i}.{kind}")
    found = pictures.read(str(tmp_path), "train").labels, pictures.read(str(tmp_path), "eval").labels
    assert sum(map(len, found)) == len(kinds)


def test_class_folders_with_and_without_parts(tmp_path):
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            folder = tmp_path / "parts" / part / name / "images"
            folder.mkdir(parents=True)
            for i in range(3):
                draw_image(i).save(folder / f"{i}.png")
    for split in SPLITS:
        found = pictures.read(str(tmp_path / "parts"), split)
        assert (found.classes, found.labels.tolist()) == (["ant", "bee"], [0, 0, 0, 1, 1, 1])
    (tmp_path / "parts" / "val").rename(tmp_path / "parts" / "other")
    with pytest.raises(DataError, match=r"\(eval\): expected eval or test or val; found train"):
        pictures.read(str(tmp_path / "parts"), "eval")
    whole = str(tmp_path / "parts" / "train")
    (tmp_path / "parts" / "train" / "ant" / "images" / "more").mkdir()
    for i in range(14):
        draw_image(i).save(tmp_path / "parts" / "train" / "ant" / "images" / "more" / f"{i}.png")
    assert [len(pictures.read(whole, split).labels) for split in SPLITS] == [18, 18, 2]


@pytest.mark.parametrize("flat", [False, True])
def test_archives_hold_the_same_pictures_as_folders(tmp_path, flat):
    for part, count in (("train", 6), ("test", 4)):
        with tarfile.open(tmp_path / f"{part}.tar.xz", "w:xz") as tar:
            for i in range(count):
                data = io.BytesIO()
                draw_image(i).save(data, "PNG")
                name = "ant" if i % 2 else "bee"
                member = tarfile.TarInfo(f"{name}_{i}.png" if flat else f"{part}/{name}/{i}.png")
                member.size = data.tell()
                data.seek(0)
                tar.addfile(member, data)
    found = pictures.read(str(tmp_path), "eval")
    assert (found.classes, found.labels.tolist()) == (["ant", "bee"], [1, 0, 1, 0])
    opened = list(found.open([1, 3]))
    assert [np.array_equal(image, draw_image(i)) for image, i in zip(opened, (1, 3), strict=True)] == [True, True]
    assert corpora.images(str(tmp_path), "match", 16, **COLOUR, limit=2)[0].shape == (2, 3, 16, 16)
    whole = (tmp_path / "test.tar.xz").read_bytes()
    (tmp_path / "test.tar.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"test.tar.xz': the archive cannot be read"):
        pictures.read(str(tmp_path), "eval")


def test_a_damaged_picture_is_named(tmp_path):
    (tmp_path / "ant").mkdir()
    for i in range(10):
        (tmp_path / "ant" / f"{i}.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"image '\d.png' cannot be read"):
        corpora.images(str(tmp_path), "eval", 8, **COLOUR)


def test_grey_of_16_bits_is_refused(tmp_path):
    """Pillow would cut it off at 255: nearly every picture became white, and was scored so."""
    (tmp_path / "ant").mkdir()
    for i in range(10):
        Image.fromarray(np.full((8, 8), 1000 * i, np.uint16)).save(tmp_path / "ant" / f"{i}.png")
    with pytest.raises(DataError, match=r"image '\d.png': expected 8 bits a channel, found I;16; save it with 8 bits"):
        corpora.images(str(tmp_path), "eval", 8, **COLOUR)


def test_a_part_in_other_letters_is_no_class(tmp_path):
    """Train/ and Test/ were two classes, and each split held pictures of both."""
    for part in ("Train", "Test"):
        for name in ("ant", "bee"):
            (tmp_path / part / name).mkdir(parents=True)
            draw_image(0).save(tmp_path / part / name / "0.png")
    with pytest.raises(DataError, match="expected classes, found the part Test; call it test"):
        pictures.read(str(tmp_path), "eval")


# The hub


def test_wikitext_joins_the_rows_of_the_raw_form(monkeypatch):
    asked = []

    def load_dataset(*name, split):
        asked.append((*name, split))
        return datasets.Dataset.from_dict({"text": ["", " = Title = \n", " A line . \n"]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert corpora.text("wikitext", "eval") == "\n\n = Title = \n\n\n A line . \n"
    corpora.text("wikitext", "match")
    assert asked == [("Salesforce/wikitext", "wikitext-103-raw-v1", split) for split in ("test", "train")]
    assert corpora.describe("wikitext", "eval")["corpus"] == "wikitext-103-raw-v1"


@pytest.mark.parametrize(("corpus", "column"), [("cifar10", "img"), ("imagenet", "image")])
def test_image_sets_of_the_hub(monkeypatch, corpus, column):
    features = datasets.Features({column: datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])})
    rows = {column: [draw_image(i) for i in range(4)], "label": [1, 0, 0, 1]}
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *name, **options: datasets.Dataset.from_dict(rows, features=features)
    )
    x, labels = corpora.images(corpus, "eval", 16, **COLOUR, limit=3)
    assert x.shape == (3, 3, 16, 16) and labels.sum() in (1, 2)


@pytest.mark.parametrize("corpus", ["wikitext", "cifar10", "imagenet"])
def test_no_network_and_no_datasets_are_said_in_one_line(monkeypatch, corpus):
    with pytest.raises(
        DataError,
        match=f"corpus '{corpus}': .* cannot be loaded from the hub: HF_HUB_OFFLINE is set .* give a local folder",
    ):
        corpora.describe(corpus, "eval")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=f"corpus '{corpus}' needs 'datasets': pip install"):
        corpora.describe(corpus, "eval")


# What a model reads


@pytest.fixture(scope="module")
def language_model():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=200,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            max_position_embeddings=64,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


@pytest.fixture(scope="module")
def classifier():
    import timm

    cfg = {"input_size": (3, 16, 16), "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5), "crop_pct": 1.0}
    return timm.create_model(
        "vit_tiny_patch16_224",
        img_size=16,
        embed_dim=8,
        depth=1,
        num_heads=2,
        num_classes=10,
        pretrained_cfg_overlay=cfg,
    )


def test_load_reads_what_the_model_reads(language_model, classifier, tokenizer, tmp_path):
    (tmp_path / "text.txt").write_text("plain text\n" * 100)
    ids = corpora.load(str(tmp_path / "text.txt"), language_model, "match", tokenizer=tokenizer, limit=3)
    assert ids.shape == (3, 64)
    x, labels = corpora.load("digits", classifier, "eval", limit=5)
    assert x.shape == (5, 3, 16, 16) and labels.shape == (5,)
    assert torch.allclose(x[:, 0].amin(), torch.tensor((0 - 0.1) / 0.5))


def test_load_refuses_what_does_not_fit(language_model, classifier, tokenizer, tmp_path):
    (tmp_path / "text.txt").write_text("naïve \U0001f600\n" * 100)
    with pytest.raises(DataError, match="expected token ids below 200, found 240; is this the model's tokenizer"):
        corpora.load(str(tmp_path / "text.txt"), language_model, "match", tokenizer=tokenizer)
    with pytest.raises(DataError, match="no tokenizer can be loaded from"):
        corpora.load(str(tmp_path / "text.txt"), language_model, "match", tokenizer=tmp_path)
    with pytest.raises(
        DataError, match="'digits' holds images, but the model GPTNeoXForCausalLM reads text: embedded, wiki"
    ):
        corpora.load("digits", language_model, "match", tokenizer=tokenizer)
    with pytest.raises(DataError, match="'embedded' holds text, but the model VisionTransformer reads images: digits"):
        corpora.load("embedded", classifier, "match")
    for name in ("ant", "bee"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for i in range(10):
            draw_image(i).save(tmp_path / "classes" / name / f"{i}.png")
    with pytest.raises(DataError, match=r"\(match\): expected the model's 10 classes, found 2 \(\w+, \w+\)"):
        corpora.load(str(tmp_path / "classes"), classifier, "match")


@pytest.mark.parametrize("own", [["ant", "bee", "cow"], ["cow", "ant", "bee"]])
def test_labels_are_numbered_as_the_model_numbers_its_classes(own, tmp_path):
    for shade, name in enumerate(("ant", "bee", "cow")):
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.new("L", (8, 8), 100 * shade).save(tmp_path / name / f"{i}.png")
    model = pico.hf_vit(dtype=torch.float32, num_labels=3)
    model.preprocessor_config = {"image_mean": [0.0], "image_std": [1.0], "size": 8}
    model.config.id2label = dict(enumerate(own))
    x, labels = corpora.load(str(tmp_path), model, "match")
    shown = [("ant", "bee", "cow")[round(float(image.mean()) * 255 / 100)] for image in x]
    assert [own[label] for label in labels] == shown and len(set(shown)) == 3
    silent = pico.hf_vit(dtype=torch.float32, num_labels=3)
    silent.preprocessor_config = model.preprocessor_config
    assert torch.equal(corpora.load(str(tmp_path), silent, "match", naming=model)[1], labels)
    model.config.id2label = dict(enumerate(("Ameise", "Biene", "Kuh")))
    with pytest.warns(UserWarning, match="its class 0 is 'ant', which the model calls 'Ameise'"):
        corpora.load(str(tmp_path), model, "match")
    model.config.id2label = dict(enumerate(("ant", "ant", "cow")))  # a name that is there twice
    with pytest.warns(UserWarning, match="its class 1 is 'bee', which the model calls 'ant'"):
        corpora.load(str(tmp_path), model, "match")


def test_the_help_of_the_commands_names_every_corpus():
    assert cli.CORPUS.split(", ")[: len(NAMES)] == list(NAMES)


def test_unknown_names_list_the_known_ones(tmp_path):
    with pytest.raises(
        DataError, match="unknown corpus 'wikitxt'; expected embedded, wikitext, fineweb, digits, cifar10, imagenet"
    ):
        corpora.describe("wikitxt", "eval")
    with pytest.raises(DataError, match="unknown split 'test'; expected one of train, match, eval"):
        corpora.text("embedded", "test")
    with pytest.raises(DataError, match=r"holds no .txt files, no class folders and no archives"):
        corpora.kind(str(tmp_path))
    (tmp_path / "text.csv").write_text("a,b")
    with pytest.raises(DataError, match=r"expected a .txt or .txt.xz file or a folder"):
        corpora.kind(str(tmp_path / "text.csv"))


# The true data


def test_article_tags_go_and_what_stands_beside_them_stays(tmp_path: Path) -> None:
    lines = ['<doc id="1" title="a > b">', "a line", "</doc>", "<doc id=2>another</doc>", "<doctor> and </doc> inside"]
    (tmp_path / "text.txt").write_bytes("\ufeff".encode() + "\n".join(lines * 20).encode())
    found = corpora.text(str(tmp_path / "text.txt"), "match")
    assert set(found.split("\n")) - {""} == {"a line", "another", "<doctor> and </doc> inside"}


def test_tags_that_name_no_article_are_text(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("<doc>\nhow to write tags\n</doc>\n" * 40)
    assert corpora.text(str(text), "train").count("<doc>") > 20


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"limit": 0}, "limit: expected a whole number of at least 1, found 0"),
        ({"limit": -1}, "limit: expected a whole number of at least 1, found -1"),
        ({"limit": 2.5}, "limit: expected a whole number of at least 1, found 2.5"),
        ({"size": 0}, "size: expected a whole number of at least 1, found 0"),
        ({"mean": (0.5, 0.5)}, "mean, std: expected 1 or 3 numbers each, found 2 and 1"),
        ({"std": (0.0,)}, "std: expected a number above 0, found 0.0"),
        ({"crop": 0}, "crop: expected a number above 0, found 0"),
        ({"interpolation": "cubic"}, "interpolation: expected nearest or box or"),
        ({"stock": "hf"}, "stock: expected timm or transformers, found 'hf'"),
    ],
)
def test_pictures_are_not_made_in_a_way_that_there_is_not(wrong: Any, said: str) -> None:
    asked: Any = {"size": 8, "mean": (0.5,), "std": (0.5,)} | wrong
    with pytest.raises(ArgumentError, match=re.escape(said)):
        corpora.images("digits", "eval", **asked)


@pytest.mark.real_data
def test_the_tokenised_wikitext_gets_its_own_name_and_spaces():
    folder = true_data("wikitext2")
    described = [corpora.describe(folder, split) for split in ("match", "eval")]
    assert {d["corpus"] for d in described} == {"wikitext2-detokenised"}
    assert described[0]["sha256"] != described[1]["sha256"]
    text = corpora.text(folder, "eval")
    assert "@-@" not in text and " , " not in text and " 's" not in text
    assert len(text) > 1_000_000


@pytest.mark.real_data
def test_true_text_through_a_true_vocabulary():
    from transformers import PreTrainedTokenizerFast

    neox = PreTrainedTokenizerFast(tokenizer_file=true_data("tokenizers/pythia_20B_tokenizer.json"))
    windows = corpora.tokens(true_data("tinyshakespeare"), "eval", neox, 2048)
    assert windows.shape[1] == 2048 and len(windows) >= 10
    assert neox.decode(windows[0]) in corpora.text(true_data("tinyshakespeare"), "eval")


@pytest.mark.parametrize(
    "what",
    [
        "plain",
        "a token with a space inside",
        "a token that takes the space after it",
        "no words",
        "a text that is stripped",
    ],
)
def test_a_text_is_cut_only_where_no_token_reaches_over(what: str) -> None:
    vocabulary = {token: i for i, token in enumerate(["a", "b", "c", "Ġ", "bĠ", "bĠc"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("b", "Ġ"), ("bĠ", "c")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=what != "no words")
    if what == "a token with a space inside":
        backend.add_tokens(["b c"])
    if what == "a token that takes the space after it":
        backend.add_tokens([AddedToken("a", rstrip=True), AddedToken("b", rstrip=True), AddedToken("c", rstrip=True)])
    if what == "a text that is stripped":
        backend.normalizer = normalizers.Strip()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
    text = "a b c " * 12000
    assert encode(tokenizer, text).tolist() == tokenizer(text, verbose=False).input_ids


def test_tokens_of_blanks_do_not_keep_a_text_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pythia's tokenizer has such tokens, and a long text in one piece takes a hundred times its size in memory."""
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(["a", "b", "c", "Ġ"])}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_tokens([AddedToken(" " * n, normalized=False) for n in range(2, 25)])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
    text = "a b  c   a    b c " * 6000
    whole = tokenizer(text, verbose=False).input_ids

    def at_once(*_: object, **__: object) -> None:
        raise AssertionError("the whole text was given to the tokenizer")

    monkeypatch.setattr(type(tokenizer), "__call__", at_once)
    assert encode(tokenizer, text).tolist() == whole


@pytest.mark.real_data
def test_text_in_pieces_gives_the_tokens_of_the_whole():
    from transformers import GPT2TokenizerFast, PreTrainedTokenizerFast

    vocabulary = {"vocab": "gpt2_vocab.json", "merges": "gpt2_merges.txt"}
    gpt2 = GPT2TokenizerFast(**{key: true_data(f"tokenizers/{name}") for key, name in vocabulary.items()})
    neox = PreTrainedTokenizerFast(tokenizer_file=true_data("tokenizers/pythia_20B_tokenizer.json"))
    code = "def f(x):\n    return x  # 'naïve' \U0001f600 it's\n\n\t- a  b c\n" * 3000
    for text in (corpora.text(true_data("wikitext2"), "eval")[:600_000], code):
        for tokenizer, size in ((gpt2, 50257), (neox, 50277), (corpora.byte_tokenizer(), 256)):
            found = list(encode(tokenizer, text))
            assert found == tokenizer(text, **BARE).input_ids
            assert len(tokenizer) == size and max(found) < size


@pytest.mark.real_data
def test_wikipedia_extracts_lose_their_article_tags():
    text = corpora.text(true_data("enwiki2015"), "eval")
    assert "<doc" not in text and "</doc" not in text and len(text) > 500_000


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "classes", "sizes"),
    [
        ("cifar10_jpeg", 10, {"eval": 10_000}),
        ("tiny_imagenet200", 200, {"match": 40_000, "eval": 10_000}),
        ("imagenet_sample_images", 1000, {"match": 900, "eval": 100}),
    ],
)
def test_true_archives(folder, classes, sizes):
    for split, size in sizes.items():
        found = pictures.read(true_data(folder), split)
        assert (len(found.classes), len(found.labels)) == (classes, size)
    x, labels = corpora.images(true_data(folder), "eval", 32, **COLOUR, limit=50)
    assert len(labels.unique()) > 5 and 0.2 < x.std() < 0.8


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("Train.txt", "Test.txt"), "Train.txt and Test.txt"),
        (("wiki.train.txt", "wiki.valid.txt"), "wiki.train.txt and wiki.valid.txt"),
        (("novel.txt", "TRAINING.txt", "dev.txt"), "TRAINING.txt and dev.txt"),
        (("a test drive.txt", "journeys.txt"), ""),
        (("trains.txt", "tests.txt"), ""),
    ],
)
def test_texts_whose_names_mean_parts_that_are_not_read_as_such_are_refused(
    names: tuple[str, ...], found: str, tmp_path: Path
) -> None:
    """Else both would be read as one text: what is held out would be learned from."""
    for name in names:
        (tmp_path / name).write_text(f"{name}\n" * 50, encoding="utf-8")
    if not found or names[0].startswith("trains"):  # which begin as parts do, and are read as such
        assert texts.read(str(tmp_path), "match")[1]
    else:
        with pytest.raises(DataError, match=f"none that name a part; found {re.escape(found)}; rename them"):
            texts.read(str(tmp_path), "match")


def picture(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(path)


def test_pictures_whose_folders_mean_parts_that_are_not_read_as_such_are_refused(tmp_path: Path) -> None:
    for part in ("training", "validation"):
        for name in ("cat", "dog"):
            picture(tmp_path / part / name / "0.png")
    with pytest.raises(DataError, match="expected classes, found training and validation; call them train and val"):
        pictures.read(str(tmp_path), "match")


def test_parts_of_as_many_classes_but_others_are_refused(tmp_path: Path) -> None:
    for name in ("train/cat", "train/dog", "val/cat", "val/.checkpoints"):
        picture(tmp_path / name / "0.png")
    assert pictures.read(str(tmp_path), "eval").classes == ["cat"]  # fewer, which the model's number of classes tells
    picture(tmp_path / "val/fox/0.png")
    for name in ("train/fox", "val/dog"):  # empty folders number nothing
        (tmp_path / name).mkdir()
    message = "expected the same classes in (train|val) and (train|val), found dog in only one of them"
    with pytest.raises(DataError, match=message):
        pictures.read(str(tmp_path), "eval")


def packed(file: Path, *names: str) -> None:
    """An archive with a picture of each name."""
    picture(file.parent.parent / "one.png")
    file.parent.mkdir(exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name in names:
            tar.add(file.parent.parent / "one.png", name)


def test_archives_of_as_many_classes_but_others_are_refused(tmp_path: Path) -> None:
    packed(tmp_path / "p/train.tar", "cat/0.png", "dog/0.png")
    packed(tmp_path / "p/val.tar", "val/cat/0.png", "val/fox/0.png")
    with pytest.raises(DataError, match="expected the same classes in train and val, found dog in only one of them"):
        pictures.read(str(tmp_path / "p"), "eval")
    packed(tmp_path / "p/val.tar", "val/cat/0.png")
    assert pictures.read(str(tmp_path / "p"), "eval").classes == ["cat"]


def test_an_archive_of_several_parts_is_refused(tmp_path: Path) -> None:
    """Its pictures would be dealt at random, and those to match on be measured on."""
    packed(tmp_path / "p/data.tar", "./train/cat/0.png", "./val/cat/1.png")
    for split in SPLITS:
        with pytest.raises(DataError, match=r"data\.tar': expected one part, found train and val; unpack it"):
            pictures.read(str(tmp_path / "p"), split)


def test_parts_below_another_folder_are_no_class(tmp_path: Path) -> None:
    packed(tmp_path / "p/all.tar", "data/train/cat/0.png", "data/val/cat/1.png")
    picture(tmp_path / "q/data/train/cat/0.png")
    for name in "pq":
        with pytest.raises(DataError, match="expected classes, found the part data/train; name the folder that holds"):
            pictures.read(str(tmp_path / name), "match")


def test_a_picture_that_an_archive_holds_twice_is_named(tmp_path: Path) -> None:
    packed(tmp_path / "p/data.tar", "cat/0.png", "dog/0.png", "cat/0.png")
    with pytest.raises(DataError, match=r"data\.tar': expected each picture once, found cat/0\.png twice"):
        pictures.read(str(tmp_path / "p"), "match")


def test_hidden_files_are_no_data(tmp_path: Path) -> None:
    picture(tmp_path / "p/cat/0.png")
    for name in ("cat/._0.png", "cat/.ipynb_checkpoints/0.png", ".trash/0.png"):
        picture(tmp_path / "p" / name, 255)
    assert pictures.read(str(tmp_path / "p"), "train").classes == ["cat"]
    with tarfile.open(tmp_path / "q.tar", "w") as tar:
        for name in ("cat/0.png", "cat/._0.png", ".trash/0.png"):
            tar.add(tmp_path / "p" / name, name)
    (tmp_path / "r").mkdir()
    (tmp_path / "q.tar").rename(tmp_path / "r/q.tar")
    found = pictures.read(str(tmp_path / "r"), "train")
    assert found.classes == ["cat"] and len(found.labels) == 1
    (tmp_path / "t").mkdir()
    (tmp_path / "t/a.txt").write_text("seen\n" * 20, encoding="utf-8")
    (tmp_path / "t/.b.txt").write_text("hidden\n" * 20, encoding="utf-8")
    assert "hidden" not in texts.read(str(tmp_path / "t"), "match")[1]


def test_a_text_about_the_pictures_beside_it_makes_no_corpus_of_texts(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/2.png"):
        picture(tmp_path / name)
    for name in ("README.txt", "classes.txt"):
        (tmp_path / name).write_text("cat\ndog\n")
        assert corpora.kind(str(tmp_path)) == "images"
    (tmp_path / "stories.txt").write_text("Once\n")
    assert corpora.kind(str(tmp_path)) == "text"


def test_a_class_in_an_archive_that_is_called_as_a_part_is_refused(tmp_path: Path) -> None:
    for name in ("bus/1.png", "train/2.png"):
        picture(tmp_path / name)
    (tmp_path / "packed").mkdir()
    packed(tmp_path / "packed/train.tar", "bus/1.png", "train/2.png")
    with pytest.raises(DataError, match=r"found the part train beside bus/1\.png; a class that is called as a part"):
        pictures.read(str(tmp_path / "packed"), "train")


def test_pictures_beside_the_parts_of_a_corpus_are_said(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "val/cat/2.png", "cat/3.png", "dog/4.png"):
        picture(tmp_path / name)
    with pytest.warns(UserWarning, match="cat and 1 more beside folders that are called as parts of a corpus is not"):
        assert len(pictures.read(str(tmp_path), "eval").labels) == 1


def test_archives_beside_folders_of_pictures_are_refused(tmp_path: Path) -> None:
    """One of the two would be left out without a word."""
    for name in ("cat/1.png", "dog/2.png"):
        picture(tmp_path / name)
    packed(tmp_path / "backup.tar", "cat/1.png")
    with pytest.raises(DataError, match=r"found backup\.tar beside pictures in cat; move one away$"):
        corpora.images(str(tmp_path), "eval", size=8, mean=(0.5,), std=(0.5,))


@pytest.mark.parametrize(
    ("archives", "said"),
    [
        ({"pets_train.tar": "train/cat/1.png", "pets_val.tar": "val/cat/2.png"}, "train in pets_train.tar and val in"),
        ({"pets_train.tar": "cat/1.png", "pets_val.tar": "cat/2.png"}, r"pets_train.tar and pets_val.tar; rename"),
        (
            {"pets.tar": "cat/1.png", "copy.TAR": "cat/1.png"},
            r"expected each picture once, found cat/1.png in copy.TAR",
        ),
    ],
)
def test_archives_that_would_be_held_out_and_matched_on_are_refused(
    archives: dict[str, str], said: str, tmp_path: Path
) -> None:
    for archive, name in archives.items():
        packed(tmp_path / "x" / archive, name)
    with pytest.raises(DataError, match=said):
        pictures.read(str(tmp_path / "x"), "eval")


def test_archives_that_are_not_read_are_said(tmp_path: Path) -> None:
    packed(tmp_path / "x/a.tar", "cat/1.png")
    (tmp_path / "x/b.zip").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"b\.zip: an archive that is not read; pack it as \.tar"):
        assert len(pictures.read(str(tmp_path / "x"), "match").labels) == 1


def test_a_text_and_its_packed_copy_are_refused(tmp_path: Path) -> None:
    """The held-out part would be matched on."""
    (tmp_path / "book.txt").write_text("words\n" * 100)
    with lzma.open(tmp_path / "book.txt.xz", "wt") as file:
        file.write("words\n" * 100)
    with pytest.raises(DataError, match=r"found book\.txt and book\.txt\.xz: one text twice would be held out and"):
        corpora.text(str(tmp_path), "match")


def test_texts_that_are_not_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "A.TXT").write_text("words\n" * 100)
    assert len(corpora.text(str(tmp_path), "match")) == 546
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.txt").write_text("other words\n")
    with pytest.warns(UserWarning, match=r"texts in folders below it are not read, more/b\.txt for one \(of 1\); put"):
        assert len(corpora.text(str(tmp_path), "match")) == 546


def test_pictures_that_are_not_read_are_named(tmp_path: Path) -> None:
    for i in range(20):
        picture(tmp_path / f"data/{'cat' if i % 2 else 'dog'}/{i}.png")
    picture(tmp_path / "elsewhere/30.png")
    Image.new("L", (8, 8)).save(tmp_path / "data/cat/40.gif")
    with pytest.warns(UserWarning, match=r"cat/40\.gif: of a kind that is not read; save it as \.png$"):
        corpora.images(str(tmp_path / "data"), "eval", size=8, mean=(0.5,), std=(0.5,))
    (tmp_path / "data/cat/40.gif").unlink()
    (tmp_path / "data/cat/linked").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match=r"cat/linked: a link to a folder, which is not followed; copy it$"):
        corpora.images(str(tmp_path / "data"), "eval", size=8, mean=(0.5,), std=(0.5,))


def test_pictures_are_the_same_whatever_torch_makes_by_default(tmp_path: Path) -> None:
    for i in range(12):
        picture(tmp_path / f"cat/{i}.png", 20 * i)
    given = {"size": 8, "mean": (0.485,), "std": (0.229,)}
    expected, _ = corpora.images(str(tmp_path), "match", **given)
    torch.set_default_dtype(torch.bfloat16)
    try:
        found, _ = corpora.images(str(tmp_path), "match", **given)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_what_a_corpus_would_read_is_known_before_it_is_there(tmp_path: Path) -> None:
    texts, shown = tmp_path / "t", tmp_path / "p"
    (texts / "below").mkdir(parents=True)
    (texts / "a.txt").write_text("words\n")
    (tmp_path / "b.txt").write_text("words\n")
    (texts / "b.txt").symlink_to(tmp_path / "b.txt")
    picture(shown / "cat/1.png")
    read = ["t/a.txt", "t/new.txt", "b.txt"]
    for name in ["t/a.txt", "t/new.txt", "b.txt", "t/p.png", "t/below/c.txt", "t/r.json", "c.txt"]:
        assert corpora.would_read(str(texts), tmp_path / name) == (name in read), name
    for name in ["p/cat/1.png", "p/2.png", "p/all.tar", "p/r.json"]:
        assert corpora.would_read(str(shown), tmp_path / name) == (name != "p/r.json"), name


def test_a_pipe_among_texts_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words\n" * 100)
    os.mkfifo(tmp_path / "z.txt")
    with pytest.raises(DataError, match="found a pipe, a device or nothing"):
        corpora.text(str(tmp_path), "eval")
