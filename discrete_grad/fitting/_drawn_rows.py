"""Rows that a teacher is asked about."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.sampling import permutation, random_codes, random_indices, seeded, uniform
from discrete_grad.space import CategoricalSpace

__all__ = ["draw_rows", "rows_near"]

_MOST_SWAPS = 4


def draw_rows(
    space: CategoricalSpace, rows: ScoredRows | None, count: int, *, seed: int
) -> tuple[Tensor, Tensor | None]:
    """Rows and contexts of which a teacher's answers say most.

    Every row of the space where it has at most `count` rows, as often as goes into `count` where
    there are contexts. Otherwise a quarter each: rows of the table, rows with 1 to 4 features drawn
    anew, rows whose features are each that of another row, and uniform ones; without a table all
    are uniform. Contexts are drawn from the table's.

    Args:
        space: the features of a row.
        rows: the table's, whose scores do not matter; None without a table.
        count: how many at most, at least 1.
        seed: decides every random number.

    Returns:
        Codes `(N, F)`, int64, and contexts `(N, C)` or None.

    Raises:
        ValueError: for a count below 1, or a table without rows.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes, context = draw_rows(space, None, 100, seed=0)
        >>> codes.shape, context
        (torch.Size([6, 2]), None)
        >>> draw_rows(CategoricalSpace.from_sizes((9,) * 9), None, 100, seed=0)[0].shape
        torch.Size([100, 9])
    """
    if count < 1 or (rows is not None and not len(rows)):
        had = "no table" if rows is None else f"a table of {len(rows)}"
        raise ValueError(f"at least 1 row must be asked about, got count={count} with {had}")
    generator = seeded(seed)
    if space.num_rows <= count:
        times = 1 if rows is None or rows.context is None else count // space.num_rows
        codes = space.enumerate(max_rows=count).repeat(times, 1)
    elif rows is None:
        codes = random_codes(space, count, generator=generator)
    else:
        codes = _mixture(space, rows.codes, count, generator)
    return codes, _contexts(rows, len(codes), generator)


def rows_near(
    space: CategoricalSpace, rows: ScoredRows, count: int, *, seed: int
) -> tuple[Tensor, Tensor | None]:
    """Rows `(count, F)` of a table with 1 to 4 features drawn anew, in their own contexts.

    Example:
        >>> space = CategoricalSpace.from_sizes((9,) * 9)
        >>> rows = ScoredRows(torch.zeros(5, 9, dtype=torch.long), torch.zeros(5))
        >>> codes, context = rows_near(space, rows, 100, seed=0)
        >>> bool(((codes != 0).sum(-1) <= 4).all()), context
        (True, None)
    """
    generator = seeded(seed)
    some = rows.take(random_indices(len(rows), (count,), generator=generator))
    return _swapped(space, some.codes, generator), some.context


def _mixture(
    space: CategoricalSpace, table: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    quarter, features = count // 4, torch.arange(space.num_features)
    own = table[permutation(len(table), generator=generator)[:quarter]].long()
    mixed = random_indices(len(table), (quarter, len(features)), generator=generator)
    # a small table leaves more of the near ones
    near = random_indices(len(table), (count - len(own) - 2 * quarter,), generator=generator)
    return torch.cat(
        [
            own,
            _swapped(space, table[near].long(), generator),
            table[mixed, features].long(),
            random_codes(space, quarter, generator=generator),
        ]
    )


def _swapped(space: CategoricalSpace, codes: Tensor, generator: torch.Generator) -> Tensor:
    """Codes `(N, F)` with 1 to 4 features, as likely each, drawn anew."""
    most = min(_MOST_SWAPS, space.num_features)
    swaps = 1 + random_indices(most, (len(codes), 1), generator=generator)
    # ranks of random numbers: those below n mark a random set of n features
    turn = uniform(tuple(codes.shape), generator=generator).argsort(-1).argsort(-1)
    return random_codes(space, len(codes), generator=generator).where(turn < swaps, codes)


def _contexts(rows: ScoredRows | None, count: int, generator: torch.Generator) -> Tensor | None:
    if rows is None or rows.context is None:
        return None
    return rows.context[random_indices(len(rows), (count,), generator=generator)]
