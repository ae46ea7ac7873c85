"""Measures of rows and of predictions, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from discrete_grad.grouping import row_groups
from discrete_grad.student import t_quantile

__all__ = [
    "distinct_share",
    "mean_interval",
    "median_interval",
    "percentile",
    "spearman",
]


def percentile(values: Tensor, reference: Tensor) -> Tensor:
    """Share of the reference strictly below each value, plus half of the share equal to it.

    Args:
        values: `(...)`.
        reference: `(N,)`, not empty.

    Returns:
        `(...)` in [0, 1], float64.

    Raises:
        ValueError: for an empty reference.

    Example:
        >>> percentile(torch.tensor([0.0, 2.0, 9.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor([0.0000, 0.3750, 1.0000], dtype=torch.float64)
    """
    if reference.dim() != 1 or not len(reference):
        raise ValueError(f"reference must be (N,) with N >= 1, got {tuple(reference.shape)}")
    dtype = torch.promote_types(values.dtype, reference.dtype)
    ordered, values = reference.to(dtype).sort().values, values.to(dtype)
    below = torch.searchsorted(ordered, values)
    not_above = torch.searchsorted(ordered, values, right=True)
    return (below + not_above).double() / (2 * len(ordered))


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation in [-1, 1] of `(N,)` and `(N,)`; equal values share their mean rank.

    NaN for fewer than two values or where all values of one side are equal.

    Example:
        >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 10.0, 100.0]))
        1.0
    """
    if a.shape != b.shape or a.dim() != 1:
        raise ValueError(f"a and b must both be (N,), got {tuple(a.shape)} and {tuple(b.shape)}")
    if len(a) < 2:
        return math.nan
    x, y = (percentile(side, side) for side in (a, b))
    x, y = x - x.mean(), y - y.mean()
    scale = (x.square().sum() * y.square().sum()).sqrt()
    # where a side is constant 0 / 0 stays NaN
    return float(((x * y).sum() / scale).clamp(-1, 1))


def distinct_share(codes: Tensor) -> float:
    """Number of different rows of codes `(N, F)` over N, in (0, 1]; NaN without rows.

    Example:
        >>> distinct_share(torch.tensor([[0, 1], [0, 1], [1, 1], [0, 1]]))
        0.5
    """
    return (int(row_groups(codes).max()) + 1) / len(codes) if len(codes) else math.nan


def mean_interval(
    values: Tensor | Sequence[float], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean and the ends of its confidence interval by Student's t.

    Args:
        values: N independent numbers, at least one; a single one has an infinite interval.
        confidence: in (0, 1).

    Returns:
        `(mean, low, high)`.

    Raises:
        ValueError: for no values or a confidence out of range.

    Example:
        >>> mean, low, high = mean_interval([0.9, 1.0, 1.1])
        >>> round(mean, 3), round(low, 3), round(high, 3)
        (1.0, 0.752, 1.248)
    """
    numbers = torch.as_tensor(values, dtype=torch.float64).flatten()
    if not len(numbers):
        raise ValueError("the mean of no values is not defined")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    mean = float(numbers.mean())
    if len(numbers) == 1:
        return mean, -math.inf, math.inf
    error = float(numbers.std()) / math.sqrt(len(numbers))
    half = t_quantile(confidence, len(numbers) - 1) * error
    return mean, mean - half, mean + half


def median_interval(
    values: Tensor | Sequence[float], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Median and the ends of its confidence interval, whatever the distribution.

    The ends are the k-th lowest and the k-th highest value, with the largest k for which the median
    lies below or above them with probability `1 - confidence` at most.

    Args:
        values: N independent numbers, at least one; the interval is infinite where N is too small
            for the confidence, below 6 for 0.95.
        confidence: in (0, 1).

    Returns:
        `(median, low, high)`.

    Raises:
        ValueError: for no values or a confidence out of range.

    Reference:
        David, Nagaraja (2003), Order Statistics, section 7.1.

    Example:
        >>> median_interval([5.0, 1.0, 2.0, 90.0, 3.0, 4.0])
        (3.5, 1.0, 90.0)
    """
    numbers = torch.as_tensor(values, dtype=torch.float64).flatten().sort().values
    count = len(numbers)
    if not count:
        raise ValueError("the median of no values is not defined")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    median = float(numbers[(count - 1) // 2] + numbers[count // 2]) / 2
    rank = _sign_rank(confidence, count)
    if not rank:
        return median, -math.inf, math.inf
    return median, float(numbers[rank - 1]), float(numbers[count - rank])


def _sign_rank(confidence: float, count: int) -> int:
    """The largest k with `2 P(B < k) <= 1 - confidence`, B binomial of `count` fair throws."""
    # whole numbers: from 1,024 throws on 2^count is no float, yet Python divides such numbers
    rank, term, below, total = 0, 1, 1, 2**count
    while 2 * below / total <= 1 - confidence:
        rank += 1
        term = term * (count - rank + 1) // rank
        below += term
    return rank
