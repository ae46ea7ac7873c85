"""Which column is what, and which categories it has: a schema from a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from discrete_grad.data.arrow import ArrowColumn, ArrowTable
from discrete_grad.data.columns import (
    factorize,
    is_declared,
    is_numeric,
    is_numeric_text,
    numbers,
    pick,
)
from discrete_grad.data.errors import TableError, listing, shown
from discrete_grad.data.schema import NumericColumn, Schema, Vocabulary
from discrete_grad.data.sources import Loaded
from discrete_grad.data.values import Value

__all__: list[str] = []

# above both, a column is a measurement or an identifier and no choice between categories
_MANY_VALUES = 1_000
_MANY_SHARE = 0.5
_MAX_ONE_HOT = 256
_MAX_NUMBERS = 2**27

Features = Mapping[str, Vocabulary | Sequence[Value]] | Sequence[str] | None


def score_names(score: Sequence[str] | str) -> list[str]:
    """Names of the score columns, the one to be maximised first.

    Raises:
        TableError: for none, or one twice.
    """
    names = [score] if isinstance(score, str) else list(score)
    if not names:
        raise TableError("no score is given: name the column to be maximised")
    _require_once(names, "score")
    return names


def infer_schema(
    data: Loaded, *, scores: list[str], context: Sequence[str] | str, features: Features
) -> Schema:
    """Schema of a table; the arguments are those of `read_table`, the scores as a list.

    Raises:
        TableError: for a column that is missing, has two roles or cannot have its role.
    """
    kinds = _context_kinds(context, data.table.column_names)
    names = _feature_names(data.table, features, {*scores, *kinds})
    _require_one_role(scores, list(kinds), names)
    contexts = [_context_column(data, name, kind) for name, kind in kinds.items()]
    given = features if isinstance(features, Mapping) else {}
    vocabularies = [_feature(data.table, name, given.get(name)) for name in names]
    embed = _embedded(contexts, data.table.num_rows)
    return Schema(tuple(vocabularies), tuple(contexts), scores[0], tuple(scores[1:]), embed)


def _embedded(contexts: Sequence[Vocabulary | NumericColumn], rows: int) -> bool:
    """Whether one-hot blocks of the contexts would be too many numbers for a row or the table."""
    width = sum(len(column) for column in contexts if isinstance(column, Vocabulary))
    return width > _MAX_ONE_HOT or width * rows > _MAX_NUMBERS


def _feature_names(table: ArrowTable, features: Features, taken: set[str]) -> list[str]:
    if features is None:
        return [name for name in table.column_names if name not in taken]
    names = [features] if isinstance(features, str) else list(features)
    _require_once(names, "feature")
    return names


def _context_kinds(context: Sequence[str] | str, names: Sequence[str]) -> dict[str, str | None]:
    """Column name -> forced kind, or None."""
    pairs = [_split_kind(c, names) for c in ([context] if isinstance(context, str) else context)]
    _require_once([name for name, _ in pairs], "context")
    return dict(pairs)


def _split_kind(text: str, names: Sequence[str]) -> tuple[str, str | None]:
    name, colon, kind = text.rpartition(":")
    # a column may be called "a:b"
    if colon and text not in names and kind in ("categorical", "numeric"):
        return name, kind
    return text, None


def _require_once(names: list[str], role: str) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise TableError(f"{role} columns are given twice: {listing(repeated)}")


def _require_one_role(scores: list[str], context: list[str], features: list[str]) -> None:
    roles = {"score": scores, "context": context, "feature": features}
    for first, second in (("score", "context"), ("score", "feature"), ("context", "feature")):
        others = set(roles[second])
        for name in roles[first]:
            if name in others:
                raise TableError(f"column {name!r} cannot be both {first} and {second}")


def _context_column(data: Loaded, name: str, kind: str | None) -> Vocabulary | NumericColumn:
    column = pick(data.table, name, "context")
    if kind is None:
        numeric = is_numeric_text(column) if data.is_text else is_numeric(column)
        kind = "numeric" if numeric else "categorical"
    return _numeric(column, name) if kind == "numeric" else _vocabulary(column, name)


def _numeric(column: ArrowColumn, name: str) -> NumericColumn:
    values = numbers(column, name)
    # values near the largest float overflow; NumericColumn then refuses
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(values.mean()), float(values.std())
    # rounding gives a constant column a tiny deviation
    constant = values.min() == values.max()
    return NumericColumn(name, mean, 1.0 if constant or deviation == 0 else deviation)


def _feature(
    table: ArrowTable, name: str, given: Vocabulary | Sequence[Value] | None
) -> Vocabulary:
    column = pick(table, name, "feature")
    if given is None:
        vocabulary = _vocabulary(column, name)
    else:
        values = given.values if isinstance(given, Vocabulary) else given
        vocabulary = Vocabulary(name, cast("tuple[Value, ...]", values))
    if len(vocabulary) == 1:
        raise TableError(
            f"feature {name!r} has one category, {shown(vocabulary.values[0])}: "
            "there is nothing to choose, leave it out"
        )
    return vocabulary


def _vocabulary(column: ArrowColumn, name: str) -> Vocabulary:
    values, codes = factorize(column, name)
    if is_declared(column):
        return Vocabulary(name, tuple(values))
    if len(values) > max(_MANY_VALUES, _MANY_SHARE * len(codes)):
        raise TableError(
            f"column {name!r} has {len(values):,} different values in {len(codes):,} rows, "
            "too many for categories: bin it, or leave it out"
        )
    # one kind only, so this is by value for numbers and by code point for text
    return Vocabulary(name, tuple(sorted(values)))
