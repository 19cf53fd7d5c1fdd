"""The orchestration, on notebooks of a few lines in a checkout made for the test."""

import gc
import importlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmc import cli
from lmc.errors import ArgumentError
from lmc.reproduce import command, results
from lmc.reproduce.draw import drawings
from lmc.reproduce.execute import is_current
from lmc.reproduce.ledger import figures, made_by
from lmc.reproduce.schedule import redrawn, schedule
from lmc.reproduce.training.settings import work

pytestmark = pytest.mark.filterwarnings("ignore")  # of the notebook stack, not ours
NOTEBOOK = """\
# ---
# jupyter:
#   kernelspec: {{display_name: Python 3, language: python, name: python3}}
# ---

# %% tags=["parameters"]
profile: str = "laptop"
seed: int = 0

# %%
import os, time
from pathlib import Path
from lmc.reproduce import results
{body}
"""
WRITE = (
    'results.write("{id}", profile, {{"headline": {{"x": {value}}}, "methods": {{}}}}, '
    '{{"seeds": [seed], "duration_s": 0.0}})'
)
PACKAGE = {  # as far as the notebooks import it: these files are read for the cache, and those of the project run
    "__init__.py": "",
    "reproduce/__init__.py": "",
    "reproduce/results.py": '"""Results."""\nfrom lmc.reproduce import places  # where they are\n',
    "reproduce/places.py": "HERE = 1\n",
    "cli.py": "",
}
LEDGER = """\
first:  {title: t, notebook: 01_first, profiles: [smoke], results: first, draw: barrier_bars}
second: {title: t, notebook: 00_second, profiles: [smoke, gpu], results: second, draw: barrier_bars, inputs: [first]}
"""
READ = 'x = results.read("first", profile).numbers["headline"]["x"]\n' + WRITE.format(id="second", value="x + 1")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """What the notebook stack leaves open is closed here, so that no other test is told of it."""
    yield
    gc.collect()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_kernels: dict[str, str]) -> Path:
    """Notebook 00 reads what notebook 01 writes."""
    for variable, value in quick_kernels.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "figures.yml").write_text(LEDGER)
    for name, text in PACKAGE.items():
        (tmp_path / "lmc" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lmc" / name).write_text(text)
    project = '[project]\nversion = "1"\n[project.urls]\nRepository = "https://example.org/a/b"\n'
    (tmp_path / "pyproject.toml").write_text(project)
    source(tmp_path, "01_first", WRITE.format(id="first", value="1.0"))
    source(tmp_path, "00_second", READ)
    monkeypatch.setenv("LMC_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr("lmc.reproduce.places.checkout", lambda: tmp_path)
    return tmp_path


def source(root: Path, name: str, body: str, parameter: str = "seed: int = 0") -> None:
    text = NOTEBOOK.format(body=body).replace("seed: int = 0", f"seed: int = 0\n{parameter}")
    (root / "notebooks" / f"{name}.py").write_text(text)


CODE = """\
import sys, pathlib
import lmc.reproduce.command
from lmc.reproduce import places
places.checkout = pathlib.Path.cwd
"""


def python(checkout: Path, code: str) -> str:
    """What code prints in that checkout, errors included."""
    command = [sys.executable, "-P", "-c", CODE + code]  # -P: the project, not the folder lmc that is here
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=240)
    return done.stdout + done.stderr


def start(checkout: Path, *options: str) -> "subprocess.Popen[str]":
    """`lmc reproduce --profile smoke` in that checkout, in a process of its own."""
    command = [
        sys.executable,
        "-P",
        "-c",
        CODE + "sys.argv.insert(1, 'reproduce'); from lmc.__main__ import main; sys.exit(main())",
        "--profile",
        "smoke",
        *options,
    ]
    return subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def main(options: list[str]) -> int:
    """The exit code of `lmc reproduce` with these options, in this process."""
    return cli.main(["reproduce", *options])


def ran(checkout: Path) -> dict[str, bool]:
    """Notebook -> whether it was run rather than taken from the cache."""
    process = start(checkout)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    return {name: what != "unchanged" for name, what in re.findall(r"^(\d\w+): (unchanged|done)", out, re.M)}


def executed(checkout: Path) -> list[str]:
    return sorted(path.name for path in (checkout / "build/notebooks/smoke").iterdir())


def test_runs_in_the_order_of_inputs_and_caches(checkout: Path) -> None:
    assert list(ran(checkout).items()) == [("01_first", True), ("00_second", True)]
    assert results.read("second", "smoke").numbers["headline"] == {"x": 2.0}
    assert ran(checkout) == {"01_first": False, "00_second": False}
    (checkout / "lmc/reproduce/places.py").write_text("HERE = 2\n")  # reached by both
    assert ran(checkout) == {"01_first": True, "00_second": True}


def test_a_change_upstream_and_a_lost_result_are_made_good(checkout: Path) -> None:
    ran(checkout)
    source(checkout, "01_first", WRITE.format(id="first", value="5.0"))
    assert ran(checkout) == {"01_first": True, "00_second": True}
    assert results.read("second", "smoke").numbers["headline"] == {"x": 6.0}
    (checkout / "results/smoke/second.json").unlink()
    assert ran(checkout) == {"01_first": False, "00_second": True}
    assert results.read("second", "smoke").numbers["headline"] == {"x": 6.0}


def test_any_lost_intermediate_is_made_good_with_the_same_bytes(checkout: Path) -> None:
    ran(checkout)
    numbers = {
        path: path.read_bytes() for path in (checkout / "results/smoke").glob("*.json") if ".run." not in path.name
    }
    assert {path.name for path in numbers} == {"first.json", "second.json"}
    lost = ["results/smoke/first.json", "results/smoke/first.run.json", "build/notebooks/smoke/01_first.ipynb"]
    for path in lost:
        (checkout / path).unlink()
        assert ran(checkout) == {"01_first": True, "00_second": False}, path
        assert {path: path.read_bytes() for path in numbers} == numbers, path


def test_one_figure_runs_what_it_needs_and_no_more(checkout: Path) -> None:
    source(checkout, "02_other", "raise SystemExit")
    ledger = figures(checkout / "figures.yml")
    assert list(schedule("smoke", "first", ledger)) == ["01_first"]
    assert list(schedule("smoke", "second", ledger)) == ["01_first", "00_second"]
    assert list(schedule("gpu", None, ledger)) == ["00_second"]  # its input is not made at this profile


def test_what_is_long_is_redrawn_with_the_book_and_computed_when_asked(checkout: Path) -> None:
    (checkout / "figures.yml").write_text(
        "\n".join(
            f"{id}: {{title: t, notebook: {notebook}, profiles: [smoke, gpu], results: {id}, draw: curves, "
            "on_request: true}"
            for id, notebook in (("first", "01_first"), ("second", "00_second"))
        )
    )
    write = WRITE.format(id="first", value="1.0").replace("results.write", "_ = recompute and results.write")
    body = f"{write}\nprint(results.read('first', profile).numbers)"
    source(checkout, "01_first", body, "recompute: bool = True")
    ledger = figures(checkout / "figures.yml")
    assert redrawn("gpu", ledger) == ["01_first"]
    assert list(schedule("gpu", None, ledger, everything=False)) == ["01_first"]
    assert list(schedule("gpu", None, ledger)) == ["00_second", "01_first"]
    run = "import lmc.reproduce.command; lmc.reproduce.command.reproduce('gpu', jobs=1, everything={})"
    assert "01_first: done" in python(checkout, run.format(False))  # there was nothing to draw yet
    shown = checkout / "build/notebooks/gpu/01_first.ipynb"
    assert json.loads(shown.read_text(encoding="utf-8"))["metadata"]["lmc"]["parameters"] == {"profile": "smoke"}
    shown.unlink()
    results.write("first", "gpu", {"headline": {"x": 7.0}, "methods": {}}, {"seeds": [0], "duration_s": 0.0})
    assert "01_first: redrawn" in python(checkout, run.format(False))
    assert results.read("first", "gpu").numbers["headline"] == {"x": 7.0}
    assert "01_first: unchanged" in python(checkout, run.format(False))
    source(checkout, "00_second", "pass")
    assert "01_first: done" in python(
        checkout,
        "from lmc.reproduce.command import execute; from lmc.reproduce.ledger import figures\n"
        "execute('01_first', 'gpu', pathlib.Path('build/notebooks/gpu').resolve(), {}, figures())",
    )
    assert results.read("first", "gpu").numbers["headline"] == {"x": 1.0}
    assert "01_first: unchanged" in python(checkout, run.format(False))  # what was computed serves the book too


def test_what_was_never_measured_is_shown_at_smoke_after_what_it_reads(checkout: Path) -> None:
    (checkout / "figures.yml").write_text(
        "first: {title: t, notebook: 01_first, profiles: [smoke, gpu], results: first, draw: curves}\n"
        "second: {title: t, notebook: 00_second, profiles: [smoke, gpu], results: second, draw: curves, "
        "inputs: [first], on_request: true}\n"
    )
    source(checkout, "00_second", READ, "recompute: bool = True")
    out = python(checkout, "from lmc.reproduce.command import reproduce; reproduce('gpu', jobs=1, everything=False)")
    assert out.count("01_first: done") == 2 and "00_second: done" in out, out
    assert results.read("second", "smoke").numbers["headline"] == {"x": 2.0}
    shown = {path.relative_to(checkout / "build/notebooks") for path in checkout.glob("build/notebooks/*/*.ipynb")}
    assert shown == {Path("gpu/00_second.ipynb"), Path("gpu/01_first.ipynb"), Path("smoke/01_first.ipynb")}


def test_at_profile_gpu_the_campaign_measures_and_no_notebook_runs(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    entry = "title: t, notebook: 01_first, profiles: [gpu], draw: barrier_bars"
    needs = "needs: {gpu: {hours: 2}}"
    file = checkout / "figures.yml"
    file.write_text(
        f"a: {{{entry}, results: a, item: 2, {needs}}}\nb: {{{entry}, results: b, item: 1, {needs}}}\n"
        f"c: {{{entry}, results: b, item: 1}}\n"
    )
    asked: list[tuple[int, str, str]] = []

    def run(item: int, size: str, budget: object, place: object, only: str, wait: bool) -> None:
        asked.append((item, size, only))
        results.write(only, "gpu", {"headline": {"x": 1.0}, "methods": {}}, {"seeds": [0], "duration_s": 0.0})

    monkeypatch.setattr("lmc.reproduce.experiments.from_scratch.run", run)
    assert main(["--profile", "gpu", "--figure", "a"]) == 0
    assert asked == [(2, "full", "a")]
    assert main(["--profile", "gpu"]) == 0
    assert asked[1:] == [(1, "full", "b"), (2, "full", "a")]  # each once, item by item
    out = capsys.readouterr().out
    assert "profile gpu, 2 results: about 4 h\n" in out and "campaign, item 1: b" in out
    assert not (checkout / "build/notebooks").exists()
    file.write_text(file.read_text().replace("hours: 2", "gpu_gb: 1.0e+6"))
    assert main(["--profile", "gpu", "--figure", "a"]) == 2
    assert "profile gpu needs a GPU with 1e+06 GB" in capsys.readouterr().err and len(asked) == 3


def test_a_number_that_is_not_as_expected_is_exit_code_1(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    bounds = "expected: {smoke: {x: {value: VALUE, tolerance: 0.5, runs: 5}}}"
    ledger = LEDGER.replace("draw: barrier_bars}", f"draw: barrier_bars, {bounds}}}")
    (checkout / "figures.yml").write_text(ledger.replace("VALUE", "1.2"))
    assert main(["--profile", "smoke", "--figure", "first"]) == 0
    (checkout / "figures.yml").write_text(ledger.replace("VALUE", "6.0"))
    assert main(["--profile", "smoke", "--figure", "first"]) == 1
    out, err = capsys.readouterr()
    assert "x: 1, expected 6 ± 0.5: NOT as expected" in out and err == "not as expected: first, x\n"
    (checkout / "figures.yml").write_text(ledger.replace("VALUE", "1.0").replace("{x:", "{gone:"))
    assert main(["--profile", "smoke", "--figure", "first"]) == 1  # a number that is not there is none that is met
    out, err = capsys.readouterr()
    assert "gone: not there, expected 1: NOT as expected" in out and err == "not as expected: first, gone\n"


@pytest.mark.parametrize("text", ["{", "[]", '{"headline": {}}'])
def test_damaged_results_are_one_line_and_made_good(checkout: Path, text: str, capsys: pytest.CaptureFixture) -> None:
    ran(checkout)
    damaged = checkout / "results/smoke/first.run.json"
    damaged.write_text(text)
    assert main(["--redraw", "--profile", "smoke", "--figure", "first"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "first" in err and err.count("\n") == 1
    assert ran(checkout) == {"01_first": True, "00_second": False}


def test_a_place_that_cannot_be_written_is_said_before_anything_starts(
    checkout: Path, capsys: pytest.CaptureFixture
) -> None:
    (checkout / "build").mkdir()
    (checkout / "build/figures").write_text("in the way")
    assert main(["--profile", "smoke"]) == 2
    out, err = capsys.readouterr()
    assert "build/figures is a file" in err and out == ""


def test_an_interrupted_run_leaves_nothing_behind(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(checkout, "01_first", "print('here', flush=True); time.sleep(60)")
    (aside := tmp_path / "aside").mkdir()
    monkeypatch.setenv("TMPDIR", str(aside))
    process = start(checkout)
    for _ in range(600):
        if any(aside.glob("lmc-*/*")):
            break
        time.sleep(0.1)
    process.terminate()  # ends like Ctrl-C, which a shell in the background would have its processes ignore
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143 and "interrupted: what is finished is kept" in err, out + err
    assert not list(aside.glob("lmc-*"))


def test_a_failing_notebook_is_named_and_the_others_still_run(checkout: Path) -> None:
    source(checkout, "00_bad", "print('before')\n1 / 0")
    process = start(checkout, "--jobs", "1")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 2
    found = re.search(r"^error: 00_bad failed in cell \d+: ZeroDivisionError: division by zero; .*: (.*)$", err, re.M)
    assert found, err
    kept = (checkout / found[1]).read_text()
    assert "before" in kept and not found[1].startswith("book/")
    assert not any(f"{place}/" in kept for place in (checkout, sys.prefix, Path.home()))
    assert executed(checkout) == ["00_second.ipynb", "01_first.ipynb"]


def test_what_depends_on_a_failure_is_not_run(checkout: Path) -> None:
    source(checkout, "01_first", "raise ValueError('no')")
    _, err = start(checkout).communicate(timeout=240)
    assert "00_second: not run, because a notebook whose results it reads failed" in err


def test_a_killed_run_continues_where_it_stopped(checkout: Path) -> None:
    source(checkout, "00_second", f"if not Path({str(checkout / 'go')!r}).exists(): time.sleep(300)\n{READ}")
    done = checkout / "build/notebooks/smoke/01_first.ipynb"
    process = start(checkout)
    deadline = time.monotonic() + 120
    while not done.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.communicate()
    assert executed(checkout) == ["01_first.ipynb"]
    (checkout / "go").touch()
    assert ran(checkout) == {"01_first": False, "00_second": True}


def test_two_runs_at_once_do_not_disturb_each_other(checkout: Path) -> None:
    """Both would write the same files again and again, while a third process reads them: they take turns."""
    twenty = "for value in range(21):\n    time.sleep(0.02)\n    "
    source(checkout, "01_first", twenty + WRITE.format(id="first", value="value / 20"))
    ran(checkout)
    numbers = [checkout / f"results/smoke/{id}.json" for id in ("first", "second")]
    alone = [path.read_bytes() for path in numbers]
    shutil.rmtree(checkout / "results")
    shutil.rmtree(checkout / "build")
    both = [start(checkout) for _ in range(2)]
    seen = set()
    while any(process.poll() is None for process in both):
        if results.exist("first", "smoke"):
            seen.add(results.read("first", "smoke").numbers["headline"]["x"])  # whole at any time
        time.sleep(0.005)  # the two need the processor
    said = ""
    for process in both:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, out + err
        said += out
    assert said.count("01_first: done") == said.count("00_second: done") == 1  # the other run takes what this one made
    assert said.count(": unchanged") == 2
    assert len(seen) > 2  # the reader was there while they wrote
    assert [path.read_bytes() for path in numbers] == alone
    assert len(list((checkout / "results/smoke").iterdir())) == 4  # two files each, nothing left aside
    assert executed(checkout) == ["00_second.ipynb", "01_first.ipynb"]
    assert ran(checkout) == {"01_first": False, "00_second": False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "desk"], "unknown profile 'desk'; choose from smoke, laptop, gpu, paper"),
        (["--figure", "third"], "unknown figure 'third'; choose from first, second"),
        (["--figure", "first", "--profile", "gpu"], "figure 'first' has no profile 'gpu'; it has smoke"),
        (["--profile", "paper"], "profile 'paper': no notebook runs at it; choose from smoke, gpu"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    checkout: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_no_job_is_no_number_of_jobs(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--jobs", "0"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: Invalid value for '--jobs': expected a whole number, at least 1, found '0' (see ")
    assert said.count("\n") == 1


def test_what_is_missing_is_said_before_anything_starts(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    needs = "needs: {smoke: {memory_gb: 1.0e+6, download_gb: 2, hours: 3}}"
    (checkout / "figures.yml").write_text(LEDGER.replace("draw: barrier_bars}", f"draw: barrier_bars, {needs}}}"))
    assert main(["--profile", "smoke"]) == 2
    out, err = capsys.readouterr()
    assert out == "profile smoke, 1 notebook: 2 GB to download, 1e+06 GB of memory, about 3 h\n"
    assert re.fullmatch(r"error: profile smoke needs 1e\+06 GB of memory, found .* free: close programs.*\n", err)
    assert not (checkout / "build").exists()


def test_what_is_finished_needs_nothing(checkout: Path) -> None:
    ran(checkout)
    needs = "needs: {smoke: {memory_gb: 1.0e+6}}"
    (checkout / "figures.yml").write_text(LEDGER.replace("draw: barrier_bars}", f"draw: barrier_bars, {needs}}}"))
    assert ran(checkout) == {"01_first": False, "00_second": False}


def test_a_figure_without_the_profile_or_without_its_notebook_is_said(
    checkout: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["--redraw", "--figure", "first"]) == 2
    assert "figure 'first' has no profile 'laptop'; it has smoke" in capsys.readouterr().err
    (checkout / "figures.yml").write_text(LEDGER.replace("00_second", "99_nowhere"))
    for options in (["--figure", "first"], ["--figure", "second"], []):
        assert main([*options, "--profile", "smoke"]) == 2
        assert capsys.readouterr().err == "error: figures.yml, second: no notebook '99_nowhere' in notebooks/\n"


def test_redrawing_computes_nothing(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--redraw", "--profile", "smoke", "--figure", "first"]) == 2
    assert "none here; run `lmc reproduce --profile smoke`" in capsys.readouterr().err
    results.write("first", "smoke", {"headline": {"x": 7.0}, "methods": {}}, {"seeds": [0], "duration_s": 0.0})
    claim = "claim: nearly zero, expected: {smoke: {x: {value: 6.0, tolerance: 0.5, runs: 5}}}"
    (checkout / "figures.yml").write_text(LEDGER.replace("draw: barrier_bars}", f"draw: barrier_bars, {claim}}}"))
    assert main(["--redraw", "--profile", "smoke"]) == 1
    out, err = capsys.readouterr()
    assert "claim, not measured here: nearly zero" in out and "x: 7, expected 6 ± 0.5: NOT as expected" in out
    assert err == "not as expected: first, x\n"
    assert "second: not measured yet; run: lmc reproduce --profile smoke --figure second" in out
    drawn = sorted(path.name for path in (checkout / "build/figures/smoke").iterdir())
    assert drawn == ["first.png", "first.svg"]
    assert not (checkout / "build/notebooks").exists()
    results.write("second", "smoke", {"methods": {}}, {"seeds": [0], "duration_s": 0.0})
    (checkout / "results/smoke/first.json").write_text("{")
    assert main(["--redraw", "--profile", "smoke"]) == 2  # after the others
    out, err = capsys.readouterr()
    assert "second.svg" in out and err.count("\n") == 1 and "first.json: not readable" in err


def test_results_go_where_the_command_is_told_from_its_own_folder(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A kernel runs in the folder of the notebooks, and a name is none of its."""
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("LMC_RESULTS", "mine")
    assert main(["--profile", "smoke", "--figure", "first"]) == 0
    assert (checkout / "mine/smoke/first.json").exists() and not (checkout / "notebooks/mine").exists()
    assert "(committed results)" not in capsys.readouterr().out


def test_list_shows_every_figure(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["first", "01_first"], ["second", "00_second"]]
    (checkout / "figures.yml").write_text(LEDGER.replace("inputs:", "needs: {gpu: {gpu_gb: 16, hours: 2}}, inputs:"))
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.endswith("00_second at profile gpu needs a GPU with 16 GB, about 2 h\n")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("profiles: [smoke], results: r", ": lacks draw"),
        (
            "profiles: [desk], results: r, draw: d",
            ", profiles: expected one of smoke, laptop, gpu, paper, found 'desk'",
        ),
        ("profiles: [], results: r, draw: d, colour: red", ": unknown colour; known: claim, .*, title"),
        ("profiles: [], results: r, draw: d, id: two", ": unknown id; known: "),
        ("profiles: smoke, results: r, draw: d", ", profiles: expected a list, found 'smoke'"),
        ("profiles: [[laptop]], results: r, draw: d", r", profiles: expected one of .*, found \['laptop'\]"),
        ("profiles: [], results: 1, draw: d", ", results: expected text, found 1"),
        ("profiles: [], results: r, draw: d, item: true", ", item: expected a whole number, found True"),
        ("profiles: [], results: r, draw: d, headline: 1", ", headline: expected true or false, found 1"),
        ("profiles: [], results: r, draw: d, inputs_at: {desk: [a]}", ", inputs_at: expected one of .*, found 'desk'"),
        ("profiles: [], results: r, draw: d, inputs_at: {gpu: [1]}", ", inputs_at, gpu: expected text, found 1"),
        ("profiles: [], results: r, draw: d, environment: A", ", environment: expected a list, found 'A'"),
        (
            "profiles: [], results: r, draw: d, minutes: {laptop: long}",
            ", minutes, laptop: expected a number ≥ 0, found 'long'",
        ),
        (
            "profiles: [], results: r, draw: d, expected: {smoke: {x: 1}}",
            ", expected, smoke, x: expected fields, found 1",
        ),
        (
            "profiles: [], results: r, draw: d, expected: {smoke: {x: {value: .nan, tolerance: 1, runs: 5}}}",
            ", expected, smoke, x, value: expected a number, found nan",
        ),
    ],
)
def test_a_mistake_in_the_ledger_is_named(tmp_path: Path, entry: str, message: str) -> None:
    (tmp_path / "figures.yml").write_text(f"one: {{title: t, notebook: n, {entry}}}\n")
    with pytest.raises(ArgumentError, match=f"^figures.yml, one{message}"):
        figures(tmp_path / "figures.yml")


@pytest.mark.parametrize("text", ["a: [", "- a\n", "a: nothing"])
def test_a_ledger_that_is_none_is_one_line(checkout: Path, text: str, capsys: pytest.CaptureFixture) -> None:
    (checkout / "figures.yml").write_text(text)
    assert main(["--list"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: figures.yml") and err.count("\n") == 1


def test_the_ledger_names_notebooks_and_drawings_that_exist(root: Path) -> None:
    ledger = figures(root / "figures.yml")
    written = {figure.results for figure in ledger.values()}
    for figure in ledger.values():
        page = root / "book" / f"{figure.notebook}.md"  # which shows what a command makes
        notebook = root / "notebooks" / f"{figure.notebook}.py"
        assert page.is_file() if figure.command and not notebook.is_file() else notebook.is_file(), figure.id
        assert figure.draw in drawings(), figure.id
        assert {*figure.expected, *figure.minutes, *figure.needs} <= set(figure.profiles), figure.id
        assert figure.by_campaign("gpu") == ("gpu" in figure.profiles), figure.id
        assert {*figure.inputs, *(id for ids in figure.inputs_at.values() for id in ids)} <= written, figure.id
        if figure.by_campaign("gpu"):  # and the campaign knows it under that item
            assert figure.results in [each.id for each in work(figure.item, "full")], figure.id


def test_a_figure_of_hours_is_made_by_its_command_and_only_when_asked_for(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with (checkout / "figures.yml").open("a") as file:
        for id, code in (("long", 0), ("stops", 3)):
            file.write(f"{id}: {{title: t, notebook: 01_first, profiles: [laptop], results: long, draw: barrier_bars, ")
            file.write(f"command: python long.py {code}, minutes: {{laptop: 300}}}}\n")
    (checkout / "long.py").write_text("import sys\nsys.exit(int(sys.argv[1]))\n")
    reported: list[str] = []
    monkeypatch.setattr(command, "report", lambda entry, profile: reported.append(entry.id))
    ledger = figures(checkout / "figures.yml")
    assert made_by("01_first", "laptop", ledger) == []  # the notebook shows it and makes none of it
    assert main(["--figure", "stops"]) == 2 and not reported
    assert "stops: its command ended with exit code 3; what is finished is kept" in capsys.readouterr().err
    assert main(["--figure", "long"]) == 0 and reported == ["long"]
    assert "long: python long.py 0 (about 300 min on one core)" in capsys.readouterr().out


def test_every_command_of_the_ledger_is_one_of_ours(root: Path) -> None:
    for figure in figures(root / "figures.yml").values():
        if figure.command:
            start, module = figure.command.split()[:2], figure.command.split()[2]
            assert start == ["python", "-m"] and hasattr(importlib.import_module(module), "main"), figure.id
            assert figure.by_command("laptop") and "laptop" in figure.profiles, figure.id


def test_the_longest_notebook_comes_first_and_long_ones_only_when_asked(checkout: Path) -> None:
    file = checkout / "figures.yml"
    entry = "title: t, profiles: [laptop], draw: path_figure"
    entries = (
        f"a: {{{entry}, notebook: 01_first, results: first, minutes: {{laptop: 1}}}}\n"
        f"b: {{{entry}, notebook: 00_second, results: second, minutes: {{laptop: 9}}, on_request: true}}\n"
        f"c: {{{entry}, notebook: 02_third, results: third, minutes: {{laptop: 5}}, inputs: [second]}}\n"
    )
    file.write_text(entries, encoding="utf-8")
    source(checkout, "02_third", "pass")
    ledger = figures(file)
    assert list(schedule("laptop", None, ledger)) == ["00_second", "01_first", "02_third"]
    assert list(schedule("laptop", None, ledger, everything=False)) == ["02_third", "01_first"]
    assert list(schedule("laptop", "c", ledger)) == ["02_third"]  # what it reads is committed
    assert list(schedule("laptop", "b", ledger)) == ["00_second"]


def test_what_is_declared_runs_a_notebook_again(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the reader's own, results of a profile that is not the run's, and results that are not there yet."""
    declared = {"01_first": "environment: [LMC_OTHER]", "00_second": "inputs_at: {laptop: [rates], gpu: [large]}"}
    text = LEDGER.replace("inputs: [first]", declared["00_second"]).replace(
        "bars}", f"bars, {declared['01_first']}}}", 1
    )
    (checkout / "figures.yml").write_text(text)
    source(checkout, "00_second", WRITE.format(id="second", value="2.0"))
    run = {"seeds": [0], "duration_s": 0.0, "command": "c"}
    results.write("rates", "laptop", {"x": 1}, run)
    assert main(["--profile", "smoke", "--out", str(checkout / "out")]) == 0
    assert current(checkout) == {"01_first": True, "00_second": True}
    monkeypatch.setenv("LMC_OTHER", "mine.txt")
    monkeypatch.setenv("LMC_ANOTHER", "mine.txt")
    results.write("others", "laptop", {"x": 2}, run)  # declared by nobody
    assert current(checkout) == {"01_first": False, "00_second": True}
    monkeypatch.delenv("LMC_OTHER")
    results.write("large", "gpu", {"x": 2}, run)
    assert current(checkout) == {"01_first": True, "00_second": False}
    (checkout / "results/gpu/large.json").unlink()
    results.write("rates", "laptop", {"x": 2}, run)
    assert current(checkout) == {"01_first": True, "00_second": False}
    results.write("rates", "laptop", {"x": 1}, run)
    assert current(checkout) == {"01_first": True, "00_second": True}
    (checkout / "figures.yml").write_text(text.replace("[rates]", "[rates, others]"))
    assert current(checkout) == {"01_first": True, "00_second": False}


def current(checkout: Path) -> dict[str, bool]:
    """Notebook -> whether it would be taken from the cache."""
    ledger = figures(checkout / "figures.yml")
    return {name: is_current(name, "smoke", checkout / "out", ledger) for name in ("01_first", "00_second")}


def test_text_and_comments_change_no_number(checkout: Path) -> None:
    """They run nothing again, and the executed copy shows them; a changed line of code that is reached runs."""
    body = 'value = 1.0  # one\nprint("one", file=sys.stderr)\nvalue\n'
    source(checkout, "01_first", f"import sys\n{body}# %%\n{WRITE.format(id='first', value='value')}")
    out = checkout / "out"
    run = ["--profile", "smoke", "--out", str(out), "--figure", "first"]
    assert main(run) == 0
    before = json.loads((out / "01_first.ipynb").read_text())
    for name, text in {  # what the package says of itself, and what no notebook reaches
        "reproduce/results.py": '"""Numbers."""\n\nfrom lmc.reproduce import places\n',
        "reproduce/places.py": "# Here.\nHERE = 1\n",
        "cli.py": "print()\n",
    }.items():
        (checkout / "lmc" / name).write_text(text)
        assert current(checkout)["01_first"], name
    chapter = checkout / "notebooks/01_first.py"
    written = chapter.read_text()
    chapter.write_text(
        written.replace("# %%\nimport os", "# %% [markdown]\n# In words.\n\n# %%\nimport os").replace("# one", "# 1")
    )
    assert main(run) == 0
    after = json.loads((out / "01_first.ipynb").read_text())
    assert after["metadata"] == before["metadata"]  # the same run
    shown, code = ([cell for cell in each["cells"] if cell["cell_type"] == "code"] for each in (after, before))
    assert [cell["outputs"] for cell in shown] == [cell["outputs"] for cell in code]
    assert [cell["execution_count"] for cell in shown] == [cell["execution_count"] for cell in code]
    assert any(cell["outputs"] for cell in shown) and not any("stderr" in str(cell["outputs"]) for cell in shown)
    text = str(after["cells"])
    assert "In words." in text and "# 1" in text and "# one" not in text
    assert len({cell["id"] for cell in after["cells"]}) == len(after["cells"]) == len(before["cells"]) + 1
    for file, old, new in (
        (chapter, "value = 1.0", "value = 2.0"),
        (chapter, "value\n", "value;\n"),  # hides what the cell shows
        (checkout / "lmc/reproduce/places.py", "1", "2"),
        (checkout / "lmc/__init__.py", "", "import lmc.cli\n"),
    ):
        kept = file.read_text()
        file.write_text(kept.replace(old, new, 1))
        assert not current(checkout)["01_first"], new
        file.write_text(kept)
        assert current(checkout)["01_first"], new


def test_a_run_of_everything_leaves_out_what_lacks_its_data(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = LEDGER.replace("smoke", "laptop")
    ledger = ledger.replace("draw: barrier_bars}", "draw: barrier_bars, needs: {laptop: {corpora: [enwiki2015]}}}", 1)
    (checkout / "figures.yml").write_text(ledger)
    third = "third: {title: t, notebook: 02_third, profiles: [laptop], results: third, draw: barrier_bars, "
    third += "minutes: {laptop: 7}}\n"
    (checkout / "figures.yml").write_text(ledger + third)
    source(checkout, "02_third", WRITE.format(id="third", value="3.0"))
    monkeypatch.delenv("LMC_TEST_DATA", raising=False)
    assert main(["--out", str(checkout / "out")]) == 0
    said = capsys.readouterr().out
    assert "01_first: left out, it needs the corpora enwiki2015, and LMC_TEST_DATA is not set" in said
    assert results.read("third", "laptop").numbers["headline"] == {"x": 3.0}
    assert "about 7 min of work on two cores; with --redraw" in said
    assert "00_second: left out, it reads the results of 01_first" in said
    results.write("first", "laptop", {"headline": {"x": 1.0}, "methods": {}}, {"seeds": [0], "duration_s": 0.0})
    assert main(["--out", str(checkout / "out")]) == 0  # results that are there serve
    assert results.read("second", "laptop").numbers["headline"] == {"x": 2.0}
    said = capsys.readouterr().out
    assert "01_first: left out" in said and "min of work" not in said  # what is finished takes no time
    assert main(["--figure", "first", "--out", str(checkout / "out")]) == 2  # asked for by name, it is refused
