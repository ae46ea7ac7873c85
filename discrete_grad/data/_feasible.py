"""Rows that failed: the column that says so, and what stands where they have no score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from discrete_grad.data.arrow import ArrowColumn, ArrowTable
from discrete_grad.data.columns import missing_cells, pick
from discrete_grad.data.errors import RowError, TableError, shown

__all__: list[str] = []

_WORDS = {
    **dict.fromkeys(("yes", "true", "1", "1.0"), True),
    **dict.fromkeys(("no", "false", "0", "0.0"), False),
}


def feasible_rows(table: ArrowTable, name: str) -> NDArray[np.bool_]:
    """Whether each row `(N,)` succeeded; one of which it is not known counts as failed.

    Raises:
        TableError: for no such column, a cell that is neither yes nor no, or only one of the two.
    """
    column = pick(table, name, "feasible")
    succeeded = np.zeros(len(column), dtype=bool)
    unknown = missing_cells(column)
    for index, value in enumerate(column.to_pylist()):
        if unknown[index]:
            continue
        word = str(value).strip().lower()
        if word not in _WORDS:
            raise RowError(
                name, index, f"expected yes or no, true or false, 1 or 0, got {shown(value)}"
            )
        succeeded[index] = _WORDS[word]
    for wanted, word in ((True, "failed"), (False, "succeeded")):
        if not (succeeded[~unknown] == wanted).any():
            raise TableError(f"column {name!r}: every row {word}, nothing can be learned")
    return succeeded


def without_failed_scores(
    table: ArrowTable, names: Sequence[str], succeeded: NDArray[np.bool_]
) -> ArrowTable:
    """The table with the scores of failed rows, which nobody reads, taken from another row."""
    places = np.where(succeeded, np.arange(len(succeeded)), succeeded.argmax())
    for name in names:
        column: ArrowColumn = pick(table, name, "score").take(places)
        table = table.set_column(table.column_names.index(name), name, column)
    return table
