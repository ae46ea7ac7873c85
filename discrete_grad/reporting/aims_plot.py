"""Pictures of several aims: the front, and what was asked for against what was got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from discrete_grad.reporting._svg import INK, SERIES, drawing, panels, place_legend, to_svg
from discrete_grad.reporting.wording import short

__all__ = ["asked_plot", "front_plot", "reliability_plot"]

_MAX_PANELS = 6

Part = Mapping[str, Any]


def front_plot(part: Part) -> str:
    """The rows of the front among training rows, as SVG: two aims a panel.

    Args:
        part: `aims` of a report, with `fronts`.

    Example:
        >>> rows = [[1.0, 2.0], [4.0, 3.0]]
        >>> front = {"label": "all rows", "estimated": rows, "judged": rows, "training": rows}
        >>> front_plot({"traded": ["yield", "cost"], "fronts": [front]}).startswith("<svg")
        True
    """
    names = part["traded"]
    pairs = list(combinations(range(len(names)), 2))
    shown = [(front, pair) for front in part["fronts"] for pair in pairs][:_MAX_PANELS]
    with drawing():
        figure, axes_list = panels(len(shown), 3 if len(shown) > 2 else 2, 2.6)
        for axes, (front, (x, y)) in zip(axes_list, shown, strict=True):
            axes.set_title(short(front["label"]))
            axes.set_xlabel(short(names[x]))
            axes.set_ylabel(short(names[y]))
            handles = [
                axes.plot(front[kind][x], front[kind][y], **style)[0]
                for kind, style in _STYLES.items()
            ]
        place_legend(figure, handles)
        return to_svg(figure)


_POINT: dict[str, Any] = {"ls": "none", "mew": 1.2, "mfc": "none"}
_STYLES: dict[str, dict[str, Any]] = {
    "training": {**_POINT, "marker": ".", "color": INK, "alpha": 0.3, "label": "training rows"},
    "judged": {**_POINT, "marker": "s", "color": SERIES[1], "ms": 5, "label": "front, judge's"},
    "estimated": {
        **_POINT,
        "marker": "o",
        "color": SERIES[0],
        "ms": 5,
        "label": "front, estimated",
    },
}


def asked_plot(part: Part) -> str:
    """What the generator's likeliest row is worth as the weight of each aim grows, as SVG.

    Args:
        part: `aims` of a report, with `asked`.

    Example:
        >>> asked = {"weights": [[0.0, 1.0]], "estimated": [[1.0, 2.0]], "judged": [[1.0, 2.0]]}
        >>> asked_plot({"traded": ["yield"], "asked": asked}).startswith("<svg")
        True
    """
    names, asked = part["traded"], part["asked"]
    with drawing():
        figure, axes_list = panels(len(names), 3, 2.1)
        for place, axes in enumerate(axes_list):
            axes.set_title(short(names[place]))
            axes.set_xlabel("weight asked for")
            handles = [
                axes.plot(asked["weights"][place], asked[kind][place], **_STYLES[kind])[0]
                for kind in ("judged", "estimated")
            ]
            for handle, label in zip(handles, ("judge's", "estimated"), strict=True):
                handle.set_label(label)
        place_legend(figure, handles)
        return to_svg(figure)


def reliability_plot(chances: Sequence[Part]) -> str:
    """Shares that came true against the probabilities said, on unseen rows, as SVG.

    Args:
        chances: `reliability` of the aims of a report.

    Example:
        >>> bins = [{"said": 0.2, "true": 0.25, "rows": 8}, {"said": 0.9, "true": 0.8, "rows": 8}]
        >>> reliability_plot([{"name": "feasible", "bins": bins}]).startswith("<svg")
        True
    """
    with drawing():
        figure, axes_list = panels(len(chances), 3, 2.1)
        for chance, axes in zip(chances, axes_list, strict=True):
            axes.set_title(short(chance["name"]))
            axes.set_xlabel("probability said")
            axes.set_ylabel("share that came true")
            axes.plot([0, 1], [0, 1], color=INK, ls="--", lw=1)
            said, true = ([one[kind] for one in chance["bins"]] for kind in ("said", "true"))
            axes.plot(said, true, marker="o", color=SERIES[0], ms=5, mfc="none")
        return to_svg(figure)
