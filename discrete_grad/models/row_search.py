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

Score = Callable[[Tensor, Tensor], Tensor]

_POOL = 256
_TEMPERATURES = (1, 2, 4, 8)
# so many numbers of codes are scored at a time (what a small ensemble makes of them fits into a
# processor's cache), and held at a time
_SCORED, _HELD, _OPENED = 2**17, 2**22, 2**16
_MOST_SCORED = 1024


class _Pool(NamedTuple):
    """The best rows so far of S contexts, those that `count` and `distance` select first."""

    codes: Tensor
    """`(S, P, F)`."""
    values: Tensor
    """`(S, P)`, `-inf` where there is no row."""
    keys: Tensor
    """`(S, P)`."""
    opened: Tensor
    """`(S, P)`, whether all swaps have been looked at."""
    chosen: Tensor
    """`(S, P)`, whether it would be returned."""


@torch.no_grad()
def best_rows(
    space: CategoricalSpace,
    logits: Tensor,
    score: Score,
    count: int,
    *,
    evaluations: int,
    distance: int = 1,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Different rows of the highest score for each of many distributions.

    A space of at most `evaluations` rows is looked at as a whole. Otherwise the most likely rows
    and draws at rising temperatures are scored, then all single swaps of the best rows found so
    far, again and again, until the rows to be returned have no better swap or the evaluations are
    spent. What is found for a context depends on no other.

    Args:
        space: the space.
        logits: `(S, D)`; a masked category is never in a row.
        score: codes `(n, F)` and the places `(n,)` of their distributions -> `(n,)`; a row scored
            `-inf` is never returned.
        count: rows wanted of each, at least 1.
        evaluations: of the score for each at most; twice the rows wanted are always scored.
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
    search = _Search(space, _masked(space, logits, score), count, distance)
    if space.num_rows <= evaluations:
        pool = search.begun(space.enumerate(device=logits.device).expand(len(logits), -1, -1))
    else:
        rows = _starts(space, logits, count, evaluations, seed)
        pool = search.climbed(search.begun(rows), evaluations - rows.shape[1])
    values = pool.values.masked_fill(~pool.chosen, -torch.inf)
    values, order = values.sort(dim=-1, descending=True, stable=True)
    return _taken(pool.codes, order[:, :count]), values[:, :count]


def contexts_at_once(space: CategoricalSpace, count: int, evaluations: int) -> int:
    """Contexts that `best_rows` takes at a time within a bounded memory, at least 1."""
    if space.num_rows <= evaluations:
        rows = space.num_rows
    else:
        likely, draws = _num_starts(count, evaluations)
        rows = max(likely + draws * len(_TEMPERATURES), _opened_at_once(space, count) * space.width)
    return max(1, _HELD // ((rows + _size(count)) * space.num_features + space.width))


def row_keys(space: CategoricalSpace, codes: Tensor) -> Tensor:
    """A number `(...)` for each row `(..., F)`: equal for equal rows, and else as good as never.

    The sum, in 64 bits that wrap, of a fixed random number for each category (Zobrist, 1970).

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> keys = row_keys(space, torch.tensor([[1, 2], [0, 2], [1, 2]]))
        >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
        (True, False)
    """
    return _category_keys(space).to(codes.device)[space.columns(codes)].sum(-1)


def _category_keys(space: CategoricalSpace) -> Tensor:
    return random_indices(2**62, (space.width,), generator=seeded(0))


def _masked(space: CategoricalSpace, logits: Tensor, score: Score) -> Score:
    """The score, `-inf` for a row that holds a masked category."""
    if logits.isfinite().all():
        return score

    def masked(codes: Tensor, where: Tensor) -> Tensor:
        allowed = logits[where].gather(1, space.columns(codes)).isfinite().all(-1)
        return score(codes, where).masked_fill(~allowed, -torch.inf)

    return masked


def _starts(
    space: CategoricalSpace, logits: Tensor, count: int, evaluations: int, seed: int
) -> Tensor:
    """Most likely rows, and draws where there are evaluations to spare: `(S, A, F)`.

    The draws of all contexts share their noise, so that none depends on the others.
    """
    count, draws = _num_starts(count, evaluations)
    likely = most_likely_rows(space, logits, count)[0]
    noise = uniform((draws, space.num_features), generator=seeded(seed)).to(logits.device)
    shape = (len(logits), draws)
    return torch.cat(
        [
            likely,
            *(
                categorical(
                    space,
                    (logits / temperature).unsqueeze(1).expand(*shape, -1),
                    noise.expand(*shape, -1),
                )
                for temperature in _TEMPERATURES
            ),
        ],
        1,
    )


def _num_starts(count: int, evaluations: int) -> tuple[int, int]:
    """The most likely rows to begin with, and the draws at each temperature."""
    some = min(_POOL, evaluations // 4)
    return max(2 * count, some), some // len(_TEMPERATURES)


def _size(count: int) -> int:
    return max(2 * count, _POOL)


class _Search:
    """The steps of `best_rows`, with what all of them need."""

    def __init__(self, space: CategoricalSpace, score: Score, count: int, distance: int) -> None:
        self.space, self.score, self.count, self.distance = space, score, count, distance

    def begun(self, rows: Tensor) -> _Pool:
        """The pool of rows `(S, A, F)`."""
        codes = rows.new_zeros(len(rows), max(2 * self.count, _POOL), rows.shape[-1])
        values = torch.full_like(codes[..., 0], -torch.inf, dtype=torch.float32)
        nothing = torch.zeros_like(values, dtype=torch.bool)
        pool = _Pool(codes, values, nothing.long(), nothing, nothing)
        keys = row_keys(self.space, rows)
        where = torch.arange(len(rows), device=rows.device)
        return self._joined(pool, where, rows, keys, _unseen(pool.keys, keys))

    def climbed(self, pool: _Pool, evaluations: int) -> _Pool:
        """The pool after as many swaps as the evaluations allow, and lead on."""
        swaps = self.space.width - self.space.num_features
        left = pool.keys.new_full((len(pool.keys),), max(0, evaluations) // max(1, swaps))
        while swaps:
            unopened = pool.chosen & ~pool.opened & (left > 0).unsqueeze(1)
            where = unopened.any(1).nonzero().squeeze(1)
            if not len(where):
                break
            part = _Pool(*(tensor[where] for tensor in pool))
            part, count = self._opened(part, where, unopened[where], left[where])
            left[where] -= count
            for whole, tensor in zip(pool, part, strict=True):
                whole[where] = tensor
        return pool

    def _opened(
        self, pool: _Pool, where: Tensor, unopened: Tensor, left: Tensor
    ) -> tuple[_Pool, Tensor]:
        """The pool and all swaps of its best unopened rows, and how many `(S,)` those are."""
        rows = min(_opened_at_once(self.space, self.count), int(unopened.sum(1).max()))
        place = pool.values.masked_fill(~unopened, -torch.inf).topk(rows).indices
        meant = torch.arange(rows, device=left.device) < left.unsqueeze(1)
        meant &= unopened.gather(1, place)
        pool = pool._replace(
            opened=pool.opened | unopened.new_zeros(unopened.shape).scatter(1, place, meant)
        )
        codes = _taken(pool.codes, place)
        # the key of a row's own category leads to the row itself, which is in the pool
        width = self.space.width
        each = _category_keys(self.space).to(codes.device).expand(*place.shape, width)
        keys = pool.keys.gather(1, place).unsqueeze(-1) + self.space.less_own(each, codes)
        fresh = _unseen(pool.keys, keys.flatten(1)) & meant.repeat_interleave(width, 1)
        pool = self._joined(pool, where, _all_swaps(self.space, codes), keys.flatten(1), fresh)
        return pool, meant.sum(1)

    def _joined(
        self, pool: _Pool, where: Tensor, rows: Tensor, keys: Tensor, fresh: Tensor
    ) -> _Pool:
        """The best of the pool and of the fresh ones among rows `(S, M, F)`."""
        values = torch.full_like(keys, -torch.inf, dtype=torch.float32)
        values[fresh] = self._scores(rows[fresh], where[fresh.nonzero()[:, 0]])
        unopened = torch.zeros_like(fresh)
        both = _Pool(
            *(
                torch.cat(pair, 1)
                for pair in zip(pool, (rows, values, keys, unopened, unopened), strict=True)
            )
        )
        chosen = self._chosen(both)
        order = both.values.masked_fill(chosen, torch.inf)
        place = order.topk(pool.keys.shape[1]).indices
        kept = both._replace(chosen=chosen)
        return _Pool(_taken(kept.codes, place), *(part.gather(1, place) for part in kept[1:]))

    def _chosen(self, pool: _Pool) -> Tensor:
        """Which rows `(S, P)` would be returned: greedily the best that are far enough apart."""
        chosen = torch.zeros_like(pool.opened)
        if self.distance == 1:
            place = pool.values.topk(min(self.count, chosen.shape[1])).indices
            return chosen.scatter(1, place, True) & (pool.values > -torch.inf)
        left = pool.values.clone()
        for _ in range(self.count):
            value, place = left.max(1, keepdim=True)
            if not (found := value > -torch.inf).any():
                break
            chosen |= chosen.scatter(1, place, found)
            near = (pool.codes != _taken(pool.codes, place)).sum(-1) < self.distance
            left = left.masked_fill(near, -torch.inf)
        return chosen

    def _scores(self, codes: Tensor, where: Tensor) -> Tensor:
        """Scores `(n,)` of rows `(n, F)`, in parts."""
        size = max(1, min(_MOST_SCORED, _SCORED // self.space.num_features))
        pairs = zip(codes.split(size), where.split(size), strict=True)
        return torch.cat(
            [self.score(c, w).float() for c, w in pairs] or [codes.new_empty(0).float()]
        )


def _num_swaps(space: CategoricalSpace) -> int:
    return space.width - space.num_features


def _opened_at_once(space: CategoricalSpace, count: int) -> int:
    return max(1, min(count, _OPENED // (space.width * space.num_features)))


def _taken(codes: Tensor, place: Tensor) -> Tensor:
    """Rows `(S, n, F)` at places `(S, n)` of codes `(S, P, F)`."""
    return codes.gather(1, place.unsqueeze(-1).expand(-1, -1, codes.shape[-1]))


def _all_swaps(space: CategoricalSpace, codes: Tensor) -> Tensor:
    """Each row `(S, n, F)` with each category in its feature's place: `(S, n D, F)`."""
    rows = codes.unsqueeze(2).repeat(1, 1, space.width, 1)
    sizes = torch.tensor(space.sizes, device=codes.device)
    column = torch.arange(space.width, device=codes.device)
    feature = torch.arange(space.num_features, device=codes.device).repeat_interleave(sizes)
    starts = torch.tensor(space.offsets, device=codes.device)
    rows[:, :, column, feature] = column - starts[feature]
    return rows.flatten(1, 2)


def _unseen(known: Tensor, keys: Tensor) -> Tensor:
    """Which keys `(S, M)` are neither among the known `(S, P)` nor stand earlier themselves."""
    ordered, order = torch.cat([known, keys], 1).sort(dim=1, stable=True)
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ~torch.zeros_like(repeated).scatter(1, order, repeated)[:, known.shape[1] :]
