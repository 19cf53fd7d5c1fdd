"""How good a model is, and how good the models between two are: losses, the path and its barrier, planes.

Also the one style of all figures: colours, markers and the frame of axes (`plot`).

Data come in as tensors and numbers go out; how models were aligned is not known here, nor where they are stored.

Begin with `loss` (what a batch is and how it is scored), then `barrier` (`lmc.path`).
"""

from typing import TYPE_CHECKING

from lmc import face

if TYPE_CHECKING:
    from lmc.evaluation.barrier import RESAMPLES as RESAMPLES
    from lmc.evaluation.barrier import PathResult as PathResult
    from lmc.evaluation.barrier import lowest_midpoint as lowest_midpoint
    from lmc.evaluation.barrier import path as path
    from lmc.evaluation.barrier import refuse_plot as refuse_plot
    from lmc.evaluation.landscape import plane as plane
    from lmc.evaluation.loss import Data as Data
    from lmc.evaluation.loss import as_data as as_data
    from lmc.evaluation.loss import at_once as at_once
    from lmc.evaluation.loss import evaluate as evaluate
    from lmc.evaluation.loss import losses as losses
    from lmc.evaluation.loss import require_loss as require_loss
    from lmc.evaluation.loss import score as score
    from lmc.evaluation.plot import COLOURS as COLOURS
    from lmc.evaluation.plot import PATH as PATH
    from lmc.evaluation.plot import frame as frame
    from lmc.evaluation.plot import look as look
    from lmc.evaluation.plot import path_line as path_line
    from lmc.evaluation.plot import pyplot as pyplot
    from lmc.evaluation.plot import row_of_frames as row_of_frames
    from lmc.evaluation.plot import use_style as use_style
    from lmc.evaluation.rounding import change as change
    from lmc.evaluation.rounding import change_of_logits as change_of_logits
    from lmc.evaluation.rounding import is_lower as is_lower
    from lmc.evaluation.rounding import random_inputs as random_inputs
else:
    __getattr__, __dir__ = face(__name__)
