"""Categories that stand together: pairs never seen, and columns that combine sparsely."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.sampling import permutation, seeded
from discrete_grad.space import CategoricalSpace

__all__ = ["SparsePair", "sparse_pairs", "unseen_pairs"]

_FALSE_ALARM = 0.01
_SHARE = 0.5  # of the expected pairs, of which a sparse one has no more
_FURTHER = 0.05  # of further rows that may have a pair not seen yet
_MOST_CELLS = 2**22  # of a table of two columns
_AT_ONCE = 2**18  # pairs, or cells, of several tables that are counted at once
_WORK = 2**29  # rows of all pairs of columns that are counted
_FEWEST = 1000


def unseen_pairs(
    space: CategoricalSpace, known: Tensor, codes: Tensor, *, own: bool = False
) -> Tensor:
    """Number `(n,)` of pairs of a row's categories that no known row has together.

    Args:
        space: the space.
        known: codes `(N, F)`.
        codes: `(n, F)`.
        own: whether the rows are among the known ones, so that another row must have the pair.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2, 2))
        >>> unseen_pairs(space, torch.tensor([[0, 0, 0], [1, 1, 0]]), torch.tensor([[0, 1, 0]]))
        tensor([1])
    """
    missing = torch.zeros(len(codes), dtype=torch.long)
    columns = [rows.T.contiguous() for rows in (codes, known)]
    for i, others in _at_once(space.sizes, len(codes) + len(known)):
        keys = torch.cat([_cells(part, space.sizes, i, others) for part in columns], 1)
        cells = _count(space.sizes, i, others)
        if cells > _MOST_CELLS:
            keys = keys.unique(return_inverse=True)[1]
            cells = keys.numel()
        counts = torch.bincount(keys[:, len(codes) :].flatten(), minlength=cells)
        missing += (counts[keys[:, : len(codes)]] <= int(own)).sum(0)
    return missing


def _at_once(sizes: Sequence[int], rows: int) -> Iterator[tuple[int, slice]]:
    """A column, and some of those after it with which its pairs are counted at once."""
    for i in range(len(sizes)):
        first = last = i + 1
        while last < len(sizes):
            last += 1
            cells = _count(sizes, i, slice(first, last + 1))
            if max((last + 1 - first) * rows, cells) > _AT_ONCE:
                yield i, slice(first, last)
                first = last
        if first < last:
            yield i, slice(first, last)


def _count(sizes: Sequence[int], i: int, others: slice) -> int:
    """Cells of a column's categories by all those of others."""
    return sizes[i] * sum(sizes[others])


def _cells(columns: Tensor, sizes: Sequence[int], i: int, others: slice) -> Tensor:
    """Each row's cell `(J, n)` with each other column, of codes `(C, n)`."""
    widths = torch.tensor(sizes[others])
    begins = widths.cumsum(0) - widths
    return columns[i].long() * widths.sum() + columns[others].long() + begins.unsqueeze(1)


@dataclass(frozen=True)
class SparsePair:
    """Two columns of which far fewer pairs of categories occur than if they were independent.

    Example:
        >>> SparsePair((0, 1), seen=40, expected=310.0, further=0.002).seen
        40
    """

    columns: tuple[int, int]
    """Their places."""
    seen: int
    """Different pairs of categories that occur."""
    expected: float
    """Mean number that would, if the columns were independent."""
    further: float
    """Good and Turing's estimate of the share of further rows whose pair has not occurred yet: that
    of the rows whose pair occurs once."""


def sparse_pairs(codes: Tensor, sizes: Sequence[int], *, seed: int = 0) -> list[SparsePair]:
    r"""Pairs of columns that combine sparsely, the sparsest first.

    Let N rows have the categories a and b with frequencies p and q. Were the columns independent,
    the cell (a, b) would be occupied with probability `1 - (1 - p q)^N`, and E cells on average.
    The counts of a multinomial law are negatively associated, so that of V, the sum of the cells'
    variances, Bernstein's inequality bounds the probability of t cells fewer than that by
    `exp(-t^2 / (2 V + 2 t / 3))`. A pair of columns is sparse where at most half of E cells are
    occupied, the bound is below 0.01 divided by the number of pairs of columns (so that in a table
    of independent columns the probability of any alarm is below 1%, but for the frequencies, which
    are those of the sample), and at most 5% of further rows are estimated to have another pair.

    Args:
        codes: `(N, C)`; of many rows and columns a random sample of the rows is looked at.
        sizes: number of categories of each column.
        seed: of the sample.

    Reference:
        Joag-Dev and Proschan (1983), Negative association of random variables; Good (1953), The
        population frequencies of species.

    Example:
        >>> city = torch.arange(400) % 40
        >>> [pair.columns for pair in sparse_pairs(torch.stack([city, city % 8], 1), (40, 8))]
        [(0, 1)]
    """
    pairs = math.comb(len(sizes), 2)
    rows = max(_FEWEST, _WORK // max(1, pairs))
    if len(codes) > rows:
        codes = codes[permutation(len(codes), generator=seeded(seed))[:rows]]
    if not len(codes):
        return []
    found = list(_sparse(codes.T.contiguous(), sizes, math.log(_FALSE_ALARM / max(1, pairs))))
    return sorted(found, key=lambda pair: pair.seen / pair.expected)


def _sparse(columns: Tensor, sizes: Sequence[int], limit: float) -> Iterator[SparsePair]:
    """Of codes `(C, n)`; an alarm's probability is bounded by the exponential of a limit."""
    rows = columns.shape[1]
    for i, others in _at_once(sizes, rows):
        if (cells := _count(sizes, i, others)) > _MOST_CELLS:
            continue
        keys = _cells(columns, sizes, i, others).flatten()
        counts = torch.bincount(keys, minlength=cells).view(sizes[i], -1)
        empty = _empty(counts.double(), rows)
        tables = [counts > 0, counts == 1, 1 - empty, empty * (1 - empty)]
        sums = torch.stack([table.sum(0).double() for table in tables], 1)
        for j, block in zip(range(len(sizes))[others], sums.split(sizes[others]), strict=True):
            seen, once, expected, variance = block.sum(0).tolist()
            fewer, further = expected - seen, once / rows
            far = seen <= _SHARE * expected and further <= _FURTHER
            if far and -(fewer**2) / (2 * variance + 2 * fewer / 3) < limit:
                yield SparsePair((i, j), int(seen), expected, further)


def _empty(counts: Tensor, rows: int) -> Tensor:
    """Probability of no row in each cell `(K, width)`, were a column independent of the others."""
    # every other column has each row once
    p = counts.sum(1, keepdim=True) / counts.sum() * (counts.sum(0) / rows)
    # a column of one category has p = 1
    return (rows * torch.log1p(-p.clamp(max=1 - 1e-12))).exp()
