"""Parents as people have them: each situation built small, the command a user types, and what must come of it.

A situation is a copy `x` of a sound Llama `a`, spoilt in one way, beside another Llama `b`. What is refused is one line
that ends with what to do.
"""

import ast
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import lmc
from lmc import corpora
from lmc.cli import main
from lmc.errors import DataError
from lmc.evaluation import as_data, evaluate

pytestmark = pytest.mark.filterwarnings("default")  # a command prints its warnings

Outcome = tuple[int, str, str]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4665e08c61f0d8\nsize 44\n"
SAFE = "model.safetensors"


def llama(folder: Path, seed: int, **config: Any) -> Any:
    """A Llama as the stock library saves it, with a tokenizer; returns the model."""
    model = pico.llama(seed, torch.float32, **config)
    lmc.save(model, folder)
    pico.tokenizer(folder)
    return model


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two Llamas, `a` and `b`."""
    folder = tmp_path_factory.mktemp("sound")
    for seed, name in enumerate("ab"):
        llama(folder / name, seed)
    return folder


@pytest.fixture
def here(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own that holds `a`, `b` and `x`, a copy of `a`."""
    for name, source in (("a", "a"), ("b", "b"), ("x", "a")):
        shutil.copytree(sound / source, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process: exit code, and all that reached the two outputs, also from other libraries."""

    def command(line: str) -> Outcome:
        capfd.readouterr()
        code = main(line.split())
        out, err = capfd.readouterr()
        return code, out, err

    return command


def exchange_tokens(folder: Path) -> None:
    """Two words of a vocabulary get each other's ids."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    ids = tokenizer["model"]["vocab"]
    one, other = list(ids)[3:5]
    ids[one], ids[other] = ids[other], ids[one]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def edit(folder: Path, file: str = "config.json", **fields: Any) -> None:
    path = folder / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | fields))


def instead(*files: str) -> Callable[[Path], None]:
    """Other files in the place of the weights."""

    def spoil(folder: Path) -> None:
        (folder / SAFE).unlink()
        for name in files:
            (folder / name).write_bytes(b"something else")

    return spoil


def point(name: str) -> Callable[[Path], Any]:
    """What git leaves where a large file was not fetched."""
    return lambda folder: (folder / name).write_text(POINTER)


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        save_file(change(load_file(folder / SAFE)), folder / SAFE, metadata={"format": "pt"})

    return spoil


def sharded(*lost: str) -> Callable[[Path], None]:
    """Weights in shards, some files of which are lost."""

    def spoil(folder: Path) -> None:
        model = lmc.load(folder)
        (folder / SAFE).unlink()
        model.save_pretrained(folder, max_shard_size="8KB")
        for name in lost:
            (folder / name).unlink()

    return spoil


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def below(folder: Path) -> None:
    shutil.move(folder, folder.with_name("y"))
    folder.mkdir()
    shutil.move(folder.with_name("y"), folder / "checkpoint-500")


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "llama.cpp": (instead("model.gguf"), "holds weights of llama.cpp (model.gguf); use the safetensors checkpoint"),
    "TensorFlow": (instead("tf_model.h5"), "holds weights of TensorFlow (tf_model.h5); save them from PyTorch"),
    "Flax": (instead("flax_model.msgpack"), "holds weights of Flax (flax_model.msgpack); save them from PyTorch"),
    "ONNX": (instead("model.onnx"), "holds an exported graph (ONNX) (model.onnx); use the safetensors checkpoint"),
    "OpenVINO": (instead("openvino_model.bin"), "(OpenVINO) (openvino_model.bin); use the safetensors checkpoint"),
    "leftovers of training": (
        instead("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"),
        "holds what training needs to go on (optimizer.pt); save the model itself",
    ),
    "DeepSpeed": (
        instead("bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"),
        "holds the slices that DeepSpeed trains on (bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt); gather",
    ),
    "FSDP": (instead("__0_0.distcp"), "the slices that FSDP trains on (__0_0.distcp); gather them: accelerate merge"),
    "first release": (instead("consolidated.00.pth"), "the layout of their first release (consolidated.00.pth); use "),
    "a variant": (instead("model.fp16.safetensors"), "a variant of the weights (model.fp16.safetensors); copy it to"),
    "nothing known": (instead("weights.xyz"), "model.safetensors: not found; the folder holds README.md, config.json"),
    "an empty folder": (emptied, "config.json: not found; the folder holds nothing; put config.json there"),
    "a folder of checkpoints": (below, "config.json: not found, but in its folders checkpoint-500; name one of these"),
    "pointer for weights": (point(SAFE), "found a pointer to it (Git LFS); fetch it with: git lfs pull"),
    "pointer for settings": (point("config.json"), "found a pointer to it (Git LFS); fetch it with: git lfs pull"),
    "pointer for vocabulary": (point("tokenizer.json"), "found a pointer to it (Git LFS); fetch it with: git lfs pull"),
    "quantised, by its settings": (
        lambda f: edit(f, quantization_config={"quant_method": "gptq", "bits": 4}),
        "expected none, found quantised weights (gptq); use the checkpoint that they were made from",
    ),
    "quantised, by its tensors": (
        tensors(lambda t: t | {"lm_head.weight": t["lm_head.weight"].to(torch.int8)}),
        "8; use the checkpoint that it was quantised from",
    ),
    "ZeRO-3": (
        tensors(lambda t: {n: torch.empty(0) if v.ndim > 1 else v for n, v in t.items()}),
        "found [0]; DeepSpeed's slices were not gathered: do so with zero_to_fp32",
    ),
    "index missing": (
        sharded("model.safetensors.index.json"),
        "found 3 shards without model.safetensors.index.json; download the index, or make a stock copy with: lmc conv",
    ),
    "index and shard missing": (
        sharded("model.safetensors.index.json", "model-00002-of-00003.safetensors"),
        "expected 3 shards and an index, found model-00001-of-00003.safetensors, ",
    ),
    "shard missing": (
        sharded("model-00002-of-00003.safetensors"),
        "model-00002-of-00003.safetensors: not found, but the index names it; download it again",
    ),
    "shards missing": (
        sharded(*(f"model-0000{k}-of-00003.safetensors" for k in (1, 2, 3))),
        "model-00001-of-00003.safetensors: not found, but the index names it; download it again",
    ),
    "wrapped by the compiler": (
        tensors(lambda t: {f"_orig_mod.{n}": v for n, v in t.items()}),
        "training code wrapped its name: make a stock copy with: lmc convert /",
    ),
}


def assert_refused(outcome: Outcome, says: str) -> None:
    code, out, err = outcome
    assert (code, out) == (2, ""), out + err
    assert says in err
    assert err.startswith("error: ") and err.count("\n") == 1 and len(err) < 1000


ROOT = Path(lmc.__file__).parent
ADVICE = {"error", "counted", "hint", "advice", "absent", "what", "_RIGHT", "_OTHER", "_AGAIN", "AGAIN", "ABSENT"}


def test_every_refusal_of_a_checkpoint_ends_with_a_next_step() -> None:
    """Read from the sources: a clause behind a semicolon, a question, or a part that brings one."""
    told = 0
    for file in (*ROOT.glob("checkpoints/*.py"), *ROOT.glob("matching/*.py"), *ROOT.glob("files/*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Name("CheckpointError" | "IncompatibleModelsError"), args=[message]):
                    source = ast.unparse(message)
                    last = message.values[-1] if isinstance(message, ast.JoinedStr) else message
                    brought = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(last)}
                    assert ";" in source or "?" in source or brought & ADVICE, f"{file}:{node.lineno}: {source}"
                    told += 1
    assert told > 90


@pytest.mark.parametrize("what", REFUSED)
def test_a_folder_that_is_something_else_is_named_with_what_to_do(
    what: str, here: Path, run: Callable[..., Outcome]
) -> None:
    spoil, says = REFUSED[what]
    spoil(here / "x")
    assert_refused(run("check x"), says)
    if "lmc conv" not in says:  # what cannot be converted says the same there
        assert_refused(run("convert x y"), says)
    assert not Path("y").exists()


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "module.module.", "module._orig_mod.", "_forward_module.module."]
)
@pytest.mark.parametrize("pickled", [False, True])
def test_convert_takes_the_names_out_of_their_wrapping(
    prefix: str, pickled: bool, here: Path, run: Callable[..., Outcome]
) -> None:
    weights = load_file("x/" + SAFE)
    wrapped = {
        prefix + name.replace("layers.0.", "layers.0._checkpoint_wrapped_module."): t for name, t in weights.items()
    }
    if pickled:
        os.remove("x/" + SAFE)
        torch.save(wrapped, "x/pytorch_model.bin")
    else:
        save_file(wrapped, "x/" + SAFE, metadata={"format": "pt"})
    (here / "x/README.md").unlink()  # its text would be said to stay behind
    assert run("convert x y") == (0, "wrote y\n", "")
    again = load_file("y/" + SAFE)
    assert again.keys() == weights.keys() and all(torch.equal(t, again[n]) for n, t in weights.items())
    assert Path("y/tokenizer.json").exists()


def test_convert_joins_shards_without_their_index(here: Path, run: Callable[..., Outcome]) -> None:
    weights = load_file("x/" + SAFE)
    sharded("model.safetensors.index.json")(here / "x")
    (here / "x/README.md").unlink()  # its text would be said to stay behind
    assert run("convert x y") == (0, "wrote y\n", "")
    again = load_file("y/" + SAFE)
    assert all(torch.equal(t, again[n]) for n, t in weights.items())


def test_convert_reads_of_two_pickled_sets_what_the_library_reads(here: Path, run: Callable[..., Outcome]) -> None:
    """A file of that name comes before numbered parts without an index, which the library does not read."""
    weights = load_file("x/" + SAFE)
    os.remove("x/" + SAFE)
    names = sorted(weights)
    for part, chosen in enumerate((names[:5], names[5:]), 1):
        torch.save({n: 2 * weights[n] for n in chosen}, f"x/pytorch_model-0000{part}-of-00002.bin")
    torch.save(weights, "x/pytorch_model.bin")
    (here / "x/README.md").unlink()  # its text would be said to stay behind
    assert run("convert x y") == (0, "wrote y\n", "")
    again = load_file("y/" + SAFE)
    assert all(torch.equal(t, again[n]) for n, t in weights.items())


MARKS: dict[str, Any] = {
    "is_llama_config": True,
    "unsloth_fixed": True,
    "_attn_implementation_autoset": True,
    "transformers.js_config": {"use_external_data_format": True},
    "a_tool_s_own_mark": [1, 2],
    "hidden_act": "swish",  # another name of silu
    "rope_scaling": None,
}


@pytest.mark.parametrize("field", MARKS)
def test_what_no_stock_class_reads_is_no_difference(field: str, here: Path, run: Callable[..., Outcome]) -> None:
    before = pico.logits(lmc.load("x"), ids := pico.inputs(lmc.load("x")))
    edit(here / "x", **{field: MARKS[field]})
    assert torch.equal(pico.logits(lmc.load("x"), ids), before)  # it is indeed read by nothing
    code, _, err = run("match b x --method canonical --out aligned")
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("field", "value"), [("hidden_act", "gelu"), ("sliding_window", 8), ("attention_dropout_of_ours", None)]
)
def test_what_the_library_may_read_is_compared(field: str, value: Any, here: Path, run: Callable[..., Outcome]) -> None:
    """A field counts that Llama does not declare and the library's cache reads; one that nothing mentions does not."""
    edit(here / "x", **{field: value})
    code, _, err = run("match b x --method canonical --out aligned")
    assert (code, f"differ in {field}: expected" in err) == ((0, False) if value is None else (2, True))


def bert(folder: Path, seed: int) -> Any:
    """A BERT as it is published: with the head that predicts masked words, and the one for the next sentence."""
    model = pico.randomize(transformers.BertForPreTraining(pico.bert().config), seed).eval()
    model.save_pretrained(folder)
    pico.tokenizer(folder)
    return model


@pytest.mark.parametrize("named", ["BertForPreTraining", "BertForMaskedLM"])
def test_a_published_bert_is_its_masked_part(named: str, here: Path, run: Callable[..., Outcome]) -> None:
    models = [bert(here / f"bert-{k}", k) for k in range(2)]
    for k in range(2):
        edit(here / f"bert-{k}", architectures=[named])  # google-bert's files have all tensors, and name the latter
    code, _, err = run("match bert-0 bert-1 --method weights --out aligned")
    assert code == 0
    assert err.splitlines() == [
        f"warning: {here}/bert-{k}: bert.pooler.dense.bias (and others, 4 in all): "
        "left out, as BertForMaskedLM has no such part"
        for k in range(2)
    ]
    assert run("merge aligned --at 0 --out merged")[0] == 0
    again = lmc.load("merged")
    assert type(again).__name__ == "BertForMaskedLM"
    ids = pico.inputs(again)
    expected = models[0](ids).prediction_logits
    assert (pico.logits(again, ids) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_published_phi_3_for_long_texts(here: Path, run: Callable[..., Outcome]) -> None:
    """Its angles, in the fields of the published files: other ones beyond the texts that it was trained on."""
    models = [pico.phi3(k, torch.float32, max_position_embeddings=16, **pico.long_rope(4, 8)) for k in range(2)]
    for name, model in zip("xb", models, strict=True):
        shutil.rmtree(here / name)
        lmc.save(model, name)
        pico.tokenizer(here / name)
        rope = model.config.rope_parameters
        factors = {"type": "longrope", **{key: rope[key] for key in ("short_factor", "long_factor")}}
        edit(here / name, rope_parameters=None, rope_theta=100.0, rope_scaling=factors)
        edit(here / name, original_max_position_embeddings=8)
    again = lmc.load("x")
    expected = pico.logits(models[0], ids := pico.inputs(again))
    assert ids.shape[1] > 8 and (pico.logits(again, ids) - expected).abs().max() <= 1e-5 * expected.abs().max()
    code, out, err = run("check x")
    assert (code, err) == (0, "") and "longrope" not in out
    code, _, err = run("match x b --method weights --out aligned")
    assert (code, err) == (0, "")
    assert run("merge aligned --at 0 --out merged")[0] == 0
    merged = pico.logits(lmc.load("merged"), ids)
    assert (merged - expected).abs().max() <= 1e-4 * expected.abs().max()
    edit(here / "b", max_position_embeddings=32)
    code, _, err = run("match x b --method naive --out refused")
    assert code == 2 and "differ in max_position_embeddings: expected 16, found 32; only models that agree" in err


@pytest.mark.filterwarnings("ignore:.*differ in their context")
@pytest.mark.parametrize("order", ["short long", "long short"])
def test_of_two_contexts_the_shortest_is_chosen_and_said(order: str, here: Path, run: Callable[..., Outcome]) -> None:
    for seed, (name, context) in enumerate((("short", 64), ("long", 256))):
        llama(here / name, seed, max_position_embeddings=context)
    code, _, err = run(f"match {order} --method canonical --export --out aligned")
    assert code == 0
    assert err.count("differ in their context") == 1 and "gets the shortest, which all have seen" in err
    code, out, _ = run("merge aligned --out merged")
    assert code == 0 and "- context: 64 tokens, of parents with " in out
    assert lmc.load("merged").config.max_position_embeddings == 64
    contexts = [lmc.load(f"aligned/models/endpoint-{k}").config.max_position_embeddings for k in range(2)]
    assert contexts == [{"short": 64, "long": 256}[name] for name in order.split()]  # these compute what they did
    (here / "text.txt").write_text(("w1 w2 w3 " * 20 + "\n") * 100)
    code, out, err = run("path aligned --data text.txt --grid 2 --limit 3 --json path.json")
    assert code == 0 and "3 samples" in out
    longer = torch.zeros(2, 65, dtype=torch.long)
    with pytest.raises(DataError, match="expected at most 64 tokens in a window, found 65"):
        lmc.path(lmc.Alignment.load("aligned"), longer)
    with pytest.raises(DataError, match="expected at most 64 tokens in a window, found 65"):
        lmc.match(*(lmc.load(name) for name in order.split()), method="activations", data=longer)
    read = corpora.load("text.txt", lmc.load("short"), "eval", tokenizer="short", limit=3)
    assert isinstance(read, torch.Tensor) and read.shape == (3, 64)
    first, _, last = json.loads((here / "path.json").read_text())["losses"]
    for name, loss in zip(order.split(), (first, last), strict=True):  # of windows that both can read
        own = evaluate(lmc.load(name), as_data(read, lmc.load("short")))[0].mean()
        assert loss == pytest.approx(float(own), abs=1e-5)


def test_a_folder_with_an_at_sign_is_a_folder(here: Path, run: Callable[..., Outcome]) -> None:
    (here / "x").rename(here / "x@y")
    assert run("match x@y b --method canonical --out aligned")[0] == 0
    code, out, _ = run("merge aligned --out merged")
    assert code == 0 and f"- parent 0: {here.name}/x@y (model.safetensors sha256 " in out


def test_an_aligned_copy_is_seen_by_one_number(here: Path, run: Callable[..., Outcome]) -> None:
    model = lmc.load("x")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.neg_()
    lmc.save(model, "minus", tokenizer_from="x")
    code, out, err = run("check a minus")
    assert code == 0 and "|cosine| of the weights  1.000 (a, minus)" in out
    assert err == "warning: |cosine| 1.000 ≥ 0.05: a and minus may share an initialisation\n"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_every_file_has_the_rights_of_the_umask(mask: int, here: Path, run: Callable[..., Outcome]) -> None:
    before = os.umask(mask)
    try:
        assert run("match a b --method canonical --export --out aligned")[0] == 0
        assert run("merge aligned --out merged")[0] == 0
    finally:
        os.umask(before)
    for root in (here / "aligned", here / "merged"):
        for path in (root, *root.rglob("*")):
            wanted = (0o777 if path.is_dir() else 0o666) & ~mask
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_a_head_that_was_never_trained_is_exact_and_said(here: Path, run: Callable[..., Outcome]) -> None:
    model = pico.hf_vit(0, torch.float32)
    model.classifier.weight.data.zero_()
    lmc.save(model, "fresh")
    code, out, err = run("check fresh")
    assert (code, err) == (0, "")
    assert "NOT FINITE" not in out
    assert out.endswith(
        "the output is the same for every input, as that of a head that was never trained: this says little\n"
    )
    assert "every input" not in run("check x")[1]


def test_outliers_in_half_precision_are_explained(here: Path, run: Callable[..., Outcome]) -> None:
    model = lmc.load("x")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter[3] *= 40
            elif "down_proj" in name or "o_proj" in name:
                parameter[3] *= 50
            elif "embed" in name:
                parameter[:, 5] *= 800
    lmc.save(model, "coarse", dtype=torch.bfloat16)
    code, out, _ = run("check coarse")
    assert code == 1
    assert "\nROUNDING: the symmetries are exact; the weights' own type is too coarse for such values" in out
    assert "WRONG" not in out


def test_a_dangling_link_is_named_with_its_target_and_the_remedy(here: Path, run: Callable[..., Outcome]) -> None:
    copy = here / "models--owner--name" / "snapshots" / "0123"
    copy.parent.mkdir(parents=True)
    shutil.copytree("x", copy)
    (copy / SAFE).unlink()
    (copy / SAFE).symlink_to("../../blobs/4665e08c")
    assert_refused(
        run(f"check {copy}"), "is a link to ../../blobs/4665e08c, which is not there; download the checkpoint"
    )


def test_a_tokenizer_that_is_not_read_is_said(here: Path, run: Callable[..., Outcome]) -> None:
    (here / "x" / "tokenizer.json").rename(here / "x" / "tokenizer.model")
    code, _, err = run("check b x")
    assert code == 0
    assert (
        "x has tokenizer.model alone, which is not read, so whether tokens mean the same was not compared; save" in err
    )


def belongings(folder: Path, k: int, lacking: str = "") -> None:
    """Give a folder a chat template, generation settings, a processor and a card of its own, but for one kind."""
    edit(folder, "generation_config.json", eos_token_id=[k + 1, 9])
    edit(folder, "processor_config.json", number=k)
    (folder / "chat_template.jinja").write_text(f"template {k}")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(f"tools {k}")
    (folder / "README.md").write_text(f"---\nlicense: mit\nbase_model: org/base-{k}\n---\n")
    for path in folder.glob(lacking) if lacking else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if lacking == "generation*":  # a configuration can hold some of them
        edit(folder, bos_token_id=None, eos_token_id=None)


CARRIED = {  # what the second parent alone has: the files, and how the card calls it
    "tokenizer*": "tokenizer",
    "*chat_template*": "chat templates",
    "generation*": "generation settings",
    "processor*": "processor",
}


@pytest.mark.parametrize("lacking", CARRIED)
def test_what_only_one_parent_has_is_carried_and_said(lacking: str, here: Path, run: Callable[..., Outcome]) -> None:
    belongings(here / "x", 0, lacking)
    belongings(here / "b", 1)
    assert run("match x b --method canonical --out aligned")[0] == 0
    code, card, _ = run("merge aligned --out merged")
    assert code == 0
    for kind in CARRIED.values():
        alone = kind == CARRIED[lacking]
        assert f"- {kind}: of parent {1 if alone else 0}{', as parent 0 has none' if alone else ''}" in card
    for pattern, kind in CARRIED.items():
        source = here / ("b" if kind == CARRIED[lacking] else "x")
        assert [*source.rglob(pattern)]
        for path in (p for p in source.rglob(pattern) if p.is_file() and kind != "generation settings"):
            assert (here / "merged" / path.relative_to(source)).read_bytes() == path.read_bytes(), path
    stop = json.loads(Path("merged/generation_config.json").read_text())["eos_token_id"]
    assert stop == [2 if lacking == "generation*" else 1, 9]
    head = Path("merged/README.md").read_text().split("---")[1]
    assert "license: mit" in head and "- org/base-0\n- org/base-1" in head and "- merge" in head


def test_stop_tokens_of_a_configuration_are_generation_settings(here: Path, run: Callable[..., Outcome]) -> None:
    """A stock class makes its generation settings of them where there is no file; another parent's are others."""
    for name in "xb":
        (here / name / "generation_config.json").unlink(missing_ok=True)
    edit(here / "x", eos_token_id=5)
    edit(here / "b", "generation_config.json", eos_token_id=3)
    assert run("match x b --method canonical --out aligned")[0] == 0
    for taken, stop in (("first", 5), ("second", 3)):
        code, card, _ = run(f"merge aligned --at 0 --take-from {taken} --out {taken}")
        assert code == 0 and f"- generation settings: of parent {int(taken == 'second')}; parent" in card
        assert json.loads(Path(taken, "generation_config.json").read_text())["eos_token_id"] == stop


def test_generation_settings_of_an_older_configuration_go_along(here: Path, run: Callable[..., Outcome]) -> None:
    settings: dict[str, Any] = {"do_sample": True, "top_k": 7, "temperature": 0.7, "bad_words_ids": [[5], [6]]}
    for name in "xb":
        (here / name / "generation_config.json").unlink(missing_ok=True)
    edit(here / "x", **settings)
    stock = transformers.AutoModelForCausalLM.from_pretrained(here / "x").generation_config
    assert run("match x b --method canonical --export --out aligned")[0] == 0
    code, card, _ = run("merge aligned --out merged")
    assert code == 0 and "- generation settings: of parent 0" in card
    for place in ("merged", "aligned/models/endpoint-0"):
        found = transformers.AutoModelForCausalLM.from_pretrained(here / place).generation_config
        assert {name: getattr(found, name) for name in settings} == settings
        assert {name: getattr(stock, name) for name in settings} == settings
    edit(here / "b", early_stopping="warm")
    assert_refused(run("check b"), "mend the generation settings in it")


def test_the_user_chooses_whose_belongings_are_taken(here: Path, run: Callable[..., Outcome]) -> None:
    for k, name in enumerate("xb"):
        belongings(here / name, k)
    edit(here / "b", eos_token_id=2)
    assert run("match x b --method canonical --out aligned")[0] == 0
    code, card, _ = run("merge aligned --at 0.25 --take-from second --out merged")
    assert code == 0 and "- chat templates: of parent 1; parent 0 has another" in card
    assert Path("merged/chat_template.jinja").read_text() == "template 1"
    assert json.loads(Path("merged/generation_config.json").read_text())["eos_token_id"] == [2, 9]
    assert json.loads(Path("merged/config.json").read_text())["eos_token_id"] == 2
    assert_refused(
        run("merge aligned --take-from third --out other"),
        "--take-from: expected first, second or a number from 1 to 2",
    )


def test_a_template_inside_the_tokenizer_s_settings_is_carried(here: Path, run: Callable[..., Outcome]) -> None:
    named = [{"name": "default", "template": "hello"}, {"name": "rag.v2", "template": "search"}]
    edit(here / "b", "tokenizer_config.json", chat_template=named)
    assert run("match x b --method canonical --out aligned")[0] == 0
    assert "- chat templates: of parent 1, as parent 0 has none" in run("merge aligned --out merged")[1]
    assert Path("merged/chat_template.jinja").read_text() == "hello"
    assert Path("merged/additional_chat_templates/rag.v2.jinja").read_text() == "search"


def test_a_template_is_that_of_the_stock_tokenizer_wherever_it_stands(here: Path, run: Callable[..., Outcome]) -> None:
    """A processor's file beside is not what a tokenizer reads, and files of templates come before its settings."""
    edit(here / "b", "tokenizer_config.json", chat_template="hello")
    (here / "b/chat_template.json").write_text('{"chat_template": "of a processor"}')
    assert run("match x b --method canonical --out aligned")[0] == 0
    assert "- chat templates: of parent 1, as parent 0 has none" in run("merge aligned --out merged")[1]
    stock = [transformers.AutoTokenizer.from_pretrained(name).chat_template for name in ("b", "merged")]
    assert stock == ["hello", "hello"]
    (here / "b/additional_chat_templates").mkdir()
    (here / "b/additional_chat_templates/tools.jinja").write_text("tools")
    assert run("match x b --method canonical --out again")[0] == 0 == run("merge again --out more")[0]
    stock = [transformers.AutoTokenizer.from_pretrained(name).chat_template for name in ("b", "more")]
    assert stock == [{"tools": "tools"}] * 2
    shutil.rmtree(here / "b/additional_chat_templates")
    edit(here / "b", "tokenizer_config.json", chat_template=None)  # what is left is a processor's
    assert run("match x b --method canonical --out third")[0] == 0 == run("merge third --out last")[0]
    assert Path("last/chat_template.json").read_text() == '{"chat_template": "of a processor"}'
    assert transformers.AutoTokenizer.from_pretrained("last").chat_template is None


def test_a_template_of_another_tokenizer_is_not_read_where_a_model_has_none(
    here: Path, run: Callable[..., Outcome]
) -> None:
    """One vocabulary for both brings the first one's tokenizer, and with its settings would come its template."""
    edit(here / "x", "tokenizer_config.json", chat_template="of x")
    exchange_tokens(here / "b")
    assert run("match x b --vocabulary first --method naive --out aligned")[0] == 0
    kept = transformers.AutoTokenizer.from_pretrained("aligned.parents/1-b").chat_template
    assert kept is None
    code, card, _ = run("merge aligned --take-from second --out merged")
    assert code == 0 and "- chat templates: of parent 0, as parent 1 has none" in card
    assert transformers.AutoTokenizer.from_pretrained("merged").chat_template == "of x"


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (
            "license: mit",
            "license: apache-2.0",
            "- licence: parent 0: mit; parent 1: apache-2.0; look which",
        ),
        ("license: mit", "language: en", "- licence: parent 0: mit; parent 1: not stated; look which"),
        (
            "x: y\n---\n## License: CC BY-NC",
            "license: mit",
            "- licence: parent 0: that of its file README.md; parent 1",
        ),
        ("license: [1", "license: mit", "- licence: parent 0: that of its file README.md; parent 1: mit; look which"),
        ("license: other\nlicense_name: own", "license: own", ""),
        ("license: [own, mit]", "license:\n- own\n- mit", ""),
        ("license: llama2\nlicense_link: https://l", "license: llama2\nlicense_link: https://l", ""),
        ("license: mit\nlicense_link: https://l", "license: mit\nlicense_link: https://own", ""),
        (
            "license: other\nlicense_link: https://l",
            "license: other\nlicense_link: https://own",
            "- licence: parent 0: other (https",
        ),
        ("license: [own, mit]", "license: own", "- licence: parent 0: own, mit; parent 1: own; look which"),
    ],
)
def test_licences_that_differ_are_said(
    first: str, second: str, says: str, here: Path, run: Callable[..., Outcome]
) -> None:
    for name, head in (("x", first), ("b", second)):
        (here / name / "README.md").write_text(f"---\n{head}\n---\n")
    assert run("match x b --method canonical --out aligned")[0] == 0
    code, card, _ = run("merge aligned --out merged")
    assert code == 0 and says in card
    head = {
        "license: other\nlicense_name: own": "license: other\nlicense_name: own\n",
        "license: [own, mit]": "- own\n- mit\n",
        "license: llama2\nlicense_link: https://l": "license: llama2\nlicense_link: https://l\n",
        "license: mit\nlicense_link: https://l": "license: mit\n",
    }
    assert (head.get(first, "license") in Path("merged/README.md").read_text()) == (not says)


def test_a_licence_that_only_a_file_states_is_said(here: Path, run: Callable[..., Outcome]) -> None:
    (here / "b" / "LICENSE.txt").write_text("All rights reserved.")
    assert run("match x b --method canonical --out aligned")[0] == 0
    code, card, _ = run("merge aligned --out merged")
    assert code == 0
    assert "- licence: parent 0: not stated; parent 1: that of its file LICENSE.txt; look which" in card
    assert run("match merged x --method canonical --out again")[0] == 0
    assert "- licence: parent 0: that of its file README.md; parent 1: not stated" in run("merge again --out m2")[1]
    assert run("match x b --method canonical --out ends --export")[0] == 0
    heads = [Path(f"ends/models/endpoint-{k}/README.md").read_text() for k in (0, 1)]
    assert "license" not in heads[0] + heads[1]  # its text goes along, of which no card said more
    assert Path("ends/models/endpoint-1/LICENSE.txt").read_text() == "All rights reserved."
    assert run("match ends/models/endpoint-1 x --method canonical --out on")[0] == 0
    assert "- licence: parent 0: that of its file LICENSE.txt; parent 1: not" in run("merge on --out m3")[1]


def test_the_factor_between_two_epsilons_is_said_where_there_is_one(here: Path, run: Callable[..., Outcome]) -> None:
    for name, epsilon in (("x", 1e-6), ("b", 1e-5)):
        edit(here / name, rms_norm_eps=epsilon)
    said = "multiplies the residual stream of model 2 by 0.316, which is exact"
    for line in ("check x b", "match x b --method canonical --out aligned"):
        code, _, err = run(line)
        assert code == 0 and err.count(said) == 1, line
    assert said not in run("match x b --method naive --out plain")[2]


def test_a_notice_goes_along_with_one_parent_and_is_named_of_several(here: Path, run: Callable[..., Outcome]) -> None:
    (here / "b" / "NOTICE").write_text("Made by many.")
    assert run("match x b --method canonical --out aligned --export")[0] == 0
    ends = [Path(f"aligned/models/endpoint-{k}") for k in (0, 1)]
    assert (ends[1] / "NOTICE").read_text() == "Made by many." and not (ends[0] / "NOTICE").exists()
    code, card, _ = run("merge aligned --out merged")
    assert code == 0 and "- notices: parent 1 has NOTICE, which stays behind; pass on what it asks for\n" in card
    assert not Path("merged/NOTICE").exists()
    assert run("merge aligned --at 0.1 --out tuned")[0] == 0
    code, card, _ = run("transport aligned tuned --out carried")
    assert code == 0 and "- notices: its new base has NOTICE, which stays behind" in card


def test_notices_go_along_with_a_parent_that_gets_another_vocabulary(here: Path, run: Callable[..., Outcome]) -> None:
    for name, text in (("NOTICE", "Made by many."), ("LICENSE", "As a whole.")):
        (here / "b" / name).write_text(text)
    exchange_tokens(here / "b")
    assert run("match x b --method canonical --vocabulary first --out aligned --export")[0] == 0
    for folder in (Path("aligned.parents/1-b"), Path("aligned/models/endpoint-1")):
        assert (folder / "NOTICE").read_text() == "Made by many." and (folder / "LICENSE").is_file(), folder
    assert "- notices: parent 1 has NOTICE, which stays behind" in run("merge aligned --out merged")[1]


def test_a_tokenizer_without_its_vocabulary_is_passed_over(here: Path, run: Callable[..., Outcome]) -> None:
    """Its settings alone are no tokenizer; of no other they are better than nothing."""
    (here / "x" / "tokenizer.json").unlink()
    edit(here / "b", tokenizer_class="PreTrainedTokenizerFast")
    assert run("match x b --method canonical --out aligned")[0] == 0
    code, card, _ = run("merge aligned --out merged")
    assert json.loads(Path("merged/config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert code == 0 and "- tokenizer: of parent 1, as parent 0 has no vocabulary; parent 0 has another\n" in card
    assert Path("merged/tokenizer.json").read_bytes() == Path("b/tokenizer.json").read_bytes()
    (here / "b" / "tokenizer.json").unlink()
    assert run("match x b --method canonical --out third")[0] == 0 == run("merge third --out last")[0]
    assert Path("last/tokenizer_config.json").exists()


@pytest.mark.parametrize("first", ["x b", "b x"])
def test_a_tokenizer_cuts_texts_to_the_shorter_context(first: str, here: Path, run: Callable[..., Outcome]) -> None:
    edit(here / "x", max_position_embeddings=64)
    edit(here / "x", "tokenizer_config.json", model_max_length=64)
    edit(here / "b", "tokenizer_config.json", model_max_length=1000)  # as it was given: its own model reads no more
    for method in ("canonical", "weights"):  # in memory, and from file to file
        assert run(f"match {first} --method {method} --out {method}")[0] == 0
        assert run(f"merge {method} --out merged-{method}")[0] == 0
        told = json.loads(Path(f"merged-{method}/tokenizer_config.json").read_text())["model_max_length"]
        read = json.loads(Path(f"merged-{method}/config.json").read_text())["max_position_embeddings"]
        assert (read, told) == (32, 32 if first == "x b" else 1000)


def test_an_aligned_endpoint_keeps_what_is_its_own(here: Path, run: Callable[..., Outcome]) -> None:
    for k, name in enumerate("xb"):
        belongings(here / name, k)
    for method in ("canonical", "weights"):  # in memory, and from file to file
        assert run(f"match x b --method {method} --export --out {method}")[0] == 0
        for k, name in enumerate("xb"):
            endpoint = Path(method, "models", f"endpoint-{k}")
            for file in ("chat_template.jinja", "processor_config.json", "tokenizer.json"):
                assert (endpoint / file).read_bytes() == Path(name, file).read_bytes()
            assert f"base_model:\n- org/base-{k}\n" in (endpoint / "README.md").read_text()


def test_a_card_names_the_base_of_a_parent_that_was_enlarged(here: Path, run: Callable[..., Outcome]) -> None:
    for k, (name, width) in enumerate({"small": 24, "large": 32}.items()):
        lmc.save(pico.llama(k, torch.float32, intermediate_size=width), name)
        belongings(here / name, k)
    assert run("match small large --method naive --out aligned")[0] == 0
    assert run("merge aligned --out merged")[0] == 0
    assert "base_model:\n- org/base-0\n- org/base-1\n" in Path("merged/README.md").read_text()


@pytest.mark.parametrize("method", ["naive", "canonical", "weights"])
def test_a_tied_head_is_said_once_where_it_is_true(method: str, here: Path, run: Callable[..., Outcome]) -> None:
    for seed, name in enumerate(("tied-a", "tied-b")):
        llama(here / name, seed, tie_word_embeddings=True)
    code, _, err = run(f"match tied-a tied-b --method {method} --export --out aligned")
    more = "it absorbs the final norm and becomes a tensor of its own: 640 more parameters"
    said = f"warning: lm_head.weight was tied to model.embed_tokens.weight; {more}\n"
    lines = [line for line in err.splitlines(keepends=True) if not line.startswith("matching: ")]  # how far it is
    assert (code, lines) == (0, [] if method == "naive" else [said])
    assert run("merge aligned --out merged")[0] == 0
    assert ("lm_head.weight" in load_file("merged/" + SAFE)) == (method != "naive")
    if method != "naive":
        held = sum(tensor.nbytes for tensor in load_file("merged/" + SAFE).values())
        out = run("check tied-a tied-b")[1]
        assert f"disk for a merged model  {held / 1000:.3g} kB" in out
        assert "of that, its own head    2.56 kB; the parents' is tied, as naive and gains of 1 keep it" in out


def timm_without_head(folder: Path) -> None:
    shutil.rmtree(folder)
    lmc.save(pico.vit(0, torch.float32), folder)
    arguments = json.loads((folder / "config.json").read_text())["model_args"]
    edit(folder, num_classes=0, model_args=arguments | {"num_classes": 0})


UNCOVERED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a class": (
        lambda f: edit(f, architectures=["PhiForCausalLM"], model_type="phi"),
        "transformers.PhiForCausalLM: no family covers this model class; the closest covered is ",
    ),
    "a class of its own": (
        lambda f: edit(f, architectures=["MyModel"], auto_map={"AutoModel": "mine.MyModel"}),
        "transformers.MyModel: no family covers this model class; none that is covered has settings like it; book/add",
    ),
    "no head": (timm_without_head, "VisionTransformer: num_classes: expected a head, found 0; lmc families lists what"),
    "no ε": (lambda f: edit(f, rms_norm_eps=0.0), "rms_norm_eps: expected a positive number, found 0.0; lmc families"),
}


@pytest.mark.parametrize("what", UNCOVERED)
def test_what_no_family_covers_names_folder_value_and_next_step(
    what: str, here: Path, run: Callable[..., Outcome]
) -> None:
    spoil, says = UNCOVERED[what]
    spoil(here / "x")
    outcome = run("check x")
    assert_refused(outcome, says)
    assert (
        outcome[2].startswith(f"error: {here}/x/config.json: ") and "; lmc families lists what is covered" in outcome[2]
    )


@pytest.mark.parametrize(
    ("field", "value"), [("num_attention_heads", 2), ("rms_norm_eps", None), ("hidden_act", "relu")]
)
def test_two_architectures_are_told_apart_with_a_next_step(
    field: str, value: Any, here: Path, run: Callable[..., Outcome]
) -> None:
    llama(here / "other", 1, **{field: value or 1e-3})
    outcome = run("match a other --method canonical --out aligned")
    if value is None:  # the residual scale makes up for it
        assert outcome[0] == 0
    else:
        code, _, err = outcome
        assert code == 2 and "only models that agree in it can be averaged" in err and err.count("\n") == 1
