"""Figures of matplotlib as text: what is drawn where, and how it looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from discrete_grad.reporting import aims_plot, edit_plots, plots

_LOOK: tuple[str, ...] = ("color", "ls", "lw", "marker", "ms", "mfc", "mec", "mew")
_LOOK += ("alpha", "zorder", "clip_on", "drawstyle")
_COLOURS = ("color", "mfc", "mec")


def watch_figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list of the figures that would be turned into SVG from now on."""
    pytest.importorskip("matplotlib")
    seen: list[Any] = []

    def noted(figure: Any) -> str:
        seen.append(figure)
        return f"picture {len(seen)}"

    for module in (aims_plot, edit_plots, plots):
        monkeypatch.setattr(module, "to_svg", noted)
    return seen


def described(figure: Any) -> str:
    """Lines on a figure: its size, then each of its panels, then its legend."""
    width, height = figure.get_size_inches()
    lines = [f"figure {width:.4g} x {height:.4g}"]
    for axes in figure.axes:
        lines += _panel(axes, figure.axes[0])
    for legend in figure.legends:
        lines += [
            f"legend in {legend._ncols} columns: {[t.get_text() for t in legend.get_texts()]}"
        ]
        lines += [f"  {_drawn(handle)}" for handle in legend.legend_handles]
    return "\n".join(lines) + "\n"


def _panel(axes: Any, first: Any) -> Iterator[str]:
    yield f"panel {axes.get_title(loc='left')!r}: {axes.get_xlabel()!r}, {axes.get_ylabel()!r}"
    yield f"  limits {_numbers(axes.get_xlim())} and {_numbers(axes.get_ylim())}"
    grids = [
        any(g.get_visible() for g in axis.get_gridlines()) for axis in (axes.xaxis, axes.yaxis)
    ]
    yield f"  grid {grids}, box {axes.get_box_aspect()}{_ticks(axes.yaxis)}"
    if axes is not first and axes.get_shared_y_axes().joined(axes, first):
        yield "  the first panel's y axis"
    for artist in (*axes.lines, *axes.patches, *axes.collections):
        yield f"  {_drawn(artist)}"
    for text in axes.texts:
        place, size = _numbers((*text.xy, *text.get_position())), text.get_fontsize()
        at = f"{text.get_horizontalalignment()} {text.xycoords} {text.anncoords}"
        yield f"  {text.get_text()!r} at {place} {at} {size}"


def _ticks(axis: Any) -> str:
    """Labels that were written, not made."""
    if type(axis.get_major_locator()).__name__ != "FixedLocator":
        return ""
    return f", ticks {[label.get_text() for label in axis.get_ticklabels()]}"


def _drawn(artist: Any) -> str:
    label = artist.get_label()
    name = "" if label.startswith("_child") else f" {label!r}"
    if not hasattr(artist, "get_xydata"):
        color = tuple(artist.get_facecolor().ravel()) if _many(artist) else artist.get_facecolor()
        return f"area{name} {_corners(artist)} {_numbers(color)}"
    if hasattr(artist, "get_slope"):
        return f"line{name} by {artist.get_xy1()}, slope {artist.get_slope()}{_look(artist)}"
    points = " ".join(_numbers(point) for point in artist.get_xydata())
    return f"line{name} {points}{_look(artist)}"


def _look(line: Any) -> str:
    """Properties of a line that are not those of any line; of colours the page's alone."""
    from matplotlib.lines import Line2D

    plain, said = Line2D([], []), ""
    for name in _LOOK:
        value = getattr(line, f"get_{name}")()
        ours = name not in _COLOURS or str(value).startswith(("#0101", "none"))
        if ours and value != getattr(plain, f"get_{name}")():
            said += f" {name}={value}"
    return said


def _many(artist: Any) -> bool:
    return not hasattr(artist, "get_patch_transform")


def _corners(artist: Any) -> str:
    """Corners of an area in the coordinates that it was drawn in, and the width of its edge."""
    if _many(artist):
        return ""
    box = artist.get_path().transformed(artist.get_patch_transform()).get_extents()
    return f"{_numbers(box.min)} to {_numbers(box.max)}, lw={artist.get_linewidth():g}"


def _numbers(values: Iterable[float]) -> str:
    return f"({', '.join(f'{value:.4g}' for value in values)})"
