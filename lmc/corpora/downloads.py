"""Data sets of the Hugging Face hub, with one clear line where they cannot be had."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lmc.checkpoints import hub
from lmc.errors import DataError


def dataset(corpus: str, *name: str, split: str, **options: Any) -> Any:
    """`datasets.load_dataset(*name, split=split, **options)` for the corpus called so here.

    >>> rows = dataset("my text", "text", data_files="text.txt", split="train", streaming=True)   # from a local file
    >>> list(next(iter(rows)))
    ['text']
    """
    with _one_line(corpus, name[0]) as load_dataset:
        return load_dataset(*name, split=split, **options)


def documents(corpus: str, *name: str, characters: int) -> list[str]:
    """The first documents of a large text corpus that hold so many characters; no more than these are fetched.

    >>> documents("fineweb", "HuggingFaceFW/fineweb-edu", "sample-10BT", characters=10**6)  # doctest: +SKIP
    """
    found: list[str] = []
    with _one_line(corpus, name[0]) as load_dataset:
        for row in load_dataset(*name, split="train", streaming=True):
            found.append(row["text"])
            characters -= len(row["text"])
            if characters <= 0:
                break
    return found


@contextmanager
def _one_line(corpus: str, name: str) -> Iterator[Any]:
    """`datasets.load_dataset`, and a DataError for whatever goes wrong in using it."""
    try:
        import datasets
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise DataError(f"corpus '{corpus}' needs 'datasets': pip install -e \".[data]\"") from error
    if "/" in name and (why := hub.silence()):
        raise DataError(
            f"corpus '{corpus}': {name} cannot be loaded from the hub: {why}; or give a local folder instead"
        )
    transport: Any = HfHubHTTPError.__bases__[0]
    try:
        yield datasets.load_dataset
    except (OSError, ValueError, transport, datasets.exceptions.DatasetsError) as error:
        reason = hub.explain(error, f"datasets/{name}")
        raise DataError(
            f"corpus '{corpus}': {name} cannot be loaded from the hub: {reason}; or give a local folder instead"
        ) from error
