"""The rules, and categories that were never seen together, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discrete_grad.reporting.wording import number, percent, short

__all__ = ["rules_sentences", "together_sentences"]

_MOST_RULES, _MOST_PAIRS = 12, 3

Report = Mapping[str, Any]


def rules_sentences(report: Report) -> list[str]:
    """The rules, how many rows they allow, and how much they change.

    Args:
        report: from `build_report`; nothing is said without rules.

    Example:
        >>> part = {"allowed": "3 of 4 rows allowed (0.75)", "in_contexts": False,
        ...         "words": ["never a=x & b=y"], "trained_by": "StraightThrough",
        ...         "forbidden": 0.25, "forbidden_most": 0.25}
        >>> for sentence in rules_sentences({"rules": part}):
        ...     print(sentence)
        Every generated row obeys 1 rule: 3 of 4 rows allowed (0.75).
        Rule: never a=x & b=y.
        Without it the generator would give rows that break it a probability of 25.0%.
        The generator was trained under the rules by StraightThrough.
    """
    part = report.get("rules")
    if not part:
        return []
    words, one = part["words"], len(part["words"]) == 1
    allowed = part["allowed"]
    if part["in_contexts"]:
        allowed = allowed.replace(" rows allowed", " pairs of context and row allowed")
    named = [f"Rule: {short(text, 300)}." for text in words[:_MOST_RULES]]
    more = len(words) - _MOST_RULES
    rest = [f"Further rules: {more:,}."] if more > 0 else []
    several = part["forbidden_most"] > part["forbidden"]
    most = f" on average, and at most {percent(part['forbidden_most'], 1)}" if several else ""
    return [
        f"Every generated row obeys {len(words):,} rule{'' if one else 's'}: {allowed}.",
        *named,
        *rest,
        f"Without {'it' if one else 'them'} the generator would give rows that break "
        f"{'it' if one else 'one'} a probability of {percent(part['forbidden'], 1)}{most}.",
        f"The generator was trained under the rules by {part['trained_by']}.",
    ]


def together_sentences(report: Report) -> list[str]:
    """Pairs of categories that no row of the table has, and columns for which a rule is proposed.

    Args:
        report: from `build_report`; nothing is said where it does not know.

    Example:
        >>> pair = {"columns": ["city", "country"], "seen": 40, "expected": 304.2, "further": 0.002}
        >>> part = {"pairs": 6, "rows": 256, "unseen": 0.5, "share": 0.4, "usual": 0.0,
        ...         "usual_share": 0.0, "sparse": [pair]}
        >>> for sentence in together_sentences({"together": part}):
        ...     print(sentence)
        40% of 256 generated rows have two categories that no row of the table has together; on average 0.50 of the 6 pairs in a row are new. Of the table's own rows, 0% have two that no other row has together.
        The table has 40 combinations of city and country; independent columns would have about 304. If no others are possible, keep generated rows to these with --observed "city,country" of fit or generate. About 0.20% of further rows would break this rule.
    """  # noqa: E501
    part = report.get("together")
    if not part:
        return []
    sparse = part["sparse"]
    more = len(sparse) - _MOST_PAIRS
    further = (
        "1 further pair of columns has" if more == 1 else f"{more:,} further pairs of columns have"
    )
    rest = [f"{further} as few combinations."] if more > 0 else []
    return [
        f"{percent(part['share'], 0)} of {part['rows']:,} generated rows have two categories that "
        f"no row of the table has together; on average {part['unseen']:.2f} of the "
        f"{part['pairs']:,} pairs in a row are new. Of the table's own rows, "
        f"{percent(part['usual_share'], 0)} have two that no other row has together.",
        *(_pair(pair) for pair in sparse[:_MOST_PAIRS]),
        *rest,
    ]


def _pair(pair: Report) -> str:
    first, second = pair["columns"]
    return (
        f"The table has {pair['seen']:,} combinations of {short(first)} and {short(second)}; "
        f"independent columns would have about {number(pair['expected'], 3)}. If no others are "
        f'possible, keep generated rows to these with --observed "{first},{second}" of fit or '
        f"generate. About {percent(pair['further'], 2)} of further rows would break this rule."
    )
