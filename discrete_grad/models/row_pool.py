"""The best rows so far of many contexts: which are kept, which would be returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from discrete_grad.sampling import random_indices, seeded
from discrete_grad.space import CategoricalSpace

__all__ = ["ByContext", "Pool", "best_places", "category_keys", "joined", "new_pool", "row_keys"]

# numbers of codes that are scored at a time: what a small ensemble makes of them fits into a
# processor's cache
_SCORED, _ROWS_SCORED = 2**17, 1024

ByContext = Callable[[Tensor, Tensor], Tensor]
"""Codes `(n, F)` and the places `(n,)` of their contexts -> `(n,)`."""


class Pool(NamedTuple):
    """Different rows of S contexts.

    Example:
        >>> new_pool(2, 3, 4).values.shape
        torch.Size([2, 3])
    """

    codes: Tensor
    """`(S, P, F)`."""
    values: Tensor
    """`(S, P)`, `-inf` where there is no row."""
    keys: Tensor
    """`(S, P)`, see `row_keys`."""
    barred: Tensor
    """`(S, P)`, whether it must not be returned."""
    opened: Tensor
    """`(S, P)`, whether its swaps have been looked at."""
    chosen: Tensor
    """`(S, P)`, whether it would be returned."""

    def at(self, place: Tensor) -> Pool:
        """The rows at places `(S, n)`."""
        return Pool(taken(self.codes, place), *(part.gather(1, place) for part in self[1:]))


def new_pool(
    contexts: int, size: int, features: int, *, device: torch.device | None = None
) -> Pool:
    """A pool without a row."""
    codes = torch.zeros(contexts, size, features, dtype=torch.long, device=device)
    values = torch.full((contexts, size), -torch.inf, device=device)
    no = torch.zeros_like(values, dtype=torch.bool)
    return Pool(codes, values, no.long(), no, no, no)


def row_keys(space: CategoricalSpace, codes: Tensor) -> Tensor:
    """A number `(...)` for each row `(..., F)`: equal for equal rows, practically never for others.

    The sum, in 64 bits that wrap, of a fixed random number for each category (Zobrist, 1970).

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> keys = row_keys(space, torch.tensor([[1, 2], [0, 2], [1, 2]]))
        >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
        (True, False)
    """
    return category_keys(space, codes.device)[space.columns(codes)].sum(-1)


def category_keys(space: CategoricalSpace, device: torch.device) -> Tensor:
    """The numbers `(D,)` that `row_keys` adds."""
    return random_indices(2**62, (space.width,), generator=seeded(0)).to(device)


def joined(
    pool: Pool,
    rows: Tensor,
    keys: Tensor,
    *,
    where: Tensor,
    asked: Tensor,
    score: ByContext,
    barred: ByContext | None,
    count: int,
    distance: int,
) -> tuple[Pool, Tensor]:
    """The best of a pool and of further rows, those to be returned above all.

    Args:
        pool: of P places a context.
        rows: `(S, M, F)`.
        keys: `(S, M)`, of the rows.
        where: `(S,)`, the places of the pool's contexts among all.
        asked: `(S, M)`, the rows that count; those that the pool holds do not.
        score: of a row.
        barred: whether a row must not be returned.
        count: rows to be returned.
        distance: features in which they differ at least.

    Returns:
        The pool, of P places again, and how many rows `(S,)` were scored.
    """
    fresh = asked & _unseen(pool.keys, keys)
    found, context = rows[fresh], where[fresh.nonzero()[:, 0]]
    values = torch.full_like(keys, -torch.inf, dtype=torch.float32)
    values[fresh] = _in_parts(score, found, context).float()
    no = torch.zeros_like(fresh)
    kept_back = no.clone()
    if barred is not None:
        kept_back[fresh] = barred(found, context)
    more = Pool(rows, values, keys, kept_back, no, no)
    both = Pool(*(torch.cat(pair, 1) for pair in zip(pool, more, strict=True)))
    both = both._replace(chosen=_chosen(both, count, distance))
    # chosen rows stay in the pool even where better ones are barred or too near
    order = both.values.masked_fill(both.chosen, torch.inf)
    return both.at(order.topk(pool.keys.shape[1]).indices), fresh.sum(1)


def best_places(values: Tensor, count: int) -> Tensor:
    """Whether each of the values `(S, P)` is among the best so many, and none of `-inf`."""
    place = values.topk(min(count, values.shape[1])).indices
    best = torch.zeros_like(values, dtype=torch.bool).scatter(1, place, True)
    return best & (values > -torch.inf)


def taken(codes: Tensor, place: Tensor) -> Tensor:
    """Rows `(S, n, F)` at places `(S, n)` of codes `(S, P, F)`."""
    return codes.gather(1, place.unsqueeze(-1).expand(-1, -1, codes.shape[-1]))


def _chosen(pool: Pool, count: int, distance: int) -> Tensor:
    """Mask `(S, P)` of the rows to be returned: greedily the best that are far enough apart."""
    left = pool.values.masked_fill(pool.barred, -torch.inf)
    if distance == 1:
        return best_places(left, count)
    chosen = torch.zeros_like(pool.barred)
    for _ in range(count):
        value, place = left.max(1, keepdim=True)
        if not (found := value > -torch.inf).any():
            break
        chosen |= torch.zeros_like(chosen).scatter(1, place, found)
        near = (pool.codes != taken(pool.codes, place)).sum(-1) < distance
        left = left.masked_fill(near, -torch.inf)
    return chosen


def _in_parts(score: ByContext, codes: Tensor, where: Tensor) -> Tensor:
    """Scores `(n,)` of rows `(n, F)`."""
    size = max(1, min(_ROWS_SCORED, _SCORED // codes.shape[1]))
    pairs = zip(codes.split(size), where.split(size), strict=True)
    return torch.cat([score(some, context) for some, context in pairs])


def _unseen(known: Tensor, keys: Tensor) -> Tensor:
    """Mask of keys `(S, M)` that are neither among the known `(S, P)` nor repeated."""
    # stable, known keys first: of equal keys the first is kept, and a known one comes first
    ordered, order = torch.cat([known, keys], 1).sort(dim=1, stable=True)
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ~torch.zeros_like(repeated).scatter(1, order, repeated)[:, known.shape[1] :]
