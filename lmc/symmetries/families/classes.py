"""The stock classes that each family covers, by name, so that any other class is refused before torch is imported."""

from collections.abc import Mapping

from lmc.errors import UnsupportedModelError
from lmc.symmetries.families.closest import advice
from lmc.symmetries.families.heads import LABELS, TEXTS, named

LLAMAS = tuple(name for stem in ("Llama", "Mistral", "Qwen2", "Phi3", "Mixtral", "Qwen2Moe") for name in named(stem))
BERTS = tuple(s + kind for s in ("Bert", "Roberta", "XLMRoberta") for kind in ("ForMaskedLM", *LABELS, "Model"))
GEMMA3 = ("Gemma3ForCausalLM", "Gemma3TextForSequenceClassification")
PICTURE_STEMS = ("ViT", "Dinov2", "Dinov2WithRegisters")
PICTURES = tuple(stem + kind for stem in PICTURE_STEMS for kind in ("ForImageClassification", "Model"))
CLIP_TEXTS, CLIP_PICTURES = (
    tuple(f"CLIP{kind}Model{head}" for head in ("WithProjection", "")) for kind in ("Text", "Vision")
)

TRANSFORMERS = {
    "gpt_neox": named("GPTNeoX"),
    "gpt2": ("GPT2LMHeadModel", *named("GPT2", *LABELS)),
    "llama": (*LLAMAS, "GraniteForCausalLM"),
    "stablelm": named("StableLm"),
    "starcoder2": named("Starcoder2"),
    "opt": named("OPT", *TEXTS),
    "gemma": (*named("Gemma"), *named("Gemma2"), *GEMMA3),
    "qwen3": (*named("Qwen3"), *named("Qwen3Moe")),
    "olmo": named("Olmo", *TEXTS),
    "olmo2": (*named("Olmo2", *TEXTS), *named("Olmo3", *TEXTS)),
    "olmoe": ("OlmoeForCausalLM",),
    "bert": BERTS,
    "hf_vit": PICTURES,
    "clip_text": CLIP_TEXTS,
    "clip_vision": CLIP_PICTURES,
}
TIMM = {"vit": ("VisionTransformer",)}

# Classes whose files hold a covered one and more, which the stock loader leaves out.
_PUBLISHED = {"BertForPreTraining": "BertForMaskedLM"}


def covered(class_name: str) -> str:
    """The covered class that reads the files of a class: mostly that class itself.

    >>> covered("BertForPreTraining")
    'BertForMaskedLM'
    """
    return _PUBLISHED.get(class_name, class_name)


def reads(library: str, class_name: str) -> str:
    """Whether a stock class that is covered reads "text" or "images".

    >>> reads("transformers", "CLIPTextModel"), reads("timm", "vit_small_patch16_224")
    ('text', 'images')
    """
    return "images" if library == "timm" or class_name in (*PICTURES, *CLIP_PICTURES) else "text"


def is_covered(class_name: str) -> bool:
    """Whether a family covers a class of transformers.

    >>> is_covered("LlamaForCausalLM"), is_covered("LlamaModel")
    (True, False)
    """
    return any(class_name in names for names in TRANSFORMERS.values())


def require_covered(class_name: str) -> None:
    """Raise UnsupportedModelError for a class of transformers that no family covers, naming the closest covered.

    >>> require_covered("LlamaForCausalLM")
    """
    if not is_covered(class_name):
        raise not_covered(class_name, "transformers", TRANSFORMERS)


def not_covered(class_name: str, library: str, classes: Mapping[str, tuple[str, ...]]) -> UnsupportedModelError:
    """The error for a class that is not among those of a library that are covered, which are given by family."""
    hint = advice(class_name, library, classes)
    return UnsupportedModelError(f"{library}.{class_name}: no family covers this model class; {hint}")
