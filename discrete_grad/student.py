"""Quantiles of Student's t distribution."""

from __future__ import annotations

import math

__all__ = ["t_quantile"]

_MAX_FREEDOM = 1000


def t_quantile(confidence: float, freedom: int) -> float:
    """The t with `P(|T| <= t) = confidence`, by bisection on the angle `atan(t / sqrt(freedom))`.

    Above 1,000 degrees of freedom those of 1,000 are used: wider by less than a thousandth.

    Args:
        confidence: in (0, 1).
        freedom: degrees of freedom, at least 1.

    Example:
        >>> round(t_quantile(0.95, 10), 3)
        2.228
    """
    freedom = min(freedom, _MAX_FREEDOM)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        inside = _probability(middle, freedom) < confidence
        low, high = (middle, high) if inside else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _probability(angle: float, freedom: int) -> float:
    """`P(|T| <= sqrt(freedom) tan(angle))`, Abramowitz and Stegun (1964), 26.7.3 and 26.7.4."""
    cosine, odd = math.cos(angle), freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
