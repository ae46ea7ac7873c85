"""Rules as TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from discrete_grad.data import Schema
from discrete_grad.rules import (
    Avoids,
    Budget,
    Contains,
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
from discrete_grad.runs._rule_kinds import KINDS
from discrete_grad.runs._rule_names import rule_columns

__all__ = ["written_rules"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
Label = Callable[[str | None, Any], str]


def written_rules(rules: Sequence[Rule], schema: Schema, known: Iterable[Rule] = ()) -> str:
    r"""TOML with a table for each rule, those of a kind together.

    Args:
        rules: of features and categories by name or code.
        schema: of the table that they are of.
        known: rules of the table's own rows, whose rows need not be written.

    Example:
        >>> from discrete_grad.data import Vocabulary
        >>> columns = Vocabulary("cut", ("fair", "good")), Vocabulary("size", (2, 4))
        >>> rules = [Forbid({"cut": "fair", "size": [0, 1]}), Fix("cut", 1)]
        >>> print(written_rules(rules, Schema(columns, (), "score")), end="")
        [[Fix]]
        feature = "cut"
        category = "good"
        <BLANKLINE>
        [[Forbid]]
        together = { cut = "fair", size = ["2", "4"] }
    """
    blocks = _Writer(schema, list(known)).blocks(rules, "")
    return "\n\n".join(blocks) + "\n" * bool(blocks)


class _Writer:
    def __init__(self, schema: Schema, known: list[Rule]) -> None:
        self.labels = {name: column.labels for name, column in rule_columns(schema).items()}
        self.own, self.known = [feature.name for feature in schema.features], known

    def blocks(self, rules: Sequence[Rule], head: str) -> list[str]:
        """A block of lines for each rule, and for each rule in it."""
        found: list[str] = []
        order = {kind: place for place, kind in enumerate(KINDS)}
        for rule in sorted(rules, key=lambda one: order[type(one).__name__]):
            name = f"{head}{type(rule).__name__}"
            lines = [f"[[{name}]]"]
            lines += [f"{key} = {_value(value)}" for key, value in self.plain(rule).items()]
            found.append("\n".join(lines))
            if isinstance(rule, When):
                found += self.blocks(rule.rules, f"{name}.rules.")
        return found

    def plain(self, rule: Rule) -> dict[str, Any]:
        """Arguments of a rule, in names."""
        match rule:
            case Fix():
                return {
                    "feature": rule.feature,
                    "category": self.label(rule.feature, rule.category),
                }
            case OneOf():
                few = [self.label(rule.feature, one) for one in rule.categories]
                return {"feature": rule.feature, "categories": few}
            case Forbid():
                return {"together": self.cells(rule.together)}
            case Imply():
                both = self.cells(rule.condition), self.cells(rule.consequence)
                return dict(zip(("condition", "consequence"), both, strict=True))
            case When():
                return {"condition": self.cells(rule.condition)}
            case Observed():
                return self._observed(rule)
            case Budget() | Within():
                return self._priced(rule)
            case Length():
                given = {"least": rule.least, "most": rule.most, "features": rule.features}
                pad = self._anywhere(rule.pad, rule.features)
                return {"pad": pad} | {key: v for key, v in given.items() if v is not None}
            case Contains() | Avoids():
                return self._motif(rule)
        # AtMost, AtLeast, Exactly
        return {"count": rule.count, "cells": self.cells(rule.cells)}  # type: ignore[attr-defined]

    def _observed(self, rule: Observed) -> dict[str, Any]:
        if rule in self.known:
            return {"features": rule.features}
        rows = [
            [self.label(*pair) for pair in zip(rule.features, row, strict=True)]
            for row in rule.rows
        ]
        return {"features": rule.features, "rows": rows}

    def _priced(self, rule: Budget | Within) -> dict[str, Any]:
        if isinstance(rule, Budget):
            prices = {
                name: {self.label(name, one): price for one, price in few}
                for name, few in rule.prices
            }
            step = {} if rule.resolution is None else {"resolution": rule.resolution}
            return {"prices": prices, "limit": rule.limit, **step}
        names = self.own if rule.features is None else rule.features
        row = {name: self.label(name, one) for name, one in zip(names, rule.row, strict=True)}
        prices = {"prices": dict(rule.prices)} if rule.prices else {}
        return {"row": row, "edits": rule.edits, **prices}

    def _motif(self, rule: Contains | Avoids) -> dict[str, Any]:
        motif = [[self._anywhere(one, rule.features) for one in some] for some in rule.motif]
        features = {} if rule.features is None else {"features": rule.features}
        return {"motif": [few[0] if len(few) == 1 else few for few in motif], **features}

    def cells(self, some: Iterable[tuple[str, tuple[Any, ...]]]) -> dict[str, Any]:
        """Features, each with one category or several."""
        named = {name: [self.label(name, one) for one in few] for name, few in some}
        return {name: few[0] if len(few) == 1 else few for name, few in named.items()}

    def label(self, feature: str, category: str | int) -> str:
        """Name of a category."""
        return category if isinstance(category, str) else self.labels[feature][category]

    def _anywhere(self, category: str | int, features: Sequence[str] | None) -> Any:
        """A category of a sequence: its name, or the code of categories of different names."""
        if isinstance(category, str):
            return category
        names = {self.labels[name][category] for name in features or self.own}
        return names.pop() if len(names) == 1 else {"code": category}


def _value(value: Any) -> str:
    """A value in TOML."""
    match value:
        case Mapping():
            pairs = ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items())
            return f"{{ {pairs} }}"
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case Fraction():
            return _decimals(value)
        case _:
            # JSON of an integer or a text is TOML, but for one control character
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _decimals(value: Fraction) -> str:
    """A number in decimals; as a quoted fraction where they do not end, or are too many."""
    if value.denominator == 1:
        return str(value.numerator)
    text = repr(float(value))
    return text if Fraction(text) == value else f'"{value}"'
