"""Losses that reproduce rows of the table, category by category."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.objectives._shapes import check_same_shape
from discrete_grad.space import CategoricalSpace, can_inspect

__all__ = ["inverse_score_cross_entropy", "score_weighted_cross_entropy"]


def inverse_score_cross_entropy(
    space: CategoricalSpace, logits: Tensor, rows: Tensor, scores: Tensor
) -> Tensor:
    """The naive baseline: cross-entropy summed over the features, divided by the row's score.

    Kept for comparison. A sum of cross-entropies sees features one by one, so it cannot tell a good
    row from the row one fatal swap away. And dividing by the score makes the loss of a good row
    small instead of making the row likely: bad rows weigh most.

    Args:
        space: the space.
        logits: `(..., D)`.
        rows: codes `(..., F)` or flat `(..., D)` to reproduce.
        scores: `(...)`, above 0.

    Returns:
        Mean in nats.

    Raises:
        ValueError: for a score that is not above 0: the weight has no meaning then.

    Example:
        >>> space = CategoricalSpace.from_sizes((2,))
        >>> inverse_score_cross_entropy(space, torch.zeros(2), torch.tensor([1]), torch.tensor(2.0))
        tensor(0.3466)
    """
    if can_inspect(scores) and not (scores > 0).all():
        raise ValueError(f"the inverse score needs scores above 0, got {scores.min().item():g}")
    log_prob = space.log_prob(logits, rows)
    check_same_shape(log_prob=log_prob, scores=scores)
    return -(log_prob / scores).mean()


def score_weighted_cross_entropy(
    space: CategoricalSpace,
    logits: Tensor,
    rows: Tensor,
    scores: Tensor,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """Cross-entropy of the rows, each weighted by `exp(standardised score / temperature)`.

    The weights sum to 1 and do not change when the scores are shifted or scaled, so any sign and
    unit will do. A large temperature reproduces the data, a small one its best row.

    Args:
        space: the space.
        logits: `(N, D)`.
        rows: codes `(N, F)` or flat `(N, D)` to reproduce.
        scores: `(N,)`; equal scores give equal weights.
        temperature: above 0, in standard deviations of the scores.

    Returns:
        Weighted mean in nats.

    Reference:
        Peters, Schaal (2007), reward-weighted regression.

    Example:
        >>> space = CategoricalSpace.from_sizes((2,))
        >>> logits, rows = torch.zeros(2, 2), torch.tensor([[0], [1]])
        >>> score_weighted_cross_entropy(space, logits, rows, torch.tensor([-5.0, 9.0]))
        tensor(0.6931)
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    tiny = torch.finfo(scores.dtype).tiny
    centred = scores - scores.mean()
    # to at most 1 in size first, or the squares of very small or large scores would be lost
    centred = centred / centred.abs().amax().clamp_min(tiny)
    weights = (centred / centred.std(correction=0).clamp_min(tiny) / temperature).softmax(0)
    log_prob = space.log_prob(logits, rows)
    check_same_shape(log_prob=log_prob, scores=scores)
    # a row of weight 0 has no say, even one that the logits forbid
    return -(weights * log_prob.masked_fill(weights == 0, 0)).sum()
