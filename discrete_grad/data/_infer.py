"""The categories of each column: a schema from a table whose columns have their roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from discrete_grad.data._bins import bin_edges
from discrete_grad.data._choices import MANY_SHARE, MANY_VALUES
from discrete_grad.data._intervals import interval_ends
from discrete_grad.data._roles import Roles
from discrete_grad.data._values import Value
from discrete_grad.data.arrow import ArrowColumn, ArrowTable
from discrete_grad.data.columns import (
    factorize,
    is_declared,
    is_ordered,
    missing_cells,
    numbers,
    pick,
)
from discrete_grad.data.errors import Problems, RowError, TableError, shown
from discrete_grad.data.schema import NumericColumn, Schema
from discrete_grad.data.vocabulary import Vocabulary

__all__: list[str] = []

_MAX_ONE_HOT = 256
_MAX_NUMBERS = 2**27
_OUT = "leave it out with exclude= (--exclude)"


def infer_schema(table: ArrowTable, roles: Roles, problems: Problems) -> Schema:
    """Schema of a table, without its scores; a missing cell is a category wherever there is one.

    Raises:
        TableError: for columns that cannot have their role, and all problems before.
    """
    contexts: list[Vocabulary | NumericColumn] = []
    features: list[Vocabulary] = []
    wrong = {fault.name for fault in problems.found if isinstance(fault, RowError)}
    for name, context in roles.context.items():
        if name not in wrong:
            with problems.collect():
                contexts.append(_context_column(table, name, context))
    for name, kind in roles.features.items():
        if name not in wrong:
            with problems.collect():
                features.append(_feature(table, name, kind))
    problems.tell()
    embed = _embedded(contexts, table.num_rows)
    return Schema(tuple(features), tuple(contexts), "", embed_context=embed)


def _embedded(contexts: Sequence[Vocabulary | NumericColumn], rows: int) -> bool:
    """Whether one-hot blocks of the contexts would be too many numbers for a row or the table."""
    width = sum(len(column) for column in contexts if isinstance(column, Vocabulary))
    return width > _MAX_ONE_HOT or width * rows > _MAX_NUMBERS


def _context_column(table: ArrowTable, name: str, kind: str) -> Vocabulary | NumericColumn:
    column = pick(table, name, "context")
    if kind == "numeric":
        return _numeric(column, name)
    vocabulary = Vocabulary(name, _categories(column, name))
    rows = len(column)
    if not is_declared(column) and len(vocabulary) > max(MANY_VALUES, MANY_SHARE * rows):
        raise TableError(
            f"column {name!r} has {len(vocabulary):,} different values in {rows:,} rows, "
            "too many for categories: bin it, or take it from the contexts"
        )
    return vocabulary


def _numeric(column: ArrowColumn, name: str) -> NumericColumn:
    values = numbers(column, name)
    # values near the largest float overflow; NumericColumn then refuses
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(values.mean()), float(values.std())
    # rounding gives a constant column a tiny deviation
    constant = values.min() == values.max()
    return NumericColumn(name, mean, 1.0 if constant or deviation == 0 else deviation)


def _feature(table: ArrowTable, name: str, kind: str | Vocabulary) -> Vocabulary:
    column = pick(table, name, "feature")
    if isinstance(kind, Vocabulary):
        vocabulary = _covering(column, replace(kind, name=name))
    elif kind == "numeric":
        vocabulary = _binned(column, name)
    else:
        values, ordered = _categories(column, name), kind == "ordered" or is_ordered(column)
        # intervals by their ends and not by their letters
        ends = {} if is_declared(column) else {v: interval_ends(v) for v in values if v is not None}
        if ordered and ends and None not in ends.values():
            values = (*sorted(ends, key=lambda value: ends[value] or ()), *values[len(ends) :])
        vocabulary = Vocabulary(name, values, ordered)
    if len(vocabulary) == 1:
        raise TableError(
            f"feature {name!r} has one category, {shown(vocabulary.values[0])}: "
            f"there is nothing to choose, {_OUT}"
        )
    return vocabulary


def _covering(column: ArrowColumn, given: Vocabulary) -> Vocabulary:
    """The vocabulary given, with a category for missing cells if there are any."""
    if given.has_missing or not missing_cells(column).any():
        return given
    return replace(given, values=(*given.values, None))


def _binned(column: ArrowColumn, name: str) -> Vocabulary:
    values = numbers(column, name, missing=True)
    missing = np.isnan(values)
    return Vocabulary.binned(name, bin_edges(values[~missing]), missing=bool(missing.any()))


def _categories(column: ArrowColumn, name: str) -> tuple[Value, ...]:
    """In declared order, or sorted by value for numbers and by code point for text; None last."""
    values, _ = factorize(column, name, missing=True)
    known = [value for value in values if value is not None]
    if not known:
        raise TableError(f"column {name!r} has only missing cells: {_OUT}")
    missing = [None] * (len(values) - len(known))
    # one kind only, so there is an order
    known = known if is_declared(column) else sorted(known)
    return (*known, *missing)
