"""The best of the observed rows, where equal rows have several scores."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.grouping import first_rows, row_groups

__all__ = ["best_row"]

_HUGE = 1e100  # above it a square is near the largest number


def best_row(codes: Tensor, scores: Tensor) -> tuple[int, float, int]:
    """The row with the largest shrunken mean of its scores; the first of several.

    Of G different rows, the i-th of which has n_i of all N scores, with mean m_i, the shrunken mean
    is `m + (m_i - m) n_i t / (n_i t + s)`, m being the mean of all scores, s the variance within
    rows and t that between them, by the method of moments::

        s = sum_i sum_j (x_ij - m_i)^2 / (N - G)
        t = max(0, (sum_i n_i (m_i - m)^2 - (G - 1) s) / (N - sum_i n_i^2 / N))

    One lucky score of a row that has few is thus not the best. Without equal rows s is not known,
    and is taken for 0: the best is then the row with the best score. Where t is 0 the order is that
    which it has as t falls to 0.

    Args:
        codes: `(N, F)`, at least one row, all in one context.
        scores: `(N,)`, more is better.

    Returns:
        The first place of the row, the mean of its scores, and G.

    Reference:
        Variances: Searle, Casella, McCulloch (1992), "Variance components", section 3.6. Shrunken
        mean: Efron, Morris (1975), "Data analysis using Stein's estimator and its generalizations".

    Example:
        >>> codes = torch.tensor([0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 2]).unsqueeze(1)
        >>> scores = torch.tensor([3.0, -1, 3, -1, 3, -1, 2, 1, -3, 1, -3])
        >>> best_row(codes, scores)
        (0, 1.0, 3)
    """
    scores = scores.double()
    if (largest := float(scores.abs().max())) > _HUGE:
        found, small, rows = best_row(codes, scores / largest)
        return found, small * largest, rows
    group = row_groups(codes)
    first = first_rows(group)
    different, number = len(first), len(scores)
    if different == number:
        best = int(scores.argmax())
        return best, float(scores[best]), number
    sums = scores.new_zeros(2, different)
    # of the scores less their mean, or much would be lost to rounding where that is large
    middle = scores.mean()
    count = sums[0].index_add(0, group, torch.ones_like(scores))
    mean = sums[1].index_add(0, group, scores - middle) / count
    within = (scores - middle - mean[group]).square().sum() / max(1, number - different)
    between = (count * mean.square()).sum() - (different - 1) * within
    between = (between / (number - count.square().sum() / number).clamp_min(1)).clamp_min(0)
    # without the factor t, which all have
    shrunken = mean * count / (count * between + within).clamp_min(torch.finfo(mean.dtype).tiny)
    leading = (shrunken == shrunken.max()).nonzero()[:, 0]
    place = int(first[leading].min())
    return place, float(scores[group == group[place]].mean()), different
