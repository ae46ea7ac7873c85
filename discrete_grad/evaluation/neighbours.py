"""Which observed rows differ in exactly one feature, or in exactly two?"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from discrete_grad.grouping import column_hash, row_groups

__all__ = ["HammingIndex", "context_groups"]

_CHUNK = 2**20


def context_groups(context: Tensor | None, count: int) -> Tensor:
    """A number `(N,)` for each different context of `(N, C)`; 0 for all without contexts.

    Example:
        >>> context_groups(torch.tensor([[0.5], [2.0], [0.5]]), 3)
        tensor([0, 1, 0])
    """
    if context is None:
        return torch.zeros(count, dtype=torch.long)
    return row_groups(context)


class HammingIndex:
    """Rows of the same context by the number of features in which they differ, exactly.

    For every set of d features the rows are sorted by a hash of all others: rows that differ in d
    features at most stand side by side, and the features themselves are compared before a pair is
    reported. Distance 1 takes O(N F log N), distance 2 O(N F^2 log N); to that come O(F) for every
    pair that differs in as many features at most, each time it is met.

    Args:
        codes: `(N, F)`.
        context: `(N, C)` or None; rows of different contexts are never neighbours.

    Example:
        >>> index = HammingIndex(torch.tensor([[0, 0], [0, 1], [1, 1], [0, 0]]))
        >>> index.neighbours(torch.tensor([0]), 1)
        tensor([[0, 1]])
        >>> index.neighbours(torch.tensor([0]), 2)
        tensor([[0, 2]])
    """

    def __init__(self, codes: Tensor, context: Tensor | None = None) -> None:
        if codes.dim() != 2:
            raise ValueError(f"codes must be (N, F), got {tuple(codes.shape)}")
        self.codes = codes
        self.group = context_groups(context, len(codes))
        self._parts = torch.stack([column_hash(c, i) for i, c in enumerate(codes.unbind(1))], 1)
        self._key = self._parts.sum(1) + column_hash(self.group, codes.shape[1])

    def neighbours(self, rows: Tensor, distance: int) -> Tensor:
        """Pairs `(P, 2)` of the given rows and all rows that differ in exactly so many features.

        Args:
            rows: `(A,)` indices of rows.
            distance: from 1 to F.

        Returns:
            Indices, in the order of the given rows, then of their neighbours.

        Raises:
            ValueError: for a distance out of range.
        """
        features = self.codes.shape[1]
        if not 1 <= distance <= features:
            raise ValueError(f"distance must lie in [1, {features}], got {distance}")
        chosen = itertools.combinations(range(features), distance)
        found = torch.cat([self._differing(rows, list(some)) for some in chosen])
        order = (found[:, 0] * len(self.codes) + found[:, 1]).argsort()
        return torch.stack([rows[found[order, 0]], found[order, 1]], 1)

    def _differing(self, rows: Tensor, some: list[int]) -> Tensor:
        """Pairs `(P, 2)`, place in `rows` and row, that differ in all of some features alone."""
        key = self._key - self._parts[:, some].sum(1)
        ordered, order = key.sort()
        first = torch.searchsorted(ordered, key[rows])
        count = torch.searchsorted(ordered, key[rows], right=True) - first
        kept = []
        for part in _parts_of(count):
            place = part.repeat_interleave(count[part])
            start = (count[part].cumsum(0) - count[part]).repeat_interleave(count[part])
            other = order[first[place] + torch.arange(len(place)) - start]
            right = self._differ(rows[place], other, some)
            kept.append(torch.stack([place[right], other[right]], 1))
        return torch.cat(kept) if kept else torch.zeros(0, 2, dtype=torch.long)

    def _differ(self, a: Tensor, b: Tensor, some: list[int]) -> Tensor:
        """Which pairs differ in each of some features and in no other, in one context."""
        differs = torch.zeros(self.codes.shape[1], dtype=torch.bool)
        differs[some] = True
        equal = ((self.codes[a] != self.codes[b]) == differs).all(1)
        return equal & (self.group[a] == self.group[b])


def _parts_of(count: Tensor) -> list[Tensor]:
    """Places of the counts, in parts whose counts sum to a bounded number where one can."""
    if not len(count):
        return []
    number = count.cumsum(0) // _CHUNK
    return list(
        torch.arange(len(count)).split(number.unique_consecutive(return_counts=True)[1].tolist())
    )
