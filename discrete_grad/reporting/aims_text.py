"""The part of a page on several aims: sentences, a table and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from discrete_grad.reporting._grid import grid
from discrete_grad.reporting.aims_plot import asked_plot, front_plot, reliability_plot
from discrete_grad.reporting.wording import number, percent, short

__all__ = ["aims_html", "aims_sentences"]

_CORNER = 1 - 1e-6

Report = Mapping[str, Any]


def aims_sentences(report: Report) -> list[str]:
    """The aims, how well the trade-off that is asked for is kept, and how reliable chances are.

    Args:
        report: from `build_report`; nothing is said for one score.

    Example:
        >>> aims_sentences({"aims": {"words": ["yield:max", "cost:min"], "reliability": []}})
        ['Aims: yield:max, cost:min.']
    """
    part = report.get("aims")
    if not part:
        return []
    said = [f"Aims: {', '.join(short(text) for text in part['words'])}."]
    if "asked" in part:
        asked = part["asked"]
        said += [
            "One generator serves every trade-off. The sections on policies, scores and models are "
            f"about {short(part['traded'][0])} alone, with the whole weight on it.",
            f"Asked at {len(asked['weights'][0])} trade-offs, its likeliest rows are "
            f"{asked['different_rows']} different ones. By the estimators a row is worth "
            f"{number(asked['missed'], 2)} less to the trade-off it was asked by than the best row "
            "of the front, on average: the worst observed row is worth 0 and the best one 1.",
        ]
    return said + [_reliable(chance) for chance in part["reliability"]]


def _reliable(chance: Mapping[str, Any]) -> str:
    return (
        f"{short(chance['name'])}: on {chance['rows']:,} rows not seen in training the probability "
        f"is off by {percent(chance['error'], 1)} on average; its squared error is "
        f"{number(chance['brier'], 2)}, that of the constant share "
        f"{number(chance['base_brier'], 2)}."
    )


def aims_html(report: Report) -> str:
    """Sentences, a table of the aims and their pictures.

    Args:
        report: from `build_report`, with `aims`.
    """
    part = report["aims"]
    content = "".join(f"<p>{escape(text)}</p>" for text in aims_sentences(report))
    content += _table(part)
    plots = [front_plot(part), asked_plot(part)] if "asked" in part else []
    plots += [reliability_plot(part["reliability"])] if part["reliability"] else []
    return content + "".join(f"<figure>{plot}</figure>" for plot in plots)


def _table(part: Mapping[str, Any]) -> str:
    """One line for each aim: how well it is known, and what no weight and all of it give."""
    headers = ["", "rank correlation", "of single columns"]
    asked = part.get("asked")
    if asked:
        headers += ["weight and worth", "estimated at 0", "at 1", "judge's at 0", "at 1"]
    lines = []
    for place, (words, one) in enumerate(zip(part["words"], part["parts"], strict=True)):
        cells = [number(one["spearman"], 2), number(one["baseline"], 2)]
        if asked and place < len(part["traded"]):
            cells.append(number(asked["agreement"][place], 2))
            for kind in ("estimated", "judged"):
                cells += _ends(asked["weights"][place], asked[kind][place])
        elif asked:
            cells += ["-"] * 5
        lines.append((words, cells, False))
    return grid(headers, lines)


def _ends(weights: Sequence[float], values: Sequence[float]) -> list[str]:
    """Mean value without any weight, and value with all of it."""
    none = [v for w, v in zip(weights, values, strict=True) if w <= 1 - _CORNER]
    whole = [v for w, v in zip(weights, values, strict=True) if w >= _CORNER]
    return [number(sum(part) / len(part), 3) for part in (none, whole)]
