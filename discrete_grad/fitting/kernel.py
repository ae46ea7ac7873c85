"""Fit a Gaussian process over rows: hyperparameters by likelihood, then the exact posterior."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad.models import KernelEnsemble
from discrete_grad.models.joint import JointColumns
from discrete_grad.models.kernel import log_correlations
from discrete_grad.sampling import permutation, seeded

__all__ = ["MOST_POINTS", "KernelPrior", "fit_kernel", "fit_prior", "maximise", "posterior"]

MOST_POINTS = 3000
"""Rows that a Gaussian process is fitted to at most: its time grows with their cube."""

_SUBSET = 500
_STEPS = 40
_JITTER = 1e-4
_FEW_CATEGORIES = 24


def fit_kernel(
    model: KernelEnsemble,
    codes: Tensor,
    scores: Tensor,
    weights: Tensor,
    *,
    seed: int,
    spread: Tensor | None = None,
) -> None:
    """Fit the posterior mean of every member to rows weighted for it.

    Amplitude, noise and correlations maximise the marginal likelihood of at most 500 rows, by 40
    steps of Adam, and are shared by the members.

    Args:
        model: its points and weights are replaced.
        codes: joint codes `(N, columns)`, N at most 3,000, see `JointColumns`.
        scores: `(N,)`, of about mean 0 and variance 1.
        weights: `(M, N)`, at least 0, how many observations each row counts for in each member.
        seed: draws the 500 rows.
        spread: `(N,)`, standard deviation of the observations that each row is the mean of; by
            default 0. With it the fit is that to these observations, one by one.

    Raises:
        ValueError: for more than 3,000 rows.

    Reference:
        Rasmussen and Williams (2006), "Gaussian processes for machine learning", equations 2.25
        and 5.8.

    Example:
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes, model = space.enumerate().repeat(10, 1), KernelEnsemble(space)
        >>> scores = (codes.sum(-1) - 1.5).float()
        >>> fit_kernel(model, codes, scores, torch.ones(1, 60), seed=0)
        >>> model(torch.tensor([[1, 2]])).round(decimals=1)
        tensor([1.5000])
    """
    if len(codes) > MOST_POINTS:
        raise ValueError(f"a Gaussian process takes {MOST_POINTS} rows, got {len(codes)}")
    targets, observed = scores.double(), weights.double()
    # the members share the hyperparameters: a row counts as in the one that counts it most
    counts = observed.amax(0).clamp_min(1)
    prior = fit_prior(model.joint, codes, targets, counts, seed=seed, spread=spread)
    with torch.no_grad():
        solved = prior.values()
        covariance = solved.amplitude * prior.correlations(codes, codes)
        covariance = covariance + solved.level
        parts = [posterior(covariance, solved.noise, targets, w) for w in observed]
        coefficients = torch.stack(parts, 1)
        model.place(
            solved.alike.float(),
            codes.long(),
            (solved.amplitude * coefficients).float(),
            # the level's covariance is the same for all rows, so its part of the mean is a constant
            (solved.level * coefficients.sum(0)).float(),
        )


def fit_prior(
    joint: JointColumns,
    codes: Tensor,
    scores: Tensor,
    counts: Tensor,
    *,
    seed: int,
    spread: Tensor | None = None,
) -> KernelPrior:
    """Amplitude, noise and correlations that maximise the marginal likelihood of some rows.

    Args:
        joint: the columns.
        codes: joint codes `(N, columns)`.
        scores: `(N,)`, float64, of about mean 0 and variance 1.
        counts: `(N,)`, float64, observations that each row is the mean of.
        seed: draws the 500 rows that are looked at.
        spread: as for `fit_kernel`.
    """
    prior = KernelPrior(joint).to(scores.device)
    maximise(prior, codes, scores, counts, seed=seed, spread=spread)
    return prior


Covariance = Callable[[], tuple[Tensor, Tensor]]
"""Gives a covariance `(N, M)` and the noise `()` by the parameters as they are then."""


class Prior(Protocol):
    """A Gaussian process whose parameters are to be found."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those to be found."""

    def between(self, first: Tensor, second: Tensor) -> Covariance:
        """Of the scores at joint codes `(N, columns)` and `(M, columns)`."""


@dataclass(frozen=True)
class KernelValues:
    """Hyperparameters of a Gaussian process over rows."""

    alike: Tensor
    amplitude: Tensor
    noise: Tensor
    level: Tensor


class KernelPrior(nn.Module):
    """Hyperparameters, on scales without bounds."""

    def __init__(self, joint: JointColumns) -> None:
        super().__init__()
        self.joint = joint
        start = torch.tensor([1.5, 0.0, 0.0], dtype=torch.float64)
        self.alike = nn.Parameter(start.expand(len(joint.sizes), 3).clone())
        # logarithms of amplitude, noise and the variance of the level
        self.scales = nn.Parameter(torch.tensor([0.0, -2.0, -1.0], dtype=torch.float64))

    def values(self) -> KernelValues:
        """The hyperparameters within their bounds."""
        differ, share, reach = self.alike.unbind(1)
        # far below, a column would decide alone; log(0) has no gradient
        differ = differ.sigmoid().clamp(1e-6, 1 - 1e-6)
        alike = torch.stack([differ, share.sigmoid(), reach.exp()], 1)
        amplitude, noise, level = self.scales.exp()
        # the jitter keeps the Cholesky factor where the noise vanishes
        return KernelValues(alike, amplitude, noise + _JITTER, level)

    def between(self, first: Tensor, second: Tensor) -> Covariance:
        """See `Prior`."""
        logs = self._log_correlations(first, second)

        def covariance() -> tuple[Tensor, Tensor]:
            values = self.values()
            return values.amplitude * logs().exp() + values.level, values.noise

        return covariance

    def correlations(self, first: Tensor, second: Tensor) -> Tensor:
        """`(N, M)` of joint codes `(N, columns)` and `(M, columns)`."""
        return self._log_correlations(first, second)().exp()

    def _log_correlations(self, first: Tensor, second: Tensor) -> Callable[[], Tensor]:
        sizes, device = self.joint.sizes, first.device
        own = [torch.arange(size, device=device) for size in sizes]
        pairs = [*zip(first.long().unbind(1), second.long().unbind(1), sizes, strict=True)]
        mine = [F.one_hot(code, size).double() for code, _, size in pairs]
        # of few categories a product is faster than a look-up, above all backwards
        theirs = [
            F.one_hot(code, size).double().T if size <= _FEW_CATEGORIES else code
            for _, code, size in pairs
        ]

        def logs() -> Tensor:
            total = torch.zeros((), dtype=torch.float64, device=device)
            blocks = log_correlations(self.joint, self.values().alike, own)
            for block, left, right in zip(blocks, mine, theirs, strict=True):
                rows = left @ block
                total = total + (rows @ right if right.dim() == 2 else rows[:, right])
            return total

        return logs


@torch.enable_grad()
def maximise(
    prior: Prior,
    codes: Tensor,
    scores: Tensor,
    counts: Tensor,
    *,
    seed: int,
    spread: Tensor | None = None,
) -> None:
    """Raise the marginal likelihood of at most 500 rows, by 40 steps of Adam.

    Args:
        prior: changed in place.
        codes: joint codes `(N, columns)`.
        scores: `(N,)`, float64, of about mean 0 and variance 1.
        counts: `(N,)`, float64, observations that each row is the mean of.
        seed: draws the 500 rows.
        spread: as for `fit_kernel`.
    """
    some = permutation(len(codes), generator=seeded(seed))[:_SUBSET]
    within = torch.zeros_like(scores) if spread is None else spread.double().square()
    codes, targets, counts, within = codes[some], scores[some], counts[some], within[some]
    squares, freedom, total = (counts * within).sum(), (counts - 1).sum(), counts.sum()
    optimiser, between = torch.optim.Adam(prior.parameters(), lr=0.1), prior.between(codes, codes)
    for _ in range(_STEPS):
        optimiser.zero_grad()
        covariance, noise = between()
        covariance = covariance + torch.diag(noise / counts)
        # the gradient in the covariance is written out (eq. 5.9)
        with torch.no_grad():
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
            solved = inverse @ targets
            # held fixed: (slope * K).sum() then has the gradient of minus the log-likelihood in K
            slope = (inverse - solved.outer(solved)) / 2 / total
        # of n observations beside their mean: n - 1 deviations, which only the noise explains
        apart = (squares / noise + freedom * noise.log()) / 2 / total
        ((slope * covariance).sum() + apart).backward()
        optimiser.step()


def posterior(covariance: Tensor, noise: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Coefficients `(N,)` of one member, 0 for the rows that do not count for it.

    Args:
        covariance: `(N, N)`, of the rows' scores.
        noise: `()`, variance of one observation.
        targets: `(N,)`, float64.
        weights: `(N,)`, at least 0, how many observations each row counts for.
    """
    kept = weights.nonzero().squeeze(1)
    own = covariance[kept][:, kept] + torch.diag(noise / weights[kept])
    solved = torch.cholesky_solve(targets[kept].unsqueeze(1), torch.linalg.cholesky(own))
    coefficients = torch.zeros_like(targets)
    coefficients[kept] = solved.squeeze(1)
    return coefficients
