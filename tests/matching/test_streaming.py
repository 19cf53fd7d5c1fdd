"""Data-free matching of checkpoints on disk: what matching in memory finds, with one part in memory at a time."""

import gc
import hashlib
import json
import shutil
import subprocess
import sys
import warnings
import weakref
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import lmc
from lmc import checkpoints
from lmc.checkpoints import checkpoint as loading
from lmc.checkpoints import lazy
from lmc.checkpoints.lazy import Stored, spill, stored
from lmc.errors import CheckpointError
from lmc.matching import require_ends, streaming
from lmc.matching.pairing import inspect_pair
from lmc.matching.streaming import can_stream, match_folders, merge_folder
from lmc.symmetries.canonical import Canonical
from lmc.symmetries.stock_model import state

MODELS = {
    "neox": lambda seed: pico.neox(seed=seed, dtype=torch.float32),
    "neox tied": lambda seed: pico.neox(seed=seed, dtype=torch.float32, tie_word_embeddings=True),
    "neox of another ε": lambda seed: pico.neox(seed=seed, dtype=torch.float32, layer_norm_eps=1e-5 * (1 + seed)),
    "llama": lambda seed: pico.llama(seed=seed, dtype=torch.float32),
    "mixtral": lambda seed: pico.mixtral(seed=seed, dtype=torch.float32, num_hidden_layers=1),  # experts one by one
    "vit": lambda seed: pico.vit(seed=seed, dtype=torch.float32),
}


def write_pair(name: str, folder: Path) -> list[str]:
    for seed, side in enumerate("ab"):
        lmc.save(MODELS[name](seed), folder / side)
    return [str(folder / side) for side in "ab"]


def write_cut(model, folder: Path, seed: int) -> None:  # type: ignore[no-untyped-def]
    """Into files of another length for each seed, where the library can."""
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder, max_shard_size=["1GB", "3KB", "7KB"][seed])
    else:
        lmc.save(model, folder)


@pytest.mark.filterwarnings("ignore:.*was tied to", "ignore:.*matched in .*, below")
@pytest.mark.parametrize("method", ["naive", "weights"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_rounded_first_is_matched_as_in_memory_to_the_byte(
    name: str, dtype: torch.dtype, method: str, tmp_path: Path
) -> None:
    places = write_pair(name, tmp_path)
    match_folders(inspect_pair(places).blueprints, tmp_path / "streamed", dtype, export=True, method=method)
    held = lmc.match(*(lmc.load(place, dtype=dtype) for place in places), method=method)
    held.save(tmp_path / "held")
    held.export(tmp_path / "held/models", dtype=dtype)
    files = {f.relative_to(tmp_path / "held") for f in (tmp_path / "held").rglob("*") if f.is_file()}
    assert len(files) > 8
    for file in files:
        assert (tmp_path / "streamed" / file).read_bytes() == (tmp_path / "held" / file).read_bytes(), file


@pytest.mark.filterwarnings("ignore:.*was tied to")
@pytest.mark.parametrize("name", MODELS)
def test_the_alignment_is_that_of_matching_in_memory(name: str, tmp_path: Path) -> None:
    """The same transforms, record and aligned weights, also where a head is untied or an ε differs."""
    places = write_pair(name, tmp_path)
    match_folders(inspect_pair(places).blueprints, tmp_path / "aligned", export=True)
    expected = lmc.match(*(lmc.load(place) for place in places), method="weights")
    found = lmc.Alignment.load(tmp_path / "aligned")
    assert found.record == json.loads(json.dumps(expected.record))
    for one, other in zip(found.transforms, expected.transforms, strict=True):
        for space, element in other.elements.items():
            torch.testing.assert_close(one.elements[space], element, rtol=0, atol=1e-12)
    for k, model in enumerate(expected.models):
        exported = lmc.load(tmp_path / "aligned" / "models" / f"endpoint-{k}")
        for tensor_name, tensor in state(model).items():
            torch.testing.assert_close(state(exported)[tensor_name], tensor, rtol=0, atol=1e-6)
        if hasattr(model, "config"):
            assert exported.config.to_dict().get("layer_norm_eps") == model.config.to_dict().get("layer_norm_eps")
            assert exported.config.tie_word_embeddings == model.config.tie_word_embeddings
    assert not list(tmp_path.glob(".canonical-*"))


def test_shards_in_half_precision(tmp_path: Path) -> None:
    """A pair in float16 shards is read tensor by tensor, and what is exported is float32 and loads without us."""
    for seed, side in enumerate("ab"):
        pico.neox(seed=seed, dtype=torch.float16).save_pretrained(tmp_path / side, max_shard_size="4KB")
    assert len(list((tmp_path / "a").glob("*.safetensors"))) > 2
    command = [sys.executable, "-m", "lmc", "match", "a", "b", "--method", "weights", "--out", "o", "--export"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    a = lmc.load(tmp_path / "a")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "o" / "models" / "endpoint-0")
    assert again.dtype == torch.float32
    inputs = pico.inputs(a)
    torch.testing.assert_close(pico.logits(again, inputs), pico.logits(a, inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [pico.neox, pico.gpt2, pico.qwen3, pico.vit, pico.hf_vit])
def test_canonical_tensors_one_by_one(make) -> None:  # type: ignore[no-untyped-def]
    """In any order they are those of the canonical model; tensors of another part are never looked at."""
    model = make(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = state(lmc.canonicalize(model))
    spec, tensors = lmc.spec(model), state(model)
    for name in reversed(tensors):
        part = Canonical(spec, tensors).part_of[name]
        assert torch.equal(Canonical(spec, {n: tensors[n] for n in part})[name], expected[name]), name
    assert len(Canonical(spec, tensors).parts) > 2


def test_one_part_is_kept_at_a_time(tmp_path: Path) -> None:
    """While a canonical form is written, no tensor of the parts before the last is alive."""
    lmc.save(pico.neox(seed=0, dtype=torch.float32, num_hidden_layers=4), tmp_path / "a")
    alive: list[tuple[str, weakref.ref[torch.Tensor]]] = []
    worst = 0

    class Watched(dict):  # type: ignore[type-arg]
        def __getitem__(self, name: str) -> torch.Tensor:
            nonlocal worst
            tensor: torch.Tensor = source[name].clone()
            gc.collect()
            alive.append((name, weakref.ref(tensor)))
            worst = max(worst, sum(r() is not None for _, r in alive))
            return tensor

    blueprint = checkpoints.inspect(tmp_path / "a")
    source = stored(blueprint)
    canonical = Canonical(lmc.spec(blueprint.model), Watched.fromkeys(source))
    (tmp_path / "scratch").mkdir()
    spill(canonical, canonical.parts, tmp_path / "scratch", torch.float32)
    assert len(alive) == len(source)
    assert worst <= max(len(part) for part in canonical.parts)


@pytest.mark.filterwarnings("ignore:.*differ in their context", "ignore:.*tokenizer", "ignore:take_from")
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("llama", [0.25, 0.75]),
        ("llama", [0.2, 0.3, 0.5]),
        ("neox tied", [0.0, 1.0]),
        ("neox of another ε", [0.2, 0.3, 0.5]),
        ("mixtral", [0.25, 0.75]),
        ("vit", [0.2, 0.3, 0.5]),
    ],
)
def test_naive_averages_are_those_of_models_in_memory_to_the_byte(
    name: str, weights: list[float], tmp_path: Path
) -> None:
    """Parents in shards, one with a chat template, a licence and stop tokens of its own: every file is the same."""
    folders = [tmp_path / f"parent-{k}" for k in range(len(weights))]
    for seed, folder in enumerate(folders):
        model = MODELS[name](seed)
        if name == "llama":
            model.config.max_position_embeddings *= 1 + seed
        if name != "vit":
            model.generation_config.eos_token_id = [seed + 1, 3]
        write_cut(model, folder, seed)
    pico.tokenizer(folders[0])
    (folders[1] / "chat_template.jinja").write_text("{{ messages }}")
    (folders[1] / "README.md").write_text("---\nlicense: mit\n---\n")
    match_folders(inspect_pair([str(folder) for folder in folders]).blueprints, tmp_path / "streamed", method="naive")
    held = lmc.match([lmc.load(folder) for folder in folders], method="naive")
    held.save(tmp_path / "held")
    assert contents(tmp_path / "streamed") == contents(tmp_path / "held")
    for take_from in (0, 1):
        expected, merged = tmp_path / f"expected-{take_from}", tmp_path / f"merged-{take_from}"
        (card,) = held.export(expected, at=weights, take_from=take_from)
        assert merge_folder(tmp_path / "streamed", merged, weights, take_from=take_from) == card
        assert contents(merged) == contents(expected)
    (card,) = held.export(tmp_path / "expected lower", at=weights, dtype=torch.bfloat16)
    assert "rounding the weights to bfloat16 changes a logit by at most" in card
    assert merge_folder(tmp_path / "streamed", tmp_path / "lower", weights, torch.bfloat16) == card
    assert contents(tmp_path / "lower") == contents(tmp_path / "expected lower")


def test_parents_in_a_low_type_are_averaged_in_it_one_tensor_at_a_time(tmp_path: Path) -> None:
    """To the byte what models in memory give. What a type below theirs costs is measured."""
    folders = [tmp_path / side for side in "ab"]
    for seed, folder in enumerate(folders):
        MODELS["llama"](seed).to(torch.bfloat16).save_pretrained(folder, max_shard_size="5KB")
    match_folders(inspect_pair([str(folder) for folder in folders]).blueprints, tmp_path / "streamed", method="naive")
    lmc.Alignment.load(tmp_path / "streamed").export(tmp_path / "held", at=0.25, dtype=torch.bfloat16)
    card = merge_folder(tmp_path / "streamed", tmp_path / "merged", [0.75, 0.25], torch.bfloat16)
    assert card is not None and "weights: bfloat16" in card
    untold = "what rounding them changes was not measured"
    assert untold in card  # a mean of two numbers needs more digits than they have
    end = merge_folder(tmp_path / "streamed", tmp_path / "end", [0.0, 1.0], torch.bfloat16)
    assert end is not None and untold not in end
    held, merged = (contents(tmp_path / which) for which in ("held", "merged"))
    assert {name for name in held if held[name] != merged[name]} == {"README.md"}
    assert merge_folder(tmp_path / "streamed", tmp_path / "lower", [0.5, 0.5], torch.float16) is not None
    for seed, folder in enumerate(folders):
        MODELS["llama"](seed).to(torch.float16).save_pretrained(tmp_path / f"half-{folder.name}")
    blueprints = inspect_pair([str(tmp_path / f"half-{side}") for side in "ab"]).blueprints
    match_folders(blueprints, tmp_path / "half", method="naive")
    lower = merge_folder(tmp_path / "half", tmp_path / "lower still", [0.5, 0.5], torch.bfloat16)
    assert lower is not None and "rounding the weights to bfloat16 changes a logit by at most" in lower


@pytest.mark.filterwarnings("ignore:.*was tied to")
@pytest.mark.parametrize(
    ("name", "method", "weights"),
    [
        ("llama", "canonical", [0.25, 0.75]),
        ("neox tied", "weights", [0.2, 0.3, 0.5]),
        ("neox of another ε", "canonical", [0.0, 0.3, 0.7]),
        ("neox of another ε", "dual", [0.25, 0.75]),
        ("mixtral", "weights", [1.0, 0.0]),
        ("vit", "canonical", [0.2, 0.3, 0.5]),
    ],
)
def test_merges_without_a_model_in_memory_are_those_with_to_the_byte(
    name: str, method: str, weights: list[float], tmp_path: Path
) -> None:
    """Every method's, of parents cut into files in different ways. `canonical` is matched without a model, too."""
    folders = [tmp_path / f"parent-{k}" for k in range(len(weights))]
    for seed, folder in enumerate(folders):
        write_cut(MODELS[name](seed), folder, seed)
    loaded = [lmc.load(folder) for folder in folders]
    held = lmc.match(loaded, method=method, data=pico.inputs(loaded[0]) if method == "dual" else None, steps=2)  # type: ignore[arg-type]
    held.save(tmp_path / "aligned")
    if method == "canonical":
        blueprints = inspect_pair([str(folder) for folder in folders]).blueprints
        match_folders(blueprints, tmp_path / "streamed", method=method)
        assert contents(tmp_path / "streamed") == contents(tmp_path / "aligned")
    (card,) = held.export(tmp_path / "expected", at=weights)
    changes: list[float] = []
    assert merge_folder(tmp_path / "aligned", tmp_path / "computed", weights, verified=changes.append) == card
    assert changes == pytest.approx([require_ends(held)], abs=1e-6)
    assert merge_folder(tmp_path / "aligned", tmp_path / "merged", weights, verify=False) == card
    assert contents(tmp_path / "merged") == contents(tmp_path / "computed") == contents(tmp_path / "expected")
    lower = merge_folder(tmp_path / "aligned", tmp_path / "a new" / "lower", weights, torch.bfloat16, verify=False)
    assert lower is not None and "what rounding them changes was not measured" in lower
    (card,) = held.export(tmp_path / "expected lower", at=weights, dtype=torch.bfloat16)
    assert merge_folder(tmp_path / "aligned", tmp_path / "lower", weights, torch.bfloat16) == card
    assert contents(tmp_path / "lower") == contents(tmp_path / "expected lower")
    both = (contents(tmp_path / which) for which in ("a new/lower", "expected lower"))
    one, other = ({file: of for file, of in each.items() if file != "README.md"} for each in both)
    assert one == other
    assert not list(tmp_path.glob(".canonical-*"))


def test_an_end_that_is_not_the_parent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no model is in memory; then nothing is written."""
    match_folders(inspect_pair(write_pair("llama", tmp_path)).blueprints, tmp_path / "aligned")
    mixture = streaming.mixture

    def off(*given: Any, **options: Any) -> Any:
        outline, tensors = mixture(*given, **options)
        return outline, ((name, 1.01 * tensor) for name, tensor in tensors)

    monkeypatch.setattr(streaming, "mixture", off)
    with pytest.raises(CheckpointError, match="aligned: parent 0: expected the merged model at its end of the path"):
        merge_folder(tmp_path / "aligned", tmp_path / "merged", [0.5, 0.5])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "aligned", "b"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_what_is_not_finite_or_not_there_is_named(tmp_path: Path) -> None:
    broken = pico.neox(seed=0, dtype=torch.float32)
    broken.gpt_neox.layers[1].mlp.dense_4h_to_h.weight.data[0, 0] = torch.inf
    broken.save_pretrained(tmp_path / "a")
    lmc.save(pico.neox(seed=1, dtype=torch.float32), tmp_path / "b")
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.dense_4h_to_h\.weight: expected finite.* 1 of 384"):
        match_folders(inspect_pair([tmp_path / "a", tmp_path / "b"]).blueprints, tmp_path / "aligned")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    gone = Stored({"w": (tmp_path / "gone.safetensors", "w")}, torch.float32)
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        gone["w"]


def test_two_tensors_where_the_configuration_says_one_are_refused(tmp_path: Path) -> None:
    for seed, side in enumerate("ab"):
        lmc.save(pico.olmo(seed=seed, dtype=torch.float32), tmp_path / side)
        config = json.loads((tmp_path / side / "config.json").read_text())
        (tmp_path / side / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    message = (
        r"a: tie_word_embeddings is set, expected lm_head\.weight to be model\.embed_tokens\.weight, found another"
    )
    with pytest.raises(CheckpointError, match=message):
        match_folders(inspect_pair([tmp_path / "a", tmp_path / "b"]).blueprints, tmp_path / "aligned")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_what_has_to_be_folded_in_needs_the_models(tmp_path: Path) -> None:
    places = write_pair("vit", tmp_path)
    assert can_stream(inspect_pair(places).blueprints)
    config = json.loads((tmp_path / "b/config.json").read_text())
    config["pretrained_cfg"] |= {"mean": [0.1], "std": [0.3]}
    (tmp_path / "b/config.json").write_text(json.dumps(config))
    assert not can_stream(inspect_pair(places).blueprints)


def test_parents_that_were_rounded_are_said_to_be(tmp_path: Path) -> None:
    names = write_pair("neox", tmp_path)
    loaded = [lmc.load(name, dtype=torch.bfloat16) for name in names]
    lmc.match(loaded, method="naive").save(tmp_path / "aligned")
    with pytest.warns(UserWarning, match="matched in bfloat16, below float32, in which its weights are stored"):
        assert merge_folder(tmp_path / "aligned", tmp_path / "merged", [1.0, 0.0]) is None  # not as they are stored
        (card,) = lmc.Alignment.load(tmp_path / "aligned").export(tmp_path / "merged", at=0.0)
    assert card.count("rounded from float32 to bfloat16") == 2


@pytest.mark.parametrize("command", ["match", "merge", "load"])
def test_a_parent_that_is_replaced_while_it_is_read_is_noticed(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its SHA-256 was taken, by a file of the same size: what was read then is neither the one nor the other."""
    for k, name in enumerate("ab"):
        lmc.save(pico.llama(k, torch.float32), tmp_path / name)
    lmc.save(pico.llama(2, torch.float32), tmp_path / "other")
    pair = inspect_pair([str(tmp_path / name) for name in "ab"])
    match_folders(pair.blueprints, tmp_path / "aligned", method="naive")

    def then_replace(work: Any) -> Any:
        def replaced(*given: Any, **options: Any) -> Any:
            found = work(*given, **options)
            shutil.copy(tmp_path / "other/model.safetensors", tmp_path / "b/model.safetensors")
            return found

        return replaced

    monkeypatch.setattr(loading, "refer", then_replace(loading.refer))
    monkeypatch.setattr(streaming, "inherit", then_replace(streaming.inherit))
    monkeypatch.setattr(streaming, "match_all", then_replace(streaming.match_all))
    with pytest.raises(CheckpointError, match=r"b/model\.safetensors: expected it to stay as it was while it was read"):
        if command == "match":
            match_folders(pair.blueprints, tmp_path / "out")
        elif command == "merge":
            merge_folder(tmp_path / "aligned", tmp_path / "out", [0.5, 0.5])
        else:
            lmc.load(tmp_path / "b")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("piece", [64, 2**24])
def test_one_reading_gives_the_digest_and_what_is_not_finite(
    dtype: torch.dtype, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the tensors that are asked for; whole numbers, empty tensors and others' are read for the digest alone."""
    monkeypatch.setattr(lazy, "PIECE", piece)
    file = tmp_path / "model.safetensors"
    tensors = {"a": torch.randn(50, 7).to(dtype), "none": torch.zeros(0, 3, dtype=dtype), "whole": torch.arange(5)}
    for value, fine in ((1.0, True), (torch.finfo(dtype).max, True), (torch.inf, False), (torch.nan, False)):
        save_file(tensors | {"b": torch.tensor([value, value, 1.0], dtype=dtype)}, file)
        assert lazy.sha256_and_finite(file, {"a", "b"}) == (hashlib.sha256(file.read_bytes()).hexdigest(), fine)
        assert lazy.sha256_and_finite(file, {"a"})[1]
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"expected \d bytes more of tensor \w+; get the file again"):
        lazy.sha256_and_finite(file, {"a"})
    file.write_bytes(b"another kind of file, longer than a few bytes")
    with pytest.raises(CheckpointError, match="expected the header of a safetensors file, found none"):
        lazy.sha256_and_finite(file, {"a"})
