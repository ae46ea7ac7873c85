"""Confidence intervals of log Z, as pure functions of log-weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from discrete_grad.student import t_quantile
from discrete_grad.weighting.draws import log_mean_exp

__all__: list[str] = []

_SURE = 0.95
_MISSED = 0.025  # probability with which one end may be
_SYMMETRIC = 1e-9  # a skewness below which the correction is that of its limit


def log_z_with_interval(log_weights: Tensor, shape: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """`log mean w` `(*batch)` and its 95 % interval, Hall's or, for a k too large, Markov's.

    With such a k the largest weights may be missing from the sample, and the others cannot tell.

    Args:
        log_weights: `(N, *batch)`, independent.
        shape: `pareto_k` `(*batch)` of them.
    """
    log_z, sure = log_mean_exp(log_weights), shape <= largest_k(len(log_weights))
    ends = zip(hall_interval(log_weights), markov_interval(log_z), strict=True)
    low, high = (known.where(sure, unsure) for known, unsure in ends)
    return log_z, (low, high)


def markov_interval(log_z: Tensor) -> tuple[Tensor, Tensor]:
    """Interval of log Z `(*batch)` with a lower end alone, for any unbiased `exp(log_z)`.

    An estimate that is never below 0 reaches 40 times its expectation with a probability of at most
    2.5 % (Markov's inequality).
    """
    return log_z + math.log(_MISSED), torch.full_like(log_z, math.inf)


def largest_k(count: int) -> float:
    """Pareto k up to which so many weights tell their spread: 0.45 for 64, 0.7 from 2,200 on.

    Reference:
        Vehtari, Simpson, Gelman, Yao, Gabry (2024), arXiv 1507.02646, equation 13.
    """
    return min(1 - 1 / math.log10(count), 0.7) if count > 1 else -math.inf


def hall_interval(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """A 95 % interval of log Z `(*batch)`, finite for two weights or more.

    Weights are skewed, so that a mean that is too low comes with a standard error that is too
    small. Hall's cubic transformation of the studentised mean takes the skewness out; its lower
    end may fall below 0, where the delta method's takes its place.

    Reference:
        Hall (1992), "On the removal of skewness by transformation", JRSS B 54, equations of g.
    """
    count, log_z = len(log_weights), log_mean_exp(log_weights)
    if count == 1:
        return log_z - math.inf, log_z + math.inf
    error, skewness = _moments(log_weights)
    t = t_quantile(_SURE, count - 1)
    # t = (mean - mu) / standard error, so the upper quantile gives the lower end of mu / mean
    low = 1 - error * _untransformed(torch.full_like(error, t), skewness)
    high = 1 - error * _untransformed(torch.full_like(error, -t), skewness)
    low = low.where(low > 0, 1).log().where(low > 0, -t * error)
    return log_z + low, log_z + high.log()


def _moments(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Standard error of the mean over the mean, and skewness over `sqrt(N)`, both `(*batch)`."""
    count, best = len(log_weights), log_weights.double().amax(0)
    # no weight at all: -inf - (-inf) would be NaN
    w = (log_weights.double() - best.masked_fill(best == -math.inf, 0)).exp()
    apart = w - w.mean(0)
    variance = apart.square().mean(0)
    # the mean square over N - 1 is the unbiased variance over N; no weight at all: 0 / 1
    error = (variance / (count - 1)).sqrt() / w.mean(0).where(variance > 0, 1)
    # equal weights are so but for rounding
    scale = variance.where(error > _SYMMETRIC, 1).sqrt()
    return error, ((apart / scale).pow(3).mean(0) / math.sqrt(count)).where(error > _SYMMETRIC, 0)


def _untransformed(x: Tensor, skewness: Tensor) -> Tensor:
    """The T with `g(T) = T + a T^2 / 3 + a^2 T^3 / 27 + a / 6 = x`."""
    a = skewness.where(skewness.abs() > _SYMMETRIC, 1)
    cube = 1 + a * (x - a / 6)
    # g(T) - a / 6 = ((1 + a T / 3)^3 - 1) / a; the sign apart: pow has no root of numbers below 0
    root = cube.sign() * cube.abs().pow(1 / 3)
    return (3 * (root - 1) / a).where(skewness.abs() > _SYMMETRIC, x)
