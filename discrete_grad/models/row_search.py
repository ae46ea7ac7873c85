"""The best rows of many contexts at once: from the most likely ones, by single swaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from discrete_grad.models.likely_rows import most_likely_rows
from discrete_grad.sampling import categorical, random_indices, seeded, uniform
from discrete_grad.space import CategoricalSpace

__all__ = ["best_rows", "contexts_at_once", "row_keys"]

_POOL = 256
# the last draws every category that is allowed alike
_TEMPERATURES = (1.0, 3.0, 10.0, 1e6)
# numbers of codes that are scored at a time (what a small ensemble makes of them fits into a
# processor's cache), that are held at a time, and by which a context's pool grows in a step
_SCORED, _HELD, _STEP = 2**17, 2**22, 2**16
_ROWS_SCORED = 1024
_DRAWS = 2**12

ByContext = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def best_rows(
    space: CategoricalSpace,
    logits: Tensor,
    score: ByContext,
    count: int,
    *,
    evaluations: int,
    barred: ByContext | None = None,
    distance: int = 1,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Different rows of the highest score for each of many distributions.

    A space of at most `evaluations` rows is looked at as a whole. Otherwise the most likely rows
    and some draws at rising temperatures are scored, then all single swaps of the best rows found
    so far, again and again, until none of the rows to be returned has a better swap or the
    evaluations are spent. What is found for a context depends on no other.

    Args:
        space: the space.
        logits: `(S, D)`; a masked category is never in a row.
        score: codes `(n, F)` and the places `(n,)` of their distributions -> `(n,)`.
        count: rows wanted of each, at least 1.
        evaluations: of the score for each, at most; as many as rows are wanted are always made.
        barred: the same arguments -> boolean `(n,)`, rows that are never returned, though their
            swaps may be; by default none.
        distance: features in which any two rows of a context differ at least. A row that is too
            near a better one is left out.
        seed: decides the draws.

    Returns:
        Codes `(S, count, F)` and scores `(S, count)`, the best first; a context with fewer rows has
        `-inf` in the places that are left.

    Raises:
        ValueError: for a count or distance below 1, or logits that do not fit.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> def score(codes, where):
        ...     return (3 * codes[:, 0] + codes[:, 1]).float()
        >>> best_rows(space, torch.zeros(1, 5), score, 2, evaluations=100)[0].tolist()
        [[[1, 2], [1, 1]]]
    """
    if count < 1 or distance < 1:
        raise ValueError(f"count and distance must be at least 1, got {count} and {distance}")
    space.check_logits(logits)
    if logits.dim() != 2:
        raise ValueError(f"logits must be (S, {space.width}), got {tuple(logits.shape)}")
    size = _pool_size(count, evaluations)
    scored = _masked(space, logits, score)
    search = _Search(space, scored, barred, count=count, size=size, distance=distance)
    if space.num_rows <= evaluations:
        pool = search.begun(space.enumerate(device=logits.device).expand(len(logits), -1, -1))
    else:
        rows = _starts(space, logits, count, evaluations=evaluations, distance=distance, seed=seed)
        pool = search.climbed(search.begun(rows), evaluations - rows.shape[1])
    values = pool.values.masked_fill(~pool.chosen, -torch.inf)
    values, order = values.sort(dim=-1, descending=True, stable=True)
    return _taken(pool.codes, order[:, :count]), values[:, :count]


def contexts_at_once(space: CategoricalSpace, count: int, evaluations: int, distance: int) -> int:
    """Contexts that `best_rows` takes at a time within a bounded memory, at least 1."""
    likely, draws = _num_starts(count, evaluations, distance)
    found = max(likely + draws * len(_TEMPERATURES), _opened_at_once(space, count) * space.width)
    rows = space.num_rows if space.num_rows <= evaluations else found
    return max(
        1, _HELD // ((rows + _pool_size(count, evaluations)) * space.num_features + space.width)
    )


def row_keys(space: CategoricalSpace, codes: Tensor) -> Tensor:
    """A number `(...)` for each row `(..., F)`: equal for equal rows, and else as good as never.

    The sum, in 64 bits that wrap, of a fixed random number for each category (Zobrist, 1970).

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> keys = row_keys(space, torch.tensor([[1, 2], [0, 2], [1, 2]]))
        >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
        (True, False)
    """
    return _category_keys(space, codes.device)[space.columns(codes)].sum(-1)


def _category_keys(space: CategoricalSpace, device: torch.device) -> Tensor:
    return random_indices(2**62, (space.width,), generator=seeded(0)).to(device)


def _masked(space: CategoricalSpace, logits: Tensor, score: ByContext) -> ByContext:
    """The score, `-inf` for a row that holds a masked category."""
    if logits.isfinite().all():
        return score

    def masked(codes: Tensor, where: Tensor) -> Tensor:
        allowed = logits[where].gather(1, space.columns(codes)).isfinite().all(-1)
        return score(codes, where).masked_fill(~allowed, -torch.inf)

    return masked


def _starts(
    space: CategoricalSpace,
    logits: Tensor,
    count: int,
    *,
    evaluations: int,
    distance: int,
    seed: int,
) -> Tensor:
    """Most likely rows, and draws where there are evaluations to spare: `(S, A, F)`.

    The draws of all contexts share their noise, so that none depends on the others.
    """
    likely, draws = _num_starts(count, evaluations, distance)
    shape = (len(logits), draws, -1)
    noise = uniform((draws, space.num_features), generator=seeded(seed)).to(logits.device)
    drawn = [
        categorical(space, (logits / t).unsqueeze(1).expand(shape), noise.expand(shape))
        for t in _TEMPERATURES
    ]
    return torch.cat([most_likely_rows(space, logits, likely)[0], *drawn], 1)


def _num_starts(count: int, evaluations: int, distance: int) -> tuple[int, int]:
    """The most likely rows to begin with, and the draws at each temperature."""
    likely = max(count, min(_POOL, evaluations // 8))
    # the most likely rows are alike: rows far apart begin with draws
    draws = min(_POOL // 4, evaluations // 128) if distance == 1 else min(_DRAWS, evaluations // 16)
    return likely, draws


def _pool_size(count: int, evaluations: int) -> int:
    return max(2 * count, min(_POOL, evaluations))


def _opened_at_once(space: CategoricalSpace, count: int) -> int:
    """Rows whose swaps are looked at in one step: few, so that the next ones are better."""
    return max(1, min(count // 8, _STEP // (space.width * space.num_features)))


class _Pool(NamedTuple):
    """The best rows so far of S contexts, those to be returned among them."""

    codes: Tensor
    """`(S, P, F)`."""
    values: Tensor
    """`(S, P)`, `-inf` where there is no row."""
    keys: Tensor
    """`(S, P)`."""
    barred: Tensor
    """`(S, P)`."""
    opened: Tensor
    """`(S, P)`, whether all swaps have been looked at."""
    chosen: Tensor
    """`(S, P)`, whether it would be returned."""


class _Search:
    """The steps of `best_rows`, with what all of them need."""

    def __init__(
        self,
        space: CategoricalSpace,
        score: ByContext,
        barred: ByContext | None,
        *,
        count: int,
        size: int,
        distance: int,
    ) -> None:
        self.space, self.score, self.barred = space, score, barred
        self.count, self.size, self.distance = count, size, distance

    def begun(self, rows: Tensor) -> _Pool:
        """The pool of rows `(S, A, F)`."""
        codes = rows.new_zeros(len(rows), self.size, rows.shape[-1])
        values = torch.full_like(codes[..., 0], -torch.inf, dtype=torch.float32)
        no = torch.zeros_like(values, dtype=torch.bool)
        pool = _Pool(codes, values, no.long(), no, no, no)
        keys = row_keys(self.space, rows)
        everywhere = torch.arange(len(rows), device=rows.device)
        return self._joined(pool, everywhere, rows, keys, _unseen(pool.keys, keys))

    def climbed(self, pool: _Pool, evaluations: int) -> _Pool:
        """The pool after as many swaps as the evaluations allow, and lead on."""
        swaps = self.space.width - self.space.num_features
        left = pool.keys.new_full((len(pool.keys),), evaluations)
        while swaps:
            unopened = self._worth_opening(pool)
            where = (unopened.any(1) & (left >= swaps)).nonzero().squeeze(1)
            if not len(where):
                break
            part = _Pool(*(tensor[where] for tensor in pool))
            part, spent = self._opened(part, where, unopened[where], left[where] // swaps)
            left[where] -= spent
            for whole, tensor in zip(pool, part, strict=True):
                whole[where] = tensor
        return pool

    def _worth_opening(self, pool: _Pool) -> Tensor:
        """Which rows `(S, P)`: those to be returned and the best ones; after them all others."""
        leading = _best(pool.values, self.count) if pool.barred.any() else pool.chosen
        first = (pool.chosen | leading) & ~pool.opened
        rest = ~pool.opened & (pool.values > -torch.inf)
        return torch.where(first.any(1, keepdim=True), first, rest)

    def _opened(
        self, pool: _Pool, where: Tensor, unopened: Tensor, most: Tensor
    ) -> tuple[_Pool, Tensor]:
        """The pool and the swaps of its best unopened rows, at most `(S,)`; evaluations `(S,)`."""
        rows = min(_opened_at_once(self.space, self.count), int(unopened.sum(1).max()))
        place = pool.values.masked_fill(~unopened, -torch.inf).topk(rows).indices
        meant = torch.arange(rows, device=most.device) < most.unsqueeze(1)
        meant &= unopened.gather(1, place)
        opened = pool.opened | torch.zeros_like(unopened).scatter(1, place, meant)
        codes = _taken(pool.codes, place)
        # the key of a row's own category leads to the row itself, which is in the pool
        each = _category_keys(self.space, codes.device).expand(*place.shape, -1)
        keys = pool.keys.gather(1, place).unsqueeze(-1) + self.space.less_own(each, codes)
        fresh = _unseen(pool.keys, keys.flatten(1))
        fresh &= meant.repeat_interleave(self.space.width, 1)
        rows_found = _all_swaps(self.space, codes)
        pool = pool._replace(opened=opened)
        return self._joined(pool, where, rows_found, keys.flatten(1), fresh), fresh.sum(1)

    def _joined(
        self, pool: _Pool, where: Tensor, rows: Tensor, keys: Tensor, fresh: Tensor
    ) -> _Pool:
        """The best of the pool and of the fresh ones among rows `(S, M, F)`."""
        found, context = rows[fresh], where[fresh.nonzero()[:, 0]]
        values = torch.full_like(keys, -torch.inf, dtype=torch.float32)
        values[fresh] = _in_parts(self.score, found, context).float()
        no = torch.zeros_like(fresh)
        barred = no.clone()
        if self.barred is not None:
            barred[fresh] = self.barred(found, context)
        more = _Pool(rows, values, keys, barred, no, no)
        both = _Pool(*(torch.cat(pair, 1) for pair in zip(pool, more, strict=True)))
        both = both._replace(chosen=self._chosen(both))
        order = both.values.masked_fill(both.chosen, torch.inf)
        place = order.topk(pool.keys.shape[1]).indices
        return _Pool(_taken(both.codes, place), *(part.gather(1, place) for part in both[1:]))

    def _chosen(self, pool: _Pool) -> Tensor:
        """Which rows `(S, P)` would be returned: greedily the best that are far enough apart."""
        left = pool.values.masked_fill(pool.barred, -torch.inf)
        if self.distance == 1:
            return _best(left, self.count)
        chosen = torch.zeros_like(pool.barred)
        for _ in range(self.count):
            value, place = left.max(1, keepdim=True)
            if not (found := value > -torch.inf).any():
                break
            chosen |= torch.zeros_like(chosen).scatter(1, place, found)
            near = (pool.codes != _taken(pool.codes, place)).sum(-1) < self.distance
            left = left.masked_fill(near, -torch.inf)
        return chosen


def _best(values: Tensor, count: int) -> Tensor:
    place = values.topk(min(count, values.shape[1])).indices
    return torch.zeros_like(values, dtype=torch.bool).scatter(1, place, True) & (
        values > -torch.inf
    )


def _in_parts(score: ByContext, codes: Tensor, where: Tensor) -> Tensor:
    """Scores `(n,)` of rows `(n, F)`."""
    size = max(1, min(_ROWS_SCORED, _SCORED // codes.shape[1]))
    pairs = zip(codes.split(size), where.split(size), strict=True)
    return torch.cat([score(some, context) for some, context in pairs])


def _taken(codes: Tensor, place: Tensor) -> Tensor:
    """Rows `(S, n, F)` at places `(S, n)` of codes `(S, P, F)`."""
    return codes.gather(1, place.unsqueeze(-1).expand(-1, -1, codes.shape[-1]))


def _all_swaps(space: CategoricalSpace, codes: Tensor) -> Tensor:
    """Each row `(S, n, F)` with each category in its feature's place: `(S, n D, F)`."""
    rows = codes.unsqueeze(2).repeat(1, 1, space.width, 1)
    sizes = torch.tensor(space.sizes, device=codes.device)
    feature = torch.arange(space.num_features, device=codes.device).repeat_interleave(sizes)
    column = torch.arange(space.width, device=codes.device)
    rows[:, :, column, feature] = column - torch.tensor(space.offsets, device=codes.device)[feature]
    return rows.flatten(1, 2)


def _unseen(known: Tensor, keys: Tensor) -> Tensor:
    """Which keys `(S, M)` are neither among the known `(S, P)` nor stand earlier themselves."""
    ordered, order = torch.cat([known, keys], 1).sort(dim=1, stable=True)
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ~torch.zeros_like(repeated).scatter(1, order, repeated)[:, known.shape[1] :]
