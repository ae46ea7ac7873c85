"""Part of the page on perturbed contexts: a text, a table and a few plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from discrete_grad.reporting._grid import grid, note
from discrete_grad.reporting.wording import decimals, fixed, number, percent, short, sign

__all__ = ["robustness_sentences", "robustness_table", "robustness_text"]

_MAX_ALONE = 12
_NOTABLE = 0.1  # of the largest entropy
_UNIFORM = 0.9
_HEADERS = (
    "",
    "most likely row",
    "change",
    "samples",
    "change",
    "another row",
    "entropy",
)

Part = Mapping[str, Any]


def robustness_text(part: Part) -> str:
    """Description of the measurement.

    Args:
        part: `robustness` of a report.
    """
    count = part["contexts"]
    over = f"means over {count} contexts" if count > 1 else "in the one context"
    how = "true" if part["measure"] == "true" else "judge's"
    return (
        f"The {short(part['policy'])} gives rows for a perturbed context. The table shows their "
        f"{how} scores in the context itself: {over}, of {_count(part['draws'], 'perturbation')} "
        f"of each and {_count(part['samples'], 'sample')} there, with 95% intervals of the "
        "changes. Noise and distances from the range are in standard deviations of the training "
        "rows' contexts. Another row: how often the most likely row changes."
    )


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def robustness_table(part: Part) -> str:
    """The context itself, all columns together, then the columns alone, the worst first.

    Args:
        part: `robustness` of a report.
    """
    perturbed = part["perturbed"]
    kinds = {(entry["kind"], entry["size"]): entry for entry in reversed(perturbed)}
    together = [entry for entry in perturbed if kinds[entry["kind"], entry["size"]] is entry]
    alone = [entry for entry in perturbed if not any(entry is other for other in together)]
    alone.sort(key=lambda entry: sign(part) * (_mean(entry["row_change"]) or 0.0))
    entries = [part["clean"], *together, *alone[:_MAX_ALONE]]
    digits = decimals([_mean(entry[key]) for entry in entries for key in ("row", "samples")], 3)
    lines = [
        (_label(entry) if "kind" in entry else "the context itself", _cells(entry, digits), False)
        for entry in entries
    ]
    return grid(_HEADERS, lines) + note(len(alone), _MAX_ALONE, "columns alone")


def _mean(interval: Sequence[float] | None) -> float | None:
    return interval[0] if interval else None


def _label(entry: Part) -> str:
    columns, size, kind = entry["columns"], entry["size"], entry["kind"]
    sort = "categorical" if kind == "replaced" else "numeric"
    what = short(columns[0], 24) if len(columns) == 1 else f"all {sort} columns"
    if kind == "noise":
        return f"{what}: noise {size:g}"
    if kind == "replaced":
        return f"{what}: {percent(size, 0)} replaced"
    return f"{what}: {size:g} {kind} the range"


def _cells(entry: Part, digits: int) -> list[str]:
    changes = ["-", "-"]
    if "kind" in entry:
        changes = [_change(entry[key], digits) for key in ("row_change", "samples_change")]
    changed = percent(entry["changed"][0], 0) if entry["changed"] and "kind" in entry else "-"
    row, samples = (fixed(_mean(entry[key]), digits) for key in ("row", "samples"))
    return [row, changes[0], samples, changes[1], changed, fixed(_mean(entry["entropy"]), 2)]


def _change(interval: Sequence[float | None] | None, digits: int) -> str:
    """`-0.12 (-0.20 to -0.04)`."""
    if not interval:
        return "-"
    mean, low, high = (fixed(value, digits) for value in interval)
    return mean if interval[1] is None else f"{mean} ({low} to {high})"


def robustness_sentences(part: Part) -> list[str]:
    """Most important column, cost of larger noise, and behaviour beyond the range.

    Args:
        part: `robustness` of a report.
    """
    perturbed = part["perturbed"]
    return [
        *_cost_sentence(part, "noise", 0.3, "noise of 0.3 deviations on the numeric columns"),
        *_cost_sentence(part, "replaced", 1.0, "another category in every categorical column"),
        *_important_sentence(part),
        *_beyond_sentence(part),
        *_finite_sentence(part["policy"], perturbed),
    ]


def _found(part: Part, kind: str, size: float) -> Part | None:
    """The first of a kind and size: that of all columns together."""
    matching = (e for e in part["perturbed"] if (e["kind"], e["size"]) == (kind, size))
    return next(matching, None)


def _cost_sentence(part: Part, kind: str, size: float, what: str) -> list[str]:
    entry = _found(part, kind, size)
    if entry is None or entry["row_change"] is None:
        return []
    changed, worth = entry["changed"][0], number(_mean(part["clean"]["row"]))
    if not changed:
        return [f"With {what} the most likely row stays the same everywhere."]
    how = "true" if part["measure"] == "true" else "judge's"
    return [
        f"With {what} the most likely row changes in {percent(changed, 0)} of the cases, and its "
        f"{how} score, {worth}, by {_with_interval(entry['row_change'])}."
    ]


def _with_interval(change: Sequence[float | None]) -> str:
    mean, low, high = change
    digits = decimals(change, 3)
    interval = f" (95% interval {fixed(low, digits)} to {fixed(high, digits)})"
    return fixed(mean, digits) + ("" if low is None else interval)


def _important_sentence(part: Part) -> list[str]:
    found = part["most_important"]
    if found is None:
        return []
    # the end of the interval at which the perturbation costs least
    end = found["change"][2 if sign(part) > 0 else 1]
    if end is None or sign(part) * end >= 0:
        return ["No column perturbed alone certainly costs the most likely row any of its worth."]
    return [
        f"The column that matters most is {short(found['column'])}: perturbed alone, it changes "
        f"the most likely row's worth by {_with_interval(found['change'])}."
    ]


def _beyond_sentence(part: Part) -> list[str]:
    """Whether the policy knows that it does not know."""
    sides = [(side, _found(part, side, 3.0)) for side in ("below", "above")]
    clean = _mean(part["clean"]["entropy"])
    texts = [
        _confidence(e["entropy"][0], clean, part["max_entropy"], side)
        for side, e in sides
        if e is not None and e["entropy"] is not None and clean is not None
    ]
    if not texts:
        return []
    return [
        "Numeric columns 3 deviations beyond the observed range: the policy is "
        f"{' and '.join(texts)}; its entropy in the contexts themselves is {fixed(clean, 2)} "
        f"nats, that of the uniform policy {fixed(part['max_entropy'], 2)}."
    ]


def _confidence(entropy: float, clean: float, most: float, side: str) -> str:
    where = f"{side} it ({fixed(entropy, 2)} nats)"
    if entropy >= _UNIFORM * most > clean:
        return f"nearly uniform {where}"
    if abs(entropy - clean) <= _NOTABLE * most:
        return f"about as sure as before {where}"
    return f"{'surer' if entropy < clean else 'less sure'} {where}"


def _finite_sentence(policy: str, perturbed: Sequence[Part]) -> list[str]:
    worst = min(perturbed, key=lambda entry: float(entry["finite"]))
    if worst["finite"] == 1:
        return []
    share = percent(1 - worst["finite"], 0)
    return [
        f"The {short(policy)} gives numbers that are not finite in up to {share} of the perturbed "
        f"contexts ({_label(worst)}); they take part in nothing above."
    ]
