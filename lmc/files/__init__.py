"""Files: checked before they are opened, read with errors that say what is wrong, written whole or not at all.

Begin with `whole` (a folder that takes its name once everything is written), then `reading`. `digests` and `states`
say whether what was written is still what it was; `progress` says how far long work is.
"""

from typing import TYPE_CHECKING

from lmc import face

if TYPE_CHECKING:
    from lmc.files import progress as progress
    from lmc.files.checks import LARGEST as LARGEST
    from lmc.files.checks import refuse_pointer as refuse_pointer
    from lmc.files.checks import require_plain as require_plain
    from lmc.files.checks import require_utf8 as require_utf8
    from lmc.files.digests import require_digests as require_digests
    from lmc.files.digests import seal as seal
    from lmc.files.digests import sha256 as sha256
    from lmc.files.digests import tensor_digest as tensor_digest
    from lmc.files.progress import meter as meter
    from lmc.files.progress import tell as tell
    from lmc.files.progress import watched as watched
    from lmc.files.reading import TOO_LARGE as TOO_LARGE
    from lmc.files.reading import open_safetensors as open_safetensors
    from lmc.files.reading import read_json as read_json
    from lmc.files.reading import read_json_lines as read_json_lines
    from lmc.files.reading import read_safetensors as read_safetensors
    from lmc.files.reading import read_text as read_text
    from lmc.files.reading import require_finite as require_finite
    from lmc.files.reading import safetensors_of as safetensors_of
    from lmc.files.states import read_state as read_state
    from lmc.files.states import refuse_other_run as refuse_other_run
    from lmc.files.states import write_state as write_state
    from lmc.files.whole import abandon as abandon
    from lmc.files.whole import if_interrupted as if_interrupted
    from lmc.files.whole import refuse_no_file as refuse_no_file
    from lmc.files.whole import refuse_no_place as refuse_no_place
    from lmc.files.whole import refuse_occupied as refuse_occupied
    from lmc.files.whole import scratch_folder as scratch_folder
    from lmc.files.whole import whole_file as whole_file
    from lmc.files.whole import whole_folder as whole_folder
    from lmc.files.whole import write_whole as write_whole
else:
    __getattr__, __dir__ = face(__name__)
