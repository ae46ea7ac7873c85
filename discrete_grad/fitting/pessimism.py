"""The score a generator is trained by: of an ensemble, what is safe to believe."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.config import GeneratorConfig
from discrete_grad.gradient import Relaxation, SelfSamplingFunction
from discrete_grad.models import BaseEnsemble, BaseEstimator
from discrete_grad.models.own import drawn_member_scores, member_scores
from discrete_grad.models.protocol import require

__all__ = [
    "PessimisticScore",
    "PreferredScore",
    "conformal_pessimism",
    "covering_rank",
    "guided_score",
]

# keeps the variance off 0, where its root has no derivative
_EPSILON = 1e-8


class PessimisticScore(SelfSamplingFunction):
    """The members' mean, median or least score, minus some of their standard deviations.

    Args:
        estimator: the ensemble; an estimator that is none counts as one of a single member.
        context: `(..., C)`, or None.
        config: `combine` and `pessimism`.

    Example:
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> ensemble = EstimatorEnsemble([Estimator(space) for _ in range(3)])
        >>> score = PessimisticScore(ensemble, None, GeneratorConfig(combine="min"))
        >>> torch.equal(score(space.enumerate()), ensemble.min(space.enumerate()))
        True
    """

    takes_codes = True

    def __init__(
        self, estimator: BaseEstimator, context: Tensor | None, config: GeneratorConfig
    ) -> None:
        self.estimator, self.context, self.config = estimator, context, config

    def __call__(self, rows: Tensor) -> Tensor:
        """Scores `(...)` of codes `(..., F)` or flat rows `(..., D)`."""
        return self._combined(member_scores(self.estimator, rows, self.context))

    def sample(
        self,
        logits: Tensor,
        relaxation: Relaxation,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Scores of rows drawn by a relaxation; see `SelfSamplingFunction.sample`."""
        return self._combined(
            drawn_member_scores(
                self.estimator, logits, relaxation, self.context, generator=generator
            )
        )

    def _combined(self, values: Tensor) -> Tensor:
        centre = _CENTRES[self.config.combine](values)
        return centre - self.config.pessimism * _spread(values) if self.config.pessimism else centre


class PreferredScore(SelfSamplingFunction):
    """A score plus a share of the reward that a preference model gives.

    Args:
        score: of rows in some contexts.
        reward: of rows in the same contexts, in log-odds.
        share: what the reward is multiplied by.

    Example:
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> ensemble = EstimatorEnsemble([Estimator(space)])
        >>> score = PessimisticScore(ensemble, None, GeneratorConfig())
        >>> rows = space.enumerate()
        >>> torch.allclose(PreferredScore(score, score, 2.0)(rows), 3 * score(rows))
        True
    """

    takes_codes = True

    def __init__(self, score: PessimisticScore, reward: PessimisticScore, share: float) -> None:
        self.score, self.reward, self.share = score, reward, share

    def __call__(self, rows: Tensor) -> Tensor:
        """Values `(...)` of codes `(..., F)` or flat rows `(..., D)`."""
        return self.score(rows) + self.share * self.reward(rows)

    def sample(
        self,
        logits: Tensor,
        relaxation: Relaxation,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Values of rows drawn by a relaxation; see `SelfSamplingFunction.sample`."""
        # one row for both, which must then be built
        return self(relaxation(logits, generator=generator))


def guided_score(
    estimator: BaseEstimator,
    preference: BaseEstimator | None,
    unit: float,
    context: Tensor | None,
    config: GeneratorConfig,
) -> SelfSamplingFunction:
    """Objective of a generator: the score, and the preference reward if there is one.

    Args:
        estimator: of the score.
        preference: of the reward, or None.
        unit: of the reward, see `reward_unit`; above 0.
        context: `(..., C)`, or None.
        config: `combine` and `pessimism` of both, and the weight `preference`.

    Example:
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> ensemble = EstimatorEnsemble([Estimator(space)])
        >>> type(guided_score(ensemble, None, 1.0, None, GeneratorConfig())).__name__
        'PessimisticScore'
    """
    score = PessimisticScore(estimator, context, config)
    if preference is None or not config.preference:
        return score
    reward = PessimisticScore(preference, context, config)
    return PreferredScore(score, reward, config.preference / unit)


_CENTRES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda values: values.mean(0),
    # of an even number of members the mean of the middle two, not the lower one
    "median": lambda values: values.quantile(0.5, 0),
    "min": lambda values: values.amin(0),
}


def _spread(values: Tensor) -> Tensor:
    return (values.var(0, correction=0) + _EPSILON).sqrt()


@torch.no_grad()
def conformal_pessimism(ensemble: BaseEnsemble, rows: ScoredRows, coverage: float) -> float:
    """Standard deviations to subtract from the mean so that a share of unseen rows scores higher.

    For rows exchangeable with the given ones `mean - k std <= score` holds with a probability of
    at least `coverage`, whatever the ensemble and the scores are. Rows that a generator has sought
    out are not exchangeable with rows of the table: for them it is a scale, not a promise.

    Args:
        ensemble: of at least 2 members that have not seen the rows.
        rows: at least `coverage / (1 - coverage)` of them.
        coverage: in (0, 1).

    Returns:
        k, at least 0.

    Raises:
        ValueError: for one member, a coverage out of range, or too few rows for it.
        TypeError: for a model that is no ensemble.

    Reference:
        Split conformal prediction with normalised residuals: Lei, G'Sell, Rinaldo, Tibshirani,
        Wasserman (2018), arXiv 1604.04173, section 5.2.

    Example:
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> ensemble = EstimatorEnsemble([Estimator(space) for _ in range(3)])
        >>> rows = ScoredRows(space.enumerate(), ensemble(space.enumerate()).detach())
        >>> conformal_pessimism(ensemble, rows, 0.8)
        0.0
    """
    require("conformal_pessimism", ensemble, "predictions", "num_members")
    rank = covering_rank(coverage, ensemble.num_members, len(rows))
    predicted = ensemble.predictions(rows.codes, rows.context)
    # mean - k std <= score where k is at least this
    deviations = (predicted.mean(0) - rows.scores) / _spread(predicted)
    return max(0.0, deviations.sort().values[rank - 1].item())


def covering_rank(coverage: float, members: int, count: int) -> int:
    """The rank, from 1, that `conformal_pessimism` takes of the deviations of so many rows.

    Raises:
        ValueError: for one member, a coverage out of range, or too few rows for it.
    """
    # the decimal that was written: 100 * 0.55 is 55, and a little more in floating point
    share = Fraction(repr(float(coverage))) if 0 < coverage < 1 else Fraction(1)
    # count + 1: the new row is one of them, at every rank with the same probability
    rank = math.ceil((count + 1) * share)
    if members < 2 or rank > count:
        raise ValueError(
            f"a coverage of {coverage} needs to lie between 0 and 1 and, for it, 2 members and "
            f"{math.ceil(share / (1 - share)) if share < 1 else 1} rows to calibrate "
            f"on, got {members} and {count}"
        )
    return rank
