"""Texts and pictures as matching and evaluation read them: windows of token ids, tensors with labels.

A corpus has a name, a part to match on and a part to evaluate on that share nothing. What is downloaded, cut or
resized, and with which tokenizer, is decided here. Models are asked only what they read, never run.

Begin with `corpus`; `texts` and `pictures` say where each comes from, `prepared` makes files for a run elsewhere,
`overlap` tells what was read before. To add a corpus, read it in `texts` or `pictures` and name it in `names.NAMES`.
"""

from typing import TYPE_CHECKING

from lmc import face

if TYPE_CHECKING:
    from lmc.corpora import prepared as prepared
    from lmc.corpora.corpus import LONGEST as LONGEST
    from lmc.corpora.corpus import describe as describe
    from lmc.corpora.corpus import images as images
    from lmc.corpora.corpus import load as load
    from lmc.corpora.corpus import text as text
    from lmc.corpora.corpus import tokens as tokens
    from lmc.corpora.encoding import byte_tokenizer as byte_tokenizer
    from lmc.corpora.names import kind as kind
    from lmc.corpora.names import require_kind as require_kind
    from lmc.corpora.names import would_read as would_read
    from lmc.corpora.overlap import share as share
    from lmc.corpora.overlap import sketch as sketch
else:
    __getattr__, __dir__ = face(__name__)
