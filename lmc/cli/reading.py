"""What commands read: the samples of a corpus, and alignments whose path ends at their parents."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmc.cli.said import say, warn
from lmc.errors import ArgumentError, CheckpointError

if TYPE_CHECKING:
    import torch

    import lmc.evaluation
    import lmc.matching

# Of what is held out. Short stretches of a small text stand in other texts, too; a picture stands in no other corpus.
# Of three tenths of a text that were read a third may not be recognised, where windows were cut elsewhere.
SHARE = {"text": 0.2, "images": 0.02}


def _samples(
    corpus: str,
    models: "Sequence[torch.nn.Module]",
    split: str,
    tokenizer_from: str | Path,
    limit: int | None,
    seed: int,
) -> Any:
    """What all of these models can read, as the first reads it."""
    from lmc import checkpoints, corpora
    from lmc.symmetries.families import Tokens, family_of, first_naming, narrowest

    model = narrowest(models)
    text = corpora.kind(corpus) == "text" and isinstance(family_of(model).inputs(model), Tokens)
    tokenizer = checkpoints.tokenizer(tokenizer_from) if text else None
    return corpora.load(corpus, model, split, tokenizer, limit, seed, first_naming(models))


def called(corpus: str) -> str:
    """The name of a corpus in records and on cards: the last of where it lies, also where that is called `.`.

    >>> called("data/digits"), called("data/..") == Path.cwd().name
    ('digits', True)
    """
    return Path(corpus).resolve().name


def matched_on(data: str | None, pair: "lmc.matching.Pairing", limit: int | None, seed: int) -> Any:
    """The corpus, read before any weight: one that does not fit is found early."""
    models = [blueprint.model for blueprint in pair.blueprints]
    return _samples(str(data), models, "match", pair.blueprints[0].source.folder, limit, seed)


def counts_of(samples: Any, model: "torch.nn.Module") -> "torch.Tensor":
    """How often each token of the vocabulary occurs."""
    import torch

    from lmc.symmetries.families import Tokens, family_of

    read = family_of(model).inputs(model)
    if not isinstance(read, Tokens):
        raise ArgumentError("--by-frequency: expected models that read text, found pictures")
    return torch.bincount(samples.flatten(), minlength=read.vocabulary).double()


def read_alignment(folder: Path, verify: bool) -> "lmc.matching.Alignment":
    """An alignment whose files and parents are as they were, and whose path ends at its parents."""
    from lmc.matching import Alignment

    aligned = Alignment.load(folder)
    if verify:
        require_ends_of(aligned, folder)
    return aligned


def require_ends_of(aligned: "lmc.matching.Alignment", folder: Path) -> None:
    """Refuse an alignment whose path does not end at its parents."""
    from lmc.matching import require_ends

    try:
        say_ends(require_ends(aligned))
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None


def say_ends(error: float) -> None:
    """Say how exactly the ends of a path are its parents."""
    say(f"the ends of the path are the parents: logits differ by {error:.1e} of the largest")


def measured_on(folder: Path) -> "lmc.evaluation.PathResult | None":
    """The last path that was measured on this very alignment, if there is one."""
    from lmc.matching import LAST_PATH, measured

    file = folder / LAST_PATH
    if not file.exists():
        return None
    found = measured(folder)
    if found is None:
        warn(f"{file}: measured on another alignment, so the card leaves it out; again: lmc path {folder}")
    return found


def naming(
    alignment: "lmc.matching.Alignment", corpus: str, samples: Any, limit: int | None
) -> "lmc.matching.Alignment":
    """The alignment, whose record names the corpus that matching read, if any, and how much of it."""
    if samples is None or "identical" in alignment.record:
        return alignment
    said = {"corpus": called(corpus)} | ({} if limit is None else {"limit": limit})
    return replace(alignment, record=alignment.record | said)


def seen(corpus: str, samples: Any, aligned: "lmc.matching.Alignment") -> float | None:
    """The share of held-out samples that were matched on, said where it is large: a corpus may have changed since."""
    from lmc import corpora
    from lmc.matching import READ

    known = aligned.record.get(READ)
    if known is None or (share := corpora.share(samples, known)) <= SHARE[corpora.kind(corpus)]:
        return None
    what = f"matching read {100 * share:.0f} % of what is held out or more"
    warn(f"{corpus}: {what}, here or in another place, so losses say little; match again, or take other data")
    return share


def digest_of(samples: Any) -> str:
    """A SHA-256 of samples: of token ids, or of pictures and their labels."""
    from lmc.files import tensor_digest

    tensors = samples if isinstance(samples, tuple) else (samples,)
    return tensor_digest({str(number): tensor for number, tensor in enumerate(tensors)})


def held_out(corpus: str, aligned: "lmc.matching.Alignment", folder: Path, limit: int | None, seed: int) -> Any:
    """The samples that matching never saw, as the first parent reads them, in windows that all can read."""
    from lmc import checkpoints

    tokenizer_from = checkpoints.origin(aligned.parents[0]) or folder
    return _samples(corpus, aligned.parents, "eval", tokenizer_from, limit, seed)


def to_round_on(
    corpus: str,
    aligned: "lmc.matching.Alignment",
    folder: Path,
    limit: int | None,
    seed: int,
    dtype: "torch.dtype",
    measured: "lmc.evaluation.PathResult | None",
) -> Any:
    """The same, to measure on them what rounding to a type costs; says where nothing is rounded.

    Without a `limit` of one's own they are those that `measured` was measured on, if it was on the same corpus.
    """
    import torch

    from lmc.evaluation import is_lower

    samples, name = None, str(dtype).removeprefix("torch.")
    if limit is None and measured is not None and measured.corpus == called(corpus):
        # A card quotes one loss of a model.
        again = held_out(corpus, aligned, folder, measured.samples, seed if measured.seed is None else measured.seed)
        samples = again if digest_of(again) == measured.digest else None  # another corpus may have the same name
    if samples is None:
        samples = held_out(corpus, aligned, folder, limit, seed)
    widest = reduce(torch.promote_types, (p.dtype for parent in aligned.parents for p in parent.parameters()))
    if is_lower(dtype, widest):
        seen(corpus, samples, aligned)
        say(f"measuring what rounding to {name} costs on {corpus}")
    else:
        warn(f"--data: not used, as {name} rounds nothing of these models")
    return samples
