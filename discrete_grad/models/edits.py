"""Rows that were edited, and worth of each of their changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from discrete_grad.models._row_values import RowFunction
from discrete_grad.models.swap_search import SwapSearch
from discrete_grad.space import CategoricalSpace

__all__ = ["Edits", "edits_of"]


@dataclass(frozen=True, eq=False)
class Edits:
    """Edited rows.

    Args:
        space: the features.
        start: codes `(N, F)` before; places that were unknown as they were filled in.
        codes: `(N, F)` after.
        before: worth `(N,)` of the start, float64, no price taken off.
        after: worth `(N,)` of `codes`.
        alone: `(N, F)`, worth that each change gains when it is made alone; 0 where none is.
        back: `(N, F)`, worth that is lost when it alone is taken back; 0 where there is none.
        pruned: `codes` `(N, F)` without the changes that can be taken back one after the other
            without losing worth less price, or more than a tolerance in all.
        kept: worth `(N,)` of `pruned`.
        evaluations: `(N,)`, of the model in the search.
        history: of each row `(n, 2)`: evaluations at each new best row, and its worth less price.

    Example:
        >>> from discrete_grad.models import edit
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> def either(row):
        ...     return torch.maximum(row[:, 1], row[:, 3])
        >>> found = edit(either, torch.tensor([[0, 0]]), space=space, target=1.0)
        >>> found.after - found.before
        tensor([1.], dtype=torch.float64)
    """

    space: CategoricalSpace
    start: Tensor
    codes: Tensor
    before: Tensor
    after: Tensor
    alone: Tensor
    back: Tensor
    pruned: Tensor
    kept: Tensor
    evaluations: Tensor
    history: tuple[Tensor, ...]

    @property
    def changed(self) -> Tensor:
        """Whether each feature `(N, F)` was changed."""
        return self.codes != self.start

    @property
    def needed(self) -> Tensor:
        """Whether pruning leaves a change in each feature `(N, F)`."""
        return self.pruned != self.start

    def at(self, rows: Tensor) -> Edits:
        """The edits of some of the rows, at places `(n,)`."""
        kept = {
            name: value[rows] if isinstance(value, Tensor) else value
            for name, value in vars(self).items()
        }
        history = tuple(self.history[row] for row in rows.tolist())
        return replace(self, **(kept | {"history": history}))

    def words(self, row: int) -> tuple[str, ...]:
        """The changes of a row, by name: `feature: category -> category`."""
        found, names = [], self.space.categories
        for place in self.changed[row].nonzero().squeeze(1).tolist():
            old, new = (names[place][int(codes[row, place])] for codes in (self.start, self.codes))
            found.append(f"{self.space.names[place]}: {old} -> {new}")
        return tuple(found)


Allowed = Callable[[Tensor, Tensor], Tensor]
"""Codes `(n, F)` and the places `(n,)` of their starts -> booleans `(n,)`."""


def edits_of(
    f: RowFunction,
    rows: Tensor,
    context: Tensor | None,
    found: SwapSearch,
    price: float | Tensor,
    allowed: Allowed,
    tolerance: float,
) -> Edits:
    """Worth of every change of rows that a search found.

    Args:
        f: worth of rows.
        rows: codes `(N, F)` before, -1 where unknown.
        context: `(N, C)`, or None.
        found: the rows after.
        price: as `swap_search` takes it.
        allowed: whether rows obey.
        tolerance: what pruning may lose.
    """
    start = torch.where(rows < 0, found.codes, rows)
    worth = _Worth(f, context, price)
    everywhere = torch.arange(len(rows), device=rows.device)
    before, after = worth(start, everywhere), worth(found.codes, everywhere)
    alone, back = (torch.zeros(rows.shape, dtype=torch.float64, device=rows.device) for _ in "ab")
    row, place = (start != found.codes).nonzero(as_tuple=True)
    alone[row, place] = worth(_moved(start, found.codes, row, place), row) - before[row]
    back[row, place] = after[row] - worth(_moved(found.codes, start, row, place), row)
    pruned = _pruned(worth, start, found.codes, allowed, tolerance)
    return Edits(
        f.space,
        start,
        found.codes,
        before,
        after,
        alone,
        back,
        pruned,
        worth(pruned, everywhere),
        found.evaluations,
        found.history,
    )


@dataclass(frozen=True, eq=False)
class _Worth:
    """Worth `(n,)` of rows `(n, F)` of the starts at places `(n,)`, and price of their edits."""

    f: RowFunction
    context: Tensor | None
    price: float | Tensor

    def __call__(self, codes: Tensor, where: Tensor) -> Tensor:
        parts = [torch.zeros(0, dtype=torch.float64, device=codes.device)]
        for some in torch.arange(len(codes), device=codes.device).split(self.f.at_once):
            if len(some):
                given = None if self.context is None else self.context[where[some]]
                parts.append(self.f.values(codes[some], given))
        return torch.cat(parts)

    def cost(self, codes: Tensor, start: Tensor, where: Tensor) -> Tensor:
        """Price of all edits of rows."""
        given = torch.as_tensor(self.price, dtype=torch.float64, device=codes.device)
        columns = self.f.space.columns(codes)
        each = given[where] if given.dim() == 2 else given.expand(len(codes), self.f.space.width)
        return each.gather(1, columns).where(codes != start, 0.0).sum(1)


def _moved(codes: Tensor, other: Tensor, row: Tensor, place: Tensor) -> Tensor:
    """Rows `(n, F)`, each with one feature as in the other rows."""
    at = place.unsqueeze(1)
    return codes[row].scatter(1, at, other[row].gather(1, at))


def _pruned(
    worth: _Worth, start: Tensor, codes: Tensor, allowed: Allowed, tolerance: float
) -> Tensor:
    """Take changes back while that loses nothing, the one that loses least first."""
    rows = torch.arange(len(codes), device=codes.device)
    codes = codes.clone()
    least = worth(codes, rows) - worth.cost(codes, start, rows) - tolerance
    while True:
        row, place = (codes != start).nonzero(as_tuple=True)
        fewer = _moved(codes, start, row, place)
        value = worth(fewer, row) - worth.cost(fewer, start[row], row)
        value = value.masked_fill(~allowed(fewer, row), -torch.inf)
        best = torch.full_like(least, -torch.inf).scatter_reduce(0, row, value, "amax")
        fine = (best >= least) & (best > -torch.inf)
        if not fine.any():
            return codes
        there = (value == best[row]).nonzero().squeeze(1)
        first = torch.full_like(rows, len(value)).scatter_reduce(0, row[there], there, "amin")
        codes[fine] = fewer[first[fine]]
