"""Pictures as SVG: what the adapter to matplotlib makes of a figure, and pictures of edits."""

import re

import pytest
import torch

from discrete_grad import CategoricalSpace
from discrete_grad.models import Edits
from discrete_grad.reporting import edit_history_plot, edits_plot
from discrete_grad.reporting._svg import BAND, INK, SERIES, drawing, panels, place_legend, to_svg
from tests.reporting.figures import described, watch_figures
from tests.reporting.test_snapshots import FOLDER

pytest.importorskip("matplotlib")


def small() -> tuple[str, tuple[float, ...]]:
    """The SVG of two panels and a legend, and where the first panel was laid out."""
    with drawing():
        figure, axes = panels(2, 2, 1.0, width=2.0)
        drawn = [a.plot([0, 1], [0, 1], color=SERIES[1], label="_a & b")[0] for a in axes]
        axes[0].axvspan(0, 1, color=BAND)
        place_legend(figure, drawn[:1])
        return to_svg(figure), axes[0].get_position().bounds


def test_svg_stands_in_a_page_and_has_the_pages_colours() -> None:
    svg, _ = small()
    assert svg.startswith(
        '<svg xmlns:xlink="http://www.w3.org/1999/xlink" style="max-width: 288pt"'
    )
    assert svg.endswith("</svg>\n")
    assert not re.search(r"<metadata|<g id=|#0101|matplotlib|\d{4}-\d\d-\d\d", svg)
    assert ">_a &amp; b<" in svg.replace("> _", ">_")  # text stays text
    for color in ("ink, #1d2127", "line, #dfe3e8", "band, #b9c2cd", "series1, #0072b2"):
        assert f"var(--{color})" in svg
    assert small() == (svg, _)


def test_panels_are_laid_out_around_their_legend() -> None:
    from matplotlib.figure import Figure

    plain = Figure(figsize=(4.0, 1.85)).subplots(1, 2)[0].get_position().bounds
    left, bottom, width, height = small()[1]
    assert bottom > plain[1] + 0.1  # the legend is below
    assert (left, width, height) != (plain[0], plain[2], plain[3])


@pytest.mark.parametrize(
    ("count", "columns", "size"),
    [(1, 3, (6.0, 2.85)), (3, 2, (10.0, 5.3)), (4, 2, (10.0, 5.3)), (5, 2, (10.0, 7.75))],
)
def test_panels_are_filled_row_by_row(count: int, columns: int, size: tuple[float, float]) -> None:
    figure, axes = panels(count, columns, 2.0)
    assert tuple(figure.get_size_inches()) == pytest.approx(size)
    assert figure.axes == axes
    assert len(axes) == count
    places = [a.get_subplotspec().num1 for a in axes]
    assert places == list(range(count))


def test_panels_share_their_y_axis_if_asked() -> None:
    for shared in (True, False):
        _, (one, two) = panels(2, 2, 2.0, sharey=shared)
        assert one.get_shared_y_axes().joined(one, two) is shared
    _, (one, two) = panels(2, 2, 2.0)
    assert not one.get_shared_y_axes().joined(one, two)


@pytest.mark.parametrize(("width", "columns"), [(5.0, 2), (5.1, 3), (9.0, 3), (9.1, 6)])
def test_legends_take_the_columns_that_their_width_has(width: float, columns: int) -> None:
    figure, (axes,) = panels(1, 1, 1.0, width=width)
    place_legend(figure, [axes.plot([0], [0], label="_hidden")[0] for _ in range(7)])
    (legend,) = figure.legends
    assert (legend._ncols, legend._outside_loc) == (columns, "lower")
    assert [text.get_text() for text in legend.get_texts()] == [" _hidden"] * 7


EDITS = Edits(
    space=CategoricalSpace({"cut": ["fair", "good"], "colour": 3, "n" * 50: 2}),
    start=torch.tensor([[0, 0, 0], [0, 0, 0]]),
    codes=torch.tensor([[1, 2, 1], [0, 1, 0]]),
    before=torch.tensor([1.0, 1.0]),
    after=torch.tensor([3.0, 2.0]),
    alone=torch.tensor([[0.5, 1.0, 0.25], [0.0, 1.0, 0.0]]),
    back=torch.tensor([[0.75, -0.5, 1.5], [0.0, 2.0, 0.0]]),
    pruned=torch.tensor([[1, 0, 1], [0, 1, 0]]),
    kept=torch.tensor([3.5, 2.0]),
    evaluations=torch.tensor([40, 30]),
    history=(torch.tensor([[1.0, 1.0], [9.0, 2.5]]), torch.tensor([[1.0, 1.0], [5.0, 2.0]])),
)


def test_pictures_of_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = watch_figures(monkeypatch)
    edit_history_plot(EDITS)
    edits_plot(EDITS)
    edits_plot(EDITS, 1)
    drawn = "\n".join(described(figure) for figure in figures)
    assert drawn == (FOLDER / "edits.txt").read_text()


def test_edits_of_more_than_twelve_rows_show_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = watch_figures(monkeypatch)
    edit_history_plot(EDITS.at(torch.tensor([0] * 12 + [1])))
    labels = [line.get_label() for line in figures[0].axes[0].lines]
    assert labels == [f" row {number}" for number in range(1, 13)]
    assert figures[0].axes[0].lines[8].get_color() == SERIES[1]


def test_the_settings_are_the_pages() -> None:
    import matplotlib

    with drawing():
        assert matplotlib.rcParams["text.color"] == INK
        assert matplotlib.rcParams["svg.fonttype"] == "none"
