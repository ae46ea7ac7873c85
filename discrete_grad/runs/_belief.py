"""Belief on the scores of rows that were not measured: a mean and the spread around it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.kernel import fit_prior
from discrete_grad.models import KernelEnsemble
from discrete_grad.models.joint import JointColumns
from discrete_grad.sampling import normal
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["Belief", "Mean", "fit_belief"]

MOST_POINTS = 1000
"""Rows that the spread is conditioned on at most."""

_PART = 2**13
_JITTER = 1e-6

Mean = Callable[[Tensor, Tensor | None], Tensor]
"""Codes `(n, F)` and contexts `(n, C)` -> expected scores `(n,)`."""


class Belief:
    """A normal law of the scores of all rows, by a Gaussian process.

    Args:
        kernel: placed at the measured rows, in float64; its score is the process's mean.
        amplitude: variance of the process.
        level: variance of a constant that is added to all scores.
        noise: `(Z,)`, variance of the error of each measured row's score.
        mean: expected score, if it is another model's; the spread is the process's all the same.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate()
        >>> rows = ScoredRows(codes[:4], codes[:4].sum(-1) - 1.5)
        >>> belief = fit_belief(space, None, rows, seed=0)
        >>> known, new = belief.std(codes[:1], None), belief.std(codes[5:], None)
        >>> bool(known < new)
        True
    """

    def __init__(
        self,
        kernel: KernelEnsemble,
        amplitude: float,
        level: float,
        noise: Tensor,
        mean: Mean | None = None,
    ) -> None:
        self.kernel, self.amplitude, self.level, self.noise = kernel, amplitude, level, noise
        self._mean = mean
        own = amplitude * kernel.correlations(kernel.points) + level
        self._factor = torch.linalg.cholesky(own + torch.diag(noise))
        # many rows are searched through, for which float32 is exact enough
        eye = torch.eye(len(noise), dtype=noise.dtype)
        inverse = torch.linalg.solve_triangular(self._factor, eye, upper=False)
        self._whitening = inverse.float()
        self._fast = placed(kernel, kernel.points, kernel.weights, kernel.offsets, torch.float32)

    @torch.no_grad()
    def mean(self, codes: Tensor, context: Tensor | None) -> Tensor:
        """Expected scores `(n,)` of codes `(n, F)` in contexts `(n, C)`."""
        return (self._mean or self._fast)(codes, context)

    @torch.no_grad()
    def std(self, codes: Tensor, context: Tensor | None) -> Tensor:
        """Standard deviations `(n,)` of the scores of codes `(n, F)` in contexts `(n, C)`."""
        parts = self._fast.joint(codes, context).split(_PART)
        covariances = (self.amplitude * self._fast.correlations(p) + self.level for p in parts)
        told = torch.cat([(c @ self._whitening.T).square().sum(1) for c in covariances])
        return (self.amplitude + self.level - told).clamp_min(0).sqrt()

    @torch.no_grad()
    def deviations(
        self, codes: Tensor, context: Tensor | None, count: int, generator: torch.Generator
    ) -> Tensor:
        """Draws `(count, n)` of what the scores of different rows `(n, F)` are above their mean."""
        joint = self.kernel.joint(codes, context)
        covariance = (self.amplitude * self.kernel.correlations(joint) + self.level).T
        known = torch.linalg.solve_triangular(self._factor, covariance, upper=False)
        nowhere = torch.zeros(len(joint), 1), torch.zeros(1)
        there = placed(self.kernel, joint, *nowhere, torch.float64)
        among = self.amplitude * there.correlations(joint) + self.level - known.T @ known
        among.diagonal().add_(_JITTER * (self.amplitude + self.level))
        noise = normal((count, len(codes)), generator=generator).double()
        drawn: Tensor = (noise @ torch.linalg.cholesky(among).T).float()
        return drawn

    def expecting(self, codes: Tensor, context: Tensor | None) -> Belief:
        """The belief when rows `(n, F)` are measured too, with the scores that it expects."""
        if not len(codes):
            return self
        joint = torch.cat([self.kernel.points, self.kernel.joint(codes, context)])
        nowhere = torch.zeros(len(joint), 1), torch.zeros(1)
        kernel = placed(self.kernel, joint, *nowhere, torch.float64)
        noise = torch.cat([self.noise, self.noise.amin().expand(len(codes))])
        return Belief(kernel, self.amplitude, self.level, noise, self.mean)


def placed(
    like: KernelEnsemble, points: Tensor, weights: Tensor, offsets: Tensor, dtype: torch.dtype
) -> KernelEnsemble:
    """Another kernel ensemble of the same columns and correlations."""
    kernel = KernelEnsemble(like.space, context=like.context_spec)
    kernel.joint = like.joint
    kernel.place(like.alike.to(dtype), points, weights.to(dtype), offsets.to(dtype))
    return kernel


def fit_belief(
    space: CategoricalSpace,
    spec: ContextSpec | None,
    rows: ScoredRows,
    *,
    seed: int,
    mean: Mean | None = None,
) -> Belief:
    """Learn from measured rows how much the scores of others may differ from what is expected.

    Args:
        space: the features.
        spec: the context columns; None without.
        rows: at least one, with scores of about mean 0 and variance 1; beyond 1,000 the best half
            and the last ones count.
        seed: draws the rows that the correlations are fitted to.
        mean: expected score by another model; by default the Gaussian process's own.
    """
    rows = _some(rows)
    joint = JointColumns(space, spec)
    joint.fit(rows.context)
    codes, scores = joint(rows.codes, rows.context), rows.scores.double()
    counts = torch.ones_like(scores) if rows.counts is None else rows.counts.double()
    prior = fit_prior(joint, codes, scores, counts, seed=seed, spread=rows.spread)
    with torch.no_grad():
        solved = prior.values()
        noise = solved.noise / counts
        covariance = solved.amplitude * prior.correlations(codes, codes) + solved.level
        factor = torch.linalg.cholesky(covariance + torch.diag(noise))
        weights = torch.cholesky_solve(scores.unsqueeze(1), factor)
        kernel = KernelEnsemble(space, context=spec)
        kernel.joint = joint
        offset = solved.level * weights.sum(0)
        # in float64: covariances of rows that are almost alike are inverted
        kernel.place(solved.alike, codes, solved.amplitude * weights, offset)
        return Belief(kernel, float(solved.amplitude), float(solved.level), noise, mean)


def _some(rows: ScoredRows) -> ScoredRows:
    """At most 1,000 rows: the best ones, of equal ones the last, and of the others the last."""
    if len(rows) <= MOST_POINTS:
        return rows
    backwards = len(rows) - 1 - rows.scores.flip(0).argsort(descending=True, stable=True)
    best = backwards[: MOST_POINTS // 2]
    rest = torch.ones(len(rows), dtype=torch.bool).index_fill(0, best, False).nonzero()[:, 0]
    return rows.part(torch.cat([best, rest[-(MOST_POINTS - len(best)) :]]).sort().values)
