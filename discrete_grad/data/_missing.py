"""Rows with missing cells: refused, left out, or kept with a category of their own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Set
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from discrete_grad.data.arrow import ArrowColumn, ArrowTable
from discrete_grad.data.columns import missing_cells, pick
from discrete_grad.data.errors import Problems, RowError, TableError, TableWarning

__all__: list[str] = []

Missing = Literal["error", "category", "drop"]

_SHOWN = 6


def complete_rows(
    table: ArrowTable,
    used: Mapping[str, str],
    missing: Missing,
    *,
    may_miss: Set[str],
    could_miss: Set[str] = frozenset(),
    problems: Problems,
) -> tuple[ArrowTable, NDArray[np.int64] | None]:
    """The rows without a missing cell in the columns that need one, and their places `(M,)`.

    Args:
        table: with the used columns.
        used: name -> role of all columns that matter.
        missing: as in `read_table`.
        may_miss: those of them in which a missing cell is a category.
        could_miss: those in which it would be one if `missing` said so.
        problems: takes absent columns, and of each other column the first missing cell that is
            neither a category nor to be left out.

    Returns:
        The table and None, or its rows without missing cells and their places in it.

    Raises:
        TableError: if no row is left.
    """
    columns = dict[str, ArrowColumn]()
    for name, role in used.items():
        with problems.collect():
            columns[name] = pick(table, name, role)
    if missing == "drop":
        return _without_gaps(table, columns)
    for name, column in columns.items():
        cells = missing_cells(column)
        if name not in may_miss and cells.any():
            category = f"{_option('category')} it is a category, " * (name in could_miss)
            if missing == "category" and used[name] == "context":
                category = f"'{name}:categorical' makes it a category, "
            further = int(cells.sum()) - 1
            also = f" (and in {further:,} more)" if further else ""
            text = f"{category}{_option('drop')} such rows are left out"
            with problems.collect():
                raise RowError(name, int(cells.argmax()), f"the value is missing{also}; {text}")
    return table, None


def _option(value: str) -> str:
    return f"with missing='{value}' (--missing {value})"


def _without_gaps(
    table: ArrowTable, columns: Mapping[str, ArrowColumn]
) -> tuple[ArrowTable, NDArray[np.int64] | None]:
    gone, counts = np.zeros(table.num_rows, dtype=bool), dict[str, int]()
    for name, column in columns.items():
        cells = missing_cells(column)
        gone |= cells
        if cells.any():
            counts[name] = int(cells.sum())
    if not counts:
        return table, None
    most = sorted(counts, key=lambda name: -counts[name])
    counted = ", ".join(f"{counts[name]:,} in {name!r}" for name in most[:_SHOWN])
    if gone.all():
        raise TableError(f"every row has a missing cell: {counted}")
    verbs = "have a missing cell and are" if gone.sum() > 1 else "has a missing cell and is"
    text = f"{int(gone.sum()):,} of {len(gone):,} rows {verbs} left out: {counted}"
    warnings.warn(text, TableWarning, stacklevel=4)
    kept = np.flatnonzero(~gone)
    return table.take(kept), kept
