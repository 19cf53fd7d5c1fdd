"""Folders that hold something else than a stock checkpoint: what it is, in words, and what to do about it.

>>> recognise(["config.json", "llama-7b.Q4_K_M.gguf"])
('weights of llama.cpp (llama-7b.Q4_K_M.gguf)', 'use the safetensors checkpoint that they were made from')

Only names are looked at; nothing is opened. torch is not imported: a folder that is none is told before.
"""

import re
import warnings
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from lmc.checkpoints import hub
from lmc.checkpoints.headers import PICKLED, SAFE, layout
from lmc.errors import CheckpointError, HubError
from lmc.files import read_json
from lmc.symmetries.families import is_covered

_FRAMEWORK = "save them from PyTorch as safetensors; transformers before version 5 reads them with from_tf or from_flax"
_EXPORTED = "use the safetensors checkpoint that they were made from"
_TRAINING = "save the model itself, with save_pretrained"
GATHER = "gather the weights with DeepSpeed's zero_to_fp32"

# How a file is called, what it is, and what to do where nothing better is there; the first that fits is told.
_KINDS = (
    ("model.safetensors.index.json", "an index without its shards", "download the files that it names"),
    ("model.*.safetensors", "a variant of the weights", f"copy it to {SAFE}, if it is the one you want"),
    (
        "consolidated*",
        "weights in the layout of their first release",
        "use a copy that has a config.json",
    ),
    (
        "adapter_config.json",
        "an adapter",
        "lmc match takes it as it is, else join it with its base: lmc convert THIS NEW",
    ),
    ("adapter_*", "an adapter without its settings", "put its adapter_config.json there"),
    ("model_index.json", "a pipeline of several models", "name the folder of one of them"),
    ("*.gguf", "weights of llama.cpp", _EXPORTED),
    ("*.ggml*", "weights of llama.cpp", _EXPORTED),
    ("*.h5", "weights of TensorFlow", _FRAMEWORK),
    ("*.ckpt.index", "weights of TensorFlow", _FRAMEWORK),
    ("*.msgpack", "weights of Flax", _FRAMEWORK),
    ("*.ot", "weights of rust-bert", _EXPORTED),
    ("*.onnx", "an exported graph (ONNX)", _EXPORTED),
    ("*.tflite", "an exported graph (TensorFlow Lite)", _EXPORTED),
    ("openvino_model.*", "an exported graph (OpenVINO)", _EXPORTED),
    ("*.mlmodel", "an exported graph (Core ML)", _EXPORTED),
    ("*.npz", "weights of JAX", _FRAMEWORK),
    ("global_step*", "the slices that DeepSpeed trains on", GATHER),
    ("*zero_pp_rank*", "the slices that DeepSpeed trains on", GATHER),
    ("pytorch_model_fsdp*", "the slices that FSDP trains on", "gather them: accelerate merge-weights SLICES NEW"),
    ("*.distcp", "the slices that FSDP trains on", "gather them: accelerate merge-weights SLICES NEW"),
    ("optimizer.*", "what training needs to go on", _TRAINING),
    ("scheduler.*", "what training needs to go on", _TRAINING),
    ("rng_state*", "what training needs to go on", _TRAINING),
    ("scaler.*", "what training needs to go on", _TRAINING),
    ("random_states*", "what training needs to go on", _TRAINING),
    ("trainer_state.json", "what training needs to go on", _TRAINING),
    ("training_args.bin", "what training needs to go on", _TRAINING),
)
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.(safetensors|bin)")


def recognise(names: Iterable[str]) -> tuple[str, str] | None:
    """What files of these names are, and what to do; None where nothing is known."""
    there = sorted(names)
    for pattern, what, advice in _KINDS:
        for name in there:
            if fnmatch(name, pattern):
                return f"{what} ({name})", advice
    return None


def pickled(names: Iterable[str]) -> list[str]:
    """Those of the files that look like pickled weights of a model.

    >>> pickled(["pytorch_model.bin", "optimizer.pt", "README.md"])
    ['pytorch_model.bin']
    """
    found = sorted(n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt")) and recognise([n]) is None)
    return sorted(found, key=lambda name: name != PICKLED)  # the one that the stock library reads comes first


def shards(names: Iterable[str]) -> list[str]:
    """The numbered parts of one file of weights, if all of them are there; none otherwise.

    >>> shards(["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])[1]
    'model-00002-of-00002.safetensors'
    """
    found = [m for name in sorted(names) if (m := _SHARD.fullmatch(name))]
    whole = found and len({(m[1], m[3], m[4]) for m in found}) == 1 and len(found) == int(found[0][3])
    return [m[0] for m in found] if whole else []


def is_adapter(source: hub.Source) -> bool:
    """Whether a folder holds an adapter and no model; some trainers put the settings of its base there, too.

    >>> is_adapter(hub.locate("run-1"))
    False
    """
    if not (source.folder / "adapter_config.json").exists():
        return False
    settings = (source.folder / "config.json").exists()
    return not settings or not any(name.startswith(("model", "pytorch_model")) for name in hub.names(source))


def weights(source: hub.Source, given: str | Path) -> tuple[str, ...]:
    """The weights files of a checkpoint; `given` is what the user called it.

    Raises CheckpointError for a folder without stock weights, and for one that holds an adapter as well.
    """
    files = single_or_shards(source)
    if not files:
        there = hub.names(source)
        if SAFE not in there and (found := pickled(there)):
            raise CheckpointError(
                f"{source.folder}: expected {SAFE}, found pickled weights ({found[0]}); "
                f"make a safe copy with: lmc convert {given} NEW"
            )
        if SAFE not in there:
            raise no_weights(source.folder, there, given)
        files = (SAFE,)
    if (source.folder / "adapter_config.json").exists():  # which transformers applies where peft is installed
        raise CheckpointError(
            f"{source.folder}: expected a model or an adapter, found both, which not every library joins; "
            "move the files adapter_* into a folder of their own"
        )
    return files


def single_or_shards(source: hub.Source, single: str = SAFE) -> tuple[str, ...]:
    """The weights files that the stock library takes: the single one where there is one, else those of an index.

    A repository may have both, an older form that nobody deleted; a copy of it here has what was asked for so far.
    """
    files = layout(source.folder, single)
    if source.repository is None or files in ((), (single,)):
        return files
    try:
        there = hub.names(source)
    except HubError:  # it does not answer: then its copy decides
        return files
    return (single,) if single in there else files


def no_weights(folder: Path, names: Iterable[str], given: str | Path) -> CheckpointError:
    """The error for a folder without stock weights; `given` is what the user called it."""
    there = list(names)
    if parts := shards(there):
        return CheckpointError(
            f"{folder}: expected {SAFE} or an index, found {len(parts)} shards without {SAFE}.index.json; "
            f"download the index, or make a stock copy with: lmc convert {given} NEW"
        )
    if parts := [name for name in there if _SHARD.fullmatch(name)]:
        return CheckpointError(
            f"{folder}: expected {parts[0].split('-of-')[1][:5].lstrip('0')} shards and an index, found "
            f"{', '.join(parts)[:80]}; download the missing ones"
        )
    return _other(folder, SAFE, there)


def settings(source: hub.Source) -> Path:
    """The config.json of a checkpoint. Raises CheckpointError for a folder without one, and says what it holds."""
    path = source.folder / "config.json"
    if path.exists():
        return path
    below = sorted(path.parent.name for path in source.folder.glob("*/config.json"))
    if below:
        advice = "name one of these"
        if source.repository is not None:
            fetch = f"hf download {source.repository} --include '{below[0]}/*' --local-dir NEW"
            advice = f"fetch one with: {fetch}, and name its folder"
        raise CheckpointError(f"{path}: not found, but in its folders {_listed(below)}; {advice}")
    there = hub.names(source)
    if f"{SAFE}.index.json" in there and shards(there):
        raise CheckpointError(
            f"{path}: not found, but shards of weights and their index; put there the one they came with"
        )
    raise _other(source.folder, path.name, there)


def _other(folder: Path, expected: str, names: list[str]) -> CheckpointError:
    what, advice = recognise(names) or (
        _listed(sorted(names)) or "nothing",
        f"put {expected} there, or name another folder",
    )
    return CheckpointError(f"{folder / expected}: not found; the folder holds {what}; {advice}")


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def warn_of_rest(folder: Path) -> None:
    """Say what of a folder is neither compared nor written.

    What follows the transformer, as sentence-transformers lists it, and the code of a model or a tokenizer of its own.
    """
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    named = config.get("architectures")
    own = str(named[0]) if isinstance(named, list) and named else ""
    if (file := folder / "modules.json").exists():
        what = "what follows the transformer (its pooling, dense layers) is neither compared nor written"
        advice = "add it to what is merged yourself"
        if own and not own.endswith("Model"):  # with a head, hidden states are free to be rewritten
            what += f", and reads hidden states, which all methods but naive rewrite in a {own}"
            advice = "use --method naive, or a class without a head, or embeddings will be others"
        warnings.warn(f"{file}: {what}; {advice}", stacklevel=1)
    if "auto_map" in config and is_covered(own):
        what = f"the code of its own is neither run nor copied; it is read and written as the stock {own}"
        warnings.warn(f"{folder / 'config.json'}: {what}: do both compute the same?", stacklevel=1)
    if (file := folder / "tokenizer_config.json").exists() and "auto_map" in read_json(file):
        what = "the code of its own tokenizer is neither run nor copied, and a stock one may cut text differently"
        warnings.warn(f"{file}: {what}; save the tokenizer as a stock one (tokenizer.json) first", stacklevel=1)
