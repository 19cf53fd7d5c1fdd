"""What is held out and was matched on is found by content: how much of it, and no more than there is."""

import hashlib

import pytest
import torch
from torch import Tensor

from lmc import corpora
from lmc.errors import DataError


def text(count: int, seed: int, length: int = 128) -> Tensor:
    return torch.randint(300, (count, length), generator=torch.Generator().manual_seed(seed))


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed)), torch.zeros(count).long()


@pytest.mark.parametrize("count", [50, 2000])  # fewer stretches than are kept, and many more
@pytest.mark.parametrize("kind", [text, pictures])
def test_the_share_that_was_read(kind: object, count: int) -> None:
    read, other = kind(count, 0), kind(count, 1)  # type: ignore[operator]
    known = corpora.sketch(read)
    assert corpora.share(read, known) == 1 and corpora.share(other, known) < 1e-3
    both = [torch.cat(pair) for pair in zip(read, other, strict=True)] if isinstance(read, tuple) else None
    mixed = tuple(both) if both else torch.cat([read, other])
    assert corpora.share(mixed, known) == pytest.approx(0.5, abs=0.06)  # a draw of those that would be kept
    assert len(known) <= 2**15 * 4 * 4 / 3 + 4


@pytest.mark.parametrize("length", [64, 128, 256, 1024])
def test_a_text_that_is_cut_elsewhere_is_known_wherever_that_is(length: int) -> None:
    words = text(400, 0, length).flatten()
    known = corpora.sketch(words.view(-1, length))
    for moved in (1, length // 4, length // 2, length // 2 + 1, length - 1):
        again = words[moved : moved + length * 300].view(-1, length)
        assert corpora.share(again, known) > 0.6


def test_sketches_of_what_was_read_before_are_joined() -> None:
    first, second = text(2000, 0), text(1000, 1)
    joined = corpora.sketch(second, corpora.sketch(first))
    assert joined == corpora.sketch(torch.cat([first, second])) == corpora.sketch(first, corpora.sketch(second))


def test_text_that_shares_nothing_but_its_language_shares_no_stretch() -> None:
    """Windows of the tokenizer that cuts most finely, and the shortest that are told apart by stretches."""
    parts = {
        (part, length): corpora.tokens("embedded", part, corpora.byte_tokenizer(), length=length)
        for part in ("match", "eval")
        for length in (32, 128)
    }
    for length, most in ((32, 0.1), (128, 0.01)):
        assert corpora.share(parts["eval", length], corpora.sketch(parts["match", length])) < most


def test_few_stretches_tell_nothing_and_one_picture_does() -> None:
    one, other = text(1, 0, 16), text(1, 1, 16)
    assert corpora.share(torch.cat([one, other]), corpora.sketch(one)) == 0.0
    assert corpora.share(text(4, 0, 16), corpora.sketch(text(4, 0, 16))) == 1.0
    assert corpora.share(pictures(20, 0), corpora.sketch(tuple(x[:1] for x in pictures(20, 0)))) == 1 / 20


@pytest.mark.parametrize("known", ["?", "AAA=", None, 3, ["a"]])
def test_what_is_no_sketch_is_told(known: object) -> None:
    with pytest.raises(DataError, match="expected a sketch of what was read"):
        corpora.share(text(3, 0), known)  # type: ignore[arg-type]


def test_hashes_stay_what_they_are() -> None:
    """Alignments are older than the code that reads them."""
    known = corpora.sketch(torch.arange(64).view(1, 64)), corpora.sketch((torch.zeros(1, 1, 2, 2), torch.zeros(1)))
    assert [hashlib.sha256(one.encode()).hexdigest()[:8] for one in known] == ["b56daf38", "50b8eaf5"]
