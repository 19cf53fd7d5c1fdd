"""A chapter's MyST as plain Markdown, for its twin: roles become words and links, directives become boxes.

Colab and Jupyter know neither. What the book numbers is called by its kind there; its drawn pictures are described.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FENCED = re.compile(r"^(:::+|```+)\{([\w:-]+)\} *([^\n]*)\n((?::[\w-]+:[^\n]*\n)*)(.*?)^\1 *$", re.M | re.S)
ROLE = re.compile(r"\{([\w:]+)\}`([^`<]+?)(?:\s*<([^>`]+)>)?`")
KINDS = {"prf:theorem": "Theorem", "prf:definition": "Definition", "prf:proof": "Proof", "exercise": "Exercise"}
KINDS["prf:observation"] = "Observation"


def plain(text: str) -> str:
    """What a reader without the book's renderer should see.

    >>> plain("A {term}`barrier`, see {func}`lmc.path`.")
    'A barrier, see `lmc.path`.'
    """
    return ROLE.sub(_role, FENCED.sub(_box, text)).strip()


def _box(match: "re.Match[str]") -> str:
    kind, title, options, body = match[2], match[3].strip(), match[4], match[5].strip()
    if kind == "solution-start":
        return "**Solution**"
    if kind == "solution-end":
        return ""
    if kind == "solution":
        return f"<details><summary>Solution</summary>\n\n{body}\n\n</details>"
    if kind == "figure":
        alt = re.search(r":alt: *(.*)", options)
        return _quoted("Picture", f"{body} {alt[1] if alt else ''}")
    if kind == "widget":
        return _quoted("Interactive in the book", _words()[title]["caption"])
    return _quoted(f"{KINDS[kind]}{f' ({title})' if title else ''}" if kind in KINDS else title, body)


def _quoted(title: str, body: str) -> str:
    lines = [f"**{title}.**", "", *body.splitlines()]
    return "\n".join(f"> {line}".rstrip() for line in lines)


def _role(match: "re.Match[str]") -> str:
    kind, shown, target = match[1], match[2].strip(), match[3]
    if kind in ROLES:
        return ROLES[kind](target or shown, shown if target else "")
    if kind in ("numref", "prf:ref"):
        word = "figure" if kind == "numref" else "theorem"
        before = match.string[: match.start()].rstrip(" ")
        starts = not before.strip() or before.rstrip().endswith((".", ":", "!", "?")) or before.endswith("\n\n")
        return f"{'The' if starts else 'the'} {word}"
    return shown if kind == "term" else f"`{shown}`"


def _page(target: str, shown: str) -> str:
    """A link to another twin, or the title of a page that only the book has."""
    if (source := ROOT / f"notebooks/{target}.py").is_file():
        return f"[{shown or _title(source)}]({target}.ipynb)"
    return f"“{shown or _title(ROOT / 'book/notebooks' / f'{target}.md')}” in the book"


def _title(page: Path) -> str:
    heading = r"^# # (.+)$" if page.suffix == ".py" else r"^# (.+)$"
    found = re.search(heading, page.resolve().read_text(encoding="utf-8"), re.M)
    return found[1] if found else page.stem


def _cited(keys: str, _: str) -> str:
    return f"({'; '.join(f'{_author(key)}, {_year(key)}' for key in keys.split(','))})"


def _named(keys: str, _: str) -> str:
    return " and ".join(f"{_author(key)} ({_year(key)})" for key in keys.split(","))


ROLES: dict[str, Callable[[str, str], str]] = {"doc": _page, "cite:p": _cited, "cite:t": _named, "cite": _cited}


def _author(key: str) -> str:
    names = [name.split(",")[0].split()[-1] for name in _entry(key, "author").split(" and ")]
    return names[0] if len(names) == 1 else f"{names[0]} et al." if len(names) > 2 else " and ".join(names)


def _year(key: str) -> str:
    return _entry(key, "year")


def _entry(key: str, name: str) -> str:
    entry = re.search(rf"@\w+\{{{key.strip()},(.*?)^\}}", _bibliography(), re.M | re.S)
    found = re.search(rf"\b{name} = \{{(.*?)\}},?", entry[1]) if entry else None
    if found is None:
        raise KeyError(f"references.bib has no {name} of {key}")
    return found[1]


@cache
def _bibliography() -> str:
    return (ROOT / "book/references.bib").read_text(encoding="utf-8")


@cache
def _words() -> dict[str, dict[str, str]]:
    text = (ROOT / "book/_static/widgets/words.yml").read_text(encoding="utf-8")
    words: dict[str, dict[str, str]] = yaml.safe_load(text)
    return words
