"""Names of features and categories, as a file of rules has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from discrete_grad.data import Schema, TableError, Vocabulary

__all__ = ["Plain", "RuleNames", "as_list", "as_table", "as_whole", "nearest", "rule_columns"]

Plain = Mapping[str, Any]
"""A table of TOML."""


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint at what was meant, to be put after a message.

    Example:
        >>> nearest("Forbd", ["Fix", "Forbid"]), nearest("x", ["Fix", "Forbid"])
        ("; did you mean 'Forbid'?", "; there are 'Fix', 'Forbid'")
        >>> nearest("x", list("abcdefgh")), nearest("x", list("abcdefghi"))[-5:]
        ("; there are 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'", ', ...')
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


class RuleNames:
    """The names that rules of a table's rows may use.

    Args:
        schema: of the table; rules may speak of its features and of categorical contexts.

    Example:
        >>> names = RuleNames(Schema((Vocabulary("layers", (1, 2, 4)),), (), "score"))
        >>> names.some("layers", "2..9")
        ['2', '4']
    """

    def __init__(self, schema: Schema) -> None:
        self.own = [feature.name for feature in schema.features]
        self.columns = rule_columns(schema)
        self.numeric = {column.name for column in schema.context} - set(self.columns)
        self._labels = {name: frozenset(c.labels) for name, c in self.columns.items()}
        self._found: dict[tuple[str, str], tuple[str, ...]] = {}

    def feature(self, name: object) -> str:
        """The name of a column, checked."""
        if not isinstance(name, str):
            raise TypeError(f"expected the name of a feature, got {name!r}")
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
        return {name: self.some(name, wanted) for name, wanted in as_table(given, key).items()}

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
            return as_whole(wanted["code"])
        names = self.own if features is None else features
        for name in names:
            try:
                return self.one(name, wanted)
            except TableError:
                continue
        return self.one(names[0], wanted)  # says what is wrong


def as_table(given: object, key: str) -> Plain:
    if not isinstance(given, Mapping):
        raise TypeError(f"{key} must be a table of features, got {given!r}")
    return given


def as_list(given: object) -> list[Any]:
    if not isinstance(given, list):
        raise TypeError(f"expected a list, got {given!r}")
    return given


def as_whole(given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(f"expected a whole number, got {given!r}")
    return given
