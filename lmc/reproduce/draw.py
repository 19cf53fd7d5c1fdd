"""From a name in figures.yml to a drawn figure, and from that to files.

>>> save(draw("barrier_bars", results.read("vit-digits", "laptop").numbers), Path("build/figures/vit-digits"))
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lmc.errors import ArgumentError, DataError
from lmc.evaluation import pyplot
from lmc.files import whole_file
from lmc.reproduce import charts, every_experiment, figures
from lmc.reproduce.runs import Comparison, Numbers, Sweep, rate_grids

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")


def drawings() -> dict[str, Callable[[Numbers], "Figure"]]:
    """Every function that figures.yml may name, as one that draws from the numbers of a results file."""
    compared = (
        figures.path_figure,
        figures.accuracy_figure,
        figures.barrier_bars,
        charts.ablation_figure,
        charts.scaling_figure,
    )
    plain = (  # of what only one experiment finds
        figures.curves,
        charts.landscape_figure,
        charts.control_figure,
        charts.grouped_figure,
        charts.simplex_figure,
        charts.count_figure,
        charts.paired_figure,
    )
    return {
        **{function.__name__: _of(Comparison.from_json, function) for function in compared},
        **{function.__name__: function for function in plain},
        "rate_figure": _of(
            lambda numbers: (rate_grids(numbers), numbers.get("unit", "nats")),
            lambda found: figures.rate_figure(*found),
        ),
        "sweep_figure": _of(Sweep.from_json, charts.sweep_figure),
        "overview_figure": _of(every_experiment.from_json, charts.overview_figure),
    }


def _of(read: Callable[[Numbers], T], function: Callable[[T], "Figure"]) -> Callable[[Numbers], "Figure"]:
    def drawn(numbers: Numbers) -> "Figure":
        try:
            found = read(numbers)
        except (AttributeError, TypeError) as error:  # the file is laid out in another way
            raise ValueError(str(error)) from error
        return function(found)

    return drawn


def draw(name: str, numbers: Numbers) -> "Figure":
    """Draw with the function that figures.yml names.

    >>> draw("barrier_bars", results.read("vit-digits", "laptop").numbers)

    Raises ArgumentError for an unknown name, DataError for results that lack what is drawn.
    """
    known = drawings()
    if name not in known:
        raise ArgumentError(f"no figure function {name!r}; choose from {', '.join(known)}")
    try:
        return known[name](numbers)
    except KeyError as error:
        raise DataError(f"{name}: the results lack {error}") from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, AttributeError | TypeError) and "NoneType" not in str(error):
            raise  # a mistake in the function; None stands for what an experiment did not measure
        raise DataError(f"{name}: the results are not what it draws ({error})") from error


def save(figure: "Figure", path: Path) -> None:
    """Write `path`.svg and `path`.png, each whole or not at all.

    >>> save(draw("barrier_bars", results.read("vit-digits", "laptop").numbers), Path("build/vit-digits"))
    >>> sorted(file.name for file in Path("build").glob("vit-digits.*"))
    ['vit-digits.png', 'vit-digits.svg']
    """
    for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        with whole_file(path.with_name(f"{path.name}.{kind}")) as aside:
            figure.savefig(aside, format=kind, metadata=metadata, bbox_inches="tight")  # a legend may be wider
    pyplot().close(figure)
