"""The tokenizer files of a folder: which there are, the stock tokenizer made of them, and their copy beside a model.

>>> tokenizer("run-1")("w3 w1 w4").input_ids
[3, 1, 4]
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lmc.checkpoints import hub, vocabulary
from lmc.errors import CheckpointError, one_line
from lmc.files import read_json
from lmc.symmetries import transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.json",
    "spiece.model",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "chat_template.jinja",
)


_VOCABULARY = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model")  # a tokenizer has one of these


def tokenizer(name: str | Path) -> "PreTrainedTokenizerBase":
    """The stock tokenizer of a folder or hub repository. Raises CheckpointError where it has none, or a damaged one."""
    folder = hub.locate(name).folder
    if not any((folder / file).exists() for file in _VOCABULARY):
        raise _no_tokenizer(folder)
    vocabulary.read(folder)
    try:
        return transformers().AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # it finds a wrong value in many ways, all of them the files' fault
        raise CheckpointError(f"{folder}: no tokenizer can be built from it ({one_line(error)})") from error


def _no_tokenizer(folder: Path) -> CheckpointError:
    return CheckpointError(f"{folder}: expected a tokenizer ({_TOKENIZER[0]}), found none")


def tokenizer_files(folder: Path) -> list[str]:
    return [name for name in _TOKENIZER if (folder / name).exists()]


def copy_tokenizer(source: Path, folder: Path) -> None:
    there = tokenizer_files(source)
    if not there:
        raise _no_tokenizer(source)
    for name in there:
        shutil.copyfile(source / name, folder / name)
    settings = folder / "tokenizer_config.json"
    if settings.exists() and "auto_map" in (plain := read_json(settings)):  # a class whose code stays behind
        del plain["auto_map"]
        settings.write_text(json.dumps(plain | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n")
