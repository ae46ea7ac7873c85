"""Sentences about single swaps and over-optimisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from discrete_grad.reporting.wording import number, percent, sign

__all__ = ["exploitation_sentences", "nearest_sentences", "rows_text", "swap_sentences"]

_ORDERS = ((0.9, "nearly the right order"), (0.6, "roughly the right order"))
_LOOSE, _HARDLY = (0.3, "loosely the right order"), "hardly a better order than chance"

Part = Mapping[str, Any]


def nearest_sentences(report: Part) -> list[str]:
    """Of how many training rows the nearest one is known, where these are not all.

    Args:
        report: from `build_report`.
    """
    part = report.get("nearest")
    if part is None or part["compared"] == part["different_rows"]:
        return []
    return [
        "Nearest: a row of the table is always recognised. Every other row is compared with a "
        f"random sample of {part['compared']:,} of the {part['different_rows']:,} different "
        "training rows; the most similar of all may be nearer."
    ]


def rows_text(part: Part) -> str:
    """`500`, or of a sample `500 of the 2,000`.

    Args:
        part: with `rows` and, in reports of this version, `of`.
    """
    rows, count = part["rows"], part.get("of", part["rows"])
    return f"{rows:,}" if rows == count else f"{rows:,} of the {count:,}"


def swap_sentences(swaps: Part) -> list[str]:
    """Quality of the gradient's prediction of single swaps, one sentence for each group of rows.

    Args:
        swaps: of a report.
    """
    return [_swap_sentence(name, agreement) for name, agreement in swaps["agreement"].items()]


def _swap_sentence(name: str, agreement: Part) -> str:
    rows = agreement["rows"]
    where = f"At {rows:,} {name}" if rows != 1 else f"At one of the {name}"
    if not rows:
        return f"At the {name} all single swaps have the same effect."
    mean, low, high = agreement["rank_correlation"]
    found = round(agreement["best_found"][0] * rows)
    interval = f", 95% interval {low:.2f} to {high:.2f}" if rows > 1 else ""
    gain = agreement["gain_share"]
    gains = f" and reaches {percent(gain[0], 0)} of the best gain" if gain else "; none gains"
    return (
        f"{where} the gradient puts the single swaps in {_order(mean)} (rank correlation "
        f"{mean:.2f}{interval}); the swap it calls best is the best one in {found:,} of {rows:,}"
        f"{gains}."
    )


def _order(correlation: float) -> str:
    for least, words in (*_ORDERS, _LOOSE):
        if correlation >= least:
            return words
    return _HARDLY


def exploitation_sentences(part: Part) -> list[str]:
    """Point at which the estimate and the truth part, and the bend of the fitted curves.

    Args:
        part: `exploitation` of a report.
    """
    return [
        _parting_sentence(part),
        *_best_sentences(part),
        *_fit_sentence(part),
        *_left_out(part["left_out"], part["reference_name"]),
    ]


def _parting_sentence(part: Part) -> str:
    truth, gain = ("truth", "true") if part["measure"] == "true" else ("judge", "judge's")
    share, point = percent(part["tolerance"], 0), part["parting"]
    over = f"gain over the {part['reference_name']}"
    if point is None:
        return (
            f"Estimate and {truth} agree: as far as the samples show, the {gain} {over} is at most "
            f"{share} below the estimated gain at the end of training."
        )
    gained, believed = (
        number(sign(part) * (point["samples"][name] - part["reference"]["samples"][name]), 3)
        for name in (part["measure"], "estimated")
    )
    return (
        f"Estimate and {truth} differ from step {point['step']:,} on, "
        f"{number(point['kl'], 2)} nats from the {part['reference_name']}: the {gain} {over} is "
        f"more than {share} below the estimated gain. At that step it is {gained} instead of "
        f"{believed}."
    )


def _best_sentences(part: Part) -> list[str]:
    """Step at which the true score was best, of the samples and of the most likely row."""
    score = "true" if part["measure"] == "true" else "judge's"
    best = "highest" if sign(part) > 0 else "lowest"
    return [
        f"The {score} score of the {name} is {best} {_course(part, key)}."
        for key, name in (("samples", "samples"), ("row", "most likely row"))
        if part["best"][key] is not None
    ]


def _course(part: Part, key: str) -> str:
    best, last = part["best"][key], part["points"][-1]
    top, end = best[key][part["measure"]], last[key][part["measure"]]
    if top == end:
        return f"at the end of training, {number(top)}"
    return f"at step {best['step']:,}, {number(top)}, and {number(end)} at the end of training"


def _fit_sentence(part: Part) -> list[str]:
    texts = []
    for name, fit in part["fits"].items():
        if fit is not None:
            a, b = (_with_interval(fit[key]) for key in ("a", "b"))
            texts.append(f"{name}: a = {a}, b = {b}")
    if not texts:
        return []
    return [
        "Dashed: gain over the reference = d (a - b log d), d = sqrt(KL), fitted by least squares "
        f"(in brackets 95% intervals): {'; '.join(texts)}."
    ]


def _with_interval(values: Sequence[float]) -> str:
    mean, low, high = (number(value, 2) for value in values)
    return f"{mean} ({low} to {high})"


def _left_out(steps: Sequence[int], name: str) -> list[str]:
    if not steps:
        return []
    listed = ", ".join(f"{step:,}" for step in steps[:6]) + (", ..." if len(steps) > 6 else "")
    return [
        f"Left out: the generator draws at step {listed} what the {name} forbids, so that its "
        "distance is infinite."
    ]
