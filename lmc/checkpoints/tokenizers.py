"""The stock tokenizer of a folder or hub repository.

>>> tokenizer("run-1")("w3 w1 w4").input_ids
[3, 1, 4]
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmc.checkpoints import hub, vocabulary
from lmc.errors import CheckpointError, one_line
from lmc.symmetries import transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_VOCABULARY = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model")  # a tokenizer has one of these


def tokenizer(name: str | Path) -> "PreTrainedTokenizerBase":
    """The stock tokenizer of a folder or hub repository. Raises CheckpointError where it has none, or a damaged one."""
    folder = hub.locate(name).folder
    if not any((folder / file).exists() for file in _VOCABULARY):
        what = "save it there, and match again what was matched"
        raise CheckpointError(f"{folder}: expected a tokenizer ({_VOCABULARY[0]}), found none; {what}")
    vocabulary.read(folder)
    try:
        built = transformers().AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # it finds a wrong value in many ways, all of them the files' fault
        raise CheckpointError(
            f"{folder}: no tokenizer can be built from it ({one_line(error)}); save it again"
        ) from error
    model: Any = getattr(getattr(built, "backend_tokenizer", None), "model", None)
    if getattr(model, "dropout", None):  # of merges, at random, for training: a text is read the same every time here
        model.dropout = None
    return built
