"""Rows with missing cells: refused, left out, or kept with a category of their own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Set
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from discrete_grad.data.arrow import ArrowColumn, ArrowTable
from discrete_grad.data.columns import missing_cells, pick
from discrete_grad.data.errors import RowError, TableError, TableWarning

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
) -> tuple[ArrowTable, NDArray[np.int64] | None]:
    """The rows without a missing cell in the columns that need one, and their places `(M,)`.

    Args:
        table: with the used columns.
        used: name -> role of all columns that matter.
        missing: as in `read_table`.
        may_miss: those of them in which a missing cell is a category.
        could_miss: those in which it would be one if `missing` said so.

    Returns:
        The table and None, or its rows without missing cells and their places in it.

    Raises:
        TableError: for an absent column, at the first missing cell that is neither a category nor
            to be left out, or if no row is left.
    """
    columns = {name: pick(table, name, role) for name, role in used.items()}
    if missing == "drop":
        return _without_gaps(table, columns)
    for name, column in columns.items():
        cells = missing_cells(column)
        if name not in may_miss and cells.any():
            category = "with missing='category' it is a category, " * (name in could_miss)
            if missing == "category" and used[name] == "context":
                category = f"'{name}:categorical' makes it a category, "
            text = f"the value is missing; {category}with missing='drop' such rows are left out"
            raise RowError(name, int(cells.argmax()), text)
    return table, None


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
