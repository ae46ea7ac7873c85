"""The one adapter to matplotlib: settings, panels, and figures as inline SVG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from discrete_grad.reporting.style import LIGHT

__all__ = ["BAND", "INK", "SERIES", "drawing", "panels", "place_legend", "to_svg"]

# Colours that nobody else uses stand for CSS variables and are replaced in the SVG, so that the
# same picture is readable on a light and on a dark page.
INK = "#010100"
_LINE = "#010101"
BAND = "#010102"
SERIES = ("#010110", "#010111", "#010112", "#010113", "#010114", "#010115", "#010116")
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "discrete_grad",
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "figure.dpi": 72,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's settings for one picture; the global ones are left alone."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "the report's pictures need matplotlib: pip install 'discrete_grad[plots]'"
        ) from error
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # the reader's browser brings the letters that matplotlib's font lacks
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def panels(
    count: int, columns: int, height: float, *, width: float = 6.0, sharey: bool = False
) -> tuple[Any, Any]:
    """A figure and its `count` panels, filled row by row; `width` is the most for one panel."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(min(10.0, width * columns), rows * (height + 0.45) + 0.4))
    grid = figure.subplots(rows, columns, sharey=sharey, squeeze=False).ravel()
    for unused in grid[count:]:
        unused.remove()
    return figure, list(grid[:count])


def to_svg(figure: Any) -> str:
    """The figure as SVG, to stand in a page or in a file of its own."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # `savefig` draws everything once more to have it laid out
    canvas = FigureCanvasSVG(figure)
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")
    canvas.print_svg(buffer, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # the ids of groups are used by nobody and the same in every picture of a page
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    size = r' width="([\d.]+)pt" height="[\d.]+pt"'
    text = re.sub(size, r' style="max-width: \1pt"', text, count=1)
    for color, variable in _variables().items():
        # a colour of its own for where the picture is shown without the page's style sheet
        text = text.replace(color, f"var(--{variable}, {LIGHT[variable]})")
    return text


def _variables() -> dict[str, str]:
    named = {INK: "ink", _LINE: "line", BAND: "band"}
    return named | {color: f"series{i}" for i, color in enumerate(SERIES)}


def place_legend(figure: Any, handles: Sequence[Any]) -> None:
    """A legend below the panels, in as many lines as the width asks for."""
    for handle in handles:
        # matplotlib takes a leading underscore for "not in the legend"
        handle.set_label(f" {handle.get_label()}")
    columns = 2 + (figure.get_figwidth() > 5) + 3 * (figure.get_figwidth() > 9)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
