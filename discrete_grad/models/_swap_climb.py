"""Climbs of several rows at once, from which each leaves when it ends."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.models._row_values import RowValues
from discrete_grad.models._swap_moves import Moves, Terms, pairs, ranked
from discrete_grad.models.row_pool import row_keys

__all__ = ["Climb", "Plan"]

_KICKS = 3  # random swaps before a further climb
_NO_LIMIT = 2**62
_CODES = 2**20  # of rows that are made at a time


@dataclass(frozen=True)
class Plan:
    """Effort of a search; see `swap_search`."""

    top: int | None
    patience: int | None
    evaluations: int | None
    restarts: int


class Climb:
    """State of the climbs of N starts.

    Args:
        plan: their effort.
        terms: of their moves.
        function: values of their rows.
        codes: `(N, F)`.
        noise: of the restarts.
    """

    def __init__(
        self, plan: Plan, terms: Terms, function: RowValues, codes: Tensor, noise: torch.Generator
    ) -> None:
        count = len(codes)
        self.plan, self.terms, self.function, self.noise = plan, terms, function, noise
        self.codes = terms.mended(codes)
        none = torch.zeros(count, dtype=torch.long, device=codes.device)
        self.spent, self.vain, self.again = none.clone(), none.clone(), none + plan.restarts
        self.value = torch.full_like(none, -torch.inf, dtype=torch.float64)
        self.best, self.best_value = self.codes.clone(), self.value.clone()
        # by exact values alone where there is no gradient
        self.top = plan.top if function.differentiable else None
        self.gains: Tensor | None = None
        self.stale = torch.ones_like(none, dtype=torch.bool)
        self.history: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def left(self) -> Tensor:
        """Evaluations `(N,)` that may still be made."""
        limit = _NO_LIMIT if self.plan.evaluations is None else self.plan.evaluations
        return limit - self.spent

    def run(self) -> None:
        """Climb until every start has ended."""
        rows = torch.arange(len(self.codes), device=self.codes.device)
        self._enter(rows)
        while len(rows):
            self._look(rows)
            stuck = rows[self._singles(rows)]
            if self.terms.bound and len(stuck):
                stuck = stuck[~self._pairs(stuck)]
            rows = self._without(rows, stuck)

    def told(self) -> tuple[Tensor, ...]:
        """History `(n, 2)` of each start."""
        row, *rest = (torch.cat(parts) for parts in zip(*self.history, strict=True))
        pairs = torch.stack([part.double() for part in rest], 1)
        return tuple(pairs[row == place].cpu() for place in range(len(self.codes)))

    def _enter(self, rows: Tensor) -> None:
        """Value the rows `(n,)` that climbs begin with."""
        codes = self.codes[rows]
        keys = row_keys(self.terms.space, codes)
        value, spent = self.function(keys, rows, self.left, lambda place: codes[place])
        self.spent += spent
        self.value[rows] = value - self.terms.cost(codes, rows)
        self.stale[rows], self.vain[rows] = True, 0
        self._keep(rows)

    def _keep(self, rows: Tensor) -> None:
        """Remember what is better than all before; the start even if it is forbidden."""
        first = not self.history
        better = rows[(self.value[rows] > self.best_value[rows]) | first]
        self.best[better], self.best_value[better] = self.codes[better], self.value[better]
        if len(better):
            self.history.append((better, self.spent[better].clone(), self.value[better].clone()))

    def _look(self, rows: Tensor) -> None:
        """Gradients of the rows that have moved."""
        rows = rows[self.stale[rows] & (self.left[rows] > 0)]
        if self.top is None or not len(rows):
            return
        slopes = self.function.slopes(self.codes[rows], rows)
        self.spent[rows] += 1
        if slopes is None:
            self.top = None
            return
        if self.gains is None:
            self.gains = slopes.new_zeros(len(self.codes), slopes.shape[1])
        worth = slopes - self.terms.price[rows].to(slopes)
        self.gains[rows] = self.terms.space.swap_gains(worth, self.codes[rows])
        self.stale[rows] = False

    def _singles(self, rows: Tensor) -> Tensor:
        """Try the next batch of swaps; whether a row did not move and has none left, `(n,)`."""
        fine, _ = self.terms.swaps(self.codes[rows], rows)
        if self.top is None or self.gains is None:
            chosen, done = fine, torch.ones_like(rows, dtype=torch.bool)
        else:
            # batches of top, 2 top, 4 top, ...
            last = self.top * (2 ** (self.vain[rows] + 1) - 1)
            first = last - self.top * 2 ** self.vain[rows]
            chosen = ranked(self.gains[rows], fine, first, last)
            done = last >= fine.sum(1)
            if self.plan.patience is not None:
                done |= self.vain[rows] + 1 >= self.plan.patience
        place, column = chosen.nonzero(as_tuple=True)
        moved = self._best_of(Moves(rows[place], column))[rows]
        self.vain[rows] = torch.where(moved, 0, self.vain[rows] + 1)
        return ~moved & (done | (self.left[rows] <= 0))

    def _pairs(self, rows: Tensor) -> Tensor:
        """Whether a pair of swaps moved each row `(n,)`."""
        moved = torch.zeros_like(self.stale)
        gains = None if self.gains is None else self.gains[rows]
        for moves in pairs(self.terms, self.codes[rows], rows, gains, self.top):
            kept = ~moved[moves.row]
            moved |= self._best_of(Moves(*(part[kept] for part in moves if part is not None)))
        return moved[rows]

    def _best_of(self, moves: Moves) -> Tensor:
        """Make the best of each row's moves if it is better; whether it was, `(N,)`."""
        moves = self._entered(moves)
        keys = self.terms.keys(self.codes, moves)

        def build(place: Tensor) -> Tensor:
            return self.terms.made(self.codes, moves.at(place))

        value, spent = self.function(keys, moves.row, self.left, build)
        self.spent += spent
        value = value - self.terms.costs(self.codes, moves)
        best = torch.full_like(self.value, -torch.inf).scatter_reduce(0, moves.row, value, "amax")
        # strictly, or rows of equal value would be swapped for one another for ever
        better = best > self.value
        there = (value == best[moves.row]).nonzero().squeeze(1)  # of equals the first is made
        none = torch.full_like(self.vain, len(value))
        place = none.scatter_reduce(0, moves.row[there], there, "amin")
        rows = better.nonzero().squeeze(1)
        self.codes[rows] = self.terms.made(self.codes, moves.at(place[rows]))
        self.value[rows], self.stale[rows], self.vain[rows] = best[rows], True, 0
        self._keep(rows)
        return better

    def _entered(self, moves: Moves) -> Moves:
        """The moves to rows that may be entered."""
        if self.terms.allowed is None or not len(moves.row):
            return moves
        places = torch.arange(len(moves.row), device=moves.row.device)
        parts = places.split(max(1, _CODES // self.terms.space.num_features))
        made = (self.terms.made(self.codes, moves.at(part)) for part in parts)
        fine = torch.cat([self.terms.allowed(codes) for codes in made])
        return moves.at(fine.nonzero().squeeze(1))

    def _without(self, rows: Tensor, ended: Tensor) -> Tensor:
        """The rows that go on: of those that ended the ones with climbs left, from new rows."""
        again = ended[(self.again[ended] > 0) & (self.left[ended] > 0)]
        if len(again):
            self.again[again] -= 1
            codes = self.best[again]
            for _ in range(_KICKS):
                codes = self.terms.kicked(codes, again, self.noise)
            self.codes[again] = codes
            self._enter(again)
        over = torch.zeros_like(self.stale)
        over[ended], over[again] = True, False
        return rows[~over[rows]]
