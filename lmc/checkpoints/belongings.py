"""What belongs to a language model beside its weights: which kinds a folder has, whose a merged model gets, and copies.

>>> sorted(of(Path("run-1")))
['generation settings', 'tokenizer']
>>> choose([Path("run-1"), Path("run-2")], first=1).taken["tokenizer"]
1

The rule: every kind comes from one parent, by default the first; a kind that it lacks comes from the next one that has
it. Pictures are another matter: how they are prepared is part of a vision model's function.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmc.errors import CheckpointError
from lmc.files import read_json, read_text

GENERATION = "generation settings"  # stop tokens among them; a model carries them, so no file is copied
TOKENIZER = "tokenizer"
_TEMPLATES = "chat templates"
OF_PROCESSORS = "chat_template.json"  # which tokenizers do not read
# How pictures become input (`lmc.checkpoints.preprocessing` reads it): in a file of its own, or nested in another one.
PREPROCESSOR, NESTING, NESTED = "preprocessor_config.json", "processor_config.json", "image_processor"
_VOCABULARIES = (
    "tokenizer.json",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "bpe.codes",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
_KINDS: dict[str, tuple[str, ...]] = {
    TOKENIZER: (*_VOCABULARIES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt"),
    _TEMPLATES: ("chat_template.jinja", OF_PROCESSORS, "additional_chat_templates/*.jinja"),
    "processor": (PREPROCESSOR, NESTING, "video_preprocessor_config.json"),
    GENERATION: ("generation_config.json",),
}

LICENCE = "licence"  # its text: of a model that is nothing else in another layout; of others a card says what is known
OF_BASE = "licence of the base"  # of an adapter, beside its own
_TEXT = r"[\w-]*(\.(txt|md|rst|html|pdf))?"  # how the name of a text ends
_LICENCE = re.compile(rf"[\w.-]*(licen[cs]e|copying|use_policy|terms_of_use|eula){_TEXT}", re.IGNORECASE)
_NOTICE = re.compile(rf"[\w-]*notices?{_TEXT}", re.IGNORECASE)
STOPS = ("bos_token_id", "eos_token_id", "pad_token_id")  # a configuration repeats these of the generation settings
# Older files have these generation settings in the configuration, where a stock class reads them if nothing else does.
OLDER = (
    *("max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty"),
    *("temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size"),
    *("encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores", "suppress_tokens"),
    *("return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values"),
    *("exponential_decay_length_penalty", "begin_suppress_tokens"),
)
_HALVES = re.compile("[\ud800-\udfff]")  # JSON can spell these, a file in UTF-8 cannot hold them


@dataclass(frozen=True)
class Choice:
    """Of each kind, the number of the parent that it is taken from; and what is to be said about it, a line a kind."""

    taken: Mapping[str, int]
    notes: tuple[str, ...]


def of(folder: Path) -> dict[str, str]:
    """The kinds that a folder has, each with a digest of what it is."""
    return {kind: found for kind in _KINDS if (found := _digest(folder, kind))}


def owners(folders: Sequence[Path]) -> dict[str, Path]:
    """Of each kind, the first of these folders that has it: of what lies there as files.

    >>> owners([Path("run-1"), Path("run-2")])["tokenizer"].name
    'run-1'
    """
    found: dict[str, Path] = {}
    for folder in folders:
        found = {kind: folder for kind in of(folder)} | found
    if TOKENIZER in found:
        found[TOKENIZER] = next(filter(_has_vocabulary, folders), found[TOKENIZER])
    return found


def choose(folders: Sequence[Path | None], first: int = 0) -> Choice:
    """Whose belongings a merged model gets; None stands for a parent without a folder."""
    have = [{} if folder is None else _stops(folder) | of(folder) for folder in folders]
    order = sorted(range(len(folders)), key=lambda k: k != first)
    taken, notes = {}, []
    for kind in _KINDS:
        owners = [k for k in order if kind in have[k]]
        if kind == TOKENIZER:  # settings without a vocabulary are of use only where no other parent has one
            owners.sort(key=lambda k: not _has_vocabulary(folders[k]))
        if not owners:
            continue
        taken[kind] = owners[0]
        lacks = "has none" if kind not in have[first] else "has no vocabulary"
        note = f"{kind}: of parent {owners[0]}" + (f", as parent {first} {lacks}" if owners[0] != first else "")
        others = [k for k in owners if have[k][kind] != have[owners[0]][kind]]
        notes.append(note + "".join(f"; parent {k} has another" for k in sorted(others)))
    return Choice(taken, tuple(notes))


def copy(sources: Mapping[str, Path], folder: Path, context: int | None = None) -> None:
    """Copy each kind from its folder, without the code that a class of a checkpoint's own would need.

    `context`: how many tokens the model in the new folder reads. A tokenizer of one that read more is told so.
    """
    for kind, source in sources.items():
        files = [] if kind == GENERATION else _files(source, kind)
        if kind == _TEMPLATES and sources.get(TOKENIZER) != source:  # some may stand among another tokenizer's options
            _write_templates(_templates(source), folder)
            files = [file for file in files if file.name == OF_PROCESSORS]
        for file in files:
            target = folder / file.relative_to(source)
            if kind == OF_BASE and target.exists() and target.read_bytes() != file.read_bytes():
                target = folder / f"base-{file.name}"
            if not target.exists():  # what the model itself has written comes first
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, target)
                _drop_code(target)
    if sources.get(TOKENIZER) != sources.get(_TEMPLATES):  # its own template would be read where the other has none
        _drop_template(folder / "tokenizer_config.json")
    if context is not None and TOKENIZER in sources:
        mine, theirs = _positions(folder), _positions(sources[TOKENIZER])
        if mine is not None and theirs is not None and mine < theirs:
            _shorten(folder, context)


def licences(folder: Path) -> list[Path]:
    """The files that hold the text of a licence.

    >>> licences(Path("run-1"))
    []
    """
    return _called(folder, _LICENCE)


def notices(folder: Path) -> list[Path]:
    """The files that say who is to be named wherever a model goes.

    >>> notices(Path("run-1"))
    []
    """
    return _called(folder, _NOTICE)


def _called(folder: Path, name: re.Pattern[str]) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and name.fullmatch(path.name))


def require_tokenizer(folder: Path) -> None:
    """Raise CheckpointError where a folder has no tokenizer."""
    if TOKENIZER not in of(folder):
        raise CheckpointError(f"{folder}: expected a tokenizer (tokenizer.json), found none; save it there")


def _has_vocabulary(folder: Path | None) -> bool:
    return folder is not None and any((folder / name).is_file() for name in _VOCABULARIES)


def _files(folder: Path, kind: str) -> list[Path]:
    if kind in (LICENCE, OF_BASE):
        return licences(folder) + notices(folder)
    return [path for pattern in _KINDS[kind] for path in sorted(folder.glob(pattern)) if path.is_file()]


def _digest(folder: Path, kind: str) -> str:
    """The SHA-256 of a kind's files; of templates their texts, wherever they stand. Empty where there are none."""
    found: Mapping[str, str | bytes]
    if kind == _TEMPLATES:
        found = {**_templates(folder), **{f.name: f.read_bytes() for f in [folder / OF_PROCESSORS] if f.is_file()}}
    else:
        found = {str(f.relative_to(folder)): _without_template(f) for f in _files(folder, kind)}
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest() if found else ""


def _stops(folder: Path) -> dict[str, str]:
    """The generation settings that a stock class makes of a folder's configuration where they have no file."""
    file = folder / "config.json"
    plain = read_json(file) if file.exists() else {}
    found = {name: plain[name] for name in (*STOPS, *OLDER) if plain.get(name) is not None}
    return {GENERATION: repr(found)} if found else {}


def _without_template(file: Path) -> str | bytes:
    """What a file holds; a chat template among a tokenizer's options is of the other kind."""
    if file.name != "tokenizer_config.json":
        return file.read_bytes()
    return json.dumps({key: value for key, value in read_json(file).items() if key != "chat_template"}, sort_keys=True)


def _templates(folder: Path) -> dict[str, str]:
    """The chat templates of a folder by name, from the file that the stock tokenizer takes them from."""
    found: dict[str, str] = {}
    file = folder / "tokenizer_config.json"
    plain = read_json(file).get("chat_template") if file.exists() else None
    for entry in plain if isinstance(plain, list) else [{"name": "default", "template": plain}]:
        match entry:
            case {"name": str(name), "template": str(text)} if re.fullmatch(r"[\w-][\w.-]*", name):
                found[name] = text
    if own := [path for path in _files(folder, _TEMPLATES) if path.suffix == ".jinja"]:  # then it reads no others
        found = {"default" if path.parent == folder else path.stem: read_text(path) for path in own}
    other = folder / OF_PROCESSORS
    beside = {other.name: str(read_json(other).get("chat_template"))} if other.is_file() else {}
    for name, text in {**found, **beside}.items():
        if _HALVES.search(text):
            raise CheckpointError(
                f"{folder}: chat template {name}: expected text, found half a character (a surrogate); save it as UTF-8"
            )
    return found


def _write_templates(templates: Mapping[str, str], folder: Path) -> None:
    for name, text in templates.items():
        path = folder / ("chat_template.jinja" if name == "default" else f"additional_chat_templates/{name}.jinja")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf8")


def _positions(folder: Path) -> int | None:
    """How long the texts of the model in a folder are, as its settings count them; None where they do not say."""
    file = folder / "config.json"
    plain = read_json(file) if file.is_file() else {}
    told = [plain.get(name) for name in ("max_position_embeddings", "n_positions")]
    return next((number for number in told if isinstance(number, int)), None)


def _shorten(folder: Path, context: int) -> None:
    """Let a tokenizer cut texts to what its model reads at most, where its settings say more."""
    file = folder / "tokenizer_config.json"
    plain = read_json(file) if file.is_file() else {}
    if isinstance(told := plain.get("model_max_length"), int | float) and told > context:
        file.write_text(json.dumps(plain | {"model_max_length": context}, indent=2) + "\n", encoding="utf8")


def _drop_template(file: Path) -> None:
    """Take the chat templates out of a tokenizer's settings."""
    if file.is_file() and "chat_template" in (plain := read_json(file)):
        del plain["chat_template"]
        file.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf8")


def _drop_code(file: Path) -> None:
    """Take out of a settings file the names of classes whose code stays behind."""
    if file.suffix != ".json" or "auto_map" not in (plain := read_json(file)):
        return
    del plain["auto_map"]
    stock = {"tokenizer_class": "PreTrainedTokenizerFast"} if file.name == "tokenizer_config.json" else {}
    file.write_text(json.dumps(plain | stock, indent=2) + "\n", encoding="utf8")
