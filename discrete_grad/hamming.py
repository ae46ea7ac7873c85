"""Hamming distances of rows: the most similar of many, and those within a radius."""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discrete_grad.grouping import column_hash, first_rows, row_groups
from discrete_grad.sampling import permutation, seeded

__all__ = ["HammingIndex", "KnownRows", "context_groups", "nearest_hamming"]

_QUERIES, _KNOWN = 64, 8192  # rows of a block, whose distances lie in the processor's cache
_LEAST = 1024
_Codes: TypeAlias = NDArray[Any]


def nearest_hamming(codes: Tensor, observed: Tensor) -> Tensor:
    """Number of features in which each row differs from the most similar observed row.

    Args:
        codes: `(N, F)`.
        observed: `(M, F)`, M >= 1; compared in blocks, so M may be large.

    Returns:
        `(N,)`, int64, from 0 (observed itself) to F.

    Raises:
        ValueError: for no observed row or another number of features.

    Example:
        >>> observed = torch.tensor([[0, 0, 0], [1, 1, 1]])
        >>> nearest_hamming(torch.tensor([[1, 1, 1], [1, 1, 2]]), observed)
        tensor([0, 1])
    """
    _check(codes, observed)
    # samples of a sharp policy repeat themselves
    group = row_groups(codes)
    mine, theirs = _columns(codes[first_rows(group)]), _columns(observed)
    found = [
        _nearest(mine[:, start : start + _QUERIES], theirs)
        for start in range(0, mine.shape[1], _QUERIES)
    ]
    distance = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *found]))
    return distance.to(codes.device)[group]


class KnownRows:
    """The different rows of a table; of very many a sample stands for all.

    A row of the table is recognised as such whatever the sample; the distance of another one is
    that to the sample, at least 1.

    Args:
        codes: `(N, F)`, N >= 1.
        comparisons: of one feature of two rows, at most, for each row asked about. They bound the
            size of the sample, which has at least 1,024 rows.

    Example:
        >>> known = KnownRows(torch.tensor([[0, 0], [1, 1], [0, 0]]), comparisons=2**20)
        >>> known.count, known.compared, known.distance(torch.tensor([[1, 1], [0, 2]]))
        (2, 2, tensor([0, 1]))
    """

    def __init__(self, codes: Tensor, *, comparisons: int) -> None:
        _check(codes, codes)
        self._codes = codes
        self._first = first_rows(row_groups(codes))
        most = max(_LEAST, comparisons // codes.shape[1])
        self.count = len(self._first)
        """Number of different rows."""
        self.compared = min(self.count, most)
        """Number of them that are compared."""

    def distance(self, codes: Tensor) -> Tensor:
        """`(M,)`, int64, from 0 (a row of the table) to F, for codes `(M, F)`."""
        distance = nearest_hamming(codes, self._sample)
        if self.compared == self.count:
            return distance
        return distance.clamp_min(1).masked_fill(self._contains(codes), 0)

    @cached_property
    def _sample(self) -> Tensor:
        chosen = permutation(self.count, generator=seeded(0))[: self.compared]
        return self._codes[self._first[chosen.sort().values]]

    def _contains(self, codes: Tensor) -> Tensor:
        """Whether each row is one of the table, `(M,)`."""
        ordered, place = self._by_hash
        last = len(ordered) - 1
        # a hash above all others is placed at the end, where nothing stands
        found = torch.searchsorted(ordered, _hash(codes)).clamp_max(last)
        # the codes decide: two rows may share a hash
        return (self._codes[place[found]] == codes).all(1)

    @cached_property
    def _by_hash(self) -> tuple[Tensor, Tensor]:
        """Hashes of the different rows in order, and the places of these rows."""
        ordered, order = _hash(self._codes)[self._first].sort()
        return ordered, self._first[order]


def _hash(codes: Tensor) -> Tensor:
    """`(N,)`, in 64 bits: two different rows practically never share one."""
    total = torch.zeros(len(codes), dtype=torch.long)
    for place, column in enumerate(codes.unbind(1)):
        total += column_hash(column, place)
    return total


def _check(codes: Tensor, observed: Tensor) -> None:
    if codes.dim() != 2 or observed.dim() != 2 or codes.shape[1] != observed.shape[1]:
        shapes = f"{tuple(codes.shape)} and {tuple(observed.shape)}"
        raise ValueError(f"codes and observed must be (N, F) and (M, F), got {shapes}")
    if not len(observed):
        raise ValueError("there is no observed row to compare with")


def _columns(codes: Tensor) -> _Codes:
    """Features first `(F, N)`, each a contiguous run of the narrowest numbers that hold it."""
    most = int(codes.max()) if codes.numel() else 0
    kind = np.int16 if most < 2**15 else np.int64
    return np.ascontiguousarray(codes.cpu().numpy().T.astype(kind))


def _nearest(mine: _Codes, theirs: _Codes) -> NDArray[np.int64]:
    """Distances of `(F, n)` to the nearest of `(F, M)`, a block of the latter at a time."""
    blocks = range(0, theirs.shape[1], _KNOWN)
    least = [_distances(mine, theirs[:, start : start + _KNOWN]).min(1) for start in blocks]
    nearest: NDArray[np.int64] = np.min(least, axis=0).astype(np.int64)
    return nearest


def _distances(mine: _Codes, theirs: _Codes) -> _Codes:
    """Distances `(n, M)`, counted in bytes, 255 features at a time."""
    shape = mine.shape[1], theirs.shape[1]
    total = np.zeros(shape, dtype=np.int32 if len(mine) > 255 else np.uint8)
    differs = np.empty(shape, dtype=np.bool_)
    for first in range(0, len(mine), 255):
        part = np.zeros(shape, dtype=np.uint8)
        for own, other in zip(mine[first : first + 255], theirs[first : first + 255], strict=True):
            np.not_equal(own[:, None], other, out=differs)
            np.add(part, differs.view(np.uint8), out=part)
        total += part
    return total


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
    reported. Distance 1 takes O(N F log N), distance 2 O(N F^2 log N); and O(F) more each time that
    a pair within the distance is met.

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
        # hashes of columns add up, so a subtraction leaves features out
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
        """Pairs that differ in each of some features and in no other, in one context."""
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
