"""The book's two pages about families: the table is the counted one, and the family added from scratch is right."""

import re
from pathlib import Path
from typing import Any

import families
import pico
import pytest
import torch
import transformers
from test_completeness import flat_directions

import lmc
import lmc.symmetries.families.family
from lmc.symmetries.degrees_of_freedom import dimensions
from lmc.symmetries.exactness import EXACT

FOLDER = "lmc/symmetries/families"


def test_the_table_in_the_book_is_the_counted_one(root: Path) -> None:
    page = (root / "book/families.md").read_text(encoding="utf-8")
    shown = page.split(families.BEGIN)[1].split(families.END)[0].strip()
    assert shown == families.table(), "python book/make/families.py writes it anew"
    shown = page.split(families.LISTED)[1].split(families.LISTED_END)[0].strip()
    assert shown == families.listed(), "python book/make/families.py writes it anew"
    shown = page.split(families.FITTING)[1].split(families.FITTING_END)[0].strip()
    assert shown == families.published(), "python book/make/families.py writes it anew"


def test_every_word_for_what_is_aligned_is_explained(root: Path) -> None:
    page = (root / "book/families.md").read_text(encoding="utf-8")
    listed = page.split(families.LISTED)[1].split(families.LISTED_END)[0]
    used = set(re.findall(r"(?:\| |<br>)(\w+): (?=rot|fac|perm|inv|com|sig|not)", listed))
    words = page.split("| word | what is moved |")[1].partition("\n\n")[0]
    assert len(used) > 15 and used <= set(re.findall(r"`(\w+)`", words))


@pytest.fixture
def page(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page's code leaves behind, run from top to bottom, without exercises; the family it adds goes again."""
    monkeypatch.setattr(lmc.symmetries.families.family, "FAMILIES", lmc.symmetries.families.family.FAMILIES)
    names: dict[str, Any] = {}
    text = (root / "book/add_a_family.md").read_text(encoding="utf-8").partition("## Exercises")[0]
    for code in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(code, "book/add_a_family.md", "exec"), names)
    return names


def test_the_family_added_from_scratch_is_exact(page: dict[str, Any]) -> None:
    assert page["report"].ok and page["report"].family == "phi" and page["report"].max_error <= EXACT
    moving = {row.space for row in page["report"].rows if row.dimension}
    assert moving == {"canonical form", "stream", "plane", "pass", "value", "whole group"}


def test_and_complete(page: dict[str, Any]) -> None:
    config = transformers.PhiConfig(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=12,
        layer_norm_eps=0.1,
        attn_implementation="sdpa",
    )
    model = lmc.canonicalize(pico.randomize(transformers.PhiForCausalLM(config), 1).to(torch.float64).eval())
    measured, above, below = flat_directions(model)
    assert above > 1e-8 and below < 1e-13
    assert measured == dimensions(lmc.spec(model)).total


def test_every_file_to_copy_from_is_there(root: Path) -> None:
    text = (root / "book/add_a_family.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+\.py)`", text.split("## Copy from the closest")[1]))
    assert named >= {"llama.py", "gpt2.py", "bert.py"}
    assert all((root / FOLDER / name).exists() for name in named)


def test_a_family_stays_a_screenful(root: Path) -> None:
    files = list((root / FOLDER).glob("*.py"))
    assert {path.name for path in files} >= {"llama.py", "vit.py"}
    for path in files:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 130, path.name
