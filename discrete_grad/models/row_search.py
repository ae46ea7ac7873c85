"""The best rows of many contexts at once: from the most likely ones, by single swaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from discrete_grad.models._obeying import Obeying
from discrete_grad.models.likely_rows import most_likely_rows
from discrete_grad.models.row_pool import (
    ByContext,
    Pool,
    best_places,
    category_keys,
    joined,
    new_pool,
    row_keys,
    taken,
)
from discrete_grad.rules import Rules
from discrete_grad.sampling import categorical, gumbel_like, seeded, uniform
from discrete_grad.space import CategoricalSpace

__all__ = ["best_rows", "contexts_at_once"]

# the last draws every category that is allowed alike
_TEMPERATURES = (1.0, 3.0, 10.0, 1e6)
# numbers of codes that are held at a time, and by which a context's pool grows in a step
_HELD, _STEP = 2**22, 2**21
_POOL, _DRAWS, _SWAPS = 256, 2**12, 64


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
    starts: Tensor | None = None,
    rules: Rules | None = None,
    rule_context: Tensor | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Different rows of the highest score for each of many distributions.

    A space of at most `evaluations` rows is looked at as a whole. Otherwise the most likely rows
    and some draws at rising temperatures are scored, then the single swaps of the best rows found
    so far, again and again, until the evaluations are spent: all swaps of a row, or the most likely
    ones where there are thousands. Under rules every row that is looked at obeys: the most likely
    ones are those of the conditioned law, and a swap that breaks a rule is completed to the nearest
    row that breaks none. What is found for a context depends on no other.

    Args:
        space: the space.
        logits: `(S, D)`; a masked category is never in a row.
        score: codes `(n, F)` and the places `(n,)` of their distributions -> `(n,)`.
        count: rows wanted of each, at least 1.
        evaluations: of the score for each, at most; but `count` of them are always made.
        barred: the same arguments -> boolean `(n,)`, rows that are never returned, though their
            swaps may be; by default none.
        distance: features in which any two rows of a context differ at least. A row that is too
            near a better one is left out.
        starts: further rows `(n, F)`, or `(S, n, F)`, that the search begins with.
        rules: that the rows obey.
        rule_context: codes `(S, C)` of the context that the rules read, if any.
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
    obeying = None if rules is None else Obeying(rules, rule_context)
    plan = _plan(space, count, evaluations, distance, None if obeying is None else obeying.most)
    join = partial(
        joined,
        score=_masked(space, logits, score, obeying),
        barred=barred,
        count=count,
        distance=distance,
    )
    rows = _starts(space, logits, plan, seed, obeying)
    if starts is not None and not plan.whole:
        rows = torch.cat([rows, starts.to(rows).expand(len(rows), -1, -1)], 1)
    pool = new_pool(len(rows), plan.pool, space.num_features, device=logits.device)
    everywhere = torch.arange(len(rows), device=logits.device)
    keys = row_keys(space, rows)
    pool, spent = join(
        pool, rows, keys, where=everywhere, asked=torch.ones_like(keys, dtype=torch.bool)
    )
    if not plan.whole:
        left = evaluations - spent
        pool = _climbed(space, logits, plan, pool, obeying, join=join, left=left, count=count)
    values = pool.values.masked_fill(~pool.chosen, -torch.inf)
    values, order = values.sort(dim=-1, descending=True, stable=True)
    return taken(pool.codes, order[:, :count]), values[:, :count]


def contexts_at_once(space: CategoricalSpace, count: int, evaluations: int, distance: int) -> int:
    """Contexts that `best_rows` takes at a time within a bounded memory, at least 1."""
    plan = _plan(space, count, evaluations, distance, None)
    found = max(plan.likely + plan.draws * len(_TEMPERATURES), plan.opened * plan.swaps)
    rows = plan.pool + (space.num_rows if plan.whole else found)
    return max(1, _HELD // (rows * space.num_features + plan.opened * space.width))


@dataclass(frozen=True)
class _Plan:
    """Division of a search's evaluations."""

    whole: bool
    """Whether it looks at all rows of the space."""
    likely: int
    """The most likely rows that it begins with."""
    draws: int
    """Rows drawn at each temperature."""
    pool: int
    """Rows that are remembered."""
    opened: int
    """Rows whose swaps are looked at in one step: few, so that the next ones are better."""
    swaps: int
    """Swaps of a row that are looked at, its own categories among them."""


def _plan(
    space: CategoricalSpace, count: int, evaluations: int, distance: int, allowed: int | None
) -> _Plan:
    # the most likely rows are alike: rows far apart begin with draws
    draws = min(_POOL // 4, evaluations // 128) if distance == 1 else min(_DRAWS, evaluations // 16)
    swaps = min(space.width, max(_SWAPS, evaluations // 16))
    return _Plan(
        whole=(space.num_rows if allowed is None else allowed) <= evaluations,
        likely=max(count, min(_POOL, evaluations // 8)),
        draws=draws,
        pool=max(2 * count, min(_POOL, evaluations)),
        opened=max(1, min(count // 8, _STEP // (swaps * space.num_features))),
        swaps=swaps,
    )


def _masked(
    space: CategoricalSpace, logits: Tensor, score: ByContext, obeying: Obeying | None
) -> ByContext:
    """The score, `-inf` for a row that holds a masked category or does not obey."""
    finite = bool(logits.isfinite().all())
    if finite and obeying is None:
        return score

    def masked(codes: Tensor, where: Tensor) -> Tensor:
        value = score(codes, where)
        if not finite:
            allowed = logits[where].gather(1, space.columns(codes)).isfinite().all(-1)
            value = value.masked_fill(~allowed, -torch.inf)
        if obeying is not None:
            value = value.masked_fill(~obeying.allows(codes, where), -torch.inf)
        return value

    return masked


def _starts(
    space: CategoricalSpace, logits: Tensor, plan: _Plan, seed: int, obeying: Obeying | None
) -> Tensor:
    """All rows, or most likely ones and draws where there are evaluations to spare: `(S, A, F)`.

    The draws of all contexts share their noise, so that none depends on the others.
    """
    if plan.whole:
        rows = space.enumerate() if obeying is None else obeying.whole()
        return rows.to(logits.device).expand(len(logits), -1, -1)
    if obeying is not None:
        free = torch.zeros(plan.draws, space.width)
        heat = gumbel_like(free, generator=seeded(seed)).to(logits)
        drawn = [obeying.drawn(logits / t, heat) for t in _TEMPERATURES]
        return torch.cat([obeying.likely(logits, plan.likely), *drawn], 1)
    shape = (len(logits), plan.draws, -1)
    noise = uniform((plan.draws, space.num_features), generator=seeded(seed)).to(logits.device)
    drawn = [
        categorical(space, (logits / t).unsqueeze(1).expand(shape), noise.expand(shape))
        for t in _TEMPERATURES
    ]
    return torch.cat([most_likely_rows(space, logits, plan.likely)[0], *drawn], 1)


def _climbed(
    space: CategoricalSpace,
    logits: Tensor,
    plan: _Plan,
    pool: Pool,
    obeying: Obeying | None,
    *,
    join: Callable[..., tuple[Pool, Tensor]],
    left: Tensor,
    count: int,
) -> Pool:
    """The pool after as many swaps as the evaluations left `(S,)` allow."""
    while True:
        worth = _worth_opening(pool, count) & (left >= plan.swaps).unsqueeze(1)
        where = worth.any(1).nonzero().squeeze(1)
        if not len(where):
            return pool
        everywhere = len(where) == len(left)
        part = pool if everywhere else Pool(*(tensor[where] for tensor in pool))
        place, meant = _best_unopened(part, worth[where], plan, left[where])
        opened = part.opened | torch.zeros_like(part.opened).scatter(1, place, meant)
        rows, keys = _swaps(space, logits[where], part.at(place), plan.swaps)
        if obeying is not None:
            rows, keys = _mended(obeying, logits, where, part.at(place).codes, rows)
        asked = meant.repeat_interleave(plan.swaps, 1)
        part, spent = join(part._replace(opened=opened), rows, keys, where=where, asked=asked)
        # under rules many swaps lead to the same row: the work is that of them all
        left[where] -= spent if obeying is None else asked.sum(1)
        if everywhere:
            pool = part
            continue
        for whole, tensor in zip(pool, part, strict=True):
            whole[where] = tensor


def _worth_opening(pool: Pool, count: int) -> Tensor:
    """Order of rows `(S, P)`: those to be returned and the best ones; after them all others."""
    leading = best_places(pool.values, count) if pool.barred.any() else pool.chosen
    first = (pool.chosen | leading) & ~pool.opened
    rest = ~pool.opened & (pool.values > -torch.inf)
    return torch.where(first.any(1, keepdim=True), first, rest)


def _best_unopened(pool: Pool, worth: Tensor, plan: _Plan, left: Tensor) -> tuple[Tensor, Tensor]:
    """Places `(S, n)` of rows, the best first, and which of them `(S, n)` can be paid for."""
    rows = min(plan.opened, int(worth.sum(1).max()))
    place = pool.values.masked_fill(~worth, -torch.inf).topk(rows).indices
    affordable = torch.arange(rows, device=left.device) < (left // plan.swaps).unsqueeze(1)
    return place, affordable & worth.gather(1, place)


def _swaps(
    space: CategoricalSpace, logits: Tensor, rows: Pool, count: int
) -> tuple[Tensor, Tensor]:
    """The most likely swaps of each row: codes `(S, n count, F)` and keys `(S, n count)`.

    The swap to a category that a row has already is the row itself.
    """
    shape, device = (*rows.values.shape, space.width), logits.device
    if count < space.width:
        gain = space.swap_gains(logits.unsqueeze(1).expand(shape), rows.codes)
        column = gain.topk(count).indices
    else:
        column = torch.arange(count, device=device).expand(shape)
    # a row's key is a sum over its categories, so a swap changes it by the keys of two
    change = space.swap_gains(category_keys(space, device).expand(shape), rows.codes)
    keys = rows.keys.unsqueeze(-1) + change.gather(-1, column)
    sizes = torch.tensor(space.sizes, device=device)
    feature = torch.arange(space.num_features, device=device).repeat_interleave(sizes)[column]
    code = column - torch.tensor(space.offsets, device=device)[feature]
    codes = rows.codes.unsqueeze(2).repeat(1, 1, count, 1)
    codes = codes.scatter(-1, feature.unsqueeze(-1), code.unsqueeze(-1))
    return codes.flatten(1, 2), keys.flatten(1)


def _mended(
    obeying: Obeying, logits: Tensor, where: Tensor, opened: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Swaps `(S, n count, F)` of rows `(S, n, F)` that obey, and their keys."""
    origin = opened.repeat_interleave(rows.shape[1] // opened.shape[1], 1).flatten(0, 1)
    flat, context = rows.flatten(0, 1), where.repeat_interleave(rows.shape[1])
    swapped = (flat != origin).long().argmax(1)
    mended = obeying.mended(flat, swapped, logits, context).view(rows.shape)
    return mended, row_keys(obeying.space, mended)
