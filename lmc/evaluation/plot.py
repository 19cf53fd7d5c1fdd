"""One style for every picture: colours, markers, a frame of axes, and matplotlib itself.

>>> figure, axes = frame("step", "loss [nats]")
>>> axes.plot([1, 2, 3], [0.9, 0.5, 0.4], **look(0))
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lmc.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart with any colour vision, and each with a contrast of at least 3 on white. Okabe and Ito's, but for two:
# violet and brown stand for a light blue and an orange that are too pale.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7225E7", "#67300B", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # a second cue, for print without colour
PATH = "λ (0: model A, 1: model B)"  # the horizontal axis of a path
STYLE: dict[str, Any] = {
    "figure.figsize": (6.4, 3.8),
    "figure.dpi": 100,
    "figure.facecolor": "white",  # a white card on any page: axes stay readable in dark mode
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "lmc",  # the same figure gives the same file
}


def use_style() -> None:
    """Draw in the book's style from here on, and as vectors where this runs in a notebook.

    >>> use_style()
    """
    plots = pyplot()
    plots.rcParams.update(STYLE)
    plots.rcParams["axes.prop_cycle"] = plots.cycler(color=list(COLOURS))
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg")
    except (ImportError, AttributeError):  # no notebook around
        return


def pyplot() -> Any:
    """matplotlib's pyplot, or one line that says how to get it."""
    try:
        import matplotlib.pyplot as found
    except ImportError as error:
        raise MissingExtraError('matplotlib is missing; run: pip install -e ".[plot]"') from error
    return found


def frame(across: str, up: str, **options: Any) -> tuple["Figure", Any]:
    """A figure in the book's style with one set of axes, and what they show.

    >>> figure, axes = frame("learning rate", "barrier [nats]", figsize=(4, 3))
    """
    use_style()
    figure, axes = pyplot().subplots(**options)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return figure, axes


def row_of_frames(count: int, width: float, height: float) -> tuple["Figure", list[Any]]:
    """A figure in the book's style with so many sets of axes side by side, each of this size in inches.

    >>> figure, (left, right) = row_of_frames(2, width=4, height=3)
    """
    use_style()
    figure, axes = pyplot().subplots(1, count, figsize=(width * count, height), squeeze=False)
    return figure, list(axes[0])


def look(place: int) -> dict[str, Any]:
    """Colour and marker of the line at that place.

    >>> look(0)
    {'color': '#0072B2', 'marker': 'o'}
    """
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}


def path_line(axes: Any, place: int, label: str, lambdas: Sequence[float], losses: Sequence[float]) -> None:
    """The loss along a line between two models, its ends marked in black."""
    every = max(1, len(lambdas) // 8)
    axes.plot(lambdas, losses, **look(place), markersize=4, markevery=every, label=label)
    axes.plot([lambdas[0], lambdas[-1]], [losses[0], losses[-1]], "o", color="black", markersize=5, zorder=5)
