"""Products of a flat row's blocks with tables, and the blocks themselves as soft one-hots."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.nn.soft_embedding import embed
from discrete_grad.nn.soften._codes import CONSTANT, Row
from discrete_grad.space import CategoricalSpace

__all__ = ["Table", "exact", "product", "total"]


class Table:
    """A table `(R, E)` that is looked up, or, without a weight, the identity of R rows.

    A row's block is taken to the weight's dtype and device, so that a look-up has the model's own.
    """

    def __init__(self, rows: int, weight: Tensor | None = None) -> None:
        self.rows, self.weight = rows, weight

    def like(self, block: Tensor) -> Tensor:
        """A block as the weight needs it."""
        return block if self.weight is None else block.to(self.weight)

    def of(self, blocks: Tensor, start: int) -> Tensor:
        """Blocks `(..., K)` times the rows from `start`: `(..., E)`."""
        size = blocks.shape[-1]
        whole = start == 0 and size == self.rows
        if self.weight is None:
            return blocks if whole else F.pad(blocks, (start, self.rows - start - size))
        part = self.weight if whole else self.weight[start : start + size]
        found: Tensor = self.like(blocks) @ part
        return found

    def of_each(self, blocks: Tensor, start: int) -> Tensor:
        """Blocks `(N, n, K)`, each times the K rows after those of the one before."""
        count, size = blocks.shape[-2:]
        if self.weight is None:
            parts = blocks.unbind(-2)
            return torch.stack([self.of(p, start + i * size) for i, p in enumerate(parts)], -2)
        part = self.weight[start : start + count * size].unflatten(0, (count, size))
        found: Tensor = (self.like(blocks).transpose(0, 1) @ part).transpose(0, 1)
        return found

    def of_unknown(self, blocks: Tensor, starts: Tensor) -> Tensor:
        """Blocks `(..., n, K)`, each times K rows from a start that Python does not know."""
        rows = starts.unsqueeze(-1) + torch.arange(blocks.shape[-1], device=starts.device)
        if self.weight is None:
            wide = blocks.new_zeros((*blocks.shape[:-1], self.rows))
            return wide.scatter(-1, rows.expand(blocks.shape), blocks)
        part = F.embedding(rows, self.weight)
        return torch.einsum("...nk,nke->...ne", self.like(blocks), part)

    def of_numbers(self, numbers: Tensor, row: Row) -> Tensor:
        """The rows of plain numbers."""
        if self.weight is None:
            return F.one_hot(numbers, self.rows).to(row.flat)
        return F.embedding(numbers.to(self.weight.device), self.weight)


def exact(table: Table) -> AbstractContextManager[object]:
    """No autocast: a look-up keeps the table's dtype, as that of codes does."""
    if table.weight is None or not torch.is_autocast_enabled(table.weight.device.type):
        return nullcontext()
    return torch.autocast(table.weight.device.type, enabled=False)


def total(row: Row, features: Sequence[int], starts: Sequence[int], table: Table) -> Tensor:
    """The sum `(N, E)` of the look-ups of p features."""
    space, found = row.space, []
    whole = list(features) == list(range(space.num_features))
    if whole and tuple(starts) == tuple(starts[0] + own for own in space.offsets):
        return table.of(row.flat, starts[0])
    for run in _runs(space, features, starts):
        if run.length == 1:
            found.append(_run(row, run, table).squeeze(1))
        else:
            blocks = _blocks(row, run.feature, run.length)
            found.append(table.of(blocks.flatten(1) if run.step else blocks.sum(1), run.start))
    return found[0] if len(found) == 1 else torch.stack(found).sum(0)


def product(
    row: Row, features: Sequence[int], starts: Sequence[int] | Tensor, table: Table
) -> Tensor:
    """Look-ups `(N, p, E)` of p features of flat rows `(N, D)`.

    Args:
        row: the rows.
        features: p of them, in any order and as often as wanted; `CONSTANT` for a number.
        starts: the table's row at which each begins; a tensor where Python does not know them, for
            features alone.
        table: what is looked up.
    """
    if isinstance(starts, Tensor):
        return _unknown(row, features, starts, table)
    if len(features) == 1 and features[0] != CONSTANT:
        return table.of(row.part(features[0]), starts[0]).unsqueeze(1)
    whole = _whole(row, features, starts, table)
    if whole is not None:
        return whole
    parts = [_run(row, run, table) for run in _runs(row.space, features, starts)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _whole(row: Row, features: Sequence[int], starts: Sequence[int], table: Table) -> Tensor | None:
    """All features: below one another in the table, or of the same rows of it."""
    space, first = row.space, starts[0] if starts else 0
    few = 1 < len(set(space.sizes)) <= space.num_features / 2
    if table.weight is None or not few or list(features) != list(range(space.num_features)):
        return None
    if len(set(starts)) == 1:
        return space.join_columns([table.of(b, first) for b in space.blocks(row.flat)], -2)
    if all(start == first + own for start, own in zip(starts, space.offsets, strict=True)):
        return embed(space, table.like(row.flat), table.weight[first : first + space.width])
    return None


class _Run(NamedTuple):
    """Neighbours of one size, looked up in the same rows or each in those after the last."""

    feature: int
    start: int
    length: int
    step: int


def _runs(space: CategoricalSpace, features: Sequence[int], starts: Sequence[int]) -> list[_Run]:
    runs: list[_Run] = []
    for feature, start in zip(features, starts, strict=True):
        last = runs[-1] if runs else None
        if last is not None and feature != CONSTANT and feature == last.feature + last.length:
            size, step = space.sizes[feature], (start - last.start) // last.length
            same = size == space.sizes[last.feature]
            even = start == last.start + last.length * step and step in (0, size)
            if same and even and (last.length == 1 or step == last.step):
                runs[-1] = _Run(last.feature, last.start, last.length + 1, step)
                continue
        runs.append(_Run(feature, start, 1, 0))
    return runs


def _run(row: Row, run: _Run, table: Table) -> Tensor:
    """`(N, count, E)`."""
    if run.feature == CONSTANT:
        number = torch.tensor([run.start], device=row.flat.device)
        return table.of_numbers(number, row).expand(row.flat.shape[0], 1, -1)
    if run.length == 1:
        return table.of(row.part(run.feature), run.start).unsqueeze(1)
    blocks = _blocks(row, run.feature, run.length)
    return table.of(blocks, run.start) if run.step == 0 else table.of_each(blocks, run.start)


def _unknown(row: Row, features: Sequence[int], starts: Tensor, table: Table) -> Tensor:
    parts, place = [], 0
    for run in _runs(row.space, features, [0] * len(features)):
        mine = starts[place : place + run.length]
        place += run.length
        parts.append(table.of_unknown(_blocks(row, run.feature, run.length), mine))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _blocks(row: Row, feature: int, count: int) -> Tensor:
    """Blocks `(N, n, K)` of neighbours of one size."""
    start, size = row.space.offsets[feature], row.space.sizes[feature]
    flat = row.flat
    part = flat if flat.shape[1] == count * size else flat[:, start : start + count * size]
    blocks: Tensor = part.unflatten(-1, (count, size))
    return blocks
