"""Data sets of the Hugging Face hub, with one clear line where they cannot be had."""

from __future__ import annotations

from typing import Any

from lmc.errors import DataError


def dataset(corpus: str, *name: str, split: str, **options: Any) -> Any:
    """`datasets.load_dataset(*name, split=split, **options)` for the corpus called so here.

    rows = dataset("wikitext", "Salesforce/wikitext", "wikitext-103-raw-v1", split="test")
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"corpus '{corpus}' needs 'datasets': pip install 'lmc-transformers[data]'") from error
    try:
        return datasets.load_dataset(*name, split=split, **options)
    except (OSError, ValueError) as error:  # no network, no such name, no permission
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(
            f"corpus '{corpus}': {name[0]} cannot be loaded from the hub ({reason}); give a local folder instead"
        ) from error
