"""Equal rows as one row that counts for several observations."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.kernel import MOST_POINTS
from discrete_grad.grouping import first_rows, row_groups

__all__ = [
    "learning_rows",
]

_FEW = 64
_LEAST_PARTS, _MOST_PARTS = 2, 4


def _merge_equal_rows(rows: ScoredRows, *, parts: int = 1) -> ScoredRows:
    """Rows of which no two are equal: each with the mean, count and spread of its observations.

    Two rows are equal if all their codes and all columns of their contexts are.

    Args:
        rows: observations, in random order if they are to be merged in parts.
        parts: rows that equal ones become at most, each the mean of as many of them as the others
            to one; at least 1.

    Returns:
        The rows in lexicographic order; the same ones as they were given if there is nothing to
        merge.

    Example:
        >>> rows = ScoredRows(torch.tensor([[2], [0], [2]]), torch.tensor([1.0, 5.0, 3.0]))
        >>> merged = _merge_equal_rows(rows)
        >>> merged.codes.tolist(), merged.scores, merged.counts, merged.spread
        ([[0], [2]], tensor([5., 2.]), tensor([1, 2]), tensor([0., 1.]))
    """
    group = _groups(rows)
    if parts > 1:
        group = row_groups(torch.stack([group, places_among_equals(group) % parts], 1))
    first = first_rows(group)
    if len(first) == len(rows):
        return rows
    counts = torch.ones_like(group) if rows.counts is None else rows.counts
    total = torch.zeros_like(first).index_add_(0, group, counts)

    def mean(values: Tensor) -> Tensor:
        """Of `(N, S)`, `(G, S)`."""
        sums = values.new_zeros(len(first), values.shape[1])
        weighted = values * counts.unsqueeze(1)
        return sums.index_add_(0, group, weighted) / total.unsqueeze(1)

    scores = rows.all_scores.double()
    means = mean(scores)
    squares = (scores - means[group])[:, :1].square()
    if rows.spread is not None:
        squares = squares + rows.spread.double().square().unsqueeze(1)
    return replace(
        rows.part(first),
        scores=means[:, 0].to(rows.scores.dtype),
        behaviour=None if rows.behaviour is None else means.to(rows.behaviour.dtype),
        counts=total,
        spread=mean(squares)[:, 0].sqrt().to(rows.scores.dtype),
    )


def learning_rows(rows: ScoredRows, possible: int) -> ScoredRows:
    """Observations, merged as estimators learn from them and hold some of them out.

    Each row becomes one, so that what a member holds out is a row it has not seen, and its error
    there says how well it predicts new rows. But where there are fewer than 64 different rows, or
    at least half of those possible, hardly anything is left to predict and a member would miss what
    it must know: then each becomes up to 4 rows, of some of its observations each, and what is held
    out is a part of the observations.

    Args:
        rows: observations in random order.
        possible: different rows that there can be in a context.

    Example:
        >>> codes = torch.tensor([[0], [1]]).repeat(50, 1)
        >>> learning_rows(ScoredRows(codes, torch.zeros(100)), 2).counts
        tensor([13, 13, 12, 12, 13, 13, 12, 12])
    """
    group = _groups(rows)
    different = int(group.max()) + 1
    contexts = 1 if rows.context is None else int(row_groups(rows.context).max()) + 1
    if different >= _FEW and 2 * different < possible * contexts:
        return _merge_equal_rows(rows)
    parts = min(max(MOST_POINTS // different, _LEAST_PARTS), _MOST_PARTS)
    return _merge_equal_rows(rows, parts=parts)


def places_among_equals(group: Tensor) -> Tensor:
    """Place `(N,)` of each row among those of its group, from 0, in the order they are given.

    Example:
        >>> places_among_equals(torch.tensor([1, 0, 1, 1]))
        tensor([0, 0, 1, 2])
    """
    ordered, order = group.sort(stable=True)
    place = torch.empty_like(group)
    place[order] = torch.arange(len(group)) - torch.searchsorted(ordered, ordered)
    return place


def _groups(rows: ScoredRows) -> Tensor:
    return row_groups(rows.codes, *([] if rows.context is None else [rows.context]))
