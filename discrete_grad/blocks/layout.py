"""The blocks that the features of a space form."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from discrete_grad.blocks.places import Index, Padded, Place, Run, Scattered, select, to_tensor

__all__ = ["Layout"]

_SMALL = 64  # mean size of a block up to which its calls take longer than its numbers
_CALL = 15_000  # numbers whose work takes as long as the calls for a block, forward and backward


class Layout:
    """Division of the features of a space into blocks, by their sizes alone.

    Neighbours of equal size form a block, which is then a view. Where many small features of few
    sizes alternate, all features of a size form one, and the row is brought in order first, which
    pays from two blocks fewer on.

    Example:
        >>> [place.count for place in Layout((2, 3, 3, 2)).places]
        [1, 2, 1]
        >>> [place.count for place in Layout((2, 3) * 4).places]
        [4, 4]
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        by_size = sorted(range(len(sizes)), key=sizes.__getitem__)  # stable
        near, far = _runs(sizes, range(len(sizes))), _runs(sizes, by_size)
        self.gathers = len(near) - len(far) >= 2 and len(near) * _SMALL > sum(sizes)
        starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self.places: tuple[Place, ...]
        if self.gathers:
            scattered = [_scattered(run, sizes, starts) for run in far]
            self.places = tuple(scattered)
            # the order of features and of columns in the blocks, and back
            self._features = np.concatenate([place.features for place in scattered])
            self._columns = np.concatenate([place.columns for place in scattered])
            self._features_back = np.argsort(self._features)
            self._columns_back = np.argsort(self._columns)
        else:
            self.places = tuple(
                Run(len(run), sizes[run[0]], run[0], int(starts[run[0]])) for run in near
            )
        self._starts = starts[:-1]
        self._largest = len(sizes) * max(sizes)
        # a table of this many columns would only be made for a single element of a batch
        cheap = len(self.places) > 1 and self._largest <= self._worth
        self._padded = (_padded(sizes, starts),) if cheap else None

    @property
    def _worth(self) -> int:
        # the time that the calls for all blocks but one take, in numbers worked on
        return (len(self.places) - 1) * _CALL

    def starts(self, device: torch.device) -> Tensor:
        """First column `(F,)` of each feature."""
        return to_tensor(self._starts, device)

    def places_for(self, rows: int) -> tuple[Place, ...]:
        """The places to go through for so many rows: for a few, all features padded to one size.

        Not under a compiler, which would compile anew for another number of rows.
        """
        if self._padded is None or torch.compiler.is_compiling():
            return self.places
        return self._padded if rows * self._largest <= self._worth else self.places

    def blocks(self, flat: Tensor) -> list[Tensor]:
        """A block `(..., n, K)` for each place, the row brought in order at once."""
        ordered = select(flat, self._columns, -1) if self.gathers else flat
        # by one operation: the gradient of each slice of its own would be as wide as the row
        parts = ordered.split([p.count * p.size for p in self.places], -1)
        pairs = zip(parts, self.places, strict=True)
        return [part.unflatten(-1, (p.count, p.size)) for part, p in pairs]

    def columns(self, per_feature: Tensor, dim: int) -> list[Tensor]:
        """The part of each block of a tensor with F numbers along a dimension."""
        ordered = select(per_feature, self._features, dim) if self.gathers else per_feature
        return list(ordered.split([p.count for p in self.places], dim))

    def join(self, blocks: Sequence[Tensor]) -> Tensor:
        """Inverse of `blocks`."""
        flat = _cat([block.flatten(-2) for block in blocks], -1)
        return select(flat, self._columns_back, -1) if self.gathers else flat

    def join_columns(self, columns: Sequence[Tensor], dim: int) -> Tensor:
        """Inverse of `columns`."""
        joined = _cat(columns, dim)
        return select(joined, self._features_back, dim) if self.gathers else joined


def _runs(sizes: Sequence[int], order: Sequence[int]) -> list[list[int]]:
    """The features in an order, cut where the size changes."""
    return [list(run) for _, run in itertools.groupby(order, key=sizes.__getitem__)]


def _scattered(run: list[int], sizes: Sequence[int], starts: Index) -> Scattered:
    size, features = sizes[run[0]], np.asarray(run)
    columns = starts[features, None] + np.arange(size)
    return Scattered(len(run), size, features, columns.flatten())


def _padded(sizes: tuple[int, ...], starts: Index) -> Padded:
    each, largest = np.asarray(sizes)[:, None], np.arange(max(sizes))
    there = largest < each
    # missing categories read column D, which `Padded.take` appends
    forth = np.where(there, starts[:-1, None] + largest, starts[-1]).flatten()
    return Padded(len(sizes), max(sizes), forth, np.flatnonzero(there))


def _cat(tensors: Sequence[Tensor], dim: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)
