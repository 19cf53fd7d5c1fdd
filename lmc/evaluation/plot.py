"""One style for every picture: colours, markers, and matplotlib itself."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


# Okabe and Ito's palette: told apart with any colour vision; the yellow is left out, it vanishes on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # a second cue, for print without colour


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
        from lmc.errors import MissingExtraError

        raise MissingExtraError('matplotlib is missing; run: pip install -e ".[plot]"') from error
    return found
