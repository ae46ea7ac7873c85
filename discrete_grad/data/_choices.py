"""Columns that give no choice: identifiers and constants."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from discrete_grad.data.arrow import ArrowColumn
from discrete_grad.data.columns import (
    distinct_count,
    distinct_numbers,
    factorize,
    holds_dates,
    is_declared,
    is_numeric,
    is_numeric_text,
    is_padded,
    missing_cells,
)
from discrete_grad.data.errors import shown
from discrete_grad.data.sources import Loaded

__all__: list[str] = []

# above both, a column is an identifier and no choice between categories
MANY_VALUES = 1_000
MANY_SHARE = 0.5
# a column of so many rows is an identifier, too, if so large a share of its values differ
_SOME_ROWS = 20
_NEARLY_ALL = 0.95
NO_CHOICE = ": there is nothing to choose"


def numbers_of(data: Loaded, column: ArrowColumn, name: str) -> NDArray[np.float64] | None:
    """Different numbers `(M,)` of a column, sorted; None if it holds categories.

    Digits after a leading zero are a code and no number.
    """
    if is_declared(column):
        return None
    numeric = is_numeric(column)
    if data.is_text:
        numeric = is_numeric_text(column) and not is_padded(column)
    return distinct_numbers(column, name) if numeric else None


def as_constant(column: ArrowColumn, name: str) -> str | None:
    """A few words on a column without a choice; None if it has one."""
    if is_declared(column) or len(column) < 2:
        return None
    values, _ = factorize(column, name, missing=True)
    if len(values) > 1:
        return None
    only = "only missing cells" if values == [None] else f"one category, {shown(values[0])}"
    return f"has {only}{NO_CHOICE}"


def as_identifier(
    column: ArrowColumn, name: str, distinct: NDArray[np.float64] | None
) -> str | None:
    """A few words on what makes a column an identifier; None if it is none."""
    rows = known_rows(column)
    if not rows or (distinct is not None and not _is_gapless(distinct)):
        return None
    count = distinct_count(column, name) if distinct is None else len(distinct)
    nearly_all = rows >= _SOME_ROWS and count > _NEARLY_ALL * rows
    many = count > max(MANY_VALUES, MANY_SHARE * rows) and not is_declared(column)
    if not (nearly_all or many):
        return None
    what = "holds dates" if holds_dates(column) else "looks like an identifier"
    return f"{what}, with {count:,} different values in {rows:,} rows"


def known_rows(column: ArrowColumn) -> int:
    return len(column) - int(missing_cells(column).sum())


def _is_gapless(distinct: NDArray[np.float64]) -> bool:
    """Whether sorted numbers are all the integers between the first and the last."""
    return whole(distinct) and bool(distinct[-1] == distinct[0] + (len(distinct) - 1))


def whole(values: NDArray[np.float64]) -> bool:
    return bool((values == np.floor(values)).all())
