"""Every error a user can cause: one line that names what, where, expected and found."""

import re
from numbers import Integral
from typing import Any

# What Markdown or HTML could take for markup: emphasis, code, tags, links, tables, formulas, addresses.
_MARKUP = re.compile(r"[\\`*~<>&|$\[\]]|(?<![^\W_])_|_(?![^\W_])|(?<=:)/(?=/)")
MOST = 1000  # bytes of a message: what is longer is cut in the middle, as the next step stands at the end


def shown(text: object) -> str:
    r"""Text from anywhere as one short line on which a terminal does nothing but show it.

    >>> print(shown("a name\nof \x1b[31mtwo lines"))
    a name of \x1b[31mtwo lines

    Names of files and tensors come from strangers, and may hold any bytes.
    """
    line = " ".join(str(text).split())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    raw = line.encode()
    if len(raw) <= MOST:
        return line
    head, tail = raw[: MOST * 3 // 5], raw[-MOST * 3 // 8 :]
    return f"{head.decode(errors='ignore')} … {tail.decode(errors='ignore')}"


def inert(text: object) -> str:
    """Text from anywhere, which a page made of the card shows as it is: one line, nothing in it is markup.

    >>> inert("<b>")
    '&#60;b&#62;'
    """
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", shown(text))


class LmcError(Exception):
    """Base of all public errors. The command line prints its message, always one short line, and exits with code 2."""

    def __init__(self, message: object = "") -> None:
        super().__init__(shown(message))


class UnsupportedModelError(LmcError):
    """The model class, or one of its settings, is not covered by any family."""


class NotCanonicalError(LmcError):
    """A transform was applied to a model whose norms are not absorbed; call `lmc.canonicalize` first."""


class IncompatibleModelsError(LmcError):
    """Two endpoints differ in architecture, shapes, vocabulary or a function-relevant setting."""


class CheckpointError(LmcError):
    """A checkpoint folder or file is missing, damaged, unsafe or already there."""


class HubError(CheckpointError):
    """The hub gave no answer, or not this time: no network, no token, too many requests, a download that broke off."""


class DataError(LmcError):
    """A corpus is unknown, unavailable, too short or of the wrong kind for the model."""


class ArgumentError(LmcError):
    """An argument is out of its range, or names something that does not exist."""


class DivergedError(LmcError):
    """Learned matching met a loss that is not finite, or far above where it began.

    `alignment` is the best one it had passed.
    """

    def __init__(self, message: str, alignment: Any = None) -> None:
        super().__init__(message)
        self.alignment = alignment


class OutOfMemoryError(LmcError):
    """A step of learned matching does not fit into memory; the message says what to lower."""


# How torch says on the CPU that memory is short: as a plain RuntimeError. CUDA's OutOfMemoryError is one, too.
_NO_MEMORY = ("not enough memory", "can't allocate memory", "Cannot allocate memory", "out of memory")


def is_out_of_memory(error: Exception) -> bool:
    """Whether this is how a machine or a device says that its memory is short."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)


def one_line(error: BaseException) -> str:
    """What an error of another library says, without its line breaks."""
    return shown(error) or type(error).__name__


class MissingExtraError(LmcError):
    """A command needs libraries that the plain installation does not bring."""


def require_whole(name: str, value: object, least: int) -> None:
    """Raise ArgumentError for what is no whole number of at least `least`; `name`: of the argument.

    >>> require_whole("batch", 64, least=1)
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise ArgumentError(f"{name}: expected a whole number of at least {least}, found {value!r}")
