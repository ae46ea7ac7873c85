"""Places of a block's features in a row."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Padded", "Place", "Run", "Scattered"]

Index = npt.NDArray[np.int64]


class Place(ABC):
    """Place of the n features of one block in a row, and the number K of categories of each.

    Example:
        >>> from discrete_grad.blocks import Layout
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
        >>> from discrete_grad.blocks import Layout
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
        >>> from discrete_grad.blocks import Layout
        >>> isinstance(Layout((2, 3) * 4).places[0], Scattered)
        True
    """

    count: int
    size: int
    features: Index
    columns: Index

    def take(self, flat: Tensor, padding: float = -math.inf) -> Tensor:
        """See `Place`."""
        block: Tensor = select(flat, self.columns, -1).unflatten(-1, (self.count, self.size))
        return block

    def take_features(self, tensor: Tensor, dim: int = -1) -> Tensor:
        """See `Place`."""
        return select(tensor, self.features, dim)

    def put(self, flat: Tensor, block: Tensor) -> None:
        """See `Place`."""
        flat.index_copy_(-1, to_tensor(self.columns, flat.device), block.flatten(-2))


@dataclass(frozen=True, eq=False)
class Padded(Place):
    """All features, each with as many columns as the largest.

    Example:
        >>> from discrete_grad.blocks import Layout
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
        block: Tensor = select(wide, self.forth, -1).unflatten(-1, (self.count, self.size))
        return block

    def take_features(self, tensor: Tensor, dim: int = -1) -> Tensor:
        """See `Place`."""
        return tensor

    def put(self, flat: Tensor, block: Tensor) -> None:
        """See `Place`."""
        flat.copy_(select(block.flatten(-2), self.back, -1))


def select(tensor: Tensor, index: Index, dim: int) -> Tensor:
    return tensor.index_select(dim, to_tensor(index, tensor.device))


def to_tensor(index: Index, device: torch.device) -> Tensor:
    if torch.compiler.is_compiling():  # the compiler wants a constant of its own
        return torch.tensor(index.tolist(), device=device)
    return torch.from_numpy(index).to(device)
