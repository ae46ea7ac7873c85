"""From the user's scores to what the models are trained on, and back."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from discrete_grad.grouping import column_hash
from discrete_grad.space import ContextSpec

__all__ = ["KNOTS", "ScoreScale", "interpolate", "map_groups", "scale_behaviour"]

KNOTS = 2049
"""Knots of the map of a group."""

_MIN_GROUP = 50
# quantile 0 to 1 as a number of mean 0 and variance 1
_AXIS = torch.linspace(-math.sqrt(3), math.sqrt(3), KNOTS, dtype=torch.float64)


class ScoreScale:
    """A monotone map of the scores, one for each group of rows with the same categorical context.

    `rank` maps a score to its quantile among the rows of its context, `standard` subtracts the mean
    and divides by the standard deviation; both give mean 0 and variance 1. Outside the scores seen,
    `rank` goes on with the slope of the outermost tenth. A context with fewer than 50 rows, or one
    never seen, is scaled like the whole table. `raw` changes nothing.

    Args:
        kind: `rank`, `standard` or `raw`.
        unit: what the scores are divided by before all else, so that none is too large or small.
        grid: `(G + 1, Q)` float64, the score in units at Q equal steps of the scaled axis for every
            group and, last, for the whole table.
        keys: `(G,)` sorted numbers of the groups; see `fit`.
        spec: the context columns, or None.
        ends: `(G + 1, 2)` float64, the least and the largest score in units of the same groups.

    Example:
        >>> scores = torch.tensor([10.0, 20.0, 40.0, 80.0], dtype=torch.float64)
        >>> scale = ScoreScale.fit("rank", scores, None, None)
        >>> scaled = scale.apply(scores)
        >>> bool((scaled.diff() > 0).all()), scale.invert(scaled).round().tolist()
        (True, [10.0, 20.0, 40.0, 80.0])
    """

    def __init__(
        self,
        kind: str,
        unit: float,
        grid: Tensor,
        keys: Tensor,
        spec: ContextSpec | None,
        ends: Tensor,
    ) -> None:
        self.kind, self.unit, self.grid, self.keys, self.spec = kind, unit, grid, keys, spec
        self.ends = ends

    @classmethod
    def fit(
        cls, kind: str, scores: Tensor, context: Tensor | None, spec: ContextSpec | None
    ) -> ScoreScale:
        """Scale of the scores `(N,)` of rows with contexts `(N, C)`."""
        unit = scores.abs().amax().item() or 1.0
        small, order = (scores.double() / unit).sort(stable=True)
        keys, by_key = _keys(context, spec, len(scores))[order].sort(stable=True)
        values, counts = keys.unique_consecutive(return_counts=True)
        groups = small[by_key].split(counts.tolist()) if len(values) > 1 else []
        kept = [index for index, group in enumerate(groups) if len(group) >= _MIN_GROUP]
        scaled = [*(groups[i] for i in kept), small]
        grid = torch.stack([_grid(kind, group) for group in scaled])
        ends = torch.stack([torch.stack([group[0], group[-1]]) for group in scaled])
        return cls(kind, unit, grid, values[kept], spec, ends)

    def apply(self, scores: Tensor, context: Tensor | None = None) -> Tensor:
        """Scaled scores `(N,)`, float32, of rows with contexts `(N, C)`."""
        if self.kind == "raw":
            return scores.float()
        small = scores.double() / self.unit
        return self._map(small, context, lambda knots, x: interpolate(knots, _AXIS, x)).float()

    def invert(self, scaled: Tensor, context: Tensor | None = None) -> Tensor:
        """Scores `(N,)`, float64, in the table's units, of scaled ones.

        Raises:
            ValueError: for a scaled score that is not finite.
        """
        if not scaled.isfinite().all():
            raise ValueError("a model predicts NaN or infinity, which is no score")
        if self.kind == "raw":
            return scaled.double()
        small = self._map(scaled, context, lambda knots, x: interpolate(_AXIS, knots, x))
        # far beyond the scores seen, times the unit, the largest float64 may be exceeded
        most = torch.finfo(torch.float64).max
        return (small * self.unit).clamp(-most, most)

    def groups(self, context: Tensor | None, count: int) -> Tensor:
        """Place `(N,)` of the group that scales each of N rows with contexts `(N, C)`."""
        keys = _keys(context, self.spec, count)
        place = torch.searchsorted(self.keys, keys)
        # the place after the last holds -1, which is no key
        known = torch.cat([self.keys, self.keys.new_full((1,), -1)])[place] == keys
        return place.where(known, len(self.keys))

    def observed(self, context: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """Least and largest score `(N,)` of the rows that each of N rows is scaled like."""
        low, high = (self.ends[self.groups(context, count)] * self.unit).unbind(1)
        return low, high

    def _map(
        self, values: Tensor, context: Tensor | None, f: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        group = self.groups(context, len(values))
        return map_groups(values, group, lambda index, part: f(self.grid[index], part))


def map_groups(values: Tensor, group: Tensor, f: Callable[[int, Tensor], Tensor]) -> Tensor:
    """`f(g, values)` as float64 `(N,)` of the values of each group.

    Args:
        values: `(N,)`.
        group: `(N,)`, whole numbers from 0.
        f: maps the values `(n,)`, float64, of one group.

    Example:
        >>> map_groups(torch.ones(3), torch.tensor([0, 5, 0]), lambda group, part: part * group)
        tensor([0., 5., 0.], dtype=torch.float64)
    """
    ordered, order = group.sort(stable=True)
    indices, counts = ordered.unique_consecutive(return_counts=True)
    parts = zip(indices.tolist(), values[order].double().split(counts.tolist()), strict=True)
    mapped = torch.empty(len(values), dtype=torch.float64)
    if len(values):
        mapped[order] = torch.cat([f(index, part) for index, part in parts])
    return mapped


def scale_behaviour(
    kind: str, scores: Tensor, context: Tensor | None, spec: ContextSpec | None
) -> Tensor | None:
    """Several scores `(N, S)`, each on a scale of its own, as float32; None where there is one.

    Example:
        >>> scores = torch.tensor([[1.0, 100.0], [2.0, 300.0]], dtype=torch.float64)
        >>> scale_behaviour("standard", scores, None, None)
        tensor([[-1., -1.],
                [ 1.,  1.]])
    """
    columns = scores.unbind(1)
    if len(columns) == 1:
        return None
    scales = [ScoreScale.fit(kind, column, context, spec) for column in columns]
    scaled = [scale.apply(c, context) for scale, c in zip(scales, columns, strict=True)]
    return torch.stack(scaled, 1)


def _keys(context: Tensor | None, spec: ContextSpec | None, count: int) -> Tensor:
    """One number for each combination of categorical context columns, `(N,)`."""
    keys = torch.zeros(count, dtype=torch.long)
    if context is None or spec is None or spec.categorical is None:
        return keys
    codes, sizes = spec.codes(context).unbind(-1), spec.categorical.sizes
    if math.prod(sizes) >= 2**63:  # their number would wrap, and contexts share a key
        return torch.stack([column_hash(column, i) for i, column in enumerate(codes)]).sum(0)
    for column, size in zip(codes, sizes, strict=True):
        keys = keys * size + column
    return keys


def _grid(kind: str, ordered: Tensor) -> Tensor:
    """Knots `(Q,)` for scores in ascending order."""
    if kind == "rank":
        position = torch.linspace(0, len(ordered) - 1, KNOTS, dtype=torch.float64)
        below = position.long()
        after = (below + 1).clamp(max=len(ordered) - 1)
        return torch.lerp(ordered[below], ordered[after], position - below)
    return ordered.mean() + ordered.std(correction=0) * _AXIS


def interpolate(x_knots: Tensor, y_knots: Tensor, x: Tensor, *, share: float = 0.1) -> Tensor:
    """Piecewise linear map through the knots; a run of equal knots maps to its middle.

    Args:
        x_knots: `(Q,)` ascending, at least 2.
        y_knots: `(Q,)`.
        x: `(N,)`; outside the knots the map goes on with the slope of an outermost share of them.
        share: of the knots, at least 2.

    Example:
        >>> knots = torch.tensor([0.0, 1.0])
        >>> interpolate(knots, 10 * knots, torch.tensor([0.5, 2.0]))
        tensor([ 5., 20.])
    """
    last, outer = len(x_knots) - 1, max(2, int(len(x_knots) * share))
    first = torch.searchsorted(x_knots, x)
    after = torch.searchsorted(x_knots, x, right=True)
    right = after.clamp(1, last)
    width = (x_knots[right] - x_knots[right - 1]).clamp_min(torch.finfo(x.dtype).tiny)
    part = (x - x_knots[right - 1]) / width
    inside = torch.lerp(y_knots[right - 1], y_knots[right], part.clamp(0, 1))
    # equal knots lie from `first` to `after` - 1, where x is one of them
    tied = (y_knots[first.clamp(max=last)] + y_knots[(after - 1).clamp_min(0)]) / 2
    inside = torch.where(after > first, tied, inside)
    below = (x - x_knots[0]).clamp_max(0) * _slope(x_knots[:outer], y_knots[:outer])
    above = (x - x_knots[-1]).clamp_min(0) * _slope(x_knots[-outer:], y_knots[-outer:])
    return inside + below + above


def _slope(x_knots: Tensor, y_knots: Tensor) -> Tensor:
    width = x_knots[-1] - x_knots[0]
    return torch.where(width > 0, (y_knots[-1] - y_knots[0]) / width, 0.0)
