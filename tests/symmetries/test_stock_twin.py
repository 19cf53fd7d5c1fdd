"""A model that was changed in memory, in what no checkpoint holds, is not matched or written as if it had not been."""

import copy
import re
import warnings
from collections.abc import Callable
from functools import partial, update_wrapper
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import lmc
from lmc.symmetries import require_stock
from lmc.symmetries.stock_model import in_type, without_weights
from tests import pico

ACTIVATIONS = ("act", "act_fn", "activation", "activation_fn", "intermediate_act_fn")


def layers(model: Any) -> list[Any]:
    return [m for m in model.modules() if "Attention" in type(m).__name__]


def another_activation(model: Any) -> bool:
    found = False
    for module in list(model.modules()):
        for name in ACTIVATIONS:
            if name in dict(module.named_children()):
                setattr(module, name, nn.Tanh())
                found = True
            elif name in vars(module):
                setattr(module, name, torch.tanh)
                found = True
    return found


def another_factor(model: Any) -> bool:
    found = [m for m in layers(model) if any(n in vars(m) for n in ("scaling", "scale"))]
    for module in found:
        setattr(module, "scaling" if "scaling" in vars(module) else "scale", 0.123)
    return bool(found)


def other_angles(model: Any) -> bool:
    found = [m for m in model.modules() if "inv_freq" in dict(m.named_buffers(recurse=False))]
    for module in found:
        module.inv_freq.mul_(1.0001)
    return bool(found)


def another_epsilon(model: Any) -> bool:
    found = [(m, n) for m in model.modules() for n in ("eps", "variance_epsilon") if n in vars(m)]
    for module, name in found[:1]:
        setattr(module, name, 0.02)
    return bool(found)


def later_settings(model: Any) -> bool:
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "num_attention_heads"):
        return False
    config.num_attention_heads //= 2
    for name in ("num_key_value_heads", "head_dim"):
        if getattr(config, name, None) is not None:
            setattr(config, name, getattr(config, name) * (2 if name == "head_dim" else 1))
    return True


CHANGES: tuple[Callable[[Any], bool], ...] = (
    another_activation,
    another_factor,
    other_angles,
    another_epsilon,
    later_settings,
)


@pytest.mark.parametrize("stem", pico.STEMS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_that_no_checkpoint_holds_is_refused(stem: str, change: Callable[[Any], bool], tmp_path: Path) -> None:
    model, other = pico.STEMS[stem](0, torch.float32), pico.STEMS[stem](1, torch.float32)
    if not change(model):
        pytest.skip("this class has nothing of the kind")
    if lmc.spec(other).family != "vit":  # a timm model has no settings beside its modules
        with pytest.raises(lmc.LmcError):
            lmc.match(other, model, method="weights")
    with pytest.raises(lmc.LmcError):
        lmc.save(model, tmp_path / "saved")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("stem", pico.STEMS)
def test_stock_models_are_what_they_were_built_as(stem: str) -> None:
    """Canonical, enlarged by types, in training, or run once: none of it changes the function."""
    model = pico.STEMS[stem](0, torch.float32)
    pico.logits(model, pico.inputs(model))
    # transformers does not resize the bias of RoBERTa's head, and its positions begin behind the padding token.
    if "Roberta" not in stem and hasattr(getattr(model, "config", None), "vocab_size"):
        model.resize_token_embeddings(model.config.vocab_size + 4)
        model.config.pad_token_id = 3
    for same in (
        model,
        lmc.canonicalize(model),
        in_type(copy.deepcopy(model), torch.bfloat16).float().train(),
        in_type(copy.deepcopy(model), torch.float16),
    ):
        require_stock(same)


EXACT = ("StableLm",)  # its one angle is 1


@pytest.mark.parametrize("stem", pico.STEMS)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_angles_that_were_rounded_with_the_weights_are_said(stem: str, kind: torch.dtype) -> None:
    model = pico.STEMS[stem](0, torch.float32)
    turned = any("inv_freq" in name for name, _ in model.named_buffers())
    model.to(kind).float()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        require_stock(model)
    assert len(said) <= turned and all("inv_freq: rounded with the weights" in str(w.message) for w in said)
    if turned and stem not in EXACT:
        assert said


def test_a_base_from_a_model_of_other_settings_is_refused(tmp_path: Path) -> None:
    """It keeps its settings, by which it computes; what is written says those of the model around it."""
    model, wide = (pico.mistral(seed, torch.float32, sliding_window=window) for seed, window in enumerate((None, 4)))
    model.model = wide.model
    for use in (
        lambda: lmc.match(wide, model, method="weights"),
        lambda: lmc.check(model),
        lambda: require_stock(model),
    ):
        with pytest.raises(lmc.LmcError, match="sliding_window"):
            use()
    with pytest.raises(lmc.CheckpointError, match=r"model\.config\.sliding_window: expected 4, but .* with None"):
        lmc.save(model, tmp_path / "saved")
    model = pico.mistral(0, torch.float32, sliding_window=None)
    model.model.config = type("Own", (type(model.config),), {})(**{**model.config.to_dict(), "sliding_window": 4})
    with pytest.raises(lmc.UnsupportedModelError, match="sliding_window"):
        require_stock(model)
    model, other = (pico.mistral(seed, torch.float32, sliding_window=None) for seed in range(2))
    model.model = other.model  # settings of its own, and the same
    model.model.config.num_hidden_layers = 7  # which its shapes tell
    require_stock(model)


def test_marks_of_the_owner_are_no_change() -> None:
    """No class looks for what no class sets; what one does set is looked for."""
    model = pico.llama(0, torch.float32)
    model.my_tag, model.model_parallel, model.model.layers[0].mlp.up_proj.merged = 3, False, True
    require_stock(model)
    model.model.layers[0].self_attn.is_causal = False
    with pytest.raises(lmc.UnsupportedModelError, match="is_causal: expected True"):
        require_stock(model)


@pytest.mark.parametrize("stem", ["llama", "vit", "bert"])
def test_a_loss_that_is_kept_with_a_model_is_no_change(stem: str) -> None:
    model = getattr(pico, stem)(0, torch.float32)
    model.loss_fct = nn.Sequential(nn.CrossEntropyLoss())
    require_stock(model)
    layers = model.blocks if stem == "vit" else (model.model if stem == "llama" else model.bert.encoder)
    layers = getattr(layers, "layers", getattr(layers, "layer", layers))
    layers.append(nn.Tanh())  # what a list holds is used
    with pytest.raises(lmc.LmcError):
        require_stock(model)


def test_what_is_dropped_in_training_is_no_change() -> None:
    model = pico.dinov2(0, torch.float32)
    model.config.drop_path_rate = 0.3
    require_stock(model)


def test_layers_in_another_order_are_stock() -> None:
    model = pico.gemma3(0, torch.float32, num_hidden_layers=3, layer_types=["full_attention"] * 3)
    model.model.layers = nn.ModuleList(reversed(list(model.model.layers)))
    require_stock(model)


def test_copies_of_a_layer_share_no_place_in_the_cache() -> None:
    """With the library's cache, which is on, each sees the other's keys; in another order they do not."""
    model = pico.llama(0, torch.float32, num_hidden_layers=2)
    model.model.layers.append(copy.deepcopy(model.model.layers[0]))
    model.config.num_hidden_layers = 3
    with pytest.raises(lmc.UnsupportedModelError, match=r"layers\.2\.self_attn\.layer_idx: expected 2, .*found 0"):
        lmc.check(model)
    model.model.layers[2].self_attn.layer_idx = 2
    require_stock(model)
    model.model.layers = nn.ModuleList(reversed(list(model.model.layers)))
    require_stock(model)


def test_another_function_in_the_place_of_a_forward_is_refused(tmp_path: Path) -> None:
    """Whatever it computes, a checkpoint does not hold it. One around the class's own may stay: it says so."""
    model = pico.llama(0, torch.float32)
    head, act = model.lm_head, model.model.layers[0].mlp.act_fn
    own = head.forward
    for place, other in ((act, torch.tanh), (head, lambda hidden: own(hidden) / 2), (model, partial(model.forward))):
        place.forward = other
        with pytest.raises(lmc.UnsupportedModelError, match=r"forward: expected .*\.forward, as its .* del MODULE"):
            lmc.match(pico.llama(1, torch.float32), model, method="naive")
        with pytest.raises(lmc.CheckpointError, match=r"forward: expected .*; not saved"):
            lmc.save(model, tmp_path / "saved")
        del place.forward
    seen = pico.vit(0, torch.float32)
    seen.head.forward = lambda states: states.sum(-1, keepdim=True)
    with pytest.raises(lmc.UnsupportedModelError, match=r"head\.forward: expected Linear\.forward, .* del MODULE"):
        lmc.check(seen)
    head.forward = update_wrapper(partial(own), own)  # as hooks of accelerate are put there
    model.forward = MethodType(torch.autocast("cpu")(type(model).forward), model)
    act.forward = torch.compile(act.forward, backend="eager")
    require_stock(model)


DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.5],
    "long_factor": [2.0, 3.0],
    "rope_theta": 10_000.0,
    "original_max_position_embeddings": 8,
}


def follows(kind: str, length: int) -> tuple[Any, Any]:
    """A model whose angles are those of its last text, after a text of that length, and the module that keeps them."""
    rope, positions = (DYNAMIC, 8) if kind == "dynamic" else (LONG, 64)
    if kind == "by layer":
        both = {"sliding_attention": DYNAMIC, "full_attention": DYNAMIC}
        model = pico.gemma3(0, torch.float32, rope_parameters=both, max_position_embeddings=8)
    else:
        model = pico.llama(0, torch.float32, rope_parameters=dict(rope), max_position_embeddings=positions)
    if length:
        model(torch.zeros(1, length, dtype=torch.long))
    return model, model.model.rotary_emb


@pytest.mark.parametrize("length", [0, 6, 40])
@pytest.mark.parametrize("kind", ["dynamic", "longrope", "by layer"])
def test_angles_of_the_last_text_are_no_change(kind: str, length: int) -> None:
    model, _ = follows(kind, length)
    for same in (model, in_type(copy.deepcopy(model), torch.bfloat16)):
        require_stock(same)


@pytest.mark.parametrize("length", [0, 40])
@pytest.mark.parametrize("kind", ["dynamic", "longrope", "by layer"])
def test_other_angles_than_those_of_the_last_text_are_refused(kind: str, length: int) -> None:
    model, rotary = follows(kind, length)
    names = [name for name in [*dict(rotary.named_buffers()), *vars(rotary)] if name.endswith("inv_freq")]
    changed = 0
    for name in names:
        if kind == "longrope" and name == "inv_freq":
            continue  # written anew for every text
        model, rotary = follows(kind, length)
        getattr(rotary, name).mul_(1.01)
        with pytest.raises(lmc.UnsupportedModelError, match="inv_freq: expected those of its settings"):
            require_stock(model)
        changed += 1
    assert changed


def test_kinds_of_tokens_that_a_checkpoint_does_not_hold_are_compared() -> None:
    model = pico.bert(0, torch.float32)
    model.bert.embeddings.token_type_ids.fill_(1)
    with pytest.raises(lmc.UnsupportedModelError, match="token_type_ids: expected those of its settings"):
        require_stock(model)


def test_every_tensor_that_is_no_weight_has_numbers_to_be_compared_with() -> None:
    seen = 0
    for stem in pico.STEMS:
        model = pico.STEMS[stem](0, torch.float32)
        if not hasattr(model, "config"):
            continue
        with without_weights():
            twin = type(model)(model.config)
        for name, buffer in twin.named_buffers():
            if name not in twin.state_dict():
                seen += 1
                assert not buffer.is_meta, (stem, name)
    assert seen > 20


def test_kinds_of_angles_by_layer_are_compared() -> None:
    model, rotary = follows("by layer", 0)
    rotary.rope_type = {**rotary.rope_type, "sliding_attention": "default"}
    with pytest.raises(lmc.UnsupportedModelError, match=r"rotary_emb\.(rope_type|original_max_seq_len)"):
        require_stock(model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler
def test_what_stands_around_a_model_is_named() -> None:
    model = pico.llama(0, torch.float32)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    for around, inner in (
        (torch.compile(model), "_orig_mod"),
        (nn.DataParallel(model), "module"),
        (averaged, "module"),
    ):
        with pytest.raises(lmc.UnsupportedModelError, match=f"one around it; give MODEL.{inner}"):
            lmc.check(around)


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (lambda layer: prune.l1_unstructured(layer, "weight", 0.3), r"prune\.remove\(MODULE, NAME\)"),
        (parametrizations.weight_norm, r"parametrize\.remove_parametrizations"),
    ],
)
def test_what_is_computed_of_other_weights_is_to_be_made_permanent(change: Any, advice: str) -> None:
    model = pico.llama(0, torch.float32)
    change(model.model.layers[0].mlp.up_proj)
    with pytest.raises(lmc.UnsupportedModelError, match=rf"up_proj.*; make it permanent: torch\.nn\.utils\.{advice}"):
        lmc.check(model)


@pytest.mark.filterwarnings("ignore")  # of torch: all of its quantisation is deprecated
def test_a_quantised_model_is_refused_in_a_line() -> None:
    model = torch.ao.quantization.quantize_dynamic(pico.llama(0, torch.float32), {nn.Linear})
    with pytest.raises(lmc.UnsupportedModelError, match=r"lm_head\.\w+: expected .*, found"):
        lmc.check(model)


def test_a_tie_that_the_weights_do_not_have_is_refused() -> None:
    model = pico.llama(0, torch.float32)
    model.config.tie_word_embeddings = True
    with pytest.raises(lmc.UnsupportedModelError, match=r"tie_word_embeddings: expected False, .* differ, found True"):
        require_stock(model)
    require_stock(pico.llama(0, torch.float32, tie_word_embeddings=True))


def test_a_weight_without_numbers_is_named() -> None:
    models = [pico.llama(seed, torch.float32) for seed in range(2)]
    models[1].lm_head.to("meta")
    for use in (lambda: lmc.check(models[1]), lambda: lmc.match(*models, method="naive")):
        with pytest.raises(lmc.UnsupportedModelError, match=r"lm_head\.weight: expected numbers, found none"):
            use()


def test_a_model_that_was_built_without_its_pooler_is_said_in_a_line() -> None:
    whole = pico.bert(0, torch.float32, kind="Model")
    bare = type(whole)(whole.config, add_pooling_layer=False).eval()
    with pytest.raises(lmc.UnsupportedModelError, match="found None; build the model with add_pooling_layer=True"):
        lmc.check(bare)


def test_layers_that_were_taken_out_are_said_in_a_line() -> None:
    models = [pico.neox(seed, torch.float32) for seed in range(2)]
    del models[1].gpt_neox.layers[1]
    for use in (
        lambda: lmc.match(*models, method="weights"),
        lambda: lmc.check(models[1]),
        lambda: lmc.canonicalize(models[1]),
    ):
        with pytest.raises(lmc.UnsupportedModelError, match=r"layers\.1\..*, found None; change the settings"):
            use()


def test_the_line_names_the_place_and_what_its_settings_say() -> None:
    model = pico.neox(0, torch.float32)
    model.gpt_neox.layers[1].attention.scaling = 1.0
    with pytest.raises(
        lmc.UnsupportedModelError, match=r"layers\.1\.attention\.scaling: expected .*, found 1\.0; change"
    ):
        require_stock(model)


@pytest.mark.parametrize("build", [pico.llama, pico.neox])
def test_a_head_that_was_tied_after_building_is_untied_where_it_absorbs_a_norm(build: Any) -> None:
    model, other = build(0, torch.float32), build(1, torch.float32)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    other.config.tie_word_embeddings = True
    other.tie_weights()
    inputs = pico.inputs(model)
    with pytest.warns(UserWarning, match="becomes a tensor of its own"):
        end = lmc.match(model, other, method="weights").merge(0.0)
    assert torch.allclose(pico.logits(end, inputs), pico.logits(model, inputs), atol=1e-4)


@pytest.mark.parametrize("build", [pico.gpt2, pico.opt])
def test_the_ends_of_a_path_are_measured_without_dropout(build: Any) -> None:
    models = [build(seed, torch.float32).train() for seed in range(2)]
    for method in ("naive", "weights"):
        alignment = lmc.match(*models, method=method)
        assert alignment.end_error(0) < 1e-5
    assert all(model.training for model in models)


class Cosine(nn.Linear):
    """A head that computes something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(nn.functional.normalize(x, dim=-1), self.weight)


def everywhere(model: Any, place: str, new: Callable[[], nn.Module]) -> None:
    for block in model.blocks:
        block.set_submodule(place, new())


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("head", lambda model: setattr(model.head, "__class__", Cosine)),
        ("head_drop", lambda model: setattr(model, "head_drop", nn.Tanh())),
        ("pos_drop", lambda model: setattr(model, "pos_drop", nn.Tanh())),
        ("patch_embed.proj.padding_mode", lambda m: setattr(m.patch_embed.proj, "padding_mode", "circular")),
        ("embed_norm_layer", lambda model: setattr(model.patch_embed, "norm", nn.Tanh())),
        ("blocks.0.mlp.drop1", lambda model: everywhere(model, "mlp.drop1", nn.Tanh)),
        ("qk_norm", lambda model: everywhere(model, "attn.q_norm", nn.Tanh)),
        ("num_prefix_tokens", lambda model: setattr(model, "num_prefix_tokens", 0)),
        ("forward_features", lambda m: setattr(m, "forward_features", MethodType(lambda s, x: s.patch_embed(x), m))),
        ("forward_head", lambda model: setattr(model, "forward_head", MethodType(lambda s, x: x[:, 0], model))),
    ],
)
def test_a_timm_model_that_timm_does_not_build_is_refused(where: str, change: Callable[[Any], None]) -> None:
    """Outside its blocks, or in all of them alike."""
    model = pico.vit(0)
    change(model)
    for use in (lambda: lmc.match(pico.vit(1), model, method="weights"), lambda: lmc.check(model)):
        with pytest.raises(lmc.UnsupportedModelError, match=re.escape(where)):
            use()


def test_another_method_than_forward_is_refused() -> None:
    """It may be what a class computes by; what every model of a library has is not."""
    model = pico.bert(0, torch.float32)
    model.generate = model.to = model.save_pretrained = lambda *given: None
    require_stock(model)
    layer = model.bert.encoder.layer[0]
    layer.feed_forward_chunk = lambda x: x
    with pytest.raises(
        lmc.UnsupportedModelError, match=r"layer\.0\.feed_forward_chunk: .*; del MODULE\.feed_forward_chunk"
    ):
        require_stock(model)


def test_blocks_of_timm_that_are_not_alike_are_refused() -> None:
    """The table is the first block's; every norm may have an epsilon of its own, and dropout does nothing."""
    model = pico.vit(0)
    model.blocks[1].norm1.eps = 0.1
    model.blocks[1].attn_drop = nn.Dropout(0.3)
    require_stock(model)
    attention = model.blocks[1].attn
    attention.num_heads, attention.head_dim = attention.num_heads * 2, attention.head_dim // 2
    line = r"blocks\.1\.attn\.head_dim: expected .*, as timm builds it, found .*; build the model with it"
    for use in (lambda: lmc.match(pico.vit(1), model, method="weights"), lambda: lmc.check(model)):
        with pytest.raises(lmc.UnsupportedModelError, match=line):
            use()
