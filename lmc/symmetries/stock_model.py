"""A stock model's tensors, and a new stock model from new tensors."""

import copy
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lmc.errors import CheckpointError, LmcError, UnsupportedModelError, is_out_of_memory, one_line
from lmc.symmetries.spec import ModelSpec


def state(model: nn.Module) -> dict[str, Tensor]:
    """Every persistent tensor by name, detached (not copied)."""
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def largest(tensor: Tensor) -> float:
    """The largest magnitude in a tensor; 0 in an empty one.

    >>> largest(torch.tensor([1.0, -3.0]))
    3.0
    """
    return float(tensor.abs().max()) if tensor.numel() else 0.0


@contextmanager
def extreme_numbers(*states: Mapping[str, Tensor]) -> Iterator[None]:
    """Turns what linear algebra says of numbers too large or too small for it into a line that names the tensor."""
    try:
        yield
    except (torch.linalg.LinAlgError, OverflowError, ZeroDivisionError, ValueError) as error:
        if isinstance(error, ValueError) and "invalid numeric entries" not in str(error):
            raise  # of scipy's assignment: a cost that is no number
        every = [(k, name) for k, tensors in enumerate(states) for name in tensors]
        k, name = max(every, key=lambda at: _strangeness(states[at[0]][at[1]]))
        raise CheckpointError(
            f"tensor {name}: expected values of a trained model, found up to {largest(states[k][name]):.1e}, "
            "which cannot be computed with; was the checkpoint damaged?"
        ) from None


def _strangeness(tensor: Tensor) -> float:
    """How many powers of ten a tensor is away from 1. Zero counts as 30, but for vectors: 0 is usual there."""
    found = largest(tensor)
    if not math.isfinite(found):
        return math.inf
    return abs(math.log10(found)) if found else 30.0 * (tensor.ndim > 1)


def epsilon(model: Any, spec: ModelSpec) -> float:
    """The ε of the stream's norms; 0 for a family without a residual scale, where nothing ever changes it."""
    return 0.0 if spec.epsilon is None else float(getattr(model.config, spec.epsilon.field))


DRAWS = ("normal_", "uniform_", "trunc_normal_", "erfinv_", "kaiming_normal_", "kaiming_uniform_")


class _Undrawn(TorchFunctionMode):
    """Weights are not drawn, and the little that is computed, angles of positions, has numbers.

    To do either without numbers, torch loads its compiler's algebra, which takes a second.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given, called = kwargs or {}, getattr(function, "__name__", "")
        if called in DRAWS or (called == "clamp_" and args[0].is_meta):  # timm clamps what it draws
            return args[0] if args else given["tensor"]
        whole = getattr(given.get("dtype"), "is_floating_point", True) is False  # kinds of tokens, masks
        if function in (torch.arange, torch.tensor) or (function in (torch.zeros, torch.ones, torch.full) and whole):
            given = {**given, "device": given.get("device") or "cpu"}
        return function(*args, **given)


@contextmanager
def without_weights() -> Iterator[None]:
    """Models built meanwhile lie on the meta device: they have settings and shapes, and no weights.

    >>> with without_weights():
    ...     print(nn.Linear(2, 2).weight.device)
    meta
    """
    with torch.device("meta"), _Undrawn():
        yield


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Without dropout meanwhile; each module that was in training mode is in it again afterwards.

    >>> with in_evaluation(model):
    ...     model.training
    False
    """
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        yield
    finally:
        for module in training:
            module.training = True


def require_own_modules(model: nn.Module) -> None:
    """Refuse a model in which one module stands in two places: a table moves the weights of each by themselves.

    >>> require_own_modules(model)

    Raises UnsupportedModelError.
    """
    places: dict[int, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        first = places.setdefault(id(module), name)
        if first != name and next(module.parameters(recurse=False), None) is not None:
            raise UnsupportedModelError(
                f"{type(model).__name__}: expected a module for each place, found one for {first} and {name}; "
                "give each its own (copy.deepcopy)"
            )


def hollow(model: Any) -> Any:
    """A copy of a model without its weights: in their places stand tensors on the meta device, without numbers.

    A function that was put in the place of a `forward` stays where it is, and the copy computes what its class does:
    copied, that function would go on computing with the weights of the model that it was made for.
    """
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        bare = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
        memo[id(parameter)] = nn.Parameter(bare, requires_grad=parameter.requires_grad)
    for module in model.modules():
        # Each has a dozen tables of hooks: to copy the empty ones would take most of the time.
        tables = [table for table in vars(module).values() if type(table) is OrderedDict and not table]
        memo |= {id(table): OrderedDict() for table in tables}
    new = copy.deepcopy(model, memo)
    for module in new.modules():
        if isinstance(vars(module).get("forward"), FunctionType):
            del module.forward
    return new


def rebuild(
    model: Any, spec: ModelSpec, tensors: Mapping[str, Tensor], epsilon_factor: float = 1.0, untie: bool = False
) -> nn.Module:
    """A new stock model of the same class and settings that holds `tensors`; the one passed in is not touched.

    It is in evaluation mode: with dropout it would be another function. A head tied to the embedding stays so only if
    the two are still equal (and, in BERT, their biases), and `untie` does not ask for two tensors. `epsilon_factor`
    multiplies the norms' ε.
    """
    new = hold(model, spec, {name: t.clone() for name, t in tensors.items()}, untie)
    if epsilon_factor != 1.0:
        set_epsilon(new, spec, epsilon(model, spec) * epsilon_factor)
    return new


def hold(model: Any, spec: ModelSpec, tensors: Mapping[str, Tensor], untie: bool = False) -> Any:
    """Like `rebuild`, but the new model's parameters are `tensors` themselves: whoever changes those changes it."""
    new = hollow(model)
    new.load_state_dict(tensors, assign=True, strict=True)
    if spec.tied and new.config.tie_word_embeddings:
        ties = [spec.tied, *model.all_tied_weights_keys.items()]  # of a model tied since it was built, there are none
        if not untie and all(torch.equal(tensors[one], tensors[other]) for one, other in ties):
            new.tie_weights()
        else:
            new.config.tie_word_embeddings = False
    return new.eval()


def in_type(model: nn.Module, dtype: torch.dtype, settled_as: nn.Module | None = None) -> nn.Module:
    """The model itself, with its weights in a type; what is computed from its settings, such as angles, stays as it is.

    >>> next(in_type(lmc.canonicalize(model), torch.bfloat16).parameters()).dtype
    torch.bfloat16

    Or that is as in `settled_as`, a model of the same settings. So the libraries read models, too: with angles in
    bfloat16, long texts would notice.
    """
    like = dict((settled_as or model).named_modules())
    settled = [
        (module, name, getattr(like.get(where, module), name, None))
        for where, module in model.named_modules()
        for name in module._non_persistent_buffers_set
    ]
    model.to(dtype)
    for module, name, buffer in settled:
        setattr(module, name, None if buffer is None else buffer.clone())
    return model


def set_epsilon(model: Any, spec: ModelSpec, value: float) -> None:
    """Set ε in the configuration and in every norm of the stream, in place."""
    assert spec.epsilon is not None
    setattr(model.config, spec.epsilon.field, value)
    for norm in spec.norms:
        setattr(model.get_submodule(norm.module), spec.epsilon.attribute, value)


def recompute_activations(model: Any) -> None:
    """Let every layer compute its activations again in the backward pass, by the stock mechanism, in place.

    The model stays in evaluation mode. A stock transformers layer looks at its own training flag, and at nothing
    below it: that flag is set alone. A layer that drops by itself, as OPT's does, gets rates of 0.
    """
    if type(model).__module__.startswith("timm."):
        model.set_grad_checkpointing(True)
        return
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.config.use_cache = False
    renamed = "activation_checkpointing_enable"  # since transformers 5.20 or so; the old name warns there
    enable = getattr(model, renamed if renamed in dir(model) else "gradient_checkpointing_enable")
    enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True
            for rate in [name for name, value in vars(module).items() if "drop" in name and isinstance(value, float)]:
                setattr(module, rate, 0.0)


def logits(model: Any, inputs: Tensor) -> Tensor:
    """What a model says of inputs that all are of one length.

    For texts [n, T, vocabulary] or labels [n, T, labels] of tokens, or of texts [n, labels]; [n, classes] for images;
    of a projection [n, d]. Of a model without a head the last states [n, T, d]; what it pools them into is one more.
    Raises UnsupportedModelError where it cannot be run.
    """
    if inputs.is_floating_point():
        inputs = inputs.to(next(model.parameters()).dtype)
    try:
        with _texts_that_end_together(model):
            out = model(inputs)
    except LmcError:
        raise
    except Exception as error:  # stock classes notice some wrong settings only here, each in its own way
        if is_out_of_memory(error):
            raise
        kind = str(next(model.parameters()).dtype).removeprefix("torch.")
        what = f"{type(model).__name__}: expected settings that it can compute with in {kind}"
        raise UnsupportedModelError(f"{what}; it stopped with: {one_line(error)}; mend them or the type") from error
    if isinstance(out, Tensor):
        return out
    for said in ("logits", "text_embeds", "image_embeds"):
        if said in out:
            return out[said]  # type: ignore[no-any-return]
    states, pooled = out.last_hidden_state, out.get("pooler_output")
    if pooled is not None and pooled.shape[-1] != states.shape[-1]:  # of ViT, whose pooler may have a size of its own
        return torch.cat([states.flatten(1), pooled], 1)
    return states if pooled is None else torch.cat([states, pooled[:, None]], 1)


@contextmanager
def _texts_that_end_together(model: Any) -> Iterator[None]:
    """Stock classifiers of texts look for the last token that is no padding, and without a padding token refuse two
    texts at once. Where all are of one length, a padding token that never occurs says the same."""
    config = getattr(model, "config", None)
    if not hasattr(model, "score") or getattr(config, "pad_token_id", 0) is not None:
        yield
        return
    config.pad_token_id = -1  # type: ignore[union-attr]  # it has the field
    try:
        yield
    finally:
        config.pad_token_id = None  # type: ignore[union-attr]
