"""Data sets of the Hugging Face hub, with one clear line where they cannot be had."""

from __future__ import annotations

from typing import Any

from lmc.errors import DataError
from lmc.hub import explain


def dataset(corpus: str, *name: str, split: str, **options: Any) -> Any:
    """`datasets.load_dataset(*name, split=split, **options)` for the corpus called so here.

    rows = dataset("wikitext", "Salesforce/wikitext", "wikitext-103-raw-v1", split="test")
    """
    try:
        import datasets
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise DataError(f"corpus '{corpus}' needs 'datasets': pip install 'lmc-transformers[data]'") from error
    transport: Any = HfHubHTTPError.__bases__[0]
    try:
        return datasets.load_dataset(*name, split=split, **options)
    except (OSError, ValueError, transport, datasets.exceptions.DatasetsError) as error:
        reason = explain(error, f"datasets/{name[0]}")
        raise DataError(
            f"corpus '{corpus}': {name[0]} cannot be loaded from the hub: {reason}; or give a local folder instead"
        ) from error
