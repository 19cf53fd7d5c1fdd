"""Vocabularies that differ, brought to one: every model keeps its logits for its own tokens, at both ends of a path."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import lmc
from lmc import corpora
from lmc.checkpoints import hub, licence, tokens
from lmc.checkpoints.vocabulary import read
from lmc.cli import main
from lmc.errors import ArgumentError, IncompatibleModelsError
from lmc.matching import prepare

pytestmark = pytest.mark.filterwarnings("default")  # a command prints its warnings


def words(*names: str) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}


W = [f"w{i}" for i in range(30)]
# What is different: the tokens of the second model, whose first has W; and its rows beyond them.
PAIRS: dict[str, tuple[list[str], int]] = {
    "padded": (W, 10),
    "another order": (W[::-1], 0),
    "tokens added at the end": ([*W, "<new>", "<more>"], 0),
    "an extension, padded": ([*W, *(f"v{i}" for i in range(9))], 3),
    "fewer": (W[:25], 0),
    "half in common, in another order": ([*W[15:], *(f"v{i}" for i in range(20))], 4),
}


def checkpoint(
    folder: Path, seed: int, names: list[str], padding: int = 0, make: Any = pico.llama, **config: Any
) -> Any:
    """A model and its tokenizer of whole words, from which it is loaded again."""
    lmc.save(make(seed, torch.float32, vocab_size=len(names) + padding, eos_token_id=1, **config), folder)
    stock = Tokenizer(models.WordLevel(words(*names), unk_token="w16"))
    stock.pre_tokenizer = pre_tokenizers.Whitespace()
    stock.save(str(folder / "tokenizer.json"))
    return lmc.load(folder)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def command(line: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(line.split())
        out, err = capsys.readouterr()
        return code, out, err

    return command


def vocabulary(folder: Path) -> dict[str, int]:
    return Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()


@pytest.mark.parametrize("choice", tokens.CHOICES)
@pytest.mark.parametrize("pair", PAIRS)
def test_each_parent_keeps_its_logits_for_its_own_tokens(
    pair: str, choice: str, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    second, padding = PAIRS[pair]
    parents = [checkpoint(tmp_path / "a", 0, W), checkpoint(tmp_path / "b", 1, second, padding)]
    code, out, err = run("match a b --method canonical --out refused")
    assert (code, "--vocabulary first, second, union or common" in err) == (2, True), out + err
    code, _, err = run(f"match a b --method canonical --vocabulary {choice} --out aligned")
    assert (code, err) == (0, "")
    alignment = lmc.Alignment.load("aligned")
    owned = [words(*W), words(*second)]
    shared = tokens.plan(choice, [len(W), len(second) + padding], owned)
    for k, (parent, own) in enumerate(zip(parents, owned, strict=True)):
        kept = [token for token in own if token in shared.ids]
        before, after = (torch.tensor([ids[token] for token in kept]) for ids in (own, shared.ids))
        places = torch.randint(len(kept), (2, 12), generator=torch.Generator().manual_seed(0))
        expected = pico.logits(parent, before[places])[..., before]
        for model in (alignment.parents[k], alignment.merge(k)):
            found = pico.logits(model, after[places])[..., after]
            assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    card = run("merge aligned --out merged")[1]
    for k, name in enumerate("ab"):
        moved = Path("aligned.parents", f"{k}-{name}").is_dir()
        said = f"- parent {k}: {name}, brought to a vocabulary of {len(shared.rows[0])} rows ({choice}"
        assert (said in card) == moved
    written = vocabulary(tmp_path / "merged")
    assert written.items() <= shared.ids.items()
    assert len(written) == len(shared.ids) or choice == "union"  # rows that no text reaches


def test_rows_alone_are_moved_exactly(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model with its tokens in another order is the same model again, to the last bit."""
    monkeypatch.chdir(tmp_path)
    model = checkpoint(tmp_path / "a", 0, W)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0)).tolist()
    other = checkpoint(tmp_path / "b", 0, [W[i] for i in order])
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        other.get_parameter(name).data = model.get_parameter(name).data[order]
    (tmp_path / "b" / "model.safetensors").unlink()
    other.save_pretrained(tmp_path / "b")
    assert run("match a b --method naive --vocabulary union --out aligned")[0] == 0
    again = lmc.load("aligned.parents/1-b")
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in again.state_dict().items())


def test_a_lacking_token_gets_the_row_that_fits_the_common_ones() -> None:
    """Where one embedding is a turned and scaled copy of the other, what it lacks is found exactly."""
    generator = torch.Generator().manual_seed(0)
    here, rotation = torch.randn(50, 8, generator=generator), torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    there = 3 * here @ rotation
    assert (tokens.fitted(there[:40], here[:40], there[40:]) - here[40:]).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (pico.gpt2, {"tie_word_embeddings": True}),
        (pico.bert, {"tie_word_embeddings": True}),
        (pico.neox, {}),
        (pico.qwen3, {"tie_word_embeddings": True}),
    ],
)
def test_other_families_and_tied_heads(
    make: Any, config: dict[str, Any], tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parents = [checkpoint(tmp_path / n, k, W[5 * k :], make=make, **config) for k, n in enumerate("ab")]
    assert run("match a b --method weights --vocabulary common --out aligned")[0] == 0
    alignment = lmc.Alignment.load("aligned")
    ids = torch.arange(25)[None]
    for k, parent in enumerate(parents):
        own = ids + 5 * (1 - k)
        expected = pico.logits(parent, own)[..., own[0]]
        found = pico.logits(alignment.merge(k), ids)
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_ids_in_the_settings_move_with_their_tokens(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "a", 0, W)
    checkpoint(tmp_path / "b", 1, W[::-1], pad_token_id=29)
    (tmp_path / "b" / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2]}))
    assert run("match a b --method naive --vocabulary first --out aligned")[0] == 0
    model: Any = lmc.load("aligned.parents/1-b")
    assert (model.config.eos_token_id, model.config.pad_token_id) == (28, 0)
    assert model.generation_config.eos_token_id == [28, 27]


def test_tokenizers_that_cut_text_differently_are_refused_and_said(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("ab"):
        checkpoint(tmp_path / name, k, W)
    plain = json.loads((tmp_path / "b" / "tokenizer.json").read_text())
    (tmp_path / "b" / "tokenizer.json").write_text(json.dumps(plain | {"pre_tokenizer": {"type": "WhitespaceSplit"}}))
    code, _, err = run("match a b --method canonical --out refused")
    assert code == 2 and "pre_tokenizer: text becomes other tokens; choose a common vocabulary with lmc match" in err
    code, _, err = run("match a b --method canonical --vocabulary first --out aligned")
    assert code == 0
    assert err == (
        "warning: model 2 cuts text differently than model 1, whose tokenizer is kept (pre_tokenizer; "
        "30 and 30 tokens, 30 in common): its tokens may mean other text\n"
    )


def test_other_tokens_around_a_text_are_said(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their names: the same tokens under other ids are no difference."""
    monkeypatch.chdir(tmp_path)
    for k, (name, order, around) in enumerate((("a", W, "w1"), ("b", W[::-1], "w1"), ("c", W[::-1], "w2"))):
        checkpoint(tmp_path / name, k, order)
        file = tmp_path / name / "tokenizer.json"
        tokenizer = Tokenizer.from_file(str(file))
        tokens = [(around, tokenizer.token_to_id(around)), ("w3", tokenizer.token_to_id("w3"))]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{around} $A w3", special_tokens=tokens)
        tokenizer.save(str(file))
    assert run("match a b --method naive --vocabulary first --out alike")[::2] == (0, "")
    code, _, err = run("match a c --method naive --vocabulary first --out apart")
    assert code == 0
    assert err == (
        "warning: model 2 has other tokens around a text than model 1, whose tokenizer is kept "
        "(tokenizer.json, post_processor): it reads what it did not learn\n"
    )


def pairs_of_letters(folder: Path, merges: list[str], older: bool) -> None:
    """A tokenizer of byte pairs, as a tokenizer.json or in the two files of before."""
    vocab = words("a", "b", "c", *(merge.replace(" ", "") for merge in merges))
    (folder / "tokenizer.json").unlink(missing_ok=True)
    if older:
        (folder / "vocab.json").write_text(json.dumps(vocab))
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    else:
        pairs = [(merge.split(" ")[0], merge.split(" ")[1]) for merge in merges]
        Tokenizer(models.BPE(vocab=vocab, merges=pairs)).save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("choice", ["second", "common"])
def test_a_tokenizer_in_older_files_is_compared_with_a_newer_one(
    choice: str, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("abc"):
        lmc.save(pico.llama(k, torch.float32, vocab_size=6, eos_token_id=1), name)
    pairs_of_letters(tmp_path / "a", ["a b", "ab c", "b c"], older=False)
    pairs_of_letters(tmp_path / "b", ["b c", "a b", "ab c"], older=True)
    pairs_of_letters(tmp_path / "c", ["a b", "ab c", "b c"], older=True)
    assert run("match a c --method naive --out alike")[0] == 0
    code, _, err = run(f"match a b --method naive --vocabulary {choice} --out aligned")
    which = "model 1 cuts text differently than model 2" if choice == "second" else "model 2 cuts text differently than"
    assert which in err and "(merges; 6 and 6 tokens, 6 in common, 3 of them with other ids)" in err
    assert code == 0 and run("merge aligned --out merged")[0] == 0
    assert "it learned from text that was cut differently" in Path("merged/README.md").read_text()


def test_a_vocabulary_with_counts_and_codes_is_read_compared_and_inherited(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vinai/phobert-base has them: how text is cut stands in bpe.codes, and vocab.txt says how often a token was."""
    monkeypatch.chdir(tmp_path)
    pieces = ["h@@", "e@@", "l@@", "o", "he@@", "ll@@", "hell@@", "lo", "hello", "el@@", "l", "e", "h", "o@@"]
    codes = {"a": ["h e", "l l", "he ll", "hell o</w>"], "b": ["h e", "l l", "he ll", "hell o</w>"], "c": ["e l"]}
    for k, (name, merges) in enumerate(codes.items()):
        lmc.save(pico.roberta(k, torch.float32, vocab_size=40), name)
        Path(name, "vocab.txt").write_text("".join(f"{piece} {k}\n" for piece in pieces))
        Path(name, "bpe.codes").write_text("".join(f"{merge} {k}\n" for merge in merges))
        Path(name, "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertweetTokenizer"}))
    assert run("match a b --method naive --out aligned")[0] == 0
    code, _, err = run("match a c --method naive --out refused")
    assert code == 2 and "differ in vocab.txt, codes: text becomes other tokens" in err
    assert run("merge aligned --out merged")[0] == 0
    assert Path("merged/bpe.codes").read_text() == Path("a/bpe.codes").read_text()
    Path("a/bpe.codes").write_text("e l 0\n")
    code, _, err = run("merge aligned --out again")
    assert code == 2 and "expected the tokenizer that the models were matched with" in err


def test_tokenizer_files_by_version_are_refused(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads the one that fits its own version, which need not be tokenizer.json."""
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("ab"):
        checkpoint(tmp_path / name, k, W)
    settings = {"fast_tokenizer_files": ["tokenizer.json", "tokenizer.4.0.0.json"]}
    Path("b/tokenizer_config.json").write_text(json.dumps(settings))
    assert run("match a b --method naive --out aligned")[0] == 0  # a name without a file: the library has no choice
    shutil.copy("a/tokenizer.json", "b/tokenizer.4.0.0.json")
    code, _, err = run("match a b --method naive --out refused")
    assert code == 2 and "expected one tokenizer.json, found 'tokenizer.4.0.0.json' too; name the one" in err


@pytest.mark.real_data
def test_real_tokenizers_of_two_families(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2's in its first files, and Pythia's: what both have keeps its logits, and the user is told."""
    real = Path(os.environ.get("LMC_TEST_DATA", "nowhere")).absolute() / "tokenizers"
    if not real.is_dir():
        pytest.skip("needs LMC_TEST_DATA with tokenizers")
    monkeypatch.chdir(tmp_path)
    small = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    for k, (name, size) in enumerate((("pythia", 50304), ("gpt2", 50257))):
        lmc.save(pico.llama(k, torch.float32, vocab_size=size, **small), name)
    shutil.copy(real / "pythia_20B_tokenizer.json", "pythia/tokenizer.json")
    shutil.copy(real / "gpt2_vocab.json", "gpt2/vocab.json")
    shutil.copy(real / "gpt2_merges.txt", "gpt2/merges.txt")
    code, _, err = run("match pythia gpt2 --method naive --out refused")
    assert code == 2 and "50,277 and 50,257 tokens, 36,938 in common" in err and "--vocabulary first" in err
    code, _, err = run("match pythia gpt2 --method naive --vocabulary common --out aligned")
    assert code == 0 and err.startswith("warning: model 2 cuts text differently than model 1, whose tokenizer is kept")
    assert run("merge aligned --at 1 --out merged")[0] == 0
    shared, own = vocabulary(tmp_path / "merged"), json.loads(Path("gpt2/vocab.json").read_text())
    assert len(shared) == 36938 == lmc.load("merged").config.vocab_size
    names = [token for token in own if token in shared][::7]
    here, there = (torch.tensor([ids[token] for token in names]) for ids in (own, shared))
    expected, found = (pico.logits(lmc.load(n), i[None, :12])[..., i] for n, i in (("gpt2", here), ("merged", there)))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_added_tokens_of_the_other_are_added_to_the_tokenizer(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for k, (name, special) in enumerate((("a", "<a>"), ("b", "<b>"))):
        checkpoint(tmp_path / name, k, W, padding=1)
        stock = Tokenizer.from_file(str(tmp_path / name / "tokenizer.json"))
        stock.add_special_tokens([special])
        stock.save(str(tmp_path / name / "tokenizer.json"))
    assert run("match a b --method canonical --vocabulary union --out aligned")[0] == 0
    assert run("merge aligned --out merged")[0] == 0
    merged = Tokenizer.from_file(str(tmp_path / "merged" / "tokenizer.json"))
    assert merged.encode("w3 <a> <b>").ids == [3, 30, 31]
    assert lmc.load("merged").config.vocab_size == 32


def test_ids_are_those_that_the_library_gives(tmp_path: Path) -> None:
    """A file may claim any id for an added token; the library gives it the next free one."""
    stock = Tokenizer(models.WordLevel(words(*W), unk_token="w16"))
    stock.add_special_tokens(["<new>"])
    plain = json.loads(stock.to_str())
    plain["added_tokens"][0]["id"] = 3
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain))
    found = read(tmp_path)
    assert found is not None and found.ids == vocabulary(tmp_path) == words(*W, "<new>")


def test_a_tokenizer_of_pairs_loses_what_merges_into_a_token_that_goes() -> None:
    plain = {
        "model": {"type": "BPE", "vocab": words("a", "b", "c", "ab", "abc"), "merges": ["a b", ["ab", "c"]]},
        "added_tokens": [{"content": "<s>", "id": 5}, {"content": "<x>", "id": 6}],
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}},
        },
    }
    ids = words("c", "b", "a", "ab", "<s>")
    found = tokens.renumbered(plain, ids)
    assert found["model"]["vocab"] == {"a": 2, "b": 1, "c": 0, "ab": 3}
    assert found["model"]["merges"] == [["a", "b"]]
    assert found["added_tokens"] == [{"content": "<s>", "id": 4}]
    assert found["post_processor"]["special_tokens"]["<s>"]["ids"] == [4]
    assert found["post_processor"]["single"] == plain["post_processor"]["single"]  # type: ignore[index]
    unigram = {"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["x", -1.0], ["y", -2.0]], "unk_id": 0}}
    found = tokens.renumbered(unigram, words("y", "<unk>"))
    assert found["model"] == {"type": "Unigram", "vocab": [["y", -2.0], ["<unk>", 0.0]], "unk_id": 1}


def test_what_cannot_be_is_refused(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match="expected one of first, second, union, common, found 'both'"):
        tokens.plan("both", [1, 1], [{"a": 0}, {"a": 0}])
    with pytest.raises(IncompatibleModelsError, match="no token in common"):
        tokens.plan("union", [1, 1], [{"a": 0}, {"b": 0}])
    checkpoint(tmp_path / "a", 0, W)
    checkpoint(tmp_path / "b", 1, W, padding=2)
    (tmp_path / "b" / "tokenizer.json").unlink()
    code, _, err = run("match a b --method naive --vocabulary first --out aligned")
    assert code == 2 and "b: expected a tokenizer to match tokens by, found none; save its tokenizer.json there" in err
    assert not any(tmp_path.glob("aligned*"))
    checkpoint(tmp_path / "c", 1, W[::-1], hidden_size=8)
    code, _, err = run("match a c --method naive --vocabulary first --out aligned")
    assert code == 2 and "differ in shape of" in err
    assert not any(tmp_path.glob("aligned*"))


@pytest.mark.parametrize("choice", tokens.CHOICES)
def test_a_token_without_a_row_is_no_difference(
    choice: str, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was added to a tokenizer later, behind the rows of the model: both are given the tokenizer chosen."""
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "a", 0, W)
    checkpoint(tmp_path / "b", 1, W)
    file = tmp_path / "b" / "tokenizer.json"
    stock = Tokenizer.from_file(str(file))
    stock.add_special_tokens(["<new>"])
    stock.save(str(file))
    code, _, err = run(f"match a b --method naive --vocabulary {choice} --out aligned")
    assert code == 0, err
    assert run("verify aligned")[0] == 0


def test_one_vocabulary_is_used_again_only_for_what_was_asked(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was interrupted once its parents were written, and is started again with others, or another choice."""
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "a", 0, W)
    checkpoint(tmp_path / "b", 1, W[::-1])
    checkpoint(tmp_path / "c", 2, W[::-1])
    (tmp_path / "b/README.md").unlink()
    line = "match a b --method naive --vocabulary first --out aligned"
    assert run(line)[0] == 0
    shutil.rmtree("aligned")
    for other in (line.replace("first", "second"), line.replace("a b", "a c")):
        code, _, err = run(other)
        assert code == 2 and not Path("aligned").exists()
        assert "aligned.parents: expected what these models become, found it made of others" in err
    (tmp_path / "b/README.md").write_text("---\nlicense: mit\n---\n")
    assert run(line)[0] == 2
    (tmp_path / "b/README.md").unlink()
    assert run(line)[0] == 0


@pytest.mark.parametrize(("make", "named"), [(pico.roberta, "pad_token_id"), (pico.clip_text, "every token")])
def test_a_token_whose_number_counts_keeps_it(
    make: Any, named: str, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RoBERTa's positions begin behind the number of the padding; CLIP pools a text at its largest number."""
    monkeypatch.chdir(tmp_path)
    for k, (name, order) in enumerate({"a": W, "b": W[::-1]}.items()):
        padding = {"pad_token_id": order.index("w1")} if make is pico.roberta else {}
        lmc.save(make(k, torch.float32, vocab_size=len(W), **padding), tmp_path / name)
        Tokenizer(models.WordLevel(words(*order), unk_token="w16")).save(f"{name}/tokenizer.json")
    for choice in tokens.CHOICES:
        code, _, err = run(f"match a b --method canonical --vocabulary {choice} --out aligned")
        assert code == 2 and f"{named}: expected the number " in err and len(err.splitlines()) == 1, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_ids_among_generation_settings_move_with_their_tokens(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for k, (name, order) in enumerate({"a": W, "b": W[::-1]}.items()):
        model = checkpoint(tmp_path / name, k, order)
        model.generation_config.update(
            suppress_tokens=[3, 4], bad_words_ids=[[5, 6], [7]], sequence_bias=[[[8, 9], -1.0]], eos_token_id=[1, 2]
        )
        model.generation_config.save_pretrained(tmp_path / name)
    assert run("match a b --method naive --vocabulary second --out aligned")[0] == 0
    assert run("merge aligned --out merged")[0] == 0
    found = json.loads(Path("merged/generation_config.json").read_text())
    new = [W[::-1].index(token) for token in W]
    assert found["suppress_tokens"] == [new[3], new[4]] and found["eos_token_id"] == [new[1], new[2]]
    assert found["bad_words_ids"] == [[new[5], new[6]], [new[7]]] and found["sequence_bias"] == [
        [[new[8], new[9]], -1.0]
    ]


@pytest.mark.parametrize("file", ["sentencepiece.bpe.model", "tekken.json"])
def test_a_vocabulary_that_is_not_read_is_copied_and_compared(
    file: str, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("ab"):
        lmc.save(pico.llama(k, torch.float32), tmp_path / name)
        (tmp_path / name / file).write_text(f'{{"words": {k}}}')
    code, _, err = run("match a b --method naive --out aligned")
    assert code == 0 and f"{file} alone, which is not read, so whether tokens mean the same was not compared" in err
    assert run("merge aligned --out merged")[0] == 0
    assert Path("merged", file).read_bytes() == Path("a", file).read_bytes()


def test_how_a_list_of_words_is_read_counts(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("ab"):
        lmc.save(pico.bert(k, torch.float32), tmp_path / name)
        Path(name, "vocab.txt").write_text("".join(f"w{i}\n" for i in range(30)))
        Path(name, "tokenizer_config.json").write_text(json.dumps({"do_lower_case": bool(k)}))
    code, _, err = run("match a b --method naive --out aligned")
    assert code == 2 and "vocab.txt, as do_lower_case of tokenizer_config.json has it: text becomes other" in err
    Path("a/tokenizer_config.json").unlink()  # lower case is the default
    assert run("match a b --method naive --out aligned")[0] == 0


def test_a_setting_beside_a_tokenizer_that_changes_how_text_is_cut_counts(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stock class builds its tokenizer from tokenizer.json and from what stands beside it."""
    monkeypatch.chdir(tmp_path)
    ids = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "Hello"])}
    for k, name in enumerate("abc"):
        lmc.save(pico.bert(k, torch.float32), tmp_path / name)
        transformers.BertTokenizer(vocab=ids).save_pretrained(name)
        settings = json.loads(Path(name, "tokenizer_config.json").read_text())
        settings |= {"do_lower_case": name != "b", "legacy": name == "c"}  # of the latter this class knows nothing
        Path(name, "tokenizer_config.json").write_text(json.dumps(settings))
    cut = [transformers.AutoTokenizer.from_pretrained(name)("Hello").input_ids for name in "abc"]
    assert cut[0] == cut[2] != cut[1]
    code, _, err = run("match a b --method naive --out aligned")
    what = "as do_lower_case of tokenizer_config.json has it: text becomes other tokens"
    assert code == 2 and f"model 1 and model 2 differ in tokenizer.json, {what}; choose a common vocabulary" in err
    code, _, err = run("match a b --method naive --out asked --vocabulary first")
    assert code == 0 and "model 2 cuts text differently than model 1, whose tokenizer is kept" in err
    code, _, err = run("match a c --method naive --out aligned")
    assert code == 0 and "differ" not in err


def test_a_licence_that_only_a_file_states_is_known_of_a_model_with_another_vocabulary(tmp_path: Path) -> None:
    for k, (name, words) in enumerate(zip("ab", ([*W, "less"], [*W[::-1], "more"]), strict=True)):
        checkpoint(tmp_path / name, k, words)
        (tmp_path / name / "LICENSE").write_text(f"Ask {name} first.")
    ready = prepare([str(tmp_path / name) for name in "ab"], tmp_path / "ready", "union")
    stated = [licence.of(hub.locate(place)) for place in ready]
    assert [each.words for each in stated] == ["that of its file LICENSE", "that of its file LICENSE"]
    assert "license" not in licence.of_all(stated)[0]  # they are not one


@pytest.mark.parametrize("named", [{}, {"license_name": "custom"}])
def test_licences_of_one_name_with_other_texts_are_not_one(named: dict[str, str], tmp_path: Path) -> None:
    for k, name in enumerate("abc"):
        folder = tmp_path / name
        lmc.save(pico.llama(k, torch.float32), folder, card="A model.", metadata={"license": "other", **named})
        (folder / "LICENSE").write_text("Ask a first." if name == "c" else f"Ask {name} first.")
    a, b, c = (licence.of(hub.locate(tmp_path / name)) for name in "abc")
    word = named.get("license_name", "other")
    metadata, (line,) = licence.of_all([a, b])
    assert "license" not in metadata and f"parent 0: {word}, in its file LICENSE; parent 1: {word}, in its" in line
    assert licence.of_all([a, c]) == ({"license": "other", **named}, [])


def test_models_in_memory_whose_tokens_differ_are_refused_unless_they_were_changed(tmp_path: Path) -> None:
    a, b = checkpoint(tmp_path / "a", 0, W), checkpoint(tmp_path / "b", 1, W[::-1])
    with pytest.raises(IncompatibleModelsError, match=r"model 1 and model 2 differ in .*, id of token 'w0'"):
        lmc.match(a, b, method="naive")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):  # as its owner may bring rows into another order
        rows = b.get_parameter(name)
        rows.data = rows.data.flip(0)
    assert lmc.match(a, b, method="naive").merge(0.5) is not None


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"split_special_tokens": True}, "split_special_tokens of tokenizer_config.json"),
        ({"additional_special_tokens": ["w3"]}, "additional_special_tokens of tokenizer_config.json"),
        ("special_tokens_map.json", "special_tokens_map.json"),
    ],
    ids=str,
)
def test_what_else_stands_beside_a_tokenizer_counts(
    setting: Any, said: str, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for k, name in enumerate("ab"):
        checkpoint(tmp_path / name, k, W)
        Path(name, "tokenizer_config.json").write_text(json.dumps(plain))
    if isinstance(setting, str):
        Path("b", setting).write_text(json.dumps({"additional_special_tokens": ["w3"]}))
    else:
        Path("b/tokenizer_config.json").write_text(json.dumps(plain | setting))
    code, _, err = run("match a b --method naive --out aligned")
    assert code == 2 and f"as {said} has it: text becomes other tokens" in err
    Path("b/tokenizer_config.json").write_text(json.dumps(plain | {"model_max_length": 8, "legacy": False}))
    Path("b/special_tokens_map.json").unlink(missing_ok=True)
    assert run("match a b --method naive --out aligned")[0] == 0


def test_a_token_that_only_the_settings_of_one_model_name_is_said(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that name other tokens are at odds, also behind a third that names none."""
    monkeypatch.chdir(tmp_path)
    for k, (name, extra) in enumerate({"a": [], "b": ["<think>"], "c": ["<tool>"]}.items()):
        checkpoint(tmp_path / name, k, W, padding=2)
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "extra_special_tokens": extra}
        Path(name, "tokenizer_config.json").write_text(json.dumps(settings))
    for pair in ("a b", "b a"):
        code, _, err = run(f"match {pair} --method naive --out {pair[0]}-first")
        assert code == 0 and "model 1 and model 2 differ in token '<think>', which the settings beside its" in err
    code, _, err = run("match a b c --method naive --out three")
    assert code == 2 and "model 2 and model 3 differ in tokenizer.json, as extra_special_tokens" in err


def test_a_word_that_is_a_token_added_to_one_tokenizer_counts(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An added token is found anywhere in a text, also inside words."""
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("ab"):
        checkpoint(tmp_path / name, k, W)
    file = Path("b/tokenizer.json")
    stock = Tokenizer.from_file(str(file))
    assert stock.add_tokens(["w3"]) == 1 and stock.get_vocab() == words(*W)
    stock.save(str(file))
    code, _, err = run("match a b --method naive --out aligned")
    assert code == 2 and "differ in tokenizer.json, added_tokens: text becomes other tokens" in err


def test_a_token_that_is_left_out_stands_around_no_text(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "a", 0, ["w0", "<s>", *W[1:]])
    checkpoint(tmp_path / "b", 1, W)
    said = {"bos_token": "<s>", "unk_token": "w16", "eos_token": None, "additional_special_tokens": ["<s>", "w3"]}
    Path("a/tokenizer_config.json").write_text(json.dumps(said))
    assert run("match a b --method naive --vocabulary common --out plain")[0] == 0
    assert json.loads(Path("plain.parents/0-a/tokenizer_config.json").read_text()) == {
        "unk_token": "w16",
        "eos_token": None,
        "additional_special_tokens": ["w3"],
    }
    stock = Tokenizer.from_file("a/tokenizer.json")
    stock.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    stock.save("a/tokenizer.json")
    code, _, err = run("match a b --method naive --vocabulary common --out aligned")
    assert code == 2 and "expected the token '<s>', which it puts around a text, found it left out" in err


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "LlamaTokenizer", "GPTNeoXTokenizer"])
def test_a_stock_class_adds_no_token_that_was_left_out(
    kind: str, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class has tokens of its own by default, which it would put behind the last row."""
    monkeypatch.chdir(tmp_path)
    own = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|padding|>", *W[5:]]
    for k, names in enumerate((own, W)):
        checkpoint(tmp_path / "ab"[k], k, names)
        Path("ab"[k], "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, "eos_token": names[-1]}))
    code, _, err = run("match a b --method naive --vocabulary common --out aligned")
    assert code == 0, err
    assert run("merge aligned --out merged")[0] == 0
    merged, tokenizer = lmc.load("merged"), transformers.AutoTokenizer.from_pretrained("merged")
    assert len(tokenizer) == merged.config.vocab_size == 25
    assert tokenizer.get_vocab() == vocabulary(Path("merged")) and tokenizer.eos_token == "w29"
    assert run("verify merged")[0] == 0


def test_what_stands_around_a_text_moves_with_its_tokens() -> None:
    """Templates of several tokens, pairs of BERT's and RoBERTa's, padding, and lists of special tokens."""
    ids = {"<s>": 5, "a": 0}
    entry = {"id": "x", "ids": [1, 2], "tokens": ["<s>", "a"]}
    unused = {"id": "y", "ids": [9], "tokens": ["<y>"]}
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"x": entry, "y": unused},
    }
    plain = {"model": {"vocab": {"<s>": 1, "a": 2}}, "post_processor": template}
    found = tokens.renumbered(plain | {"padding": {"pad_id": 1, "pad_token": "<s>"}}, ids)
    assert found["post_processor"]["special_tokens"] == {"x": entry | {"ids": [5, 0]}}
    assert found["padding"] == {"pad_id": 5, "pad_token": "<s>"}
    assert tokens.renumbered(plain | {"padding": {"pad_id": 7, "pad_token": "<p>"}}, ids)["padding"] is None
    pairs = {"type": "BertProcessing", "sep": ["<s>", 1], "cls": ["a", 2]}
    assert tokens.renumbered(plain | {"post_processor": pairs}, ids)["post_processor"]["sep"] == ["<s>", 5]
    for gone in ({"sep": ["<x>", 3]}, {"processors": [{"cls": ["<x>", 3]}]}):
        with pytest.raises(IncompatibleModelsError, match="expected the token '<x>'"):
            tokens.renumbered(plain | {"post_processor": gone}, ids)


def test_a_tokenizer_that_leaves_merges_out_at_random_reads_a_text_the_same_every_time(tmp_path: Path) -> None:
    vocab = {token: i for i, token in enumerate(["a", "b", "c", "ab", "abc"])}
    plain = {"type": "BPE", "dropout": 0.5, "vocab": vocab, "merges": [["a", "b"], ["ab", "c"]], "unk_token": "a"}
    pico.tokenizer(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model": plain, "added_tokens": []}))
    tokenizer = lmc.checkpoints.tokenizer(tmp_path)
    assert {tuple(tokenizer("abc").input_ids) for _ in range(20)} == {(4,)}
    (tmp_path / "text.txt").write_text("abc" * 400)
    model = pico.llama(dtype=torch.float32)
    ids = corpora.load(str(tmp_path / "text.txt"), model, "match", tokenizer=str(tmp_path))  # by its name, too
    assert ids.unique().tolist() == [4]


@pytest.mark.parametrize("choice", tokens.CHOICES)
def test_two_tensors_that_the_settings_tie_are_refused(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., tuple[int, str, str]]
) -> None:
    """The stock class reads both; one of them for both would be another function."""
    monkeypatch.chdir(tmp_path)
    for k, names in enumerate((W, [*W[::-1], "<new>"])):
        checkpoint(Path("ab"[k]), k, names, tie_word_embeddings=True)
    for name in "ab":
        tensors = load_file(f"{name}/model.safetensors")
        other = torch.randn_like(tensors["model.embed_tokens.weight"])
        save_file({**tensors, "lm_head.weight": other}, f"{name}/model.safetensors", metadata={"format": "pt"})
    code, _, err = run(f"match a b --method naive --vocabulary {choice} --out aligned")
    assert code == 2 and "tie_word_embeddings is set, expected lm_head.weight to be model.embed_tokens.weight" in err
    assert not Path("aligned").exists() and not Path("aligned.parents").exists()


def of_letters(**settings: Any) -> Tokenizer:
    """Tokens of single letters and two merges, with the special tokens of Llama and of Pythia."""
    special = ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|padding|>"]
    ids = words(*special, *"abcdefgh▁Ġ", "ab", "abc")
    stock = Tokenizer(models.BPE(vocab=ids, merges=[("a", "b"), ("ab", "c")], **settings))
    stock.add_special_tokens(special)
    return stock


@pytest.mark.parametrize("name", ["LlamaTokenizer", "GPTNeoXTokenizer"])
def test_a_tokenizer_that_a_newer_library_saved_again_is_the_same(
    name: str, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its classes take tokens and merges from the file, and write the rest as they do it themselves."""
    monkeypatch.chdir(tmp_path)
    if name == "LlamaTokenizer":  # as of Llama 2, published
        stock = of_letters(unk_token="<unk>", fuse_unk=True)
        stock.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        said = "pre_tokenizer, unk_token: the stock library builds the same tokenizer from both, others may not"
    else:
        stock, said = of_letters(), ""
        stock.normalizer = normalizers.NFC()
        stock.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        stock.post_processor = processors.ByteLevel()
    for k, folder in enumerate("ab"):
        checkpoint(tmp_path / folder, k, W)
    stock.save("a/tokenizer.json")
    Path("a/tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    transformers.AutoTokenizer.from_pretrained("a").save_pretrained("b")
    files = [json.loads(Path(folder, "tokenizer.json").read_text()) for folder in "ab"]
    assert files[0]["model"] != files[1]["model"] and files[0]["post_processor"] != files[1]["post_processor"]
    code, _, err = run("match a b --method naive --out aligned")
    assert code == 0, err
    assert said in err if said else "differ" not in err, err
    assert "stand around" not in err
    if not said:  # the file as it was published, under the class that takes all of it
        shutil.copytree("b", "c")
        shutil.copy("a/tokenizer.json", "c")
        Path("c/tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        assert run("match a c --method naive --out of-another-class")[::2] == (0, "")
    files[1]["model"]["merges"] = files[1]["model"]["merges"][:1]
    Path("b/tokenizer.json").write_text(json.dumps(files[1]))
    code, _, err = run("match a b --method naive --out other-merges")
    assert code == 2 and "merges" in err and "text becomes other tokens" in err


@pytest.mark.parametrize("choice", ["first", "second", "union"])
def test_the_class_of_the_tokenizer_that_is_kept_stands_in_the_configuration(choice: str, tmp_path: Path) -> None:
    kinds = ["GPT2Tokenizer", None]
    for k, (name, kind) in enumerate(zip("ab", kinds, strict=True)):
        model = checkpoint(tmp_path / name, k, [*W[k:], f"v{k}"])
        if kind:
            model.config.tokenizer_class = kind
            lmc.save(model, tmp_path / "again")
            shutil.copy(tmp_path / "again" / "config.json", tmp_path / name)
    ready = prepare([str(tmp_path / name) for name in "ab"], tmp_path / "ready", choice)
    expected = kinds[choice == "second"]
    for place in ready:
        assert json.loads(Path(place, "config.json").read_text()).get("tokenizer_class") == expected


def test_tokens_that_only_settings_name_are_tokens(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock class adds them behind those of the file, where a model may have rows for them."""
    monkeypatch.chdir(tmp_path)
    for k, (name, more) in enumerate({"a": "<one>", "b": "<other>", "c": "<one>"}.items()):
        checkpoint(tmp_path / name, k, W, padding=2)
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "extra_special_tokens": [more]}
        Path(name, "tokenizer_config.json").write_text(json.dumps(settings))
    built = transformers.AutoTokenizer.from_pretrained("c")
    stock = [transformers.AutoTokenizer.from_pretrained(name).get_vocab() for name in "ab"]
    assert stock[0]["<one>"] == stock[1]["<other>"] == len(W)
    code, _, err = run("match a b --method naive --out aligned")
    assert code == 2 and "id of token '<one>': expected 30, found none" in err
    assert run("match a c --method naive --out aligned")[0] == 0
    built.save_pretrained("c")  # into the file
    code, _, err = run("match a c --method naive --out again")
    assert code == 0, err
    for choice, rows in (("common", 30), ("union", 32), ("first", 32)):
        code, _, err = run(f"match a b --method naive --vocabulary {choice} --out {choice}")
        assert code == 0 == run(f"merge {choice} --at 0 --out merged-{choice}")[0], err
        made = transformers.AutoTokenizer.from_pretrained(f"merged-{choice}").get_vocab()
        model = lmc.load(f"merged-{choice}")
        assert model.config.vocab_size == rows and max(made.values()) < rows
        assert ("<one>" in made, "<other>" in made) == (choice != "common", choice == "union")
        if choice != "common":
            own = lmc.load("a").get_input_embeddings().weight[30]
            assert torch.allclose(model.get_input_embeddings().weight[made["<one>"]], own, atol=1e-6)


def test_older_files_are_compared_with_newer_ones_as_they_are_built(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that is added is found anywhere; as an ordinary one it must be what its letters become."""
    monkeypatch.chdir(tmp_path)
    ids = words(*"abcdefgh", "ab", "<", "s", ">", "<s>")
    for k, name in enumerate("abc"):
        lmc.save(pico.gpt2(k, torch.float32), name)
        Path(name, "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    Path("a/vocab.json").write_text(json.dumps(ids))
    Path("a/merges.txt").write_text("#version: 0.2\na b\n")
    stock = Tokenizer(models.BPE(vocab=ids, merges=[("a", "b")]))
    stock.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    stock.save("c/tokenizer.json")
    stock.add_special_tokens(["<s>"])
    stock.save("b/tokenizer.json")
    built = [transformers.AutoTokenizer.from_pretrained(name)("a<s>").input_ids for name in "abc"]
    assert built[0] == built[2] != built[1]
    code, _, err = run("match a b --method naive --out aligned")
    assert code == 2 and "as tokenizer.json in the place of vocab.json has it: text becomes other tokens" in err
    code, _, err = run("match a c --method naive --out aligned")
    assert code == 0, err


def test_where_a_token_stood_is_no_difference(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("ab"):
        checkpoint(tmp_path / name, k, W)
        plain = json.loads(Path(name, "tokenizer.json").read_text())
        plain["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": bool(k)}
        Path(name, "tokenizer.json").write_text(json.dumps(plain))
    assert run("match a b --method naive --out aligned")[::2] == (0, "")
