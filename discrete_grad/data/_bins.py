"""A numeric column as a few intervals: their ends, their labels, and the interval of a number."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal

import numpy as np
from numpy.typing import NDArray

__all__: list[str] = []

_MOST = 16
_ROWS_A_BIN = 8
_MARGIN = 0.01  # of the range, by which the outer ends may lie beyond it to be short numbers


def bin_edges(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Ends of intervals at quantiles of the values `(N,)`: increasing, one more than intervals.

    There are 2 to 16 intervals, each with a value in it and, where the values allow it, with 8 or
    more. The ends are short decimals.

    Example:
        >>> bin_edges(np.arange(100.0) / 7)[:3]
        (0.0, 1.2, 2.3)
    """
    ordered = np.sort(values) + 0.0  # -0.0 is 0.0, also in a label
    count, most = len(ordered), max(2, min(_MOST, len(ordered) // _ROWS_A_BIN))
    places = np.ceil(np.arange(1, most) * count / most).astype(int) - 1
    upper = np.unique(ordered[places])
    upper = upper[upper < ordered[-1]]
    if not len(upper):  # nearly all values are the largest
        upper = ordered[np.searchsorted(ordered, ordered[-1]) - 1 :][:1]
    following = ordered[np.searchsorted(ordered, upper, side="right")]
    # halfway after a heap of the least value, so that its interval has a width
    upper = np.where(upper > ordered[0], upper, upper / 2 + following / 2)
    pairs = zip(upper.tolist(), following.tolist(), strict=True)
    inner = [_short(low, high) for low, high in pairs]
    low, high = float(ordered[0]), float(ordered[-1])
    margin = _MARGIN * high - _MARGIN * low
    first = min(-_short(-low, -low + margin) + 0.0, float(np.nextafter(inner[0], -np.inf)))
    return (first, *inner, _short(high, high + margin))


def bin_labels(edges: Sequence[float]) -> tuple[str, ...]:
    """The intervals as text: each without its lower end, but for the first.

    Example:
        >>> bin_labels((0.0, 0.5, 2.0))
        ('[0, 0.5]', '(0.5, 2]')
    """
    pairs = itertools.pairwise(repr(edge).removesuffix(".0") for edge in edges)
    return tuple(f"{'(' if i else '['}{a}, {b}]" for i, (a, b) in enumerate(pairs))


def bin_codes(values: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.int64]:
    """Positions `(N,)` of the intervals that hold the values `(N,)`, -1 for none."""
    codes = np.searchsorted(np.array(edges[1:-1]), values).astype(np.int64)
    inside = (values >= edges[0]) & (values <= edges[-1])
    return np.where(inside, codes, -1)


def _short(low: float, high: float) -> float:
    """The number of fewest digits that is at least `low` and below `high`."""
    exact = Decimal(low)
    for digits in range(1, 18):
        step = Decimal(1).scaleb(exact.adjusted() - digits + 1)
        candidate = float(exact.quantize(step, ROUND_CEILING))
        if low <= candidate < high:
            return candidate
    return low
