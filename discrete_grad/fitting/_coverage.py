"""Rows on two sides, moved until both know every category."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Coverage"]

_MOST_LOOKED_AT = 2**16


class Coverage:
    """Side of each row, and the number of rows of each category on each side.

    The first side goes first: it gets a category that it misses by any row, the second only by a
    row that is no category's last on the first side.

    Args:
        tables: codes `(N, C)` each, of one row in the same order; -1 is no category.
        side: bool `(N,)`, the second side; copied.

    Example:
        >>> side = torch.tensor([False, True, False])
        >>> coverage = Coverage([torch.tensor([[0], [0], [0]])], side)
        >>> coverage.complete()
        True
    """

    def __init__(self, tables: Sequence[Tensor], side: Tensor) -> None:
        self.tables, self.side = tables, side.clone()
        self.columns = [column for table in tables for column in table.unbind(1)]
        self.counts = [_counts(column, side) for column in self.columns]

    def complete(self) -> bool:
        """Whether each side has all categories of at least two rows."""
        return not any(self._missing(i, s) for i in range(len(self.columns)) for s in (False, True))

    def reach(self, side: bool) -> None:
        """Give a side a row of each category it misses, where that is allowed."""
        for index, column in enumerate(self.columns):
            if not (missing := self._missing(index, side)):
                continue
            ordered, order = column.long().sort(stable=True)
            ends = torch.searchsorted(ordered, torch.tensor([[k, k + 1] for k in missing]))
            for category, (first, last) in zip(missing, ends.tolist(), strict=True):
                # a row moved for another category may have brought this one
                if not self.counts[index][side][category]:
                    self._bring(order[first:last].tolist(), side)

    def give_back(self, size: int) -> None:
        """Take rows that it can spare from the second side until it has no more than `size`."""
        surplus = int(self.side.sum()) - size
        for row in self.side.nonzero()[:_MOST_LOOKED_AT, 0].tolist():
            if surplus <= 0:
                return
            if self._can_spare(row):
                self._move(row)
                surplus -= 1

    def _missing(self, index: int, side: bool) -> list[int]:
        """Categories of a column that have no row on a side and at least two on the other."""
        here, there = self.counts[index][side], self.counts[index][not side]
        return [k for k, n in enumerate(here) if not n and there[k] >= 2]

    def _bring(self, rows: Sequence[int], side: bool) -> None:
        """Move one of the rows to a side: the first that the other side can spare, if any."""
        spare = next((row for row in rows if self._can_spare(row)), None)
        if spare is None and not side:
            spare = rows[0]
        if spare is not None:
            self._move(spare)

    def _can_spare(self, row: int) -> bool:
        """Whether the row is not the last on its side of a category that the other side has."""
        side = bool(self.side[row])
        return not any(
            counts[side][k] == 1 and counts[not side][k] >= 1 for counts, k in self._cells(row)
        )

    def _move(self, row: int) -> None:
        side = bool(self.side[row])
        for counts, k in self._cells(row):
            counts[side][k] -= 1
            counts[not side][k] += 1
        self.side[row] = not side

    def _cells(self, row: int) -> list[tuple[tuple[list[int], list[int]], int]]:
        """The counts of each column, with the row's category there."""
        codes = [code for table in self.tables for code in table[row].tolist()]
        return [pair for pair in zip(self.counts, codes, strict=True) if pair[1] >= 0]


def _counts(column: Tensor, side: Tensor) -> tuple[list[int], list[int]]:
    """Rows of each category on the first side and on the second."""
    kept = column >= 0
    codes, size = column[kept].long(), int(column.max()) + 1
    first, second = (codes[side[kept] == s].bincount(minlength=size) for s in (False, True))
    return first.tolist(), second.tolist()
