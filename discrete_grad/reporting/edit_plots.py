"""Plots of edits: the way to them, and what each is worth."""

from __future__ import annotations

from discrete_grad.models import Edits
from discrete_grad.reporting._svg import INK, SERIES, drawing, panels, place_legend, to_svg
from discrete_grad.reporting.wording import short

__all__ = ["edit_history_plot", "edits_plot"]

_MOST = 12  # rows that are shown


def edit_history_plot(edits: Edits) -> str:
    """Worth minus price of the best row so far of each start, against evaluations; as SVG.

    Needs matplotlib, the extra `plots`.

    Example:
        >>> import torch
        >>> from discrete_grad import CategoricalSpace, edit
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> found = edit(lambda row: row[:, 4], torch.tensor([[0, 0]]), space=space)
        >>> edit_history_plot(found)[:4]
        '<svg'
    """
    with drawing():
        figure, (axes,) = panels(1, 1, 3.0)
        for number, steps in enumerate(edits.history[:_MOST]):
            end = float(edits.evaluations[number])
            x, y = [*steps[:, 0].tolist(), end], [*steps[:, 1].tolist(), float(steps[-1, 1])]
            color = SERIES[number % len(SERIES)]
            style = {"drawstyle": "steps-post", "color": color, "lw": 1.5}
            axes.plot(x, y, label=f"row {number + 1}", **style)
        axes.set(xlabel="evaluations of the model", ylabel="worth less price")
        place_legend(figure, axes.lines)
        return to_svg(figure)


def edits_plot(edits: Edits, row: int = 0) -> str:
    """Worth that each change of a row gains alone, and that is lost without it; as SVG.

    A change that can be taken back at no loss is marked. Needs matplotlib, the extra `plots`.

    Args:
        edits: from `edit`.
        row: place of the row.

    Example:
        >>> import torch
        >>> from discrete_grad import CategoricalSpace, edit
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> found = edit(lambda row: row[:, 4], torch.tensor([[0, 0]]), space=space)
        >>> edits_plot(found)[:4]
        '<svg'
    """
    places = edits.changed[row].nonzero().squeeze(1).tolist()
    needed = edits.needed[row].tolist()
    words = [
        short(text, 40) + ("" if needed[place] else " (not needed)")
        for text, place in zip(edits.words(row), places, strict=True)
    ]
    with drawing():
        figure, (axes,) = panels(1, 1, 0.8 + 0.3 * len(places))
        sides = {"gained alone": edits.alone, "lost without it": edits.back}
        for number, (label, worth) in enumerate(sides.items()):
            heights = [float(worth[row, place]) for place in places]
            y = [i + 0.36 * (number - 0.5) for i in range(len(places))]
            axes.barh(y, heights, 0.34, color=SERIES[1 + number], label=label)
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_yticks(range(len(places)), words)
        axes.invert_yaxis()
        axes.set_xlabel("worth")
        place_legend(figure, axes.containers)
        return to_svg(figure)
