"""Stock checkpoints in and out: checked before a weight is read, written whole or not at all.

Folders and hub names, their configurations, headers, tensors, tokenizers and preprocessing, in the layouts of
transformers and timm; and the record of which checkpoint a model came from. What a model computes plays no part here.

Begin with `checkpoint` (load and save), then `blueprint` (everything known about a checkpoint before its weights) and
`architecture` (the class it names, known before torch is imported).
`writer` writes files and shards; `beside` does so, and hashes files, while the main thread goes on. `adapters` and
`tokens` make stock checkpoints of parents that are none or whose vocabularies differ; `foreign` says of a folder
without stock weights what it is.
"""

from typing import TYPE_CHECKING

from lmc import face

if TYPE_CHECKING:
    from lmc.checkpoints import adapters as adapters
    from lmc.checkpoints import architecture as architecture
    from lmc.checkpoints import belongings as belongings
    from lmc.checkpoints import conversion as conversion
    from lmc.checkpoints import foreign as foreign
    from lmc.checkpoints import headers as headers
    from lmc.checkpoints import hub as hub
    from lmc.checkpoints import licence as licence
    from lmc.checkpoints import preprocessing as preprocessing
    from lmc.checkpoints import provenance as provenance
    from lmc.checkpoints import same_tokens as same_tokens
    from lmc.checkpoints import side_by_side as side_by_side
    from lmc.checkpoints import tokens as tokens
    from lmc.checkpoints import vocabulary as vocabulary
    from lmc.checkpoints.blueprint import Blueprint as Blueprint
    from lmc.checkpoints.blueprint import inspect as inspect
    from lmc.checkpoints.blueprint import require_tokens_fit as require_tokens_fit
    from lmc.checkpoints.checkpoint import DTYPES as DTYPES
    from lmc.checkpoints.checkpoint import find_all as find_all
    from lmc.checkpoints.checkpoint import load as load
    from lmc.checkpoints.checkpoint import record as record
    from lmc.checkpoints.checkpoint import reload as reload
    from lmc.checkpoints.checkpoint import require_tied as require_tied
    from lmc.checkpoints.checkpoint import require_written as require_written
    from lmc.checkpoints.checkpoint import resolve as resolve
    from lmc.checkpoints.checkpoint import save as save
    from lmc.checkpoints.lazy import Stored as Stored
    from lmc.checkpoints.lazy import spill as spill
    from lmc.checkpoints.lazy import stored as stored
    from lmc.checkpoints.references import digests as digests
    from lmc.checkpoints.references import digests_and_finite as digests_and_finite
    from lmc.checkpoints.references import origin as origin
    from lmc.checkpoints.references import refer as refer
    from lmc.checkpoints.references import refer_inside as refer_inside
    from lmc.checkpoints.references import reference as reference
    from lmc.checkpoints.references import require_still as require_still
    from lmc.checkpoints.references import require_unwritten as require_unwritten
    from lmc.checkpoints.references import source as source
    from lmc.checkpoints.tokenizers import tokenizer as tokenizer
else:
    __getattr__, __dir__ = face(__name__)
