"""Weights for rows that are already there, and what to do with them.

Scores are `(N, *batch)`, one a generated row, and so are weights; these are at least 0 and sum to
1 over the samples. Only a function of the scores can prefer good rows: `order_decay`, which weights
by the order of generation, leaves every expectation as it was and adds variance; it is here as the
baseline it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from discrete_grad.sampling import random_indices
from discrete_grad.space import CategoricalSpace, can_inspect
from discrete_grad.weighting.draws import take_samples
from discrete_grad.weighting.roots import falling_root
from discrete_grad.weighting.tilt import check_reward, check_some, tilt

__all__ = [
    "Weighting",
    "bootstrap_interval",
    "exponential_tilt",
    "order_decay",
    "post_hoc_weights",
    "rank_decay",
    "row_vote",
    "score_softmax",
    "weighted_average",
    "weighted_marginals",
    "weighted_vote",
]

Weighting = Callable[[Tensor], Tensor]
"""Scores `(N, *batch)` -> weights of the same shape."""


def order_decay(scores: Tensor, *, rate: float = 0.9) -> Tensor:
    """The naive baseline: weight `rate^i` for the i-th row generated, whatever its score.

    Rows drawn independently are as good early as late, so this weighted mean has the expectation of
    the plain one and a variance higher by `N sum w^2`.

    Example:
        >>> order_decay(torch.tensor([0.0, 9.0]), rate=0.5)
        tensor([0.6667, 0.3333], dtype=torch.float64)
    """
    return _decay(torch.arange(len(scores), device=scores.device), scores, rate)


def rank_decay(scores: Tensor, *, rate: float = 0.9) -> Tensor:
    """Weight `rate^rank`, rank 0 for the best score; equals share the mean of their weights.

    Args:
        scores: `(N, *batch)`.
        rate: in (0, 1].

    Example:
        >>> rank_decay(torch.tensor([0.0, 9.0]), rate=0.5)
        tensor([0.3333, 0.6667], dtype=torch.float64)
    """
    _check_scores(scores)
    order = scores.argsort(stable=True, dim=0, descending=True)
    by_rank = _decay(torch.arange(len(scores), device=scores.device), scores, rate)
    weights = torch.empty_like(by_rank).scatter(0, order, by_rank)
    same = (scores.unsqueeze(0) == scores.unsqueeze(1)).double()
    return (same * weights.unsqueeze(0)).sum(1) / same.sum(1)


def score_softmax(scores: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """`softmax(scores / temperature)`: for rows of the reference, importance weights of the tilt.

    Args:
        scores: `(N, *batch)`; `-inf` forbids a row.
        temperature: above 0, in the score's unit.

    Example:
        >>> score_softmax(torch.tensor([0.0, math.log(3)]))
        tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    _check_scores(scores)
    return tilt(torch.zeros_like(scores), scores, temperature).exp()


def exponential_tilt(scores: Tensor, *, target: float | Tensor) -> Tensor:
    """The weights nearest to equal ones, in KL, whose mean score is the target.

    They are `softmax(scores * lambda)`; lambda, found by bisection, may be below 0.

    Args:
        scores: finite, `(N, *batch)`.
        target: strictly between the least and the highest score, a number or `(*batch)`.

    Raises:
        ValueError: for a target out of reach, naming the context.

    Example:
        >>> exponential_tilt(torch.tensor([0.0, 1.0, 2.0]), target=1.0)
        tensor([0.3333, 0.3333, 0.3333], dtype=torch.float64)
    """
    _check_scores(scores)
    scores = scores.double()
    low, high = scores.amin(0), scores.amax(0)
    wanted = torch.as_tensor(target, dtype=torch.float64, device=low.device).expand(low.shape)
    check_some(low > -math.inf, "an exponential tilt needs finite scores")
    check_some((wanted > low) & (wanted < high), f"no weights have the mean score {target}")
    # scores in [0, 1], so that the brackets of the root do not depend on their unit
    unit = (scores - low) / (high - low)
    middle = (wanted - low) / (high - low)

    def missing(strength: Tensor) -> Tensor:
        return middle - ((-strength * unit).softmax(0) * unit).sum(0)

    # falls as the strength falls, so it is looked for with the sign turned
    strength = falling_root(lambda s: missing(-s), -torch.ones_like(middle), torch.ones_like(low))
    return (strength * unit).softmax(0)


def post_hoc_weights(scores: Tensor, weighting: Weighting) -> Tensor:
    """Weights by any callable, checked: of the scores' shape, at least 0, scaled to sum to 1.

    Raises:
        ValueError: for weights of another shape, below 0, NaN, or all 0, naming the context.

    Example:
        >>> post_hoc_weights(torch.tensor([1.0, 3.0]), lambda scores: scores**2)
        tensor([0.1000, 0.9000], dtype=torch.float64)
    """
    _check_scores(scores)
    weights = weighting(scores).double()
    if weights.shape != scores.shape:
        got = f"{tuple(weights.shape)} for {tuple(scores.shape)}"
        raise ValueError(f"weights must have the scores' shape, got {got}")
    fine = ((weights >= 0) & (weights < math.inf)).all(0)
    check_some(fine, "weights must be finite and at least 0")
    total = weights.sum(0)
    check_some(total > 0, "every weight is 0")
    return weights / total


def weighted_average(values: Tensor, weights: Tensor) -> Tensor:
    """`sum w v` `(*batch, ...)` of values `(N, *batch, ...)`; a weight of 0 hides any value.

    Example:
        >>> weighted_average(torch.tensor([0.0, 4.0]), torch.tensor([0.25, 0.75]))
        tensor(3., dtype=torch.float64)
    """
    w = weights.double().view(*weights.shape, *[1] * (values.dim() - weights.dim()))
    # masked before the product: 0 * inf would be NaN
    return (w * values.double().masked_fill(w == 0, 0)).sum(0)


def weighted_marginals(space: CategoricalSpace, codes: Tensor, weights: Tensor) -> Tensor:
    """Share of the weight `(*batch, D)` that each category of each feature has.

    Args:
        space: the space.
        codes: `(N, *batch, F)`.
        weights: `(N, *batch)`.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> weighted_marginals(space, torch.tensor([[0, 1], [1, 1]]), torch.tensor([0.25, 0.75]))
        tensor([0.2500, 0.7500, 0.0000, 1.0000], dtype=torch.float64)
    """
    return weighted_average(space.one_hot(codes, dtype=torch.float64), weights)


def weighted_vote(space: CategoricalSpace, codes: Tensor, weights: Tensor) -> Tensor:
    """The heaviest category of each feature, `(*batch, F)`, the first among equals.

    Feature by feature, so the winner may be a row that no one generated; `row_vote` elects one.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> weighted_vote(space, torch.tensor([[0, 1], [1, 1]]), torch.tensor([0.25, 0.75]))
        tensor([1, 1])
    """
    return space.argmax(weighted_marginals(space, codes, weights))


def row_vote(codes: Tensor, weights: Tensor) -> Tensor:
    """The row `(*batch, F)` among codes `(N, *batch, F)` whose copies weigh the most together.

    Example:
        >>> codes = torch.tensor([[0, 1], [1, 1], [0, 1]])
        >>> row_vote(codes, torch.tensor([0.3, 0.4, 0.3]))
        tensor([0, 1])
    """
    same = (codes.unsqueeze(0) == codes.unsqueeze(1)).all(-1)
    votes = (same * weights.double().unsqueeze(0)).sum(1)
    return take_samples(codes, votes.argmax(0, keepdim=True)).squeeze(0)


def bootstrap_interval(
    values: Tensor,
    scores: Tensor,
    weighting: Weighting,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Percentile interval of a weighted average, each end `(*batch, ...)`.

    Rows are drawn again with their scores, with replacement, and weighted anew, so the interval
    holds the uncertainty of the weights too.

    Args:
        values: `(N, *batch, ...)`.
        scores: `(N, *batch)`.
        weighting: scores -> weights, as in `post_hoc_weights`.
        level: in (0, 1).
        resamples: how often.
        generator: source of the noise.

    Reference:
        Efron (1979), "Bootstrap methods: another look at the jackknife".

    Example:
        >>> scores = torch.tensor([1.0, 2.0, 3.0])
        >>> [bound.item() for bound in bootstrap_interval(torch.ones(3), scores, score_softmax)]
        [1.0, 1.0]
    """
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"needs a level in (0, 1) and a resample, got {level} and {resamples}")
    picks = random_indices(len(scores), (resamples, len(scores)), generator=generator)
    means = [_resampled_average(values, scores, weighting, pick) for pick in picks]
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.stack(means).quantile(tails.to(values.device), dim=0)
    return low, high


def _resampled_average(
    values: Tensor, scores: Tensor, weighting: Weighting, pick: Tensor
) -> Tensor:
    return weighted_average(values[pick], post_hoc_weights(scores[pick], weighting))


def _decay(rank: Tensor, scores: Tensor, rate: float) -> Tensor:
    if not 0 < rate <= 1:
        raise ValueError(f"rate must be in (0, 1], got {rate}")
    if not scores.dim() or not len(scores):
        raise ValueError(f"needs at least one sample, got scores {tuple(scores.shape)}")
    weights = (rank.double() * math.log(rate)).softmax(0)
    return weights.view(-1, *[1] * (scores.dim() - 1)).expand(scores.shape)


def _check_scores(scores: Tensor) -> None:
    if not scores.dim() or not len(scores):
        raise ValueError(f"needs at least one sample, got scores {tuple(scores.shape)}")
    if can_inspect(scores):
        check_reward(scores)
