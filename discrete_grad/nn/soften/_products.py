"""Products of a flat row's blocks with tables, and the blocks themselves as soft one-hots."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.nn.soft_embedding import embed
from discrete_grad.space import CategoricalSpace

__all__ = ["CONSTANT", "Table", "product"]

CONSTANT = -1  # in place of a feature: an element that is a number of its own


class Table:
    """A table `(R, E)` that is looked up, or, without a weight, the identity of R rows.

    A row's block is taken to the weight's dtype and device, so that a look-up has the model's own.
    """

    def __init__(self, rows: int, weight: Tensor | None = None) -> None:
        self.rows, self.weight = rows, weight

    def of(self, blocks: Tensor, start: int) -> Tensor:
        """Blocks `(..., K)` times the rows from `start`: `(..., E)`."""
        size = blocks.shape[-1]
        if self.weight is None:
            return F.pad(blocks, (start, self.rows - start - size))
        part = self.weight if (start, size) == (0, self.rows) else self.weight[start : start + size]
        return blocks @ part

    def of_each(self, blocks: Tensor, starts: Sequence[int] | Tensor) -> Tensor:
        """Blocks `(..., n, K)`, the rows of each from a start of its own: `(..., n, E)`."""
        size = blocks.shape[-1]
        if isinstance(starts, Tensor):
            rows = starts.unsqueeze(-1) + torch.arange(size, device=starts.device)
            if self.weight is None:
                wide = blocks.new_zeros((*blocks.shape[:-1], self.rows))
                return wide.scatter(-1, rows.expand(blocks.shape), blocks)
            return torch.einsum("...nk,nke->...ne", blocks, F.embedding(rows, self.weight))
        if len(set(starts)) == 1:
            return self.of(blocks, starts[0])
        if self.weight is not None and all(
            start == starts[0] + i * size for i, start in enumerate(starts)
        ):
            part = self.weight[starts[0] : starts[0] + len(starts) * size]
            return torch.einsum("...nk,nke->...ne", blocks, part.unflatten(0, (-1, size)))
        pairs = zip(blocks.unbind(-2), starts, strict=True)
        return torch.stack([self.of(block, start) for block, start in pairs], -2)

    def of_numbers(self, numbers: Tensor) -> Tensor:
        """The rows of plain numbers."""
        if self.weight is None:
            return F.one_hot(numbers, self.rows)
        return F.embedding(numbers, self.weight)


def exact(weight: Tensor) -> AbstractContextManager[object]:
    """No autocast: a look-up keeps the table's dtype, as that of codes does."""
    kind = weight.device.type
    if torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def product(
    space: CategoricalSpace,
    flat: Tensor,
    features: Sequence[int],
    starts: Sequence[int] | Tensor,
    table: Table,
) -> Tensor:
    """Look-ups `(M, p, E)` of p features of flat rows `(M, D)`.

    Args:
        space: the features.
        flat: rows.
        features: p of them, in any order and as often as wanted; `CONSTANT` for a number.
        starts: the table's row at which each begins; a tensor where it is not known as numbers.
        table: what is looked up.
    """
    if table.weight is not None:
        flat = flat.to(device=table.weight.device, dtype=table.weight.dtype)
        with exact(table.weight):
            return _product(space, flat, features, starts, table)
    return _product(space, flat, features, starts, table)


def _product(
    space: CategoricalSpace,
    flat: Tensor,
    features: Sequence[int],
    starts: Sequence[int] | Tensor,
    table: Table,
) -> Tensor:
    if len(features) == 1 and not isinstance(starts, Tensor) and features[0] != CONSTANT:
        return table.of(_block(space, flat, features[0]), starts[0]).unsqueeze(1)
    if list(features) == list(range(space.num_features)) and not isinstance(starts, Tensor):
        whole = _whole(space, flat, starts, table)
        if whole is not None:
            return whole
    parts, order = [], []
    for size, members in _groups(space, features).items():
        mine = starts[members] if isinstance(starts, Tensor) else [starts[i] for i in members]
        if size == 0:
            numbers = torch.as_tensor(mine, device=flat.device)
            part = table.of_numbers(numbers).to(flat.dtype)
            parts.append(part.expand(len(flat), *part.shape))
        else:
            blocks = _blocks(space, flat, [features[i] for i in members])
            parts.append(table.of_each(blocks, mine))
        order += members
    if len(parts) == 1:
        return parts[0]
    joined = torch.cat(parts, 1)
    if order == sorted(order):
        return joined
    back = sorted(range(len(order)), key=order.__getitem__)
    return joined[:, torch.tensor(back, device=joined.device)]


def _whole(
    space: CategoricalSpace, flat: Tensor, starts: Sequence[int], table: Table
) -> Tensor | None:
    """All features: below one another in the table, or of the same rows of it."""
    if table.weight is None:
        return None
    first = starts[0]
    if len(set(starts)) == 1:
        parts = [table.of(block, first) for block in space.blocks(flat)]
        return parts[0] if len(parts) == 1 else space.join_columns(parts, -2)
    if all(start == first + own for start, own in zip(starts, space.offsets, strict=True)):
        return embed(space, flat, table.weight[first : first + space.width])
    return None


def _groups(space: CategoricalSpace, features: Sequence[int]) -> dict[int, list[int]]:
    """Places of the features of each size; 0 is that of numbers."""
    groups: dict[int, list[int]] = {}
    for place, feature in enumerate(features):
        size = 0 if feature == CONSTANT else space.sizes[feature]
        groups.setdefault(size, []).append(place)
    return groups


def _block(space: CategoricalSpace, flat: Tensor, feature: int) -> Tensor:
    start = space.offsets[feature]
    return flat[:, start : start + space.sizes[feature]]


def _blocks(space: CategoricalSpace, flat: Tensor, features: Sequence[int]) -> Tensor:
    """Blocks `(M, n, K)` of features of one size."""
    first, count, size = features[0], len(features), space.sizes[features[0]]
    if list(features) == list(range(first, first + count)):
        start = space.offsets[first]
        return flat[:, start : start + count * size].unflatten(-1, (count, size))
    return torch.stack([_block(space, flat, i) for i in features], 1)
