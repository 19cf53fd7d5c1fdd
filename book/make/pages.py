"""Pages of the book that are made, not written: one per figure list, one per public module, and the headline."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

from lmc.checkpoints import provenance
from lmc.cli import app
from lmc.errors import DataError
from lmc.reproduce.draw import draw, save
from lmc.reproduce.experiments.claims import NEAR, STAYS, collected, parameters
from lmc.reproduce.ledger import Figure, figures
from lmc.reproduce.notebook import redraws
from lmc.reproduce.quotes import quoted
from lmc.reproduce.results import Results, read

ROOT = Path(__file__).resolve().parents[2]
MOST = 4  # pages that the index of subjects names for a word
DEFINED = {  # the chapter that explains a word of the glossary; it stands first in the index of subjects
    "01_one_line": "barrier, endpoint, interpolation weight, linear mode connectivity, nat, perplexity, held out",
    "02_two_units": "symmetry, matching",
    "03_landscape": "weight space",
    "04_reordering": "hidden unit",
    "05_rotating": "canonical form, group, norm, orthogonal, stream",
    "06_inside_a_head": "general linear group, head, rotary positions",
    "07_proof": "gauge, space, spec, transform",
    "08_matching": "assignment problem, closed form, dual matching, planted, Procrustes problem, single matching",
    "13_controls": "ensemble, REPAIR, temperature",
    "23_other_parents": "router",
}
UNITLESS = re.compile("÷|normalised|rate")  # ratios and learning rates; all other headline numbers are losses


def public_modules() -> list[str]:
    """`lmc` and every module below it whose path holds no underscore; found as files, so that nothing is imported."""
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "lmc").rglob("*.py")]
    names = {".".join(path.parts).removesuffix(".__init__") for path in paths}
    return sorted(name for name in names if "._" not in name)


def api(folder: Path) -> None:
    """One page per public module, filled by autodoc when the book is rendered."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in public_modules():
        page = f"# `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n"
        if name == "lmc":  # it re-exports what the others document
            page += "```\n\n" + "\n".join(f"- {{doc}}`{other}`" for other in public_modules()[1:]) + "\n"
        else:
            page += "   :members:\n   :show-inheritance:\n```\n"
        (folder / f"{name}.md").write_text(page, encoding="utf-8")


def shown(book: Path) -> dict[str, str]:
    """The figures with a number that chapters show, as `fig-ID`, and the words that describe each of them."""
    found: dict[str, str] = {}
    for path in sorted(book.glob("*.md")):
        described = re.findall(r"^:name: (fig-\S+)\n:alt: (.+)$", path.read_text(encoding="utf-8"), re.M)
        found |= {name: quoted(words) for name, words in described}
    for path in sorted(book.glob("notebooks/*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            about = cell["metadata"].get("mystnb", {})
            if "figure" in about and any("image/svg+xml" in output.get("data", {}) for output in cell["outputs"]):
                found[about["figure"]["name"]] = about["image"]["alt"]
    return found


def figure_pages(folder: Path, profile: str, described: dict[str, str]) -> None:
    """The parts of the pages of figures, `headline.md` with those of the first page, and the drawings beside them.

    `paper.md` has those that answer to a figure of the paper, `own.md` and `further.md` the others: one page of all
    were too heavy.
    `described`: what chapters show, see `shown`.
    """
    ledger = figures().values()
    found = {figure.id: results_of(figure, profile) for figure in ledger}
    for figure in ledger:
        if (results := found[figure.id]) is not None:
            save(draw(figure.draw, results.numbers), folder / figure.id)
    sections = {f.id: f"({f.id}-figure)=\n## {f.title}\n\n{_body(f, found[f.id], described)}" for f in ledger}
    measured = [f for f in ledger if found[f.id] is not None]
    pages = {"paper": [sections[f.id] for f in measured if f.paper]}
    own = [sections[f.id] for f in measured if not f.paper]
    pages["own"], pages["further"] = own[: len(own) // 2], own[len(own) // 2 :]
    pages["unmeasured"] = [section for id, section in sections.items() if found[id] is None]
    pages["headline"] = [f"**{f.title}**\n\n{_body(f, found[f.id], described)}" for f in ledger if f.headline]
    pages["index"] = [_index(list(ledger), found)]
    for page, parts in pages.items():
        (folder / f"{page}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _index(ledger: list[Figure], found: dict[str, Results | None]) -> str:
    """The paper's figures and ours, those that answer to one of the paper's first."""
    rows = ["| paper | ours | id | pairs | minutes | status |", "|---|---|---|---|---|---|"]
    for figure in sorted(ledger, key=lambda figure: (figure.paper or "~", found[figure.id] is None)):
        results = found[figure.id]
        pairs = len(set(results.numbers.get("pairs", ()))) if results else 0
        minutes = figure.minutes.get(results.profile if results else "laptop")
        if results and not minutes:  # of a command, that took long
            minutes = round(results.run["duration_s"] / 60)
        status = f"measured ({results.profile})" if results else "not measured"
        ours = f"{{ref}}`{figure.title} <{figure.id}-figure>`"
        told = (figure.paper, ours, f"`{figure.id}`", pairs, minutes, status)
        rows.append(f"| {' | '.join(str(one or '–') for one in told)} |")
    return "\n".join(rows)


def commands(folder: Path) -> None:
    """`commands.md`: what each command says of itself with `--help`."""
    runner, parts = CliRunner(), []
    for command in app.registered_commands:
        name = str(command.name or getattr(command.callback, "__name__", ""))
        said = runner.invoke(app, [name, "--help"], prog_name="lmc", terminal_width=78).output
        parts.append(f"## `lmc {name}`\n\n```text\n{said.strip()}\n```\n")
    (folder / "commands.md").write_text("\n".join(parts), encoding="utf-8")


def subjects(book: Path) -> None:
    """`made/subjects.md`: for each word of the glossary, the page that explains it, and those that speak of it most."""
    terms = re.findall(r"^(\S.*)\n  ", (book / "glossary.md").read_text(encoding="utf-8"), re.M)
    listed = re.findall(r"file: (\S+)", (book / "_toc.yml").read_text(encoding="utf-8"))
    texts = {name: _prose(book, name) for name in listed if name not in ("glossary", "subjects")}
    defined = {term: f"notebooks/{name}" for name, those in DEFINED.items() for term in those.split(", ")}
    rows = ["| subject | explained in | also on |", "|---|---|---|"]
    for term in sorted(terms, key=str.lower):
        said = re.compile(rf"\b{re.escape(term)}s?\b", re.I)
        counted = {name: len(said.findall(text)) for name, text in texts.items()}
        first = defined.pop(term, None)
        most = sorted((name for name in texts if counted[name] and name != first), key=lambda name: -counted[name])
        also = ", ".join(f"{{doc}}`{name}`" for name in most[:MOST])
        rows.append(f"| {{term}}`{term}` | {f'{{doc}}`{first}`' if first else '–'} | {also or '–'} |")
    assert not defined, f"no words of the glossary: {', '.join(defined)}"
    (book / "made/subjects.md").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _prose(book: Path, name: str) -> str:
    """What a page says, without its code."""
    if (page := book / f"{name}.md").is_file():
        return re.sub(r"^```python.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    if not (page := book / f"{name}.ipynb").is_file():
        return ""
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def claims(folder: Path) -> None:
    """`claims.md`: each claim, what was tested here, the number and the verdict; `claims-short.md`: them as a table.

    It begins with those of the paper, and says whose a claim is.
    """
    rows = collected()["rows"]
    short, sections = ["| claim | whose | here |", "|---|---|---|"], []
    for claim in dict.fromkeys(row["claim"] for row in rows):
        found = [row for row in rows if row["claim"] == claim]
        tested = [row for row in found if row["results"]]
        verdicts = [row["verdict"].partition(":")[0].partition(";")[0] for row in tested]
        counted = [f"{verdict} ({verdicts.count(verdict)} of {len(verdicts)})" for verdict in dict.fromkeys(verdicts)]
        whose = found[0]["whose"]
        short.append(f"| {claim} | {whose} | {'; '.join(counted) or 'not tested'} |")
        lines = [f"- {row['tested']}: {row['number']}. **{row['verdict']}** ({_source(row)})" for row in tested]
        body = "\n".join(lines) or "Not tested: nothing here can say."
        sections.append(f"## {claim[0].upper()}{claim[1:]}\n\nWhose: {whose}.\n\n{body}")
    text, largest = (f"{count / 1e6:.1f} million" for count in parameters())
    short += [
        "",
        "All of this is about networks that were trained here, in minutes or up to two hours: "
        "those of the text experiments on Wikipedia "
        f"have {text} parameters, the largest pair has {largest}.",
        "",
        f"*Near zero* means, for each pair: at most {NEAR:.0%} of its naive barrier, at the upper end of the interval. "
        f"Accuracy *stays up* where no path loses more than {STAYS:.0%} of the worse endpoint's. Both bounds are ours.",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "claims.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    (folder / "claims-short.md").write_text("\n".join(short) + "\n", encoding="utf-8")


def _source(row: dict[str, str]) -> str:
    """The figures that show the results of a row, or their files where no figure does."""
    shown = figures()
    return ", ".join(
        f"{{ref}}`the figure <{id}-figure>`" if id in shown else f"`data/results/laptop/{id}.json`"
        for id in row["results"].split(", ")
    )


def headed(text: str, name: str, profile: str) -> str:
    """An executed chapter that says below its title how what it shows came about, and how to make it again."""
    notebook = json.loads(text)
    made = notebook["metadata"]["lmc"]  # by lmc.reproduce.execute: parameters, date, hardware, seconds, memory
    own = [figure for figure in figures().values() if figure.notebook == name]
    only_shows = bool(own) and all(figure.command for figure in own)  # what commands of hours made
    redrawn = only_shows or made["parameters"].get("recompute") is False
    how = "drawn from committed results" if redrawn else f"computed in {provenance.duration(made['seconds'])}"
    memory = f" with {made['peak_gib']} GiB of memory" if "peak_gib" in made else ""
    title = f"Profile `{made['parameters']['profile']}`, {how}{memory}; {made['hardware']}; {made['date']}"
    found = {figure.title: results_of(figure, profile) for figure in own}
    lines = [f"- {what}: {results.provenance}" for what, results in found.items() if results is not None]
    lines = lines or [f"- To make it again: `lmc reproduce --profile {made['parameters']['profile']}`"]
    note = [f":::{{admonition}} {title}", ":class: dropdown note", "", *lines, ":::"]
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    heading, *rest = "".join(first["source"]).splitlines()
    first["source"] = "\n".join([heading, "", *note, *rest])
    return json.dumps(notebook)


def results_of(figure: Figure, profile: str) -> Results | None:
    """Results of the profile the book is made at, or of the first other profile that has any."""
    for candidate in dict.fromkeys((profile, *figure.profiles)):
        try:
            found = read(figure.results, candidate)
        except DataError:
            continue
        # Two figures may be drawn from the same results; each is made again by its own name.
        again = re.sub(r"--figure \S+", f"--figure {figure.id}", found.run["command"])
        if figure.by_command(candidate) and "--figure" not in again:  # which runs what made them
            again = f"lmc reproduce --profile {candidate} --figure {figure.id}"
        return replace(found, run={**found.run, "command": again})
    return None


def _maker(figure: Figure) -> str:
    """A link to the chapter, or the name of a notebook that is none."""
    source = ROOT / f"notebooks/{figure.notebook}.py"
    if not source.is_file():  # a page of the book, which shows what a command makes
        return f"{{doc}}`/{figure.notebook}`"
    chapter = not figure.on_request or redraws(source)
    return f"{{doc}}`/notebooks/{figure.notebook}`" if chapter else f"`notebooks/{figure.notebook}.py`"


def _body(figure: Figure, results: Results | None, described: dict[str, str]) -> str:
    if results is None:
        profile = next(profile for profile in figure.profiles if profile != "smoke")  # which measures nothing
        needs = f" It needs {figure.needs[profile]}." if profile in figure.needs else ""
        return f"Not measured yet. To measure it: `lmc reproduce --profile {profile} --figure {figure.id}`.{needs}"
    name = f"fig-{figure.id}"
    said = json.dumps(described.get(name, figure.title), ensure_ascii=False)
    image = f"```{{image}} /made/{figure.id}.svg\n:alt: {said}\n:width: 640px\n```"
    links = f"{{download}}`SVG </made/{figure.id}.svg>` · {{download}}`PNG </made/{figure.id}.png>`"
    links += f" · made by {_maker(figure)}" + (f" · there {{numref}}`{name}`" if name in described else "")
    tables = list(results.numbers.get("methods", {}).values())
    lambdas = tables[0].get("lambdas", ()) if tables else ()
    points = f" The line was looked at in {len(lambdas)} places." if lambdas else ""
    return "\n\n".join([image, _table(figure, results), f"{results.provenance}.{points}", links])


def _table(figure: Figure, results: Results) -> str:
    """Claim, expectation and measurement side by side; an expectation only where another run could fail it."""
    measured = results.numbers.get("headline", {})
    if not measured:  # its numbers are those of other figures
        return _claim(figure)
    bounds = figure.expected.get(results.profile, {})
    said = {name: bounds[name].said(name) if name in bounds else None for name in measured}
    again = any(said.values())
    rows = ["| | measured | another run should give |", "|---|---|---|"] if again else ["| | measured |", "|---|---|"]
    for name, value in measured.items():
        number = f"{value:.4g}" + ("" if UNITLESS.search(name) else f" {results.numbers['unit']}")
        if not said[name]:  # chance is as large as the number, or nobody knows it: what there was says how large
            number += _ranging(results.numbers.get("spread", {}).get(name, ()), results.numbers.get("pairs", ()))
        rows.append(f"| {name} | {number} |" + (f" {said[name] or '–'} |" if again else ""))
    return "\n\n".join(filter(None, ["\n".join(rows), _claim(figure)]))


def _ranging(runs: Sequence[float], pairs: Sequence[str]) -> str:
    """From where to where the runs went, and whether they are of several pairs or one."""
    if len(set(runs)) < 2:
        return ""
    digits = next(d for d in range(2, 18) if f"{min(runs):.{d}g}" != f"{max(runs):.{d}g}")
    count = len(set(pairs)) if len(pairs) == len(runs) else 0
    what = "pairs" if count == len(runs) else f"runs of {count} pairs" if count > 1 else "runs"
    return f" ({min(runs):.{digits}g} to {max(runs):.{digits}g}, {len(runs)} {what})"


def _claim(figure: Figure) -> str:
    return f"A claim, not measured by this project: {figure.claim}" if figure.claim else ""
