"""The functional that is maximised, and the estimator's recipe, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discrete_grad.reporting.scorer_text import scorer_sentences
from discrete_grad.reporting.wording import short, sign

__all__ = ["beyond_sentences", "estimator_sentences", "maximised_sentences"]

_MEANING = {
    "rank": "a row that is good every time comes before a gamble with a better mean",
    "mean": "a gamble with a better mean comes before a row that is good every time",
    "median": "half of a row's scores lie above it, and a few huge ones do not move it",
}
_MEASURE = {"rank": "mean rank", "mean": "mean", "median": "median"}

Report = Mapping[str, Any]


def maximised_sentences(report: Report) -> list[str]:
    """One sentence on the statistic of a row's scores that generated rows maximise or minimise.

    Args:
        report: from `build_report`; nothing is said where it does not know.

    Example:
        >>> maximised_sentences({"score_name": "price", "estimator": {"maximises": "rank"}})[0][:52]
        "Generated rows maximise the mean rank of 'price': a "
    """
    part = report.get("estimator")
    if not part:
        return []
    if "scorer" in part:
        verb = "large" if sign(report) > 0 else "small"
        return [f"Generated rows make the answer of the scorer as {verb} as possible."]
    name, verb = part["maximises"], "maximise" if sign(report) > 0 else "minimise"
    score = f"'{short(report['score_name'], 60)}'"
    return [f"Generated rows {verb} the {_MEASURE[name]} of {score}: {_MEANING[name]}."]


def beyond_sentences(report: Report) -> list[str]:
    """Share of the policies' rows that are estimated beyond the best observed score.

    Args:
        report: from `build_report`.

    Example:
        >>> entries = [{"kind": "row", "beyond_observed": 1.0}]
        >>> beyond_sentences({"contexts": [{"entries": entries}]})[0][:60]
        '1 of the 1 rows shown has an estimate beyond the best observ'
    """
    shown = [
        entry
        for context in report["contexts"]
        for entry in context["entries"]
        if entry.get("kind") == "row" and entry.get("beyond_observed") is not None
    ]
    count = sum(entry["beyond_observed"] > 0 for entry in shown)
    if not count:
        return []
    best = "highest" if sign(report) > 0 else "lowest"
    have = "has an estimate" if count == 1 else "have estimates"
    return [
        f"{count:,} of the {len(shown):,} rows shown {have} "
        f"beyond the best observed score. Nothing is known there, so the {best} observed score is "
        "given instead."
    ]


def estimator_sentences(report: Report) -> list[str]:
    """Quality of the estimator on held-out rows, and its recipe; a few short lines.

    Args:
        report: from `build_report`; nothing is said where it does not know.

    Example:
        >>> part = {
        ...     "rows": 960, "held_out": {"rows": 480, "spearman": 0.71, "baseline": 0.55},
        ...     "settings": {"batch_size": 64, "steps": 2000, "weight_decay": 0.3,
        ...                  "hidden": [64, 64], "members": 4},
        ...     "families": {"networks": 0.9, "kernel": 0.0}, "still_improving": True,
        ... }
        >>> for sentence in estimator_sentences({"estimator": part})[2:]:
        ...     print(sentence)
        Families by weight: networks .90; left out: kernel.
        Still improving at the last step: more steps may help.
    """
    part = report.get("estimator")
    if not part:
        return []
    if "scorer" in part:
        ranges = _ranges(part.get("numeric_contexts") or {})
        return [*scorer_sentences(part["scorer"]), *ranges]
    improving = ["Still improving at the last step: more steps may help."]
    return [
        *_held_out(part.get("held_out") or {}),
        _settings(part),
        _families(part["families"]),
        *(improving if part["still_improving"] else []),
        *_ranges(part.get("numeric_contexts") or {}),
    ]


def _held_out(part: Report) -> list[str]:
    if part.get("spearman") is None:
        return []
    baseline = part.get("baseline")
    beside = (
        ""
        if baseline is None
        else f"; of a model that only adds effects of single columns {_share(baseline)}"
    )
    rows = f"{part['rows']:,} held-out rows"
    found = _share(part["spearman"])
    return [f"Estimator: rank correlation with the score {found} on {rows}{beside}."]


def _settings(part: Report) -> str:
    made = part["settings"]
    decay = f"{made['weight_decay']:.2g}".replace("0.", ".", 1)
    layers = ", ".join(f"{width:,}" for width in made["hidden"])
    members = f"{made['members']} member{'' if made['members'] == 1 else 's'}"
    return (
        f"Trained on {part['rows']:,} rows: {members}, batches of {made['batch_size']:,}, at most "
        f"{made['steps']:,} steps, weight decay {decay}, layers of {layers}."
    )


def _families(weights: Mapping[str, float]) -> str:
    used = ", ".join(f"{name} {_share(weight, 2)}" for name, weight in weights.items() if weight)
    unused = ", ".join(name for name, weight in weights.items() if not weight)
    return f"Families by weight: {used or 'none'}{f'; left out: {unused}' if unused else ''}."


def _ranges(trained: Mapping[str, tuple[float, float]]) -> list[str]:
    if not trained:
        return []
    ranges = "; ".join(
        f"{short(name)} from {low:.5g} to {high:.5g}" for name, (low, high) in trained.items()
    )
    return [f"Numeric contexts of the training rows: {ranges}; far outside, estimates are guesses."]


def _share(value: float, digits: int = 3) -> str:
    """Decimals without the leading zero: .571, -.030, 1.000."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text
