"""Fit a sum of tables by backfitting, every table shrunk by as much as the rows ask for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import torch
from torch import Tensor

from discrete_grad.models import AnovaEnsemble

__all__ = ["anova_groups", "fit_anova"]

_SWEEPS = 30
_TOLERANCE = 1e-5
_MOST_CELLS = 2**22
_MOST_GROUPS = 2048
_LEAST_NOISE = 1e-3
_LEAST_VARIANCE = 1e-8
_POOLED_CELLS = 4
# rows at a time: what is computed of them fits into a processor's cache. Buffers as long as the
# table, made and freed thousands of times, would also leave holes that the process keeps
_PART = 2**16


def anova_groups(sizes: Sequence[int], rows: int) -> list[tuple[int, ...]]:
    """Groups of columns that so many rows can tell something about.

    All single columns; all pairs, those with the fewest cells first, while they have at most 4
    million cells and there are at most 2,048 groups; all triples if they are few enough and have
    together no more cells than there are rows.

    Example:
        >>> anova_groups((2, 3), 100)
        [(0,), (1,), (0, 1)]
        >>> anova_groups((2, 2, 2), 100)[-1]
        (0, 1, 2)
    """

    def cells(group: tuple[int, ...]) -> int:
        return math.prod(sizes[c] for c in group)

    groups: list[tuple[int, ...]] = [(c,) for c in range(len(sizes))]
    used = sum(sizes)
    for pair in _smallest_pairs(sizes, _MOST_GROUPS - len(groups)):
        used += cells(pair)
        if used > _MOST_CELLS:
            return groups
        groups.append(pair)
    complete = len(groups) == len(sizes) + math.comb(len(sizes), 2)
    if complete and len(groups) + math.comb(len(sizes), 3) <= _MOST_GROUPS:
        triples = list(combinations(range(len(sizes)), 3))
        groups += triples if sum(map(cells, triples)) <= rows else []
    return groups


def _smallest_pairs(sizes: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """At most so many pairs of columns, those with the fewest cells first."""
    order, count = sorted(range(len(sizes)), key=lambda c: sizes[c]), max(count, 0)
    # (i + 1) (j - i) pairs of that order, of no later columns, have no more cells than (i, j)
    near = [(i, j) for i in range(len(order)) for j in range(i + 1, i + 1 + count // (i + 1))]
    pairs = [tuple(sorted((order[i], order[j]))) for i, j in near if j < len(order)]
    return sorted(pairs, key=lambda p: (sizes[p[0]] * sizes[p[1]], p))[:count]


@torch.no_grad()
def fit_anova(
    model: AnovaEnsemble,
    codes: Tensor,
    scores: Tensor,
    weights: Tensor,
    *,
    spread: Tensor | None = None,
    sweeps: int = _SWEEPS,
) -> None:
    """Fit the tables of every member to rows weighted for it.

    Backfitting: each table in turn is set to the mean residuals of its cells, shrunk towards 0.
    The shrinkage is that of normal priors, one variance a table, and normal noise; variances and
    noise are those of the expectation-maximisation algorithm, so that a table the rows say nothing
    for vanishes. It ends when a sweep changes the scores by less than .3% of a standard deviation.

    Args:
        model: with its groups arranged; its tables are replaced.
        codes: joint codes `(N, columns)`, see `JointColumns`.
        scores: `(N,)`.
        weights: `(M, N)`, at least 0, how many observations each row counts for in each member.
        spread: `(N,)`, standard deviation of the observations that each row is the mean of; by
            default 0. With it the fit is that to these observations, one by one.
        sweeps: over all tables, at most.

    Reference:
        Backfitting: Breiman and Friedman (1985); variances by EM: Dempster, Laird, Rubin (1977).

    Example:
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate().repeat(50, 1)
        >>> model = AnovaEnsemble(space, groups=anova_groups(space.sizes, len(codes)))
        >>> fit_anova(model, codes, codes[:, 0] * codes[:, 1].float(), torch.ones(1, len(codes)))
        >>> model(torch.tensor([[1, 2]])).round(decimals=1)
        tensor([2.])
    """
    total = weights.sum(1).clamp_min(1)
    mean = (weights * scores).sum(1) / total
    residual = scores - mean.unsqueeze(1)
    within = torch.zeros_like(total) if spread is None else (weights * spread.square()).sum(1)
    # to begin with, half of the variance is taken for noise
    noise = ((weights * residual.square()).sum(1) + within) / total / 2 + _LEAST_NOISE
    # a column's codes side by side
    columns = codes.to(torch.int32).T.contiguous()
    tables = [_Table(model, index, columns, weights, noise) for index in range(len(model.groups))]
    for sweep in range(sweeps):
        changed, spent = torch.zeros_like(noise), torch.zeros_like(noise)
        for table in tables:
            moved, degrees = table.update(residual, noise)
            changed, spent = changed + moved, spent + degrees
        # not after the first sweep, in which early tables still hold what is due to later ones
        if sweep:
            _learn_variances(tables)
        left = (weights * residual.square()).sum(1) + within
        # degrees of freedom are added up table by table and may exceed the rows
        noise = (left / (total - spent).clamp_min(total / 20)).clamp_min(_LEAST_NOISE)
        if sweep > 2 and bool((changed / total < _TOLERANCE).all()):
            break
    model.cells = torch.cat([table.values for table in tables], 1).T.contiguous()
    model.offsets = mean


class _Table:
    """One table of M members: its values, the rows of its cells and its prior variance.

    Args:
        model: whose table it is.
        index: of its group.
        codes: `(columns, N)`.
        weights: `(M, N)`.
        noise: `(M,)`, to begin with.
    """

    def __init__(
        self, model: AnovaEnsemble, index: int, codes: Tensor, weights: Tensor, noise: Tensor
    ) -> None:
        shape = model.shapes[index]
        self.codes, self.weights = codes, weights
        self.columns = model.groups[index][: len(shape)].tolist()
        self.shape, self.size, members = shape, math.prod(shape), len(weights)
        self.count = self._sums(weights)
        self.seen = (self.count > 0).sum(1)
        self.moment = torch.zeros_like(noise)
        self.values = weights.new_zeros(members, self.size)
        # to begin with, effects of more columns are taken for smaller
        self.variance = noise / 10.0 ** len(shape)

    def cells(self) -> Iterator[tuple[slice, Tensor]]:
        """Parts of the rows, and the cell of each of their rows."""
        for start in range(0, self.codes.shape[1], _PART):
            part = slice(start, start + _PART)
            cell = self.codes[self.columns[0], part]
            for column, size in zip(self.columns[1:], self.shape[1:], strict=True):
                cell = cell * size + self.codes[column, part]
            yield part, cell

    def _sums(self, factor: Tensor, values: Tensor | None = None) -> Tensor:
        """Sums `(M, size)` over the rows of each cell of `(M, N)`, or of a product of two."""
        total = factor.new_zeros(len(factor), self.size)
        for part, cell in self.cells():
            some = factor[:, part] if values is None else factor[:, part] * values[:, part]
            rows = [torch.bincount(cell, weights=row, minlength=self.size) for row in some]
            total += torch.stack(rows).to(factor.dtype)
        return total

    def update(self, residual: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Set the values, change the residuals in place; squares moved and degrees of freedom."""
        prior = (noise / self.variance).unsqueeze(1)
        # the residuals that the other tables leave: this one's own values are added back
        sums = self._sums(self.weights, residual) + self.count * self.values
        new = sums / (self.count + prior)
        step, self.values = new - self.values, new
        for part, cell in self.cells():
            residual[:, part] -= step.index_select(1, cell)
        # the posterior's second moment, of the cells that have rows
        moment = new.square() + noise.unsqueeze(1) / (self.count + prior)
        self.moment = (moment * (self.count > 0)).sum(1)
        degrees = (self.count / (self.count + prior)).sum(1)
        return (self.count * step.square()).sum(1), degrees


def _learn_variances(tables: Sequence[_Table]) -> None:
    """Prior variances from the second moments, those of small tables drawn to their order's."""
    for order in {len(table.shape) for table in tables}:
        alike = [table for table in tables if len(table.shape) == order]
        moments = torch.stack([table.moment for table in alike])
        cells = torch.stack([table.seen for table in alike])
        common = moments.sum(0) / cells.sum(0).clamp_min(1)
        for table, moment, seen in zip(alike, moments, cells, strict=True):
            pooled = (moment + _POOLED_CELLS * common) / (seen + _POOLED_CELLS)
            table.variance = pooled.clamp_min(_LEAST_VARIANCE)
