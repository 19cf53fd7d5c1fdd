"""What a corpus was when it was divided, where one piece serves for matching and for evaluation.

A text's last tenth and a tenth of a folder's pictures are held out. Once anything is added to the corpus or taken away,
the division is another one, and what is then held out may have been matched on. So an alignment keeps a digest.
"""

import hashlib
from pathlib import Path

from lmc.corpora import pictures, texts
from lmc.corpora.names import NAMES, kind
from lmc.files import sha256


def digest(corpus: str) -> str | None:
    """The SHA-256 of all that is divided: of texts what they hold, of pictures their names and sizes.

    >>> digest("digits") is None    # never changes
    True

    None also for a folder that names its parts: there matching and evaluation read different files.
    """
    if corpus in NAMES:
        return None
    path, text = Path(corpus), kind(corpus) == "text"
    files = ([path] if path.is_file() else texts.in_one_piece(path)) if text else pictures.in_one_piece(path)
    files = [file for file in files if file.is_file()]  # what else lies there is named when it is read
    if not files:
        return None
    top = path if path.is_dir() else path.parent
    said = [(str(file.relative_to(top)), sha256(file) if text else str(file.stat().st_size)) for file in files]
    return hashlib.sha256(repr([words for _, words in said] if text else said).encode()).hexdigest()
