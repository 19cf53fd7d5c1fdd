"""What commands read: the samples of a corpus, and alignments whose path ends at their parents."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmc.cli.said import say, warn
from lmc.errors import ArgumentError, CheckpointError

if TYPE_CHECKING:
    import torch

    import lmc.evaluation
    import lmc.matching

BEFORE = "start_read"  # in a record: what the alignments read that matching began from


def _samples(
    corpus: str, model: "torch.nn.Module", split: str, tokenizer_from: str | Path, limit: int | None, seed: int
) -> Any:
    from lmc import checkpoints, corpora
    from lmc.symmetries.families import Tokens, family_of

    text = corpora.kind(corpus) == "text" and isinstance(family_of(model).inputs(model), Tokens)
    tokenizer = checkpoints.tokenizer(tokenizer_from) if text else None
    return corpora.load(corpus, model, split, tokenizer, limit, seed)


def matched_on(data: str | None, pair: "lmc.matching.Pairing", limit: int | None, seed: int) -> Any:
    """The corpus, read before any weight: one that does not fit is found early."""
    from lmc.symmetries.families import narrowest

    reader = narrowest(blueprint.model for blueprint in pair.blueprints)
    return _samples(str(data), reader, "match", pair.blueprints[0].source.folder, limit, seed)


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


def read_by(corpus: str) -> dict[str, str]:
    """What an alignment's record says of the corpus that matching reads: its name, and what it was."""
    from lmc import corpora

    found = corpora.digest(corpus)
    return {"corpus": Path(corpus).resolve().name} | ({} if found is None else {"corpus_sha256": found})


def read_before(start: Any) -> dict[str, list[str]]:
    """The same of what the alignment read that matching begins from, and those before it: a name and a digest each."""
    record = getattr(start, "record", {})
    own = [f"{record['corpus']} {record.get('corpus_sha256', '')}"] if "corpus" in record else []
    found = [*record.get(BEFORE, ()), *own]
    return {BEFORE: found} if found else {}


def _warn_if_changed(corpus: str, aligned: "lmc.matching.Alignment") -> None:
    """Say where a corpus that matching has read is divided in another way by now."""
    read, now = aligned.record, read_by(corpus)
    last = f"{read['corpus']} {read.get('corpus_sha256', '')}" if "corpus" in read else ""
    each = [entry.rpartition(" ") for entry in (*read.get(BEFORE, ()), last)]
    if any(name == now["corpus"] and digest != now.get("corpus_sha256", "") for name, _, digest in each):
        what = f"matching read another {now['corpus']}, or this one has changed since"
        warn(f"{corpus}: {what}, so what is held out now may have been matched on; match again, or take other data")


def held_out(corpus: str, aligned: "lmc.matching.Alignment", folder: Path, limit: int | None, seed: int) -> Any:
    """The samples that matching never saw, as the first parent reads them, in windows that all can read."""
    from lmc import checkpoints
    from lmc.symmetries.families import narrowest

    _warn_if_changed(corpus, aligned)
    tokenizer_from = checkpoints.origin(aligned.parents[0]) or folder
    return _samples(corpus, narrowest(aligned.parents), "eval", tokenizer_from, limit, seed)
