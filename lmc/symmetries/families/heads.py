"""What reads a decoder's last norm: a head that predicts the next token, or one that labels texts or tokens.

Whichever it is, it is one linear layer that reads the stream, so one rule serves every class of a family. How its
outputs are then used (at every token, or at the last one that is no padding) changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LABELS = ("ForSequenceClassification", "ForTokenClassification")
TEXTS = ("ForCausalLM", "ForSequenceClassification")  # where the library has no class that labels tokens
NAMES = ("id2label", "label2id", "problem_type")  # what a configuration of transformers says of classes
TIMM_NAMES = ("label_names", "label_descriptions")  # and what timm keeps beside the settings of a model


@dataclass(frozen=True)
class Head:
    """The layer's name, its rules, and what a table says of it. `classes`: how many, if it is not the vocabulary's."""

    name: str
    rules: dict[str, str]
    classes: dict[str, int]
    logits: tuple[str, ...]
    tied: tuple[str, str] | None


def head(model: Any, embedding: str) -> Head:
    """The head of a decoder of transformers: the one layer beside the stack. `embedding`: what it may be tied to."""
    name, layer = next(
        (n, m) for n, m in model.named_children() if n != model.base_model_prefix and list(m.parameters())
    )
    weight = name + ".weight"
    if layer is model.get_output_embeddings():
        return Head(name, {weight: "vocab stream?"}, {}, (weight,), (weight, embedding))
    bias = {} if layer.bias is None else {name + ".bias": "class"}
    return Head(name, {weight: "class stream?", **bias}, {"class": layer.out_features}, (), None)


def timm_record(model: Any) -> dict[str, Any]:
    """What a timm model says of its origin and its pictures, in whichever form it keeps that; empty where it does not.

    >>> timm_record(torch.nn.Linear(2, 2))
    {}
    """
    kept = getattr(model, "pretrained_cfg", None) or {}
    return dict(kept) if isinstance(kept, dict) else dict(kept.to_dict())


def class_names(model: Any) -> dict[int, str]:
    """What a model calls its classes, by their numbers; empty where it does not say.

    >>> class_names(torch.nn.Linear(2, 2))
    {}

    In transformers that is `id2label`, in timm `label_names`.
    """
    config = getattr(model, "config", None)
    own = timm_record(model).get("label_names") or ()
    listed = own if isinstance(own, dict) else dict(enumerate(own))  # timm takes both
    named = listed if config is None else getattr(config, "id2label", None) or {}
    return {int(number): str(name) for number, name in named.items() if str(number).isdecimal()}


def first_naming(models: Sequence[Any]) -> Any:
    """The first of some models that calls its classes something, or the first of all where none does.

    >>> first_naming([model, a]) is model
    True

    LABEL_0 and so on are no names: transformers writes them where none were given.
    """
    return next(filter(names_classes, models), models[0])


def names_classes(model: Any) -> bool:
    """Whether a model calls its classes something.

    >>> names_classes(model)
    False
    """
    return any(name != f"LABEL_{number}" for number, name in class_names(model).items())


def name_classes_as(model: Any, other: Any, used: bool = True) -> None:
    """Let a model call its classes what another does, in place, and unless `used` is False use them in the same way.

    >>> name_classes_as(model, tuned)
    """
    if (config := getattr(other, "config", None)) is not None:
        for name in NAMES if used else NAMES[:2]:
            if hasattr(config, name):
                setattr(model.config, name, getattr(config, name))
    elif getattr(other, "pretrained_cfg", None) is not None:
        origin = timm_record(other)
        own = {name: value for name, value in timm_record(model).items() if name not in TIMM_NAMES}
        model.pretrained_cfg = own | {name: origin[name] for name in TIMM_NAMES if origin.get(name)}


def named(stem: str, *kinds: str) -> tuple[str, ...]:
    """The stock classes of an architecture, one for each kind of head it comes with.

    >>> named("Olmo", *TEXTS)
    ('OlmoForCausalLM', 'OlmoForSequenceClassification')
    """
    return tuple(stem + kind for kind in kinds or ("ForCausalLM", *LABELS))
