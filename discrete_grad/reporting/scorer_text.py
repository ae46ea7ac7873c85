"""The scorer that a fit was given, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discrete_grad.reporting.wording import number, short

__all__ = ["scorer_columns", "scorer_sentences"]

_JUDGES = {
    "given": "The judge was given, too; which rows it learned from is not known.",
    "trained": "The judge learned from the table's scores, not from the scorer.",
    "none": "There is no judge: the table has no scores to train one by, and none was given.",
}
_WAYS = {
    "distilled": "through a student that learned the scorer's answers",
    "direct": "by LeaveOneOut, which needs no derivative",
}


def scorer_columns(report: Mapping[str, Any]) -> dict[str, str]:
    """Meaning of a report's columns where a scorer was given, by their headers.

    Example:
        >>> scorer_columns({"estimator": {"scorer": {"judge": "none"}}})["estimated"]
        'the answer of the scorer that was given'
        >>> scorer_columns({})
        {}
    """
    facts = (report.get("estimator") or {}).get("scorer")
    if facts is None:
        return {}
    said = {"estimated": "the answer of the scorer that was given", "±": "0 for a single scorer"}
    if facts["judge"] == "given":
        said["judge's"] = "by the judge that was given"
    return said


def scorer_sentences(facts: Mapping[str, Any]) -> list[str]:
    r"""Sentences on a scorer: how it is called and used, its calls, and its judge.

    Args:
        facts: the `scorer_facts` of a run.

    Example:
        >>> facts = {"name": "Model", "reference": None, "takes": "codes", "differentiable": True,
        ...          "judge": "none", "agreement": None, "rows": 60, "calls": {"generator": 9000}}
        >>> print(*scorer_sentences(facts), sep="\n")
        Scorer: Model, which takes codes; no estimator was trained.
        The generator was trained by its gradient.
        The scorer was asked about 9,000 rows: 9,000 for generator.
        There is no judge: the table has no scores to train one by, and none was given.
    """
    name = short(facts["reference"] or facts["name"], 60)
    calls: Mapping[str, int] = facts.get("calls", {})
    parts = ", ".join(f"{count:,} for {purpose}" for purpose, count in calls.items())
    asked = f"{sum(calls.values()):,} rows: {parts}" if calls else "no row"
    return [
        f"Scorer: {name}, which takes {facts['takes']}; no estimator was trained.",
        *_used(facts),
        f"The scorer was asked about {asked}.",
        *_agreement(facts),
        _JUDGES[facts["judge"]],
    ]


def _used(facts: Mapping[str, Any]) -> list[str]:
    if facts["differentiable"]:
        return ["The generator was trained by its gradient."]
    why = f"The scorer has no derivative in the row: {short(facts['why_not'], 300)}."
    if (found := facts.get("comparison")) is None:
        return [why]
    texts = {
        way: f"{number(found[way]['mean'])} ± {number(found[way]['error'], 2)} {_WAYS[way]}"
        for way in ("distilled", "direct")
    }
    return [
        why,
        "Two generators were trained with as many calls of the scorer at most. Mean score of "
        f"{found['direct']['rows']:,} rows drawn anew, in standard deviations of the scorer's "
        f"answers to the table, ± standard error: {texts['distilled']}; {texts['direct']}. The "
        f"generator is the one trained {_WAYS[found['chosen']]}.",
    ]


def _agreement(facts: Mapping[str, Any]) -> list[str]:
    if facts.get("agreement") is None:
        return []
    falls = "It falls where the score rises: is more better, and are the categories in its order?"
    return [
        f"Rank correlation of the scorer with the table's score: {number(facts['agreement'], 3)} "
        f"on {facts['rows']:,} rows, of which it may have learned.",
        *([falls] if facts["agreement"] < 0 else []),
    ]
