"""Whether the names in a folder mean the parts of a corpus, for training and held out."""

import re
from collections.abc import Iterable

# What people call parts, in whatever case and with whatever around it.
TRAINING = {"train", "training"}
HELD_OUT = {"eval", "evaluation", "test", "testing", "val", "valid", "validation", "dev", "heldout", "holdout"}
_WHAT = re.compile("(?<=.)(datasets?|sets?|data|splits?|images?|imgs?|texts?|s)$")  # of what it is a part


def two_parts(names: Iterable[str]) -> list[str]:
    """A name that says that it is for training and one that says that it is held out, if there are both.

    >>> two_parts(["wiki.test.txt", "wiki.Train.txt"])
    ['wiki.Train.txt', 'wiki.test.txt']
    """
    words = {name: {_WHAT.sub("", word) for word in re.findall("[a-z]+", name.lower())} for name in names}
    found = [next((name for name in words if words[name] & meant), None) for meant in (TRAINING, HELD_OUT)]
    return [name for name in found if name is not None] if None not in found else []
