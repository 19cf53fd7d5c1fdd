"""What may be done to a model's weights without changing its function: groups, tables of families, transforms.

A family is described by one frozen table, a `ModelSpec`: which space each axis of each tensor belongs to, and which
group acts on that space. Everything else here follows from the table: the canonical form, the transforms, the count of
degrees of freedom, the test that all of it is exact. No file, data set or loss is known in this room.

Begin with `pattern` (how a table is written) and `families/llama.py` (the shortest table); then `groups`, then
`canonical` (where gains and biases go) and `transform` (an element applied; a scale moves the ε of norms with it, which
`stock_model.set_epsilon` writes, for other rooms too). `enlargement` writes a network in the shapes of a larger one, if
that has `room`; `shortening` cuts a table of positions.
"""

from typing import TYPE_CHECKING

from lmc import face

if TYPE_CHECKING:
    from lmc.symmetries.blocks import act as act
    from lmc.symmetries.blocks import connected as connected
    from lmc.symmetries.blocks import gram as gram
    from lmc.symmetries.blocks import pair_gram as pair_gram
    from lmc.symmetries.blocks import unfold as unfold
    from lmc.symmetries.blocks import unfold_into as unfold_into
    from lmc.symmetries.canonical import Canonical as Canonical
    from lmc.symmetries.canonical import balancing as balancing
    from lmc.symmetries.canonical import canonicalize as canonicalize
    from lmc.symmetries.canonical import warn_untied as warn_untied
    from lmc.symmetries.degrees_of_freedom import dimensions as dimensions
    from lmc.symmetries.enlargement import enlarge as enlarge
    from lmc.symmetries.exactness import Report as Report
    from lmc.symmetries.exactness import check as check
    from lmc.symmetries.exactness import check_copies as check_copies
    from lmc.symmetries.exactness import example_inputs as example_inputs
    from lmc.symmetries.exactness import relative_change as relative_change
    from lmc.symmetries.exactness import tolerance as tolerance
    from lmc.symmetries.groups import Fixed as Fixed
    from lmc.symmetries.groups import Group as Group
    from lmc.symmetries.groups import Invertible as Invertible
    from lmc.symmetries.groups import Orthogonal as Orthogonal
    from lmc.symmetries.groups import Permutation as Permutation
    from lmc.symmetries.groups import RotaryCommutant as RotaryCommutant
    from lmc.symmetries.groups import Scale as Scale
    from lmc.symmetries.pattern import SCALE as SCALE
    from lmc.symmetries.pattern import SIGN as SIGN
    from lmc.symmetries.pattern import STREAM as STREAM
    from lmc.symmetries.pattern import Axis as Axis
    from lmc.symmetries.pattern import Block as Block
    from lmc.symmetries.pattern import parse as parse
    from lmc.symmetries.pattern import split_axes as split_axes
    from lmc.symmetries.precision import float64 as float64
    from lmc.symmetries.room import require_room as require_room
    from lmc.symmetries.shortening import shorten as shorten
    from lmc.symmetries.shortening import to_shorten as to_shorten
    from lmc.symmetries.spec import ROWS as ROWS
    from lmc.symmetries.spec import Dead as Dead
    from lmc.symmetries.spec import Epsilon as Epsilon
    from lmc.symmetries.spec import Gain as Gain
    from lmc.symmetries.spec import Mean as Mean
    from lmc.symmetries.spec import ModelSpec as ModelSpec
    from lmc.symmetries.spec import Move as Move
    from lmc.symmetries.spec import Norm as Norm
    from lmc.symmetries.spec import Reader as Reader
    from lmc.symmetries.spec import Root as Root
    from lmc.symmetries.spec import Space as Space
    from lmc.symmetries.spec import layered as layered
    from lmc.symmetries.stock_libraries import timm as timm
    from lmc.symmetries.stock_libraries import transformers as transformers
    from lmc.symmetries.stock_model import epsilon as epsilon
    from lmc.symmetries.stock_model import extreme_numbers as extreme_numbers
    from lmc.symmetries.stock_model import hold as hold
    from lmc.symmetries.stock_model import hollow as hollow
    from lmc.symmetries.stock_model import in_evaluation as in_evaluation
    from lmc.symmetries.stock_model import in_type as in_type
    from lmc.symmetries.stock_model import logits as logits
    from lmc.symmetries.stock_model import rebuild as rebuild
    from lmc.symmetries.stock_model import recompute_activations as recompute_activations
    from lmc.symmetries.stock_model import set_epsilon as set_epsilon
    from lmc.symmetries.stock_model import state as state
    from lmc.symmetries.stock_model import without_weights as without_weights
    from lmc.symmetries.stock_timm import timm_architecture as timm_architecture
    from lmc.symmetries.stock_timm import timm_arguments as timm_arguments
    from lmc.symmetries.stock_timm import timm_model as timm_model
    from lmc.symmetries.stock_twin import differences as differences
    from lmc.symmetries.stock_twin import require_stock as require_stock
    from lmc.symmetries.stock_twin import warn_of_hooks as warn_of_hooks
    from lmc.symmetries.transform import Moved as Moved
    from lmc.symmetries.transform import Transform as Transform
    from lmc.symmetries.transform import compose as compose
    from lmc.symmetries.transform import kinds as kinds
    from lmc.symmetries.transform import moved_by as moved_by
    from lmc.symmetries.transform import rescale as rescale
else:
    __getattr__, __dir__ = face(__name__)
