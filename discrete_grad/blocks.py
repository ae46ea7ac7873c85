"""Blocks: features of equal size, worked on in one batched operation."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "FEW",
    "Layout",
    "Padded",
    "Place",
    "Run",
    "Scattered",
    "fits",
    "jacobian",
    "log_softmax",
    "parts",
    "softmax",
]

FEW = 16  # numbers in a vector register
_PART = 2**16  # numbers that stay in the cache while they are worked on
_SMALL = 64  # mean size of a block up to which its calls take longer than its numbers
_CALL = 15_000  # numbers whose work takes as long as the calls for a block, forward and backward

Index = npt.NDArray[np.int64]


class Place(ABC):
    """Place of the n features of one block in a row, and the number K of categories of each.

    Example:
        >>> first, second = Layout((2, 2, 3)).places
        >>> first.take(torch.arange(7.0)).tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """

    count: int
    size: int

    @abstractmethod
    def take(self, flat: Tensor, padding: float = -math.inf) -> Tensor:
        """Their block `(..., n, K)` of a flat tensor `(..., D)`."""

    @abstractmethod
    def take_features(self, tensor: Tensor, dim: int = -1) -> Tensor:
        """Their part of a tensor with F numbers along a dimension."""

    @abstractmethod
    def put(self, flat: Tensor, block: Tensor) -> None:
        """Write their block into a flat tensor."""


@dataclass(frozen=True)
class Run(Place):
    """Neighbours of equal size: their block is a view.

    Example:
        >>> isinstance(Layout((2, 2, 3)).places[0], Run)
        True
    """

    count: int
    size: int
    feature: int
    column: int

    def take(self, flat: Tensor, padding: float = -math.inf) -> Tensor:
        """See `Place`."""
        block: Tensor = self.columns(flat).unflatten(-1, (self.count, self.size))
        return block

    def columns(self, flat: Tensor) -> Tensor:
        """Their part `(..., n K)` of a flat tensor, a view."""
        return flat.narrow(-1, self.column, self.count * self.size)

    def take_features(self, tensor: Tensor, dim: int = -1) -> Tensor:
        """See `Place`."""
        return tensor.narrow(dim, self.feature, self.count)

    def put(self, flat: Tensor, block: Tensor) -> None:
        """See `Place`."""
        self.columns(flat).copy_(block.flatten(-2))


@dataclass(frozen=True, eq=False)
class Scattered(Place):
    """Features of equal size that do not stand side by side.

    Example:
        >>> isinstance(Layout((2, 3) * 4).places[0], Scattered)
        True
    """

    count: int
    size: int
    features: Index
    columns: Index

    def take(self, flat: Tensor, padding: float = -math.inf) -> Tensor:
        """See `Place`."""
        block: Tensor = _select(flat, self.columns, -1).unflatten(-1, (self.count, self.size))
        return block

    def take_features(self, tensor: Tensor, dim: int = -1) -> Tensor:
        """See `Place`."""
        return _select(tensor, self.features, dim)

    def put(self, flat: Tensor, block: Tensor) -> None:
        """See `Place`."""
        flat.index_copy_(-1, _tensor(self.columns, flat.device), block.flatten(-2))


@dataclass(frozen=True, eq=False)
class Padded(Place):
    """All features, each with as many columns as the largest.

    Example:
        >>> (place,) = Layout((2, 3)).places_for(10)
        >>> place.take(torch.arange(5.0)).tolist()
        [[0.0, 1.0, -inf], [2.0, 3.0, 4.0]]
    """

    count: int
    size: int
    forth: Index
    back: Index

    def take(self, flat: Tensor, padding: float = -math.inf) -> Tensor:
        """See `Place`; `padding` where there is no category."""
        wide = F.pad(flat, (0, 1), value=padding)
        block: Tensor = _select(wide, self.forth, -1).unflatten(-1, (self.count, self.size))
        return block

    def take_features(self, tensor: Tensor, dim: int = -1) -> Tensor:
        """See `Place`."""
        return tensor

    def put(self, flat: Tensor, block: Tensor) -> None:
        """See `Place`."""
        flat.copy_(_select(block.flatten(-2), self.back, -1))


class Layout:
    """Division of the features of a space into blocks, by their sizes alone.

    Neighbours of equal size form a block, which is then a view. Where many small features of few
    sizes alternate, all features of a size form one, and the row is brought in order first: that
    costs about as much as the calls that some blocks less save.

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
        return _tensor(self._starts, device)

    def places_for(self, rows: int) -> tuple[Place, ...]:
        """The places to go through for so many rows: for a few, all features padded to one size.

        Not under a compiler, which would compile anew for another number of rows.
        """
        if self._padded is None or torch.compiler.is_compiling():
            return self.places
        return self._padded if rows * self._largest <= self._worth else self.places

    def blocks(self, flat: Tensor) -> list[Tensor]:
        """A block `(..., n, K)` for each place, the row brought in order at once."""
        if not self.gathers:
            return [place.take(flat) for place in self.places]
        ordered = _select(flat, self._columns, -1)
        parts = ordered.split([p.count * p.size for p in self.places], -1)
        pairs = zip(parts, self.places, strict=True)
        return [part.unflatten(-1, (p.count, p.size)) for part, p in pairs]

    def columns(self, per_feature: Tensor, dim: int) -> list[Tensor]:
        """The part of each block of a tensor with F numbers along a dimension."""
        ordered = _select(per_feature, self._features, dim) if self.gathers else per_feature
        return list(ordered.split([p.count for p in self.places], dim))

    def join(self, blocks: Sequence[Tensor]) -> Tensor:
        """Inverse of `blocks`."""
        flat = _cat([block.flatten(-2) for block in blocks], -1)
        return _select(flat, self._columns_back, -1) if self.gathers else flat

    def join_columns(self, columns: Sequence[Tensor], dim: int) -> Tensor:
        """Inverse of `columns`."""
        joined = _cat(columns, dim)
        return _select(joined, self._features_back, dim) if self.gathers else joined


def softmax(block: Tensor) -> Tensor:
    """Softmax of a block `(..., K)` over its last dimension.

    Example:
        >>> softmax(torch.zeros(2))
        tensor([0.5000, 0.5000])
    """
    return _along_categories(torch.softmax, block)


def log_softmax(block: Tensor) -> Tensor:
    """Log-softmax of a block `(..., K)` over its last dimension, in nats.

    Example:
        >>> log_softmax(torch.zeros(2))
        tensor([-0.6931, -0.6931])
    """
    return _along_categories(torch.log_softmax, block)


def jacobian(pi: Tensor, vector: Tensor) -> Tensor:
    """`J_pi v = pi * v - pi (pi . v)` over the last dimension of `(..., K)`.

    Example:
        >>> jacobian(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]))
        tensor([ 0.2500, -0.2500])
    """
    if pi.shape[-1] < FEW or pi.shape != vector.shape:
        weighted = pi * vector
        return torch.addcmul(weighted, pi, weighted.sum(-1, keepdim=True), value=-1)
    # the second half of a softmax's backward pass, in one pass over the numbers
    dtype = torch.promote_types(pi.dtype, vector.dtype)
    product: Tensor = torch._softmax_backward_data(vector.to(dtype), pi.to(dtype), -1, dtype)
    return product


def fits(block: Tensor) -> bool:
    """Whether a block is to be worked on at once: it stays in the cache, or lies on a GPU.

    Example:
        >>> fits(torch.zeros(2, 3)), fits(torch.zeros(100, 1000))
        (True, False)
    """
    return block.numel() <= _PART or block.device.type != "cpu"


def parts(length: int, width: int, device: torch.device) -> Iterator[slice]:
    """A batch of so many elements, each of so many numbers, in equal parts that fit the cache.

    But of two elements at least: what works along an element can take one a core. A GPU, for which
    a call is dear, has the batch as a whole.

    Example:
        >>> list(parts(4, 40_000, torch.device("cpu")))
        [slice(0, 2, None), slice(2, 4, None)]
    """
    whole = device.type != "cpu"
    count = min(length, 1) if whole else min(-(-length // 2), -(-length * width // _PART))
    bounds = [length * i // count for i in range(count + 1)] if count else []
    return itertools.starmap(slice, itertools.pairwise(bounds))


def _along_categories(normalise: Callable[[Tensor, int], Tensor], block: Tensor) -> Tensor:
    # Over a last dimension shorter than a vector register torch is several times slower on the
    # CPU than over the first one. The compiler writes its own loop, whatever the order.
    if block.shape[-1] < FEW and not torch.compiler.is_compiling():
        return normalise(block.movedim(-1, 0), 0).movedim(0, -1)
    return normalise(block, -1)


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
    forth = np.where(there, starts[:-1, None] + largest, starts[-1]).flatten()
    return Padded(len(sizes), max(sizes), forth, np.flatnonzero(there))


def _select(tensor: Tensor, index: Index, dim: int) -> Tensor:
    return tensor.index_select(dim, _tensor(index, tensor.device))


def _tensor(index: Index, device: torch.device) -> Tensor:
    if torch.compiler.is_compiling():  # the compiler wants a constant of its own
        return torch.tensor(index.tolist(), device=device)
    return torch.from_numpy(index).to(device)


def _cat(tensors: Sequence[Tensor], dim: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)
