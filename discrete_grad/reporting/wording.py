"""A report's numbers as text: the verdict, the columns of its tables, the plain table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["columns", "contexts_text", "format_table", "number", "verdict"]

_HEADERS = {
    "observed": "observed",
    "estimated": "estimated",
    "estimated_std": "±",
    "judged": "judge's",
    "true": "true",
    "true_percentile": "true percentile",
    "entropy": "entropy",
    "distinct_share": "distinct",
    "nearest": "nearest",
    "soft_hard_gap": "soft - hard",
}
_SCORES = ("observed", "estimated", "estimated_std", "judged", "true")
_PLAIN = ("estimated", "judged", "true", "true_percentile", "distinct_share", "nearest")
_MAX_BLOCKS = 6
_MAX_NAME = 40
_NONE = "-"

Entry = Mapping[str, Any]


def format_table(report: Mapping[str, Any]) -> str:
    """The main table as plain text, averaged over the contexts, then one block for each of a few.

    Args:
        report: from `build_report`.

    Example:
        >>> entry = {"name": "random rows", "estimated": 1.5, "judged": 1.25, "kind": "samples"}
        >>> print(format_table({"score_name": "price", "average": [entry], "contexts": [{}]}))
        price        estimated  judge's
        random rows      1.500    1.250
    """
    contexts = report["contexts"]
    several = len(contexts) > 1
    title = f"average of {contexts_text(report)}" if several else report["score_name"]
    title += ", lower is better" if report.get("minimised") else ""
    blocks = [_block(title, report["average"])]
    if several and len(contexts) <= _MAX_BLOCKS:
        blocks += [_block(context["label"], context["entries"]) for context in contexts]
    return "\n\n".join(blocks)


def _block(title: str, entries: Sequence[Entry]) -> str:
    """Aligned lines: the names to the left, the numbers to the right."""
    headers, cells = columns(entries, _PLAIN)
    names = [short(name, _MAX_NAME) for name in (title, *(entry["name"] for entry in entries))]
    lines = [headers, *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = max(map(len, names))
    return "\n".join(
        "  ".join([name.ljust(left), *map(str.rjust, line, widths)])
        for name, line in zip(names, lines, strict=True)
    )


def columns(
    entries: Sequence[Entry], keys: Sequence[str] = tuple(_HEADERS)
) -> tuple[list[str], list[list[str]]]:
    """Headers and, for each entry, its cells; a column that no entry knows is left out.

    Args:
        entries: of a report.
        keys: the columns wanted; by default all.

    Example:
        >>> columns([{"name": "a", "true": 2.0, "distinct_share": None}])
        (['true'], [['2.000']])
    """
    digits = decimals([entry.get(key) for entry in entries for key in _SCORES])
    texts = {key: [_cell(entry, key, digits) for entry in entries] for key in keys}
    known = [key for key in keys if any(text != _NONE for text in texts[key])]
    cells = [[texts[key][i] for key in known] for i in range(len(entries))]
    return [_HEADERS[key] for key in known], cells


def _cell(entry: Entry, key: str, digits: int) -> str:
    if key == "nearest":
        return _nearest(entry)
    value = entry.get(key)
    if value is None:
        return _NONE
    if key == "true_percentile":
        return percent(value, 2)
    if key == "distinct_share":
        return percent(value, 1)
    return fixed(value, digits if key in _SCORES else 2)


def _nearest(entry: Entry) -> str:
    """The mean, and of samples also the least: `2.31 (1)`."""
    mean, least = entry.get("nearest_mean"), entry.get("nearest_min")
    if mean is None or least is None:
        return _NONE
    text = f"{mean:.2f}".rstrip("0").rstrip(".")
    return f"{text} ({least:.0f})" if entry["kind"] == "samples" else text


def sign(part: Mapping[str, Any]) -> int:
    """Factor of a report's, or a part's, scores under which more is better: -1 if minimised."""
    # reports written before scores could be minimised do not say so
    return -1 if part.get("minimised") else 1


def decimals(values: Sequence[float | None], digits: int = 4) -> int:
    """Decimal places that show the largest of some numbers with so many significant digits."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    places = digits - 1 - math.floor(math.log10(largest)) if largest else digits - 1
    return min(max(places, 0), 6)


def fixed(value: float | None, digits: int) -> str:
    """A number with some decimal places; a huge one with an exponent."""
    if value is None:
        return _NONE
    text = f"{value:,.{digits}f}" if abs(value) < 1e9 else f"{value:.3g}"
    return text if text.strip("-0.,") else text.lstrip("-")


def number(value: float | None, digits: int = 4) -> str:
    """A number with a few significant digits; none is cut off before the point.

    Example:
        >>> number(1234567.0), number(3.14159), number(None)
        ('1,234,567', '3.142', '-')
    """
    return fixed(value, decimals([value], digits))


def percent(share: float, digits: int) -> str:
    """A share as a percentage that is 100 % only for exactly 1, and 0 % only for exactly 0."""
    step = 10.0**-digits
    value = 100 * share
    if 0 < share < 1:
        value = min(max(value, step), 100 - step)
    return f"{value:.{digits}f}%"


def short(text: object, limit: int = 36) -> str:
    """A user's text on one line and not too long; what is cut out lies past its middle."""
    line = " ".join(str(text).split())
    end = limit // 3
    return line if len(line) <= limit else f"{line[: limit - 1 - end]}…{line[-end:]}"


def contexts_text(report: Mapping[str, Any]) -> str:
    """`3 contexts`, or `200 of 4,037 contexts` where not all are shown."""
    shown = len(report["contexts"])
    count = report.get("contexts_in_table", shown)
    if count > shown:
        return f"{shown:,} of {count:,} contexts"
    return f"{shown:,} context{'' if shown == 1 else 's'}"


def standing(percentile: float) -> str:
    """A percentile as a share at the nearer end: .986 -> `top 1.4%`, .2 -> `bottom 20%`."""
    share = float(f"{100 * min(percentile, 1 - percentile):.2g}")
    digits = 1 - math.floor(math.log10(share)) if share else 0
    return f"{'top' if percentile >= 0.5 else 'bottom'} {share:.{max(digits, 0)}f}%"


def verdict(report: Mapping[str, Any]) -> list[str]:
    """Verdict on the report's last policy, in a few plain sentences.

    Args:
        report: from `build_report`.

    Example:
        >>> rows = [
        ...     {"name": "best training row", "true_percentile": 0.8, "true": 1.0},
        ...     {"name": "generator, most likely row", "true_percentile": 0.986, "true": 2.0,
        ...      "estimated": 2.5, "judged": 2.25},
        ... ]
        >>> report = {"policies": ["generator"], "average": rows, "contexts": [{"entries": rows}],
        ...           "has_truth": True}
        >>> verdict(report)[0]
        "The generator's most likely row is in the true top 1.4%; best training row: top 20%."
    """
    policy = report["policies"][-1]
    row = _find(report["average"], f"{policy}, most likely row")
    unknown = _NO_TRUTH if has_judge(report) else _NO_JUDGE
    return [
        _comparison(report, policy, row),
        *_optimism(row, measure_of(report)),
        *_wins(report, policy, measure_of(report)),
        *_variety(report, _find(report["average"], f"{policy}, samples")),
        *([] if report["has_truth"] else [unknown]),
    ]


_NO_TRUTH = (
    "The truth is not known: the judge learned from other rows than the estimator, but it may err."
)

_NO_JUDGE = "There is no judge and the truth is not known: all scores are those of the scorer."


def has_judge(report: Mapping[str, Any]) -> bool:
    """Whether a report knows a judge's scores; reports of earlier versions all do."""
    return bool(report.get("has_judge", True))


def measure_of(report: Mapping[str, Any]) -> str:
    """The score by which rows are compared."""
    if report["has_truth"]:
        return "true"
    return "judged" if has_judge(report) else "estimated"


def _comparison(report: Mapping[str, Any], policy: str, row: Entry) -> str:
    """The row beside the best training row and the other policies' rows."""
    others = {"best training row": _find(report["average"], "best training row")}
    for name in report["policies"][:-1]:
        others[name] = _find(report["average"], f"{name}, most likely row")
    contexts = len(report["contexts"])
    average = f" (average over {contexts_text(report)})" if contexts > 1 else ""
    if report["has_truth"] and row.get("true_percentile") is not None:
        said = f"is in the true {standing(row['true_percentile'])}"
        rest = {n: e.get("true_percentile") for n, e in others.items()}
        texts = [f"{name}: {standing(value)}" for name, value in rest.items() if value is not None]
    else:
        key = "judged" if has_judge(report) else "estimated"
        whose = "a judge's score" if has_judge(report) else "a score"
        said = f"has {whose} of {number(row.get(key))}"
        rest = {n: e.get(key) for n, e in others.items()}
        texts = [f"{name}: {number(value)}" for name, value in rest.items() if value is not None]
    return f"The {policy}'s most likely row {said}{average}; {', '.join(texts)}."


def _optimism(row: Entry, measure: str) -> list[str]:
    """Error of the estimator."""
    estimated, judged, reference = row.get("estimated"), row.get("judged"), row.get(measure)
    if estimated is None or judged is None or reference is None:
        return []
    scores = f"{number(estimated)} by the estimator, {number(judged)} by the judge"
    truly = f" and {number(reference)} in truth" if measure == "true" else ""
    high = "too high" if measure == "true" else "above the judge"
    low = "too low" if measure == "true" else "below the judge"
    level = "exactly right" if measure == "true" else "level with the judge"
    gap = estimated - reference
    off = f"{number(abs(gap), 2)} {high if gap > 0 else low}" if gap else level
    return [f"It scores {scores}{truly}: the estimator is {off}."]


def _wins(report: Mapping[str, Any], policy: str, measure: str) -> list[str]:
    """In how many contexts the row beats the best training row."""
    pairs = [
        (
            _find(context["entries"], f"{policy}, most likely row").get(measure),
            _find(context["entries"], "best training row").get(measure),
        )
        for context in report["contexts"]
    ]
    known = [(mine, best) for mine, best in pairs if mine is not None and best is not None]
    if len(known) < 2:
        return []
    wins = sum(sign(report) * (mine - best) > 0 for mine, best in known)
    how = {"true": "truly better", "judged": "better for the judge"}.get(measure, "better")
    return [f"It is {how} than the context's best training row in {wins} of {len(known)} contexts."]


def _variety(report: Mapping[str, Any], samples: Entry) -> list[str]:
    """Number of different rows among the samples, and their distance from the training rows."""
    share, nearest = samples.get("distinct_share"), samples.get("nearest_mean")
    if share is None or nearest is None:
        return []
    count = report["samples"]
    different, features = share * count, len(report["features"])
    rows = f"{different:.3g} different rows" if different > 1 else "one and the same row"
    where = " in each context" if len(report["contexts"]) > 1 else ""
    held = f"Its {count:,} samples hold {rows}{where}; they differ"
    return [
        f"{'Its one sample differs' if count == 1 else held} from the most similar training row "
        f"in {nearest:.3g} of {features:,} {'feature' if features == 1 else 'features'} on average."
    ]


def _find(entries: Sequence[Entry], name: str) -> Entry:
    return next((entry for entry in entries if entry["name"] == name), {})
