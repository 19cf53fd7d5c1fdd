"""One function, three forms of its weights: a parent as it is, in canonical form, and as it was aligned.

>>> Base(0, 0.2).form
'as it is'
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

AS_IT_IS, CANONICAL, ALIGNED = "as it is", "in canonical form", "as it was aligned"


class Base(NamedTuple):
    """Of which parent a model is a fine-tune, the size of its change, and the form of that parent which it changed."""

    number: int
    size: float
    form: str = AS_IT_IS


class Form(NamedTuple):
    """A parent rewritten: which one, how that is called, its weights, which may be computed on demand, and its ε."""

    number: int
    name: str
    tensors: Mapping[str, Tensor]
    epsilon: float
