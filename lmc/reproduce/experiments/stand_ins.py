"""Tiny models in place of published ones, with data for them: they show that the code runs, and nothing else.

>>> pairs, match_on, held_out = tiny("vit", Path("stand-ins"))      # what `published.study` takes
>>> pairs[0].label, pairs[0].names[0], match_on
('stand-ins', 'stand-ins/0', 'digits')
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmc import checkpoints, corpora
from lmc.files import read_json
from lmc.reproduce.experiments.published import Published
from lmc.reproduce.training.shapes import NeoX, Olmo
from lmc.reproduce.training.shipped_pairs import shipped
from lmc.symmetries import timm
from lmc.symmetries.families import vit_forms

WIDTH, CONTEXT = 16, 32


def tiny(kind: str, folder: Path) -> tuple[tuple[Published, ...], str, str]:
    """Pairs of a kind ("pythia", "olmo" or "vit") saved in `folder`, and the corpora to match and to measure on.

    Language models are trained for a moment; vision transformers are a shipped pair. Each kind has what its published
    pairs have to deal with: OLMo a pair whose settings differ, vision transformers one whose forms do.
    """
    make = {"pythia": _neox, "olmo": _olmo, "vit": _vit}[kind]
    corpus = "digits" if kind == "vit" else str(_text(folder / "text"))
    if kind != "vit":
        corpora.byte_tokenizer().save_pretrained(folder / "tokenizer")
    names = []
    for seed in range(3 if kind == "olmo" else 2):
        torch.manual_seed(seed)
        model = make(seed)
        if kind != "vit":
            _train(model, corpora.tokens(corpus, "train", corpora.byte_tokenizer(), CONTEXT))
        checkpoints.save(model, folder / str(seed), None if kind == "vit" else folder / "tokenizer")
        names.append(str(folder / str(seed)))
    pairs = [Published("stand-ins", (names[0], names[1]), 0.01, "tiny, made on the spot")]
    if kind == "olmo":
        pairs.append(Published("stand-ins of other settings", (names[0], names[2]), 0.01, "tiny, made on the spot"))
    return tuple(pairs), corpus, corpus


def _train(model: Any, windows: Tensor) -> None:
    """Train for a moment. Models that learned nothing have no barrier: their average is no worse than they are."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        batch = windows[torch.randint(len(windows), (16,))]
        loss = model(input_ids=batch, labels=batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _text(folder: Path) -> Path:
    """A little English that every Python brings along: its language reference."""
    from pydoc_data import topics

    folder.mkdir()
    text = "\n".join(topics.topics[name] for name in sorted(topics.topics))
    (folder / "train.txt").write_text(text[:40_000], encoding="utf8")
    (folder / "test.txt").write_text(text[40_000:50_000], encoding="utf8")
    return folder


def _neox(seed: int) -> nn.Module:
    return NeoX(layers=2, width=WIDTH, heads=2, context=CONTEXT, vocabulary=256).build()


def _olmo(seed: int) -> nn.Module:
    model: Any = Olmo(layers=2, width=WIDTH, heads=2, context=CONTEXT, vocabulary=256, hidden=2 * WIDTH).build()
    model.config.clip_qkv = 8.0 if seed == 2 else None
    return model


def _vit(seed: int) -> nn.Module:
    """A shipped, trained model; the second one written in another form."""
    folder = shipped("vit-digits-0")[seed]
    model: nn.Module = checkpoints.load(folder)
    if seed == 0:
        return model
    config = read_json(folder / "config.json")
    form: dict[str, Any] = {**config["model_args"], "no_embed_class": True, "init_values": 1.0}
    return vit_forms.alike(model, timm().create_model(config["architecture"], **form))
