"""The stock class that a checkpoint names; one that no family covers is refused before torch is imported.

>>> from lmc.checkpoints.hub import locate
>>> of(locate("run-1")).name
'GPTNeoXForCausalLM'
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmc.checkpoints import foreign
from lmc.checkpoints.hub import Source
from lmc.errors import CheckpointError, UnsupportedModelError
from lmc.files import read_json
from lmc.symmetries.families import covered, require_covered

OLMO = "OLMoForCausalLM"  # the class of OLMo's first layout, which comes as code beside the weights


@dataclass(frozen=True)
class Architecture:
    """A library, the name of its class (timm's is that of a model), and the fields of config.json."""

    library: str
    name: str
    fields: dict[str, Any]


def of(source: Source) -> Architecture:
    """What config.json names. Raises CheckpointError, or UnsupportedModelError for a class that is not covered."""
    path = foreign.settings(source)
    fields = read_json(path)
    if "architecture" in fields:
        return Architecture("timm", str(fields["architecture"]), fields)
    named = fields.get("architectures")
    if not isinstance(named, list) or len(named) != 1:
        hint = "write it there, or save the model again with save_pretrained"
        hint = hint if fields else f"a DeiT state dict is made a stock copy with: lmc convert {source.name} NEW"
        raise CheckpointError(f"{path}: architectures: expected the name of one model class, found {named}; {hint}")
    if named[0] == OLMO:
        raise UnsupportedModelError(
            f"{path}: architectures: expected a stock class, found {named[0]}, whose code comes with the "
            f"checkpoint and is never run; make a stock copy with: lmc convert {source.name} NEW"
        )
    used = covered(named[0])
    with naming(path):
        require_covered(used)
    return Architecture("transformers", used, fields | {"architectures": [used]})


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds to the refusal of a class or a setting the file it stands in, and where to look."""
    try:
        yield
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{path}: {error}; lmc families lists what is covered") from None
