"""Text corpora: the embedded one, WikiText, FineWeb-Edu, a text file, a folder of text files."""

import contextlib
import io
import lzma
import re
import warnings
from pathlib import Path

from lmc.corpora import docstrings
from lmc.corpora.parts import two_parts
from lmc.corpora.unpacked import Unpacked
from lmc.errors import DataError

SUFFIXES = (".txt", ".txt.xz")
UNREAD = (".gz", ".bz2", ".zst", ".zip", ".xz", ".text", ".jsonl", ".parquet", ".arrow")
TABLES = (".json", ".csv", ".tsv", ".md")  # which also say how training went: a part, if called by its name alone
WEB_TEXT = 2**24  # characters that are fetched of a web corpus: more than any matching reads
TEXT = "utf-8-sig"  # UTF-8, without the mark that some editors put at its beginning
LARGEST = 2**30  # characters of one file
EXPANDS = 100  # characters for a byte of a large compressed file, at most; ordinary text has 3 to 10
# The article tags of Wikipedia extracts: the first of them says which article it is (without that, `<doc>` is text). A
# title in quotes may hold anything, and text may stand beside a tag.
ARTICLE = re.compile(r"^<doc [^>\n]*\w=", re.MULTILINE)
TAGS = re.compile(r'^</?doc\b(?:"[^"\n]*"|[^">\n])*>[ \t]*\n?|</doc>[ \t]*$', re.MULTILINE)
HELD_OUT = 0.1  # the end of a single file, kept for evaluation
# Which files of a folder serve a split: those of the first of these names that has any.
FILES = {"train": ("train",), "match": ("match", "train", "valid"), "eval": ("eval", "test", "valid")}
ABOUT = ("readme", "licen", "notice", "requirements")  # how texts begin that are about a corpus
NAMES = tuple({name for names in FILES.values() for name in names})
BEGINNING = 2**20  # characters of each file of a folder by which WikiText's tokenised form is recognised
DETOKENISED = "-detokenised"  # behind the name of a corpus that was WikiText's tokenised form
ROWS = {"train": "train", "match": "train", "eval": "test"}  # WikiText's splits on the hub


def read(corpus: str, split: str) -> tuple[str, str]:
    """A text corpus's name, for records, and the text of one of its splits.

    >>> name, text = read("text.txt", "eval")
    >>> name
    'text'
    """
    if corpus == "embedded":
        return corpus, docstrings.read(split)
    if corpus == "wikitext":
        return "wikitext-103-raw-v1", _wikitext(split)
    if corpus == "fineweb":
        return "fineweb-edu-sample-10BT", _fineweb(split)
    path = Path(corpus)
    if path.is_dir():
        text = _folder(path, split)
        forms = [_form(_open(file, BEGINNING)) for file in _read_for_any(path)]
    else:
        whole = _open(path)
        text, forms = _divide(whole, split), [_form(whole)]
    # One form for all parts, however small.
    spaced, extracts = (any(form[at] for form in forms) for at in range(2))
    text = TAGS.sub("", text) if extracts else text
    name = path.resolve().name.removesuffix(".xz").removesuffix(".txt")
    if spaced and not _is_tokenised(text):
        what = f"its part for {split} is read as the rest is, without the spaces of WikiText's tokenised form"
        warnings.warn(f"corpus '{corpus}': {what}", stacklevel=1)
    if spaced:  # another corpus than the raw form, so it gets another name
        return name + DETOKENISED, detokenise(text)
    return name, text


def files(folder: Path) -> list[Path]:
    """A folder's text files, in the order of their names. Raises DataError for one that is there packed as well."""
    found = sorted(path for path in folder.iterdir() if _is_text(path))
    names = [path.name.lower().removesuffix(".xz") for path in found]
    if twice := [path.name for path, name in zip(found, names, strict=True) if names.count(name) > 1]:
        what = f"found {' and '.join(twice[:2])}: one text twice would be held out and matched on; keep one of them"
        raise DataError(f"corpus '{folder}': expected every text once, {what}")
    return found


def _is_tokenised(text: str) -> bool:
    """Whether this is WikiText as it was first published, with words and marks apart (a text may only cite it)."""
    return " <unk> " in text and " @-@ " in text and text.count(" . ") + text.count(" , ") > text.count(", ") / 2


def _form(text: str) -> tuple[bool, bool]:
    """Whether words and marks stand apart, and whether tags of Wikipedia extracts stand around articles."""
    return _is_tokenised(text), ARTICLE.search(text) is not None


def _is_text(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def _warn_of_those_below(folder: Path) -> None:
    """Say which texts lie in folders of the folder: they are not read."""
    if below := sorted(path for path in folder.glob("*/**/*") if _is_text(path)):
        what = f"texts in folders below it are not read, {below[0].relative_to(folder)} for one"
        warnings.warn(f"corpus '{folder}': {what} (of {len(below)}); put them beside the others", stacklevel=1)


def in_one_piece(folder: Path) -> list[Path]:
    """The texts of a folder of which the end is held out; none where its names say which are for evaluation."""
    with contextlib.suppress(DataError):  # there may be none for one of the two
        chosen = _choose(folder, "match")
        return chosen if chosen == _choose(folder, "eval") else []
    return []


def detokenise(text: str) -> str:
    """Undo WikiText's tokenised form, whose spaces and ` @-@ ` no byte-level or modern tokenizer was trained on.

    >>> detokenise('the " two @-@ part " episode ( 1 @,@ 000 viewers ) .')
    'the "two-part" episode (1,000 viewers).'

    The rule: join numbers and compounds at `@-@`, `@,@` and `@.@`; no space before closing punctuation and
    contractions, none after opening brackets; straight double quotes hug what they enclose, pair by pair within a line.
    `<unk>` stays: that word is lost.
    """
    text = re.sub(r" @([-,.])@ ", r"\1", text)
    text = re.sub(r' " ([^"\n]*?) "(?= |$)', r' "\1"', text, flags=re.MULTILINE)
    text = re.sub(r" ([.,;:!?%)\]}]|n't\b|'(?:s|t|m|d|re|ve|ll)\b)", r"\1", text)
    text = re.sub(r"([(\[{]) ", r"\1", text)
    return re.sub(r"^ +| +$", "", text, flags=re.MULTILINE)


def _folder(folder: Path, split: str) -> str:
    chosen = _choose(folder, split)
    _warn_of_those_below(folder)
    _warn_of_those_in_no_part(folder)
    _warn_of_other_kinds(folder)
    text = "\n".join(_open(path) for path in chosen)
    return _divide(text, split) if in_one_piece(folder) else text


def _choose(folder: Path, split: str) -> list[Path]:
    found = files(folder)
    for name in FILES[split]:
        chosen = [path for path in found if path.name.startswith(name)]
        if chosen:
            return chosen
    if any(path.name.startswith(NAMES) for path in found):
        expected = ", ".join(f"{name}*.txt" for name in FILES[split])
        raise DataError(f"corpus '{folder}' ({split}): expected {expected}; found {', '.join(p.name for p in found)}")
    if two := two_parts(path.name for path in found):
        raise DataError(
            f"corpus '{folder}': expected names that begin with train, and with eval, test or valid, or none that name "
            f"a part; found {' and '.join(two)}; rename them"
        )
    return found


def _read_for_any(folder: Path) -> list[Path]:
    """The files that are read for one split or another; where a split lacks some, its own reader says so."""
    chosen: list[Path] = []
    for split in FILES:
        with contextlib.suppress(DataError):
            chosen += _choose(folder, split)
    return list(dict.fromkeys(chosen))


def _warn_of_those_in_no_part(folder: Path) -> None:
    """Say which texts lie beside those that are called by a part, and are read for none."""
    read = _read_for_any(folder)
    others = [path.name for path in files(folder) if path not in read and not path.name.startswith(NAMES)]
    if others := [name for name in others if not name.lower().startswith(ABOUT)]:
        called = next(path.name for path in read if path.name.startswith(NAMES))
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        what = f"{called} is called as a part of a corpus, so {others[0]}{more} is not read"
        warnings.warn(f"corpus '{folder}': {what}; if it should be, rename one of them", stacklevel=1)


def _warn_of_other_kinds(folder: Path) -> None:
    """Say which files hold texts, by their kind or as they are called as a part, and are not read."""
    there = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and not _is_text(path))
    texts = [name for name in there if not name.lower().startswith(ABOUT) and name.lower().endswith(UNREAD)]
    tables = [name for name in there if name.partition(".")[0] in NAMES and name.lower().endswith(TABLES)]
    if others := sorted((*texts, *tables)):
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        what = f"{others[0]}{more} is of a kind that is not read; save it as .txt or .txt.xz"
        warnings.warn(f"corpus '{folder}': {what}", stacklevel=1)


def _divide(text: str, split: str) -> str:
    """Text that comes in one piece: its last tenth, from the next line on, is for evaluation, the rest for all else."""
    cut = text.find("\n", int(len(text) * (1 - HELD_OUT))) + 1 or len(text)
    return text[cut:] if split == "eval" else text[:cut]


def _open(path: Path, beginning: int | None = None) -> str:
    """The text of a file, or its `beginning` of so many characters. Raises DataError."""
    if not path.is_file():
        raise DataError(f"corpus '{path}': expected a file, found a pipe, a device or nothing")
    most = min(LARGEST, max(2**24, EXPANDS * path.stat().st_size))
    try:
        packed = path.suffix.lower() == ".xz"
        with io.TextIOWrapper(io.BufferedReader(Unpacked(path)), TEXT) if packed else path.open(encoding=TEXT) as file:
            text = str(file.read(beginning or most + 1))
    except (OSError, lzma.LZMAError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"corpus '{path}': cannot be read as UTF-8 text ({error})") from error
    if len(text) > most:
        raise DataError(f"corpus '{path}': expected at most {most:,} characters in it, found more; use a part of it")
    if text.count("\0") > len(text) / 4:  # letters in two bytes or four
        raise DataError(
            f"corpus '{path}': expected UTF-8, found a zero at every other place (UTF-16?); save it as UTF-8"
        )
    return text


def _wikitext(split: str) -> str:
    from lmc.corpora.downloads import dataset

    rows = dataset("wikitext", "Salesforce/wikitext", "wikitext-103-raw-v1", split=ROWS[split])
    return "\n\n".join(rows["text"])


def _fineweb(split: str) -> str:
    """The first documents of a web corpus, to match on what no evaluation here reads."""
    if split == "eval":
        raise DataError("corpus 'fineweb' (eval): it is for training and matching; evaluate on wikitext")
    from lmc.corpora.downloads import documents

    return "\n\n".join(documents("fineweb", "HuggingFaceFW/fineweb-edu", "sample-10BT", characters=WEB_TEXT))
