"""Pairs that can be matched pass; for any other the first difference is named, before weights are read."""

import json
import time
import warnings
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from tokenizers import Tokenizer

import lmc
from lmc.checkpoints import preprocessing
from lmc.errors import CheckpointError, DataError, IncompatibleModelsError, LmcError, UnsupportedModelError
from lmc.matching import estimate, memory, pairing, prepare
from lmc.matching.fine_tune import TUNED
from lmc.matching.likeness import SHARED, independence, size_of_change
from lmc.matching.pairing import inspect_pair, require_pairable
from lmc.reproduce.training.shapes import LLAMA, PYTHIA
from lmc.symmetries.families import class_names

ROPE = {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}

DIFFERENT: dict[str, tuple[Callable[[], Any], Callable[[], Any], str]] = {
    "class": (pico.neox, pico.vit, "class: expected GPTNeoXForCausalLM, found VisionTransformer"),
    "vocabulary": (pico.neox, lambda: pico.neox(vocab_size=41), "vocab_size: expected 40, found 41"),
    "width": (pico.neox, lambda: pico.neox(hidden_size=8), r"shape of .*: expected \[.*16.*\], found \[.*8.*\]"),
    "depth": (pico.neox, lambda: pico.neox(num_hidden_layers=3), r"layers\.2\..*: expected no such tensor.*lmc match"),
    "bias": (pico.neox, lambda: pico.neox(attention_bias=False), r"bias: expected \[16\], found no such tensor"),
    "heads": (pico.neox, lambda: pico.neox(num_attention_heads=4), "num_attention_heads: expected 2, found 4"),
    "activation": (pico.neox, lambda: pico.neox(hidden_act="relu"), "hidden_act: expected gelu, found relu"),
    "residual": (
        pico.neox,
        lambda: pico.neox(use_parallel_residual=False),
        "use_parallel_residual: expected True, found False",
    ),
    "rotary base": (
        pico.neox,
        lambda: pico.neox(rope_parameters=ROPE),
        r"rope_parameters\.rope_theta: expected 10000\.0, found 500\.0",
    ),
    "rotary kind, beside which the context counts": (
        pico.llama,
        lambda: pico.llama(rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}),
        r"rope_parameters\.(factor: expected None, found 2\.0|rope_type: expected default, found linear)",
    ),
    "rotary width": (
        pico.neox,
        lambda: pico.neox(rotary_fraction=1.0),
        r"rope_parameters\.partial_rotary_factor: expected 0\.5, found 1\.0",
    ),
    "image": (
        pico.vit,
        lambda: pico.vit(img_size=12),
        r"shape of pos_embed: expected \[1, 5, 16\], found \[1, 10, 16\]",
    ),
    "image of equal area": (
        lambda: pico.vit(img_size=(8, 4)),
        lambda: pico.vit(img_size=(4, 8)),
        r"img_size\[0\]: expected 8, found 4",
    ),
    "classes": (pico.vit, lambda: pico.vit(num_classes=9), "shape of head"),
    "pooling": (
        lambda: pico.vit(),
        lambda: pico.vit(global_pool="avg", fc_norm=False),
        "global_pool: expected token, found avg",
    ),
    "padding of a classifier of texts": (
        lambda: pico.gpt2(kind="ForSequenceClassification", pad_token_id=1),
        lambda: pico.gpt2(kind="ForSequenceClassification", pad_token_id=2),
        "pad_token_id: expected 1, found 2",
    ),
    "what a pooler does at its end": (
        lambda: pico.builder("ViTModel")(pooler_act="tanh"),
        lambda: pico.builder("ViTModel")(pooler_act="relu"),
        "pooler_act: expected tanh, found relu",
    ),
    "padding where positions begin": (
        lambda: pico.roberta(pad_token_id=1),
        lambda: pico.roberta(pad_token_id=2),
        "pad_token_id: expected 1, found 2",
    ),
    "vision heads": (pico.vit, lambda: pico.vit(num_heads=4), "num_heads: expected 2, found 4"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_the_first_difference_is_named(what: str) -> None:
    first, second, message = DIFFERENT[what]
    with pytest.raises(IncompatibleModelsError, match=message) as caught:
        require_pairable([first(), second()])
    assert "\n" not in str(caught.value)


def test_the_odd_one_out_is_numbered() -> None:
    with pytest.raises(IncompatibleModelsError, match="model 1 and model 3"):
        require_pairable([pico.vit(0), pico.vit(1), pico.vit(2, num_classes=9)])


def test_other_names_of_classes_are_warned_of(tmp_path: Path) -> None:
    a, b = pico.hf_vit(0, torch.float32), pico.hf_vit(1, torch.float32)
    a.config.id2label, b.config.id2label = (dict(enumerate(names)) for names in ("abcdefghij", "jihgfedcba"))
    with pytest.warns(UserWarning, match="model 1 and model 2 name their classes differently"):
        alignment = lmc.match(a, b, method="naive")
    (card,) = alignment.export(tmp_path / "merged", at=0.5)
    assert "- classes: named as parent 0 names them; parent 1 names them differently, so look whether" in card
    with pytest.warns(UserWarning) as said:
        pairing.require_pairable([pico.hf_vit(2), a, b])
    assert [str(w.message).partition(" name ")[::2] for w in said] == [
        ("model 1 and model 2", "no classes but for one, whose names are taken: are they in one order?"),
        ("model 2 and model 3", "their classes differently: are they in one order?"),
    ]


@pytest.mark.parametrize(
    ("stock", "settings"),
    [
        ("OPTForCausalLM", {"dropout": 0.25, "layerdrop": 0.1, "init_std": 0.1}),
        ("Starcoder2ForCausalLM", {"embedding_dropout": 0.1, "residual_dropout": 0.2}),
        ("Dinov2ForImageClassification", {"drop_path_rate": 0.1, "layerscale_value": 1e-5}),
        (
            "MixtralForCausalLM",
            {"router_jitter_noise": 0.1, "router_aux_loss_coef": 0.02, "output_router_logits": True},
        ),
        ("GPT2LMHeadModel", {"n_inner": None}),
    ],
)
def test_settings_that_only_training_reads_may_differ(stock: str, settings: dict[str, Any]) -> None:
    usual = {"n_inner": 64} if "n_inner" in settings else {}  # four times the width, which it is where nothing is said
    a, b = (pico.builder(stock)(0, **given) for given in (usual, settings))
    pairing.require_pairable([a, b])
    inputs = pico.inputs(a)
    assert torch.equal(pico.logits(a, inputs), pico.logits(b, inputs))


def test_names_that_timm_keeps_are_warned_of_and_stay(tmp_path: Path) -> None:
    models = [pico.vit(k, torch.float32) for k in range(2)]
    for model, names in zip(models, ("abcdefghij", "jihgfedcba"), strict=True):
        model.pretrained_cfg = {**model.pretrained_cfg, "label_names": list(names)}
    with pytest.warns(UserWarning, match="model 1 and model 2 name their classes differently"):
        pairing.require_pairable(models)
    lmc.save(models[1], tmp_path / "b")
    assert class_names(lmc.load(tmp_path / "b")) == dict(enumerate("jihgfedcba"))


@pytest.mark.parametrize("of_timm", [True, False])
def test_the_names_of_classes_that_only_one_has_are_taken(of_timm: bool, tmp_path: Path) -> None:
    build = pico.vit if of_timm else pico.hf_vit
    a, b = (build(k, torch.float32) for k in range(2))
    names = dict(enumerate("jihgfedcba"))
    if of_timm:
        b.pretrained_cfg = {**b.pretrained_cfg, "label_names": [*names.values()]}
    else:
        b.config.id2label, b.config.problem_type = names, "multi_label_classification"
    with pytest.warns(UserWarning) as said:
        alignment = lmc.match(a, b, method="canonical")
    what = "model 1 and model 2 name no classes but for one, whose names are taken"
    assert any(what in str(w.message) for w in said)
    (card,) = alignment.export(tmp_path / "merged", at=0.5)
    assert "- classes: named as parent 1 names them, as parent 0 does not\n" in card
    merged = lmc.load(tmp_path / "merged")
    assert class_names(merged) == names and getattr(getattr(merged, "config", None), "problem_type", None) is None
    ends = [alignment.merge(float(k)) for k in range(2)]
    assert [class_names(end) for end in ends] == [names, names]


def test_a_second_model_that_its_table_does_not_cover_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="is_decoder is not supported by the bert table"):
        lmc.match(pico.bert(0), pico.bert(1, is_decoder=True), method="naive")


def test_a_model_that_looks_ahead_has_no_loss_of_the_next_token() -> None:
    a, b = (pico.gemma(k, use_bidirectional_attention=True) for k in range(2))
    with pytest.raises(DataError, match="expected a model that predicts the next token"):
        lmc.path(lmc.match(a, b, method="naive"), pico.inputs(a), 3)


def test_a_pooler_of_a_size_of_its_own() -> None:
    a, b = (pico.builder("ViTModel")(k, pooler_output_size=8) for k in range(2))
    alignment = lmc.match(a, b, method="weights")
    assert alignment.end_error(1) < 1e-6


def test_the_factor_between_models_of_two_epsilons_is_said_unless_it_is_rounding() -> None:
    a, b, c = (pico.llama(k, rms_norm_eps=eps) for k, eps in enumerate((1e-6, 4e-6, 1e-6 * (1 - 1e-12))))
    with pytest.warns(UserWarning, match=r"1e-06 and 4e-06: .* multiplies the residual stream of model 2 by 0\.5,"):
        lmc.match(a, b, method="canonical")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lmc.match(a, b, method="naive")
        lmc.match(a, c, method="canonical")


def test_other_kinds_of_labels_are_warned_of() -> None:
    a, b = pico.hf_vit(0), pico.hf_vit(1)
    b.config.problem_type = "multi_label_classification"
    with pytest.warns(UserWarning, match="differ in problem_type, None and multi_label_classification"):
        pairing.require_pairable([a, b])
    with pytest.warns(UserWarning, match=r"problem_type, .*: what is carried is used as the fine-tune is"):
        pairing.require_tunable(b, (a, a))


def test_what_follows_the_transformer_is_warned_of(tmp_path: Path) -> None:
    places = [str(folder(tmp_path / name, pico.neox(k, torch.float32))) for k, name in enumerate("ab")]
    (tmp_path / "b/modules.json").write_text("[]")
    said = "b/modules.json: what follows the transformer"
    with pytest.warns(UserWarning, match=said):
        inspect_pair(places)
    with pytest.warns(UserWarning, match=said):
        lmc.match(*map(lmc.load, places), method="naive")
    with pytest.warns(UserWarning, match=said):  # before it is written anew
        prepare(places, tmp_path / "ready", "union")
    said = "reads hidden states, which all methods but naive rewrite in a GPTNeoXForCausalLM; use --method naive"
    with pytest.warns(UserWarning, match=said):
        inspect_pair(places)
    (tmp_path / "b/modules.json").unlink()
    config = json.loads((tmp_path / "b/config.json").read_text())
    (tmp_path / "b/config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "own.Model"}}))
    with pytest.warns(UserWarning, match="it is read and written as the stock GPTNeoXForCausalLM: do both compute the"):
        inspect_pair(places)
    (tmp_path / "b/config.json").write_text(json.dumps(config))
    (tmp_path / "b/tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["own.py", null]}}')
    with pytest.warns(UserWarning, match="the code of its own tokenizer is neither run nor copied"):
        prepare(places, tmp_path / "other", None)


def test_the_context_counts_where_angles_of_some_layers_go_by_it() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    kinds = {"full_attention": rope, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    a, b = (pico.gemma3(k, rope_parameters=kinds, max_position_embeddings=32 * (k + 1)) for k in range(2))
    with pytest.raises(IncompatibleModelsError, match="max_position_embeddings: expected 32, found 64"):
        pairing.require_pairable([a, b])


def test_the_context_counts_where_angles_go_by_it() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    a, b = (pico.llama(k, rope_parameters=rope, max_position_embeddings=32 * (k + 1)) for k in range(2))
    with pytest.raises(IncompatibleModelsError, match="max_position_embeddings: expected 32, found 64"):
        pairing.require_pairable([a, b])


def test_other_weights_types_and_ties_are_no_difference() -> None:
    require_pairable([pico.neox(0), pico.neox(1, dtype=torch.bfloat16), pico.neox(2, tie_word_embeddings=True)])
    require_pairable([pico.vit(0), pico.vit(1, dtype=torch.float16)])


def test_epsilon_may_differ_where_the_residual_scale_is_a_symmetry() -> None:
    require_pairable([pico.neox(), pico.neox(layer_norm_eps=1e-6)])


@pytest.mark.filterwarnings("ignore:.*no tokenizer")
def test_that_epsilon_differs_is_said_with_the_factor() -> None:
    models = [pico.neox(k, layer_norm_eps=1e-5 if k < 2 else 1e-7) for k in range(3)]
    with pytest.warns(UserWarning, match=r"model 1 and model 3 differ in layer_norm_eps, 1e-05 and 1e-07: .* by 10,"):
        pairing.warn_of_epsilon(models)


def test_epsilon_must_be_the_same_elsewhere() -> None:
    other = pico.vit()
    for norm in (m for m in other.modules() if isinstance(m, torch.nn.LayerNorm)):
        norm.eps = 1e-5
    with pytest.raises(IncompatibleModelsError, match=r"norm_eps\[0\]: expected 1e-06, found 1e-05"):
        require_pairable([pico.vit(), other])


def folder(path: Path, model: Any, words: int | None = 40) -> Path:
    lmc.save(model, path)
    if words is not None:
        pico.tokenizer(path, words)
    return path


def test_folders_are_compared_without_their_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmc.checkpoints.transformers_layout.read", lambda *_: pytest.fail("weights were read"))
    a = folder(tmp_path / "a", pico.neox(0, torch.float32))
    b = folder(tmp_path / "b", pico.neox(1, torch.float16))
    pair = inspect_pair([a, b])
    assert pair.parameters == sum(p.numel() for p in pico.neox().parameters())
    assert pair.disk == 4 * pair.parameters < pair.memory
    assert f"{pair.parameters:,}" in str(pair)
    c = folder(tmp_path / "c", pico.neox(1, torch.float32, num_attention_heads=4))
    with pytest.raises(IncompatibleModelsError, match="num_attention_heads"):
        inspect_pair([a, c])
    with pytest.raises(CheckpointError, match="no such folder"):
        inspect_pair([a, tmp_path / "d"])


def change(path: Path, what: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((path / "tokenizer.json").read_text())
    what(content)
    (path / "tokenizer.json").write_text(json.dumps(content))


TOKENIZERS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "id": (
        lambda t: t["model"]["vocab"].update(w1=2, w2=1),
        "id of token 'w1': expected 1, found 2",
    ),
    "token": (lambda t: t["model"]["vocab"].update(new=39), "id of token 'new': expected none, found 39"),
    "special": (
        lambda t: t["added_tokens"].append({**t["added_tokens"][0], "content": "<pad>", "id": 39}),
        "id of token '<pad>': expected none, found 39",
    ),
    "splitting": (
        lambda t: t.update(pre_tokenizer={"type": "WhitespaceSplit"}),
        "differ in tokenizer.json, pre_tokenizer",
    ),
}


@pytest.mark.parametrize("what", TOKENIZERS)
def test_tokenizers_are_compared(what: str, tmp_path: Path) -> None:
    how, message = TOKENIZERS[what]
    a = folder(tmp_path / "a", pico.neox(0, torch.float32), words=39)
    b = folder(tmp_path / "b", pico.neox(1, torch.float32), words=39)
    inspect_pair([a, b])
    change(b, how)
    with pytest.raises(LmcError, match=message):
        inspect_pair([a, b])


def unigram(path: Path, score: float, extra: str = "") -> None:
    """A tokenizer that cuts a text where the sum of scores is highest."""
    words = [["w0", 0.0], ["a", -3.0], ["b", -3.0], ["ab", score], *([[extra, -9.0]] if extra else [])]
    change(path, lambda t: t.update(model={"type": "Unigram", "vocab": words, "unk_id": 0, "byte_fallback": False}))


def test_scores_of_tokens_are_compared(tmp_path: Path) -> None:
    """The tokens and their ids are the same, yet one tokenizer reads "ab" as one token and the other as two."""
    a = folder(tmp_path / "a", pico.neox(0, torch.float32))
    b = folder(tmp_path / "b", pico.neox(1, torch.float32))
    for path in (a, b):
        unigram(path, -1.0)
    inspect_pair([a, b])
    unigram(b, -8.0)
    with pytest.raises(IncompatibleModelsError, match=r"differ in tokenizer\.json, scores: text becomes other tokens"):
        inspect_pair([a, b])


def vocabulary_txt(path: Path, tokens: list[str]) -> None:
    (path / "vocab.txt").write_text("\n".join(tokens) + "\n")


def vocabulary_json(path: Path, tokens: list[str]) -> None:
    (path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (path / "merges.txt").write_text(f"#version: 0.2\n{tokens[0]} {tokens[1]}\n")


@pytest.mark.parametrize("write", [vocabulary_txt, vocabulary_json])
def test_vocabularies_in_older_files_are_compared(write: Callable[..., None], tmp_path: Path) -> None:
    a, b = (folder(tmp_path / name, pico.neox(0, torch.float32), words=None) for name in "ab")
    tokens = [f"w{i}" for i in range(40)]
    inspect_pair([a, b])
    write(a, tokens)
    write(b, tokens)
    inspect_pair([a, b])
    write(b, tokens[::-1])
    with pytest.raises(IncompatibleModelsError, match=r"vocab\.\w+, id of token 'w0': expected 0, found 39"):
        inspect_pair([a, b])
    write(b, [*tokens, "more"])
    with pytest.raises(CheckpointError, match="expected at most vocab_size = 40 tokens, found 41"):
        inspect_pair([a, b])


def test_merges_are_compared_and_a_list_is_no_vocabulary(tmp_path: Path) -> None:
    a, b = (folder(tmp_path / name, pico.neox(0, torch.float32), words=None) for name in "ab")
    for path in (a, b):
        vocabulary_json(path, ["x", "y", "xy"])
    (b / "merges.txt").write_text("y x\n")
    with pytest.raises(IncompatibleModelsError, match=r"differ in vocab\.json, merges: text becomes other"):
        inspect_pair([a, b])
    (b / "vocab.json").write_text('{"x": "zero"}')
    with pytest.raises(
        CheckpointError, match=r"vocab\.json: expected a number below 16,777,216 for every token, found 'zero'"
    ):
        inspect_pair([a, b])


def test_a_tokenizer_saved_again_is_the_same(tmp_path: Path) -> None:
    """Older files write merges as text and lack fields that are written today."""
    a, b = (folder(tmp_path / name, pico.neox(0, torch.float32), words=None) for name in "ab")
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    (a / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    Tokenizer.from_file(str(a / "tokenizer.json")).save(str(b / "tokenizer.json"))
    assert (a / "tokenizer.json").read_text() != (b / "tokenizer.json").read_text()
    inspect_pair([a, b])


def test_tokens_added_beside_an_older_vocabulary_are_compared(tmp_path: Path) -> None:
    a, b = (folder(tmp_path / name, pico.neox(0, torch.float32), words=None) for name in "ab")
    for k, path in enumerate((a, b)):
        vocabulary_json(path, [f"w{i}" for i in range(38)])
        (path / "added_tokens.json").write_text(json.dumps({"<x>": 38 + k, "<y>": 39 - k}))
    with pytest.raises(IncompatibleModelsError, match="id of token '<x>': expected 38, found 39"):
        inspect_pair([a, b])


def test_fields_that_change_nothing_are_no_difference(tmp_path: Path) -> None:
    a, b = (folder(tmp_path / name, pico.bert(k, torch.float32), words=None) for k, name in enumerate("ab"))
    plain = json.loads((a / "config.json").read_text())
    more = {"position_embedding_type": "absolute", "tokenizer_class": "BertTokenizer", "directionality": "bidi"}
    (a / "config.json").write_text(json.dumps(plain | more))
    inspect_pair([a, b])


def test_other_tokens_around_a_text_are_warned_of(tmp_path: Path) -> None:
    a, b = (folder(tmp_path / name, pico.neox(0, torch.float32)) for name in "ab")
    piece = {"SpecialToken": {"id": "w0", "type_id": 0}}
    template = {"single": [piece, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [piece]}
    special = {"w0": {"id": "w0", "ids": [0], "tokens": ["w0"]}}
    template["pair"] += [{"Sequence": {"id": letter, "type_id": 0}} for letter in "AB"]
    change(b, lambda t: t.update(post_processor={"type": "TemplateProcessing", "special_tokens": special, **template}))
    with pytest.warns(UserWarning, match="model 1 and model 2 differ in tokenizer.json, post_processor"):
        inspect_pair([a, b])


def test_a_missing_tokenizer_is_no_difference_but_said(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", pico.neox(0, torch.float32))
    b = folder(tmp_path / "b", pico.neox(1, torch.float32), words=None)
    with pytest.warns(UserWarning, match="b has no tokenizer, so whether tokens mean the same was not compared; put"):
        inspect_pair([a, b])
    (a / "tokenizer.json").unlink()
    inspect_pair([a, b])
    (b / "tokenizer.model").write_bytes(b"pieces")
    with pytest.warns(
        UserWarning, match=r"has tokenizer\.model alone, which is not read, .*; save it as tokenizer.json"
    ):
        inspect_pair([b, folder(tmp_path / "c", pico.neox(1, torch.float32))])
    (a / "tokenizer.model").write_bytes(b"pieces")
    inspect_pair([a, b])


def test_tokenizers_are_compared_where_the_first_of_three_models_has_none(tmp_path: Path) -> None:
    places = [folder(tmp_path / name, pico.neox(k, torch.float32)) for k, name in enumerate("abc")]
    (places[0] / "tokenizer.json").unlink()
    with pytest.warns(UserWarning) as said:
        inspect_pair(places)
    assert ["has no tokenizer" in str(w.message) for w in said] == [True]
    change(places[2], lambda t: t.update(pre_tokenizer={"type": "WhitespaceSplit"}))
    with pytest.raises(LmcError, match=r"model 2 and model 3 differ in tokenizer\.json, pre_tokenizer"):
        inspect_pair(places)
    with pytest.raises(LmcError, match=r"model 2 and model 3 differ in tokenizer\.json, pre_tokenizer"):
        lmc.match(*(lmc.load(place) for place in places), method="naive")


def test_independence_sees_a_shared_initialisation() -> None:
    wide = {"hidden_size": 64, "intermediate_size": 128}
    a, b = pico.neox(0, **wide), pico.neox(1, **wide)
    assert abs(independence(a, b)) < SHARED
    assert independence(a, a) == pytest.approx(1)
    with torch.no_grad():
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            q += 0.1 * p  # what is left of a start in common after long training
    assert independence(a, b) > SHARED
    assert independence(a, pico.neox(2, tie_word_embeddings=True, **wide)) < SHARED


def test_the_time_of_a_step_is_measured_where_there_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows with what is measured, by the shares the docstring names."""
    model = pico.neox(dtype=torch.float32)  # 12 × the default windows of 32 tokens against 2 of 32: 16 / 2 = 8 shares
    monkeypatch.setattr(estimate, "seconds_of", lambda work, rounds=3, alone=False: (work(), 1.0)[1])
    weights = sum(p.numel() for p in model.parameters())
    before = torch.get_num_threads()
    for threads in (1, 2):  # which share the product
        torch.set_num_threads(threads)
        product = 2 * 16 * weights / estimate.CALIBRATION**3 / threads
        assert estimate.step_seconds(model) == pytest.approx(3 * 8 + product, rel=1e-9)
    torch.set_num_threads(before)
    assert estimate.step_seconds(pico.vit(dtype=torch.float32)) == pytest.approx(3 * 32, rel=0.01)
    assert estimate.step_seconds(pico.bert(dtype=torch.float32)) is None
    monkeypatch.undo()
    assert 0 < (estimate.step_seconds(model) or 0) < 60


def test_what_other_programs_take_is_not_counted() -> None:
    """On a processor: while this process waits, as it does beside other work, its own time stands still."""

    def waits() -> torch.Tensor:
        time.sleep(0.2)
        return torch.ones(1)

    assert estimate.seconds_of(waits) < 0.1


def test_threads_that_wait_for_one_another_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside other work two threads cost a hundred times what one does; then one says how long it takes."""

    def waits() -> torch.Tensor:
        until = time.process_time() + (0.5 if torch.get_num_threads() > 1 else 0.01)
        while time.process_time() < until:
            pass
        return torch.ones(1)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert estimate.seconds_of(waits) < 0.05 and torch.get_num_threads() == 2
        seen: list[int] = []
        estimate.seconds_of(lambda: (seen.append(torch.get_num_threads()), torch.ones(1))[1], alone=True)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_time_of_weights_is_what_was_measured() -> None:
    """Within a factor of two, for the pairs of which the bench has noted what was said before."""
    root = Path(__file__).resolve().parents[2]
    measured = json.loads((root / "data/results/bench/weights.json").read_text())
    rows = [row for name, row in measured.items() if "unrelated" in name]
    assert len(rows) > 2 and all(0.5 < row["predicted_cpu_seconds"] / row["cpu_seconds"] < 2 for row in rows)
    key = "predicted_cpu_seconds, one rewritten"
    rows = [row for name, row in measured.items() if "," not in name and key in row]
    assert len(rows) > 2 and all(0.5 < row[key] / row["cpu_seconds"] < 2 for row in rows)


def test_the_time_of_weights_counts_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the stream with every weight, twice, and of hidden units with theirs; more sweeps where these are cheap."""
    monkeypatch.setattr(estimate, "seconds_of", lambda work, rounds=3, alone=False: (work(), 1.0)[1])
    one, two = (estimate.weights_seconds(pico.neox(num_hidden_layers=n))[1] - estimate.BEGINNING for n in (1, 2))
    least, four = (seconds - estimate.BEGINNING for seconds in estimate.weights_seconds(pico.neox(num_hidden_layers=4)))
    assert one < two < four and 0 < least < four / 5
    shown = estimate.weights_seconds(pico.neox(num_hidden_layers=4, vocab_size=4000))[1] - estimate.BEGINNING
    assert shown < four  # more weights, but these show the rotation at once
    monkeypatch.setattr(estimate, "ONE_START", 0)
    assert estimate.weights_seconds(pico.neox(num_hidden_layers=4))[1] - estimate.BEGINNING < four / 5


def test_the_memory_of_a_process_is_what_was_measured() -> None:
    """Within a factor of two, for every shape that the bench has measured."""
    root = Path(__file__).resolve().parents[2]
    measured = json.loads((root / "data/results/bench/weights.json").read_text())
    assert len(measured) >= 5
    for name, row in measured.items():
        with torch.device("meta"):
            model = (PYTHIA | LLAMA)[name.split(",")[0]].build()
        assert 0.5 < memory.process_memory(model, "weights") / (row["peak_gib"] * 2**30) < 2, name


def test_the_size_of_a_change_tells_a_fine_tune_from_another_network(root: Path) -> None:
    """Cosines of the shipped networks go up to 0.07, so that some looked like fine-tunes of others."""
    pairs = root / "data/pairs"
    models = [lmc.load(pairs / f"neox-docstrings-{k}" / name) for k in range(3) for name in "ab"]
    sizes = [size_of_change(a, b) for a, b in permutations(models, 2)]
    assert min(sizes) > 1.3 > 2 * TUNED and size_of_change(models[0], models[0]) == 0
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.mul_(1.25)
    assert size_of_change(lmc.load(pairs / "neox-docstrings-0/b"), models[1]) == pytest.approx(0.25)


def test_the_size_of_a_change_does_not_count_another_normalisation() -> None:
    """The same function of a picture, with its first matrix for other means: nothing has changed."""
    base, other = (pico.vit(0, torch.float32) for _ in range(2))
    base.pretrained_cfg = {**base.pretrained_cfg, "mean": (0.5,), "std": (0.5,)}
    other.pretrained_cfg = {**other.pretrained_cfg, "mean": (0.1,), "std": (1.0,)}
    _, same = preprocessing.common((other, base))
    assert not torch.equal(same.patch_embed.proj.weight, base.patch_embed.proj.weight)
    same.pretrained_cfg = {**other.pretrained_cfg}
    assert size_of_change(base, same) < 1e-6


def test_pictures_that_a_model_cannot_read_as_another_does_are_told_before_its_weights(tmp_path: Path) -> None:
    """CLIP reads patches without a bias, into which another normalisation could go."""
    for seed, mean in enumerate((0.5, 0.4)):
        model = pico.clip_vision(seed, torch.float32)
        three = {"do_normalize": True, "image_mean": [mean] * 3, "image_std": [0.5] * 3}
        model.preprocessor_config = {"image_processor_type": "CLIPImageProcessor", **three}
        lmc.save(model, tmp_path / "ab"[seed])
    with pytest.raises(IncompatibleModelsError, match=r"patch_embedding\.bias: expected one to take another input"):
        inspect_pair([tmp_path / "a", tmp_path / "b"])


def test_nothing_of_a_vision_model_is_taken_from_another(tmp_path: Path) -> None:
    """What is averaged reads pictures as the first one does: to ask for another one's way is said to be in vain."""
    alignment = lmc.match(*(pico.vit(k, torch.float32) for k in range(2)), method="naive")
    with pytest.warns(UserWarning, match="take_from: pictures are prepared.*nothing is taken from another"):
        alignment.export(tmp_path / "merged", at=0.5, take_from=1)


def test_a_head_that_only_a_fine_tune_has_untied_counts_in_the_size_of_its_change() -> None:
    base = pico.llama(0, torch.float32, tie_word_embeddings=True)
    tuned = pico.llama(0, torch.float32, tie_word_embeddings=False)
    tuned.load_state_dict(base.state_dict())
    assert size_of_change(base, tuned) == size_of_change(tuned, base) == 0
    tuned.lm_head.weight.data *= -2
    assert size_of_change(base, tuned) > 0.5


def test_hooks_of_the_libraries_only_look() -> None:
    models = [pico.neox(k, torch.float32) for k in range(2)]
    models[0](pico.inputs(models[0]), output_hidden_states=True)
    models[1].enable_input_require_grads()
    lmc.match(*models, method="naive")


def test_a_hook_is_said_to_be_lost(tmp_path: Path) -> None:
    models = [pico.vit(k, torch.float32) for k in range(2)]
    models[1].blocks[0].register_forward_hook(lambda module, given, made: made * 0)
    said = r"VisionTransformer: blocks\.0 has a forward hook: what that changes"
    with pytest.warns(UserWarning, match=said):
        lmc.match(*models, method="naive")
    with pytest.warns(UserWarning, match=said):
        lmc.save(models[1], tmp_path / "b")


def test_rotary_settings_may_name_their_kind_twice() -> None:
    """Older files call it `type`, and nothing reads that where `rope_type` stands."""
    linear = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    a, b = pico.llama(rope_parameters=linear), pico.llama(1, rope_parameters=linear | {"type": "linear"})
    require_pairable([a, b])
    with pytest.raises(IncompatibleModelsError, match=r"rope_parameters\.factor: expected 2.0, found 4.0"):
        require_pairable([a, pico.llama(1, rope_parameters=linear | {"type": "linear", "factor": 4.0})])


def test_names_of_classes_are_read_in_both_forms_of_timm() -> None:
    listed, named, numbered = (pico.vit(seed=0) for _ in range(3))
    names = [f"n{k}" for k in range(named.num_classes)]
    for model, own in ((listed, names), (named, {str(k): n for k, n in enumerate(names)}), (numbered, {"a": "of A"})):
        model.pretrained_cfg = {**model.pretrained_cfg, "label_names": own}
    assert class_names(named) == class_names(listed) == dict(enumerate(names))
    assert class_names(numbered) == {}
