"""Effects of columns and of pairs of them, all alike in size: a Gaussian process, as tables."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from discrete_grad.fitting.anova import anova_groups
from discrete_grad.fitting.kernel import MOST_POINTS, Covariance, maximise, posterior
from discrete_grad.models import AnovaEnsemble

__all__ = ["fit_pair_effects"]

_JITTER = 1e-4


def fit_pair_effects(
    model: AnovaEnsemble,
    codes: Tensor,
    scores: Tensor,
    weights: Tensor,
    *,
    seed: int,
    spread: Tensor | None = None,
) -> bool:
    """Fit tables of all columns and pairs of columns, if there are neither too many nor one.

    The effects of all single columns have one normal prior and those of all pairs another: a
    ridge regression on pairs, whose two penalties and noise maximise the marginal likelihood. From
    few rows that is better than a prior for each table, which takes rows to be learnt. The scores
    of two rows that agree in h columns then have the covariance a h + b h (h - 1) / 2, so that N
    rows take the time of N^3, however many tables there are.

    Args:
        model: its groups and tables are replaced.
        codes: joint codes `(N, columns)`, N at most 3,000, see `JointColumns`.
        scores: `(N,)`, of about mean 0 and variance 1.
        weights: `(M, N)`, at least 0, how many observations each row counts for in each member.
        seed: draws the rows whose likelihood is looked at.
        spread: as for `fit_kernel`.

    Returns:
        Whether it was fitted: not to a single column, more than 3,000 rows, or so many pairs that
        `anova_groups` leaves some out.

    Reference:
        Duvenaud, Nickisch, Rasmussen (2011), "Additive Gaussian processes", 1112.4394, of order 2.

    Example:
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate().repeat(10, 1)
        >>> model, scores = AnovaEnsemble(space), (codes[:, 0] * codes[:, 1] - 0.5).float()
        >>> fit_pair_effects(model, codes, scores, torch.ones(1, 60), seed=0)
        True
        >>> model(torch.tensor([[1, 2], [0, 2]])).round(decimals=1)
        tensor([ 1.5000, -0.5000])
    """
    columns = len(model.joint.sizes)
    groups = anova_groups(model.joint.sizes, 0)
    complete = len(groups) == columns + math.comb(columns, 2)
    if columns < 2 or not complete or len(codes) > MOST_POINTS:
        return False
    targets, observed = scores.double(), weights.double()
    prior = _PairPrior(columns).to(codes.device)
    # the members share the prior: a row counts as in the one that counts it most
    counts = observed.amax(0).clamp_min(1)
    maximise(prior, codes, targets, counts, seed=seed, spread=spread)
    with torch.no_grad():
        covariance, noise = prior.between(codes, codes)()
        solved = torch.stack([posterior(covariance, noise, targets, w) for w in observed], 1)
        model.arrange(groups)
        _fill(model, codes, solved, prior.scales.exp())
    return True


def _fill(model: AnovaEnsemble, codes: Tensor, solved: Tensor, scales: Tensor) -> None:
    """Tables of the posterior mean, from the coefficients `(N, M)` of the rows."""
    single, pair, _, level = scales
    cells = model.cells.double()
    for place, shape in zip(model.places(codes).unbind(1), model.shapes, strict=True):
        cells.index_add_(0, place, (single if len(shape) == 1 else pair) * solved)
    # the level's covariance is the same for all rows, so its part of the mean is a constant
    model.cells, model.offsets = cells.float(), (level * solved.sum(0)).float()


class _PairPrior(nn.Module):
    """Variances of the effects of one column and of a pair, of the noise and of the level."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        # half of the variance is noise to begin with, and the effects share the other
        start = [-math.log(2 * columns), -math.log(2 * math.comb(columns, 2)), -1.0, -1.0]
        self.scales = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def between(self, first: Tensor, second: Tensor) -> Covariance:
        """Of the scores at joint codes `(N, columns)` and `(M, columns)`."""
        alike = agreements(first, second)
        both = alike * (alike - 1) / 2

        def covariance() -> tuple[Tensor, Tensor]:
            single, pair, noise, level = self.scales.exp()
            return single * alike + pair * both + level, noise + _JITTER

        return covariance


def agreements(first: Tensor, second: Tensor) -> Tensor:
    """Number `(N, M)` of columns in which codes `(N, columns)` and `(M, columns)` agree, float64.

    Example:
        >>> agreements(torch.tensor([[0, 1]]), torch.tensor([[0, 1], [0, 2]]))
        tensor([[2., 1.]], dtype=torch.float64)
    """
    total = torch.zeros(len(first), len(second), dtype=torch.float64, device=first.device)
    for mine, theirs in zip(first.unbind(1), second.unbind(1), strict=True):
        total += mine.unsqueeze(1) == theirs
    return total
