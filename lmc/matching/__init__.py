"""From endpoints to an alignment, and from an alignment to merged checkpoints.

`solver` is the closed-form core (block-coordinate descent over the spaces of a table, each of which has its optimum in
`problem`); `weights` and `activations` only choose what it compares; `learned` starts from their result and descends
the loss on the line itself. No architecture is named in this room, and nothing here knows of experiments or figures.

Begin with `methods` (`lmc.match`, a page), then `alignment` (what comes out; `averaging` mixes its endpoints, `edits`
notices that one was changed since), then `solver` and `learned`. `pairing`
says why models cannot be matched, `parents` makes ready those that can be after a change, `model_card` says what is
said of a merged one. `drawing` says where between the endpoints a step looks. The steps of learning are run, and saved
for `--resume`, in `descent`; `learned` says what a saved state holds, `methods` which run goes on. `carrying` moves a
fine-tune, whose base `fine_tune` finds; the `forms` that this can have are a file.
"""

from typing import TYPE_CHECKING

from lmc import face

if TYPE_CHECKING:
    from lmc.matching import workers as workers
    from lmc.matching.activations import match_activations as match_activations
    from lmc.matching.alignment import Alignment as Alignment
    from lmc.matching.carrying import Change as Change
    from lmc.matching.carrying import taught as taught
    from lmc.matching.carrying import with_change as with_change
    from lmc.matching.estimate import step_seconds as step_seconds
    from lmc.matching.estimate import weights_seconds as weights_seconds
    from lmc.matching.fine_tune import base_of as base_of
    from lmc.matching.folder import DESCRIPTION as DESCRIPTION
    from lmc.matching.folder import LAST_PATH as LAST_PATH
    from lmc.matching.folder import READ as READ
    from lmc.matching.folder import describe as describe
    from lmc.matching.folder import fingerprint as fingerprint
    from lmc.matching.folder import parent_folders as parent_folders
    from lmc.matching.folder import refuse_among_models as refuse_among_models
    from lmc.matching.folder import refuse_own as refuse_own
    from lmc.matching.forms import Base as Base
    from lmc.matching.learned import Learner as Learner
    from lmc.matching.learned import LieAdam as LieAdam
    from lmc.matching.likeness import SHARED as SHARED
    from lmc.matching.likeness import cosine as cosine
    from lmc.matching.likeness import independence as independence
    from lmc.matching.likeness import matrices as matrices
    from lmc.matching.likeness import warn_if_shared as warn_if_shared
    from lmc.matching.methods import Endpoints as Endpoints
    from lmc.matching.methods import align as align
    from lmc.matching.methods import match as match
    from lmc.matching.methods import require_fit as require_fit
    from lmc.matching.methods import usable_device as usable_device
    from lmc.matching.pairing import Pairing as Pairing
    from lmc.matching.pairing import inspect_pair as inspect_pair
    from lmc.matching.pairing import require_tunable as require_tunable
    from lmc.matching.pairing import warn_of_epsilon as warn_of_epsilon
    from lmc.matching.parents import in_their_shapes as in_their_shapes
    from lmc.matching.parents import prepare as prepare
    from lmc.matching.recipe import CLOSED_FORM as CLOSED_FORM
    from lmc.matching.recipe import EVERY as EVERY
    from lmc.matching.recipe import HIGHEST as HIGHEST
    from lmc.matching.recipe import LEARNED as LEARNED
    from lmc.matching.recipe import METHODS as METHODS
    from lmc.matching.recipe import STARTS as STARTS
    from lmc.matching.recipe import Choices as Choices
    from lmc.matching.recipe import Recipe as Recipe
    from lmc.matching.recipe import default_rate as default_rate
    from lmc.matching.recipe import refuse_start as refuse_start
    from lmc.matching.simplex import barycentric as barycentric
    from lmc.matching.streaming import can_stream as can_stream
    from lmc.matching.streaming import match_folders as match_folders
    from lmc.matching.streaming import merge_folder as merge_folder
    from lmc.matching.verification import measured as measured
    from lmc.matching.verification import require_ends as require_ends
    from lmc.matching.verification import verify as verify
    from lmc.matching.weights import match_all as match_all
    from lmc.matching.weights import match_weights as match_weights
else:
    __getattr__, __dir__ = face(__name__)
