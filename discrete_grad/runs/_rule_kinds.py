"""Each kind of rule, of the plain values of its table."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import partial

from discrete_grad.rules import (
    AtLeast,
    AtMost,
    Avoids,
    Budget,
    Contains,
    Exactly,
    Fix,
    Forbid,
    Imply,
    Length,
    Observed,
    OneOf,
    Rule,
    When,
    Within,
)
from discrete_grad.rules.prices import Price
from discrete_grad.runs._rule_names import Plain, RuleNames, as_list, as_table, as_whole

__all__ = ["KINDS", "READ"]


def _number(given: object) -> Fraction:
    """A number, or a fraction in a text: `"1/3"`."""
    if isinstance(given, int | Decimal | str) and not isinstance(given, bool):
        try:
            return Fraction(given)
        except (ValueError, OverflowError, InvalidOperation, ZeroDivisionError):
            pass
    raise ValueError(f"expected a finite number, got {given!r}")


def _sequence(given: Plain, names: RuleNames) -> list[str] | None:
    """The features of a sequence, None for all."""
    if "features" not in given:
        return None
    return [names.feature(name) for name in as_list(given["features"])]


def _budget(names: RuleNames, given: Plain) -> Rule:
    prices: dict[str, dict[str | int, Price]] = {
        names.feature(name): {
            one: _number(price)
            for wanted, price in as_table(some, f"prices of {name!r}").items()
            for one in names.some(name, wanted)
        }
        for name, some in as_table(given["prices"], "prices").items()
    }
    step = None if "resolution" not in given else _number(given["resolution"])
    return Budget(prices, _number(given["limit"]), resolution=step)


def _within(names: RuleNames, given: Plain) -> Rule:
    row = {name: names.one(name, some) for name, some in as_table(given["row"], "row").items()}
    prices = as_table(given.get("prices", {}), "prices")
    return Within(
        row,
        _number(given["edits"]),
        prices={names.feature(name): _number(price) for name, price in prices.items()},
    )


def _observed(names: RuleNames, given: Plain) -> Rule:
    features = [names.feature(name) for name in as_list(given["features"])]
    rows = [as_list(row) for row in as_list(given["rows"])]
    for row in rows:
        if len(row) != len(features):
            raise ValueError(f"expected rows of {len(features)} categories, got {row!r}")
    pairs = [[names.one(*pair) for pair in zip(features, row, strict=True)] for row in rows]
    return Observed(features, pairs)


def _length(names: RuleNames, given: Plain) -> Rule:
    features = _sequence(given, names)
    pad = names.anywhere(given["pad"], features)
    most = as_whole(given["most"]) if "most" in given else None
    return Length(pad, least=as_whole(given.get("least", 0)), most=most, features=features)


def _motif(kind: Callable[..., Rule], names: RuleNames, given: Plain) -> Rule:
    features = _sequence(given, names)
    text = given["motif"]
    positions = list(text) if isinstance(text, str) else as_list(text)
    choices = [one if isinstance(one, list) else [one] for one in positions]
    motif = [[names.anywhere(one, features) for one in some] for some in choices]
    return kind(motif, features=features)


def _count(kind: Callable[..., Rule], names: RuleNames, given: Plain) -> Rule:
    return kind(as_whole(given["count"]), names.cells(given["cells"], "cells"))


READ: dict[str, Callable[[RuleNames, Plain], Rule]] = {
    "Fix": lambda r, given: Fix(r.feature(given["feature"]), r.one(*_pair(given, "category"))),
    "OneOf": lambda r, given: OneOf(
        r.feature(given["feature"]), r.some(*_pair(given, "categories"))
    ),
    "Forbid": lambda r, given: Forbid(r.cells(given["together"], "together")),
    "Imply": lambda r, given: Imply(
        r.cells(given["condition"], "condition"), r.cells(given["consequence"], "consequence")
    ),
    "AtMost": partial(_count, AtMost),
    "AtLeast": partial(_count, AtLeast),
    "Exactly": partial(_count, Exactly),
    "Budget": _budget,
    "Within": _within,
    "Observed": _observed,
    "Length": _length,
    "Contains": partial(_motif, Contains),
    "Avoids": partial(_motif, Avoids),
}


def _pair(given: Plain, key: str) -> tuple[object, object]:
    return given["feature"], given[key]


KINDS: dict[str, type[Rule]] = {
    kind.__name__: kind
    for kind in (
        Fix,
        OneOf,
        Forbid,
        Imply,
        When,
        AtMost,
        AtLeast,
        Exactly,
        Budget,
        Within,
        Observed,
        Length,
        Contains,
        Avoids,
    )
}
"""The kinds of rules, by the heads of their tables, in the order in which they are written."""
