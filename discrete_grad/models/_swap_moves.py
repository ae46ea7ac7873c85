"""Moves of a search by swaps: which are open, what they cost, which promise most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from discrete_grad.models.row_pool import category_keys, row_keys
from discrete_grad.rules import Rules
from discrete_grad.sampling import uniform
from discrete_grad.space import CategoricalSpace

__all__ = ["Moves", "Terms", "UnreachableError"]

_Ranked = tuple[Tensor, Tensor, Tensor]  # promise of pairs, and their columns
_NUMBERS = 2**21  # of pairs of swaps that are ranked at a time


class UnreachableError(ValueError):
    """No row within the edits obeys.

    Args:
        text: why.
        row: place of the start.

    Example:
        >>> UnreachableError("too far", 3).row
        3
    """

    def __init__(self, text: str, row: int) -> None:
        super().__init__(text)
        self.row = row


class Moves(NamedTuple):
    """Changes of rows by one swap or two, those of a row together.

    Example:
        >>> Moves._fields
        ('row', 'first', 'second')
    """

    row: Tensor
    """`(m,)`, places of the rows, in ascending order."""
    first: Tensor
    """`(m,)`, the column of a flat row that is written."""
    second: Tensor | None = None
    """`(m,)`, a further one."""

    @property
    def columns(self) -> tuple[Tensor, ...]:
        """The columns written, one swap after the other."""
        return (self.first,) if self.second is None else (self.first, self.second)

    def at(self, place: Tensor) -> Moves:
        """The moves at places `(n,)`."""
        return Moves(self.row[place], *(column[place] for column in self.columns))


@dataclass(frozen=True)
class Terms:
    """Terms under which rows are changed.

    Args:
        space: of the rows.
        price: `(N, D)`, of each category where it differs from the start; 0 at the start's own,
            `inf` for one that must not be written.
        counts: `(N, D)`, 1 for each category that is an edit.
        edits: of a row, at most; None for any number.
        rules: that rows obey, or None.
        rule_context: `(N, C)` codes of their context, or None.
        allowed: further rows that may be entered, or None.
    """

    space: CategoricalSpace
    price: Tensor
    counts: Tensor
    edits: int | None
    rules: Rules | None
    rule_context: Tensor | None
    allowed: Callable[[Tensor], Tensor] | None

    @property
    def bound(self) -> bool:
        """Whether there may be rows that two swaps lead to and no single one."""
        return self.edits is not None or self.rules is not None

    def cost(self, codes: Tensor, where: Tensor) -> Tensor:
        """Price `(n,)` of rows `(n, F)`."""
        return self.price[where.unsqueeze(1), self.space.columns(codes)].sum(1)

    def swaps(self, codes: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """Which swaps `(n, D)` may be made, and which only together with another one."""
        own = self.space.one_hot(codes, dtype=torch.bool)
        possible = ~own & (self.price[where] < torch.inf)
        fine = possible & self._obeying(codes, where)
        if self.edits is not None:
            counts = self.counts[where]
            now = counts.gather(1, self.space.columns(codes)).sum(1, keepdim=True)
            fine &= now + self.space.swap_gains(counts, codes) <= self.edits
        return fine, possible & ~fine

    def mended(self, codes: Tensor) -> Tensor:
        """Rows `(N, F)`, each that does not obey changed to the nearest one that does.

        Raises:
            ValueError: where that is beyond `edits`.
        """
        if self.rules is not None:
            broken = ~self.rules.allows(codes, context=self.rule_context)
            context = None if self.rule_context is None else self.rule_context[broken]
            # first the fewest edits, then the fewest other changes
            own = self.space.one_hot(codes[broken], dtype=torch.float64)
            worth = own * (0.5 / self.space.num_features + self._edited(broken))
            worth = worth.masked_fill(self.price[broken] == torch.inf, -torch.inf)
            codes = codes.clone()
            codes[broken] = self.rules.condition(worth, context=context).mode().to(codes)
        if self.edits is not None:
            changed = self.counts.gather(1, self.space.columns(codes)).sum(1)
            if (changed > self.edits).any():
                place = int((changed > self.edits).nonzero()[0])
                away = f"the nearest row that obeys is {int(changed[place])} edits away"
                raise UnreachableError(f"{away}, more than edits={self.edits}", place)
        return codes.clone()

    def _edited(self, rows: Tensor) -> Tensor:
        """Whether another category is an edit, `(n, D)`."""
        sizes = torch.tensor(self.space.sizes, device=rows.device)
        feature = torch.arange(len(sizes), device=rows.device).repeat_interleave(sizes)
        counts = self.counts[rows]
        some = counts.new_zeros(len(counts), len(sizes)).index_add(1, feature, counts) > 0
        return some.double().repeat_interleave(sizes, 1)

    def _obeying(self, codes: Tensor, where: Tensor) -> Tensor:
        if self.rules is None:
            return torch.ones_like(where, dtype=torch.bool).unsqueeze(1)
        steps = self.rules.steps([self.space.names.index(name) for name in self._order])
        context = None if self.rule_context is None else self.rule_context[where]
        return steps.swaps(codes, steps.begin((len(codes),), context=context, device=codes.device))

    @property
    def _order(self) -> list[str]:
        assert self.rules is not None  # who asks has looked
        return [name for name in self.rules.order if name in self.space.names]

    def made(self, codes: Tensor, moves: Moves) -> Tensor:
        """Rows `(m, F)` after moves of rows `(N, F)`."""
        rows = codes[moves.row]
        for column in moves.columns:
            rows = self.space.swapped(rows, column.unsqueeze(1)).squeeze(1)
        return rows

    def keys(self, codes: Tensor, moves: Moves) -> Tensor:
        """Keys `(m,)` of the same rows, of which none is made."""
        of, own = category_keys(self.space, codes.device), self.space.columns(codes)
        keys = row_keys(self.space, codes)[moves.row]
        for column in moves.columns:
            keys = keys + of[column] - of[own[moves.row, self.feature(column)]]
        return keys

    def costs(self, codes: Tensor, moves: Moves) -> Tensor:
        """Price `(m,)` of the same rows."""
        own, everywhere = self.space.columns(codes), torch.arange(len(codes), device=codes.device)
        total = self.cost(codes, everywhere)[moves.row]
        for column in moves.columns:
            old = own[moves.row, self.feature(column)]
            total = total + self.price[moves.row, column] - self.price[moves.row, old]
        return total

    def feature(self, column: Tensor) -> Tensor:
        """Feature of each column of a flat row."""
        offsets = torch.tensor(self.space.offsets, device=column.device)
        return torch.searchsorted(offsets, column.contiguous(), right=True) - 1

    def kicked(self, codes: Tensor, where: Tensor, noise: torch.Generator) -> Tensor:
        """Rows `(n, F)` after a random swap, or a random pair where no single one is open."""
        fine, blocked = self.swaps(codes, where)
        stuck = ~fine.any(1)
        rows = torch.where(stuck.unsqueeze(1), self._random(codes, blocked, noise), codes)
        after = self.swaps(rows, where)[0] & ~(stuck.unsqueeze(1) & self._same(rows, codes))
        found = self._random(rows, after, noise)
        return torch.where(after.any(1, keepdim=True), found, codes)

    def _random(self, codes: Tensor, fine: Tensor, noise: torch.Generator) -> Tensor:
        draw = uniform(tuple(fine.shape), device=codes.device, generator=noise)
        column = draw.masked_fill(~fine, -1).argmax(1, keepdim=True)
        return self.space.swapped(codes, column).squeeze(1)

    def _same(self, rows: Tensor, codes: Tensor) -> Tensor:
        """Columns `(n, D)` of the features in which rows differ."""
        sizes = torch.tensor(self.space.sizes, device=codes.device)
        return (rows != codes).repeat_interleave(sizes, 1, output_size=self.space.width)


def ranked(gains: Tensor, fine: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Open swaps `(n, D)` at ranks `[first, last)`, the best promise first."""
    gains = gains.masked_fill(~fine, -torch.inf)
    most = min(int(last.max()), gains.shape[1])
    order = gains.topk(most).indices
    rank = torch.arange(most, device=gains.device)
    meant = (rank >= first.unsqueeze(1)) & (rank < last.unsqueeze(1))
    return torch.zeros_like(fine).scatter(1, order, meant) & fine


def pairs(
    terms: Terms,
    codes: Tensor,
    where: Tensor,
    gains: Tensor | None,
    top: int | None,
) -> Iterator[Moves]:
    """Pairs of swaps of rows `(n, F)` of which the first alone is not open.

    Args:
        terms: of the moves.
        codes: `(n, F)`.
        where: `(n,)`, places of the rows.
        gains: `(n, D)`, promised by each swap; None without a promise.
        top: the most promising ones, and among as many first swaps; None for all.
    """
    _, blocked = terms.swaps(codes, where)
    promise = torch.zeros_like(blocked, dtype=torch.float64) if gains is None else gains.double()
    most = int(blocked.sum(1).max())
    most = most if top is None else min(top, most)
    value, first = promise.masked_fill(~blocked, -torch.inf).topk(most)
    size = max(1, _NUMBERS // (len(codes) * terms.space.width))
    best: _Ranked | None = None
    for some, worth in zip(first.split(size, 1), value.split(size, 1), strict=True):
        found = _seconds(terms, codes, where, promise, some, worth)
        if top is None:
            yield from _moves(where, *found)
        else:
            best = _best(found if best is None else _beside(best, found), top)
    if best is not None:
        yield from _moves(where, *best)


def _seconds(
    terms: Terms, codes: Tensor, where: Tensor, promise: Tensor, first: Tensor, worth: Tensor
) -> _Ranked:
    """Promise `(n, c D)`, `-inf` where it is not open, and columns of all pairs of some firsts."""
    count, width = first.shape[1], terms.space.width
    rows = terms.space.swapped(codes, first).flatten(0, 1)
    origin = codes.repeat_interleave(count, 0)
    fine = terms.swaps(rows, where.repeat_interleave(count))[0] & ~terms._same(rows, origin)
    total = worth.unsqueeze(-1) + promise.unsqueeze(1)
    total = total.masked_fill(~fine.view(total.shape), -torch.inf)
    second = torch.arange(width, device=codes.device).expand(total.shape)
    return total.flatten(1), first.unsqueeze(-1).expand(total.shape).flatten(1), second.flatten(1)


def _beside(a: _Ranked, b: _Ranked) -> _Ranked:
    return torch.cat([a[0], b[0]], 1), torch.cat([a[1], b[1]], 1), torch.cat([a[2], b[2]], 1)


def _best(found: _Ranked, count: int) -> _Ranked:
    worth, first, second = found
    worth, place = worth.topk(min(count, worth.shape[1]))
    return worth, first.gather(1, place), second.gather(1, place)


def _moves(where: Tensor, worth: Tensor, first: Tensor, second: Tensor) -> Iterator[Moves]:
    row, place = (worth > -torch.inf).nonzero(as_tuple=True)
    if len(row):
        yield Moves(where[row], first[row, place], second[row, place])
