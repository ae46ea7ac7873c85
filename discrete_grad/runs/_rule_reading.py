"""Rules of plain values, as a TOML file holds them: one table a rule, its keys the arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from fractions import Fraction
from typing import Any

from discrete_grad.data import Schema, TableError, Vocabulary
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
from discrete_grad.training.checkpoint import RunError

__all__ = ["KINDS", "RuleReader", "nearest", "rule_columns"]

Plain = Mapping[str, Any]


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint at what was meant, to be put after a message.

    Example:
        >>> nearest("Forbd", ["Fix", "Forbid"]), nearest("x", ["Fix", "Forbid"])
        ("; did you mean 'Forbid'?", "; there are 'Fix', 'Forbid'")
    """
    lower = {one.lower(): one for one in known}
    if near := get_close_matches(word.lower(), lower, n=1):
        return f"; did you mean {lower[near[0]]!r}?"
    more = ", ..." if len(known) > 8 else ""
    return f"; there are {', '.join(map(repr, known[:8]))}{more}"


def rule_columns(schema: Schema) -> dict[str, Vocabulary]:
    """The columns that rules may speak of, by name: features, and categorical contexts."""
    columns = (*schema.features, *schema.context)
    return {column.name: column for column in columns if isinstance(column, Vocabulary)}


class RuleReader:
    """Reads rules whose features and categories are the columns of a table.

    Args:
        schema: of the table; rules may speak of its features and of categorical contexts.
        seen: names of features -> the rules that they stand together as in the table; "auto" for
            those that are found.

    Example:
        >>> schema = Schema((Vocabulary("cut", ("fair", "good")),), (), "score")
        >>> reader = RuleReader(schema, lambda names: [])
        >>> reader.rules("rules.toml", {"Fix": [{"feature": "cut", "category": "good"}]})
        [Fix('cut', 'good')]
    """

    def __init__(
        self, schema: Schema, seen: Callable[[Sequence[str] | str], Sequence[Rule]]
    ) -> None:
        self.seen, self.own = seen, [feature.name for feature in schema.features]
        self.columns = rule_columns(schema)
        self.numeric = {column.name for column in schema.context} - set(self.columns)
        self._labels = {name: frozenset(c.labels) for name, c in self.columns.items()}
        self._found: dict[tuple[str, str], tuple[str, ...]] = {}

    def rules(self, where: str, content: Plain) -> list[Rule]:
        """Rules of kinds -> tables.

        Args:
            where: what the messages name the file.
            content: name of a class of `discrete_grad.rules` -> a table of its arguments for each
                rule.

        Raises:
            RunError: for an unknown kind, key, feature or category, with the nearest one, or
                arguments that make no rule; it says in which rule.
        """
        return [
            rule
            for kind, number, given in _tables(where, content)
            for rule in self._read(f"{where}, {kind} {number}", kind, given)
        ]

    def _read(self, where: str, kind: str, given: Plain) -> Sequence[Rule]:
        _check_keys(where, kind, given)
        try:
            if kind == "When":
                inner = self.rules(where, _table(given["rules"], "rules"))
                return [When(self.cells(given["condition"], "condition"), inner)]
            if kind == "Observed" and "rows" not in given:
                return self.seen(self._features(given["features"]))
            return [_READ[kind](self, given)]
        except (TypeError, ValueError) as error:
            text = str(error)
            raise RunError(text if text.startswith(where) else f"{where}: {text}") from error

    def feature(self, name: object) -> str:
        """The name of a column, checked."""
        if name in self.numeric:
            raise ValueError(f"{name!r} is a context of numbers: rules speak of categories")
        if name not in self.columns:
            raise ValueError(f"no feature {name!r}{nearest(str(name), list(self.columns))}")
        return str(name)

    def some(self, name: object, wanted: object) -> list[str]:
        """Categories of a feature: of one value or of a list of them."""
        feature = self.feature(name)
        values = wanted if isinstance(wanted, list) else [wanted]
        if not values:
            raise ValueError(f"feature {feature!r}: expected at least one category, got none")
        return list(dict.fromkeys(one for v in values for one in self._matching(feature, v)))

    def one(self, name: object, wanted: object) -> str:
        """The only category of a feature that a value means."""
        found = self.some(name, wanted)
        if len(found) > 1:
            raise ValueError(f"expected one category of {name!r}, got {len(found)}: {found}")
        return found[0]

    def cells(self, given: object, key: str) -> dict[str, list[str]]:
        """Features, each with some categories."""
        return {name: self.some(name, wanted) for name, wanted in _table(given, key).items()}

    def _features(self, given: object) -> Sequence[str] | str:
        return "auto" if given == "auto" else [self.feature(name) for name in _list(given)]

    def _matching(self, feature: str, wanted: object) -> tuple[str, ...]:
        if isinstance(wanted, str) and wanted in self._labels[feature]:
            return (wanted,)
        if isinstance(wanted, Mapping | list):
            raise TypeError(f"feature {feature!r}: expected a category, got {wanted!r}")
        key = feature, repr(wanted)
        if key not in self._found:
            self._found[key] = self.columns[feature].matching(wanted)
        return self._found[key]

    def anywhere(self, wanted: object, features: Sequence[str] | None) -> str | int:
        """A category of a sequence, of the first feature that has it; or a code."""
        if isinstance(wanted, Mapping) and set(wanted) == {"code"}:
            return _whole(wanted["code"])
        names = self.own if features is None else features
        for name in names:
            try:
                return self.one(name, wanted)
            except TableError:
                continue
        return self.one(names[0], wanted)  # says what is wrong


def _tables(where: str, content: Plain) -> Iterator[tuple[str, int, Plain]]:
    """Kind, number and arguments of each rule."""
    for kind, given in content.items():
        if kind not in KINDS:
            raise RunError(f"{where}: no kind of rule {kind!r}{nearest(kind, list(KINDS))}")
        if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
            raise RunError(f"{where}: a rule is a table headed [[{kind}]], got {given!r}")
        for number, one in enumerate(given, 1):
            yield kind, number, one


def _check_keys(where: str, kind: str, given: Plain) -> None:
    parameters = inspect.signature(KINDS[kind]).parameters
    for key in given:
        if key not in parameters:
            raise RunError(f"{where}: {kind} has no {key!r}{nearest(key, list(parameters))}")
    for name, parameter in parameters.items():
        # the rows of Observed are the table's
        wanted = parameter.default is parameter.empty and (kind, name) != ("Observed", "rows")
        if wanted and name not in given:
            raise RunError(f"{where}: {name!r} is missing")


def _table(given: object, key: str) -> Plain:
    if not isinstance(given, Mapping):
        raise TypeError(f"{key} must be a table of features, got {given!r}")
    return given


def _list(given: object) -> list[Any]:
    if not isinstance(given, list):
        raise TypeError(f"expected a list, got {given!r}")
    return given


def _number(given: object) -> Fraction:
    """A number, or a fraction in a text: `"1/3"`."""
    if isinstance(given, int | Decimal | str) and not isinstance(given, bool):
        try:
            return Fraction(given)
        except (ValueError, OverflowError, InvalidOperation, ZeroDivisionError):
            pass
    raise ValueError(f"expected a finite number, got {given!r}")


def _whole(given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(f"expected a whole number, got {given!r}")
    return given


def _sequence(given: Plain, reader: RuleReader) -> list[str] | None:
    """The features of a sequence, None for all."""
    if "features" not in given:
        return None
    return [reader.feature(name) for name in _list(given["features"])]


def _budget(reader: RuleReader, given: Plain) -> Rule:
    prices: dict[str, dict[str | int, Price]] = {
        reader.feature(name): {
            one: _number(price)
            for wanted, price in _table(some, f"prices of {name!r}").items()
            for one in reader.some(name, wanted)
        }
        for name, some in _table(given["prices"], "prices").items()
    }
    step = None if "resolution" not in given else _number(given["resolution"])
    return Budget(prices, _number(given["limit"]), resolution=step)


def _within(reader: RuleReader, given: Plain) -> Rule:
    row = {name: reader.one(name, some) for name, some in _table(given["row"], "row").items()}
    prices = _table(given.get("prices", {}), "prices")
    return Within(
        row,
        _number(given["edits"]),
        prices={reader.feature(name): _number(price) for name, price in prices.items()},
    )


def _observed(reader: RuleReader, given: Plain) -> Rule:
    names = [reader.feature(name) for name in _list(given["features"])]
    rows = [_list(row) for row in _list(given["rows"])]
    for row in rows:
        if len(row) != len(names):
            raise ValueError(f"expected rows of {len(names)} categories, got {row!r}")
    pairs = [[reader.one(*pair) for pair in zip(names, row, strict=True)] for row in rows]
    return Observed(names, pairs)


def _length(reader: RuleReader, given: Plain) -> Rule:
    features = _sequence(given, reader)
    pad = reader.anywhere(given["pad"], features)
    most = _whole(given["most"]) if "most" in given else None
    return Length(pad, least=_whole(given.get("least", 0)), most=most, features=features)


def _motif(kind: Callable[..., Rule]) -> Callable[[RuleReader, Plain], Rule]:
    def read(reader: RuleReader, given: Plain) -> Rule:
        features = _sequence(given, reader)
        text = given["motif"]
        positions = list(text) if isinstance(text, str) else _list(text)
        choices = [one if isinstance(one, list) else [one] for one in positions]
        motif = [[reader.anywhere(one, features) for one in some] for some in choices]
        return kind(motif, features=features)

    return read


def _count(kind: Callable[..., Rule]) -> Callable[[RuleReader, Plain], Rule]:
    return lambda r, given: kind(_whole(given["count"]), r.cells(given["cells"], "cells"))


_READ: dict[str, Callable[[RuleReader, Plain], Rule]] = {
    "Fix": lambda r, given: Fix(r.feature(given["feature"]), r.one(*_pair(given, "category"))),
    "OneOf": lambda r, given: OneOf(
        r.feature(given["feature"]), r.some(*_pair(given, "categories"))
    ),
    "Forbid": lambda r, given: Forbid(r.cells(given["together"], "together")),
    "Imply": lambda r, given: Imply(
        r.cells(given["condition"], "condition"), r.cells(given["consequence"], "consequence")
    ),
    "AtMost": _count(AtMost),
    "AtLeast": _count(AtLeast),
    "Exactly": _count(Exactly),
    "Budget": _budget,
    "Within": _within,
    "Observed": _observed,
    "Length": _length,
    "Contains": _motif(Contains),
    "Avoids": _motif(Avoids),
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
