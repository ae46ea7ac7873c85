"""Groups of equal rows of a table, in time and memory linear in the table."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["column_hash", "first_rows", "row_groups"]

_MOST = 2**62  # keys below it neither wrap nor touch the sign
_WIDE = 2**31


def row_groups(*tables: Tensor) -> Tensor:
    """Number `(N,)` of each row among the different ones, in lexicographic order, from 0.

    `torch.cat(tables, 1).unique(dim=0, return_inverse=True)[1]`, without that copy: the columns are
    read as the digits of one number, and where the number grows too large, those read so far are
    replaced by the rank of what they hold, which takes one sort of N integers.

    Args:
        tables: each `(N, C)`, integers or finite numbers.

    Example:
        >>> codes, price = torch.tensor([[1, 0], [0, 2], [1, 0]]), torch.tensor([[0.5], [2], [0.5]])
        >>> row_groups(codes, price)
        tensor([1, 0, 1])
    """
    key, size = torch.zeros(len(tables[0]), dtype=torch.long, device=tables[0].device), 1
    if not len(key):
        return key
    for column in (column for table in tables for column in table.unbind(1)):
        digit, count = _digit(column)
        if size * count >= _MOST:
            key, size = _ranks(key)
        key, size = key.mul_(count).add_(digit), size * count
    return _ranks(key)[0]


def first_rows(group: Tensor) -> Tensor:
    """Place `(G,)` of the first row of each group, from the numbers `(N,)` of the groups.

    Example:
        >>> first_rows(torch.tensor([1, 0, 1]))
        tensor([1, 0])
    """
    count = int(group.max()) + 1 if len(group) else 0
    place = torch.arange(len(group), device=group.device)
    return place.new_full((count,), len(group)).scatter_reduce_(0, group, place, "amin")


def column_hash(column: Tensor, place: int) -> Tensor:
    """A hash `(N,)` of a column's integers and its place, in 64 bits that wrap.

    The sum of those of all columns is a hash of the row.

    Example:
        >>> column_hash(torch.tensor([4, 4, 5]), 0).unique().shape
        torch.Size([2])
    """
    # SplitMix64: Steele, Lea, Flood (2014), of a number that no other column and code have
    value = (column.long() + (place + 1) * 2**40) * 0x9E3779B97F4A7C15
    # int64 shifts the sign bit in from the left; the masks undo that
    value = (value ^ ((value >> 30) & (2**34 - 1))) * 0xBF58476D1CE4E5B9
    value = (value ^ ((value >> 27) & (2**37 - 1))) * 0x94D049BB133111EB
    return value ^ ((value >> 31) & (2**33 - 1))


def _digit(column: Tensor) -> tuple[Tensor, int]:
    """A column as integers `(N,)` from 0 in the same order, and a number above all of them."""
    if column.is_floating_point() and not (column == column.trunc()).all():
        return _ranks(column)
    low, high = (int(end) for end in column.aminmax())
    if high - low >= _WIDE:
        return _ranks(column)
    return column.long() - low, high - low + 1


def _ranks(values: Tensor) -> tuple[Tensor, int]:
    """Rank `(N,)` of each value among the different ones, and how many these are."""
    different, rank = values.unique(return_inverse=True)
    return rank, len(different)
