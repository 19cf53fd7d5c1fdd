"""One vocabulary for models whose vocabularies differ: rows move with their tokens, and no function changes.

>>> shared = plan("union", [4, 3], [{"a": 0, "b": 1, "c": 2}, {"b": 0, "a": 1, "d": 2}])
>>> shared.ids
{'a': 0, 'b': 1, 'c': 2, 'd': 3}
>>> shared.rows[1].tolist()                       # where the second model has each of them; −1: nowhere
[1, 0, -1, 2]

A model gives the same logits to its own tokens as before. For a token that it lacks it takes the row of a model that
has it, turned and scaled as fits best the tokens that both have; so an average of the two is not half empty there.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmc.checkpoints import belongings, licence, vocabulary
from lmc.checkpoints.blueprint import STOCK, Blueprint
from lmc.checkpoints.checkpoint import record, require_tied, save
from lmc.checkpoints.lazy import Stored, stored
from lmc.errors import ArgumentError, IncompatibleModelsError, inert
from lmc.files import read_json
from lmc.symmetries import ROWS, without_weights
from lmc.symmetries.families import EVERY, Tokens
from lmc.symmetries.families import spec as spec_of

_IDS = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias")  # generation settings with ids
_SPECIAL = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
_LISTS = ("additional_special_tokens", "extra_special_tokens")  # settings that name several tokens
CHOICES = ("first", "second", "union", "common")


@dataclass(frozen=True)
class Plan:
    """A shared vocabulary: the id of each token, each model's own row at every id, and whose tokenizer is kept.

    `changed`: whether that tokenizer needs other ids or more tokens than it has.
    """

    ids: Mapping[str, int]
    rows: tuple[Tensor, ...]  # int64 [size] each; −1 where the model has no such token
    owner: int
    changed: bool

    def stays(self, k: int) -> bool:
        """Whether every row of the model of number `k`, and every id of the tokenizer kept, stays as it is."""
        return not self.changed and torch.equal(self.rows[k], torch.arange(len(self.rows[k])))


def plan(
    choice: str,
    sizes: Sequence[int],
    vocabularies: Sequence[Mapping[str, int]],
    added: frozenset[str] = frozenset(),
) -> Plan:
    """The shared vocabulary of models with so many rows and these ids of tokens.

    `first`, `second`: that model's. `common`: the tokens that all have, in the order of the first. `union`: that of the
    model that has all tokens, if there is one; else the first's, and behind its tokens what it lacks, those first that
    were `added` to a tokenizer later. Raises ArgumentError, and IncompatibleModelsError without a token in common.
    """
    if choice not in CHOICES:
        raise ArgumentError(f"vocabulary: expected one of {', '.join(CHOICES)}, found {choice!r}")
    known = [{t: i for t, i in ids.items() if i < size} for ids, size in zip(vocabularies, sizes, strict=True)]
    every = list(dict.fromkeys(token for ids in known for token in sorted(ids, key=ids.__getitem__)))
    common = [token for token in every if all(token in ids for ids in known)]
    if not common:
        raise IncompatibleModelsError(
            "the models have no token in common: no row of one belongs to a row of the other; only models that share "
            "tokens can be averaged"
        )
    owner = {"first": 0, "second": 1}.get(choice, 0)
    if choice == "union":
        owner = next((k for k, ids in enumerate(known) if len(ids) == len(every)), 0)
    if choice == "common":
        ids, size = {token: i for i, token in enumerate(common)}, len(common)
    else:
        more = [token for token in every if token not in known[owner]] if choice == "union" else []
        free = 1 + max(known[owner].values())  # rows without a token, as padding, are used first
        ids = known[owner] | {t: free + i for i, t in enumerate(sorted(more, key=lambda t: t not in added))}
        size = max(sizes[owner], free + len(more))
    rows = [torch.full((size,), -1) for _ in known]
    if choice != "common":
        rows[owner][: sizes[owner]] = torch.arange(sizes[owner])  # its padding stays with it
        rows[owner][[i for token, i in ids.items() if token not in known[owner]]] = -1
    for mine, own in zip(rows, known, strict=True):
        both = [(ids[token], i) for token, i in own.items() if token in ids]
        places, values = torch.tensor(both).unbind(1)
        mine[places] = values
    return Plan(ids, tuple(rows), owner, ids != known[owner])


def outline(blueprint: Blueprint, shared: Plan, k: int) -> nn.Module:
    """The model of number `k` with the shared vocabulary, without its weights; ids of its settings move with tokens."""
    model: Any = blueprint.model
    moved = {int(row): i for i, row in enumerate(shared.rows[k]) if row >= 0}
    _require_numbers(blueprint, moved)
    config = copy.deepcopy(model.config)
    config.vocab_size = len(shared.rows[k])
    settings = [config]
    if model.can_generate():
        settings.append(generation := copy.deepcopy(model.generation_config))
    for each in settings:
        for name, value in each.to_dict().items():
            if value is not None and (name.endswith("_token_id") or name in _IDS):
                setattr(each, name, _moved(value, moved))
    with without_weights():
        new = type(model)(config).eval()
    if model.can_generate():
        new.generation_config = generation
    return new


def write(blueprints: Sequence[Blueprint], shared: Plan, k: int, folder: Path) -> None:
    """Write the model of number `k` with the shared vocabulary as a stock checkpoint into a new folder.

    Raises CheckpointError where its files hold two different tensors for what its settings tie.
    """
    source = blueprints[k].source
    require_tied(blueprints[k])
    owner = blueprints[shared.owner].source.folder
    kinds = (*belongings.of(source.folder), belongings.LICENCE)
    sources = dict.fromkeys(kinds, source.folder) | {belongings.TOKENIZER: owner}
    metadata = licence.of_a_copy(licence.of(source))
    text = (
        f"{inert(source.name)} with a vocabulary of {len(shared.rows[k]):,} rows that it shares with another model.\n"
    )
    model: Any = outline(blueprints[k], shared, k)
    kept: Any = blueprints[shared.owner].model
    named = [getattr(each.config, "tokenizer_class", None) for each in (model, kept)]
    if named[0] != named[1]:  # of the tokenizer that lies there
        model.config.tokenizer_class = named[1]
    save(model, folder, sources, text, blueprints[k].dtype, _tensors(blueprints, shared, k), metadata)
    if shared.changed:
        _write_tokenizer(blueprints, shared, folder)
        record(folder)


def _require_numbers(blueprint: Blueprint, moved: Mapping[int, int]) -> None:
    """Refuse where a token's number itself counts, and the shared vocabulary gives it another one."""
    read, config = blueprint.family.inputs(blueprint.model), blueprint.model.config
    numbered = read.numbered if isinstance(read, Tokens) else ""
    ids = moved if numbered == EVERY else [getattr(config, numbered)] if numbered else []
    if (other := next((i for i in ids if moved.get(i) != i), None)) is not None:
        what = (
            f"{numbered}: expected the number {other} to stay, as this class computes with it, found {moved.get(other)}"
        )
        raise IncompatibleModelsError(f"{blueprint.source.folder}: {what}; choose a --vocabulary in which it does")


def _moved(value: Any, moved: Mapping[int, int]) -> Any:
    """An id, or what holds ids, by the new numbers; None, or left out of a list, where one is not there any more.

    >>> _moved([3, 4], {3: 7}), _moved([[3], [3, 4]], {3: 7}), _moved([[[3], 0.5]], {3: 7})
    ([7], [[7]], [[[7], 0.5]])
    """
    if isinstance(value, dict):  # words, each with what is added to its logits
        return {tuple(new): bias for words, bias in value.items() if (new := _word(words, moved))} or None
    if not isinstance(value, list):
        return moved.get(value)
    if not any(isinstance(part, list) for part in value):
        return [moved[i] for i in value if i in moved] or None
    parts = (part if isinstance(part[0], list) else [part] for part in value if isinstance(part, list) and part)
    kept = [[new, *bias] for word, *bias in parts if (new := _word(word, moved))]
    return [part if len(part) > 1 else part[0] for part in kept] or None


def _word(word: Sequence[int], moved: Mapping[int, int]) -> list[int] | None:
    """The new ids of a word of several tokens; None where one of them is gone."""
    return [moved[i] for i in word] if all(i in moved for i in word) else None


def _tensors(blueprints: Sequence[Blueprint], shared: Plan, k: int) -> Iterator[tuple[str, Tensor]]:
    model: Any = blueprints[k].model
    rules = spec_of(model).rules
    tied = getattr(model.config, "tie_word_embeddings", False)
    twins = STOCK[blueprints[k].family.library].twins(model) if tied else {}
    every = [stored(blueprint) for blueprint in blueprints]
    for name in every[k]:
        if rules.get(name, "").split(" ")[0] != "vocab":
            yield name, every[k][name]
        else:  # tied tensors are one, also where the other model's are not
            yield name, _rows(every, shared, k, min(name, twins.get(name, name)))


def _rows(every: Sequence[Stored], shared: Plan, k: int, name: str) -> Tensor:
    """The rows of one tensor at the new ids: [size, …]."""
    own, rows = every[k][name], shared.rows[k]
    new = torch.where((rows >= 0).view(-1, *[1] * (own.ndim - 1)), own[rows.clamp_min(0)], own.mean(0))
    lacking = rows < 0
    for other, theirs in ((j, shared.rows[j]) for j in range(len(every)) if j != k):
        if not bool((fill := lacking & (theirs >= 0)).any()):
            continue
        both, given = (rows >= 0) & (theirs >= 0), every[other][name]
        if own.ndim > 1:
            new[fill] = fitted(given[theirs[both]], own[rows[both]], given[theirs[fill]]).to(new.dtype)
        else:
            new[fill] = given[theirs[fill]].to(new.dtype)
        lacking &= ~fill
    return new


def fitted(there: Tensor, here: Tensor, rows: Tensor) -> Tensor:
    """Rows under the rotation and the factor that bring rows `there` [n, d] closest to those `here` [n, d]."""
    product = torch.zeros(there.shape[1], here.shape[1], dtype=torch.float64)
    for x, y in zip(there.split(ROWS), here.split(ROWS), strict=True):
        product += x.double().mT @ y.double()
    u, s, vh = torch.linalg.svd(product)
    size = sum(float(x.double().square().sum()) for x in there.split(ROWS))
    return (s.sum() / size if size else 0) * rows.double() @ (u @ vh)


def _write_tokenizer(blueprints: Sequence[Blueprint], shared: Plan, folder: Path) -> None:
    """Bring the copied tokenizer to the shared ids: other numbers, fewer tokens, or what others have added."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.exists():
        where = blueprints[shared.owner].source.folder
        raise IncompatibleModelsError(
            f"{where}: expected tokenizer.json to change its ids, found none; save it there with transformers "
            f"(AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)), or choose --vocabulary first or second"
        )
    plain = read_json(file)
    theirs = [b.source.folder / file.name for b in blueprints]
    added = [read_json(one).get("added_tokens") or [] for one in theirs if one.exists()]
    added += [vocabulary.added_beside(b.source.folder) for b in blueprints]
    file.write_text(json.dumps(renumbered(plain, shared.ids, added), ensure_ascii=False), encoding="utf8")
    for older in ("vocab.json", "merges.txt", "vocab.txt", "bpe.codes", "added_tokens.json", *vocabulary.UNREAD):
        (folder / older).unlink(missing_ok=True)
    built = Tokenizer.from_file(str(file)).get_vocab()
    if wrong := [token for token, i in built.items() if shared.ids.get(token) != i]:
        what = f"tokenizer.json: token {wrong[0]!r} cannot have the id {shared.ids.get(wrong[0])} there"
        raise IncompatibleModelsError(f"{what}, as not all ids before it are used; choose --vocabulary first or second")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (settings := folder / name).exists():  # the ids of added tokens stand there, too
            kept = {key: value for key, value in read_json(settings).items() if key != "added_tokens_decoder"}
            kept = {
                key: _those(value, shared.ids) if key in _LISTS else value
                for key, value in kept.items()
                if not _is_gone(key, value, shared.ids)
            }
            settings.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf8")
    _leave_out(folder, blueprints[shared.owner].source.folder, shared.ids)


def _leave_out(folder: Path, owner: Path, ids: Mapping[str, int]) -> None:
    """Let the stock class of a tokenizer add no token without a row: what its settings do not name has a default.

    `owner`: the folder that the tokenizer came from. Where none can be built from that, nothing is looked at.
    """
    if vocabulary.stock(owner) is None:
        return
    tokenizer = vocabulary.stock(folder)
    added = [] if tokenizer is None else [token for token in tokenizer.get_vocab() if token not in ids]
    if tokenizer is not None and not added:
        return
    settings = folder / "tokenizer_config.json"
    told = read_json(settings) if settings.exists() else {}
    if tokenizer is None:  # its class needs one that went: those that stay are named
        gone = {name: None for name in _SPECIAL if _content(told.get(name)) not in ids}
    else:
        gone = {name: None for name in _SPECIAL if getattr(tokenizer, name, None) in added}
    settings.write_text(json.dumps(told | gone, indent=2) + "\n", encoding="utf8")
    tokenizer = vocabulary.stock(folder)
    if tokenizer is None or any(token not in ids for token in tokenizer.get_vocab()):
        what = f"its class {'needs tokens that are left out' if tokenizer is None else 'adds tokens without a row'}"
        raise IncompatibleModelsError(f"{owner}: tokenizer: {what}; choose another --vocabulary")


def _is_gone(key: str, value: Any, ids: Mapping[str, int]) -> bool:
    """Whether a setting names a token, such as the one that begins a text, that is not there any more."""
    return key.endswith("_token") and isinstance(_content(value), str) and _content(value) not in ids


def _those(tokens: Any, ids: Mapping[str, int]) -> Any:
    """Of special tokens, in a list or by their names, those that are still there."""
    if isinstance(tokens, dict):
        return {name: token for name, token in tokens.items() if _content(token) in ids}
    return [token for token in tokens or [] if _content(token) in ids]


def _content(token: Any) -> Any:
    """What a token is written as, which stands alone or among its options."""
    return token.get("content") if isinstance(token, dict) else token


def renumbered(
    plain: Mapping[str, Any], ids: Mapping[str, int], added: Sequence[Sequence[Mapping[str, Any]]] = ()
) -> dict[str, Any]:
    """The content of a tokenizer.json with other ids; a token without one goes, and what is merged into it.

    `added`: what others have added to theirs; it is added here where it has an id.
    """
    model = dict(plain["model"])
    vocab = model.get("vocab", {})
    if isinstance(vocab, dict):
        model["vocab"] = {token: ids[token] for token in vocab if token in ids}
    else:  # a unigram model lists tokens in the order of their ids
        model["vocab"] = sorted((entry for entry in vocab if entry[0] in ids), key=lambda entry: ids[entry[0]])
        if (unknown := model.get("unk_id")) is not None:
            model["unk_id"] = ids.get(vocab[unknown][0])
    if "merges" in model:
        model["merges"] = vocabulary.merges_of(model["merges"], model["vocab"].keys())
    mine = {token["content"]: token for token in plain.get("added_tokens") or []}
    for others in added:
        mine |= {token["content"]: token for token in others if token["content"] not in mine}
    tokens = [dict(t) | {"id": ids[name]} for name, t in mine.items() if name in ids]
    changed = dict(plain) | {"model": model, "added_tokens": sorted(tokens, key=lambda token: token["id"])}
    if isinstance(around := plain.get("post_processor"), dict):
        changed["post_processor"] = _around(around, ids)
    if isinstance(padding := plain.get("padding"), dict):
        token = padding.get("pad_token")
        there = isinstance(token, str) and token in ids
        changed["padding"] = padding | {"pad_id": ids[str(token)]} if there else None
    return changed


def _around(part: Any, ids: Mapping[str, int]) -> Any:
    """What a tokenizer puts around a text, with other ids: pairs of a token and its id, and templates."""
    match part:
        case {"type": "TemplateProcessing", "special_tokens": dict(table), **rest}:
            pieces: list[Any] = [piece for name in ("single", "pair") for piece in part.get(name) or ()]
            used = {piece["SpecialToken"]["id"] for piece in pieces if "SpecialToken" in piece}
            kept = {
                name: {**entry, "ids": [_id(token, ids) for token in entry["tokens"]]}
                for name, entry in table.items()
                if name in used or all(token in ids for token in entry["tokens"])
            }
            return {"type": "TemplateProcessing", **rest, "special_tokens": kept}
        case dict():
            return {key: _around(value, ids) for key, value in part.items()}
        case [str(token), int()]:
            return [token, _id(token, ids)]
        case list():
            return [_around(value, ids) for value in part]
    return part


def _id(token: str, ids: Mapping[str, int]) -> int:
    """The new id of a token around a text, which must have one."""
    if token not in ids:
        what = f"post_processor: expected the token {token!r}, which it puts around a text, found it left out"
        raise IncompatibleModelsError(f"tokenizer.json: {what}; choose another --vocabulary")
    return ids[token]


def require_tokens(blueprints: Sequence[Blueprint]) -> list[vocabulary.Vocabulary]:
    """The vocabularies of language models. Raises IncompatibleModelsError where one has none that is read here."""
    found = []
    for blueprint in blueprints:
        read = blueprint.family.inputs(blueprint.model)
        own = vocabulary.whole(blueprint.source.folder) if isinstance(read, Tokens) else None
        if own is None:
            where = blueprint.source.folder
            raise IncompatibleModelsError(
                f"{where}: expected a tokenizer to match tokens by, found none; save its tokenizer.json there"
            )
        found.append(own)
    return found
